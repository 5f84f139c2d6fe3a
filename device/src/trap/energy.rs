//! What the battery gives: the energy of each entry, and how much the trap may do.
//!
//! Power × measured time, nothing more: the watts come from a measurement of the board
//! (`[energy]` of trap.toml), the times from its clock.

use csp_models::record::{Activity, ActivityReason};

/// What the board draws, watts. The first three are the whole board's draw in that state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PowerModel {
    /// Waiting for a trigger.
    pub idle_w: f32,
    /// Taking and writing pictures.
    pub capture_w: f32,
    /// Running the networks.
    pub inference_w: f32,
    /// The flash, on top.
    pub flash_w: f32,
    /// The receiver, on top.
    pub receiver_w: f32,
}

impl Default for PowerModel {
    /// A Raspberry Pi Zero 2 W as published (idle 75 mA at 5 V), not as measured: measure yours.
    fn default() -> Self {
        Self { idle_w: 0.4, capture_w: 1.2, inference_w: 2.0, flash_w: 3.0, receiver_w: 0.1 }
    }
}

/// Times that an entry took, microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Camera and writing.
    pub capture_us: u64,
    /// Networks, decoding included.
    pub inference_us: u64,
    /// Flash on.
    pub flash_us: u64,
}

impl PowerModel {
    /// Energy of an entry, millijoules.
    pub fn entry_mj(&self, spent: Spent) -> f64 {
        let joules = |watts: f32, us: u64| f64::from(watts) * us as f64 / 1e6;
        1e3 * (joules(self.capture_w, spent.capture_us)
            + joules(self.inference_w, spent.inference_us)
            + joules(self.flash_w, spent.flash_us))
    }

    /// Energy of waiting `idle_us`, of it `receiver_us` with the receiver on, millijoules.
    pub fn idle_mj(&self, idle_us: u64, receiver_us: u64) -> f64 {
        (f64::from(self.idle_w) * idle_us as f64 + f64::from(self.receiver_w) * receiver_us as f64) / 1e3
    }
}

/// Adds up a day.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Meter {
    day: i64,
    spent_mj: f64,
    /// Up to where time is accounted for, microseconds.
    until_us: u64,
    /// Of that since the last look, time that entries account for.
    entries_us: u64,
}

impl Meter {
    /// An entry took `spent`; returns its energy, millijoules.
    pub fn entry(&mut self, power: &PowerModel, spent: Spent) -> f64 {
        let mj = power.entry_mj(spent);
        self.spent_mj += mj;
        self.entries_us += spent.capture_us + spent.inference_us;
        mj
    }

    /// Lets time pass up to `now_us` of day number `day`.
    pub fn pass(&mut self, power: &PowerModel, now_us: u64, day: i64, receiver_on: bool) {
        let passed = now_us.saturating_sub(self.until_us);
        let idle = passed.saturating_sub(self.entries_us);
        if day != self.day {
            (self.day, self.spent_mj) = (day, 0.0);
        }
        self.spent_mj += power.idle_mj(idle, if receiver_on { passed } else { 0 });
        self.entries_us = self.entries_us.saturating_sub(passed);
        self.until_us = now_us;
    }

    /// Energy of the day so far, millijoules.
    pub fn today_mj(&self) -> f64 {
        self.spent_mj
    }
}

/// When to do less. Of every three limits the first asks for [`Activity::Reduced`], the second for
/// [`Activity::PicturesOnly`], the third for [`Activity::Minimal`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Energy of a day, watt-hours; `None` for mains.
    pub daily_wh: Option<f32>,
    /// Battery below, percent.
    pub battery_percent: [u8; 3],
    /// Board above, degrees Celsius.
    pub temperature_c: [f32; 3],
}

impl Default for Plan {
    fn default() -> Self {
        Self { daily_wh: None, battery_percent: [40, 25, 12], temperature_c: [65.0, 73.0, 80.0] }
    }
}

/// What the plan looks at; what is not known asks for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Condition {
    /// Share of the day that has passed, 0 to 1.
    pub day_share: f64,
    /// Energy of the day so far, millijoules.
    pub spent_mj: f64,
    /// Charge left.
    pub battery_percent: Option<u8>,
    /// Of the board.
    pub temperature_c: Option<f32>,
}

/// A limit that was reached is left only when the value is that much better: percent, degrees, share of the budget.
const HYSTERESIS: (u8, f32, f64) = (5, 4.0, 0.05);
/// Share of the day's energy that may be spent ahead of the clock.
const AHEAD: f64 = 0.1;

const LEVELS: [Activity; 3] = [Activity::Reduced, Activity::PicturesOnly, Activity::Minimal];

impl Plan {
    /// What the trap should do, and why, when it did `before` until now. The strictest of battery,
    /// temperature and budget decides.
    pub fn level(&self, now: &Condition, before: Activity) -> (Activity, ActivityReason) {
        // A level holds until its value is better than its limit by the hysteresis.
        let highest = |reached: &dyn Fn(usize, bool) -> bool| {
            LEVELS
                .iter()
                .enumerate()
                .filter(|&(at, &level)| reached(at, level <= before))
                .map(|(_, &level)| level)
                .next_back()
                .unwrap_or(Activity::Full)
        };
        let battery = now.battery_percent.map_or(Activity::Full, |percent| {
            highest(&|at, holds| {
                let limit = self.battery_percent.get(at).copied().unwrap_or_default();
                percent < limit.saturating_add(if holds { HYSTERESIS.0 } else { 0 })
            })
        });
        let temperature = now.temperature_c.map_or(Activity::Full, |celsius| {
            highest(&|at, holds| {
                let limit = self.temperature_c.get(at).copied().unwrap_or(f32::MAX);
                celsius > limit - if holds { HYSTERESIS.1 } else { 0.0 }
            })
        });
        let budget = self.daily_wh.map_or(Activity::Full, |wh| {
            let share = now.spent_mj / (f64::from(wh).max(1e-6) * 3.6e6);
            // ahead of the clock; nearly spent; spent
            let limits = [(now.day_share + AHEAD).min(0.8), 0.9, 1.0];
            highest(&|at, holds| {
                let limit = limits.get(at).copied().unwrap_or(1.0);
                share > limit - if holds { HYSTERESIS.2 } else { 0.0 }
            })
        });
        let level = battery.max(temperature).max(budget);
        let reason = match level {
            level if level < before => ActivityReason::Recovered,
            level if level == battery => ActivityReason::Battery,
            level if level == temperature => ActivityReason::Temperature,
            _ => ActivityReason::EnergyBudget,
        };
        (level, reason)
    }
}

/// Pictures of a burst at a level of activity.
pub fn frames_at(level: Activity, frames: u8) -> u8 {
    match level {
        Activity::Full => frames,
        Activity::Reduced => frames.div_ceil(2),
        Activity::PicturesOnly => frames.min(1),
        Activity::Minimal => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn energy_is_power_times_time() {
        let power =
            PowerModel { idle_w: 0.5, capture_w: 1.0, inference_w: 2.0, flash_w: 3.0, receiver_w: 0.25 };
        let spent = Spent { capture_us: 500_000, inference_us: 250_000, flash_us: 100_000 };
        assert!((power.entry_mj(spent) - 1300.0).abs() < 1e-6);
        let mut meter = Meter::default();
        meter.entry(&power, spent);
        // ten seconds, of them 0.75 s accounted for: 9.25 s × 0.5 W + 10 s × 0.25 W
        meter.pass(&power, 10_000_000, 0, true);
        assert!((meter.today_mj() - (1300.0 + 4625.0 + 2500.0)).abs() < 1e-6, "{}", meter.today_mj());
        meter.pass(&power, 20_000_000, 0, false);
        assert!((meter.today_mj() - 13_425.0).abs() < 1e-6);
        meter.pass(&power, 20_000_000, 1, false);
        assert_eq!(meter.today_mj(), 0.0, "a new day");
    }

    #[test]
    fn the_battery_lowers_the_activity_and_hysteresis_holds_it() {
        let plan = Plan::default();
        let at = |percent, before| {
            plan.level(&Condition { battery_percent: Some(percent), ..Condition::default() }, before)
        };
        use Activity::*;
        assert_eq!(at(40, Full).0, Full);
        assert_eq!(at(39, Full), (Reduced, ActivityReason::Battery));
        assert_eq!(at(44, Reduced).0, Reduced, "within the hysteresis");
        assert_eq!(at(45, Reduced), (Full, ActivityReason::Recovered));
        assert_eq!(at(24, Full).0, PicturesOnly);
        assert_eq!(at(11, Reduced).0, Minimal);
        assert_eq!(at(16, Minimal).0, Minimal);
        assert_eq!(at(17, Minimal), (PicturesOnly, ActivityReason::Recovered));
        assert_eq!(plan.level(&Condition::default(), Full).0, Full, "nothing known");
    }

    #[test]
    fn heat_and_the_budget_lower_it_too() {
        let plan = Plan { daily_wh: Some(10.0), ..Plan::default() };
        let hot = Condition { temperature_c: Some(74.0), ..Condition::default() };
        assert_eq!(plan.level(&hot, Activity::Full), (Activity::PicturesOnly, ActivityReason::Temperature));
        let spent =
            |wh: f64, day_share| Condition { spent_mj: wh * 3.6e6, day_share, ..Condition::default() };
        assert_eq!(plan.level(&spent(5.5, 0.5), Activity::Full).0, Activity::Full);
        assert_eq!(
            plan.level(&spent(6.1, 0.5), Activity::Full),
            (Activity::Reduced, ActivityReason::EnergyBudget)
        );
        assert_eq!(plan.level(&spent(9.5, 0.9), Activity::Full).0, Activity::PicturesOnly);
        assert_eq!(plan.level(&spent(10.1, 0.99), Activity::Full).0, Activity::Minimal);
    }

    #[test]
    fn frames_go_with_the_level() {
        let frames = |n| {
            [Activity::Full, Activity::Reduced, Activity::PicturesOnly, Activity::Minimal]
                .map(|l| frames_at(l, n))
        };
        assert_eq!(frames(5), [5, 3, 1, 0]);
        assert_eq!(frames(1), [1, 1, 1, 0]);
    }

    proptest! {
        /// Less battery, more heat or more spent never asks for more; asking twice changes nothing.
        #[test]
        fn the_level_is_monotone_and_settles(
            percent in 0u8..=100, celsius in -40f32..120.0, wh in 0f64..20.0, day in 0f64..1.0, from in 0usize..4,
        ) {
            let plan = Plan { daily_wh: Some(10.0), ..Plan::default() };
            let before = [Activity::Full, Activity::Reduced, Activity::PicturesOnly, Activity::Minimal][from];
            let now = Condition {
                day_share: day, spent_mj: wh * 3.6e6, battery_percent: Some(percent), temperature_c: Some(celsius),
            };
            let (level, _) = plan.level(&now, before);
            prop_assert_eq!(plan.level(&now, level).0, level);
            let worse = Condition {
                spent_mj: now.spent_mj + 1e6,
                battery_percent: Some(percent.saturating_sub(7)),
                temperature_c: Some(celsius + 3.0),
                ..now
            };
            prop_assert!(plan.level(&worse, before).0 >= level);
        }
    }
}

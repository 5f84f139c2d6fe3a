//! When the receiver is worth its power: a cold start with a budget, then a fix now and then.
//!
//! `Acquiring(budget)` → `Fixed(settle)` → `Off(interval)` → `Acquiring` … A start that finds no sky goes
//! off as well and tries again, later each time. It drives no pin: it says what it wants
//! ([`ReceiverPower`]), and whoever has the pin follows.

/// What the receiver's supply should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ReceiverPower {
    /// Supplied.
    On,
    /// Cut.
    Off,
}

/// How long the receiver stays on and off, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DutyConfig {
    /// For a first fix: satellites send a whole almanac in 12.5 minutes.
    pub cold_budget_ms: u64,
    /// For a fix not long after another.
    pub warm_budget_ms: u64,
    /// Once it has a fix: long enough to average, and to notice that the trap was moved.
    pub settle_ms: u64,
    /// Off after that.
    pub interval_ms: u64,
    /// Off after a start without a fix; doubled for each one in a row, up to `interval_ms`.
    pub retry_ms: u64,
}

impl Default for DutyConfig {
    /// About 2 % on: 15 minutes for a cold start, then 6 minutes four times a day.
    fn default() -> Self {
        const MINUTE: u64 = 60_000;
        Self {
            cold_budget_ms: 15 * MINUTE,
            warm_budget_ms: 3 * MINUTE,
            settle_ms: 6 * MINUTE,
            interval_ms: 6 * 60 * MINUTE,
            retry_ms: 30 * MINUTE,
        }
    }
}

/// What is seen of the receiver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// It has a fix now.
    pub fix: bool,
    /// Its fixes disagree with where the trap is thought to be.
    pub in_doubt: bool,
}

/// Where the cycle stands; times are those of the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Phase {
    /// Before the first step.
    Cold,
    /// On, without a fix yet.
    Acquiring {
        /// When the budget is spent.
        until_ms: u64,
    },
    /// On, with a fix.
    Fixed {
        /// When it has listened enough.
        until_ms: u64,
    },
    /// Off.
    Off {
        /// When it wakes.
        until_ms: u64,
    },
}

/// A receiver's orbits are good for so long after it was on.
const WARM_MS: u64 = 4 * 3_600_000;
/// How much longer it may stay on to settle a doubt.
const DOUBT_MS: u64 = 10 * 60_000;

/// The cycle.
#[derive(Clone, Copy, Debug)]
pub struct Duty {
    config: DutyConfig,
    phase: Phase,
    last_fix_ms: Option<u64>,
    /// Starts without a fix in a row.
    misses: u32,
}

impl Duty {
    /// A cycle that begins with its first [`step`](Self::step).
    pub fn new(config: DutyConfig) -> Self {
        Self { config, phase: Phase::Cold, last_fix_ms: None, misses: 0 }
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// True when the receiver is supplied and should be heard.
    pub fn is_on(&self) -> bool {
        matches!(self.phase, Phase::Acquiring { .. } | Phase::Fixed { .. })
    }

    /// Ends a pause: something shook the trap, or a person asks where it is. Takes effect at the next step.
    pub fn wake(&mut self) {
        if let Phase::Off { .. } = self.phase {
            self.phase = Phase::Off { until_ms: 0 };
        }
    }

    /// Goes on at `now_ms`; returns what the supply should become, when that changes.
    pub fn step(&mut self, now_ms: u64, sight: Sight) -> Option<ReceiverPower> {
        let config = self.config;
        match self.phase {
            Phase::Cold => {
                self.phase = Phase::Acquiring { until_ms: now_ms.saturating_add(config.cold_budget_ms) };
                Some(ReceiverPower::On)
            }
            Phase::Acquiring { .. } if sight.fix => {
                self.last_fix_ms = Some(now_ms);
                self.misses = 0;
                self.phase = Phase::Fixed { until_ms: now_ms.saturating_add(config.settle_ms) };
                None
            }
            Phase::Acquiring { until_ms } if now_ms >= until_ms => {
                let pause = config.retry_ms.saturating_mul(1 << self.misses.min(16)).min(config.interval_ms);
                self.misses = self.misses.saturating_add(1);
                self.phase = Phase::Off { until_ms: now_ms.saturating_add(pause) };
                Some(ReceiverPower::Off)
            }
            Phase::Fixed { until_ms } if now_ms >= until_ms => {
                if sight.in_doubt && now_ms < until_ms.saturating_add(DOUBT_MS) {
                    return None;
                }
                self.phase = Phase::Off { until_ms: now_ms.saturating_add(config.interval_ms) };
                Some(ReceiverPower::Off)
            }
            Phase::Fixed { .. } if sight.fix => {
                self.last_fix_ms = Some(now_ms);
                None
            }
            Phase::Off { until_ms } if now_ms >= until_ms => {
                let warm = self.last_fix_ms.is_some_and(|last| now_ms.saturating_sub(last) <= WARM_MS);
                let budget = if warm { config.warm_budget_ms } else { config.cold_budget_ms };
                self.phase = Phase::Acquiring { until_ms: now_ms.saturating_add(budget) };
                Some(ReceiverPower::On)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: u64 = 60_000;
    const FIX: Sight = Sight { fix: true, in_doubt: false };
    const NONE: Sight = Sight { fix: false, in_doubt: false };

    #[test]
    fn a_fix_now_and_then() {
        let mut duty = Duty::new(DutyConfig::default());
        assert_eq!(duty.step(0, NONE), Some(ReceiverPower::On));
        assert_eq!(duty.step(MINUTE, FIX), None);
        assert_eq!(duty.phase(), Phase::Fixed { until_ms: 7 * MINUTE });
        // a minute without sky while it settles costs nothing
        assert_eq!(duty.step(2 * MINUTE, NONE), None);
        assert_eq!(duty.step(7 * MINUTE, FIX), Some(ReceiverPower::Off));
        assert_eq!(duty.step(7 * MINUTE + 6 * 60 * MINUTE - 1, NONE), None);
        assert_eq!(duty.step(7 * MINUTE + 6 * 60 * MINUTE, NONE), Some(ReceiverPower::On));
        duty.step(370 * MINUTE, FIX);
        duty.step(376 * MINUTE, FIX);
        duty.wake();
        assert_eq!(duty.step(380 * MINUTE, NONE), Some(ReceiverPower::On));
        assert_eq!(duty.phase(), Phase::Acquiring { until_ms: 383 * MINUTE }, "warm");
    }

    #[test]
    fn no_sky_is_asked_ever_less_often() {
        let mut duty = Duty::new(DutyConfig::default());
        let (mut now, mut off, mut pauses) = (0, 0, [0; 6]);
        for pause in &mut pauses {
            while duty.step(now, NONE) != Some(ReceiverPower::Off) {
                now += MINUTE;
            }
            off += 1;
            let Phase::Off { until_ms } = duty.phase() else { panic!() };
            *pause = (until_ms - now) / MINUTE;
            now = until_ms;
        }
        assert_eq!((off, pauses), (6, [30, 60, 120, 240, 360, 360]));
    }

    #[test]
    fn a_doubt_is_settled_before_it_sleeps() {
        let mut duty = Duty::new(DutyConfig::default());
        let doubt = Sight { fix: true, in_doubt: true };
        duty.step(0, NONE);
        duty.step(0, doubt);
        assert_eq!(duty.step(7 * MINUTE, doubt), None);
        assert_eq!(duty.step(8 * MINUTE, FIX), Some(ReceiverPower::Off));
    }

    proptest! {
        /// On and off alternate, and neither lasts longer than it may.
        #[test]
        fn it_never_sticks(steps in proptest::collection::vec((0u64..20 * MINUTE, any::<bool>(), any::<bool>()), 1..400)) {
            let config = DutyConfig::default();
            let mut duty = Duty::new(config);
            let (mut now, mut power, mut since) = (0, ReceiverPower::Off, 0);
            for (step, fix, in_doubt) in steps {
                now += step;
                if let Some(wish) = duty.step(now, Sight { fix, in_doubt }) {
                    prop_assert_ne!(wish, power);
                    (power, since) = (wish, now);
                }
                prop_assert_eq!(duty.is_on(), power == ReceiverPower::On);
                let longest = match power {
                    ReceiverPower::On => config.cold_budget_ms + config.settle_ms + DOUBT_MS,
                    ReceiverPower::Off => config.interval_ms,
                };
                prop_assert!(now - since <= longest + 3 * 20 * MINUTE);
            }
        }
    }
}

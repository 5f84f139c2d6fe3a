//! Everything besides pictures: receiver, clock, battery, heat, room, time-lapse. Each change becomes
//! an event.

use alloc::string::{String, ToString};

use csp_models::{
    place::{Place, PlaceSource},
    record::{Activity, Event},
    time::TimeSource,
};
use embedded_hal::digital::OutputPin;

use super::{
    Battery, Board, Clock, Kit, Store, Trap,
    energy::{Condition, Meter},
    outbox::Miss,
};
use crate::gps::{GpsEvent, ReceiverPower};

/// Battery, thermometer and room are looked at that often, milliseconds.
const LOOK_MS: u64 = 5_000;
const DAY_MS: i64 = 86_400_000;

/// What was seen last.
#[derive(Debug)]
pub(super) struct Watch {
    next_look_ms: u64,
    pub battery: Battery,
    pub temperature_c: Option<f32>,
    pub activity: Activity,
    pub meter: Meter,
    storage_low: bool,
    pub model_faulty: bool,
    pub flash_faulty: bool,
    pub receiver_problem: Option<String>,
    receiver_on: bool,
    /// Where time came from when last looked.
    time_source: TimeSource,
    timelapse_ms: Option<u64>,
    model_said: bool,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            next_look_ms: 0,
            battery: Battery::default(),
            temperature_c: None,
            activity: Activity::Full,
            meter: Meter::default(),
            storage_low: false,
            model_faulty: false,
            flash_faulty: false,
            receiver_problem: None,
            receiver_on: true,
            time_source: TimeSource::SinceBoot,
            timelapse_ms: None,
            model_said: false,
        }
    }
}

impl Watch {
    /// Entries from here on are stamped by that clock.
    pub fn begin(&mut self, source: TimeSource) {
        self.time_source = source;
    }

    /// True once every `every`; the first time one period after the start.
    pub fn is_timelapse_due(&mut self, every: Option<u64>, now: u64) -> bool {
        let Some(every) = every.filter(|&every| every > 0) else { return false };
        let due = *self.timelapse_ms.get_or_insert(now.saturating_add(every));
        if now < due {
            return false;
        }
        // What was due while the trap was busy is not made up for.
        self.timelapse_ms = Some(now.saturating_add(every));
        true
    }
}

impl<K: Kit> Trap<K> {
    pub(super) fn supervise(&mut self) {
        let now = self.now_ms();
        self.follow_receiver(now);
        if self.flash.is_stuck() {
            self.flash_problem("cannot be switched off; it is tried again");
        }
        if now >= self.watch.next_look_ms {
            self.watch.next_look_ms = now.saturating_add(LOOK_MS);
            self.look(now);
        }
        if self.settings.events {
            while let Some(event) = self.store.take_event() {
                self.tell(event);
            }
            let queued = self.queue.len();
            let (refused, activity) = (self.outbox.is_refused(), self.watch.activity);
            let camera = self.shooter.is_camera_faulty();
            let report = self.outbox.report(now, |why| match why {
                Miss::Busy => queued < super::QUEUE / 2,
                Miss::Store => !refused,
                Miss::Camera => !camera,
                Miss::Resting => activity < Activity::Minimal,
            });
            if let Some(event) = report {
                self.tell(event);
            }
        }
    }

    fn follow_receiver(&mut self, now: u64) {
        if let Some(wish) = self.gps.tick(now) {
            self.supply_receiver(wish == ReceiverPower::On);
        }
        while let Some(event) = self.gps.take_event() {
            let event = self.event_of(event);
            self.tell(event);
        }
    }

    pub(super) fn supply_receiver(&mut self, on: bool) {
        self.watch.receiver_on = on;
        let set = if on { self.power.set_high() } else { self.power.set_low() };
        if let Err(error) = set {
            let text = alloc::format!("the receiver's supply cannot be switched ({error:?})");
            self.tell(Event::Note { text });
        }
    }

    fn event_of(&self, event: GpsEvent) -> Event {
        match event {
            GpsEvent::FirstFix { at, uncertainty_m, .. } => {
                Event::FirstFix { place: Place { at, uncertainty_m, source: PlaceSource::LiveFix } }
            }
            GpsEvent::FixLost => Event::FixLost,
            GpsEvent::Moved(moved) => {
                Event::Moved { from: moved.from, to: moved.to, distance_m: moved.distance_m }
            }
            GpsEvent::ClockSet(set) => Event::ClockSet {
                boot: self.clock.boot(),
                monotonic_ms: set.offset.monotonic_ms,
                utc_ms: set.offset.utc_millis,
                rollover: set.offset.rollovers > 0,
            },
            GpsEvent::ReceiverSilent { seconds } => Event::ReceiverSilent { seconds },
            GpsEvent::ReceiverBack { .. } => Event::ReceiverBack,
            GpsEvent::Noise { .. } => Event::ReceiverFault { problem: event.to_string() },
            GpsEvent::FixBack { .. }
            | GpsEvent::Rollover { .. }
            | GpsEvent::Recalled { .. }
            | GpsEvent::SiteChanged => Event::Note { text: event.to_string() },
        }
    }

    fn look(&mut self, now: u64) {
        // Safe mode is said by itself.
        if let (Err(problem), false) = (&self.model, self.watch.model_said || self.settings.safe_mode) {
            let problem = problem.clone();
            self.watch.model_said = true;
            self.tell(Event::ModelFault { problem });
        }
        self.look_at_the_clock(now);
        if !self.settings.events {
            return;
        }
        self.watch.battery = self.board.battery();
        self.watch.temperature_c = self.board.temperature_c().filter(|celsius| celsius.is_finite());
        self.budget(now);
        let free = self.store.free_bytes();
        let low = free.is_some_and(|free| free < self.settings.storage_low_bytes);
        if let (true, false, Some(free_bytes)) = (low, self.watch.storage_low, free) {
            self.tell(Event::StorageLow { free_bytes });
        }
        // Said again only after there was clearly more room.
        self.watch.storage_low = match free {
            Some(free) => {
                low || self.watch.storage_low && free < self.settings.storage_low_bytes.saturating_mul(2)
            }
            None => false,
        };
    }

    /// A board's clock that is set while the trap runs (the receiver's says so itself).
    fn look_at_the_clock(&mut self, now: u64) {
        let time = self.time();
        let before = core::mem::replace(&mut self.watch.time_source, time.source);
        if before == TimeSource::SinceBoot && time.source == TimeSource::Rtc {
            let (boot, utc_ms) = (self.clock.boot(), time.millis);
            self.tell(Event::ClockSet { boot, monotonic_ms: now, utc_ms, rollover: false });
        }
    }

    fn budget(&mut self, now: u64) {
        let time = self.time();
        // Without a calendar the day is counted from the start.
        let day = time.millis.div_euclid(DAY_MS);
        self.watch.meter.pass(&self.settings.power, now.saturating_mul(1000), day, self.watch.receiver_on);
        let condition = Condition {
            day_share: time.millis.rem_euclid(DAY_MS) as f64 / DAY_MS as f64,
            spent_mj: self.watch.meter.today_mj(),
            battery_percent: self.watch.battery.percent,
            temperature_c: self.watch.temperature_c,
        };
        let before = self.watch.activity;
        let (level, reason) = self.settings.plan.level(&condition, before);
        if level != before {
            self.watch.activity = level;
            self.tell(Event::Activity { level, reason });
        }
    }
}

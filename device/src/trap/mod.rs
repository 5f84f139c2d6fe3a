//! The trap: trigger → flash → burst → classify → fuse → decide → record, as a state machine over traits.
//!
//! | part | file |
//! |---|---|
//! | what a trap is made of | [`parts`](Kit) |
//! | trigger → pictures, with the flash | `shoot` |
//! | pictures → prediction → entry | `work`, `closer`, [`predict`] |
//! | the part of a burst that moved | [`motion`] |
//! | whose pictures are not kept | [`suppress`] |
//! | receiver, battery, heat, room, time-lapse | `supervise` |
//! | entries → store | [`outbox`] |
//! | energy and how much the trap may do | [`energy`] |
//!
//! Taking pictures goes before classifying them: bursts wait in a short queue. Nothing here ends a run:
//! a picture that cannot be read or classified becomes a failure record, a fault of a part an event, and
//! an entry that the store refuses waits and is offered again.

mod burst;
mod closer;
pub mod energy;
mod flash;
pub mod motion;
pub mod outbox;
mod parts;
mod pir;
pub mod predict;
mod settings;
mod shoot;
mod supervise;
pub mod suppress;
mod work;

use alloc::{
    boxed::Box,
    string::{String, ToString},
    vec::Vec,
};

use csp_models::{
    allowed::Allowed,
    groups::Group,
    record::{Activity, BoardState, Entry, Event, EventRecord},
    time::{TimeSource, Timestamp},
};
use embedded_hal::delay::DelayNs;
use heapless::Deque;

use crate::gps::{Gps, Receiver, Remembered};
use burst::Burst;
use flash::Flash;
use outbox::Outbox;
pub use parts::{
    Battery, Board, Camera, Clock, Kept, Kit, NoPin, NoSensors, Parts, PictureFile, Shot, Store, Taken,
    Trigger,
};
pub use pir::{Pir, PirError};
pub use predict::{Classifier, Decoded, Prediction, Predictor, View};
pub use settings::{MAX_FRAMES, Settings};
use shoot::Shooter;
use supervise::Watch;
use suppress::Suppression;
use work::Work;

/// Classes kept of each of the three rankings (image, prior, both).
pub const TOP: usize = 3;
/// Bursts that wait for the model, at most.
pub const QUEUE: usize = 8;

/// What a step did.
#[derive(Debug)]
pub enum Step {
    /// Nothing is to be done until something triggers.
    Idle,
    /// Nothing could be done now: the flash warms up, or the store is given a pause.
    Waiting,
    /// Something moved on to its next stage.
    Working,
    /// An entry is in the store.
    Recorded(Box<Entry>),
}

/// How the trap is, the worst first: what someone at the tree wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// Entries wait because the store takes none.
    StoreFault,
    /// The camera gives no pictures.
    CameraFault,
    /// Pictures are kept and not classified.
    NotClassifying,
    /// It does less to save energy, or because it is hot.
    Saving,
    /// No place is known.
    NoPlace,
    /// A picture is taken.
    Shooting,
    /// All is well.
    Well,
}

/// A trap: its parts, and everything that is under way.
pub struct Trap<K: Kit> {
    trigger: K::Trigger,
    camera: K::Camera,
    flash: Flash<K::Flash>,
    receiver: K::Receiver,
    power: K::Power,
    gps: Gps,
    model: Result<Predictor<K::Classifier>, String>,
    store: K::Store,
    clock: K::Clock,
    board: K::Board,
    settings: Settings,
    shooter: Shooter,
    queue: Deque<Burst, QUEUE>,
    work: Option<Work>,
    outbox: Outbox,
    watch: Watch,
    receiver_fault: Option<String>,
    /// When the receiver was last heard, milliseconds of the monotonic clock.
    heard_ms: u64,
    progress: u64,
}

/// Between two looks at an idle camera: short beside any trigger's latency, long beside a look's cost.
const REST_MS: u32 = 20;
/// The same while a burst is being taken.
const SHORT_REST_MS: u32 = 2;
/// A receiver sends its sentences in one burst a second: silence this long ends an epoch.
const PAUSE_MS: u64 = 300;

impl<K: Kit> Trap<K> {
    /// A trap that waits for its first trigger. `gps` may already have heard the receiver.
    pub fn new(parts: Parts<K>, gps: Gps, settings: Settings) -> Self {
        let Parts { trigger, camera, flash, receiver, power, classifier, store, clock, board } = parts;
        let mut trap = Self {
            trigger,
            camera,
            flash: Flash::new(flash),
            receiver,
            power,
            gps,
            model: classifier.map(Predictor::new),
            store,
            clock,
            board,
            settings,
            shooter: Shooter::default(),
            queue: Deque::new(),
            work: None,
            outbox: Outbox::default(),
            watch: Watch::default(),
            receiver_fault: None,
            heard_ms: 0,
            progress: 0,
        };
        trap.watch.begin(trap.time().source);
        // A receiver without a cycle is never switched again.
        trap.supply_receiver(true);
        trap
    }

    /// Does one thing and returns: waits for nothing, so the caller can feed a watchdog in between. Taking
    /// a picture goes before recording, recording before classifying.
    ///
    /// # Errors
    /// The store did not take an entry; it is kept, and a later step offers it again.
    pub fn step(&mut self) -> Result<Step, <K::Store as Store>::Error> {
        self.listen();
        self.supervise();
        let step = if self.shoot() {
            Step::Working
        } else if let Some(entry) = self.deliver()? {
            Step::Recorded(Box::new(entry))
        } else if self.work() {
            Step::Working
        } else if self.shooter.is_busy() || !self.outbox.is_empty() {
            Step::Waiting
        } else {
            Step::Idle
        };
        if matches!(step, Step::Working | Step::Recorded(_)) {
            self.progress = self.progress.wrapping_add(1);
        }
        Ok(step)
    }

    /// Waits a moment, as nothing happens, and hears the receiver meanwhile.
    pub fn rest(&mut self, delay: &mut impl DelayNs) {
        self.listen();
        delay.delay_ms(if self.shooter.is_busy() { SHORT_REST_MS } else { REST_MS });
    }

    /// Writes an event into the diary, if this trap keeps one ([`Settings::events`]).
    pub fn tell(&mut self, event: Event) {
        if self.settings.events {
            let record = EventRecord { seq: 0, time: self.time(), board: self.board_state(), event };
            self.outbox.push(Entry::Event(record));
        }
    }

    /// Rules out what cannot occur at the site; `None` allows every class.
    pub fn allow(&mut self, allowed: Option<Allowed>) {
        if let Ok(model) = &mut self.model {
            model.allowed = allowed;
        }
    }

    /// Says which classes of the model are no animals, in the order of its labels, and whose pictures are
    /// suppressed (`None`: nobody's). Pictures then wait in memory until the model has looked at them.
    pub fn suppress(&mut self, groups: Vec<Option<Group>>, suppression: Option<Suppression>) {
        if let Ok(model) = &mut self.model {
            model.groups = groups;
            model.suppression = suppression;
        }
    }

    /// The receiver's fault, once: the trap goes on with the place it has.
    pub fn take_receiver_fault(&mut self) -> Option<String> {
        self.receiver_fault.take()
    }

    /// What the receiver has said so far.
    pub fn gps(&self) -> &Gps {
        &self.gps
    }

    /// The place to keep for the next start, when it is worth writing.
    pub fn remember(&mut self) -> Option<Remembered> {
        let now = self.now_ms();
        self.gps.remember(now)
    }

    /// True when nothing is under way and nothing waits.
    pub fn is_idle(&self) -> bool {
        !self.shooter.is_busy() && self.queue.is_empty() && self.work.is_none() && self.outbox.is_empty()
    }

    /// True while the flash shines.
    pub fn is_flash_on(&self) -> bool {
        self.flash.is_on()
    }

    /// Triggers without a picture or entry that no event has told of yet.
    pub fn missed(&self) -> u32 {
        self.outbox.missed()
    }

    /// Counts steps that got something done: a watchdog is fed while it moves, or nothing is to be done.
    pub fn progress(&self) -> u64 {
        self.progress
    }

    /// What the trap does at present.
    pub fn activity(&self) -> Activity {
        self.watch.activity
    }

    /// How the trap is.
    pub fn health(&self) -> Health {
        if self.outbox.is_refused() {
            Health::StoreFault
        } else if self.shooter.is_camera_faulty() {
            Health::CameraFault
        } else if self.settings.safe_mode || self.model.is_err() || self.watch.model_faulty {
            Health::NotClassifying
        } else if self.watch.activity > Activity::Full {
            Health::Saving
        } else if self.gps.place(self.now_ms()).is_none() {
            Health::NoPlace
        } else if self.shooter.is_shooting() {
            Health::Shooting
        } else {
            Health::Well
        }
    }

    /// Hears what the receiver said since the last step.
    pub fn listen(&mut self) {
        let mut buffer = [0; 256];
        // A receiver sends 1 kB/s; the bound keeps a source that never ends from holding the trap.
        for _ in 0..256 {
            let now = self.now_ms();
            match self.receiver.read(&mut buffer) {
                Ok(0) => {
                    if now.saturating_sub(self.heard_ms) > PAUSE_MS {
                        self.gps.pause(now);
                    }
                    return;
                }
                Ok(count) => {
                    self.heard_ms = now;
                    self.gps.take(buffer.get(..count).unwrap_or(&buffer), now);
                }
                Err(error) => {
                    let problem = error.to_string();
                    // A line that stays broken is said once.
                    if self.watch.receiver_problem.as_ref() != Some(&problem) {
                        self.tell(Event::ReceiverFault { problem: problem.clone() });
                    }
                    self.watch.receiver_problem = Some(problem.clone());
                    self.receiver_fault = Some(problem);
                    return;
                }
            }
        }
    }

    /// Offers the store the oldest entry that waits.
    fn deliver(&mut self) -> Result<Option<Entry>, <K::Store as Store>::Error> {
        let now = self.now_ms();
        let Some(entry) = self.outbox.next(now) else { return Ok(None) };
        // Numbered only now: an entry that never gets in leaves no gap.
        let mut entry = entry.clone();
        match &mut entry {
            Entry::Prediction(record) => record.seq = self.store.next_seq(),
            Entry::Failure(record) => record.seq = self.store.next_seq(),
            Entry::Event(record) => record.seq = self.store.next_seq(),
        }
        match self.store.seal(&mut entry).and_then(|()| self.store.append(&entry)) {
            Ok(()) => {
                self.outbox.taken();
                Ok(Some(entry))
            }
            Err(error) => {
                self.outbox.refused(now);
                self.progress = self.progress.wrapping_add(1);
                Err(error)
            }
        }
    }

    fn board_state(&self) -> BoardState {
        BoardState {
            boot: self.clock.boot(),
            monotonic_ms: self.now_ms(),
            battery_mv: self.watch.battery.millivolts,
            battery_percent: self.watch.battery.percent,
            temperature_c: self.watch.temperature_c,
            energy_mj: None,
        }
    }

    fn now_ms(&self) -> u64 {
        self.clock.monotonic_us() / 1000
    }

    /// GPS time, else the board's clock, else the time since it started.
    fn time(&self) -> Timestamp {
        let now = self.now_ms();
        let stamp = |millis, source| Timestamp { millis, source };
        self.gps
            .utc_millis(now)
            .map(|millis| stamp(millis, TimeSource::Gps))
            .or_else(|| self.clock.utc_millis().map(|millis| stamp(millis, TimeSource::Rtc)))
            .unwrap_or_else(|| stamp(i64::try_from(now).unwrap_or(i64::MAX), TimeSource::SinceBoot))
    }
}

#[cfg(test)]
mod tests;

//! What happens to a trap besides pictures, as a reviewer has to know it.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use super::BoardState;
use crate::{place::LatLon, place::Place, time::Timestamp};

/// Something that happened to the trap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventRecord {
    /// Counts every entry of a store, without gaps.
    pub seq: u64,
    /// When.
    pub time: Timestamp,
    /// The board's state then.
    pub board: BoardState,
    /// What.
    pub event: Event,
}

/// Kinds of events. Variants and fields are only ever appended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The firmware started.
    Started {
        /// How the last run ended, as far as it is known.
        after: LastRun,
        /// SHA-256 of the configuration in force; `None` for a trap without one.
        config_sha256: Option<[u8; 32]>,
    },
    /// The firmware was asked to stop and did.
    Stopped,
    /// The firmware failed and restarts.
    Panicked {
        /// The message, with the place in the code.
        message: String,
    },
    /// It keeps failing: triggers and pictures are recorded, nothing is classified.
    SafeMode {
        /// Why.
        reason: String,
    },
    /// The receiver has its first fix since the start.
    FirstFix {
        /// Where.
        place: Place,
    },
    /// The receiver lost its fix.
    FixLost,
    /// The trap hangs elsewhere than before: the theft, or the new tree.
    Moved {
        /// Where it was.
        from: LatLon,
        /// Where it is.
        to: LatLon,
        /// Great-circle distance, metres.
        distance_m: f64,
    },
    /// The receiver has said nothing for that long.
    ReceiverSilent {
        /// Seconds.
        seconds: u64,
    },
    /// The receiver says what is no NMEA, or cannot be read.
    ReceiverFault {
        /// What, for a person.
        problem: String,
    },
    /// The receiver is heard again.
    ReceiverBack,
    /// UTC is known from here on: earlier entries of that boot can be dated by it.
    ClockSet {
        /// Count of the board's starts.
        boot: u32,
        /// Milliseconds since that start at which …
        monotonic_ms: u64,
        /// … UTC in milliseconds since 1970 was this.
        utc_ms: i64,
        /// True when the receiver's date had rolled over and 1,024 weeks were added.
        rollover: bool,
    },
    /// The camera gives no picture, or a damaged one.
    CameraFault {
        /// What, for a person.
        problem: String,
        /// Attempts in a row that failed.
        attempts: u32,
    },
    /// The camera works again.
    CameraBack,
    /// There is no model, or it cannot be run: pictures are recorded unclassified.
    ModelFault {
        /// What, for a person.
        problem: String,
    },
    /// The store has little room, or none.
    StorageLow {
        /// Bytes left.
        free_bytes: u64,
    },
    /// The oldest pictures were removed to make room; their records stay.
    PicturesRemoved {
        /// How many.
        count: u32,
        /// Their size, bytes.
        bytes: u64,
        /// Name of the last of them.
        up_to: String,
    },
    /// A record could not be written for a while; this one says how many triggers went unrecorded.
    TriggersMissed {
        /// How many.
        count: u32,
        /// Why.
        reason: String,
    },
    /// The activity changed to make the battery last, or because the board is hot.
    Activity {
        /// What the trap does from here on.
        level: Activity,
        /// Why.
        reason: ActivityReason,
    },
    /// A time-lapse or self-test message worth keeping.
    Note {
        /// The text.
        text: String,
    },
}

/// How the run before this one ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LastRun {
    /// There was none.
    None,
    /// It was asked to stop.
    Clean,
    /// It panicked.
    Panic,
    /// It just ended: power, watchdog or kill.
    Interrupted,
}

/// How much the trap does, from all to least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// Everything.
    Full,
    /// Shorter bursts, longer cool-down, no time-lapse.
    Reduced,
    /// One picture a trigger, recorded and not classified.
    PicturesOnly,
    /// Triggers are counted, no pictures are taken.
    Minimal,
}

/// Why the activity changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActivityReason {
    /// Today's energy is spent faster than planned.
    EnergyBudget,
    /// The battery is low.
    Battery,
    /// The board is hot.
    Temperature,
    /// The reason before no longer holds.
    Recovered,
}

impl Event {
    /// A stable name of the kind, `snake_case`, for tables and filters.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Stopped => "stopped",
            Self::Panicked { .. } => "panicked",
            Self::SafeMode { .. } => "safe_mode",
            Self::FirstFix { .. } => "first_fix",
            Self::FixLost => "fix_lost",
            Self::Moved { .. } => "moved",
            Self::ReceiverSilent { .. } => "receiver_silent",
            Self::ReceiverFault { .. } => "receiver_fault",
            Self::ReceiverBack => "receiver_back",
            Self::ClockSet { .. } => "clock_set",
            Self::CameraFault { .. } => "camera_fault",
            Self::CameraBack => "camera_back",
            Self::ModelFault { .. } => "model_fault",
            Self::StorageLow { .. } => "storage_low",
            Self::PicturesRemoved { .. } => "pictures_removed",
            Self::TriggersMissed { .. } => "triggers_missed",
            Self::Activity { .. } => "activity",
            Self::Note { .. } => "note",
        }
    }
}

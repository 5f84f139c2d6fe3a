//! What a trap can be told, in the units it works with.

use super::energy::{Plan, PowerModel};

/// Pictures of one burst, at most.
pub const MAX_FRAMES: usize = 10;

/// How a trap behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Pictures a trigger, 1 to [`MAX_FRAMES`].
    pub frames: u8,
    /// From one picture of a burst to the next, milliseconds.
    pub interval_ms: u64,
    /// After a burst nothing triggers for so long, milliseconds.
    pub cool_down_ms: u64,
    /// From switching the flash on to the first picture, milliseconds; `None` leaves it off.
    pub flash_warm_up_ms: Option<u64>,
    /// A picture without a trigger that often, milliseconds; `None` for never.
    pub timelapse_ms: Option<u64>,
    /// Pictures wait for the model in at most so many bytes of memory; those beyond are kept unclassified.
    pub waiting_bytes: usize,
    /// Less room than that in the store is worth an event, bytes.
    pub storage_low_bytes: u64,
    /// What the board draws.
    pub power: PowerModel,
    /// When to do less.
    pub plan: Plan,
    /// Record what happens besides pictures. A desk without a configuration does not.
    pub events: bool,
    /// Classify nothing: the trap keeps failing and goes carefully.
    pub safe_mode: bool,
}

impl Settings {
    /// A folder of pictures: one at a time, nothing in between, no events.
    pub fn desk() -> Self {
        Self {
            frames: 1,
            interval_ms: 0,
            cool_down_ms: 0,
            flash_warm_up_ms: None,
            timelapse_ms: None,
            waiting_bytes: 64 << 20,
            storage_low_bytes: 0,
            power: PowerModel::default(),
            plan: Plan::default(),
            events: false,
            safe_mode: false,
        }
    }
}

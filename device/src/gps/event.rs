//! What a receiver's story holds besides its fixes: what the trap writes into its diary.

use core::fmt;

use csp_models::place::LatLon;

use super::{clock::ClockSet, still::Moved};

/// Something worth a record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum GpsEvent {
    /// The first fix since the start.
    FirstFix {
        /// Where.
        at: LatLon,
        /// Radius that holds the true place (about 95 %), metres.
        uncertainty_m: f64,
        /// How long after the start, milliseconds.
        after_ms: u64,
    },
    /// The receiver is on and has had no fix for a minute.
    FixLost,
    /// It has one again.
    FixBack {
        /// How long it had none, seconds.
        without_s: u64,
    },
    /// The trap was carried to another place.
    Moved(Moved),
    /// The clock was set or corrected. Whoever records it adds the boot's number: times since boot of
    /// that boot can then be dated ([`ClockOffset::correct`](super::ClockOffset::correct)).
    ClockSet(ClockSet),
    /// The receiver's date has rolled over and was put right; said once.
    Rollover {
        /// Weeks that were added.
        weeks: u32,
    },
    /// The receiver is on and says nothing at all. Said after one minute, then each time that has doubled.
    ReceiverSilent {
        /// For how long, seconds.
        seconds: u64,
    },
    /// It speaks again.
    ReceiverBack {
        /// How long it was silent, seconds.
        seconds: u64,
    },
    /// Bytes come and no sentence: the wrong baud rate, a binary protocol, a broken line. Said at 16 KiB,
    /// then each time that has doubled.
    Noise {
        /// Bytes since the last sentence.
        bytes: u64,
    },
    /// The trap starts from the place it knew before.
    Recalled {
        /// How old that is, seconds; `None` without a clock: it counts as a year.
        age_s: Option<u64>,
    },
    /// The place it knew before was dropped: the configured site has changed since, so a person moved the trap.
    SiteChanged,
}

impl fmt::Display for GpsEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FirstFix { at, uncertainty_m, after_ms } => {
                write!(f, "first fix after {} s: {at} ± {uncertainty_m:.0} m", after_ms / 1000)
            }
            Self::FixLost => write!(f, "no fix for a minute"),
            Self::FixBack { without_s } => write!(f, "fix again after {without_s} s"),
            Self::Moved(Moved { from, to, distance_m }) => {
                write!(f, "the trap was moved {distance_m:.0} m, from {from} to {to}")
            }
            Self::ClockSet(ClockSet { step_ms: None, .. }) => write!(f, "clock set from the receiver"),
            Self::ClockSet(ClockSet { step_ms: Some(step), .. }) => {
                write!(f, "clock corrected by {} s from the receiver", *step as f64 / 1000.0)
            }
            Self::Rollover { weeks } => {
                write!(f, "the receiver's date has rolled over: {weeks} weeks were added")
            }
            Self::ReceiverSilent { seconds } => write!(f, "the receiver has been silent for {seconds} s"),
            Self::ReceiverBack { seconds } => write!(f, "the receiver speaks again after {seconds} s"),
            Self::Noise { bytes } => write!(
                f,
                "{bytes} bytes from the receiver without a sentence: wrong baud rate, a binary protocol or a bad line"
            ),
            Self::Recalled { age_s: Some(age) } => write!(f, "last known place taken up, {age} s old"),
            Self::Recalled { age_s: None } => write!(f, "last known place taken up, of unknown age"),
            Self::SiteChanged => write!(f, "the configured site is new: the last known place is dropped"),
        }
    }
}

//! What a trap is made of: the traits that a board, a desk, a simulation and the tests implement.
//!
//! Pins are those of embedded-hal 1.0; the receiver is [`crate::gps::Receiver`], the model
//! [`Classifier`](super::Classifier).

use alloc::{string::String, vec::Vec};
use core::{convert::Infallible, fmt};

use csp_models::{
    groups::Group,
    place::Place,
    record::{Entry, Event, Picture},
    time::Timestamp,
};
use embedded_hal::digital::{ErrorType, OutputPin};

use super::Classifier;
use crate::gps::Receiver;

/// The kinds of parts of one trap.
pub trait Kit {
    /// What says that there is something to photograph.
    type Trigger: Trigger;
    /// What takes pictures.
    type Camera: Camera;
    /// The infrared flash; high is on.
    type Flash: OutputPin;
    /// The receiver's line.
    type Receiver: Receiver;
    /// The receiver's supply; high is on.
    type Power: OutputPin;
    /// The model.
    type Classifier: Classifier;
    /// What records and pictures go to.
    type Store: Store;
    /// The clocks.
    type Clock: Clock;
    /// Battery and thermometer.
    type Board: Board;
}

/// The parts of one trap.
pub struct Parts<K: Kit> {
    /// What says that there is something to photograph.
    pub trigger: K::Trigger,
    /// What takes pictures.
    pub camera: K::Camera,
    /// The infrared flash; high is on.
    pub flash: K::Flash,
    /// The receiver's line.
    pub receiver: K::Receiver,
    /// The receiver's supply; high is on.
    pub power: K::Power,
    /// The model, or why there is none: then pictures are recorded unclassified.
    pub classifier: Result<K::Classifier, String>,
    /// What records and pictures go to.
    pub store: K::Store,
    /// The clocks.
    pub clock: K::Clock,
    /// Battery and thermometer.
    pub board: K::Board,
}

/// What says that there is something to photograph.
pub trait Trigger {
    /// Why it cannot be asked, for a person.
    type Error: fmt::Display;

    /// True when something happened since the last look; returns at once. `now_ms` is the monotonic clock.
    ///
    /// # Errors
    /// The sensor cannot be read.
    fn poll(&mut self, now_ms: u64) -> Result<bool, Self::Error>;

    /// True when what is not asked for waits (files in a folder) instead of passing by (an animal).
    /// The trap then asks only when it has nothing else to do, and misses nothing.
    fn waits(&self) -> bool {
        false
    }
}

/// What takes pictures.
pub trait Camera {
    /// Why a picture could not be taken or read, for a person.
    type Error: fmt::Display;

    /// Takes a picture: number `frame` of a burst, from 0.
    ///
    /// # Errors
    /// No picture, or one cut short.
    fn capture(&mut self, frame: u8) -> Result<PictureFile, Self::Error>;

    /// The burst is over: a camera that draws power while it waits may stop until the next.
    fn rest(&mut self) {}

    /// The name that the picture just asked for has already, whether it could be read or not. A picture
    /// with a name comes from somewhere else: an error is that file's own, not the camera's.
    fn name(&self) -> Option<String> {
        None
    }
}

/// The bytes of a picture's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PictureFile {
    /// JPEG or PNG.
    pub bytes: Vec<u8>,
    /// Their SHA-256.
    pub sha256: [u8; 32],
}

/// A picture on its way to the store.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shot<'a> {
    /// File name, the one its entry will name.
    pub name: &'a str,
    /// JPEG or PNG.
    pub bytes: &'a [u8],
    /// Their SHA-256.
    pub sha256: [u8; 32],
    /// When and where it was taken, for its EXIF data; `None` for a picture from elsewhere, which is kept
    /// as it came.
    pub taken: Option<Taken>,
    /// Why it is not to be kept as it is: who is in view.
    pub suppressed: Option<Group>,
}

/// When and where a picture was taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Taken {
    /// When.
    pub time: Timestamp,
    /// Where the trap believed to be.
    pub place: Option<Place>,
}

/// What became of a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// For its entry.
    pub picture: Picture,
    /// SHA-256 of the file as it can be read later: tagged, and opened where it is sealed.
    pub sha256: [u8; 32],
}

/// What records and pictures go to.
pub trait Store {
    /// Why an entry or a picture was not taken.
    type Error: fmt::Display;

    /// Sequence number of the next entry.
    fn next_seq(&self) -> u64;

    /// Takes an entry; on return it is durable.
    ///
    /// # Errors
    /// The entry is not in the store, which is as it was before.
    fn append(&mut self, entry: &Entry) -> Result<(), Self::Error>;

    /// Keeps a picture, or drops or seals it as its owner wishes; on return that is durable. Its entry
    /// follows later.
    ///
    /// # Errors
    /// The picture is not kept.
    fn keep(&mut self, shot: &Shot<'_>) -> Result<Kept, Self::Error> {
        Ok(Kept { picture: Picture::Elsewhere, sha256: shot.sha256 })
    }

    /// Hides what nobody but the owner is to read from an entry that is about to be appended.
    ///
    /// # Errors
    /// It cannot be hidden; the entry is not appended then.
    fn seal(&self, _entry: &mut Entry) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Bytes left for pictures and records; `None` when nobody knows.
    fn free_bytes(&self) -> Option<u64> {
        None
    }

    /// What the store did by itself since it was asked last, such as removing old pictures; the trap
    /// writes it into the diary.
    fn take_event(&mut self) -> Option<Event> {
        None
    }
}

/// The board's clocks.
pub trait Clock {
    /// Microseconds since the board (or the program) started; never goes back.
    fn monotonic_us(&self) -> u64;

    /// UTC in milliseconds since 1970 by the board's own clock, when it has one that is set.
    fn utc_millis(&self) -> Option<i64>;

    /// Which start of the board this is, from 1; 0 where nobody counts.
    fn boot(&self) -> u32 {
        0
    }
}

/// Battery and thermometer.
pub trait Board {
    /// The battery now.
    fn battery(&mut self) -> Battery;

    /// The board's temperature, degrees Celsius; `None` without a sensor.
    fn temperature_c(&mut self) -> Option<f32>;
}

/// A battery as it is measured; what is not measured is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Battery {
    /// Voltage, millivolts.
    pub millivolts: Option<u16>,
    /// Charge left, percent.
    pub percent: Option<u8>,
}

/// A board that measures nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSensors;

impl Board for NoSensors {
    fn battery(&mut self) -> Battery {
        Battery::default()
    }
    fn temperature_c(&mut self) -> Option<f32> {
        None
    }
}

/// A pin that nothing is connected to.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPin;

impl ErrorType for NoPin {
    type Error = Infallible;
}

impl OutputPin for NoPin {
    fn set_low(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
    fn set_high(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

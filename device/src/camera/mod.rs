//! Where pictures come from on demand, and what moved between them.
//!
//! | file | does |
//! |---|---|
//! | this one | what every camera is asked: one picture, now |
//! | `folder` | pictures of a folder, one after the other |
//! | `command` | a program that writes a picture to its standard output (`rpicam-still -n -o -`) |
//! | `negotiate` | the best of what a V4L2 device offers |
//! | `convert` | its raw and motion-JPEG frames as JPEG files |
//! | `v4l2` | the device itself, with a time limit on every frame (Linux) |
//! | [`motion`] | the part of a burst that moved |
//!
//! Each failure says what to do; none ends a run: the next capture opens the camera again.

mod command;
mod convert;
mod folder;
pub mod motion;
mod negotiate;
#[cfg(target_os = "linux")]
mod v4l2;

use std::time::Duration;

pub use command::CommandCamera;
pub use convert::{PixelFormat, to_jpeg};
pub use folder::FolderCamera;
pub use negotiate::{Choice, Offer, Sizes, choose};
#[cfg(target_os = "linux")]
pub use v4l2::{V4l2Camera, V4l2Settings};

/// What takes one picture when asked.
pub trait Still {
    /// A picture's file, JPEG or PNG, taken after the call.
    ///
    /// # Errors
    /// [`CameraError`]; the next call tries again from the start.
    fn capture(&mut self) -> Result<Vec<u8>, CameraError>;

    /// Lets the camera rest between triggers; it wakes with the next capture.
    fn rest(&mut self) {}
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum CameraError {
    /// The device does not open.
    #[error("{device}: {reason}; is it plugged in, and may this user read it (group \"video\")?")]
    Open {
        /// The device.
        device: String,
        /// The system's reason.
        reason: String,
    },
    /// It has no format that is understood here.
    #[error("{device}: it offers {offered}; MJPG, YUYV and GREY are understood")]
    NoFormat {
        /// The device.
        device: String,
        /// Its formats.
        offered: String,
    },
    /// No frame in time.
    #[error("{device}: no frame within {:.1} s", .limit.as_secs_f64())]
    Timeout {
        /// The device.
        device: String,
        /// The limit.
        limit: Duration,
    },
    /// The camera went away while streaming.
    #[error("{device}: {reason}")]
    Stream {
        /// The device.
        device: String,
        /// The system's reason.
        reason: String,
    },
    /// A frame of the wrong length.
    #[error("a frame of {found} bytes, {expected} are {width} × {height} pixels of {format}")]
    Short {
        /// Bytes received.
        found: usize,
        /// Bytes needed.
        expected: usize,
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
        /// FourCC.
        format: &'static str,
    },
    /// A frame that is no picture.
    #[error("a damaged frame: {0}")]
    Corrupt(String),
    /// The program that takes pictures failed.
    #[error("{command}: {problem}")]
    Command {
        /// The program.
        command: String,
        /// What happened, with the end of its own messages.
        problem: String,
    },
    /// The folder has no pictures, or cannot be read.
    #[error("{folder}: {problem}")]
    Folder {
        /// The folder.
        folder: String,
        /// What is wrong.
        problem: String,
    },
}

//! Where pictures come from on demand.
//!
//! | file | does |
//! |---|---|
//! | this one | what every camera is asked: one picture, now; and the one a configuration names |
//! | `folder` | pictures of a folder, one after the other |
//! | `command` | a program that writes a picture to its standard output (`rpicam-still -n -o -`) |
//! | `negotiate` | the best of what a V4L2 device offers |
//! | `convert` | its raw and motion-JPEG frames as JPEG files |
//! | `v4l2` | the device itself, with a time limit on every frame (Linux) |
//!
//! Each failure says what to do; none ends a run: the next capture opens the camera again.

mod command;
mod convert;
mod folder;
mod negotiate;
#[cfg(target_os = "linux")]
mod v4l2;

use std::{fmt, time::Duration};

use sha2::{Digest, Sha256};

use crate::{
    config::{CameraConfig, CameraKind},
    trap::{Camera, PictureFile},
};
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

/// The camera of a configuration, as the trap asks it: whole files and their digests.
pub struct BoardCamera(Box<dyn Still>);

impl BoardCamera {
    /// The configured camera, which opens with its first picture; `None` for a folder that is watched.
    pub fn of(config: &CameraConfig) -> Option<Self> {
        let limit = Duration::from_secs_f64(config.timeout_s);
        Some(match config.kind {
            CameraKind::Command => Self(Box::new(CommandCamera::new(&config.command, limit)?)),
            #[cfg(target_os = "linux")]
            CameraKind::V4l2 => Self(Box::new(V4l2Camera::new(V4l2Settings {
                device: config.device.clone(),
                size: (config.width, config.height),
                warm_up: config.settle_frames,
                limit,
            }))),
            #[cfg(not(target_os = "linux"))]
            CameraKind::V4l2 => return None,
            CameraKind::Replay => Self(Box::new(FolderCamera::new(config.folder.as_deref()?))),
            CameraKind::Folder => return None,
        })
    }
}

impl fmt::Debug for BoardCamera {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoardCamera")
    }
}

impl Camera for BoardCamera {
    type Error = CameraError;

    fn capture(&mut self, _: u8) -> Result<PictureFile, CameraError> {
        let bytes = self.0.capture()?;
        if is_whole(&bytes) {
            Ok(PictureFile { sha256: Sha256::digest(&bytes).into(), bytes })
        } else {
            let problem = format!("{} bytes that are neither JPEG nor PNG, or cut short", bytes.len());
            Err(CameraError::Corrupt(problem))
        }
    }

    fn rest(&mut self) {
        self.0.rest();
    }
}

/// A JPEG or PNG with its beginning and its end; zeros may follow (some cameras fill up a block).
fn is_whole(bytes: &[u8]) -> bool {
    let zeros = bytes.iter().rev().take_while(|&&byte| byte == 0).count();
    let content = bytes.get(..bytes.len() - zeros).unwrap_or_default();
    let jpeg = content.starts_with(&[0xff, 0xd8, 0xff]) && content.ends_with(&[0xff, 0xd9]);
    let png = content.starts_with(b"\x89PNG\r\n\x1a\n") && content.ends_with(b"IEND\xae\x42\x60\x82");
    jpeg || png
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

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<PictureFile, CameraError> {
        let command = ["sh", "-c", script].map(String::from).into();
        let config = CameraConfig { command, ..CameraConfig::default() };
        BoardCamera::of(&config).unwrap().capture(0)
    }

    #[test]
    fn only_whole_files_are_pictures() {
        let file = shell(r"printf '\377\330\377xyz\377\331\000'").unwrap();
        assert_eq!(file.bytes, b"\xff\xd8\xffxyz\xff\xd9\0");
        assert_eq!(file.sha256, <[u8; 32]>::from(Sha256::digest(&file.bytes)));
        for cut in [r"printf '\377\330\377xyz'", "printf hello"] {
            assert!(shell(cut).unwrap_err().to_string().contains("cut short"), "{cut}");
        }
        assert!(!is_whole(b"") && !is_whole(&[0; 9]));
    }
}

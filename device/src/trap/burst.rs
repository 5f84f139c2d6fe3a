//! The pictures of one trigger on their way through the trap.

use alloc::{format, string::String, vec::Vec};

use csp_models::{
    place::Place,
    record::Picture,
    time::{TimeSource, Timestamp, civil_from_days},
};

use super::{MAX_FRAMES, Taken, energy::Spent};

/// The pictures of one trigger.
#[derive(Debug)]
pub(super) struct Burst {
    /// What its pictures' names begin with.
    pub stem: String,
    /// When it triggered.
    pub time: Timestamp,
    /// Where the trap believed to be then.
    pub place: Option<Place>,
    /// At least one once it is taken.
    pub frames: heapless::Vec<Frame, MAX_FRAMES>,
    pub spent: Spent,
}

/// One picture, or why there is none.
#[derive(Debug)]
pub(super) struct Frame {
    pub name: String,
    /// Of the file as it is kept.
    pub sha256: Option<[u8; 32]>,
    /// What became of it; `None` while it waits for the model to say who is in view.
    pub kept: Option<Picture>,
    /// The file's bytes, while the model or the store still needs them.
    pub bytes: Option<Vec<u8>>,
    /// Why there is nothing to classify.
    pub problem: Option<String>,
    /// It has a name from elsewhere, and stays as it is.
    pub foreign: bool,
}

impl Frame {
    /// The file, if the model is to see it.
    pub fn file(&self) -> Option<&[u8]> {
        self.bytes.as_deref().filter(|_| self.problem.is_none())
    }
}

impl Burst {
    /// For the EXIF data of its pictures.
    pub fn taken(&self) -> Taken {
        Taken { time: self.time, place: self.place }
    }

    /// Bytes that wait in memory.
    pub fn bytes(&self) -> usize {
        self.frames.iter().filter_map(|frame| frame.bytes.as_ref()).map(Vec::len).sum()
    }

    /// File name of a frame: when, which start of the board, which trigger, which frame.
    pub fn name(&self, frame: u8, bytes: &[u8]) -> String {
        let extension = if bytes.starts_with(b"\x89PNG") { "png" } else { "jpg" };
        format!("{}-{frame}.{extension}", self.stem)
    }
}

/// What names of a burst's pictures begin with: unique without a clock, sorted by time with one.
pub(super) fn stem(time: Timestamp, boot: u32, shot: u32) -> String {
    let date = match time.source {
        TimeSource::SinceBoot => String::from("undated"),
        TimeSource::Gps | TimeSource::Rtc => {
            let (year, month, day) = civil_from_days(time.millis.div_euclid(86_400_000));
            let s = time.millis.rem_euclid(86_400_000) / 1000;
            format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", s / 3600, s / 60 % 60, s % 60)
        }
    };
    format!("{date}-{boot:04}-{shot:06}")
}

//! What a trap writes down, and how it stands on disk.
//!
//! A segment is a run of frames, each `COBS(postcard(Entry) ‖ CRC-32C little-endian) ‖ 0x00`. The
//! first frame is a [`SegmentHeader`]. A frame that fails its checksum is skipped and reported; a
//! tail without its 0x00 was cut by a power failure. Entries are self-contained: they name classes,
//! so they can be read years later without the model.

use alloc::{string::String, vec::Vec};

use crc::{CRC_32_ISCSI, Crc};
use serde::{Deserialize, Serialize};

use crate::{
    fusion::Decision,
    labels::ClassId,
    place::{Place, PlaceSource},
    time::Timestamp,
};

/// Version of the entries below. A reader refuses newer ones.
pub const RECORD_SCHEMA: u16 = 1;

/// Longest frame a reader accepts, bytes: anything longer is damage, not a record.
pub const MAX_FRAME: usize = 1 << 20;

const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// The first frame of a segment file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentHeader {
    /// Always [`SegmentHeader::MAGIC`].
    pub magic: [u8; 8],
    /// [`RECORD_SCHEMA`] of the writer.
    pub schema: u16,
    /// The trap's name.
    pub device: String,
    /// The deployment (site and season) it was on.
    pub deployment: String,
    /// Version and build of the firmware that wrote.
    pub build: String,
    /// SHA-256 of the bundle's manifest.
    pub model_digest: [u8; 32],
    /// Sequence number of the first entry.
    pub first_seq: u64,
}

impl SegmentHeader {
    /// What a segment begins with.
    pub const MAGIC: [u8; 8] = *b"CSPLOG\r\n";
}

/// One line of the trap's diary. Variants and fields are only ever appended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Entry {
    /// A picture was classified.
    Prediction(PredictionRecord),
    /// A picture could not be classified: what the reviewer has to look at instead.
    Failure(FailureRecord),
}

impl Entry {
    /// The entry's place in the order of the store.
    pub fn seq(&self) -> u64 {
        match self {
            Self::Prediction(record) => record.seq,
            Self::Failure(record) => record.seq,
        }
    }
}

/// Everything the trap knew when it named a picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PredictionRecord {
    /// Counts every entry of a store, without gaps.
    pub seq: u64,
    /// When the picture was taken.
    pub time: Timestamp,
    /// File name of the picture.
    pub image: String,
    /// SHA-256 of the picture's file.
    pub image_sha256: [u8; 32],
    /// Where the trap believed to be; `None` when it did not know.
    pub place: Option<Place>,
    /// The best classes by image, by prior and by both: the union of the three lists.
    pub candidates: Vec<Candidate>,
    /// What was concluded.
    pub decision: Decision,
    /// What the conclusion rests on.
    pub provenance: Provenance,
    /// Where the time went.
    pub latency: Latency,
}

/// A trigger without a prediction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailureRecord {
    /// Counts every entry of a store, without gaps.
    pub seq: u64,
    /// When it happened.
    pub time: Timestamp,
    /// File name of the picture.
    pub image: String,
    /// SHA-256 of the picture's file; `None` when it could not be read.
    pub image_sha256: Option<[u8; 32]>,
    /// Where the trap believed to be.
    pub place: Option<Place>,
    /// What went wrong, for a person.
    pub error: String,
}

/// One class of a prediction, with the three probabilities behind it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Class in the model that predicted.
    pub class: ClassId,
    /// Its name.
    pub name: String,
    /// `P(y|I)`, calibrated.
    pub image: f64,
    /// Presence score at the place, 0 to 1; `None` without a place.
    pub prior: Option<f64>,
    /// `P(y|I,x)`; equal to `image` without a place.
    pub fused: f64,
}

/// What a decision rests on, the field's `image+live_fix` notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provenance {
    /// The picture alone.
    Image,
    /// The picture and a fix of the moment.
    ImageLiveFix,
    /// The picture and the last fix.
    ImageLastFix,
    /// The picture and the configured site.
    ImageConfiguredSite,
}

impl Provenance {
    /// The provenance of a prediction made with that place.
    pub fn of(place: Option<&Place>) -> Self {
        match place.map(|place| place.source) {
            None => Self::Image,
            Some(PlaceSource::LiveFix) => Self::ImageLiveFix,
            Some(PlaceSource::LastFix { .. }) => Self::ImageLastFix,
            Some(PlaceSource::ConfiguredSite) => Self::ImageConfiguredSite,
        }
    }

    /// `image`, `image+live_fix`, …
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::ImageLiveFix => "image+live_fix",
            Self::ImageLastFix => "image+last_fix",
            Self::ImageConfiguredSite => "image+configured_site",
        }
    }
}

/// Milliseconds spent on a prediction, by stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Reading, decoding and resizing the picture.
    pub decode_ms: f32,
    /// The image network.
    pub image_ms: f32,
    /// The location network; 0 when the prior of that place was at hand.
    pub prior_ms: f32,
}

/// Damage found while reading a segment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The frame is not valid COBS, or too short, or too long.
    #[error("not a frame ({length} bytes)")]
    Framing {
        /// Bytes between two delimiters.
        length: usize,
    },
    /// The checksum does not match.
    #[error("checksum mismatch")]
    Checksum,
    /// The checksum matches and the content is not understood.
    #[error("content of another schema: {0}")]
    Schema(postcard::Error),
}

/// A value as one frame, its 0x00 included.
///
/// # Errors
/// Only when a value cannot be serialised (a sequence of unknown length).
pub fn to_frame<T: Serialize>(value: &T) -> Result<Vec<u8>, postcard::Error> {
    let mut bytes = postcard::to_allocvec(value)?;
    let crc = CRC32C.checksum(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    let mut frame = cobs::encode_vec(&bytes);
    frame.push(0);
    Ok(frame)
}

/// The value of one frame, given without its 0x00.
///
/// # Errors
/// [`FrameError`] says what is damaged.
pub fn from_frame<T: for<'a> Deserialize<'a>>(frame: &[u8]) -> Result<T, FrameError> {
    let framing = FrameError::Framing { length: frame.len() };
    if frame.len() > MAX_FRAME {
        return Err(framing);
    }
    let Ok(bytes) = cobs::decode_vec(frame) else { return Err(framing) };
    let Some((content, crc)) = bytes.split_last_chunk::<4>() else { return Err(framing) };
    if CRC32C.checksum(content) != u32::from_le_bytes(*crc) {
        return Err(FrameError::Checksum);
    }
    postcard::from_bytes(content).map_err(FrameError::Schema)
}

/// What a segment holds: whole entries, and the damage between them.
#[derive(Debug, Default)]
pub struct Segment {
    /// The header, unless it is damaged.
    pub header: Option<SegmentHeader>,
    /// The entries that read back, in order.
    pub entries: Vec<Entry>,
    /// Damaged frames, each with the byte offset it starts at.
    pub damaged: Vec<(usize, FrameError)>,
    /// Bytes after the last delimiter: a write that a power failure cut.
    pub torn_tail: usize,
}

impl Segment {
    /// The schema of a segment written by newer firmware, whose entries cannot be relied on.
    pub fn newer_schema(&self) -> Option<u16> {
        self.header.as_ref().map(|header| header.schema).filter(|&schema| schema > RECORD_SCHEMA)
    }
}

/// Reads a segment of any condition; nothing readable is dropped.
///
/// Zeros after the last frame are torn as well: some file systems grow a file before they fill it.
pub fn read_segment(bytes: &[u8]) -> Segment {
    let mut segment = Segment::default();
    let mut offset = 0;
    let zeros = bytes.iter().rev().take_while(|&&byte| byte == 0).count().saturating_sub(1);
    let (bytes, filled) = bytes.split_at(bytes.len() - zeros);
    for piece in bytes.split_inclusive(|&byte| byte == 0) {
        match piece.split_last() {
            Some((0, frame)) if offset == 0 => match from_frame::<SegmentHeader>(frame) {
                Ok(header) => segment.header = Some(header),
                Err(error) => segment.damaged.push((offset, error)),
            },
            Some((0, frame)) => match from_frame(frame) {
                Ok(entry) => segment.entries.push(entry),
                Err(error) => segment.damaged.push((offset, error)),
            },
            _ => segment.torn_tail = piece.len(),
        }
        offset += piece.len();
    }
    segment.torn_tail += filled.len();
    segment
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{place::LatLon, time::TimeSource};
    use alloc::vec;
    use proptest::prelude::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            magic: SegmentHeader::MAGIC,
            schema: RECORD_SCHEMA,
            device: "trap-1".into(),
            deployment: "ridge".into(),
            build: "test".into(),
            model_digest: [7; 32],
            first_seq: 0,
        }
    }

    fn prediction(seq: u64, lat: f64, name: &str) -> Entry {
        Entry::Prediction(PredictionRecord {
            seq,
            time: Timestamp { millis: -5, source: TimeSource::Rtc },
            image: name.into(),
            image_sha256: [1; 32],
            place: Some(Place::configured(LatLon::new(lat, 5.0).unwrap())),
            candidates: vec![Candidate {
                class: ClassId(3),
                name: "lynx".into(),
                image: 0.25,
                prior: Some(0.0),
                fused: 1.0,
            }],
            decision: Decision::Abstain,
            provenance: Provenance::ImageConfiguredSite,
            latency: Latency::default(),
        })
    }

    /// postcard is not self-describing: an enum that serde tags inside would be written and never read.
    #[test]
    fn every_place_source_and_decision_reads_back() {
        let decisions = [
            Decision::Abstain,
            Decision::Class { class: ClassId(1), name: "lynx".into(), probability: 0.9 },
            Decision::RollUp { rank: "genus".into(), name: "Lynx".into(), probability: 0.9 },
        ];
        let sources = [PlaceSource::LiveFix, PlaceSource::LastFix { age_s: 7 }, PlaceSource::ConfiguredSite];
        for (source, decision) in sources.into_iter().zip(decisions) {
            let Entry::Prediction(mut record) = prediction(0, 1.0, "a.jpg") else { unreachable!() };
            record.place = record.place.map(|place| Place { source, ..place });
            record.decision = decision;
            let entry = Entry::Prediction(record);
            let frame = to_frame(&entry).unwrap();
            assert_eq!(from_frame::<Entry>(&frame[..frame.len() - 1]), Ok(entry));
        }
    }

    fn segment(entries: &[Entry]) -> Vec<u8> {
        let mut bytes = to_frame(&header()).unwrap();
        entries.iter().for_each(|entry| bytes.extend(to_frame(entry).unwrap()));
        bytes
    }

    proptest! {
        #[test]
        fn a_cut_loses_only_the_last_record(cut in 0.0f64..1.0, lat in -90.0f64..90.0, name in ".{0,30}") {
            let entries: Vec<Entry> = (0..5).map(|seq| prediction(seq, lat, &name)).collect();
            let bytes = segment(&entries);
            let cut = (bytes.len() as f64 * cut) as usize;
            let whole = bytes[..cut].iter().filter(|&&b| b == 0).count();
            let read = read_segment(&bytes[..cut]);
            prop_assert!(read.damaged.is_empty());
            prop_assert_eq!(&read.entries[..], &entries[..whole.saturating_sub(1)]);
        }

        #[test]
        fn a_flipped_bit_is_seen_and_the_rest_survives(at in 0usize..200, bit in 0u8..8) {
            let entries: Vec<Entry> = (0..4).map(|seq| prediction(seq, 1.0, "a.jpg")).collect();
            let mut bytes = segment(&entries);
            let start = to_frame(&header()).unwrap().len();
            let frame = to_frame(&entries[0]).unwrap().len();
            let at = start + at % frame;
            bytes[at] ^= 1 << bit;
            let read = read_segment(&bytes);
            // a delimiter may appear or vanish, so up to two frames are hit; nothing wrong is ever read
            prop_assert!(read.entries.len() >= 2 && !read.damaged.is_empty());
            prop_assert!(read.entries.iter().all(|entry| entries.contains(entry)));
        }

        #[test]
        fn zeros_that_were_never_filled_are_torn(zeros in 1usize..5000) {
            let entries: Vec<Entry> = (0..3).map(|seq| prediction(seq, 1.0, "a.jpg")).collect();
            let mut bytes = segment(&entries);
            bytes.resize(bytes.len() + zeros, 0);
            let read = read_segment(&bytes);
            prop_assert_eq!(read.entries, entries);
            prop_assert_eq!((read.damaged.len(), read.torn_tail), (0, zeros));
        }

        #[test]
        fn noise_is_never_a_record(bytes in proptest::collection::vec(any::<u8>(), 0..4000)) {
            let read = read_segment(&bytes);
            prop_assert!(read.entries.is_empty() && read.header.is_none());
        }
    }
}

//! What a trap writes down, and how it stands on disk.
//!
//! | part | file |
//! |---|---|
//! | a picture's prediction, or why there is none | this one |
//! | what happens to the trap besides | [`event`](Event) |
//! | a value as bytes with a checksum | [`frame`](to_frame) |
//! | a file of frames, of any condition | [`segment`](read_segment) |
//!
//! A segment is a run of frames, the first a [`SegmentHeader`]. A frame that fails its checksum is
//! skipped and reported; a tail without its 0x00 was cut by a power failure. Entries are
//! self-contained: they name classes, so they can be read years later without the model, and
//! entries of every schema since the first are read.

mod basis;
mod event;
mod frame;
mod segment;
mod v1;

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::{
    fusion::Decision,
    labels::ClassId,
    place::{Place, PlaceSource},
    time::Timestamp,
};

pub use event::{Activity, ActivityReason, Event, EventRecord, LastRun};
pub use frame::{FrameError, MAX_FRAME, from_frame, to_frame};
pub use segment::{Segment, read_segment};

/// Version of the entries below. A reader refuses newer ones and reads all older ones.
pub const RECORD_SCHEMA: u16 = 2;

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

/// One line of the trap's diary. Variants are only ever appended; a changed field is a new schema.
#[expect(
    clippy::large_enum_variant,
    reason = "entries are held one at a time, and nearly all are predictions"
)]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Entry {
    /// A picture was classified.
    Prediction(PredictionRecord),
    /// A picture could not be classified: what the reviewer has to look at instead.
    Failure(FailureRecord),
    /// Something else happened to the trap.
    Event(EventRecord),
}

impl Entry {
    /// The entry's place in the order of the store.
    pub fn seq(&self) -> u64 {
        match self {
            Self::Prediction(record) => record.seq,
            Self::Failure(record) => record.seq,
            Self::Event(record) => record.seq,
        }
    }

    /// When it happened, and by which clock.
    pub fn time(&self) -> Timestamp {
        match self {
            Self::Prediction(record) => record.time,
            Self::Failure(record) => record.time,
            Self::Event(record) => record.time,
        }
    }

    /// The board's state then.
    pub fn board(&self) -> &BoardState {
        match self {
            Self::Prediction(record) => &record.board,
            Self::Failure(record) => &record.board,
            Self::Event(record) => &record.board,
        }
    }

    /// Name and SHA-256 of the picture the entry is about, if it is about one.
    pub fn picture(&self) -> Option<(&str, Option<[u8; 32]>)> {
        match self {
            Self::Prediction(record) => Some((&record.image, Some(record.image_sha256))),
            Self::Failure(record) => Some((&record.image, record.image_sha256)),
            Self::Event(_) => None,
        }
    }
}

/// The board's state when an entry was made; what is not measured is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BoardState {
    /// Count of the board's starts: with `monotonic_ms` it dates entries made before a clock was set.
    pub boot: u32,
    /// Milliseconds since that start.
    pub monotonic_ms: u64,
    /// Battery voltage, millivolts.
    pub battery_mv: Option<u16>,
    /// Charge left, percent.
    pub battery_percent: Option<u8>,
    /// Temperature of the board, degrees Celsius.
    pub temperature_c: Option<f32>,
    /// Energy of this entry by the power model, millijoules.
    pub energy_mj: Option<u32>,
}

/// Everything the trap knew when it named a picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PredictionRecord {
    /// Counts every entry of a store, without gaps.
    pub seq: u64,
    /// When the picture was taken. A model with seasons took its date from here; of a time
    /// [since boot](crate::time::TimeSource::SinceBoot), which knows no date, its prior is the mean over
    /// the year.
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
    /// The board's state.
    pub board: BoardState,
    /// The other frames of the burst, in order; empty for a single picture.
    pub burst: Vec<BurstFrame>,
    /// True when the prior of a model that knows seasons was averaged over the year, the date being unknown.
    pub year_mean: bool,
    /// What the moving part of the picture looks like by itself, where a burst showed one.
    pub crop: Option<Crop>,
    /// The best class that the allow-list of species ruled out, when it beat the decision.
    pub set_aside: Option<Candidate>,
    /// What became of the pixels.
    pub picture: Picture,
    /// The place, encrypted to the owner's key (age format, postcard of [`Place`]); `place` is then `None`.
    pub sealed: Option<Vec<u8>>,
}

/// One more frame of a burst.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BurstFrame {
    /// File name.
    pub image: String,
    /// SHA-256 of the file; `None` when the frame failed.
    pub image_sha256: Option<[u8; 32]>,
    /// What the picture says of it alone: the best classes, best first.
    pub image_top: Vec<(ClassId, f32)>,
}

/// The part of a picture that moved, classified by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Crop {
    /// Left, top, width, height as shares of the oriented picture, 0 to 1.
    pub bbox: [f32; 4],
    /// The best classes, as for the whole frame.
    pub candidates: Vec<Candidate>,
    /// True when the decision rests on the crop, false for the whole frame.
    pub decides: bool,
}

/// What became of a picture's pixels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Picture {
    /// The file is kept as it is.
    Kept,
    /// Not kept, because its class belongs to that group (people, vehicles).
    Suppressed {
        /// The group.
        group: String,
    },
    /// Kept encrypted to the owner's key, in a file of the picture's name and `.age`.
    Sealed,
    /// Not stored by the trap: the file belongs to somebody else (a desk's folder).
    Elsewhere,
    /// Could not be stored; the prediction is all there is.
    NotStored {
        /// Why, for a person.
        problem: String,
    },
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
    /// The board's state.
    pub board: BoardState,
    /// The place, encrypted; see [`PredictionRecord::sealed`].
    pub sealed: Option<Vec<u8>>,
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

    pub(crate) fn prediction(seq: u64, lat: f64, name: &str) -> Entry {
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
            board: BoardState {
                boot: 3,
                monotonic_ms: 77,
                temperature_c: Some(-4.5),
                ..BoardState::default()
            },
            burst: vec![BurstFrame {
                image: "b.jpg".into(),
                image_sha256: None,
                image_top: vec![(ClassId(2), 0.5)],
            }],
            year_mean: true,
            crop: None,
            set_aside: None,
            picture: Picture::Suppressed { group: "human".into() },
            sealed: None,
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

    /// Written by the first firmware; the file is never made again.
    #[test]
    fn schema_1_still_reads() {
        let read = read_segment(include_bytes!("data/schema-1.seg"));
        assert_eq!(read.header.unwrap().schema, 1);
        assert!(read.damaged.is_empty() && read.torn_tail == 0);
        let [Entry::Prediction(prediction), Entry::Failure(failure)] = &read.entries[..] else { panic!() };
        let place = prediction.place.unwrap();
        assert_eq!((place.at.lat(), place.uncertainty_m), (-1.2921, 12.5));
        assert_eq!(place.source, PlaceSource::LastFix { age_s: 77 });
        assert_eq!(prediction.latency, Latency { decode_ms: 1.5, image_ms: 2.25, prior_ms: 0.5 });
        assert!(matches!(&prediction.decision, Decision::RollUp { name, .. } if name == "Lynx"));
        assert_eq!((failure.seq, failure.error.as_str()), (1, "not a JPEG"));
    }

    #[test]
    fn an_event_reads_back() {
        let event = Event::Moved {
            from: LatLon::new(1.0, 2.0).unwrap(),
            to: LatLon::new(1.0, 2.1).unwrap(),
            distance_m: 11_000.0,
        };
        let time = Timestamp { millis: 9, source: TimeSource::SinceBoot };
        let entry = Entry::Event(EventRecord { seq: 4, time, board: BoardState::default(), event });
        let frame = to_frame(&entry).unwrap();
        assert_eq!(from_frame::<Entry>(&frame[..frame.len() - 1]), Ok(entry));
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

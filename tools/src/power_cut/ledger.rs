//! What the store acknowledged, kept apart from it, and the pictures and entries to try it with.

use std::{collections::BTreeMap, path::Path};

use csp_device::store::{Identity, Store, StoreError, files::Files, read_in, simulated::Chance};
use csp_models::{
    fusion::Decision,
    record::{
        BoardState, Entry, Event, EventRecord, FailureRecord, Latency, Picture, PredictionRecord, Provenance,
        to_frame,
    },
    time::{TimeSource, Timestamp},
};
use sha2::{Digest, Sha256};

/// Everything acknowledged so far.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// SHA-256 of each record's frame, by number.
    pub records: BTreeMap<u64, [u8; 32]>,
    /// Name, SHA-256 and size of the pictures those records name, in the order they were kept.
    pub pictures: Vec<(String, [u8; 32], u64)>,
    /// Picture bytes offered since the last acknowledged one: they may have pushed old ones out.
    pub offered: u64,
}

pub(super) fn identity() -> Identity {
    Identity {
        device: "power-cut".into(),
        deployment: "bench".into(),
        build: "trial".into(),
        model_digest: [7; 32],
    }
}

/// One thing a trap does: a picture and its record, an event, or an event that may wait. What is acknowledged
/// goes to the ledger, at once.
pub(super) fn act<F: Files>(
    store: &mut Store<F>,
    ledger: &mut Ledger,
    chance: &mut Chance,
    picture_bytes: u64,
) -> Result<Option<Entry>, StoreError> {
    let seq = store.next_seq();
    match chance.below(8) {
        0 => {
            store.defer(&event(seq, "a note that may wait"))?;
            Ok(None)
        }
        1 | 2 => {
            let entry = event(seq, &"x".repeat(chance.below(900) as usize));
            store.append(&entry)?;
            ledger.take(&entry, None);
            Ok(Some(entry))
        }
        3 => {
            let entry = failure(seq);
            store.append(&entry)?;
            ledger.take(&entry, None);
            Ok(Some(entry))
        }
        _ => {
            let name = format!("{seq:08}.jpg");
            let size = chance.below(picture_bytes) as usize + 1;
            let bytes: Vec<u8> = (0..size).map(|_| chance.bits() as u8).collect();
            ledger.offered += size as u64;
            let picture = match store.keep(&name, &bytes) {
                Ok(picture) => picture,
                Err(StoreError::Full { .. }) => Picture::NotStored { problem: "full".into() },
                Err(error) => return Err(error),
            };
            let sha256 = Sha256::digest(&bytes).into();
            let kept = matches!(picture, Picture::Kept);
            let entry = prediction(seq, &name, sha256, picture);
            store.append(&entry)?;
            ledger.take(&entry, kept.then_some((name, sha256, size as u64)));
            Ok(Some(entry))
        }
    }
}

impl Ledger {
    fn take(&mut self, entry: &Entry, picture: Option<(String, [u8; 32], u64)>) {
        self.records.insert(entry.seq(), fingerprint(entry));
        if let Some(picture) = picture {
            self.pictures.push(picture);
            self.offered = 0;
        }
    }

    /// Counts what the store does not have: records that are gone or changed, pictures that are. A quota may
    /// have taken a picture when those kept after it, and the one on offer, reach it without it.
    pub fn lost<F: Files>(&self, files: &F, dir: &Path, may_take: impl Fn(u64) -> bool) -> u64 {
        let Ok(segments) = read_in(files, dir) else { return self.records.len() as u64 };
        let mut found = BTreeMap::new();
        for entry in segments.iter().flat_map(|(_, segment)| &segment.entries) {
            // the first of two with one number would be the lie
            found.insert(entry.seq(), fingerprint(entry));
        }
        let records = self.records.iter().filter(|(seq, print)| found.get(seq) != Some(print)).count();
        let mut since = self.offered;
        let mut pictures = 0;
        for (name, sha256, size) in self.pictures.iter().rev() {
            since += size;
            let there = files.read(&dir.join("pictures").join(name));
            let right = match there {
                Ok(bytes) => <[u8; 32]>::from(Sha256::digest(&bytes)) == *sha256,
                Err(_) => may_take(since),
            };
            pictures += u64::from(!right);
        }
        records as u64 + pictures
    }
}

pub(super) fn fingerprint(entry: &Entry) -> [u8; 32] {
    Sha256::digest(to_frame(entry).unwrap_or_default()).into()
}

const TIME: Timestamp = Timestamp { millis: 1_795_435_200_000, source: TimeSource::Gps };

fn event(seq: u64, text: &str) -> Entry {
    let event = Event::Note { text: text.to_string() };
    Entry::Event(EventRecord { seq, time: TIME, board: BoardState::default(), event })
}

fn failure(seq: u64) -> Entry {
    Entry::Failure(FailureRecord {
        seq,
        time: TIME,
        image: format!("{seq:08}.jpg"),
        image_sha256: None,
        place: None,
        error: "the camera gave half a picture".into(),
        board: BoardState::default(),
        sealed: None,
    })
}

fn prediction(seq: u64, name: &str, image_sha256: [u8; 32], picture: Picture) -> Entry {
    Entry::Prediction(PredictionRecord {
        seq,
        time: TIME,
        image: name.into(),
        image_sha256,
        place: None,
        candidates: Vec::new(),
        decision: Decision::Abstain,
        provenance: Provenance::Image,
        latency: Latency::default(),
        board: BoardState::default(),
        burst: Vec::new(),
        year_mean: false,
        crop: None,
        set_aside: None,
        picture,
        sealed: None,
    })
}

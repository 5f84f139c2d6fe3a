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
    /// Every picture offered, in order: one whose record was not acknowledged may have pushed old ones out
    /// all the same.
    pub pictures: Vec<Offered>,
    /// What was lost, in words.
    pub losses: Vec<String>,
}

/// A picture that the store was asked to keep.
#[derive(Debug)]
pub(super) struct Offered {
    pub name: String,
    /// Of its bytes, once a record that names it is acknowledged.
    pub sha256: Option<[u8; 32]>,
    pub size: u64,
}

pub(crate) fn identity() -> Identity {
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
            ledger.take(&entry);
            Ok(Some(entry))
        }
        3 => {
            let entry = failure(seq);
            store.append(&entry)?;
            ledger.take(&entry);
            Ok(Some(entry))
        }
        _ => {
            let name = format!("{seq:08}.jpg");
            let size = chance.below(picture_bytes) as usize + 1;
            let bytes: Vec<u8> = (0..size).map(|_| chance.bits() as u8).collect();
            ledger.pictures.push(Offered { name: name.clone(), sha256: None, size: size as u64 });
            let picture = match store.keep(&name, &bytes) {
                Ok(picture) => picture,
                Err(StoreError::Full { .. }) => Picture::NotStored { problem: "full".into() },
                Err(error) => return Err(error),
            };
            let sha256 = Sha256::digest(&bytes).into();
            let kept = matches!(picture, Picture::Kept);
            let entry = prediction(seq, &name, sha256, picture);
            store.append(&entry)?;
            ledger.take(&entry);
            if let (true, Some(offered)) = (kept, ledger.pictures.last_mut()) {
                offered.sha256 = Some(sha256);
            }
            Ok(Some(entry))
        }
    }
}

impl Ledger {
    fn take(&mut self, entry: &Entry) {
        self.records.insert(entry.seq(), fingerprint(entry));
    }

    /// Pictures that acknowledged records name.
    pub fn acknowledged_pictures(&self) -> u64 {
        self.pictures.iter().filter(|offered| offered.sha256.is_some()).count() as u64
    }

    /// Counts what the store does not have: records that are gone or changed, pictures that are. A quota may
    /// have taken a picture when those kept after it, and the one on offer, reach it without it.
    pub fn count_losses<F: Files>(&mut self, files: &F, dir: &Path, may_take: impl Fn(u64) -> bool) -> u64 {
        let before = self.losses.len();
        let mut found = BTreeMap::new();
        match read_in(files, dir) {
            Err(error) => self.losses.push(error.to_string()),
            Ok(segments) => {
                for entry in segments.iter().flat_map(|(_, segment)| &segment.entries) {
                    // of two with one number, neither may be taken for the other
                    if found.insert(entry.seq(), fingerprint(entry)).is_some() {
                        self.losses.push(format!("record {} is there twice", entry.seq()));
                    }
                }
            }
        }
        for (seq, print) in &self.records {
            match found.get(seq) {
                None => self.losses.push(format!("record {seq} is gone")),
                Some(found) if found != print => self.losses.push(format!("record {seq} is another")),
                Some(_) => {}
            }
        }
        let mut since = 0;
        for Offered { name, sha256, size } in self.pictures.iter().rev() {
            since += size;
            let Some(sha256) = sha256 else { continue };
            match files.read(&dir.join("pictures").join(name)) {
                Ok(bytes) if <[u8; 32]>::from(Sha256::digest(&bytes)) == *sha256 => {}
                Ok(_) => self.losses.push(format!("picture {name} is another")),
                Err(_) if may_take(since) => {}
                Err(error) => self.losses.push(format!("picture {name}: {error}")),
            }
        }
        (self.losses.len() - before) as u64
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

pub(crate) fn prediction(seq: u64, name: &str, image_sha256: [u8; 32], picture: Picture) -> Entry {
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

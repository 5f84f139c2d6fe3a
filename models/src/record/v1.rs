//! Entries of schema 1, read for as long as cards with them lie in drawers.

use alloc::{string::String, vec::Vec};

use serde::Deserialize;

use super::{BoardState, Candidate, FailureRecord, Latency, PredictionRecord, Provenance};
use crate::{fusion::Decision, place::Place, time::Timestamp};

#[derive(Deserialize)]
pub(super) enum Entry {
    Prediction(Prediction),
    Failure(Failure),
}

#[derive(Deserialize)]
pub(super) struct Prediction {
    seq: u64,
    time: Timestamp,
    image: String,
    image_sha256: [u8; 32],
    place: Option<Place>,
    candidates: Vec<Candidate>,
    decision: Decision,
    provenance: Provenance,
    latency: Latency,
}

#[derive(Deserialize)]
pub(super) struct Failure {
    seq: u64,
    time: Timestamp,
    image: String,
    image_sha256: Option<[u8; 32]>,
    place: Option<Place>,
    error: String,
}

impl From<Entry> for super::Entry {
    fn from(entry: Entry) -> Self {
        match entry {
            Entry::Prediction(old) => Self::Prediction(PredictionRecord {
                seq: old.seq,
                time: old.time,
                image: old.image,
                image_sha256: old.image_sha256,
                place: old.place,
                candidates: old.candidates,
                decision: old.decision,
                provenance: old.provenance,
                latency: old.latency,
                board: BoardState::default(),
                burst: Vec::new(),
                year_mean: false,
                crop: None,
                set_aside: None,
                // Schema 1 was the desk's: the files were somebody else's.
                picture: super::Picture::Elsewhere,
                sealed: None,
            }),
            Entry::Failure(old) => Self::Failure(FailureRecord {
                seq: old.seq,
                time: old.time,
                image: old.image,
                image_sha256: old.image_sha256,
                place: old.place,
                error: old.error,
                board: BoardState::default(),
                sealed: None,
            }),
        }
    }
}

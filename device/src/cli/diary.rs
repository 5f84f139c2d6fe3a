//! The field trap's store: opened as soon as its card lets it, bounded as the configuration says.

use std::{
    collections::{HashSet, VecDeque},
    path::{Path, PathBuf},
};

use csp_models::record::{Entry, Event, Picture};

use super::run::report_recovery;
use crate::{
    store::{self, Identity, Limits, Recovery, Removed, StoreError},
    trap,
};

/// Name and SHA-256 of every picture that has an entry.
pub(super) type Done = HashSet<(String, Option<[u8; 32]>)>;

/// The store, or what it takes to open it.
pub(super) struct Diary {
    dir: PathBuf,
    identity: Identity,
    limits: Limits,
    store: Option<store::Store>,
    /// What opening it found that the reviewer is to know.
    found: VecDeque<Event>,
}

/// Why the diary took nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum DiaryError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its numbering is known only now: the entry is offered again with the right number.
    #[error("the store has just been opened")]
    JustOpened,
}

impl Diary {
    /// Opens the store; one that does not open now is tried again with every entry and picture.
    ///
    /// # Errors
    /// Another process writes to it.
    pub fn open(dir: &Path, identity: Identity, limits: Limits) -> Result<(Self, Done), StoreError> {
        let mut diary = Self { dir: dir.into(), identity, limits, store: None, found: VecDeque::new() };
        let done = match diary.try_open() {
            Ok(recovery) => recovery.done,
            Err(error @ StoreError::InUse { .. }) => return Err(error),
            Err(error) => {
                note!("store: {error}; entries wait");
                Done::new()
            }
        };
        Ok((diary, done))
    }

    fn try_open(&mut self) -> Result<Recovery, StoreError> {
        let (store, recovery) = store::Store::open_bounded(&self.dir, self.identity.clone(), self.limits)?;
        report_recovery(&recovery);
        self.store = Some(store);
        self.found.extend(recovery.pictures.missing.clone().map(removed));
        Ok(recovery)
    }
}

fn removed(Removed { count, bytes, up_to }: Removed) -> Event {
    Event::PicturesRemoved { count, bytes, up_to }
}

impl trap::Store for Diary {
    type Error = DiaryError;

    fn next_seq(&self) -> u64 {
        self.store.as_ref().map_or(0, store::Store::next_seq)
    }

    fn append(&mut self, entry: &Entry) -> Result<(), DiaryError> {
        match &mut self.store {
            Some(store) => Ok(store.append(entry)?),
            None => {
                self.try_open()?;
                Err(DiaryError::JustOpened)
            }
        }
    }

    fn keep(&mut self, name: &str, bytes: &[u8]) -> Result<Picture, DiaryError> {
        if self.store.is_none() {
            self.try_open()?;
        }
        let Some(store) = &mut self.store else { return Err(DiaryError::JustOpened) };
        Ok(store.keep(name, bytes)?)
    }

    fn free_bytes(&self) -> Option<u64> {
        self.store.as_ref()?.free_bytes()
    }

    fn take_event(&mut self) -> Option<Event> {
        let found = self.found.pop_front();
        found.or_else(|| self.store.as_mut()?.take_removed().map(removed))
    }
}

//! The field trap's store: opened as soon as its card lets it, bounded and as private as the configuration says.

use std::{
    collections::{HashSet, VecDeque},
    path::{Path, PathBuf},
};

use csp_models::record::{Entry, Event};
use sha2::{Digest, Sha256};

use super::run::report_recovery;
use crate::{
    privacy::{Privacy, PrivacyError},
    store::{self, Identity, Limits, Recovery, Removed, StoreError, sealed_name},
    trap::{self, Kept, Shot},
};

/// Name and SHA-256 of every picture that has an entry.
pub(super) type Done = HashSet<(String, Option<[u8; 32]>)>;

/// The store, or what it takes to open it.
pub(super) struct Diary {
    dir: PathBuf,
    identity: Identity,
    limits: Limits,
    privacy: Privacy,
    store: Option<store::Store>,
    /// What opening it found that the reviewer is to know.
    found: VecDeque<Event>,
}

/// Why the diary took nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum DiaryError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing goes to the card in the clear instead.
    #[error(transparent)]
    Privacy(#[from] PrivacyError),
    /// Its numbering is known only now: the entry is offered again with the right number.
    #[error("the store has just been opened")]
    JustOpened,
}

impl Diary {
    /// Opens the store; one that does not open now is tried again with every entry and picture.
    ///
    /// # Errors
    /// Another process writes to it.
    pub fn open(
        dir: &Path,
        identity: Identity,
        limits: Limits,
        privacy: Privacy,
    ) -> Result<(Self, Done), StoreError> {
        let found = VecDeque::new();
        let mut diary = Self { dir: dir.into(), identity, limits, privacy, store: None, found };
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

    fn seal(&self, entry: &mut Entry) -> Result<(), DiaryError> {
        Ok(self.privacy.seal_entry(entry)?)
    }

    fn keep(&mut self, shot: &Shot<'_>) -> Result<Kept, DiaryError> {
        let Shot { name, bytes, sha256, taken, suppressed } = *shot;
        let stored = self.privacy.store(bytes, suppressed, taken, &self.identity.device)?;
        let Some(plain) = &stored.plain else { return Ok(Kept { picture: stored.picture, sha256 }) };
        let sha256 = if **plain == *bytes { sha256 } else { Sha256::digest(plain).into() };
        if self.store.is_none() {
            self.try_open()?;
        }
        let Some(store) = &mut self.store else { return Err(DiaryError::JustOpened) };
        match &stored.sealed {
            Some(sealed) => store.keep(&sealed_name(name), sealed)?,
            None => store.keep(name, plain)?,
        };
        Ok(Kept { picture: stored.picture, sha256 })
    }

    fn free_bytes(&self) -> Option<u64> {
        self.store.as_ref()?.free_bytes()
    }

    fn take_event(&mut self) -> Option<Event> {
        let found = self.found.pop_front();
        found.or_else(|| self.store.as_mut()?.take_removed().map(removed))
    }
}

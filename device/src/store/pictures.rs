//! The pictures of a store: `DIR/pictures/NAME`, whole or not there, the oldest given up first.
//!
//! A picture is written under a temporary name, synced, renamed, and the folder synced, all before its
//! record: no acknowledged record names a picture that a power cut took. Pictures without a record (the
//! power went between the two) are kept under `orphan-…` names.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    path::{Path, PathBuf},
};

use csp_models::record::{Entry, Event, Picture, Segment};

use super::{StoreError, fault, files::Files};

/// Longest file name of a picture, bytes; file systems take 255, ours may grow a prefix.
const MAX_NAME: usize = 200;
const ORPHAN: &str = "orphan-";

/// File name of a picture that is sealed to the owner's key; records name the picture without it.
pub fn sealed_name(image: &str) -> String {
    format!("{image}.age")
}

/// Pictures that made room for newer ones, for [`Event::PicturesRemoved`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// How many.
    pub count: u32,
    /// Their size, bytes; 0 when it is no longer known.
    pub bytes: u64,
    /// Name of the last of them.
    pub up_to: String,
}

/// What opening a store found in its pictures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PicturesFound {
    /// Whole pictures, those without a record among them.
    pub kept: u64,
    /// Their size, bytes.
    pub bytes: u64,
    /// Pictures whose record the power cut took; their names begin with `orphan-`.
    pub orphans: u64,
    /// Files that a power cut left unfinished, removed.
    pub unfinished: u64,
    /// Pictures that records name and no event says were removed: the power went before the
    /// event, or somebody took them away by hand.
    pub missing: Option<Removed>,
}

/// What the records of a store say of its pictures, gathered segment by segment.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// Names in the order of their records; `true` for those the trap kept itself.
    order: Vec<(String, bool)>,
    reported: u64,
}

impl Named {
    pub fn take(&mut self, segment: &Segment) {
        for entry in &segment.entries {
            match entry {
                Entry::Prediction(record) => {
                    let kept = matches!(record.picture, Picture::Kept | Picture::Sealed);
                    self.order.push((record.image.clone(), kept));
                    let burst = record.burst.iter().filter(|frame| frame.image_sha256.is_some());
                    // A burst's frames share the fate of its picture.
                    self.order.extend(burst.map(|frame| (frame.image.clone(), false)));
                }
                Entry::Failure(record) => self.order.push((record.image.clone(), false)),
                Entry::Event(record) => {
                    if let Event::PicturesRemoved { count, .. } = &record.event {
                        self.reported += u64::from(*count);
                    }
                }
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Pictures {
    dir: PathBuf,
    /// The folder is there, durably.
    made: bool,
    /// Oldest first.
    order: VecDeque<(String, u64)>,
    names: HashSet<String>,
    bytes: u64,
    quota: Option<u64>,
    min_free: u64,
    /// How many of the newest have no record yet: they are not given up.
    unrecorded: usize,
    removed: Removed,
}

impl Pictures {
    /// Looks through the folder, if there is one: temporary files go, pictures without a record get
    /// a name of their own.
    pub fn open<F: Files>(
        files: &F,
        store: &Path,
        named: Named,
        next_seq: u64,
        quota: Option<u64>,
        min_free: u64,
    ) -> Result<(Self, PicturesFound), StoreError> {
        let dir = store.join("pictures");
        let mut pictures = Self {
            dir,
            made: false,
            order: VecDeque::new(),
            names: HashSet::new(),
            bytes: 0,
            quota,
            min_free,
            unrecorded: 0,
            removed: Removed::default(),
        };
        let mut found = PicturesFound::default();
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |source| fault(path, source)
        };
        let listed = match files.list(&pictures.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            listed => listed.map_err(io(&pictures.dir))?,
        };
        let mut there: HashMap<String, u64> = HashMap::new();
        for (path, size) in listed {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if is_temporary(name) {
                files.remove(&path).map_err(io(&path))?;
                found.unfinished += 1;
            } else {
                there.insert(name.to_string(), size);
            }
        }
        let mut recorded = Vec::new();
        let mut missing = Removed::default();
        for (name, kept) in named.order {
            let files = [sealed_name(&name), name.clone()];
            if let Some(entry) = files.iter().find_map(|file| there.remove_entry(file)) {
                recorded.push(entry);
            } else if kept {
                missing.count = missing.count.saturating_add(1);
                missing.up_to = name;
            }
        }
        missing.count = missing.count.saturating_sub(u32::try_from(named.reported).unwrap_or(u32::MAX));
        found.missing = Some(missing).filter(|missing| missing.count > 0);
        // No record tells an orphan's age: they are taken for the oldest.
        let mut orphans: Vec<(String, u64)> = there.into_iter().collect();
        orphans.sort();
        found.orphans = orphans.len() as u64;
        for (name, size) in orphans {
            let name = pictures.set_aside(files, name, next_seq)?;
            pictures.take_in(name, size);
        }
        recorded.into_iter().for_each(|(name, size)| pictures.take_in(name, size));
        if pictures.names.len() as u64 + found.unfinished > 0 {
            // a killed process may have renamed and not synced
            files.sync_folder(&pictures.dir).map_err(io(&pictures.dir))?;
        }
        (found.kept, found.bytes) = (pictures.order.len() as u64, pictures.bytes);
        Ok((pictures, found))
    }

    /// Frees an orphan's name for the picture that will be taken in its stead.
    fn set_aside<F: Files>(&self, files: &F, name: String, next_seq: u64) -> Result<String, StoreError> {
        if name.starts_with(ORPHAN) {
            return Ok(name);
        }
        let aside = format!("{ORPHAN}{next_seq}-{name}");
        let path = self.dir.join(&aside);
        files.rename(&self.dir.join(name), &path).map_err(|source| fault(path, source))?;
        Ok(aside)
    }

    fn take_in(&mut self, name: String, size: u64) {
        self.names.insert(name.clone());
        self.order.push_back((name, size));
        self.bytes += size;
    }

    /// Keeps a picture durably under a name that is not taken yet.
    pub fn keep<F: Files>(&mut self, files: &F, name: &str, bytes: &[u8]) -> Result<Picture, StoreError> {
        check_name(name)?;
        let path = self.dir.join(name);
        let kept = if name.ends_with(".age") { Picture::Sealed } else { Picture::Kept };
        if self.names.contains(name) {
            // The same once more: whoever asks did not hear the first answer.
            return match files.read(&path) {
                Ok(there) if there == bytes => Ok(kept),
                _ => Err(StoreError::NameTaken { path }),
            };
        }
        let size = bytes.len() as u64;
        if self.quota.is_some_and(|quota| size > quota) {
            return Err(StoreError::OverQuota { path, bytes: size });
        }
        if !self.made {
            files.make_folder(&self.dir).map_err(|source| fault(self.dir.clone(), source))?;
            self.made = true;
        }
        self.make_room(files, size);
        if files.free_bytes(&self.dir).is_some_and(|free| free < size.saturating_add(self.min_free)) {
            return Err(StoreError::Full { path });
        }
        loop {
            match self.write(files, name, bytes) {
                Ok(()) => break,
                Err(source) => {
                    let error = fault(path.clone(), source);
                    let room = matches!(error, StoreError::Full { .. }) && self.give_up(files, size) > 0;
                    if !room {
                        return Err(error);
                    }
                }
            }
        }
        self.take_in(name.to_string(), size);
        self.unrecorded += 1;
        Ok(kept)
    }

    fn write<F: Files>(&self, files: &F, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (temporary, path) = (self.dir.join(format!(".{name}.tmp")), self.dir.join(name));
        let make = || -> io::Result<()> {
            let mut file = files.create(&temporary)?;
            files.append(&mut file, bytes)?;
            files.sync(&mut file)?;
            files.rename(&temporary, &path)
        };
        if let Err(error) = make() {
            let _ = files.remove(&temporary);
            return Err(error);
        }
        files.sync_folder(&self.dir).inspect_err(|_| {
            let _ = files.remove(&path);
        })
    }

    /// Every picture kept so far has its record.
    pub fn recorded(&mut self) {
        self.unrecorded = 0;
    }

    /// Gives up old pictures until a new one of that size fits. A twentieth more than asked for goes at a
    /// time: not every picture costs an event.
    fn make_room<F: Files>(&mut self, files: &F, size: u64) {
        let over = |limit: u64, used: u64| match used.checked_sub(limit) {
            Some(over) if over > 0 => over.saturating_add(limit / 20),
            _ => 0,
        };
        let quota = self.quota.map_or(0, |quota| over(quota, self.bytes.saturating_add(size)));
        let free = files.free_bytes(&self.dir).unwrap_or(u64::MAX);
        let lack = size.saturating_add(self.min_free).saturating_sub(free);
        let wanted = quota.max(lack);
        if wanted > 0 {
            self.give_up(files, wanted);
        }
    }

    /// Removes the oldest pictures until that many bytes are freed or none is left; returns the bytes.
    pub fn give_up<F: Files>(&mut self, files: &F, wanted: u64) -> u64 {
        let mut freed = 0;
        while freed < wanted && self.order.len() > self.unrecorded {
            let Some((name, size)) = self.order.front() else { break };
            match files.remove(&self.dir.join(name)) {
                // gone already: somebody took it away by hand
                Err(error) if error.kind() != io::ErrorKind::NotFound => break,
                _ => {}
            }
            freed += size;
            self.bytes = self.bytes.saturating_sub(*size);
            self.removed.count = self.removed.count.saturating_add(1);
            self.removed.bytes += size;
            self.removed.up_to = name.clone();
            self.names.remove(name);
            self.order.pop_front();
        }
        if freed > 0 {
            #[cfg(target_os = "linux")]
            defmt::info!(
                "store: pictures up to {=str} removed, {=u64} bytes",
                self.removed.up_to.as_str(),
                freed
            );
            let _ = files.sync_folder(&self.dir);
        }
        freed
    }

    /// What was given up since the last call.
    pub fn take_removed(&mut self) -> Option<Removed> {
        Some(std::mem::take(&mut self.removed)).filter(|removed| removed.count > 0)
    }

    /// Count and size in bytes.
    pub fn stock(&self) -> (u64, u64) {
        (self.order.len() as u64, self.bytes)
    }
}

fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".tmp")
}

fn check_name(name: &str) -> Result<(), StoreError> {
    let bad = name.is_empty()
        || name.len() > MAX_NAME
        || name.starts_with(['.', '-'])
        || name.starts_with(ORPHAN)
        || name.contains(['/', '\\', '\0', ':']);
    if bad { Err(StoreError::BadName { name: name.to_string() }) } else { Ok(()) }
}

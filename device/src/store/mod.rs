//! The trap's diary on disk: append-only segments and pictures that survive a power cut.
//!
//! ```text
//! DIR/000001.seg, 000002.seg, …   frames of csp_models::record
//! DIR/pictures/NAME               pictures the records name
//! DIR/reserve                     room that records take when the disk is full
//! DIR/diagnostics/…               what the firmware says of itself
//! DIR/lock                        held by the one process that writes
//! ```
//!
//! An entry is acknowledged after `fdatasync`, so what was acknowledged is there after any cut; what
//! was not is at most a torn tail of the last segment, cut off at the next start. A picture is there, whole,
//! before the entry that names it. When room runs out the oldest pictures go, then the reserve; records
//! are never removed. `csp-tools power-cut` tries these promises.

pub mod files;
mod pictures;
mod read;
mod reserve;
mod segment;
pub mod simulated;

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
};

use csp_models::record::{self, Entry, MAX_FRAME, Picture, RECORD_SCHEMA, Segment, SegmentHeader};

use crate::diagnostics;

use self::{
    files::{Disk, Files},
    pictures::{Named, Pictures},
    reserve::Reserve,
    segment::{Open, cut_tail},
};
pub use pictures::{PicturesFound, Removed, sealed_name};
pub use read::{Segments, fuzz, read, read_in, segments};

/// [`Limits::segment_bytes`] unless said otherwise.
pub const SEGMENT_SIZE: u64 = 4 << 20;
/// Deferred entries are written once they take this much, bytes.
const MAX_DEFERRED: usize = 64 << 10;

/// Who writes: the part of a segment's header that does not change within a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The trap's name.
    pub device: String,
    /// The deployment it is on.
    pub deployment: String,
    /// Version and build of the firmware.
    pub build: String,
    /// [`csp_models::bundle::Bundle::digest`] of the model that predicts.
    pub model_digest: [u8; 32],
}

/// How much room a store takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of pictures; the oldest make room for newer ones. `None`: as many as the disk holds.
    pub picture_bytes: Option<u64>,
    /// Bytes of the disk that pictures leave free.
    pub min_free_bytes: u64,
    /// Bytes set aside so that records still go in when the disk is full; 0 for no reserve.
    pub reserve_bytes: u64,
    /// A segment is closed once it would grow beyond this, bytes.
    pub segment_bytes: u64,
}

impl Default for Limits {
    /// No quota, 32 MiB left free, a reserve of 4 MiB: room for some 7,000 records.
    fn default() -> Self {
        Self {
            picture_bytes: None,
            min_free_bytes: 32 << 20,
            reserve_bytes: 4 << 20,
            segment_bytes: SEGMENT_SIZE,
        }
    }
}

/// Why the store cannot be opened or did not take an entry or a picture.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refuses.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The segment, picture or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// No room left.
    #[error("{path}: the disk is full; it was not recorded. Free some space: everything recorded so far is safe", path = .path.display())]
    Full {
        /// The segment or picture.
        path: PathBuf,
    },
    /// Another process writes to this store.
    #[error("{path}: in use by another csp-device", path = .path.display())]
    InUse {
        /// The store's folder.
        path: PathBuf,
    },
    /// An entry that no reader would accept.
    #[error("an entry of {bytes} bytes cannot be recorded (at most {MAX_FRAME})")]
    TooLarge {
        /// Size of its frame.
        bytes: usize,
    },
    /// An entry that does not serialise.
    #[error("an entry cannot be written: {0}")]
    Encode(String),
    /// A picture that the quota can never hold.
    #[error("{path}: a picture of {bytes} bytes is more than all pictures may take; raise the quota", path = .path.display())]
    OverQuota {
        /// The picture.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// Another picture has that name.
    #[error("{path}: another picture has this name", path = .path.display())]
    NameTaken {
        /// The picture.
        path: PathBuf,
    },
    /// A picture's name that is no plain file name.
    #[error(
        "{name:?} cannot name a picture: at most 200 bytes, no path, not beginning with a dot, a dash or orphan-"
    )]
    BadName {
        /// The name.
        name: String,
    },
}

/// What opening an existing store found and did.
#[derive(Debug, Default)]
pub struct Recovery {
    /// Entries that read back, over all segments.
    pub entries: u64,
    /// Frames that do not read back, over all segments.
    pub damaged: u64,
    /// Bytes cut off the last segment: a write that a power failure interrupted.
    pub torn_bytes: u64,
    /// Name and SHA-256 of every picture with an entry.
    pub done: HashSet<(String, Option<[u8; 32]>)>,
    /// What the folder of pictures held.
    pub pictures: PicturesFound,
}

/// An open store.
#[derive(Debug)]
pub struct Store<F: Files = Disk> {
    files: F,
    dir: PathBuf,
    identity: Identity,
    segment: Option<Open<F>>,
    number: u32,
    next_seq: u64,
    deferred: Deferred,
    pictures: Pictures,
    reserve: Reserve,
    segment_bytes: u64,
    // Held for as long as the store is open; the system releases it with the process.
    _lock: F::Lock,
}

/// Frames that wait for the next write.
#[derive(Debug, Default)]
struct Deferred {
    frames: Vec<u8>,
    first_seq: u64,
}

impl Store {
    /// Opens or creates the store in `dir` with the [default limits](Limits); see [`Store::open_with`].
    ///
    /// # Errors
    /// [`StoreError::InUse`] while another process holds it, else the system's reason.
    pub fn open(dir: &Path, identity: Identity) -> Result<(Self, Recovery), StoreError> {
        Self::open_bounded(dir, identity, Limits::default())
    }

    /// Opens or creates the store in `dir`, with its log beside it; see [`Store::open_with`].
    ///
    /// # Errors
    /// [`StoreError::InUse`] while another process holds it, else the system's reason.
    pub fn open_bounded(
        dir: &Path,
        identity: Identity,
        limits: Limits,
    ) -> Result<(Self, Recovery), StoreError> {
        let opened = Self::open_with(Disk, dir, identity, limits);
        Self::log_opened(&opened);
        // Only who holds the store writes its log; without one the trap goes on.
        if opened.is_ok() && diagnostics::attach(dir).is_err() {
            #[cfg(target_os = "linux")]
            defmt::warn!("no log beside the store");
        }
        opened
    }

    #[cfg_attr(not(target_os = "linux"), expect(unused_variables))]
    fn log_opened(opened: &Result<(Self, Recovery), StoreError>) {
        #[cfg(target_os = "linux")]
        match opened {
            Err(error) => defmt::error!("store: {}", defmt::Display2Format(error)),
            Ok((store, Recovery { entries, damaged, torn_bytes, pictures, .. })) => {
                defmt::info!(
                    "store: {=u64} entries, next {=u64}, {=u64} pictures of {=u64} bytes, {=u64} bytes free",
                    *entries,
                    store.next_seq,
                    pictures.kept,
                    pictures.bytes,
                    store.free_bytes().unwrap_or_default()
                );
                if damaged + torn_bytes + pictures.orphans + pictures.unfinished > 0 {
                    defmt::warn!(
                        "store: {=u64} entries damaged, {=u64} bytes cut off, {=u64} pictures without an entry, {=u64} unfinished",
                        *damaged,
                        *torn_bytes,
                        pictures.orphans,
                        pictures.unfinished
                    );
                }
            }
        }
    }
}

impl<F: Files> Store<F> {
    /// Opens or creates the store in `dir` and recovers it: reads every segment, cuts a torn tail off the
    /// last one (its bytes are kept in `NNNNNN.torn` where there is room), continues the numbering,
    /// removes unfinished pictures and sets those without a record aside.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while another process holds it, else the system's reason.
    pub fn open_with(
        files: F,
        dir: &Path,
        identity: Identity,
        limits: Limits,
    ) -> Result<(Self, Recovery), StoreError> {
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |source| fault(path, source)
        };
        files.make_folder(dir).map_err(io(dir))?;
        let lock_path = dir.join("lock");
        let lock = files.lock(&lock_path).map_err(io(&lock_path))?;
        let lock = lock.ok_or_else(|| StoreError::InUse { path: dir.into() })?;

        let mut recovery = Recovery::default();
        let mut next_seq = 0;
        let mut named = Named::default();
        let mut last = None;
        for (number, path) in read::segments_in(&files, dir).map_err(io(dir))? {
            let bytes = files.read(&path).map_err(io(&path))?;
            let segment = record::read_segment(&bytes);
            next_seq = next_seq.max(seq_after(&segment));
            recovery.damaged += segment.damaged.len() as u64;
            recovery.entries += segment.entries.len() as u64;
            let pictures = segment.entries.iter().filter_map(Entry::picture);
            recovery.done.extend(pictures.map(|(image, sha256)| (image.to_string(), sha256)));
            named.take(&segment);
            last = Some((number, path, bytes, segment));
        }

        let (mut segment, mut number) = (None, 0);
        if let Some((found, path, bytes, content)) = last {
            number = found;
            let whole = (bytes.len() - content.torn_tail) as u64;
            if content.torn_tail > 0 {
                recovery.torn_bytes = content.torn_tail as u64;
                cut_tail(&files, &path, &bytes, whole).map_err(io(&path))?;
            }
            if whole == 0 {
                // cut within its header: the number is free again
                files.remove(&path).map_err(io(&path))?;
                number -= 1;
            } else if content.header.as_ref().is_some_and(|header| identity.continues(header)) {
                segment = Some(Open::resume(&files, path.clone(), whole).map_err(io(&path))?);
            }
        }
        let (pictures, found) =
            Pictures::open(&files, dir, named, next_seq, limits.picture_bytes, limits.min_free_bytes)?;
        recovery.pictures = found;
        // What a killed process left visible need not be on the medium yet: entries go on in that file.
        files.sync_folder(dir).map_err(io(dir))?;
        let mut reserve = Reserve::open(&files, dir, limits.reserve_bytes);
        reserve.hold(&files);
        let store = Self {
            files,
            dir: dir.into(),
            identity,
            segment,
            number,
            next_seq,
            deferred: Deferred::default(),
            pictures,
            reserve,
            segment_bytes: limits.segment_bytes,
            _lock: lock,
        };
        Ok((store, recovery))
    }

    /// Sequence number of the next entry.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Bytes free on the disk; `None` where the system does not say.
    pub fn free_bytes(&self) -> Option<u64> {
        self.files.free_bytes(&self.dir)
    }

    /// Count and size in bytes of the pictures kept.
    pub fn pictures(&self) -> (u64, u64) {
        self.pictures.stock()
    }

    /// The pictures that made room since the last call: what [`record::Event::PicturesRemoved`] has to say.
    pub fn take_removed(&mut self) -> Option<Removed> {
        self.pictures.take_removed()
    }

    /// Keeps a picture's file and waits until it is durable; its entry comes after it. The name is a plain
    /// file name, new in this store; one that ends in `.age` is [`Picture::Sealed`]. Old pictures make room.
    ///
    /// # Errors
    /// The picture is then not in the store: [`StoreError::Full`] and [`StoreError::OverQuota`] when no old
    /// picture can make room.
    pub fn keep(&mut self, name: &str, bytes: &[u8]) -> Result<Picture, StoreError> {
        self.pictures.keep(&self.files, name, bytes)
    }

    /// Writes an entry and waits until it is durable. On a full disk the reserve and the oldest pictures
    /// make room for it.
    ///
    /// # Errors
    /// The entry is then not in the store, which reads as it did before.
    pub fn append(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let frame = framed(entry)?;
        let first_seq = if self.deferred.frames.is_empty() { entry.seq() } else { self.deferred.first_seq };
        let waiting = self.deferred.frames.len();
        self.deferred.frames.extend_from_slice(&frame);
        let written = self.write_deferred(first_seq);
        if written.is_err() {
            // What was deferred still waits; the entry is the caller's again.
            self.deferred.frames.truncate(waiting);
        }
        written?;
        self.next_seq = entry.seq().saturating_add(1);
        if entry.picture().is_some() {
            self.pictures.recorded();
        }
        Ok(())
    }

    /// Takes an entry that may wait: it is written with the next one, in one go, or by [`Store::flush`]. It
    /// is not acknowledged: a power cut before then takes it, and its number is given again. Acknowledged
    /// entries are never at risk.
    ///
    /// # Errors
    /// The entry is not taken, or what waits became too much and cannot be written.
    pub fn defer(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let frame = framed(entry)?;
        if self.deferred.frames.len() + frame.len() > MAX_DEFERRED {
            self.flush()?;
        }
        if self.deferred.frames.is_empty() {
            self.deferred.first_seq = entry.seq();
        }
        self.deferred.frames.extend_from_slice(&frame);
        self.next_seq = entry.seq().saturating_add(1);
        Ok(())
    }

    /// Writes what was deferred and waits until it is durable.
    ///
    /// # Errors
    /// It still waits then.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        if self.deferred.frames.is_empty() {
            return Ok(());
        }
        self.write_deferred(self.deferred.first_seq)
    }

    /// Writes all that waits, with whatever room can be made for it.
    fn write_deferred(&mut self, first_seq: u64) -> Result<(), StoreError> {
        let mut written = self.try_write(first_seq);
        while matches!(written, Err(StoreError::Full { .. })) {
            #[cfg(target_os = "linux")]
            defmt::warn!("store: the disk is full");
            let room = self.reserve.release(&self.files)
                || self.pictures.give_up(&self.files, self.segment_bytes) > 0;
            if !room {
                break;
            }
            written = self.try_write(first_seq);
        }
        written?;
        self.deferred.frames.clear();
        if !self.reserve.is_held() {
            let free = self.free_bytes().unwrap_or(u64::MAX);
            let lack = self.reserve.bytes().saturating_mul(2).saturating_sub(free);
            self.pictures.give_up(&self.files, lack);
            self.reserve.hold(&self.files);
        }
        Ok(())
    }

    fn try_write(&mut self, first_seq: u64) -> Result<(), StoreError> {
        let frames = &self.deferred.frames;
        let mut open = match self.segment.take() {
            Some(open) if open.size + frames.len() as u64 <= self.segment_bytes => open,
            full => match self.new_segment(first_seq) {
                Ok(open) => open,
                Err(error) => {
                    self.segment = full;
                    return Err(error);
                }
            },
        };
        let written = open.write(&self.files, &self.deferred.frames);
        #[cfg(target_os = "linux")]
        if let Err(error) = &written {
            defmt::warn!("store: a write failed: {}", defmt::Display2Format(error));
        }
        let path = open.path.clone();
        self.segment = Some(open);
        written.map_err(|source| fault(path, source))
    }

    fn new_segment(&mut self, first_seq: u64) -> Result<Open<F>, StoreError> {
        let number = self.number.saturating_add(1);
        let path = self.dir.join(format!("{number:06}.seg"));
        let header = SegmentHeader {
            magic: SegmentHeader::MAGIC,
            schema: RECORD_SCHEMA,
            device: self.identity.device.clone(),
            deployment: self.identity.deployment.clone(),
            build: self.identity.build.clone(),
            model_digest: self.identity.model_digest,
            first_seq,
        };
        let frame = record::to_frame(&header).map_err(|error| StoreError::Encode(format!("{error}")))?;
        let open = Open::create(&self.files, path.clone(), &frame).map_err(|source| fault(path, source))?;
        self.number = number;
        Ok(open)
    }
}

impl<F: Files> Drop for Store<F> {
    /// Nothing acknowledged waits; what was deferred is worth an attempt.
    fn drop(&mut self) {
        let _ = self.flush();
    }
}

impl Identity {
    /// True when entries of this writer belong under that header.
    fn continues(&self, header: &SegmentHeader) -> bool {
        let found = Self {
            device: header.device.clone(),
            deployment: header.deployment.clone(),
            build: header.build.clone(),
            model_digest: header.model_digest,
        };
        header.magic == SegmentHeader::MAGIC && header.schema == RECORD_SCHEMA && found == *self
    }
}

impl crate::trap::Store for Store {
    type Error = StoreError;

    fn next_seq(&self) -> u64 {
        Store::next_seq(self)
    }

    fn append(&mut self, entry: &Entry) -> Result<(), StoreError> {
        Store::append(self, entry)
    }
}

fn framed(entry: &Entry) -> Result<Vec<u8>, StoreError> {
    let frame = record::to_frame(entry).map_err(|error| StoreError::Encode(format!("{error}")))?;
    if frame.len() > MAX_FRAME { Err(StoreError::TooLarge { bytes: frame.len() }) } else { Ok(frame) }
}

/// The sequence number after a segment; a damaged frame has used one up.
fn seq_after(segment: &Segment) -> u64 {
    let frames = (segment.entries.len() + segment.damaged.len()) as u64;
    let counted = segment.header.as_ref().map_or(0, |header| header.first_seq.saturating_add(frames));
    let last = segment.entries.last().map_or(0, |entry| entry.seq().saturating_add(1));
    counted.max(last)
}

fn fault(path: PathBuf, source: io::Error) -> StoreError {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { path },
        _ => StoreError::Io { path, source },
    }
}

#[cfg(test)]
mod tests;

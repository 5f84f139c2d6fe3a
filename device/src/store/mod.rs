//! The trap's diary on disk: append-only segments that survive a power cut.
//!
//! `DIR/000001.seg`, `DIR/000002.seg`, … hold frames of [`csp_models::record`]. An entry is
//! acknowledged after `fdatasync`, so what was acknowledged is there after any cut; what was not is
//! at most a torn tail of the last segment, cut off at the next start. One process at a time: it
//! holds `DIR/lock`.

mod read;

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

use csp_models::record::{self, Entry, MAX_FRAME, RECORD_SCHEMA, Segment, SegmentHeader};

pub use read::{read, segments};

/// A segment is closed once it would grow beyond this, bytes.
pub const SEGMENT_SIZE: u64 = 4 << 20;

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

/// Why the store cannot be opened or did not take an entry.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refuses.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The segment or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// No room left.
    #[error("{path}: the disk is full; the entry was not recorded. Free some space: everything recorded so far is safe", path = .path.display())]
    Full {
        /// The segment.
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
}

/// An open store.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    identity: Identity,
    segment: Option<Open>,
    number: u32,
    next_seq: u64,
    // Held for as long as the store is open; the system releases it with the process.
    _lock: File,
}

/// The segment being written.
#[derive(Debug)]
struct Open {
    path: PathBuf,
    file: File,
    /// Bytes of whole frames in it.
    size: u64,
    /// A failed write could not be taken back: `size` may be less than the file's.
    dirty: bool,
}

impl Store {
    /// Opens or creates the store in `dir` and recovers it: reads every segment, cuts a torn tail off the
    /// last one (its bytes are kept in `NNNNNN.torn` where there is room) and continues the numbering.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while another process holds it, else the system's reason.
    pub fn open(dir: &Path, identity: Identity) -> Result<(Self, Recovery), StoreError> {
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |source| fault(path, source)
        };
        fs::create_dir_all(dir).map_err(io(dir))?;
        let lock_path = dir.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(io(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse { path: dir.into() }),
            Err(TryLockError::Error(source)) => return Err(io(&lock_path)(source)),
        }

        let mut recovery = Recovery::default();
        let mut next_seq = 0;
        let mut last = None;
        for (number, path) in segments(dir).map_err(io(dir))? {
            let bytes = fs::read(&path).map_err(io(&path))?;
            let segment = record::read_segment(&bytes);
            next_seq = next_seq.max(seq_after(&segment));
            recovery.damaged += segment.damaged.len() as u64;
            recovery.entries += segment.entries.len() as u64;
            let pictures = segment.entries.iter().filter_map(Entry::picture);
            recovery.done.extend(pictures.map(|(image, sha256)| (image.to_string(), sha256)));
            last = Some((number, path, bytes, segment));
        }

        let mut store = Self { dir: dir.into(), identity, segment: None, number: 0, next_seq, _lock: lock };
        if let Some((number, path, bytes, segment)) = last {
            store.number = number;
            let whole = (bytes.len() - segment.torn_tail) as u64;
            if segment.torn_tail > 0 {
                recovery.torn_bytes = segment.torn_tail as u64;
                cut_tail(&path, &bytes, whole).map_err(io(&path))?;
            }
            if whole == 0 {
                // cut within its header: the number is free again
                fs::remove_file(&path).map_err(io(&path))?;
                store.number = number - 1;
            } else if segment.header.as_ref().is_some_and(|header| store.continues(header)) {
                let file = OpenOptions::new().append(true).open(&path).map_err(io(&path))?;
                store.segment = Some(Open { path, file, size: whole, dirty: false });
            }
        }
        Ok((store, recovery))
    }

    /// Sequence number of the next entry.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Writes an entry and waits until it is durable.
    ///
    /// # Errors
    /// The entry is then not in the store, which reads as it did before.
    pub fn append(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let frame = record::to_frame(entry).map_err(|error| StoreError::Encode(format!("{error}")))?;
        if frame.len() > MAX_FRAME {
            return Err(StoreError::TooLarge { bytes: frame.len() });
        }
        let full = |open: &Open| open.size + frame.len() as u64 > SEGMENT_SIZE;
        let mut open = match self.segment.take() {
            Some(open) if !full(&open) => open,
            _ => self.new_segment(entry.seq())?,
        };
        let written = open.write(&frame);
        let path = open.path.clone();
        self.segment = Some(open);
        written.map_err(|source| fault(path, source))?;
        self.next_seq = entry.seq().saturating_add(1);
        Ok(())
    }

    fn new_segment(&mut self, first_seq: u64) -> Result<Open, StoreError> {
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
        let create = || -> io::Result<Open> {
            let file = OpenOptions::new().append(true).create_new(true).open(&path)?;
            let mut open = Open { path: path.clone(), file, size: 0, dirty: false };
            let written = open.write(&frame).and_then(|()| sync_folder(&self.dir));
            if let Err(error) = written {
                let _ = fs::remove_file(&path);
                return Err(error);
            }
            Ok(open)
        };
        let open = create().map_err(|source| fault(path.clone(), source))?;
        self.number = number;
        Ok(open)
    }

    /// True when entries of this run belong under that header.
    fn continues(&self, header: &SegmentHeader) -> bool {
        let found = Identity {
            device: header.device.clone(),
            deployment: header.deployment.clone(),
            build: header.build.clone(),
            model_digest: header.model_digest,
        };
        header.magic == SegmentHeader::MAGIC && header.schema == RECORD_SCHEMA && found == self.identity
    }
}

impl Open {
    /// Appends a frame durably, or takes back what got written of it.
    fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        if self.dirty {
            self.take_back()?;
        }
        let written = self.file.write_all(frame).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => self.size += frame.len() as u64,
            Err(_) => {
                // If this fails as well the tail reads as torn, and the next write tries again.
                self.dirty = self.take_back().is_err();
            }
        }
        written
    }

    fn take_back(&mut self) -> io::Result<()> {
        self.file.set_len(self.size)?;
        self.file.sync_data()?;
        self.dirty = false;
        Ok(())
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

/// The sequence number after a segment; a damaged frame has used one up.
fn seq_after(segment: &Segment) -> u64 {
    let frames = (segment.entries.len() + segment.damaged.len()) as u64;
    let counted = segment.header.as_ref().map_or(0, |header| header.first_seq.saturating_add(frames));
    let last = segment.entries.last().map_or(0, |entry| entry.seq().saturating_add(1));
    counted.max(last)
}

/// Cuts a segment to its whole frames. The rest is unacknowledged; it is kept beside it for the curious.
fn cut_tail(path: &Path, bytes: &[u8], whole: u64) -> io::Result<()> {
    let tail = usize::try_from(whole).ok().and_then(|from| bytes.get(from..)).unwrap_or_default();
    let _ = fs::write(path.with_extension("torn"), tail);
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(whole)?;
    file.sync_all()
}

fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn fault(path: PathBuf, source: io::Error) -> StoreError {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { path },
        _ => StoreError::Io { path, source },
    }
}

/// Numbers and paths of segments, oldest first.
pub type Segments = Vec<(u32, PathBuf)>;

#[cfg(test)]
mod tests;

//! Pooled features of many pictures in one file, `[N, width]`, so that the frozen network runs once.
//!
//! A line of JSON (what pictures, which weights, how many), then blocks of 128 rows with the first 8
//! bytes of their SHA-256 behind them. The file grows under the name `….part` and takes its own when
//! complete: a kill costs the block in work. It is then memory-mapped: a table larger than memory can
//! be walked through, and the operating system keeps what fits. All blocks are checked when it is opened (a
//! row is less to read than the picture it is of, which is checked too), and damaged ones computed anew.

use std::{
    fs::{self, File},
    io::{Seek, SeekFrom, Write},
    ops::Range,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use memmap2::Mmap;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::pixels::read_at;
use crate::{
    progress::{Progress, Voice},
    training::TrainError,
};

/// Rows of a block: a forward pass. On flex larger batches are no faster (64, 128, 256 within 5 %).
const BLOCK: usize = 128;
/// Bytes of a block's check.
const CHECK: usize = 8;
const FORMAT: &str = "csp-features-1";

/// Which pictures through which network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableKey {
    /// Digest of the pictures and their size, see [`PixelCache::digest`](super::PixelCache::digest).
    pub pictures: String,
    /// Digest of the backbone's weights and of how its input is normalised.
    pub weights: String,
    /// Number of pictures.
    pub rows: usize,
    /// Length of a feature.
    pub width: usize,
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: String,
    #[serde(flatten)]
    key: TableKey,
}

impl TableKey {
    fn name(&self) -> String {
        let short = |digest: &str| digest.chars().take(16).collect::<String>();
        format!("features-{}-{}.f32", short(&self.pictures), short(&self.weights))
    }

    fn header(&self) -> String {
        let header = Header { format: FORMAT.into(), key: self.clone() };
        serde_json::to_string(&header).unwrap_or_default() + "\n"
    }

    fn blocks(&self) -> usize {
        self.rows.div_ceil(BLOCK)
    }

    fn rows_of(&self, block: usize) -> Range<usize> {
        block * BLOCK..((block + 1) * BLOCK).min(self.rows)
    }

    /// Where a block starts, bytes.
    fn start(&self, block: usize) -> u64 {
        self.header().len() as u64 + block as u64 * self.stride()
    }

    /// Bytes of a block with its check.
    fn bytes(&self, block: usize) -> usize {
        self.rows_of(block).len() * self.width * 4 + CHECK
    }

    /// Bytes of a full block.
    fn stride(&self) -> u64 {
        (BLOCK * self.width * 4 + CHECK) as u64
    }

    /// Bytes of the file after so many blocks.
    fn length(&self, blocks: usize) -> u64 {
        let header = self.header().len() as u64;
        match blocks < self.blocks() || self.rows.is_multiple_of(BLOCK) {
            true => header + blocks as u64 * self.stride(),
            false => header + (self.rows * self.width * 4 + blocks * CHECK) as u64,
        }
    }
}

/// A complete table.
#[derive(Debug)]
pub struct FeatureTable {
    map: Mmap,
    path: PathBuf,
    key: TableKey,
    /// Blocks that were looked at and agree with their check.
    sound: Vec<AtomicBool>,
}

impl FeatureTable {
    /// Opens the table of that key in `folder`, or computes it: `compute` gives the features of a
    /// range of pictures, row by row. Goes on where an earlier process was stopped; says so when there
    /// is a table of the same pictures by other weights, which is of no use, or a damaged one, of which the
    /// sound blocks are taken over. It is replaced when all is there: who reads from it meanwhile keeps it.
    ///
    /// # Errors
    /// Those of `compute`, a full disk; `Ok(None)` when `stop` says so, asked between blocks.
    pub fn open(
        folder: &Path,
        key: &TableKey,
        voice: Voice,
        stop: &dyn Fn() -> bool,
        compute: &mut dyn FnMut(Range<usize>) -> Result<Vec<f32>, TrainError>,
    ) -> Result<Option<Self>, TrainError> {
        let path = folder.join(key.name());
        let Lying { sound, damaged } = Self::lying(&path, key)?;
        if sound.is_some() {
            return Ok(sound);
        }
        let anew = match damaged {
            Some((table, bad)) => {
                drop(table);
                let rows: usize = bad.iter().map(|&block| key.rows_of(block).len()).sum();
                let (path, all) = (path.display(), key.rows);
                Some(format!("{path} is damaged: computing {rows} of its {all} pictures anew"))
            }
            None if path.exists() => Some(format!("{} is damaged: computing anew", path.display())),
            None => of_other_weights(folder, key)
                .map(|other| format!("{} is of other weights than these: computing anew", other.display())),
        };
        if let Some(anew) = anew {
            voice.say(&format!("{:>18} {anew}", "features"));
        }
        let part = path.with_extension("part");
        let io = || TrainError::io(&part);
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(&part).map_err(io())?;
        // a second process of the same key waits, and then finds the work done
        let _ = file.lock();
        let Lying { sound, damaged } = Self::lying(&path, key)?;
        if sound.is_some() {
            return Ok(sound);
        }
        let done = whole_blocks(&file, key);
        file.set_len(if done == 0 { 0 } else { key.length(done) }).map_err(io())?;
        file.seek(SeekFrom::End(0)).map_err(io())?;
        if done == 0 {
            file.write_all(key.header().as_bytes()).map_err(io())?;
        }
        let mut progress = Progress::new(voice, "features", (done * BLOCK) as u64, key.rows as u64);
        for block in done..key.blocks() {
            let rows = key.rows_of(block);
            let kept = damaged.as_ref().and_then(|(table, _)| table.block(block).ok());
            let mut bytes: Vec<u8> = match kept {
                Some(bytes) => bytes.to_vec(),
                None => compute(rows.clone())?.iter().flat_map(|value| value.to_le_bytes()).collect(),
            };
            if bytes.len() != rows.len() * key.width * 4 {
                let reason = format!("{} bytes for {} rows of {}", bytes.len(), rows.len(), key.width);
                return Err(TrainError::corrupt(&part, reason));
            }
            let check = check(&bytes);
            bytes.extend(check);
            file.write_all(&bytes).map_err(io())?;
            progress.at(rows.end as u64, || "pictures".into());
            if stop() && block + 1 < key.blocks() {
                return Ok(None);
            }
        }
        file.sync_all().map_err(io())?;
        // Windows replaces no file that is mapped
        drop(damaged);
        fs::rename(&part, &path).map_err(io())?;
        progress.done(&format!("{} pictures", key.rows));
        Self::complete(&path, key)
    }

    /// The table that lies under its name, by whether all of its blocks agree with their checks.
    fn lying(path: &Path, key: &TableKey) -> Result<Lying, TrainError> {
        let Some(table) = Self::complete(path, key)? else { return Ok(Lying::default()) };
        let bad: Vec<usize> =
            (0..key.blocks()).into_par_iter().filter(|&block| table.block(block).is_err()).collect();
        Ok(match bad.is_empty() {
            true => Lying { sound: Some(table), damaged: None },
            false => Lying { sound: None, damaged: Some((table, bad)) },
        })
    }

    fn complete(path: &Path, key: &TableKey) -> Result<Option<Self>, TrainError> {
        let Ok(file) = File::open(path) else { return Ok(None) };
        let length = file.metadata().map_err(TrainError::io(path))?.len();
        if length != key.length(key.blocks()) || !has_header(&file, key) {
            return Ok(None);
        }
        let map = mapped(&file).map_err(TrainError::io(path))?;
        let sound = (0..key.blocks()).map(|_| AtomicBool::new(false)).collect();
        Ok(Some(Self { map, path: path.into(), key: key.clone(), sound }))
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.key.rows
    }

    /// True without pictures.
    pub fn is_empty(&self) -> bool {
        self.key.rows == 0
    }

    /// Length of a feature.
    pub fn width(&self) -> usize {
        self.key.width
    }

    /// Hands the features of these pictures to `each`, in their order.
    ///
    /// # Errors
    /// [`TrainError::Corrupt`] for a damaged block, or a picture that the table does not have.
    pub fn each(&self, pictures: &[usize], mut each: impl FnMut(&[f32])) -> Result<(), TrainError> {
        let bytes = self.key.width * 4;
        let mut row = Vec::with_capacity(self.key.width);
        for &picture in pictures {
            let at = picture % BLOCK * bytes;
            let block = self.block(picture / BLOCK)?;
            row.clear();
            row.extend(numbers(block.get(at..at + bytes).ok_or_else(|| self.damaged())?));
            each(&row);
        }
        Ok(())
    }

    /// The features of these pictures, `[pictures, width]` row by row.
    ///
    /// # Errors
    /// Those of [`each`](Self::each).
    pub fn rows(&self, pictures: &[usize]) -> Result<Vec<f32>, TrainError> {
        let mut all = Vec::with_capacity(pictures.len() * self.key.width);
        self.each(pictures, |row| all.extend_from_slice(row))?;
        Ok(all)
    }

    /// The numbers of a block as they lie in the file.
    fn block(&self, block: usize) -> Result<&[u8], TrainError> {
        let sound = self.sound.get(block).ok_or_else(|| self.damaged())?;
        let at = self.key.start(block) as usize;
        let bytes = self.map.get(at..at + self.key.bytes(block)).and_then(|bytes| bytes.split_last_chunk());
        let (bytes, stored) = bytes.ok_or_else(|| self.damaged())?;
        if !sound.load(Ordering::Relaxed) {
            if check(bytes) != *stored {
                return Err(self.damaged());
            }
            sound.store(true, Ordering::Relaxed);
        }
        Ok(bytes)
    }

    fn damaged(&self) -> TrainError {
        TrainError::corrupt(&self.path, "a block is damaged since it was opened: --resume computes it anew")
    }
}

/// What lies under a table's name.
#[derive(Default)]
struct Lying {
    sound: Option<FeatureTable>,
    /// With its damaged blocks.
    damaged: Option<(FeatureTable, Vec<usize>)>,
}

/// A file as memory, for reading.
#[allow(unsafe_code)]
fn mapped(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: nothing here writes to a table that has its own name, and any bytes are numbers. A program
    // that cuts the file short meanwhile, or a disk that fails, ends this one with SIGBUS: nothing is
    // written, and the run can be resumed.
    unsafe { Mmap::map(file) }
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

fn check(bytes: &[u8]) -> [u8; CHECK] {
    let mut check = [0; CHECK];
    check.copy_from_slice(&Sha256::digest(bytes)[..CHECK]);
    check
}

/// True for a block that is there and agrees with its check.
fn is_sound(file: &File, key: &TableKey, block: usize) -> bool {
    let mut bytes = vec![0; key.bytes(block)];
    let (numbers, stored) = match read_at(file, &mut bytes, key.start(block)) {
        Ok(()) => bytes.split_at(bytes.len() - CHECK),
        Err(_) => return false,
    };
    check(numbers) == stored
}

fn has_header(file: &File, key: &TableKey) -> bool {
    let header = key.header();
    let mut bytes = vec![0; header.len()];
    read_at(file, &mut bytes, 0).is_ok() && bytes == header.as_bytes()
}

/// Blocks of an unfinished file that are whole and sound, from the first on.
fn whole_blocks(file: &File, key: &TableKey) -> usize {
    if !has_header(file, key) {
        return 0;
    }
    (0..key.blocks()).take_while(|&block| is_sound(file, key, block)).count()
}

/// A table of the same pictures by other weights.
fn of_other_weights(folder: &Path, key: &TableKey) -> Option<PathBuf> {
    let own = key.name();
    let same_pictures = own.rsplit_once('-').map_or("", |(start, _)| start);
    let mut others = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    others.find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with(same_pictures) && name.ends_with(".f32") && name != own
    })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn key(weights: &str) -> TableKey {
        TableKey { pictures: "p".repeat(64), weights: weights.repeat(32), rows: 300, width: 3 }
    }

    fn row(picture: usize) -> [f32; 3] {
        [picture as f32, -1.5, (picture * picture) as f32]
    }

    /// Opens the table, noting which rows were computed; stops after `stop_after` blocks.
    fn open(folder: &Path, key: &TableKey, stop_after: usize) -> (Option<FeatureTable>, Vec<Range<usize>>) {
        let computed = RefCell::new(Vec::new());
        let table = FeatureTable::open(
            folder,
            key,
            Voice::Silent,
            &|| computed.borrow().len() >= stop_after,
            &mut |rows| {
                computed.borrow_mut().push(rows.clone());
                Ok(rows.flat_map(row).collect())
            },
        );
        (table.unwrap(), computed.into_inner())
    }

    #[test]
    fn is_computed_once_and_read_in_any_order() {
        let dir = tempfile::tempdir().unwrap();
        let (table, computed) = open(dir.path(), &key("ab"), 99);
        assert_eq!(computed, [0..128, 128..256, 256..300]);
        let (again, computed) = open(dir.path(), &key("ab"), 99);
        assert!(computed.is_empty());
        for table in [table.unwrap(), again.unwrap()] {
            let order = [299, 0, 128, 127, 5];
            assert_eq!(table.rows(&order).unwrap(), order.map(row).concat());
            assert!(table.rows(&[600]).is_err());
        }
    }

    #[test]
    fn goes_on_after_a_kill_and_drops_what_was_torn() {
        let dir = tempfile::tempdir().unwrap();
        let (table, computed) = open(dir.path(), &key("ab"), 2);
        assert!(table.is_none());
        assert_eq!(computed.len(), 2);
        let part = fs::read_dir(dir.path()).unwrap().flatten().next().unwrap().path();
        let bytes = fs::read(&part).unwrap();
        // (what a kill or power cut left, the first row to compute again)
        let mut garbled = bytes.clone();
        garbled[bytes.len() - 40] ^= 1;
        for (left, first) in
            [(bytes.clone(), 256), (bytes[..bytes.len() - 1].to_vec(), 128), (garbled, 128), (vec![0; 9], 0)]
        {
            let _ = fs::remove_file(dir.path().join(key("ab").name()));
            fs::write(&part, left).unwrap();
            let (table, computed) = open(dir.path(), &key("ab"), 99);
            assert_eq!(computed[0].start, first);
            let all: Vec<usize> = (0..300).collect();
            let expected: Vec<f32> = all.iter().flat_map(|&i| row(i)).collect();
            assert_eq!(table.unwrap().rows(&all).unwrap(), expected);
        }
    }

    #[test]
    fn other_weights_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), &key("ab"), 99);
        assert!(of_other_weights(dir.path(), &key("ab")).is_none());
        assert!(of_other_weights(dir.path(), &key("cd")).is_some());
        let (_, computed) = open(dir.path(), &key("cd"), 99);
        assert_eq!(computed.len(), 3);
        let other = TableKey { pictures: "q".repeat(64), ..key("ef") };
        assert!(of_other_weights(dir.path(), &other).is_none());
    }

    #[test]
    fn damaged_blocks_alone_are_computed_anew() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), &key("ab"), 99);
        let path = dir.path().join(key("ab").name());
        let sound = fs::read(&path).unwrap();
        let all: Vec<usize> = (0..300).collect();
        let expected: Vec<f32> = all.iter().flat_map(|&i| row(i)).collect();
        let flipped = |at: &[usize]| {
            let mut bytes = sound.clone();
            at.iter().for_each(|&at| bytes[at] ^= 4);
            bytes
        };
        let (first, last) = (key("ab").start(0) as usize, sound.len() - 1);
        // (what lies there, the first row of each block that is computed again)
        for (damaged, again) in [
            (flipped(&[last - 20]), vec![256]),
            (flipped(&[first + 9, last]), vec![0, 256]),
            (flipped(&[3]), vec![0, 128, 256]),
            (sound[..last].to_vec(), vec![0, 128, 256]),
        ] {
            fs::write(&path, damaged).unwrap();
            let (table, computed) = open(dir.path(), &key("ab"), 99);
            assert_eq!(computed.iter().map(|rows| rows.start).collect::<Vec<_>>(), again);
            assert_eq!(table.unwrap().rows(&all).unwrap(), expected);
            assert_eq!(fs::read(&path).unwrap(), sound);
            let (_, computed) = open(dir.path(), &key("ab"), 99);
            assert!(computed.is_empty());
        }
    }

    #[cfg(unix)]
    #[test]
    fn who_reads_from_a_damaged_table_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), &key("ab"), 99);
        let path = dir.path().join(key("ab").name());
        let reader = FeatureTable::complete(&path, &key("ab")).unwrap().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 20;
        bytes[last] ^= 4;
        fs::write(&path, bytes).unwrap();
        open(dir.path(), &key("ab"), 99);
        assert_eq!(reader.rows(&[3]).unwrap(), row(3));
        let error = reader.rows(&[299]).unwrap_err().to_string();
        assert!(error.contains("features-pppp") && error.contains("--resume"), "{error}");
    }
}

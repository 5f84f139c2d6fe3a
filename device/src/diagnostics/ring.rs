//! A bounded number of log files; the oldest makes room.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::build_id::own_build_id;
use crate::store::files::{Disk, Files};

/// What a log file begins with: the format's name and version.
pub const FORMAT: &str = "csp-diagnostics 1";
/// A file is closed once it would grow beyond this, bytes.
const FILE_SIZE: u64 = 256 << 10;
/// Files kept, the one being written among them.
const FILES: usize = 8;
/// Left free for records, bytes: the log is never what fills a card.
const ROOM: u64 = 1 << 20;
/// Between two syncs: what a power cut may take of the log.
const SYNC_EVERY: Duration = Duration::from_secs(60);

/// The first line of a log file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// GNU build id of the program that logged, as hexadecimal digits; empty when it has none.
    pub build_id: String,
    /// Its version.
    pub version: String,
    /// UTC in milliseconds since 1970 when the file was begun, by a clock that may not be set; …
    pub utc_ms: i64,
    /// … and microseconds since the program's start then, the time its frames carry.
    pub uptime_us: u64,
}

impl Header {
    /// As a line, its end included.
    pub fn line(&self) -> String {
        let id = if self.build_id.is_empty() { "-" } else { &self.build_id };
        format!("{FORMAT} {id} {} {} {}\n", self.version, self.utc_ms, self.uptime_us)
    }

    /// The header of a file and the frames after it; `None` when it does not begin with one.
    pub fn split(file: &[u8]) -> Option<(Self, &[u8])> {
        // a header is short: damage must not make the whole file one line
        let end = file.iter().take(400).position(|&byte| byte == b'\n')?;
        let line = std::str::from_utf8(file.get(..end)?).ok()?;
        let mut words = line.strip_prefix(FORMAT)?.split_whitespace();
        let build_id = words.next().map(|id| if id == "-" { String::new() } else { id.to_string() })?;
        let version = words.next()?.to_string();
        let (utc_ms, uptime_us) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some((Self { build_id, version, utc_ms, uptime_us }, file.get(end + 1..)?))
    }
}

/// The open ring.
#[derive(Debug)]
pub(super) struct Ring {
    dir: PathBuf,
    build_id: String,
    number: u32,
    file: File,
    size: u64,
    synced: Instant,
}

impl Ring {
    /// Begins a new file in a folder, which is made when missing.
    pub fn open(dir: &Path, uptime_us: u64) -> io::Result<Self> {
        roomy(dir.parent().unwrap_or(dir))?;
        fs::create_dir_all(dir)?;
        let build_id = own_build_id();
        let number = numbers(dir)?.last().map_or(1, |last| last.saturating_add(1));
        let (file, size) = begin(dir, number, &build_id, uptime_us)?;
        let ring = Self { dir: dir.into(), build_id, number, file, size, synced: Instant::now() };
        ring.prune();
        Ok(ring)
    }

    pub fn write(&mut self, frames: &[u8]) -> io::Result<()> {
        roomy(&self.dir)?;
        if self.size + frames.len() as u64 > FILE_SIZE {
            let number = self.number.saturating_add(1);
            (self.file, self.size) = begin(&self.dir, number, &self.build_id, super::uptime_us())?;
            self.number = number;
            self.prune();
        }
        self.file.write_all(frames)?;
        self.size += frames.len() as u64;
        if self.synced.elapsed() >= SYNC_EVERY {
            self.sync();
        }
        Ok(())
    }

    pub fn sync(&mut self) {
        let _ = self.file.sync_data();
        self.synced = Instant::now();
    }

    fn prune(&self) {
        let Ok(numbers) = numbers(&self.dir) else { return };
        for number in numbers.iter().rev().skip(FILES) {
            let _ = fs::remove_file(path(&self.dir, *number));
        }
    }
}

/// An error where the log would take room that records need.
fn roomy(dir: &Path) -> io::Result<()> {
    match Disk.free_bytes(dir) {
        Some(free) if free < ROOM => Err(io::ErrorKind::StorageFull.into()),
        _ => Ok(()),
    }
}

fn path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:06}.defmt"))
}

/// Numbers of the files there, ascending.
fn numbers(dir: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number: Option<u32> = name.to_str().and_then(|name| name.strip_suffix(".defmt")?.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn begin(dir: &Path, number: u32, build_id: &str, uptime_us: u64) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new().append(true).create_new(true).open(path(dir, number))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let header = Header {
        build_id: build_id.to_string(),
        version: env!("CARGO_PKG_VERSION").to_string(),
        utc_ms: i64::try_from(now.as_millis()).unwrap_or(i64::MAX),
        uptime_us,
    };
    let line = header.line();
    file.write_all(line.as_bytes())?;
    Ok((file, line.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_is_bounded_and_every_file_has_its_header() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let mut ring = Ring::open(dir.path(), 5).unwrap();
            for _ in 0..FILES * 3 {
                ring.write(&vec![1; FILE_SIZE as usize / 2]).unwrap();
            }
        }
        let numbers = numbers(dir.path()).unwrap();
        assert_eq!(numbers.len(), FILES);
        assert!(numbers[0] > 20, "{numbers:?}");
        for number in numbers {
            let bytes = fs::read(path(dir.path(), number)).unwrap();
            assert!(bytes.len() as u64 <= FILE_SIZE);
            let (header, rest) = Header::split(&bytes).unwrap();
            assert_eq!(header.version, env!("CARGO_PKG_VERSION"));
            assert!(rest.iter().all(|&byte| byte == 1));
            assert_eq!(Header::split(header.line().as_bytes()).unwrap().0, header);
        }
        assert_eq!(Header::split(b"something else\n"), None);
    }
}

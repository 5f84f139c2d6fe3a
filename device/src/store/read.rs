//! Reading a store of any condition.

use std::{
    io,
    path::{Path, PathBuf},
};

use csp_models::record::{Segment, read_segment, to_frame};

use super::files::{Disk, Files};

/// Numbers and paths of segments, oldest first.
pub type Segments = Vec<(u32, PathBuf)>;

/// The segments of a store by number, oldest first. Other files are not looked at.
///
/// # Errors
/// The folder cannot be listed.
pub fn segments(dir: &Path) -> io::Result<Segments> {
    segments_in(&Disk, dir)
}

pub(super) fn segments_in<F: Files>(files: &F, dir: &Path) -> io::Result<Segments> {
    let mut found = Vec::new();
    for (path, _) in files.list(dir)? {
        let is_segment = path.extension().is_some_and(|extension| extension == "seg");
        let number =
            path.file_stem().and_then(|stem| stem.to_str()?.parse().ok()).filter(|&number| number > 0);
        if let (true, Some(number)) = (is_segment, number) {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found)
}

/// Every segment of a store with what reads back of it, whatever its condition. Changes nothing, so it
/// is safe on a store in use.
///
/// # Errors
/// The folder or a segment cannot be read at all; the error's text names the path.
pub fn read(dir: &Path) -> io::Result<Vec<(PathBuf, Segment)>> {
    read_in(&Disk, dir)
}

/// [`read`] on another file system.
///
/// # Errors
/// As [`read`].
pub fn read_in<F: Files>(files: &F, dir: &Path) -> io::Result<Vec<(PathBuf, Segment)>> {
    let name =
        |path: &Path, error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let segments = segments_in(files, dir).map_err(|error| name(dir, error))?;
    let read = segments.into_iter().map(|(_, path)| {
        let bytes = files.read(&path).map_err(|error| name(&path, error))?;
        let segment = read_segment(&bytes);
        Ok((path, segment))
    });
    read.collect()
}

/// Tries the reader on any bytes: they are read as a segment, what reads back is written and read
/// again. For fuzzing.
///
/// # Errors
/// What must never happen, in words: bytes unaccounted for, or an entry that does not read back.
pub fn fuzz(bytes: &[u8]) -> Result<(), String> {
    let segment = read_segment(bytes);
    if segment.torn_tail > bytes.len() {
        return Err(format!("a tail of {} bytes in a segment of {}", segment.torn_tail, bytes.len()));
    }
    if let Some((at, _)) = segment.damaged.iter().find(|(at, _)| *at >= bytes.len()) {
        return Err(format!("damage at byte {at} of {}", bytes.len()));
    }
    let mut again = Vec::new();
    let Some(mut header) = segment.header else { return Ok(()) };
    header.schema = csp_models::record::RECORD_SCHEMA;
    again.extend(to_frame(&header).map_err(|error| format!("the header does not write: {error}"))?);
    for entry in &segment.entries {
        again.extend(
            to_frame(entry).map_err(|error| format!("entry {} does not write: {error}", entry.seq()))?,
        );
    }
    let back = read_segment(&again);
    if back.entries.len() != segment.entries.len() || !back.damaged.is_empty() || back.torn_tail > 0 {
        return Err(format!(
            "{} entries written, {} read back, {} damaged",
            segment.entries.len(),
            back.entries.len(),
            back.damaged.len()
        ));
    }
    Ok(())
}

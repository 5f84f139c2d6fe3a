//! Reading a store of any condition.

use std::{fs, io, path::Path, path::PathBuf};

use csp_models::record::{Segment, read_segment};

use super::Segments;

/// The segments of a store by number, oldest first. Other files are not looked at.
///
/// # Errors
/// The folder cannot be listed.
pub fn segments(dir: &Path) -> io::Result<Segments> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
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
    let name =
        |path: &Path, error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let segments = segments(dir).map_err(|error| name(dir, error))?;
    let read = segments.into_iter().map(|(_, path)| {
        let bytes = fs::read(&path).map_err(|error| name(&path, error))?;
        let segment = read_segment(&bytes);
        Ok((path, segment))
    });
    read.collect()
}

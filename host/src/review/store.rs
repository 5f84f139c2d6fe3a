//! A trap's store, read in whatever condition it comes back from the field.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use csp_models::record::{Entry, RECORD_SCHEMA, Segment, SegmentHeader, read_segment};

/// Everything readable in a store.
#[derive(Debug)]
pub struct Store {
    /// The segments, in the order they were written.
    pub segments: Vec<StoredSegment>,
}

/// One segment file.
#[derive(Debug)]
pub struct StoredSegment {
    /// Its file.
    pub path: PathBuf,
    /// What it holds.
    pub content: Segment,
}

/// Why a store cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// The directory or a segment cannot be read.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The directory or the segment.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// No segment there.
    #[error("{path}: no segments (*.seg) here; is it the --store directory of csp-device run?", path = .path.display())]
    NoSegments {
        /// The directory.
        path: PathBuf,
    },
}

impl Store {
    /// Reads every `*.seg` of a directory. Damage is kept in the segments, not an error.
    ///
    /// # Errors
    /// [`ReviewError`]: unreadable or empty.
    pub fn read(dir: &Path) -> Result<Self, ReviewError> {
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |source| ReviewError::Io { path, source }
        };
        let mut paths = Vec::new();
        for entry in fs::read_dir(dir).map_err(io(dir))? {
            let path = entry.map_err(io(dir))?.path();
            if path.extension().is_some_and(|extension| extension == "seg") {
                paths.push(path);
            }
        }
        if paths.is_empty() {
            return Err(ReviewError::NoSegments { path: dir.into() });
        }
        paths.sort();
        let mut segments = Vec::new();
        for path in paths {
            let mut content = read_segment(&fs::read(&path).map_err(io(&path))?);
            if content.newer_schema().is_some() {
                content.entries.clear();
            }
            segments.push(StoredSegment { path, content });
        }
        Ok(Self { segments })
    }

    /// All entries, in order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.segments.iter().flat_map(|segment| &segment.content.entries)
    }

    /// All entries, each with the header it stands under: a trap is renamed, a model replaced.
    pub fn headed(&self) -> impl Iterator<Item = (Option<&SegmentHeader>, &Entry)> {
        self.segments.iter().flat_map(|StoredSegment { content, .. }| {
            content.entries.iter().map(|entry| (content.header.as_ref(), entry))
        })
    }

    /// One line for every damage: what is lost and where.
    pub fn damage(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for StoredSegment { path, content } in &self.segments {
            let path = path.display();
            if let Some(found) = content.newer_schema() {
                lines.push(format!(
                    "{path}: records of schema {found}, this csp-host reads up to {RECORD_SCHEMA}: update it to see them"
                ));
                continue;
            }
            if content.header.is_none() {
                lines.push(format!(
                    "{path}: the header is damaged: trap and model of these records are unknown"
                ));
            }
            for (offset, error) in &content.damaged {
                lines.push(format!("{path}: a damaged record at byte {offset}: {error}"));
            }
            if content.torn_tail > 0 {
                lines.push(format!(
                    "{path}: the last {} bytes are an unfinished record, cut by a power failure",
                    content.torn_tail
                ));
            }
        }
        let mut expected: Option<u64> = None;
        for seq in self.entries().map(Entry::seq) {
            if let Some(expected) = expected.filter(|&expected| expected != seq) {
                lines.push(format!(
                    "record {seq} follows record {}: something between them is missing",
                    expected.saturating_sub(1)
                ));
            }
            expected = Some(seq.saturating_add(1));
        }
        lines
    }
}

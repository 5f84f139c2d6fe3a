//! The frames of one file, whatever its condition.

use alloc::vec::Vec;

use super::{Entry, FrameError, RECORD_SCHEMA, SegmentHeader, from_frame, v1};

/// What a segment holds: whole entries, and the damage between them.
#[derive(Debug, Default)]
pub struct Segment {
    /// The header, unless it is damaged.
    pub header: Option<SegmentHeader>,
    /// The entries that read back, in order.
    pub entries: Vec<Entry>,
    /// Damaged frames, each with the byte offset it starts at.
    pub damaged: Vec<(usize, FrameError)>,
    /// Bytes after the last delimiter: a write that a power failure cut.
    pub torn_tail: usize,
}

impl Segment {
    /// The schema of a segment written by newer firmware, whose entries cannot be relied on.
    pub fn newer_schema(&self) -> Option<u16> {
        self.header.as_ref().map(|header| header.schema).filter(|&schema| schema > RECORD_SCHEMA)
    }
}

/// Reads a segment of any condition; nothing readable is dropped.
///
/// Zeros after the last frame are torn as well: some file systems grow a file before they fill it.
pub fn read_segment(bytes: &[u8]) -> Segment {
    let mut segment = Segment::default();
    let mut offset = 0;
    let zeros = bytes.iter().rev().take_while(|&&byte| byte == 0).count().saturating_sub(1);
    let (bytes, filled) = bytes.split_at(bytes.len() - zeros);
    for piece in bytes.split_inclusive(|&byte| byte == 0) {
        match piece.split_last() {
            Some((0, frame)) if offset == 0 => match from_frame::<SegmentHeader>(frame) {
                Ok(header) => segment.header = Some(header),
                Err(error) => segment.damaged.push((offset, error)),
            },
            Some((0, frame)) => match entry(frame, segment.header.as_ref()) {
                Ok(entry) => segment.entries.push(entry),
                Err(error) => segment.damaged.push((offset, error)),
            },
            _ => segment.torn_tail = piece.len(),
        }
        offset += piece.len();
    }
    segment.torn_tail += filled.len();
    segment
}

/// An entry in the schema that its segment's header names; without a header it is taken for today's.
fn entry(frame: &[u8], header: Option<&SegmentHeader>) -> Result<Entry, FrameError> {
    match header.map(|header| header.schema) {
        Some(1) => from_frame::<v1::Entry>(frame).map(Entry::from),
        _ => from_frame(frame),
    }
}

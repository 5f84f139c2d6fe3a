//! Aligned bytes with room to read beyond the end.

use std::{
    ops::{Deref, DerefMut},
    slice,
};

/// Bytes a kernel may read after the last one that counts.
pub(crate) const SLACK: usize = 64;

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([i8; 64]);

/// int8 numbers that begin on a cache line, followed by at least [`SLACK`] bytes of no meaning.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffer {
    lines: Vec<Line>,
}

impl Buffer {
    /// `size` zeros and the slack.
    pub fn new(size: usize) -> Self {
        Self { lines: vec![Line([0; 64]); (size + SLACK).div_ceil(64)] }
    }
}

impl Deref for Buffer {
    type Target = [i8];

    fn deref(&self) -> &[i8] {
        // SAFETY: `Line` is `repr(C)`, 64 bytes of `i8` without padding, and the vector owns that many.
        unsafe { slice::from_raw_parts(self.lines.as_ptr().cast(), self.lines.len() * 64) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [i8] {
        // SAFETY: as above, borrowed mutably.
        unsafe { slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.lines.len() * 64) }
    }
}

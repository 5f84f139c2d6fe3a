//! Letters for PNG pictures, which cannot rely on the reader's fonts: grey levels of each glyph at one
//! size, resampled to the size that is asked for. Made by `tools/glyphs.py`.

use std::{collections::HashMap, sync::LazyLock};

static FILE: &[u8] = include_bytes!("../../assets/glyphs.bin");
static LETTERS: LazyLock<Letters> = LazyLock::new(|| Letters::read(FILE));

/// Size at which the glyphs are stored, pixels an em.
const STORED: f64 = 24.0;

struct Letters {
    height: usize,
    baseline: usize,
    glyphs: HashMap<char, Glyph>,
}

struct Glyph {
    advance: f64,
    left: f64,
    width: usize,
    /// `[height][width]`, 0 to 15
    levels: Vec<u8>,
}

impl Letters {
    /// Stops at the end of the file: the unit test holds it to its length.
    fn read(bytes: &[u8]) -> Self {
        let word = |at: usize| bytes.get(at..at + 2).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]));
        let (count, height, baseline) = (word(0), usize::from(word(2)), usize::from(word(4)));
        let (mut at, mut glyphs) = (6, HashMap::new());
        for _ in 0..count {
            let (code, advance, width) = (word(at), word(at + 2), usize::from(word(at + 4)));
            let left = f64::from(word(at + 6) as i16);
            let size = (width * height).div_ceil(2);
            let packed = bytes.get(at + 8..at + 8 + size).unwrap_or(&[]);
            let mut levels: Vec<u8> = packed.iter().flat_map(|byte| [byte & 15, byte >> 4]).collect();
            levels.truncate(width * height);
            at += 8 + size;
            if let Some(code) = char::from_u32(code.into()) {
                glyphs.insert(code, Glyph { advance: f64::from(advance), left, width, levels });
            }
        }
        Self { height, baseline, glyphs }
    }

    fn glyph(&self, letter: char) -> Option<&Glyph> {
        self.glyphs.get(&letter).or_else(|| self.glyphs.get(&'?'))
    }
}

impl Glyph {
    /// Coverage, 0 to 1, at a point in stored pixels; 0 outside.
    fn at(&self, x: f64, y: f64, height: usize) -> f64 {
        let level = |x: i64, y: i64| {
            let inside = (0..self.width as i64).contains(&x) && (0..height as i64).contains(&y);
            let value = || self.levels.get(y as usize * self.width + x as usize).copied();
            if inside { f64::from(value().unwrap_or(0)) / 15.0 } else { 0.0 }
        };
        let (x, y) = (x - 0.5, y - 0.5);
        let (i, j) = (x.floor() as i64, y.floor() as i64);
        let (u, v) = (x - x.floor(), y - y.floor());
        let across = |j: i64| level(i, j) * (1.0 - u) + level(i + 1, j) * u;
        across(j) * (1.0 - v) + across(j + 1) * v
    }
}

/// Whether there is a glyph of a letter; else a question mark stands for it.
pub(super) fn has(letter: char) -> bool {
    LETTERS.glyphs.contains_key(&letter)
}

/// Width and height of a line of text at `size` pixels an em.
pub(super) fn extent(text: &str, size: f64) -> (f64, f64) {
    let advance: f64 = text.chars().filter_map(|letter| LETTERS.glyph(letter)).map(|g| g.advance).sum();
    (advance * size / STORED, LETTERS.height as f64 * size / STORED)
}

/// Height of the baseline below the top of a line at `size` pixels an em.
pub(super) fn baseline(size: f64) -> f64 {
    LETTERS.baseline as f64 * size / STORED
}

/// Calls `dot` with the pixels of a line of text whose upper left corner is (0, 0), and their coverage.
pub(super) fn draw(text: &str, size: f64, mut dot: impl FnMut(i32, i32, f64)) {
    let scale = STORED / size;
    // a shrunk glyph is averaged over the stored pixels under one of ours
    let samples = scale.ceil().max(1.0) as u32;
    let height = (LETTERS.height as f64 / scale).ceil() as i32;
    let mut pen = 0.0;
    for glyph in text.chars().filter_map(|letter| LETTERS.glyph(letter)) {
        let start = pen + glyph.left / scale;
        let (from, to) = (start.floor() as i32, (start + glyph.width as f64 / scale).ceil() as i32);
        for y in 0..height {
            for x in from..=to {
                let mut sum = 0.0;
                for a in 0..samples {
                    for b in 0..samples {
                        let part = |i: u32| (f64::from(i) + 0.5) / f64::from(samples);
                        let (px, py) = (f64::from(x) + part(a) - start, f64::from(y) + part(b));
                        sum += glyph.at(px * scale, py * scale, LETTERS.height);
                    }
                }
                let coverage = sum / f64::from(samples * samples);
                if coverage > 0.0 {
                    dot(x, y, coverage);
                }
            }
        }
        pen += glyph.advance / scale;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_whole() {
        let bits: usize = LETTERS.glyphs.values().map(|g| 8 + g.levels.len().div_ceil(2)).sum();
        assert_eq!(FILE.len(), 6 + bits);
        assert!(('a'..='z').chain(['°', '±', '–', '%']).all(|letter| LETTERS.glyphs.contains_key(&letter)));
    }

    #[test]
    fn ink_lies_in_the_extent() {
        let (width, height) = extent("Wägung 5 %", 12.0);
        let mut ink = 0.0;
        draw("Wägung 5 %", 12.0, |x, y, coverage| {
            assert!((-1.0..=width + 1.0).contains(&f64::from(x)) && f64::from(y) <= height, "{x} {y}");
            ink += coverage;
        });
        // letters cover an eighth to a half of their line
        assert!((0.08..0.5).contains(&(ink / (width * height))), "{}", ink / (width * height));
    }
}

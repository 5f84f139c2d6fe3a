//! Numbers from a seed, and changes to bytes.

/// Xorshift: the same numbers everywhere.
#[derive(Clone, Debug)]
pub struct Random(u64);

/// Where arithmetic goes wrong.
const EDGES: [i64; 16] =
    [0, 1, -1, 2, 3, 7, 64, 127, -128, 255, 65_535, 65_536, 1 << 31, -(1 << 31), i64::MAX, i64::MIN];

impl Random {
    /// Begins at `seed`.
    pub fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d | 1);
        (0..8).for_each(|_| {
            random.next();
        });
        random
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// 0 to `count` − 1; 0 for a `count` of 0.
    pub fn below(&mut self, count: usize) -> usize {
        ((self.next() >> 32) as usize) % count.max(1)
    }

    /// True once in `n`.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of them.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len()))
    }

    /// One of them, to change.
    pub fn pick_mut<'a, T>(&mut self, from: &'a mut [T]) -> Option<&'a mut T> {
        let at = self.below(from.len());
        from.get_mut(at)
    }

    /// An integer at which arithmetic goes wrong, or a small one.
    pub fn edge(&mut self) -> i64 {
        match self.one_in(3) {
            true => self.below(20) as i64,
            false => EDGES[self.below(EDGES.len())],
        }
    }

    /// Changes bytes in one to four places; `other` lends a piece.
    pub fn bytes(&mut self, input: &[u8], other: &[u8], words: &[&[u8]]) -> Vec<u8> {
        let mut bytes = input.to_vec();
        for _ in 0..1 + self.below(4) {
            let at = self.below(bytes.len());
            let end = (at + 1 + self.below(16)).min(bytes.len());
            match self.below(8) {
                0 => bytes.truncate(at),
                1 => drop(bytes.drain(at..end)),
                2 => {
                    let piece = bytes.get(at..end).unwrap_or_default().to_vec();
                    bytes.splice(at..at, piece);
                }
                3 if !other.is_empty() => {
                    let from = self.below(other.len());
                    let to = (from + 1 + self.below(64)).min(other.len());
                    bytes.splice(at..end, other[from..to].iter().copied());
                }
                4 if !words.is_empty() => {
                    let word = words[self.below(words.len())];
                    let end = if self.one_in(2) { at } else { (at + word.len()).min(bytes.len()) };
                    bytes.splice(at..end, word.iter().copied());
                }
                5 => {
                    let edge = self.edge().to_le_bytes();
                    let length = [1, 2, 4, 8][self.below(4)];
                    for (byte, &edge) in bytes.iter_mut().skip(at).zip(&edge[..length]) {
                        *byte = edge;
                    }
                }
                6 => {
                    let noise = self.next().to_le_bytes()[0];
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = noise;
                    }
                }
                _ => {
                    let bit = 1 << self.below(8);
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= bit;
                    }
                }
            }
        }
        bytes
    }
}

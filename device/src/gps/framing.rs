//! Bytes → lines that may be sentences.
//!
//! Receivers mix NMEA with binary protocols, wrong baud rates give noise, and power cycles cut
//! sentences: a line starts at `$`, holds printable ASCII only and ends at CR or LF. Everything
//! else is dropped until the next `$`.

use core::str;

use heapless::Vec;

/// Longest sentence accepted, bytes from `$` to the checksum (the parser's own limit; NMEA says 80).
pub const MAX_SENTENCE: usize = 102;

/// Collects one sentence at a time.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: Vec<u8, MAX_SENTENCE>,
    inside: bool,
}

impl Framer {
    /// Takes a byte; returns the sentence it ended, without its line end.
    pub fn push(&mut self, byte: u8) -> Option<&str> {
        match byte {
            b'$' => {
                self.buffer.clear();
                self.inside = self.buffer.push(byte).is_ok();
                None
            }
            b'\r' | b'\n' => {
                let ended = core::mem::take(&mut self.inside);
                if ended { str::from_utf8(&self.buffer).ok() } else { None }
            }
            b' '..=b'~' if self.inside => {
                self.inside = self.buffer.push(byte).is_ok();
                None
            }
            _ => {
                self.inside = false;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::{string::String, vec::Vec};

    use super::*;

    fn frames(bytes: &[u8]) -> Vec<String> {
        let mut framer = Framer::default();
        bytes.iter().filter_map(|&byte| framer.push(byte).map(String::from)).collect()
    }

    #[test]
    fn finds_sentences_between_noise() {
        assert_eq!(frames(b"\xb5\x62$GP\x00$GPA*00\r\n!AIVDM\r\n$B*11\n\n\r"), ["$GPA*00", "$B*11"]);
        assert_eq!(frames(b"$half$whole\r"), ["$whole"]);
        assert_eq!(frames(b"no dollar\r\n"), [""; 0]);
    }

    #[test]
    fn overlong_lines_are_dropped_whole() {
        let mut bytes = Vec::from([b'$']);
        bytes.resize(MAX_SENTENCE, b'x');
        assert_eq!(frames(&[&bytes[..], b"\n"].concat()).len(), 1);
        bytes.push(b'x');
        assert_eq!(frames(&[&bytes[..], b"\n$ok\n"].concat()), ["$ok"]);
    }
}

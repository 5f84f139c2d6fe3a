//! Whether the line to the receiver lives: silence and noise, each said ever less often.

use super::event::GpsEvent;

/// Silence worth saying, milliseconds.
const SILENT_MS: u64 = 60_000;
/// Bytes without a sentence worth saying: half a minute at 4,800 baud, and more than the binary messages
/// that a receiver sends between the sentences of one second.
const NOISE_BYTES: u64 = 16 * 1024;

/// Counts what comes.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    heard_ms: u64,
    next_silent_ms: u64,
    noise_bytes: u64,
    next_noise: u64,
}

impl Default for Line {
    fn default() -> Self {
        Self { heard_ms: 0, next_silent_ms: SILENT_MS, noise_bytes: 0, next_noise: NOISE_BYTES }
    }
}

impl Line {
    /// The receiver was switched on at `now_ms`: silence counts from there.
    pub fn restart(&mut self, now_ms: u64) {
        *self = Self { heard_ms: now_ms, ..Self::default() };
    }

    /// `count` bytes came, with or without a whole sentence among them.
    pub fn heard(&mut self, count: usize, sentence: bool, now_ms: u64) -> Option<GpsEvent> {
        if count == 0 {
            return None;
        }
        let silent_ms = now_ms.saturating_sub(self.heard_ms);
        let back =
            (self.next_silent_ms > SILENT_MS).then_some(GpsEvent::ReceiverBack { seconds: silent_ms / 1000 });
        (self.heard_ms, self.next_silent_ms) = (now_ms, SILENT_MS);
        if sentence {
            (self.noise_bytes, self.next_noise) = (0, NOISE_BYTES);
        } else {
            self.noise_bytes = self.noise_bytes.saturating_add(count as u64);
        }
        if back.is_some() || self.noise_bytes < self.next_noise {
            return back;
        }
        self.next_noise = self.next_noise.saturating_mul(2);
        Some(GpsEvent::Noise { bytes: self.noise_bytes })
    }

    /// Nothing came until `now_ms`.
    pub fn waited(&mut self, now_ms: u64) -> Option<GpsEvent> {
        let silent_ms = now_ms.saturating_sub(self.heard_ms);
        if silent_ms < self.next_silent_ms {
            return None;
        }
        while self.next_silent_ms <= silent_ms {
            self.next_silent_ms = self.next_silent_ms.saturating_mul(2).max(1);
            if self.next_silent_ms == u64::MAX {
                break;
            }
        }
        Some(GpsEvent::ReceiverSilent { seconds: silent_ms / 1000 })
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn days_of_silence_are_a_dozen_events() {
        let mut line = Line::default();
        let said: Vec<GpsEvent> = (0..7 * 86_400).filter_map(|s| line.waited(s * 1000)).collect();
        assert_eq!(said.len(), 14, "{said:?}");
        assert_eq!(said[..2], [60, 120].map(|seconds| GpsEvent::ReceiverSilent { seconds }));
        let back = line.heard(5, false, 700_000_000);
        assert_eq!(back, Some(GpsEvent::ReceiverBack { seconds: 700_000 }));
        assert_eq!(line.heard(5, false, 700_001_000), None);
        assert!(line.waited(u64::MAX).is_some());
    }

    #[test]
    fn noise_is_said_sentences_between_binary_are_not() {
        let mut line = Line::default();
        let noise: Vec<GpsEvent> = (0..100).filter_map(|s| line.heard(1000, false, s * 1000)).collect();
        assert_eq!(noise.len(), 3, "17, 33 and 66 kB: {noise:?}");
        line.heard(80, true, 100_000);
        assert!((101..200).all(|s| line.heard(8000, s % 2 == 0, s * 1000).is_none()));
    }
}

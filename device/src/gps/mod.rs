//! The receiver: bytes → sentences → fixes → a place.
//!
//! | step | file | rejects |
//! |---|---|---|
//! | bytes → text | [`framing`] | noise, binary protocols, overlong lines |
//! | text → observation | [`sentence`] | bad checksums, coordinates that are none |
//! | observations of one second → fix | [`epoch`] | invalid, contradicting, dead-reckoned positions |
//! | fixes → place | [`ladder`] | nothing: it says how good the place is |

pub mod epoch;
pub mod framing;
pub mod ladder;
pub mod sentence;

use core::fmt;

use csp_models::{place::LatLon, place::Place};

pub use epoch::{Epoch, Fix, Grade};

/// Where the receiver's bytes come from.
pub trait Receiver {
    /// Why reading failed; the trap reports it and goes on without a receiver.
    type Error: fmt::Display;

    /// Copies bytes that are there into `buffer`, without waiting for more: 0 when there are none now.
    ///
    /// # Errors
    /// The source is broken (unplugged, closed by an error).
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error>;
}

/// A trap without a receiver.
pub struct NoReceiver;

impl Receiver for NoReceiver {
    type Error = core::convert::Infallible;
    fn read(&mut self, _: &mut [u8]) -> Result<usize, Self::Error> {
        Ok(0)
    }
}

/// Everything between a receiver's bytes and a [`Place`].
#[derive(Debug)]
pub struct Gps {
    framer: framing::Framer,
    filter: epoch::Filter,
    ladder: ladder::Ladder,
    /// The clock of a recording; `None` for a receiver that is heard live.
    recording: Option<Recording>,
    /// Sentences used so far, and lines that failed their checksum.
    sentences: (u32, u32),
}

/// The clock of a recording: time passes as its epochs say and stands still at its end.
#[derive(Clone, Copy, Debug, Default)]
struct Recording {
    clock_ms: u64,
    time_ms: Option<u32>,
    heard_ms: u64,
}

impl Gps {
    /// A receiver that is heard live. `earliest_day` is the firmware's build date (days since
    /// 1970-01-01): earlier dates are taken for a week rollover; `None` trusts every date.
    pub fn new(site: Option<LatLon>, earliest_day: Option<i64>) -> Self {
        Self {
            framer: framing::Framer::default(),
            filter: epoch::Filter::new(earliest_day),
            ladder: ladder::Ladder::new(site),
            recording: None,
            sentences: (0, 0),
        }
    }

    /// A recording, taken in as fast as it reads: the place is that of its end, however long ago
    /// that is heard, and the ages of fixes are counted by its own clock. Its dates are trusted.
    pub fn recorded(site: Option<LatLon>) -> Self {
        Self { recording: Some(Recording::default()), ..Self::new(site, None) }
    }

    /// Takes bytes that arrived at `now_ms` of the monotonic clock; returns the last epoch they ended.
    pub fn take(&mut self, bytes: &[u8], now_ms: u64) -> Option<Epoch> {
        let mut ended = None;
        for &byte in bytes {
            let Some(text) = self.framer.push(byte) else { continue };
            match sentence::parse(text) {
                Ok(seen) => {
                    self.sentences.0 = self.sentences.0.saturating_add(1);
                    if let Some(epoch) = self.filter.push(&seen) {
                        self.observe(&epoch, now_ms);
                        ended = Some(epoch);
                    }
                }
                Err(sentence::SentenceError::Checksum) => {
                    self.sentences.1 = self.sentences.1.saturating_add(1);
                }
                Err(_) => {}
            }
        }
        ended
    }

    /// Ends the epoch under way: the receiver has paused, or the recording is over.
    pub fn pause(&mut self, now_ms: u64) -> Option<Epoch> {
        let epoch = self.filter.finish()?;
        self.observe(&epoch, now_ms);
        Some(epoch)
    }

    /// The best place known at `now_ms`.
    pub fn place(&self, now_ms: u64) -> Option<Place> {
        self.ladder.place(self.recording.map_or(now_ms, |recording| recording.clock_ms))
    }

    /// UTC in milliseconds since 1970 at `now_ms`, once a fix has told it.
    pub fn utc_millis(&self, now_ms: u64) -> Option<i64> {
        let now = match self.recording {
            None => now_ms,
            Some(recording) => recording.clock_ms + now_ms.saturating_sub(recording.heard_ms),
        };
        self.ladder.utc_millis(now)
    }

    /// True once a fix was seen.
    pub fn has_fix(&self) -> bool {
        self.ladder.has_fix()
    }

    /// Sentences that were used, and lines that failed their checksum.
    pub fn sentences(&self) -> (u32, u32) {
        self.sentences
    }

    fn observe(&mut self, epoch: &Epoch, now_ms: u64) {
        const DAY_MS: u32 = 86_400_000;
        let Some(recording) = &mut self.recording else { return self.ladder.observe(epoch, now_ms) };
        if let Some(before) = recording.time_ms {
            let step = (epoch.time_ms + DAY_MS - before) % DAY_MS;
            // More than half a day ahead is a step back: recordings get spliced.
            recording.clock_ms += u64::from(if step > DAY_MS / 2 { 0 } else { step });
        }
        recording.time_ms = Some(epoch.time_ms);
        recording.heard_ms = now_ms;
        let clock_ms = recording.clock_ms;
        self.ladder.observe(epoch, clock_ms);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use alloc::{format, string::String, vec::Vec};

    use csp_models::place::PlaceSource;
    use proptest::prelude::*;

    use super::*;

    /// A sentence with its checksum and line end.
    pub fn line(body: &str) -> String {
        format!("${body}*{:02X}\r\n", body.bytes().fold(0, |sum, byte| sum ^ byte))
    }

    /// Seconds of a good receiver in Nairobi from 12:00:00, one epoch each.
    fn stream(seconds: u32) -> Vec<u8> {
        (0..seconds)
            .flat_map(|s| {
                let time = format!("1200{s:02}.00");
                [
                    line(&format!("GNRMC,{time},A,0117.5260,S,03649.3140,E,0.02,,231126,,,A")),
                    line(&format!("GNGGA,{time},0117.5260,S,03649.3140,E,1,09,0.92,1795.1,M,-15.3,M,,")),
                    line("GNGSA,A,3,01,04,,,,,,,,,,,1.25,0.92,1.06,1"),
                ]
            })
            .flat_map(String::into_bytes)
            .collect()
    }

    fn nairobi(place: Option<Place>) {
        let place = place.unwrap();
        assert!(place.at.distance_m(LatLon::new(-1.292_1, 36.821_9).unwrap()) < 20.0, "{place:?}");
    }

    #[test]
    fn a_stream_becomes_a_live_place_and_a_time() {
        let mut gps = Gps::new(None, None);
        assert_eq!(gps.place(0), None);
        gps.take(&stream(3), 1000);
        gps.pause(1000);
        let place = gps.place(1500);
        assert_eq!(place.unwrap().source, PlaceSource::LiveFix);
        assert_eq!(place.unwrap().uncertainty_m, 10.0);
        nairobi(place);
        // 2026-11-23T12:00:02Z, half a second later
        assert_eq!(gps.utc_millis(1500), Some(1_795_435_202_500));
    }

    #[test]
    fn a_recording_stands_still_at_its_end() {
        let mut gps = Gps::recorded(None);
        gps.take(&stream(3), 0);
        for (time, day) in [("120003.00", "231126"), ("120030.00", "231126")] {
            gps.take(line(&format!("GNRMC,{time},V,,,,,,,{day},,,N")).as_bytes(), 0);
        }
        gps.pause(0);
        // the fix of 12:00:02 was 28 s old when the recording ended, and stays so
        for now in [0, 1_000_000] {
            assert_eq!(gps.place(now).unwrap().source, PlaceSource::LastFix { age_s: 28 });
        }
        assert_eq!(gps.utc_millis(500), Some(1_795_435_230_500));
    }

    #[test]
    fn noise_gives_no_place() {
        let mut gps = Gps::new(None, None);
        let noise: Vec<u8> = (0..100_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        gps.take(&noise, 0);
        gps.pause(0);
        assert_eq!(gps.place(0), None);
    }

    proptest! {
        #[test]
        fn never_panics_and_never_invents(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
            let mut gps = Gps::new(None, Some(20_000));
            gps.take(&bytes, 0);
            gps.pause(0);
            prop_assert_eq!(gps.place(0), None);
        }

        /// Sentences cut, damaged and mixed with noise may be lost, never misread.
        #[test]
        fn damage_never_moves_the_trap(
            damage in proptest::collection::vec((0usize..3000, any::<u8>(), 0usize..40), 0..12),
        ) {
            let mut bytes = stream(12);
            for (at, value, cut) in damage {
                let at = at % bytes.len();
                bytes[at] = value;
                let end = (at + cut).min(bytes.len());
                if cut % 2 == 0 { bytes.drain(at..end); }
            }
            let mut gps = Gps::new(None, None);
            gps.take(&bytes, 0);
            gps.pause(0);
            if let Some(place) = gps.place(0) { nairobi(Some(place)); }
        }

        #[test]
        fn pieces_of_any_size_read_the_same(sizes in proptest::collection::vec(1usize..200, 1..40)) {
            let bytes = stream(5);
            let (mut whole, mut pieces) = (Gps::new(None, None), Gps::new(None, None));
            whole.take(&bytes, 0);
            let mut rest = &bytes[..];
            for size in sizes.iter().cycle() {
                if rest.is_empty() { break; }
                let (head, tail) = rest.split_at((*size).min(rest.len()));
                pieces.take(head, 0);
                rest = tail;
            }
            prop_assert_eq!(whole.place(0), pieces.place(0));
            prop_assert_eq!(whole.sentences(), pieces.sentences());
        }
    }
}

//! UTC from fixes: set only when two epochs agree, kept as an offset from the monotonic clock.

use csp_models::time::{TimeSource, Timestamp};
use serde::{Deserialize, Serialize};

use super::epoch::Fix;

/// Two epochs agree when their UTC has advanced like the monotonic clock, to within so much (ms).
pub const AGREEMENT_MS: i64 = 2_000;
/// A correction at least this large is announced, milliseconds: smaller ones are the delay of the line
/// and the drift of a crystal.
const ANNOUNCE_MS: i64 = 1_000;
/// Corrections are announced at most so often, milliseconds: a replay faster than life would tell of
/// one each second.
const ANNOUNCE_EVERY_MS: u64 = 60_000;
/// Later arrivals pull the clock back by at most so much for each epoch, milliseconds: the earliest
/// arrival of a second is the truest, and a crystal that runs fast must be followed all the same.
const FOLLOW_MS: i64 = 5;

/// What ties a boot's monotonic clock to UTC, so that what was recorded before can be dated later.
///
/// It holds for one boot: whoever records it adds the boot's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockOffset {
    /// The monotonic clock, milliseconds since the board started.
    pub monotonic_ms: u64,
    /// UTC at that moment, milliseconds since 1970.
    pub utc_millis: i64,
    /// Times 1024 weeks were added to the receiver's date: 0 for a receiver in its own era.
    pub rollovers: u8,
}

impl ClockOffset {
    /// UTC at another moment of the same boot, before or after.
    pub fn utc_millis(self, monotonic_ms: u64) -> Option<i64> {
        let at = i64::try_from(monotonic_ms).ok()?;
        self.utc_millis.checked_add(at.checked_sub(i64::try_from(self.monotonic_ms).ok()?)?)
    }

    /// A time since boot as GPS time; other times as they are. `time` has to be of the same boot.
    #[must_use]
    pub fn correct(self, time: Timestamp) -> Timestamp {
        if time.source != TimeSource::SinceBoot {
            return time;
        }
        let millis = u64::try_from(time.millis).ok().and_then(|since_boot| self.utc_millis(since_boot));
        millis.map_or(time, |millis| Timestamp { millis, source: TimeSource::Gps })
    }

    /// UTC minus monotonic time.
    fn difference(self) -> i64 {
        self.utc_millis.saturating_sub(i64::try_from(self.monotonic_ms).unwrap_or(i64::MAX))
    }
}

/// The clock was set, or corrected by a second or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockSet {
    /// The new offset.
    pub offset: ClockOffset,
    /// How far the clock went forward, milliseconds; `None` when it was not set before.
    pub step_ms: Option<i64>,
}

/// Keeps the offset.
#[derive(Clone, Copy, Debug, Default)]
pub struct UtcClock {
    /// Believe the first epoch: for a recording, whose dates are those of its time.
    believing: bool,
    candidate: Option<ClockOffset>,
    offset: Option<ClockOffset>,
    /// The last offset that was announced, and when.
    announced: Option<(i64, u64)>,
}

impl UtcClock {
    /// A clock that one epoch sets.
    pub fn believing() -> Self {
        Self { believing: true, ..Self::default() }
    }

    /// Takes a fix that arrived at `now_ms`.
    pub fn observe(&mut self, fix: &Fix, now_ms: u64) -> Option<ClockSet> {
        let utc_millis = fix.utc_millis?;
        let seen = ClockOffset { monotonic_ms: now_ms, utc_millis, rollovers: fix.rollovers };
        let Some(before) = self.candidate.replace(seen) else {
            self.offset = self.believing.then_some(seen);
            return None;
        };
        let agree = |other: i64| seen.difference().saturating_sub(other).saturating_abs() <= AGREEMENT_MS;
        // The same epoch again agrees with itself and proves nothing.
        if !agree(before.difference()) || before.utc_millis == utc_millis {
            return None;
        }
        let difference = match self.offset.map(ClockOffset::difference) {
            Some(old) if agree(old) => seen.difference().max(old.saturating_sub(FOLLOW_MS)),
            _ => seen.difference().max(before.difference()),
        };
        let utc_millis = difference.saturating_add(i64::try_from(now_ms).ok()?);
        let offset = ClockOffset { utc_millis, ..seen };
        self.offset = Some(offset);
        let step_ms = self.announced.map(|(old, _)| difference.saturating_sub(old));
        let recent = self.announced.is_some_and(|(_, then)| now_ms.saturating_sub(then) < ANNOUNCE_EVERY_MS);
        if recent || step_ms.is_some_and(|step| step.saturating_abs() < ANNOUNCE_MS) {
            return None;
        }
        self.announced = Some((difference, now_ms));
        Some(ClockSet { offset, step_ms })
    }

    /// What ties the monotonic clock to UTC, once it is known.
    pub fn offset(&self) -> Option<ClockOffset> {
        self.offset
    }
}

#[cfg(test)]
mod tests {
    use csp_models::place::LatLon;
    use proptest::prelude::*;

    use super::{super::Grade, *};

    fn fix(utc_millis: i64) -> Fix {
        Fix {
            at: LatLon::new(1.0, 2.0).unwrap(),
            uncertainty_m: 10.0,
            utc_millis: Some(utc_millis),
            rollovers: 0,
            satellites: None,
            hdop: None,
            speed_mps: None,
            grade: Grade::Good,
        }
    }

    const NOON: i64 = 1_795_435_200_000;

    #[test]
    fn two_epochs_have_to_agree() {
        let mut clock = UtcClock::default();
        assert_eq!(clock.observe(&fix(NOON), 5_000), None);
        assert_eq!(clock.observe(&fix(NOON), 5_100), None, "the same epoch again");
        assert_eq!(clock.observe(&fix(NOON + 60_000), 6_000), None, "a minute in a second");
        assert_eq!(clock.offset(), None);
        let set = clock.observe(&fix(NOON + 61_000), 7_000).unwrap();
        assert_eq!((set.step_ms, set.offset.utc_millis(7_500)), (None, Some(NOON + 61_500)));
        // one wrong date does nothing, two are believed and said
        assert_eq!(clock.observe(&fix(0), 8_000), None);
        assert_eq!(clock.offset().unwrap().utc_millis(8_000), Some(NOON + 62_000));
        assert_eq!(clock.observe(&fix(NOON + 63_000), 9_000), None);
        assert_eq!(clock.observe(&fix(NOON + 3_764_000), 110_000), None);
        let step = clock.observe(&fix(NOON + 3_765_000), 111_000).unwrap();
        assert_eq!(step.step_ms, Some(3_600_000));
    }

    #[test]
    fn a_recording_is_believed_at_once() {
        let mut clock = UtcClock::believing();
        clock.observe(&fix(NOON), 0);
        assert_eq!(clock.offset().unwrap().utc_millis(10), Some(NOON + 10));
    }

    #[test]
    fn what_was_recorded_before_is_dated_later() {
        let offset = ClockOffset { monotonic_ms: 60_000, utc_millis: NOON, rollovers: 0 };
        let dated = |millis, source| offset.correct(Timestamp { millis, source });
        let gps = Timestamp { millis: NOON - 59_000, source: TimeSource::Gps };
        assert_eq!(dated(1_000, TimeSource::SinceBoot), gps);
        assert_eq!(dated(1_000, TimeSource::Rtc), Timestamp { millis: 1_000, source: TimeSource::Rtc });
        assert_eq!(offset.utc_millis(u64::MAX), None);
    }

    proptest! {
        /// Whatever the line delays and the crystal drifts: the clock lags by no more than the least delay.
        #[test]
        fn the_earliest_arrival_counts(
            delays in proptest::collection::vec(50u64..1_500, 40..200), ppm in -50i64..50,
        ) {
            let mut clock = UtcClock::default();
            for (second, delay) in delays.iter().enumerate() {
                let true_ms = 1000 * second as u64;
                let arrival = true_ms + delay;
                let now = 10_000 + arrival.saturating_add_signed(arrival as i64 * ppm / 1_000_000);
                clock.observe(&fix(NOON + true_ms as i64), now);
            }
            let end = 1000 * delays.len() as i64;
            let now = 10_000 + end + end * ppm / 1_000_000;
            let error = clock.offset().unwrap().utc_millis(now as u64).unwrap() - (NOON + end);
            prop_assert!((-1_500..=20).contains(&error), "{}", error);
        }

        #[test]
        fn any_numbers_are_taken(pairs in proptest::collection::vec((any::<i64>(), any::<u64>()), 0..20)) {
            let mut clock = UtcClock::default();
            for (utc, now) in pairs {
                clock.observe(&fix(utc), now);
                if let Some(offset) = clock.offset() { offset.utc_millis(now / 2); }
            }
        }
    }
}

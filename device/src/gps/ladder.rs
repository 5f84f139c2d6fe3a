//! The best place there is: live fix → last fix → configured site → none.

use csp_models::place::{LatLon, Place, PlaceSource};

use super::epoch::{Epoch, Fix, Grade};

/// A fix counts as live for so long after it came, milliseconds.
pub const LIVE_MS: u64 = 10_000;
/// A trap stands still, but it can be carried off while its receiver is silent: metres of doubt
/// added for each whole hour since the last fix.
const DRIFT_M_PER_HOUR: f64 = 10.0;
/// The most doubt that is added, metres.
const MAX_DRIFT_M: f64 = 5_000.0;

/// Remembers what the receiver said last.
#[derive(Debug)]
pub struct Ladder {
    site: Option<LatLon>,
    last: Option<Held>,
    clock: Option<(i64, u64)>,
    /// The receiver's latest epoch had a fix.
    tracking: bool,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    fix: Fix,
    seen_ms: u64,
}

impl Ladder {
    /// A trap at `site`, if that is known.
    pub fn new(site: Option<LatLon>) -> Self {
        Self { site, last: None, clock: None, tracking: false }
    }

    /// Takes an epoch that ended at `now_ms` of the monotonic clock.
    pub fn observe(&mut self, epoch: &Epoch, now_ms: u64) {
        self.tracking = epoch.fix.is_some();
        let Some(fix) = epoch.fix else { return };
        if let Some(utc) = fix.utc_millis {
            self.clock = Some((utc, now_ms));
        }
        // A coarse fix does not displace a good one that is still fresh.
        let displaces = |held: Held| {
            fix.grade >= Grade::Good
                || held.fix.grade == Grade::Coarse
                || now_ms.saturating_sub(held.seen_ms) > LIVE_MS
        };
        if self.last.is_none_or(displaces) {
            self.last = Some(Held { fix, seen_ms: now_ms });
        }
    }

    /// The best place known at `now_ms`.
    pub fn place(&self, now_ms: u64) -> Option<Place> {
        let Some(Held { fix, seen_ms }) = self.last else { return self.site.map(Place::configured) };
        let age_ms = now_ms.saturating_sub(seen_ms);
        if self.tracking && age_ms <= LIVE_MS {
            return Some(Place {
                at: fix.at,
                uncertainty_m: fix.uncertainty_m,
                source: PlaceSource::LiveFix,
            });
        }
        let age_s = age_ms / 1000;
        let drift = ((age_s / 3600) as f64 * DRIFT_M_PER_HOUR).min(MAX_DRIFT_M);
        let source = PlaceSource::LastFix { age_s };
        Some(Place { at: fix.at, uncertainty_m: fix.uncertainty_m + drift, source })
    }

    /// True once a fix was seen.
    pub fn has_fix(&self) -> bool {
        self.last.is_some()
    }

    /// UTC at `now_ms`, milliseconds since 1970: the last fix's plus the time since.
    pub fn utc_millis(&self, now_ms: u64) -> Option<i64> {
        let (utc, seen_ms) = self.clock?;
        let since = i64::try_from(now_ms.saturating_sub(seen_ms)).ok()?;
        utc.checked_add(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fix(lat: f64, grade: Grade) -> Option<Fix> {
        let at = LatLon::new(lat, 5.0).unwrap();
        Some(Fix {
            at,
            uncertainty_m: 10.0,
            utc_millis: Some(1_000_000),
            satellites: None,
            hdop: None,
            grade,
        })
    }

    #[test]
    fn goes_down_the_ladder() {
        let site = LatLon::new(50.0, 5.0).unwrap();
        let mut ladder = Ladder::new(Some(site));
        assert_eq!(ladder.place(0), Some(Place::configured(site)));
        assert_eq!(Ladder::new(None).place(0), None);

        ladder.observe(&Epoch { time_ms: 0, fix: fix(51.0, Grade::Good) }, 1_000);
        let source = |ladder: &Ladder, now| ladder.place(now).unwrap().source;
        assert_eq!(source(&ladder, 1_000), PlaceSource::LiveFix);
        assert_eq!(source(&ladder, 11_000), PlaceSource::LiveFix);
        assert_eq!(source(&ladder, 12_000), PlaceSource::LastFix { age_s: 11 });

        // the receiver says at once that it lost the sky
        ladder.observe(&Epoch { time_ms: 0, fix: None }, 2_000);
        assert_eq!(source(&ladder, 3_500), PlaceSource::LastFix { age_s: 2 });
        assert_eq!(ladder.place(3_500).unwrap().at.lat(), 51.0);
        assert_eq!(ladder.utc_millis(3_500), Some(1_002_500));
        // a day later the place is less certain, a year later no worse than the cap
        assert_eq!(ladder.place(86_401_000).unwrap().uncertainty_m, 250.0);
        assert_eq!(ladder.place(u64::MAX).unwrap().uncertainty_m, 5_010.0);
    }

    #[test]
    fn a_coarse_fix_waits_for_a_good_one_to_age() {
        let mut ladder = Ladder::new(None);
        ladder.observe(&Epoch { time_ms: 0, fix: fix(51.0, Grade::Good) }, 0);
        ladder.observe(&Epoch { time_ms: 0, fix: fix(52.0, Grade::Coarse) }, 5_000);
        assert_eq!(ladder.place(5_000).unwrap().at.lat(), 51.0);
        ladder.observe(&Epoch { time_ms: 0, fix: fix(52.0, Grade::Coarse) }, 15_000);
        assert_eq!(ladder.place(15_000).unwrap().at.lat(), 52.0);
    }
}

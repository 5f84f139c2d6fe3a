//! The best place there is: live fix → last fix → last known before a restart → configured site → none.

use csp_models::place::{LatLon, Place, PlaceSource};

use super::{
    epoch::{Epoch, Fix, Grade},
    remembered::Remembered,
    still::{Estimate, Moved, Still},
};

/// A fix counts as live for so long after it came, milliseconds.
pub const LIVE_MS: u64 = 10_000;
/// The age of a last known place that no clock can tell, seconds: it counts as a year old.
pub const UNKNOWN_AGE_S: u64 = 365 * 86_400;
/// A trap stands still, but it can be carried off while its receiver is silent: metres of doubt
/// added for each whole hour since the last fix.
const DRIFT_M_PER_HOUR: f64 = 10.0;
/// The most doubt that is added, metres.
const MAX_DRIFT_M: f64 = 5_000.0;

/// Remembers what the receiver said.
#[derive(Debug)]
pub struct Ladder {
    site: Option<LatLon>,
    recalled: Option<Recalled>,
    last: Option<Held>,
    still: Still,
    /// The receiver's latest epoch had a fix.
    tracking: bool,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    fix: Fix,
    seen_ms: u64,
}

/// A place of an earlier boot.
#[derive(Clone, Copy, Debug)]
struct Recalled {
    estimate: Estimate,
    /// Its age at `since_ms`, when it is known.
    age_s: Option<u64>,
    since_ms: u64,
}

impl Ladder {
    /// A trap at `site`, if that is known.
    pub fn new(site: Option<LatLon>) -> Self {
        Self { site, recalled: None, last: None, still: Still::default(), tracking: false }
    }

    /// Where the trap is configured to be.
    pub fn site(&self) -> Option<LatLon> {
        self.site
    }

    /// Takes the place of an earlier boot, of that age at `now_ms`.
    pub fn recall(&mut self, remembered: &Remembered, age_s: Option<u64>, now_ms: u64) {
        let Remembered { at, uncertainty_m, .. } = *remembered;
        self.recalled = Some(Recalled { estimate: Estimate { at, uncertainty_m }, age_s, since_ms: now_ms });
        self.still = Still::recalled(at, uncertainty_m);
    }

    /// Takes an epoch that ended at `now_ms` of the monotonic clock.
    pub fn observe(&mut self, epoch: &Epoch, now_ms: u64) -> Option<Moved> {
        self.tracking = epoch.fix.is_ok();
        let fix = epoch.fix.ok()?;
        // A coarse fix does not displace a good one that is still fresh.
        let displaces = |held: Held| {
            fix.grade >= Grade::Good
                || held.fix.grade == Grade::Coarse
                || now_ms.saturating_sub(held.seen_ms) > LIVE_MS
        };
        if self.last.is_none_or(displaces) {
            self.last = Some(Held { fix, seen_ms: now_ms });
        }
        self.still.push(&fix, epoch.time_ms, now_ms)
    }

    /// The best place known at `now_ms`.
    pub fn place(&self, now_ms: u64) -> Option<Place> {
        let aged = |estimate: Estimate, age_s: u64| {
            let drift = ((age_s / 3600) as f64 * DRIFT_M_PER_HOUR).min(MAX_DRIFT_M);
            let source = PlaceSource::LastFix { age_s };
            Place { at: estimate.at, uncertainty_m: estimate.uncertainty_m + drift, source }
        };
        if let Some(Held { fix, seen_ms }) = self.last {
            let Fix { at, uncertainty_m, .. } = fix;
            let estimate = self.still.estimate().unwrap_or(Estimate { at, uncertainty_m });
            if self.is_live(now_ms) {
                let Estimate { at, uncertainty_m } = estimate;
                return Some(Place { at, uncertainty_m, source: PlaceSource::LiveFix });
            }
            return Some(aged(estimate, now_ms.saturating_sub(seen_ms) / 1000));
        }
        let recalled = self.recalled.map(|Recalled { estimate, age_s, since_ms }| {
            let since = now_ms.saturating_sub(since_ms) / 1000;
            aged(estimate, age_s.unwrap_or(UNKNOWN_AGE_S).saturating_add(since))
        });
        recalled.or_else(|| self.site.map(Place::configured))
    }

    /// True while the receiver has a fix.
    pub fn is_live(&self, now_ms: u64) -> bool {
        self.tracking && self.last.is_some_and(|held| now_ms.saturating_sub(held.seen_ms) <= LIVE_MS)
    }

    /// True while fixes disagree with where the trap is thought to be.
    pub fn in_doubt(&self) -> bool {
        self.still.in_doubt()
    }

    /// How well the last fix was supported; `None` before the first.
    pub fn grade(&self) -> Option<Grade> {
        self.last.map(|held| held.fix.grade)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Refusal, *};

    fn fix(lat: f64, grade: Grade) -> Result<Fix, Refusal> {
        let at = LatLon::new(lat, 5.0).unwrap();
        Ok(Fix {
            at,
            uncertainty_m: 10.0,
            utc_millis: None,
            rollovers: 0,
            speed_mps: None,
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
        ladder.observe(&Epoch { time_ms: 0, fix: Err(Refusal::Void) }, 2_000);
        assert_eq!(source(&ladder, 3_500), PlaceSource::LastFix { age_s: 2 });
        assert_eq!(ladder.place(3_500).unwrap().at.lat(), 51.0);
        // a day later the place is less certain, a year later no worse than the cap
        assert_eq!(ladder.place(86_401_000).unwrap().uncertainty_m, 250.0);
        assert_eq!(ladder.place(u64::MAX).unwrap().uncertainty_m, 5_010.0);
    }

    #[test]
    fn a_place_of_an_earlier_boot_stands_below_a_fix_and_above_the_site() {
        let (before, site) = (LatLon::new(51.0, 5.0).unwrap(), LatLon::new(50.0, 5.0).unwrap());
        let remembered = Remembered { at: before, uncertainty_m: 6.0, utc_millis: None, site: Some(site) };
        let mut ladder = Ladder::new(Some(site));
        ladder.recall(&remembered, Some(3600), 0);
        let place = ladder.place(60_000).unwrap();
        assert_eq!((place.at, place.source), (before, PlaceSource::LastFix { age_s: 3660 }));
        assert_eq!(place.uncertainty_m, 16.0);
        // an age that no clock can tell counts as old
        ladder.recall(&remembered, None, 0);
        assert_eq!(ladder.place(0).unwrap().uncertainty_m, 5_006.0);
        // a fix of now is believed, wherever it is
        ladder.observe(&Epoch { time_ms: 0, fix: fix(52.0, Grade::Good) }, 1_000);
        assert_eq!(ladder.place(1_000).unwrap().at.lat(), 52.0);
        assert_eq!(ladder.place(1_000).unwrap().source, PlaceSource::LiveFix);
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

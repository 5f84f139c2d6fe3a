//! Sentences of one second → a fix, or none.
//!
//! An epoch is every sentence with the same time of day; GSA carries no time and belongs to the
//! epoch it arrives in. One invalid sentence, or two positions that differ, and the epoch has no fix.

use csp_models::place::LatLon;

use super::sentence::{Kind, Observation, Standing};

/// A position the receiver stands behind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fix {
    /// Where.
    pub at: LatLon,
    /// Radius in metres within which the true position lies (about 95 %): HDOP × 6, at least 10.
    pub uncertainty_m: f64,
    /// UTC, milliseconds since 1970, when the epoch carried a believable date.
    pub utc_millis: Option<i64>,
    /// Times 1024 weeks were added to the date that was sent.
    pub rollovers: u8,
    /// Satellites used.
    pub satellites: Option<u8>,
    /// Horizontal dilution of precision.
    pub hdop: Option<f32>,
    /// Speed over ground, metres a second.
    pub speed_mps: Option<f32>,
    /// How well it is supported.
    pub grade: Grade,
}

/// How well a fix is supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Grade {
    /// Two-dimensional, few satellites, poor geometry, or one kind of sentence only.
    Coarse,
    /// RMC and GGA agree, not 2D, HDOP ≤ 2.5, at least 5 satellites.
    Good,
}

/// The end of an epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Epoch {
    /// Milliseconds since midnight UTC.
    pub time_ms: u32,
    /// The fix, or why there is none.
    pub fix: Result<Fix, Refusal>,
}

/// Why an epoch has no fix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Refusal {
    /// The receiver says so.
    #[error("no fix")]
    Void,
    /// Dead reckoning, a position entered by hand, a simulator.
    #[error("not measured: estimated, entered by hand or simulated")]
    Reckoned,
    /// A sentence whose coordinates are none.
    #[error("no position, or none that can be read")]
    NoPosition,
    /// Sentences of one second that name different places.
    #[error("sentences of one second contradict each other")]
    Contradiction,
}

/// Two positions of one epoch may differ by rounding in the sentences, not by more (degrees).
const AGREEMENT_DEG: f64 = 2e-4;
/// Uncertainty of a fix without HDOP, metres.
const UNKNOWN_HDOP_M: f64 = 50.0;
/// 1024 weeks: the period of the GPS week number.
const ROLLOVER_DAYS: i64 = 7 * 1024;
/// A firmware older than this does not believe its own build date, days (15 years).
const HORIZON_DAYS: i64 = 15 * 365;

/// Joins sentences into epochs.
#[derive(Debug)]
pub struct Filter {
    earliest_day: Option<i64>,
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    time_ms: u32,
    day: Option<i64>,
    /// Rmc, Gga, Gns, Gll.
    positions: [Option<Observation>; 4],
    gsa: Option<Observation>,
}

impl Filter {
    /// See [`Gps::new`](super::Gps::new).
    pub fn new(earliest_day: Option<i64>) -> Self {
        Self { earliest_day, open: None }
    }

    /// Takes a sentence; returns the epoch that it ended.
    pub fn push(&mut self, seen: &Observation) -> Option<Epoch> {
        if seen.kind == Kind::Gsa {
            if let Some(open) = &mut self.open {
                // One GSA for each constellation: the best geometry is that of the fix.
                let keep = open.gsa.is_some_and(|held| held.three_d >= seen.three_d);
                open.gsa = if keep { open.gsa } else { Some(*seen) };
            }
            return None;
        }
        // Without a time of day (before the first satellite) there is nothing to join.
        let time_ms = seen.time_ms?;
        let ended = match &self.open {
            Some(open) if open.time_ms != time_ms => self.finish(),
            _ => None,
        };
        let open = self.open.get_or_insert(Open { time_ms, day: None, positions: [None; 4], gsa: None });
        open.day = open.day.or(seen.day);
        let slot = match seen.kind {
            Kind::Rmc => 0,
            Kind::Gga => 1,
            Kind::Gns => 2,
            Kind::Gll => 3,
            Kind::Gsa | Kind::Zda => return ended,
        };
        open.positions[slot] = Some(*seen);
        ended
    }

    /// Ends the epoch under way.
    pub fn finish(&mut self) -> Option<Epoch> {
        let open = self.open.take()?;
        // ZDA alone is a clock, not an epoch without a fix.
        open.positions
            .iter()
            .any(Option::is_some)
            .then(|| Epoch { time_ms: open.time_ms, fix: self.fix(&open) })
    }

    fn fix(&self, open: &Open) -> Result<Fix, Refusal> {
        let seen = || open.positions.iter().flatten();
        let any = |standing| seen().chain(&open.gsa).any(|sentence| sentence.standing == standing);
        if any(Standing::Void) {
            return Err(Refusal::Void);
        }
        if any(Standing::Reckoned) {
            return Err(Refusal::Reckoned);
        }
        // GGA and GNS first: they usually carry the most decimals.
        let [rmc, gga, gns, gll] = open.positions;
        let at = [gga, gns, rmc, gll].iter().flatten().find_map(|sentence| sentence.at);
        let at = at.filter(|_| seen().all(|sentence| sentence.at.is_some())).ok_or(Refusal::NoPosition)?;
        if seen().filter_map(|sentence| sentence.at).any(|other| !agree(at, other)) {
            return Err(Refusal::Contradiction);
        }
        let satellites = seen().find_map(|sentence| sentence.satellites);
        let hdop = seen().find_map(|sentence| sentence.hdop).or(open.gsa.and_then(|gsa| gsa.hdop));
        let good = rmc.is_some()
            && (gga.is_some() || gns.is_some())
            && open.gsa.is_none_or(|gsa| gsa.three_d == Some(true))
            && hdop.is_some_and(|hdop| hdop <= 2.5)
            && satellites.is_some_and(|count| count >= 5);
        let day = open.day.and_then(|day| self.believe(day));
        Ok(Fix {
            at,
            uncertainty_m: hdop.map_or(UNKNOWN_HDOP_M, |hdop| f64::from(hdop) * 6.0).max(10.0),
            utc_millis: day.map(|(day, _)| day * 86_400_000 + i64::from(open.time_ms)),
            rollovers: day.map_or(0, |(_, rollovers)| rollovers),
            satellites,
            hdop,
            speed_mps: seen().find_map(|sentence| sentence.speed_mps),
            grade: if good { Grade::Good } else { Grade::Coarse },
        })
    }

    /// The day meant, and how often 1024 weeks were added for it: a date before the firmware was
    /// built is a rolled-over week counter, or nonsense.
    fn believe(&self, day: i64) -> Option<(i64, u8)> {
        let Some(earliest) = self.earliest_day else { return Some((day, 0)) };
        (0..=2)
            .map(|times| (day + i64::from(times) * ROLLOVER_DAYS, times))
            .find(|(day, _)| (earliest..=earliest + HORIZON_DAYS).contains(day))
    }
}

fn agree(a: LatLon, b: LatLon) -> bool {
    let east = (a.lon() - b.lon()).abs();
    (a.lat() - b.lat()).abs() <= AGREEMENT_DEG && east.min(360.0 - east) <= AGREEMENT_DEG
}

#[cfg(test)]
mod tests {
    use alloc::{format, vec::Vec};

    use super::{super::sentence, super::tests::line, *};

    fn run(earliest_day: Option<i64>, bodies: &[&str]) -> Vec<Epoch> {
        let mut filter = Filter::new(earliest_day);
        let sentences = bodies.iter().map(|body| sentence::parse(line(body).trim_end()).unwrap());
        let mut epochs: Vec<Epoch> = sentences.filter_map(|seen| filter.push(&seen)).collect();
        epochs.extend(filter.finish());
        epochs
    }

    const RMC: &str = "GNRMC,120000.00,A,0117.5260,S,03649.3140,E,0.02,,231126,,,A";
    const GGA: &str = "GNGGA,120000.00,0117.5260,S,03649.3140,E,1,09,0.92,1795.1,M,-15.3,M,,";
    const GLL: &str = "GNGLL,0117.5260,S,03649.3140,E,120000.00,A,A";

    #[test]
    fn rmc_and_gga_join_to_a_good_fix() {
        let epochs = run(None, &[RMC, GGA, "GNGSA,A,3,01,04,,,,,,,,,,,1.25,0.92,1.06,1"]);
        let [Epoch { fix: Ok(fix), .. }] = epochs[..] else { panic!("{epochs:?}") };
        assert_eq!((fix.grade, fix.satellites, fix.hdop), (Grade::Good, Some(9), Some(0.92)));
        assert_eq!(fix.utc_millis, Some(1_795_435_200_000));
    }

    #[test]
    fn half_of_them_is_a_coarse_fix() {
        for bodies in [&[RMC][..], &[GGA], &[GGA, GLL], &[GLL]] {
            let epochs = run(None, bodies);
            let [Epoch { fix: Ok(fix), .. }] = epochs[..] else { panic!("{bodies:?}: {epochs:?}") };
            assert_eq!(fix.grade, Grade::Coarse);
            assert!(fix.uncertainty_m >= 10.0);
        }
    }

    #[test]
    fn doubt_means_no_fix() {
        let void = "GNRMC,120000.00,V,0117.5260,S,03649.3140,E,0.02,,231126,,,N";
        let elsewhere = "GNRMC,120000.00,A,0217.5260,S,03649.3140,E,0.02,,231126,,,A";
        let reckoned = "GNRMC,120000.00,A,0117.5260,S,03649.3140,E,0.02,,231126,,,E";
        let nowhere = "GNGGA,120000.00,0000.0000,N,00000.0000,E,1,09,0.92,1795.1,M,-15.3,M,,";
        let no_fix = "GNGSA,A,1,,,,,,,,,,,,,99.99,99.99,99.99,1";
        for (bodies, expected) in [
            (&[void, GGA][..], Refusal::Void),
            (&[elsewhere, GGA], Refusal::Contradiction),
            (&[reckoned, GGA], Refusal::Reckoned),
            (&[RMC, nowhere], Refusal::NoPosition),
            (&[RMC, GGA, no_fix], Refusal::Void),
        ] {
            let epochs = run(None, bodies);
            let [Epoch { fix: Err(refusal), .. }] = epochs[..] else { panic!("{bodies:?}: {epochs:?}") };
            assert_eq!(refusal, expected, "{bodies:?}");
        }
    }

    #[test]
    fn epochs_do_not_mix() {
        // 23:59:59 has a date, 00:00:00 has none yet: a date carried over would be a day off
        let before = "GNRMC,235959.00,A,0117.5260,S,03649.3140,E,0.02,,231126,,,A";
        let after = "GNGGA,000000.00,0117.5260,S,03649.3140,E,1,09,0.92,1795.1,M,-15.3,M,,";
        let times: Vec<_> =
            run(None, &[before, after]).iter().map(|epoch| epoch.fix.unwrap().utc_millis).collect();
        assert_eq!(times, [Some(1_795_478_399_000), None]);
    }

    #[test]
    fn rolled_over_weeks_are_put_right() {
        let built = 20_700; // 2026-09-04
        let dated = |date: &str| {
            let body = format!("GNRMC,120000.00,A,0117.5260,S,03649.3140,E,0.02,,{date},,,A");
            let fix = run(Some(built), &[&body])[0].fix.unwrap();
            (fix.utc_millis, fix.rollovers)
        };
        assert_eq!(dated("231126"), (Some(1_795_435_200_000), 0));
        // 1024 weeks before 2026-11-23
        assert_eq!(dated("090407"), (Some(1_795_435_200_000), 1));
        // 2000-01-01 is two rollovers before 2039-04-02, within 15 years of the build
        assert_eq!(dated("010100"), (Some(25_293 * 86_400_000 + 43_200_000), 2));
        // 2060 is beyond them
        assert_eq!(dated("010160"), (None, 0));
    }
}

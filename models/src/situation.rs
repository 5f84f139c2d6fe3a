//! Where and when: what position features are computed from.

use alloc::{vec, vec::Vec};

use crate::{place::LatLon, time::YearFraction};

/// Dates that stand for the whole year.
pub const YEAR_DATES: u32 = 12;

/// A place at a time of the year.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Situation {
    /// Where.
    pub at: LatLon,
    /// When, where it is known; only encoders with a season look at it.
    pub date: Option<YearFraction>,
}

impl Situation {
    /// A place at a date.
    pub fn new(at: LatLon, date: Option<YearFraction>) -> Self {
        Self { at, date }
    }

    /// A place at a date that is not known.
    pub fn undated(at: LatLon) -> Self {
        Self { at, date: None }
    }

    /// Situations over which the presence is averaged: the middles of twelve equal parts of the year
    /// where a `seasonal` model has to answer without a date, else this one alone.
    pub fn spread(self, seasonal: bool) -> Vec<Self> {
        match seasonal && self.date.is_none() {
            false => vec![self],
            true => (0..YEAR_DATES)
                .map(|part| YearFraction::new((f64::from(part) + 0.5) / f64::from(YEAR_DATES)))
                .map(|date| Self { date, ..self })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_year_is_spread_evenly_and_only_where_it_must_be() {
        let at = LatLon::new(1.0, 2.0).unwrap();
        let bare = Situation::undated(at);
        assert_eq!(bare.spread(false), [bare]);
        let dated = Situation::new(at, YearFraction::new(0.3));
        assert_eq!(dated.spread(true), [dated]);
        let year = bare.spread(true);
        assert_eq!(year.len(), 12);
        // their features cancel out, as those of an unknown date in training
        let angle = |s: &Situation| 2.0 * core::f64::consts::PI * s.date.unwrap().value();
        let mean = |f: fn(f64) -> f64| year.iter().map(|s| f(angle(s))).sum::<f64>() / 12.0;
        assert!(mean(libm::sin).abs() < 1e-15 && mean(libm::cos).abs() < 1e-15);
    }
}

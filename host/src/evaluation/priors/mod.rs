//! Priors without a network: what a location encoder has to beat. Each is fitted to labelled places
//! and tuned on cells of them that it has not learned from, never on what is reported.
//!
//! They answer with *shares* of the classes, which sum to 1; [`presence`] puts those on the scale of
//! the networks' scores, so that every prior is fused and calibrated the same way.
//!
//! Where rows are dated, settings that tell the seasons apart are among those that are tried; give
//! undated [`Seen`] where the networks do not look at dates either.

mod histogram;
mod kernel;
mod neighbours;

use std::collections::BTreeSet;

use csp_models::{labels::ClassId, situation::Situation, time::YearFraction};
use rayon::prelude::*;

use crate::{
    data::units,
    training::calibrate::{self, Opinion},
};

pub use histogram::Histogram;
pub use kernel::Kernel;
pub use neighbours::Neighbours;
pub(super) use neighbours::{apart, on_sphere};

/// Shares of the classes at a place and date.
pub trait Prior: Sync {
    /// `[classes]`, each above 0, summing to 1; over the whole year where the date is not known.
    fn shares(&self, here: Situation) -> Vec<f64>;
    /// Its settings, in words.
    fn setting(&self) -> String;
}

/// The kinds of prior.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`Neighbours`].
    Neighbours,
    /// [`Histogram`].
    Histogram,
    /// [`Kernel`].
    Kernel,
}

/// A labelled place, with its date where dates are to count.
pub type Seen = (Situation, ClassId);

/// The date as a point of the year's circle of radius 1: twelve months apart is no distance, six are 2.
fn on_year(date: YearFraction) -> [f64; 2] {
    let (sin, cos) = (std::f64::consts::TAU * date.value()).sin_cos();
    [cos, sin]
}

/// True when there is a season to tell apart.
fn dated(rows: &[Seen]) -> bool {
    rows.iter().any(|(here, _)| here.date.is_some())
}

impl Kind {
    /// One prior for each setting that is tried, all fitted to `rows`: the same settings in the same order
    /// whatever the rows, those that tell seasons apart among them `by_season`.
    fn candidates(self, rows: &[Seen], classes: usize, by_season: bool) -> Vec<Box<dyn Prior>> {
        match self {
            Self::Neighbours => Neighbours::candidates(rows, classes, by_season),
            Self::Histogram => Histogram::candidates(rows, classes, by_season),
            Self::Kernel => Kernel::candidates(rows, classes, by_season),
        }
    }
}

/// A prior with the settings that did best, and what it said where it had not learned.
pub struct Tuned {
    /// Fitted to all rows.
    pub prior: Box<dyn Prior>,
    /// What it said at each row of the folds while that fold was held out, on the networks' scale.
    pub unseen: Vec<Opinion>,
    /// Mean −log of the share of the true class there; NaN without folds.
    pub loss: f64,
}

/// Fits a prior to `rows`. Its settings are those of the least mean −log share on `folds` (indices
/// into `rows`, disjoint), each predicted from the rest; without folds the middle ones.
/// With `balance` what it says is on the scale of networks trained so, see [`presence`].
///
/// Of very many rows in a fold a random part is asked about: each is compared with all others.
pub fn tune(kind: Kind, rows: &[Seen], classes: usize, folds: &[BTreeSet<usize>], balance: bool) -> Tuned {
    let most = calibrate::opinions_at_most(classes) / folds.len().max(1);
    // of all rows: those of one fold may be all that are dated
    let by_season = dated(rows);
    let parts = folds.iter().zip(0u64..).filter(|(fold, _)| fold.len() < rows.len()).map(|(fold, number)| {
        let aside: Vec<Seen> = fold.iter().filter_map(|&i| rows.get(i).copied()).collect();
        (fold, units::sample(&aside, most, number, "priors/opinions"))
    });
    let parts: Vec<(&BTreeSet<usize>, Vec<Seen>)> = parts.collect();
    let mut losses: Vec<f64> = Vec::new();
    for (fold, aside) in &parts {
        let candidates = kind.candidates(&without(rows, fold), classes, by_season);
        losses.resize(candidates.len(), 0.0);
        for (candidate, loss) in candidates.iter().zip(&mut losses) {
            let one = |&(here, class): &Seen| -candidate.shares(here)[class.index()].ln();
            *loss += aside.par_iter().map(one).collect::<Vec<f64>>().iter().sum::<f64>();
        }
    }
    let mut fitted = kind.candidates(rows, classes, by_season);
    let chosen =
        (0..losses.len()).min_by(|&a, &b| losses[a].total_cmp(&losses[b])).unwrap_or(fitted.len() / 2);
    let often = balance.then(|| frequencies(rows, classes));
    let mut unseen = Vec::new();
    for (fold, aside) in &parts {
        let prior = kind.candidates(&without(rows, fold), classes, by_season).swap_remove(chosen);
        let one =
            |&(here, class): &Seen| Opinion::of(&presence(&prior.shares(here), often.as_deref()), class);
        unseen.par_extend(aside.par_iter().map(one));
    }
    let asked = unseen.len();
    Tuned {
        prior: fitted.swap_remove(chosen),
        unseen,
        loss: losses.get(chosen).map_or(f64::NAN, |loss| loss / asked as f64),
    }
}

fn without(rows: &[Seen], fold: &BTreeSet<usize>) -> Vec<Seen> {
    rows.iter().enumerate().filter(|(i, _)| !fold.contains(i)).map(|(_, row)| *row).collect()
}

/// Shares `[classes]` as presence scores: what a network with the paper's presence loss would say had
/// it learned the shares s perfectly. The loss −Q s log p − (1 − s) log(1 − p) is least at
/// p = Q s / (Q s + 1 − s), with Q classes: ½ and more for a class with more than an even share.
///
/// With `often`, the [`frequencies`], the shares are taken as they would be were all classes equally
/// frequent: what the place says beyond that, as a network says it that was trained with
/// `finetune.balance`.
pub fn presence(shares: &[f64], often: Option<&[f64]>) -> Vec<f64> {
    let q = shares.len() as f64;
    let score = |share: f64| q * share / (q * share + 1.0 - share);
    let Some(often) = often else { return shares.iter().map(|&share| score(share)).collect() };
    let each: Vec<f64> = shares.iter().zip(often).map(|(share, often)| share / often).collect();
    let sum: f64 = each.iter().sum();
    each.into_iter().map(|share| score(share / sum)).collect()
}

/// Share of each class among rows, one more row being given to all classes alike.
pub fn frequencies(rows: &[Seen], classes: usize) -> Vec<f64> {
    let mut counts = vec![1.0 / classes as f64; classes];
    rows.iter().for_each(|(_, class)| counts[class.index()] += 1.0);
    let n = rows.len() as f64 + 1.0;
    counts.into_iter().map(|count| count / n).collect()
}

/// Counts `[classes]` towards the frequencies of all rows, worth `weight` rows.
fn smoothed(counts: &[f64], frequencies: &[f64], weight: f64) -> Vec<f64> {
    let n = counts.iter().sum::<f64>() + weight;
    counts.iter().zip(frequencies).map(|(count, share)| (count + weight * share) / n).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use csp_models::place::LatLon;
    use proptest::prelude::*;

    pub(super) fn at(lat: f64, lon: f64) -> Situation {
        Situation::undated(LatLon::new(lat, lon).unwrap())
    }

    /// A place at a share of the year.
    pub(super) fn on(lat: f64, lon: f64, date: f64) -> Situation {
        Situation { date: YearFraction::new(date), ..at(lat, lon) }
    }

    /// Class 0 in the west, class 1 in the east, 40 cells of ten rows.
    fn halves() -> Vec<Seen> {
        let at = |i: u32| at(f64::from(i / 10 % 4) * 2.0 + 0.1 * f64::from(i % 10), f64::from(i / 40) - 5.0);
        (0..400).map(|i| (at(i), ClassId(u16::from(i / 40 >= 5)))).collect()
    }

    fn folds(n: usize) -> Vec<BTreeSet<usize>> {
        (0..4).map(|fold| (0..n).filter(|i| i / 10 % 4 == fold).collect()).collect()
    }

    #[test]
    fn every_prior_learns_west_from_east_at_places_it_has_not_seen() {
        let rows = halves();
        for kind in [Kind::Neighbours, Kind::Histogram, Kind::Kernel] {
            let tuned = tune(kind, &rows, 3, &folds(rows.len()), false);
            let setting = tuned.prior.setting();
            assert_eq!(tuned.unseen.len(), 400, "{setting}");
            assert!(tuned.loss < 0.45, "{setting}: {}", tuned.loss);
            let west = tuned.prior.shares(at(1.0, -4.0));
            let east = tuned.prior.shares(at(1.0, 4.0));
            assert!(west[0] > 0.7 && east[1] > 0.7, "{setting}: {west:?} {east:?}");
            assert!(west[2] > 0.0, "{setting}: a class never seen is still possible");
        }
    }

    /// One class in the first half of each year, the other in the second, at the same places.
    #[test]
    fn every_prior_tells_seasons_apart_where_there_are_dates() {
        let when = |i: u32| f64::from(i * 7 % 40) / 40.0;
        let rows: Vec<Seen> = (halves().into_iter().zip(0..))
            .map(|((here, _), i)| {
                (on(here.at.lat(), here.at.lon(), when(i)), ClassId(u16::from(when(i) >= 0.5)))
            })
            .collect();
        let undated: Vec<Seen> =
            rows.iter().map(|&(here, class)| (Situation::undated(here.at), class)).collect();
        for kind in [Kind::Neighbours, Kind::Histogram, Kind::Kernel] {
            let tuned = tune(kind, &rows, 2, &folds(rows.len()), false);
            let setting = tuned.prior.setting();
            assert!(tuned.loss < 0.4, "{setting}: {}", tuned.loss);
            let (spring, autumn) =
                (tuned.prior.shares(on(1.0, 0.0, 0.25)), tuned.prior.shares(on(1.0, 0.0, 0.75)));
            assert!(spring[0] > 0.75 && autumn[1] > 0.75, "{setting}: {spring:?} {autumn:?}");
            let year = tuned.prior.shares(at(1.0, 0.0));
            assert!((year[0] - 0.5).abs() < 0.15, "{setting}: {year:?}");
            // without dates nothing can be told, and only settings without seasons are tried
            let blind = tune(kind, &undated, 2, &folds(rows.len()), false);
            assert!(blind.loss > 0.65, "{}: {}", blind.prior.setting(), blind.loss);
            let settings = |by_season| kind.candidates(&rows, 2, by_season).len();
            assert!(settings(false) < settings(true));
            // one fold holds all dates: its settings are those of the others
            let some: Vec<Seen> = (rows.iter().zip(&undated).enumerate())
                .map(
                    |(i, (dated, undated))| if folds(rows.len())[1].contains(&i) { *dated } else { *undated },
                )
                .collect();
            assert_eq!(tune(kind, &some, 2, &folds(rows.len()), false).unseen.len(), rows.len());
        }
    }

    #[test]
    fn without_folds_a_prior_is_fitted_untuned() {
        let tuned = tune(Kind::Neighbours, &halves(), 2, &[], false);
        assert!(tuned.unseen.is_empty() && tuned.loss.is_nan());
        assert!(tuned.prior.shares(at(1.0, -4.0))[0] > 0.7);
    }

    #[test]
    fn balanced_shares_are_even_where_the_place_says_nothing() {
        let rows = [(at(0.0, 0.0), ClassId(0)); 3];
        let often = frequencies(&rows, 2);
        let even = presence(&often, Some(&often));
        assert!((even[0] - even[1]).abs() < 1e-12 && (even[0] - 2.0 / 3.0).abs() < 1e-12, "{even:?}");
        // rarer than elsewhere: a share of 7/8 of two
        let here = presence(&[0.5, 0.5], Some(&often));
        assert!((here[1] - 1.75 / 1.875).abs() < 1e-12, "{here:?}");
    }

    #[test]
    fn presence_is_the_least_of_the_loss() {
        let (q, share) = (5.0f64, 0.13);
        let loss = |p: f64| -q * share * p.ln() - (1.0 - share) * (1.0 - p).ln();
        let p = presence(&[share, 0.87, 0.0, 0.0, 0.0], None)[0];
        assert!(loss(p) < loss(p + 1e-3) && loss(p) < loss(p - 1e-3));
        assert!((presence(&[0.2; 5], None)[0] - 5.0 / 9.0).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn shares_are_a_distribution(
            lat in -90.0f64..=90.0, lon in -180.0f64..=180.0, kind in 0usize..3, seasonal: bool, dated: bool,
        ) {
            let kind = [Kind::Neighbours, Kind::Histogram, Kind::Kernel][kind];
            let rows: Vec<Seen> = halves().into_iter().step_by(7).collect();
            let rows: Vec<Seen> = if seasonal {
                let date = |i: usize| YearFraction::new(i as f64 % 29.0 / 29.0);
                rows.into_iter().enumerate().map(|(i, (s, class))| (Situation { date: date(i), ..s }, class)).collect()
            } else {
                rows
            };
            let here = if dated { on(lat, lon, 0.3) } else { at(lat, lon) };
            for prior in kind.candidates(&rows, 3, true) {
                let shares = prior.shares(here);
                prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
                prop_assert!(shares.iter().all(|s| *s > 0.0));
            }
        }
    }
}

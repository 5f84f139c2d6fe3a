//! Kernel densities of each class.

use std::sync::Arc;

use csp_models::{labels::ClassId, place::EARTH_RADIUS_M, situation::Situation};

use super::{
    Prior, Seen, frequencies,
    neighbours::{apart, on_sphere},
    on_year, smoothed,
};

/// A Gaussian bump of the great-circle distance on each labelled place; with a season, of the distance
/// on the year's circle too.
#[derive(Clone, Debug)]
pub struct Kernel {
    places: Arc<Vec<Place>>,
    frequencies: Arc<Vec<f64>>,
    bandwidth_m: f64,
    smoothing: f64,
    /// Standard deviation on the year's circle of radius 1; infinite: dates do not count.
    season: f64,
}

/// On the unit sphere and the year's circle.
type Place = ([f64; 3], Option<[f64; 2]>, ClassId);

impl Kernel {
    /// Remembers labelled places; a bump has standard deviation `bandwidth_m` metres and height 1,
    /// whatever the date.
    pub fn new(rows: &[Seen], classes: usize, bandwidth_m: f64, smoothing: f64) -> Self {
        let places = rows.iter().map(|&(here, class)| (on_sphere(here.at), here.date.map(on_year), class));
        let frequencies = Arc::new(frequencies(rows, classes));
        Self {
            places: Arc::new(places.collect()),
            frequencies,
            bandwidth_m,
            smoothing,
            season: f64::INFINITY,
        }
    }

    /// A bump falls off within the year as well, with a standard deviation of `season` on its circle of
    /// radius 1: 0.5 is about a month. A date that is not known is every date.
    #[must_use]
    pub fn with_season(self, season: f64) -> Self {
        Self { season, ..self }
    }

    /// Density of each class at a place, `[classes]`: the sum of its bumps, each of height 1.
    pub fn densities(&self, here: Situation) -> Vec<f64> {
        let (place, day) = (on_sphere(here.at), here.date.map(on_year));
        let scale = EARTH_RADIUS_M / self.bandwidth_m;
        let mut sums = vec![0.0; self.frequencies.len()];
        for (there, when, class) in self.places.iter() {
            let arc = 2.0 * (apart(&place, there) / 2.0).sqrt().min(1.0).asin();
            let mut squares = (arc * scale).powi(2);
            if let (true, Some(day), Some(when)) = (self.season.is_finite(), day, when) {
                squares += ((day[0] - when[0]).powi(2) + (day[1] - when[1]).powi(2)) / self.season.powi(2);
            }
            sums[class.index()] += (-0.5 * squares).exp();
        }
        sums
    }

    pub(super) fn candidates(rows: &[Seen], classes: usize, by_season: bool) -> Vec<Box<dyn Prior>> {
        let all = Self::new(rows, classes, 1.0, 1.0);
        let seasons: &[f64] = if by_season { &[f64::INFINITY, 1.0, 0.5, 0.25] } else { &[f64::INFINITY] };
        let mut candidates: Vec<Box<dyn Prior>> = Vec::new();
        for km in [2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 200.0, 500.0] {
            for smoothing in [0.1, 1.0, 10.0] {
                for &season in seasons {
                    candidates.push(Box::new(Self {
                        bandwidth_m: 1e3 * km,
                        smoothing,
                        season,
                        ..all.clone()
                    }));
                }
            }
        }
        candidates
    }
}

impl Prior for Kernel {
    fn shares(&self, here: Situation) -> Vec<f64> {
        smoothed(&self.densities(here), &self.frequencies, self.smoothing)
    }

    fn setting(&self) -> String {
        let season =
            if self.season.is_finite() { format!(", season {}", self.season) } else { String::new() };
        format!("bandwidth {} km{season}, smoothing {}", self.bandwidth_m / 1e3, self.smoothing)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{at, on},
        *,
    };

    #[test]
    fn a_bump_falls_off_with_the_distance() {
        let (home, away) = (at(10.0, 20.0), at(10.0, 20.5));
        let prior = Kernel::new(&[(home, ClassId(1))], 2, 30_000.0, 1.0);
        assert_eq!(prior.densities(home), [0.0, 1.0]);
        let far = home.at.distance_m(away.at) / 30_000.0;
        assert!((prior.densities(away)[1] - (-0.5 * far * far).exp()).abs() < 1e-9);
    }

    #[test]
    fn a_bump_falls_off_within_the_year() {
        let prior = Kernel::new(&[(on(10.0, 20.0, 0.95), ClassId(1))], 2, 30_000.0, 1.0).with_season(0.5);
        let density = |here| prior.densities(here)[1];
        // a tenth of a year, across its turn: a chord of 2 sin 18°
        let chord = 2.0 * 18f64.to_radians().sin();
        let expected = (-0.5 * (chord / 0.5).powi(2)).exp();
        assert!((density(on(10.0, 20.0, 0.05)) - expected).abs() < 1e-9);
        assert_eq!(density(at(10.0, 20.0)), 1.0, "no date: any");
    }
}

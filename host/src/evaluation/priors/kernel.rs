//! Kernel densities of each class.

use std::sync::Arc;

use csp_models::place::{EARTH_RADIUS_M, LatLon};

use super::{
    Prior, Seen, frequencies,
    neighbours::{apart, on_sphere},
    smoothed,
};
use csp_models::labels::ClassId;

/// A Gaussian bump of the great-circle distance on each labelled place.
#[derive(Clone, Debug)]
pub struct Kernel {
    places: Arc<Vec<([f64; 3], ClassId)>>,
    frequencies: Arc<Vec<f64>>,
    bandwidth_m: f64,
    smoothing: f64,
}

impl Kernel {
    /// Remembers labelled places; a bump has standard deviation `bandwidth_m` metres and height 1.
    pub fn new(rows: &[Seen], classes: usize, bandwidth_m: f64, smoothing: f64) -> Self {
        let places = rows.iter().map(|&(at, class)| (on_sphere(at), class)).collect();
        let frequencies = Arc::new(frequencies(rows, classes));
        Self { places: Arc::new(places), frequencies, bandwidth_m, smoothing }
    }

    /// Density of each class at a place, `[classes]`: the sum of its bumps, each of height 1.
    pub fn densities(&self, at: LatLon) -> Vec<f64> {
        let here = on_sphere(at);
        let scale = EARTH_RADIUS_M / self.bandwidth_m;
        let mut sums = vec![0.0; self.frequencies.len()];
        for (place, class) in self.places.iter() {
            let arc = 2.0 * (apart(&here, place) / 2.0).sqrt().min(1.0).asin();
            sums[class.index()] += (-0.5 * (arc * scale).powi(2)).exp();
        }
        sums
    }

    pub(super) fn candidates(rows: &[Seen], classes: usize) -> Vec<Box<dyn Prior>> {
        let all = Self::new(rows, classes, 1.0, 1.0);
        let wide = |km: f64| {
            [0.1, 1.0, 10.0].map(|smoothing| {
                Box::new(Self { bandwidth_m: 1e3 * km, smoothing, ..all.clone() }) as Box<dyn Prior>
            })
        };
        [2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 200.0, 500.0].into_iter().flat_map(wide).collect()
    }
}

impl Prior for Kernel {
    fn shares(&self, at: LatLon) -> Vec<f64> {
        smoothed(&self.densities(at), &self.frequencies, self.smoothing)
    }

    fn setting(&self) -> String {
        format!("bandwidth {} km, smoothing {}", self.bandwidth_m / 1e3, self.smoothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bump_falls_off_with_the_distance() {
        let at = |lat, lon| LatLon::new(lat, lon).unwrap();
        let (home, away) = (at(10.0, 20.0), at(10.0, 20.5));
        let prior = Kernel::new(&[(home, ClassId(1))], 2, 30_000.0, 1.0);
        assert_eq!(prior.densities(home), [0.0, 1.0]);
        let far = home.distance_m(away) / 30_000.0;
        assert!((prior.densities(away)[1] - (-0.5 * far * far).exp()).abs() < 1e-9);
    }
}

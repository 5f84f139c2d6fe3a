//! What the nearest labelled places are.

use std::sync::Arc;

use csp_models::{labels::ClassId, place::LatLon};

use super::{Prior, Seen, frequencies, smoothed};

/// Rows of all rows' frequencies that are mixed in, so that no class is impossible.
const SMOOTHING: f64 = 1.0;

/// Classes of the k nearest places by great-circle distance.
#[derive(Clone, Debug)]
pub struct Neighbours {
    places: Arc<Vec<([f64; 3], ClassId)>>,
    frequencies: Arc<Vec<f64>>,
    k: usize,
}

/// A place as a point of the unit sphere; the chord between two grows with the arc.
pub(crate) fn on_sphere(at: LatLon) -> [f64; 3] {
    let (phi, lambda) = (at.lat().to_radians(), at.lon().to_radians());
    [phi.cos() * lambda.cos(), phi.cos() * lambda.sin(), phi.sin()]
}

/// Half the squared chord, 0 to 2.
pub(crate) fn apart(a: &[f64; 3], b: &[f64; 3]) -> f64 {
    let square = |i: usize| (a[i] - b[i]) * (a[i] - b[i]);
    (square(0) + square(1) + square(2)) / 2.0
}

impl Neighbours {
    /// Remembers labelled places; answers by the `k` nearest, of all where there are fewer.
    pub fn new(rows: &[Seen], classes: usize, k: usize) -> Self {
        let places = rows.iter().map(|&(at, class)| (on_sphere(at), class)).collect();
        Self { places: Arc::new(places), frequencies: Arc::new(frequencies(rows, classes)), k }
    }

    pub(super) fn candidates(rows: &[Seen], classes: usize) -> Vec<Box<dyn Prior>> {
        let all = Self::new(rows, classes, 1);
        let with = |k: usize| Box::new(Self { k, ..all.clone() }) as Box<dyn Prior>;
        [1, 2, 4, 8, 16, 32, 64, 128, 256].map(with).into()
    }
}

impl Prior for Neighbours {
    fn shares(&self, at: LatLon) -> Vec<f64> {
        let here = on_sphere(at);
        // ties by the order of the rows, so that every machine answers alike
        let mut near: Vec<(f64, usize)> =
            self.places.iter().enumerate().map(|(i, (place, _))| (apart(&here, place), i)).collect();
        if self.k < near.len() {
            near.select_nth_unstable_by(self.k - 1, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            near.truncate(self.k);
        }
        let mut counts = vec![0.0; self.frequencies.len()];
        near.iter().for_each(|&(_, i)| counts[self.places[i].1.index()] += 1.0);
        smoothed(&counts, &self.frequencies, SMOOTHING)
    }

    fn setting(&self) -> String {
        format!("k = {}", self.k)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn counts_across_the_antimeridian() {
        let at = |lat, lon| LatLon::new(lat, lon).unwrap();
        let rows = [(at(0.0, 179.9), ClassId(0)), (at(0.0, 170.0), ClassId(1))];
        let shares = Neighbours::new(&rows, 2, 1).shares(at(0.0, -179.9));
        // one neighbour of class 0, and one row's worth of even frequencies
        assert!((shares[0] - 0.75).abs() < 1e-12, "{shares:?}");
    }

    proptest! {
        #[test]
        fn chords_order_as_great_circles(a in -89.0f64..89.0, b in -89.0f64..89.0, c in 0.0f64..180.0, d in 0.0f64..180.0) {
            let here = LatLon::new(10.0, 20.0).unwrap();
            let (p, q) = (LatLon::new(a, c).unwrap(), LatLon::new(b, -d).unwrap());
            let by_arc = here.distance_m(p) - here.distance_m(q);
            let origin = on_sphere(here);
            let by_chord = apart(&origin, &on_sphere(p)) - apart(&origin, &on_sphere(q));
            prop_assume!(by_arc.abs() > 1.0);
            prop_assert_eq!(by_arc > 0.0, by_chord > 0.0);
        }
    }
}

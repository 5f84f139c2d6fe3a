//! What the nearest labelled places are.

use std::sync::Arc;

use csp_models::{
    labels::ClassId,
    place::{EARTH_RADIUS_M, LatLon},
    situation::Situation,
};

use super::{Prior, Seen, frequencies, on_year, smoothed};

/// Rows of all rows' frequencies that are mixed in, so that no class is impossible.
const SMOOTHING: f64 = 1.0;

/// Classes of the k nearest places by great-circle distance; with a season, of the nearest in space and
/// on the year's circle together.
#[derive(Clone, Debug)]
pub struct Neighbours {
    places: Arc<Vec<(Point, ClassId)>>,
    frequencies: Arc<Vec<f64>>,
    k: usize,
    /// Radius of the year's circle, metres; 0: dates do not count.
    year_m: f64,
}

/// On the unit sphere, and on the year's circle of radius 1: its middle where the date is not known.
type Point = ([f64; 3], [f64; 2]);

fn point(here: Situation) -> Point {
    (on_sphere(here.at), here.date.map_or([0.0; 2], on_year))
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
    /// Remembers labelled places; answers by the `k` nearest, of all where there are fewer, whatever the
    /// date.
    pub fn new(rows: &[Seen], classes: usize, k: usize) -> Self {
        let places = rows.iter().map(|&(here, class)| (point(here), class)).collect();
        Self { places: Arc::new(places), frequencies: Arc::new(frequencies(rows, classes)), k, year_m: 0.0 }
    }

    /// Half a year apart counts as far as `2 * year_m` metres.
    #[must_use]
    pub fn with_season(self, year_m: f64) -> Self {
        Self { year_m, ..self }
    }

    pub(super) fn candidates(rows: &[Seen], classes: usize, by_season: bool) -> Vec<Box<dyn Prior>> {
        let all = Self::new(rows, classes, 1);
        let years: &[f64] = if by_season { &[0.0, 30.0, 100.0, 300.0, 1000.0] } else { &[0.0] };
        let with = |k: usize| {
            let all = all.clone();
            years
                .iter()
                .map(move |km| Box::new(Self { k, year_m: 1e3 * km, ..all.clone() }) as Box<dyn Prior>)
        };
        [1, 2, 4, 8, 16, 32, 64, 128, 256].into_iter().flat_map(with).collect()
    }
}

impl Prior for Neighbours {
    fn shares(&self, here: Situation) -> Vec<f64> {
        let (place, day) = point(here);
        let weight = (self.year_m / EARTH_RADIUS_M).powi(2) / 2.0;
        let distance = |(there, when): &Point| {
            let mut distance = apart(&place, there);
            if weight > 0.0 {
                distance += weight * ((day[0] - when[0]).powi(2) + (day[1] - when[1]).powi(2));
            }
            distance
        };
        // ties by the order of the rows, so that every machine answers alike
        let mut near: Vec<(f64, usize)> =
            self.places.iter().enumerate().map(|(i, (point, _))| (distance(point), i)).collect();
        if self.k < near.len() {
            near.select_nth_unstable_by(self.k - 1, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            near.truncate(self.k);
        }
        let mut counts = vec![0.0; self.frequencies.len()];
        near.iter().for_each(|&(_, i)| counts[self.places[i].1.index()] += 1.0);
        smoothed(&counts, &self.frequencies, SMOOTHING)
    }

    fn setting(&self) -> String {
        match self.year_m {
            0.0 => format!("k = {}", self.k),
            metres => format!("k = {}, half a year counts {} km", self.k, metres / 500.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{at, on},
        *,
    };
    use proptest::prelude::*;

    #[test]
    fn counts_across_the_antimeridian() {
        let rows = [(at(0.0, 179.9), ClassId(0)), (at(0.0, 170.0), ClassId(1))];
        let shares = Neighbours::new(&rows, 2, 1).shares(at(0.0, -179.9));
        // one neighbour of class 0, and one row's worth of even frequencies
        assert!((shares[0] - 0.75).abs() < 1e-12, "{shares:?}");
    }

    #[test]
    fn the_year_is_a_circle_and_counts_as_far_as_it_is_told() {
        // on the spot half a year off, and 100 km away on the day, across the turn of the year
        let rows = [(on(0.0, 0.0, 0.5), ClassId(0)), (on(0.0, 0.9, 0.99), ClassId(1))];
        let nearest = |year_m: f64, here| {
            let shares = Neighbours::new(&rows, 2, 1).with_season(year_m).shares(here);
            usize::from(shares[1] > shares[0])
        };
        let new_year = on(0.0, 0.0, 0.01);
        assert_eq!([0.0, 40e3, 60e3].map(|year_m| nearest(year_m, new_year)), [0, 0, 1]);
        assert_eq!(nearest(60e3, at(0.0, 0.0)), 0, "no date: the place alone");
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

//! What a step looks at: which rows, and which random places stand against them.

use csp_models::{place::LatLon, situation::Situation, time::YearFraction};
use rand::{RngExt, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::rng;
use crate::coastline::is_land;

/// How random places are drawn. Only [`Sphere`](Negatives::Sphere) covers the Earth evenly and only
/// [`Land`](Negatives::Land) its land; the others repeat what earlier code does, for comparison with
/// it (csp-spec §1.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Negatives {
    /// Uniform on the sphere.
    #[default]
    Sphere,
    /// Uniform on the land of the sphere, by half-degree cells.
    Land,
    /// The released code's `uniform`: even in the longitude-latitude rectangle, a third of the draws
    /// beyond 60°.
    #[serde(alias = "uniform")]
    Rectangle,
    /// The released scripts' `sphericalold`: x and y of a point on the unit sphere taken as
    /// longitude/180 and latitude/90.
    #[serde(alias = "sphericalold")]
    SphericalOld,
    /// The released code's `spherical`, a slip: even in the north-east quadrant of the rectangle, and
    /// nowhere else.
    #[serde(alias = "spherical")]
    NorthEast,
}

/// A place within about `km` kilometres of another, at random. The distance is that of a normal draw
/// whose variance is itself exponential, `km`² in the mean: denser near and heavier far out than a
/// normal of one width, because classes reach both shorter and further than any one width says.
/// Training on places moved so learns the classes' shares smoothed by this kernel.
pub fn moved(place: LatLon, km: f64, rng: &mut ChaCha8Rng) -> LatLon {
    let mut exponential = || -(1.0 - rng.random::<f64>()).ln();
    let distance_km = km * (2.0 * exponential() * exponential()).sqrt();
    place.travel(std::f64::consts::TAU * rng.random::<f64>(), 1e3 * distance_km)
}

impl Negatives {
    /// One random place.
    pub fn draw(self, rng: &mut ChaCha8Rng) -> LatLon {
        if self == Self::Land {
            return loop {
                let place = Self::Sphere.draw(rng);
                if is_land(place) {
                    break place;
                }
            };
        }
        let (u, v): (f64, f64) = (rng.random(), rng.random());
        let (lat, lon) = match self {
            Self::Sphere | Self::Land => ((2.0 * v - 1.0).asin().to_degrees(), 360.0 * u - 180.0),
            Self::NorthEast => (90.0 * v, 180.0 * u),
            Self::Rectangle => (180.0 * v - 90.0, 360.0 * u - 180.0),
            Self::SphericalOld => {
                let (z, theta) = (2.0 * v - 1.0, 2.0 * std::f64::consts::PI * u);
                let r = (1.0 - z * z).sqrt();
                (90.0 * r * theta.sin(), 180.0 * r * theta.cos())
            }
        };
        // u and v are in [0, 1), so both coordinates are in range; rounding may step over by an ulp
        LatLon::new(lat.clamp(-90.0, 90.0), lon.clamp(-180.0, 180.0)).expect("finite and clamped into range")
    }
}

/// The random places of a step, and for an encoder with a `seasonal` input their dates: uniform over the
/// year, as Mac Aodha et al. draw them. Dates come from a stream of their own: the places are those of a
/// model without seasons.
pub fn random_places(
    negatives: Negatives,
    seasonal: bool,
    (seed, purpose, step): (u64, &str, u64),
    count: usize,
) -> Vec<Situation> {
    let mut rng = rng::stream(seed, purpose, step);
    let mut dates = RandomDates::new(seasonal, (seed, purpose, step));
    (0..count).map(|_| Situation::new(negatives.draw(&mut rng), dates.draw())).collect()
}

/// Dates uniform over the year; none for a model without seasons.
#[derive(Debug)]
pub struct RandomDates(Option<ChaCha8Rng>);

impl RandomDates {
    /// Those that go with the places of stream `purpose` at a step.
    pub fn new(seasonal: bool, (seed, purpose, step): (u64, &str, u64)) -> Self {
        Self(seasonal.then(|| rng::stream(seed, &format!("{purpose}/date"), step)))
    }

    /// The next date.
    pub fn draw(&mut self) -> Option<YearFraction> {
        YearFraction::new(self.0.as_mut()?.random())
    }
}

/// Batches without replacement: each epoch is a fresh permutation, every batch full, what is left
/// over at the end of an epoch is dropped. A pure function of (seed, purpose, step).
#[derive(Clone, Debug)]
pub struct Batches {
    seed: u64,
    purpose: &'static str,
    rows: usize,
    batch: usize,
    epoch: Option<(u64, Vec<u32>)>,
}

impl Batches {
    /// Batches of `batch` out of `rows` rows; of all rows when there are fewer.
    pub fn new(seed: u64, purpose: &'static str, rows: usize, batch: usize) -> Self {
        Self { seed, purpose, rows, batch: batch.clamp(1, rows.max(1)), epoch: None }
    }

    /// Rows in a batch.
    pub fn size(&self) -> usize {
        self.batch
    }

    /// Steps of one pass over the rows.
    pub fn steps_per_epoch(&self) -> u64 {
        (self.rows / self.batch).max(1) as u64
    }

    /// The rows of a step, indices below `rows`.
    pub fn at(&mut self, step: u64) -> &[u32] {
        let (epoch, within) = (step / self.steps_per_epoch(), (step % self.steps_per_epoch()) as usize);
        if self.epoch.as_ref().is_none_or(|(have, _)| *have != epoch) {
            let mut order: Vec<u32> = (0..self.rows as u32).collect();
            order.shuffle(&mut rng::stream(self.seed, self.purpose, epoch));
            self.epoch = Some((epoch, order));
        }
        let order = self.epoch.as_ref().map_or(&[][..], |(_, order)| order);
        &order[within * self.batch..][..self.batch]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// (share beyond 60° of latitude, share in the north-east quadrant) of 200,000 draws.
    fn shares(negatives: Negatives) -> (f64, f64) {
        let mut rng = rng::stream(7, "test", 0);
        let places: Vec<LatLon> = (0..200_000).map(|_| negatives.draw(&mut rng)).collect();
        let share = |f: &dyn Fn(&LatLon) -> bool| places.iter().filter(|p| f(p)).count() as f64 / 2e5;
        (share(&|p| p.lat().abs() > 60.0), share(&|p| p.lat() > 0.0 && p.lon() > 0.0))
    }

    #[test]
    fn the_sphere_is_covered_evenly() {
        // 1 − sin 60° of the area lies beyond 60°; tolerance is five standard errors
        let (polar, north_east) = shares(Negatives::Sphere);
        assert!((polar - 0.13397).abs() < 0.004, "{polar}");
        assert!((north_east - 0.25).abs() < 0.005, "{north_east}");
    }

    #[test]
    fn moved_places_lie_around_their_own() {
        let mut rng = rng::stream(7, "test", 0);
        for home in [LatLon::new(60.0, 179.9).unwrap(), LatLon::new(-89.9, 10.0).unwrap()] {
            let away: Vec<LatLon> = (0..50_000).map(|_| moved(home, 40.0, &mut rng)).collect();
            let km: Vec<f64> = away.iter().map(|place| home.distance_m(*place) / 1e3).collect();
            // E d² = 2 km² · E e₁ · E e₂; both exponentials have mean 1
            let root_mean_square = (km.iter().map(|d| d * d).sum::<f64>() / 5e4).sqrt();
            assert!((root_mean_square / (2f64.sqrt() * 40.0) - 1.0).abs() < 0.03, "{root_mean_square}");
        }
        let home = LatLon::new(60.0, 0.0).unwrap();
        let east = (0..20_000).filter(|_| moved(home, 40.0, &mut rng).lon() > 0.0).count();
        assert!((9_500..10_500).contains(&east), "{east}");
    }

    #[test]
    fn land_is_covered_evenly_and_the_sea_not_at_all() {
        let mut rng = rng::stream(7, "test", 0);
        let places: Vec<LatLon> = (0..50_000).map(|_| Negatives::Land.draw(&mut rng)).collect();
        assert!(places.iter().all(|&place| is_land(place)));
        let share = |negatives: Negatives, rng: &mut ChaCha8Rng| {
            let drawn = (0..50_000).map(|_| negatives.draw(rng)).filter(|&place| is_land(place));
            let north = |places: &[LatLon]| places.iter().filter(|p| p.lat() > 0.0).count() as f64;
            let drawn: Vec<LatLon> = drawn.collect();
            north(&drawn) / drawn.len() as f64
        };
        // the same share of the land is north of the equator, whichever way it is found
        let (land, sphere) = (share(Negatives::Land, &mut rng), share(Negatives::Sphere, &mut rng));
        assert!((land - sphere).abs() < 0.02, "{land} {sphere}");
        let (_, north_east) = shares(Negatives::NorthEast);
        assert!(north_east > 0.999, "{north_east}");
    }

    #[test]
    fn the_historical_samplers_keep_their_flaw() {
        let (rectangle, _) = shares(Negatives::Rectangle);
        assert!((rectangle - 1.0 / 3.0).abs() < 0.006, "{rectangle}");
        let (old, _) = shares(Negatives::SphericalOld);
        assert!((old - 1.0 / 3.0).abs() < 0.006, "{old}");
        let mut rng = rng::stream(7, "test", 0);
        for _ in 0..10_000 {
            let p = Negatives::SphericalOld.draw(&mut rng);
            assert!((p.lon() / 180.0).powi(2) + (p.lat() / 90.0).powi(2) <= 1.0 + 1e-9);
        }
    }

    proptest! {
        #[test]
        fn an_epoch_visits_no_row_twice(rows in 1usize..200, batch in 1usize..50, epoch in 0u64..3) {
            let mut batches = Batches::new(3, "test", rows, batch);
            let steps = batches.steps_per_epoch();
            let mut seen: Vec<u32> =
                (epoch * steps..(epoch + 1) * steps).flat_map(|s| batches.at(s).to_vec()).collect();
            let count = seen.len();
            prop_assert!(count + batches.size() > rows || count == rows);
            seen.sort_unstable();
            seen.dedup();
            prop_assert_eq!(seen.len(), count);
            prop_assert!(seen.iter().all(|&r| (r as usize) < rows));
        }

        #[test]
        fn a_step_does_not_depend_on_the_ones_before(step in 0u64..100) {
            let mut walked = Batches::new(3, "test", 50, 8);
            for s in 0..step { walked.at(s); }
            let mut jumped = Batches::new(3, "test", 50, 8);
            prop_assert_eq!(walked.at(step), jumped.at(step));
        }
    }
}

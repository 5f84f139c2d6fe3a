//! What is drawn and held out together: cells of a grid, cameras, single rows. Every draw depends on
//! the seed, its purpose and what is drawn alone, so that one row more or less moves no other, and
//! the same seed draws the same on every machine.

use std::collections::{BTreeMap, BTreeSet};

use csp_models::{labels::ClassId, place::LatLon};
use rand::Rng;
use sha2::{Digest, Sha256};

use super::Row;

/// Kilometres of a degree of latitude on the sphere of the Earth's mean radius.
const KM_PER_DEGREE: f64 = 111.194_926_6;

/// Rows that stay together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit<'a> {
    /// A cell of a grid of places: row and column.
    Cell(i32, i32),
    /// A row of the data set for itself.
    Row(usize),
    /// All rows of a camera.
    Camera(&'a str),
}

impl Unit<'_> {
    /// The cell of a grid of so many degrees in latitude and longitude; a row without a place is for
    /// itself.
    pub fn of_degrees(row: usize, place: Option<LatLon>, degrees: f64) -> Self {
        place.map_or(Self::Row(row), |place| {
            // longitude 180 is -180
            let lon = if place.lon() >= 180.0 { -180.0 } else { place.lon() };
            Self::Cell((place.lat() / degrees).floor() as i32, (lon / degrees).floor() as i32)
        })
    }

    /// The cell of a grid whose cells are so many kilometres high and about as wide, from the south
    /// pole and the antimeridian on.
    pub fn of_km(place: LatLon, km: f64) -> Self {
        let height = km / KM_PER_DEGREE;
        let bands = (180.0 / height).ceil();
        let band = ((place.lat() + 90.0) / height).floor().min(bands - 1.0);
        let middle = ((band + 0.5) * height - 90.0).min(90.0).to_radians();
        let columns = (360.0 * middle.cos() / height).round().max(1.0);
        // longitude 180 is -180
        let turn = ((place.lon() + 180.0) / 360.0).fract();
        Self::Cell(band as i32, (turn * columns).floor() as i32)
    }

    /// A random number of its own.
    pub fn key(self, seed: u64, purpose: &str) -> [u8; 32] {
        match self {
            Self::Cell(a, b) => draw(seed, purpose, &[[0; 4], a.to_le_bytes(), b.to_le_bytes()].concat()),
            Self::Row(row) => draw(seed, purpose, &row.to_le_bytes()),
            Self::Camera(name) => draw(seed, purpose, name.as_bytes()),
        }
    }
}

/// A number that depends on the seed, the purpose and the key alone.
pub fn draw(seed: u64, purpose: &str, key: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(purpose.as_bytes());
    hash.update(key);
    hash.finalize().into()
}

/// The rows whose label training may use: of each class `fraction` of its labelled rows, rounded half
/// to even, at least one. A larger fraction under the same seed keeps what a smaller one kept.
///
/// As in the original CSP (data_utils.get_classes_sample_idxs), but seeded. `rows` are (index, row).
pub fn label_subset(rows: &[(usize, &Row)], fraction: f64, seed: u64) -> BTreeMap<usize, ClassId> {
    let mut by_class: BTreeMap<ClassId, Vec<usize>> = BTreeMap::new();
    for (row, source) in rows {
        if let Some(class) = source.class {
            by_class.entry(class).or_default().push(*row);
        }
    }
    let mut granted = BTreeMap::new();
    for (class, mut rows) in by_class {
        let count = ((rows.len() as f64 * fraction).round_ties_even() as usize).clamp(1, rows.len());
        rows.sort_by_cached_key(|&row| draw(seed, "labels", &row.to_le_bytes()));
        granted.extend(rows.into_iter().take(count).map(|row| (row, class)));
    }
    granted
}

/// Units in random order until about `want` of the granted rows are held out, ascending; one that
/// holds the last granted rows of a class, or would overshoot by half, is passed over. Empty when
/// nothing can be spared.
pub fn hold_out(
    rows: &[(usize, &Row)],
    granted: &BTreeMap<usize, ClassId>,
    want: usize,
    degrees: f64,
    seed: u64,
) -> Vec<Unit<'static>> {
    let mut units: BTreeMap<Unit<'static>, BTreeMap<ClassId, usize>> = BTreeMap::new();
    let mut left: BTreeMap<ClassId, usize> = BTreeMap::new();
    for (row, source) in rows {
        if let Some(&class) = granted.get(row) {
            let unit = Unit::of_degrees(*row, source.place, degrees);
            *units.entry(unit).or_default().entry(class).or_default() += 1;
            *left.entry(class).or_default() += 1;
        }
    }
    let mut order: Vec<_> = units.into_iter().collect();
    order.sort_by_key(|(unit, _)| unit.key(seed, "holdout"));
    let (mut held, mut count) = (Vec::new(), 0);
    for (unit, classes) in order {
        let size: usize = classes.values().sum();
        let spares = classes.iter().all(|(class, n)| left[class] > *n);
        if count < want && spares && count + size <= want + want.div_ceil(2) {
            classes.iter().for_each(|(class, n)| *left.entry(*class).or_default() -= n);
            count += size;
            held.push(unit);
        }
    }
    held.sort_unstable();
    held
}

/// Divides rows into `folds` parts of about equal size, whole cells each; indices into `places`. Empty
/// when there are fewer cells than parts.
pub fn folds(places: &[LatLon], folds: usize, seed: u64, degrees: f64) -> Vec<BTreeSet<usize>> {
    let mut cells: BTreeMap<Unit<'static>, Vec<usize>> = BTreeMap::new();
    for (i, place) in places.iter().enumerate() {
        cells.entry(Unit::of_degrees(i, Some(*place), degrees)).or_default().push(i);
    }
    if folds < 2 || cells.len() < folds {
        return Vec::new();
    }
    let mut order: Vec<(Unit<'static>, Vec<usize>)> = cells.into_iter().collect();
    order.sort_by_key(|(unit, members)| (std::cmp::Reverse(members.len()), unit.key(seed, "fold")));
    let mut parts = vec![BTreeSet::new(); folds];
    for (_, members) in order {
        // largest first into the smallest part keeps the parts even
        let smallest = (0..folds).min_by_key(|&i| parts[i].len()).unwrap_or(0);
        parts[smallest].extend(members);
    }
    parts
}

/// `most` of some things at random, in their order; all of them where they are no more.
pub fn sample<T: Copy>(things: &[T], most: usize, seed: u64, purpose: &str) -> Vec<T> {
    if things.len() <= most {
        return things.to_vec();
    }
    let mut drawn: Vec<usize> = (0..things.len()).collect();
    drawn.sort_by_cached_key(|thing| draw(seed, purpose, &thing.to_le_bytes()));
    drawn.truncate(most);
    drawn.sort_unstable();
    drawn.into_iter().map(|thing| things[thing]).collect()
}

/// Fisher–Yates, written out so that no library version changes the order.
pub(crate) fn shuffle<T>(items: &mut [T], rng: &mut impl Rng) {
    for i in (1..items.len()).rev() {
        items.swap(i, below(rng, i as u64 + 1) as usize);
    }
}

/// A number in `0..n` without bias; `n` is at least 1.
pub(crate) fn below(rng: &mut impl Rng, n: u64) -> u64 {
    let fair = u64::MAX - u64::MAX % n;
    loop {
        let value = rng.next_u64();
        if value < fair {
            return value % n;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows(classes: &[Option<u16>]) -> Vec<Row> {
        classes.iter().map(|class| Row { class: class.map(ClassId), ..Row::default() }).collect()
    }

    #[test]
    fn a_sample_is_drawn_once_and_for_all() {
        let all: Vec<usize> = (0..1000).collect();
        let drawn = sample(&all, 50, 7, "a");
        assert!(drawn.len() == 50 && drawn.is_sorted_by(|a, b| a < b) && drawn[49] < 1000);
        assert!(drawn == sample(&all, 50, 7, "a") && drawn != sample(&all, 50, 8, "a"));
        // spread over all of them
        assert!(drawn[0] < 200 && drawn[49] > 800, "{drawn:?}");
        assert_eq!(sample(&all[..3], 3, 0, "a"), [0, 1, 2]);
        assert!(sample(&all[..0], 5, 0, "a").is_empty());
    }

    proptest! {
        #[test]
        fn label_subsets_are_stratified_and_nested(
            classes in proptest::collection::vec(proptest::option::of(0u16..6), 20..200),
            seed: u64,
            small in 0.01f64..0.5,
        ) {
            let rows = rows(&classes);
            let among: Vec<(usize, &Row)> = rows.iter().enumerate().filter(|(i, _)| i % 3 != 0).collect();
            let kept = label_subset(&among, small, seed);
            let more = label_subset(&among, small * 2.0, seed);
            prop_assert!(kept.keys().all(|i| more.contains_key(i) && i % 3 != 0));
            for class in 0..6 {
                let n = among.iter().filter(|(_, row)| row.class == Some(ClassId(class))).count();
                let expected = ((n as f64 * small).round_ties_even() as usize).max(1).min(n);
                prop_assert_eq!(kept.values().filter(|c| c.0 == class).count(), expected);
            }
        }

        #[test]
        fn cells_of_kilometres_are_about_that_size(lat in -85.0f64..85.0, lon in -180.0f64..180.0, km in 5.0f64..500.0) {
            let here = LatLon::new(lat, lon).unwrap();
            let unit = Unit::of_km(here, km);
            // within a cell no two places are further apart than its diagonal, with some slack for its wide side
            let east = LatLon::new(lat, (lon + 2.2 * km / (KM_PER_DEGREE * lat.to_radians().cos())).min(180.0)).unwrap();
            let north = LatLon::new((lat + 1.01 * km / KM_PER_DEGREE).min(90.0), lon).unwrap();
            prop_assert!(Unit::of_km(north, km) != unit || north.lat() == 90.0);
            prop_assert!(Unit::of_km(east, km) != unit || east.lon() == 180.0);
        }
    }

    #[test]
    fn cells_meet_at_the_antimeridian_and_the_poles() {
        let at = |lat, lon| Unit::of_km(LatLon::new(lat, lon).unwrap(), 100.0);
        assert_eq!(at(10.0, 180.0), at(10.0, -180.0));
        assert_eq!(at(90.0, 0.0), at(89.99, 1.0));
        assert_ne!(at(10.0, 179.9), at(10.0, -179.9));
    }

    #[test]
    fn golden_counts() {
        // 50 of class 0 and 30 of class 1: 5 % is 2.5 and 1.5, both to the even 2; one of class 2 stays
        let classes: Vec<_> =
            (0..81u16).map(|i| Some(if i < 50 { 0 } else { u16::from(i >= 80) + 1 })).collect();
        let rows = rows(&classes);
        let among: Vec<(usize, &Row)> = rows.iter().enumerate().collect();
        assert_eq!(label_subset(&among, 0.05, 7).len(), 5);
        assert_ne!(label_subset(&among, 0.05, 7), label_subset(&among, 0.05, 8));
        assert_eq!(label_subset(&among, 1.0, 7).len(), 81);
    }
}

//! Holding rows out, and keeping only a share of the labels. Same seed, same rows, on every machine.

use std::collections::BTreeMap;

use csp_models::{labels::ClassId, place::LatLon};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Row;

/// What is kept together when rows are held out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum By {
    /// Every row for itself. Neighbouring photographs end up on both sides: figures too good.
    Random,
    /// Cells of latitude and longitude: val is apart in space.
    SpatialBlock {
        /// The side of a cell, degrees.
        degrees: f64,
    },
    /// Cameras or sites: val has backgrounds that training never saw.
    Camera,
}

/// Rows on both sides of a split, as ascending indices into the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holdout {
    /// For training. Rows that belong to no group (no place, no camera) stay here.
    pub train: Vec<usize>,
    /// Held out.
    pub held: Vec<usize>,
}

/// Why rows cannot be divided.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SplitError {
    /// Not a share.
    #[error("the share {value} is not {range}")]
    Share {
        /// The value given.
        value: f64,
        /// What it has to be.
        range: &'static str,
    },
    /// Not a size of cells.
    #[error("cells of {degrees} degrees; give a number above 0 and up to 90")]
    Degrees {
        /// The value given.
        degrees: f64,
    },
    /// One group cannot be on both sides.
    #[error("{groups} {what} cannot be divided: two are needed; {fix}")]
    TooFew {
        /// How many there are.
        groups: usize,
        /// Of what.
        what: &'static str,
        /// What else to try.
        fix: &'static str,
    },
}

/// A cell of a grid in latitude and longitude: rows and columns counted from (-90, -180).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block {
    /// Cells north of the south pole.
    pub row: u32,
    /// Cells east of the antimeridian.
    pub column: u32,
}

/// The cell of each row, `None` without a place. `degrees` is the side of a cell.
///
/// # Errors
/// [`SplitError::Degrees`] unless `degrees` is in (0, 90].
pub fn spatial_blocks(rows: &[Row], degrees: f64) -> Result<Vec<Option<Block>>, SplitError> {
    if !(degrees > 0.0 && degrees <= 90.0) {
        return Err(SplitError::Degrees { degrees });
    }
    Ok(rows.iter().map(|row| row.place.map(|place| block(place, degrees))).collect())
}

/// The cell of a place. Longitude 180 is -180.
fn block(place: LatLon, degrees: f64) -> Block {
    let cells = |value: f64| (value / degrees).floor() as u32;
    let lon = if place.lon() >= 180.0 { -180.0 } else { place.lon() };
    Block { row: cells(place.lat() + 90.0), column: cells(lon + 180.0) }
}

/// Holds out about `share` of the rows in `among` (indices into `rows`), whole groups at a time.
///
/// # Errors
/// [`SplitError`]: a share outside (0, 1), no cell size, fewer than two groups.
pub fn holdout(rows: &[Row], among: &[usize], share: f64, by: By, seed: u64) -> Result<Holdout, SplitError> {
    if !(share > 0.0 && share < 1.0) {
        return Err(SplitError::Share { value: share, range: "between 0 and 1" });
    }
    let mut loose = Vec::new();
    let (mut groups, what, fix): (Vec<Vec<usize>>, _, _) = match by {
        By::Random => (among.iter().map(|&row| vec![row]).collect(), "rows", "give more data"),
        By::SpatialBlock { degrees } => {
            let blocks = spatial_blocks(rows, degrees)?;
            (grouped(among, &mut loose, |row| blocks[row]), "spatial cells", "use smaller cells")
        }
        By::Camera => {
            let camera = |row: usize| rows[row].camera.as_deref();
            (grouped(among, &mut loose, camera), "cameras", "hold out by place or at random instead")
        }
    };
    if groups.len() < 2 {
        return Err(SplitError::TooFew { groups: groups.len(), what, fix });
    }
    shuffle(&mut groups, &mut ChaCha8Rng::seed_from_u64(seed));
    let total: usize = groups.iter().map(Vec::len).sum();
    let target = share * total as f64;
    let (mut held, mut train) = (Vec::new(), loose);
    let last = groups.len() - 1;
    for (i, group) in groups.into_iter().enumerate() {
        let (before, after) = (held.len() as f64, (held.len() + group.len()) as f64);
        // a group goes where the share comes nearer; neither side stays empty
        let nearer = (after - target).abs() < (before - target).abs();
        let train_is_bare = train.is_empty() && i == last;
        if !train_is_bare && (nearer || (held.is_empty() && i == last)) {
            held.extend(group);
        } else {
            train.extend(group);
        }
    }
    train.sort_unstable();
    held.sort_unstable();
    Ok(Holdout { train, held })
}

fn grouped<K: Ord>(
    among: &[usize],
    loose: &mut Vec<usize>,
    key: impl Fn(usize) -> Option<K>,
) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<K, Vec<usize>> = BTreeMap::new();
    for &row in among {
        match key(row) {
            Some(key) => groups.entry(key).or_default().push(row),
            None => loose.push(row),
        }
    }
    groups.into_values().collect()
}

/// The rows of `among` that keep their label when only `fraction` of the labels may be used: per class
/// `n · fraction`, rounded half to even, at least one, drawn without replacement. Ascending indices.
///
/// As in the original CSP, but seeded; and a larger fraction under the same seed keeps what a smaller one kept.
///
/// # Errors
/// [`SplitError::Share`] unless `fraction` is in (0, 1].
pub fn label_subset(
    rows: &[Row],
    among: &[usize],
    fraction: f64,
    seed: u64,
) -> Result<Vec<usize>, SplitError> {
    if !(fraction > 0.0 && fraction <= 1.0) {
        return Err(SplitError::Share { value: fraction, range: "above 0 and up to 1" });
    }
    let mut by_class: BTreeMap<ClassId, Vec<usize>> = BTreeMap::new();
    for &row in among {
        if let Some(class) = rows[row].class {
            by_class.entry(class).or_default().push(row);
        }
    }
    let mut kept = Vec::new();
    for (class, mut members) in by_class {
        // a stream of its own for each class: one class more or less changes no other
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(u64::from(class.0));
        shuffle(&mut members, &mut rng);
        let keep = (members.len() as f64 * fraction).round_ties_even() as usize;
        kept.extend(members.into_iter().take(keep.max(1)));
    }
    kept.sort_unstable();
    Ok(kept)
}

/// Fisher–Yates, written out so that no library version changes which rows are held out.
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
    use std::collections::HashSet;

    fn row(lat: f64, lon: f64, class: Option<u16>, camera: &str) -> Row {
        Row {
            name: String::new(),
            image: None,
            place: LatLon::new(lat, lon).ok(),
            season: None,
            class: class.map(ClassId),
            split: None,
            camera: (!camera.is_empty()).then(|| camera.into()),
            ..Row::default()
        }
    }

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let one = (-95.0f64..90.0, -180.0f64..180.0, proptest::option::of(0u16..6), "[a-f]{0,1}");
        proptest::collection::vec(
            one.prop_map(|(lat, lon, class, camera)| row(lat, lon, class, &camera)),
            20..200,
        )
    }

    proptest! {
        #[test]
        fn both_sides_are_disjoint_complete_and_apart(rows in rows(), share in 0.05f64..0.95, seed: u64, which in 0usize..3) {
            let by = [By::Random, By::SpatialBlock { degrees: 20.0 }, By::Camera][which];
            let among: Vec<usize> = (0..rows.len()).filter(|i| i % 5 != 0).collect();
            let Ok(split) = holdout(&rows, &among, share, by, seed) else { return Ok(()) };
            let mut all = [split.train.clone(), split.held.clone()].concat();
            all.sort_unstable();
            prop_assert_eq!(&all, &among);
            prop_assert!(!split.train.is_empty() && !split.held.is_empty());
            prop_assert_eq!(&split, &holdout(&rows, &among, share, by, seed).unwrap());
            let blocks = spatial_blocks(&rows, 20.0).unwrap();
            let key = |&i: &usize| match by {
                By::Random => Some(i.to_string()),
                By::SpatialBlock { .. } => blocks[i].map(|b| format!("{b:?}")),
                By::Camera => rows[i].camera.clone(),
            };
            let train: HashSet<String> = split.train.iter().filter_map(key).collect();
            for held in &split.held {
                prop_assert!(!train.contains(&key(held).expect("rows without a group stay in train")));
            }
        }

        #[test]
        fn random_holdout_has_the_share(rows in rows(), share in 0.1f64..0.9, seed: u64) {
            let among: Vec<usize> = (0..rows.len()).collect();
            let split = holdout(&rows, &among, share, By::Random, seed).unwrap();
            prop_assert!((split.held.len() as f64 - share * rows.len() as f64).abs() <= 1.0);
        }

        #[test]
        fn label_subsets_are_stratified_and_nested(rows in rows(), seed: u64, small in 0.01f64..0.5) {
            let among: Vec<usize> = (0..rows.len()).filter(|i| i % 3 != 0).collect();
            let kept = label_subset(&rows, &among, small, seed).unwrap();
            let more = label_subset(&rows, &among, small * 2.0, seed).unwrap();
            prop_assert!(kept.iter().all(|i| more.contains(i) && among.contains(i)));
            prop_assert!(kept.is_sorted() && kept.windows(2).all(|w| w[0] != w[1]));
            for class in 0..6 {
                let of = |set: &[usize]| set.iter().filter(|&&i| rows[i].class == Some(ClassId(class))).count();
                let n = of(&among);
                let expected = ((n as f64 * small).round_ties_even() as usize).max(1).min(n);
                prop_assert_eq!(of(&kept), expected);
            }
            prop_assert!(kept.iter().all(|&i| rows[i].class.is_some()));
        }
    }

    #[test]
    fn golden_counts_and_rows() {
        // 50 of class 0 and 30 of class 1: 5 % is 2.5 and 1.5, both to the even 2; one of class 2 stays
        let class = |i: u16| if i < 50 { 0 } else { u16::from(i >= 80) + 1 };
        let rows: Vec<Row> = (0..81).map(|i| row(1.0, 1.0, Some(class(i)), "")).collect();
        let among: Vec<usize> = (0..81).collect();
        let kept = label_subset(&rows, &among, 0.05, 7).unwrap();
        assert_eq!(kept.len(), 5);
        assert_ne!(kept, label_subset(&rows, &among, 0.05, 8).unwrap());
        assert_eq!(label_subset(&rows, &among, 1.0, 7).unwrap(), among);
        for bad in [0.0, -1.0, 1.01, f64::NAN] {
            assert!(label_subset(&rows, &among, bad, 7).is_err());
            assert!(holdout(&rows, &among, bad, By::Random, 7).is_err());
            assert!(bad > 0.5 || spatial_blocks(&rows, bad).is_err());
        }
    }

    #[test]
    fn one_group_cannot_be_divided() {
        let rows: Vec<Row> = (0..10).map(|_| row(1.0, 1.0, None, "a")).collect();
        let among: Vec<usize> = (0..10).collect();
        for by in [By::Camera, By::SpatialBlock { degrees: 5.0 }] {
            assert!(matches!(holdout(&rows, &among, 0.5, by, 1), Err(SplitError::TooFew { groups: 1, .. })));
        }
    }

    #[test]
    fn cells_meet_at_the_antimeridian() {
        let rows = [row(0.0, 180.0, None, ""), row(0.0, -180.0, None, ""), row(90.0, 0.0, None, "")];
        let blocks = spatial_blocks(&rows, 10.0).unwrap();
        assert_eq!(blocks[0], blocks[1]);
        assert_eq!(blocks[2], Some(Block { row: 18, column: 18 }));
    }
}

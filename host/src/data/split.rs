//! Dividing rows into train and val where the source does not, or not as wanted.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use csp_models::place::LatLon;

use super::{Row, Split, rows::Draft, units::Unit};

/// How rows are divided: section `[split]` of a configuration, `--split-by` on the command line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SplitPlan {
    /// What stays together: `given`, `random`, `block` (of 100 km), `block:KM`, `camera`.
    pub by: SplitBy,
    /// Share of the rows that goes to val.
    pub val: f64,
    /// Seed of the draw.
    pub seed: u64,
}

impl Default for SplitPlan {
    fn default() -> Self {
        Self { by: SplitBy::Given, val: 0.2, seed: 0 }
    }
}

impl SplitPlan {
    /// True when the source's own splits stay.
    pub fn is_given(&self) -> bool {
        self.by == SplitBy::Given
    }
}

/// What stays together when rows are divided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SplitBy {
    /// Nothing is divided: the source's own splits.
    #[default]
    Given,
    /// Every row for itself. Neighbouring photographs end up on both sides: figures too good.
    Random,
    /// Cells of the map: val is apart in space.
    Block {
        /// Height and about the width of a cell, kilometres.
        km: f64,
    },
    /// Cameras or sites: val has backgrounds that training never saw.
    Camera,
}

/// Cells of `block` without a size: about the 1° of latitude of other spatially blocked benchmarks.
const BLOCK_KM: f64 = 100.0;

impl FromStr for SplitBy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let km = |text: &str| {
            let number = text.trim_end_matches("km").trim();
            let km = number.parse().ok().filter(|km| (0.1..=5000.0).contains(km));
            km.ok_or_else(|| format!("a block of {text:?}; give its size in km, 0.1 to 5000, as in block:50"))
        };
        match text.trim() {
            "given" => Ok(Self::Given),
            "random" => Ok(Self::Random),
            "block" => Ok(Self::Block { km: BLOCK_KM }),
            "camera" => Ok(Self::Camera),
            other => match other.strip_prefix("block:") {
                Some(size) => Ok(Self::Block { km: km(size)? }),
                None => Err(format!("{other:?} is none of given, random, block, block:KM, camera")),
            },
        }
    }
}

impl TryFrom<String> for SplitBy {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<SplitBy> for String {
    fn from(by: SplitBy) -> Self {
        by.to_string()
    }
}

impl fmt::Display for SplitBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given => f.write_str("given"),
            Self::Random => f.write_str("random"),
            Self::Block { km } => write!(f, "block:{km}"),
            Self::Camera => f.write_str("camera"),
        }
    }
}

/// Why rows cannot be divided.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SplitError {
    /// Not a share.
    #[error("split: the share {value} for val is not between 0 and 1")]
    Share {
        /// The value given.
        value: f64,
    },
    /// One group cannot be on both sides.
    #[error("split by {by}: {groups} {what} cannot be divided, two are needed; {fix}")]
    TooFew {
        /// What was to stay together.
        by: String,
        /// How many groups there are.
        groups: usize,
        /// Of what.
        what: &'static str,
        /// What else to try.
        fix: &'static str,
    },
}

/// What has a place, a camera and a split.
pub(crate) trait Dividable {
    fn place(&self) -> Option<LatLon>;
    fn camera(&self) -> Option<&str>;
    fn split(&mut self) -> &mut Option<Split>;
}

macro_rules! dividable {
    ($row:ty) => {
        impl Dividable for $row {
            fn place(&self) -> Option<LatLon> {
                self.place
            }
            fn camera(&self) -> Option<&str> {
                self.camera.as_deref()
            }
            fn split(&mut self) -> &mut Option<Split> {
                &mut self.split
            }
        }
    };
}

dividable!(Draft);
dividable!(Row);

/// Divides rows between train and `held`, and says how in a line; a third split the source has stays.
/// Rows that belong to no group (no place, no camera) go to train.
///
/// # Errors
/// [`SplitError`].
pub(crate) fn assign(
    rows: &mut [impl Dividable],
    plan: &SplitPlan,
    held: Split,
) -> Result<Option<String>, SplitError> {
    let (what, fix) = match plan.by {
        SplitBy::Given => return Ok(None),
        SplitBy::Random => ("rows", "give more data"),
        SplitBy::Block { .. } => ("cells", "give smaller cells, as in block:10"),
        SplitBy::Camera => ("cameras", "divide by block or at random, or give a column `camera`"),
    };
    if !(plan.val > 0.0 && plan.val < 1.0) {
        return Err(SplitError::Share { value: plan.val });
    }
    let mut groups: BTreeMap<Unit<'_>, Vec<usize>> = BTreeMap::new();
    let (mut loose, mut kept) = (Vec::new(), 0);
    let stays: Vec<bool> = rows
        .iter_mut()
        .map(|row| row.split().is_some_and(|split| split != Split::Train && split != held))
        .collect();
    for (row, one) in rows.iter().enumerate() {
        let unit = match plan.by {
            _ if stays[row] => {
                kept += 1;
                continue;
            }
            SplitBy::Given | SplitBy::Random => Some(Unit::Row(row)),
            SplitBy::Block { km } => one.place().map(|place| Unit::of_km(place, km)),
            SplitBy::Camera => one.camera().map(Unit::Camera),
        };
        match unit {
            Some(unit) => groups.entry(unit).or_default().push(row),
            None => loose.push(row),
        }
    }
    let count = groups.len();
    if count < 2 {
        return Err(SplitError::TooFew { by: plan.by.to_string(), groups: count, what, fix });
    }
    let grouped: usize = groups.values().map(Vec::len).sum();
    let mut order: Vec<(Unit<'_>, Vec<usize>)> = groups.into_iter().collect();
    order.sort_by_key(|(unit, _)| unit.key(plan.seed, "split"));
    let target = plan.val * grouped as f64;
    let (mut out, mut train) = (Vec::new(), Vec::new());
    for (i, (_, members)) in order.into_iter().enumerate() {
        let (before, after) = (out.len() as f64, (out.len() + members.len()) as f64);
        // a group goes where the share comes nearer; neither side stays empty
        let nearer = (after - target).abs() < (before - target).abs();
        let last = i + 1 == count;
        if !(last && train.is_empty()) && (nearer || (last && out.is_empty())) {
            out.extend(members);
        } else {
            train.extend(members);
        }
    }
    let mut note = format!(
        "divided by {} (seed {}): {} train, {} {held}, of {count} {what}",
        plan.by,
        plan.seed,
        train.len() + loose.len(),
        out.len()
    );
    if !loose.is_empty() {
        note += &format!(
            "; {} rows without a {} go to train",
            loose.len(),
            if plan.by == SplitBy::Camera { "camera" } else { "place" }
        );
    }
    if kept > 0 {
        let other = if held == Split::Test { Split::Val } else { Split::Test };
        note += &format!("; {kept} {other} rows stay");
    }
    train.into_iter().chain(loose).for_each(|row| *rows[row].split() = Some(Split::Train));
    out.into_iter().for_each(|row| *rows[row].split() = Some(held));
    Ok(Some(note))
}

#[cfg(test)]
mod tests {
    use super::*;
    use csp_models::place::LatLon;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn draft(lat: f64, lon: f64, camera: &str, test: bool) -> Draft {
        Draft {
            place: LatLon::new(lat, lon).ok(),
            camera: (!camera.is_empty()).then(|| camera.into()),
            split: test.then_some(Split::Test),
            ..Draft::default()
        }
    }

    fn drafts() -> impl Strategy<Value = Vec<Draft>> {
        let one = (-95.0f64..90.0, -180.0f64..180.0, "[a-f]{0,1}", proptest::bool::weighted(0.1));
        let one = one.prop_map(|(lat, lon, camera, test)| draft(lat, lon, &camera, test));
        proptest::collection::vec(one, 20..200)
    }

    proptest! {
        #[test]
        fn both_sides_are_complete_and_apart(drafts in drafts(), val in 0.05f64..0.95, seed: u64, which in 0usize..3) {
            let by = [SplitBy::Random, SplitBy::Block { km: 2000.0 }, SplitBy::Camera][which];
            let plan = SplitPlan { by, val, seed };
            let mut split = drafts.clone();
            let Ok(note) = assign(&mut split, &plan, Split::Val) else { return Ok(()) };
            let mut again = drafts.clone();
            prop_assert_eq!(note, assign(&mut again, &plan, Split::Val).unwrap());
            let of = |wanted| split.iter().enumerate().filter(move |(_, d)| d.split == Some(wanted));
            prop_assert!(of(Split::Train).count() > 0 && of(Split::Val).count() > 0);
            for (i, (before, after)) in drafts.iter().zip(&split).enumerate() {
                prop_assert!(after.split.is_some());
                prop_assert_eq!(before.split == Some(Split::Test), after.split == Some(Split::Test));
                prop_assert_eq!(after.split, again[i].split);
            }
            let key = |(i, draft): (usize, &Draft)| match by {
                SplitBy::Block { km } => draft.place.map(|place| format!("{:?}", Unit::of_km(place, km))),
                SplitBy::Camera => draft.camera.as_deref().map(str::to_string),
                _ => Some(i.to_string()),
            };
            let train: HashSet<String> = of(Split::Train).filter_map(key).collect();
            for held in of(Split::Val) {
                prop_assert!(!train.contains(&key(held).expect("rows without a group go to train")));
            }
        }

        #[test]
        fn random_has_the_share(drafts in drafts(), val in 0.1f64..0.9, seed: u64) {
            let mut split = drafts;
            assign(&mut split, &SplitPlan { by: SplitBy::Random, val, seed }, Split::Val).unwrap();
            let of = |wanted| split.iter().filter(|d| d.split == Some(wanted)).count() as f64;
            let n = of(Split::Train) + of(Split::Val);
            prop_assert!((of(Split::Val) - val * n).abs() <= 1.0);
        }
    }

    #[test]
    fn what_cannot_be_divided_is_named() {
        let one: Vec<Draft> = (0..10).map(|_| draft(1.0, 1.0, "a", false)).collect();
        for (by, says) in [("camera", "1 cameras"), ("block:5", "1 cells")] {
            let plan = SplitPlan { by: by.parse().unwrap(), ..SplitPlan::default() };
            let error = assign(&mut one.clone(), &plan, Split::Val).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains(by), "{error}");
        }
        for val in [0.0, 1.0, f64::NAN] {
            let plan = SplitPlan { by: SplitBy::Random, val, seed: 0 };
            assert!(assign(&mut one.clone(), &plan, Split::Val).is_err());
        }
        assert_eq!(assign(&mut one.clone(), &SplitPlan::default(), Split::Val), Ok(None));
    }

    #[test]
    fn the_ways_are_written_as_they_are_read() {
        for text in ["given", "random", "block:100", "block:2.5", "camera"] {
            assert_eq!(text.parse::<SplitBy>().unwrap().to_string(), text);
        }
        assert_eq!("block".parse(), Ok(SplitBy::Block { km: 100.0 }));
        for bad in ["", "blocks", "block:", "block:0", "block:-3", "block:NaN", "camera:1"] {
            assert!(bad.parse::<SplitBy>().is_err(), "{bad}");
        }
        let plan: SplitPlan = toml::from_str("by = \"block:50\"\nval = 0.3").unwrap();
        assert_eq!(plan, SplitPlan { by: SplitBy::Block { km: 50.0 }, val: 0.3, seed: 0 });
        assert!(toml::from_str::<SplitPlan>("by = \"house\"").is_err());
    }
}

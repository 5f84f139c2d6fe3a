//! Which row may teach what. A [`TrainingSet`] is all that the stages see of a data set: the labels
//! it does not grant are not in it, so no stage can look at one.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use csp_models::{
    encoder::PositionEncoder,
    labels::{ClassId, Labels},
    place::LatLon,
    situation::Situation,
    time::YearFraction,
};
use serde::{Deserialize, Serialize};

use super::{TrainError, config::HoldoutConfig};
use crate::data::{
    Dataset, Row, Split,
    units::{self, Unit},
};

/// What a training row is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Its label trains.
    Labelled,
    /// Its label calibrates and is never trained on.
    Holdout,
    /// It has no label, or its label is hidden; pre-training may see picture and place.
    Unlabelled,
    /// Unlabelled and in a held-out cell: not used at all, so that the cell stays unseen.
    Shielded,
}

/// One row as the stages see it.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Index into the data set's rows.
    pub row: usize,
    /// The photograph.
    pub image: Option<PathBuf>,
    /// Where.
    pub place: Option<LatLon>,
    /// When.
    pub date: Option<YearFraction>,
    /// What; only for [`Role::Labelled`] and [`Role::Holdout`].
    pub class: Option<ClassId>,
    /// What it is used for.
    pub role: Role,
}

impl Sample {
    /// Where and when; `None` without a place.
    pub fn situation(&self) -> Option<Situation> {
        self.place.map(|at| Situation::new(at, self.date))
    }
}

/// The training rows with the labels that training may use.
#[derive(Clone, Debug)]
pub struct TrainingSet {
    /// The rows, in the order of the data set.
    pub samples: Vec<Sample>,
    /// The classes.
    pub labels: Labels,
}

/// The rows of a run by role: `rows.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowRoles {
    /// See [`Role::Labelled`]; indices into the data set's rows, ascending, as in the lists below.
    pub labelled: Vec<usize>,
    /// See [`Role::Holdout`].
    pub holdout: Vec<usize>,
    /// See [`Role::Unlabelled`].
    pub unlabelled: Vec<usize>,
    /// See [`Role::Shielded`].
    pub shielded: Vec<usize>,
}

impl TrainingSet {
    /// Grants `fraction` of the labels of the training rows, class by class, and holds some of them
    /// out for calibration. Rows of the other splits are left out; a table without splits is all
    /// training rows.
    ///
    /// # Errors
    /// No training row, or no labelled one, or fewer than two classes among them.
    pub fn new(
        dataset: &Dataset,
        fraction: f64,
        seed: u64,
        holdout: &HoldoutConfig,
    ) -> Result<Self, TrainError> {
        let refuse = |problem: String| TrainError::Data { data: dataset.source.clone(), problem };
        let train: Vec<(usize, &Row)> = (dataset.rows.iter().enumerate())
            .filter(|(_, row)| matches!(row.split, None | Some(Split::Train)))
            .collect();
        if train.is_empty() {
            return Err(refuse("no row has split = train".into()));
        }
        let granted = units::label_subset(&train, fraction, seed);
        if granted.is_empty() {
            return Err(refuse("no training row has a label".into()));
        }
        let classes: BTreeSet<ClassId> = granted.values().copied().collect();
        if classes.len() < 2 {
            let only = dataset.labels.name(granted[granted.keys().next().unwrap_or(&0)]);
            return Err(refuse(format!(
                "every labelled training row is {only:?}: a classifier needs at least two classes"
            )));
        }
        let want = ((granted.len() as f64 * holdout.share).round() as usize).min(holdout.max_rows);
        let blocks = units::hold_out(&train, &granted, want, holdout.block_deg, seed);
        let samples = train.into_iter().map(|(row, source)| {
            let held = blocks.binary_search(&Unit::of_degrees(row, source.place, holdout.block_deg)).is_ok();
            let class = granted.get(&row).copied();
            let role = match (class, held) {
                (Some(_), true) => Role::Holdout,
                (Some(_), false) => Role::Labelled,
                (None, true) if holdout.shield => Role::Shielded,
                (None, _) => Role::Unlabelled,
            };
            let date = source.season.and_then(YearFraction::new);
            Sample { row, image: source.image.clone(), place: source.place, date, class, role }
        });
        Ok(Self { samples: samples.collect(), labels: dataset.labels.clone() })
    }

    /// Leaves out the classes that no granted label is of: nothing would teach them, and what a network
    /// says of a class it was never taught is anything. Returns their names.
    pub(crate) fn leave_out_untaught(&mut self) -> Vec<String> {
        let taught: BTreeSet<ClassId> = self.samples.iter().filter_map(|sample| sample.class).collect();
        let mut numbers = BTreeMap::new();
        let (mut kept, mut left_out) = (Vec::new(), Vec::new());
        for (label, class) in std::mem::take(&mut self.labels.0).into_iter().zip((0..).map(ClassId)) {
            if taught.contains(&class) {
                numbers.insert(class, ClassId(kept.len() as u16));
                kept.push(label);
            } else {
                left_out.push(label.name);
            }
        }
        self.labels = Labels(kept);
        self.samples.iter_mut().for_each(|sample| {
            sample.class = sample.class.and_then(|class| numbers.get(&class).copied());
        });
        left_out
    }

    /// Marks the classes that no row with a place teaches ([`Label::placed`](csp_models::labels::Label)),
    /// unless that is so of all of them. Returns their names.
    pub(crate) fn mark_unplaced(&mut self) -> Vec<String> {
        let teaching = self.samples.iter().filter(|sample| sample.role == Role::Labelled);
        let placed: BTreeSet<ClassId> =
            teaching.filter(|sample| sample.place.is_some()).filter_map(|sample| sample.class).collect();
        if placed.is_empty() {
            return Vec::new();
        }
        let labels = self.labels.0.iter_mut().zip((0..).map(ClassId));
        let unplaced = labels.filter(|(_, class)| !placed.contains(class));
        unplaced
            .map(|(label, _)| {
                label.placed = false;
                label.name.clone()
            })
            .collect()
    }

    /// Indices of the samples with one of these roles.
    pub fn with_role(&self, roles: &[Role]) -> Vec<usize> {
        let samples = self.samples.iter().enumerate();
        samples.filter(|(_, s)| roles.contains(&s.role)).map(|(i, _)| i).collect()
    }

    /// What becomes of the dates, in words; `None` for an encoder without a season.
    ///
    /// # Errors
    /// A season is asked for and no row with a place has a date.
    pub(crate) fn about_dates(&self, encoder: &PositionEncoder) -> Result<Option<String>, TrainError> {
        if !encoder.season() {
            return Ok(None);
        }
        let placed = self.samples.iter().filter_map(Sample::situation);
        let (dated, undated): (Vec<_>, Vec<_>) = placed.partition(|place| place.date.is_some());
        match (dated.len(), undated.len()) {
            (0, _) => Err(TrainError::Config {
                field: "location.encoder.season".into(),
                problem: "no training row with a place has a date: give the data a `date` column, or leave this out"
                    .into(),
            }),
            (dated, 0) => Ok(Some(format!("season: all {dated} training rows with a place have a date"))),
            (dated, undated) => Ok(Some(format!(
                "season: {dated} training rows with a place have a date, {undated} have none: they teach for the \
                 whole year, from the middle of its circle"
            ))),
        }
    }

    /// Number of cells with a labelled row.
    pub(crate) fn labelled_cells(&self, block_deg: f64) -> usize {
        let placed = self.samples.iter().filter(|s| s.class.is_some() && s.place.is_some());
        placed.map(|s| Unit::of_degrees(s.row, s.place, block_deg)).collect::<BTreeSet<_>>().len()
    }

    /// The rows by role.
    pub fn roles(&self) -> RowRoles {
        let rows = |role| self.with_role(&[role]).into_iter().map(|i| self.samples[i].row).collect();
        RowRoles {
            labelled: rows(Role::Labelled),
            holdout: rows(Role::Holdout),
            unlabelled: rows(Role::Unlabelled),
            shielded: rows(Role::Shielded),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use csp_models::labels::Label;
    use sha2::{Digest, Sha256};

    /// 600 rows over 30 cells, three classes, a quarter of them validation rows.
    fn dataset() -> Dataset {
        let rows = (0..600).map(|i| Row {
            name: format!("{i}").into(),
            image: None,
            place: LatLon::new(f64::from(i % 6) + 0.5, f64::from(i / 6 % 5) + 0.5).ok(),
            season: None,
            class: Some(ClassId((i * 7 % 3) as u16)),
            split: Some(if i % 4 == 3 { Split::Val } else { Split::Train }),
            ..Row::default()
        });
        Dataset {
            source: "t.csv".into(),
            rows: rows.collect(),
            labels: Labels(["a", "b", "c"].map(Label::new).to_vec()),
            options: crate::data::Options::default(),
            sha256: String::new(),
        }
    }

    fn set(dataset: &Dataset, fraction: f64) -> TrainingSet {
        TrainingSet::new(dataset, fraction, 1, &HoldoutConfig::default()).unwrap()
    }

    #[test]
    fn only_granted_labels_are_there() {
        let data = dataset();
        let set = set(&data, 0.2);
        let roles = set.roles();
        assert_eq!(set.samples.len(), 450);
        assert_eq!(roles.labelled.len() + roles.holdout.len(), 90);
        assert!((9..=21).contains(&roles.holdout.len()), "{}", roles.holdout.len());
        for sample in &set.samples {
            let granted = matches!(sample.role, Role::Labelled | Role::Holdout);
            assert_eq!(sample.class.is_some(), granted);
            assert_ne!(data.rows[sample.row].split, Some(Split::Val));
        }
        for class in 0..3 {
            let n = set.samples.iter().filter(|s| s.class == Some(ClassId(class))).count();
            assert_eq!(n, 30);
        }
    }

    #[test]
    fn held_out_cells_are_seen_by_nothing_else() {
        let data = dataset();
        let set = set(&data, 0.2);
        let cell = |s: &Sample| Unit::of_degrees(s.row, s.place, 1.0);
        let held: Vec<Unit<'_>> = set.samples.iter().filter(|s| s.role == Role::Holdout).map(cell).collect();
        for sample in &set.samples {
            let inside = held.contains(&cell(sample));
            assert_eq!(inside, matches!(sample.role, Role::Holdout | Role::Shielded), "{sample:?}");
        }
    }

    #[test]
    fn hidden_labels_change_nothing() {
        let mut data = dataset();
        let before = set(&data, 0.2).roles();
        let hidden: Vec<usize> = before.unlabelled.iter().chain(&before.shielded).copied().collect();
        for &row in &hidden {
            data.rows[row].class = None;
        }
        assert_eq!(set(&data, 1.0).roles(), before, "the same rows, all other labels deleted");
    }

    #[test]
    fn the_draws_are_those_of_earlier_runs() {
        // tools/roles_referee.py, which also agrees with rows.json of EuroSAT runs made before
        let mut data = dataset();
        data.rows.iter_mut().step_by(7).for_each(|row| row.place = None);
        let roles = set(&data, 0.2).roles();
        let mut hash = Sha256::new();
        for list in [&roles.labelled, &roles.holdout, &roles.unlabelled, &roles.shielded] {
            hash.update(list.len().to_le_bytes());
            list.iter().for_each(|row| hash.update(row.to_le_bytes()));
        }
        let digest = csp_models::bundle::hex(&hash.finalize());
        assert_eq!(digest, "18287e0067ac2899fd00ca1ab2b301650fc4bb63cc4fbaf3da8bfdf76d9ae0be");
    }

    #[test]
    fn a_class_that_nothing_teaches_is_none_of_the_models() {
        let mut data = dataset();
        // "b" occurs in val alone, "c" has no place in training
        for row in data.rows.iter_mut().filter(|row| row.split == Some(Split::Train)) {
            match row.class {
                Some(ClassId(1)) => row.class = Some(ClassId(0)),
                Some(ClassId(2)) => row.place = None,
                _ => {}
            }
        }
        let mut set = set(&data, 1.0);
        assert_eq!(set.leave_out_untaught(), ["b"]);
        assert_eq!(set.mark_unplaced(), ["c"]);
        let known: Vec<(&str, bool)> = set.labels.0.iter().map(|l| (l.name.as_str(), l.placed)).collect();
        assert_eq!(known, [("a", true), ("c", false)]);
        for sample in &set.samples {
            let name = sample.class.map(|class| set.labels.name(class));
            let was = data.rows[sample.row].class.map(|class| data.labels.name(class));
            assert_eq!(name, was, "the classes are the same under new numbers");
        }
        // nothing to leave out, nothing to mark
        let mut whole = super::tests::set(&dataset(), 1.0);
        assert!(whole.leave_out_untaught().is_empty() && whole.mark_unplaced().is_empty());
        assert_eq!(whole.labels, dataset().labels);
    }

    #[test]
    fn refuses_what_cannot_be_trained_on() {
        let refusal = |change: fn(&mut Row)| {
            let mut data = dataset();
            data.rows.iter_mut().for_each(change);
            TrainingSet::new(&data, 1.0, 1, &HoldoutConfig::default()).unwrap_err().to_string()
        };
        assert!(refusal(|r| r.split = Some(Split::Val)).contains("split = train"));
        assert!(refusal(|r| r.class = None).contains("no training row has a label"));
        assert!(refusal(|r| r.class = Some(ClassId(1))).contains("\"b\""));
    }
}

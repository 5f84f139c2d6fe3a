//! How rows are divided into training and what is reported on. The same data divided at random and by
//! blocks shows how much of an accuracy is neighbours of the training rows.

use std::path::PathBuf;

use super::SweepError;
use crate::data::{Dataset, Split, SplitBy, SplitPlan};

/// Share of the rows to report on where the table's own split does not say.
const SHARE: f64 = 0.15;

/// The data with training rows and rows of `held` divided anew, as many of `held` as before. The other
/// rows stay what they are. The division does not depend on the seeds of the sweep, and its runs know it
/// as those of `train --split-by` do.
///
/// # Errors
/// [`SweepError::Split`] where the rows cannot be divided so, [`SweepError::Twice`].
pub(super) fn divide(by: SplitBy, data: &Dataset, held: Split) -> Result<Dataset, SweepError> {
    if by == SplitBy::Given {
        return Ok(data.clone());
    }
    if held != Split::Val && data.options.split.is_some() {
        // val rows of the first division would stay, and no single division makes such rows again
        return Err(SweepError::Twice { held });
    }
    let count = |wanted: fn(Split, Split) -> bool| {
        data.rows.iter().filter(|row| wanted(row.split.unwrap_or(Split::Train), held)).count()
    };
    let before = count(|split, held| split == held);
    let among = before + count(|split, _| split == Split::Train);
    let share = if before == 0 { SHARE } else { before as f64 / among as f64 };
    // nine digits are read back from run.json as they are, and tell 10⁸ rows apart
    let share = (share * 1e9).round() / 1e9;
    let plan = SplitPlan { by, val: share, seed: 0 };
    data.divided(&plan, held).map_err(|source| SweepError::Split { data: data.source.clone(), source })
}

/// Folder of the runs below a sweep's.
pub(super) fn runs(by: SplitBy) -> PathBuf {
    match by {
        SplitBy::Given => "runs".into(),
        other => PathBuf::from("runs").join(other.to_string().replace(':', "-")),
    }
}

/// `name` for this division: itself for the table's own split.
pub(super) fn file_name(by: SplitBy, name: &str) -> String {
    match by {
        SplitBy::Given => name.into(),
        other => format!("{}-{name}", other.to_string().replace(':', "-")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Options, Row};
    use csp_models::{
        labels::{ClassId, Label, Labels},
        place::LatLon,
    };

    fn data() -> Dataset {
        let rows = (0..200u32).map(|i| Row {
            name: format!("{i}").into(),
            place: LatLon::new(f64::from(i % 20) + 0.5, 0.5).ok(),
            class: Some(ClassId((i % 2) as u16)),
            split: Some([Split::Train, Split::Train, Split::Train, Split::Val, Split::Test][i as usize % 5]),
            ..Row::default()
        });
        Dataset {
            source: "t.csv".into(),
            rows: rows.collect(),
            labels: Labels(["a", "b"].map(Label::new).to_vec()),
            options: Options::default(),
            sha256: "ab".into(),
        }
    }

    fn cells(data: &Dataset, split: Split) -> std::collections::BTreeSet<i64> {
        let rows = data.rows.iter().filter(|row| row.split == Some(split));
        rows.filter_map(|row| row.place).map(|at| at.lat() as i64).collect()
    }

    #[test]
    fn blocks_keep_cells_apart_and_chance_does_not() {
        let data = data();
        let blocks = divide(SplitBy::Block { km: 111.0 }, &data, Split::Val).unwrap();
        assert!(cells(&blocks, Split::Train).is_disjoint(&cells(&blocks, Split::Val)));
        let random = divide(SplitBy::Random, &data, Split::Val).unwrap();
        assert!(!cells(&random, Split::Train).is_disjoint(&cells(&random, Split::Val)));
        for divided in [&blocks, &random] {
            let count = |split| divided.rows.iter().filter(|row| row.split == Some(split)).count();
            assert!((30..=50).contains(&count(Split::Val)), "{}", count(Split::Val));
            for (row, before) in divided.rows.iter().zip(&data.rows) {
                assert_eq!(row.split == Some(Split::Test), before.split == Some(Split::Test));
            }
        }
        // runs of the division know it, so that their rows are found again
        let plan = blocks.options.split.clone().unwrap();
        assert_eq!((plan.by, plan.val, blocks.options.held_out), (SplitBy::Block { km: 111.0 }, 0.25, None));
        let test = divide(SplitBy::Random, &data, Split::Test).unwrap();
        assert_eq!(test.options.held_out, Some(Split::Test));
        let twice = divide(SplitBy::Random, &blocks, Split::Test).unwrap_err().to_string();
        assert!(twice.contains("--split-by") && twice.contains("--split test"), "{twice}");
        let digests = [&data, &blocks, &random].map(|data| data.sha256.clone());
        assert!(digests[0] != digests[1] && digests[1] != digests[2]);
        assert!(divide(SplitBy::Camera, &data, Split::Val).unwrap_err().to_string().contains("camera"));
    }
}

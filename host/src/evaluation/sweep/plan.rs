//! How rows are divided into training and what is reported on. The same data divided at random and by
//! blocks shows how much of an accuracy is neighbours of the training rows.

use std::path::PathBuf;

use csp_models::bundle::sha256_hex;

use super::SweepError;
use crate::data::{
    Dataset, Split, SplitBy, SplitPlan,
    split::{self, SplitError},
};

/// Share of the rows to report on where the table's own split does not say.
const SHARE: f64 = 0.15;

/// The data with training rows and rows of `held` divided anew, as many of `held` as before. The other
/// rows stay what they are. The division does not depend on the seeds of the sweep.
///
/// # Errors
/// [`SweepError::Split`] where the rows cannot be divided so.
pub(super) fn divide(by: SplitBy, data: &Dataset, held: Split) -> Result<Dataset, SweepError> {
    if by == SplitBy::Given {
        return Ok(data.clone());
    }
    let count = |wanted: fn(Split, Split) -> bool| {
        data.rows.iter().filter(|row| wanted(row.split.unwrap_or(Split::Train), held)).count()
    };
    let before = count(|split, held| split == held);
    let among = before + count(|split, _| split == Split::Train);
    let share = if before == 0 { SHARE } else { before as f64 / among as f64 };
    let mut divided = data.clone();
    let plan = SplitPlan { by, val: share, seed: 0 };
    split::assign(&mut divided.rows, &plan, held)
        .map_err(|source: SplitError| SweepError::Split { data: data.source.clone(), source })?;
    divided.sha256 = sha256_hex(format!("{} {by} {held:?}", data.sha256).as_bytes());
    Ok(divided)
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
        let digests = [&data, &blocks, &random].map(|data| data.sha256.clone());
        assert!(digests[0] != digests[1] && digests[1] != digests[2]);
        assert!(divide(SplitBy::Camera, &data, Split::Val).unwrap_err().to_string().contains("camera"));
    }
}

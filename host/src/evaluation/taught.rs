//! Which of the rows that are asked about are a run's own training rows.

use std::collections::BTreeSet;

use csp_models::labels::ClassId;

use crate::{
    data::{self, Dataset, Row},
    training::{RunDir, TrainError},
};

/// What is to be said of asked rows that the run learned from: figures on them do not tell what to expect
/// of others. `None` where there are none, and for other data than the run's.
///
/// # Errors
/// The run's list of rows is missing or damaged.
pub fn about_taught(
    run: &RunDir,
    data: &Dataset,
    rows: &[(&Row, ClassId)],
) -> Result<Option<String>, TrainError> {
    let info = run.info();
    if data.sha256 != info.data_sha256 {
        if data.source != info.data {
            return Ok(None);
        }
        if !same_rows(run, data) {
            return Ok(Some(format!(
                "warning: {} is not as the run read it, so it is not known which of the rows taught the run",
                data.source.display()
            )));
        }
    }
    let roles = run.rows()?;
    let asked = asked(data, rows);
    let count = |of: &[usize]| of.iter().filter(|row| asked.contains(row)).count();
    let counts = [
        (count(&roles.labelled), "taught it"),
        (count(&roles.holdout), "calibrated it"),
        (count(&roles.unlabelled), "were shown to it without their labels"),
    ];
    let all: usize = counts.iter().map(|(count, _)| count).sum();
    let each: Vec<String> = (counts.iter().filter(|(count, _)| *count > 0))
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    Ok((all > 0).then(|| {
        format!(
            "warning: {all} of {} rows asked are the run's own training rows: {}; \
             --split val or test asks about others",
            rows.len(),
            each.join(", ")
        )
    }))
}

/// Whether the run's data, read as the run read it, has the same rows in the same order: then `data` is
/// the same, divided otherwise.
fn same_rows(run: &RunDir, data: &Dataset) -> bool {
    let info = run.info();
    data::open_with(&info.data, &info.data_options).is_ok_and(|opened| {
        let was = opened.dataset;
        let same = |(was, is): (&Row, &Row)| was.name == is.name && was.place == is.place;
        was.sha256 == info.data_sha256
            && was.rows.len() == data.rows.len()
            && was.rows.iter().zip(&data.rows).all(same)
    })
}

/// Indices of the rows, which are some of the data's in its order.
fn asked(data: &Dataset, rows: &[(&Row, ClassId)]) -> BTreeSet<usize> {
    let mut rows = rows.iter().peekable();
    let all = data.rows.iter().enumerate();
    all.filter(|(_, row)| rows.next_if(|(asked, _)| std::ptr::eq(*asked, *row)).is_some())
        .map(|(at, _)| at)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{fmt::Write as _, fs, path::Path};

    use super::*;
    use crate::{
        data::{Options, Split, SplitBy, SplitPlan},
        evaluation::labelled,
        training::{TrainConfig, TrainingSet, run_dir::RunInfo},
    };

    /// Forty places of two classes.
    fn table(path: &Path) -> Dataset {
        let mut text = String::from("lat,lon,label,split\n");
        for i in 0..40 {
            let split = if i % 4 == 0 { "val" } else { "train" };
            writeln!(text, "{}.5,{}.25,{},{split}", i - 20, 2 * i, ["fox", "owl"][i as usize % 2]).unwrap();
        }
        fs::write(path, text).unwrap();
        data::open(path, None).unwrap().dataset
    }

    #[test]
    fn training_rows_are_counted_in_whatever_division_they_are_asked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        let given = table(&path);
        let plan = SplitPlan { by: SplitBy::Random, val: 0.25, seed: 0 };
        let divided = given.divided(&plan, Split::Val).unwrap();
        let opened = data::open_with(&path, &divided.options).unwrap().dataset;
        assert_eq!((&opened.sha256, &opened.rows), (&divided.sha256, &divided.rows));
        let config = TrainConfig::default();
        let set = TrainingSet::new(&divided, 1.0, 0, &config.holdout).unwrap();
        let info = RunInfo::new(&divided, 0, 1.0, "flex".into(), config);
        let run = RunDir::create(&dir.path().join("run"), info, &set.roles()).unwrap();

        let about = |data: &Dataset, split| {
            let rows = labelled(data, split, &data.labels).unwrap();
            about_taught(&run, data, &rows).unwrap()
        };
        assert_eq!(about(&opened, Some(Split::Val)), None);
        let said = about(&opened, None).unwrap();
        assert!(said.contains("30 of 40 rows") && said.contains("calibrated it"), "{said}");
        // the table's own val has rows of the division's train
        let said = about(&given, Some(Split::Val)).unwrap();
        assert!(said.contains("of 10 rows asked are the run's own"), "{said}");

        let elsewhere = table(&dir.path().join("other.csv"));
        assert_eq!(about(&elsewhere, None), None);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replacen("fox", "yak", 1)).unwrap();
        let changed = data::open_with(&path, &Options::default()).unwrap().dataset;
        assert!(about(&changed, None).unwrap().contains("not known"), "changed since");
    }
}

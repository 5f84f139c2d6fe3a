//! Where added classes were seen: `model/records.json` of a run that
//! [`add_class`](super::add_class::add_class) made.

use std::path::PathBuf;

use csp_models::{
    place::{LatLon, PlaceError},
    situation::Situation,
    time::YearFraction,
};
use serde::{Deserialize, Serialize};

use super::{
    RunDir, TrainError,
    run_dir::{read_json, write_json},
};

/// The records of every added class of a run, in the order they were added.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AddedRecords {
    /// Name of a class, and where and when it was seen.
    pub classes: Vec<(String, Vec<Situation>)>,
}

/// A class in the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Class {
    class: String,
    records: Vec<Record>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    lat: f64,
    lon: f64,
    /// Time of the year, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    season: Option<f64>,
}

impl From<&Situation> for Record {
    fn from(seen: &Situation) -> Self {
        Self { lat: seen.at.lat(), lon: seen.at.lon(), season: seen.date.map(YearFraction::value) }
    }
}

impl TryFrom<&Record> for Situation {
    type Error = PlaceError;

    fn try_from(record: &Record) -> Result<Self, PlaceError> {
        Ok(Self::new(LatLon::new(record.lat, record.lon)?, record.season.and_then(YearFraction::new)))
    }
}

fn path(run: &RunDir) -> PathBuf {
    run.model().join("records.json")
}

impl AddedRecords {
    /// Those of a run; none where no class was added.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn read(run: &RunDir) -> Result<Self, TrainError> {
        let path = path(run);
        if !path.exists() {
            return Ok(Self::default());
        }
        let corrupt = |reason: String| {
            TrainError::corrupt(&path, format!("{reason}: it is damaged; make the run again with add-class"))
        };
        let file: Vec<Class> = read_json(&path).map_err(|error| match error {
            TrainError::Corrupt { reason, .. } => corrupt(reason),
            other => other,
        })?;
        let classes = file.into_iter().map(|Class { class, records }| {
            let records: Result<Vec<Situation>, _> = records.iter().map(Situation::try_from).collect();
            let records = records.map_err(|error| corrupt(format!("{class:?}: {error}")))?;
            Ok((class, records))
        });
        Ok(Self { classes: classes.collect::<Result<_, TrainError>>()? })
    }

    /// Writes them into a run, in one go.
    pub(crate) fn write(&self, run: &RunDir) -> Result<(), TrainError> {
        let class = |(class, records): &(String, Vec<Situation>)| Class {
            class: class.clone(),
            records: records.iter().map(Record::from).collect(),
        };
        write_json(&path(run), &self.classes.iter().map(class).collect::<Vec<Class>>())
    }

    /// Where a class was seen; empty for one that was not added.
    pub fn of(&self, class: &str) -> &[Situation] {
        let found = self.classes.iter().find(|(name, _)| name == class);
        found.map_or(&[], |(_, records)| records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        data::{Dataset, Options},
        training::{RowRoles, TrainConfig, run_dir::RunInfo},
    };
    use csp_models::labels::Labels;

    #[test]
    fn are_kept_and_a_damaged_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let data = Dataset {
            source: "d.csv".into(),
            rows: Vec::new(),
            labels: Labels::default(),
            options: Options::default(),
            sha256: String::new(),
        };
        let info = RunInfo::new(&data, 0, 1.0, "flex".into(), TrainConfig::default());
        let run = RunDir::create(&dir.path().join("run"), info, &RowRoles::default()).unwrap();
        assert_eq!(AddedRecords::read(&run).unwrap(), AddedRecords::default());
        let at = |lon| LatLon::new(-17.5, lon).unwrap();
        let seen = vec![Situation::new(at(178.25), YearFraction::new(0.5)), Situation::undated(at(-179.75))];
        let kept = AddedRecords { classes: vec![("bat".into(), seen.clone()), ("owl".into(), Vec::new())] };
        kept.write(&run).unwrap();
        let read = AddedRecords::read(&run).unwrap();
        assert_eq!((&read, read.of("bat"), read.of("fox")), (&kept, &seen[..], &[][..]));
        let text = std::fs::read_to_string(path(&run)).unwrap();
        for (from, to, said) in [("178.25", "278.25", "longitude 278.25"), ("[", "", "damaged")] {
            std::fs::write(path(&run), text.replacen(from, to, 1)).unwrap();
            let error = AddedRecords::read(&run).unwrap_err().to_string();
            assert!(error.contains("records.json") && error.contains(said), "{error}");
        }
    }
}

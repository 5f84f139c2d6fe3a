//! Runs beside each other: what is in a folder of them, and in what two or more differ.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{
    TrainError,
    model::ModelInfo,
    run_dir::{Metric, RunDir, RunInfo, read_json},
    staged::Staged,
};

/// How deep runs are looked for below a folder.
const DEPTH: usize = 5;

/// A run, as far as it came.
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    /// The run directory.
    pub path: PathBuf,
    /// How far it came.
    pub state: State,
    /// `run.json`.
    pub info: RunInfo,
    /// Readings on the hold-out; of a finished run.
    pub holdout: BTreeMap<String, f64>,
    /// The last loss of each stage that learns.
    pub losses: BTreeMap<String, f64>,
}

/// How far a run came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Its model is there.
    Finished,
    /// The last reading is of this step of this stage.
    Stopped {
        /// The stage.
        stage: String,
        /// The step.
        step: u64,
    },
    /// It has not measured anything.
    Begun,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Finished => f.pad("finished"),
            Self::Stopped { stage, step } => f.pad(&format!("in {stage} at step {step}")),
            Self::Begun => f.pad("begun"),
        }
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl RunReport {
    /// Reads a run.
    ///
    /// # Errors
    /// Not a run, or a damaged file.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let run = RunDir::open(path)?;
        let model = run.model().join("model.json");
        let metrics = fs::read_to_string(path.join("metrics.jsonl")).unwrap_or_default();
        // a last line that a power cut left half is no reading
        let lines = || metrics.lines().filter_map(|line| serde_json::from_str::<Metric>(line).ok());
        let losses = lines().map(|metric| (metric.stage, metric.loss)).collect();
        let (state, holdout) = if model.is_file() {
            (State::Finished, read_json::<ModelInfo>(&model)?.holdout)
        } else {
            let last = lines().next_back();
            let state = last.map_or(State::Begun, |m| State::Stopped { stage: m.stage, step: m.step });
            (state, BTreeMap::new())
        };
        Ok(Self { path: path.into(), state, info: run.info().clone(), holdout, losses })
    }

    /// Wall time of all stages, seconds.
    pub fn seconds(&self) -> f64 {
        self.info.stages.values().map(|stage| stage.seconds).sum()
    }

    /// Every number that says how good it is or how long it took, under its path.
    fn metrics(&self) -> BTreeMap<String, Value> {
        let stages = self.info.stages.iter().map(|(stage, info)| (format!("seconds.{stage}"), info.seconds));
        let losses = self.losses.iter().map(|(stage, loss)| (format!("loss.{stage}"), *loss));
        let holdout = self.holdout.iter().map(|(name, value)| (format!("holdout.{name}"), *value));
        holdout.chain(losses).chain(stages).map(|(name, value)| (name, Value::from(value))).collect()
    }

    /// Everything it was made with, under its path in `run.json`.
    fn settings(&self) -> BTreeMap<String, Value> {
        let mut flat = BTreeMap::new();
        let info = serde_json::to_value(&self.info).unwrap_or_default();
        if let Value::Object(fields) = info {
            let made_with =
                fields.into_iter().filter(|(key, _)| !["stages", "began_s"].contains(&key.as_str()));
            made_with.for_each(|(key, value)| flatten(&key, value, &mut flat));
        }
        flat
    }
}

fn flatten(path: &str, value: Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                flatten(&format!("{path}.{key}"), value, into);
            }
        }
        value => drop(into.insert(path.into(), value)),
    }
}

/// A folder's runs in the order of their paths, and what could not be read.
///
/// # Errors
/// The folder cannot be read.
pub fn find(folder: &Path) -> Result<(Vec<RunReport>, Vec<TrainError>), TrainError> {
    let (mut runs, mut broken) = (Vec::new(), Vec::new());
    let mut open = vec![(folder.to_path_buf(), 0)];
    while let Some((path, depth)) = open.pop() {
        if path.join("run.json").is_file() {
            match RunReport::read(&path) {
                Ok(run) => runs.push(run),
                Err(error) => broken.push(error),
            }
            continue;
        }
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if depth == 0 => return Err(TrainError::io(path)(error)),
            // a folder that may not be looked into is no reason not to list the others
            Err(_) => continue,
        };
        // links are not followed: they could lead around in a circle
        let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        // nor is what a killed process has left half written
        let folders = folders.filter(|entry| !Staged::is(&entry.path()));
        if depth < DEPTH {
            open.extend(folders.map(|entry| (entry.path(), depth + 1)));
        }
    }
    runs.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((runs, broken))
}

/// Runs side by side: a value for each run, in their order; null where a run has none.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Comparison {
    /// What the runs were made with, where they differ.
    pub settings: BTreeMap<String, Vec<Value>>,
    /// Readings on the hold-out, last losses, seconds.
    pub metrics: BTreeMap<String, Vec<Value>>,
}

/// Compares runs.
pub fn compare(runs: &[RunReport]) -> Comparison {
    let beside = |of: &dyn Fn(&RunReport) -> BTreeMap<String, Value>| {
        let columns: Vec<BTreeMap<String, Value>> = runs.iter().map(of).collect();
        let keys: std::collections::BTreeSet<String> =
            columns.iter().flat_map(|column| column.keys().cloned()).collect();
        let row = |key: &String| columns.iter().map(|c| c.get(key).cloned().unwrap_or_default()).collect();
        keys.into_iter().map(|key| (key.clone(), row(&key))).collect::<BTreeMap<String, Vec<Value>>>()
    };
    let mut settings = beside(&RunReport::settings);
    settings.retain(|_, values| values.iter().any(|value| *value != values[0]));
    Comparison { settings, metrics: beside(&RunReport::metrics) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        data::{Dataset, Options},
        training::{TrainConfig, roles::RowRoles},
    };

    fn run(root: &Path, seed: u64, tau: f64) {
        let data = Dataset {
            source: "d.csv".into(),
            rows: Vec::new(),
            labels: csp_models::labels::Labels::default(),
            options: Options::default(),
            sha256: "ab".into(),
        };
        let mut config = TrainConfig::default();
        config.pretrain.mc.tau_batch = tau;
        let info = RunInfo::new(&data, seed, 0.1, "flex".into(), config);
        RunDir::create(root, info, &RowRoles::default()).unwrap();
    }

    #[test]
    fn lists_and_compares() {
        let dir = tempfile::tempdir().unwrap();
        run(&dir.path().join("b/two"), 2, 0.07);
        run(&dir.path().join("a"), 1, 0.2);
        let line = r#"{"stage":"pretrain","step":30,"epoch":1.0,"loss":0.5,"lr":0.1,"samples_per_s":1.0,"wall_s":1.0}"#;
        fs::write(dir.path().join("a/metrics.jsonl"), format!("{line}\n{{\"stage\":\"pre")).unwrap();
        fs::create_dir(dir.path().join("c")).unwrap();
        fs::write(dir.path().join("c/run.json"), "{").unwrap();

        let (runs, broken) = find(dir.path()).unwrap();
        assert_eq!(broken.len(), 1);
        assert!(broken[0].to_string().contains("c/run.json"), "{}", broken[0]);
        let states: Vec<String> = runs.iter().map(|run| run.state.to_string()).collect();
        assert_eq!(states, ["in pretrain at step 30", "begun"]);

        let compared = compare(&runs);
        let differing: Vec<&str> = compared.settings.keys().map(String::as_str).collect();
        assert_eq!(differing, ["config.pretrain.mc.tau_batch", "seed"]);
        assert_eq!(compared.settings["config.pretrain.mc.tau_batch"], [0.2, 0.07]);
        assert_eq!(compared.metrics["loss.pretrain"], [Value::from(0.5), Value::Null]);
        assert!(find(&dir.path().join("none")).is_err());
    }
}

//! A run on disk.
//!
//! | file | holds |
//! |---|---|
//! | `run.json` | configuration, seed, data and its digest, versions, device, stages done |
//! | `rows.json` | which row of the data was labelled, held out, unlabelled, shielded |
//! | `metrics.jsonl` | one line a reading: stage, step, epoch, loss, rate, samples/s, seconds |
//! | `checkpoints/STAGE.step.safetensors` | a stage under way: weights, optimizer, step |
//! | `checkpoints/STAGE.safetensors` | a finished stage |
//! | `cache/` | decoded pictures and features; may be deleted |
//! | `model/` | the result, see [`TrainedModel`](super::TrainedModel); the records of added classes |

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use csp_models::bundle::{remove_leftovers, write_atomically};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{TrainError, config::TrainConfig, location_weights::Begin, roles::RowRoles};
use crate::data::{Dataset, Options};

/// What differs where the photographs do.
const PICTURES: &str = "what the photographs show";

/// Version of `run.json`.
const SCHEMA: u32 = 1;

/// The folders of a run.
const FOLDERS: [&str; 3] = ["checkpoints", "cache", "model"];

/// `run.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunInfo {
    /// Version of this file.
    pub schema: u32,
    /// Version of `csp-host`.
    pub tool: String,
    /// Where the training data was.
    pub data: PathBuf,
    /// As what it was read.
    #[serde(default)]
    pub data_options: Options,
    /// Digest of its content, see [`Dataset`](crate::data::Dataset).
    pub data_sha256: String,
    /// Seed of every random choice.
    pub seed: u64,
    /// Share of the training labels used.
    pub label_fraction: f64,
    /// The device.
    pub device: String,
    /// What beside the settings could change the numbers: burn, platform, threads, the very program.
    #[serde(default)]
    pub made_with: BTreeMap<String, String>,
    /// When it began, seconds since 1970 UTC; 0 where nobody wrote it down.
    #[serde(default)]
    pub began_s: u64,
    /// Every setting.
    pub config: TrainConfig,
    /// Stages done, with what they report.
    pub stages: BTreeMap<String, StageInfo>,
}

/// What a finished stage says about itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageInfo {
    /// Steps taken.
    pub steps: u64,
    /// Wall time of this process on it, seconds.
    pub seconds: f64,
    /// Whatever else is worth knowing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub notes: BTreeMap<String, serde_json::Value>,
}

/// Version of the tensor library; a unit test holds it to Cargo.toml.
const BURN: &str = "0.22.1";

fn made_with() -> BTreeMap<String, String> {
    let platform = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
    let threads = rayon::current_num_threads().to_string();
    // which csp-host it was to the bit, between releases too; a linker that writes no id leaves it out
    let build = csp_device::diagnostics::own_build_id();
    [("burn", BURN.to_string()), ("platform", platform), ("threads", threads), ("build", build)]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.to_string(), value))
        .collect()
}

impl RunInfo {
    pub(crate) fn new(
        data: &Dataset,
        seed: u64,
        label_fraction: f64,
        device: String,
        config: TrainConfig,
    ) -> Self {
        Self {
            schema: SCHEMA,
            tool: env!("CARGO_PKG_VERSION").to_string(),
            data: data.source.clone(),
            data_options: data.options.clone(),
            data_sha256: data.sha256.clone(),
            seed,
            label_fraction,
            device,
            made_with: made_with(),
            began_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            config,
            stages: BTreeMap::new(),
        }
    }
}

/// A run directory, held by this process while the value lives if it was opened for writing.
#[derive(Debug)]
pub struct RunDir {
    root: PathBuf,
    info: RunInfo,
    _lock: Option<File>,
}

impl RunDir {
    /// Starts a run in a directory that does not exist or is empty.
    ///
    /// # Errors
    /// [`TrainError::Exists`], or the system's reason.
    pub fn create(root: &Path, info: RunInfo, roles: &RowRoles) -> Result<Self, TrainError> {
        if fs::read_dir(root).is_ok_and(|mut entries| entries.next().is_some()) || root.is_file() {
            return Err(TrainError::Exists { path: root.into() });
        }
        fs::create_dir_all(root).map_err(TrainError::io(root))?;
        let run = Self { root: root.into(), info, _lock: Some(lock(root)?) };
        // run.json first: from here on --resume can make whatever else is missing
        let begun = run.write_info().and_then(|()| run.complete(roles));
        if begun.is_err() && !root.join("run.json").exists() {
            let _ = fs::remove_dir_all(root);
        }
        begun.map(|()| run)
    }

    /// Makes the folders and the list of rows, where a start that was cut short left none.
    fn complete(&self, roles: &RowRoles) -> Result<(), TrainError> {
        for dir in FOLDERS.map(|name| self.root.join(name)) {
            fs::create_dir_all(&dir).map_err(TrainError::io(dir))?;
        }
        write_json(&self.root.join("rows.json"), roles)
    }

    /// Opens a run to read from it.
    ///
    /// # Errors
    /// Not a run, or `run.json` is damaged.
    pub fn open(root: &Path) -> Result<Self, TrainError> {
        let path = root.join("run.json");
        if !path.is_file() {
            return Err(TrainError::NotARun { path: root.into() });
        }
        let info: RunInfo = read_json(&path)?;
        if info.schema > SCHEMA {
            let reason = format!("schema {} is newer than this csp-host ({SCHEMA}): update it", info.schema);
            return Err(TrainError::corrupt(path, reason));
        }
        Ok(Self { root: root.into(), info, _lock: None })
    }

    /// Opens a run to go on with it, if it began with the same data and settings.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), [`TrainError::Differs`] naming what differs, [`TrainError::Busy`].
    pub fn resume(root: &Path, now: &RunInfo, roles: &RowRoles) -> Result<Self, TrainError> {
        let mut run = Self::open(root)?;
        let differs = |what: &str, was: String, now: String| {
            Err(TrainError::Differs { path: root.into(), what: what.into(), was, now })
        };
        let was = &run.info;
        if was.data_sha256 != now.data_sha256 {
            let short = |info: &RunInfo| {
                let digest: String = info.data_sha256.chars().take(12).collect();
                format!("{} (SHA-256 {digest}…)", info.data.display())
            };
            return differs("the data", short(was), short(now));
        }
        if was.seed != now.seed {
            return differs("--seed", was.seed.to_string(), now.seed.to_string());
        }
        if was.label_fraction != now.label_fraction {
            return differs("--labels", was.label_fraction.to_string(), now.label_fraction.to_string());
        }
        let json = |info: &RunInfo| serde_json::to_value(&info.config).unwrap_or_default();
        if let Some((what, was, now)) = first_difference("", &json(was), &json(now)) {
            return differs(&what, was, now);
        }
        if was.tool != now.tool {
            return differs("the version of csp-host", was.tool.clone(), now.tool.clone());
        }
        run._lock = Some(lock(root)?);
        run.complete(roles)?;
        // no other process trains here while the lock is held; one that draws writes for a moment
        remove_leftovers(root);
        FOLDERS.iter().for_each(|name| remove_leftovers(&root.join(name)));
        Ok(run)
    }

    /// Whether another run has a finished backbone that this one would have trained as well, as far as
    /// that is known before its pictures are decoded.
    ///
    /// # Errors
    /// [`TrainError::Differs`] naming what differs, [`TrainError::Unfinished`], or the system's reason.
    pub(crate) fn look_at_backbone(&self, other: &Path) -> Result<(), TrainError> {
        if self.finished("backbone").is_file() {
            return Ok(());
        }
        let other = Self::open(other)?;
        let decides = |info: &RunInfo| {
            let RunInfo { data_sha256, seed, label_fraction, device, config, .. } = info;
            serde_json::json!({
                "data": data_sha256, "seed": seed, "labels": label_fraction, "device": device,
                "input": config.input, "holdout": config.holdout, "backbone": config.backbone,
            })
        };
        if let Some((what, was, now)) = first_difference("", &decides(&other.info), &decides(&self.info)) {
            return Err(TrainError::Differs { path: other.root, what, was, now });
        }
        if !other.finished("backbone").is_file() {
            return Err(TrainError::Unfinished { path: other.root, stage: "backbone" });
        }
        Ok(())
    }

    /// Takes over the finished backbone of another run, whose pictures have to be those of this one.
    ///
    /// # Errors
    /// Those of [`look_at_backbone`](Self::look_at_backbone).
    pub(crate) fn take_backbone(&self, other: &Path) -> Result<(), TrainError> {
        if self.finished("backbone").is_file() {
            return Ok(());
        }
        self.look_at_backbone(other)?;
        let other = Self::open(other)?;
        if let (Some(was), Some(now)) = (other.pictures_sha256(), self.pictures_sha256())
            && was != now
        {
            let (was, now) = (was.into(), now.into());
            return Err(TrainError::Differs { path: other.root, what: PICTURES.into(), was, now });
        }
        let from = other.finished("backbone");
        let bytes = fs::read(&from).map_err(TrainError::io(&from))?;
        let to = self.finished("backbone");
        write_atomically(&to, |out| out.write_all(&bytes)).map_err(TrainError::io(&to))
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What `run.json` says.
    pub fn info(&self) -> &RunInfo {
        &self.info
    }

    /// SHA-256 of the file the backbone began with, if it began with one.
    pub(crate) fn weights_sha256(&self) -> Option<&str> {
        self.info.stages.get("weights")?.notes.get("sha256")?.as_str()
    }

    /// Digest of the pictures that the run learned from, once they have been [decoded](Self::decoded).
    pub(crate) fn pictures_sha256(&self) -> Option<&str> {
        self.info.stages.get("decode")?.notes.get("sha256")?.as_str()
    }

    /// Notes the location network that the run begins with, or holds a resumed run to it.
    ///
    /// # Errors
    /// [`TrainError::Differs`] for another file than it began with, or the system's reason.
    pub(crate) fn begin_location(&mut self, path: &Path, begin: &Begin) -> Result<(), TrainError> {
        let what = format!("SHA-256 of {}", path.display());
        let info = StageInfo { notes: begin.notes(path), ..StageInfo::default() };
        self.hold_to("location-weights", &what, &begin.sha256, info)
    }

    /// Notes the pictures that the run learns from, or holds a resumed run to them: the digest of the data
    /// is of its table, not of the photographs.
    ///
    /// # Errors
    /// [`TrainError::Differs`] for other pictures than it began with, or the system's reason.
    pub(crate) fn decoded(&mut self, sha256: &str, pictures: usize, seconds: f64) -> Result<(), TrainError> {
        let notes = [("pictures", pictures.into()), ("sha256", sha256.into())];
        let notes = notes.map(|(key, value)| (key.to_string(), value)).into();
        self.hold_to("decode", PICTURES, sha256, StageInfo { seconds, notes, steps: 0 })
    }

    /// Notes `info`, or refuses another digest than a stage was noted with before.
    fn hold_to(&mut self, stage: &str, what: &str, sha256: &str, info: StageInfo) -> Result<(), TrainError> {
        match self.info.stages.get(stage).and_then(|stage| stage.notes.get("sha256")?.as_str()) {
            Some(was) if was != sha256 => Err(TrainError::Differs {
                path: self.root.clone(),
                what: what.into(),
                was: was.into(),
                now: sha256.into(),
            }),
            Some(_) => Ok(()),
            None => self.note(stage, info),
        }
    }

    /// What of the program and the machine is not as it was when the run began, in words; `None` where all
    /// is. The numbers of a resumed run can then differ from those of an uninterrupted one.
    pub(crate) fn made_otherwise(&self) -> Option<String> {
        let now = made_with();
        let was =
            self.info.made_with.iter().filter(|(name, was)| now.get(*name).is_some_and(|now| now != *was));
        let changes: Vec<String> =
            was.map(|(name, was)| format!("{name} {was}, now {}", now[name])).collect();
        (!changes.is_empty()).then(|| changes.join("; "))
    }

    /// Takes the directory away again, unless a stage has begun or been taken over.
    pub(crate) fn abandon(self) {
        let begun = fs::read_dir(self.root.join("checkpoints")).is_ok_and(|mut files| files.next().is_some());
        if !begun {
            let _ = fs::remove_dir_all(&self.root);
        }
    }

    /// Where the training data was.
    pub fn data(&self) -> &Path {
        &self.info.data
    }

    /// Which row of the data was used for what.
    ///
    /// # Errors
    /// `rows.json` is missing or damaged.
    pub fn rows(&self) -> Result<RowRoles, TrainError> {
        read_json(&self.root.join("rows.json"))
    }

    /// The folder of the finished model.
    pub fn model(&self) -> PathBuf {
        self.root.join("model")
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    pub(crate) fn finished(&self, stage: &str) -> PathBuf {
        self.root.join("checkpoints").join(format!("{stage}.safetensors"))
    }

    pub(crate) fn under_way(&self, stage: &str) -> PathBuf {
        self.root.join("checkpoints").join(format!("{stage}.step.safetensors"))
    }

    /// Notes that a stage is done.
    pub(crate) fn note(&mut self, stage: &str, info: StageInfo) -> Result<(), TrainError> {
        let entry = self.info.stages.entry(stage.into()).or_default();
        let seconds = entry.seconds + info.seconds;
        *entry = StageInfo { seconds, ..info };
        self.write_info()
    }

    fn write_info(&self) -> Result<(), TrainError> {
        write_json(&self.root.join("run.json"), &self.info)
    }

    /// Appends a line to `metrics.jsonl`.
    pub(crate) fn metric(&self, line: &Metric) -> Result<(), TrainError> {
        let path = self.root.join("metrics.jsonl");
        let append = || {
            let mut text = serde_json::to_string(line)?;
            text.push('\n');
            File::options().create(true).append(true).open(&path)?.write_all(text.as_bytes())
        };
        append().map_err(TrainError::io(&path))
    }

    /// Drops the metrics of `stage` after `step`, and a last line that a power cut left half: what a
    /// resumed run will measure again.
    pub(crate) fn rewind_metrics(&self, stage: &str, step: u64) -> Result<(), TrainError> {
        let path = self.root.join("metrics.jsonl");
        let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
        let keep = |line: &&str| {
            let metric: Result<Metric, _> = serde_json::from_str(line);
            metric.is_ok_and(|m| m.stage != stage || m.step <= step)
        };
        let kept: String = text.lines().filter(keep).flat_map(|line| [line, "\n"]).collect();
        if kept == text {
            return Ok(());
        }
        write_atomically(&path, |out| out.write_all(kept.as_bytes())).map_err(TrainError::io(&path))
    }
}

/// A line of `metrics.jsonl`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Metric {
    /// The stage.
    pub stage: String,
    /// Steps done.
    pub step: u64,
    /// Passes over the rows done.
    pub epoch: f64,
    /// Mean loss since the last line.
    pub loss: f64,
    /// Learning rate.
    pub lr: f64,
    /// Rows a second since the last line.
    pub samples_per_s: f64,
    /// Wall time of this process in the stage, seconds.
    pub wall_s: f64,
    /// Readings on the hold-out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub holdout: BTreeMap<String, f64>,
}

/// Only one process may write to a run.
fn lock(root: &Path) -> Result<File, TrainError> {
    let path = root.join("run.lock");
    let file = File::create(&path).map_err(TrainError::io(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(TrainError::Busy { path: root.into() }),
        // a file system without locks: better no guard than no training
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(file),
        Err(TryLockError::Error(error)) => Err(TrainError::io(path)(error)),
    }
}

pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), TrainError> {
    let mut json = serde_json::to_vec_pretty(value).map_err(|e| TrainError::corrupt(path, e))?;
    json.push(b'\n');
    write_atomically(path, |out| out.write_all(&json)).map_err(TrainError::io(path))
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, TrainError> {
    let bytes = fs::read(path).map_err(TrainError::io(path))?;
    serde_json::from_slice(&bytes).map_err(|error| TrainError::corrupt(path, error))
}

/// Path and both values of the first entry in which two JSON documents differ.
fn first_difference(
    at: &str,
    was: &serde_json::Value,
    now: &serde_json::Value,
) -> Option<(String, String, String)> {
    use serde_json::Value::Object;
    if let (Object(was), Object(now)) = (was, now) {
        let keys: std::collections::BTreeSet<&String> = was.keys().chain(now.keys()).collect();
        let null = serde_json::Value::Null;
        return keys.into_iter().find_map(|key| {
            let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
            first_difference(&path, was.get(key).unwrap_or(&null), now.get(key).unwrap_or(&null))
        });
    }
    (was != now).then(|| (at.to_string(), was.to_string(), now.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> RunInfo {
        let data = Dataset {
            source: "d.csv".into(),
            rows: Vec::new(),
            labels: csp_models::labels::Labels::default(),
            options: Options::default(),
            sha256: "ab".into(),
        };
        RunInfo::new(&data, 1, 0.05, "flex".into(), TrainConfig::default())
    }

    #[test]
    fn refuses_to_overwrite_and_to_mix() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("run");
        let run = RunDir::create(&root, info(), &RowRoles::default()).unwrap();
        let again = RunDir::create(&root, info(), &RowRoles::default()).unwrap_err();
        assert!(matches!(again, TrainError::Exists { .. }));
        assert!(matches!(RunDir::resume(&root, &info(), &RowRoles::default()), Err(TrainError::Busy { .. })));
        drop(run);
        drop(RunDir::resume(&root, &info(), &RowRoles::default()).unwrap());

        let refusal = |change: fn(&mut RunInfo)| {
            let mut now = info();
            change(&mut now);
            RunDir::resume(&root, &now, &RowRoles::default()).unwrap_err().to_string()
        };
        assert!(refusal(|i| i.seed = 2).contains("--seed was 1"));
        assert!(refusal(|i| i.label_fraction = 1.0).contains("--labels was 0.05"));
        assert!(refusal(|i| i.data_sha256 = "cd".into()).contains("d.csv (SHA-256 ab"));
        assert!(refusal(|i| i.config.pretrain.mc.tau_batch = 3.5).contains("pretrain.mc.tau_batch"));
        assert!(matches!(RunDir::open(dir.path()), Err(TrainError::NotARun { .. })));
        fs::write(root.join("run.json"), "{").unwrap();
        assert!(matches!(RunDir::open(&root), Err(TrainError::Corrupt { .. })));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_a_kill_left_half_written_goes_on_resuming() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("run");
        let run = RunDir::create(&root, info(), &RowRoles::default()).unwrap();
        let left = format!(".x.{}.tmp", u32::MAX);
        let folders = [root.clone(), root.join("checkpoints"), root.join("cache"), root.join("model")];
        for folder in &folders {
            fs::write(folder.join(&left), "half").unwrap();
            let file = File::options().write(true).open(folder.join(&left)).unwrap();
            file.set_modified(SystemTime::now() - std::time::Duration::from_secs(3600)).unwrap();
        }
        // not of who does not go on with the run
        RunDir::open(&root).unwrap();
        RunDir::resume(&root, &info(), &RowRoles::default()).unwrap_err();
        assert!(folders.iter().all(|folder| folder.join(&left).exists()));
        drop(run);
        RunDir::resume(&root, &info(), &RowRoles::default()).unwrap();
        assert!(!folders.iter().any(|folder| folder.join(&left).exists()));
    }

    #[test]
    fn a_backbone_of_other_pictures_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let run = |name: &str, pictures: &str| {
            let mut run = RunDir::create(&dir.path().join(name), info(), &RowRoles::default()).unwrap();
            run.decoded(pictures, 3, 0.0).unwrap();
            run
        };
        let (same, other) = (run("same", "p"), run("other", "q"));
        for run in [&same, &other] {
            fs::write(run.finished("backbone"), "b").unwrap();
        }
        let new = run("new", "p");
        let error = new.take_backbone(other.root()).unwrap_err().to_string();
        assert!(error.contains("photographs"), "{error}");
        assert!(!new.finished("backbone").exists());
        new.take_backbone(same.root()).unwrap();
        assert!(new.finished("backbone").exists());
    }

    #[test]
    fn the_version_of_burn_is_the_one_in_use() {
        let cargo = include_str!("../../../Cargo.toml");
        assert!(cargo.contains(&format!("\nburn = {{ version = \"={BURN}\"")));
    }

    #[test]
    fn metrics_are_rewound() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(&dir.path().join("r"), info(), &RowRoles::default()).unwrap();
        for (stage, step) in [("a", 10), ("a", 20), ("b", 10), ("b", 20), ("b", 30)] {
            let metric = Metric {
                stage: stage.into(),
                step,
                epoch: 0.0,
                loss: 1.0,
                lr: 0.1,
                samples_per_s: 1.0,
                wall_s: 1.0,
                holdout: BTreeMap::new(),
            };
            run.metric(&metric).unwrap();
        }
        let path = run.root().join("metrics.jsonl");
        let torn = fs::read_to_string(&path).unwrap() + "{\"stage\":\"b\",\"st";
        fs::write(&path, torn).unwrap();
        run.rewind_metrics("b", 20).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 4);
        assert!(text.ends_with("}\n"));
    }
}

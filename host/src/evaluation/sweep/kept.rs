//! `figures.json` of a cell: what was measured, and of what. It is there before anything is trained, so
//! that nothing can be trained or measured on something else afterwards.

use std::{collections::BTreeMap, fs, io::Write, path::Path};

use csp_models::bundle::write_atomically;
use serde::{Deserialize, Serialize};

use super::{Figures, Method, SweepError};
use crate::training::TrainConfig;

/// The file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    of: Of,
    /// What was measured so far.
    pub(super) methods: BTreeMap<Method, Figures>,
    /// Whether the file says that the cell is of these very photographs.
    #[serde(skip)]
    pub(super) vouched: bool,
}

/// Everything the figures depend on; settings added by a later version read as their defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Of {
    /// Digest of the table.
    pub(super) data: String,
    /// [Digest of the photographs](super::pictures::digest); `None` without any, and in files of before it
    /// was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pictures: Option<String>,
    pub(super) split: String,
    pub(super) labels: f64,
    pub(super) seed: u64,
    pub(super) device: String,
    pub(super) config: TrainConfig,
    pub(super) tool: String,
}

impl Kept {
    /// What was measured before of just this; nothing where nothing was, or where it is not known of which
    /// photographs.
    ///
    /// # Errors
    /// [`SweepError::Stale`] naming what differs.
    pub(super) fn read(path: &Path, of: Of) -> Result<Self, SweepError> {
        let nothing = |of| Self { of, methods: BTreeMap::new(), vouched: false };
        let Ok(bytes) = fs::read(path) else { return Ok(nothing(of)) };
        let stale = |reason: String| SweepError::Stale { path: path.into(), reason };
        let kept: Self = serde_json::from_slice(&bytes).map_err(|error| stale(error.to_string()))?;
        let was = &kept.of;
        if *was == of {
            return Ok(Self { vouched: true, ..kept });
        }
        let what = [
            (was.data != of.data, "other data"),
            (was.pictures.is_some() && was.pictures != of.pictures, "other photographs under the same names"),
            (was.split != of.split, "another split"),
            (was.labels != of.labels, "another share of the labels"),
            (was.seed != of.seed, "another seed"),
            (was.device != of.device, "another device"),
            (was.config != of.config, "other settings"),
            (was.tool != of.tool, "another version of csp-host"),
        ];
        let what: Vec<&str> =
            what.into_iter().filter(|(differs, _)| *differs).map(|(_, what)| what).collect();
        if what.is_empty() {
            return Ok(nothing(of));
        }
        Err(stale(format!("it is of {}", what.join(" and "))))
    }

    /// Whether a cell of another sweep says that it is of these photographs.
    pub(super) fn is_of(path: &Path, pictures: &str) -> bool {
        let kept = fs::read(path).ok().and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        kept.is_some_and(|kept| kept.of.pictures.as_deref() == Some(pictures))
    }

    /// Writes it in one go, the folder too.
    ///
    /// # Errors
    /// The system's reason.
    pub(super) fn write(&self, path: &Path) -> Result<(), SweepError> {
        let write = || {
            let json = serde_json::to_vec_pretty(self)?;
            fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
            write_atomically(path, |out| out.write_all(&json))
        };
        write().map_err(|source| SweepError::Io { path: path.into(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A change, and what is said of it.
    type Change = (fn(&mut Of), &'static str);

    fn of() -> Of {
        Of {
            data: "ab".into(),
            pictures: Some("cd".into()),
            split: "val".into(),
            labels: 0.5,
            seed: 0,
            device: "cpu".into(),
            config: TrainConfig::default(),
            tool: "1".into(),
        }
    }

    #[test]
    fn whatever_differs_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("labels-0.5-seed-0/figures.json");
        let first = Kept::read(&path, of()).unwrap();
        assert!(!first.vouched);
        first.write(&path).unwrap();
        assert!(Kept::read(&path, of()).unwrap().vouched);
        assert!(Kept::is_of(&path, "cd") && !Kept::is_of(&path, "ef"));
        let changes: [Change; 8] = [
            (|of| of.data = "x".into(), "data"),
            (|of| of.pictures = Some("x".into()), "photographs"),
            (|of| of.split = "test".into(), "split"),
            (|of| of.labels = 1.0, "labels"),
            (|of| of.seed = 1, "seed"),
            (|of| of.device = "gpu".into(), "device"),
            (|of| of.config.finetune.lr = 0.5, "settings"),
            (|of| of.tool = "2".into(), "version"),
        ];
        for (change, named) in changes {
            let mut now = of();
            change(&mut now);
            match Kept::read(&path, now) {
                Err(SweepError::Stale { reason, .. }) => assert!(reason.contains(named), "{reason}"),
                other => panic!("{named}: {other:?}"),
            }
        }
        // of before the photographs were kept with the figures: measured again
        Kept { of: Of { pictures: None, ..of() }, ..first }.write(&path).unwrap();
        let unknown = Kept::read(&path, of()).unwrap();
        assert!(!unknown.vouched && unknown.methods.is_empty() && unknown.of == of());
    }
}

//! What can go wrong in training, each with the file or field at fault and the way out.

use std::{io, path::PathBuf};

use csp_models::picture::PictureError;

/// See the [module](self).
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A file cannot be read or written.
    #[error("{path}: {source}{}", if source.kind() == io::ErrorKind::StorageFull { "; free some space, then go on with --resume" } else { "" }, path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A setting that cannot be used.
    #[error("{field}: {problem}")]
    Config {
        /// Path of the setting, after the file where there is one.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A data set that cannot be trained on.
    #[error("{data}: {problem}", data = .data.display())]
    Data {
        /// The data set.
        data: PathBuf,
        /// What is wrong with it, and what would help.
        problem: String,
    },
    /// A photograph of a training row.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// The output exists and is not to be continued.
    #[error("{path} exists: give --resume to go on with that run, or another --out", path = .path.display())]
    Exists {
        /// The run directory.
        path: PathBuf,
    },
    /// Not a run directory.
    #[error("{path} is not a training run: it has no run.json", path = .path.display())]
    NotARun {
        /// The directory.
        path: PathBuf,
    },
    /// Another process is at work in the run directory.
    #[error("{path} is in use by another csp-host train", path = .path.display())]
    Busy {
        /// The run directory.
        path: PathBuf,
    },
    /// A run cannot be continued with other settings or data.
    #[error("{path}: {what} was {was} when this run began and is {now} now: resume with what it began with, or start another run", path = .path.display())]
    Differs {
        /// The run directory.
        path: PathBuf,
        /// Which setting.
        what: String,
        /// Its value in the run.
        was: String,
        /// Its value now.
        now: String,
    },
    /// A file of the run is damaged.
    #[error("{path}: {reason}", path = .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The run has not come to its end.
    #[error("{path}: the run has not finished ({stage} is missing): go on with csp-host train --resume", path = .path.display())]
    Unfinished {
        /// The run directory.
        path: PathBuf,
        /// The first stage without a result.
        stage: &'static str,
    },
    /// The loss left the numbers.
    #[error(
        "{stage}: the loss is {loss} at step {step}; {kept}. Lower {section}.lr in the configuration and start again, or --resume if the device was at fault", section = section(stage)
    )]
    NotFinite {
        /// The stage.
        stage: &'static str,
        /// The step.
        step: u64,
        /// The loss.
        loss: f32,
        /// Which checkpoint is left.
        kept: String,
    },
    /// The device failed in the middle of a stage.
    #[error(
        "{stage}: the device failed in step {step}: {reason}; {kept}. {}",
        if super::guard::ran_out(reason) {
            format!("If its memory is too small, {} and start again; else go on with --resume", less_memory(stage))
        } else {
            "Go on with --resume; csp-host self-check tells whether the device computes rightly".into()
        }
    )]
    DeviceLost {
        /// The stage.
        stage: &'static str,
        /// The step.
        step: u64,
        /// What the device's driver said.
        reason: String,
        /// Which checkpoint is left.
        kept: String,
    },
    /// A device that is not there.
    #[error("--device {asked}: {reason}")]
    Device {
        /// What was asked for.
        asked: String,
        /// Why it cannot be had, and what can.
        reason: String,
    },
    /// Stopped by the user; everything up to the last step is kept.
    #[error("stopped in {stage} at step {step}; go on with --resume")]
    Interrupted {
        /// The stage.
        stage: &'static str,
        /// Steps done.
        step: u64,
    },
}

impl TrainError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn corrupt(path: impl Into<PathBuf>, reason: impl ToString) -> Self {
        Self::Corrupt { path: path.into(), reason: reason.to_string() }
    }
}
/// Section of the configuration that a stage reads.
fn section(stage: &str) -> &str {
    match stage {
        "probe" => "image.probe",
        "modulate" => "image.modulation",
        fold if fold.starts_with("fold-") => "finetune",
        own => own,
    }
}

/// What makes a stage need less memory.
fn less_memory(stage: &str) -> String {
    match stage {
        "features" => "take --device cpu".into(),
        "joint" => "halve joint.micro_batch in the configuration".into(),
        "probe" => "take image.head = \"trained\" in the configuration or --device cpu".into(),
        other => format!("halve {}.batch in the configuration", section(other)),
    }
}

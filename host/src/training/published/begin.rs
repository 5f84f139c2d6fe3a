//! The weights that training begins with: published ones, or those of an earlier run.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read,
    path::Path,
};

use csp_models::{
    bundle::sha256_hex,
    manifest::ImageInput,
    nn::{BackboneKind, ImageClassifier},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{StateDict, import};
use crate::training::{TrainError, weights::Weights};

/// Longest header of a safetensors file that is looked at, bytes.
const MAX_HEADER: u64 = 16 << 20;

/// What kind of file it is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Weighing {
    /// Of one of our runs, with the input its network was trained on where `model.json` lies beside it.
    Run(Option<ImageInput>),
    /// Somebody else's state dict.
    Published,
}

/// Looks at the header of a file of weights.
pub(crate) fn look(path: &Path) -> Result<Weighing, TrainError> {
    let file = File::open(path).map_err(TrainError::io(path))?;
    let mut start = Vec::new();
    file.take(8 + MAX_HEADER).read_to_end(&mut start).map_err(TrainError::io(path))?;
    let header = start.first_chunk().map(|length| u64::from_le_bytes(*length)).and_then(|length| {
        let json = start.get(8..8 + usize::try_from(length).ok()?)?;
        serde_json::from_slice::<Value>(json).ok()
    });
    if header.is_none_or(|header| header["__metadata__"]["csp"].is_null()) {
        return Ok(Weighing::Published);
    }
    Ok(Weighing::Run(beside(path, "input")))
}

/// A field of the `model.json` beside a run's weights; `None` where it does not say.
fn beside<T: DeserializeOwned>(path: &Path, field: &str) -> Option<T> {
    let bytes = fs::read(path.with_file_name("model.json")).ok()?;
    let mut model: Value = serde_json::from_slice(&bytes).ok()?;
    serde_json::from_value(model.get_mut(field)?.take()).ok()
}

/// Where weights came from.
pub(crate) struct Source {
    /// For people.
    pub said: String,
    /// For `run.json`.
    pub notes: BTreeMap<String, Value>,
}

/// The network with the backbone of a file; its classifier stays.
///
/// # Errors
/// A file that cannot be read, or whose tensors are not those of `kind`, listed.
pub(crate) fn begin(
    path: &Path,
    kind: BackboneKind,
    mut network: ImageClassifier,
) -> Result<(ImageClassifier, Source), TrainError> {
    let corrupt = |reason: String| TrainError::corrupt(path, reason);
    let (what, sha256) = match look(path)? {
        Weighing::Run(_) => {
            let (weights, _) = Weights::read(path)?;
            network.backbone = weights
                .apply("image.backbone", network.backbone)
                .map_err(|problem| corrupt(format!("{problem}{}", run_of(path, kind))))?;
            let bytes = fs::read(path).map_err(TrainError::io(path))?;
            ("a run's".to_string(), sha256_hex(&bytes))
        }
        Weighing::Published => {
            let state = StateDict::read(path)?;
            let imported = import(kind, &state).map_err(corrupt)?;
            let head = match imported.classes {
                Some(classes) => format!(", its classifier of {classes} classes left out"),
                None => String::new(),
            };
            let what = format!("{} tensors by {} names{head}", imported.tensors, imported.naming);
            network = imported.into_backbone(network).map_err(corrupt)?;
            (what, state.sha256)
        }
    };
    let short: String = sha256.chars().take(12).collect();
    let said = format!("{}: {what} (SHA-256 {short}…)", path.display());
    let notes = BTreeMap::from([
        ("file".to_string(), json!(path)),
        ("sha256".to_string(), json!(sha256)),
        ("what".to_string(), json!(what)),
    ]);
    Ok((network, Source { said, notes }))
}

/// Of which network the run is that `path` belongs to, in words; empty where it is of `kind` or does not say.
fn run_of(path: &Path, kind: BackboneKind) -> String {
    match beside::<BackboneKind>(path, "backbone") {
        Some(was) if was != kind => {
            format!("; the run is of {was}, the settings say {kind}: set backbone.kind")
        }
        _ => String::new(),
    }
}

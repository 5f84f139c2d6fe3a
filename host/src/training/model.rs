//! The result of a run: what evaluation and export read.

use std::{collections::BTreeMap, fs, path::Path};

use burn::tensor::Device;
use csp_models::{
    bundle::sha256_hex,
    encoder::PositionEncoder,
    fusion::{Fusion, Thresholds},
    labels::Labels,
    manifest::{ImageInput, ModelProvenance},
    nn::{
        Activation, BackboneKind, HeadConfig, HeadSettings, ImageClassifier, ImageClassifierConfig,
        LocationClassifier, LocationClassifierConfig, ModulatedHead, ModulatedHeadConfig,
    },
};
use serde::{Deserialize, Serialize};

use super::{
    TrainError,
    run_dir::{RunDir, read_json, write_json},
    runner,
    weights::Weights,
};

/// A trained model: both networks and everything their numbers need to be understood.
#[derive(Debug)]
pub struct TrainedModel {
    /// Picture → class logits; `None` where the data had no pictures.
    pub image: Option<ImageClassifier>,
    /// Position features → presence logits; `None` where the data had no places.
    pub location: Option<LocationClassifier>,
    /// The image head that the place has a say in, where it was trained.
    pub modulated: Option<ModulatedHead>,
    /// How a picture becomes the image network's input.
    pub input: ImageInput,
    /// Which position features; present when `location` is.
    pub encoder: Option<PositionEncoder>,
    /// The classes, in the order of both networks' outputs.
    pub labels: Labels,
    /// How many classes at the end of `labels` only the location network knows, added by
    /// [`add_class`](super::add_class): the image network's outputs end before them.
    pub place_only: usize,
    /// How image and place are combined.
    pub fusion: Fusion,
    /// How sure a decision has to be.
    pub thresholds: Thresholds,
    /// How the model came to be.
    pub provenance: ModelProvenance,
    /// Its name, after the run.
    pub name: String,
}

/// Weight files beside `model.json`.
pub(crate) const IMAGE: &str = "image.safetensors";
pub(crate) const LOCATION: &str = "location.safetensors";
const MODULATION: &str = "modulation.safetensors";

/// `model.json`: written last, so that its presence says the model is complete.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ModelInfo {
    pub name: String,
    pub input: ImageInput,
    pub backbone: BackboneKind,
    pub encoder: Option<PositionEncoder>,
    pub location: Option<LocationShape>,
    pub labels: Labels,
    /// Classes at the end of `labels` that the image network does not have.
    #[serde(default)]
    pub place_only: usize,
    pub fusion: Fusion,
    pub thresholds: Thresholds,
    pub provenance: ModelProvenance,
    /// Accuracies and losses on the hold-out.
    pub holdout: BTreeMap<String, f64>,
    /// SHA-256 of the weight files.
    pub files: BTreeMap<String, String>,
}

/// Shape of the location network.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct LocationShape {
    pub hidden: usize,
    pub hidden_layers: usize,
    pub embedding: usize,
    pub activation: Activation,
    #[serde(default)]
    pub head: HeadSettings,
}

impl LocationShape {
    pub fn of(network: &HeadConfig) -> Self {
        let &HeadConfig { hidden, hidden_layers, output, activation, settings, .. } = network;
        Self { hidden, hidden_layers, embedding: output, activation, head: settings }
    }

    pub fn network(&self, encoder: &PositionEncoder) -> HeadConfig {
        HeadConfig {
            input: encoder.dim(),
            hidden: self.hidden,
            hidden_layers: self.hidden_layers,
            output: self.embedding,
            activation: self.activation,
            settings: self.head,
        }
    }
}

/// The weights of a model.
pub(crate) struct Parts<'a> {
    pub image: Option<&'a Weights>,
    pub location: Option<&'a Weights>,
    pub modulation: Option<&'a Weights>,
}

/// Writes the model of a run.
pub(crate) fn save(run: &RunDir, mut info: ModelInfo, parts: &Parts<'_>) -> Result<(), TrainError> {
    let files = [(IMAGE, parts.image), (LOCATION, parts.location), (MODULATION, parts.modulation)];
    for (name, weights) in files {
        let Some(weights) = weights else { continue };
        let path = run.model().join(name);
        weights.write(&path, &format!("{{\"model\":\"{name}\"}}"))?;
        let bytes = fs::read(&path).map_err(TrainError::io(&path))?;
        info.files.insert(name.into(), sha256_hex(&bytes));
    }
    write_json(&run.model().join("model.json"), &info)
}

impl TrainedModel {
    /// Loads the model of a finished run.
    ///
    /// # Errors
    /// Not a run, [`TrainError::Unfinished`] naming the first stage that is missing, or a damaged file.
    pub fn load(run_dir: &Path, device: &Device) -> Result<Self, TrainError> {
        let run = RunDir::open(run_dir)?;
        let path = run.model().join("model.json");
        if !path.is_file() {
            return Err(TrainError::Unfinished { path: run_dir.into(), stage: missing_stage(&run) });
        }
        let info: ModelInfo = read_json(&path)?;
        let corrupt = |reason: &str| TrainError::corrupt(&path, reason);
        info.fusion.validate().map_err(|e| corrupt(&e.to_string()))?;

        let image = match info.files.contains_key(IMAGE) {
            true => {
                let classes = info.labels.len().saturating_sub(info.place_only);
                let network = ImageClassifierConfig::new(info.backbone, classes).init(device);
                Some(load_into(&run, &info, IMAGE, "image", network)?)
            }
            false if info.location.is_some() => None,
            false => return Err(corrupt("it has neither an image nor a location network")),
        };
        let location = match (info.location, &info.encoder) {
            (Some(shape), Some(encoder)) => {
                let network = LocationClassifierConfig::new(shape.network(encoder), info.labels.len());
                Some(load_into(&run, &info, LOCATION, "location", network.init(device))?)
            }
            (None, None) => None,
            _ => return Err(corrupt("it has a location network or an encoder, and not both")),
        };
        let modulated = match (info.location, info.files.contains_key(MODULATION)) {
            (Some(shape), true) => {
                let features = info.backbone.features();
                let network = ModulatedHeadConfig::new(shape.embedding, features, info.labels.len());
                Some(load_into(&run, &info, MODULATION, "modulated", network.init(device))?)
            }
            _ => None,
        };
        Ok(Self {
            modulated,
            image,
            location,
            input: info.input,
            encoder: info.encoder,
            labels: info.labels,
            place_only: info.place_only,
            fusion: info.fusion,
            thresholds: info.thresholds,
            provenance: info.provenance,
            name: info.name,
        })
    }
}

fn load_into<M: burn::module::Module>(
    run: &RunDir,
    info: &ModelInfo,
    name: &str,
    prefix: &str,
    module: M,
) -> Result<M, TrainError> {
    let path = run.model().join(name);
    let bytes = fs::read(&path).map_err(TrainError::io(&path))?;
    if info.files.get(name) != Some(&sha256_hex(&bytes)) {
        let reason = "it is not the file that model.json describes (SHA-256 differs): damaged or replaced";
        return Err(TrainError::corrupt(path, reason));
    }
    let (weights, _) = Weights::read(&path)?;
    weights.apply(prefix, module).map_err(|reason| TrainError::corrupt(path, reason))
}

fn missing_stage(run: &RunDir) -> &'static str {
    let done = |stage| matches!(runner::finished(run, stage), Ok(Some(_)));
    let config = &run.info().config;
    let decode = run.info().stages.get("decode");
    let pictures = decode.and_then(|stage| stage.notes.get("pictures")).is_none_or(|n| *n != 0);
    match () {
        () if pictures && !done("backbone") => "backbone",
        () if pictures && config.joint.enabled && !done("joint") => "joint",
        () if pictures && config.probed() && !done("probe") => "probe",
        () if pictures && config.pretrain.enabled && !config.joint.enabled && !done("pretrain") => "pretrain",
        () if !done("finetune") => "finetune",
        () => "calibrate",
    }
}

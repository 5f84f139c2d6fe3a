//! Checkpoints of the original's lab: `{epoch, state_dict, optimizer, params}` as the repositories csp,
//! sphere2vec and TorchSpatial write them. `params` names the encoder and its settings, the tensors'
//! shapes say the rest.

use std::{collections::BTreeMap, path::Path};

use burn::tensor::Device;
use csp_models::{
    encoder::{EncoderError, EncoderSpec, KINDS, Kind, PositionEncoder},
    nn::{
        Activation, HeadConfig, HeadKind, HeadSettings, LocationClassifier, LocationClassifierConfig,
        NormPlace,
    },
};
use serde_json::Value;

use super::shapes::{self, Tensors};
use crate::training::{
    torch_file::{DType, Tensor, TorchFileError, read_torch_file, read_torch_values},
    weights::{Array, Weights},
};

/// A trained location encoder of another program.
#[derive(Debug)]
pub struct Imported {
    /// Its position features.
    pub encoder: PositionEncoder,
    /// Shape of what stands on them.
    pub head: HeadConfig,
    /// The network, with the weights of the file.
    pub network: LocationClassifier,
    /// Number of classes.
    pub classes: usize,
    /// Its settings, as the file has them.
    pub params: BTreeMap<String, Value>,
}

/// Why a checkpoint cannot become a location network.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// See [`TorchFileError`].
    #[error(transparent)]
    File(#[from] TorchFileError),
    /// A setting that is missing or cannot be followed.
    #[error("{path}: params.{key}: {problem}")]
    Setting {
        /// The file.
        path: String,
        /// The setting.
        key: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Settings no encoder can work with.
    #[error("{path}: {source}")]
    Encoder {
        /// The file.
        path: String,
        /// Why.
        source: EncoderError,
    },
    /// Tensors that are not those of the network the settings describe.
    #[error("{path}: {problem}")]
    Tensors {
        /// The file.
        path: String,
        /// Which are missing, left over, or of another shape.
        problem: String,
    },
}

/// Reads a checkpoint.
///
/// # Errors
/// See [`ImportError`]; encoders whose state is not in their checkpoints (rbf, tiles, random scales) are
/// named.
pub fn read(path: &Path, device: &Device) -> Result<Imported, ImportError> {
    let params = Params { path: path.display().to_string(), values: read_torch_values(path, "params")? };
    let mut tensors = Tensors::new(read_torch_file(path)?);
    let mistaken = |problem| ImportError::Tensors { path: params.path.clone(), problem };
    let name = params.text("spa_enc_type")?;
    let residual = tensors.has("feats.0.weight");
    let encoder = params.encoder(&name, residual, &mut tensors)?;

    let settings = if residual {
        HeadSettings { kind: HeadKind::Fcnet, ..HeadSettings::default() }
    } else {
        params.ffn(&tensors)?
    };
    let activation = if residual { Activation::Relu } else { params.activation()? };
    let read = shapes::network(&mut tensors, residual).map_err(mistaken)?;
    let (head, classes) = read.shape(activation, settings);
    if head.input != encoder.dim() {
        let problem = format!(
            "its first layer takes {} features, {encoder} gives {}: these settings are not its own",
            head.input,
            encoder.dim()
        );
        return Err(mistaken(problem));
    }
    let network = LocationClassifierConfig::new(head, classes).init(device);
    let network = read.weights.apply("location", network).map_err(mistaken)?;
    Ok(Imported { encoder, head, network, classes, params: params.values })
}

/// The weights of a location network by the original's names, without settings: what they are of, the
/// caller has to know.
///
/// # Errors
/// Lists what is missing, or left over.
pub(crate) fn weights(tensors: BTreeMap<String, Array>) -> Result<Weights, String> {
    let tensor = |array: Array| Tensor { shape: array.shape, dtype: DType::F32, data: array.values };
    let mut tensors = Tensors::new(tensors.into_iter().map(|(name, array)| (name, tensor(array))).collect());
    let residual = tensors.has("feats.0.weight");
    Ok(shapes::network(&mut tensors, residual)?.weights)
}

/// The settings of a checkpoint.
struct Params {
    path: String,
    values: BTreeMap<String, Value>,
}

impl Params {
    fn refuse<T>(&self, key: &'static str, problem: String) -> Result<T, ImportError> {
        Err(ImportError::Setting { path: self.path.clone(), key, problem })
    }

    fn text(&self, key: &'static str) -> Result<String, ImportError> {
        match self.values.get(key) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => self.refuse(key, format!("it is {other}, not a name")),
            None if self.values.is_empty() => self.refuse(
                key,
                "the file has no dictionary `params` with the settings it was trained with; only such \
                 checkpoints say which encoder they are of"
                    .into(),
            ),
            None => self.refuse(key, "it is missing".into()),
        }
    }

    fn number(&self, key: &'static str) -> Result<f64, ImportError> {
        match self.values.get(key).map(|value| (value.as_f64(), value)) {
            Some((Some(number), _)) => Ok(number),
            Some((None, other)) => self.refuse(key, format!("it is {other}, not a number")),
            None => self.refuse(key, "it is missing".into()),
        }
    }

    fn flag(&self, key: &'static str, absent: bool) -> Result<bool, ImportError> {
        match self.values.get(key) {
            // the command line's "T" and "F"
            Some(Value::String(text)) if text == "T" || text == "F" => Ok(text == "T"),
            Some(Value::Bool(flag)) => Ok(*flag),
            None => Ok(absent),
            Some(other) => self.refuse(key, format!("it is {other}, not true or false")),
        }
    }

    fn encoder(
        &self,
        name: &str,
        residual: bool,
        tensors: &mut Tensors,
    ) -> Result<PositionEncoder, ImportError> {
        let unscaled = name.eq_ignore_ascii_case("theorynorm");
        let absent = |what: &str| {
            self.refuse(
                "spa_enc_type",
                format!("{name} keeps {what} outside its checkpoints: it cannot be computed"),
            )
        };
        let kind = match name.to_ascii_lowercase().as_str() {
            "rbf" => return absent("the places of its anchors"),
            "tile_ffn" | "tile" | "hexagridcell" | "theorydiag" => {
                return self
                    .refuse("spa_enc_type", format!("{name} is not supported; there are {}", known()));
            }
            "theorynorm" => Kind::named("theory"),
            other => Kind::named(other).filter(|kind| !FOREIGN.contains(&kind.name)),
        };
        let Some(kind) = kind else {
            return self.refuse("spa_enc_type", format!("{name} is not known; there are {}", known()));
        };
        let kind = if residual { self.residual_input(kind)? } else { kind };
        let mut spec = EncoderSpec::of(kind.name);
        if kind.takes.contains(&"r_min") {
            let init = self.values.get("freq_init").and_then(Value::as_str).unwrap_or("geometric");
            if init != "geometric" {
                return self.refuse(
                    "freq_init",
                    format!("{init} scales are not in the checkpoint, only geometric ones can be computed"),
                );
            }
            // theorynorm turns degrees into radians first
            let unit = if unscaled { 1f64.to_degrees() } else { 1.0 };
            spec.r_min = Some(self.number("min_radius")? * unit);
            spec.r_max = Some(self.number("max_radius")? * unit);
        }
        if kind.name == "nerf" {
            // TorchSpatial builds it with 16 whatever frequency_num says
            spec.frequencies =
                tensors.shape("ffn.layers.0.linear.weight").and_then(|s| u16::try_from(s.get(1)? / 6).ok());
        } else if kind.takes.contains(&"frequencies") && kind.name != "rff" {
            let count = self.number("frequency_num")?;
            spec.frequencies = Some(count as u16).filter(|&f| f64::from(f) == count);
            if spec.frequencies.is_none() {
                return self.refuse("frequency_num", format!("it is {count}, not a number of scales"));
            }
        }
        if kind.takes.contains(&"extent") && !residual {
            spec.extent = Some(self.extent()?);
        }
        if kind.name == "rff" {
            let (directions, shifts) = shapes::directions(tensors)
                .map_err(|problem| ImportError::Tensors { path: self.path.clone(), problem })?;
            (spec.directions, spec.shifts) = (Some(directions), Some(shifts));
        }
        if residual && self.flag("use_date_feats", false)? {
            match self.text("date_encode")?.as_str() {
                "encode_cos_sin" => spec.season = true,
                other => {
                    return self
                        .refuse("date_encode", format!("{other} is not supported, encode_cos_sin is"));
                }
            }
        }
        spec.build().map_err(|source| ImportError::Encoder { path: self.path.clone(), source })
    }

    /// What the residual network is fed, which has a setting of its own.
    fn residual_input(&self, wrap: &'static Kind) -> Result<&'static Kind, ImportError> {
        match self.values.get("loc_encode").and_then(Value::as_str) {
            None | Some("encode_cos_sin") => Ok(wrap),
            Some("encode_none") => Ok(Kind::named("direct").unwrap_or(wrap)),
            Some(other) => self.refuse(
                "loc_encode",
                format!("{other} is not supported, encode_cos_sin and encode_none are"),
            ),
        }
    }

    fn extent(&self) -> Result<[f64; 4], ImportError> {
        let numbers = self.values.get("map_range").and_then(Value::as_array);
        let numbers: Option<Vec<f64>> = numbers.and_then(|list| list.iter().map(Value::as_f64).collect());
        match numbers.as_deref() {
            Some(&[west, east, south, north]) => Ok([west, east, south, north]),
            _ => self.refuse("map_range", "it must be west, east, south, north".into()),
        }
    }

    fn ffn(&self, tensors: &Tensors) -> Result<HeadSettings, ImportError> {
        let normed = tensors.has("ffn.layers.0.layernorm.weight");
        let hidden = tensors.has("ffn.layers.1.linear.weight");
        if hidden && normed != self.flag("use_layn", normed)? {
            return self.refuse("use_layn", format!("it is {}, the tensors say {normed}", !normed));
        }
        Ok(HeadSettings {
            norm: if normed { NormPlace::Last } else { NormPlace::None },
            skip: self.flag("skip_connection", true)?,
            ..HeadSettings::default()
        })
    }

    fn activation(&self) -> Result<Activation, ImportError> {
        match self.text("spa_f_act")?.as_str() {
            "relu" => Ok(Activation::Relu),
            "leakyrelu" => Ok(Activation::LeakyRelu),
            "gelu" => Ok(Activation::Gelu),
            "sigmoid" => Ok(Activation::Sigmoid),
            "tanh" => Ok(Activation::Tanh),
            other => self.refuse(
                "spa_f_act",
                format!("{other} is not known; there are relu, leakyrelu, gelu, sigmoid, tanh"),
            ),
        }
    }
}

/// Encoders of other families: no checkpoint of this one is theirs.
const FOREIGN: [&str; 3] = ["rff-equal-earth", "spherical-harmonics", "spherical-harmonics-satclip"];

/// The encoders by the original's names.
fn known() -> String {
    let own = KINDS.iter().filter(|kind| !FOREIGN.contains(&kind.name));
    own.map(|kind| *kind.aliases.first().unwrap_or(&kind.name)).collect::<Vec<_>>().join(", ")
}

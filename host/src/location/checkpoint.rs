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
/// See [`ImportError`]; encoders whose state is not in their checkpoints (rbf, random scales) are named.
pub fn read(path: &Path, device: &Device) -> Result<Imported, ImportError> {
    let params = Params { path: path.display().to_string(), values: read_torch_values(path, "params")? };
    let mut tensors = Tensors::new(read_torch_file(path)?);
    let mistaken = |problem| ImportError::Tensors { path: params.path.clone(), problem };
    let residual = tensors.has("feats.0.weight");
    let name = match params.values.contains_key("spa_enc_type") || !residual {
        true => params.text("spa_enc_type")?,
        // geo_prior's own files are all of one encoder
        false => "wrap".to_string(),
    };
    let encoder = params.encoder(&name, residual, &mut tensors)?;

    let settings = if residual {
        HeadSettings { kind: HeadKind::Fcnet, ..HeadSettings::default() }
    } else {
        params.ffn(&tensors)?
    };
    let activation = if residual { Activation::Relu } else { params.activation()? };
    let read = shapes::network(&mut tensors, residual).map_err(mistaken)?;
    if let Some(layers) = params.layers(residual)?.filter(|&layers| layers != read.layers()) {
        let problem = format!(
            "it has {} linear layers, its settings say {layers}: tensors are missing, or left over",
            read.layers()
        );
        return Err(mistaken(problem));
    }
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
            Some(other) => self.refuse(key, not(other, "a name")),
            None if self.values.is_empty() => self.refuse(
                key,
                "the file has no dictionary `params` with the settings it was trained with; only such \
                 checkpoints say which encoder they are of (an argparse.Namespace has to be saved as vars(args))"
                    .into(),
            ),
            None => self.refuse(key, "it is missing".into()),
        }
    }

    fn number(&self, key: &'static str) -> Result<f64, ImportError> {
        match self.values.get(key).map(|value| (value.as_f64(), value)) {
            Some((Some(number), _)) => Ok(number),
            Some((None, other)) => self.refuse(key, not(other, "a number")),
            None => self.refuse(key, "it is missing".into()),
        }
    }

    fn flag(&self, key: &'static str, absent: bool) -> Result<bool, ImportError> {
        match self.values.get(key) {
            // the command line's "T" and "F"
            Some(Value::String(text)) if text == "T" || text == "F" => Ok(text == "T"),
            Some(Value::Bool(flag)) => Ok(*flag),
            None => Ok(absent),
            Some(other) => self.refuse(key, not(other, "true or false")),
        }
    }

    fn encoder(
        &self,
        name: &str,
        residual: bool,
        tensors: &mut Tensors,
    ) -> Result<PositionEncoder, ImportError> {
        let mistaken = |problem| ImportError::Tensors { path: self.path.clone(), problem };
        let lower = name.to_ascii_lowercase();
        let kind = match lower.as_str() {
            "rbf" => {
                let problem =
                    "rbf keeps the places of its anchors outside its checkpoints: it cannot be computed";
                return self.refuse("spa_enc_type", problem.into());
            }
            "hexagridcell" | "theorydiag" => {
                return self
                    .refuse("spa_enc_type", format!("{name} is not supported; there are {}", known()));
            }
            "tile_ffn" | "tile" => {
                tensors.fold_tile(self.flag("skip_connection", true)?).map_err(mistaken)?;
                Kind::named("direct")
            }
            "theorynorm" => Kind::named("theory"),
            "spherical_harmonics" => Kind::named("spherical-harmonics-satclip"),
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
                let why =
                    if init == "random" { "are not in the checkpoint" } else { "are not supported here" };
                return self.refuse(
                    "freq_init",
                    format!("{init} scales {why}, only geometric ones can be computed"),
                );
            }
            // theorynorm turns degrees into radians first
            let unit = if lower == "theorynorm" { 1f64.to_degrees() } else { 1.0 };
            // TorchSpatial's own classes of these two never look at min_radius: their scales go from 1 to 1/max_radius
            let from_one = ["sphere2vec-spherem+", "sphere2vec-dfs"].contains(&lower.as_str());
            let finest = if from_one { 1.0 } else { self.number("min_radius")? };
            spec.r_min = Some(finest * unit);
            let coarsest = self.number("max_radius")?;
            if from_one && coarsest < 1.0 {
                let problem =
                    format!("it is {coarsest}; the scales of {name} begin at 1, so it must be 1 or more");
                return self.refuse("max_radius", problem);
            }
            spec.r_max = Some(coarsest * unit);
        }
        if kind.takes.contains(&"degree") {
            // TorchSpatial builds it with 8 whatever params say
            let features = tensors.shape("ffn.layers.0.linear.weight").and_then(|s| s.get(1)).copied();
            spec.degree = features.map(usize::isqrt).and_then(|degree| degree.try_into().ok());
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
        if kind.takes.contains(&"extent") && !residual && !lower.starts_with("tile") {
            spec.extent = Some(self.extent()?);
        }
        if kind.name == "rff" {
            let (directions, shifts) = shapes::directions(tensors).map_err(mistaken)?;
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

    /// Linear layers of the network, where the settings tell.
    fn layers(&self, residual: bool) -> Result<Option<usize>, ImportError> {
        // the original builds its residual network with four blocks of two, whatever the settings
        match (residual, self.values.contains_key("num_hidden_layer")) {
            (true, _) => Ok(Some(9)),
            (false, true) => match self.number("num_hidden_layer")? {
                count if count.fract() == 0.0 && (0.0..1e4).contains(&count) => Ok(Some(count as usize + 1)),
                count => self.refuse("num_hidden_layer", format!("it is {count}, not a number of layers")),
            },
            (false, false) => Ok(None),
        }
    }

    fn ffn(&self, tensors: &Tensors) -> Result<HeadSettings, ImportError> {
        let normed = ["weight", "bias"].iter().any(|of| tensors.has(&format!("ffn.layers.0.layernorm.{of}")));
        let hidden = [0, 1].iter().all(|i| tensors.has(&format!("ffn.layers.{i}.linear.weight")));
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

/// What is wrong with a setting that is not what it should be.
fn not(value: &Value, what: &str) -> String {
    match value {
        // what a pickle holds beyond plain values reads as null
        Value::Null => format!("it is None or of a type of its own (numpy's, say), not {what}"),
        other => format!("it is {other}, not {what}"),
    }
}

/// Encoders of other families: no checkpoint of this one is theirs by these names.
const FOREIGN: [&str; 3] = ["rff-equal-earth", "spherical-harmonics", "spherical-harmonics-satclip"];

/// The encoders by the original's names.
fn known() -> String {
    let own = KINDS.iter().filter(|kind| !FOREIGN.contains(&kind.name));
    let own = own.map(|kind| *kind.aliases.first().unwrap_or(&kind.name));
    own.chain(["spherical_harmonics", "tile_ffn"]).collect::<Vec<_>>().join(", ")
}

//! The location network that training begins with: of a run of ours, or of a checkpoint of the csp,
//! sphere2vec and TorchSpatial repositories.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use burn::tensor::Device;
use csp_models::{
    bundle::sha256_hex,
    encoder::PositionEncoder,
    labels::Labels,
    nn::{HeadConfig, HeadKind, LocationClassifierConfig},
};
use serde_json::{Value, json};

use super::{
    TrainError,
    config::LocationConfig,
    model::{LOCATION, ModelInfo},
    published::{self, StateDict, Weighing},
    run_dir::read_json,
    weights::{Array, Weights},
};
use crate::location::checkpoint;

/// Name of the setting.
const FIELD: &str = "location.weights";
/// The class matrix, `[embedding, classes]`.
const CLASSES: &str = "location.classes.weight";
/// Names listed in an error.
const SHOWN: usize = 12;

/// Where the location branch begins.
#[derive(Clone, Debug)]
pub(crate) struct Begin {
    /// The encoder under `location.encoder`; the class matrix under `location.classes`, if it is kept.
    pub weights: Weights,
    /// For people.
    pub said: String,
    /// SHA-256 of the file, hex.
    pub sha256: String,
}

/// What a file holds.
struct Offered {
    weights: Weights,
    /// Its position features, where it says.
    encoder: Option<PositionEncoder>,
    /// Its network, where it says.
    head: Option<HeadConfig>,
    /// Names of its classes, where it has any.
    labels: Option<Labels>,
    what: &'static str,
    sha256: String,
}

impl Begin {
    /// Reads the network of a file or a run directory for a model of `labels`. The class matrix is kept
    /// where every class is in it by name, or where the file has no names and as many classes.
    ///
    /// # Errors
    /// A file that cannot be read, or another architecture than `location`: what differs, the tensors that
    /// are missing or left over, and the settings that fit the file.
    pub fn read(path: &Path, location: &LocationConfig, labels: &Labels) -> Result<Self, TrainError> {
        let file = if path.is_dir() { path.join("model").join(LOCATION) } else { path.to_path_buf() };
        let mut offered = offered(&file)?;
        let mut problems = Vec::new();
        if let Some(encoder) = offered.encoder.as_ref().filter(|encoder| **encoder != location.encoder) {
            problems.push(format!("its position features are {encoder}, not {}", location.encoder));
        }
        let network = location.network();
        if let Some(head) = &offered.head {
            problems.extend(unlike(head, &network));
        }
        problems.extend(tensors_unlike(&offered.weights, network));
        if !problems.is_empty() {
            let fits = offered.encoder.zip(offered.head).and_then(|(encoder, head)| fitting(encoder, &head));
            let fits = fits.map_or(String::new(), |fits| format!("\nThese settings fit it:\n{fits}"));
            let problem = format!("{} is of another network: {}{fits}", file.display(), problems.join("; "));
            return Err(TrainError::Config { field: FIELD.into(), problem });
        }
        let matrix = offered.weights.0.remove(CLASSES);
        let (kept, about) = class_matrix(matrix, offered.labels.as_ref(), labels);
        offered.weights.0.extend(kept.map(|matrix| (CLASSES.to_string(), matrix)));
        let short: String = offered.sha256.chars().take(12).collect();
        let said = format!("{}: {} (SHA-256 {short}…); {about}", file.display(), offered.what);
        Ok(Self { weights: offered.weights, said, sha256: offered.sha256 })
    }

    /// True with a class matrix.
    pub fn has_classes(&self) -> bool {
        self.weights.0.contains_key(CLASSES)
    }

    /// For `run.json`.
    pub fn notes(&self, path: &Path) -> BTreeMap<String, Value> {
        let notes = [
            ("file", json!(path)),
            ("sha256", json!(self.sha256)),
            ("class_matrix", json!(self.has_classes())),
        ];
        notes.map(|(key, value)| (key.to_string(), value)).into()
    }
}

fn offered(file: &Path) -> Result<Offered, TrainError> {
    let corrupt = |reason: String| TrainError::corrupt(file, reason);
    let bytes = fs::read(file).map_err(TrainError::io(file))?;
    let sha256 = sha256_hex(&bytes);
    let unnamed = |weights, what| Offered {
        weights,
        encoder: None,
        head: None,
        labels: None,
        what,
        sha256: sha256.clone(),
    };
    if matches!(published::look(file)?, Weighing::Run(_)) {
        let (weights, _) = Weights::read(file)?;
        if !weights.0.keys().any(|name| name.starts_with("location.")) {
            return Err(corrupt(
                "it holds no location network; of a run that is model/location.safetensors".into(),
            ));
        }
        let beside: PathBuf = file.with_file_name("model.json");
        if !beside.is_file() {
            return Ok(unnamed(weights, "a run's, without the model.json beside it"));
        }
        let info: ModelInfo = read_json(&beside)?;
        let head = info.encoder.as_ref().zip(info.location).map(|(encoder, shape)| shape.network(encoder));
        let bare = unnamed(weights, "a run's");
        return Ok(Offered { encoder: info.encoder, head, labels: Some(info.labels), ..bare });
    }
    // by content, not by name: a safetensors file is a length and then JSON
    if bytes.get(8) == Some(&b'{') {
        let tensors = StateDict::read(file)?.tensors;
        return Ok(unnamed(
            checkpoint::weights(tensors).map_err(corrupt)?,
            "safetensors by the original's names",
        ));
    }
    let imported = checkpoint::read(file, &Device::flex()).map_err(|error| {
        let text = error.to_string();
        corrupt(text.strip_prefix(&format!("{}: ", file.display())).unwrap_or(&text).to_string())
    })?;
    let bare = unnamed(Weights::of("location", &imported.network), "a checkpoint of the original's layout");
    Ok(Offered { encoder: Some(imported.encoder), head: Some(imported.head), ..bare })
}

/// How two networks differ where their tensors cannot show it.
fn unlike(theirs: &HeadConfig, ours: &HeadConfig) -> Vec<String> {
    let (a, b) = (theirs.settings, ours.settings);
    let mut problems = Vec::new();
    let mut check = |what: &str, theirs: String, ours: String| {
        if theirs != ours {
            problems.push(format!("{what} is {theirs}, not {ours}"));
        }
    };
    let text = |value: &dyn std::fmt::Debug| format!("{value:?}");
    check("head.kind", text(&a.kind), text(&b.kind));
    match (a.kind, b.kind) {
        (HeadKind::Ffn, HeadKind::Ffn) => {
            check("activation", text(&theirs.activation), text(&ours.activation));
            check("head.output_activation", text(&a.output_activation), text(&b.output_activation));
            check("head.norm", text(&a.norm), text(&b.norm));
            check("head.skip", text(&a.skip), text(&b.skip));
        }
        (HeadKind::Siren, HeadKind::Siren) => {
            check("head.w0_first", text(&a.w0_first), text(&b.w0_first));
            check("head.w0", text(&a.w0), text(&b.w0));
        }
        _ => {}
    }
    problems
}

/// Tensors of the encoder that one has and the other has not, or in another shape.
fn tensors_unlike(theirs: &Weights, network: HeadConfig) -> Vec<String> {
    let ours = Weights::of("location", &LocationClassifierConfig::new(network, 1).init(&Device::flex()));
    let shapes = |weights: &Weights| -> BTreeMap<String, Vec<usize>> {
        let tensors = weights.0.iter().filter(|(name, _)| *name != CLASSES);
        tensors.map(|(name, array)| (name.clone(), array.shape.clone())).collect()
    };
    let (theirs, ours) = (shapes(theirs), shapes(&ours));
    let only = |a: &BTreeMap<String, Vec<usize>>, b: &BTreeMap<String, Vec<usize>>| -> Vec<String> {
        a.iter().filter(|(name, _)| !b.contains_key(*name)).map(|(name, s)| format!("{name} {s:?}")).collect()
    };
    let both = theirs.iter().filter_map(|(name, shape)| Some((name, shape, ours.get(name)?)));
    let reshaped: Vec<String> = both
        .filter(|(_, theirs, ours)| theirs != ours)
        .map(|(name, theirs, ours)| format!("{name} is {theirs:?}, not {ours:?}"))
        .collect();
    [("missing", only(&ours, &theirs)), ("not used", only(&theirs, &ours)), ("of another shape", reshaped)]
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| {
            let more = names.len().saturating_sub(SHOWN);
            let shown = names[..names.len() - more].join(", ");
            if more == 0 { format!("{what}: {shown}") } else { format!("{what}: {shown} and {more} more") }
        })
        .collect()
}

/// The settings of a network, as they stand in a configuration file.
fn fitting(encoder: PositionEncoder, head: &HeadConfig) -> Option<String> {
    let location = LocationConfig {
        encoder,
        hidden: head.hidden,
        hidden_layers: head.hidden_layers.max(1),
        embedding: head.output,
        activation: head.activation,
        head: head.settings,
        ..LocationConfig::default()
    };
    toml::to_string(&BTreeMap::from([("location", location)])).ok()
}

/// The class matrix for `ours`, if it is for them, and what became of it in words.
fn class_matrix(matrix: Option<Array>, theirs: Option<&Labels>, ours: &Labels) -> (Option<Array>, String) {
    let Some(matrix) = matrix.filter(|matrix| matches!(matrix.shape[..], [_, classes] if classes > 0)) else {
        return (None, "it has no class matrix".into());
    };
    let classes = matrix.shape[1];
    let Some(theirs) = theirs else {
        return if classes == ours.len() {
            let about = format!(
                "its class matrix of {classes} unnamed classes is kept: are they in the order of the data's?"
            );
            (Some(matrix), about)
        } else {
            (None, format!("its class matrix of {classes} classes is left out, the data has {}", ours.len()))
        };
    };
    let column = |label: &csp_models::labels::Label| theirs.find(&label.name).map(|class| class.index());
    let columns: Option<Vec<usize>> = ours.0.iter().map(column).collect();
    match columns.filter(|columns| columns.iter().all(|&column| column < classes)) {
        Some(columns) => {
            let rows = matrix.values.chunks_exact(classes.max(1));
            let values = rows.flat_map(|row| columns.iter().map(|&column| row[column]).collect::<Vec<_>>());
            let shape = vec![matrix.shape[0], columns.len()];
            (
                Some(Array { values: values.collect(), shape }),
                "its class matrix is kept, by the classes' names".into(),
            )
        }
        None => {
            let absent = ours.0.iter().filter(|label| theirs.find(&label.name).is_none());
            let absent: Vec<&str> = absent.map(|label| label.name.as_str()).take(SHOWN).collect();
            (None, format!("its class matrix is left out, it does not know {}", absent.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use csp_models::labels::Label;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/location").join(name)
    }

    fn labels(count: usize) -> Labels {
        Labels((0..count).map(|i| Label::new(format!("class {i}"))).collect())
    }

    fn refusal(file: &str, location: &LocationConfig) -> String {
        Begin::read(&fixture(file), location, &labels(3)).unwrap_err().to_string()
    }

    /// The settings an error offers.
    fn offered_settings(error: &str) -> LocationConfig {
        let (_, fits) = error.split_once("These settings fit it:\n").unwrap();
        let mut all: BTreeMap<String, LocationConfig> = toml::from_str(fits).unwrap();
        all.remove("location").unwrap()
    }

    #[test]
    fn every_checkpoint_says_which_settings_it_needs_and_takes_them() {
        for name in [
            "gridcell",
            "theory-2-layers-skip",
            "theorynorm",
            "dfs-no-norm",
            "rff",
            "geo_net",
            "xyz-wide-skip",
            "dated/geo_net",
        ] {
            let file = format!("{name}.pth");
            let location = offered_settings(&refusal(&file, &LocationConfig::default()));
            let begin = Begin::read(&fixture(&file), &location, &labels(3)).unwrap_or_else(|e| panic!("{e}"));
            assert!(begin.has_classes() && begin.said.contains("unnamed"), "{name}: {}", begin.said);
            let network = LocationClassifierConfig::new(location.network(), 3).init(&Device::flex());
            let network = begin.weights.apply("location", network).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(Weights::of("location", &network), begin.weights, "{name}");
            assert_eq!(location.encoder.season(), name.starts_with("dated"));

            let fewer = Begin::read(&fixture(&file), &location, &labels(4)).unwrap();
            assert!(!fewer.has_classes() && fewer.said.contains("left out"), "{}", fewer.said);
        }
    }

    #[test]
    fn another_architecture_is_refused_with_its_tensors() {
        let fits = offered_settings(&refusal("gridcell.pth", &LocationConfig::default()));
        let deeper = refusal("gridcell.pth", &LocationConfig { hidden_layers: 2, ..fits.clone() });
        assert!(
            deeper.contains("missing: location.encoder.layers.2.") && deeper.contains("another shape"),
            "{deeper}"
        );
        let residual = refusal("geo_net.pth", &LocationConfig { ..fits.clone() });
        for word in ["geo_net.pth", "wrap", "Fcnet", "not used: location.encoder.layers.2."] {
            assert!(residual.contains(word), "{word} is not in {residual}");
        }
        let mut other = fits;
        other.activation = csp_models::nn::Activation::Relu;
        assert!(refusal("gridcell.pth", &other).contains("activation is LeakyRelu, not Relu"));
        assert!(refusal("refused-no-params.pth", &other).contains("spa_enc_type"));
        assert!(refusal("nowhere.pth", &other).contains("nowhere.pth"));
        assert!(refusal("places.csv", &other).contains("places.csv"));
    }

    #[test]
    fn classes_are_found_by_name() {
        let matrix = Array { shape: vec![2, 3], values: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0] };
        let named = |names: &[&str]| Labels(names.iter().map(|name| Label::new(*name)).collect());
        let theirs = named(&["lynx", "hare", "fox"]);
        let (kept, _) = class_matrix(Some(matrix.clone()), Some(&theirs), &named(&["fox", "lynx"]));
        let kept = kept.unwrap();
        assert_eq!((kept.shape, kept.values), (vec![2, 2], vec![3.0, 1.0, 6.0, 4.0]));
        let (kept, about) = class_matrix(Some(matrix), Some(&theirs), &named(&["fox", "wolf"]));
        assert!(kept.is_none() && about.contains("wolf"));
    }
}

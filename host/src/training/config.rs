//! Everything that can be set about a run, with its default. Read from TOML, stored in `run.json`;
//! an unknown key is an error.

use std::{fs, path::Path};

use csp_models::{
    encoder::{PositionEncoder, Scales},
    nn::{Activation, BackboneKind, FeedForwardConfig},
};
use serde::{Deserialize, Serialize};

use super::{
    TrainError,
    losses::{mc::McConfig, nce::NceConfig, presence::PresenceConfig},
    sampler::Negatives,
};

/// The whole of a configuration file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// How a picture becomes the network's input.
    pub input: InputConfig,
    /// The rows kept from training to calibrate on.
    pub holdout: HoldoutConfig,
    /// Training of the image network.
    pub backbone: BackboneConfig,
    /// The location network.
    pub location: LocationConfig,
    /// Contrastive pre-training of the location network.
    pub pretrain: PretrainConfig,
    /// Supervised training of the location network.
    pub finetune: FinetuneConfig,
    /// The image classifier's last layer.
    pub image: ImageHeadConfig,
    /// Checkpoints.
    pub checkpoint: CheckpointConfig,
}

/// Section `[input]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InputConfig {
    /// Pixels a side; unset: the pictures' own size where none is above 96, else 128 for a small CNN
    /// and 224 for MobileNetV2.
    pub size: Option<u32>,
    /// Which mirror images are the same thing.
    pub flip: Flip,
}

/// Mirror images that augmentation may show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flip {
    /// None: text, left and right matter.
    None,
    /// Left and right: photographs.
    #[default]
    Horizontal,
    /// All eight symmetries of the square: pictures from above.
    Both,
}

/// Section `[holdout]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HoldoutConfig {
    /// Share of the labelled rows.
    pub share: f64,
    /// At most this many rows.
    pub max_rows: usize,
    /// Whole cells of this many degrees are held out, so that the prior is judged at places it has
    /// not seen.
    pub block_deg: f64,
    /// Pre-training does not see unlabelled rows of held-out cells either.
    pub shield: bool,
}

impl Default for HoldoutConfig {
    fn default() -> Self {
        Self { share: 0.15, max_rows: 1500, block_deg: 1.0, shield: true }
    }
}

/// Section `[backbone]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackboneConfig {
    /// `small-cnn` or `mobilenet-v2`.
    pub kind: Architecture,
    /// Channels of the small CNN's first stage (24), or MobileNetV2's width multiplier (1.0).
    pub width: Option<f64>,
    /// A finished run's `model/image.safetensors` to begin with; its last layer is not taken over.
    pub weights: Option<std::path::PathBuf>,
    /// Passes over the labelled rows, within the two limits below. 0 keeps the given weights.
    pub epochs: f64,
    /// Pictures seen at least.
    pub min_samples: u64,
    /// Pictures seen at most.
    pub max_samples: u64,
    /// Pictures in a step.
    pub batch: usize,
    /// Peak learning rate of AdamW; warm-up over 5 % of the steps, then a cosine to zero.
    pub lr: f64,
    /// Weight decay of kernels and matrices.
    pub weight_decay: f64,
    /// Share of a label given to all classes alike.
    pub label_smoothing: f64,
}

/// The image networks by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// [`csp_models::nn::SmallCnn`].
    #[default]
    SmallCnn,
    /// [`csp_models::nn::MobileNetV2`].
    #[serde(rename = "mobilenet-v2")]
    MobileNetV2,
}

impl Default for BackboneConfig {
    fn default() -> Self {
        Self {
            kind: Architecture::SmallCnn,
            width: None,
            weights: None,
            epochs: 20.0,
            min_samples: 24_000,
            max_samples: 120_000,
            batch: 64,
            lr: 3e-3,
            weight_decay: 0.05,
            label_smoothing: 0.05,
        }
    }
}

impl BackboneConfig {
    /// Kind and width.
    pub fn network(&self) -> BackboneKind {
        match self.kind {
            Architecture::SmallCnn => BackboneKind::SmallCnn(self.width.unwrap_or(24.0).round() as usize),
            Architecture::MobileNetV2 => BackboneKind::MobileNetV2(self.width.unwrap_or(1.0)),
        }
    }
}

/// Section `[location]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LocationConfig {
    /// Position features. The default's 16 scales from 1° reach places between the labelled ones;
    /// the released models use 32 from 0.1°, for data that is dense at that scale.
    pub encoder: PositionEncoder,
    /// Width of each hidden layer.
    pub hidden: usize,
    /// Number of hidden layers.
    pub hidden_layers: usize,
    /// Width of the embedding.
    pub embedding: usize,
    /// `relu`, `leaky-relu` (0.2) or `gelu`.
    pub activation: ActivationName,
    /// Share of activations dropped in training, rounded to 1/256.
    pub dropout: f64,
}

/// [`Activation`] as it stands in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum ActivationName {
    Relu,
    LeakyRelu,
    Gelu,
}

impl Default for LocationConfig {
    fn default() -> Self {
        Self {
            encoder: PositionEncoder::Space2vecGrid(Scales { frequencies: 16, r_min: 1.0, r_max: 360.0 }),
            hidden: 512,
            hidden_layers: 1,
            embedding: 256,
            activation: ActivationName::LeakyRelu,
            dropout: 0.5,
        }
    }
}

impl LocationConfig {
    /// The network behind the position features.
    pub fn network(&self) -> FeedForwardConfig {
        let activation = match self.activation {
            ActivationName::Relu => Activation::Relu,
            ActivationName::LeakyRelu => Activation::LeakyRelu,
            ActivationName::Gelu => Activation::Gelu,
        };
        FeedForwardConfig::new(self.encoder.dim())
            .with_hidden(self.hidden)
            .with_hidden_layers(self.hidden_layers)
            .with_output(self.embedding)
            .with_activation(activation)
    }
}

/// Section `[pretrain]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PretrainConfig {
    /// Without it the location network starts at random: the supervised baseline.
    pub enabled: bool,
    /// Which loss.
    pub objective: Objective,
    /// Settings of `objective = "mc"`.
    pub mc: McConfig,
    /// Settings of `objective = "nce"`.
    pub nce: NceConfig,
    /// Random places.
    pub negatives: Negatives,
    /// Random places a row.
    pub negatives_per_row: usize,
    /// Passes over the rows, within the two limits below.
    pub epochs: f64,
    /// Steps at least.
    pub min_steps: u64,
    /// Steps at most.
    pub max_steps: u64,
    /// Rows in a step.
    pub batch: usize,
    /// Peak learning rate; warm-up over 5 % of the steps, then a cosine to zero.
    pub lr: f64,
    /// Weight decay of matrices.
    pub weight_decay: f64,
}

/// The contrastive objectives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// Softmax over the batch.
    #[default]
    Mc,
    /// Every pair on its own.
    Nce,
}

impl Default for PretrainConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            objective: Objective::Mc,
            mc: McConfig::default(),
            nce: NceConfig::default(),
            negatives: Negatives::Sphere,
            negatives_per_row: 1,
            epochs: 40.0,
            min_steps: 200,
            max_steps: 20_000,
            batch: 1024,
            lr: 1e-3,
            weight_decay: 0.0,
        }
    }
}

/// Section `[finetune]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FinetuneConfig {
    /// The presence-only loss.
    pub loss: PresenceConfig,
    /// Random places.
    pub negatives: Negatives,
    /// Passes over the labelled rows, within the two limits below.
    pub epochs: f64,
    /// Steps at least.
    pub min_steps: u64,
    /// Steps at most.
    pub max_steps: u64,
    /// Rows in a step.
    pub batch: usize,
    /// Peak learning rate; warm-up over 5 % of the steps, then a cosine to zero.
    pub lr: f64,
    /// The encoder's rate as a share of `lr` after pre-training, which it would else forget; a random
    /// encoder learns at `lr`.
    pub encoder_lr: f64,
    /// Weight decay of matrices.
    pub weight_decay: f64,
    /// Starts the class matrix, after pre-training, from the mean of each class's projected pictures.
    pub prototypes: bool,
    /// The labelled cells are split into this many parts; for each, a network that has not seen it
    /// tells what the prior is worth there, which the calibration relies on. 0: the hold-out alone.
    pub folds: usize,
}

impl Default for FinetuneConfig {
    fn default() -> Self {
        Self {
            loss: PresenceConfig::default(),
            negatives: Negatives::Sphere,
            epochs: 20.0,
            min_steps: 200,
            max_steps: 10_000,
            batch: 1024,
            lr: 1e-3,
            encoder_lr: 0.3,
            weight_decay: 0.0,
            prototypes: true,
            folds: 5,
        }
    }
}

/// Section `[image]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageHeadConfig {
    /// Where the last layer comes from.
    pub head: Head,
    /// Settings of `head = "probe"`.
    pub probe: ProbeConfig,
}

/// The last layer of the image classifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Head {
    /// Trained together with the backbone; with `backbone.epochs = 0` a probe takes its place.
    #[default]
    Trained,
    /// Logistic regression on the frozen features.
    Probe,
}

/// Section `[image.probe]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProbeConfig {
    /// Full-batch steps.
    pub steps: u64,
    /// Peak learning rate of AdamW.
    pub lr: f64,
    /// Weight decay.
    pub weight_decay: f64,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self { steps: 300, lr: 0.05, weight_decay: 0.01 }
    }
}

/// Section `[checkpoint]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointConfig {
    /// Steps between two checkpoints: what a power cut can cost.
    pub every: u64,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { every: 100 }
    }
}

impl TrainConfig {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// Unreadable, not TOML, an unknown key, or a value that [`validate`](Self::validate) refuses.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let text = fs::read_to_string(path).map_err(TrainError::io(path))?;
        let config: Self = toml::from_str(&text).map_err(|error| TrainError::Config {
            field: path.display().to_string(),
            problem: error.to_string(),
        })?;
        config.validate().map_err(|error| match error {
            TrainError::Config { field, problem } => {
                TrainError::Config { field: format!("{}: {field}", path.display()), problem }
            }
            other => other,
        })?;
        Ok(config)
    }

    /// Checks every value that training relies on.
    ///
    /// # Errors
    /// Names the first setting out of range.
    pub fn validate(&self) -> Result<(), TrainError> {
        let fail = |field: &str, problem: String| Err(TrainError::Config { field: field.into(), problem });
        let share = |v: f64| (0.0..1.0).contains(&v);
        let positive = |v: f64| v.is_finite() && v > 0.0;
        let not_negative = |v: f64| v.is_finite() && v >= 0.0;
        let (b, p, f, mc) = (&self.backbone, &self.pretrain, &self.finetune, &self.pretrain.mc);
        let width = match b.kind {
            Architecture::SmallCnn => (4.0..=512.0).contains(&b.width.unwrap_or(24.0)),
            Architecture::MobileNetV2 => (0.25..=2.0).contains(&b.width.unwrap_or(1.0)),
        };
        let checks = [
            ("input.size", self.input.size.is_none_or(|s| (16..=1024).contains(&s)), "16 to 1024"),
            ("holdout.share", share(self.holdout.share), "0 or more and below 1"),
            ("holdout.block_deg", positive(self.holdout.block_deg), "above 0"),
            ("backbone.width", width, "4 to 512 channels (small-cnn) or 0.25 to 2 (mobilenet-v2)"),
            ("backbone.epochs", not_negative(b.epochs), "0 or more"),
            ("backbone.max_samples", b.max_samples >= b.min_samples, "at least backbone.min_samples"),
            ("backbone.batch", (2..=4096).contains(&b.batch), "2 to 4096"),
            ("backbone.lr", positive(b.lr), "above 0"),
            ("backbone.weight_decay", not_negative(b.weight_decay), "0 or more"),
            ("backbone.label_smoothing", share(b.label_smoothing), "0 or more and below 1"),
            ("location.hidden", (1..=8192).contains(&self.location.hidden), "1 to 8192"),
            ("location.hidden_layers", (1..=8).contains(&self.location.hidden_layers), "1 to 8"),
            ("location.embedding", (1..=8192).contains(&self.location.embedding), "1 to 8192"),
            ("location.dropout", share(self.location.dropout), "0 or more and below 1"),
            ("pretrain.mc.tau_batch", positive(mc.tau_batch), "above 0"),
            ("pretrain.mc.tau_random", positive(mc.tau_random), "above 0"),
            ("pretrain.mc.tau_dropout", positive(mc.tau_dropout), "above 0"),
            ("pretrain.epochs", not_negative(p.epochs), "0 or more"),
            ("pretrain.max_steps", p.max_steps >= p.min_steps, "at least pretrain.min_steps"),
            ("pretrain.batch", (2..=65_536).contains(&p.batch), "2 to 65536"),
            ("pretrain.negatives_per_row", (1..=64).contains(&p.negatives_per_row), "1 to 64"),
            ("pretrain.lr", positive(p.lr), "above 0"),
            ("finetune.epochs", not_negative(f.epochs), "0 or more"),
            ("finetune.max_steps", f.max_steps >= f.min_steps, "at least finetune.min_steps"),
            ("finetune.batch", (1..=65_536).contains(&f.batch), "1 to 65536"),
            ("finetune.lr", positive(f.lr), "above 0"),
            ("finetune.encoder_lr", not_negative(f.encoder_lr), "0 or more"),
            ("finetune.folds", f.folds == 0 || (2..=5).contains(&f.folds), "0, or 2 to 5"),
            ("pretrain.weight_decay", not_negative(p.weight_decay), "0 or more"),
            ("pretrain.mc.weight_random", not_negative(mc.weight_random), "0 or more"),
            ("pretrain.mc.weight_dropout", not_negative(mc.weight_dropout), "0 or more"),
            ("finetune.weight_decay", not_negative(f.weight_decay), "0 or more"),
            ("finetune.loss.background_weight", not_negative(f.loss.background_weight), "0 or more"),
            ("image.probe.steps", self.image.probe.steps >= 1, "1 or more"),
            ("image.probe.weight_decay", not_negative(self.image.probe.weight_decay), "0 or more"),
            ("image.probe.lr", positive(self.image.probe.lr), "above 0"),
            ("checkpoint.every", self.checkpoint.every >= 1, "1 or more"),
        ];
        if let Some((field, _, need)) = checks.into_iter().find(|(_, fits, _)| !fits) {
            return fail(field, format!("it must be {need}"));
        }
        if let Err(error) = self.location.encoder.validate() {
            return fail("location", error.to_string());
        }
        if b.epochs == 0.0 && b.weights.is_none() {
            return fail("backbone.epochs", "0 leaves a random network: give backbone.weights".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<TrainConfig, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        fs::write(&path, text).unwrap();
        TrainConfig::read(&path).map_err(|e| e.to_string())
    }

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(parse("").unwrap(), TrainConfig::default());
        let text = toml::to_string(&TrainConfig::default()).unwrap();
        assert_eq!(parse(&text).unwrap(), TrainConfig::default());
    }

    #[test]
    fn settings_are_read_and_wrong_ones_named() {
        let config = parse(
            "[pretrain]\nobjective = \"nce\"\n[pretrain.mc]\ntau_batch = 0.1\n\
             [location.encoder]\nkind = \"space2vec-theory\"\nfrequencies = 8\nr_min = 1.0\nr_max = 90.0\n",
        )
        .unwrap();
        assert_eq!(config.pretrain.objective, Objective::Nce);
        assert_eq!(config.pretrain.mc.tau_batch, 0.1);
        assert_eq!(config.location.encoder.dim(), 48);
        for (text, named) in [
            ("[pretrain]\nlearning_rate = 1", "learning_rate"),
            ("[backbone]\nlr = -1.0", "backbone.lr"),
            ("[backbone]\nepochs = 0", "backbone.weights"),
            ("[backbone]\nkind = \"vit\"", "vit"),
            ("[pretrain.mc]\ntau_batch = 0.0", "tau_batch"),
            (
                "[location.encoder]\nkind = \"space2vec-grid\"\nfrequencies = 0\nr_min = 1\nr_max = 2",
                "frequencies",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(named) && error.contains("c.toml"), "{text}: {error}");
        }
    }
}

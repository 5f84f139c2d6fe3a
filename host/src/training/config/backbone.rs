//! Section `[backbone]`.

use csp_models::nn::BackboneKind;
use serde::{Deserialize, Serialize};

use super::{AugmentConfig, Check, not_negative, positive, share};

/// Section `[backbone]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackboneConfig {
    /// `small-cnn`, `mobilenet-v2`, `resnet-18`, `resnet-50` or `inception-v3`.
    pub kind: Architecture,
    /// Channels of the small CNN's first stage (24), or MobileNetV2's width multiplier (1.0).
    pub width: Option<f64>,
    /// Weights to begin with: a state dict of torchvision or timm (safetensors, .pth), or a finished
    /// run's `model/image.safetensors`. The last layer is not taken over.
    pub weights: Option<std::path::PathBuf>,
    /// Passes over the labelled rows, within the two limits below. 0 keeps the given weights.
    pub epochs: f64,
    /// Pictures seen at least.
    pub min_samples: u64,
    /// Pictures seen at most.
    pub max_samples: u64,
    /// Pictures in a step.
    pub batch: usize,
    /// How gradients become steps.
    pub optimizer: OptimizerName,
    /// With SGD: share of the last step that goes on.
    pub momentum: f64,
    /// Peak learning rate; warm-up over 5 % of the steps, then a cosine to zero.
    pub lr: f64,
    /// Weight decay of kernels and matrices.
    pub weight_decay: f64,
    /// Share of a label given to all classes alike.
    pub label_smoothing: f64,
    /// What may be done to a picture.
    pub augment: AugmentConfig,
}

/// The optimizers by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerName {
    /// Decoupled weight decay.
    #[default]
    Adamw,
    /// With momentum; weight decay is part of the gradient, of matrices and kernels alone.
    Sgd,
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
    /// [`csp_models::nn::ResNet`] of 18 layers.
    #[serde(rename = "resnet-18")]
    ResNet18,
    /// [`csp_models::nn::ResNet`] of 50 layers.
    #[serde(rename = "resnet-50")]
    ResNet50,
    /// [`csp_models::nn::InceptionV3`].
    #[serde(rename = "inception-v3")]
    InceptionV3,
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
            optimizer: OptimizerName::Adamw,
            momentum: 0.9,
            lr: 3e-3,
            weight_decay: 0.05,
            label_smoothing: 0.05,
            augment: AugmentConfig::default(),
        }
    }
}

impl BackboneConfig {
    /// Kind and width.
    pub fn network(&self) -> BackboneKind {
        match self.kind {
            Architecture::SmallCnn => BackboneKind::SmallCnn(self.width.unwrap_or(24.0).round() as usize),
            Architecture::MobileNetV2 => BackboneKind::MobileNetV2(self.width.unwrap_or(1.0)),
            Architecture::ResNet18 => BackboneKind::ResNet18,
            Architecture::ResNet50 => BackboneKind::ResNet50,
            Architecture::InceptionV3 => BackboneKind::InceptionV3,
        }
    }
}

impl BackboneConfig {
    pub(super) fn checks(&self) -> Vec<Check> {
        let width = match self.kind {
            Architecture::SmallCnn => (4.0..=512.0).contains(&self.width.unwrap_or(24.0)),
            Architecture::MobileNetV2 => (0.25..=2.0).contains(&self.width.unwrap_or(1.0)),
            Architecture::ResNet18 | Architecture::ResNet50 | Architecture::InceptionV3 => {
                self.width.is_none()
            }
        };
        let begins = self.epochs != 0.0 || self.weights.is_some();
        let mut checks = self.augment.checks();
        checks.extend([
            (
                "backbone.width",
                width,
                "4 to 512 channels (small-cnn), 0.25 to 2 (mobilenet-v2), unset for the others",
            ),
            ("backbone.epochs", not_negative(self.epochs), "0 or more"),
            ("backbone.epochs", begins, "above 0 without backbone.weights: 0 leaves a random network"),
            ("backbone.max_samples", self.max_samples >= self.min_samples, "at least backbone.min_samples"),
            ("backbone.batch", (2..=4096).contains(&self.batch), "2 to 4096"),
            ("backbone.lr", positive(self.lr), "above 0"),
            ("backbone.weight_decay", not_negative(self.weight_decay), "0 or more"),
            ("backbone.label_smoothing", share(self.label_smoothing), "0 or more and below 1"),
            ("backbone.momentum", share(self.momentum), "0 or more and below 1"),
        ]);
        checks
    }
}

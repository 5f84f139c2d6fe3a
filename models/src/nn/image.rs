//! The image side: a backbone that turns a picture into a feature, and a linear classifier on it.

use burn::{
    config::Config,
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::{Device, Tensor},
};
use serde::{Deserialize, Serialize};

use super::{MobileNetV2, MobileNetV2Config, SmallCnn, SmallCnnConfig};

/// Which backbone, with its size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackboneKind {
    /// [`SmallCnn`] with the channels of its first stage.
    SmallCnn(usize),
    /// [`MobileNetV2`] with its width multiplier.
    #[serde(rename = "mobilenet-v2")]
    MobileNetV2(f64),
}

impl BackboneKind {
    /// Length of the pooled feature.
    pub fn features(&self) -> usize {
        match *self {
            Self::SmallCnn(width) => SmallCnnConfig::new().with_width(width).features(),
            Self::MobileNetV2(width) => MobileNetV2Config::new().with_width(width).features(),
        }
    }
}

impl core::fmt::Display for BackboneKind {
    /// `small-cnn-24`, `mobilenet-v2-1`.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::SmallCnn(width) => write!(f, "small-cnn-{width}"),
            Self::MobileNetV2(width) => write!(f, "mobilenet-v2-{width}"),
        }
    }
}

/// A backbone of any kind.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Backbone {
    /// See [`SmallCnn`].
    SmallCnn(SmallCnn),
    /// See [`MobileNetV2`].
    MobileNetV2(MobileNetV2),
}

impl Backbone {
    /// # Shapes
    /// - input: `[batch, 3, height, width]`, normalised
    /// - output: `[batch, features]`
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        match self {
            Self::SmallCnn(network) => network.forward(images),
            Self::MobileNetV2(network) => network.forward(images),
        }
    }
}

/// Configuration of an [`ImageClassifier`].
#[derive(Config, Debug)]
pub struct ImageClassifierConfig {
    /// The backbone.
    pub backbone: BackboneKind,
    /// Number of classes.
    pub classes: usize,
}

/// Backbone and linear classifier: `P(y|I)` before the softmax.
#[derive(Module, Debug)]
pub struct ImageClassifier {
    /// Picture → feature.
    pub backbone: Backbone,
    /// Feature → logits.
    pub head: Linear,
}

impl ImageClassifierConfig {
    /// Random weights.
    pub fn init(&self, device: &Device) -> ImageClassifier {
        let backbone = match self.backbone {
            BackboneKind::SmallCnn(width) => {
                Backbone::SmallCnn(SmallCnnConfig::new().with_width(width).init(device))
            }
            BackboneKind::MobileNetV2(width) => {
                Backbone::MobileNetV2(MobileNetV2Config::new().with_width(width).init(device))
            }
        };
        let head = LinearConfig::new(self.backbone.features(), self.classes).init(device);
        ImageClassifier { backbone, head }
    }
}

impl ImageClassifier {
    /// # Shapes
    /// - input: `[batch, 3, height, width]`, normalised
    /// - output: `[batch, classes]` logits
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        self.head.forward(self.backbone.forward(images))
    }
}

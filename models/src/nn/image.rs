//! The image side: a backbone that turns a picture into a feature, and a linear classifier on it.

use burn::{
    config::Config,
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::{Device, Tensor},
};
use serde::{Deserialize, Serialize};

use super::{
    IMAGENET_MEAN, IMAGENET_STD, INCEPTION_V3_MIN_SIDE, InceptionV3, InceptionV3Config, MobileNetV2,
    MobileNetV2Config, ResNet, ResNetConfig, ResNetDepth, SmallCnn, SmallCnnConfig,
};

/// Which backbone, with its size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackboneKind {
    /// [`SmallCnn`] with the channels of its first stage.
    SmallCnn(usize),
    /// [`MobileNetV2`] with its width multiplier.
    #[serde(rename = "mobilenet-v2")]
    MobileNetV2(f64),
    /// [`ResNet`] of 18 layers.
    #[serde(rename = "resnet-18")]
    ResNet18,
    /// [`ResNet`] of 50 layers.
    #[serde(rename = "resnet-50")]
    ResNet50,
    /// [`InceptionV3`] on input normalised by 0.5 and 0.5.
    #[serde(rename = "inception-v3")]
    InceptionV3,
}

impl BackboneKind {
    /// Length of the pooled feature.
    pub fn features(&self) -> usize {
        match *self {
            Self::SmallCnn(width) => SmallCnnConfig::new().with_width(width).features(),
            Self::MobileNetV2(width) => MobileNetV2Config::new().with_width(width).features(),
            Self::ResNet18 => ResNetConfig::new(ResNetDepth::D18).features(),
            Self::ResNet50 => ResNetConfig::new(ResNetDepth::D50).features(),
            Self::InceptionV3 => InceptionV3Config::new().features(),
        }
    }

    /// Pixels a side that it was designed for.
    pub fn side(&self) -> u32 {
        match self {
            Self::SmallCnn(_) => 128,
            Self::MobileNetV2(_) | Self::ResNet18 | Self::ResNet50 => 224,
            Self::InceptionV3 => 299,
        }
    }

    /// Least side of an input that gives a feature, pixels.
    pub fn min_side(&self) -> u32 {
        if matches!(self, Self::InceptionV3) { INCEPTION_V3_MIN_SIDE } else { 16 }
    }

    /// Mean and deviation of the levels 0 to 1 that published weights are normalised by: ImageNet's,
    /// 0.5 and 0.5 for Inception v3 (what torchvision's `transform_input` turns ImageNet's into).
    pub fn published_normalisation(&self) -> ([f32; 3], [f32; 3]) {
        match self {
            Self::InceptionV3 => ([0.5; 3], [0.5; 3]),
            _ => (IMAGENET_MEAN, IMAGENET_STD),
        }
    }

    /// A network with random weights.
    fn init(&self, device: &Device) -> Backbone {
        match *self {
            Self::SmallCnn(width) => Backbone::SmallCnn(SmallCnnConfig::new().with_width(width).init(device)),
            Self::MobileNetV2(width) => {
                Backbone::MobileNetV2(MobileNetV2Config::new().with_width(width).init(device))
            }
            Self::ResNet18 => Backbone::ResNet(ResNetConfig::new(ResNetDepth::D18).init(device)),
            Self::ResNet50 => Backbone::ResNet(ResNetConfig::new(ResNetDepth::D50).init(device)),
            Self::InceptionV3 => Backbone::InceptionV3(InceptionV3Config::new().init(device)),
        }
    }
}

impl core::fmt::Display for BackboneKind {
    /// `small-cnn-24`, `mobilenet-v2-1`, `resnet-50`.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::SmallCnn(width) => write!(f, "small-cnn-{width}"),
            Self::MobileNetV2(width) => write!(f, "mobilenet-v2-{width}"),
            Self::ResNet18 => f.write_str("resnet-18"),
            Self::ResNet50 => f.write_str("resnet-50"),
            Self::InceptionV3 => f.write_str("inception-v3"),
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
    /// See [`ResNet`].
    ResNet(ResNet),
    /// See [`InceptionV3`].
    InceptionV3(InceptionV3),
}

impl Backbone {
    /// # Shapes
    /// - input: `[batch, 3, height, width]`, normalised
    /// - output: `[batch, features]`
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        match self {
            Self::SmallCnn(network) => network.forward(images),
            Self::MobileNetV2(network) => network.forward(images),
            Self::ResNet(network) => network.forward(images),
            Self::InceptionV3(network) => network.forward(images),
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
        let backbone = self.backbone.init(device);
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

//! The location side: a head on the position features, and a class matrix on it.

use burn::{
    module::Module,
    nn::{Initializer, Linear, LinearConfig},
    tensor::{Device, Tensor},
};

use super::{HeadConfig, LocationHead};

/// Configuration of a [`LocationClassifier`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LocationClassifierConfig {
    /// The encoder.
    pub encoder: HeadConfig,
    /// Number of classes.
    pub classes: usize,
}

/// `e(x)·T`: presence logits of every class at a place; σ of them are the presence scores.
#[derive(Module, Debug)]
pub struct LocationClassifier {
    /// Position features → embedding.
    pub encoder: LocationHead,
    /// The class matrix T, without bias.
    pub classes: Linear,
}

impl LocationClassifierConfig {
    /// A head and as many classes.
    pub fn new(encoder: HeadConfig, classes: usize) -> Self {
        Self { encoder, classes }
    }

    /// Random weights.
    pub fn init(&self, device: &Device) -> LocationClassifier {
        let xavier = Initializer::XavierUniform { gain: 1.0 };
        LocationClassifier {
            encoder: self.encoder.init(device),
            classes: LinearConfig::new(self.encoder.output, self.classes)
                .with_bias(false)
                .with_initializer(xavier)
                .init(device),
        }
    }
}

impl LocationClassifier {
    /// # Shapes
    /// - input: `[batch, position features]`
    /// - output: `[batch, classes]` presence logits
    pub fn forward(&self, features: Tensor<2>) -> Tensor<2> {
        self.classes.forward(self.encoder.forward(features))
    }
}

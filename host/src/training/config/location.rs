//! Section `[location]`.

use csp_models::{
    encoder::{PositionEncoder, Scales},
    nn::{Activation, FeedForwardConfig},
};
use serde::{Deserialize, Serialize};

use super::{Check, share};

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
    /// Non-linearity of every layer.
    pub activation: ActivationName,
    /// Share of activations dropped in training, rounded to 1/256.
    pub dropout: f64,
}

/// [`Activation`] as it stands in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActivationName {
    /// Zero below zero.
    Relu,
    /// Slope 0.2 below zero.
    LeakyRelu,
    /// By the error function.
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

impl LocationConfig {
    pub(super) fn checks(&self) -> Vec<Check> {
        vec![
            ("location.hidden", (1..=8192).contains(&self.hidden), "1 to 8192"),
            ("location.hidden_layers", (1..=8).contains(&self.hidden_layers), "1 to 8"),
            ("location.embedding", (1..=8192).contains(&self.embedding), "1 to 8192"),
            ("location.dropout", share(self.dropout), "0 or more and below 1"),
        ]
    }
}

//! Section `[location]`.

use csp_models::{
    encoder::PositionEncoder,
    nn::{Activation, HeadConfig, HeadSettings},
};
use serde::{Deserialize, Serialize};

use super::{Check, positive, share};

/// Section `[location]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LocationConfig {
    /// Position features: `kind` and the settings of its own that differ from its defaults, see
    /// `csp-host location encoders`. The default's 16 scales from 1° reach places between the
    /// labelled ones; the released models use 32 from 0.1°, for data that is dense at that scale.
    pub encoder: PositionEncoder,
    /// Width of each hidden layer.
    pub hidden: usize,
    /// Number of hidden layers.
    pub hidden_layers: usize,
    /// Width of the embedding.
    pub embedding: usize,
    /// `relu`, `leaky-relu` (0.2), `gelu`, `sigmoid` or `tanh`.
    pub activation: Activation,
    /// Share of activations dropped in training, rounded to 1/256.
    pub dropout: f64,
    /// Which network stands on the features, with its switches.
    pub head: HeadSettings,
}

impl Default for LocationConfig {
    fn default() -> Self {
        Self {
            encoder: PositionEncoder::default(),
            hidden: 512,
            hidden_layers: 1,
            embedding: 256,
            activation: Activation::LeakyRelu,
            dropout: 0.5,
            head: HeadSettings::default(),
        }
    }
}

impl LocationConfig {
    /// The network behind the position features.
    pub fn network(&self) -> HeadConfig {
        HeadConfig {
            input: self.encoder.dim(),
            hidden: self.hidden,
            hidden_layers: self.hidden_layers,
            output: self.embedding,
            activation: self.activation,
            settings: self.head,
        }
    }
}

impl LocationConfig {
    pub(super) fn checks(&self) -> Vec<Check> {
        vec![
            ("location.hidden", (1..=8192).contains(&self.hidden), "1 to 8192"),
            ("location.hidden_layers", (1..=8).contains(&self.hidden_layers), "1 to 8"),
            ("location.embedding", (1..=8192).contains(&self.embedding), "1 to 8192"),
            ("location.dropout", share(self.dropout), "0 or more and below 1"),
            ("location.head.blocks", self.head.blocks <= 16, "0 to 16"),
            ("location.head.w0_first", positive(self.head.w0_first), "above 0"),
            ("location.head.w0", positive(self.head.w0), "above 0"),
        ]
    }
}

//! The networks that stand on the position features: position features → embedding. Any of them goes
//! with any encoder.
//!
//! | file | network |
//! |---|---|
//! | `ffn` | the feed-forward network of the released CSP and TorchSpatial models, each of its habits a switch |
//! | `fcnet` | the residual network of the geographical prior (Mac Aodha et al., ICCV 2019) |
//! | `siren` | sine activations (Rußwurm et al., ICLR 2024) |
//! | `capsules` | a stack for each spread of random features, summed (GeoCLIP, NeurIPS 2023) |
//!
//! A head is a stack of linear layers and norms, and a rule how to walk through them.

mod capsules;
mod fcnet;
mod ffn;
mod siren;

use std::vec::Vec;

use burn::{
    module::{Module, Param},
    nn::{Initializer, LayerNorm, LayerNormConfig, Linear, LinearConfig},
    tensor::{Device, Tensor, activation},
};
use serde::{Deserialize, Serialize};

/// The non-linearity of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// max(0, x)
    #[serde(alias = "Relu")]
    Relu,
    /// Slope 0.2 below zero.
    #[serde(alias = "LeakyRelu")]
    LeakyRelu,
    /// Exact, by the error function.
    #[serde(alias = "Gelu")]
    Gelu,
    /// 1 / (1 + e^-x)
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
}

impl Activation {
    fn apply(self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Relu => activation::relu(x),
            Self::LeakyRelu => activation::leaky_relu(x, 0.2),
            Self::Gelu => activation::gelu(x),
            Self::Sigmoid => activation::sigmoid(x),
            Self::Tanh => activation::tanh(x),
        }
    }
}

/// Which rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadKind {
    /// Linear → activation → dropout → (+ input) → LayerNorm.
    #[default]
    Ffn,
    /// A linear layer, then residual blocks as wide as the embedding.
    Fcnet,
    /// sin(w₀ (W x + b)), the last layer linear.
    Siren,
    /// For `rff-equal-earth`: linear layers with ReLU on the features of each spread, summed.
    Capsules,
}

/// Where the layer norm of a hidden layer stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NormPlace {
    /// There is none.
    None,
    /// Between the linear layer and the activation.
    BeforeActivation,
    /// After activation, dropout and skip, as the original has it.
    #[default]
    Last,
}

/// What sets heads apart, widths and activation aside: section `[location.head]`. Each kind reads its
/// own; the defaults are those of the original of each.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeadSettings {
    /// `ffn`, `fcnet`, `siren` or `capsules`.
    pub kind: HeadKind,
    /// ffn: the last layer has activation and dropout too.
    pub output_activation: bool,
    /// ffn: `none`, `before-activation` or `last`.
    pub norm: NormPlace,
    /// ffn: the input of a hidden layer is added to its output where both are equally wide.
    pub skip: bool,
    /// fcnet: number of residual blocks.
    pub blocks: usize,
    /// siren: w₀ of the first layer.
    pub w0_first: f64,
    /// siren: w₀ of the hidden layers after it.
    pub w0: f64,
    /// capsules: how many, one for each of the encoder's `sigmas`.
    pub capsules: usize,
}

impl Default for HeadSettings {
    fn default() -> Self {
        Self {
            kind: HeadKind::Ffn,
            output_activation: true,
            norm: NormPlace::Last,
            skip: true,
            blocks: 4,
            w0_first: 30.0,
            w0: 1.0,
            capsules: 3,
        }
    }
}

/// Configuration of a [`LocationHead`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeadConfig {
    /// Number of position features.
    pub input: usize,
    /// Width of each hidden layer; fcnet's are as wide as its output.
    pub hidden: usize,
    /// Number of hidden layers; fcnet has [`HeadSettings::blocks`] instead.
    pub hidden_layers: usize,
    /// Width of the embedding.
    pub output: usize,
    /// Non-linearity of ffn; the others have their own.
    pub activation: Activation,
    /// Everything else.
    pub settings: HeadSettings,
}

/// The location encoder `e(x)` after its position features. Created by [`HeadConfig::init`].
#[derive(Module, Debug)]
pub struct LocationHead {
    layers: Vec<Linear>,
    norms: Vec<LayerNorm>,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    settings: HeadSettings,
}

/// Dropout on activations `[batch, width]`.
type Drop<'a> = &'a mut dyn FnMut(Tensor<2>) -> Tensor<2>;

impl HeadConfig {
    /// The released CSP models: one hidden layer of 512, an embedding of 256, leaky ReLU.
    pub fn new(input: usize) -> Self {
        Self {
            input,
            hidden: 512,
            hidden_layers: 1,
            output: 256,
            activation: Activation::LeakyRelu,
            settings: HeadSettings::default(),
        }
    }

    /// With another embedding.
    pub fn with_output(self, output: usize) -> Self {
        Self { output, ..self }
    }

    /// With other hidden layers.
    pub fn with_hidden(self, hidden: usize, hidden_layers: usize) -> Self {
        Self { hidden, hidden_layers, ..self }
    }

    /// Inputs and outputs of each linear layer.
    fn widths(&self) -> Vec<[usize; 2]> {
        match self.settings.kind {
            HeadKind::Fcnet => fcnet::widths(self),
            HeadKind::Capsules => capsules::widths(self),
            HeadKind::Ffn | HeadKind::Siren => stack(self.input, self),
        }
    }

    /// Random weights: Xavier-uniform, biases uniform in ±1/√inputs; siren's own spread.
    pub fn init(&self, device: &Device) -> LocationHead {
        let linear = |[inputs, outputs]: [usize; 2]| {
            let xavier = Initializer::XavierUniform { gain: 1.0 };
            let mut layer = LinearConfig::new(inputs, outputs).with_initializer(xavier).init(device);
            let bias = Initializer::KaimingUniform { gain: 1.0 / 3f64.sqrt(), fan_out_only: false };
            layer.bias = Some(bias.init_with([outputs], Some(inputs), Some(outputs), device));
            layer
        };
        let normed = self.settings.kind == HeadKind::Ffn && self.settings.norm != NormPlace::None;
        let norms = if normed { self.hidden_layers } else { 0 };
        LocationHead {
            layers: self.widths().into_iter().map(linear).collect(),
            norms: (0..norms).map(|_| LayerNormConfig::new(self.hidden).init(device)).collect(),
            activation: self.activation,
            settings: self.settings,
        }
        .respread()
    }
}

/// From `input` features through the hidden layers to the embedding.
fn stack(input: usize, config: &HeadConfig) -> Vec<[usize; 2]> {
    let mut widths = std::vec![input];
    widths.extend(std::iter::repeat_n(config.hidden, config.hidden_layers));
    widths.push(config.output);
    widths.windows(2).map(|pair| [pair[0], pair[1]]).collect()
}

impl LocationHead {
    /// Brings matrices drawn Xavier-uniform, and biases uniform in ±1/√inputs, to the spread this
    /// head begins with. Whoever draws the weights elsewhere calls it once after.
    pub fn respread(mut self) -> Self {
        if self.settings.kind == HeadKind::Siren {
            siren::respread(&mut self.layers, self.settings.w0);
        }
        self
    }

    /// The embedding `e(x)`, not normalised.
    ///
    /// # Shapes
    /// - input: `[batch, position features]`
    /// - output: `[batch, output]`
    pub fn forward(&self, features: Tensor<2>) -> Tensor<2> {
        self.forward_dropping(features, &mut |activations| activations)
    }

    /// [`forward`](Self::forward) as in training: `drop` is dropout, applied to activations
    /// `[batch, width]` where the head has it. The caller owns its randomness, so that a resumed run
    /// and another device draw the same masks.
    ///
    /// # Shapes
    /// - input: `[batch, position features]`
    /// - output: `[batch, output]`
    pub fn forward_dropping(&self, features: Tensor<2>, drop: Drop<'_>) -> Tensor<2> {
        match self.settings.kind {
            HeadKind::Ffn => self.ffn(features, drop),
            HeadKind::Fcnet => fcnet::forward(&self.layers, features, drop),
            HeadKind::Siren => siren::forward(&self.layers, &self.settings, features, drop),
            HeadKind::Capsules => capsules::forward(&self.layers, self.settings.capsules, features, drop),
        }
    }
}

/// A leaf again: what is trained must not remember how it was drawn.
fn scaled<const D: usize>(param: &Param<Tensor<D>>, factor: f64) -> Param<Tensor<D>> {
    param.clone().map(|tensor| {
        let trained = tensor.is_require_grad();
        (tensor * factor).detach().set_require_grad(trained)
    })
}

#[cfg(test)]
mod tests;

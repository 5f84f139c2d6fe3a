//! The location side: a feed-forward network on position features, and a class matrix on it.
//!
//! Layer order follows the released CSP models (csp `module.py`): Linear → activation → dropout →
//! (+ input where the widths agree) → LayerNorm, the output layer with activation and dropout and
//! without normalisation.

use std::{vec, vec::Vec};

use burn::{
    config::Config,
    module::Module,
    nn::{Initializer, LayerNorm, LayerNormConfig, Linear, LinearConfig},
    tensor::{Device, Tensor, activation},
};

/// The non-linearity of a [`FeedForward`].
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum Activation {
    /// max(0, x)
    Relu,
    /// Slope 0.2 below zero.
    LeakyRelu,
    /// Exact, by the error function.
    Gelu,
}

/// Configuration of a [`FeedForward`].
#[derive(Config, Debug)]
pub struct FeedForwardConfig {
    /// Number of position features.
    pub input: usize,
    /// Width of each hidden layer.
    #[config(default = 512)]
    pub hidden: usize,
    /// Number of hidden layers.
    #[config(default = 1)]
    pub hidden_layers: usize,
    /// Width of the embedding.
    #[config(default = 256)]
    pub output: usize,
    /// Non-linearity of every layer, the last included.
    #[config(default = "Activation::LeakyRelu")]
    pub activation: Activation,
}

/// The location encoder `e(x)` after its position features. Created by [`FeedForwardConfig::init`].
#[derive(Module, Debug)]
pub struct FeedForward {
    layers: Vec<Linear>,
    norms: Vec<LayerNorm>,
    #[module(skip)]
    activation: Activation,
}

impl FeedForwardConfig {
    /// Random weights: Xavier-uniform, biases uniform in ±1/√inputs.
    pub fn init(&self, device: &Device) -> FeedForward {
        let mut widths = vec![self.input];
        widths.extend(std::iter::repeat_n(self.hidden, self.hidden_layers));
        widths.push(self.output);
        let linear = |pair: &[usize]| {
            let xavier = Initializer::XavierUniform { gain: 1.0 };
            let mut layer = LinearConfig::new(pair[0], pair[1]).with_initializer(xavier).init(device);
            let bias = Initializer::KaimingUniform { gain: 1.0 / 3f64.sqrt(), fan_out_only: false };
            layer.bias = Some(bias.init_with([pair[1]], Some(pair[0]), Some(pair[1]), device));
            layer
        };
        FeedForward {
            layers: widths.windows(2).map(linear).collect(),
            norms: (0..self.hidden_layers).map(|_| LayerNormConfig::new(self.hidden).init(device)).collect(),
            activation: self.activation,
        }
    }
}

impl FeedForward {
    /// The embedding `e(x)`, not normalised.
    ///
    /// # Shapes
    /// - input: `[batch, position features]`
    /// - output: `[batch, output]`
    pub fn forward(&self, features: Tensor<2>) -> Tensor<2> {
        self.forward_dropping(features, &mut |activations| activations)
    }

    /// [`forward`](Self::forward) as in training: `drop` is dropout, applied to the activations
    /// `[batch, width]` of every layer, the last included. The caller owns its randomness, so that a
    /// resumed run and another device draw the same masks.
    ///
    /// # Shapes
    /// - input: `[batch, position features]`
    /// - output: `[batch, output]`
    pub fn forward_dropping(
        &self,
        features: Tensor<2>,
        drop: &mut dyn FnMut(Tensor<2>) -> Tensor<2>,
    ) -> Tensor<2> {
        let mut x = features;
        for (i, layer) in self.layers.iter().enumerate() {
            let z = layer.forward(x.clone());
            let z = match self.activation {
                Activation::Relu => activation::relu(z),
                Activation::LeakyRelu => activation::leaky_relu(z, 0.2),
                Activation::Gelu => activation::gelu(z),
            };
            let z = drop(z);
            x = match self.norms.get(i) {
                Some(norm) if z.dims() == x.dims() => norm.forward(z + x),
                Some(norm) => norm.forward(z),
                None => z,
            };
        }
        x
    }
}

/// Configuration of a [`LocationClassifier`].
#[derive(Config, Debug)]
pub struct LocationClassifierConfig {
    /// The encoder.
    pub encoder: FeedForwardConfig,
    /// Number of classes.
    pub classes: usize,
}

/// `e(x)·T`: presence logits of every class at a place; σ of them are the presence scores.
#[derive(Module, Debug)]
pub struct LocationClassifier {
    /// Position features → embedding.
    pub encoder: FeedForward,
    /// The class matrix T, without bias.
    pub classes: Linear,
}

impl LocationClassifierConfig {
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

#[cfg(test)]
mod tests {
    //! Golden forward passes: every weight tensor, in (out, in) row order, is ½ sin(n + 1) for the
    //! flat index n; one hidden layer of 6, embedding of 4, three classes, at 34.05°N 118.25°W.
    use super::*;
    use crate::{
        encoder::{PositionEncoder, Scales},
        fusion::sigmoid,
        place::LatLon,
    };
    use burn::{module::Param, tensor::TensorData};

    fn fill(layer: &mut Linear, device: &Device) {
        let [inputs, outputs] = layer.weight.dims();
        let ramp = |n: usize| (0.5 * ((n + 1) as f64).sin()) as f32;
        let weight: Vec<f32> =
            (0..inputs * outputs).map(|at| ramp(at % outputs * inputs + at / outputs)).collect();
        layer.weight = Param::from_data(TensorData::new(weight, [inputs, outputs]), device);
        if layer.bias.is_some() {
            let bias: Vec<f32> = (0..outputs).map(ramp).collect();
            layer.bias = Some(Param::from_data(TensorData::new(bias, [outputs]), device));
        }
    }

    #[test]
    fn matches_the_golden_forward_passes() {
        let device = Device::flex();
        let grid = PositionEncoder::Space2vecGrid(Scales { frequencies: 2, r_min: 0.1, r_max: 360.0 });
        let features: Vec<f32> =
            grid.encode(LatLon::new(34.05, -118.25).unwrap()).iter().map(|&f| f as f32).collect();
        let golden = [
            (
                Activation::LeakyRelu,
                [1.4402992667, 1.7562571351, 1.5505276924, 1.1620323299],
                [0.7453864351, 0.5369921321, 0.2196088437],
            ),
            (
                Activation::Gelu,
                [1.2001019770, 1.5409130308, 1.3057636858, 0.8802314607],
                [0.7240325910, 0.5184131191, 0.2571409135],
            ),
            (
                Activation::Relu,
                [1.1785121321, 1.5456704017, 1.4079165787, 1.0987571554],
                [0.7072676515, 0.5560211261, 0.2357130002],
            ),
        ];
        for (activation, embedding, presence) in golden {
            let encoder = FeedForwardConfig::new(8).with_hidden(6).with_output(4).with_activation(activation);
            let mut network = LocationClassifierConfig::new(encoder, 3).init(&device);
            network.encoder.layers.iter_mut().for_each(|layer| fill(layer, &device));
            fill(&mut network.classes, &device);
            let x = Tensor::<2>::from_data(TensorData::new(features.clone(), [1, 8]), &device);
            let got: Vec<f32> = network.encoder.forward(x.clone()).into_data().iter::<f32>().collect();
            for (got, want) in got.iter().zip(embedding) {
                assert!((f64::from(*got) - want).abs() < 1e-5, "{activation:?}: {got} is not {want}");
            }
            let logits: Vec<f32> = network.forward(x).into_data().iter::<f32>().collect();
            for (got, want) in logits.iter().zip(presence) {
                assert!((sigmoid(f64::from(*got)) - want).abs() < 1e-5, "{activation:?}: {got}");
            }
        }
    }

    #[test]
    fn the_released_size() {
        let network = FeedForwardConfig::new(4 * 32).init(&Device::flex());
        assert_eq!(network.num_params(), 198_400);
    }
}

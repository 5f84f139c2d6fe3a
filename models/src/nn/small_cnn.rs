//! A small dense CNN that two CPU cores can train from scratch: three stages of one 3×3 convolution
//! at half resolution and one residual 3×3 convolution. At width 24: 0.16 M parameters, 22 M
//! multiply-adds at 64×64.

use std::vec::Vec;

use burn::{
    config::Config,
    module::Module,
    tensor::{Device, Tensor, activation::relu},
};

use super::conv::{After, ConvNorm, ConvNormConfig, global_average};

/// Configuration of a [`SmallCnn`].
#[derive(Config, Debug)]
pub struct SmallCnnConfig {
    /// Channels of the first stage; doubled at each of the two others.
    #[config(default = 24)]
    pub width: usize,
}

/// See the [module](self). Created by [`SmallCnnConfig::init`].
#[derive(Module, Debug)]
pub struct SmallCnn {
    down: Vec<ConvNorm>,
    residual: Vec<ConvNorm>,
}

impl SmallCnnConfig {
    /// Length of the pooled feature.
    pub fn features(&self) -> usize {
        4 * self.width
    }

    /// Random weights.
    pub fn init(&self, device: &Device) -> SmallCnn {
        let widths = [3, self.width, 2 * self.width, 4 * self.width];
        let conv = |channels, stride, after| {
            ConvNormConfig { stride, after, ..ConvNormConfig::new(channels, [3; 2]) }.init(device)
        };
        SmallCnn {
            down: widths.windows(2).map(|pair| conv([pair[0], pair[1]], 2, After::Relu)).collect(),
            residual: widths[1..].iter().map(|&w| conv([w, w], 1, After::Nothing)).collect(),
        }
    }
}

impl SmallCnn {
    /// # Shapes
    /// - input: `[batch, 3, height, width]`, normalised
    /// - output: `[batch, 4 · width of the first stage]`
    pub fn forward(&self, input: Tensor<4>) -> Tensor<2> {
        let mut x = input;
        for (down, residual) in self.down.iter().zip(&self.residual) {
            x = down.forward(x);
            x = relu(residual.forward(x.clone()) + x);
        }
        global_average(x)
    }
}

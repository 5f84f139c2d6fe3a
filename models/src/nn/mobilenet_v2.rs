//! MobileNetV2 (Sandler et al., CVPR 2018), the device's default backbone: 3.5 M parameters, 300 M
//! multiply-adds at width 1.0 and 224×224.

use std::vec::Vec;

use burn::{
    config::Config,
    module::Module,
    tensor::{Device, Tensor},
};

use super::conv::{After, ConvNorm, ConvNormConfig, global_average};

/// Table 2 of the paper: expansion, channels, repeats, stride of the first.
const STAGES: [(usize, usize, usize, usize); 7] = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
];

/// Configuration of a [`MobileNetV2`].
#[derive(Config, Debug)]
pub struct MobileNetV2Config {
    /// Width multiplier: 0.35, 0.5, 0.75, 1.0, 1.4.
    #[config(default = 1.0)]
    pub width: f64,
}

/// See the [module](self). Created by [`MobileNetV2Config::init`].
#[derive(Module, Debug)]
pub struct MobileNetV2 {
    stem: ConvNorm,
    blocks: Vec<InvertedResidual>,
    last: ConvNorm,
}

/// Expand 1×1 → depthwise 3×3 → project 1×1, with a shortcut where the shapes agree.
#[derive(Module, Debug)]
pub struct InvertedResidual {
    expand: Option<ConvNorm>,
    depthwise: ConvNorm,
    project: ConvNorm,
    shortcut: bool,
}

impl MobileNetV2Config {
    /// Length of the pooled feature: 1280, more above width 1.
    pub fn features(&self) -> usize {
        multiple_of_8(1280.0 * self.width.max(1.0))
    }

    /// Random weights.
    pub fn init(&self, device: &Device) -> MobileNetV2 {
        let conv = |channels, kernel, stride, groups, after| {
            ConvNormConfig { channels, kernel, stride, groups, after }.init(device)
        };
        let mut channels = multiple_of_8(32.0 * self.width);
        let stem = conv([3, channels], 3, 2, 1, After::Relu6);
        let mut blocks = Vec::new();
        for (expansion, out, repeats, first_stride) in STAGES {
            let out = multiple_of_8(out as f64 * self.width);
            for repeat in 0..repeats {
                let stride = if repeat == 0 { first_stride } else { 1 };
                let hidden = channels * expansion;
                blocks.push(InvertedResidual {
                    expand: (expansion != 1).then(|| conv([channels, hidden], 1, 1, 1, After::Relu6)),
                    depthwise: conv([hidden, hidden], 3, stride, hidden, After::Relu6),
                    project: conv([hidden, out], 1, 1, 1, After::Nothing),
                    shortcut: stride == 1 && channels == out,
                });
                channels = out;
            }
        }
        MobileNetV2 { stem, blocks, last: conv([channels, self.features()], 1, 1, 1, After::Relu6) }
    }
}

impl MobileNetV2 {
    /// # Shapes
    /// - input: `[batch, 3, height, width]`, normalised
    /// - output: `[batch, 1280]`, more above width 1
    pub fn forward(&self, input: Tensor<4>) -> Tensor<2> {
        let x = self.blocks.iter().fold(self.stem.forward(input), |x, block| block.forward(x));
        global_average(self.last.forward(x))
    }
}

impl InvertedResidual {
    /// # Shapes
    /// - input: `[batch, channels_in, height, width]`
    /// - output: `[batch, channels_out, height / stride, width / stride]`
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let expanded = match &self.expand {
            Some(expand) => expand.forward(input.clone()),
            None => input.clone(),
        };
        let output = self.project.forward(self.depthwise.forward(expanded));
        if self.shortcut { output + input } else { output }
    }
}

/// Channel counts are rounded to multiples of 8, never down by more than 10 %.
fn multiple_of_8(channels: f64) -> usize {
    let rounded = (((channels + 4.0) / 8.0).floor() * 8.0).max(8.0);
    (if rounded < 0.9 * channels { rounded + 8.0 } else { rounded }) as usize
}

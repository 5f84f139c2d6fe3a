//! ResNet (He et al., CVPR 2016) with the stride on the 3×3 convolution of a bottleneck, as
//! torchvision and timm have it: 25.6 M parameters and 4.1 G multiply-adds for 50 layers at 224×224.

use std::{string::String, vec::Vec};

use burn::{
    config::Config,
    module::Module,
    tensor::{Device, Tensor, activation::relu, module::max_pool2d, ops::MaxPoolOptions},
};

use super::conv::{After, ConvNorm, ConvNormConfig, global_average};

/// Channels of the four stages, before a bottleneck's fourfold expansion.
const WIDTHS: [usize; 4] = [64, 128, 256, 512];

/// How many layers with weights.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum ResNetDepth {
    /// Two 3×3 convolutions a block; features of length 512.
    D18,
    /// Bottlenecks; features of length 2048.
    D50,
}

impl ResNetDepth {
    /// Blocks of each stage.
    fn blocks(self) -> [usize; 4] {
        match self {
            Self::D18 => [2, 2, 2, 2],
            Self::D50 => [3, 4, 6, 3],
        }
    }

    /// Channels out of a block of that width.
    fn expanded(self, width: usize) -> usize {
        match self {
            Self::D18 => width,
            Self::D50 => 4 * width,
        }
    }
}

/// Configuration of a [`ResNet`].
#[derive(Config, Debug)]
pub struct ResNetConfig {
    /// Number of layers.
    pub depth: ResNetDepth,
}

/// See the [module](self). Created by [`ResNetConfig::init`].
#[derive(Module, Debug)]
pub struct ResNet {
    stem: ConvNorm,
    stages: Vec<Vec<Residual>>,
}

/// Convolutions around which the input, projected where the shapes differ, is added.
#[derive(Module, Debug)]
pub struct Residual {
    convs: Vec<ConvNorm>,
    shortcut: Option<ConvNorm>,
}

impl ResNetConfig {
    /// Length of the pooled feature.
    pub fn features(&self) -> usize {
        self.depth.expanded(WIDTHS[3])
    }

    /// Random weights.
    pub fn init(&self, device: &Device) -> ResNet {
        let conv = |channels, kernel: usize, stride, after| {
            ConvNormConfig { stride, after, ..ConvNormConfig::new(channels, [kernel; 2]) }.init(device)
        };
        let stem = conv([3, 64], 7, 2, After::Relu);
        let mut channels = 64;
        let mut stages = Vec::new();
        for (stage, (&width, blocks)) in WIDTHS.iter().zip(self.depth.blocks()).enumerate() {
            let mut stack = Vec::new();
            for block in 0..blocks {
                let stride = if block == 0 && stage > 0 { 2 } else { 1 };
                let out = self.depth.expanded(width);
                let convs = match self.depth {
                    ResNetDepth::D18 => [
                        conv([channels, width], 3, stride, After::Relu),
                        conv([width, out], 3, 1, After::Nothing),
                    ]
                    .into(),
                    ResNetDepth::D50 => [
                        conv([channels, width], 1, 1, After::Relu),
                        conv([width, width], 3, stride, After::Relu),
                        conv([width, out], 1, 1, After::Nothing),
                    ]
                    .into(),
                };
                let differs = stride != 1 || channels != out;
                let shortcut = differs.then(|| conv([channels, out], 1, stride, After::Nothing));
                stack.push(Residual { convs, shortcut });
                channels = out;
            }
            stages.push(stack);
        }
        ResNet { stem, stages }
    }

    /// Our path, the convolution's and the normalisation's name in torchvision and timm, which agree.
    pub(super) fn names(&self) -> Vec<[String; 3]> {
        let mut names = vec![["stem", "conv1", "bn1"].map(String::from)];
        let mut channels = 64;
        for (stage, (&width, blocks)) in WIDTHS.iter().zip(self.depth.blocks()).enumerate() {
            for block in 0..blocks {
                let (ours, theirs) =
                    (format!("stages.{stage}.{block}"), format!("layer{}.{block}", stage + 1));
                let convs = match self.depth {
                    ResNetDepth::D18 => 2,
                    ResNetDepth::D50 => 3,
                };
                for conv in 0..convs {
                    let (path, n) = (format!("{ours}.convs.{conv}"), conv + 1);
                    names.push([path, format!("{theirs}.conv{n}"), format!("{theirs}.bn{n}")]);
                }
                let out = self.depth.expanded(width);
                if block == 0 && (stage > 0 || channels != out) {
                    let down = |part: usize| format!("{theirs}.downsample.{part}");
                    names.push([format!("{ours}.shortcut"), down(0), down(1)]);
                }
                channels = out;
            }
        }
        names
    }
}

impl ResNet {
    /// # Shapes
    /// - input: `[batch, 3, height, width]`, normalised
    /// - output: `[batch, 2048]`; 512 for 18 layers
    pub fn forward(&self, input: Tensor<4>) -> Tensor<2> {
        let pool = MaxPoolOptions::new([3, 3]).with_stride([2, 2]).with_padding([1, 1]);
        let x = max_pool2d(self.stem.forward(input), pool);
        global_average(self.stages.iter().flatten().fold(x, |x, block| block.forward(x)))
    }
}

impl Residual {
    /// # Shapes
    /// - input: `[batch, channels_in, height, width]`
    /// - output: `[batch, channels_out, height / stride, width / stride]`
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let around = match &self.shortcut {
            Some(projection) => projection.forward(input.clone()),
            None => input.clone(),
        };
        relu(self.convs.iter().fold(input, |x, conv| conv.forward(x)) + around)
    }
}

//! MobileNetV2 (Sandler et al., CVPR 2018), the device's default backbone: 3.5 M parameters, 300 M
//! multiply-adds at width 1.0 and 224×224.

use std::{string::String, vec::Vec};

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
            let config = ConvNormConfig::new(channels, [kernel; 2]);
            ConvNormConfig { stride, groups, after, ..config }.init(device)
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

    /// Our path, the convolution's and the normalisation's name in torchvision and in timm.
    pub(super) fn names(&self) -> Vec<([String; 3], [String; 3])> {
        let named = |ours: &str, torchvision: [String; 2], timm: [String; 2]| {
            let full = |[conv, norm]: [String; 2]| [ours.into(), conv, norm];
            (full(torchvision), full(timm))
        };
        let pair = |conv: &str, norm: &str| [conv.into(), norm.into()];
        let mut names = vec![named("stem", pair("features.0.0", "features.0.1"), pair("conv_stem", "bn1"))];
        let mut at = 0;
        for (stage, (expansion, _, repeats, _)) in STAGES.into_iter().enumerate() {
            for repeat in 0..repeats {
                let (theirs, timm) =
                    (format!("features.{}.conv", at + 1), format!("blocks.{stage}.{repeat}"));
                let parts: &[(&str, &str)] = match expansion {
                    1 => &[("depthwise", "conv_dw"), ("project", "conv_pw")],
                    _ => &[("expand", "conv_pw"), ("depthwise", "conv_dw"), ("project", "conv_pwl")],
                };
                for (i, (ours, conv)) in parts.iter().enumerate() {
                    // all but the projection are convolution, norm and activation in a group of their own
                    let torchvision = match *ours {
                        "project" => [format!("{theirs}.{i}"), format!("{theirs}.{}", i + 1)],
                        _ => [format!("{theirs}.{i}.0"), format!("{theirs}.{i}.1")],
                    };
                    let timm = [format!("{timm}.{conv}"), format!("{timm}.bn{}", i + 1)];
                    names.push(named(&format!("blocks.{at}.{ours}"), torchvision, timm));
                }
                at += 1;
            }
        }
        let last = [format!("features.{}.0", at + 1), format!("features.{}.1", at + 1)];
        names.push(named("last", last, pair("conv_head", "bn2")));
        names
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

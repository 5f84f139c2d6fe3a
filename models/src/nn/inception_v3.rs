//! Inception v3 (Szegedy et al., CVPR 2016) in torchvision's layout, without the auxiliary head: 21.8 M
//! parameters, 5.7 G multiply-adds at 299×299. Convolutions are not padded unless their block says so,
//! so the input must be at least 75 pixels a side.

use std::{string::String, vec::Vec};

use burn::{
    config::Config,
    module::Module,
    tensor::{
        Device, Tensor,
        module::{avg_pool2d, max_pool2d},
        ops::{AvgPoolOptions, MaxPoolOptions},
    },
};

use super::conv::{ConvNorm, ConvNormConfig, global_average};

/// Length of the pooled feature.
const FEATURES: usize = 2048;
/// Least side of the input, pixels.
pub const INCEPTION_V3_MIN_SIDE: u32 = 75;

/// Configuration of an [`InceptionV3`].
#[derive(Config, Debug)]
pub struct InceptionV3Config {
    /// The input is normalised by ImageNet's mean and deviation and is brought to the 0.5 / 0.5 that
    /// the published weights were trained with (torchvision's `transform_input`). Off, the input has to
    /// be normalised so already.
    #[config(default = false)]
    pub transform_input: bool,
}

/// See the [module](self). Created by [`InceptionV3Config::init`].
#[derive(Module, Debug)]
pub struct InceptionV3 {
    stem: Vec<ConvNorm>,
    blocks: Vec<Mixed>,
    transform_input: bool,
}

/// Branches side by side, their channels one after the other.
#[derive(Module, Debug)]
pub struct Mixed {
    branches: Vec<Branch>,
}

/// A pool or nothing, a chain of convolutions, and at the end one or several that read the same.
#[derive(Module, Debug)]
pub struct Branch {
    #[module(skip)]
    pool: Pool,
    chain: Vec<ConvNorm>,
    fork: Vec<ConvNorm>,
}

/// What a branch begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pool {
    Nothing,
    /// 3×3, stride 1, padded; the padding counts.
    Average,
    /// 3×3, stride 2.
    Max,
}

/// A convolution of a block: channels out, kernel (down, across); a reducing one has stride 2 and no padding.
#[derive(Clone, Copy, Debug)]
struct Layer {
    out: usize,
    kernel: [usize; 2],
    reduces: bool,
}

const fn layer(out: usize, down: usize, across: usize) -> Layer {
    Layer { out, kernel: [down, across], reduces: false }
}

const fn reducing(out: usize) -> Layer {
    Layer { out, kernel: [3, 3], reduces: true }
}

/// A branch by its name.
struct BranchPlan {
    name: &'static str,
    pool: Pool,
    chain: Vec<Layer>,
    fork: Vec<Layer>,
}

fn plain(name: &'static str, chain: &[Layer]) -> BranchPlan {
    BranchPlan { name, pool: Pool::Nothing, chain: chain.into(), fork: Vec::new() }
}

fn pooled(pool: Pool, out: Option<usize>) -> BranchPlan {
    let chain = out.map(|out| layer(out, 1, 1)).into_iter().collect();
    BranchPlan { name: "branch_pool", pool, chain, fork: Vec::new() }
}

/// Figure 5 of the paper, with the channels of the pool's branch.
fn block_a(pool: usize) -> Vec<BranchPlan> {
    vec![
        plain("branch1x1", &[layer(64, 1, 1)]),
        plain("branch5x5", &[layer(48, 1, 1), layer(64, 5, 5)]),
        plain("branch3x3dbl", &[layer(64, 1, 1), layer(96, 3, 3), layer(96, 3, 3)]),
        pooled(Pool::Average, Some(pool)),
    ]
}

/// 35 → 17 pixels.
fn block_b() -> Vec<BranchPlan> {
    vec![
        plain("branch3x3", &[reducing(384)]),
        plain("branch3x3dbl", &[layer(64, 1, 1), layer(96, 3, 3), reducing(96)]),
        pooled(Pool::Max, None),
    ]
}

/// Figure 6, with the channels between the factors of its 7×7 convolutions.
fn block_c(width: usize) -> Vec<BranchPlan> {
    let (first, across, down) = (layer(width, 1, 1), layer(width, 1, 7), layer(width, 7, 1));
    vec![
        plain("branch1x1", &[layer(192, 1, 1)]),
        plain("branch7x7", &[first, across, layer(192, 7, 1)]),
        plain("branch7x7dbl", &[first, down, across, down, layer(192, 1, 7)]),
        pooled(Pool::Average, Some(192)),
    ]
}

/// 17 → 8 pixels.
fn block_d() -> Vec<BranchPlan> {
    let first = layer(192, 1, 1);
    vec![
        plain("branch3x3", &[first, reducing(320)]),
        plain("branch7x7x3", &[first, layer(192, 1, 7), layer(192, 7, 1), reducing(192)]),
        pooled(Pool::Max, None),
    ]
}

/// Figure 7.
fn block_e() -> Vec<BranchPlan> {
    let forked = |name, chain: &[Layer]| BranchPlan {
        fork: vec![layer(384, 1, 3), layer(384, 3, 1)],
        ..plain(name, chain)
    };
    vec![
        plain("branch1x1", &[layer(320, 1, 1)]),
        forked("branch3x3", &[layer(384, 1, 1)]),
        forked("branch3x3dbl", &[layer(448, 1, 1), layer(384, 3, 3)]),
        pooled(Pool::Average, Some(192)),
    ]
}

/// The first convolutions: name, channels out, side of the kernel, stride, padding.
const STEM: [(&str, usize, usize, usize, usize); 5] = [
    ("Conv2d_1a_3x3", 32, 3, 2, 0),
    ("Conv2d_2a_3x3", 32, 3, 1, 0),
    ("Conv2d_2b_3x3", 64, 3, 1, 1),
    ("Conv2d_3b_1x1", 80, 1, 1, 0),
    ("Conv2d_4a_3x3", 192, 3, 1, 0),
];
/// Convolutions of the stem that a max pool follows.
const POOLED: [usize; 2] = [2, 4];

fn blocks() -> [(&'static str, Vec<BranchPlan>); 11] {
    [
        ("Mixed_5b", block_a(32)),
        ("Mixed_5c", block_a(64)),
        ("Mixed_5d", block_a(64)),
        ("Mixed_6a", block_b()),
        ("Mixed_6b", block_c(128)),
        ("Mixed_6c", block_c(160)),
        ("Mixed_6d", block_c(160)),
        ("Mixed_6e", block_c(192)),
        ("Mixed_7a", block_d()),
        ("Mixed_7b", block_e()),
        ("Mixed_7c", block_e()),
    ]
}

impl BranchPlan {
    fn init(&self, input: usize, device: &Device) -> (Branch, usize) {
        let conv = |channels: usize, layer: Layer| {
            let config = ConvNormConfig::new([channels, layer.out], layer.kernel);
            let (stride, padding) = if layer.reduces { (2, [0, 0]) } else { (1, config.padding) };
            ConvNormConfig { stride, padding, epsilon: 1e-3, ..config }.init(device)
        };
        let mut channels = input;
        let mut chain = Vec::new();
        for &layer in &self.chain {
            chain.push(conv(channels, layer));
            channels = layer.out;
        }
        let fork: Vec<ConvNorm> = self.fork.iter().map(|&layer| conv(channels, layer)).collect();
        let out = if fork.is_empty() { channels } else { self.fork.iter().map(|layer| layer.out).sum() };
        (Branch { pool: self.pool, chain, fork }, out)
    }

    /// Our path below the branch and the published name of each convolution.
    fn names(&self) -> Vec<(String, String)> {
        let alone = self.chain.len() + self.fork.len() == 1;
        let chain = (0..self.chain.len()).map(|i| {
            let number = if alone { String::new() } else { format!("_{}", i + 1) };
            (format!("chain.{i}"), format!("{}{number}", self.name))
        });
        let fork = ["a", "b"].iter().enumerate().take(self.fork.len()).map(|(i, letter)| {
            (format!("fork.{i}"), format!("{}_{}{letter}", self.name, self.chain.len() + 1))
        });
        chain.chain(fork).collect()
    }
}

impl InceptionV3Config {
    /// Length of the pooled feature.
    pub fn features(&self) -> usize {
        FEATURES
    }

    /// Random weights.
    pub fn init(&self, device: &Device) -> InceptionV3 {
        let mut channels = 3;
        let mut stem = Vec::new();
        for (_, out, kernel, stride, padding) in STEM {
            let config = ConvNormConfig::new([channels, out], [kernel; 2]);
            let config = ConvNormConfig { stride, padding: [padding; 2], epsilon: 1e-3, ..config };
            stem.push(config.init(device));
            channels = out;
        }
        let block = |(_, plans): (&str, Vec<BranchPlan>)| {
            let input = channels;
            let (branches, outs): (Vec<Branch>, Vec<usize>) =
                plans.iter().map(|plan| plan.init(input, device)).unzip();
            channels = outs.iter().sum();
            Mixed { branches }
        };
        let blocks = blocks().into_iter().map(block).collect();
        InceptionV3 { stem, blocks, transform_input: self.transform_input }
    }

    /// Our path, the convolution's and the normalisation's name in torchvision and timm, which agree.
    pub(super) fn names(&self) -> Vec<[String; 3]> {
        let pair = |ours: String, theirs: String| [ours, format!("{theirs}.conv"), format!("{theirs}.bn")];
        let mut names: Vec<[String; 3]> =
            (0..STEM.len()).map(|i| pair(format!("stem.{i}"), STEM[i].0.into())).collect();
        for (at, (block, plans)) in blocks().iter().enumerate() {
            for (branch, plan) in plans.iter().enumerate() {
                names.extend(plan.names().into_iter().map(|(ours, theirs)| {
                    pair(format!("blocks.{at}.branches.{branch}.{ours}"), format!("{block}.{theirs}"))
                }));
            }
        }
        names
    }
}

impl InceptionV3 {
    /// # Shapes
    /// - input: `[batch, 3, height, width]`, normalised, 75 pixels a side or more
    /// - output: `[batch, 2048]`
    pub fn forward(&self, input: Tensor<4>) -> Tensor<2> {
        let mut x = if self.transform_input { renormalise(input) } else { input };
        for (i, conv) in self.stem.iter().enumerate() {
            x = conv.forward(x);
            if POOLED.contains(&i) {
                x = halve(x);
            }
        }
        global_average(self.blocks.iter().fold(x, |x, block| block.forward(x)))
    }
}

impl Mixed {
    /// # Shapes
    /// - input: `[batch, channels_in, height, width]`
    /// - output: `[batch, sum of the branches, height', width']`
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        Tensor::cat(self.branches.iter().flat_map(|branch| branch.forward(input.clone())).collect(), 1)
    }
}

impl Branch {
    fn forward(&self, input: Tensor<4>) -> Vec<Tensor<4>> {
        let average = AvgPoolOptions::new([3, 3]).with_stride([1, 1]).with_padding([1, 1]);
        let input = match self.pool {
            Pool::Nothing => input,
            Pool::Average => avg_pool2d(input, average.with_count_include_pad(true)),
            Pool::Max => halve(input),
        };
        let x = self.chain.iter().fold(input, |x, conv| conv.forward(x));
        match &self.fork[..] {
            [] => vec![x],
            fork => fork.iter().map(|conv| conv.forward(x.clone())).collect(),
        }
    }
}

fn halve(x: Tensor<4>) -> Tensor<4> {
    max_pool2d(x, MaxPoolOptions::new([3, 3]).with_stride([2, 2]))
}

/// From ImageNet's mean and deviation to 0.5 and 0.5.
///
/// # Shapes
/// - input, output: `[batch, 3, height, width]`
fn renormalise(x: Tensor<4>) -> Tensor<4> {
    let device = x.device();
    let channel =
        |f: fn(usize) -> f32| Tensor::<1>::from_floats([f(0), f(1), f(2)], &device).reshape([1, 3, 1, 1]);
    let scale = channel(|c| super::IMAGENET_STD[c] / 0.5);
    let shift = channel(|c| (super::IMAGENET_MEAN[c] - 0.5) / 0.5);
    x * scale + shift
}

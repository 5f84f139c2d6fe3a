//! Convolution → batch normalisation → optional activation: the brick of every image backbone.

use burn::{
    module::Module,
    nn::{
        BatchNorm, BatchNormConfig, Initializer, PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
    },
    tensor::{Device, Tensor, activation::relu},
};

/// What follows the normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Nothing,
    Relu,
    Relu6,
}

/// Conv2d without bias, BatchNorm, activation.
#[derive(Module, Debug)]
pub struct ConvNorm {
    conv: Conv2d,
    norm: BatchNorm,
    #[module(skip)]
    after: After,
}

/// Geometry of a [`ConvNorm`].
#[derive(Clone, Copy, Debug)]
pub(super) struct ConvNormConfig {
    pub channels: [usize; 2],
    pub kernel: [usize; 2],
    pub stride: usize,
    pub padding: [usize; 2],
    pub groups: usize,
    pub epsilon: f64,
    pub after: After,
}

impl ConvNormConfig {
    /// Stride 1, dense, with the padding that keeps the size, and ReLU after it.
    pub fn new(channels: [usize; 2], kernel: [usize; 2]) -> Self {
        Self {
            channels,
            kernel,
            stride: 1,
            padding: kernel.map(|side| side / 2),
            groups: 1,
            epsilon: 1e-5,
            after: After::Relu,
        }
    }

    pub fn init(self, device: &Device) -> ConvNorm {
        let [y, x] = self.padding;
        let conv = Conv2dConfig::new(self.channels, self.kernel)
            .with_stride([self.stride; 2])
            .with_groups(self.groups)
            .with_padding(PaddingConfig2d::Explicit(y, x, y, x))
            .with_bias(false)
            .with_initializer(Initializer::KaimingNormal { gain: 2f64.sqrt(), fan_out_only: true });
        let norm = BatchNormConfig::new(self.channels[1]).with_epsilon(self.epsilon);
        ConvNorm { conv: conv.init(device), norm: norm.init(device), after: self.after }
    }
}

impl ConvNorm {
    /// # Shapes
    /// - input: `[batch, channels_in, height, width]`
    /// - output: `[batch, channels_out, height / stride, width / stride]`
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let output = self.norm.forward(self.conv.forward(input));
        match self.after {
            After::Nothing => output,
            After::Relu => relu(output),
            After::Relu6 => output.clamp(0.0, 6.0),
        }
    }
}

/// Mean over height and width.
///
/// # Shapes
/// - input: `[batch, channels, height, width]`
/// - output: `[batch, channels]`
pub(super) fn global_average(input: Tensor<4>) -> Tensor<2> {
    burn::tensor::module::adaptive_avg_pool2d(input, [1, 1]).flatten(1, 3)
}

//! A network of the layers that published backbones have and the small CNN has not.

use burn::{
    module::Module,
    nn::{
        BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
    },
    tensor::{
        Device, Tensor,
        activation::relu,
        module::{avg_pool2d, max_pool2d},
        ops::{AvgPoolOptions, MaxPoolOptions},
    },
};

/// Channels of the stem.
const WIDTH: usize = 8;

/// See the [module](self).
#[derive(Module, Debug)]
pub(super) struct Layers {
    /// Of all three: a stride and a border.
    stem: Conv2d,
    norm: BatchNorm,
    /// MobileNetV2's: a filter for each channel.
    depthwise: Conv2d,
    /// InceptionV3's: a square filter in two steps.
    tall: Conv2d,
    wide: Conv2d,
    head: Linear,
}

impl Layers {
    pub fn new(classes: usize, device: &Device) -> Self {
        let conv = |channels, [y, x]: [usize; 2]| {
            Conv2dConfig::new(channels, [y, x]).with_padding(PaddingConfig2d::Explicit(
                y / 2,
                x / 2,
                y / 2,
                x / 2,
            ))
        };
        Self {
            stem: conv([3, WIDTH], [3, 3]).with_stride([2, 2]).init(device),
            norm: BatchNormConfig::new(WIDTH).init(device),
            depthwise: conv([WIDTH, WIDTH], [3, 3]).with_groups(WIDTH).init(device),
            tall: conv([WIDTH, WIDTH], [7, 1]).init(device),
            wide: conv([WIDTH, WIDTH], [1, 7]).init(device),
            head: LinearConfig::new(2 * WIDTH, classes).init(device),
        }
    }

    /// # Shapes
    /// - input: `[batch, 3, height, width]`
    /// - output: `[batch, classes]`
    pub fn forward(&self, input: Tensor<4>) -> Tensor<2> {
        let x = self.norm.forward(self.stem.forward(input)).clamp(0.0, 6.0);
        // ResNet's, with a border that no maximum may come from
        let x = max_pool2d(x, MaxPoolOptions::new([3, 3]).with_stride([2, 2]).with_padding([1, 1]));
        let x = relu(self.depthwise.forward(x.clone()) + x);
        // InceptionV3's, whose border counts as zeros
        let average = AvgPoolOptions::new([3, 3]).with_stride([1, 1]).with_padding([1, 1]);
        let pooled = avg_pool2d(x.clone(), average.with_count_include_pad(true));
        let x = Tensor::cat(vec![relu(self.wide.forward(self.tall.forward(x))), pooled], 1);
        self.head.forward(x.mean_dims(&[2, 3]).flatten(1, 3))
    }
}

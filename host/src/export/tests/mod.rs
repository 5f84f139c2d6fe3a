//! Whole networks through the exporter. burn's own forward pass on the CPU is the referee of the f32
//! files, the f32 files are that of the int8 ones; `tools/onnx_referee.py` holds both against
//! onnxruntime.

mod budget;
mod bundles;
mod integer;
mod lowering;

use super::{graph::Graph, lower::lower};
use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{Device, Tensor, TensorData},
};
use csp_models::{
    manifest::ImageInput,
    nn::{BackboneKind, ImageClassifier, ImageClassifierConfig},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Normalisation as ImageNet's: the three channels differ.
pub(super) fn input(side: u32) -> ImageInput {
    ImageInput { width: side, height: side, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] }
}

/// Numbers in `low..high`, the same every time.
fn noise(seed: u64, count: usize, low: f32, high: f32) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| rng.random_range(low..high)).collect()
}

/// Pictures with structure: a gradient, a blob and some noise.
pub(super) fn pictures(count: usize, side: u32) -> Vec<Vec<u8>> {
    (0..count as u64)
        .map(|seed| {
            let k = noise(seed, 8, 0.0, 1.0);
            let grain = noise(seed + 1000, (side * side * 3) as usize, -12.0, 12.0);
            let mut pixels = Vec::with_capacity(grain.len());
            for y in 0..side {
                for x in 0..side {
                    let (fx, fy) = (x as f32 / side as f32, y as f32 / side as f32);
                    let blob = (-12.0 * ((fx - k[0]).powi(2) + (fy - k[1]).powi(2))).exp();
                    for (c, gain) in [k[2], k[3], k[4]].into_iter().enumerate() {
                        let level = 255.0 * (0.5 * gain + 0.3 * (k[5] * fx + k[6] * fy) + 0.4 * k[7] * blob);
                        pixels.push((level + grain[pixels.len()]).clamp(0.0, 255.0) as u8);
                        let _ = c;
                    }
                }
            }
            pixels
        })
        .collect()
}

/// Gives every vector of a module (norm statistics, biases) numbers that a trained one might have: a
/// fresh BatchNorm does nothing and would hide a wrong fold.
struct Aged(u64);

impl ModuleMapper for Aged {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if D != 1 {
            return param;
        }
        self.0 += 1;
        let seed = self.0;
        param.map(|tensor| {
            let numbers = noise(seed, tensor.dims()[0], 0.4, 1.6);
            Tensor::from_data(TensorData::new(numbers, tensor.shape()), &tensor.device())
        })
    }
}

fn aged<M: Module>(module: M) -> M {
    module.map(&mut Aged(0))
}

/// A lowered network of ten classes.
pub(super) fn f32_graph(backbone: BackboneKind, side: usize) -> Graph {
    lower("image", &classifier(backbone, 10), ("image", [1, 3, side, side]), "logits", |m, x| m.forward(x))
        .unwrap()
}

fn classifier(backbone: BackboneKind, classes: usize) -> ImageClassifier {
    let device = Device::flex();
    device.seed(7);
    aged(ImageClassifierConfig { backbone, classes }.init(&device))
}

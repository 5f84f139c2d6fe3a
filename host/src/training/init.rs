//! Random weights from a seed, the same on every device.
//!
//! burn draws initial weights from one generator a process; these come from a named stream. The
//! distributions are those of the networks' own configuration.

use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{Tensor, TensorData},
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::rng;

/// The module with fresh weights: kernels Kaiming-normal over their outputs, matrices
/// Xavier-uniform, biases uniform in ±1/√inputs; scales, shifts and running statistics untouched.
pub fn randomise<M: Module>(module: M, seed: u64, purpose: &str) -> M {
    module.map(&mut Randomiser { path: Vec::new(), fan_in: 1, rng: rng::stream(seed, purpose, 0) })
}

struct Randomiser {
    path: Vec<String>,
    /// Inputs of the matrix visited last: a layer's bias follows its weight.
    fan_in: usize,
    rng: ChaCha8Rng,
}

impl Randomiser {
    fn uniform(&mut self, count: usize, bound: f64) -> Vec<f32> {
        (0..count).map(|_| ((2.0 * self.rng.random::<f64>() - 1.0) * bound) as f32).collect()
    }

    /// Box-Muller.
    fn normal(&mut self, count: usize, deviation: f64) -> Vec<f32> {
        let mut draw = || {
            let (u, v) = (1.0 - self.rng.random::<f64>(), self.rng.random::<f64>());
            ((-2.0 * u.ln()).sqrt() * (2.0 * std::f64::consts::PI * v).cos() * deviation) as f32
        };
        (0..count).map(|_| draw()).collect()
    }
}

impl ModuleMapper for Randomiser {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.into());
    }
    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let shape = param.lazy_shape().to_vec();
        let count = shape.iter().product();
        let values = match (self.path.last().map(String::as_str), &shape[..]) {
            // [out, in / groups, height, width]
            (Some("weight"), &[out, _, height, width]) => {
                self.normal(count, (2.0 / (out * height * width) as f64).sqrt())
            }
            // [in, out]
            (Some("weight"), &[inputs, outputs]) => {
                self.fan_in = inputs;
                self.uniform(count, (6.0 / (inputs + outputs) as f64).sqrt())
            }
            (Some("bias"), &[_]) => self.uniform(count, 1.0 / (self.fan_in as f64).sqrt()),
            _ => return param,
        };
        let (id, device) = (param.id, param.lazy_device());
        param.transform_for_load(Tensor::from_data(TensorData::new(values, shape), &device), id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::weights::Weights;
    use burn::tensor::Device;
    use csp_models::nn::{BackboneKind, ImageClassifierConfig};

    fn weights(seed: u64) -> Weights {
        let network = ImageClassifierConfig::new(BackboneKind::SmallCnn(24), 10).init(&Device::flex());
        let mut weights = Weights::default();
        weights.collect("n", &randomise(network, seed, "test"));
        weights
    }

    #[test]
    fn depends_on_the_seed_alone_and_has_the_right_spread() {
        assert_eq!(weights(1), weights(1));
        assert_ne!(weights(1), weights(2));
        for (name, array) in &weights(1).0 {
            let mean_square =
                array.values.iter().map(|v| f64::from(v * v)).sum::<f64>() / array.values.len() as f64;
            if let [out, _, h, w] = array.shape[..] {
                let ratio = mean_square / (2.0 / (out * h * w) as f64);
                assert!((ratio - 1.0).abs() < 0.2, "{name}: {ratio}");
            } else if name.ends_with("gamma") || name.ends_with("running_var") {
                assert!(array.values.iter().all(|&v| v == 1.0), "{name}");
            }
        }
    }
}

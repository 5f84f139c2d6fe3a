//! AdamW, and SGD with momentum, with their state under the parameters' paths.
//!
//! burn's optimizer keeps its state under random parameter ids, restores it on the default device
//! (the GPU, where one is compiled in, even if the run is on the CPU) and so cannot give a resumable
//! run on a machine without one.

use std::collections::BTreeMap;

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::{Device, Tensor},
};

use super::weights::{Array, Weights};

/// Settings of [`AdamW`].
#[derive(Clone, Copy, Debug)]
pub struct AdamWConfig {
    /// Decay of the mean gradient.
    pub beta1: f64,
    /// Decay of the mean squared gradient.
    pub beta2: f64,
    /// Keeps the division finite.
    pub epsilon: f64,
    /// Decoupled weight decay, of matrices and kernels only: never of biases and normalisations.
    pub weight_decay: f64,
    /// SGD with this momentum instead: v ← μ·v + (g + decay·w), w ← w − lr·v.
    pub momentum: Option<f64>,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0, momentum: None }
    }
}

/// Length of the gradient of all parameters of `module` together.
pub fn gradient_norm<M: Module>(module: &M, gradients: &GradientsParams) -> f64 {
    struct Squares<'a>(&'a GradientsParams, f64);
    impl ModuleVisitor for Squares<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.0.get::<D>(param.id) {
                self.1 += f64::from(gradient.square().sum().into_scalar::<f32>());
            }
        }
    }
    let mut squares = Squares(gradients, 0.0);
    module.visit(&mut squares);
    squares.1.sqrt()
}

/// What is remembered of a parameter's gradients.
#[derive(Clone, Debug)]
struct Moments {
    first: Tensor<1>,
    second: Option<Tensor<1>>,
}

/// The optimizer with its moments.
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    steps: u64,
    /// Mean and mean squared gradient, flattened, under the parameter's path; with SGD the velocity.
    moments: BTreeMap<String, Moments>,
}

impl AdamW {
    /// Without history.
    pub fn new(config: AdamWConfig) -> Self {
        Self { config, steps: 0, moments: BTreeMap::new() }
    }

    /// One step along `gradients`, at `lr` times the rate that `scale` gives for a parameter's path.
    pub fn step<M: Module>(
        &mut self,
        module: M,
        gradients: GradientsParams,
        lr: f64,
        scale: impl Fn(&str) -> f64,
    ) -> M {
        self.steps += 1;
        module.map(&mut Step { optimizer: self, path: Vec::new(), gradients, lr, scale })
    }

    /// Adds the state to a checkpoint, under `prefix`.
    pub fn save(&self, prefix: &str, into: &mut Weights) {
        for (path, Moments { first, second }) in &self.moments {
            into.0.insert(format!("{prefix}.m.{path}"), Array::of(first.clone()));
            if let Some(second) = second {
                into.0.insert(format!("{prefix}.v.{path}"), Array::of(second.clone()));
            }
        }
    }

    /// Takes the state after `steps` steps back from a checkpoint.
    pub fn load(&mut self, prefix: &str, from: &Weights, steps: u64, device: &Device) {
        let tensor = |array: &Array| Tensor::<1>::from_data(array.data(), device);
        let first = format!("{prefix}.m.");
        self.steps = steps;
        self.moments = (from.0.iter())
            .filter_map(|(name, m)| {
                let path = name.strip_prefix(&first)?;
                let second = from.0.get(&format!("{prefix}.v.{path}")).map(tensor);
                Some((path.to_string(), Moments { first: tensor(m), second }))
            })
            .collect();
    }
}

impl AdamWConfig {
    /// A parameter's moments and value after step `steps`.
    fn adamw(
        &self,
        steps: u64,
        lr: f64,
        decay: f64,
        gradient: Tensor<1>,
        value: Tensor<1>,
        before: Option<Moments>,
    ) -> (Moments, Tensor<1>) {
        let step = i32::try_from(steps).unwrap_or(i32::MAX);
        let (c1, c2) = (1.0 - self.beta1.powi(step), 1.0 - self.beta2.powi(step));
        let squared = gradient.clone().square() * (1.0 - self.beta2);
        let fresh = gradient * (1.0 - self.beta1);
        let (m, v) = match before {
            Some(Moments { first: m, second: Some(v) }) => (m * self.beta1 + fresh, v * self.beta2 + squared),
            _ => (fresh, squared),
        };
        let delta = (m.clone() * (lr / c1)) / ((v.clone() / c2).sqrt() + self.epsilon);
        let decay = 1.0 - lr * decay;
        let value = if decay == 1.0 { value } else { value * decay };
        (Moments { first: m, second: Some(v) }, value - delta)
    }

    fn sgd(
        &self,
        momentum: f64,
        lr: f64,
        decay: f64,
        gradient: Tensor<1>,
        value: Tensor<1>,
        before: Option<Moments>,
    ) -> (Moments, Tensor<1>) {
        let gradient = if decay == 0.0 { gradient } else { gradient + value.clone() * decay };
        let velocity = match before {
            Some(before) => before.first * momentum + gradient,
            None => gradient,
        };
        (Moments { first: velocity.clone(), second: None }, value - velocity * lr)
    }
}

struct Step<'a, F> {
    optimizer: &'a mut AdamW,
    path: Vec<String>,
    gradients: GradientsParams,
    lr: f64,
    scale: F,
}

impl<F: Fn(&str) -> f64> ModuleMapper for Step<'_, F> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.into());
    }
    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = self.gradients.remove::<D>(param.id) else { return param };
        let path = self.path.join(".");
        let AdamW { config, steps, moments } = &mut *self.optimizer;
        let lr = self.lr * (self.scale)(&path);
        let gradient: Tensor<1> = gradient.flatten(0, D - 1);
        let (id, tensor, mapper) = param.consume();
        let shape = tensor.shape();
        let value: Tensor<1> = tensor.inner().flatten(0, D - 1);
        // vectors are biases, scales and shifts: decaying them only biases the network
        let decay = if D > 1 { config.weight_decay } else { 0.0 };
        let before = moments.remove(&path);
        let (after, value) = match config.momentum {
            Some(momentum) => config.sgd(momentum, lr, decay, gradient, value, before),
            None => config.adamw(*steps, lr, decay, gradient, value, before),
        };
        moments.insert(path, after);
        let updated: Tensor<D> = value.reshape(shape);
        Param::from_mapped_value(id, Tensor::from_inner(updated).require_grad(), mapper)
    }
}

/// Learning rate after `step` of `steps`: linear warm-up over `warmup` steps, then half a cosine
/// down to zero.
pub fn cosine(peak: f64, step: u64, steps: u64, warmup: u64) -> f64 {
    if step < warmup {
        return peak * (step + 1) as f64 / warmup as f64;
    }
    let progress = (step - warmup) as f64 / steps.saturating_sub(warmup).max(1) as f64;
    peak * 0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos())
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::{
        nn::LinearConfig,
        optim::{
            AdamWConfig as Reference, ModuleOptimizer, SgdConfig, decay::WeightDecayConfig,
            momentum::MomentumConfig,
        },
    };

    /// Largest difference after 20 steps of both.
    fn apart(config: AdamWConfig, mut reference: ModuleOptimizer) -> f32 {
        let device = Device::flex().autodiff();
        let start = LinearConfig::new(4, 3).init(&device);
        let (mut ours, mut optimizer) = (start.clone(), AdamW::new(config));
        let mut theirs = start.no_grad_bias();
        ours = ours.no_grad_bias();
        for step in 0..20u16 {
            let x = Tensor::<2>::full([5, 4], f32::from(step).sin(), &device);
            let loss = |m: &burn::nn::Linear| (m.forward(x.clone()) - 0.3).square().mean().backward();
            let grads = GradientsParams::from_grads(loss(&ours), &ours);
            ours = optimizer.step(ours, grads, 0.01, |_| 1.0);
            let grads = GradientsParams::from_grads(loss(&theirs), &theirs);
            theirs = reference.step(0.01, theirs, grads);
        }
        let (ours, theirs) = (Array::of(ours.weight.val()), Array::of(theirs.weight.val()));
        ours.values.iter().zip(&theirs.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn agrees_with_burn() {
        let config = AdamWConfig { weight_decay: 0.1, ..AdamWConfig::default() };
        let off = apart(config, Reference::new().with_epsilon(1e-8).with_weight_decay(0.1).init());
        assert!(off < 1e-5, "AdamW: {off}");
        let momentum = MomentumConfig { momentum: 0.9, dampening: 0.0, nesterov: false };
        let reference = SgdConfig::new()
            .with_momentum(Some(momentum))
            .with_weight_decay(Some(WeightDecayConfig { penalty: 0.1 }));
        let off = apart(AdamWConfig { momentum: Some(0.9), ..config }, reference.init());
        assert!(off < 1e-5, "SGD: {off}");
    }

    trait NoGradBias {
        fn no_grad_bias(self) -> Self;
    }
    impl NoGradBias for burn::nn::Linear {
        /// burn decays biases too; the comparison is on the matrix.
        fn no_grad_bias(mut self) -> Self {
            self.bias = None;
            self
        }
    }

    #[test]
    fn the_rate_rises_and_falls() {
        assert_eq!(cosine(1.0, 0, 100, 10), 0.1);
        assert_eq!(cosine(1.0, 10, 100, 10), 1.0);
        assert!((cosine(1.0, 55, 100, 10) - 0.5).abs() < 1e-9);
        assert!(cosine(1.0, 100, 100, 10).abs() < 1e-9);
        assert_eq!(cosine(1.0, 0, 1, 0), 1.0);
    }
}

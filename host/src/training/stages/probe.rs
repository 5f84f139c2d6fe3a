//! Stage `probe`: multinomial logistic regression on frozen features, full batch.

use burn::{
    nn::Linear,
    tensor::{Device, Int, Tensor},
};

use super::{backbone::cross_entropy, parts::Parts, warmup};
use crate::training::{
    TrainError,
    config::ProbeConfig,
    optim::{AdamW, AdamWConfig, cosine},
    runner::{Done, Stage},
    weights::Weights,
};

/// State of the stage.
pub(crate) struct Probe {
    head: Linear,
    optimizer: AdamW,
    config: ProbeConfig,
    features: Tensor<2>,
    classes: Tensor<1, Int>,
    parts: Parts,
    device: Device,
}

impl Probe {
    /// Fits `head`, on the autodiff side, to `features` `[N, features]` and `classes` `[N]`.
    pub fn new(
        head: Linear,
        features: Tensor<2>,
        classes: impl IntoIterator<Item = i32>,
        config: &ProbeConfig,
        device: &Device,
    ) -> Self {
        let device = device.clone().autodiff();
        let decay = AdamWConfig { weight_decay: config.weight_decay, ..AdamWConfig::default() };
        Self {
            head,
            optimizer: AdamW::new(decay),
            config: *config,
            features: Tensor::from_inner(features),
            classes: super::indices(classes, &device),
            parts: Parts::WHOLE,
            device,
        }
    }
}

impl Stage for Probe {
    fn name(&self) -> &'static str {
        "probe"
    }
    fn steps(&self) -> u64 {
        self.config.steps
    }
    fn steps_per_epoch(&self) -> u64 {
        1
    }
    fn step(&mut self, step: u64) -> Result<Done, TrainError> {
        let rows = self.classes.dims()[0];
        let (loss, gradients) = self.parts.gradients(&self.head, rows, |part| {
            let (from, len) = (part.start, part.len());
            let logits = self.head.forward(self.features.clone().narrow(0, from, len));
            Ok(cross_entropy(logits, self.classes.clone().narrow(0, from, len), 0.0))
        })?;
        let lr = cosine(self.config.lr, step, self.config.steps, warmup(self.config.steps));
        self.head = self.optimizer.step(self.head.clone(), gradients, lr, |_| 1.0);
        Ok(Done { loss, lr, samples: rows })
    }
    fn optimizer(&mut self) -> &mut AdamW {
        &mut self.optimizer
    }
    fn halve(&mut self) -> bool {
        self.parts.halve(self.classes.dims()[0])
    }
    fn load(&mut self, from: &Weights, step: u64) -> Result<(), String> {
        self.head = from.apply("head", self.head.clone())?;
        self.optimizer.load("adam", from, step, &self.device.clone().inner());
        Ok(())
    }
    fn result(&mut self) -> Weights {
        Weights::of("head", &self.head)
    }
}

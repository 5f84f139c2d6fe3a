//! Stage `probe`: multinomial logistic regression on frozen features.

use burn::{nn::Linear, tensor::Device};

use super::{backbone::cross_entropy, indices, parts::Parts, steps_for, warmup};
use crate::training::{
    TrainError,
    config::ProbeConfig,
    optim::{AdamW, AdamWConfig, cosine},
    row_features::RowFeatures,
    runner::{Done, Stage},
    sampler::Batches,
    weights::Weights,
};

/// Width of the features that the rate is for: the small CNN's.
const USUAL_WIDTH: f64 = 96.0;

/// State of the stage.
pub(crate) struct Probe {
    head: Linear,
    optimizer: AdamW,
    config: ProbeConfig,
    features: RowFeatures,
    classes: Vec<i32>,
    batches: Batches,
    steps: u64,
    parts: Parts,
    device: Device,
}

impl Probe {
    /// Fits `head`, on the autodiff side, to `features` `[N, features]` and `classes` `[N]`.
    pub fn new(
        head: Linear,
        features: RowFeatures,
        classes: Vec<i32>,
        config: &ProbeConfig,
        seed: u64,
        device: &Device,
    ) -> Self {
        let decay = AdamWConfig { weight_decay: config.weight_decay, ..AdamWConfig::default() };
        let batches = Batches::new(seed, "probe/batch", classes.len(), config.batch);
        let steps = match batches.steps_per_epoch() {
            1 => config.steps,
            per_epoch => steps_for(config.epochs, per_epoch, config.steps, u64::MAX),
        };
        Self {
            head,
            optimizer: AdamW::new(decay),
            config: *config,
            features,
            classes,
            batches,
            steps,
            parts: Parts::WHOLE,
            device: device.clone().autodiff(),
        }
    }
}

impl Stage for Probe {
    fn name(&self) -> &'static str {
        "probe"
    }
    fn steps(&self) -> u64 {
        self.steps
    }
    fn steps_per_epoch(&self) -> u64 {
        self.batches.steps_per_epoch()
    }
    fn step(&mut self, step: u64) -> Result<Done, TrainError> {
        let rows = match self.classes.len() {
            // all of them, and so in any order
            all if all <= self.config.batch => (0..all as u32).collect(),
            _ => self.batches.at(step).to_vec(),
        };
        let (loss, gradients) = self.parts.gradients(&self.head, rows.len(), |part| {
            let rows = &rows[part];
            let logits = self.head.forward(self.features.select(rows, &self.device)?);
            let classes = indices(rows.iter().map(|&row| self.classes[row as usize]), &self.device);
            Ok(cross_entropy(logits, classes, 0.0))
        })?;
        let wide = (USUAL_WIDTH / self.features.width() as f64).min(1.0);
        let lr = cosine(self.config.lr * wide, step, self.steps, warmup(self.steps));
        self.head = self.optimizer.step(self.head.clone(), gradients, lr, |_| 1.0);
        Ok(Done { loss, lr, samples: rows.len() })
    }
    fn optimizer(&mut self) -> &mut AdamW {
        &mut self.optimizer
    }
    fn halve(&mut self) -> bool {
        self.parts.halve(self.batches.size())
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

//! Stage `finetune`: the class matrix on the location encoder, and the encoder under it, learn from
//! the labelled rows which class is where.

use std::collections::BTreeMap;

use burn::{
    optim::GradientsParams,
    tensor::{Device, Int, Tensor, TensorData},
};
use csp_models::{
    fusion::sigmoid,
    labels::ClassId,
    nn::{LocationClassifier, LocationClassifierConfig},
    place::LatLon,
};

use super::{dropout::Dropout, indices, steps_for, warmup};
use crate::{
    features::{location_logits, position_features},
    training::{
        TrainError,
        config::{FinetuneConfig, LocationConfig},
        init,
        optim::{AdamW, AdamWConfig, cosine},
        rng,
        runner::{Done, Stage},
        sampler::Batches,
        weights::Weights,
    },
};

/// Steps between two readings of the rows kept aside.
const LOOK_EVERY: u64 = 20;
/// How far apart the first scores of the classes are when they begin as prototypes.
const PROTOTYPE_TEMPERATURE: f64 = 0.2;

/// State of the stage.
pub(crate) struct Finetune {
    name: &'static str,
    network: LocationClassifier,
    optimizer: AdamW,
    batches: Batches,
    steps: u64,
    config: FinetuneConfig,
    location: LocationConfig,
    seed: u64,
    pretrained: bool,
    positions: Tensor<2>,
    classes: Tensor<1, Int>,
    /// Rows that are only watched.
    aside: Vec<(LatLon, ClassId)>,
    device: Device,
}

/// What the stage starts from.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Start<'a> {
    /// The result of stage `pretrain`; a random encoder without it.
    pub pretrained: Option<&'a Weights>,
    /// Class vectors `[classes, embedding]` in the direction of each class's pictures; a random
    /// class matrix without them.
    pub prototypes: Option<&'a [Vec<f32>]>,
}

impl Finetune {
    /// Learns from `rows` under the name of `name`, and watches `aside`.
    ///
    /// # Errors
    /// `start` is of another network.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        name: &'static str,
        rows: &[(LatLon, ClassId)],
        aside: Vec<(LatLon, ClassId)>,
        classes: usize,
        start: Start<'_>,
        location: &LocationConfig,
        config: &FinetuneConfig,
        seed: u64,
        device: &Device,
    ) -> Result<Self, String> {
        let device = device.clone().autodiff();
        let network = LocationClassifierConfig::new(location.network(), classes).init(&device);
        let mut network = init::randomise(network, seed, "finetune/init");
        if let Some(weights) = start.pretrained {
            network.encoder = weights.apply("pair.encoder", network.encoder)?;
        }
        let (places, seen): (Vec<LatLon>, Vec<ClassId>) = rows.iter().copied().unzip();
        let positions = position_features(&location.encoder, &places, &device);
        if let Some(prototypes) = start.prototypes {
            // an embedding of usual length in a class's direction scores 1/PROTOTYPE_TEMPERATURE
            let lengths = network.encoder.forward(positions.clone()).square().sum_dim(1).sqrt();
            let usual = f64::from(lengths.mean().into_scalar::<f32>()).max(1e-6);
            let scale = (1.0 / (usual * PROTOTYPE_TEMPERATURE)) as f32;
            let mut matrix = Weights::default();
            matrix.collect("classes", &network.classes);
            if let Some(array) = matrix.0.get_mut("classes.weight") {
                // [embedding, classes]
                for (at, value) in array.values.iter_mut().enumerate() {
                    *value = prototypes[at % classes][at / classes] * scale;
                }
            }
            network.classes = matrix.apply("classes", network.classes)?;
        }
        let batches = Batches::new(seed, "finetune/batch", rows.len(), config.batch);
        let steps = steps_for(config.epochs, batches.steps_per_epoch(), config.min_steps, config.max_steps);
        Ok(Self {
            name,
            network,
            optimizer: AdamW::new(AdamWConfig {
                weight_decay: config.weight_decay,
                ..AdamWConfig::default()
            }),
            batches,
            steps,
            config: config.clone(),
            location: location.clone(),
            seed,
            pretrained: start.pretrained.is_some(),
            positions,
            classes: indices(seen.iter().map(|class| i32::from(class.0)), &device),
            aside,
            device,
        })
    }

    /// Mean −log of the prior, normalised over the classes, at the rows kept aside.
    fn aside_loss(&self) -> f64 {
        let places: Vec<LatLon> = self.aside.iter().map(|(place, _)| *place).collect();
        let device = self.device.clone().inner();
        let logits = location_logits(&self.network, &self.location.encoder, &places, &device);
        let loss = |(logits, (_, class)): (&Vec<f32>, &(LatLon, ClassId))| {
            let presence: Vec<f64> = logits.iter().map(|&z| sigmoid(f64::from(z)).max(1e-9)).collect();
            (presence.iter().sum::<f64>() / presence[class.index()]).ln()
        };
        logits.iter().zip(&self.aside).map(loss).sum::<f64>() / self.aside.len() as f64
    }
}

impl Stage for Finetune {
    fn name(&self) -> &'static str {
        self.name
    }
    fn steps(&self) -> u64 {
        self.steps
    }
    fn steps_per_epoch(&self) -> u64 {
        self.batches.steps_per_epoch()
    }
    fn step(&mut self, step: u64) -> Result<Done, TrainError> {
        let rows = indices(self.batches.at(step).iter().map(|&i| i as i32), &self.device);
        let batch = self.batches.size();
        let mut parts = vec![self.positions.clone().select(0, rows.clone())];
        if self.config.loss.background_weight != 0.0 {
            let mut rng = rng::stream(self.seed, "finetune/random", step);
            let places: Vec<LatLon> = (0..batch).map(|_| self.config.negatives.draw(&mut rng)).collect();
            parts.push(position_features(&self.location.encoder, &places, &self.device));
        }
        let with_background = parts.len() == 2;
        let mut dropout = Dropout::new(self.location.dropout, self.seed, "finetune/dropout", step);
        let embedding =
            self.network.encoder.forward_dropping(Tensor::cat(parts, 0), &mut |x| dropout.apply(x));
        let logits = self.network.classes.forward(embedding);
        let background = with_background.then(|| logits.clone().narrow(0, batch, batch));
        let classes = self.classes.clone().select(0, rows);
        let loss = self.config.loss.loss(logits.narrow(0, 0, batch), background, classes);
        let gradients = GradientsParams::from_grads(loss.backward(), &self.network);
        let lr = cosine(self.config.lr, step, self.steps, warmup(self.steps));
        let encoder = if self.pretrained { self.config.encoder_lr } else { 1.0 };
        let scale = |path: &str| if path.starts_with("encoder") { encoder } else { 1.0 };
        self.network = self.optimizer.step(self.network.clone(), gradients, lr, scale);
        Ok(Done { loss, lr, samples: batch })
    }
    fn evaluate(&mut self, step: u64) -> BTreeMap<String, f64> {
        if self.aside.is_empty() || (!step.is_multiple_of(LOOK_EVERY) && step != self.steps) {
            return BTreeMap::new();
        }
        BTreeMap::from([("loss".into(), self.aside_loss())])
    }
    fn optimizer(&mut self) -> &mut AdamW {
        &mut self.optimizer
    }
    fn load(&mut self, from: &Weights, step: u64) -> Result<(), String> {
        self.network = from.apply("location", self.network.clone())?;
        self.optimizer.load("adam", from, step, &self.device.clone().inner());
        Ok(())
    }
    fn result(&mut self) -> Weights {
        Weights::of("location", &self.network)
    }
}

/// Rows `[N, width]` as a tensor.
pub(crate) fn matrix(rows: &[Vec<f32>], device: &Device) -> Tensor<2> {
    let width = rows.first().map_or(0, Vec::len);
    Tensor::from_data(TensorData::new(rows.concat(), [rows.len(), width]), device)
}

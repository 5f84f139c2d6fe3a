//! Stage `modulate`: the image head conditioned on the place, on frozen features and a frozen location
//! encoder, from the labelled rows.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use csp_models::{
    encoder::PositionEncoder,
    nn::{LocationHead, ModulatedHead},
    place::LatLon,
    situation::Situation,
};
use rand::RngExt;

use super::{backbone::cross_entropy, indices, parts::Parts, warmup};
use crate::{
    features::position_features,
    training::{
        TrainError,
        config::ModulationConfig,
        losses::unit_rows,
        optim::{AdamW, AdamWConfig, cosine},
        rng,
        row_features::RowFeatures,
        runner::{Done, Stage},
        sampler::Batches,
        weights::Weights,
    },
};

/// State of the stage.
pub(crate) struct Modulate {
    network: ModulatedHead,
    optimizer: AdamW,
    batches: Batches,
    config: ModulationConfig,
    seed: u64,
    features: RowFeatures,
    embeddings: Tensor<2>,
    classes: Tensor<1, Int>,
    parts: Parts,
    device: Device,
}

impl Modulate {
    /// Trains `network`, on the autodiff side, on `features` `[N, features]` and `embeddings`
    /// `[N, embedding]` of `classes`.
    pub fn new(
        network: ModulatedHead,
        features: RowFeatures,
        embeddings: Tensor<2>,
        classes: impl IntoIterator<Item = i32>,
        config: &ModulationConfig,
        seed: u64,
        device: &Device,
    ) -> Self {
        let device = device.clone().autodiff();
        let optimizer = AdamWConfig { weight_decay: config.weight_decay, ..AdamWConfig::default() };
        Self {
            network,
            optimizer: AdamW::new(optimizer),
            batches: Batches::new(seed, "modulate/batch", features.len(), config.batch),
            config: *config,
            seed,
            features,
            embeddings: Tensor::from_inner(embeddings),
            classes: indices(classes, &device),
            parts: Parts::WHOLE,
            device,
        }
    }
}

/// Embeddings of places, each of length 1; zero where there is none. A date that is not known is the
/// middle of the year's circle, in training and after.
///
/// # Shapes
/// Returns `[places, embedding]`.
pub(crate) fn place_rows(
    network: &LocationHead,
    encoder: &PositionEncoder,
    places: &[Option<Situation>],
    device: &Device,
) -> Tensor<2> {
    // somewhere, for the shape's sake: masked below
    let anywhere =
        |place: &Option<Situation>| place.or_else(|| LatLon::new(0.0, 0.0).ok().map(Situation::undated));
    let all: Vec<Situation> = places.iter().filter_map(anywhere).collect();
    let mask: Vec<f32> = places.iter().map(|place| if place.is_some() { 1.0 } else { 0.0 }).collect();
    let rows = unit_rows(network.forward(position_features(encoder, &all, device)));
    rows * Tensor::<2>::from_data(TensorData::new(mask, [places.len(), 1]), device)
}

impl Stage for Modulate {
    fn name(&self) -> &'static str {
        "modulate"
    }
    fn steps(&self) -> u64 {
        self.config.steps
    }
    fn steps_per_epoch(&self) -> u64 {
        self.batches.steps_per_epoch()
    }
    fn step(&mut self, step: u64) -> Result<Done, TrainError> {
        let rows = self.batches.at(step).to_vec();
        let batch = self.batches.size();
        let mut rng = rng::stream(self.seed, "modulate/hidden", step);
        let shown: Vec<f32> = (0..batch)
            .map(|_| if rng.random::<f64>() < self.config.hidden_places { 0.0 } else { 1.0 })
            .collect();
        let shown = Tensor::<2>::from_data(TensorData::new(shown, [batch, 1]), &self.device);
        let (loss, gradients) = self.parts.gradients(&self.network, batch, |part| {
            let (from, len) = (part.start, part.len());
            let (numbers, shown) = (&rows[part], shown.clone().narrow(0, from, len));
            let rows = indices(numbers.iter().map(|&row| row as i32), &self.device);
            let logits = self.network.forward(
                self.features.select(numbers, &self.device)?,
                self.embeddings.clone().select(0, rows.clone()) * shown,
            );
            Ok(cross_entropy(logits, self.classes.clone().select(0, rows), 0.0))
        })?;
        let lr = cosine(self.config.lr, step, self.config.steps, warmup(self.config.steps));
        self.network = self.optimizer.step(self.network.clone(), gradients, lr, |_| 1.0);
        Ok(Done { loss, lr, samples: batch })
    }
    fn optimizer(&mut self) -> &mut AdamW {
        &mut self.optimizer
    }
    fn halve(&mut self) -> bool {
        self.parts.halve(self.batches.size())
    }
    fn load(&mut self, from: &Weights, step: u64) -> Result<(), String> {
        self.network = from.apply("modulated", self.network.clone())?;
        self.optimizer.load("adam", from, step, &self.device.clone().inner());
        Ok(())
    }
    fn result(&mut self) -> Weights {
        Weights::of("modulated", &self.network.valid())
    }
}

//! Stage `finetune`: the class matrix on the location encoder, and the encoder under it, learn from
//! the labelled rows which class is where.

use std::collections::BTreeMap;

use burn::{
    module::Module,
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
        weights::{Array, Weights},
    },
};

/// Steps between two readings of the hold-out.
const LOOK_EVERY: u64 = 10;

/// State of the stage.
pub(crate) struct Finetune {
    network: LocationClassifier,
    optimizer: AdamW,
    batches: Batches,
    steps: u64,
    config: FinetuneConfig,
    location: LocationConfig,
    seed: u64,
    positions: Tensor<2>,
    classes: Tensor<1, Int>,
    holdout: Vec<(LatLon, ClassId)>,
    /// Lowest loss on the hold-out and the weights that had it.
    best: Option<(f64, Weights)>,
    device: Device,
}

impl Finetune {
    /// Starts from the encoder of `pretrained`, the result of stage `pretrain`, or at random.
    ///
    /// # Errors
    /// `pretrained` is of another network.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        rows: &[(LatLon, ClassId)],
        holdout: Vec<(LatLon, ClassId)>,
        classes: usize,
        pretrained: Option<&Weights>,
        location: &LocationConfig,
        config: &FinetuneConfig,
        seed: u64,
        device: &Device,
    ) -> Result<Self, String> {
        let device = device.clone().autodiff();
        let network = LocationClassifierConfig::new(location.network(), classes).init(&device);
        let mut network = init::randomise(network, seed, "finetune/init");
        if let Some(weights) = pretrained {
            network.encoder = weights.apply("pair.encoder", network.encoder)?;
        }
        let batches = Batches::new(seed, "finetune/batch", rows.len(), config.batch);
        let steps = steps_for(config.epochs, batches.steps_per_epoch(), config.min_steps, config.max_steps);
        let (places, seen): (Vec<LatLon>, Vec<ClassId>) = rows.iter().copied().unzip();
        Ok(Self {
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
            positions: position_features(&location.encoder, &places, &device),
            classes: indices(seen.iter().map(|class| i32::from(class.0)), &device),
            holdout,
            best: None,
            device,
        })
    }

    /// Mean −log of the prior, normalised over the classes, at the hold-out.
    fn holdout_loss(&self) -> f64 {
        let places: Vec<LatLon> = self.holdout.iter().map(|(place, _)| *place).collect();
        let device = self.device.clone().inner();
        let logits = location_logits(&self.network, &self.location.encoder, &places, &device);
        let loss = |(logits, (_, class)): (&Vec<f32>, &(LatLon, ClassId))| {
            let presence: Vec<f64> = logits.iter().map(|&z| sigmoid(f64::from(z)).max(1e-9)).collect();
            (presence.iter().sum::<f64>() / presence[class.index()]).ln()
        };
        let mean = logits.iter().zip(&self.holdout).map(loss).sum::<f64>() / self.holdout.len() as f64;
        // as precise as a checkpoint keeps it, so that resuming does not move a comparison
        f64::from(mean as f32)
    }

    fn weights(&self) -> Weights {
        let mut weights = Weights::default();
        weights.collect("location", &self.network.valid());
        weights
    }
}

impl Stage for Finetune {
    fn name(&self) -> &'static str {
        "finetune"
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
        let scale = |path: &str| if path.starts_with("encoder") { self.config.encoder_lr } else { 1.0 };
        self.network = self.optimizer.step(self.network.clone(), gradients, lr, scale);
        Ok(Done { loss, lr, samples: batch })
    }
    fn evaluate(&mut self, step: u64) -> BTreeMap<String, f64> {
        if self.holdout.is_empty() || (step % LOOK_EVERY != 0 && step != self.steps) {
            return BTreeMap::new();
        }
        let loss = self.holdout_loss();
        if self.config.keep_best && self.best.as_ref().is_none_or(|(best, _)| loss < *best) {
            self.best = Some((loss, self.weights()));
        }
        BTreeMap::from([("loss".into(), loss)])
    }
    fn save(&mut self, into: &mut Weights) {
        *into = self.weights();
        self.optimizer.save("adam", into);
        if let Some((loss, best)) = &self.best {
            into.0.insert("best.loss".into(), Array { shape: vec![1], values: vec![*loss as f32] });
            into.0.extend(best.0.iter().map(|(name, array)| (format!("best.{name}"), array.clone())));
        }
    }
    fn load(&mut self, from: &Weights, step: u64) -> Result<(), String> {
        self.network = from.apply("location", self.network.clone())?;
        self.optimizer.load("adam", from, step, &self.device.clone().inner());
        self.best = from.0.get("best.loss").and_then(|array| {
            let loss = f64::from(*array.values.first()?);
            let best = from.0.iter().filter_map(|(name, array)| {
                let name = name.strip_prefix("best.")?;
                name.starts_with("location.").then(|| (name.to_string(), array.clone()))
            });
            Some((loss, Weights(best.collect())))
        });
        Ok(())
    }
    fn result(&mut self) -> Weights {
        self.best.take().map_or_else(|| self.weights(), |(_, best)| best)
    }
}

/// Rows `[N, width]` as a tensor.
pub(crate) fn matrix(rows: &[Vec<f32>], device: &Device) -> Tensor<2> {
    let width = rows.first().map_or(0, Vec::len);
    Tensor::from_data(TensorData::new(rows.concat(), [rows.len(), width]), device)
}

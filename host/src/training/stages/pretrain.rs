//! Stage `pretrain`: contrastive learning between place and picture, on all training rows that have
//! both; labels play no part.

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    optim::GradientsParams,
    tensor::{Device, Tensor},
};
use csp_models::{nn::FeedForward, place::LatLon};

use super::{dropout::Dropout, indices, steps_for, warmup};
use crate::{
    features::position_features,
    training::{
        TrainError,
        config::{LocationConfig, Objective, PretrainConfig},
        init,
        losses::{Views, unit_rows},
        optim::{AdamW, AdamWConfig, cosine},
        rng,
        runner::{Done, Stage},
        sampler::Batches,
        weights::{Array, Weights},
    },
};

/// What is trained: the location encoder and the projection W of the image feature, which is only
/// needed here.
#[derive(Module, Debug)]
struct Pair {
    encoder: FeedForward,
    projection: Linear,
}

/// State of the stage.
pub(crate) struct Pretrain {
    pair: Pair,
    optimizer: AdamW,
    batches: Batches,
    steps: u64,
    config: PretrainConfig,
    location: LocationConfig,
    seed: u64,
    /// `[rows, position features]`, on the device like the next.
    positions: Tensor<2>,
    /// `[rows, image features]`
    images: Tensor<2>,
    device: Device,
}

impl Pretrain {
    /// Pairs `places` with `images` `[places, features]`, both row by row.
    pub fn new(
        places: &[LatLon],
        images: Tensor<2>,
        location: &LocationConfig,
        config: &PretrainConfig,
        seed: u64,
        device: &Device,
    ) -> Self {
        let device = device.clone().autodiff();
        let [_, features] = images.dims();
        let pair = Pair {
            encoder: location.network().init(&device),
            projection: LinearConfig::new(features, location.embedding).init(&device),
        };
        let batches = Batches::new(seed, "pretrain/batch", places.len(), config.batch);
        let steps = steps_for(config.epochs, batches.steps_per_epoch(), config.min_steps, config.max_steps);
        Self {
            pair: init::randomise(pair, seed, "pretrain/init"),
            optimizer: AdamW::new(AdamWConfig {
                weight_decay: config.weight_decay,
                ..AdamWConfig::default()
            }),
            batches,
            steps,
            config: config.clone(),
            location: location.clone(),
            seed,
            positions: position_features(&location.encoder, places, &device),
            images: Tensor::from_inner(images),
            device,
        }
    }

    fn views(&mut self, step: u64) -> Views {
        let (second, random) = match self.config.objective {
            Objective::Mc => (self.config.mc.weight_dropout, self.config.mc.weight_random),
            Objective::Nce => (self.config.nce.weight_dropout, self.config.nce.weight_random),
        };
        let rows = indices(self.batches.at(step).iter().map(|&i| i as i32), &self.device);
        let batch = self.batches.size();
        let positions = self.positions.clone().select(0, rows.clone());
        // true places, the same again and random ones go through the encoder as one batch
        let mut parts = vec![positions.clone()];
        if second != 0.0 {
            parts.push(positions);
        }
        let draws = batch * self.config.negatives_per_row;
        if random != 0.0 {
            let mut rng = rng::stream(self.seed, "pretrain/random", step);
            let places: Vec<LatLon> = (0..draws).map(|_| self.config.negatives.draw(&mut rng)).collect();
            parts.push(position_features(&self.location.encoder, &places, &self.device));
        }
        let mut dropout = Dropout::new(self.location.dropout, self.seed, "pretrain/dropout", step);
        let all = self.pair.encoder.forward_dropping(Tensor::cat(parts, 0), &mut |x| dropout.apply(x));
        let after = if second != 0.0 { 2 * batch } else { batch };
        Views {
            location: all.clone().narrow(0, 0, batch),
            second: (second != 0.0).then(|| all.clone().narrow(0, batch, batch)),
            random: (random != 0.0).then(|| all.narrow(0, after, draws)),
            image: self.pair.projection.forward(self.images.clone().select(0, rows)),
        }
    }
}

/// `W F(I)` of image features, each of length 1, by the result of the stage.
///
/// # Shapes
/// - features: `[N, features]`, returns N rows of the embedding's width
pub(crate) fn project(
    result: &Weights,
    features: Tensor<2>,
    location: &LocationConfig,
) -> Result<Vec<Vec<f32>>, String> {
    let projection = LinearConfig::new(features.dims()[1], location.embedding).init(&features.device());
    let projection = result.apply("pair.projection", projection)?;
    let rows = Array::of(unit_rows(projection.forward(features)));
    Ok(rows.values.chunks_exact(location.embedding).map(<[f32]>::to_vec).collect())
}

impl Stage for Pretrain {
    fn name(&self) -> &'static str {
        "pretrain"
    }
    fn steps(&self) -> u64 {
        self.steps
    }
    fn steps_per_epoch(&self) -> u64 {
        self.batches.steps_per_epoch()
    }
    fn step(&mut self, step: u64) -> Result<Done, TrainError> {
        let views = self.views(step);
        let loss = match self.config.objective {
            Objective::Mc => self.config.mc.loss(views),
            Objective::Nce => self.config.nce.loss(views),
        };
        let gradients = GradientsParams::from_grads(loss.backward(), &self.pair);
        let lr = cosine(self.config.lr, step, self.steps, warmup(self.steps));
        self.pair = self.optimizer.step(self.pair.clone(), gradients, lr, |_| 1.0);
        Ok(Done { loss, lr, samples: self.batches.size() })
    }
    fn optimizer(&mut self) -> &mut AdamW {
        &mut self.optimizer
    }
    fn load(&mut self, from: &Weights, step: u64) -> Result<(), String> {
        self.pair = from.apply("pair", self.pair.clone())?;
        self.optimizer.load("adam", from, step, &self.device.clone().inner());
        Ok(())
    }
    fn result(&mut self) -> Weights {
        Weights::of("pair", &self.pair)
    }
}

//! Stage `pretrain`: contrastive learning between place and picture, on all training rows that have
//! both. Labels play no part, unless `mask_same_class` grants it the granted ones.

mod spread;

use std::ops::Range;

use burn::{
    module::{Module, Param},
    nn::{Linear, LinearConfig},
    optim::GradientsParams,
    tensor::{Device, Gradients, Int, Tensor},
};
use csp_models::{labels::ClassId, nn::LocationHead, situation::Situation};

use self::spread::Replica;
use super::{dropout::Dropout, indices, queue::Queue, steps_for, warmup};
use crate::{
    features::position_features,
    training::{
        TrainError,
        config::{LocationConfig, Objective, PretrainConfig},
        init,
        losses::{
            Exempt, Views,
            mse::mse,
            temperature::{self, Temperatures},
            unit_rows,
        },
        optim::{AdamW, AdamWConfig, cosine, gradient_norm},
        rng,
        row_features::{Room, RowFeatures},
        runner::{Done, Stage},
        sampler::{Batches, moved, random_places},
        weights::{Array, Weights},
    },
};

/// What is trained. All but the encoder is only needed here.
#[derive(Module, Debug)]
struct Pair {
    encoder: LocationHead,
    /// W: image feature → embedding; with the regression embedding → image feature.
    projection: Linear,
    /// log 1/τ of the terms, where they are learned.
    log_scales: Option<Param<Tensor<1>>>,
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
    places: Vec<Situation>,
    /// `[rows, position features]`, on the device; computed for each step where they are too many for it.
    positions: Option<Tensor<2>>,
    /// `[rows, image features]`, where they are known beforehand.
    images: Option<RowFeatures>,
    /// `[rows]`, -1 where it is not known; only to mask rows of one class.
    classes: Option<Tensor<1, Int>>,
    queue: Queue,
    device: Device,
    /// All devices, without autodiff, the first of which is `device`.
    devices: Vec<Device>,
    /// Where a step is spread over several devices or parts; empty with one.
    replicas: Vec<Replica>,
}

/// The rows of a step.
struct Batch {
    rows: Tensor<1, Int>,
    images: Tensor<2>,
    /// True places, the same again if there is a dropout term, then random ones.
    positions: Tensor<2>,
    with_second: bool,
    draws: usize,
}

impl Pretrain {
    /// Pairs `places` with `images` `[places, features]`, both row by row, of which `classes` are the
    /// granted labels.
    pub fn new(
        places: &[Situation],
        images: RowFeatures,
        classes: &[Option<ClassId>],
        location: &LocationConfig,
        config: &PretrainConfig,
        seed: u64,
        device: &Device,
    ) -> Self {
        let open = Self::open(places, images.width(), classes, location, config, seed, device);
        Self { images: Some(images), ..open }
    }

    /// For pictures whose `features` numbers each step brings along, see [`loss`](Self::loss).
    pub fn open(
        places: &[Situation],
        features: usize,
        classes: &[Option<ClassId>],
        location: &LocationConfig,
        config: &PretrainConfig,
        seed: u64,
        device: &Device,
    ) -> Self {
        let device = device.clone().autodiff();
        let (from, to) = match config.objective {
            Objective::Mse => (location.embedding, features),
            _ => (features, location.embedding),
        };
        let pair = Pair {
            encoder: location.network().init(&device),
            projection: LinearConfig::new(from, to).init(&device),
            log_scales: config.learned_temperatures.then(|| temperature::parameter(config.taus(), &device)),
        };
        let pair = init::randomise(pair, seed, "pretrain/init");
        let batches = Batches::new(seed, "pretrain/batch", places.len(), config.batch);
        let steps = steps_for(config.epochs, batches.steps_per_epoch(), config.min_steps, config.max_steps);
        let ids = || classes.iter().map(|class| class.map_or(-1, |class| i32::from(class.0)));
        Self {
            pair: Pair { encoder: pair.encoder.respread(), ..pair },
            optimizer: AdamW::new(AdamWConfig {
                weight_decay: config.weight_decay,
                ..AdamWConfig::default()
            }),
            batches,
            steps,
            config: config.clone(),
            location: location.clone(),
            seed,
            places: places.to_vec(),
            positions: (Room::of(&device).holds(places.len() * location.encoder.dim()))
                .then(|| position_features(&location.encoder, places, &device)),
            images: None,
            classes: config.mask_same_class.then(|| indices(ids(), &device)),
            queue: Queue::new(config.queue),
            devices: vec![device.clone().inner()],
            device,
            replicas: Vec::new(),
        }
    }

    /// Begins with a trained encoder, under `location.encoder`.
    ///
    /// # Errors
    /// It is of another network.
    pub fn beginning_with(mut self, trained: Option<&Weights>) -> Result<Self, String> {
        if let Some(trained) = trained {
            self.pair.encoder = trained.apply("location.encoder", self.pair.encoder)?;
        }
        Ok(self)
    }

    /// The rows of a step.
    pub fn rows(&mut self, step: u64) -> &[u32] {
        self.batches.at(step)
    }

    /// The loss `[1]` of a step on the image features `[batch, features]` of its rows.
    pub fn loss(&mut self, step: u64, features: Tensor<2>) -> Tensor<1> {
        let batch = self.batch(step, features);
        if self.config.objective == Objective::Mse {
            let images = batch.images.clone();
            return mse(self.pair.projection.forward(self.embed(batch.positions, step)), images);
        }
        let views = self.views(batch, step);
        self.loss_of(views, step)
    }

    /// Takes the step of encoder and projection; returns the rate.
    pub fn descend(&mut self, step: u64, gradients: Gradients) -> f64 {
        let gradients = GradientsParams::from_grads(gradients, &self.pair);
        self.update(step, gradients)
    }

    fn batch(&mut self, step: u64, images: Tensor<2>) -> Batch {
        let [_, _, second] = self.config.weights();
        let step_rows = self.batches.at(step).to_vec();
        let rows = indices(step_rows.iter().map(|&i| i as i32), &self.device);
        let positions =
            self.positions_of(step, &step_rows, 0..step_rows.len(), (self.positions.as_ref(), &self.device));
        let mut parts = vec![positions.clone()];
        if second != 0.0 {
            parts.push(positions);
        }
        let random = self.random_places(step);
        if !random.is_empty() {
            parts.push(position_features(&self.location.encoder, &random, &self.device));
        }
        Batch {
            images,
            rows,
            positions: Tensor::cat(parts, 0),
            with_second: second != 0.0,
            draws: random.len(),
        }
    }

    /// Position features of `part` of the `rows` of a step, beside those of all rows of the data set.
    fn positions_of(
        &self,
        step: u64,
        rows: &[u32],
        part: Range<usize>,
        (all, device): (Option<&Tensor<2>>, &Device),
    ) -> Tensor<2> {
        let features = |places: &[Situation]| position_features(&self.location.encoder, places, device);
        match (self.moved(step, rows), all) {
            (Some(places), _) => features(&places[part]),
            (None, Some(all)) => all.clone().select(0, indices(rows[part].iter().map(|&i| i as i32), device)),
            (None, None) => {
                let places = rows[part].iter().map(|&row| self.places[row as usize]);
                features(&places.collect::<Vec<_>>())
            }
        }
    }

    /// Where the rows of a step are taken to be, moved about where that is asked for.
    fn moved(&self, step: u64, rows: &[u32]) -> Option<Vec<Situation>> {
        let km = Some(self.config.blur_km).filter(|&km| km > 0.0)?;
        let mut rng = rng::stream(self.seed, "pretrain/blur", step);
        let moved = rows.iter().map(|&row| {
            let seen = self.places[row as usize];
            Situation { at: moved(seen.at, km, &mut rng), ..seen }
        });
        Some(moved.collect())
    }

    /// Random places of a step, the `c`-th of row `i` at `c·B + i`; none without their term.
    fn random_places(&self, step: u64) -> Vec<Situation> {
        let [_, random, _] = self.config.weights();
        let draws = if random != 0.0 { self.batches.size() * self.config.negatives_per_row } else { 0 };
        let stream = (self.seed, "pretrain/random", step);
        random_places(self.config.negatives, self.location.encoder.season(), stream, draws)
    }

    /// All places of a step go through the encoder as one batch.
    fn embed(&self, positions: Tensor<2>, step: u64) -> Tensor<2> {
        let mut dropout = Dropout::new(self.location.dropout, self.seed, "pretrain/dropout", step);
        self.pair.encoder.forward_dropping(positions, &mut |x| dropout.apply(x))
    }

    /// Loss `[1]` of a step and its gradients.
    fn gradients(&mut self, step: u64) -> Result<(Tensor<1>, GradientsParams), TrainError> {
        if !self.replicas.is_empty() && self.config.objective != Objective::Mse {
            return self.spread_gradients(step);
        }
        let rows = self.batches.at(step).to_vec();
        let none = || TrainError::corrupt("pretrain", "it has no features");
        let images = self.images.as_ref().ok_or_else(none)?.select(&rows, &self.device)?;
        let loss = self.loss(step, images);
        let gradients = GradientsParams::from_grads(loss.backward(), &self.pair);
        Ok((loss, gradients))
    }

    fn update(&mut self, step: u64, gradients: GradientsParams) -> f64 {
        let lr = cosine(self.config.lr, step, self.steps, warmup(self.steps));
        self.pair = self.optimizer.step(self.pair.clone(), gradients, lr, |_| 1.0);
        self.pair.log_scales = self.pair.log_scales.take().map(temperature::clamped);
        lr
    }

    /// Takes a step and reads back its loss and the length of its gradient.
    ///
    /// # Errors
    /// It has no features of its own.
    pub fn traced_step(&mut self, step: u64) -> Result<(f64, f64), TrainError> {
        let (loss, gradients) = self.gradients(step)?;
        let norm = gradient_norm(&self.pair, &gradients);
        self.update(step, gradients);
        Ok((f64::from(loss.into_scalar::<f32>()), norm))
    }

    /// The contrastive loss `[1]`; the queue takes what the step saw.
    fn loss_of(&mut self, views: Views, step: u64) -> Tensor<1> {
        let now = unit_rows(views.location.clone().inner());
        let tau = match &self.pair.log_scales {
            Some(log_scales) => Temperatures::learned(&log_scales.val()),
            None => Temperatures::fixed(self.config.taus()),
        };
        let loss = match self.config.objective {
            Objective::Nce => self.config.nce.loss_at(views, &tau),
            Objective::Mc | Objective::Mse => self.config.mc.loss_at(views, &tau),
        };
        self.queue.push(now, self.batches.at(step));
        loss
    }

    fn views(&self, batch: Batch, step: u64) -> Views {
        let rows = self.batches.size();
        let all = self.embed(batch.positions, step);
        let after = if batch.with_second { 2 * rows } else { rows };
        Views {
            location: all.clone().narrow(0, 0, rows),
            second: batch.with_second.then(|| all.clone().narrow(0, rows, rows)),
            random: (batch.draws > 0).then(|| all.narrow(0, after, batch.draws)),
            image: self.pair.projection.forward(batch.images),
            queue: self.queue.embeddings().map(Tensor::from_inner),
            exempt: self.exempt(batch.rows),
        }
    }

    /// Pairs of one granted class, and the batch's rows where the queue has them.
    fn exempt(&self, rows: Tensor<1, Int>) -> Exempt {
        let of = |rows: Tensor<1, Int>| self.classes.clone().map(|classes| classes.select(0, rows));
        let equal = |left: Tensor<1, Int>, right: Tensor<1, Int>| {
            let shape = [left.dims()[0], right.dims()[0]];
            let left: Tensor<2, Int> = left.unsqueeze_dim(1);
            left.expand(shape).equal(right.unsqueeze_dim::<2>(0).expand(shape))
        };
        let same_class = |left: Tensor<1, Int>, right: Tensor<1, Int>| {
            let (left, right) = (of(left)?, of(right)?);
            let shape = [left.dims()[0], right.dims()[0]];
            let known: Tensor<2, Int> = left.clone().unsqueeze_dim(1);
            Some(equal(left, right) & known.greater_equal_elem(0).expand(shape))
        };
        let batch = self.batches.size();
        let others = || Tensor::diag_mask([batch, batch], 0, &self.device);
        Exempt {
            batch: same_class(rows.clone(), rows.clone()).map(|same| same & others()),
            queue: self.queue.rows(&self.device).map(|queued| {
                let seen = equal(rows.clone(), queued.clone());
                match same_class(rows, queued) {
                    Some(same) => seen | same,
                    None => seen,
                }
            }),
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
        let (loss, gradients) = self.gradients(step)?;
        let lr = self.update(step, gradients);
        Ok(Done { loss, lr, samples: self.batches.size() })
    }
    fn optimizer(&mut self) -> &mut AdamW {
        &mut self.optimizer
    }
    fn save(&mut self, into: &mut Weights) {
        *into = self.result();
        self.optimizer.save("adam", into);
        self.queue.save(into);
    }
    fn load(&mut self, from: &Weights, step: u64) -> Result<(), String> {
        let device = self.device.clone().inner();
        self.pair = from.apply("pair", self.pair.clone())?;
        self.optimizer.load("adam", from, step, &device);
        self.queue.load(from, step, &mut self.batches, self.location.embedding, &device)
    }
    fn halve(&mut self) -> bool {
        let divided = 2 * self.config.parts <= self.batches.size() && self.config.objective != Objective::Mse;
        if divided {
            self.config.parts *= 2;
            self.divide();
        }
        divided
    }
    fn result(&mut self) -> Weights {
        Weights::of("pair", &self.pair)
    }
}

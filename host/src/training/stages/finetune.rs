//! Stage `finetune`: the class matrix on the location encoder, and the encoder under it, learn from
//! the labelled rows which class is where.

use std::{collections::BTreeMap, ops::Range};

use burn::{
    module::{Module, Param},
    nn::LinearConfig,
    tensor::{Device, Int, Tensor, TensorData},
};
use csp_models::{
    labels::{ClassId, Labels},
    nn::{LocationClassifier, LocationClassifierConfig},
    situation::Situation,
};
use rand::RngExt;

use super::{dropout::Dropout, indices, parts::Parts, steps_for, warmup};
use crate::{
    data::units,
    features::{location_presence, places_at_once, position_features},
    training::{
        TrainError,
        config::{FinetuneConfig, LocationConfig},
        init,
        losses::presence::{Observed, PresenceKind, UserViews},
        optim::{AdamW, AdamWConfig, cosine},
        pseudo_labels::Guess,
        rng,
        runner::{Done, Stage},
        sampler::{Batches, moved, random_places},
        weights::Weights,
    },
};

/// Steps between two readings of the rows kept aside.
const LOOK_EVERY: u64 = 20;
/// Rows kept aside that a reading looks at, at most.
const WATCHED: usize = 2048;
/// Places whose embeddings tell how long one usually is.
const USUAL: usize = 20_000;
/// How far apart the first scores of the classes are when they begin as prototypes.
const PROTOTYPE_TEMPERATURE: f64 = 0.2;

/// What is trained.
#[derive(Module, Debug)]
struct Trained {
    location: LocationClassifier,
    /// A vector for each photographer, `[users, embedding]`; only needed here.
    users: Option<Param<Tensor<2>>>,
}

/// State of the stage.
pub(crate) struct Finetune {
    name: &'static str,
    trained: Trained,
    optimizer: AdamW,
    batches: Batches,
    steps: u64,
    config: FinetuneConfig,
    location: LocationConfig,
    seed: u64,
    pretrained: bool,
    places: Vec<Situation>,
    /// What each row is of, or may be.
    seen: Vec<Seen>,
    /// How many classes there are.
    count: usize,
    /// `[classes]`, how much a row of each counts; only where they are balanced.
    weights: Option<Tensor<1>>,
    /// `[rows]`, -1 where it is not known; only with photographers' vectors.
    users: Option<Tensor<1, Int>>,
    /// Rows that are only watched.
    aside: Vec<(Situation, ClassId)>,
    parts: Parts,
    device: Device,
}

/// What a step looks at, row by row.
struct Draw {
    rows: Vec<u32>,
    /// What each is taken to be of.
    classes: Vec<ClassId>,
    /// Where the rows are taken to be; where they are, with `None`.
    blurred: Option<Vec<Situation>>,
    /// Random places, where there is a term for them.
    random: Option<Vec<Situation>>,
    /// Random classes that are not the ones seen, where there is a term for them.
    others: Option<Vec<i32>>,
}

/// What the stage starts from.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Start<'a> {
    /// The result of stage `pretrain`; a random encoder without it.
    pub pretrained: Option<&'a Weights>,
    /// Class vectors `[classes, embedding]` in the direction of each class's pictures; a random
    /// class matrix without them.
    pub prototypes: Option<&'a [Vec<f32>]>,
    /// A trained network, under `location`, with or without a class matrix; for a start without
    /// pre-training.
    pub trained: Option<&'a Weights>,
}

/// Rows to learn from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sightings {
    /// What was seen where.
    pub rows: Vec<(Situation, ClassId)>,
    /// By whom, row by row, a number from 0; empty where nobody asks.
    pub users: Vec<Option<u32>>,
    /// Places whose pictures nobody labelled, with what they may show.
    pub guesses: Vec<(Situation, Guess)>,
}

/// What a row is of.
#[derive(Clone, Debug)]
enum Seen {
    Known(ClassId),
    Guessed(Guess),
}

impl Seen {
    /// What the row is taken to be of this time.
    fn draw(&self, rng: &mut impl RngExt) -> ClassId {
        match self {
            Self::Known(class) => *class,
            Self::Guessed(guess) => guess.draw(rng),
        }
    }
}

impl Finetune {
    /// Learns from `sightings` under the name of `name`, and watches `aside`.
    ///
    /// # Errors
    /// `start` is of another network.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        name: &'static str,
        sightings: &Sightings,
        aside: &[(Situation, ClassId)],
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
        network.encoder = network.encoder.respread();
        if let Some(weights) = start.pretrained {
            network.encoder = weights.apply("pair.encoder", network.encoder)?;
        } else if let Some(trained) = start.trained {
            network.encoder = trained.apply("location.encoder", network.encoder)?;
            if trained.0.keys().any(|name| name.starts_with("location.classes.")) {
                network.classes = trained.apply("location.classes", network.classes)?;
            }
        }
        let known = sightings.rows.iter().map(|&(place, class)| (place, Seen::Known(class)));
        let guessed = sightings.guesses.iter().map(|(place, guess)| (*place, Seen::Guessed(guess.clone())));
        let (places, seen): (Vec<Situation>, Vec<Seen>) = known.chain(guessed).unzip();
        if let Some(prototypes) = start.prototypes {
            // an embedding of usual length in a class's direction scores 1/PROTOTYPE_TEMPERATURE
            let some = units::sample(&places, USUAL, seed, "finetune/usual");
            let positions = position_features(&location.encoder, &some, &device);
            let lengths = network.encoder.forward(positions).square().sum_dim(1).sqrt();
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
        let nobody = std::iter::repeat_n(None, sightings.guesses.len());
        let by = sightings.users.iter().copied().chain(nobody);
        let ids = || by.clone().map(|user| user.map_or(-1, |user| user as i32));
        let users = config.loss.users.then(|| indices(ids(), &device));
        let count = ids().max().map_or(1, |last| last.max(0) as usize + 1);
        let vectors = || {
            // as the class matrix begins
            let shape = LinearConfig::new(location.embedding, count).with_bias(false).init(&device);
            let matrix = init::randomise(shape, seed, "finetune/users").weight.val().inner();
            Param::from_tensor(Tensor::from_inner(matrix.transpose()))
        };
        let trained = Trained { location: network, users: users.as_ref().map(|_| vectors()) };
        let watched = WATCHED.min(places_at_once(classes));
        let aside = units::sample(aside, watched, seed, "finetune/watched");
        let batches = Batches::new(seed, "finetune/batch", places.len(), config.batch);
        let steps = steps_for(config.epochs, batches.steps_per_epoch(), config.min_steps, config.max_steps);
        Ok(Self {
            name,
            trained,
            optimizer: AdamW::new(AdamWConfig {
                weight_decay: config.weight_decay,
                ..AdamWConfig::default()
            }),
            batches,
            steps,
            config: config.clone(),
            location: location.clone(),
            seed,
            pretrained: start.pretrained.is_some() || start.trained.is_some(),
            weights: config.balance.then(|| balance(&seen, classes, &device)),
            places,
            seen,
            count: classes,
            users,
            aside,
            parts: Parts::WHOLE,
            device,
        })
    }

    /// What step `step` looks at.
    fn draw(&mut self, step: u64) -> Draw {
        let rows = self.batches.at(step).to_vec();
        let (config, seed, batch) = (&self.config, self.seed, rows.len());
        let mut rng = rng::stream(seed, "finetune/guesses", step);
        let classes: Vec<ClassId> = rows.iter().map(|&row| self.seen[row as usize].draw(&mut rng)).collect();
        let blurred = (config.blur_km > 0.0).then(|| {
            let mut rng = rng::stream(seed, "finetune/blur", step);
            let mut blur =
                |seen: Situation| Situation { at: moved(seen.at, config.blur_km, &mut rng), ..seen };
            rows.iter().map(|&row| blur(self.places[row as usize])).collect()
        });
        let elsewhere = matches!(config.loss.kind, PresenceKind::Full | PresenceKind::Ssdl)
            && config.loss.background_weight != 0.0;
        let random = elsewhere.then(|| {
            let stream = (seed, "finetune/random", step);
            random_places(config.negatives, self.location.encoder.season(), stream, batch)
        });
        let others = (config.loss.kind == PresenceKind::Slds).then(|| {
            let count = self.count as u32;
            let mut rng = rng::stream(seed, "finetune/others", step);
            let mut other = |class: ClassId| {
                let shift = if count > 1 { rng.random_range(1..count) } else { 0 };
                ((u32::from(class.0) + shift) % count) as i32
            };
            classes.iter().map(|&class| other(class)).collect()
        });
        Draw { rows, classes, blurred, random, others }
    }

    /// The mean loss `[1]` over some rows of a step.
    fn loss(
        &self,
        draw: &Draw,
        part: Range<usize>,
        dropout: &mut dyn FnMut(Tensor<2>) -> Tensor<2>,
    ) -> Tensor<1> {
        let batch = part.len();
        let features = |places: &[Situation]| position_features(&self.location.encoder, places, &self.device);
        let rows = indices(draw.rows[part.clone()].iter().map(|&i| i as i32), &self.device);
        let mut positions = vec![match &draw.blurred {
            Some(places) => features(&places[part.clone()]),
            None => {
                let seen = draw.rows[part.clone()].iter().map(|&row| self.places[row as usize]);
                features(&seen.collect::<Vec<_>>())
            }
        }];
        positions.extend(draw.random.as_ref().map(|places| features(&places[part.clone()])));
        let network = &self.trained.location;
        let embedding = network.encoder.forward_dropping(Tensor::cat(positions, 0), dropout);
        let logits = network.classes.forward(embedding.clone());
        let background = draw.random.is_some().then(|| logits.clone().narrow(0, batch, batch));
        let classes = draw.classes[part.clone()].iter().map(|class| i32::from(class.0));
        let classes = indices(classes, &self.device);
        let weights = self.weights.clone().map(|weights| weights.select(0, classes.clone()));
        let others = draw.others.as_ref().map(|others| others[part].iter().copied());
        self.config.loss.loss(Observed {
            weights,
            logits: logits.narrow(0, 0, batch),
            background,
            classes,
            others: others.map(|others| indices(others, &self.device)),
            users: self.of_users(rows, embedding),
        })
    }

    /// The photographers of the rows `[B]` against the embeddings `[B, d]`, or `[2B, d]` with random
    /// places after.
    fn of_users(&self, rows: Tensor<1, Int>, embedding: Tensor<2>) -> Option<UserViews> {
        let (vectors, users) = (self.trained.users.as_ref()?, self.users.as_ref()?);
        let batch = rows.dims()[0];
        let users = users.clone().select(0, rows);
        let known: Tensor<1> = users.clone().greater_equal_elem(0).float();
        let vectors = vectors.val().select(0, users.clamp_min(0));
        let along = |from| (vectors.clone() * embedding.clone().narrow(0, from, batch)).sum_dim(1);
        Some(UserViews {
            here: along(0),
            elsewhere: (embedding.dims()[0] > batch).then(|| along(batch)),
            classes: self.trained.location.classes.forward(vectors.clone()),
            known: known.unsqueeze_dim(1),
        })
    }

    /// Mean −log of the prior, normalised over the classes, at the rows kept aside.
    fn aside_loss(&self) -> f64 {
        let places: Vec<Situation> = self.aside.iter().map(|(place, _)| *place).collect();
        let device = self.device.clone().inner();
        // of every class its own score, whether a place taught it or not
        let (network, labels) = (&self.trained.location, &Labels::default());
        let scores = location_presence(network, labels, &self.location.encoder, &places, &device);
        let loss = |(scores, (_, class)): (&Vec<f64>, &(Situation, ClassId))| {
            let presence: Vec<f64> = scores.iter().map(|score| score.max(1e-9)).collect();
            (presence.iter().sum::<f64>() / presence[class.index()]).ln()
        };
        scores.iter().zip(&self.aside).map(loss).sum::<f64>() / self.aside.len() as f64
    }
}

/// What a row of each class counts so that all classes that were seen count alike and a row counts 1
/// in the mean, `[classes]`.
fn balance(seen: &[Seen], classes: usize, device: &Device) -> Tensor<1> {
    let mut counts = vec![0f64; classes];
    for row in seen {
        match row {
            Seen::Known(class) => counts[class.index()] += 1.0,
            Seen::Guessed(guess) => guess.each().for_each(|(class, share)| counts[class.index()] += share),
        }
    }
    let present = counts.iter().filter(|&&count| count > 0.0).count().max(1);
    let fair = seen.len() as f64 / present as f64;
    // a class that is guessed once in a while, and never known, is not worth the more for it
    let weights: Vec<f32> =
        counts.iter().map(|&count| if count > 0.0 { (fair / count.max(1.0)) as f32 } else { 0.0 }).collect();
    Tensor::from_data(TensorData::new(weights, [classes]), device)
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
        let draw = self.draw(step);
        let mut dropout = Dropout::new(self.location.dropout, self.seed, "finetune/dropout", step);
        let batch = draw.rows.len();
        let (loss, gradients) = self
            .parts
            .gradients(&self.trained, batch, |part| Ok(self.loss(&draw, part, &mut |x| dropout.apply(x))))?;
        let lr = cosine(self.config.lr, step, self.steps, warmup(self.steps));
        let encoder = if self.pretrained { self.config.encoder_lr } else { 1.0 };
        let scale = |path: &str| if path.starts_with("location.encoder") { encoder } else { 1.0 };
        self.trained = self.optimizer.step(self.trained.clone(), gradients, lr, scale);
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
    fn halve(&mut self) -> bool {
        self.parts.halve(self.batches.size())
    }
    fn save(&mut self, into: &mut Weights) {
        *into = Weights::of("trained", &self.trained);
        self.optimizer.save("adam", into);
    }
    fn load(&mut self, from: &Weights, step: u64) -> Result<(), String> {
        self.trained = from.apply("trained", self.trained.clone())?;
        self.optimizer.load("adam", from, step, &self.device.clone().inner());
        Ok(())
    }
    fn result(&mut self) -> Weights {
        Weights::of("location", &self.trained.location)
    }
}

//! The location branch: pre-training, fine-tuning, and what it is worth at places it has not seen.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use burn::tensor::Device;
use csp_models::{labels::ClassId, nn::LocationClassifierConfig, place::LatLon, situation::Situation};

use super::{
    TrainConfig, TrainError,
    calibrate::{Opinion, opinions_at_most},
    config::Objective,
    image::{BLOCK, Outputs, Pictures},
    pipeline::Job,
    pseudo_labels::{Guessed, beyond},
    roles::{Role, TrainingSet},
    row_features::RowFeatures,
    runner::{self, Context},
    stages::{Finetune, Pretrain, Sightings, Start, project},
    standard::Standard,
    weights::Weights,
};
use crate::{
    data::{Dataset, units},
    features::{location_presence, places_at_once},
};

/// The trained location branch.
pub(super) struct Location {
    pub(super) weights: Weights,
    /// What it says about places whose cell it has not learned from.
    pub(super) unseen: Vec<Opinion>,
}

/// Stages of the folds.
const FOLDS: [&str; 5] = ["fold-1", "fold-2", "fold-3", "fold-4", "fold-5"];

/// The result of pre-training.
struct Pretrained {
    weights: Weights,
    /// The labelled pictures in the embedding, with their places and classes.
    labelled: Vec<(Option<LatLon>, ClassId, Vec<f32>)>,
}

impl Job<'_> {
    /// The location branch, `None` where the labelled rows have no places.
    pub(super) fn location(
        &self,
        context: &mut Context<'_>,
        pictures: &Pictures,
        outputs: Option<&Outputs>,
        joint: Option<Weights>,
        guesses: Vec<Guessed>,
    ) -> Result<Option<Location>, TrainError> {
        let placed = |role: Role| -> Vec<(Situation, ClassId)> {
            let samples = self.set.samples.iter().filter(|sample| sample.role == role);
            samples.filter_map(|sample| Some((sample.situation()?, sample.class?))).collect()
        };
        let (rows, holdout) = (placed(Role::Labelled), placed(Role::Holdout));
        let rows = Sightings { rows, users: users(self.set, self.config, self.dataset)?, guesses };
        if rows.rows.is_empty() {
            context.voice.say("no labelled row has a place: the model will know pictures only");
            return Ok(None);
        }
        let pretrained = match outputs {
            Some(outputs) => self.pretrain(context, pictures, outputs, joint)?,
            None => None,
        };
        let unseen = self.unseen(context, &rows, pretrained.as_ref())?;
        let prototypes = self.prototypes(pretrained.as_ref(), &[]);
        let start = self.start(pretrained.as_ref(), prototypes.as_deref());
        let weights = self.finetune(context, "finetune", &rows, &holdout, start)?;
        Ok(Some(Location { weights, unseen }))
    }

    /// The mean direction of each class's labelled pictures in the embedding, without those taken at
    /// the places `aside`.
    fn prototypes(
        &self,
        pretrained: Option<&Pretrained>,
        aside: &[(Situation, ClassId)],
    ) -> Option<Vec<Vec<f32>>> {
        let labelled = &pretrained.filter(|_| self.config.finetune.prototypes)?.labelled;
        let bits = |at: LatLon| at.lon_lat().map(f64::to_bits);
        let aside: HashSet<[u64; 2]> = aside.iter().map(|(seen, _)| bits(seen.at)).collect();
        let learned =
            labelled.iter().filter(|(place, ..)| !place.is_some_and(|at| aside.contains(&bits(at))));
        let rows: Vec<(ClassId, &[f32])> = learned.map(|(_, class, row)| (*class, &row[..])).collect();
        Some(prototypes(&rows, self.set.labels.len()))
    }

    fn finetune(
        &self,
        context: &mut Context<'_>,
        name: &'static str,
        rows: &Sightings,
        aside: &[(Situation, ClassId)],
        start: Start<'_>,
    ) -> Result<Weights, TrainError> {
        let device = context.device.clone();
        let mut stage = Finetune::new(
            name,
            rows,
            aside,
            self.set.labels.len(),
            start,
            &self.config.location,
            &self.config.finetune,
            self.seed,
            &device,
        )
        .map_err(|reason| TrainError::corrupt(context.run.finished("pretrain"), reason))?;
        runner::run(context, &mut stage)
    }

    /// What the prior says at each labelled row when no label of the row's cell has taught it.
    /// Pre-training has seen the cell's pictures, unlabelled; the hold-out's it has not.
    fn unseen(
        &self,
        context: &mut Context<'_>,
        sightings: &Sightings,
        pretrained: Option<&Pretrained>,
    ) -> Result<Vec<Opinion>, TrainError> {
        let folds = self.config.finetune.folds;
        let rows = &sightings.rows;
        let places: Vec<LatLon> = rows.iter().map(|(seen, _)| seen.at).collect();
        let parts = units::folds(&places, folds, self.seed, self.config.holdout.block_deg);
        let mut opinions = Vec::new();
        for (name, part) in FOLDS.into_iter().zip(&parts) {
            let (aside, learned): (Vec<_>, Vec<_>) =
                rows.iter().enumerate().partition(|(i, _)| part.contains(i));
            let bare = |rows: Vec<(usize, &(Situation, ClassId))>| -> Vec<(Situation, ClassId)> {
                rows.into_iter().map(|(_, row)| *row).collect()
            };
            let (aside, learned) = (bare(aside), bare(learned));
            let users = sightings.users.iter().enumerate().filter(|(i, _)| !part.contains(i));
            let unseen = aside.iter().map(|(seen, _)| seen.at);
            let learned = Sightings {
                rows: learned,
                users: users.map(|(_, user)| *user).collect(),
                guesses: beyond(&sightings.guesses, unseen, self.config.holdout.block_deg),
            };
            let prototypes = self.prototypes(pretrained, &aside);
            let start = self.start(pretrained, prototypes.as_deref());
            let weights = self.finetune(context, name, &learned, &aside, start)?;
            let most = opinions_at_most(self.set.labels.len()) / parts.len();
            let asked = units::sample(&aside, most, self.seed, "opinions");
            opinions.extend(self.opinions(&weights, &asked, &context.device)?);
        }
        Ok(opinions)
    }

    /// What a location network says at rows whose classes are known.
    pub(super) fn opinions(
        &self,
        weights: &Weights,
        rows: &[(Situation, ClassId)],
        device: &Device,
    ) -> Result<Vec<Opinion>, TrainError> {
        let mut opinions = Vec::with_capacity(rows.len());
        for rows in rows.chunks(places_at_once(self.set.labels.len())) {
            let places: Vec<Situation> = rows.iter().map(|(place, _)| *place).collect();
            let presence = self.presence(weights, &places, device)?;
            opinions.extend(presence.iter().zip(rows).map(|(presence, row)| Opinion::of(presence, row.1)));
        }
        Ok(opinions)
    }

    /// Presence scores `[places, classes]` of a location network.
    pub(super) fn presence(
        &self,
        weights: &Weights,
        places: &[Situation],
        device: &Device,
    ) -> Result<Vec<Vec<f64>>, TrainError> {
        let shape = LocationClassifierConfig::new(self.config.location.network(), self.set.labels.len());
        let network = weights
            .apply("location", shape.init(device))
            .map_err(|reason| TrainError::corrupt("location", reason))?;
        Ok(location_presence(&network, &self.set.labels, &self.config.location.encoder, places, device))
    }

    /// Pre-training from the trained encoder it is to begin with, if there is one.
    pub(super) fn begun(&self, stage: Pretrain) -> Result<Pretrain, TrainError> {
        let begin = self.begin.as_ref().map(|begin| &begin.weights);
        stage.beginning_with(begin).map_err(|reason| TrainError::corrupt("location.weights", reason))
    }

    /// Where fine-tuning begins.
    fn start<'a>(
        &'a self,
        pretrained: Option<&'a Pretrained>,
        prototypes: Option<&'a [Vec<f32>]>,
    ) -> Start<'a> {
        Start {
            pretrained: pretrained.map(|pretrained| &pretrained.weights),
            prototypes,
            trained: self.begin.as_ref().map(|begin| &begin.weights),
        }
    }

    /// Place, class and picture of the rows that pre-training may see. The hold-out's labels calibrate
    /// and teach nothing: only granted ones are told.
    pub(super) fn pairs(
        &self,
        pictures: &Pictures,
    ) -> impl Iterator<Item = (Situation, Option<ClassId>, usize)> {
        let shield = self.config.holdout.shield;
        let seen = move |role: Role| match role {
            Role::Labelled | Role::Unlabelled => true,
            Role::Holdout => !shield,
            Role::Shielded => false,
        };
        let samples = self.set.samples.iter().zip(&pictures.of_sample);
        samples.filter_map(move |(sample, picture)| {
            let class = sample.class.filter(|_| sample.role == Role::Labelled);
            Some((sample.situation()?, class, (*picture)?)).filter(|_| seen(sample.role))
        })
    }

    /// The pre-trained pair, and the mean direction of each class's pictures in its embedding.
    fn pretrain(
        &self,
        context: &mut Context<'_>,
        pictures: &Pictures,
        outputs: &Outputs,
        joint: Option<Weights>,
    ) -> Result<Option<Pretrained>, TrainError> {
        if !self.config.pretrain.enabled && joint.is_none() {
            return Ok(None);
        }
        let device = context.device.clone();
        let mse = joint.is_none() && self.config.pretrain.objective == Objective::Mse;
        let (weights, standard) = match joint {
            // the projection learned on the features as they are
            Some(weights) => (weights, Standard::nothing(outputs.features.width())),
            None => {
                let pairs: Vec<_> = self.pairs(pictures).collect();
                let places: Vec<Situation> = pairs.iter().map(|(place, ..)| *place).collect();
                let classes: Vec<_> = pairs.iter().map(|(_, class, _)| *class).collect();
                let of: Vec<usize> = pairs.iter().map(|(.., picture)| *picture).collect();
                if places.len() < 2 {
                    context.voice.say("fewer than two rows have both picture and place: no pre-training");
                    return Ok(None);
                }
                // W has a bias and so can represent the same without; it learns faster with them standardised
                let standard = Standard::of(&outputs.features, &of)?;
                let stage = Pretrain::new(
                    &places,
                    RowFeatures::of(&outputs.features, of, standard.clone(), &device)?,
                    &classes,
                    &self.config.location,
                    &self.config.pretrain,
                    self.seed,
                    &device,
                );
                let stage = self.begun(stage)?;
                let devices: Vec<Device> = std::iter::once(&device).chain(&context.more).cloned().collect();
                (runner::run(context, &mut stage.spread_over(&devices))?, standard)
            }
        };
        if mse {
            return Ok(Some(Pretrained { weights, labelled: Vec::new() }));
        }
        let samples = self.set.samples.iter().zip(&pictures.of_sample);
        let labelled = samples.filter(|(sample, _)| sample.role == Role::Labelled);
        let rows: Vec<_> = labelled
            .filter_map(|(sample, picture)| Some((sample.place, sample.class?, (*picture)?)))
            .collect();
        let of: Vec<usize> = rows.iter().map(|(.., picture)| *picture).collect();
        let mut projected = Vec::with_capacity(of.len());
        for of in of.chunks(BLOCK) {
            let features = standard.apply(&outputs.features, of, &device)?;
            let rows = project(&weights, features, &self.config.location)
                .map_err(|reason| TrainError::corrupt(context.run.finished("pretrain"), reason))?;
            projected.extend(rows);
        }
        let labelled = rows.into_iter().zip(projected).map(|((place, class, _), row)| (place, class, row));
        Ok(Some(Pretrained { weights, labelled: labelled.collect() }))
    }
}

/// Who took each labelled row that has a place, numbered by name; empty unless it is asked for.
///
/// # Errors
/// It is asked for and no such row says.
pub(super) fn users(
    set: &TrainingSet,
    config: &TrainConfig,
    dataset: &Dataset,
) -> Result<Vec<Option<u32>>, TrainError> {
    if !config.finetune.loss.users {
        return Ok(Vec::new());
    }
    let labelled = set.samples.iter().filter(|sample| sample.role == Role::Labelled);
    let names: Vec<Option<&str>> = labelled
        .filter(|sample| sample.place.is_some())
        .map(|sample| dataset.rows[sample.row].user.as_deref())
        .collect();
    let all: BTreeSet<&str> = names.iter().copied().flatten().collect();
    if all.is_empty() {
        return Err(TrainError::Config {
            field: "finetune.loss.users".into(),
            problem: "no labelled row says who took it: give the data a `user` column, or set this to false"
                .into(),
        });
    }
    let numbers: BTreeMap<&str, u32> = all.into_iter().zip(0..).collect();
    Ok(names.into_iter().map(|name| numbers.get(name?).copied()).collect())
}

/// The mean direction of each class, from which the mean over the classes is taken away: what sets
/// the class apart. Length 1; zero for a class without pictures.
fn prototypes(rows: &[(ClassId, &[f32])], classes: usize) -> Vec<Vec<f32>> {
    let width = rows.first().map_or(0, |(_, row)| row.len());
    let mut sums = vec![(vec![0f64; width], 0usize); classes];
    for (class, row) in rows {
        let (sum, count) = &mut sums[class.index()];
        sum.iter_mut().zip(*row).for_each(|(sum, &v)| *sum += f64::from(v));
        *count += 1;
    }
    let seen = sums.iter().filter(|(_, count)| *count > 0).count().max(1) as f64;
    let means: Vec<Vec<f64>> = (sums.into_iter())
        .map(|(sum, count)| sum.into_iter().map(|v| v / count.max(1) as f64).collect())
        .collect();
    let middle: Vec<f64> = (0..width).map(|i| means.iter().map(|mean| mean[i]).sum::<f64>() / seen).collect();
    let unit = |mean: &Vec<f64>| {
        if mean.iter().all(|&v| v == 0.0) {
            return vec![0.0; width];
        }
        let apart: Vec<f64> = mean.iter().zip(&middle).map(|(v, m)| v - m).collect();
        let length = apart.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-12);
        apart.into_iter().map(|v| (v / length) as f32).collect()
    };
    means.iter().map(unit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prototypes_point_at_what_sets_a_class_apart() {
        let rows: [(ClassId, &[f32]); 3] =
            [(ClassId(0), &[1.0, 1.0, 0.0]), (ClassId(1), &[1.0, -1.0, 0.0]), (ClassId(0), &[1.0, 1.0, 0.0])];
        let prototypes = prototypes(&rows, 3);
        // what all share is gone with the mean of the classes; a class without pictures says nothing
        assert!(prototypes[0][1] > 0.8 && prototypes[1][1] < -0.8, "{prototypes:?}");
        assert_eq!(prototypes[2], [0.0; 3]);
        let length: f32 = prototypes[0].iter().map(|v| v * v).sum();
        assert!((length - 1.0).abs() < 1e-5);
    }
}

//! The image head conditioned on the place, where it is asked for, and what it is worth.

use csp_models::{
    labels::ClassId,
    nn::{LocationClassifierConfig, ModulatedHeadConfig},
    situation::Situation,
};

use super::{
    TrainError,
    image::{Outputs, Pictures},
    location::Location,
    pipeline::Job,
    roles::Role,
    runner::{self, Context},
    stages::{Modulate, place_rows},
    weights::{Array, Weights},
};

/// The trained head.
pub(super) struct Modulation {
    pub(super) weights: Weights,
    /// Accuracy on the hold-out; `None` without any.
    pub(super) holdout_top1: Option<f64>,
}

impl Job<'_> {
    /// Trains the modulated head on top of everything else; `None` when it is off or the model has no
    /// location branch.
    pub(super) fn modulation(
        &self,
        context: &mut Context<'_>,
        pictures: &Pictures,
        outputs: &Outputs,
        image: &Weights,
        location: Option<&Location>,
    ) -> Result<Option<Modulation>, TrainError> {
        let config = &self.config.image.modulation;
        let Some(location) = location.filter(|_| config.enabled) else { return Ok(None) };
        let device = context.device.clone();
        let corrupt = |reason| TrainError::corrupt(context.run.finished("modulate"), reason);
        let classes = self.set.labels.len();
        let shape = LocationClassifierConfig::new(self.config.location.network(), classes);
        let encoder = location.weights.apply("location", shape.init(&device)).map_err(corrupt)?.encoder;
        let rows = |role: Role| -> (Vec<usize>, Vec<Option<Situation>>, Vec<ClassId>) {
            let samples = self.set.samples.iter().zip(&pictures.of_sample);
            let of_role = samples.filter(|(sample, _)| sample.role == role);
            let whole = of_role.map(|(sample, at)| (*at, sample.situation(), sample.class));
            let mut rows = (Vec::new(), Vec::new(), Vec::new());
            for (picture, place, class) in whole {
                if let (Some(picture), Some(class)) = (picture, class) {
                    rows.0.push(picture);
                    rows.1.push(place);
                    rows.2.push(class);
                }
            }
            rows
        };
        let embed = |places: &[Option<Situation>]| {
            place_rows(&encoder, &self.config.location.encoder, places, &device)
        };
        let features = self.config.backbone.network().features();
        let shape = ModulatedHeadConfig::new(self.config.location.embedding, features, classes);
        let mut network = shape.init(&device.clone().autodiff());
        network.head =
            image.apply("image", self.image_network(&device.clone().autodiff())).map_err(corrupt)?.head;
        let (of, places, labels) = rows(Role::Labelled);
        let mut stage = Modulate::new(
            network,
            outputs.rows(of, &device)?,
            embed(&places),
            labels.iter().map(|class| i32::from(class.0)),
            config,
            self.seed,
            &device,
        );
        let weights = runner::run(context, &mut stage)?;
        let (of, places, labels) = rows(Role::Holdout);
        let mut holdout_top1 = None;
        if !of.is_empty() {
            let corrupt = |reason| TrainError::corrupt(context.run.finished("modulate"), reason);
            let network = weights.apply("modulated", shape.init(&device)).map_err(corrupt)?;
            let logits = Array::of(network.forward(outputs.matrix(&of, &device)?, embed(&places)));
            let best = |row: &[f32]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]));
            let right = logits.values.chunks_exact(classes).zip(&labels);
            let right = right.filter(|(row, class)| best(row) == Some(class.index())).count();
            holdout_top1 = Some(right as f64 / labels.len() as f64);
        }
        Ok(Some(Modulation { weights, holdout_top1 }))
    }
}

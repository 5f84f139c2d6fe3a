//! Section `[pretrain]`.

use serde::{Deserialize, Serialize};

use super::{Check, blur, not_negative, positive, share};
use crate::training::{
    losses::{mc::McConfig, nce::NceConfig, temperature::MAX_SCALE},
    sampler::Negatives,
};

/// Section `[pretrain]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PretrainConfig {
    /// Without it the location network starts at random: the supervised baseline.
    pub enabled: bool,
    /// Which loss.
    pub objective: Objective,
    /// Settings of `objective = "mc"`.
    pub mc: McConfig,
    /// Settings of `objective = "nce"`.
    pub nce: NceConfig,
    /// The temperatures are where learning them begins (as log 1/τ, as CLIP does; τ stays at 0.01 or
    /// above) instead of fixed.
    pub learned_temperatures: bool,
    /// So many location embeddings of earlier steps stand against each image as well, as they were embedded
    /// then and without a gradient; 0 for none.
    /// With `mc` in its image → location direction, which `mc.symmetric` adds.
    pub queue: usize,
    /// Rows known to be of one class are not held against each other: granted labels only.
    pub mask_same_class: bool,
    /// Random places.
    pub negatives: Negatives,
    /// Random places a row.
    pub negatives_per_row: usize,
    /// Each step moves each place at random by about so many kilometres, as in `finetune.blur_km`.
    pub blur_km: f64,
    /// Passes over the rows, within the two limits below.
    pub epochs: f64,
    /// Steps at least.
    pub min_steps: u64,
    /// Steps at most.
    pub max_steps: u64,
    /// Rows in a step.
    pub batch: usize,
    /// The networks see a step's rows in this many parts, one after another, and each twice: less
    /// memory for the same loss over the whole batch.
    pub parts: usize,
    /// Peak learning rate; warm-up over 5 % of the steps, then a cosine to zero.
    pub lr: f64,
    /// Weight decay of matrices.
    pub weight_decay: f64,
}

/// The contrastive objectives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// Softmax over the batch.
    #[default]
    Mc,
    /// Every pair on its own.
    Nce,
    /// The location embedding predicts the image feature (mean squared error); no negatives.
    Mse,
}

impl Default for PretrainConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            objective: Objective::Mc,
            mc: McConfig::default(),
            nce: NceConfig::default(),
            learned_temperatures: false,
            queue: 0,
            mask_same_class: false,
            negatives: Negatives::Sphere,
            negatives_per_row: 1,
            blur_km: 0.0,
            epochs: 40.0,
            min_steps: 200,
            max_steps: 20_000,
            batch: 1024,
            parts: 1,
            lr: 1e-3,
            weight_decay: 0.0,
        }
    }
}

impl PretrainConfig {
    /// Weights of the in-batch, random-location and dropout terms; none with the regression.
    pub(crate) fn weights(&self) -> [f64; 3] {
        let (mc, nce) = (&self.mc, &self.nce);
        match self.objective {
            Objective::Mc => [mc.weight_batch, mc.weight_random, mc.weight_dropout],
            Objective::Nce => [nce.weight_batch, nce.weight_random, nce.weight_dropout],
            Objective::Mse => [0.0; 3],
        }
    }

    /// First temperatures of the three terms.
    pub(crate) fn taus(&self) -> [f64; 3] {
        match self.objective {
            Objective::Mc => self.mc.taus(),
            Objective::Nce => self.nce.taus(),
            Objective::Mse => [1.0; 3],
        }
    }

    pub(super) fn checks(&self) -> Vec<Check> {
        let (mc, nce) = (&self.mc, &self.nce);
        let contrastive = self.objective != Objective::Mse;
        let back = self.objective == Objective::Nce || mc.symmetric;
        let sharp = self.taus().into_iter().all(|tau| tau * MAX_SCALE >= 1.0);
        let terms = self.weights().into_iter().any(|weight| weight != 0.0);
        vec![
            ("pretrain.mc.tau_batch", positive(mc.tau_batch), "above 0"),
            ("pretrain.mc.tau_random", positive(mc.tau_random), "above 0"),
            ("pretrain.mc.tau_dropout", positive(mc.tau_dropout), "above 0"),
            ("pretrain.mc.weight_batch", not_negative(mc.weight_batch), "0 or more"),
            ("pretrain.mc.weight_random", not_negative(mc.weight_random), "0 or more"),
            ("pretrain.mc.weight_dropout", not_negative(mc.weight_dropout), "0 or more"),
            (
                "pretrain.mc.symmetric",
                !mc.symmetric || mc.weight_batch != 0.0,
                "false without the in-batch term: raise pretrain.mc.weight_batch",
            ),
            (
                "pretrain.mc.average",
                !mc.average || mc.symmetric,
                "false with one direction only: set pretrain.mc.symmetric = true",
            ),
            ("pretrain.nce.tau_batch", positive(nce.tau_batch), "above 0"),
            ("pretrain.nce.tau_random", positive(nce.tau_random), "above 0"),
            ("pretrain.nce.tau_dropout", positive(nce.tau_dropout), "above 0"),
            ("pretrain.nce.weight_batch", not_negative(nce.weight_batch), "0 or more"),
            ("pretrain.nce.weight_random", not_negative(nce.weight_random), "0 or more"),
            ("pretrain.nce.weight_dropout", not_negative(nce.weight_dropout), "0 or more"),
            ("pretrain.nce.eps", share(nce.eps), "0 or more and below 1"),
            (
                "pretrain.objective",
                !contrastive || terms,
                "one with a term: every weight of it is 0, raise weight_batch, weight_random or weight_dropout",
            ),
            (
                "pretrain.learned_temperatures",
                !self.learned_temperatures || contrastive,
                "false: objective mse has no temperatures",
            ),
            (
                "pretrain.learned_temperatures",
                !self.learned_temperatures || sharp,
                "false with a temperature below 0.01, where learned ones end: raise tau_*",
            ),
            ("pretrain.queue", self.queue <= 1 << 20, "0 to 1048576"),
            ("pretrain.queue", self.queue == 0 || contrastive, "0: objective mse has no negatives"),
            (
                "pretrain.queue",
                self.queue == 0 || (back && self.weights()[0] != 0.0),
                "0 without the image → location direction: set pretrain.mc.symmetric = true",
            ),
            (
                "pretrain.mask_same_class",
                !self.mask_same_class || contrastive,
                "false: objective mse has no negatives",
            ),
            ("pretrain.blur_km", blur(self.blur_km), "0 to 1000"),
            ("pretrain.epochs", not_negative(self.epochs), "0 or more"),
            ("pretrain.max_steps", self.max_steps >= self.min_steps, "at least pretrain.min_steps"),
            ("pretrain.batch", (2..=65_536).contains(&self.batch), "2 to 65536"),
            ("pretrain.parts", (1..=self.batch).contains(&self.parts), "1 to pretrain.batch"),
            ("pretrain.parts", self.parts == 1 || contrastive, "1 with objective mse"),
            ("pretrain.negatives_per_row", (1..=64).contains(&self.negatives_per_row), "1 to 64"),
            ("pretrain.lr", positive(self.lr), "above 0"),
            ("pretrain.weight_decay", not_negative(self.weight_decay), "0 or more"),
        ]
    }
}

//! Section `[pretrain]`.

use serde::{Deserialize, Serialize};

use super::{Check, not_negative, positive};
use crate::training::{
    losses::{mc::McConfig, nce::NceConfig},
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
    /// Random places.
    pub negatives: Negatives,
    /// Random places a row.
    pub negatives_per_row: usize,
    /// Passes over the rows, within the two limits below.
    pub epochs: f64,
    /// Steps at least.
    pub min_steps: u64,
    /// Steps at most.
    pub max_steps: u64,
    /// Rows in a step.
    pub batch: usize,
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
}

impl Default for PretrainConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            objective: Objective::Mc,
            mc: McConfig::default(),
            nce: NceConfig::default(),
            negatives: Negatives::Sphere,
            negatives_per_row: 1,
            epochs: 40.0,
            min_steps: 200,
            max_steps: 20_000,
            batch: 1024,
            lr: 1e-3,
            weight_decay: 0.0,
        }
    }
}

impl PretrainConfig {
    pub(super) fn checks(&self) -> Vec<Check> {
        let mc = &self.mc;
        vec![
            ("pretrain.mc.tau_batch", positive(mc.tau_batch), "above 0"),
            ("pretrain.mc.tau_random", positive(mc.tau_random), "above 0"),
            ("pretrain.mc.tau_dropout", positive(mc.tau_dropout), "above 0"),
            ("pretrain.mc.weight_random", not_negative(mc.weight_random), "0 or more"),
            ("pretrain.mc.weight_dropout", not_negative(mc.weight_dropout), "0 or more"),
            ("pretrain.epochs", not_negative(self.epochs), "0 or more"),
            ("pretrain.max_steps", self.max_steps >= self.min_steps, "at least pretrain.min_steps"),
            ("pretrain.batch", (2..=65_536).contains(&self.batch), "2 to 65536"),
            ("pretrain.negatives_per_row", (1..=64).contains(&self.negatives_per_row), "1 to 64"),
            ("pretrain.lr", positive(self.lr), "above 0"),
            ("pretrain.weight_decay", not_negative(self.weight_decay), "0 or more"),
        ]
    }
}

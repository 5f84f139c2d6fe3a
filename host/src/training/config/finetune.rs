//! Section `[finetune]`.

use serde::{Deserialize, Serialize};

use super::{Check, blur, not_negative, positive, share};
use crate::training::{
    losses::presence::{PresenceConfig, PresenceKind},
    sampler::Negatives,
};

/// Section `[finetune]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FinetuneConfig {
    /// The presence-only loss.
    pub loss: PresenceConfig,
    /// Random places.
    pub negatives: Negatives,
    /// Each step moves each place that teaches at random by about so many kilometres, as the unseen places
    /// lie off the labelled ones: the network learns shares smoothed over that distance. 0: not at all.
    pub blur_km: f64,
    /// Rows count as if all classes were equally frequent. The prior then says how much likelier a
    /// class is here than elsewhere, which is what the picture's answer lacks: that one knows the
    /// frequencies already. Needs `full` or `cross-entropy`; not for classes of a handful of rows.
    pub balance: bool,
    /// Rows without a label teach what is at their place where the image network, trained on the labelled
    /// rows, gives one class at least this probability: a class drawn at each step by its calibrated
    /// probabilities. 1: they teach by picture and place only. 0.6 with `balance` is what EuroSAT's figures in
    /// the README are with. Of data without pictures it is nothing.
    pub pseudo_labels: f64,
    /// Passes over the rows that teach, within the two limits below.
    pub epochs: f64,
    /// Steps at least.
    pub min_steps: u64,
    /// Steps at most.
    pub max_steps: u64,
    /// Rows in a step.
    pub batch: usize,
    /// Peak learning rate; warm-up over 5 % of the steps, then a cosine to zero.
    pub lr: f64,
    /// The encoder's rate as a share of `lr` after pre-training, which it would else forget; a random
    /// encoder learns at `lr`.
    pub encoder_lr: f64,
    /// Weight decay of matrices.
    pub weight_decay: f64,
    /// Starts the class matrix, after pre-training, from the mean of each class's projected pictures. Left
    /// out it is false where `pretrain.objective` is `mse`, which does not project them.
    pub prototypes: bool,
    /// The labelled cells are split into this many parts; for each, a network that has not seen it
    /// tells what the prior is worth there, which the calibration relies on. 0: the hold-out alone.
    pub folds: usize,
}

impl Default for FinetuneConfig {
    fn default() -> Self {
        Self {
            loss: PresenceConfig::default(),
            negatives: Negatives::Sphere,
            blur_km: 0.0,
            balance: false,
            pseudo_labels: 1.0,
            epochs: 20.0,
            min_steps: 200,
            max_steps: 10_000,
            batch: 1024,
            lr: 1e-3,
            encoder_lr: 0.3,
            weight_decay: 0.0,
            prototypes: true,
            folds: 5,
        }
    }
}

impl FinetuneConfig {
    pub(super) fn checks(&self) -> Vec<Check> {
        let loss = &self.loss;
        let folds = self.folds == 0 || (2..=5).contains(&self.folds);
        let softmax = loss.kind == PresenceKind::CrossEntropy;
        // what the loss has no term for would be taken and do nothing
        let plain = PresenceConfig::default();
        vec![
            ("finetune.loss.positive_weight", not_negative(loss.positive_weight), "0 or more"),
            ("finetune.loss.background_weight", not_negative(loss.background_weight), "0 or more"),
            ("finetune.loss.eps", share(loss.eps), "0 or more and below 1"),
            (
                "finetune.loss.positive_weight",
                !softmax || loss.positive_weight == plain.positive_weight,
                "left out with finetune.loss.kind = \"cross-entropy\", which weighs no class against the others",
            ),
            (
                "finetune.loss.background_weight",
                !softmax || [plain.background_weight, 0.0].contains(&loss.background_weight),
                "left out with finetune.loss.kind = \"cross-entropy\", which has no random places",
            ),
            (
                "finetune.loss.eps",
                !softmax || loss.eps == plain.eps,
                "left out with finetune.loss.kind = \"cross-entropy\", which is exact without",
            ),
            (
                "finetune.loss.users",
                !loss.users || loss.kind == PresenceKind::Full,
                "false with another finetune.loss.kind than full",
            ),
            ("finetune.blur_km", blur(self.blur_km), "0 to 1000"),
            (
                "finetune.balance",
                !self.balance || matches!(loss.kind, PresenceKind::Full | PresenceKind::CrossEntropy),
                "false with another finetune.loss.kind than full or cross-entropy",
            ),
            ("finetune.pseudo_labels", (0.0..=1.0).contains(&self.pseudo_labels), "0 to 1"),
            ("finetune.epochs", not_negative(self.epochs), "0 or more"),
            ("finetune.max_steps", self.max_steps >= self.min_steps, "at least finetune.min_steps"),
            ("finetune.batch", (1..=65_536).contains(&self.batch), "1 to 65536"),
            ("finetune.lr", positive(self.lr), "above 0"),
            ("finetune.encoder_lr", not_negative(self.encoder_lr), "0 or more"),
            ("finetune.weight_decay", not_negative(self.weight_decay), "0 or more"),
            ("finetune.folds", folds, "0, or 2 to 5"),
        ]
    }
}

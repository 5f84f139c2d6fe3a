//! Section `[joint]`: contrastive pre-training with both encoders open.

use serde::{Deserialize, Serialize};

use super::{Check, not_negative, positive};

/// Section `[joint]`. The objective and the random places are those of `[pretrain]`, which this stage
/// replaces; a probe takes the place of the trained head, which no longer fits the backbone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JointConfig {
    /// The backbone learns too. Works on the CPU at small scale, meant for a GPU.
    pub enabled: bool,
    /// Passes over the rows, within the two limits below.
    pub epochs: f64,
    /// Steps at least.
    pub min_steps: u64,
    /// Steps at most.
    pub max_steps: u64,
    /// Rows that stand against each other in a step, whatever memory can hold.
    pub batch: usize,
    /// Pictures that are held with their graph at a time: memory goes with this, not with `batch`.
    pub micro_batch: usize,
    /// Peak learning rate of the location encoder and the projection; warm-up over 5 % of the steps,
    /// then a cosine to zero.
    pub lr: f64,
    /// Peak learning rate of the backbone.
    pub backbone_lr: f64,
    /// Weight decay of kernels and matrices.
    pub weight_decay: f64,
}

impl Default for JointConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            epochs: 10.0,
            min_steps: 1,
            max_steps: 100_000,
            batch: 1024,
            micro_batch: 64,
            lr: 1e-3,
            backbone_lr: 1e-4,
            weight_decay: 0.0,
        }
    }
}

impl JointConfig {
    pub(super) fn checks(&self) -> Vec<Check> {
        vec![
            ("joint.epochs", not_negative(self.epochs), "0 or more"),
            ("joint.max_steps", self.max_steps >= self.min_steps, "at least joint.min_steps"),
            ("joint.batch", (2..=65_536).contains(&self.batch), "2 to 65536"),
            ("joint.micro_batch", (1..=4096).contains(&self.micro_batch), "1 to 4096"),
            ("joint.lr", positive(self.lr), "above 0"),
            ("joint.backbone_lr", positive(self.backbone_lr), "above 0"),
            ("joint.weight_decay", not_negative(self.weight_decay), "0 or more"),
        ]
    }
}

//! Section `[image.modulation]`: the image head conditioned on the place.

use serde::{Deserialize, Serialize};

use super::{Check, not_negative, positive, share};

/// Section `[image.modulation]`: feature modulation (Perez et al. 2018; for places Chu et al. 2019)
/// beside post-hoc fusion. Evaluated with a run; not part of exported bundles.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModulationConfig {
    /// Trains it.
    pub enabled: bool,
    /// Steps.
    pub steps: u64,
    /// Rows in a step.
    pub batch: usize,
    /// Peak learning rate of AdamW; warm-up over 5 % of the steps, then a cosine to zero.
    pub lr: f64,
    /// Weight decay of matrices.
    pub weight_decay: f64,
    /// Share of the rows of a step whose place is hidden: what a picture without a place will need.
    pub hidden_places: f64,
}

impl Default for ModulationConfig {
    fn default() -> Self {
        Self { enabled: false, steps: 600, batch: 1024, lr: 3e-3, weight_decay: 0.05, hidden_places: 0.2 }
    }
}

impl ModulationConfig {
    pub(super) fn checks(&self) -> Vec<Check> {
        vec![
            ("image.modulation.steps", self.steps >= 1, "1 or more"),
            ("image.modulation.batch", (1..=65_536).contains(&self.batch), "1 to 65536"),
            ("image.modulation.lr", positive(self.lr), "above 0"),
            ("image.modulation.weight_decay", not_negative(self.weight_decay), "0 or more"),
            ("image.modulation.hidden_places", share(self.hidden_places), "0 or more and below 1"),
        ]
    }
}

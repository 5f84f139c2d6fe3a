//! Section `[image]`.

use serde::{Deserialize, Serialize};

use super::{Check, ModulationConfig, not_negative, positive};

/// Section `[image]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageHeadConfig {
    /// Where the last layer comes from.
    pub head: Head,
    /// Settings of `head = "probe"`.
    pub probe: ProbeConfig,
    /// A second head that the place has a say in.
    pub modulation: ModulationConfig,
}

/// The last layer of the image classifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Head {
    /// Trained together with the backbone; with `backbone.epochs = 0` a probe takes its place.
    #[default]
    Trained,
    /// Logistic regression on the frozen features.
    Probe,
}

/// Section `[image.probe]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProbeConfig {
    /// Steps; at least, where a step does not look at all rows.
    pub steps: u64,
    /// Passes over the labelled rows at least, where a step does not look at all of them.
    pub epochs: f64,
    /// Rows in a step; all at once where there are no more.
    pub batch: usize,
    /// Peak learning rate of AdamW on 96 features of mean 0 and deviation 1; of more features it is less in
    /// proportion, so that a step moves an answer as far.
    pub lr: f64,
    /// Weight decay.
    pub weight_decay: f64,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self { steps: 300, epochs: 10.0, batch: 8192, lr: 0.05, weight_decay: 0.01 }
    }
}

impl ImageHeadConfig {
    pub(super) fn checks(&self) -> Vec<Check> {
        let mut checks = self.modulation.checks();
        checks.extend([
            ("image.probe.steps", self.probe.steps >= 1, "1 or more"),
            ("image.probe.epochs", not_negative(self.probe.epochs), "0 or more"),
            ("image.probe.batch", (1..=65_536).contains(&self.probe.batch), "1 to 65536"),
            ("image.probe.weight_decay", not_negative(self.probe.weight_decay), "0 or more"),
            ("image.probe.lr", positive(self.probe.lr), "above 0"),
        ]);
        checks
    }
}

//! Section `[checkpoint]`.

use serde::{Deserialize, Serialize};

use super::Check;

/// Section `[checkpoint]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointConfig {
    /// Steps between two checkpoints: what a power cut can cost.
    pub every: u64,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { every: 100 }
    }
}

impl CheckpointConfig {
    pub(super) fn checks(&self) -> Vec<Check> {
        vec![("checkpoint.every", self.every >= 1, "1 or more")]
    }
}

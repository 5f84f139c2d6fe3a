//! Sections `[input]` and `[holdout]`: what of the data is seen, and how.

use serde::{Deserialize, Serialize};

use super::{Check, positive, share};

/// Section `[input]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InputConfig {
    /// Pixels a side; unset: the pictures' own size where none is above 96, else 128 for a small CNN,
    /// 299 for Inception v3 and 224 for the others.
    pub size: Option<u32>,
    /// Which mirror images are the same thing.
    pub flip: Flip,
    /// What the levels of the channels are brought to.
    pub normalise: Normalise,
}

/// Mean and deviation that each channel, of levels 0 to 1, is normalised by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalise {
    /// What the weights the backbone begins with were trained on; `plain` for random ones.
    #[default]
    Auto,
    /// 128/255 and 0.25: the int8 zero point exactly, and about the spread of photographs.
    Plain,
    /// What published weights of the backbone expect: ImageNet's, or 0.5 and 0.5 for Inception v3.
    Published,
}

/// Mirror images that augmentation may show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flip {
    /// None: text, left and right matter.
    None,
    /// Left and right: photographs.
    #[default]
    Horizontal,
    /// All eight symmetries of the square: pictures from above.
    Both,
}

/// Section `[holdout]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HoldoutConfig {
    /// Share of the labelled rows.
    pub share: f64,
    /// At most this many rows.
    pub max_rows: usize,
    /// Whole cells of this many degrees are held out, so that the prior is judged at places it has
    /// not seen.
    pub block_deg: f64,
    /// Pre-training does not see unlabelled rows of held-out cells either. (Pseudo-labels never are of them.)
    pub shield: bool,
}

impl Default for HoldoutConfig {
    fn default() -> Self {
        Self { share: 0.15, max_rows: 1500, block_deg: 1.0, shield: true }
    }
}

impl InputConfig {
    pub(super) fn checks(&self) -> Vec<Check> {
        vec![("input.size", self.size.is_none_or(|s| (16..=1024).contains(&s)), "16 to 1024")]
    }
}

impl HoldoutConfig {
    pub(super) fn checks(&self) -> Vec<Check> {
        vec![
            ("holdout.share", share(self.share), "0 or more and below 1"),
            ("holdout.block_deg", positive(self.block_deg), "above 0"),
        ]
    }
}

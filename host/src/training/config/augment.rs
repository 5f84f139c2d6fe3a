//! Section `[backbone.augment]`: what may be done to a picture while the backbone learns.

use serde::{Deserialize, Serialize};

use super::{Check, not_negative};

/// Section `[backbone.augment]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentConfig {
    /// How much.
    pub views: Views,
    /// With crops: least and largest share of the picture that is seen.
    pub area: [f64; 2],
    /// With crops: how much wider than high, or higher than wide, the crop may be.
    pub ratio: f64,
    /// With crops: largest relative change of brightness.
    pub brightness: f64,
    /// With crops: largest relative change of contrast.
    pub contrast: f64,
    /// With crops: largest relative change of saturation.
    pub saturation: f64,
    /// With crops: largest shift of the hue, in turns.
    pub hue: f64,
}

/// The two recipes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Views {
    /// Small shifts, 20 % of light: what training from scratch on small pictures uses.
    #[default]
    Mild,
    /// Random resized crops and colour jitter, as large networks are fine-tuned (csp-spec §1.5).
    Crop,
}

impl Default for AugmentConfig {
    fn default() -> Self {
        Self {
            views: Views::Mild,
            area: [0.08, 1.0],
            ratio: 4.0 / 3.0,
            brightness: 0.4,
            contrast: 0.4,
            saturation: 0.4,
            hue: 0.25,
        }
    }
}

impl AugmentConfig {
    pub(super) fn checks(&self) -> Vec<Check> {
        let [least, most] = self.area;
        vec![
            (
                "backbone.augment.area",
                0.0 < least && least <= most && most <= 1.0,
                "two shares, the smaller first",
            ),
            ("backbone.augment.ratio", (1.0..=4.0).contains(&self.ratio), "1 to 4"),
            ("backbone.augment.brightness", not_negative(self.brightness), "0 or more"),
            ("backbone.augment.contrast", not_negative(self.contrast), "0 or more"),
            ("backbone.augment.saturation", not_negative(self.saturation), "0 or more"),
            ("backbone.augment.hue", (0.0..=0.5).contains(&self.hue), "0 to 0.5"),
        ]
    }
}

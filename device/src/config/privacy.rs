//! `[privacy]` of `trap.toml`. Its doc comments are what `csp-device config --print` writes.

use csp_models::groups::{Group, Groups};
use serde::{Deserialize, Serialize};

/// `[privacy]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PrivacyConfig {
    /// Who is not to be photographed: "human", "vehicle", "blank". Their pictures are not kept, their records are.
    /// Until the model has looked, a picture waits in memory, where a power cut takes it; [] writes every picture
    /// at once. A picture that is not classified is kept.
    pub suppress: Vec<Group>,
    /// Probability of such a group, above 0 to 1, from which a picture counts as theirs. Low: a person missed is
    /// worse than a badger lost.
    pub threshold: f64,
    /// What happens to their pictures.
    pub suppressed: Suppressed,
    /// Classes of the model, or taxa above them, that are people too (["ranger", "hiker"]); those named human,
    /// person or Homo sapiens are known.
    pub human: Vec<String>,
    /// Classes that are vehicles too.
    pub vehicle: Vec<String>,
    /// Classes that are empty frames too.
    pub blank: Vec<String>,
    /// The owner's public key, "age1…", made by csp-host keys new --age FILE: what is sealed to it nobody else reads,
    /// not even with the card in hand. Times, classes and the prior's scores stay readable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seal_to: Option<String>,
    /// With a key: places are sealed, in records and on the way through a restart. A site.lat in this file is not.
    pub seal_places: bool,
    /// With a key: every picture is sealed.
    pub seal_pictures: bool,
    /// The place is written into the EXIF data of pictures, beside the time.
    pub place_in_pictures: bool,
}

/// What happens to a suppressed picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suppressed {
    /// it is never stored
    #[default]
    Drop,
    /// it is encrypted to the owner's key
    Seal,
}

impl Default for PrivacyConfig {
    fn default() -> Self {
        Self {
            suppress: vec![Group::Human, Group::Vehicle],
            threshold: 0.25,
            suppressed: Suppressed::Drop,
            human: Vec::new(),
            vehicle: Vec::new(),
            blank: Vec::new(),
            seal_to: None,
            seal_places: true,
            seal_pictures: true,
            place_in_pictures: false,
        }
    }
}

impl PrivacyConfig {
    /// The names that the owner adds to the groups.
    pub fn groups(&self) -> Groups {
        Groups { human: self.human.clone(), vehicle: self.vehicle.clone(), blank: self.blank.clone() }
    }
}

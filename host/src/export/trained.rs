//! Stand-in for `crate::training::TrainedModel` until the training side is merged: same fields.

use csp_models::{
    encoder::PositionEncoder,
    fusion::{Fusion, Thresholds},
    labels::Labels,
    manifest::{ImageInput, ModelProvenance},
    nn::{ImageClassifier, LocationClassifier},
};

/// A trained model.
#[derive(Debug)]
pub struct TrainedModel {
    /// Picture → logits.
    pub image: ImageClassifier,
    /// Position features → presence logits.
    pub location: Option<LocationClassifier>,
    /// How pictures are prepared.
    pub input: ImageInput,
    /// Place → position features.
    pub encoder: Option<PositionEncoder>,
    /// The classes.
    pub labels: Labels,
    /// How the branches are combined.
    pub fusion: Fusion,
    /// How sure a decision has to be.
    pub thresholds: Thresholds,
    /// Where the model comes from.
    pub provenance: ModelProvenance,
    /// Its name.
    pub name: String,
}

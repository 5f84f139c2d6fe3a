//! From photographs and places to numbers: decoded pixels and pooled features kept on disk,
//! augmentation, and batch inference for training, calibration and evaluation.

mod augment;
mod infer;
mod pixels;
mod table;

pub use augment::Augment;
pub use infer::{
    image_features, location_logits, location_presence, places_at_once, position_features, presence_of,
};
pub use pixels::PixelCache;
pub use table::{FeatureTable, TableKey};

//! From photographs and places to numbers: decoded pixels kept on disk, augmentation, and batch
//! inference for training, calibration and evaluation.

mod augment;
mod infer;
mod pixels;

pub use augment::Augment;
pub use infer::{ImageOutputs, image_logits, image_outputs, location_logits, position_features};
pub use pixels::PixelCache;

//! The networks, as burn modules. One file an architecture; every forward pass is captured and
//! lowered to ONNX by the host, so there is no second description of any of them.

mod conv;
mod image;
mod location;
mod mobilenet_v2;
mod small_cnn;

pub use image::{Backbone, BackboneKind, ImageClassifier, ImageClassifierConfig};
pub use location::{
    Activation, FeedForward, FeedForwardConfig, LocationClassifier, LocationClassifierConfig,
};
pub use mobilenet_v2::{MobileNetV2, MobileNetV2Config};
pub use small_cnn::{SmallCnn, SmallCnnConfig};

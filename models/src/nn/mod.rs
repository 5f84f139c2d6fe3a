//! The networks, as burn modules. One file an architecture; every forward pass is captured and
//! lowered to ONNX by the host, so there is no second description of any of them.

mod conv;
mod head;
mod image;
mod location;
mod mobilenet_v2;
mod small_cnn;

pub use head::{Activation, HeadConfig, HeadKind, HeadSettings, LocationHead, NormPlace};
pub use image::{Backbone, BackboneKind, ImageClassifier, ImageClassifierConfig};
pub use location::{LocationClassifier, LocationClassifierConfig};
pub use mobilenet_v2::{MobileNetV2, MobileNetV2Config};
pub use small_cnn::{SmallCnn, SmallCnnConfig};

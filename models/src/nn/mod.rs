//! The networks, as burn modules. One file an architecture; every forward pass is captured and
//! lowered to ONNX by the host, so there is no second description of any of them.

mod conv;
mod head;
mod image;
mod inception_v3;
mod location;
mod mobilenet_v2;
mod modulation;
mod published;
mod resnet;
mod small_cnn;

pub use head::{Activation, HeadConfig, HeadKind, HeadSettings, LocationHead, NormPlace};
pub use image::{Backbone, BackboneKind, ImageClassifier, ImageClassifierConfig};
pub use inception_v3::{INCEPTION_V3_MIN_SIDE, InceptionV3, InceptionV3Config};
pub use location::{LocationClassifier, LocationClassifierConfig};
pub use mobilenet_v2::{MobileNetV2, MobileNetV2Config};
pub use modulation::{ModulatedHead, ModulatedHeadConfig};
pub use published::{Naming, PublishedName};
pub use resnet::{ResNet, ResNetConfig, ResNetDepth};
pub use small_cnn::{SmallCnn, SmallCnnConfig};

/// Mean of ImageNet's channels, of levels 0 to 1: what most published weights take away.
pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Deviation of ImageNet's channels: what most published weights divide by.
pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

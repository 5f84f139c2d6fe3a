//! Where published state dicts keep the weights of our networks: one list of names an architecture
//! and library. The architectures know the names of their layers; here they become names of tensors.

use std::{string::String, vec::Vec};

use super::{BackboneKind, InceptionV3Config, MobileNetV2Config, ResNetConfig, ResNetDepth};

/// Whose names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// `torchvision.models`.
    Torchvision,
    /// `timm`, pytorch-image-models.
    Timm,
}

impl Naming {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Torchvision, Self::Timm];
}

impl core::fmt::Display for Naming {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Torchvision => "torchvision",
            Self::Timm => "timm",
        })
    }
}

/// One tensor under both its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedName {
    /// Path in an [`ImageClassifier`](super::ImageClassifier), such as `backbone.ResNet.stem.conv.weight`.
    pub ours: String,
    /// Name in the state dict.
    pub theirs: String,
    /// A matrix that is stored `[out, in]` there and is `[in, out]` here.
    pub transposed: bool,
}

impl BackboneKind {
    /// The tensors of the backbone and then the two of the classifier (weight, bias); `None` for a
    /// network that nobody publishes.
    pub fn published_names(&self, naming: Naming) -> Option<Vec<PublishedName>> {
        let (variant, head, layers): (&str, &str, Vec<[String; 3]>) = match *self {
            Self::SmallCnn(_) => return None,
            Self::MobileNetV2(width) => {
                let pairs = MobileNetV2Config::new().with_width(width).names().into_iter();
                match naming {
                    Naming::Torchvision => ("MobileNetV2", "classifier.1", pairs.map(|p| p.0).collect()),
                    Naming::Timm => ("MobileNetV2", "classifier", pairs.map(|p| p.1).collect()),
                }
            }
            Self::ResNet18 => ("ResNet", "fc", ResNetConfig::new(ResNetDepth::D18).names()),
            Self::ResNet50 => ("ResNet", "fc", ResNetConfig::new(ResNetDepth::D50).names()),
            Self::InceptionV3 => ("InceptionV3", "fc", InceptionV3Config::new().names()),
        };
        let name = |ours: String, theirs: String, transposed| PublishedName { ours, theirs, transposed };
        let mut names = Vec::new();
        for [path, conv, norm] in layers {
            let path = format!("backbone.{variant}.{path}");
            names.push(name(format!("{path}.conv.weight"), format!("{conv}.weight"), false));
            let parts = [
                ("gamma", "weight"),
                ("beta", "bias"),
                ("running_mean", "running_mean"),
                ("running_var", "running_var"),
            ];
            names.extend(parts.map(|(ours, theirs)| {
                name(format!("{path}.norm.{ours}"), format!("{norm}.{theirs}"), false)
            }));
        }
        names.push(name("head.weight".into(), format!("{head}.weight"), true));
        names.push(name("head.bias".into(), format!("{head}.bias"), false));
        Some(names)
    }
}

//! What a model bundle says about itself: `manifest.json`.

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::{
    encoder::PositionEncoder,
    fusion::{Fusion, FusionError, Thresholds},
    labels::Labels,
};

/// Version of the manifest. A reader refuses newer ones.
pub const MANIFEST_SCHEMA: u32 = 1;

/// File names inside a bundle.
pub mod file {
    /// The manifest itself.
    pub const MANIFEST: &str = "manifest.json";
    /// A minisign signature of the manifest; absent from an unsigned bundle.
    pub const SIGNATURE: &str = "manifest.json.minisig";
    /// The image network the device runs.
    pub const IMAGE: &str = "image.onnx";
    /// The image network in f32, beside an int8 [`IMAGE`]; a bundle may go without.
    pub const IMAGE_F32: &str = "image.f32.onnx";
    /// The location network: position features → class logits.
    pub const LOCATION: &str = "location.onnx";
    /// The model card, for people.
    pub const MODEL_CARD: &str = "MODEL_CARD.md";
}

/// The whole of `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`MANIFEST_SCHEMA`] of the writer.
    pub schema: u32,
    /// The model's name, for people.
    pub name: String,
    /// How a picture becomes the image network's input.
    pub input: ImageInput,
    /// Number format of [`file::IMAGE`].
    pub image_format: NumberFormat,
    /// Position features of the location network; `None` for an image-only model.
    pub encoder: Option<PositionEncoder>,
    /// The classes, in the order of both networks' outputs.
    pub labels: Labels,
    /// How image and place are combined.
    pub fusion: Fusion,
    /// How sure a decision has to be.
    pub thresholds: Thresholds,
    /// What quantization cost, for an int8 model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<QuantizationReport>,
    /// How the model came to be.
    pub provenance: ModelProvenance,
    /// Licences of data and weights, as given at export.
    #[serde(default)]
    pub licences: Vec<String>,
    /// Every other file of the bundle.
    pub files: BTreeMap<String, FileEntry>,
}

/// Input of the image network: `[1, 3, height, width]`, channels red, green, blue.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageInput {
    /// Pixels across; the whole frame is resized to this, aspect not kept.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Subtracted from each channel after scaling to [0, 1].
    pub mean: [f32; 3],
    /// Divides each channel then.
    pub std: [f32; 3],
}

/// How the numbers of a network are stored and computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NumberFormat {
    /// Float32; the input is normalised by [`ImageInput`].
    F32,
    /// Integer profile `int8-v1`; the input is `pixel ^ 0x80`, normalisation is inside the network.
    Int8,
}

/// Accuracy of the f32 and int8 networks on the same pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantizationReport {
    /// Calibration method of the activation ranges.
    pub method: String,
    /// Pictures the ranges were taken from.
    pub calibration_images: u32,
    /// Pictures both networks were compared on.
    pub compared_images: u32,
    /// Top-1 accuracy of the f32 image network, 0 to 1; `None` when the pictures carry no labels.
    pub top1_f32: Option<f64>,
    /// Top-1 accuracy of the int8 image network.
    pub top1_int8: Option<f64>,
    /// Share of pictures on which both name the same class.
    pub agreement: f64,
    /// Layers that stay f32 because their integer form costs too much.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub f32_layers: Vec<String>,
    /// Whether the loss is within the budget; `None` when the pictures carry no labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateReport>,
    /// What storing the location network's weights as bytes costs; `None` where they are f32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<LocationReport>,
}

/// A location network whose weights are stored as int8 and computed with in f32, beside itself in f32.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LocationReport {
    /// Linear layers stored so.
    pub layers: u32,
    /// Pictures with a place and a class that both were compared on.
    pub compared: u32,
    /// Top-1 accuracy of the place alone in f32, 0 to 1; `None` where nothing was compared.
    pub top1_f32: Option<f64>,
    /// The same with weights as bytes.
    pub top1_int8: Option<f64>,
    /// Top-1 accuracy of image and place, the place in f32, the image as in the bundle.
    pub fused_f32: Option<f64>,
    /// The same with weights as bytes.
    pub fused_int8: Option<f64>,
    /// Largest difference of a presence score on places all over the globe, 0 to 1.
    pub largest_difference: f64,
    /// Signal to noise of the logits there, dB.
    pub snr_db: f64,
}

/// Whether quantization cost more than it may. Classes within the budget are not listed; the model card
/// has them all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GateReport {
    /// Top-1 accuracy that may be lost, 0 to 1.
    pub max_drop: f64,
    /// Recall that any one class may lose, 0 to 1.
    pub max_class_drop: f64,
    /// False when more than that was lost, beyond doubt.
    pub passed: bool,
    /// The export was written although it did not pass, because the user asked for it.
    pub forced: bool,
    /// What lost more than it may; `(all)` stands for all pictures together.
    pub lost: Vec<ClassLoss>,
    /// What lost more than it may on so few pictures that it may be chance.
    pub unclear: Vec<ClassLoss>,
}

/// Recall of a class before and after quantization.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassLoss {
    /// The class's name.
    pub class: String,
    /// Pictures of it that were compared.
    pub pictures: u32,
    /// Share of them that f32 names right, 0 to 1.
    pub f32: f64,
    /// Share of them that int8 names right, 0 to 1.
    pub int8: f64,
}

/// Where a model comes from: enough to train it again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelProvenance {
    /// Version of `csp-host`.
    pub tool: String,
    /// SHA-256 of the training table's content (hex).
    pub data_sha256: String,
    /// Seed of every random choice.
    pub seed: u64,
    /// Share of the training labels used.
    pub label_fraction: f64,
    /// Rows with a label that training saw.
    pub labelled_rows: u64,
    /// Rows without a label that pre-training saw.
    pub unlabelled_rows: u64,
    /// The image network and where its weights began.
    pub backbone: String,
    /// Where the location network's weights began; `None` for random ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Device it was trained on.
    pub device: String,
}

/// Size and digest of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Bytes.
    pub size: u64,
    /// SHA-256, lower-case hex.
    pub sha256: String,
}

/// A manifest that reads as JSON and still cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ManifestError {
    /// Written by a newer csp-host.
    #[error(
        "schema is {found}, this program reads up to {MANIFEST_SCHEMA}: update it, or export the model again"
    )]
    NewerSchema {
        /// The manifest's schema.
        found: u32,
    },
    /// A field out of range.
    #[error("{field}: {problem}")]
    Field {
        /// Path of the field.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// See [`FusionError`].
    #[error(transparent)]
    Fusion(#[from] FusionError),
}

impl Manifest {
    /// True for an int8 model that carries its f32 image network beside it.
    pub fn has_fallback(&self) -> bool {
        self.image_format == NumberFormat::Int8 && self.files.contains_key(file::IMAGE_F32)
    }

    /// Checks everything that a reader relies on.
    ///
    /// # Errors
    /// Names the first field that is wrong.
    pub fn validate(&self) -> Result<(), ManifestError> {
        if self.schema > MANIFEST_SCHEMA {
            return Err(ManifestError::NewerSchema { found: self.schema });
        }
        let sizes = [("input.width", self.input.width), ("input.height", self.input.height)];
        for (field, pixels) in sizes {
            if !(8..=4096).contains(&pixels) {
                return Err(ManifestError::Field { field, problem: "it must be 8 to 4096 pixels" });
            }
        }
        if self.input.mean.iter().chain(&self.input.std).any(|v| !v.is_finite())
            || self.input.std.iter().any(|&s| s <= 0.0)
        {
            return Err(ManifestError::Field {
                field: "input.mean/std",
                problem: "they must be finite, std above 0",
            });
        }
        if !(2..=usize::from(u16::MAX)).contains(&self.labels.len()) {
            return Err(ManifestError::Field { field: "labels", problem: "a model has 2 to 65535 classes" });
        }
        if !(0.0..=1.0).contains(&self.thresholds.decide) {
            return Err(ManifestError::Field { field: "thresholds.decide", problem: "it must be in [0, 1]" });
        }
        self.fusion.validate()?;
        let mut needed = alloc::vec![file::IMAGE];
        if self.encoder.is_some() {
            needed.push(file::LOCATION);
        }
        if needed.iter().any(|name| !self.files.contains_key(*name)) {
            return Err(ManifestError::Field {
                field: "files",
                problem: "image.onnx or location.onnx is not listed",
            });
        }
        if self
            .files
            .keys()
            .any(|name| name.is_empty() || name.contains(['/', '\\', '\0']) || name.starts_with('.'))
        {
            return Err(ManifestError::Field { field: "files", problem: "a file name is not a plain name" });
        }
        Ok(())
    }
}

//! Why an export stops.

use std::path::PathBuf;

/// Why a model cannot be exported. Nothing has been written then.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The forward pass could not be recorded.
    #[error("{network}: the forward pass cannot be recorded: {reason}")]
    Capture {
        /// Which network.
        network: String,
        /// burn's reason.
        reason: String,
    },
    /// The network uses an operation that has no ONNX form here.
    #[error(
        "{network}: no ONNX form is known for burn's operation {op}: replace it in the network, or add it to host/src/export/lower"
    )]
    UnsupportedOp {
        /// Which network.
        network: String,
        /// The operation, as burn names it.
        op: String,
    },
    /// A tensor of the network holds what cannot be exported.
    #[error("{network}: {tensor} {problem}")]
    Tensor {
        /// Which network.
        network: String,
        /// Module path of the weight, or name of the value.
        tensor: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The network cannot be written in integers.
    #[error("{network}: cannot be quantized at {node}: {problem}; export with --quantize none")]
    Quantize {
        /// Which network.
        network: String,
        /// The operator.
        node: String,
        /// What is in the way.
        problem: String,
    },
    /// The inference engine refuses a network we made.
    #[error("{network}: the inference engine refuses it: {reason}")]
    Engine {
        /// Which network.
        network: String,
        /// Its reason.
        reason: String,
    },
    /// Calibration pictures that tell nothing.
    #[error("calibration: {problem}")]
    Calibration {
        /// What is wrong, and what to do.
        problem: String,
        /// Positions of the pictures it is wrong with, if it is with some.
        pictures: Vec<usize>,
    },
    /// A layer computes NaN or infinity on a calibration picture.
    #[error(
        "{network}: {node} gives NaN or infinity (value {tensor}) on calibration picture {picture}: the training \
         diverged, train again with a lower learning rate"
    )]
    Activation {
        /// Which network.
        network: String,
        /// The operator.
        node: String,
        /// The value it computes.
        tensor: String,
        /// Position of the picture.
        picture: usize,
    },
    /// Model and classes or input do not belong together.
    #[error("{field}: {problem}")]
    Model {
        /// Which part of the model.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The manifest would be refused by every reader.
    #[error("manifest: {0}")]
    Manifest(#[from] csp_models::manifest::ManifestError),
    /// A file cannot be read or written.
    #[error("{path}: {reason}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl ExportError {
    /// Positions of the calibration pictures it is about; empty for none in particular.
    pub fn pictures(&self) -> &[usize] {
        match self {
            Self::Calibration { pictures, .. } => pictures,
            Self::Activation { picture, .. } => std::slice::from_ref(picture),
            _ => &[],
        }
    }
}

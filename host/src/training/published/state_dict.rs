//! A file of named tensors, whoever wrote it.

use std::{collections::BTreeMap, fs, path::Path};

use burn::tensor::{DType, TensorData};
use csp_models::bundle::sha256_hex;
use safetensors::{Dtype, SafeTensors};

use crate::training::{
    TrainError,
    torch_file::{TorchFileError, read_torch_file},
    weights::Array,
};

/// Named tensors, floats as f32; integers (counters of steps) are left out.
#[derive(Clone, Debug, Default)]
pub struct StateDict {
    /// The tensors.
    pub tensors: BTreeMap<String, Array>,
    /// SHA-256 of the file, hex.
    pub sha256: String,
}

impl StateDict {
    /// Reads a safetensors file, or a checkpoint of `torch.save` (`.pth`, `.pt`).
    ///
    /// # Errors
    /// Missing, unreadable, damaged, or of another format.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let bytes = fs::read(path).map_err(TrainError::io(path))?;
        // by content, not by name: a safetensors file is a length and then JSON
        let tensors = match bytes.get(8) {
            Some(b'{') => safetensors(&bytes).map_err(|reason| TrainError::corrupt(path, reason))?,
            _ => torch(path)?,
        };
        if tensors.is_empty() {
            return Err(TrainError::corrupt(path, "it holds no tensor of floats"));
        }
        Ok(Self { tensors: bare(tensors), sha256: sha256_hex(&bytes) })
    }
}

fn torch(path: &Path) -> Result<BTreeMap<String, Array>, TrainError> {
    let refuse = |error: TorchFileError| {
        let text = error.to_string();
        // the path is said once
        let reason = text.strip_prefix(&format!("{}: ", path.display())).unwrap_or(&text);
        TrainError::corrupt(path, format!("neither safetensors nor a torch checkpoint to load: {reason}"))
    };
    let tensors = read_torch_file(path).map_err(refuse)?;
    Ok(tensors.into_iter().map(|(name, t)| (name, Array { shape: t.shape, values: t.data })).collect())
}

fn safetensors(bytes: &[u8]) -> Result<BTreeMap<String, Array>, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| format!("not a whole safetensors file: {e}"))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        let dtype = match view.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::F64 => DType::F64,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            _ => continue,
        };
        let data = TensorData::from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), dtype);
        tensors.insert(name, Array { shape: view.shape().to_vec(), values: data.iter::<f32>().collect() });
    }
    Ok(tensors)
}

/// Without the `module.` that a network trained on several GPUs was wrapped in.
fn bare(tensors: BTreeMap<String, Array>) -> BTreeMap<String, Array> {
    const WRAPPER: &str = "module.";
    if !tensors.keys().all(|name| name.starts_with(WRAPPER)) {
        return tensors;
    }
    tensors.into_iter().map(|(name, array)| (name[WRAPPER.len()..].to_string(), array)).collect()
}

//! Checkpoints written by `torch.save`, read without running anything in them.
//!
//! burn's reader interprets the pickle inside (zip, legacy and tar containers, bounded in size and
//! never calling what it names); here its answer becomes named tensors and plain settings.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use burn::store::pytorch_reader::{PickleValue, PytorchError, PytorchReader};
use serde_json::Value;
use tempfile::NamedTempFile;

pub use burn::store::pytorch_reader::DType;

/// Keys under which training scripts keep the weights of a network.
const NESTS: [&str; 4] = ["state_dict", "model_state_dict", "model", "net"];
/// What stands before every name when the network was wrapped for several devices.
const PARALLEL: &str = "module.";

/// A tensor of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Length of each axis; empty for a single number.
    pub shape: Vec<usize>,
    /// The number format in the file.
    pub dtype: DType,
    /// The values, row by row. Formats other than f32 are converted, rounded where need be.
    pub data: Vec<f32>,
}

/// Why a checkpoint cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TorchFileError {
    /// Not a checkpoint, damaged, or one that holds what cannot be represented.
    #[error("{path}: {source}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// burn's reason.
        source: PytorchError,
    },
    /// A tensor whose bytes are missing or damaged.
    #[error("{path}: tensor {name}: {reason}", path = .path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file without any tensor.
    #[error(
        "{path}: it holds no tensors (its keys: {keys}); save the network's state_dict(), or a dictionary with one under \"state_dict\"",
        path = .path.display()
    )]
    NoTensors {
        /// The file.
        path: PathBuf,
        /// What it holds instead.
        keys: String,
    },
}

/// The network's tensors in a checkpoint, by name: a bare state dict, or one kept under
/// `state_dict`, `model_state_dict`, `model` or `net` beside optimizer and settings. A leading
/// `module.` on every name is dropped.
///
/// # Errors
/// See [`TorchFileError`].
pub fn read_torch_file(path: &Path) -> Result<BTreeMap<String, Tensor>, TorchFileError> {
    let unreadable = |source| TorchFileError::Unreadable { path: path.into(), source };
    let copy = without_wide_records(path).map_err(|error| unreadable(error.into()))?;
    let source = copy.as_ref().map_or(path, NamedTempFile::path);
    let all = PytorchReader::new(source).map_err(unreadable)?.into_tensors();
    let under =
        |nest: &str| all.keys().any(|name| name.strip_prefix(nest).is_some_and(|r| r.starts_with('.')));
    // a bare state dict of a network with a part called `model` holds other tensors too
    let bare = !all.keys().any(|name| name.starts_with("optimizer.")) && {
        let outside = |name: &&String| !NESTS.iter().any(|nest| name.starts_with(&format!("{nest}.")));
        all.keys().any(|name| outside(&name))
    };
    let nest = NESTS.into_iter().find(|nest| under(nest)).filter(|&nest| nest == NESTS[0] || !bare);
    let prefix = nest.map(|nest| format!("{nest}.")).unwrap_or_default();
    let mut own: Vec<_> = (all.into_iter())
        .filter_map(|(name, tensor)| Some((name.strip_prefix(&prefix)?.to_string(), tensor)))
        .collect();
    if own.iter().all(|(name, _)| name.starts_with(PARALLEL)) {
        own.iter_mut().for_each(|(name, _)| *name = name.split_off(PARALLEL.len()));
    }
    if own.is_empty() {
        let keys = match PytorchReader::read_pickle_data(source, None).map_err(unreadable)? {
            PickleValue::Dict(entries) => {
                let mut keys: Vec<String> = entries.into_keys().collect();
                keys.sort();
                keys.join(", ")
            }
            _ => "none".to_string(),
        };
        return Err(TorchFileError::NoTensors { path: path.into(), keys });
    }
    // a view can repeat one number without end; shared weights are written once and counted twice
    let stored = std::fs::metadata(path).map_or(0, |meta| meta.len());
    let (mut held, limit) = (0u64, stored.saturating_mul(8).saturating_add(64 << 20));
    if let Some((name, _)) = own.iter().find(|(_, tensor)| {
        held = held.saturating_add(tensor.byte_len() as u64);
        held > limit
    }) {
        let reason =
            format!("with it the tensors hold {held} bytes, the file has {stored}: they repeat themselves");
        return Err(TorchFileError::Tensor { path: path.into(), name: name.clone(), reason });
    }
    let read = |(name, tensor): (String, burn::store::pytorch_reader::Tensor)| {
        let bytes = tensor.read().map_err(|error| TorchFileError::Tensor {
            path: path.into(),
            name: name.clone(),
            reason: error.to_string(),
        })?;
        let data = numbers(tensor.dtype(), &bytes);
        Ok((name, Tensor { shape: tensor.shape().to_vec(), dtype: tensor.dtype(), data }))
    };
    own.into_iter().map(read).collect()
}

/// The plain values in a checkpoint (numbers, strings, lists, dictionaries of these) that stand
/// beside its tensors, from the dictionary under `key`. Empty where there is no such dictionary.
///
/// # Errors
/// [`TorchFileError::Unreadable`].
pub fn read_torch_values(path: &Path, key: &str) -> Result<BTreeMap<String, Value>, TorchFileError> {
    let unreadable = |source| TorchFileError::Unreadable { path: path.into(), source };
    let copy = without_wide_records(path).map_err(|error| unreadable(error.into()))?;
    match PytorchReader::read_pickle_data(copy.as_ref().map_or(path, NamedTempFile::path), Some(key)) {
        Ok(PickleValue::Dict(entries)) => {
            Ok(entries.into_iter().map(|(name, value)| (name, plain(value))).collect())
        }
        Ok(_) | Err(PytorchError::KeyNotFound(_)) => Ok(BTreeMap::new()),
        Err(source) => Err(unreadable(source)),
    }
}

/// torch ends its zip files with 76 bytes of records for 64-bit sizes, which small files do not need,
/// and zip 9.8 then looks for the directory 76 bytes late. It notices, unless an entry begins just
/// there: when the name of the first, `NAME/data.pkl`, has 30 letters. Such a file is read from a copy
/// without those records; for any other this is `None`.
fn without_wide_records(path: &Path) -> io::Result<Option<NamedTempFile>> {
    const LAST: u64 = 22;
    const WIDE: u64 = 76;
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut last = [0; LAST as usize];
    if length < LAST + WIDE {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(length - LAST))?;
    file.read_exact(&mut last)?;
    let number =
        |at: usize| u64::from(u32::from_le_bytes([last[at], last[at + 1], last[at + 2], last[at + 3]]));
    let (size, start) = (number(12), number(16));
    if !last.starts_with(b"PK\x05\x06") || start + size + WIDE + LAST != length {
        return Ok(None);
    }
    let mut begins_with = |at: u64, signature: &[u8; 4]| -> io::Result<bool> {
        let mut found = [0; 4];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut found)?;
        Ok(found == *signature)
    };
    if !begins_with(start + size, b"PK\x06\x06")? || !begins_with(start + WIDE, b"PK\x01\x02")? {
        return Ok(None);
    }
    let mut copy = NamedTempFile::new()?;
    file.seek(SeekFrom::Start(0))?;
    io::copy(&mut file.take(start + size), &mut copy)?;
    copy.write_all(&last)?;
    copy.flush()?;
    Ok(Some(copy))
}

fn plain(value: PickleValue) -> Value {
    match value {
        PickleValue::Bool(value) => value.into(),
        PickleValue::Int(value) => value.into(),
        PickleValue::Float(value) => value.into(),
        PickleValue::String(value) => value.into(),
        PickleValue::List(values) => values.into_iter().map(plain).collect(),
        PickleValue::Dict(entries) => {
            Value::Object(entries.into_iter().map(|(name, value)| (name, plain(value))).collect())
        }
        PickleValue::Bytes(bytes) => bytes.into(),
        PickleValue::None | PickleValue::Unsupported(_) => Value::Null,
    }
}

/// The reader hands out contiguous numbers in this machine's byte order.
fn numbers(dtype: DType, bytes: &[u8]) -> Vec<f32> {
    fn each<const N: usize>(bytes: &[u8], one: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        bytes.as_chunks::<N>().0.iter().map(|&chunk| one(chunk)).collect()
    }
    match dtype {
        DType::F64 => each(bytes, |b| f64::from_ne_bytes(b) as f32),
        DType::F32 => each(bytes, f32::from_ne_bytes),
        DType::F16 => each(bytes, |b| half(u16::from_ne_bytes(b))),
        DType::BF16 => each(bytes, |b| f32::from_bits(u32::from(u16::from_ne_bytes(b)) << 16)),
        DType::I64 => each(bytes, |b| i64::from_ne_bytes(b) as f32),
        DType::I32 => each(bytes, |b| i32::from_ne_bytes(b) as f32),
        DType::I16 => each(bytes, |b| i16::from_ne_bytes(b).into()),
        DType::I8 => each(bytes, |b| i8::from_ne_bytes(b).into()),
        DType::U64 => each(bytes, |b| u64::from_ne_bytes(b) as f32),
        DType::U32 => each(bytes, |b| u32::from_ne_bytes(b) as f32),
        DType::U16 => each(bytes, |b| u16::from_ne_bytes(b).into()),
        DType::U8 | DType::Bool => bytes.iter().map(|&b| b.into()).collect(),
    }
}

/// IEEE half precision to f32, exactly.
fn half(bits: u16) -> f32 {
    let (sign, exponent, fraction) = (bits >> 15, bits >> 10 & 0x1f, f32::from(bits & 0x3ff));
    let magnitude = match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        e => (1024.0 + fraction) * 2f32.powi(i32::from(e) - 25),
    };
    if sign == 1 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_is_exact() {
        let cases = [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 2f32.powi(-24)),
            (0x0400, 2f32.powi(-14)),
            (0x3555, 0.333_251_95),
            (0xfc00, f32::NEG_INFINITY),
        ];
        for (bits, value) in cases {
            assert_eq!(half(bits), value, "{bits:04x}");
        }
        assert!(half(0x7e00).is_nan());
    }

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/torch").join(name)
    }

    /// The files are of `tools/torch_fixtures.py`.
    #[test]
    fn reads_every_layout_alike() {
        let bare = read_torch_file(&fixture("bare.pth")).unwrap();
        let names: Vec<&str> = bare.keys().map(String::as_str).collect();
        assert_eq!(names, ["a.bias", "a.weight", "brain", "half", "part", "steps", "turned"]);
        let weight = &bare["a.weight"];
        assert_eq!(weight.shape, [2, 3]);
        assert_eq!((weight.dtype, &weight.data[..]), (DType::F32, &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0][..]));
        assert_eq!((bare["a.bias"].dtype, &bare["a.bias"].data[..]), (DType::F64, &[1.5, 2.5][..]));
        // views are gathered: a transposed one and a cut-out
        assert_eq!((&bare["turned"].shape[..], bare["turned"].data[1]), (&[3, 2][..], 3.0));
        assert_eq!(bare["part"].data, [4.0, 5.0]);
        assert_eq!((bare["steps"].shape.len(), bare["steps"].data[0]), (0, 7.0));
        assert_eq!(bare["half"].data, [0.099_975_586, -2.0]);
        assert_eq!(bare["brain"].data, [0.100_097_656]);
        for other in ["legacy.pth", "nested.pth", "twenty-one-letters-is.pth"] {
            assert_eq!(read_torch_file(&fixture(other)).unwrap(), bare, "{other}");
        }
    }

    #[test]
    fn settings_stand_beside_the_tensors() {
        let settings = read_torch_values(&fixture("nested.pth"), "params").unwrap();
        assert_eq!(settings["kind"], "grid");
        assert_eq!(settings["radius"], 0.5);
        assert_eq!(settings["range"], serde_json::json!([-180, 180]));
        assert_eq!(settings["none"], Value::Null);
        assert!(read_torch_values(&fixture("bare.pth"), "params").unwrap().is_empty());
    }

    #[test]
    fn damage_is_an_error_everywhere() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cut.pth");
        for name in ["bare.pth", "legacy.pth"] {
            let bytes = std::fs::read(fixture(name)).unwrap();
            for cut in (0..bytes.len()).step_by(41) {
                std::fs::write(&path, &bytes[..cut]).unwrap();
                assert!(read_torch_file(&path).is_err(), "{name} cut at {cut}");
            }
        }
        let error = read_torch_file(&fixture("repeated.pth")).unwrap_err().to_string();
        assert!(error.contains("repeat"), "{error}");
        let error = read_torch_file(&fixture("empty.pth")).unwrap_err().to_string();
        assert!(error.contains("no tensors") && error.contains("params"), "{error}");
        let error = read_torch_file(&dir.path().join("absent.pth")).unwrap_err().to_string();
        assert!(error.contains("absent.pth"), "{error}");
    }
}

//! Constants and declared shapes of a graph, sizes checked against the bytes that are there.

use tract_onnx::pb::{
    TensorProto, ValueInfoProto, tensor_proto::DataType, tensor_shape_proto::dimension, type_proto,
};

use super::MAX_ELEMENTS;

/// Number formats of the profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dtype {
    F32,
    I8,
    U8,
    I32,
    I64,
}

impl Dtype {
    /// From ONNX's `TensorProto.DataType`.
    pub(super) fn from_onnx(code: i32) -> Result<Self, String> {
        match DataType::try_from(code) {
            Ok(DataType::Float) => Ok(Self::F32),
            Ok(DataType::Int8) => Ok(Self::I8),
            Ok(DataType::Uint8) => Ok(Self::U8),
            Ok(DataType::Int32) => Ok(Self::I32),
            Ok(DataType::Int64) => Ok(Self::I64),
            _ => Err(format!("number format {code} is not supported")),
        }
    }

    /// ONNX's `TensorProto.DataType`.
    pub(crate) fn onnx(self) -> i32 {
        match self {
            Self::F32 => DataType::Float as i32,
            Self::I8 => DataType::Int8 as i32,
            Self::U8 => DataType::Uint8 as i32,
            Self::I32 => DataType::Int32 as i32,
            Self::I64 => DataType::Int64 as i32,
        }
    }

    fn size(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::F32 | Self::I32 => 4,
            Self::I64 => 8,
        }
    }
}

/// A value of the graph: what is known of it without running it.
#[derive(Clone, Debug)]
pub(crate) struct Value<'a> {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// The tensor, for initializers and Constant nodes.
    pub constant: Option<&'a TensorProto>,
    /// Known before the network runs: a constant, or a constant dequantized.
    pub fixed: bool,
    /// Follows from constants alone.
    pub derived: bool,
}

impl Value<'_> {
    pub fn computed(dtype: Dtype, shape: Vec<usize>) -> Self {
        Self { dtype, shape, constant: None, fixed: false, derived: false }
    }

    /// Number of elements; bounded because every shape was checked by [`elements`].
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of its elements.
    pub fn bytes_held(&self) -> usize {
        self.len().saturating_mul(self.dtype.size())
    }

    /// The numbers of a constant f32 tensor.
    pub fn floats(&self) -> Option<Vec<f32>> {
        let tensor = self.constant.filter(|_| self.dtype == Dtype::F32)?;
        Some(match &tensor.raw_data[..] {
            [] => tensor.float_data.clone(),
            raw => raw.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        })
    }

    /// The numbers of a constant int8 tensor.
    pub fn bytes(&self) -> Option<Vec<i8>> {
        let tensor = self.constant.filter(|_| self.dtype == Dtype::I8)?;
        Some(match &tensor.raw_data[..] {
            [] => tensor.int32_data.iter().map(|&value| value as i8).collect(),
            raw => raw.iter().map(|&byte| byte as i8).collect(),
        })
    }

    /// The numbers of a constant integer tensor.
    pub fn ints(&self) -> Option<Vec<i64>> {
        let tensor = self.constant?;
        let raw = &tensor.raw_data[..];
        Some(match self.dtype {
            Dtype::F32 => return None,
            Dtype::I64 if raw.is_empty() => tensor.int64_data.clone(),
            _ if raw.is_empty() => tensor.int32_data.iter().copied().map(i64::from).collect(),
            Dtype::I64 => raw.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect(),
            Dtype::I32 => raw.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes).into()).collect(),
            Dtype::I8 => raw.iter().map(|&byte| (byte as i8).into()).collect(),
            Dtype::U8 => raw.iter().copied().map(i64::from).collect(),
        })
    }
}

/// The product of a shape, every dimension at least 1, within the bound.
pub(super) fn elements(shape: &[usize]) -> Result<usize, String> {
    let count = shape.iter().try_fold(1usize, |count, &dim| count.checked_mul(dim));
    match count {
        Some(count) if (1..=MAX_ELEMENTS).contains(&count) && shape.len() <= 6 => Ok(count),
        _ => Err(format!(
            "shape {shape:?}: a tensor has 1 to {MAX_ELEMENTS} elements and at most 6 dimensions"
        )),
    }
}

/// Checks an initializer or the tensor of a Constant node.
pub(super) fn constant(tensor: &TensorProto) -> Result<Value<'_>, String> {
    if tensor.data_location.unwrap_or(0) != 0 || !tensor.external_data.is_empty() {
        return Err("its data is in another file".to_string());
    }
    if tensor.segment.is_some() || !tensor.string_data.is_empty() {
        return Err("it is segmented or holds text".to_string());
    }
    let dtype = Dtype::from_onnx(tensor.data_type)?;
    let shape = dims(tensor.dims.iter().copied())?;
    let count = elements(&shape)?;
    let typed = [
        tensor.float_data.len(),
        tensor.int32_data.len(),
        tensor.int64_data.len(),
        tensor.double_data.len(),
        tensor.uint64_data.len(),
    ];
    let expected = match (dtype, tensor.raw_data.is_empty()) {
        (_, false) if tensor.raw_data.len() == count * dtype.size() => [0; 5],
        (_, false) => {
            let (bytes, need) = (tensor.raw_data.len(), count * dtype.size());
            return Err(format!("{bytes} bytes for shape {shape:?}, it needs {need}"));
        }
        (Dtype::F32, true) => [count, 0, 0, 0, 0],
        (Dtype::I8 | Dtype::U8 | Dtype::I32, true) => [0, count, 0, 0, 0],
        (Dtype::I64, true) => [0, 0, count, 0, 0],
    };
    if typed != expected {
        return Err(format!("its data does not fill shape {shape:?}"));
    }
    let value = Value { dtype, shape, constant: Some(tensor), fixed: true, derived: true };
    if dtype == Dtype::F32 && value.floats().is_some_and(|floats| floats.iter().any(|v| !v.is_finite())) {
        return Err("it holds NaN or infinity".to_string());
    }
    Ok(value)
}

/// Format and static shape of a graph input or output.
pub(super) fn declared(info: &ValueInfoProto) -> Result<(Dtype, Vec<usize>), String> {
    let Some(type_proto::Value::TensorType(tensor)) =
        info.r#type.as_ref().and_then(|kind| kind.value.as_ref())
    else {
        return Err(format!("`{}` has no tensor type", info.name));
    };
    let Some(shape) = &tensor.shape else { return Err(format!("`{}` has no shape", info.name)) };
    let sizes = shape.dim.iter().map(|dim| match dim.value {
        Some(dimension::Value::DimValue(size)) => Ok(size),
        _ => Err(format!("`{}` has a dimension without a size", info.name)),
    });
    let shape = dims(sizes.collect::<Result<Vec<_>, _>>()?.into_iter())?;
    elements(&shape)?;
    Ok((Dtype::from_onnx(tensor.elem_type)?, shape))
}

fn dims(sizes: impl Iterator<Item = i64>) -> Result<Vec<usize>, String> {
    sizes.map(|size| usize::try_from(size).map_err(|_| format!("dimension {size}"))).collect()
}

//! Which nodes of a graph the integer kernels take over, and why not the others.

use std::collections::HashMap;

use tract_onnx::pb::{GraphProto, NodeProto};

use super::super::profile::{Dtype, Value, Values};

/// What a node is to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cover {
    /// Runs in our kernels.
    Ours,
    /// Part of a pattern: its value is never made, its readers look through it.
    Through,
    /// A constant, dequantized or not: whoever reads it takes it along.
    Constant,
    /// Left to tract, because.
    Theirs(String),
}

/// A graph with what is known of it.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub graph: &'a GraphProto,
    pub values: &'a Values<'a>,
    /// Index of the node that makes a value.
    pub makers: &'a HashMap<&'a str, usize>,
    /// Indices of the nodes that read a value.
    pub readers: &'a HashMap<&'a str, Vec<usize>>,
}

impl<'a> Source<'a> {
    pub fn value(&self, name: &str) -> Result<&'a Value<'a>, String> {
        self.values.get(name).ok_or_else(|| format!("`{name}` is unknown"))
    }

    /// The `index`th input of a node.
    pub fn input(&self, node: &NodeProto, index: usize) -> Result<&'a Value<'a>, String> {
        self.value(node.input.get(index).ok_or_else(|| format!("input {index} is missing"))?)
    }

    pub fn maker(&self, value: &str) -> Option<(usize, &'a NodeProto)> {
        let &at = self.makers.get(value)?;
        Some((at, &self.graph.node[at]))
    }

    /// A constant f32 input that is one number.
    pub fn scale(&self, node: &NodeProto, index: usize) -> Result<f32, String> {
        match self.input(node, index)?.floats().as_deref() {
            Some([scale]) => Ok(*scale),
            _ => Err(format!("input {index} is not one constant scale")),
        }
    }

    /// A constant int8 input that is one number; absent is 0.
    pub fn zero(&self, node: &NodeProto, index: usize) -> Result<i8, String> {
        if node.input.len() <= index {
            return Ok(0);
        }
        match self.input(node, index)?.bytes().as_deref() {
            Some([zero]) => Ok(*zero),
            _ => Err(format!("input {index} is not one constant int8 zero point")),
        }
    }
}

/// `[1, C, H, W]` as C, H, W.
pub(super) fn picture(value: &Value<'_>) -> Option<[usize; 3]> {
    match value.shape[..] {
        [1, c, h, w] => Some([c, h, w]),
        _ => None,
    }
}

/// Length of `[1, N]` and `[1, N, 1, 1]`.
pub(super) fn vector(value: &Value<'_>) -> Option<usize> {
    match value.shape[..] {
        [1, n] | [1, n, 1, 1] => Some(n),
        _ => None,
    }
}

pub(super) fn int(node: &NodeProto, name: &str, default: i64) -> i64 {
    node.attribute.iter().find(|attribute| attribute.name == name).map_or(default, |attribute| attribute.i)
}

/// Sizes of an attribute the profile has checked.
pub(super) fn sizes<const N: usize>(node: &NodeProto, name: &str, default: usize) -> [usize; N] {
    let given = node.attribute.iter().find(|attribute| attribute.name == name);
    std::array::from_fn(|i| {
        given.and_then(|given| given.ints.get(i)).map_or(default, |&size| usize::try_from(size).unwrap_or(0))
    })
}

/// Covers every node, in the order of the graph.
pub(super) fn cover(source: Source<'_>) -> Vec<Cover> {
    let mut covers: Vec<Cover> = Vec::new();
    for node in &source.graph.node {
        let cover = one(source, node, &covers).unwrap_or_else(Cover::Theirs);
        covers.push(cover);
    }
    // A graph of floats is tract's: vectors alone are not worth a region.
    let integer = source
        .graph
        .node
        .iter()
        .zip(&covers)
        .any(|(node, cover)| *cover == Cover::Ours && node.op_type == "QLinearConv");
    if !integer {
        for cover in covers.iter_mut().filter(|cover| matches!(cover, Cover::Ours | Cover::Through)) {
            *cover = Cover::Theirs("the graph has no int8 convolution to take over".into());
        }
    }
    covers
}

fn one(source: Source<'_>, node: &NodeProto, covers: &[Cover]) -> Result<Cover, String> {
    let output = source.value(&node.output[0])?;
    let through = |index: usize, op: &str| {
        source
            .maker(&node.input[index])
            .is_some_and(|(at, maker)| maker.op_type == op && covers[at] == Cover::Through)
    };
    let vector_in = |index: usize, dtype: Dtype| -> Result<usize, String> {
        let value = source.input(node, index)?;
        match (value.constant, vector(value)) {
            (None, Some(length)) if value.dtype == dtype => Ok(length),
            _ => Err(format!("input {index} is not a computed {dtype:?} vector")),
        }
    };
    if output.fixed {
        return Ok(Cover::Constant);
    }
    match node.op_type.as_str() {
        "QLinearConv" => convolution(source, node)?,
        "DequantizeLinear" => {
            let value = source.input(node, 0)?;
            if value.dtype != Dtype::I8 || value.constant.is_some() || picture(value).is_none() {
                return Err("it dequantizes no int8 picture".into());
            }
            source.scale(node, 1)?;
            source.zero(node, 2)?;
            return Ok(Cover::Through);
        }
        "Add"
            if output.shape.len() == 4
                && through(0, "DequantizeLinear")
                && through(1, "DequantizeLinear") =>
        {
            let same = source.input(node, 0)?.shape == source.input(node, 1)?.shape;
            let readers = source.readers.get(node.output[0].as_str()).map_or(&[][..], Vec::as_slice);
            let quantized = readers.iter().all(|&at| source.graph.node[at].op_type == "QuantizeLinear");
            return match same && quantized && !readers.is_empty() {
                true => Ok(Cover::Through),
                false => Err("its sum is not read by QuantizeLinear alone".into()),
            };
        }
        "QuantizeLinear" => {
            if output.dtype != Dtype::I8 {
                return Err("it gives unsigned bytes".into());
            }
            source.scale(node, 1)?;
            source.zero(node, 2)?;
            let value = source.input(node, 0)?;
            if picture(value).is_none() && vector(value).is_none() || value.constant.is_some() {
                return Err("it quantizes neither a picture nor a vector".into());
            }
            // of a DequantizeLinear alone: nothing our exporter writes
            if through(0, "DequantizeLinear") {
                return Err("it quantizes what was just dequantized".into());
            }
        }
        "GlobalAveragePool" if through(0, "DequantizeLinear") => {}
        "Flatten" | "Reshape" | "Identity" => {
            let value = source.input(node, 0)?;
            let length = vector_in(0, value.dtype)?;
            if value.dtype == Dtype::I64 || vector(output) != Some(length) {
                return Err("it gives no vector".into());
            }
        }
        "MatMulInteger" => {
            vector_in(0, Dtype::I8)?;
            let weights = source.input(node, 1)?;
            if weights.dtype != Dtype::I8 || weights.constant.is_none() || weights.shape.len() != 2 {
                return Err("its weights are not a constant int8 matrix".into());
            }
            source.zero(node, 2)?;
            if source.zero(node, 3)? != 0 {
                return Err("its weights have a zero point".into());
            }
        }
        "Cast" => {
            vector_in(0, Dtype::I32)?;
            if output.dtype != Dtype::F32 {
                return Err("it casts to no f32".into());
            }
        }
        "Mul" | "Add" => {
            let (x, by) = operands(source, node)?;
            let length = vector_in(x, Dtype::F32)?;
            let by = source.input(node, by)?;
            if !matches!(by.shape[..], [] | [1]) && by.shape != [length] && by.shape != [1, length]
                || output.shape != [1, length]
            {
                return Err("its constant does not fit the vector".into());
            }
        }
        "Gemm" => {
            vector_in(0, Dtype::F32)?;
            let weights = source.input(node, 1)?;
            let float = |name: &str| {
                node.attribute.iter().find(|attribute| attribute.name == name).map_or(1.0, |found| found.f)
            };
            let plain = int(node, "transA", 0) == 0 && float("alpha") == 1.0 && float("beta") == 1.0;
            let bias = node.input.len() < 3
                || source.input(node, 2)?.floats().is_some_and(|bias| bias.len() == output.len());
            if weights.floats().is_none() || !plain || !bias || output.shape[0] != 1 {
                return Err("it is not x · W + b with constants".into());
            }
        }
        _ => return Err("there is no integer kernel for this operator".into()),
    }
    Ok(Cover::Ours)
}

/// Which input of Add or Mul is computed, and which constant.
pub(super) fn operands(source: Source<'_>, node: &NodeProto) -> Result<(usize, usize), String> {
    let constant = [source.input(node, 0)?.floats().is_some(), source.input(node, 1)?.floats().is_some()];
    match constant {
        [false, true] => Ok((0, 1)),
        [true, false] => Ok((1, 0)),
        _ => Err("not one of its inputs is constant".into()),
    }
}

fn convolution(source: Source<'_>, node: &NodeProto) -> Result<(), String> {
    let (x, w) = (source.input(node, 0)?, source.input(node, 3)?);
    let y = source.value(&node.output[0])?;
    if [x.dtype, w.dtype, y.dtype] != [Dtype::I8; 3] {
        return Err("activations or weights are not int8".into());
    }
    let group = int(node, "group", 1);
    if group != 1 && (w.shape[1] != 1 || w.shape[0] != x.shape[1]) {
        return Err(format!("{group} groups: neither dense nor depthwise"));
    }
    let weights = w.bytes().ok_or("its weights are not constant")?;
    // Two products of such weights fit 16 bits: what the kernels rely on.
    if weights.contains(&-128) {
        return Err("a weight is -128, the kernels take -127 to 127".into());
    }
    if source.input(node, 5)?.bytes().is_none_or(|zeros| zeros.iter().any(|&zero| zero != 0)) {
        return Err("a weight has a zero point other than 0".into());
    }
    let (_, scales) = (source.zero(node, 2)?, scales(source, node)?);
    source.zero(node, 7)?;
    if scales.iter().any(|scale| !scale.is_finite()) {
        return Err("x_scale · w_scale / y_scale is not finite".into());
    }
    Ok(())
}

/// `x_scale · w_scale / y_scale` of each output channel, in onnxruntime's order.
pub(super) fn scales(source: Source<'_>, node: &NodeProto) -> Result<Vec<f32>, String> {
    let channels = source.value(&node.output[0])?.shape[1];
    let (x, y) = (source.scale(node, 1)?, source.scale(node, 6)?);
    let mut scales = source.input(node, 4)?.floats().ok_or("its scales are not constant")?;
    if scales.len() == 1 {
        scales.resize(channels, scales[0]);
    }
    Ok(scales.iter().map(|w| x * w / y).collect())
}

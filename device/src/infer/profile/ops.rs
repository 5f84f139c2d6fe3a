//! The operators of the profile: arity, attributes, and the shape each gives.

use std::{collections::HashMap, ops::RangeInclusive};

use tract_onnx::pb::{AttributeProto, NodeProto, attribute_proto::AttributeType};

use super::tensor::{self, Dtype, Value, elements};

/// Most multiplications of one node: about a second on a fast core.
const MAX_WORK: usize = 1 << 36;
/// Most elements a convolution unfolds its input to.
const MAX_UNFOLDED: usize = 1 << 25;

type Shape = Vec<usize>;
type Checked<T> = Result<T, String>;

/// One row: how many inputs, which attributes, and what it gives.
struct Op {
    name: &'static str,
    inputs: RangeInclusive<usize>,
    attributes: &'static [(&'static str, AttributeType)],
    rule: fn(&Node<'_, '_>) -> Checked<(Dtype, Shape)>,
}

const INT: AttributeType = AttributeType::Int;
const INTS: AttributeType = AttributeType::Ints;
const FLOAT: AttributeType = AttributeType::Float;
const WINDOW: &[(&str, AttributeType)] =
    &[("kernel_shape", INTS), ("strides", INTS), ("dilations", INTS), ("pads", INTS), ("group", INT)];
const POOL: &[(&str, AttributeType)] = &[
    ("kernel_shape", INTS),
    ("strides", INTS),
    ("dilations", INTS),
    ("pads", INTS),
    ("ceil_mode", INT),
    ("count_include_pad", INT),
];

#[rustfmt::skip]
const OPS: &[Op] = &[
    Op { name: "Conv", inputs: 2..=3, attributes: WINDOW, rule: conv },
    Op { name: "QLinearConv", inputs: 8..=9, attributes: WINDOW, rule: qlinear_conv },
    Op { name: "QuantizeLinear", inputs: 2..=3, attributes: &[("axis", INT)], rule: quantize },
    Op { name: "DequantizeLinear", inputs: 2..=3, attributes: &[("axis", INT)], rule: dequantize },
    Op { name: "MatMulInteger", inputs: 2..=4, attributes: &[], rule: matmul_integer },
    Op { name: "MatMul", inputs: 2..=2, attributes: &[], rule: matmul_f32 },
    Op { name: "Gemm", inputs: 2..=3, attributes: &[("alpha", FLOAT), ("beta", FLOAT), ("transA", INT), ("transB", INT)], rule: gemm },
    Op { name: "Add", inputs: 2..=2, attributes: &[], rule: binary },
    Op { name: "Sub", inputs: 2..=2, attributes: &[], rule: binary },
    Op { name: "Mul", inputs: 2..=2, attributes: &[], rule: binary },
    Op { name: "Div", inputs: 2..=2, attributes: &[], rule: binary },
    Op { name: "Pow", inputs: 2..=2, attributes: &[], rule: binary },
    Op { name: "Relu", inputs: 1..=1, attributes: &[], rule: unary },
    Op { name: "LeakyRelu", inputs: 1..=1, attributes: &[("alpha", FLOAT)], rule: unary },
    Op { name: "Sigmoid", inputs: 1..=1, attributes: &[], rule: unary },
    Op { name: "Tanh", inputs: 1..=1, attributes: &[], rule: unary },
    Op { name: "Erf", inputs: 1..=1, attributes: &[], rule: unary },
    Op { name: "Sin", inputs: 1..=1, attributes: &[], rule: unary },
    Op { name: "Sqrt", inputs: 1..=1, attributes: &[], rule: unary },
    Op { name: "Identity", inputs: 1..=1, attributes: &[], rule: identity },
    Op { name: "Clip", inputs: 1..=3, attributes: &[], rule: clip },
    Op { name: "Softmax", inputs: 1..=1, attributes: &[("axis", INT)], rule: softmax },
    Op { name: "LayerNormalization", inputs: 2..=3, attributes: &[("axis", INT), ("epsilon", FLOAT), ("stash_type", INT)], rule: layer_norm },
    Op { name: "ReduceMean", inputs: 1..=2, attributes: &[("axes", INTS), ("keepdims", INT)], rule: reduce_mean },
    Op { name: "GlobalAveragePool", inputs: 1..=1, attributes: &[], rule: global_pool },
    Op { name: "MaxPool", inputs: 1..=1, attributes: POOL, rule: max_pool },
    Op { name: "AveragePool", inputs: 1..=1, attributes: POOL, rule: average_pool },
    Op { name: "Concat", inputs: 1..=16, attributes: &[("axis", INT)], rule: concat },
    Op { name: "Slice", inputs: 3..=3, attributes: &[], rule: slice },
    Op { name: "Flatten", inputs: 1..=1, attributes: &[("axis", INT)], rule: flatten },
    Op { name: "Reshape", inputs: 2..=2, attributes: &[("allowzero", INT)], rule: reshape },
    Op { name: "Transpose", inputs: 1..=1, attributes: &[("perm", INTS)], rule: transpose },
    Op { name: "Cast", inputs: 1..=1, attributes: &[("to", INT)], rule: cast },
];

/// Checks a node whose inputs are among `values`; returns what it gives.
pub(super) fn check<'a>(node: &'a NodeProto, values: &HashMap<&'a str, Value<'a>>) -> Checked<Value<'a>> {
    if !node.domain.is_empty() {
        return Err(format!("operator domain `{}` is not supported", node.domain));
    }
    if node.op_type == "Constant" {
        return match &node.attribute[..] {
            [AttributeProto { name, t: Some(tensor), .. }] if name == "value" && node.input.is_empty() => {
                plain(&node.attribute[0], AttributeType::Tensor)?;
                tensor::constant(tensor)
            }
            _ => Err("a constant has the attribute `value` and no inputs".to_string()),
        };
    }
    let op = OPS
        .iter()
        .find(|op| op.name == node.op_type)
        .ok_or_else(|| "this operator is not in the profile".to_string())?;
    if !op.inputs.contains(&node.input.len()) {
        return Err(format!(
            "{} inputs, it takes {} to {}",
            node.input.len(),
            op.inputs.start(),
            op.inputs.end()
        ));
    }
    let mut attributes = HashMap::new();
    for attribute in &node.attribute {
        let name = attribute.name.as_str();
        let &(_, kind) = op
            .attributes
            .iter()
            .find(|(known, _)| *known == name)
            .ok_or_else(|| format!("attribute `{name}` is not supported"))?;
        plain(attribute, kind)?;
        if attributes.insert(name, attribute).is_some() {
            return Err(format!("attribute `{name}` is given twice"));
        }
    }
    let mut inputs = Vec::new();
    for name in &node.input {
        inputs.push(match name.as_str() {
            // only Clip has an optional input before another
            "" if op.name == "Clip" => None,
            name => Some(values.get(name).ok_or_else(|| format!("input `{name}` is not defined before it"))?),
        });
    }
    // Quantizers keep weights in 8 bits and dequantize them in the graph.
    let fixed = op.name == "DequantizeLinear" && inputs[0].is_some_and(|value| value.fixed);
    let derived = inputs.iter().flatten().all(|value| value.derived);
    let (dtype, shape) = (op.rule)(&Node { inputs, attributes })?;
    elements(&shape)?;
    Ok(Value { fixed, derived, ..Value::computed(dtype, shape) })
}

/// An attribute of that type and nothing else inside.
fn plain(attribute: &AttributeProto, kind: AttributeType) -> Checked<()> {
    let a = attribute;
    // One flag a field, in the order of the types below.
    let used = [
        a.f != 0.0,
        a.i != 0,
        !a.ints.is_empty(),
        a.t.is_some(),
        !a.s.is_empty() || !a.floats.is_empty() || !a.strings.is_empty(),
        a.g.is_some() || !a.graphs.is_empty() || !a.tensors.is_empty(),
        a.sparse_tensor.is_some() || !a.sparse_tensors.is_empty() || !a.type_protos.is_empty(),
        !a.ref_attr_name.is_empty(),
    ];
    let own = [FLOAT, INT, INTS, AttributeType::Tensor].iter().position(|known| *known == kind);
    let foreign = used.iter().enumerate().any(|(field, &used)| used && Some(field) != own);
    if a.r#type != kind as i32 || foreign || !a.f.is_finite() {
        return Err(format!("attribute `{}` is not a plain {}", a.name, kind.as_str_name()));
    }
    Ok(())
}

/// A node with its inputs looked up.
struct Node<'v, 'a> {
    inputs: Vec<Option<&'v Value<'a>>>,
    attributes: HashMap<&'a str, &'a AttributeProto>,
}

impl<'v, 'a> Node<'v, 'a> {
    fn input(&self, index: usize) -> Checked<&'v Value<'a>> {
        self.optional(index).ok_or_else(|| format!("input {index} is missing"))
    }

    fn optional(&self, index: usize) -> Option<&'v Value<'a>> {
        self.inputs.get(index).copied().flatten()
    }

    fn typed(&self, index: usize, dtype: Dtype) -> Checked<&'v Value<'a>> {
        let value = self.input(index)?;
        if value.dtype == dtype {
            Ok(value)
        } else {
            Err(format!("input {index} is {:?}, not {dtype:?}", value.dtype))
        }
    }

    fn int(&self, name: &str, default: i64) -> i64 {
        self.attributes.get(name).map_or(default, |attribute| attribute.i)
    }

    fn flag(&self, name: &str, default: bool) -> Checked<bool> {
        match self.int(name, default.into()) {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(format!("attribute `{name}` is {other}, it must be 0 or 1")),
        }
    }

    /// `count` integers within `range`; `default` when the attribute is absent.
    fn ints(&self, name: &str, count: usize, range: RangeInclusive<i64>, default: i64) -> Checked<Shape> {
        let Some(attribute) = self.attributes.get(name) else { return Ok(vec![default as usize; count]) };
        if attribute.ints.len() != count || attribute.ints.iter().any(|value| !range.contains(value)) {
            return Err(format!(
                "attribute `{name}` is {:?}, it must be {count} numbers in {range:?}",
                attribute.ints
            ));
        }
        Ok(attribute.ints.iter().map(|&value| value as usize).collect())
    }

    /// An axis below `rank`, negative ones counted from the end.
    fn axis(&self, default: i64, rank: usize) -> Checked<usize> {
        axis(self.int("axis", default), rank)
    }

    /// A constant scale: finite, above 0, one number or `channels`.
    fn scale(&self, index: usize, channels: usize) -> Checked<usize> {
        let value = self.typed(index, Dtype::F32)?;
        let scales = value.floats().ok_or_else(|| format!("input {index} (a scale) is not constant"))?;
        // A subnormal scale has an infinite reciprocal.
        if scales.iter().any(|&scale| !(scale.is_normal() && scale > 0.0 && scale.recip().is_finite())) {
            return Err(format!("input {index}: a scale is not a positive number"));
        }
        per_channel(value, channels).ok_or_else(|| format!("input {index}: {} scales", scales.len()))
    }

    /// A constant zero point of that format, one number or `channels`.
    fn zero_point(&self, index: usize, dtype: Dtype, channels: usize) -> Checked<()> {
        let value = self.typed(index, dtype)?;
        let fits = value.constant.is_some() && per_channel(value, channels).is_some();
        if fits { Ok(()) } else { Err(format!("input {index} is not a constant zero point")) }
    }
}

fn axis(axis: i64, rank: usize) -> Checked<usize> {
    let signed = rank as i64;
    let at = if axis < 0 { axis.saturating_add(signed) } else { axis };
    if (0..signed).contains(&at) { Ok(at as usize) } else { Err(format!("axis {axis} of {rank} dimensions")) }
}

/// Number of parameters: 1 for a scalar, `channels` for a vector of them.
fn per_channel(value: &Value<'_>, channels: usize) -> Option<usize> {
    match value.shape[..] {
        [] | [1] => Some(1),
        [count] if count == channels => Some(count),
        _ => None,
    }
}

/// A sliding window over `[1, C, H, W]`.
struct Window {
    out: [usize; 2],
    area: usize,
}

fn window(node: &Node<'_, '_>, input: &[usize], kernel: [usize; 2]) -> Checked<Window> {
    let strides = node.ints("strides", 2, 1..=16, 1)?;
    let dilations = node.ints("dilations", 2, 1..=16, 1)?;
    let pads = node.ints("pads", 4, 0..=64, 0)?;
    let mut out = [0; 2];
    for side in 0..2 {
        if !(1..=64).contains(&kernel[side]) {
            return Err(format!("kernel {kernel:?}, supported are 1 to 64"));
        }
        let reach = (kernel[side] - 1) * dilations[side] + 1;
        let room = (input[2 + side] + pads[side] + pads[side + 2])
            .checked_sub(reach)
            .ok_or_else(|| format!("kernel {kernel:?} is larger than its input {input:?}"))?;
        // tract's pools divide by the pixels under the window: none must be all padding
        if pads[side] >= reach || pads[side + 2] >= reach {
            return Err(format!("pads {pads:?} reach beyond kernel {kernel:?}"));
        }
        out[side] = room / strides[side] + 1;
    }
    Ok(Window { out, area: kernel[0] * kernel[1] })
}

fn picture(value: &Value<'_>) -> Checked<[usize; 4]> {
    match value.shape[..] {
        [1, c, h, w] => Ok([1, c, h, w]),
        _ => Err(format!("its input is {:?}, not [1, channels, height, width]", value.shape)),
    }
}

/// Shape of a convolution of input `x` with weights `w` and bias `b`.
fn convolve(node: &Node<'_, '_>, x: usize, w: usize, b: usize, bias: Dtype) -> Checked<Shape> {
    let input = picture(node.input(x)?)?;
    let weights = node.input(w)?;
    let [out, per_group, kh, kw] = weights.shape[..] else {
        return Err(format!("weights are {:?}, not [out, in / group, height, width]", weights.shape));
    };
    if !weights.fixed {
        return Err("its weights are not constant".to_string());
    }
    let group = usize::try_from(node.int("group", 1)).unwrap_or(0);
    if group == 0 || out % group != 0 || per_group.checked_mul(group) != Some(input[1]) {
        return Err(format!("{group} groups do not fit input {input:?} and weights {:?}", weights.shape));
    }
    if node
        .ints("kernel_shape", 2, 1..=64, 0)?
        .iter()
        .zip([kh, kw])
        .any(|(&said, is)| said != 0 && said != is)
    {
        return Err("kernel_shape differs from the weights".to_string());
    }
    if b < node.inputs.len() {
        let value = node.typed(b, bias)?;
        if value.shape != [out] || !value.fixed {
            return Err(format!("bias is {:?}, not constant [{out}]", value.shape));
        }
    }
    let window = window(node, &input, [kh, kw])?;
    let places = window.out[0] * window.out[1];
    let unfolded = places.saturating_mul(window.area).saturating_mul(input[1]);
    let work = places.saturating_mul(window.area).saturating_mul(per_group).saturating_mul(out);
    if unfolded > MAX_UNFOLDED || work > MAX_WORK {
        return Err(format!("too much work: {work} multiplications"));
    }
    Ok(vec![1, out, window.out[0], window.out[1]])
}

fn conv(node: &Node<'_, '_>) -> Checked<(Dtype, Shape)> {
    node.typed(0, Dtype::F32)?;
    node.typed(1, Dtype::F32)?;
    Ok((Dtype::F32, convolve(node, 0, 1, 2, Dtype::F32)?))
}

/// x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias
fn qlinear_conv(node: &Node<'_, '_>) -> Checked<(Dtype, Shape)> {
    let x = byte(node.input(0)?)?;
    let w = byte(node.input(3)?)?;
    let y = byte(node.input(7)?)?;
    let shape = convolve(node, 0, 3, 8, Dtype::I32)?;
    node.scale(1, 1)?;
    node.zero_point(2, x, 1)?;
    node.scale(4, shape[1])?;
    node.zero_point(5, w, shape[1])?;
    node.scale(6, 1)?;
    node.zero_point(7, y, 1)?;
    Ok((y, shape))
}

fn byte(value: &Value<'_>) -> Checked<Dtype> {
    match value.dtype {
        Dtype::I8 | Dtype::U8 => Ok(value.dtype),
        other => Err(format!("{other:?} where 8-bit integers belong")),
    }
}

fn quantize(node: &Node<'_, '_>) -> Checked<(Dtype, Shape)> {
    let value = node.typed(0, Dtype::F32)?;
    node.scale(1, 1)?;
    // without a zero point it is 0, and the format unsigned
    let to = if node.inputs.len() > 2 { byte(node.input(2)?)? } else { Dtype::U8 };
    if node.inputs.len() > 2 {
        node.zero_point(2, to, 1)?;
    }
    Ok((to, value.shape.clone()))
}

fn dequantize(node: &Node<'_, '_>) -> Checked<(Dtype, Shape)> {
    let value = node.input(0)?;
    let from = value.dtype;
    if !matches!(from, Dtype::I8 | Dtype::U8 | Dtype::I32) {
        return Err(format!("{from:?} cannot be dequantized"));
    }
    let scales = node.input(1)?.len();
    let channels =
        if scales > 1 { *value.shape.get(node.axis(1, value.shape.len())?).unwrap_or(&1) } else { 1 };
    node.scale(1, channels)?;
    if node.inputs.len() > 2 {
        node.zero_point(2, from, channels)?;
    }
    Ok((Dtype::F32, value.shape.clone()))
}

fn matmul_integer(node: &Node<'_, '_>) -> Checked<(Dtype, Shape)> {
    let (a, b) = (byte(node.input(0)?)?, byte(node.input(1)?)?);
    if node.inputs.len() > 2 {
        node.zero_point(2, a, 1)?;
    }
    if node.inputs.len() > 3 {
        node.zero_point(3, b, 1)?;
    }
    Ok((Dtype::I32, matmul(node)?))
}

fn matmul_f32(node: &Node<'_, '_>) -> Checked<(Dtype, Shape)> {
    node.typed(0, Dtype::F32)?;
    node.typed(1, Dtype::F32)?;
    Ok((Dtype::F32, matmul(node)?))
}

fn matmul(node: &Node<'_, '_>) -> Checked<Shape> {
    let (a, b) = (&node.input(0)?.shape, &node.input(1)?.shape);
    let ([batch_a @ .., m, k], [batch_b @ .., k2, n]) = (&a[..], &b[..]) else {
        return Err(format!("{a:?} times {b:?}: matrices have two dimensions"));
    };
    if k != k2 {
        return Err(format!("{a:?} times {b:?}: the inner dimensions differ"));
    }
    let mut shape = broadcast(batch_a, batch_b)?;
    shape.extend([*m, *n]);
    if elements(&shape)?.saturating_mul(*k) > MAX_WORK {
        return Err(format!("{a:?} times {b:?} is too much work"));
    }
    Ok(shape)
}

fn gemm(node: &Node<'_, '_>) -> Checked<(Dtype, Shape)> {
    let matrix = |index: usize, turned: &str| match (
        &node.typed(index, Dtype::F32)?.shape[..],
        node.flag(turned, false)?,
    ) {
        (&[rows, columns], false) | (&[columns, rows], true) => Ok([rows, columns]),
        (other, _) => Err(format!("input {index} is {other:?}, not a matrix")),
    };
    let ([m, k], [k2, n]) = (matrix(0, "transA")?, matrix(1, "transB")?);
    if k != k2 || elements(&[m, n])?.saturating_mul(k) > MAX_WORK {
        return Err(format!("[{m}, {k}] times [{k2}, {n}]"));
    }
    if node.inputs.len() > 2 {
        let bias = node.typed(2, Dtype::F32)?;
        if broadcast(&bias.shape, &[m, n])? != [m, n] {
            return Err(format!("bias {:?} does not fit [{m}, {n}]", bias.shape));
        }
    }
    Ok((Dtype::F32, vec![m, n]))
}

fn broadcast(a: &[usize], b: &[usize]) -> Checked<Shape> {
    let rank = a.len().max(b.len());
    let dim = |shape: &[usize], i: usize| (i + shape.len()).checked_sub(rank).map_or(1, |at| shape[at]);
    (0..rank)
        .map(|i| match (dim(a, i), dim(b, i)) {
            (x, y) if x == y || y == 1 => Ok(x),
            (1, y) => Ok(y),
            _ => Err(format!("{a:?} and {b:?} do not broadcast")),
        })
        .collect()
}

fn binary(node: &Node<'_, '_>) -> Checked<(Dtype, Shape)> {
    let (a, b) = (node.typed(0, Dtype::F32)?, node.typed(1, Dtype::F32)?);
    Ok((Dtype::F32, broadcast(&a.shape, &b.shape)?))
}

fn unary(node: &Node<'_, '_>) -> Checked<(Dtype, Shape)> {
    Ok((Dtype::F32, node.typed(0, Dtype::F32)?.shape.clone()))
}

fn identity(node: &Node<'_, '_>) -> Checked<(Dtype, Shape)> {
    let value = node.input(0)?;
    Ok((value.dtype, value.shape.clone()))
}

fn clip(node: &Node<'_, '_>) -> Checked<(Dtype, Shape)> {
    for bound in 1..node.inputs.len() {
        if let Some(value) = node.optional(bound) {
            let scalar = value.dtype == Dtype::F32 && value.shape.is_empty() && value.constant.is_some();
            if !scalar {
                return Err(format!("input {bound} is not a constant number"));
            }
        }
    }
    unary(node)
}

fn softmax(node: &Node<'_, '_>) -> Checked<(Dtype, Shape)> {
    node.axis(-1, node.input(0)?.shape.len())?;
    unary(node)
}

fn layer_norm(node: &Node<'_, '_>) -> Checked<(Dtype, Shape)> {
    let shape = &node.typed(0, Dtype::F32)?.shape;
    let axis = node.axis(-1, shape.len())?;
    if node.int("stash_type", 1) != 1
        || node.attributes.get("epsilon").is_some_and(|epsilon| epsilon.f <= 0.0)
    {
        return Err("stash_type must be 1 and epsilon above 0".to_string());
    }
    for index in 1..node.inputs.len() {
        if node.typed(index, Dtype::F32)?.shape != shape[axis..] {
            return Err(format!("input {index} is not {:?}", &shape[axis..]));
        }
    }
    unary(node)
}

fn reduce_mean(node: &Node<'_, '_>) -> Checked<(Dtype, Shape)> {
    let value = node.typed(0, Dtype::F32)?;
    let listed = match (node.attributes.get("axes"), node.optional(1)) {
        (Some(attribute), None) => attribute.ints.clone(),
        (None, Some(axes)) => axes
            .ints()
            .filter(|_| axes.dtype == Dtype::I64)
            .ok_or_else(|| "its axes are not constant".to_string())?,
        _ => return Err("its axes are given twice or not at all".to_string()),
    };
    let rank = value.shape.len();
    let axes = listed.iter().map(|&at| axis(at, rank)).collect::<Checked<Vec<_>>>()?;
    if axes.is_empty() || axes.iter().enumerate().any(|(i, at)| axes[..i].contains(at)) {
        return Err(format!("axes {listed:?} are none or repeat"));
    }
    let keep = node.flag("keepdims", true)?;
    let shape = value.shape.iter().enumerate().filter_map(|(i, &size)| match axes.contains(&i) {
        false => Some(size),
        true => keep.then_some(1),
    });
    Ok((Dtype::F32, shape.collect()))
}

fn global_pool(node: &Node<'_, '_>) -> Checked<(Dtype, Shape)> {
    let [_, channels, ..] = picture(node.typed(0, Dtype::F32)?)?;
    Ok((Dtype::F32, vec![1, channels, 1, 1]))
}

fn average_pool(node: &Node<'_, '_>) -> Checked<(Dtype, Shape)> {
    node.typed(0, Dtype::F32)?;
    pool(node)
}

/// The largest of integers is one of them: no scale is needed.
fn max_pool(node: &Node<'_, '_>) -> Checked<(Dtype, Shape)> {
    match node.input(0)?.dtype {
        Dtype::F32 | Dtype::I8 | Dtype::U8 => pool(node),
        other => Err(format!("a pool of {other:?} is not supported")),
    }
}

fn concat(node: &Node<'_, '_>) -> Checked<(Dtype, Shape)> {
    let first = node.input(0)?;
    let mut shape = first.shape.clone();
    let axis = axis(node.attributes.get("axis").ok_or("attribute `axis` is missing")?.i, shape.len())?;
    for index in 1..node.inputs.len() {
        let next = node.typed(index, first.dtype)?;
        let fits = next.shape.len() == shape.len()
            && (0..shape.len()).all(|i| i == axis || next.shape[i] == shape[i]);
        if !fits {
            return Err(format!("input {index} is {:?}, beside {:?}", next.shape, first.shape));
        }
        shape[axis] = shape[axis].checked_add(next.shape[axis]).ok_or("the sum of its sizes overflows")?;
    }
    Ok((first.dtype, shape))
}

fn slice(node: &Node<'_, '_>) -> Checked<(Dtype, Shape)> {
    let value = node.typed(0, Dtype::F32)?;
    let bounds = |index: usize| -> Checked<Vec<i64>> {
        let bound = node.typed(index, Dtype::I64)?;
        let known =
            bound.ints().filter(|ints| bound.shape == [ints.len()] && ints.len() == value.shape.len());
        known.ok_or_else(|| format!("input {index} is not a constant number for each dimension"))
    };
    let (starts, ends) = (bounds(1)?, bounds(2)?);
    let size = |((&start, &end), &size): ((&i64, &i64), &usize)| -> Checked<usize> {
        let (from, to) = (usize::try_from(start).ok(), usize::try_from(end).ok());
        match (from, to) {
            (Some(from), Some(to)) if from < to && to <= size => Ok(to - from),
            _ => Err(format!("{start} to {end} of {size}")),
        }
    };
    let shape: Checked<Shape> = starts.iter().zip(&ends).zip(&value.shape).map(size).collect();
    Ok((value.dtype, shape?))
}

fn pool(node: &Node<'_, '_>) -> Checked<(Dtype, Shape)> {
    let value = node.input(0)?;
    let input = picture(value)?;
    if node.flag("ceil_mode", false)? {
        return Err("ceil_mode is not supported".to_string());
    }
    node.flag("count_include_pad", false)?;
    let kernel = node.ints("kernel_shape", 2, 1..=64, 0)?;
    let window = window(node, &input, [kernel[0], kernel[1]])?;
    Ok((value.dtype, vec![1, input[1], window.out[0], window.out[1]]))
}

fn flatten(node: &Node<'_, '_>) -> Checked<(Dtype, Shape)> {
    let value = node.input(0)?;
    let axis = node.axis(1, value.shape.len())?;
    let (outer, inner) = value.shape.split_at(axis);
    Ok((value.dtype, vec![outer.iter().product(), inner.iter().product()]))
}

fn reshape(node: &Node<'_, '_>) -> Checked<(Dtype, Shape)> {
    let value = node.input(0)?;
    let target = node.typed(1, Dtype::I64)?;
    let sizes =
        target.ints().filter(|_| target.shape.len() == 1).ok_or("its shape is not a constant vector")?;
    if node.flag("allowzero", false)? {
        return Err("allowzero is not supported".to_string());
    }
    let mut shape = Vec::new();
    let mut open = None;
    for (i, &size) in sizes.iter().enumerate() {
        shape.push(match size {
            -1 if open.is_none() => {
                open = Some(i);
                1
            }
            0 => *value.shape.get(i).ok_or("a 0 in its shape has nothing to copy")?,
            size => usize::try_from(size).map_err(|_| format!("shape {sizes:?}"))?,
        });
    }
    let known = elements(&shape)?;
    if let Some(at) = open {
        shape[at] = value.len() / known;
    }
    if elements(&shape)? != value.len() {
        return Err(format!("{:?} cannot become {sizes:?}", value.shape));
    }
    Ok((value.dtype, shape))
}

fn transpose(node: &Node<'_, '_>) -> Checked<(Dtype, Shape)> {
    let value = node.input(0)?;
    let rank = value.shape.len();
    let Some(perm) = node.attributes.get("perm") else {
        return Ok((value.dtype, value.shape.iter().rev().copied().collect()));
    };
    let mut sorted = perm.ints.clone();
    sorted.sort_unstable();
    if !sorted.iter().copied().eq(0..rank as i64) {
        return Err(format!("perm {:?} of {rank} dimensions", perm.ints));
    }
    Ok((value.dtype, perm.ints.iter().map(|&from| value.shape[from as usize]).collect()))
}

fn cast(node: &Node<'_, '_>) -> Checked<(Dtype, Shape)> {
    let to = i32::try_from(node.int("to", 0)).map_err(|error| error.to_string())?;
    match Dtype::from_onnx(to)? {
        to @ (Dtype::F32 | Dtype::I32) => Ok((to, node.input(0)?.shape.clone())),
        other => Err(format!("a cast to {other:?} is not supported")),
    }
}

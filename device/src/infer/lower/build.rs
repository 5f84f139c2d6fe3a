//! Turns a run of covered nodes into a plan.

use std::{collections::HashMap, sync::Arc};

use tract_onnx::{
    pb::NodeProto,
    tract_core::internal::{Datum, DatumType},
};

use super::{
    super::profile::{Dtype, Value},
    cover::{Cover, Source, int, operands, picture, scales, sizes, vector},
    op::Int8Region,
    plan::{Action, Picture, Plan, Port, Step},
};
use crate::kernels::{
    Kernels, Requant, depthwise::Filters, elementwise::SumArgs, gemm::Weights, pool::Pool, window::Window,
};

/// A run of nodes as one operator: the tensors it reads and gives, by name.
#[derive(Debug)]
pub(super) struct Region {
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    pub op: Int8Region,
}

/// What a region runs on.
#[derive(Clone, Debug)]
pub(in crate::infer) struct Target {
    pub kernels: &'static Kernels,
    pub pool: Arc<Pool>,
}

/// Builds the region of `nodes` (indices), whose values `wanted` are read elsewhere.
///
/// # Errors
/// A node that [`super::cover`] let through and that this does not know: a defect, in words.
pub(super) fn region<'a>(
    source: Source<'a>,
    covers: &'a [Cover],
    nodes: &[usize],
    wanted: impl Fn(&str) -> bool,
    Target { kernels, pool }: &Target,
) -> Result<Region, String> {
    let mut builder = Builder {
        source,
        covers,
        kernels,
        pictures: HashMap::new(),
        vectors: HashMap::new(),
        count: 0,
        slots: 0,
        names: Vec::new(),
        ports: Vec::new(),
        steps: Vec::new(),
    };
    let ours = nodes.iter().filter(|&&at| covers[at] == Cover::Ours);
    for &at in ours.clone() {
        let node = &source.graph.node[at];
        builder.node(node).map_err(|problem| format!("node `{}`: {problem}", node.name))?;
    }
    let (mut outputs, mut ports, mut facts) = (Vec::new(), Vec::new(), Vec::new());
    for &at in ours {
        let name = &source.graph.node[at].output[0];
        if !wanted(name) {
            continue;
        }
        let value = source.value(name)?;
        let port = match builder.pictures.get(name) {
            Some(&picture) => Port::Picture(picture),
            None => Port::Vector(*builder.vectors.get(name).ok_or("an output is not made")?),
        };
        facts.push((datum_type(value.dtype), value.shape.clone()));
        ports.push(port);
        outputs.push(name.clone());
    }
    let plan = Plan::new(kernels, Arc::clone(pool), builder.ports, builder.steps, ports, builder.slots);
    let op = Int8Region { plan: Arc::new(plan), outputs: facts };
    Ok(Region { inputs: builder.names, outputs, op })
}

struct Builder<'a> {
    source: Source<'a>,
    covers: &'a [Cover],
    kernels: &'static Kernels,
    pictures: HashMap<String, Picture>,
    vectors: HashMap<String, usize>,
    /// Pictures so far.
    count: usize,
    /// Vectors so far.
    slots: usize,
    /// Tensors that come from outside, and how each comes in.
    names: Vec<String>,
    ports: Vec<Port>,
    steps: Vec<Step>,
}

impl<'a> Builder<'a> {
    fn fresh(&mut self, [channels, height, width]: [usize; 3]) -> Picture {
        self.count += 1;
        Picture { buffer: self.count - 1, height, width, channels }
    }

    fn given(&mut self, name: &str, port: Port) {
        self.names.push(name.to_string());
        self.ports.push(port);
    }

    fn size(&self, name: &str) -> Result<[usize; 3], String> {
        picture(self.source.value(name)?).ok_or_else(|| format!("`{name}` is no picture"))
    }

    /// An int8 picture, from this region or from outside.
    fn picture(&mut self, name: &str) -> Result<Picture, String> {
        if let Some(&picture) = self.pictures.get(name) {
            return Ok(picture);
        }
        let size = self.size(name)?;
        let picture = self.fresh(size);
        self.given(name, Port::Picture(picture));
        self.pictures.insert(name.into(), picture);
        Ok(picture)
    }

    fn made(&mut self, name: &str) -> Result<Picture, String> {
        let size = self.size(name)?;
        let picture = self.fresh(size);
        self.pictures.insert(name.into(), picture);
        Ok(picture)
    }

    fn vector(&mut self, name: &str) -> usize {
        if let Some(&at) = self.vectors.get(name) {
            return at;
        }
        let at = self.made_vector(name);
        self.given(name, Port::Vector(at));
        at
    }

    fn made_vector(&mut self, name: &str) -> usize {
        self.slots += 1;
        self.vectors.insert(name.into(), self.slots - 1);
        self.slots - 1
    }

    fn push(&mut self, node: &NodeProto, action: Action) {
        let name = if node.name.is_empty() { &node.output[0] } else { &node.name };
        self.steps.push(Step { name: name.clone(), action });
    }

    /// The int8 picture behind a DequantizeLinear, its scale and zero point.
    fn dequantized(&mut self, name: &str) -> Result<(Picture, f32, i8), String> {
        let (_, node) = self.source.maker(name).ok_or_else(|| format!("`{name}` is not made"))?;
        let (scale, zero) = (self.source.scale(node, 1)?, self.source.zero(node, 2)?);
        Ok((self.picture(&node.input[0])?, scale, zero))
    }

    fn node(&mut self, node: &'a NodeProto) -> Result<(), String> {
        let (source, output) = (self.source, node.output[0].as_str());
        match node.op_type.as_str() {
            "QLinearConv" => return self.convolution(node),
            "QuantizeLinear" => {
                let (scale, zero) = (source.scale(node, 1)?, source.zero(node, 2)?);
                let input = node.input[0].as_str();
                // only a sum that was looked through: any other is made elsewhere, or not one of equals
                let added = source.maker(input).filter(|(at, maker)| {
                    maker.op_type == "Add" && self.covers.get(*at) == Some(&Cover::Through)
                });
                if self.vectors.contains_key(input)
                    || vector(source.value(input)?).is_some() && added.is_none()
                {
                    let x = self.vector(input);
                    let out = self.made_vector(output);
                    self.push(node, Action::Quantize { x, out, scale, zero });
                } else if let Some((_, add)) = added {
                    let (a, scale_a, zero_a) = self.dequantized(&add.input[0])?;
                    let (b, scale_b, zero_b) = self.dequantized(&add.input[1])?;
                    let out = self.made(output)?;
                    let args = SumArgs { scales: [scale_a, scale_b], zeros: [zero_a, zero_b], scale, zero };
                    self.push(node, Action::Sum { a, b, out, args });
                } else {
                    let picture = self.made(output)?;
                    self.given(input, Port::Real { picture, scale, zero });
                }
            }
            "GlobalAveragePool" => {
                let (x, scale, zero) = self.dequantized(&node.input[0])?;
                let out = self.made_vector(output);
                self.push(node, Action::Average { x, out, scale, zero });
            }
            "Flatten" | "Reshape" | "Identity" => {
                let at = self.vector(&node.input[0]);
                self.vectors.insert(output.into(), at);
            }
            "MatMulInteger" => {
                let weights = source.input(node, 1)?;
                let action = Action::DenseI32 {
                    x: self.vector(&node.input[0]),
                    out: self.made_vector(output),
                    zero: source.zero(node, 2)?,
                    weights: weights.bytes().ok_or("its weights are not constant")?,
                    columns: weights.shape[1],
                };
                self.push(node, action);
            }
            "Cast" => {
                let (x, out) = (self.vector(&node.input[0]), self.made_vector(output));
                self.push(node, Action::ToF32 { x, out });
            }
            "Mul" | "Add" => {
                let (x, by) = operands(source, node)?;
                let by = spread(source.input(node, by)?, source.value(output)?.len())?;
                let (x, out) = (self.vector(&node.input[x]), self.made_vector(output));
                let action = match node.op_type.as_str() {
                    "Mul" => Action::Scale { x, out, by },
                    _ => Action::Shift { x, out, by },
                };
                self.push(node, action);
            }
            "Gemm" => {
                let given = source.input(node, 1)?;
                let mut weights = given.floats().ok_or("its weights are not constant")?;
                let columns = source.value(output)?.len();
                if int(node, "transB", 0) == 1 {
                    let depth = given.shape[1];
                    let at = |i: usize| weights[i % columns * depth + i / columns];
                    weights = (0..weights.len()).map(at).collect();
                }
                let bias = match node.input.len() {
                    0..3 => vec![0.0; columns],
                    _ => spread(source.input(node, 2)?, columns)?,
                };
                let (x, out) = (self.vector(&node.input[0]), self.made_vector(output));
                self.push(node, Action::DenseF32 { x, out, weights, bias });
            }
            other => return Err(format!("{other} is covered and not built")),
        }
        Ok(())
    }

    fn convolution(&mut self, node: &'a NodeProto) -> Result<(), String> {
        let source = self.source;
        let input = node.input[0].as_str();
        let given = source.input(node, 3)?;
        let w = given.bytes().ok_or("its weights are not constant")?;
        let [columns, depth, height, width] = given.shape[..] else { return Err("its weights".into()) };
        let (zero, y_zero) = (source.zero(node, 2)?, source.zero(node, 7)?);
        let filter = depth * height * width;
        // The input's zero point goes into the bias: Σ (x − zero)·w = Σ x·w − zero · Σ w.
        let mut bias = match node.input.len() {
            0..9 => vec![0; columns],
            _ => {
                let bias = source.input(node, 8)?.ints().ok_or("its bias is not constant")?;
                bias.iter().map(|&bias| bias as i32).collect()
            }
        };
        for (bias, filter) in bias.iter_mut().zip(w.chunks_exact(filter)) {
            let total: i32 = filter.iter().map(|&w| i32::from(w)).sum();
            *bias = bias.wrapping_sub(total.wrapping_mul(zero.into()));
        }
        let requant = Requant::new(bias, scales(source, node)?, y_zero);

        let [channels, rows, line] = self.size(input)?;
        let pads: [usize; 4] = sizes(node, "pads", 0);
        let output = self.size(&node.output[0])?;
        let mut window = Window {
            input: [rows, line],
            output: [output[1], output[2]],
            kernel: [height, width],
            stride: sizes(node, "strides", 1),
            dilation: sizes(node, "dilations", 1),
            pad: [pads[0], pads[1]],
            channels,
            span: channels,
            origin: 0,
        };
        let (dense, taps) = (int(node, "group", 1) == 1, height * width);
        // The picture that comes in, read once: framed, so that the taps of a row lie in one piece.
        let readers = source.readers.get(input).map_or(0, Vec::len);
        let outside = !self.pictures.contains_key(input);
        if dense && channels <= 4 && width > 1 && outside && readers == 1 && window.dilation == [1, 1] {
            let framed = [4, rows + pads[0] + pads[2], line + pads[1] + pads[3]];
            let x = self.fresh(framed);
            let size = [channels, rows, line];
            let pad = window.pad;
            self.given(input, Port::Framed { picture: x, size, pad, zero });
            window = Window {
                input: [framed[1], framed[2]],
                kernel: [height, 1],
                pad: [0, 0],
                channels: 4,
                span: 4 * width,
                origin: x.origin(),
                ..window
            };
            let mut framed = vec![0; columns * height * width * 4];
            for (i, &w) in w.iter().enumerate() {
                let (column, channel) = (i / (channels * taps), i / taps % channels);
                let (tap, side) = (i % taps / width, i % width);
                framed[((column * height + tap) * width + side) * 4 + channel] = w;
            }
            let weights = Weights::pack(self.kernels, [columns, height, 4 * width], &framed, requant);
            let out = self.made(&node.output[0])?;
            self.push(node, Action::Convolve { x, out, zero, window, weights });
            return Ok(());
        }
        let x = self.picture(input)?;
        window.origin = x.origin();
        let out = self.made(&node.output[0])?;
        let action = if dense {
            let mut turned = w;
            if taps > 1 {
                // a column's [depth][tap] as [tap][depth]
                let mut of_column = vec![0; filter];
                for w in turned.chunks_exact_mut(filter) {
                    for (i, turned) in of_column.iter_mut().enumerate() {
                        *turned = w[i % depth * taps + i / depth];
                    }
                    w.copy_from_slice(&of_column);
                }
            }
            let weights = Weights::pack(self.kernels, [columns, taps, depth], &turned, requant);
            Action::Convolve { x, out, zero, window, weights }
        } else {
            let filters = Filters::pack([channels, taps], |channel, tap| w[channel * taps + tap], requant);
            Action::Depthwise { x, out, zero, window, filters }
        };
        self.push(node, action);
        Ok(())
    }
}

/// One number for each of `length`.
fn spread(value: &Value<'_>, length: usize) -> Result<Vec<f32>, String> {
    let mut numbers = value.floats().ok_or("its constant is not f32")?;
    if numbers.len() == 1 {
        numbers.resize(length, numbers[0]);
    }
    Ok(numbers)
}

/// tract's name of a number format.
pub(super) fn datum_type(dtype: Dtype) -> DatumType {
    match dtype {
        Dtype::F32 => f32::datum_type(),
        Dtype::I8 => i8::datum_type(),
        Dtype::U8 => u8::datum_type(),
        Dtype::I32 => i32::datum_type(),
        Dtype::I64 => i64::datum_type(),
    }
}

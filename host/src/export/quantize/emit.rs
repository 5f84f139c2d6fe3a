//! Writes the integer graph, node by node in the order of the f32 one.

use std::collections::{BTreeMap, HashMap};

use csp_models::manifest::ImageInput;

use super::{
    super::{
        error::ExportError,
        graph::{Attribute, Constant, Element, Graph, Node, Numbers},
    },
    Head, PROFILE,
    filters::{self, Filters},
    normalise,
    observe::Statistics,
    plan::{Bounds, Plan, Role},
    range::{Affine, Method, affine},
};

/// Element type FLOAT in ONNX's Cast.
const ONNX_FLOAT: i64 = 1;

pub(super) fn emit(
    source: &Graph,
    plan: &Plan,
    statistics: &BTreeMap<String, Statistics>,
    input: &ImageInput,
    method: Method,
    head: Head,
) -> Result<Emitted, ExportError> {
    let mut graph = Graph {
        name: source.name.clone(),
        inputs: source.inputs.clone(),
        outputs: source.outputs.clone(),
        ..Graph::default()
    };
    graph.metadata.insert("profile".into(), PROFILE.into());
    graph.metadata.insert("input".into(), "pixel ^ 0x80".into());
    let mut value = source.values[&source.inputs[0]].clone();
    value.element = Element::I8;
    graph.values.insert(source.inputs[0].clone(), value);
    let mut emitter = Emitter {
        source,
        plan,
        statistics,
        input,
        method,
        graph,
        int8: HashMap::new(),
        float: HashMap::new(),
    };
    emitter.register(&source.inputs[0], picture_affine(input));
    for (at, (node, role)) in source.nodes.iter().zip(&plan.roles).enumerate() {
        match (role, head) {
            (Role::Swallowed, _) => {}
            (Role::Conv, _) => emitter.conv(at, node)?,
            (Role::Add, _) => emitter.add(at, node)?,
            (Role::Dense, Head::Integer) => emitter.dense(node)?,
            (Role::Keep, _) => emitter.keep(node)?,
            (Role::Float | Role::Dense, _) => emitter.float(node)?,
        }
    }
    emitter.finish()
}

/// An integer graph, with where the values of the f32 graph went.
pub(super) struct Emitted {
    pub graph: Graph,
    /// Values that exist as int8, by their name in the f32 graph: name there, scale and zero point.
    pub int8: HashMap<String, (String, Affine)>,
}

/// The picture as the first convolution sees it: levels 0 to 1, counted from the border's byte.
fn picture_affine(input: &ImageInput) -> Affine {
    Affine { scale: 1.0 / 255.0, zero: normalise::zero_point(input) }
}

struct Emitter<'a> {
    source: &'a Graph,
    plan: &'a Plan,
    statistics: &'a BTreeMap<String, Statistics>,
    input: &'a ImageInput,
    method: Method,
    graph: Graph,
    /// Values that exist as int8, by their name in the f32 graph: name here, scale and zero point.
    int8: HashMap<String, (String, Affine)>,
    /// Values that exist as f32: name here.
    float: HashMap<String, String>,
}

impl Emitter<'_> {
    fn error(&self, node: &str, problem: impl Into<String>) -> ExportError {
        ExportError::Quantize {
            network: self.source.name.clone(),
            node: node.into(),
            problem: problem.into(),
        }
    }

    fn register(&mut self, value: &str, affine: Affine) {
        self.int8.insert(value.into(), (value.into(), affine));
    }

    /// Scale and zero point of a value as constants, rank 0.
    fn parameters(&mut self, value: &str, affine: Affine) -> [String; 2] {
        [
            self.graph.constant(&format!("{value}.scale"), Constant::scalar(affine.scale)),
            self.graph.constant(&format!("{value}.zero_point"), Constant::scalar_i8(affine.zero)),
        ]
    }

    fn seen(&self, value: &str) -> Result<&Statistics, ExportError> {
        self.statistics.get(value).ok_or_else(|| self.error(value, "its range was not observed"))
    }

    fn push(
        &mut self,
        op: &'static str,
        name: &str,
        inputs: Vec<String>,
        output: &str,
        like: &str,
        element: Element,
    ) -> &mut Node {
        let shape = self.source.shape(like).to_vec();
        let name = self.graph.fresh(name);
        let node = Node { op, name, inputs, output: output.into(), attributes: BTreeMap::new() };
        self.graph.push(node, element, &shape);
        let at = self.graph.nodes.len() - 1;
        &mut self.graph.nodes[at]
    }

    /// The int8 form of a value; quantized here if only the f32 one exists.
    fn as_int8(&mut self, value: &str) -> Result<(String, Affine), ExportError> {
        if let Some(found) = self.int8.get(value) {
            return Ok(found.clone());
        }
        let float = self.as_float(value)?;
        let affine = affine(self.seen(value)?, Bounds::OPEN, self.method);
        let output = format!("{value}.quantized");
        let [scale, zero] = self.parameters(value, affine);
        self.push(
            "QuantizeLinear",
            &format!("{value}.quantize"),
            vec![float, scale, zero],
            &output,
            value,
            Element::I8,
        );
        self.int8.insert(value.into(), (output.clone(), affine));
        Ok((output, affine))
    }

    /// The f32 form of a value; dequantized here if only the int8 one exists.
    fn as_float(&mut self, value: &str) -> Result<String, ExportError> {
        if let Some(found) = self.float.get(value) {
            return Ok(found.clone());
        }
        let Some((int8, affine)) = self.int8.get(value).cloned() else {
            return Err(self.error(value, "it is read before it is computed"));
        };
        let output = format!("{value}.f32");
        let [scale, zero] = self.parameters(value, affine);
        self.push(
            "DequantizeLinear",
            &format!("{value}.dequantize"),
            vec![int8, scale, zero],
            &output,
            value,
            Element::F32,
        );
        self.float.insert(value.into(), output.clone());
        Ok(output)
    }

    /// What a node computes once its activation is part of it.
    fn output_of(&self, at: usize, node: &Node) -> (String, Bounds) {
        self.plan.outputs.get(&at).cloned().unwrap_or((node.output.clone(), Bounds::OPEN))
    }

    fn conv(&mut self, at: usize, node: &Node) -> Result<(), ExportError> {
        let first = node.inputs[0] == self.source.inputs[0];
        let (x, x_affine) = self.as_int8(&node.inputs[0])?;
        let (output, bounds) = self.output_of(at, node);
        let y_affine = affine(self.seen(&output)?, bounds, self.method);
        let shape = self.source.shape(&node.inputs[1]).to_vec();
        let Some(filters) = self.filters(node, &shape, x_affine, first)? else {
            return Err(self.error(
                &node.name,
                "its bias is too large for 32-bit accumulators beside its weights: the training diverged",
            ));
        };
        let channels = shape[0];
        let [x_scale, x_zero] = self.parameters(&node.inputs[0], x_affine);
        let [y_scale, y_zero] = self.parameters(&output, y_affine);
        let name = &node.name;
        let weight = Constant { shape, numbers: Numbers::I8(filters.weights) };
        let bias = Constant { shape: vec![channels], numbers: Numbers::I32(filters.biases) };
        let weight = self.graph.constant(&format!("{name}.weight"), weight);
        let weight_scale =
            self.graph.constant(&format!("{name}.weight.scale"), Constant::f32([channels], filters.scales));
        // Rank 0, not a vector of zeros: a runtime need not subtract what is one known zero.
        let weight_zero = self.graph.constant("weight.zero_point", Constant::scalar_i8(0));
        let bias = self.graph.constant(&format!("{name}.bias"), bias);
        let inputs = vec![x, x_scale, x_zero, weight, weight_scale, weight_zero, y_scale, y_zero, bias];
        let attributes = node.attributes.clone();
        self.push("QLinearConv", name, inputs, &output, &output, Element::I8).attributes = attributes;
        self.register(&output, y_affine);
        Ok(())
    }

    /// A convolution's weights and biases in integers; the first one takes the normalisation in.
    fn filters(
        &self,
        node: &Node,
        shape: &[usize],
        x: Affine,
        first: bool,
    ) -> Result<Option<Filters>, ExportError> {
        let float = |name: &str| self.source.constants.get(name).and_then(Constant::as_f32);
        let Some(weight) = float(&node.inputs[1]).filter(|_| shape.len() == 4) else {
            return Err(self.error(&node.name, "its weight is not a constant f32 [out, in, kernel, kernel]"));
        };
        let bias = node.inputs.get(2).and_then(|name| float(name));
        let means = &self.seen(&node.inputs[0])?.means;
        let (channels, inputs, kernel) = (shape[0], shape[1], shape[2] * shape[3]);
        let group_size = channels / usize::try_from(node.int("group", 1)).unwrap_or(1).max(1);
        // which channel of the input a filter's i-th plane reads
        let plane = |c: usize, i: usize| c / group_size.max(1) * inputs + i;
        let (mut weight, mut means) = (weight.to_vec(), means.clone());
        let mut shift = vec![0.0; channels];
        if first {
            shift = normalise::fold(&mut weight, shape, self.input);
            let level = (f64::from(x.zero) + 128.0) / 255.0;
            let input = self.input;
            means.iter_mut().enumerate().for_each(|(c, m)| {
                *m = *m * f64::from(input.std[c]) + f64::from(input.mean[c]) - level;
            });
        }
        // Rounding a filter moves the channel's mean by (rounded − exact) · E[x]: the bias takes it back.
        let corrected = |c: usize, rounded: &[f32]| -> f64 {
            let exact = &weight[c * inputs * kernel..][..inputs * kernel];
            let moved: f64 = rounded
                .iter()
                .zip(exact)
                .enumerate()
                .map(|(at, (r, e))| {
                    f64::from(r - e) * means.get(plane(c, at / kernel)).copied().unwrap_or(0.0)
                })
                .sum();
            bias.map_or(0.0, |bias| f64::from(bias[c])) + shift[c] - moved
        };
        Ok(filters::quantize(&weight, channels, x.scale, corrected))
    }

    /// DequantizeLinear twice, Add, QuantizeLinear.
    fn add(&mut self, at: usize, node: &Node) -> Result<(), ExportError> {
        let inputs = vec![self.as_float(&node.inputs[0])?, self.as_float(&node.inputs[1])?];
        let (output, bounds) = self.output_of(at, node);
        let affine = affine(self.seen(&output)?, bounds, self.method);
        let sum = format!("{output}.sum");
        self.push("Add", &node.name, inputs, &sum, &output, Element::F32);
        let [scale, zero] = self.parameters(&output, affine);
        self.push(
            "QuantizeLinear",
            &format!("{output}.quantize"),
            vec![sum, scale, zero],
            &output,
            &output,
            Element::I8,
        );
        self.register(&output, affine);
        Ok(())
    }

    /// QuantizeLinear → MatMulInteger → Cast → Mul → Add.
    fn dense(&mut self, node: &Node) -> Result<(), ExportError> {
        let (x, x_affine) = self.as_int8(&node.inputs[0])?;
        let shape = self.source.shape(&node.inputs[1]).to_vec();
        let weight = self.source.constants.get(&node.inputs[1]).and_then(Constant::as_f32);
        let (&[inputs, outputs], Some(weight)) = (shape.as_slice(), weight) else {
            return Err(self.error(&node.name, "its weight is not a constant f32 matrix"));
        };
        let mut scales = Vec::with_capacity(outputs);
        let mut integers = vec![0i8; inputs * outputs];
        for column in 0..outputs {
            let values = (0..inputs).map(|row| weight[row * outputs + column]);
            let scale = (values.clone().fold(0f32, |max, w| max.max(w.abs())) / 127.0).max(1e-20);
            for (row, value) in values.enumerate() {
                integers[row * outputs + column] = (value / scale).round_ties_even() as i8;
            }
            scales.push(x_affine.scale * scale);
        }
        let name = node.name.clone();
        let bias =
            node.inputs.get(2).and_then(|name| self.source.constants.get(name)).and_then(Constant::as_f32);
        let bias = bias.map(<[f32]>::to_vec);
        let [_, x_zero] = self.parameters(&node.inputs[0], x_affine);
        let weight = Constant { shape, numbers: Numbers::I8(integers) };
        let weight = self.graph.constant(&format!("{name}.weight"), weight);
        let scale = self.graph.constant(&format!("{name}.scale"), Constant::f32([outputs], scales));
        let [sum, real, scaled] = ["sum", "sum.f32", "scaled"].map(|part| format!("{name}.{part}"));
        let output = &node.output;
        self.push("MatMulInteger", &name, vec![x, weight, x_zero], &sum, output, Element::I32);
        self.push("Cast", &format!("{name}.cast"), vec![sum], &real, output, Element::F32)
            .attributes
            .insert("to", Attribute::Int(ONNX_FLOAT));
        let last = if bias.is_some() { &scaled } else { output };
        self.push("Mul", &format!("{name}.rescale"), vec![real, scale], last, output, Element::F32);
        if let Some(bias) = bias {
            let bias = self.graph.constant(&format!("{name}.bias"), Constant::f32([outputs], bias));
            self.push("Add", &format!("{name}.shift"), vec![scaled, bias], output, output, Element::F32);
        }
        self.float.insert(output.clone(), output.clone());
        Ok(())
    }

    /// An operator that moves int8 numbers without changing them.
    fn keep(&mut self, node: &Node) -> Result<(), ExportError> {
        let (x, affine) = self.as_int8(&node.inputs[0])?;
        let attributes = node.attributes.clone();
        self.push(node.op, &node.name, vec![x], &node.output, &node.output, Element::I8).attributes =
            attributes;
        // same scale as the input: the numbers are the same
        self.int8.insert(node.output.clone(), (node.output.clone(), affine));
        Ok(())
    }

    fn float(&mut self, node: &Node) -> Result<(), ExportError> {
        if node.op == "Conv" && node.inputs[0] == self.source.inputs[0] {
            return self.float_on_picture(node);
        }
        let mut inputs = Vec::new();
        for name in &node.inputs {
            match self.source.constants.get(name) {
                Some(constant) => inputs.push(self.graph.constant(name, constant.clone())),
                None if name.is_empty() => inputs.push(String::new()),
                None => inputs.push(self.as_float(name)?),
            }
        }
        let attributes = node.attributes.clone();
        self.push(node.op, &node.name, inputs, &node.output, &node.output, Element::F32).attributes =
            attributes;
        self.float.insert(node.output.clone(), node.output.clone());
        Ok(())
    }

    /// A convolution in f32 that reads the picture: the normalisation is inside it too.
    fn float_on_picture(&mut self, node: &Node) -> Result<(), ExportError> {
        let constant = |at: usize| node.inputs.get(at).and_then(|name| self.source.constants.get(name));
        let four = |weight: &&Constant| weight.shape.len() == 4;
        let weight = constant(1).filter(four).and_then(|w| Some((w.as_f32()?, w.shape.clone())));
        let Some((weight, shape)) = weight else {
            return Err(self.error(&node.name, "its weight is not a constant f32 [out, in, kernel, kernel]"));
        };
        let mut weight = weight.to_vec();
        let mut bias = normalise::fold(&mut weight, &shape, self.input);
        if let Some(given) = constant(2).and_then(Constant::as_f32) {
            bias.iter_mut().zip(given).for_each(|(bias, &given)| *bias += f64::from(given));
        }
        let bias: Vec<f32> = bias.into_iter().map(|bias| bias as f32).collect();
        let x = self.as_float(&node.inputs[0])?;
        let bias = self.graph.constant(&format!("{}.bias", node.name), Constant::f32([bias.len()], bias));
        let weight = self.graph.constant(&format!("{}.weight", node.name), Constant::f32(shape, weight));
        let attributes = node.attributes.clone();
        let inputs = vec![x, weight, bias];
        self.push("Conv", &node.name, inputs, &node.output, &node.output, Element::F32).attributes =
            attributes;
        self.float.insert(node.output.clone(), node.output.clone());
        Ok(())
    }

    /// Outputs are f32 whatever computes them.
    fn finish(mut self) -> Result<Emitted, ExportError> {
        for at in 0..self.graph.outputs.len() {
            let name = self.graph.outputs[at].clone();
            let float = self.as_float(&name)?;
            if float != name {
                return Err(self.error(&name, "the network ends in a convolution; end it in a linear layer"));
            }
        }
        self.graph.prune();
        Ok(Emitted { graph: self.graph, int8: self.int8 })
    }
}

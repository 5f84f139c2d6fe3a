//! Hostile ONNX: the image network of a bundle with right digests.

use std::collections::BTreeMap;

use csp_device::infer::{Engine, InferError};
use csp_models::{
    bundle::Bundle,
    fusion::{Fusion, Thresholds},
    labels::{Label, Labels},
    manifest::{ImageInput, MANIFEST_SCHEMA, Manifest, ModelProvenance, NumberFormat, file},
};
use prost::Message;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, ValueInfoProto,
    attribute_proto::AttributeType,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};

use super::{Random, Target};

/// Side of the corpus's networks, and their classes.
const SIDE: u32 = 16;
const CLASSES: usize = 4;

const OPERATORS: [&str; 36] = [
    "Conv",
    "QLinearConv",
    "QuantizeLinear",
    "DequantizeLinear",
    "MatMulInteger",
    "MatMul",
    "Gemm",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pow",
    "Relu",
    "LeakyRelu",
    "Sigmoid",
    "Tanh",
    "Erf",
    "Sin",
    "Sqrt",
    "Identity",
    "Clip",
    "Softmax",
    "LayerNormalization",
    "ReduceMean",
    "GlobalAveragePool",
    "MaxPool",
    "AveragePool",
    "Concat",
    "Flatten",
    "Reshape",
    "Transpose",
    "Cast",
    "Constant",
    "Loop",
    "If",
    "QLinearMatMul",
];
const ATTRIBUTES: [&str; 16] = [
    "kernel_shape",
    "strides",
    "dilations",
    "pads",
    "group",
    "axis",
    "axes",
    "perm",
    "to",
    "keepdims",
    "alpha",
    "epsilon",
    "transB",
    "transA",
    "ceil_mode",
    "value",
];

/// The target.
pub struct Onnx;

impl Target for Onnx {
    fn name(&self) -> &'static str {
        "onnx"
    }

    fn words(&self) -> &'static [&'static [u8]] {
        &[
            b"Conv",
            b"Concat",
            b"Reshape",
            b"external_data",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
            b"\x08\x80\x80\x04",
        ]
    }

    fn change(&self, input: &[u8], random: &mut Random) -> Option<Vec<u8>> {
        let mut model = ModelProto::decode(input).ok()?;
        match random.below(16) {
            0 => header(&mut model, random),
            _ => graph(model.graph.as_mut()?, random),
        }
        Some(model.encode_to_vec())
    }

    fn run(&self, input: &[u8]) -> String {
        let formats = [NumberFormat::F32, NumberFormat::Int8];
        formats.map(|format| attempt(format, input.to_vec())).join(" / ")
    }
}

fn attempt(format: NumberFormat, onnx: Vec<u8>) -> String {
    let manifest = Manifest {
        schema: MANIFEST_SCHEMA,
        name: "fuzz".into(),
        input: ImageInput {
            width: SIDE,
            height: SIDE,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        },
        image_format: format,
        encoder: None,
        labels: Labels((0..CLASSES).map(|class| Label::new(format!("class {class}"))).collect()),
        fusion: Fusion::default(),
        thresholds: Thresholds::default(),
        quantization: None,
        provenance: ModelProvenance::default(),
        licences: vec![],
        files: BTreeMap::new(),
    };
    let bundle = match Bundle::assemble(manifest, BTreeMap::from([(file::IMAGE.to_string(), onnx)])) {
        Ok(bundle) => bundle,
        Err(error) => return error.to_string(),
    };
    let engine = match Engine::load(&bundle) {
        Ok(engine) => engine,
        // tract's own words differ with every shape and say nothing new
        Err(InferError::Load { .. }) => return "tract refuses it".to_string(),
        Err(error) => return error.to_string(),
    };
    let pixels: Vec<u8> = (0..SIDE * SIDE * 3).map(|i| (i * 37 + i * i * 11) as u8).collect();
    let ours = engine.explain().iter().filter(|line| line.engine == "csp").count();
    match engine.classify(&pixels) {
        Ok(logits) => {
            assert_eq!(logits.len(), CLASSES, "logits");
            // how much of it is ours: `o` a node
            format!("runs {}", "o".repeat(ours))
        }
        Err(error) => error.to_string(),
    }
}

fn header(model: &mut ModelProto, random: &mut Random) {
    match random.below(5) {
        0 => model.graph = None,
        1 => model.ir_version = random.edge(),
        2 => model.opset_import.push(OperatorSetIdProto { domain: "com.microsoft".into(), version: 1 }),
        3 => model.opset_import.clear(),
        _ => {
            if let Some(set) = model.opset_import.first_mut() {
                set.version = random.edge();
            }
        }
    }
}

fn graph(graph: &mut GraphProto, random: &mut Random) {
    let names = names(graph);
    match random.below(20) {
        0..=5 => {
            if let Some(node) = random.pick_mut(&mut graph.node) {
                edit(node, &names, random);
            }
        }
        6..=9 => {
            if let Some(node) = random.pick_mut(&mut graph.node) {
                attribute(node, random);
            }
        }
        10..=13 => {
            if let Some(tensor) = random.pick_mut(&mut graph.initializer) {
                initializer(tensor, &names, random);
            }
        }
        14 => {
            let at = random.below(graph.node.len());
            let other = random.below(graph.node.len());
            if graph.node.len() > 1 {
                graph.node.swap(at, other);
            }
        }
        15 => {
            if !graph.node.is_empty() {
                let at = random.below(graph.node.len());
                graph.node.remove(at);
            }
        }
        16 => grow(graph, &names, random),
        17 => {
            if let Some(input) = random.pick_mut(&mut graph.input) {
                declaration(input, &names, random);
            }
        }
        18 => {
            if let Some(output) = random.pick_mut(&mut graph.output) {
                declaration(output, &names, random);
            }
        }
        _ => match random.below(4) {
            0 => graph.output.clear(),
            1 => graph.input.extend(graph.input.first().cloned()),
            2 => graph.sparse_initializer.push(Default::default()),
            _ => graph.quantization_annotation.push(Default::default()),
        },
    }
}

fn names(graph: &GraphProto) -> Vec<String> {
    let mut names: Vec<String> = graph.node.iter().flat_map(|node| node.output.clone()).collect();
    names.extend(graph.initializer.iter().map(|tensor| tensor.name.clone()));
    names.extend(graph.input.iter().map(|input| input.name.clone()));
    names.push(String::new());
    names
}

fn name(names: &[String], random: &mut Random) -> String {
    random.pick(names).cloned().unwrap_or_default()
}

/// A node's operator, inputs and outputs: cycles, wrong arity, two of one name.
fn edit(node: &mut NodeProto, names: &[String], random: &mut Random) {
    match random.below(9) {
        0 => node.op_type = random.pick(&OPERATORS).map_or("", |name| name).to_string(),
        1 => node.input.push(name(names, random)),
        2 => drop(node.input.pop()),
        3 => node.domain = "com.microsoft".into(),
        4 => {
            let new = name(names, random);
            if let Some(output) = random.pick_mut(&mut node.output) {
                *output = new;
            }
        }
        5 => node.output.push(format!("more{}", random.below(4))),
        6 => node.input.reverse(),
        _ => {
            let new = name(names, random);
            if let Some(input) = random.pick_mut(&mut node.input) {
                *input = new;
            }
        }
    }
}

fn attribute(node: &mut NodeProto, random: &mut Random) {
    if random.one_in(4) || node.attribute.is_empty() {
        let ints = (0..random.below(5)).map(|_| random.edge()).collect::<Vec<_>>();
        let kind = if random.one_in(2) { AttributeType::Ints } else { AttributeType::Int };
        node.attribute.push(AttributeProto {
            name: random.pick(&ATTRIBUTES).map_or("", |name| name).to_string(),
            r#type: kind as i32,
            i: if kind == AttributeType::Int { random.edge() } else { 0 },
            ints: if kind == AttributeType::Ints { ints } else { vec![] },
            ..Default::default()
        });
        return;
    }
    let Some(attribute) = random.pick_mut(&mut node.attribute) else { return };
    match random.below(7) {
        0 => attribute.i = random.edge(),
        1 => attribute.ints.push(random.edge()),
        2 => drop(attribute.ints.pop()),
        3 => attribute.f = [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-45][random.below(5)],
        4 => attribute.r#type = random.below(12) as i32,
        5 => attribute.g = Some(GraphProto::default()),
        _ => {
            let edge = random.edge();
            if let Some(int) = random.pick_mut(&mut attribute.ints) {
                *int = edge;
            }
        }
    }
}

/// A tensor's shape, format and data: sizes that lie, data elsewhere, numbers that are none.
fn initializer(tensor: &mut TensorProto, names: &[String], random: &mut Random) {
    match random.below(11) {
        0 => {
            let edge = random.edge();
            if let Some(dim) = random.pick_mut(&mut tensor.dims) {
                *dim = edge;
            }
        }
        1 => tensor.dims.push([1, random.edge()][random.below(2)]),
        2 => drop(tensor.dims.pop()),
        3 => tensor.data_type = random.below(24) as i32,
        4 => {
            let left = random.below(tensor.raw_data.len());
            tensor.raw_data.truncate(left);
        }
        5 => {
            tensor.data_location = Some(1);
            let places = ["/etc/passwd", "../../etc/passwd", "/dev/zero", "image.onnx", ""];
            let entry =
                |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
            tensor.external_data = vec![
                entry("location", places[random.below(places.len())]),
                entry("length", &random.edge().to_string()),
            ];
            if random.one_in(2) {
                tensor.raw_data.clear();
            }
        }
        6 => tensor.name = name(names, random),
        7 => {
            let float = [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-45, 3e38][random.below(6)].to_le_bytes();
            let at = random.below(tensor.raw_data.len() / 4) * 4;
            for (byte, new) in tensor.raw_data.iter_mut().skip(at).zip(float) {
                *byte = new;
            }
        }
        8 => {
            // as typed data
            let floats = tensor.raw_data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
            tensor.float_data = floats.collect();
            tensor.raw_data.clear();
        }
        9 => {
            // one number, or many of the same: a shape that still fits its data
            let width = match tensor.data_type {
                1 | 6 => 4,
                7 => 8,
                _ => 1,
            };
            let count = random.below(70);
            let first: Vec<u8> = tensor.raw_data.iter().copied().take(width).collect();
            tensor.raw_data = first.repeat(count);
            tensor.dims = if count == 1 && random.one_in(2) { vec![] } else { vec![count as i64] };
        }
        _ => {
            let noise = random.next();
            let at = random.below(tensor.raw_data.len());
            if let Some(byte) = tensor.raw_data.get_mut(at) {
                *byte = noise as u8;
            }
        }
    }
}

/// Another node, or many: a value joined with itself again and again.
fn grow(graph: &mut GraphProto, names: &[String], random: &mut Random) {
    let at = random.below(graph.node.len() + 1);
    if random.one_in(3) {
        let mut from = name(names, random);
        for step in 0..1 + random.below(6) {
            let to = format!("grown{step}.{}", random.below(8));
            let axis = AttributeProto {
                name: "axis".into(),
                r#type: AttributeType::Int as i32,
                i: random.below(4) as i64,
                ..Default::default()
            };
            graph.node.push(NodeProto {
                op_type: "Concat".into(),
                input: vec![from; 2 + random.below(15)],
                output: vec![to.clone()],
                attribute: vec![axis],
                ..Default::default()
            });
            from = to;
        }
        return;
    }
    // between a value and one of its readers
    let (from, to) = (name(names, random), format!("between.{}", random.below(8)));
    let made = NodeProto {
        op_type: random.pick(&OPERATORS).map_or("", |name| name).to_string(),
        input: (0..1 + random.below(3))
            .map(|i| if i == 0 { from.clone() } else { name(names, random) })
            .collect(),
        output: vec![to.clone()],
        ..Default::default()
    };
    let readers = graph.node.iter_mut().skip(at).flat_map(|node| &mut node.input);
    readers.filter(|input| **input == from).take(1).for_each(|input| *input = to.clone());
    graph.node.insert(at, made);
}

fn declaration(info: &mut ValueInfoProto, names: &[String], random: &mut Random) {
    if random.one_in(4) {
        info.name = name(names, random);
        return;
    }
    let Some(type_proto::Value::TensorType(tensor)) =
        info.r#type.as_mut().and_then(|kind| kind.value.as_mut())
    else {
        return;
    };
    let edge = random.edge();
    match (random.below(4), &mut tensor.shape) {
        (0, shape) => *shape = None,
        (1, _) => tensor.elem_type = random.below(20) as i32,
        (2, Some(shape)) => {
            shape.dim.push(Dimension { value: Some(dimension::Value::DimValue(edge)), ..Default::default() })
        }
        (_, Some(shape)) => {
            if let Some(dim) = random.pick_mut(&mut shape.dim) {
                dim.value = match random.below(3) {
                    0 => None,
                    1 => Some(dimension::Value::DimParam("N".into())),
                    _ => Some(dimension::Value::DimValue(edge)),
                };
            }
        }
        _ => {}
    }
}

//! ONNX files: opset 17, IR version 8, standard operators, static shapes.

pub mod proto;

use std::collections::BTreeMap;

use prost::Message;
use proto::{
    AttributeProto, AttributeType, DataType, Dimension, DimensionValue, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto,
    ValueInfoProto,
};

use super::graph::{Attribute, Constant, Element, Graph, Node, Numbers, ValueType};

/// Version of the operator set written.
pub const OPSET: i64 = 17;
/// Version of the file format written.
pub const IR_VERSION: i64 = 8;

/// The bytes of an ONNX file. The same graph gives the same bytes.
pub fn encode(graph: &Graph) -> Vec<u8> {
    let known = |name: &String| graph.values.get(name).map(|value| value_info(name, value));
    let inner = graph.nodes.iter().map(|node| &node.output).filter(|name| !graph.outputs.contains(name));
    ModelProto {
        ir_version: IR_VERSION,
        producer_name: "csp-host".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(GraphProto {
            node: graph.nodes.iter().map(node_proto).collect(),
            name: graph.name.clone(),
            initializer: graph.constants.iter().map(|(name, constant)| tensor(name, constant)).collect(),
            input: graph.inputs.iter().filter_map(known).collect(),
            output: graph.outputs.iter().filter_map(known).collect(),
            value_info: inner.filter_map(known).collect(),
        }),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        metadata_props: graph
            .metadata
            .iter()
            .map(|(key, value)| StringStringEntryProto { key: key.clone(), value: value.clone() })
            .collect(),
    }
    .encode_to_vec()
}

fn data_type(element: Element) -> i32 {
    (match element {
        Element::F32 => DataType::Float,
        Element::I8 => DataType::Int8,
        Element::U8 => DataType::Uint8,
        Element::I32 => DataType::Int32,
        Element::I64 => DataType::Int64,
    }) as i32
}

fn value_info(name: &str, value: &ValueType) -> ValueInfoProto {
    let dim = |&size: &usize| Dimension { value: Some(DimensionValue::Value(size as i64)) };
    let shape = TensorShapeProto { dim: value.shape.iter().map(dim).collect() };
    let tensor_type = TensorTypeProto { elem_type: data_type(value.element), shape: Some(shape) };
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}

fn node_proto(node: &Node) -> NodeProto {
    NodeProto {
        input: node.inputs.clone(),
        output: vec![node.output.clone()],
        name: node.name.clone(),
        op_type: node.op.into(),
        attribute: node.attributes.iter().map(|(name, value)| attribute(name, value)).collect(),
        domain: String::new(),
    }
}

fn attribute(name: &str, value: &Attribute) -> AttributeProto {
    let empty = AttributeProto { name: name.into(), ..AttributeProto::default() };
    match value {
        Attribute::Int(i) => AttributeProto { i: Some(*i), r#type: AttributeType::Int as i32, ..empty },
        Attribute::Float(f) => AttributeProto { f: Some(*f), r#type: AttributeType::Float as i32, ..empty },
        Attribute::Ints(ints) => {
            AttributeProto { ints: ints.clone(), r#type: AttributeType::Ints as i32, ..empty }
        }
    }
}

fn tensor(name: &str, constant: &Constant) -> TensorProto {
    let raw_data = match &constant.numbers {
        Numbers::F32(numbers) => numbers.iter().flat_map(|n| n.to_le_bytes()).collect(),
        Numbers::I8(numbers) => numbers.iter().map(|&n| n as u8).collect(),
        Numbers::U8(numbers) => numbers.clone(),
        Numbers::I32(numbers) => numbers.iter().flat_map(|n| n.to_le_bytes()).collect(),
        Numbers::I64(numbers) => numbers.iter().flat_map(|n| n.to_le_bytes()).collect(),
    };
    TensorProto {
        dims: constant.shape.iter().map(|&size| size as i64).collect(),
        data_type: data_type(constant.element()),
        name: name.into(),
        raw_data,
    }
}

/// What an ONNX file holds, in outline.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Outline {
    /// Program that wrote it.
    pub producer: String,
    /// Version of its operator set.
    pub opset: i64,
    /// Inputs: name, element type, shape.
    pub inputs: Vec<Port>,
    /// Outputs: name, element type, shape.
    pub outputs: Vec<Port>,
    /// How many of each operator.
    pub operators: BTreeMap<String, usize>,
    /// Numbers held by weights and parameters.
    pub parameters: u64,
    /// Bytes of those.
    pub parameter_bytes: u64,
    /// The file's metadata.
    pub metadata: BTreeMap<String, String>,
}

/// An input or output.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Port {
    /// Name.
    pub name: String,
    /// `f32`, `i8`, …
    pub element: String,
    /// Shape; a free dimension is 0.
    pub shape: Vec<i64>,
}

/// Reads the outline of an ONNX file.
///
/// # Errors
/// The decoder's reason when the bytes are not an ONNX file.
pub fn outline(bytes: &[u8]) -> Result<Outline, String> {
    let model = ModelProto::decode(bytes).map_err(|error| error.to_string())?;
    let graph = model.graph.ok_or("it holds no graph")?;
    let mut operators = BTreeMap::new();
    for node in &graph.node {
        *operators.entry(node.op_type.clone()).or_default() += 1;
    }
    let count =
        |tensor: &TensorProto| tensor.dims.iter().map(|&d| u64::try_from(d).unwrap_or(0)).product::<u64>();
    Ok(Outline {
        producer: format!("{} {}", model.producer_name, model.producer_version),
        opset: model.opset_import.iter().find(|set| set.domain.is_empty()).map_or(0, |set| set.version),
        inputs: graph.input.iter().map(port).collect(),
        outputs: graph.output.iter().map(port).collect(),
        operators,
        parameters: graph.initializer.iter().map(count).sum(),
        parameter_bytes: graph.initializer.iter().map(|tensor| tensor.raw_data.len() as u64).sum(),
        metadata: model.metadata_props.into_iter().map(|entry| (entry.key, entry.value)).collect(),
    })
}

fn port(info: &ValueInfoProto) -> Port {
    let tensor = info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let element = match tensor.map(|t| t.elem_type()) {
        Some(DataType::Float) => "f32",
        Some(DataType::Uint8) => "u8",
        Some(DataType::Int8) => "i8",
        Some(DataType::Int32) => "i32",
        Some(DataType::Int64) => "i64",
        _ => "?",
    };
    let size = |dim: &Dimension| match dim.value {
        Some(DimensionValue::Value(value)) => value,
        _ => 0,
    };
    let shape = tensor.and_then(|t| t.shape.as_ref()).map_or(&[][..], |shape| &shape.dim);
    Port { name: info.name.clone(), element: element.into(), shape: shape.iter().map(size).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_reads_back() {
        let mut graph = Graph {
            name: "g".into(),
            inputs: vec!["x".into()],
            outputs: vec!["y".into()],
            metadata: [("profile".to_string(), "int8-v1".to_string())].into(),
            ..Graph::default()
        };
        graph.values.insert("x".into(), ValueType { element: Element::I8, shape: vec![1, 3, 4, 4] });
        graph.constants.insert("s".into(), Constant::scalar(0.5));
        graph.constants.insert("z".into(), Constant::scalar_i8(-3));
        let node = Node {
            op: "DequantizeLinear",
            name: "dq".into(),
            inputs: ["x", "s", "z"].map(String::from).into(),
            output: "y".into(),
            attributes: [("axis", Attribute::Int(0))].into(),
        };
        graph.push(node, Element::F32, &[1, 3, 4, 4]);
        let bytes = encode(&graph);
        assert_eq!(bytes, encode(&graph));
        let outline = outline(&bytes).unwrap();
        assert_eq!(
            outline.inputs,
            [Port { name: "x".into(), element: "i8".into(), shape: vec![1, 3, 4, 4] }]
        );
        assert_eq!(outline.operators, BTreeMap::from([("DequantizeLinear".to_string(), 1)]));
        assert_eq!((outline.parameters, outline.parameter_bytes, outline.opset), (2, 5, OPSET));
        assert_eq!(outline.metadata["profile"], "int8-v1");
        // an attribute of zero is written, not left out
        let model = ModelProto::decode(bytes.as_slice()).unwrap();
        assert_eq!(model.graph.unwrap().node[0].attribute[0].i, Some(0));
    }

    #[test]
    fn noise_is_an_error() {
        assert!(outline(b"not an onnx file").is_err());
        assert!(outline(b"").is_err());
    }
}

//! The location network with its products in int8, to see what that would gain.

use anyhow::{Context, Result};
use prost::Message;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, attribute_proto::AttributeType,
    tensor_proto::DataType,
};

/// Each product with constant weights as QuantizeLinear → MatMulInteger → Cast → Mul → Add: the fastest
/// form stock engines have. Its scales are made up, so its answers mean nothing; its time does.
///
/// # Errors
/// Not the ONNX of our exporter.
pub fn quantized(onnx: &[u8]) -> Result<Vec<u8>> {
    let mut model = ModelProto::decode(onnx)?;
    let graph = model.graph.as_mut().context("no graph")?;
    let mut nodes = Vec::new();
    for node in std::mem::take(&mut graph.node) {
        match weights(graph, &node) {
            Some((matrix, [depth, columns])) => {
                product(graph, &node, &matrix, [depth, columns], &mut nodes);
            }
            None => nodes.push(node),
        }
    }
    let used: Vec<&String> = nodes.iter().flat_map(|node: &NodeProto| &node.input).collect();
    graph.initializer.retain(|tensor| used.contains(&&tensor.name));
    graph.node = nodes;
    Ok(model.encode_to_vec())
}

/// The weights `[depth][columns]` of a MatMul or Gemm.
fn weights(graph: &GraphProto, node: &NodeProto) -> Option<(Vec<f32>, [usize; 2])> {
    if !matches!(node.op_type.as_str(), "MatMul" | "Gemm") {
        return None;
    }
    let tensor = graph.initializer.iter().find(|tensor| tensor.name == node.input[1])?;
    let numbers: Vec<f32> = tensor.raw_data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let [rows, columns] = tensor.dims[..] else { return None };
    let (rows, columns) = (usize::try_from(rows).ok()?, usize::try_from(columns).ok()?);
    let turned = node.attribute.iter().any(|attribute| attribute.name == "transB" && attribute.i == 1);
    match turned {
        false => Some((numbers, [rows, columns])),
        true => {
            let at = |i: usize| numbers[i % rows * columns + i / rows];
            Some(((0..numbers.len()).map(at).collect(), [columns, rows]))
        }
    }
}

fn product(
    graph: &mut GraphProto,
    node: &NodeProto,
    matrix: &[f32],
    [depth, columns]: [usize; 2],
    nodes: &mut Vec<NodeProto>,
) {
    const INPUT_SCALE: f32 = 1.0 / 64.0;
    let output = node.output[0].clone();
    let most = |column: usize| {
        matrix.iter().skip(column).step_by(columns).fold(1e-6f32, |most, weight| most.max(weight.abs()))
    };
    let scales: Vec<f32> = (0..columns).map(|column| most(column) / 127.0).collect();
    let bytes =
        matrix.iter().enumerate().map(|(i, weight)| (weight / scales[i % columns]).round() as i8 as u8);
    let mut constant = |name: &str, format: DataType, dims: &[usize], raw_data: Vec<u8>| {
        let name = format!("{output}.{name}");
        graph.initializer.push(TensorProto {
            name: name.clone(),
            data_type: format as i32,
            dims: dims.iter().map(|&dim| dim as i64).collect(),
            raw_data,
            ..Default::default()
        });
        name
    };
    let floats = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let scale = constant("scale", DataType::Float, &[], floats(&[INPUT_SCALE]));
    let zero = constant("zero", DataType::Int8, &[], vec![0]);
    let w = constant("weights", DataType::Int8, &[depth, columns], bytes.collect());
    let by: Vec<f32> = scales.iter().map(|scale| scale * INPUT_SCALE).collect();
    let by = constant("by", DataType::Float, &[columns], floats(&by));
    let mut push = |op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>| {
        nodes.push(NodeProto {
            name: output.to_string(),
            op_type: op.to_string(),
            input: inputs.iter().map(ToString::to_string).collect(),
            output: vec![output.to_string()],
            attribute,
            ..Default::default()
        });
    };
    let named = |name: &str| format!("{output}.{name}");
    let (q, i, f, m) = (named("q"), named("i"), named("f"), named("m"));
    let to = AttributeProto {
        name: "to".into(),
        r#type: AttributeType::Int as i32,
        i: DataType::Float as i64,
        ..Default::default()
    };
    push("QuantizeLinear", &[&node.input[0], &scale, &zero], &q, vec![]);
    push("MatMulInteger", &[&q, &w, &zero], &i, vec![]);
    push("Cast", &[&i], &f, vec![to]);
    match node.input.get(2) {
        Some(bias) => {
            push("Mul", &[&f, &by], &m, vec![]);
            push("Add", &[&m, bias], &output, vec![]);
        }
        None => push("Mul", &[&f, &by], &output, vec![]),
    }
}

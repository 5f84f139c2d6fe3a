use csp_models::nn::BackboneKind;

use super::super::{
    onnx,
    quantize::{self, Method, Settings},
    tests::{f32_graph, input, pictures},
};
use super::*;

fn int8(backbone: BackboneKind, side: u32) -> Graph {
    let graph = f32_graph(backbone, side as usize);
    // one method: twins do not depend on it
    let settings = Settings { method: Some(Method::MinMax), equalise: Some(false), ..Settings::default() };
    quantize::quantize(&graph, &input(side), &pictures(16, side), &settings).unwrap().graph
}

const TWINS: [Twin; 3] = [
    Twin { unsigned: true, qdq: false },
    Twin { unsigned: false, qdq: true },
    Twin { unsigned: true, qdq: true },
];

#[test]
fn no_twin_is_the_network_itself() {
    let graph = int8(BackboneKind::SmallCnn(4), 16);
    assert_eq!(Twin::default().of(&graph).unwrap(), graph);
    assert_eq!(TWINS.map(Twin::suffix), ["u8", "qdq", "qdq.u8"]);
}

/// No int8 activation is left, and every weight is still int8.
#[test]
fn unsigned_moves_activations_and_nothing_else() {
    for backbone in [BackboneKind::SmallCnn(4), BackboneKind::ResNet18] {
        let graph = int8(backbone, 32);
        for twin in TWINS.iter().filter(|twin| twin.unsigned) {
            let made = twin.of(&graph).unwrap();
            assert!(made.values.values().all(|value| value.element != Element::I8), "{backbone} {twin:?}");
            let weights = |graph: &Graph| -> Vec<Numbers> {
                let big = graph.constants.values().filter(|c| c.shape.len() >= 2);
                big.map(|c| c.numbers.clone()).collect()
            };
            assert_eq!(weights(&made), weights(&graph));
            let outline = onnx::outline(&onnx::encode(&made)).unwrap();
            assert_eq!(
                (outline.inputs[0].element.as_str(), outline.outputs[0].element.as_str()),
                ("u8", "f32")
            );
            assert_eq!(made.metadata["input"], "pixel");
        }
    }
}

#[test]
fn qdq_has_no_integer_operator() {
    for backbone in [BackboneKind::SmallCnn(4), BackboneKind::ResNet18] {
        let graph = int8(backbone, 32);
        let count = |graph: &Graph, op: &str| graph.nodes.iter().filter(|node| node.op == op).count();
        for twin in TWINS.iter().filter(|twin| twin.qdq) {
            let made = twin.of(&graph).unwrap();
            for op in ["QLinearConv", "MatMulInteger", "Cast"] {
                assert_eq!(count(&made, op), 0, "{backbone}: {op}");
            }
            assert_eq!(count(&made, "Conv"), count(&graph, "QLinearConv"));
            assert_eq!(made.multiply_adds(), graph.multiply_adds());
            // onnxruntime refuses two nodes of one name
            let names: BTreeSet<&String> = made.nodes.iter().map(|node| &node.name).collect();
            assert_eq!(names.len(), made.nodes.len(), "{backbone}");
            // every operator reads floats, or is a conversion
            for node in made.nodes.iter().filter(|node| node.op != "DequantizeLinear") {
                let element = made.values.get(&node.inputs[0]).map(|value| value.element);
                assert_eq!(element, Some(Element::F32), "{backbone}: {}", node.name);
            }
        }
    }
}

//! Weights stored as bytes and computed with as floats: int8 for a network that is asked once a place
//! and not once a picture, so that its size counts and its time does not.
//!
//! Standard ONNX: an int8 initializer, one scale for each output of the layer, `DequantizeLinear`. The
//! engine of the trap and onnxruntime both multiply byte by scale in f32, the one when it loads, the
//! other when it runs. Biases, norms and everything computed stay f32. Only onnxruntime's optimiser
//! (1.32) makes `MatMulNBits` of such a layer and rounds its input to 8 bits as well: 0.6 % of the largest
//! logit on EuroSAT, unless its session is told `session.qdq_matmulnbits_accuracy_level` = 1.

use std::collections::BTreeSet;

use super::graph::{Attribute, Constant, Element, Graph, Node, Numbers};

/// Which layers are stored so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layers {
    /// Every one.
    All,
    /// All but those that read the position features: a fine scale's weights meet features that turn
    /// over within metres.
    BehindFeatures,
}

/// The network with the weights of its linear layers stored as bytes, and how many layers that are.
pub(super) fn stored(graph: &Graph, layers: Layers) -> (Graph, usize) {
    let first = match layers {
        Layers::All => BTreeSet::new(),
        Layers::BehindFeatures => feature_layers(graph),
    };
    let mut out = Graph { nodes: Vec::new(), ..graph.clone() };
    let mut count = 0;
    for node in &graph.nodes {
        let mut node = node.clone();
        if let Some((weights, axis)) = weights(graph, &node).filter(|_| !first.contains(&node.output)) {
            let (name, bytes, scales) = (node.inputs[1].clone(), weights.0, weights.1);
            let stored = out.constant(&format!("{name}.int8"), bytes);
            let scale = out.constant(&format!("{name}.scale"), scales);
            let real = out.fresh(&format!("{name}.f32"));
            let dequantize = Node {
                op: "DequantizeLinear",
                name: real.clone(),
                inputs: vec![stored, scale],
                output: real.clone(),
                attributes: [("axis", Attribute::Int(axis as i64))].into(),
            };
            out.push(dequantize, Element::F32, graph.shape(&name));
            node.inputs[1] = real;
            count += 1;
        }
        let value = &graph.values[&node.output];
        out.push(node, value.element, &value.shape);
    }
    out.prune();
    (out, count)
}

/// Weights of a linear layer as bytes and scales, and the axis of its outputs; `None` for other nodes.
fn weights(graph: &Graph, node: &Node) -> Option<((Constant, Constant), usize)> {
    let turned = match node.op {
        "Gemm" => node.int("transB", 0) == 1,
        "MatMul" => false,
        _ => return None,
    };
    let constant = graph.constants.get(node.inputs.get(1)?)?;
    let (&[rows, columns], numbers) = (&constant.shape[..], constant.as_f32()?) else { return None };
    let (axis, outputs) = if turned { (0, rows) } else { (1, columns) };
    let output = |at: usize| if turned { at / columns } else { at % columns };
    let mut most = vec![0f32; outputs];
    for (at, weight) in numbers.iter().enumerate() {
        most[output(at)] = most[output(at)].max(weight.abs());
    }
    // an output without weights, or with such as no scale can be made for, is all zeros
    let scale = |most: &f32| Some(most / 127.0).filter(|scale| scale.is_normal()).unwrap_or(1.0);
    let scales: Vec<f32> = most.iter().map(scale).collect();
    let byte = |(at, weight): (usize, &f32)| (weight / scales[output(at)]).round().clamp(-127.0, 127.0) as i8;
    let bytes = numbers.iter().enumerate().map(byte).collect();
    let bytes = Constant { shape: constant.shape.clone(), numbers: Numbers::I8(bytes) };
    Some(((bytes, Constant::f32([outputs], scales)), axis))
}

/// Outputs of the linear layers with no other between them and the input.
fn feature_layers(graph: &Graph) -> BTreeSet<String> {
    let mut features: BTreeSet<&str> = graph.inputs.iter().map(String::as_str).collect();
    let mut layers = BTreeSet::new();
    for node in &graph.nodes {
        if !node.inputs.iter().any(|input| features.contains(input.as_str())) {
            continue;
        }
        match weights(graph, node) {
            Some(_) => {
                layers.insert(node.output.clone());
            }
            None => {
                features.insert(&node.output);
            }
        }
    }
    layers
}

#[cfg(test)]
mod tests {
    use super::{super::graph::ValueType, super::run::Runner, *};
    use proptest::prelude::*;

    /// `features [1, 3]` → Gemm → Relu → MatMul → `logits [1, 2]`.
    fn network(first: Vec<f32>, second: Vec<f32>) -> Graph {
        let mut graph = Graph {
            name: "location".into(),
            inputs: vec!["features".into()],
            outputs: vec!["logits".into()],
            ..Graph::default()
        };
        graph.values.insert("features".into(), ValueType { element: Element::F32, shape: vec![1, 3] });
        graph.constants.insert("first".into(), Constant::f32([3, 4], first));
        graph.constants.insert("bias".into(), Constant::f32([4], vec![0.1, -0.2, 0.3, 0.0]));
        graph.constants.insert("second".into(), Constant::f32([4, 2], second));
        let node = |op, inputs: &[&str], output: &str| Node {
            op,
            name: output.into(),
            inputs: inputs.iter().map(|name| name.to_string()).collect(),
            output: output.into(),
            attributes: Default::default(),
        };
        graph.push(node("Gemm", &["features", "first", "bias"], "hidden"), Element::F32, &[1, 4]);
        graph.push(node("Relu", &["hidden"], "active"), Element::F32, &[1, 4]);
        graph.push(node("MatMul", &["active", "second"], "logits"), Element::F32, &[1, 2]);
        graph
    }

    fn weight(graph: &Graph, name: &str) -> Vec<f32> {
        let bytes = match &graph.constants[&format!("{name}.int8")].numbers {
            Numbers::I8(bytes) => bytes.clone(),
            other => panic!("{other:?}"),
        };
        let scales = graph.constants[&format!("{name}.scale")].as_f32().unwrap();
        bytes.iter().enumerate().map(|(at, &byte)| f32::from(byte) * scales[at % scales.len()]).collect()
    }

    proptest! {
        /// Each weight is off by half a step of its own output at most, and the network computes with
        /// what is stored, to the bit.
        #[test]
        fn a_weight_is_off_by_half_a_step_of_its_output(
            first in prop::collection::vec(-3f32..3.0, 12),
            second in prop::collection::vec(-0.01f32..0.01, 8),
            features in prop::collection::vec(-1f32..1.0, 3),
        ) {
            let graph = network(first.clone(), second.clone());
            let (small, count) = stored(&graph, Layers::All);
            prop_assert_eq!(count, 2);
            for (name, exact, outputs) in [("first", &first, 4), ("second", &second, 2)] {
                for (at, (exact, stored)) in exact.iter().zip(weight(&small, name)).enumerate() {
                    let column = (0..graph.constants[name].as_f32().unwrap().len()).filter(|i| i % outputs == at % outputs);
                    let most = column.map(|i| graph.constants[name].as_f32().unwrap()[i].abs()).fold(0.0, f32::max);
                    prop_assert!((exact - stored).abs() <= most / 127.0 * 0.5001, "{name} {at}: {exact} {stored}");
                }
            }
            let same = network(weight(&small, "first"), weight(&small, "second"));
            let run = |graph: &Graph| Runner::new(graph).unwrap().floats(&features).unwrap();
            prop_assert_eq!(run(&small), run(&same));
        }
    }

    #[test]
    fn the_feature_layer_may_be_left_out_and_empty_outputs_are_zero() {
        let graph = network(vec![0.5; 12], vec![0.0, 1.0, 0.0, -2.0, 0.0, 0.5, 0.0, 1.5]);
        let (small, count) = stored(&graph, Layers::BehindFeatures);
        assert_eq!(count, 1);
        assert!(small.constants.contains_key("first") && !small.constants.contains_key("second"));
        assert!(weight(&small, "second").iter().step_by(2).all(|&weight| weight == 0.0));
        assert!(small.constants["second.scale"].as_f32().unwrap().iter().all(|scale| *scale > 0.0));
        let turned = {
            let mut graph = graph.clone();
            graph
                .constants
                .insert("first".into(), Constant::f32([4, 3], (0..12).map(|i| i as f32).collect()));
            graph.nodes[0].attributes.insert("transB", Attribute::Int(1));
            stored(&graph, Layers::All).0
        };
        // a scale for each of the four outputs, along the first axis now
        assert_eq!(turned.constants["first.scale"].as_f32().unwrap()[1], 5.0 / 127.0);
        assert_eq!(turned.nodes[0].int("axis", 9), 0);
        assert!(Runner::new(&turned).unwrap().floats(&[1.0, 0.0, 0.0]).is_ok());
    }
}

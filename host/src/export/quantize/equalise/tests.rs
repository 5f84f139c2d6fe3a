use std::collections::BTreeMap;

use super::super::super::graph::{Attribute, Constant, Element, Node, ValueType};
use super::*;

/// The same numbers as `tools/quantizer_referee.py` makes.
fn weights(seed: usize, count: usize) -> Vec<f32> {
    (0..count)
        .map(|i| (((i * 37 + seed * 11) % 101) as f32 - 50.0) / 50.0 * (1 + i * 7 % 13) as f32)
        .collect()
}

/// Conv 3→4, ReLU or ReLU6, depthwise 3×3, ReLU, Conv 4→2.
fn chain(first: &str) -> Graph {
    let mut graph = Graph {
        name: "image".into(),
        inputs: vec!["x".into()],
        outputs: vec!["y".into()],
        ..Graph::default()
    };
    graph.values.insert("x".into(), ValueType { element: Element::F32, shape: vec![1, 3, 6, 6] });
    let shapes: [&[usize]; 3] = [&[4, 3, 1, 1], &[4, 1, 3, 3], &[2, 4, 1, 1]];
    for (i, shape) in shapes.iter().enumerate() {
        let count: usize = shape.iter().product();
        graph.constants.insert(format!("w{i}"), Constant::f32(shape.to_vec(), weights(i, count)));
        graph.constants.insert(format!("b{i}"), Constant::f32([shape[0]], weights(i + 5, shape[0])));
    }
    graph.constants.insert("zero".into(), Constant::scalar(0.0));
    graph.constants.insert("six".into(), Constant::scalar(6.0));
    let node = |op, inputs: &[&str], output: &str| Node {
        op,
        name: output.into(),
        inputs: inputs.iter().map(|name| name.to_string()).collect(),
        output: output.into(),
        attributes: BTreeMap::new(),
    };
    let activation: &[&str] = if first == "Clip" { &["c0", "zero", "six"] } else { &["c0"] };
    let op = if first == "Clip" { "Clip" } else { "Relu" };
    let depthwise = node("Conv", &["a0", "w1", "b1"], "c1")
        .with("group", Attribute::Int(4))
        .with("pads", Attribute::Ints(vec![1; 4]))
        .with("kernel_shape", Attribute::Ints(vec![3; 2]));
    for (node, channels) in [
        (node("Conv", &["x", "w0", "b0"], "c0"), 4),
        (node(op, activation, "a0"), 4),
        (depthwise, 4),
        (node("Relu", &["c1"], "a1"), 4),
        (node("Conv", &["a1", "w2", "b2"], "y"), 2),
    ] {
        graph.push(node, Element::F32, &[1, channels, 6, 6]);
    }
    graph
}

fn input() -> ImageInput {
    ImageInput { width: 6, height: 6, mean: [0.5; 3], std: [0.25; 3] }
}

fn image(seed: u8) -> Vec<u8> {
    (0..108u32).map(|i| (i * 41 + u32::from(seed) * 97 + i * i) as u8).collect()
}

fn answers(graph: &Graph, seed: u8) -> Vec<f32> {
    Runner::new(graph).unwrap().picture(&image(seed), &input()).unwrap().swap_remove(0)
}

fn largest(graph: &Graph, name: &str) -> Vec<f32> {
    let weight = &graph.constants[name];
    let per_filter = weight.as_f32().unwrap().len() / weight.shape[0];
    let filters = weight.as_f32().unwrap().chunks_exact(per_filter);
    filters.map(|filter| filter.iter().fold(0f32, |max, w| max.max(w.abs()))).collect()
}

/// Largest weight of each filter, by `tools/quantizer_referee.py equalise`.
#[test]
fn agrees_with_numpy() {
    let equalised = equalise(&chain("Relu"), &input(), &[]).unwrap().unwrap();
    for (name, expected) in [("w0", &W0[..]), ("w1", &W1), ("w2", &W2)] {
        for (found, expected) in largest(&equalised, name).iter().zip(expected) {
            assert!((found / expected - 1.0).abs() < 2e-3, "{name}: {found} is not {expected}");
        }
    }
}

const W0: [f32; 4] = [2.77377, 8.4648, 4.41919, 9.37242];
const W1: [f32; 4] = [2.77377, 8.4648, 4.41919, 9.37242];
const W2: [f32; 2] = [4.75966, 9.37242];

#[test]
fn computes_the_same() {
    let images: Vec<Vec<u8>> = (0..8).map(image).collect();
    let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
    for activation in ["Relu", "Clip"] {
        let graph = chain(activation);
        let equalised = equalise(&graph, &input(), &images).unwrap().unwrap();
        assert_ne!(equalised.constants, graph.constants);
        for seed in 0..8 {
            let (before, after) = (answers(&graph, seed), answers(&equalised, seed));
            let scale = before.iter().fold(1f32, |max, v| max.max(v.abs()));
            for (before, after) in before.iter().zip(after) {
                assert!((before - after).abs() < 1e-5 * scale, "{activation}: {before} {after}");
            }
        }
    }
}

/// A channel that reaches the cut stays as it is, one that does not is scaled no further than the cut.
#[test]
fn a_relu6_is_not_moved() {
    let mut graph = chain("Clip");
    let gains = [1e-3, 1e-3, 10.0, 1e-3];
    for (i, gain) in gains.iter().enumerate() {
        let Some(Numbers::F32(w)) = graph.constants.get_mut("w0").map(|w| &mut w.numbers) else { panic!() };
        w[i * 3..][..3].iter_mut().for_each(|w| *w *= gain);
        let Some(Numbers::F32(b)) = graph.constants.get_mut("b0").map(|b| &mut b.numbers) else { panic!() };
        b[i] *= gain;
    }
    let (before, pictures) = (largest(&graph, "w0"), [image(1), image(2)]);
    let images: Vec<&[u8]> = pictures.iter().map(Vec::as_slice).collect();
    let equalised = equalise(&graph, &input(), &images).unwrap().unwrap();
    let after = largest(&equalised, "w0");
    assert_eq!(after[2], before[2]);
    assert!(after[0] > 2.0 * before[0], "{after:?}");
    let mut probe = equalised.clone();
    probe.outputs = vec!["c0".into()];
    probe.prune();
    let values = Runner::new(&probe).unwrap().picture(images[0], &input()).unwrap().swap_remove(0);
    for (i, channel) in values.chunks_exact(36).enumerate().filter(|(i, _)| *i != 2) {
        assert!(channel.iter().all(|&v| v <= 6.0 / MARGIN * 1.001), "channel {i} was scaled into the cut");
    }
}

#[test]
fn what_two_read_is_left_alone() {
    let mut graph = chain("Relu");
    graph.outputs.push("a0".into());
    assert_eq!(pairs(&graph).iter().map(|pair| pair.first).collect::<Vec<_>>(), [2]);
    // weights that another convolution shares
    graph.nodes[4].inputs[1] = "w0".into();
    assert_eq!(pairs(&graph).len(), 0);
}

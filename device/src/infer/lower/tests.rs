//! The lowered graph: what is in it, and that it computes what the file says, however it is cut.

use std::path::Path;

use tract_onnx::{
    pb::{AttributeProto, TensorProto, attribute_proto::AttributeType},
    prelude::Framework,
};

use crate::kernels::{Kernels, pool::Pool};

use super::{
    super::{
        network::tract_parser,
        profile::{self, Contract, Dtype},
    },
    *,
};

/// conv1 (dense) → depthwise → pointwise, a residual sum, average, Gemm; 16 × 16.
fn fixture() -> ModelProto {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures/image.onnx");
    tract_onnx::onnx().proto_model_for_path(path).unwrap()
}

fn contract() -> Contract {
    Contract { dtype: Dtype::I8, input: vec![1, 3, 16, 16], classes: 4 }
}

/// The model and what became of each node; `None` when nothing of it is ours.
fn lowered(proto: &ModelProto, kernels: &'static Kernels) -> Option<(TypedModel, Vec<Line>)> {
    let values = profile::check(proto, &contract()).unwrap();
    let Lowered { model, lines } =
        lower(proto, &values, &Target { kernels, pool: Pool::alone().into() }).unwrap();
    Some((model?, lines))
}

fn run(model: TypedModel, picture: &[i8]) -> Vec<f32> {
    let input = Tensor::from_shape(&[1, 3, 16, 16], picture).unwrap();
    let output = model.into_runnable().unwrap().run(tvec!(input.into_tvalue())).unwrap();
    output[0].try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec()
}

fn plain(proto: &ModelProto) -> TypedModel {
    tract_parser().model_for_proto_model(proto).unwrap().into_optimized().unwrap()
}

fn pictures() -> Vec<Vec<i8>> {
    let at = |seed: usize, i: usize| ((i * i * (seed + 3) + i * 37 + seed * 101) >> 2) as u8 as i8;
    (0..8).map(|seed| (0..3 * 16 * 16).map(|i| at(seed, i)).collect()).collect()
}

fn node<'m>(proto: &'m mut ModelProto, output: &str) -> &'m mut NodeProto {
    proto.graph.as_mut().unwrap().node.iter_mut().find(|node| node.output[0] == output).unwrap()
}

fn tensor<'m>(proto: &'m mut ModelProto, name: &str) -> &'m mut TensorProto {
    proto.graph.as_mut().unwrap().initializer.iter_mut().find(|tensor| tensor.name == name).unwrap()
}

/// Makes a convolution one that the kernels do not take.
fn spoil(proto: &mut ModelProto, conv: &str) {
    tensor(proto, &format!("{conv}.w")).raw_data[3] = -128i8 as u8;
}

#[test]
fn a_graph_of_the_profile_is_one_operator() {
    let (model, lines) = lowered(&fixture(), Kernels::available()[0]).unwrap();
    let names: Vec<String> = model.nodes().iter().map(|node| node.op.name().to_string()).collect();
    assert_eq!(names, ["Source", "CspInt8Region"]);
    let left: Vec<_> = lines.iter().filter(|line| line.engine == "tract").collect();
    assert!(left.is_empty(), "{left:?}");
    let steps = model.nodes()[1].op.info().unwrap().join("\n");
    for step in ["dense convolution", "depthwise convolution", "pointwise convolution", "residual sum"] {
        assert!(steps.contains(step), "no {step} in\n{steps}");
    }
}

/// What made stock tract slow must not come back: grouped im2col, requantization or quantization in
/// passes of their own.
#[test]
fn no_slow_operator_is_left() {
    let slow = |model: &TypedModel| -> Vec<String> {
        let name = |node: &TypedNode| format!("{} {:?}", node.op.name(), node.op.info().unwrap_or_default());
        let names = model.nodes().iter().map(name);
        names
            .filter(|name| ["Im2col", "Im2Col", "Scale", "QuantizeLinear"].iter().any(|s| name.contains(s)))
            .collect()
    };
    let (model, _) = lowered(&fixture(), Kernels::available()[0]).unwrap();
    assert_eq!(slow(&model), Vec::<String>::new());
    // and the assertion can fail: they are there without the lowering
    assert!(slow(&plain(&fixture())).len() >= 3, "{:?}", slow(&plain(&fixture())));
}

#[test]
fn every_kernel_gives_the_same_bits() {
    let reference = lowered(&fixture(), Kernels::select(Some("scalar")).unwrap()).unwrap().0;
    for picture in pictures() {
        let expected = run(reference.clone(), &picture);
        for kernels in Kernels::available() {
            let logits = run(lowered(&fixture(), kernels).unwrap().0, &picture);
            assert_eq!(logits, expected, "{}", kernels.name);
        }
    }
}

/// Convolutions the kernels do not take, in every combination: what is left to tract and what is ours
/// must meet.
#[test]
fn what_is_not_covered_is_left_to_tract() {
    let convs = ["conv1", "depthwise", "pointwise"];
    for spoiled in 0..8u8 {
        let mut proto = fixture();
        let theirs: Vec<&str> =
            convs.iter().enumerate().filter(|(i, _)| spoiled & 1 << i != 0).map(|(_, conv)| *conv).collect();
        theirs.iter().for_each(|conv| spoil(&mut proto, conv));
        let lowered = lowered(&proto, Kernels::available()[0]);
        assert_eq!(lowered.is_some(), spoiled != 7, "{theirs:?}");
        let Some((model, lines)) = lowered else { continue };
        let left: Vec<&str> =
            lines.iter().filter(|line| line.engine == "tract").map(|line| line.node.as_str()).collect();
        assert_eq!(left, theirs);
        let reasons = lines.iter().filter_map(|line| line.reason.as_deref());
        assert!(reasons.clone().all(|reason| reason.contains("-128")), "{:?}", reasons.collect::<Vec<_>>());
        for picture in pictures() {
            let (ours, stock) = (run(model.clone(), &picture), run(plain(&proto), &picture));
            // tract rounds another way at near-ties, one step of an activation
            let off = ours.iter().zip(&stock).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            assert!(off < 0.02, "{theirs:?}: {ours:?} {stock:?}");
        }
    }
}

/// QuantizeLinear → MatMulInteger → Cast → Mul → Add, as the exporter writes a dense layer.
#[test]
fn an_integer_head_is_exact() {
    let mut proto = fixture();
    let graph = proto.graph.as_mut().unwrap();
    let tensor = |name: &str, data_type: i32, dims: &[i64], raw_data: Vec<u8>| TensorProto {
        name: name.into(),
        data_type,
        dims: dims.to_vec(),
        raw_data,
        ..TensorProto::default()
    };
    let floats = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let weights: Vec<u8> = (0..32u8).map(|i| i.wrapping_mul(57)).collect();
    graph.initializer.extend([
        tensor("h.s", 1, &[], floats(&[0.011])),
        tensor("h.z", 3, &[], vec![7]),
        tensor("h.w", 3, &[8, 4], weights.clone()),
        tensor("h.m", 1, &[4], floats(&[0.25, 0.5, 1.0, 2.0])),
        tensor("h.b", 1, &[4], floats(&[1.0, -2.0, 3.0, 0.0])),
    ]);
    graph.node.pop();
    let to =
        AttributeProto { name: "to".into(), r#type: AttributeType::Int as i32, i: 1, ..Default::default() };
    for (op, inputs, output) in [
        ("QuantizeLinear", &["flat", "h.s", "h.z"][..], "h.q"),
        ("MatMulInteger", &["h.q", "h.w", "h.z"], "h.i"),
        ("Cast", &["h.i"], "h.f"),
        ("Mul", &["h.f", "h.m"], "h.r"),
        ("Add", &["h.r", "h.b"], "logits"),
    ] {
        graph.node.push(NodeProto {
            op_type: op.into(),
            input: inputs.iter().map(ToString::to_string).collect(),
            output: vec![output.into()],
            attribute: if op == "Cast" { vec![to.clone()] } else { vec![] },
            ..NodeProto::default()
        });
    }
    let (model, lines) = lowered(&proto, Kernels::available()[0]).unwrap();
    assert!(lines.iter().all(|line| line.engine != "tract"), "{lines:?}");
    for picture in pictures() {
        assert_eq!(run(model.clone(), &picture), run(plain(&proto), &picture));
    }
}

#[test]
fn a_sum_that_others_read_is_left_to_tract() {
    let mut proto = fixture();
    // the average of the sum itself, not of its quantized form
    let pool = node(&mut proto, "pool");
    pool.input[0] = "sum".into();
    let (model, lines) = lowered(&proto, Kernels::available()[0]).unwrap();
    let left: Vec<&str> =
        lines.iter().filter(|line| line.engine == "tract").map(|line| line.node.as_str()).collect();
    assert!(left.contains(&"sum") || left.iter().any(|name| name.contains("sum")), "{left:?}");
    for picture in pictures() {
        let (ours, stock) = (run(model.clone(), &picture), run(plain(&proto), &picture));
        let off = ours.iter().zip(&stock).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(off < 0.02, "{ours:?} {stock:?}");
    }
}

/// Found by `csp-tools fuzz onnx`: one of the summands is a number a channel.
#[test]
fn a_sum_that_broadcasts_is_left_to_tract() {
    let mut proto = fixture();
    let real = node(&mut proto, "y.real");
    let branch = std::mem::replace(&mut real.input[0], "largest".into());
    let kernel = AttributeProto {
        name: "kernel_shape".into(),
        r#type: AttributeType::Ints as i32,
        ints: vec![8, 8],
        ..Default::default()
    };
    let pool = NodeProto {
        name: "largest".into(),
        op_type: "MaxPool".into(),
        input: vec![branch],
        output: vec!["largest".into()],
        attribute: vec![kernel],
        ..Default::default()
    };
    let nodes = &mut proto.graph.as_mut().unwrap().node;
    let at = nodes.iter().position(|node| node.output[0] == "y.real").unwrap();
    nodes.insert(at, pool);
    let (model, lines) = lowered(&proto, Kernels::available()[0]).unwrap();
    let left: Vec<&str> =
        lines.iter().filter(|line| line.engine == "tract").map(|line| line.node.as_str()).collect();
    assert_eq!(left, ["largest", "sum"]);
    for picture in pictures() {
        let (ours, stock) = (run(model.clone(), &picture), run(plain(&proto), &picture));
        let off = ours.iter().zip(&stock).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(off < 0.02, "{ours:?} {stock:?}");
    }
}

use std::collections::BTreeSet;

use burn::{
    module::{Module, Param},
    nn::{Linear, LinearConfig},
    tensor::{Device, Tensor, TensorData, activation},
};
use csp_models::nn::{
    Activation, BackboneKind, HeadConfig, HeadKind, HeadSettings, LocationClassifierConfig, NormPlace,
};

use super::{
    super::{ExportError, graph::Graph, lower::lower, onnx, run::Runner},
    aged, classifier, noise,
};

/// Largest difference between burn's answers and the lowered graph's, over four inputs.
fn difference<M: Module, const D: usize, const O: usize>(
    module: &M,
    shape: [usize; D],
    graph: &Graph,
    forward: impl Fn(&M, Tensor<D>) -> Tensor<O>,
) -> f32 {
    let runner = Runner::new(graph).unwrap();
    let mut worst = 0f32;
    for seed in 0..4 {
        let numbers = noise(seed, shape.iter().product(), -2.0, 2.0);
        let x = Tensor::<D>::from_data(TensorData::new(numbers.clone(), shape), &Device::flex());
        let expected: Vec<f32> = forward(module, x).into_data().iter::<f32>().collect();
        let got = runner.floats(&numbers).unwrap().swap_remove(0);
        assert_eq!(expected.len(), got.len());
        let scale = expected.iter().fold(1f32, |max, v| max.max(v.abs()));
        for (e, g) in expected.iter().zip(got) {
            worst = worst.max((e - g).abs() / scale);
        }
    }
    worst
}

fn operators(graph: &Graph) -> BTreeSet<&str> {
    graph.nodes.iter().map(|node| node.op).collect()
}

#[test]
fn image_networks_answer_as_burn_does() {
    for (backbone, side) in [(BackboneKind::SmallCnn(8), 32), (BackboneKind::MobileNetV2(0.35), 64)] {
        let network = classifier(backbone, 10);
        let shape = [1, 3, side, side];
        let graph = lower("image", &network, ("image", shape), "logits", |m, x| m.forward(x)).unwrap();
        let off = difference(&network, shape, &graph, |m, x| m.forward(x));
        assert!(off < 1e-4, "{backbone:?}: {off}");

        // folded and tidy: what a person would have written
        let expected = ["Add", "Conv", "Flatten", "Gemm", "GlobalAveragePool"];
        let activation = if matches!(backbone, BackboneKind::SmallCnn(_)) { "Relu" } else { "Clip" };
        let expected: BTreeSet<&str> = expected.into_iter().chain([activation]).collect();
        assert_eq!(operators(&graph), expected, "{backbone:?}");
        assert!(graph.constants.keys().any(|name| name == "head.weight"), "{:?}", graph.constants.keys());
        assert!(!graph.constants.keys().any(|name| name.contains("norm")), "{:?}", graph.constants.keys());
        assert_eq!((graph.inputs[0].as_str(), graph.outputs[0].as_str()), ("image", "logits"));
        assert_eq!(graph.shape("logits"), [1, 10]);
    }
}

/// A head of every kind and with every switch.
pub(super) fn heads() -> Vec<HeadConfig> {
    let head = |settings: HeadSettings| HeadConfig {
        settings,
        ..HeadConfig::new(24).with_hidden(16, 2).with_output(8)
    };
    let ffn = HeadSettings::default();
    let activations =
        [Activation::Relu, Activation::LeakyRelu, Activation::Gelu, Activation::Sigmoid, Activation::Tanh];
    let mut heads: Vec<HeadConfig> =
        activations.into_iter().map(|activation| HeadConfig { activation, ..head(ffn) }).collect();
    heads.extend([
        head(HeadSettings { output_activation: false, skip: false, ..ffn }),
        head(HeadSettings { norm: NormPlace::BeforeActivation, ..ffn }),
        head(HeadSettings { norm: NormPlace::None, ..ffn }),
        head(HeadSettings { kind: HeadKind::Fcnet, blocks: 2, ..ffn }),
        head(HeadSettings { kind: HeadKind::Siren, w0_first: 5.0, w0: 1.5, ..ffn }),
        head(HeadSettings { kind: HeadKind::Capsules, ..ffn }),
        head(HeadSettings { kind: HeadKind::Capsules, capsules: 5, ..ffn }),
    ]);
    heads
}

#[test]
fn large_image_networks_answer_as_burn_does() {
    let residual = ["Add", "Conv", "Flatten", "Gemm", "GlobalAveragePool", "MaxPool", "Relu"];
    let inception =
        ["AveragePool", "Concat", "Conv", "Flatten", "Gemm", "GlobalAveragePool", "MaxPool", "Relu"];
    let cases: [(_, _, &[&str]); 2] =
        [(BackboneKind::ResNet50, 32, &residual), (BackboneKind::InceptionV3, 75, &inception)];
    for (backbone, side, expected) in cases {
        let network = classifier(backbone, 10);
        let shape = [1, 3, side, side];
        let graph = lower("image", &network, ("image", shape), "logits", |m, x| m.forward(x)).unwrap();
        let off = difference(&network, shape, &graph, |m, x| m.forward(x));
        assert!(off < 1e-4, "{backbone}: {off}");
        assert_eq!(operators(&graph), expected.iter().copied().collect(), "{backbone}");
    }
}

#[test]
fn location_networks_answer_as_burn_does() {
    for config in heads() {
        for hidden_layers in [1, 3] {
            let config = HeadConfig { hidden_layers, ..config };
            let network = aged(LocationClassifierConfig::new(config, 5).init(&Device::flex()));
            let shape = [1, config.input];
            let graph =
                lower("location", &network, ("features", shape), "logits", |m, x| m.forward(x)).unwrap();
            let off = difference(&network, shape, &graph, |m, x| m.forward(x));
            assert!(off < 1e-4, "{config:?}: {off}");
        }
    }
}

#[test]
fn the_module_still_works_where_it_was() {
    let network = classifier(BackboneKind::SmallCnn(4), 3);
    let forward = || -> Vec<f32> {
        let x = Tensor::<4>::ones([1, 3, 16, 16], &Device::flex());
        network.forward(x).into_data().iter::<f32>().collect()
    };
    let before = forward();
    lower("image", &network, ("image", [1, 3, 16, 16]), "logits", |m, x| m.forward(x)).unwrap();
    assert_eq!(before, forward());
}

#[test]
fn the_same_network_gives_the_same_bytes() {
    let network = classifier(BackboneKind::SmallCnn(4), 3);
    let bytes = || {
        let graph =
            lower("image", &network, ("image", [1, 3, 16, 16]), "logits", |m, x| m.forward(x)).unwrap();
        onnx::encode(&graph)
    };
    assert!(bytes() == bytes());
}

#[derive(Module, Debug)]
struct Odd {
    a: Linear,
    b: Param<Tensor<2>>,
}

fn odd() -> Odd {
    let device = Device::flex();
    let numbers = noise(3, 6 * 4, -1.0, 1.0);
    Odd {
        a: LinearConfig::new(4, 6).with_bias(false).init(&device),
        b: Param::from_data(TensorData::new(numbers, [4, 6]), &device),
    }
}

#[test]
fn operations_our_networks_do_not_use_yet() {
    let module = odd();
    let shape = [1, 4, 3, 3];
    let forward = |m: &Odd, x: Tensor<4>| -> Tensor<2> {
        // two means instead of a pool, a matrix that is computed from weights, a bias added by hand
        let pooled = x.mean_dim(2).mean_dim(3).reshape([1, 4]);
        let hidden = m.a.forward(pooled).clamp_min(0.0) + 0.25;
        let matrix = (m.b.val() * 2.0).transpose();
        let y = hidden.matmul(matrix);
        let y = activation::sigmoid(y.clone()) * y - 0.5;
        activation::leaky_relu(y / 3.0, 0.2).abs().sqrt()
    };
    let graph = lower("odd", &module, ("x", shape), "y", forward).unwrap();
    assert!(difference(&module, shape, &graph, forward) < 1e-5);
    let operators = operators(&graph);
    assert!(operators.contains("GlobalAveragePool"), "{operators:?}");
    assert!(!operators.contains("ReduceMean") && !operators.contains("Transpose"), "{operators:?}");
}

#[test]
fn an_operation_without_onnx_form_is_named() {
    let error =
        lower("odd", &odd(), ("x", [1, 4]), "y", |m, x: Tensor<2>| m.a.forward(x).cumsum(1)).unwrap_err();
    assert!(matches!(&error, ExportError::UnsupportedOp { op, .. } if op.contains("CumSum")), "{error}");
    assert!(error.to_string().contains("CumSum"), "{error}");
}

#[test]
fn a_diverged_weight_is_named() {
    let mut module = odd();
    module.a.weight = Param::from_data(TensorData::new(vec![f32::NAN; 24], [4, 6]), &Device::flex());
    let error = lower("odd", &module, ("x", [1, 4]), "y", |m, x: Tensor<2>| m.a.forward(x)).unwrap_err();
    assert!(error.to_string().contains("a.weight"), "{error}");
}

#[test]
fn an_output_that_ignores_the_input_is_refused() {
    let constant = |m: &Odd, _: Tensor<2>| m.b.val() * 2.0;
    assert!(lower("odd", &odd(), ("x", [1, 4]), "y", constant).is_err());
}

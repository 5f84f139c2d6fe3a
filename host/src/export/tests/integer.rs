use burn::{
    module::Module,
    nn::{
        Linear, LinearConfig, PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
    },
    tensor::{Device, Tensor, activation},
};
use csp_models::nn::BackboneKind;

use super::{
    super::{
        ExportError,
        graph::{Constant, Graph, Numbers},
        lower::lower,
        quantize::{self, Head, Method, Settings, snr_db},
        run::Runner,
    },
    f32_graph, input, pictures,
};

#[test]
fn int8_follows_f32_on_pictures_it_has_not_seen() {
    for (backbone, side, least_db) in
        [(BackboneKind::SmallCnn(8), 32, 25.0), (BackboneKind::MobileNetV2(0.35), 64, 12.0)]
    {
        let graph = f32_graph(backbone, side);
        let input = input(side as u32);
        let images = pictures(72, side as u32);
        let (calibrate, fresh) = images.split_at(48);
        let quantized = quantize::quantize(&graph, &input, calibrate, &Settings::default()).unwrap();
        let rows = |graph: &Graph| -> Vec<Vec<f32>> {
            let runner = Runner::new(graph).unwrap();
            fresh.iter().map(|image| runner.picture(image, &input).unwrap().swap_remove(0)).collect()
        };
        let db = snr_db(&rows(&graph), &rows(&quantized.graph));
        println!("{backbone:?}: {db:.1} dB, tried {:?}", quantized.tried);
        assert!(db > least_db, "{backbone:?}: {db} dB, tried {:?}", quantized.tried);
        // the chosen method is the best of those tried, up to the head's margin
        let best = quantized.tried.iter().map(|t| t.snr_db).fold(f64::MIN, f64::max);
        assert!(quantized.chosen.snr_db > best - 0.84);
    }
}

#[test]
fn every_method_and_head_can_be_asked_for() {
    let graph = f32_graph(BackboneKind::SmallCnn(4), 16);
    let images = pictures(16, 16);
    for method in Method::ALL {
        for head in [Head::Integer, Head::Float] {
            let settings = Settings { method: Some(method), head: Some(head), ..Settings::default() };
            let quantized = quantize::quantize(&graph, &input(16), &images, &settings).unwrap();
            assert_eq!(
                (quantized.chosen.ranges, quantized.chosen.head, quantized.tried.len()),
                (method, head, 1)
            );
            let integer = quantized.graph.nodes.iter().any(|node| node.op == "MatMulInteger");
            assert_eq!(integer, head == Head::Integer);
        }
    }
}

/// Every rule of profile int8-v1, read off the graph that is written.
fn check_profile(graph: &Graph) {
    const ALLOWED: [&str; 10] = [
        "QLinearConv",
        "QuantizeLinear",
        "DequantizeLinear",
        "Add",
        "GlobalAveragePool",
        "Flatten",
        "MatMulInteger",
        "Cast",
        "Mul",
        "Gemm",
    ];
    let constant = |name: &str| -> &Constant { &graph.constants[name] };
    let scalar = |name: &str, i8: bool| {
        let constant = constant(name);
        assert!(constant.shape.is_empty(), "{name} has rank {}", constant.shape.len());
        assert_eq!(matches!(constant.numbers, Numbers::I8(_)), i8, "{name}");
        if let Some(numbers) = constant.as_f32() {
            assert!(numbers[0].is_normal() && numbers[0] > 0.0, "{name} is {}", numbers[0]);
        }
    };
    for node in &graph.nodes {
        assert!(ALLOWED.contains(&node.op), "{}", node.op);
        match node.op {
            "QuantizeLinear" | "DequantizeLinear" => {
                scalar(&node.inputs[1], false);
                scalar(&node.inputs[2], true);
            }
            "QLinearConv" => {
                let [.., x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, b] = &node.inputs[..] else {
                    panic!("{} has {} inputs", node.name, node.inputs.len())
                };
                [x_scale, y_scale].into_iter().for_each(|name| scalar(name, false));
                [x_zero, w_zero, y_zero].into_iter().for_each(|name| scalar(name, true));
                assert_eq!(constant(w_zero).numbers, Numbers::I8(vec![0]));
                let (weight, scales) = (constant(w), constant(w_scale).as_f32().unwrap());
                let (Numbers::I8(weights), Numbers::I32(biases)) = (&weight.numbers, &constant(b).numbers)
                else {
                    panic!("{}: weights or biases are not integers", node.name)
                };
                let channels = weight.shape[0];
                assert_eq!((scales.len(), biases.len()), (channels, channels));
                // u is the scale's common unit: some unit makes every scale an integer 1..=127 exactly
                let widest = scales.iter().copied().fold(0f32, f32::max);
                let multipliers = (1..=127u32).rev().find_map(|top| {
                    let unit = f64::from(widest) / f64::from(top);
                    let multipliers = scales.iter().map(|&scale| f64::from(scale) / unit);
                    let on_grid =
                        |m: &f64| (1.0..=127.0).contains(&m.round()) && (m - m.round()).abs() < 1e-9;
                    multipliers
                        .clone()
                        .all(|m| on_grid(&m))
                        .then(|| multipliers.map(|m| m.round() as i64).collect())
                });
                let multipliers: Vec<i64> =
                    multipliers.unwrap_or_else(|| panic!("{}: no grid holds {scales:?}", node.name));
                let Numbers::I8(zero) = &constant(x_zero).numbers else { panic!() };
                let filters = weights.chunks_exact(weights.len() / channels);
                for ((filter, bias), multiplier) in filters.zip(biases).zip(multipliers) {
                    assert!(filter.iter().all(|&w| w >= -127));
                    let sum: i64 = filter.iter().map(|&w| i64::from(w)).sum();
                    let size: i64 = filter.iter().map(|&w| i64::from(w).abs()).sum();
                    let folded = i64::from(*bias) - i64::from(zero[0]) * sum;
                    assert!(multiplier * (size * 128 + folded.abs()) < 1 << 31, "{}", node.name);
                }
            }
            _ => {}
        }
    }
    assert_eq!(format!("{:?}", graph.values["image"].element), "I8");
    assert_eq!(graph.metadata["profile"], "int8-v1");
}

#[test]
fn the_file_keeps_the_profile() {
    for (backbone, side) in [(BackboneKind::SmallCnn(8), 32), (BackboneKind::MobileNetV2(0.35), 32)] {
        let graph = f32_graph(backbone, side);
        let settings =
            Settings { method: Some(Method::MinMax), head: Some(Head::Integer), ..Settings::default() };
        let quantized =
            quantize::quantize(&graph, &input(side as u32), &pictures(16, side as u32), &settings).unwrap();
        check_profile(&quantized.graph);
        let convs = |graph: &Graph, op: &str| graph.nodes.iter().filter(|node| node.op == op).count();
        assert_eq!(convs(&quantized.graph, "QLinearConv"), convs(&graph, "Conv"));
        assert_eq!(quantized.graph.multiply_adds(), graph.multiply_adds());
    }
}

/// One convolution on the picture: the normalisation is in its weights.
#[derive(Module, Debug)]
struct OneConv {
    conv: Conv2d,
    head: Linear,
}

impl OneConv {
    fn init(padding: usize) -> Self {
        let device = Device::flex();
        device.seed(11);
        let conv = Conv2dConfig::new([3, 6], [3, 3])
            .with_padding(PaddingConfig2d::Explicit(padding, padding, padding, padding));
        Self { conv: conv.init(&device), head: LinearConfig::new(6, 4).init(&device) }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.conv.forward(x);
        self.head.forward(x.mean_dim(2).mean_dim(3).reshape([1, 6]))
    }
}

#[test]
fn normalisation_is_inside_the_first_convolution() {
    let (input, images) = (input(16), pictures(32, 16));
    for (padding, least_db) in [(0, 35.0), (1, 20.0)] {
        let module = OneConv::init(padding);
        let graph =
            lower("image", &module, ("image", [1, 3, 16, 16]), "logits", |m, x| m.forward(x)).unwrap();
        let quantized = quantize::quantize(&graph, &input, &images, &Settings::default()).unwrap();
        // at the border the channels share one byte: a little worse, not wrong
        assert!(quantized.chosen.snr_db > least_db, "padding {padding}: {} dB", quantized.chosen.snr_db);
    }
    // one byte for 0.485, 0.456, 0.406: the middle one fits best
    let quantized = {
        let graph = f32_graph(BackboneKind::SmallCnn(4), 16);
        quantize::quantize(&graph, &input, &images, &Settings::default()).unwrap()
    };
    assert!(quantized.border_error[0] < 0.0 && quantized.border_error[2] > 0.0);
    assert!(quantized.border_error.iter().all(|e| e.abs() < 0.25), "{:?}", quantized.border_error);
}

#[test]
fn a_picture_that_no_convolution_reads_is_refused() {
    let module = OneConv::init(0);
    let forward = |m: &OneConv, x: Tensor<4>| m.forward(activation::relu(x));
    let graph = lower("image", &module, ("image", [1, 3, 16, 16]), "logits", forward).unwrap();
    let error = quantize::quantize(&graph, &input(16), &pictures(16, 16), &Settings::default()).unwrap_err();
    assert!(matches!(error, ExportError::Quantize { .. }), "{error}");
}

#[test]
fn calibration_pictures_that_tell_nothing_are_refused() {
    let graph = f32_graph(BackboneKind::SmallCnn(4), 16);
    let try_with = |images: &[Vec<u8>]| {
        quantize::quantize(&graph, &input(16), images, &Settings::default()).unwrap_err().to_string()
    };
    assert!(try_with(&pictures(15, 16)).contains("too few"));
    assert!(try_with(&[]).contains("too few"));
    assert!(try_with(&vec![vec![90; 16 * 16 * 3]; 64]).contains("one single colour"));
    assert!(try_with(&vec![vec![90; 12]; 64]).contains("12 bytes"));
    // which pictures it is about
    let mut some = pictures(20, 16);
    some[3] = vec![90; 7];
    let error = quantize::quantize(&graph, &input(16), &some, &Settings::default()).unwrap_err();
    assert_eq!(error.pictures(), [3]);
    some[3] = vec![90; 16 * 16 * 3];
    (5..9).for_each(|i| some[i] = some[3].clone());
    let error = quantize::quantize(&graph, &input(16), &some, &Settings::default()).unwrap_err();
    assert_eq!(error.pictures(), [3, 5, 6, 7, 8], "{error}");
}

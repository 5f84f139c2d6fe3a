//! Golden forward passes: every weight tensor, in (out, in) row order, is ½ sin(n + 1) for the flat
//! index n; an embedding of 4 or 5, three classes, at 34.05°N 118.25°W.

mod golden;

use std::{format, string::String};

use super::*;
use crate::{
    encoder::{EncoderSpec, PositionEncoder},
    fusion::sigmoid,
    nn::{LocationClassifier, LocationClassifierConfig},
    place::LatLon,
    time::YearFraction,
};
use burn::tensor::TensorData;

fn fill(layer: &mut Linear, device: &Device) {
    let [inputs, outputs] = layer.weight.dims();
    let ramp = |n: usize| (0.5 * ((n + 1) as f64).sin()) as f32;
    let weight: Vec<f32> =
        (0..inputs * outputs).map(|at| ramp(at % outputs * inputs + at / outputs)).collect();
    layer.weight = Param::from_data(TensorData::new(weight, [inputs, outputs]), device);
    if layer.bias.is_some() {
        let bias: Vec<f32> = (0..outputs).map(ramp).collect();
        layer.bias = Some(Param::from_data(TensorData::new(bias, [outputs]), device));
    }
}

fn filled(config: HeadConfig, classes: usize) -> LocationClassifier {
    let device = Device::flex();
    let mut network = LocationClassifierConfig::new(config, classes).init(&device);
    network.encoder.layers.iter_mut().for_each(|layer| fill(layer, &device));
    fill(&mut network.classes, &device);
    network
}

fn features(encoder: &PositionEncoder) -> Tensor<2> {
    let features = encoder.encode(LatLon::new(34.05, -118.25).unwrap(), None);
    let features: Vec<f32> = features.into_iter().map(|f| f as f32).collect();
    let shape = [1, features.len()];
    Tensor::from_data(TensorData::new(features, shape), &Device::flex())
}

fn grid() -> PositionEncoder {
    PositionEncoder::scaled("gridcell", 2, 0.1, 360.0).unwrap()
}

fn check(what: &str, got: Tensor<2>, want: &[f64], through: fn(f64) -> f64) {
    let got: Vec<f32> = got.into_data().iter::<f32>().collect();
    assert_eq!(got.len(), want.len(), "{what}");
    for (got, want) in got.into_iter().zip(want) {
        let got = through(f64::from(got));
        assert!((got - want).abs() < 1e-5, "{what}: {got} is not {want}");
    }
}

#[test]
fn ffn_matches_the_golden_forward_passes() {
    let golden = [
        (
            Activation::LeakyRelu,
            [1.4402992667, 1.7562571351, 1.5505276924, 1.1620323299],
            [0.7453864351, 0.5369921321, 0.2196088437],
        ),
        (
            Activation::Gelu,
            [1.2001019770, 1.5409130308, 1.3057636858, 0.8802314607],
            [0.7240325910, 0.5184131191, 0.2571409135],
        ),
        (
            Activation::Relu,
            [1.1785121321, 1.5456704017, 1.4079165787, 1.0987571554],
            [0.7072676515, 0.5560211261, 0.2357130002],
        ),
    ];
    for (activation, embedding, presence) in golden {
        let config = HeadConfig { activation, ..HeadConfig::new(8).with_hidden(6, 1).with_output(4) };
        let network = filled(config, 3);
        let x = features(&grid());
        let what = format!("{activation:?}");
        check(&what, network.encoder.forward(x.clone()), &embedding, |e| e);
        check(&what, network.forward(x), &presence, sigmoid);
    }
}

#[test]
fn fcnet_matches_the_golden_forward_pass() {
    let wrap = EncoderSpec::of("wrap").build().unwrap();
    let settings = HeadSettings { kind: HeadKind::Fcnet, ..HeadSettings::default() };
    let network = filled(HeadConfig { settings, ..HeadConfig::new(4).with_output(5) }, 3);
    let embedding = [5.2553133743, 1.9055648493, 0.0, 0.0, 1.1967033703];
    check("fcnet", network.encoder.forward(features(&wrap)), &embedding, |e| e);
    let presence = [0.9243997845, 0.3932291548, 0.0600997894];
    check("fcnet", network.forward(features(&wrap)), &presence, sigmoid);
}

/// GeoCLIP's structure by torch in f64, `tools/capsules_golden.py`; with a season every capsule sees it.
#[test]
fn capsules_match_torch() {
    let ramp = |n: usize, layer: usize| (0.5 * ((n + 1 + 10 * layer) as f64).sin()) as f32;
    let directions = [[0.5, -1.5], [0.25, 0.75], [3.0, -2.0], [-1.25, 4.5], [20.0, 3.25], [-17.5, 8.125]];
    let bare = [-0.9497528923, -0.8366030283, 0.4533784947, 1.1518055853];
    let seasonal = [-0.9990919081, -0.6736369622, 0.5951721314, 1.0692825049];
    for (season, want) in [(false, bare), (true, seasonal)] {
        let spec = EncoderSpec { directions: Some(directions.into()), season, ..EncoderSpec::of("geoclip") };
        let encoder = spec.build().unwrap();
        let settings = HeadSettings { kind: HeadKind::Capsules, ..HeadSettings::default() };
        let config =
            HeadConfig { settings, ..HeadConfig::new(encoder.dim()).with_hidden(5, 3).with_output(4) };
        let device = Device::flex();
        let mut head = config.init(&device);
        assert_eq!(head.layers.len(), 12);
        for (index, layer) in head.layers.iter_mut().enumerate() {
            let [inputs, outputs] = layer.weight.dims();
            let weight: Vec<f32> =
                (0..inputs * outputs).map(|at| ramp(at % outputs * inputs + at / outputs, index)).collect();
            layer.weight = Param::from_data(TensorData::new(weight, [inputs, outputs]), &device);
            let bias: Vec<f32> = (0..outputs).map(|n| ramp(n, index)).collect();
            layer.bias = Some(Param::from_data(TensorData::new(bias, [outputs]), &device));
        }
        let features = encoder.encode(LatLon::new(34.05, -118.25).unwrap(), YearFraction::new(0.25));
        let features: Vec<f32> = features.into_iter().map(|f| f as f32).collect();
        let shape = [1, features.len()];
        let x = Tensor::from_data(TensorData::new(features, shape), &device);
        check(&format!("season {season}"), head.forward(x), &want, |e| e);
    }
}

/// The same fill, evaluated by `tools/head_golden.py` in f64.
#[test]
fn every_switch_matches_an_independent_evaluation() {
    let base = HeadConfig::new(8).with_hidden(8, 2).with_output(4);
    for (name, want) in golden::CASES {
        let mut config = base;
        let settings = &mut config.settings;
        match *name {
            "plain" => {}
            "no-skip" => settings.skip = false,
            "norm-before" => settings.norm = NormPlace::BeforeActivation,
            "no-norm" => settings.norm = NormPlace::None,
            "linear-output" => settings.output_activation = false,
            "sigmoid" => config.activation = Activation::Sigmoid,
            "tanh" => config.activation = Activation::Tanh,
            "no-hidden" => config.hidden_layers = 0,
            "siren" => settings.kind = HeadKind::Siren,
            "siren-2" => (settings.kind, settings.w0_first, settings.w0) = (HeadKind::Siren, 5.0, 2.0),
            other => panic!("no such case: {other}"),
        }
        check(name, filled(config, 3).encoder.forward(features(&grid())), want, |e| e);
    }
}

#[test]
fn dropout_reaches_where_each_head_has_it() {
    let mut seen = Vec::new();
    for (kind, widths) in [
        (HeadKind::Ffn, [7, 7, 5].to_vec()),
        (HeadKind::Fcnet, [5; 4].to_vec()),
        (HeadKind::Siren, [7, 7].to_vec()),
        (HeadKind::Capsules, [7; 6].to_vec()),
    ] {
        let settings = HeadSettings { kind, ..HeadSettings::default() };
        let config = HeadConfig { settings, ..HeadConfig::new(8).with_hidden(7, 2).with_output(5) };
        let head = config.init(&Device::flex());
        seen.clear();
        head.forward_dropping(features(&grid()), &mut |x| {
            seen.push(x.dims()[1]);
            x
        });
        assert_eq!(seen, widths, "{kind:?}");
    }
}

#[test]
fn sizes_and_spreads_are_those_of_the_originals() {
    let device = Device::flex();
    assert_eq!(HeadConfig::new(4 * 32).init(&device).num_params(), 198_400);
    let fcnet = HeadSettings { kind: HeadKind::Fcnet, ..HeadSettings::default() };
    assert_eq!(HeadConfig { settings: fcnet, ..HeadConfig::new(4) }.init(&device).num_params(), 527_616);

    let settings = HeadSettings { kind: HeadKind::Siren, w0: 3.0, ..HeadSettings::default() };
    let siren = HeadConfig { settings, ..HeadConfig::new(100).with_hidden(64, 2) }.init(&device);
    for (layer, bound) in siren.layers.iter().zip([0.01, (6.0f64 / 64.0).sqrt() / 3.0]) {
        let largest = layer.weight.val().abs().max().into_scalar::<f32>();
        assert!((f64::from(largest) / bound - 1.0).abs() < 0.01, "{largest} is not {bound}");
        let bias = layer.bias.as_ref().unwrap().val().abs().max().into_scalar::<f32>();
        assert!((0.8..=1.001).contains(&(f64::from(bias) / bound)), "{bias} is not {bound}");
    }
}

#[test]
fn settings_read_from_old_and_new_files() {
    let old: Activation = serde_json::from_str("\"LeakyRelu\"").unwrap();
    assert_eq!(old, Activation::LeakyRelu);
    let new: String = serde_json::to_string(&Activation::LeakyRelu).unwrap();
    assert_eq!(new, "\"leaky-relu\"");
    let settings: HeadSettings = serde_json::from_str(r#"{"kind":"siren","w0_first":10}"#).unwrap();
    assert_eq!((settings.kind, settings.w0_first, settings.w0), (HeadKind::Siren, 10.0, 1.0));
}

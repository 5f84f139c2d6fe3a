//! What the quantizer does where int8 alone costs too much, and what it says of bad pictures.

use std::collections::BTreeSet;

use csp_models::{labels::ClassId, nn::BackboneKind};

use super::{
    super::{
        ExportError, Exported, Options, export,
        gate::Budget,
        graph::{Graph, Numbers},
        quantize::{self, Head, Method, Quantizer, Settings, equalise::unbalance, snr_db},
        run::Runner,
    },
    bundles, f32_graph, input, pictures,
};

fn fixed() -> Settings {
    Settings { method: Some(Method::Mse), head: Some(Head::Integer), ..Settings::default() }
}

fn rows(graph: &Graph, images: &[Vec<u8>], side: u32) -> Vec<Vec<f32>> {
    let runner = Runner::new(graph).unwrap();
    images.iter().map(|image| runner.picture(image, &input(side)).unwrap().swap_remove(0)).collect()
}

/// A network whose channels differ by a factor of up to a hundred computes the same in f32 and is lost in
/// int8, but for equalisation.
#[test]
fn equalisation_rescues_badly_scaled_channels() {
    let (side, images) = (32, pictures(64, 32));
    let graph = f32_graph(BackboneKind::SmallCnn(8), side as usize);
    let skewed = unbalance(&graph, 100.0);
    assert!(snr_db(&rows(&graph, &images[..4], side), &rows(&skewed, &images[..4], side)) > 80.0);
    let db = |graph: &Graph, equalise: bool| {
        let settings = Settings { equalise: Some(equalise), ..fixed() };
        quantize::quantize(graph, &input(side), &images, &settings).unwrap().chosen.snr_db
    };
    let (sound, lost, rescued) = (db(&graph, false), db(&skewed, false), db(&skewed, true));
    println!("as it is {sound:.1} dB, skewed {lost:.1}, skewed and equalised {rescued:.1}");
    assert!(rescued > lost + 3.0 && rescued > sound - 3.0, "{sound} {lost} {rescued}");
    // left to itself, the quantizer finds out
    let quantized = quantize::quantize(&skewed, &input(side), &images, &fixed()).unwrap();
    assert!(quantized.chosen.equalised && quantized.tried.len() == 2, "{:?}", quantized.tried);
}

#[test]
fn a_layer_kept_in_f32_is_f32_and_the_rest_is_not() {
    for (backbone, side) in [(BackboneKind::SmallCnn(4), 16), (BackboneKind::MobileNetV2(0.35), 32)] {
        let graph = f32_graph(backbone, side as usize);
        let images = pictures(16, side);
        let (settings, input) = (fixed(), input(side));
        let quantizer = Quantizer::new(&graph, &input, &images, &settings).unwrap();
        let layers: Vec<String> =
            graph.nodes.iter().filter(|node| node.op == "Conv").map(|node| node.name.clone()).collect();
        // the one that reads the picture, one in the middle, one that a residual sum reads
        for name in [&layers[0], &layers[layers.len() / 2], &layers[layers.len() - 1]] {
            let mixed = quantizer.quantized(&BTreeSet::from([name.clone()])).unwrap();
            let of = |op: &str| mixed.graph.nodes.iter().filter(|n| n.op == op).map(|n| &n.name).collect::<Vec<_>>();
            assert_eq!((of("Conv"), of("QLinearConv").len()), (vec![name], layers.len() - 1), "{backbone}");
            assert!(mixed.layers.iter().any(|layer| layer.layer == *name && layer.f32));
            assert!(mixed.chosen.snr_db > 5.0, "{backbone} without {name}: {}", mixed.chosen.snr_db);
        }
        // everything but the residual sums in f32: hardly any noise is left
        let all: BTreeSet<String> = quantize::layers::names(&graph);
        let float = quantizer.quantized(&all).unwrap();
        let integer = quantizer.quantized(&BTreeSet::new()).unwrap();
        assert!(float.chosen.snr_db > integer.chosen.snr_db + 3.0, "{backbone}");
    }
}

#[test]
fn the_noisiest_layer_is_found() {
    let side = 16;
    let mut graph = f32_graph(BackboneKind::SmallCnn(4), side as usize);
    // one weight a thousand times the others of its filters: they are rounded away
    let name = graph.nodes.iter().filter(|node| node.op == "Conv").nth(2).unwrap().inputs[1].clone();
    let layer = graph.nodes.iter().find(|node| node.inputs.get(1) == Some(&name)).unwrap().name.clone();
    let constant = graph.constants.get_mut(&name).unwrap();
    let per_filter: usize = constant.shape[1..].iter().product();
    let Numbers::F32(weights) = &mut constant.numbers else { panic!() };
    weights.chunks_exact_mut(per_filter).for_each(|filter| filter[0] *= 300.0);
    let (images, input, settings) = (pictures(16, side), input(side), Settings { equalise: Some(false), ..fixed() });
    let quantizer = Quantizer::new(&graph, &input, &images, &settings).unwrap();
    let noise = quantizer.sensitivity().unwrap();
    assert_eq!(noise[0].layer, layer, "{noise:?}");
    assert!(noise.windows(2).all(|pair| pair[0].alone_db <= pair[1].alone_db));
    let best = noise.iter().max_by(|a, b| a.without_db.total_cmp(&b.without_db)).unwrap();
    assert_eq!(best.layer, layer, "{noise:?}");
}

#[test]
fn mixed_precision_is_tried_where_int8_costs_too_much() {
    let model = bundles::model(BackboneKind::SmallCnn(4), 16);
    // what the f32 network says is the truth, so that whatever int8 flips is lost
    let images = pictures(600, 16);
    let graph = super::super::image_graph(&model).unwrap();
    let truth = rows(&graph, &images, 16);
    let compare: Vec<(Vec<u8>, ClassId)> =
        images.iter().cloned().zip(truth.iter().map(|row| crate::evaluation::best(row).unwrap())).collect();
    let options = |top1: f64, mixed: bool| Options {
        settings: Settings { method: Some(Method::MinMax), ..fixed() },
        budget: Budget { top1, class: 1.0 },
        mixed,
        ..Options::default()
    };
    let run = |options: &Options| export(&model, &pictures(16, 16), &compare, options).unwrap();
    let plain = run(&options(0.0, false));
    let lost = plain.report.gate.as_ref().unwrap().top1.drop;
    assert!(lost > 0.0 && !plain.report.passes() && plain.report.sensitivity.is_empty(), "{lost}");
    // half of that is too little for int8 alone and enough with some layers in f32, or nothing helps
    let Exported { report, bundle, .. } = run(&options(lost / 2.0, true));
    assert!(!report.sensitivity.is_empty());
    let kept = &bundle.manifest.quantization.as_ref().unwrap().f32_layers;
    println!("lost {lost:.4}, then {:.4} with {kept:?}", report.gate.as_ref().unwrap().top1.drop);
    assert_eq!(report.passes(), !kept.is_empty());
    for (name, noisy) in kept.iter().zip(&report.sensitivity) {
        assert!(report.sensitivity.iter().take(kept.len()).any(|layer| layer.layer == *name), "{noisy:?}");
    }
}

#[test]
fn a_layer_that_is_not_there_is_named() {
    let graph = f32_graph(BackboneKind::SmallCnn(4), 16);
    let settings = Settings { f32_layers: BTreeSet::from(["stem.nonsense".into()]), ..fixed() };
    let error = quantize::quantize(&graph, &input(16), &pictures(16, 16), &settings).unwrap_err().to_string();
    assert!(error.contains("stem.nonsense") && error.contains("head"), "{error}");
}

#[test]
fn a_layer_that_is_not_finite_is_named_with_its_picture() {
    let mut graph = f32_graph(BackboneKind::SmallCnn(4), 16);
    let conv = graph.nodes.iter().filter(|node| node.op == "Conv").nth(1).unwrap();
    let (layer, weight) = (conv.name.clone(), conv.inputs[1].clone());
    let Numbers::F32(weights) = &mut graph.constants.get_mut(&weight).unwrap().numbers else { panic!() };
    // times whatever comes in it leaves f32
    weights.iter_mut().for_each(|w| *w = 3e38);
    let error = quantize::quantize(&graph, &input(16), &pictures(16, 16), &fixed()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, ExportError::Activation { .. }) && error.pictures().len() == 1, "{text}");
    // the convolution, or the ReLU behind it
    let after = graph.nodes.iter().find(|node| node.inputs.contains(&format!("{layer}.output")));
    assert!(text.contains(&layer) || after.is_some_and(|node| text.contains(&node.name)) || text.contains("elu"), "{text}");
}

#[test]
fn outliers_are_told_with_their_picture() {
    let (side, mut images) = (16, pictures(40, 16));
    let mut graph = f32_graph(BackboneKind::SmallCnn(4), side as usize);
    // one bright picture among dark ones; the first layer answers to nothing else
    for image in &mut images {
        image.iter_mut().for_each(|level| *level = 120 + *level / 64);
    }
    images[9] = vec![255; images[9].len()];
    images[9][5] = 0;
    let conv = graph.nodes.iter().find(|node| node.op == "Conv").unwrap().clone();
    let Numbers::F32(weights) = &mut graph.constants.get_mut(&conv.inputs[1]).unwrap().numbers else { panic!() };
    weights.iter_mut().for_each(|w| *w = 1.0);
    let Numbers::F32(biases) = &mut graph.constants.get_mut(&conv.inputs[2]).unwrap().numbers else { panic!() };
    biases.iter_mut().for_each(|b| *b = 0.0);
    let quantized = quantize::quantize(&graph, &input(side), &images, &fixed()).unwrap();
    for outlier in &quantized.outliers {
        assert!(outlier.stretch >= 32.0 && outlier.picture == 9, "{outlier:?}");
    }
}

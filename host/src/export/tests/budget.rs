//! What the quantizer does where int8 alone costs too much, and what it says of bad pictures.

use std::collections::BTreeSet;

use burn::{
    module::Module,
    nn::{
        Linear, LinearConfig, PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
    },
    tensor::{Device, Tensor, activation},
};
use csp_models::{
    labels::{ClassId, Label, Labels},
    nn::BackboneKind,
};

use super::{
    super::{
        ExportError, Measured, Options,
        gate::{Budget, Gate},
        graph::{Graph, Numbers},
        lower::lower,
        quantize::{self, Head, Method, Quantized, Quantizer, Settings, equalise::unbalance, snr_db},
        run::Runner,
        within,
    },
    f32_graph, input, pictures,
};

/// Three convolutions one after the other, as a plain network has them.
#[derive(Module, Debug)]
struct Chain {
    convs: Vec<Conv2d>,
    head: Linear,
}

impl Chain {
    fn init() -> Self {
        let device = Device::flex();
        device.seed(5);
        let conv = |[from, to]: [usize; 2]| {
            let padding = PaddingConfig2d::Explicit(1, 1, 1, 1);
            Conv2dConfig::new([from, to], [3, 3]).with_padding(padding).init(&device)
        };
        Self {
            convs: [[3, 16], [16, 16], [16, 16]].map(conv).into(),
            head: LinearConfig::new(16, 6).init(&device),
        }
    }

    fn lowered() -> Graph {
        lower("image", &Self::init(), ("image", [1, 3, 16, 16]), "logits", |m, x| m.forward(x)).unwrap()
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.convs.iter().fold(x, |x, conv| activation::relu(conv.forward(x)));
        self.head.forward(x.mean_dim(2).mean_dim(3).reshape([1, 16]))
    }
}

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
    let (side, images) = (16, pictures(64, 16));
    let module = Chain::init();
    let graph = lower("image", &module, ("image", [1, 3, 16, 16]), "logits", |m, x| m.forward(x)).unwrap();
    let skewed = unbalance(&graph, 100.0, usize::MAX);
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
            let of = |op: &str| {
                mixed.graph.nodes.iter().filter(|n| n.op == op).map(|n| &n.name).collect::<Vec<_>>()
            };
            assert_eq!((of("Conv"), of("QLinearConv").len()), (vec![name], layers.len() - 1), "{backbone}");
            assert!(mixed.layers.iter().any(|layer| layer.layer == *name && layer.f32));
            assert!(mixed.chosen.snr_db > 5.0, "{backbone} without {name}: {}", mixed.chosen.snr_db);
        }
        // everything but the residual sums in f32: their noise alone is left
        let all: BTreeSet<String> = quantize::layers::names(&graph);
        let float = quantizer.quantized(&all).unwrap();
        let integer = quantizer.quantized(&BTreeSet::new()).unwrap();
        assert!(float.chosen.snr_db > integer.chosen.snr_db, "{backbone}");
    }
}

/// Between two convolutions with badly scaled channels the noise is made: both need to be f32 to be rid of it.
#[test]
fn the_noisiest_layers_are_found() {
    let (side, images) = (16, pictures(24, 16));
    let graph = unbalance(&Chain::lowered(), 1000.0, 1);
    let convs: Vec<String> =
        graph.nodes.iter().filter(|node| node.op == "Conv").map(|node| node.name.clone()).collect();
    let (input, settings) = (input(side), Settings { equalise: Some(false), ..fixed() });
    let quantizer = Quantizer::new(&graph, &input, &images, &settings).unwrap();
    let noise = quantizer.sensitivity().unwrap();
    let noisiest: BTreeSet<String> = noise[..2].iter().map(|layer| layer.layer.clone()).collect();
    assert_eq!(noisiest, convs[..2].iter().cloned().collect(), "{noise:?}");
    assert!(noise.windows(2).all(|pair| pair[0].alone_db <= pair[1].alone_db));
    let all = quantizer.quantized(&BTreeSet::new()).unwrap().chosen.snr_db;
    let mixed = quantizer.quantized(&noisiest).unwrap().chosen.snr_db;
    assert!(mixed > all + 6.0, "{all} {mixed}");
}

#[test]
fn as_few_layers_as_help_stay_f32() {
    let graph = f32_graph(BackboneKind::SmallCnn(4), 16);
    let labels = Labels(["lynx", "badger"].map(Label::new).into());
    let (input, images) = (input(16), pictures(16, 16));
    let run = |enough: usize, mixed: bool| {
        // int8 names everything wrong until `enough` layers are f32
        let measure = |quantized: &Quantized| {
            let right = quantized.f32_layers.len() >= enough;
            let answers = vec![vec![f32::from(u8::from(right)), 0.5]; 20];
            let (truth, f32_answers) = (vec![Some(ClassId(0)); 20], vec![vec![1.0, 0.5]; 20]);
            let gate = Gate::of(&labels, &truth, &f32_answers, &answers, Budget::default());
            Ok(Measured { answers, gate })
        };
        let options = Options { settings: fixed(), mixed, ..Options::default() };
        within::budget(&graph, &input, &images, &options, measure).unwrap()
    };
    let found = run(2, true);
    let costliest: BTreeSet<String> =
        found.sensitivity[..2].iter().map(|layer| layer.layer.clone()).collect();
    assert_eq!(found.quantized.f32_layers, costliest);
    assert!(found.measured.gate.unwrap().passes());
    // nothing helps, or nothing may: int8 alone, which does not pass
    for (enough, mixed) in [(100, true), (2, false)] {
        let found = run(enough, mixed);
        assert!(found.quantized.f32_layers.is_empty() && !found.measured.gate.unwrap().passes());
        assert_eq!(found.sensitivity.is_empty(), !mixed);
    }
    let found = run(0, true);
    assert!(found.quantized.f32_layers.is_empty() && found.sensitivity.is_empty());
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
    // the convolution itself, or the activation that took its place
    let values: Vec<&String> = graph.nodes.iter().map(|node| &node.output).collect();
    assert!(values.iter().any(|value| text.contains(&format!("(value {value})"))), "{layer}: {text}");
}

use std::collections::BTreeMap;

use burn::tensor::Device;
use csp_device::infer::Engine;
use csp_models::{
    bundle::Bundle,
    encoder::{EncoderSpec, KINDS, PositionEncoder},
    fusion::{Fusion, Thresholds},
    labels::{ClassId, Label, Labels},
    manifest::{ModelProvenance, NumberFormat, file},
    nn::{BackboneKind, HeadConfig, LocationClassifierConfig, ModulatedHeadConfig},
    place::{LatLon, Place},
    situation::Situation,
    time::YearFraction,
};

use crate::{
    features::{location_logits, location_presence, position_features},
    training::TrainedModel,
};

use super::{
    super::{
        ExportError, Exported, Location, Options, export,
        gate::Budget,
        graph::{Graph, Numbers},
        location_graph, onnx,
        pictures::Compared,
        place,
        quantize::{Head, Method, Settings},
    },
    aged, classifier, input,
    lowering::heads,
    pictures,
};

const CLASSES: [&str; 4] = ["lynx", "badger", "roe deer", "blank"];

fn model(backbone: BackboneKind, side: u32) -> TrainedModel {
    let encoder = PositionEncoder::scaled("space2vec-grid", 4, 0.1, 360.0).unwrap();
    with_location(backbone, side, encoder, HeadConfig::new(0).with_hidden(16, 1).with_output(8))
}

fn with_location(
    backbone: BackboneKind,
    side: u32,
    encoder: PositionEncoder,
    head: HeadConfig,
) -> TrainedModel {
    let network = HeadConfig { input: encoder.dim(), ..head };
    TrainedModel {
        image: Some(classifier(backbone, CLASSES.len())),
        location: Some(aged(LocationClassifierConfig::new(network, CLASSES.len()).init(&Device::flex()))),
        modulated: None,
        input: input(side),
        encoder: Some(encoder),
        labels: Labels(CLASSES.map(Label::new).into()),
        place_only: 0,
        fusion: Fusion::default(),
        thresholds: Thresholds::default(),
        provenance: ModelProvenance { backbone: "small-cnn-4".into(), seed: 7, ..Default::default() },
        name: "test".into(),
    }
}

/// Pictures of every class in turn, here and there in the world.
fn labelled(count: usize, side: u32) -> Vec<Compared> {
    let one = |(i, pixels): (usize, Vec<u8>)| Compared {
        pixels,
        class: ClassId((i % CLASSES.len()) as u16),
        at: LatLon::new((i * 37 % 170) as f64 - 85.0, (i * 61 % 350) as f64 - 175.0)
            .ok()
            .map(|at| Situation::new(at, YearFraction::new(0.4))),
    };
    pictures(count, side).into_iter().enumerate().map(one).collect()
}

#[test]
fn a_bundle_is_whole_and_reads_back() {
    let model = model(BackboneKind::SmallCnn(4), 16);
    let options = Options { licences: vec!["CC0-1.0".into()], ..Options::default() };
    let Exported { bundle, report, .. } =
        export(&model, &pictures(24, 16), &labelled(12, 16), &options).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.cspm");
    bundle.write(&path).unwrap();
    let read = Bundle::open(&path).unwrap();
    assert_eq!(read.digest, bundle.digest);
    assert_eq!(read.manifest.image_format, NumberFormat::Int8);
    for name in [file::IMAGE, file::IMAGE_F32, file::LOCATION, file::MODEL_CARD] {
        assert!(read.file(name).is_some(), "{name}");
    }
    let port = |name: &str| {
        let outline = onnx::outline(read.file(name).unwrap()).unwrap();
        let (i, o) = (&outline.inputs[0], &outline.outputs[0]);
        (
            i.name.clone(),
            i.element.clone(),
            i.shape.clone(),
            o.name.clone(),
            o.element.clone(),
            o.shape.clone(),
        )
    };
    let f32_port = |name: &str, shape: Vec<i64>, element: &str| {
        (name.into(), element.into(), shape, "logits".to_string(), "f32".to_string(), vec![1, 4])
    };
    assert_eq!(port(file::IMAGE), f32_port("image", vec![1, 3, 16, 16], "i8"));
    assert_eq!(port(file::IMAGE_F32), f32_port("image", vec![1, 3, 16, 16], "f32"));
    assert_eq!(port(file::LOCATION), f32_port("features", vec![1, 16], "f32"));
    let quantization = read.manifest.quantization.as_ref().unwrap();
    assert_eq!(quantization.compared_images, 12);
    assert_eq!(quantization.top1_int8, Some(report.int8.as_ref().unwrap().top1));
    assert!(quantization.agreement > 0.5);
    let card = String::from_utf8(read.file(file::MODEL_CARD).unwrap().to_vec()).unwrap();
    for needle in ["roe deer", "CC0-1.0", "small-cnn-4", "int8", "top-1", "kept out of training"] {
        assert!(card.contains(needle), "{needle} is not in\n{card}");
    }
}

/// int8 alone: a quarter of f32, which every part of the bundle says; the location network's weights are
/// bytes and the engine answers with them as f32 would.
#[test]
fn a_bundle_of_int8_alone_is_small_and_says_so() {
    let head = HeadConfig::new(0).with_hidden(128, 1).with_output(128);
    let encoder = PositionEncoder::scaled("space2vec-grid", 16, 0.1, 360.0).unwrap();
    let model = with_location(BackboneKind::SmallCnn(24), 16, encoder, head);
    let budget = Budget { top1: 1.0, class: 1.0 };
    let whole = Options { budget, ..Options::default() };
    let make = |options: &Options| export(&model, &pictures(16, 16), &labelled(40, 16), options).unwrap();
    let Exported { bundle, report, .. } = make(&Options { fallback: false, ..whole.clone() });
    assert!(bundle.file(file::IMAGE_F32).is_none() && !bundle.manifest.has_fallback());
    let float = make(&Options { location: Location::F32, ..whole.clone() });
    let exact = float.report.f32_networks;
    assert_eq!(exact[file::LOCATION], float.bundle.file(file::LOCATION).unwrap().len() as u64);
    assert_eq!(exact[file::IMAGE], float.bundle.file(file::IMAGE_F32).unwrap().len() as u64);
    assert_eq!(exact, report.f32_networks);
    for name in [file::IMAGE, file::LOCATION] {
        let ratio = report.files[name] as f64 / exact[name] as f64;
        assert!(ratio < 0.31, "{name}: {ratio}");
    }
    let found = bundle.manifest.quantization.as_ref().unwrap().location.as_ref().unwrap();
    assert_eq!((found.layers, found.compared), (3, 40));
    assert!(found.top1_f32.is_some() && found.fused_int8.is_some() && found.snr_db > 30.0, "{found:?}");
    let card = String::from_utf8(bundle.file(file::MODEL_CARD).unwrap().to_vec()).unwrap();
    assert!(card.contains("int8 is all it can run") && card.contains("stored as int8"), "{card}");
    // the same image network with and without f32 beside it
    assert_eq!(make(&whole).bundle.file(file::IMAGE), bundle.file(file::IMAGE));
    let engine = Engine::load(&bundle).unwrap();
    let engine_f32 = Engine::load(&float.bundle).unwrap();
    for (lat, lon) in [(34.05, -118.25), (-90.0, 180.0)] {
        let at = Situation::undated(LatLon::new(lat, lon).unwrap());
        let [small, exact] = [&engine, &engine_f32].map(|e| e.location_logits(at).unwrap().unwrap());
        let scale = exact.iter().fold(1f32, |max, z| max.max(z.abs()));
        assert!(small.iter().zip(&exact).all(|(s, e)| (s - e).abs() < 0.05 * scale), "{small:?} {exact:?}");
        assert_ne!(small, exact);
    }
    let outline = onnx::outline(bundle.file(file::LOCATION).unwrap()).unwrap();
    assert_eq!(outline.operators["DequantizeLinear"], 3);
}

/// Weights as bytes that cost answers are not taken: beside one huge weight, of a value that is always
/// 0, the others of its output are left no bits.
#[test]
fn a_location_network_that_suffers_stays_f32() {
    let model = model(BackboneKind::SmallCnn(4), 16);
    let sound = location_graph(&model).unwrap().unwrap();
    let mut spoilt = sound.clone();
    let norm = spoilt.nodes.iter().rfind(|node| node.op == "LayerNormalization").unwrap().clone();
    let last = spoilt.nodes.last().unwrap().clone();
    for name in &norm.inputs[1..] {
        let Numbers::F32(numbers) = &mut spoilt.constants.get_mut(name).unwrap().numbers else { panic!() };
        numbers[0] = 0.0;
    }
    let Numbers::F32(numbers) = &mut spoilt.constants.get_mut(&last.inputs[1]).unwrap().numbers else {
        panic!()
    };
    numbers[..CLASSES.len()].fill(1e4);
    let float = Options { format: NumberFormat::F32, ..Options::default() };
    let whole = export(&model, &[], &[], &float).unwrap().bundle;
    let bundle = |graph: &Graph| {
        let names = [file::IMAGE, file::LOCATION];
        let mut files: BTreeMap<String, Vec<u8>> =
            names.map(|name| (name.to_string(), whole.file(name).unwrap().to_vec())).into();
        files.insert(file::LOCATION.into(), onnx::encode(graph));
        Ok(Bundle::assemble(whole.manifest.clone(), files)?)
    };
    let form = |graph| place::form(&model, graph, &[], &Options::default(), bundle).unwrap();
    let (small, report) = form(&sound).unwrap();
    assert!(report.snr_db > 30.0 && small.constants.len() > sound.constants.len());
    assert!(form(&spoilt).is_none());
}

/// What a season model says without a date is the same on host and device: its mean over the year, and
/// not what it says of any one date.
#[test]
fn the_device_averages_over_the_year_as_the_host_does() {
    let spec = EncoderSpec { season: true, ..EncoderSpec::of("wrap") };
    let model = with_location(BackboneKind::SmallCnn(4), 16, spec.build().unwrap(), heads()[1]);
    let options = Options { format: NumberFormat::F32, ..Options::default() };
    let bundle = export(&model, &[], &[], &options).unwrap().bundle;
    assert!(bundle.manifest.encoder.as_ref().unwrap().season());
    let engine = Engine::load(&bundle).unwrap();
    let mut predictor = csp_device::trap::Predictor::new(&engine);
    let at = LatLon::new(34.05, -118.25).unwrap();
    let logits = [0.0; CLASSES.len()];
    let mut device = |date: Option<YearFraction>| {
        let said = predictor.predict(&logits, Some(&Place::configured(at)), date).unwrap();
        assert_eq!(said.year_mean, date.is_none());
        said.prior.unwrap()
    };
    let host = |date: Option<YearFraction>| {
        let (network, encoder) = (model.location.as_ref().unwrap(), model.encoder.as_ref().unwrap());
        let asked = [Situation::new(at, date.map(YearFraction::midday))];
        location_presence(network, &model.labels, encoder, &asked, &Device::flex()).remove(0)
    };
    let dates = [None, YearFraction::new(0.1), YearFraction::new(0.6)];
    let said = dates.map(|date| (device(date), host(date)));
    for (device, host) in &said {
        assert!(device.iter().zip(host).all(|(d, h)| (d - h).abs() < 1e-5), "{device:?} {host:?}");
    }
    let apart = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(apart(&said[1].0, &said[2].0) > 1e-3, "the date says nothing: {said:?}");
    assert!(apart(&said[0].0, &said[1].0) > 1e-3 && apart(&said[0].0, &said[2].0) > 1e-3);
}

#[test]
fn f32_has_no_second_network_and_needs_no_pictures() {
    let mut model = model(BackboneKind::SmallCnn(4), 16);
    (model.location, model.encoder) = (None, None);
    let options = Options { format: NumberFormat::F32, ..Options::default() };
    let Exported { bundle, report, .. } = export(&model, &[], &[], &options).unwrap();
    assert!(bundle.file(file::IMAGE_F32).is_none() && bundle.file(file::LOCATION).is_none());
    assert!(report.f32.is_none() && report.gate.is_none() && report.passes());
    let card = String::from_utf8(bundle.file(file::MODEL_CARD).unwrap().to_vec()).unwrap();
    assert!(card.contains("Not measured") && card.contains("Not stated at export"));
}

/// Every encoder and every head reaches the field: the device's engine reads the bundle from disk and
/// answers as burn does.
#[test]
fn the_device_computes_every_encoder_and_head() {
    let encoders: Vec<PositionEncoder> = KINDS
        .iter()
        .map(|kind| {
            EncoderSpec { season: ["xyz", "wrap"].contains(&kind.name), ..EncoderSpec::of(kind.name) }
                .build()
                .unwrap()
        })
        .collect();
    let grid = PositionEncoder::scaled("space2vec-grid", 4, 1.0, 360.0).unwrap();
    let of_heads = heads().into_iter().map(|head| (grid.clone(), head));
    let of_encoders = encoders.into_iter().map(|encoder| (encoder, heads()[1]));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.cspm");
    for (encoder, head) in of_heads.chain(of_encoders) {
        let what = format!("{encoder} and {head:?}");
        let model = with_location(BackboneKind::SmallCnn(4), 16, encoder.clone(), head);
        let options = Options { format: NumberFormat::F32, ..Options::default() };
        let Exported { bundle, .. } = export(&model, &[], &[], &options).unwrap();
        bundle.write(&path).unwrap();
        let engine = Engine::load(&Bundle::open(&path).unwrap()).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(engine.manifest().encoder.as_ref(), Some(&encoder));
        let places = [(34.05, -118.25, 0.1), (-90.0, 180.0, 0.5), (69.65, 18.96, 1.0)]
            .map(|(lat, lon, date)| Situation::new(LatLon::new(lat, lon).unwrap(), YearFraction::new(date)));
        let burn = location_logits(model.location.as_ref().unwrap(), &encoder, &places, &Device::flex());
        // the features themselves to the bit, as the engine computes them from the manifest
        let host: Vec<f32> =
            position_features(&encoder, &places, &Device::flex()).into_data().iter::<f32>().collect();
        let stored = engine.manifest().encoder.clone().unwrap();
        let device = places.iter().flat_map(|place| stored.encode(place.at, place.date));
        let device: Vec<f32> = device.map(|feature| feature as f32).collect();
        assert_eq!(
            host.iter().map(|f| f.to_bits()).collect::<Vec<_>>(),
            device.iter().map(|f| f.to_bits()).collect::<Vec<_>>(),
            "{what}"
        );
        for (place, want) in places.into_iter().zip(burn) {
            let got = engine.location_logits(place).unwrap().unwrap();
            let scale = want.iter().fold(1f32, |max, z| max.max(z.abs()));
            for (got, want) in got.iter().zip(&want) {
                assert!((got - want).abs() < 1e-4 * scale, "{what} at {place:?}: {got} is not {want}");
            }
        }
    }
}

#[test]
fn a_forced_export_says_so_in_its_manifest() {
    let model = model(BackboneKind::SmallCnn(4), 16);
    // whatever is lost is too much: the network is random, so that some pictures flip
    let budget = Budget { top1: -1.0, class: 1.0 };
    let options = Options { budget, ..Options::default() };
    let Exported { bundle, report, .. } =
        export(&model, &pictures(16, 16), &labelled(40, 16), &options).unwrap();
    let gate = bundle.manifest.quantization.as_ref().unwrap().gate.as_ref().unwrap();
    assert_eq!(
        (report.passes(), gate.passed, gate.forced),
        (report.gate.as_ref().unwrap().passes(), report.passes(), false)
    );
    let forced = Options { force: true, ..options };
    let Exported { bundle, report, .. } =
        export(&model, &pictures(16, 16), &labelled(600, 16), &forced).unwrap();
    let gate = bundle.manifest.quantization.as_ref().unwrap().gate.as_ref().unwrap();
    assert!(!report.passes() && !gate.passed && gate.forced);
    assert_eq!((gate.lost[0].class.as_str(), gate.lost[0].pictures), ("(all)", 600));
    let card = String::from_utf8(bundle.file(file::MODEL_CARD).unwrap().to_vec()).unwrap();
    for needle in ["although", "| badger |", "150"] {
        assert!(card.contains(needle), "{needle} is not in\n{card}");
    }
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let options = Options { format: NumberFormat::F32, ..Options::default() };
    let refuse = |change: fn(&mut TrainedModel)| {
        let mut model = model(BackboneKind::SmallCnn(4), 16);
        change(&mut model);
        export(&model, &[], &[], &options).unwrap_err()
    };
    assert!(matches!(refuse(|m| m.encoder = None), ExportError::Model { field: "location", .. }));
    let modulated = refuse(|m| {
        let config = ModulatedHeadConfig::new(8, 16, CLASSES.len());
        m.modulated = Some(config.init(&Device::flex()));
    });
    assert!(modulated.to_string().contains("image.modulation"), "{modulated}");
    assert!(matches!(
        refuse(|m| {
            m.labels.0.pop();
        }),
        ExportError::Model { field: "labels", .. }
    ));
    assert!(matches!(
        refuse(|m| m.input.std[1] = 0.0),
        ExportError::Tensor { .. } | ExportError::Manifest(_)
    ));
}

/// The engine of the field takes every backbone, ResNets in integers too.
#[test]
fn large_backbones_run_on_the_engine() {
    let cases = [
        (BackboneKind::ResNet18, 32, NumberFormat::Int8),
        (BackboneKind::InceptionV3, 75, NumberFormat::F32),
    ];
    for (backbone, side, format) in cases {
        let model = model(backbone, side);
        let settings =
            Settings { method: Some(Method::MinMax), head: Some(Head::Integer), ..Settings::default() };
        let options = Options { format, settings, ..Options::default() };
        let images = pictures(if format == NumberFormat::Int8 { 16 } else { 1 }, side);
        let Exported { bundle, report, .. } =
            export(&model, &images, &[], &options).unwrap_or_else(|e| panic!("{backbone}: {e}"));
        assert!(bundle.manifest.files.contains_key(file::IMAGE), "{backbone}");
        if let Some(attempt) = report.tried.first() {
            assert!(attempt.snr_db > 8.0, "{backbone}: {} dB", attempt.snr_db);
        }
    }
}

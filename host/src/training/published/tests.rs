//! `referee.json` is what torchvision and timm answer (`tools/backbone_referee.py fixture`) with weights
//! by a formula of tensor name and index, the same here and there: a tensor under a wrong name, of a
//! wrong shape or in a wrong place gives other numbers.

use std::path::Path;

use csp_models::nn::{Backbone, InceptionV3Config};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::*;
use csp_models::bundle::hex;

const CLASSES: usize = 10;

#[derive(Deserialize)]
struct Referee {
    libraries: Vec<String>,
    kind: String,
    side: usize,
    /// SHA-256 of the sorted lines `name [shape]`.
    tensors: String,
    /// Every how manieth feature is listed.
    every: usize,
    features: Vec<f32>,
    logits: Vec<f32>,
    /// The features with torchvision's `transform_input`.
    transformed: Option<Vec<f32>>,
}

/// u(name, n) in [0, 1).
fn uniform(name: &str, count: usize) -> impl Iterator<Item = f64> {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
    (1..=count as u64).map(move |n| {
        let mut x = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(seed);
        x ^= x >> 31;
        x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 29;
        (x >> 40) as f64 / f64::from(1 << 24)
    })
}

fn formula(name: &str, shape: &[usize]) -> Array {
    let u = uniform(name, shape.iter().product());
    let values: Vec<f32> = if shape.len() >= 2 {
        let bound = (6.0 / shape[1..].iter().product::<usize>() as f64).sqrt();
        u.map(|u| ((2.0 * u - 1.0) * bound) as f32).collect()
    } else if name.ends_with("running_var") {
        u.map(|u| (0.5 + u) as f32).collect()
    } else if name.ends_with(".weight") {
        u.map(|u| (0.2 + 0.6 * u) as f32).collect()
    } else {
        u.map(|u| (0.4 * (u - 0.5)) as f32).collect()
    };
    Array { shape: shape.into(), values }
}

/// The state dict of the formula, as the library would have saved it.
fn state(kind: BackboneKind, naming: Naming) -> StateDict {
    let mut shapes = shapes(kind);
    shapes.insert("head.weight".into(), vec![kind.features(), CLASSES]);
    shapes.insert("head.bias".into(), vec![CLASSES]);
    let mut tensors = BTreeMap::new();
    for name in kind.published_names(naming).unwrap() {
        let mut shape = shapes[&name.ours].clone();
        if name.transposed {
            shape.reverse();
        }
        tensors.insert(name.theirs.clone(), formula(&name.theirs, &shape));
    }
    StateDict { tensors, sha256: String::new() }
}

fn worst(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).map(|(g, w)| (g - w).abs()).fold(0.0, f32::max)
}

#[test]
fn networks_answer_as_torch_does() {
    let referees: Vec<Referee> = serde_json::from_str(include_str!("referee.json")).unwrap();
    assert_eq!(referees.len(), 5);
    for referee in referees {
        let kind = KNOWN.into_iter().find(|kind| kind.to_string().starts_with(&referee.kind)).unwrap();
        let naming =
            Naming::ALL.into_iter().find(|naming| naming.to_string() == referee.libraries[0]).unwrap();
        let what = format!("{kind} of {naming}");
        let mut state = state(kind, naming);
        let lines = state.tensors.iter().map(|(name, array)| format!("{name} {:?}\n", array.shape));
        let mut lines: Vec<String> = lines.collect();
        lines.sort_unstable();
        assert_eq!(hex(&Sha256::digest(lines.concat())), referee.tensors, "tensors of {what}");

        let counter = Array { shape: vec![], values: vec![1.0] };
        state.tensors.insert("bn1.num_batches_tracked".into(), counter.clone());
        state.tensors.insert("AuxLogits.fc.bias".into(), counter);
        let imported = import(kind, &state).unwrap();
        assert_eq!((imported.naming, imported.classes), (naming, Some(CLASSES)));
        let device = Device::flex();
        let network = ImageClassifierConfig::new(kind, CLASSES).init(&device);
        let network = imported.weights.apply("image", network).unwrap();

        let side = referee.side;
        let pixels: Vec<f32> = uniform("image", 3 * side * side).map(|u| (4.0 * u - 2.0) as f32).collect();
        let image = Tensor::<4>::from_data(TensorData::new(pixels, [1, 3, side, side]), &device);
        let features = network.backbone.forward(image.clone());
        let logits: Vec<f32> = network.head.forward(features.clone()).into_data().iter::<f32>().collect();
        let listed = |features: Tensor<2>| -> Vec<f32> {
            features.into_data().iter::<f32>().step_by(referee.every).collect()
        };
        let off = worst(&listed(features), &referee.features).max(worst(&logits, &referee.logits));
        assert!(off <= 1e-4, "{what}: off by {off}");

        if let Some(transformed) = &referee.transformed {
            let mut network = network;
            let other = InceptionV3Config::new().with_transform_input(true).init(&device);
            network.backbone = Backbone::InceptionV3(other);
            let network = imported.into_backbone(network).unwrap();
            let off = worst(&listed(network.backbone.forward(image)), transformed);
            assert!(off <= 1e-4, "{what}, transformed input: off by {off}");
        }
    }
}

#[test]
fn a_state_dict_of_another_architecture_is_named() {
    let mut resnet = state(BackboneKind::ResNet18, Naming::Torchvision);
    let error = import(BackboneKind::ResNet50, &resnet).unwrap_err();
    for part in [
        "not the weights of resnet-50",
        "missing: layer1.0.conv3.weight",
        "of another shape",
        "those of resnet-18",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let error = import(BackboneKind::MobileNetV2(0.5), &state(KNOWN[0], Naming::Timm)).unwrap_err();
    assert!(error.contains("conv_stem.weight is [32, 3, 3, 3], not [16, 3, 3, 3]"), "{error}");
    assert!(error.contains("those of mobilenet-v2-1"), "{error}");

    // without its classifier it is as good; with something more it is not
    resnet.tensors.retain(|name, _| !name.starts_with("fc."));
    let imported = import(BackboneKind::ResNet18, &resnet).unwrap();
    assert_eq!((imported.classes, imported.tensors), (None, resnet.tensors.len()));
    resnet.tensors.insert("layer5.weight".into(), Array { shape: vec![1], values: vec![0.0] });
    let error = import(BackboneKind::ResNet18, &resnet).unwrap_err();
    assert!(error.contains("1 unknown to it: layer5.weight"), "{error}");
    assert!(import(BackboneKind::SmallCnn(8), &resnet).unwrap_err().contains("nobody publishes"));
}

#[test]
fn files_of_every_float_format_are_read() {
    use safetensors::{Dtype, tensor::TensorView};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.safetensors");
    // 1.5 and −2 in each format
    let (f32s, f64s) =
        ([1.5f32, -2.0].map(f32::to_le_bytes).concat(), [1.5f64, -2.0].map(f64::to_le_bytes).concat());
    let (f16s, bf16s) = ([0x00, 0x3e, 0x00, 0xc0], [0xc0, 0x3f, 0x00, 0xc0]);
    let parts: [(&str, Dtype, &[u8]); 4] = [
        ("module.a", Dtype::F32, &f32s),
        ("module.b", Dtype::F64, &f64s),
        ("module.c", Dtype::F16, &f16s),
        ("module.d", Dtype::BF16, &bf16s),
    ];
    let mut views: Vec<(&str, TensorView<'_>)> = (parts.iter())
        .map(|&(name, dtype, bytes)| (name, TensorView::new(dtype, vec![2], bytes).unwrap()))
        .collect();
    let count = 7i64.to_le_bytes();
    views.push(("module.n", TensorView::new(Dtype::I64, vec![1], &count).unwrap()));
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    let state = StateDict::read(&path).unwrap();
    assert_eq!(state.tensors.keys().collect::<Vec<_>>(), ["a", "b", "c", "d"]);
    for (name, array) in &state.tensors {
        assert_eq!(array.values, [1.5, -2.0], "{name}");
    }
    let torch = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/torch/bare.pth");
    assert!(!StateDict::read(&torch).unwrap().tensors.is_empty());
    std::fs::write(&path, b"not tensors").unwrap();
    assert!(StateDict::read(&path).unwrap_err().to_string().contains("w.safetensors"));
}

//! Networks: the same numbers as onnxruntime, and no panic whatever the bytes.

use csp_device::infer::{Engine, EngineOptions, InferError, OpenError, kernel_names};
use csp_models::{
    bundle::Bundle,
    manifest::{Manifest, NumberFormat, file},
    place::LatLon,
};

use crate::fixture::{self, CLASSES};

fn close(got: &[f32], want: &serde_json::Value, tolerance: f64) {
    let want: Vec<f64> = want.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(&want) {
        assert!((f64::from(*got) - want).abs() <= tolerance, "{got} is not {want}");
    }
}

#[test]
fn f32_answers_as_onnxruntime_does() {
    let engine = Engine::load(&fixture::bundle(NumberFormat::F32)).unwrap();
    for index in 0..3 {
        let logits = engine.classify(&fixture::pixels(index)).unwrap();
        close(&logits, &fixture::expected()["f32"][index], 1e-4);
    }
}

#[test]
fn int8_answers_as_onnxruntime_does() {
    let engine = Engine::load(&fixture::bundle(NumberFormat::Int8)).unwrap();
    assert_eq!(engine.format(), NumberFormat::Int8);
    for index in 0..3 {
        let logits = engine.classify(&fixture::pixels(index)).unwrap();
        close(&logits, &fixture::expected()["int8"][index], 1e-4);
    }
    let f32 = Engine::load_with(
        &fixture::bundle(NumberFormat::Int8),
        EngineOptions { prefer_f32: true, ..EngineOptions::default() },
    )
    .unwrap();
    assert_eq!(f32.format(), NumberFormat::F32);
    close(&f32.classify(&fixture::pixels(0)).unwrap(), &fixture::expected()["f32"][0], 1e-4);
}

#[test]
fn every_kernel_answers_the_same() {
    let bundle = fixture::bundle(NumberFormat::Int8);
    let load = |kernels| Engine::load_with(&bundle, EngineOptions { kernels, ..EngineOptions::default() });
    let best = load(None).unwrap();
    assert_eq!(best.operators()[..2], ["Source", "CspInt8Region"]);
    for name in kernel_names() {
        let engine = load(Some(name)).unwrap();
        assert_eq!(engine.kernels(), Some(name));
        for index in 0..3 {
            let pixels = fixture::pixels(index);
            assert_eq!(engine.classify(&pixels).unwrap(), best.classify(&pixels).unwrap(), "{name}");
        }
    }
    // and with more threads than some layers have work for
    for threads in [0, 2, 7] {
        let options = EngineOptions { threads, ..EngineOptions::default() };
        let engine = Engine::load_with(&bundle, options).unwrap();
        for index in 0..3 {
            let pixels = fixture::pixels(index);
            assert_eq!(engine.classify(&pixels).unwrap(), best.classify(&pixels).unwrap(), "{threads}");
        }
    }
    // forced to what this processor cannot run
    let error = load(Some("6502")).unwrap_err().to_string();
    assert!(error.contains("6502") && error.contains("scalar"), "{error}");
}

#[test]
fn places_answer_as_onnxruntime_does() {
    let engine = Engine::load(&fixture::bundle(NumberFormat::F32)).unwrap();
    let expected = fixture::expected();
    for (place, want) in
        expected["places"].as_array().unwrap().iter().zip(expected["location"].as_array().unwrap())
    {
        let at = LatLon::new(place[0].as_f64().unwrap(), place[1].as_f64().unwrap()).unwrap();
        close(
            &engine.location_logits(csp_models::situation::Situation::undated(at)).unwrap().unwrap(),
            want,
            1e-4,
        );
    }
    assert!(engine.has_location());
}

#[test]
fn pixels_of_another_size_are_an_error() {
    let engine = Engine::load(&fixture::bundle(NumberFormat::F32)).unwrap();
    assert!(matches!(engine.classify(&[0; 12]), Err(InferError::Pixels { found: 12, .. })));
}

/// A bundle whose image network is `onnx`, with right digests.
fn with_image(format: NumberFormat, onnx: Vec<u8>) -> Bundle {
    let mut files = fixture::files(format);
    files.insert(file::IMAGE.into(), onnx);
    Bundle::assemble(fixture::manifest(format), files).unwrap()
}

#[test]
fn a_broken_int8_network_is_not_replaced_silently() {
    let bundle = with_image(NumberFormat::Int8, b"not onnx".to_vec());
    let error = Engine::load(&bundle).unwrap_err();
    assert!(matches!(error, InferError::UseF32 { .. }), "{error}");
    assert!(error.to_string().contains("--prefer-f32"), "{error}");
    assert!(
        Engine::load_with(&bundle, EngineOptions { prefer_f32: true, ..EngineOptions::default() }).is_ok()
    );
    // and without an f32 network beside it the first reason stands
    let error = Engine::load(&with_image(NumberFormat::F32, vec![])).unwrap_err();
    assert!(matches!(error, InferError::Profile { .. } | InferError::Decode { .. }), "{error}");
}

/// int8 alone runs as ever, and f32 asked of it is an error that tells what to do.
#[test]
fn a_bundle_without_f32_runs_int8_and_refuses_f32() {
    let mut files = fixture::files(NumberFormat::Int8);
    files.remove(file::IMAGE_F32);
    let bundle = Bundle::assemble(fixture::manifest(NumberFormat::Int8), files).unwrap();
    assert!(!bundle.manifest.has_fallback() && fixture::bundle(NumberFormat::Int8).manifest.has_fallback());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.cspm");
    bundle.write(&path).unwrap();
    let open =
        |prefer_f32| Engine::open(&path, EngineOptions { prefer_f32, ..EngineOptions::default() }, &[]);
    let (_, engine) = open(false).unwrap();
    close(&engine.classify(&fixture::pixels(1)).unwrap(), &fixture::expected()["int8"][1], 1e-4);
    let error = open(true).unwrap_err();
    assert!(matches!(error, OpenError::Infer(InferError::NoFallback)), "{error}");
    let said = error.to_string();
    assert!(["--fallback f32", "--prefer-f32", "trap.toml"].iter().all(|word| said.contains(word)), "{said}");
    // and int8 that does not load is not said to have a way out
    let mut files = fixture::files(NumberFormat::Int8);
    files.remove(file::IMAGE_F32);
    files.insert(file::IMAGE.into(), b"not onnx".to_vec());
    let broken = Bundle::assemble(fixture::manifest(NumberFormat::Int8), files).unwrap();
    assert!(!Engine::load(&broken).unwrap_err().to_string().contains("--prefer-f32"));
}

#[test]
fn what_does_not_run_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.cspm");
    fixture::bundle(NumberFormat::Int8).write(&path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let spoil = |name: &str| {
        let inside = fixture::read(name);
        let at = whole.windows(64).position(|window| window == &inside[200..264]).unwrap();
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    };
    let open =
        |prefer_f32| Engine::open(&path, EngineOptions { prefer_f32, ..EngineOptions::default() }, &[]);
    let (digest, engine) = open(false).unwrap();
    assert_eq!((digest, engine.format()), (fixture::bundle(NumberFormat::Int8).digest, NumberFormat::Int8));
    spoil("image.f32.onnx");
    assert!(open(false).is_ok());
    assert!(matches!(open(true), Err(OpenError::Bundle(_))));
    spoil("image.onnx");
    assert!(open(true).is_ok());
    assert!(matches!(open(false), Err(OpenError::Bundle(_))));
    spoil("location.onnx");
    assert!(matches!(open(false), Err(OpenError::Bundle(_))));
    // a network that is refused: what to run instead is still found out
    with_image(NumberFormat::Int8, b"not onnx".to_vec()).write(&path).unwrap();
    assert!(matches!(open(false), Err(OpenError::Infer(InferError::UseF32 { .. }))));
}

#[test]
fn the_networks_must_fit_the_manifest() {
    let swapped = with_image(NumberFormat::F32, fixture::read("location.onnx"));
    let error = Engine::load(&swapped).unwrap_err().to_string();
    assert!(error.contains("image.onnx") && error.contains("graph input"), "{error}");
    let mut manifest = fixture::manifest(NumberFormat::F32);
    manifest.labels.0.pop();
    let bundle = Bundle::assemble(manifest, fixture::files(NumberFormat::F32)).unwrap();
    let error = Engine::load(&bundle).unwrap_err().to_string();
    assert!(error.contains("graph output") && error.contains("[1, 3]"), "{error}");
}

/// Every byte of every network replaced in turn: refused or run, never a panic, never a hang.
#[test]
fn no_damaged_network_gets_through() {
    let (mut refused, mut ran, mut failed) = (0, 0, 0);
    for (format, name) in [(NumberFormat::F32, "image.f32.onnx"), (NumberFormat::Int8, "image.onnx")] {
        let whole = fixture::read(name);
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let pixels = fixture::pixels(0);
        for at in 0..whole.len() {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let mut onnx = whole.clone();
            onnx[at] = if at % 3 == 0 { onnx[at] ^ (1 << (state % 8)) } else { (state >> 32) as u8 };
            if at % 50 == 0 {
                onnx.truncate(at);
            }
            // f32 alone, so that a refusal does not load a second network
            let mut files = fixture::files(NumberFormat::F32);
            files.insert(file::IMAGE.into(), onnx);
            let manifest = Manifest { encoder: None, ..fixture::manifest(format) };
            let bundle = Bundle::assemble(manifest, files).unwrap();
            match Engine::load(&bundle) {
                Ok(engine) => match engine.classify(&pixels) {
                    Ok(logits) => {
                        assert_eq!(logits.len(), CLASSES.len());
                        ran += 1;
                    }
                    Err(_) => failed += 1,
                },
                Err(InferError::Load { reason, .. }) => {
                    assert!(
                        !reason.contains("panicked"),
                        "the profile let a panic through at {at}: {reason}"
                    );
                    failed += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    println!("{refused} refused, {ran} ran (a changed weight or name), {failed} failed cleanly");
    assert!(refused > 500 && ran > 500);
}

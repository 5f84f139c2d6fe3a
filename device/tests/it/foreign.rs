//! Quantized networks that are not of our exporter: right answers, or a refusal by the node's name.
//!
//! `tools/foreign_onnx.py` makes them, most by onnxruntime's quantizer.

use csp_device::infer::{Engine, InferError};
use csp_models::{
    bundle::Bundle,
    manifest::{Manifest, NumberFormat, file},
};

use crate::fixture;

fn load(name: &str, format: NumberFormat) -> Result<Engine, InferError> {
    let mut files = fixture::files(NumberFormat::F32);
    files.insert(file::IMAGE.into(), fixture::read(&format!("foreign/{name}.onnx")));
    let manifest = Manifest { encoder: None, ..fixture::manifest(format) };
    Engine::load(&Bundle::assemble(manifest, files).unwrap())
}

/// The largest difference to onnxruntime's answers.
fn off(name: &str, engine: &Engine) -> f64 {
    let expected: serde_json::Value =
        serde_json::from_slice(&fixture::read("foreign/expected.json")).unwrap();
    let mut most = 0f64;
    for index in 0..3 {
        let logits = engine.classify(&fixture::pixels(index)).unwrap();
        for (class, logit) in logits.iter().enumerate() {
            let want = expected[name][index][class].as_f64().unwrap();
            most = most.max((f64::from(*logit) - want).abs());
        }
    }
    most
}

/// QDQ takes floats: such a network goes into a bundle as an f32 one, and tract's operators run it.
#[test]
fn qdq_networks_of_onnxruntime_run() {
    for name in [
        "qdq-tensor-u8",
        "qdq-channel-u8",
        "qdq-tensor-s8",
        "qdq-channel-s8",
        "qdq-mixed-s8",
        "qdq-no-zero-points",
    ] {
        let engine = load(name, NumberFormat::F32).unwrap_or_else(|error| panic!("{name}: {error}"));
        let conv = engine.explain().iter().find(|line| line.op == "Conv").unwrap();
        assert!(conv.engine == "tract" && conv.reason.is_some(), "{conv:?}");
        let off = off(name, &engine);
        println!("{name}: {off}");
        // One step of an activation, where tract multiplies by the reciprocal of a scale and
        // onnxruntime divides by it.
        assert!(off <= 0.06, "{name} is off by {off}");
    }
}

/// Weights stored as int8 and dequantized along either axis, as our exporter stores a location network's:
/// known when it loads, so that no byte of it is left to the run.
#[test]
fn weights_stored_as_bytes_run_as_floats() {
    let engine = load("weights-int8", NumberFormat::F32).unwrap();
    let off = off("weights-int8", &engine);
    println!("weights-int8: {off}");
    assert!(off <= 1e-5, "off by {off}");
    let operators = engine.operators();
    assert!(operators.iter().all(|operator| !operator.contains("Dequantize")), "{operators:?}");
}

#[test]
fn what_cannot_run_is_refused_by_the_nodes_name() {
    for (name, node, operator) in [
        ("qoperator", "QLinearAdd", "com.microsoft"),
        ("dynamic", "DynamicQuantizeLinear", "not in the profile"),
    ] {
        let error = load(name, NumberFormat::F32).unwrap_err();
        assert!(matches!(error, InferError::Profile { .. }), "{name}: {error}");
        let text = error.to_string();
        assert!(text.contains(node) && text.contains(operator), "{name}: {text}");
    }
}

/// Layers that stayed f32 inside an int8 graph: tract runs them, our kernels all else.
#[test]
fn layers_left_in_f32_run_inside_an_int8_network() {
    for (name, left) in [("island-depthwise", "depthwise"), ("island-pointwise", "pointwise")] {
        let engine = load(name, NumberFormat::Int8).unwrap_or_else(|error| panic!("{name}: {error}"));
        let theirs: Vec<&str> = engine
            .explain()
            .iter()
            .filter(|line| line.engine == "tract")
            .map(|line| line.node.as_str())
            .collect();
        assert_eq!(theirs, [left, &format!("{left}.relu")], "{name}");
        let regions = engine.operators().iter().filter(|name| *name == "CspInt8Region").count();
        assert_eq!(regions, 2, "{name}: one before, one after");
        let off = off(name, &engine);
        println!("{name}: {off}");
        assert!(off <= 0.06, "{name} is off by {off}");
    }
}

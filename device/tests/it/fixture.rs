//! A small model: networks and expected answers made by `fixtures/make.py`.

use std::{collections::BTreeMap, fs, path::Path};

use csp_models::{
    bundle::Bundle,
    encoder::PositionEncoder,
    fusion::{Fusion, Thresholds},
    labels::{Label, Labels},
    manifest::{ImageInput, MANIFEST_SCHEMA, Manifest, ModelProvenance, NumberFormat, file},
};

pub const SIDE: u32 = 16;
pub const CLASSES: [&str; 4] = ["lynx", "hare", "roe deer", "blank"];

/// A file of `fixtures/`.
pub fn read(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What onnxruntime answers.
pub fn expected() -> serde_json::Value {
    serde_json::from_slice(&read("expected.json")).unwrap()
}

/// One of the pictures of `make.py`, `[height, width, 3]`.
pub fn pixels(index: usize) -> Vec<u8> {
    let factors = &expected()["pixels"][index];
    let (a, b) = (factors[0].as_u64().unwrap(), factors[1].as_u64().unwrap());
    (0..u64::from(SIDE * SIDE * 3)).map(|i| ((i * a + i * i * b) % 256) as u8).collect()
}

/// The same picture as a PNG file, which keeps every pixel.
pub fn png(index: usize) -> Vec<u8> {
    let picture = image::RgbImage::from_raw(SIDE, SIDE, pixels(index)).unwrap();
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

pub fn manifest(format: NumberFormat) -> Manifest {
    Manifest {
        schema: MANIFEST_SCHEMA,
        name: "fixture".into(),
        input: ImageInput {
            width: SIDE,
            height: SIDE,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        },
        image_format: format,
        encoder: Some(PositionEncoder::scaled("space2vec-grid", 4, 0.1, 360.0).unwrap()),
        labels: Labels(CLASSES.map(Label::new).to_vec()),
        fusion: Fusion { temperature: 4.0, ..Fusion::default() },
        thresholds: Thresholds::default(),
        quantization: None,
        provenance: ModelProvenance::default(),
        licences: vec![],
        files: BTreeMap::new(),
    }
}

pub fn files(format: NumberFormat) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::from([(file::LOCATION.to_string(), read("location.onnx"))]);
    match format {
        NumberFormat::F32 => {
            files.insert(file::IMAGE.into(), read("image.f32.onnx"));
        }
        NumberFormat::Int8 => {
            files.insert(file::IMAGE.into(), read("image.onnx"));
            files.insert(file::IMAGE_F32.into(), read("image.f32.onnx"));
        }
    }
    files
}

pub fn bundle(format: NumberFormat) -> Bundle {
    Bundle::assemble(manifest(format), files(format)).unwrap()
}

/// The same by its name in a folder, `0.png`.
pub fn png_of(name: &str) -> Vec<u8> {
    png(name.trim_end_matches(".png").parse().unwrap())
}

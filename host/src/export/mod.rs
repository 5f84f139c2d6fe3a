//! From a trained model to the bundle the field runs.
//!
//! ```text
//! burn modules ─capture─► recorded operations ─lower─► graph ─simplify─► f32 ONNX
//!                                                        └─quantize─► int8 ONNX
//! ```
//!
//! There is no second description of an architecture: the ONNX files come out of the forward pass
//! itself. The location network stays f32: it is a hundredth of the work, and its logits feed a
//! sigmoid whose small values matter.

mod accuracy;
mod capture;
mod card;
mod error;
pub mod graph;
pub mod lower;
pub mod onnx;
pub mod pictures;
pub mod quantize;
mod run;
mod simplify;
mod verify;

use std::collections::BTreeMap;

use csp_models::{
    bundle::Bundle,
    labels::ClassId,
    manifest::{MANIFEST_SCHEMA, Manifest, NumberFormat, QuantizationReport, file},
};

pub use crate::evaluation::Accuracy;
use crate::training::TrainedModel;
pub use error::ExportError;

use graph::Graph;

/// What may be chosen about an export.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number format of the image network. The f32 file travels beside an int8 one.
    pub format: NumberFormat,
    /// Name in the manifest; `None`: the run's.
    pub name: Option<String>,
    /// Licences of data and weights.
    pub licences: Vec<String>,
    /// About the quantization.
    pub settings: quantize::Settings,
    /// Largest loss of top-1 accuracy by quantization that passes the gate, 0 to 1.
    pub max_loss: f64,
}

impl Default for Options {
    /// int8, at most 2 points of top-1 lost.
    fn default() -> Self {
        Self {
            format: NumberFormat::Int8,
            name: None,
            licences: Vec::new(),
            settings: quantize::Settings::default(),
            max_loss: 0.02,
        }
    }
}

/// What an export did and measured.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ExportReport {
    /// Name in the manifest.
    pub name: String,
    /// `f32` or `int8`.
    pub format: NumberFormat,
    /// Multiply-adds of one picture.
    pub multiply_adds: u64,
    /// Bytes of each file of the bundle.
    pub files: BTreeMap<String, u64>,
    /// Accuracy of the f32 image network, by the field's engine.
    pub f32: Option<Accuracy>,
    /// Accuracy of the int8 image network, by the field's engine.
    pub int8: Option<Accuracy>,
    /// As in the manifest.
    pub quantization: Option<QuantizationReport>,
    /// What the quantizer tried: method, form of the linear layers, signal to noise of the logits.
    pub tried: Vec<Attempt>,
    /// Top-1 lost by quantization, 0 to 1 (negative: gained); `None` without labelled pictures.
    pub lost: Option<f64>,
    /// The largest loss that passes.
    pub max_loss: f64,
    /// SHA-256 of the manifest.
    pub digest: String,
}

/// One quantization that was tried.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Attempt {
    /// Method of the activation ranges.
    pub ranges: &'static str,
    /// Form of the linear layers.
    pub head: quantize::Head,
    /// Signal to noise of the logits on held-out calibration pictures, dB.
    pub snr_db: f64,
}

impl ExportReport {
    /// True unless quantization lost more than it may. One picture is always allowed: on a small
    /// hold-out a single flip is several points and says nothing.
    pub fn passes(&self) -> bool {
        let pictures = self.int8.as_ref().map_or(0, |accuracy| accuracy.n) as f64;
        self.lost.is_none_or(|lost| lost * pictures <= (self.max_loss * pictures).max(1.0) + 1e-6)
    }
}

/// Exports a model and measures it with the engine the field runs.
///
/// # Shapes
/// Pictures are pixels `height × width × 3` of the model's input size. `calibration`: from the
/// training split, with or without labels, at least [`quantize::MIN_IMAGES`] for int8. `compare`: with
/// their classes, from pictures training did not learn from.
///
/// # Errors
/// See [`ExportError`]. A loss of accuracy is not an error here: see [`ExportReport::passes`].
pub fn export(
    model: &TrainedModel,
    calibration: &[Vec<u8>],
    compare: &[(Vec<u8>, ClassId)],
    options: &Options,
) -> Result<(Bundle, ExportReport), ExportError> {
    if model.place_only > 0 {
        let added = &model.labels.0[model.labels.len().saturating_sub(model.place_only)..];
        let names: Vec<&str> = added.iter().map(|label| label.name.as_str()).collect();
        let problem = format!(
            "the image network does not know {}, added from places only: export the run it was added to, or train \
             with pictures of it",
            names.join(", ")
        );
        return Err(ExportError::Model { field: "labels", problem });
    }
    if model.modulated.is_some() {
        return Err(ExportError::Model {
            field: "image.modulation",
            problem: "the run has an image head that the place has a say in, which no bundle can hold yet; \
                      train with image.modulation.enabled = false to export image, place and their fusion"
                .into(),
        });
    }
    let image = image_graph(model)?;
    let location = location_graph(model)?;
    verify::image(model, &image, calibration)?;
    if let Some(location) = &location {
        verify::location(model, location)?;
    }
    let assemble = |format, files, quantization| -> Result<Bundle, ExportError> {
        Ok(Bundle::assemble(manifest(model, options, format, quantization), files)?)
    };
    let mut files = BTreeMap::from([(file::IMAGE.to_string(), onnx::encode(&image))]);
    if let Some(location) = &location {
        files.insert(file::LOCATION.into(), onnx::encode(location));
    }
    let plain = assemble(NumberFormat::F32, files.clone(), None)?;
    // Without labelled pictures the two networks can still be compared with each other.
    let pictures: Vec<(&[u8], Option<ClassId>)> = match compare {
        [] => calibration.iter().map(|pixels| (pixels.as_slice(), None)).collect(),
        labelled => labelled.iter().map(|(pixels, class)| (pixels.as_slice(), Some(*class))).collect(),
    };
    let f32_answers = accuracy::answers(&plain, &pictures)?;
    let f32_accuracy = accuracy::accuracy(&f32_answers, &pictures);

    let mut report = ExportReport {
        name: plain.manifest.name.clone(),
        format: options.format,
        multiply_adds: image.multiply_adds(),
        files: BTreeMap::new(),
        f32: f32_accuracy,
        int8: None,
        quantization: None,
        tried: Vec::new(),
        lost: None,
        max_loss: options.max_loss,
        digest: String::new(),
    };
    let mut details = None;
    if options.format == NumberFormat::Int8 {
        let quantized = quantize::quantize(&image, &model.input, calibration, options.settings)?;
        files.insert(file::IMAGE_F32.into(), onnx::encode(&image));
        files.insert(file::IMAGE.into(), onnx::encode(&quantized.graph));
        let integer = assemble(NumberFormat::Int8, files.clone(), None)?;
        let answers = accuracy::answers(&integer, &pictures)?;
        report.int8 = accuracy::accuracy(&answers, &pictures);
        report.tried = quantized
            .tried
            .iter()
            .map(|&(method, head, snr_db)| Attempt { ranges: method.name(), head, snr_db })
            .collect();
        report.lost = match (&report.f32, &report.int8) {
            (Some(before), Some(after)) => Some(before.top1 - after.top1),
            _ => None,
        };
        report.quantization = Some(QuantizationReport {
            method: format!("{} ranges, per-channel weights, bias correction", quantized.method.name()),
            calibration_images: quantized.calibration_images as u32,
            compared_images: pictures.len() as u32,
            top1_f32: report.f32.as_ref().map(|accuracy| accuracy.top1),
            top1_int8: report.int8.as_ref().map(|accuracy| accuracy.top1),
            agreement: accuracy::agreement(&f32_answers, &answers),
        });
        details = Some(quantized);
    }
    let manifest = manifest(model, options, options.format, report.quantization.clone());
    let card = card::card(&manifest, &report, details.as_ref());
    files.insert(file::MODEL_CARD.into(), card.into_bytes());
    let bundle = Bundle::assemble(manifest, files)?;
    report.files = bundle.manifest.files.iter().map(|(name, entry)| (name.clone(), entry.size)).collect();
    report.digest = csp_models::bundle::hex(&bundle.digest);
    Ok((bundle, report))
}

/// The image network: input `image` f32 `[1, 3, height, width]` normalised, output `logits`
/// `[1, classes]`.
///
/// # Errors
/// See [`lower::lower`]; [`ExportError::Model`] when it does not answer with one logit a class.
pub fn image_graph(model: &TrainedModel) -> Result<Graph, ExportError> {
    let shape = [1, 3, model.input.height as usize, model.input.width as usize];
    let network = model.image.as_ref().ok_or_else(|| ExportError::Model {
        field: "image",
        problem: "the run has no image network, since its data has no pictures: a camera needs one".into(),
    })?;
    let graph = lower::lower("image", network, ("image", shape), "logits", |m, x| m.forward(x))?;
    expect_classes(&graph, model)?;
    Ok(graph)
}

/// The location network: input `features` f32 `[1, features]`, output `logits` `[1, classes]` before
/// the sigmoid. `None` for an image-only model.
///
/// # Errors
/// See [`image_graph`]; [`ExportError::Model`] for a location network without an encoder or the
/// other way round.
pub fn location_graph(model: &TrainedModel) -> Result<Option<Graph>, ExportError> {
    let (network, encoder) = match (&model.location, &model.encoder) {
        (None, None) => return Ok(None),
        (Some(network), Some(encoder)) => (network, encoder),
        _ => {
            return Err(ExportError::Model {
                field: "location",
                problem: "a location network and its position encoder belong together, one is missing".into(),
            });
        }
    };
    let input = ("features", [1, encoder.dim()]);
    let graph = lower::lower("location", network, input, "logits", |m, x| m.forward(x))?;
    expect_classes(&graph, model)?;
    Ok(Some(graph))
}

fn expect_classes(graph: &Graph, model: &TrainedModel) -> Result<(), ExportError> {
    let (shape, classes) = (graph.shape(&graph.outputs[0]), model.labels.len());
    if shape != [1, classes] {
        return Err(ExportError::Model {
            field: "labels",
            problem: format!("{classes} classes, but the {} network answers {shape:?}", graph.name),
        });
    }
    Ok(())
}

fn manifest(
    model: &TrainedModel,
    options: &Options,
    image_format: NumberFormat,
    quantization: Option<QuantizationReport>,
) -> Manifest {
    Manifest {
        schema: MANIFEST_SCHEMA,
        name: options.name.clone().unwrap_or_else(|| model.name.clone()),
        input: model.input,
        image_format,
        encoder: model.encoder.clone(),
        labels: model.labels.clone(),
        fusion: model.fusion,
        thresholds: model.thresholds,
        quantization,
        provenance: model.provenance.clone(),
        licences: options.licences.clone(),
        files: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests;

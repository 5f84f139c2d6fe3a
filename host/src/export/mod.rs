//! From a trained model to the bundle the field runs.
//!
//! ```text
//! burn modules ─capture─► recorded operations ─lower─► graph ─simplify─► f32 ONNX
//!                                                        └─quantize─► int8 ONNX
//! ```
//!
//! There is no second description of an architecture: the ONNX files come out of the forward pass
//! itself. The location network computes in f32: it is a hundredth of the work, and its logits feed a
//! sigmoid whose small values matter. Its weights are stored as int8 where that changes no answer
//! ([`Location`]): in a small model it is half of the bundle.

mod accuracy;
mod capture;
mod card;
mod error;
pub mod gate;
pub mod graph;
pub mod lower;
pub mod onnx;
pub mod pictures;
mod place;
pub mod quantize;
mod run;
pub mod signing;
mod simplify;
mod stored;
pub mod twins;
mod verify;
mod within;

use std::collections::BTreeMap;

use csp_models::{
    bundle::Bundle,
    labels::ClassId,
    manifest::{LocationReport, MANIFEST_SCHEMA, Manifest, NumberFormat, QuantizationReport, file},
};

pub use crate::evaluation::Accuracy;
use crate::training::TrainedModel;
pub use error::ExportError;

use gate::{Budget, Gate};
use graph::Graph;
use pictures::Compared;
use place::Placed;
use quantize::{Attempt, LayerNoise, LayerReport, Outlier};

/// What may be chosen about an export.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number format of the image network.
    pub format: NumberFormat,
    /// The f32 image network travels beside an int8 one.
    pub fallback: bool,
    /// Form of the location network beside an int8 image network.
    pub location: Location,
    /// Name in the manifest; `None`: the run's.
    pub name: Option<String>,
    /// Licences of data and weights.
    pub licences: Vec<String>,
    /// About the quantization.
    pub settings: quantize::Settings,
    /// Layers that cost most may stay f32 where int8 alone does not keep within the budget.
    pub mixed: bool,
    /// Every layer's share in the noise is measured, whether that is needed or not.
    pub sensitivity: bool,
    /// What quantization may cost.
    pub budget: Budget,
    /// The bundle will be written even if quantization costs more, and is to say so.
    pub force: bool,
}

/// How the weights of a location network are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Location {
    /// As int8 if no answer suffers, see [`LocationReport`], else as f32. It computes in f32 either way.
    #[default]
    Smallest,
    /// As f32.
    F32,
}

impl Default for Options {
    /// int8 within the default [`Budget`], with f32 beside it.
    fn default() -> Self {
        Self {
            format: NumberFormat::Int8,
            fallback: true,
            location: Location::Smallest,
            name: None,
            licences: Vec::new(),
            settings: quantize::Settings::default(),
            mixed: true,
            sensitivity: false,
            budget: Budget::default(),
            force: false,
        }
    }
}

/// A bundle in memory, and how it came about.
#[derive(Debug)]
pub struct Exported {
    /// The bundle.
    pub bundle: Bundle,
    /// What was done and measured.
    pub report: ExportReport,
    /// The int8 network, which twins are made from.
    pub quantized: Option<quantize::Quantized>,
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
    /// Bytes of each network in f32, by the name it has in a bundle of f32, whether this one holds it or not.
    pub f32_networks: BTreeMap<String, u64>,
    /// Accuracy of the f32 image network, by the field's engine.
    pub f32: Option<Accuracy>,
    /// Accuracy of the int8 image network, by the field's engine.
    pub int8: Option<Accuracy>,
    /// As in the manifest.
    pub quantization: Option<QuantizationReport>,
    /// What the quantizer tried: method, form of the linear layers, signal to noise of the logits.
    pub tried: Vec<Attempt>,
    /// Signal to noise of each layer of the int8 network.
    pub layers: Vec<LayerReport>,
    /// What each layer costs by itself, the one that costs most first; where it was asked for or needed.
    pub sensitivity: Vec<LayerNoise>,
    /// Values whose range a few numbers set; positions among the calibration pictures.
    pub outliers: Vec<Outlier>,
    /// f32 and int8 class by class, and what of it is too much; `None` without labelled pictures.
    pub gate: Option<Gate>,
    /// SHA-256 of the manifest.
    pub digest: String,
}

impl ExportReport {
    /// Bytes of the int8 image network for one of the f32 one.
    pub fn size_ratio(&self) -> Option<f64> {
        let (int8, f32) = (self.files.get(file::IMAGE)?, self.f32_networks.get(file::IMAGE)?);
        (self.int8.is_some() || self.quantization.is_some()).then(|| *int8 as f64 / *f32 as f64)
    }

    /// Bytes of all files of an int8 bundle for one of the networks of an f32 one.
    pub fn bundle_ratio(&self) -> Option<f64> {
        let (all, f32) = (self.files.values().sum::<u64>(), self.f32_networks.values().sum::<u64>());
        self.quantization.as_ref().map(|_| all as f64 / f32 as f64)
    }

    /// True unless quantization cost more than the budget, beyond doubt.
    pub fn passes(&self) -> bool {
        self.gate.as_ref().is_none_or(Gate::passes)
    }
}

/// Exports a model and measures it with the engine the field runs.
///
/// # Shapes
/// Pictures are pixels `height × width × 3` of the model's input size. `calibration`: from the
/// training split, with or without labels, at least [`quantize::MIN_IMAGES`] for int8. `compare`:
/// pictures training did not learn from.
///
/// # Errors
/// See [`ExportError`]. A loss of accuracy is not an error here: see [`ExportReport::passes`].
pub fn export(
    model: &TrainedModel,
    calibration: &[Vec<u8>],
    compare: &[Compared],
    options: &Options,
) -> Result<Exported, ExportError> {
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
        labelled => labelled.iter().map(|one| (one.pixels.as_slice(), Some(one.class))).collect(),
    };
    let f32_answers = accuracy::answers(&plain, &pictures)?;
    let f32_accuracy = accuracy::accuracy(&f32_answers, &pictures);

    let mut report = ExportReport {
        name: plain.manifest.name.clone(),
        format: options.format,
        multiply_adds: image.multiply_adds(),
        files: BTreeMap::new(),
        f32_networks: files.iter().map(|(name, bytes)| (name.clone(), bytes.len() as u64)).collect(),
        f32: f32_accuracy,
        int8: None,
        quantization: None,
        tried: Vec::new(),
        layers: Vec::new(),
        sensitivity: Vec::new(),
        outliers: Vec::new(),
        gate: None,
        digest: String::new(),
    };
    let mut details = None;
    if options.format == NumberFormat::Int8 {
        let truth: Vec<Option<ClassId>> = pictures.iter().map(|(_, class)| *class).collect();
        let measure = |quantized: &quantize::Quantized| -> Result<Measured, ExportError> {
            let mut files = files.clone();
            files.insert(file::IMAGE.into(), onnx::encode(&quantized.graph));
            let answers = accuracy::answers(&assemble(NumberFormat::Int8, files, None)?, &pictures)?;
            let gate = Gate::of(&model.labels, &truth, &f32_answers, &answers, options.budget);
            Ok(Measured { answers, gate })
        };
        let within::Within { quantized, measured, sensitivity } =
            within::budget(&image, &model.input, calibration, options, measure)?;
        let small = match &location {
            Some(graph) if options.location == Location::Smallest => {
                let placed = compare
                    .iter()
                    .zip(&measured.answers)
                    .filter_map(|(one, image)| one.at.map(|at| Placed { at, class: one.class, image }));
                place::form(model, graph, &placed.collect::<Vec<_>>(), options, |graph| {
                    let mut files = files.clone();
                    files.insert(file::LOCATION.into(), onnx::encode(graph));
                    assemble(NumberFormat::F32, files, None)
                })?
            }
            _ => None,
        };
        if options.fallback {
            files.extend(files.get(file::IMAGE).cloned().map(|f32| (file::IMAGE_F32.into(), f32)));
        }
        files.insert(file::IMAGE.into(), onnx::encode(&quantized.graph));
        let small: Option<LocationReport> = small.map(|(graph, report)| {
            files.insert(file::LOCATION.into(), onnx::encode(&graph));
            report
        });
        report.int8 = accuracy::accuracy(&measured.answers, &pictures);
        report.gate = measured.gate;
        report.tried = quantized.tried.clone();
        report.layers = quantized.layers.clone();
        report.outliers = quantized.outliers.clone();
        report.sensitivity = sensitivity;
        let equalised = if quantized.chosen.equalised { "equalised channels, " } else { "" };
        report.quantization = Some(QuantizationReport {
            method: format!(
                "{equalised}{} ranges, per-channel weights, bias correction",
                quantized.chosen.ranges.name()
            ),
            calibration_images: quantized.calibration_images as u32,
            compared_images: pictures.len() as u32,
            top1_f32: report.f32.as_ref().map(|accuracy| accuracy.top1),
            top1_int8: report.int8.as_ref().map(|accuracy| accuracy.top1),
            agreement: accuracy::agreement(&f32_answers, &measured.answers),
            f32_layers: quantized.f32_layers.iter().cloned().collect(),
            gate: report.gate.as_ref().map(|gate| gate.report(options.force && !gate.passes())),
            location: small,
        });
        details = Some(quantized);
    }
    let manifest = manifest(model, options, options.format, report.quantization.clone());
    let fallback = files.contains_key(file::IMAGE_F32);
    let card = card::card(&manifest, &report, details.as_ref(), fallback);
    files.insert(file::MODEL_CARD.into(), card.into_bytes());
    let bundle = Bundle::assemble(manifest, files)?;
    report.files = bundle.manifest.files.iter().map(|(name, entry)| (name.clone(), entry.size)).collect();
    report.digest = csp_models::bundle::hex(&bundle.digest);
    Ok(Exported { bundle, report, quantized: details })
}

/// An int8 network's answers, and what they cost.
struct Measured {
    /// Logits `[pictures][classes]`.
    answers: Vec<Vec<f32>>,
    gate: Option<Gate>,
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

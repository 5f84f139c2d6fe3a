//! Mixed precision: as little f32 as keeps the loss within the budget.

use std::collections::BTreeSet;

use csp_models::manifest::ImageInput;

use super::{
    Measured, Options,
    error::ExportError,
    graph::Graph,
    quantize::{LayerNoise, Quantized, Quantizer},
};

/// Layers that stay f32, trial by trial: each trial measures the whole network.
const TRIALS: [usize; 7] = [1, 2, 3, 5, 8, 13, 21];
/// Share of the multiply-adds beyond which f32 as a whole is the better choice.
const MOST: f64 = 0.5;

/// A quantization, and how it was found.
pub(super) struct Within {
    pub quantized: Quantized,
    pub measured: Measured,
    /// What each layer costs; empty where nobody asked.
    pub sensitivity: Vec<LayerNoise>,
}

/// Quantizes; where that costs more than the budget and `options.mixed` allows it, leaves the layers
/// that cost most in f32, as few as bring the loss within. Where none do, it is int8 alone that is returned.
pub(super) fn budget(
    graph: &Graph,
    input: &ImageInput,
    images: &[Vec<u8>],
    options: &Options,
    measure: impl Fn(&Quantized) -> Result<Measured, ExportError>,
) -> Result<Within, ExportError> {
    let settings = &options.settings;
    let quantizer = Quantizer::new(graph, input, images, settings)?;
    let quantized = quantizer.quantized(&settings.f32_layers)?;
    let measured = measure(&quantized)?;
    let passes = |measured: &Measured| measured.gate.as_ref().is_none_or(|gate| gate.passes());
    let fits = passes(&measured);
    let mut within = Within { quantized, measured, sensitivity: Vec::new() };
    if options.sensitivity || (!fits && options.mixed) {
        within.sensitivity = quantizer.sensitivity()?;
    }
    if fits || !options.mixed {
        return Ok(within);
    }
    let all: u64 = within.sensitivity.iter().map(|layer| layer.multiply_adds).sum();
    for count in TRIALS {
        let chosen: Vec<&LayerNoise> = within.sensitivity.iter().take(count).collect();
        let floats: u64 = chosen.iter().map(|layer| layer.multiply_adds).sum();
        if chosen.len() < count || floats as f64 > MOST * all as f64 {
            break;
        }
        let mut f32_layers: BTreeSet<String> = chosen.iter().map(|layer| layer.layer.clone()).collect();
        f32_layers.extend(settings.f32_layers.iter().cloned());
        let quantized = quantizer.quantized(&f32_layers)?;
        let measured = measure(&quantized)?;
        if passes(&measured) {
            return Ok(Within { quantized, measured, ..within });
        }
    }
    Ok(within)
}

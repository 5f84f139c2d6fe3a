//! What the f32 network computes on calibration pictures.

use std::collections::{BTreeMap, BTreeSet};

use csp_models::manifest::ImageInput;

use super::super::{error::ExportError, graph::Graph, run::Runner};

/// Bins of a histogram. Finer changes no range by more than 1/16 of an int8 step.
pub(super) const BINS: usize = 4096;

/// What was seen of one value.
#[derive(Clone, Debug)]
pub(super) struct Statistics {
    /// Smallest number.
    pub low: f32,
    /// Largest number.
    pub high: f32,
    /// Counts between `low` and `high`; exact zeros, which int8 represents exactly, are left out.
    pub histogram: Vec<u64>,
    /// Mean by channel (axis 1), for bias correction.
    pub means: Vec<f64>,
}

impl Statistics {
    fn new(channels: usize) -> Self {
        Self {
            low: f32::INFINITY,
            high: f32::NEG_INFINITY,
            histogram: vec![0; BINS],
            means: vec![0.0; channels],
        }
    }

    /// Width of a bin.
    pub fn bin(&self) -> f32 {
        (self.high - self.low) / BINS as f32
    }

    fn count(&mut self, values: &[f32]) {
        let scale = BINS as f32 / (self.high - self.low).max(f32::MIN_POSITIVE);
        for &value in values.iter().filter(|&&value| value != 0.0) {
            let bin = ((value - self.low) * scale) as usize;
            self.histogram[bin.min(BINS - 1)] += 1;
        }
    }

    fn extremes(&mut self, values: &[f32]) {
        for &value in values {
            self.low = self.low.min(value);
            self.high = self.high.max(value);
        }
        let per_channel = values.len() / self.means.len().max(1);
        for (sum, channel) in self.means.iter_mut().zip(values.chunks_exact(per_channel.max(1))) {
            *sum += channel.iter().map(|&v| f64::from(v)).sum::<f64>() / per_channel.max(1) as f64;
        }
    }
}

/// Runs the pictures twice: for the extremes, then for the histograms between them.
pub(super) fn observe(
    graph: &Graph,
    observed: &BTreeSet<String>,
    input: &ImageInput,
    images: &[&[u8]],
) -> Result<BTreeMap<String, Statistics>, ExportError> {
    let fed = &graph.inputs[0];
    let names: Vec<&String> = observed.iter().filter(|name| *name != fed).collect();
    let mut probe = graph.clone();
    probe.outputs = names.iter().map(|name| name.to_string()).collect();
    probe.prune();
    let runner = Runner::new(&probe)?;
    let channels = |name: &str| graph.shape(name).get(1).copied().unwrap_or(1);
    let mut all: BTreeMap<String, Statistics> =
        observed.iter().map(|name| (name.clone(), Statistics::new(channels(name)))).collect();

    let mut pass = |see: fn(&mut Statistics, &[f32])| -> Result<(), ExportError> {
        for image in images {
            let floats = csp_models::picture::to_f32(image, input);
            let outputs = runner.floats(&floats)?;
            for (name, values) in names.iter().copied().zip(&outputs).chain([(fed, &floats)]) {
                if let Some(statistics) = all.get_mut(name) {
                    see(statistics, values);
                }
            }
        }
        Ok(())
    };
    pass(Statistics::extremes)?;
    pass(Statistics::count)?;
    for (name, statistics) in &mut all {
        statistics.means.iter_mut().for_each(|mean| *mean /= images.len() as f64);
        if !(statistics.low.is_finite() && statistics.high.is_finite()) {
            return Err(ExportError::Tensor {
                network: graph.name.clone(),
                tensor: name.clone(),
                problem: "is not finite on the calibration pictures: the training diverged".into(),
            });
        }
    }
    Ok(all)
}

//! What the f32 network computes on calibration pictures.

use std::collections::{BTreeMap, BTreeSet};

use csp_models::manifest::ImageInput;

use super::super::{error::ExportError, graph::Graph, run::Runner};
use super::range;

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
    /// The picture that reached furthest from zero.
    pub furthest: usize,
    /// The first picture on which it was NaN or infinite.
    not_finite: Option<usize>,
}

/// A value whose range a few numbers set.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Outlier {
    /// The value.
    pub tensor: String,
    /// Position of the picture that reached furthest, among those calibrated on.
    pub picture: usize,
    /// How many times wider the whole range is than that of all but the outermost 0.01 %.
    pub stretch: f32,
}

/// Stretch from which on a range is called set by outliers: int8 has 8 levels left for the rest of it.
const OUTLYING: f32 = 32.0;

impl Statistics {
    fn new(channels: usize) -> Self {
        Self {
            low: f32::INFINITY,
            high: f32::NEG_INFINITY,
            histogram: vec![0; BINS],
            means: vec![0.0; channels],
            furthest: 0,
            not_finite: None,
        }
    }

    /// Nothing seen yet, between two known extremes.
    #[cfg(test)]
    pub fn with_range(low: f32, high: f32) -> Self {
        Self { low, high, ..Self::new(0) }
    }

    /// Width of a bin.
    pub fn bin(&self) -> f32 {
        (self.high - self.low) / BINS as f32
    }

    fn count(&mut self, _: usize, values: &[f32]) {
        let scale = BINS as f32 / (self.high - self.low).max(f32::MIN_POSITIVE);
        for &value in values.iter().filter(|&&value| value != 0.0) {
            let bin = ((value - self.low) * scale) as usize;
            self.histogram[bin.min(BINS - 1)] += 1;
        }
    }

    fn extremes(&mut self, picture: usize, values: &[f32]) {
        let reach = self.low.abs().max(self.high.abs());
        let mut furthest = if reach.is_finite() { reach } else { 0.0 };
        for &value in values {
            // min and max would pass over a NaN
            if !value.is_finite() {
                self.not_finite.get_or_insert(picture);
            }
            self.low = self.low.min(value);
            self.high = self.high.max(value);
            if value.abs() > furthest {
                (furthest, self.furthest) = (value.abs(), picture);
            }
        }
        let per_channel = values.len() / self.means.len().max(1);
        for (sum, channel) in self.means.iter_mut().zip(values.chunks_exact(per_channel.max(1))) {
            *sum += channel.iter().map(|&v| f64::from(v)).sum::<f64>() / per_channel.max(1) as f64;
        }
    }
}

/// The values that outliers set the range of, the worst first.
pub(super) fn outliers(statistics: &BTreeMap<String, Statistics>) -> Vec<Outlier> {
    let mut outliers: Vec<Outlier> = statistics
        .iter()
        .map(|(tensor, seen)| Outlier {
            tensor: tensor.clone(),
            picture: seen.furthest,
            stretch: range::stretch(seen),
        })
        .filter(|outlier| outlier.stretch >= OUTLYING)
        .collect();
    outliers.sort_by(|a, b| b.stretch.total_cmp(&a.stretch));
    outliers
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
    type All = BTreeMap<String, Statistics>;
    let mut all: All = observed.iter().map(|name| (name.clone(), Statistics::new(channels(name)))).collect();

    let pass = |all: &mut All, see: fn(&mut Statistics, usize, &[f32])| -> Result<(), ExportError> {
        for (picture, image) in images.iter().enumerate() {
            let floats = csp_models::picture::to_f32(image, input);
            let outputs = runner.floats(&floats)?;
            for (name, values) in names.iter().copied().zip(&outputs).chain([(fed, &floats)]) {
                if let Some(statistics) = all.get_mut(name) {
                    see(statistics, picture, values);
                }
            }
        }
        Ok(())
    };
    pass(&mut all, Statistics::extremes)?;
    // the first in the order of the graph: what comes after it is not finite either
    let first = graph.nodes.iter().find_map(|node| Some((node, all.get(&node.output)?.not_finite?)));
    if let Some((node, picture)) = first {
        return Err(ExportError::Activation {
            network: graph.name.clone(),
            node: node.name.clone(),
            tensor: node.output.clone(),
            picture,
        });
    }
    pass(&mut all, Statistics::count)?;
    for statistics in all.values_mut() {
        statistics.means.iter_mut().for_each(|mean| *mean /= images.len() as f64);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers below 1, and `lone` of them at 100, from picture 7.
    fn seen(lone: u64) -> BTreeMap<String, Statistics> {
        let mut statistics = Statistics { furthest: 7, ..Statistics::with_range(0.0, 100.0) };
        statistics.histogram[..BINS / 100].fill(10_000);
        statistics.histogram[BINS - 1] = lone;
        BTreeMap::from([("relu.out".to_string(), statistics)])
    }

    #[test]
    fn a_few_numbers_far_off_are_outliers_and_many_are_not() {
        let found = outliers(&seen(3));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].tensor.as_str(), found[0].picture), ("relu.out", 7));
        assert!((90.0..130.0).contains(&found[0].stretch), "{found:?}");
        assert!(outliers(&seen(10_000)).is_empty());
    }

    #[test]
    fn what_is_not_finite_is_seen_with_its_picture() {
        let mut statistics = Statistics::new(1);
        statistics.extremes(0, &[1.0, -2.0]);
        statistics.extremes(1, &[0.5, f32::NAN]);
        statistics.extremes(2, &[f32::INFINITY, 0.0]);
        assert_eq!((statistics.not_finite, statistics.low), (Some(1), -2.0));
        let mut statistics = Statistics::new(1);
        statistics.extremes(0, &[1.0, -2.0]);
        statistics.extremes(4, &[-9.0, 0.0]);
        statistics.extremes(5, &[3.0, 0.0]);
        assert_eq!((statistics.not_finite, statistics.furthest), (None, 4));
    }
}

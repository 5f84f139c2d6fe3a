//! What a location encoder tells apart: its embedding, cut down to three numbers a place.

use burn::tensor::Device;
use csp_models::situation::Situation;

use crate::{
    features::position_features,
    training::{TrainedModel, weights::Array},
};

/// Places embedded at once.
const BATCH: usize = 4096;
/// Rounds of the power method for each component.
const ROUNDS: usize = 60;
/// Share of the places whose colour is cut off at each end, so that few do not take all the range.
const CUT: f64 = 0.02;

/// Embeddings `e(x)` of places, `[places][width]`, before the class matrix; `None` without a location
/// branch. To an encoder with a season, a date that is not known is the middle of the year's circle.
pub fn embeddings(model: &TrainedModel, places: &[Situation], device: &Device) -> Option<Vec<Vec<f32>>> {
    let (network, encoder) = (model.location.as_ref()?, model.encoder.as_ref()?);
    let embed = |chunk: &[Situation]| {
        let rows = Array::of(network.encoder.forward(position_features(encoder, chunk, device)));
        let width = rows.shape.get(1).copied().unwrap_or(1).max(1);
        rows.values.chunks_exact(width).map(<[f32]>::to_vec).collect::<Vec<_>>()
    };
    Some(places.chunks(BATCH).flat_map(embed).collect())
}

/// The first three principal components of rows, each stretched to 0 to 1: red, green, blue; and the share of the
/// rows' variance that each stands for, 0 to 1.
pub fn principal_colours(rows: &[Vec<f32>]) -> (Vec<[f64; 3]>, [f64; 3]) {
    let (components, of_variance) = principal_components(rows, 3);
    let mut shares = [0.0; 3];
    shares.iter_mut().zip(of_variance).for_each(|(share, of)| *share = of);
    let mut colours = vec![[0.5; 3]; rows.len()];
    for (channel, component) in components.iter().enumerate() {
        let mut sorted = component.clone();
        sorted.sort_by(f64::total_cmp);
        let at =
            |share: f64| sorted.get((share * (sorted.len() - 1) as f64) as usize).copied().unwrap_or(0.0);
        let (low, high) = (at(CUT), at(1.0 - CUT));
        for (colour, value) in colours.iter_mut().zip(component) {
            colour[channel] = ((value - low) / (high - low).max(1e-12)).clamp(0.0, 1.0);
        }
    }
    (colours, shares)
}

/// The rows' coordinates along their first `count` principal axes, an axis each, by the power method, and the
/// axes' shares of the variance. Each axis points where its longest entry is positive.
fn principal_components(rows: &[Vec<f32>], count: usize) -> (Vec<Vec<f64>>, Vec<f64>) {
    let width = rows.first().map_or(0, Vec::len);
    let n = rows.len().max(1) as f64;
    let mut mean = vec![0.0; width];
    rows.iter().for_each(|row| mean.iter_mut().zip(row).for_each(|(m, v)| *m += f64::from(*v) / n));
    let mut covariance = vec![vec![0.0; width]; width];
    for row in rows {
        let apart: Vec<f64> = row.iter().zip(&mean).map(|(v, m)| f64::from(*v) - m).collect();
        for (line, a) in covariance.iter_mut().zip(&apart) {
            line.iter_mut().zip(&apart).for_each(|(entry, b)| *entry += a * b / n);
        }
    }
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut axes: Vec<Vec<f64>> = Vec::new();
    for _ in 0..count.min(width) {
        // any start that is not orthogonal to the axis will do
        let mut axis: Vec<f64> = (0..width).map(|i| 1.0 + (i as f64 * 0.7).sin()).collect();
        for _ in 0..ROUNDS {
            axis = covariance.iter().map(|line| dot(line, &axis)).collect();
            for earlier in &axes {
                let along = dot(&axis, earlier);
                axis.iter_mut().zip(earlier).for_each(|(a, e)| *a -= along * e);
            }
            let length = dot(&axis, &axis).sqrt().max(1e-300);
            axis.iter_mut().for_each(|a| *a /= length);
        }
        let longest = axis.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or(1.0);
        axis.iter_mut().for_each(|a| *a *= longest.signum());
        axes.push(axis);
    }
    let along = |axis: &Vec<f64>| {
        let one =
            |row: &Vec<f32>| row.iter().zip(&mean).zip(axis).map(|((v, m), a)| (f64::from(*v) - m) * a).sum();
        rows.iter().map(one).collect()
    };
    let all: f64 = (0..width).map(|i| covariance[i][i]).sum();
    let share = |axis: &Vec<f64>| {
        let own: f64 = covariance.iter().zip(axis).map(|(line, a)| a * dot(line, axis)).sum();
        if all > 0.0 { (own / all).clamp(0.0, 1.0) } else { 0.0 }
    };
    (axes.iter().map(along).collect(), axes.iter().map(share).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_axes_of_an_ellipsoid() {
        // along (0.6, 0.8, 0), (−0.8, 0.6, 0) and (0, 0, 1) with amplitudes 5, 2, 0.5
        let row = |i: usize| {
            let t = i as f64;
            let (a, b, c) = (5.0 * (0.1 * t).sin(), 2.0 * (0.37 * t).cos(), 0.5 * (0.77 * t).sin());
            [0.6 * a - 0.8 * b + 3.0, 0.8 * a + 0.6 * b - 1.0, c].map(|v| v as f32).to_vec()
        };
        let rows: Vec<Vec<f32>> = (0..4000).map(row).collect();
        let (found, shares) = principal_components(&rows, 3);
        for (i, want) in [(777usize, 5.0 * 77.7f64.sin()), (2000, 5.0 * 200f64.sin())] {
            assert!((found[0][i] - want).abs() < 0.05, "{} is not {want}", found[0][i]);
        }
        let spread = |values: &Vec<f64>| (values.iter().map(|v| v * v).sum::<f64>() / 4000.0).sqrt();
        for (component, amplitude) in found.iter().zip([5.0, 2.0, 0.5]) {
            assert!((spread(component) - amplitude / 2f64.sqrt()).abs() < 0.03);
        }
        // 25 : 4 : 0.25
        for (share, want) in shares.into_iter().zip([0.855, 0.137, 0.0085]) {
            assert!((share - want).abs() < 0.005, "{share} is not {want}");
        }
        let (colours, shares) = principal_colours(&rows);
        assert!(colours.iter().flatten().chain(&shares).all(|share| (0.0..=1.0).contains(share)));
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-6, "{shares:?}");
        let (colours, shares) = principal_colours(&vec![vec![2.0f32]; 5]);
        assert_eq!((colours.len(), shares), (5, [0.0; 3]));
    }
}

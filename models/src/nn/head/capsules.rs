//! The capsules of GeoCLIP (NeurIPS 2023): the features cut into equal parts, one for each spread of
//! `rff-equal-earth`, a stack of linear layers with ReLU on each, and the outputs summed.
//!
//! Features left over by the division, the season's two, go to every capsule.

use std::{vec, vec::Vec};

use burn::{
    nn::Linear,
    tensor::{Tensor, activation::relu},
};

use super::{Drop, HeadConfig, stack};

/// The layers of the first capsule, then of the second, …
pub(super) fn widths(config: &HeadConfig) -> Vec<[usize; 2]> {
    let capsules = config.settings.capsules.max(1);
    let input = config.input / capsules + config.input % capsules;
    vec![stack(input, config); capsules].concat()
}

pub(super) fn forward(layers: &[Linear], capsules: usize, features: Tensor<2>, drop: Drop<'_>) -> Tensor<2> {
    let capsules = capsules.max(1);
    let input = features.dims()[1];
    let (part, shared) = (input / capsules, input % capsules);
    let mut sum: Option<Tensor<2>> = None;
    for (i, stack) in layers.chunks_exact((layers.len() / capsules).max(1)).enumerate() {
        let mut x = features.clone().narrow(1, i * part, part);
        if shared > 0 {
            x = Tensor::cat(vec![x, features.clone().narrow(1, input - shared, shared)], 1);
        }
        if let Some((last, hidden)) = stack.split_last() {
            for layer in hidden {
                x = drop(relu(layer.forward(x)));
            }
            x = last.forward(x);
        }
        sum = Some(match sum {
            Some(sum) => sum + x,
            None => x,
        });
    }
    sum.unwrap_or(features)
}

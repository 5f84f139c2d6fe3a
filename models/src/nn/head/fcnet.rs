//! The residual network of the geographical prior (Mac Aodha et al. 2019, csp's `geo_net`): a linear
//! layer with ReLU, then blocks y = x + ReLU(W₂ dropout(ReLU(W₁ x))), all as wide as the embedding.

use std::vec::Vec;

use burn::{
    nn::Linear,
    tensor::{Tensor, activation::relu},
};

use super::{Drop, HeadConfig};

/// The entry, then W₁ and W₂ of each block.
pub(super) fn widths(config: &HeadConfig) -> Vec<[usize; 2]> {
    let blocks = std::iter::repeat_n([config.output; 2], 2 * config.settings.blocks);
    std::iter::once([config.input, config.output]).chain(blocks).collect()
}

pub(super) fn forward(layers: &[Linear], features: Tensor<2>, drop: Drop<'_>) -> Tensor<2> {
    let Some((entry, blocks)) = layers.split_first() else { return features };
    let mut x = relu(entry.forward(features));
    for block in blocks.chunks_exact(2) {
        let inner = drop(relu(block[0].forward(x.clone())));
        x = x + relu(block[1].forward(inner));
    }
    x
}

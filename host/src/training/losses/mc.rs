//! The multi-class contrastive objective, MC-BLD: softmax over in-batch images (B), over random
//! locations (L) and over second views of the same location (D).

use burn::tensor::{Tensor, activation::log_softmax};
use serde::{Deserialize, Serialize};

use super::{Views, diagonal, with_random};

/// Temperatures and weights of the terms. A term with weight 0 is not computed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct McConfig {
    /// τ₀ of the in-batch term.
    pub tau_batch: f64,
    /// τ₁ of the random-location term.
    pub tau_random: f64,
    /// τ₂ of the dropout term.
    pub tau_dropout: f64,
    /// α₁, weight of the random-location term.
    pub weight_random: f64,
    /// α₂, weight of the dropout term.
    pub weight_dropout: f64,
    /// Adds the image → location direction to the in-batch term, with weight 1.
    pub symmetric: bool,
}

impl Default for McConfig {
    /// Chosen on EuroSAT, 5 % of the labels, by the likelihood on 1° cells of the training split that
    /// neither pre-training nor labels had touched: temperatures of 0.07 to 0.1 beat 0.3 and 1, and
    /// the random-location and dropout terms at full weight cost as much as pre-training gains.
    fn default() -> Self {
        Self {
            tau_batch: 0.07,
            tau_random: 0.3,
            tau_dropout: 0.1,
            weight_random: 0.5,
            weight_dropout: 0.1,
            symmetric: false,
        }
    }
}

impl McConfig {
    /// The paper's setting: every temperature and weight 1. (The released scripts have τ₀ = 20, with
    /// which the in-batch term is all but constant.)
    pub const PAPER: Self = Self {
        tau_batch: 1.0,
        tau_random: 1.0,
        tau_dropout: 1.0,
        weight_random: 1.0,
        weight_dropout: 1.0,
        symmetric: false,
    };

    /// The loss, `[1]`: mean over the batch, natural logarithm.
    pub fn loss(&self, views: Views) -> Tensor<1> {
        let views = views.normalised();
        let mut loss = self.in_batch(&views);
        if let (Some(random), true) = (&views.random, self.weight_random != 0.0) {
            loss = loss + self.random(&views, random.clone()) * self.weight_random;
        }
        if let (Some(second), true) = (&views.second, self.weight_dropout != 0.0) {
            loss = loss + self.dropout(&views, second.clone()) * self.weight_dropout;
        }
        loss
    }

    /// l_B: which image of the batch belongs to this location.
    fn in_batch(&self, views: &Views) -> Tensor<1> {
        let logits = views.location.clone().matmul(views.image.clone().transpose()) / self.tau_batch;
        let forward = pick_diagonal(logits.clone());
        if self.symmetric { forward + pick_diagonal(logits.transpose()) } else { forward }
    }

    /// l_L: the true location against random ones, seen from the image.
    fn random(&self, views: &Views, random: Tensor<2>) -> Tensor<1> {
        let own = (views.location.clone() * views.image.clone()).sum_dim(1);
        let others = with_random(&views.image, random);
        let logits = Tensor::cat(vec![own, others], 1) / self.tau_random;
        log_softmax(logits, 1).narrow(1, 0, 1).mean().neg()
    }

    /// l_D: the same location under another dropout mask against the others of the batch.
    fn dropout(&self, views: &Views, second: Tensor<2>) -> Tensor<1> {
        pick_diagonal(views.location.clone().matmul(second.transpose()) / self.tau_dropout)
    }
}

/// Mean cross-entropy of rows whose right answer stands on the diagonal, `[B, B]` → `[1]`.
fn pick_diagonal(logits: Tensor<2>) -> Tensor<1> {
    diagonal(log_softmax(logits, 1)).mean().neg()
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, views};
    use super::*;

    #[test]
    fn matches_the_golden_terms() {
        let config = McConfig::PAPER;
        let v = views().normalised();
        check(config.in_batch(&v), 1.275574996354, "l_B");
        check(config.random(&v, v.random.clone().unwrap()), 1.695742735693, "l_L");
        check(config.dropout(&v, v.second.clone().unwrap()), 1.354859146032, "l_D");
    }

    #[test]
    fn matches_the_golden_sums() {
        let base = McConfig::PAPER;
        check(base.loss(views()), 4.326176878079, "τ = 1");
        check(McConfig { tau_batch: 20.0, ..base }.loss(views()), 4.147512489833, "τ₀ = 20");
        let sharp = McConfig {
            tau_batch: 0.07,
            tau_random: 0.5,
            tau_dropout: 0.1,
            weight_random: 1.0,
            weight_dropout: 0.1,
            symmetric: false,
        };
        check(sharp.loss(views()), 14.161345323546, "sharp");
        check(McConfig { symmetric: true, ..base }.loss(views()), 5.595868393863, "symmetric");
        let only_b = McConfig { weight_random: 0.0, weight_dropout: 0.0, ..base };
        check(only_b.loss(views()), 1.275574996354, "B alone");
    }
}

//! The binary contrastive objective, NCE-BLD: every pair is judged true or false on its own. No
//! temperature: a similarity in [-1, 1] goes straight into the sigmoid.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Views, diagonal, softplus, with_random};

/// Weights of the terms. A term with weight 0 is not computed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NceConfig {
    /// β₁, weight of the random-location term.
    pub weight_random: f64,
    /// β₂, weight of the dropout term.
    pub weight_dropout: f64,
    /// Added to probabilities before the logarithm; 0 is the exact form, 1e-5 the released code's.
    pub eps: f64,
}

impl Default for NceConfig {
    fn default() -> Self {
        Self { weight_random: 1.0, weight_dropout: 1.0, eps: 0.0 }
    }
}

impl NceConfig {
    /// The loss, `[1]`. A batch needs at least two rows.
    pub fn loss(&self, views: Views) -> Tensor<1> {
        let views = views.normalised();
        let mut loss = self.pairs(&views.location, &views.image);
        if let (Some(random), true) = (&views.random, self.weight_random != 0.0) {
            loss = loss + self.random(&views, random.clone()) * self.weight_random;
        }
        if let (Some(second), true) = (&views.second, self.weight_dropout != 0.0) {
            loss = loss + self.pairs(&views.location, second) * self.weight_dropout;
        }
        loss
    }

    /// Pairs on the diagonal are true, the others, averaged over `B − 1`, are false.
    fn pairs(&self, left: &Tensor<2>, right: &Tensor<2>) -> Tensor<1> {
        let [batch, _] = left.dims();
        let similarity = left.clone().matmul(right.clone().transpose());
        let own = diagonal(similarity.clone());
        let all_false = self.minus_log(similarity.neg()).sum();
        let own_false = self.minus_log(own.clone().neg()).sum();
        let others = (all_false - own_false) / (batch * batch.saturating_sub(1).max(1)) as f64;
        self.minus_log(own).mean() + others
    }

    fn random(&self, views: &Views, random: Tensor<2>) -> Tensor<1> {
        self.minus_log(with_random(&views.image, random).neg()).mean()
    }

    /// `−log σ(x)`, or `−log(σ(x) + eps)`.
    fn minus_log(&self, x: Tensor<2>) -> Tensor<2> {
        minus_log_sigmoid(x, self.eps)
    }
}

/// `−log σ(x)` as a softplus; with `eps > 0` as the released code has it, `−log(σ(x) + eps)`.
pub(super) fn minus_log_sigmoid(x: Tensor<2>, eps: f64) -> Tensor<2> {
    if eps == 0.0 { softplus(x.neg()) } else { (burn::tensor::activation::sigmoid(x) + eps).log().neg() }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, views};
    use super::*;

    #[test]
    fn matches_the_golden_values() {
        // the golden values were made with the released eps
        let config = NceConfig { eps: 1e-5, ..NceConfig::default() };
        let v = views().normalised();
        check(config.pairs(&v.location, &v.image), 1.441328057807, "l_B");
        check(config.random(&v, v.random.clone().unwrap()), 1.199012387149, "l_L");
        check(config.pairs(&v.location, v.second.as_ref().unwrap()), 1.496303567723, "l_D");
        check(NceConfig { weight_dropout: 0.0, ..config }.loss(views()), 2.640340444955, "BL");
        check(config.loss(views()), 4.136644012678, "BLD");
    }

    #[test]
    fn the_exact_form_is_the_same_up_to_eps() {
        let exact: f32 = NceConfig::default().loss(views()).into_scalar();
        assert!((f64::from(exact) - 4.136644012678).abs() < 2e-4, "{exact}");
    }
}

//! The binary contrastive objective, NCE-BLD: every pair is judged true or false on its own, and so
//! the in-batch term is the same in both directions. With temperatures of 1, as released, a
//! similarity in [-1, 1] goes straight into the sigmoid and the loss cannot come near 0.

use burn::tensor::{Bool, Tensor};
use serde::{Deserialize, Serialize};

use super::{
    Views, diagonal, softplus,
    temperature::{Temperature, Temperatures},
    with_random,
};

/// Temperatures and weights of the terms. A term with weight 0 is not computed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NceConfig {
    /// τ₀ of the in-batch term.
    pub tau_batch: f64,
    /// τ₁ of the random-location term.
    pub tau_random: f64,
    /// τ₂ of the dropout term.
    pub tau_dropout: f64,
    /// Weight of the in-batch term.
    pub weight_batch: f64,
    /// β₁, weight of the random-location term.
    pub weight_random: f64,
    /// β₂, weight of the dropout term.
    pub weight_dropout: f64,
    /// Added to probabilities before the logarithm; 0 is the exact form, 1e-5 the released code's.
    pub eps: f64,
}

impl Default for NceConfig {
    fn default() -> Self {
        Self {
            tau_batch: 1.0,
            tau_random: 1.0,
            tau_dropout: 1.0,
            weight_batch: 1.0,
            weight_random: 1.0,
            weight_dropout: 1.0,
            eps: 0.0,
        }
    }
}

impl NceConfig {
    /// Where the temperatures begin, or stay.
    pub fn taus(&self) -> [f64; 3] {
        [self.tau_batch, self.tau_random, self.tau_dropout]
    }

    /// The loss, `[1]`, at fixed temperatures. A batch needs at least two rows.
    pub fn loss(&self, views: Views) -> Tensor<1> {
        self.loss_at(views, &Temperatures::fixed(self.taus()))
    }

    /// The loss, `[1]`, at given temperatures.
    pub fn loss_at(&self, views: Views, tau: &Temperatures) -> Tensor<1> {
        let views = views.normalised();
        let (same, location) = (views.exempt.batch.as_ref(), &views.location);
        let mut terms = Vec::new();
        if self.weight_batch != 0.0 {
            let queue = views.queue.as_ref().map(|queue| {
                let similarity = views.image.clone().matmul(queue.clone().transpose());
                (tau.batch.cool(similarity), views.exempt.queue.as_ref())
            });
            terms.push((self.pairs(location, &views.image, &tau.batch, same, queue), self.weight_batch));
        }
        if let (Some(random), true) = (&views.random, self.weight_random != 0.0) {
            terms.push((self.random(&views, random.clone(), &tau.random), self.weight_random));
        }
        if let (Some(second), true) = (&views.second, self.weight_dropout != 0.0) {
            terms.push((self.pairs(location, second, &tau.dropout, same, None), self.weight_dropout));
        }
        super::weighted(terms, &location.device())
    }

    /// Pairs on the diagonal are true; the others, and the entries of the queue, are false. Each row's
    /// false pairs, those not exempt, are averaged.
    fn pairs(
        &self,
        left: &Tensor<2>,
        right: &Tensor<2>,
        tau: &Temperature,
        same: Option<&Tensor<2, Bool>>,
        queue: Option<(Tensor<2>, Option<&Tensor<2, Bool>>)>,
    ) -> Tensor<1> {
        let [batch, _] = left.dims();
        let similarity = tau.cool(left.clone().matmul(right.clone().transpose()));
        let own = diagonal(similarity.clone());
        let others = if same.is_none() && queue.is_none() {
            let all_false = self.minus_log(similarity.neg()).sum();
            let own_false = self.minus_log(own.clone().neg()).sum();
            (all_false - own_false) / (batch * batch.saturating_sub(1).max(1)) as f64
        } else {
            let device = similarity.device();
            let ones = |columns| Tensor::<2>::ones([batch, columns], &device);
            let kept = |columns, exempt: Option<&Tensor<2, Bool>>| match exempt {
                Some(exempt) => ones(columns) - exempt.clone().float(),
                None => ones(columns),
            };
            let mut weights = vec![kept(batch, same) - Tensor::eye(batch, &device)];
            let mut pairs = vec![similarity];
            if let Some((earlier, exempt)) = queue {
                weights.push(kept(earlier.dims()[1], exempt));
                pairs.push(earlier);
            }
            let weights = Tensor::cat(weights, 1);
            let sums = (self.minus_log(Tensor::cat(pairs, 1).neg()) * weights.clone()).sum_dim(1);
            (sums / weights.sum_dim(1).clamp_min(1.0)).mean()
        };
        self.minus_log(own).mean() + others
    }

    fn random(&self, views: &Views, random: Tensor<2>, tau: &Temperature) -> Tensor<1> {
        self.minus_log(tau.cool(with_random(&views.image, random)).neg()).mean()
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
    //! §7.3 of the specification; what it does not have is from `tools/losses_referee.py`.
    use super::super::golden::{check, views, views_with_queue};
    use super::*;

    const B: NceConfig = NceConfig {
        tau_batch: 1.0,
        tau_random: 1.0,
        tau_dropout: 1.0,
        weight_batch: 1.0,
        weight_random: 0.0,
        weight_dropout: 0.0,
        eps: 0.0,
    };

    #[test]
    fn matches_the_golden_values() {
        // the golden values were made with the released eps
        let b = NceConfig { eps: 1e-5, ..B };
        let none = NceConfig { weight_batch: 0.0, ..b };
        check(b.loss(views()), 1.441328057807, "l_B");
        check(NceConfig { weight_random: 1.0, ..none }.loss(views()), 1.199012387149, "l_L");
        check(NceConfig { weight_dropout: 1.0, ..none }.loss(views()), 1.496303567723, "l_D");
        let all = NceConfig { eps: 1e-5, ..NceConfig::default() };
        check(NceConfig { weight_dropout: 0.0, ..all }.loss(views()), 2.640340444955, "BL");
        check(all.loss(views()), 4.136644012678, "BLD");
    }

    #[test]
    fn the_exact_form_is_the_same_up_to_eps() {
        let exact: f32 = NceConfig::default().loss(views()).into_scalar();
        assert!((f64::from(exact) - 4.136644012678).abs() < 2e-4, "{exact}");
    }

    #[test]
    fn temperature_queue_and_exempt_pairs() {
        check(NceConfig { tau_batch: 0.2, ..B }.loss(views()), 2.711557587555354, "τ = 0.2");
        let mut same_class = views_with_queue();
        check(B.loss(same_class.clone()), 1.4692287768476389, "with the queue");
        same_class.queue = None;
        check(B.loss(same_class), 1.419239134967166, "same class exempt");
    }
}

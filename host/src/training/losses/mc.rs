//! The multi-class contrastive objective, MC-BLD: softmax over in-batch images (B), over random
//! locations (L) and over second views of the same location (D).

use burn::tensor::{Bool, Tensor, activation::log_softmax};
use serde::{Deserialize, Serialize};

use super::{Views, matching::match_rows, temperature::Temperatures, with_random};

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
    /// Weight of the in-batch term.
    pub weight_batch: f64,
    /// α₁, weight of the random-location term.
    pub weight_random: f64,
    /// α₂, weight of the dropout term.
    pub weight_dropout: f64,
    /// Adds the image → location direction to the in-batch term, with weight 1.
    pub symmetric: bool,
    /// With `symmetric`: the mean of the two directions instead of their sum.
    pub average: bool,
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
            weight_batch: 1.0,
            weight_random: 0.5,
            weight_dropout: 0.1,
            symmetric: false,
            average: false,
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
        weight_batch: 1.0,
        weight_random: 1.0,
        weight_dropout: 1.0,
        symmetric: false,
        average: false,
    };

    /// Where the temperatures begin, or stay.
    pub fn taus(&self) -> [f64; 3] {
        [self.tau_batch, self.tau_random, self.tau_dropout]
    }

    /// The loss, `[1]`, at fixed temperatures: mean over the batch, natural logarithm.
    pub fn loss(&self, views: Views) -> Tensor<1> {
        self.loss_at(views, &Temperatures::fixed(self.taus()))
    }

    /// The loss, `[1]`, at given temperatures.
    pub fn loss_at(&self, views: Views, tau: &Temperatures) -> Tensor<1> {
        let views = views.normalised();
        let mut terms = Vec::new();
        if self.weight_batch != 0.0 {
            terms.push((self.in_batch(&views, tau), self.weight_batch));
        }
        if let (Some(random), true) = (&views.random, self.weight_random != 0.0) {
            terms.push((self.random(&views, random.clone(), tau), self.weight_random));
        }
        if let (Some(second), true) = (&views.second, self.weight_dropout != 0.0) {
            terms.push((self.dropout(&views, second.clone(), tau), self.weight_dropout));
        }
        super::weighted(terms, &views.location.device())
    }

    /// l_B: which image of the batch belongs to this location; with `symmetric` also which location,
    /// of the batch and the queue, to this image.
    fn in_batch(&self, views: &Views, tau: &Temperatures) -> Tensor<1> {
        let exempt = views.exempt.batch.as_ref();
        let forward = match_rows(&views.location, &views.image, &tau.batch, exempt);
        if !self.symmetric {
            return forward;
        }
        let back = match &views.queue {
            None => match_rows(&views.image, &views.location, &tau.batch, exempt),
            Some(queue) => {
                let locations = Tensor::cat(vec![views.location.clone(), queue.clone()], 0);
                let none = |columns| {
                    Tensor::<2>::zeros([views.image.dims()[0], columns], &queue.device()).greater_elem(0.5)
                };
                let of = |exempt: Option<&Tensor<2, Bool>>, rows: &Tensor<2>| {
                    exempt.cloned().unwrap_or_else(|| none(rows.dims()[0]))
                };
                let batch = of(exempt, &views.location);
                let exempt = Tensor::cat(vec![batch, of(views.exempt.queue.as_ref(), queue)], 1);
                match_rows(&views.image, &locations, &tau.batch, Some(&exempt))
            }
        };
        let sum = forward + back;
        if self.average { sum * 0.5 } else { sum }
    }

    /// l_L: the true location against random ones, seen from the image.
    fn random(&self, views: &Views, random: Tensor<2>, tau: &Temperatures) -> Tensor<1> {
        let own = (views.location.clone() * views.image.clone()).sum_dim(1);
        let others = with_random(&views.image, random);
        let logits = tau.random.cool(Tensor::cat(vec![own, others], 1));
        log_softmax(logits, 1).narrow(1, 0, 1).mean().neg()
    }

    /// l_D: the same location under another dropout mask against the others of the batch.
    fn dropout(&self, views: &Views, second: Tensor<2>, tau: &Temperatures) -> Tensor<1> {
        match_rows(&views.location, &second, &tau.dropout, views.exempt.batch.as_ref())
    }
}

#[cfg(test)]
mod tests {
    //! §7.3 of the specification; what it does not have is from `tools/losses_referee.py`.
    use super::super::golden::{check, views, views_with_queue};
    use super::*;

    #[test]
    fn matches_the_golden_terms() {
        let config = McConfig::PAPER;
        let tau = Temperatures::fixed(config.taus());
        let v = views().normalised();
        check(config.in_batch(&v, &tau), 1.275574996354, "l_B");
        check(config.random(&v, v.random.clone().unwrap(), &tau), 1.695742735693, "l_L");
        check(config.dropout(&v, v.second.clone().unwrap(), &tau), 1.354859146032, "l_D");
    }

    #[test]
    fn matches_the_golden_sums() {
        let base = McConfig::PAPER;
        check(base.loss(views()), 4.326176878079, "τ = 1");
        check(McConfig { tau_batch: 20.0, ..base }.loss(views()), 4.147512489833, "τ₀ = 20");
        let sharp =
            McConfig { tau_batch: 0.07, tau_random: 0.5, tau_dropout: 0.1, weight_dropout: 0.1, ..base };
        check(sharp.loss(views()), 14.161345323546, "sharp");
        check(McConfig { symmetric: true, ..base }.loss(views()), 5.595868393863, "symmetric");
    }

    #[test]
    fn each_term_can_be_had_alone() {
        let none = McConfig { weight_batch: 0.0, weight_random: 0.0, weight_dropout: 0.0, ..McConfig::PAPER };
        check(McConfig { weight_batch: 1.0, ..none }.loss(views()), 1.275574996354, "B");
        check(McConfig { weight_random: 1.0, ..none }.loss(views()), 1.695742735693, "L");
        check(McConfig { weight_dropout: 1.0, ..none }.loss(views()), 1.354859146032, "D");
        let average = McConfig { weight_batch: 1.0, symmetric: true, average: true, ..none };
        check(average.loss(views()), 1.2726332560688336, "mean of both directions");
    }

    #[test]
    fn the_queue_and_the_exempt_pairs() {
        let b = McConfig { weight_random: 0.0, weight_dropout: 0.0, symmetric: true, ..McConfig::PAPER };
        let mut with_queue = views_with_queue();
        with_queue.exempt.batch = None;
        let cool = McConfig { tau_batch: 0.5, ..b };
        let one_way = McConfig { symmetric: false, ..cool }.loss(with_queue.clone()).into_scalar::<f32>();
        let back = cool.loss(with_queue) - f64::from(one_way);
        check(back, 2.694064264346444, "image → location with the queue");
        let mut same_class = views_with_queue();
        same_class.queue = None;
        let one_way = McConfig { symmetric: false, ..b };
        check(one_way.loss(same_class.clone()), 0.8813694708216167, "l_B");
        let d = McConfig { weight_batch: 0.0, weight_dropout: 1.0, ..one_way };
        check(d.loss(same_class), 0.954511471664719, "l_D");
    }
}

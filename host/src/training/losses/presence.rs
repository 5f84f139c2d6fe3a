//! The presence-only loss of the location branch: the class seen at a place is present, every other
//! class there, and every class at a random place, is presumed absent.

use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};

use super::nce::minus_log_sigmoid;

/// Weights of the presence loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PresenceConfig {
    /// Weight β of the observed class against one absent class; 0 stands for the number of classes,
    /// as in the paper.
    pub positive_weight: f64,
    /// w_R, weight of the random places.
    pub background_weight: f64,
    /// Added to probabilities before the logarithm; 0 is the exact form, 1e-5 the released code's.
    pub eps: f64,
}

impl Default for PresenceConfig {
    fn default() -> Self {
        Self { positive_weight: 0.0, background_weight: 1.0, eps: 0.0 }
    }
}

impl PresenceConfig {
    /// The loss, `[1]`.
    ///
    /// # Shapes
    /// - logits: `[B, Q]` at the observed places, before the sigmoid
    /// - background: `[B', Q]` at random places; `None` leaves the term out
    /// - classes: `[B]`, what was seen
    pub fn loss(
        &self,
        logits: Tensor<2>,
        background: Option<Tensor<2>>,
        classes: Tensor<1, Int>,
    ) -> Tensor<1> {
        let [batch, q] = logits.dims();
        let positive_weight = if self.positive_weight > 0.0 { self.positive_weight } else { q as f64 };
        let seen = logits.clone().gather(1, classes.unsqueeze_dim(1));
        let all_absent = self.absent(logits).sum();
        let seen_absent = self.absent(seen.clone()).sum();
        let seen_present = minus_log_sigmoid(seen, self.eps).sum() * positive_weight;
        let loss = (seen_present + all_absent - seen_absent) / (batch * q) as f64;
        match background {
            Some(background) if self.background_weight != 0.0 => {
                loss + self.absent(background).mean() * self.background_weight
            }
            _ => loss,
        }
    }

    /// `−log(1 − σ(z))`.
    fn absent(&self, logits: Tensor<2>) -> Tensor<2> {
        minus_log_sigmoid(logits.neg(), self.eps)
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, matrix};
    use super::*;
    use burn::tensor::Device;

    fn loss(config: PresenceConfig) -> Tensor<1> {
        let classes = matrix(5, 4, 7.0, f64::sin).transpose();
        let logits = matrix(3, 4, 1.0, f64::sin).matmul(classes.clone());
        let background = matrix(3, 4, 100.0, f64::sin).matmul(classes);
        let seen = Tensor::<1, Int>::from_data([4, 0, 2], &Device::flex());
        config.loss(logits, Some(background), seen)
    }

    #[test]
    fn matches_the_golden_values() {
        let released = PresenceConfig { eps: 1e-5, ..PresenceConfig::default() };
        check(loss(released), 2.971494438180, "full_loss");
        check(loss(PresenceConfig { background_weight: 0.5, ..released }), 2.513085321646, "w_R = 0.5");
    }

    #[test]
    fn the_exact_form_has_a_gradient_where_eps_has_none() {
        let device = Device::flex().autodiff();
        let gradient = |eps| {
            let logits = Tensor::<2>::from_data([[-40.0f32, 0.0]], &device).require_grad();
            let seen = Tensor::<1, Int>::from_data([0], &device);
            let config = PresenceConfig { eps, ..PresenceConfig::default() };
            let grads = config.loss(logits.clone(), None, seen).backward();
            logits.grad(&grads).unwrap().into_data().iter::<f32>().next().unwrap()
        };
        assert!(gradient(1e-5).abs() < 1e-6, "{}", gradient(1e-5));
        assert!((gradient(0.0) + 1.0).abs() < 1e-5, "{}", gradient(0.0));
    }
}

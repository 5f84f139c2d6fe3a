//! The losses of the location branch, which learns from presences only: the class seen at a place is
//! present; others there, and classes at random places, are presumed absent.

use burn::tensor::{Int, Tensor, activation::log_softmax};
use serde::{Deserialize, Serialize};

use super::nce::minus_log_sigmoid;

/// Which classes are presumed absent where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PresenceKind {
    /// Every other class at the place, and every class at a random place (CSP, geo_prior; an_full).
    #[default]
    Full,
    /// The same class at a random place (SINR's an_ssdl).
    Ssdl,
    /// One random other class at the place (SINR's an_slds).
    Slds,
    /// Softmax over the classes at the place: for closed sets. No random places.
    CrossEntropy,
}

/// Section `[finetune.loss]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PresenceConfig {
    /// Which classes are presumed absent where.
    pub kind: PresenceKind,
    /// Weight β of the observed class against one absent class; 0 stands for the number of classes
    /// in `full`, as in the paper, and for 1 else. SINR's an_full has 2048.
    pub positive_weight: f64,
    /// w_R, weight of what is presumed absent at random places (`full`, `ssdl`) or of the random
    /// other class (`slds`).
    pub background_weight: f64,
    /// A vector for each photographer, who tends to certain places and classes (geo_prior's
    /// full_loss_user). Needs `full` and data that names them.
    pub users: bool,
    /// Added to probabilities before the logarithm; 0 is the exact form, 1e-5 the released code's.
    pub eps: f64,
}

impl Default for PresenceConfig {
    fn default() -> Self {
        Self {
            kind: PresenceKind::Full,
            positive_weight: 0.0,
            background_weight: 1.0,
            users: false,
            eps: 0.0,
        }
    }
}

/// What one step compares. Logits are before the sigmoid.
#[derive(Clone, Debug)]
pub struct Observed {
    /// `[B, Q]` at the observed places.
    pub logits: Tensor<2>,
    /// `[B', Q]` at random places (`B' = B` for `ssdl`); `None` leaves the term out.
    pub background: Option<Tensor<2>>,
    /// `[B]`, what was seen.
    pub classes: Tensor<1, Int>,
    /// `[B]`, a random class that is not the one seen; for `slds`.
    pub others: Option<Tensor<1, Int>>,
    /// The photographers' terms.
    pub users: Option<UserViews>,
    /// `[B]`, how much each row counts; all alike with `None`. For `full` and `cross-entropy`.
    pub weights: Option<Tensor<1>>,
}

/// Scores of the photographers' vectors u.
#[derive(Clone, Debug)]
pub struct UserViews {
    /// u·e(x), `[B, 1]`: the photographer was there.
    pub here: Tensor<2>,
    /// u·e(x̄), `[B, 1]`: and not at a random place; `None` without random places.
    pub elsewhere: Option<Tensor<2>>,
    /// u·T, `[B, Q]`: what they photograph.
    pub classes: Tensor<2>,
    /// `[B, 1]`: 1 where the photographer is known, else 0.
    pub known: Tensor<2>,
}

impl PresenceConfig {
    /// The loss, `[1]`.
    pub fn loss(&self, observed: Observed) -> Tensor<1> {
        let Observed { logits, background, classes, others, users, weights } = observed;
        let [batch, q] = logits.dims();
        let classes: Tensor<2, Int> = classes.unsqueeze_dim(1);
        let background = background.filter(|_| self.background_weight != 0.0);
        let weighed = |each: Tensor<2>| match &weights {
            Some(weights) => each * weights.clone().unsqueeze_dim(1),
            None => each,
        };
        match self.kind {
            PresenceKind::CrossEntropy => weighed(log_softmax(logits, 1).gather(1, classes)).mean().neg(),
            PresenceKind::Full => {
                let present = weighed(self.present_among(logits, classes.clone()));
                let loss = present.sum() / (batch * q) as f64;
                let loss = match background {
                    Some(background) => loss + self.absent(background).mean() * self.background_weight,
                    None => loss,
                };
                match users {
                    Some(users) => loss + self.of_users(users, classes),
                    None => loss,
                }
            }
            PresenceKind::Ssdl | PresenceKind::Slds => {
                let seen = self.present(logits.clone().gather(1, classes.clone())).mean();
                let weight = if self.positive_weight > 0.0 { self.positive_weight } else { 1.0 };
                let absent = match self.kind {
                    PresenceKind::Ssdl => background.map(|background| background.gather(1, classes)),
                    _ => others.map(|others| logits.gather(1, others.unsqueeze_dim(1))),
                };
                let loss = seen * weight;
                match absent {
                    Some(absent) if self.background_weight != 0.0 => {
                        loss + self.absent(absent).mean() * self.background_weight
                    }
                    _ => loss,
                }
            }
        }
    }

    /// For each row: the class seen is present, with its weight, all others are absent.
    ///
    /// # Shapes
    /// - logits: `[B, Q]`, classes: `[B, 1]`, output: `[B, 1]`
    fn present_among(&self, logits: Tensor<2>, classes: Tensor<2, Int>) -> Tensor<2> {
        let [_, q] = logits.dims();
        let weight = if self.positive_weight > 0.0 { self.positive_weight } else { q as f64 };
        let seen = logits.clone().gather(1, classes);
        let all_absent = self.absent(logits).sum_dim(1);
        self.present(seen.clone()) * weight + all_absent - self.absent(seen)
    }

    /// Rows whose photographer is known, averaged.
    fn of_users(&self, users: UserViews, classes: Tensor<2, Int>) -> Tensor<1> {
        let UserViews { here, elsewhere, classes: tastes, known } = users;
        let [_, q] = tastes.dims();
        let mut each = self.present(here) + self.present_among(tastes, classes) / q as f64;
        if let Some(elsewhere) = elsewhere {
            each = each + self.absent(elsewhere);
        }
        (each * known.clone()).sum() / known.sum().clamp_min(1.0)
    }

    /// `−log σ(z)`.
    fn present(&self, logits: Tensor<2>) -> Tensor<2> {
        minus_log_sigmoid(logits, self.eps)
    }

    /// `−log(1 − σ(z))`.
    fn absent(&self, logits: Tensor<2>) -> Tensor<2> {
        minus_log_sigmoid(logits.neg(), self.eps)
    }
}

#[cfg(test)]
mod tests {
    //! §7.3 of the specification; what it does not have is from `tools/losses_referee.py`.
    use super::super::golden::{check, matrix};
    use super::*;
    use burn::tensor::Device;

    fn ints(values: [i32; 3]) -> Tensor<1, Int> {
        Tensor::from_data(values, &Device::flex())
    }

    fn observed() -> Observed {
        let classes = matrix(5, 4, 7.0, f64::sin).transpose();
        Observed {
            logits: matrix(3, 4, 1.0, f64::sin).matmul(classes.clone()),
            background: Some(matrix(3, 4, 100.0, f64::sin).matmul(classes)),
            classes: ints([4, 0, 2]),
            others: Some(ints([1, 3, 4])),
            users: None,
            weights: None,
        }
    }

    fn with_users(known: [f32; 3]) -> Observed {
        let users = matrix(2, 4, 70.0, f64::sin).select(0, ints([1, 0, 1]));
        let along = |o: f64| (users.clone() * matrix(3, 4, o, f64::sin)).sum_dim(1);
        let known = Tensor::<1>::from_data(known, &Device::flex()).unsqueeze_dim(1);
        let views = UserViews {
            here: along(1.0),
            elsewhere: Some(along(100.0)),
            classes: users.clone().matmul(matrix(5, 4, 7.0, f64::sin).transpose()),
            known,
        };
        Observed { users: Some(views), ..observed() }
    }

    #[test]
    fn matches_the_golden_values() {
        let released = PresenceConfig { eps: 1e-5, ..PresenceConfig::default() };
        check(released.loss(observed()), 2.971494438180, "full_loss");
        let half = PresenceConfig { background_weight: 0.5, ..released };
        check(half.loss(observed()), 2.513085321646, "w_R = 0.5");
        check(released.loss(with_users([1.0; 3])), 6.928425487142, "full_loss_user");
    }

    #[test]
    fn matches_the_referee() {
        let full = PresenceConfig::default();
        let of = |kind| PresenceConfig { kind, ..full }.loss(observed());
        check(of(PresenceKind::Ssdl), 2.0925891736867652, "ssdl");
        check(of(PresenceKind::Slds), 1.7871690834079166, "slds");
        check(of(PresenceKind::CrossEntropy), 2.9975979010037377, "cross-entropy");
        let sinr = PresenceConfig { positive_weight: 2048.0, ..full };
        check(sinr.loss(observed()), 526.1559347657649, "an_full");
        check(full.loss(with_users([1.0, 0.0, 1.0])), 7.611385572158316, "an unknown photographer");
    }

    #[test]
    fn a_row_of_weight_2_counts_as_two() {
        for kind in [PresenceKind::Full, PresenceKind::CrossEntropy] {
            let config = PresenceConfig { kind, background_weight: 0.0, ..PresenceConfig::default() };
            let once = Observed { background: None, ..observed() };
            let weights = Tensor::from_data([0.5f32, 0.0, 1.0], &Device::flex());
            let weighed = config.loss(Observed { weights: Some(weights), ..once.clone() });
            // the last row twice, the first once, the second never: of six
            let rows: Tensor<1, Int> = Tensor::from_data([0, 2, 2], &Device::flex());
            let (logits, classes) = (once.logits.select(0, rows.clone()), once.classes.select(0, rows));
            let repeated = config.loss(Observed {
                logits,
                classes,
                background: None,
                others: None,
                users: None,
                weights: None,
            });
            let [weighed, repeated] = [weighed, repeated].map(|loss| loss.into_scalar::<f32>());
            assert!((2.0 * weighed - repeated).abs() < 1e-5, "{kind:?}: {weighed} {repeated}");
        }
    }

    #[test]
    fn the_exact_form_has_a_gradient_where_eps_has_none() {
        let device = Device::flex().autodiff();
        let gradient = |eps| {
            let logits = Tensor::<2>::from_data([[-40.0f32, 0.0]], &device).require_grad();
            let classes = Tensor::<1, Int>::from_data([0], &device);
            let config = PresenceConfig { eps, ..PresenceConfig::default() };
            let observed = Observed {
                logits: logits.clone(),
                background: None,
                classes,
                others: None,
                users: None,
                weights: None,
            };
            let grads = config.loss(observed).backward();
            logits.grad(&grads).unwrap().into_data().iter::<f32>().next().unwrap()
        };
        assert!(gradient(1e-5).abs() < 1e-6, "{}", gradient(1e-5));
        assert!((gradient(0.0) + 1.0).abs() < 1e-5, "{}", gradient(0.0));
    }
}

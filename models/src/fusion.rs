//! What the picture says times what the place says, and the decision made on it.
//!
//! `log P(y|I,x) = log softmax(z / T)_y + w · log max(p_y(x), floor) + const`, normalised (CSP, ICML
//! 2023, §3.4, with temperature, weight and floor so that a wrong prior cannot veto). `p_y(x)` is the
//! presence score `σ(e(x)·T_y)`, averaged over the uncertainty disc of the place; `w` fades as the
//! place becomes less certain. Without a place the image decides alone, exactly.

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::{
    labels::{ClassId, Labels},
    place::{Place, PlaceSource},
    situation::Situation,
    time::YearFraction,
};

/// The parameters of the fusion, fitted on validation data and stored in the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fusion {
    /// Softmax temperature T of the image logits, above 0.
    pub temperature: f64,
    /// Weight w of the log prior, 0 (ignored) or more.
    pub prior_weight: f64,
    /// Smallest presence score the prior may give, in (0, 1].
    pub prior_floor: f64,
    /// Uncertainty of the place, metres, at which the prior's weight has halved.
    pub fade_m: f64,
}

impl Default for Fusion {
    /// Uncalibrated: the plain product with iNaturalist's floor of 0.005.
    fn default() -> Self {
        Self { temperature: 1.0, prior_weight: 1.0, prior_floor: 0.005, fade_m: 50_000.0 }
    }
}

/// Parameters that cannot be fused with.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("fusion.{field} is {value}: {need}")]
pub struct FusionError {
    /// Name of the parameter.
    pub field: &'static str,
    /// Its value.
    pub value: f64,
    /// What it should be.
    pub need: &'static str,
}

impl Fusion {
    /// Checks parameters that came from a file.
    ///
    /// # Errors
    /// Names the first parameter out of range.
    pub fn validate(&self) -> Result<(), FusionError> {
        let checks = [
            ("temperature", self.temperature, self.temperature > 0.0, "it must be finite and above 0"),
            ("prior_weight", self.prior_weight, self.prior_weight >= 0.0, "it must be finite and at least 0"),
            (
                "prior_floor",
                self.prior_floor,
                self.prior_floor > 0.0 && self.prior_floor <= 1.0,
                "it must be in (0, 1]",
            ),
            ("fade_m", self.fade_m, self.fade_m > 0.0, "it must be finite and above 0"),
        ];
        match checks.into_iter().find(|&(_, value, fits, _)| !(value.is_finite() && fits)) {
            Some((field, value, _, need)) => Err(FusionError { field, value, need }),
            None => Ok(()),
        }
    }

    /// `P(y|I)`: the calibrated softmax of the image logits, `[classes]`.
    pub fn image_only(&self, logits: &[f32]) -> Vec<f64> {
        let scaled: Vec<f64> = logits.iter().map(|&z| f64::from(z) / self.temperature).collect();
        softmax(&scaled)
    }

    /// `P(y|I,x)` from image logits `[classes]` and presence scores `[classes]` in [0, 1] at a
    /// place known to `uncertainty_m` metres.
    pub fn fuse(&self, logits: &[f32], presence: &[f64], uncertainty_m: f64) -> Vec<f64> {
        self.joint(logits, presence, self.prior_weight * self.fade(uncertainty_m))
    }

    /// As [`Fusion::fuse`], the prior fading with the age of a last fix too: see [`age_fade`].
    pub fn fuse_at(&self, logits: &[f32], presence: &[f64], place: &Place) -> Vec<f64> {
        let fade = self.fade(place.uncertainty_m) * age_fade(place.source);
        self.joint(logits, presence, self.prior_weight * fade)
    }

    fn joint(&self, logits: &[f32], presence: &[f64], weight: f64) -> Vec<f64> {
        let joint: Vec<f64> = logits
            .iter()
            .zip(presence)
            .map(|(&z, &p)| f64::from(z) / self.temperature + weight * libm::log(p.max(self.prior_floor)))
            .collect();
        softmax(&joint)
    }

    /// How much of the prior's weight is left at an uncertainty in metres: 1 when exact, ½ at `fade_m`.
    pub fn fade(&self, uncertainty_m: f64) -> f64 {
        let ratio = uncertainty_m.max(0.0) / self.fade_m;
        1.0 / (1.0 + ratio * ratio)
    }
}

/// Age up to which a last fix counts as this deployment's, seconds: 30 days.
pub const LAST_FIX_SURE_S: u64 = 30 * 86_400;
/// Time in which an older fix's prior loses half its weight, seconds: 30 days.
pub const LAST_FIX_HALF_S: u64 = 30 * 86_400;

/// How much of the prior's weight a place keeps by its age, 0 to 1. A trap stands still, so a last fix
/// keeps all of it for [`LAST_FIX_SURE_S`]; older, it may be of another deployment, and the weight
/// halves every [`LAST_FIX_HALF_S`]. Drift within a deployment is the disc's business, which widens.
pub fn age_fade(source: PlaceSource) -> f64 {
    match source {
        PlaceSource::LiveFix | PlaceSource::ConfiguredSite => 1.0,
        PlaceSource::LastFix { age_s } => {
            let over = age_s.saturating_sub(LAST_FIX_SURE_S) as f64;
            libm::exp2(-over / LAST_FIX_HALF_S as f64)
        }
    }
}

/// The presence score of a location logit: `σ(z)`.
pub fn sigmoid(logit: f64) -> f64 {
    if logit >= 0.0 {
        1.0 / (1.0 + libm::exp(-logit))
    } else {
        let e = libm::exp(logit);
        e / (1.0 + e)
    }
}

/// Presence scores `[classes]` at a place and date: σ of the location logits, averaged over the place's
/// disc, and for a `seasonal` model over the year where the date is not known.
///
/// # Errors
/// Whatever `location_logits` returns for one of the points.
pub fn presence<E>(
    place: &Place,
    date: Option<YearFraction>,
    seasonal: bool,
    mut location_logits: impl FnMut(Situation) -> Result<Vec<f32>, E>,
) -> Result<Vec<f64>, E> {
    let mut mean: Vec<f64> = Vec::new();
    let mut points = 0.0;
    for point in place.disc().flat_map(|at| Situation::new(at, date).spread(seasonal)) {
        let logits = location_logits(point)?;
        mean.resize(logits.len(), 0.0);
        mean.iter_mut().zip(&logits).for_each(|(sum, &z)| *sum += sigmoid(f64::from(z)));
        points += 1.0;
    }
    mean.iter_mut().for_each(|p| *p /= points);
    Ok(mean)
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exp: Vec<f64> = logits.iter().map(|z| libm::exp(z - max)).collect();
    let sum: f64 = exp.iter().sum();
    exp.into_iter().map(|e| e / sum).collect()
}

/// Classes by falling score; ties by class number, so that every CPU gives the same order.
pub fn ranked(scores: &[f64]) -> Vec<ClassId> {
    let mut order: Vec<ClassId> = (0..scores.len()).map(|i| ClassId(i as u16)).collect();
    order.sort_by(|a, b| scores[b.index()].total_cmp(&scores[a.index()]).then(a.cmp(b)));
    order
}

/// How sure a decision has to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// Least probability of a class, or of a taxonomic group, to be named.
    pub decide: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { decide: 0.5 }
    }
}

/// What is said about a picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// One class.
    Class {
        /// Which.
        class: ClassId,
        /// Its name in the model that decided.
        name: String,
        /// Its probability.
        probability: f64,
    },
    /// No class is sure enough, a group above them is.
    RollUp {
        /// Taxonomic rank.
        rank: String,
        /// The group's name.
        name: String,
        /// Sum of the probabilities of its classes.
        probability: f64,
    },
    /// Nothing is sure enough.
    Abstain,
}

/// Decides on class probabilities `[classes]`: the best class if it reaches the threshold, else the
/// narrowest taxonomic group that does, else nothing.
pub fn decide(probabilities: &[f64], labels: &Labels, thresholds: &Thresholds) -> Decision {
    let Some(&best) = ranked(probabilities).first() else { return Decision::Abstain };
    let probability = probabilities[best.index()];
    if probability >= thresholds.decide {
        return Decision::Class { class: best, name: labels.name(best).into(), probability };
    }
    let lineage = labels.0.get(best.index()).map_or(&[][..], |label| &label.lineage);
    for taxon in lineage.iter().rev() {
        let inside = |label: &crate::labels::Label| label.lineage.contains(taxon);
        let members = labels.0.iter().zip(probabilities).filter(|(label, _)| inside(label));
        let probability: f64 = members.map(|(_, p)| p).sum();
        if probability >= thresholds.decide {
            return Decision::RollUp { rank: taxon.rank.clone(), name: taxon.name.clone(), probability };
        }
    }
    Decision::Abstain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::{Label, Taxon};
    use crate::place::{LatLon, Place};
    use alloc::vec;
    use proptest::prelude::*;

    #[test]
    fn is_the_normalised_product() {
        let fusion = Fusion { fade_m: 1e12, ..Fusion::default() };
        let (logits, presence) = ([1.0f32, 2.0, 0.5], [0.9f64, 0.1, 0.001]);
        let image = fusion.image_only(&logits);
        let product: Vec<f64> = image.iter().zip(presence).map(|(p, g)| p * g.max(0.005)).collect();
        let sum: f64 = product.iter().sum();
        for (got, want) in fusion.fuse(&logits, &presence, 0.0).iter().zip(product) {
            assert!((got - want / sum).abs() < 1e-12);
        }
    }

    #[test]
    fn an_uncertain_place_says_nothing() {
        let fusion = Fusion::default();
        let logits = [1.0f32, 2.0, 0.5];
        let far = fusion.fuse(&logits, &[1.0, 0.0, 0.0], 1e9);
        for (got, want) in far.iter().zip(fusion.image_only(&logits)) {
            assert!((got - want).abs() < 1e-6);
        }
        assert!((fusion.fade(fusion.fade_m) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn an_old_fix_says_less_and_less() {
        let fusion = Fusion::default();
        let at = |source| Place { source, ..Place::configured(LatLon::new(1.0, 2.0).unwrap()) };
        let days = |days: u64| at(PlaceSource::LastFix { age_s: days * 86_400 });
        let (logits, presence) = ([1.0f32, 2.0], [0.9, 0.01]);
        let fused = |place: &Place| fusion.fuse_at(&logits, &presence, place)[0];
        let (fresh, alone) = (fusion.fuse(&logits, &presence, 0.0)[0], fusion.image_only(&logits)[0]);
        assert_eq!(fused(&at(PlaceSource::LiveFix)), fresh);
        assert_eq!(fused(&at(PlaceSource::ConfiguredSite)), fresh);
        assert_eq!(fused(&days(30)), fresh);
        assert_eq!(age_fade(days(60).source), 0.5);
        assert!(fused(&days(60)) < fresh && fused(&days(60)) > fused(&days(90)));
        assert!((fused(&at(PlaceSource::LastFix { age_s: u64::MAX })) - alone).abs() < 1e-12);
    }

    #[test]
    fn presence_is_averaged_over_the_disc() {
        let at = LatLon::new(10.0, 10.0).unwrap();
        let place = Place { uncertainty_m: 1000.0, ..Place::configured(at) };
        // a class present only north of the centre: about half the disc
        let north = |s: Situation| Ok::<_, ()>(vec![if s.at.lat() > 10.0 { 50.0 } else { -50.0 }]);
        let half = presence(&place, None, false, north).unwrap()[0];
        assert!((half - 0.5).abs() < 0.15, "{half}");
        assert_eq!(presence(&place, None, false, |_| Err::<Vec<f32>, _>("broken")), Err("broken"));
    }

    #[test]
    fn presence_is_averaged_over_a_year_nobody_knows_the_date_of() {
        let place = Place::configured(LatLon::new(10.0, 10.0).unwrap());
        // a class present in the first quarter only
        let winter = |s: Situation| {
            Ok::<_, ()>(vec![if s.date.is_some_and(|d| d.value() < 0.25) { 50.0 } else { -50.0 }])
        };
        let at = |date: Option<f64>, seasonal| {
            presence(&place, date.and_then(YearFraction::new), seasonal, winter).unwrap()[0]
        };
        assert!((at(None, true) - 0.25).abs() < 1e-9);
        assert!(at(Some(0.1), true) > 0.99 && at(Some(0.6), true) < 0.01);
        assert!(at(None, false) < 0.01, "asked as it is");
    }

    #[test]
    fn rolls_up_to_the_narrowest_sure_group() {
        let cat = |name: &str, genus: &str| Label {
            name: name.into(),
            lineage: vec![
                Taxon { rank: "family".into(), name: "Felidae".into() },
                Taxon { rank: "genus".into(), name: genus.into() },
            ],
            placed: true,
        };
        let labels = Labels(vec![
            cat("lynx", "Lynx"),
            cat("bobcat", "Lynx"),
            cat("wildcat", "Felis"),
            Label::new("blank"),
        ]);
        let at = |p: [f64; 4]| decide(&p, &labels, &Thresholds { decide: 0.5 });
        assert!(matches!(at([0.6, 0.2, 0.1, 0.1]), Decision::Class { class: ClassId(0), .. }));
        assert!(matches!(at([0.3, 0.3, 0.2, 0.2]), Decision::RollUp { rank, .. } if rank == "genus"));
        assert!(matches!(at([0.3, 0.15, 0.3, 0.25]), Decision::RollUp { rank, .. } if rank == "family"));
        assert_eq!(at([0.2, 0.1, 0.1, 0.45]), Decision::Abstain);
        assert_eq!(decide(&[], &Labels::default(), &Thresholds::default()), Decision::Abstain);
    }

    #[test]
    fn refuses_parameters_out_of_range() {
        let bad = |f: fn(&mut Fusion)| {
            let mut fusion = Fusion::default();
            f(&mut fusion);
            fusion.validate()
        };
        assert_eq!(bad(|f| f.temperature = 0.0).unwrap_err().field, "temperature");
        assert_eq!(bad(|f| f.prior_weight = f64::NAN).unwrap_err().field, "prior_weight");
        assert_eq!(bad(|f| f.prior_floor = 2.0).unwrap_err().field, "prior_floor");
        assert!(Fusion::default().validate().is_ok());
    }

    proptest! {
        #[test]
        fn is_a_distribution(
            rows in proptest::collection::vec((-1e3f32..1e3, 0.0f64..=1.0), 1..50),
            uncertainty_m in 0.0f64..1e7,
        ) {
            let (logits, presence): (Vec<f32>, Vec<f64>) = rows.into_iter().unzip();
            let fused = Fusion::default().fuse(&logits, &presence, uncertainty_m);
            prop_assert!((fused.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            prop_assert!(fused.iter().all(|p| p.is_finite() && *p >= 0.0));
        }
    }
}

//! Stage `calibrate`: temperature, prior weight and prior floor of the [`Fusion`], fitted on the
//! hold-out by the likelihood of its labels.

use std::collections::BTreeMap;

use csp_models::{
    fusion::{Fusion, ranked},
    labels::ClassId,
};

/// One held-out row: what both branches say, and what it is.
#[derive(Clone, Debug)]
pub struct Case {
    /// Image logits, `[classes]`.
    pub logits: Vec<f32>,
    /// Presence scores at its place, `[classes]`; `None` without a place or a location branch.
    pub presence: Option<Vec<f64>>,
    /// Its class.
    pub class: ClassId,
}

/// Rows below which the fit is not to be relied on.
const FEW: usize = 30;

/// Standard deviations of the pull towards ln T = 0 and w = 1, worth one row each: nothing at
/// hundreds of rows, most at five.
const PULL: f64 = 0.5;

/// A fit, with what it is worth.
#[derive(Clone, Debug)]
pub struct Calibration {
    /// The parameters.
    pub fusion: Fusion,
    /// Accuracy and mean −log p on the hold-out: `image_top1`, `prior_top1`, `fused_top1`,
    /// `image_nll`, `fused_nll`, `rows`, `rows_with_place`.
    pub readings: BTreeMap<String, f64>,
    /// What a person should know; empty when all is well.
    pub remark: String,
}

/// Fits the fusion to the hold-out. Without rows it is the uncalibrated default.
pub fn calibrate(cases: &[Case]) -> Calibration {
    let mut fusion = Fusion::default();
    if cases.is_empty() {
        let remark = "no row could be held out: temperature 1, prior weight 1 and floor 0.005 are defaults, \
                      not fitted; label more rows"
            .into();
        return Calibration { fusion, readings: BTreeMap::new(), remark };
    }
    fusion.temperature = minimise(-3.0, 3.0, |ln_t| {
        let fusion = Fusion { temperature: ln_t.exp(), ..fusion };
        cases.iter().map(|case| image_loss(&fusion, case)).sum::<f64>() + pull(ln_t)
    })
    .exp();
    let placed: Vec<&Case> = cases.iter().filter(|case| case.presence.is_some()).collect();
    if !placed.is_empty() {
        let fitted = |ln_floor: f64| {
            let loss = |weight: f64| {
                let fusion = Fusion { prior_weight: weight, prior_floor: ln_floor.exp(), ..fusion };
                placed.iter().map(|case| fused_loss(&fusion, case)).sum::<f64>() + pull(weight - 1.0)
            };
            let weight = minimise(0.0, 4.0, loss);
            (weight, loss(weight))
        };
        // a grid over the floor: the loss is not convex in it
        let floors =
            (0..=18).map(|i| (1e-5f64).ln() * f64::from(18 - i) / 18.0 + (0.5f64).ln() * f64::from(i) / 18.0);
        let best = floors.map(|ln_floor| (ln_floor, fitted(ln_floor))).min_by(|a, b| a.1.1.total_cmp(&b.1.1));
        if let Some((ln_floor, (weight, _))) = best {
            fusion.prior_weight = weight;
            fusion.prior_floor = ln_floor.exp();
        }
    }
    let remark = if cases.len() < FEW {
        format!("only {} rows were held out: the calibration is rough and leans on its defaults", cases.len())
    } else {
        String::new()
    };
    Calibration { fusion, readings: readings(&fusion, cases), remark }
}

fn pull(x: f64) -> f64 {
    x * x / (2.0 * PULL * PULL)
}

fn image_loss(fusion: &Fusion, case: &Case) -> f64 {
    -fusion.image_only(&case.logits)[case.class.index()].max(1e-30).ln()
}

fn fused_loss(fusion: &Fusion, case: &Case) -> f64 {
    match &case.presence {
        Some(presence) => -fusion.fuse(&case.logits, presence, 0.0)[case.class.index()].max(1e-30).ln(),
        None => image_loss(fusion, case),
    }
}

fn readings(fusion: &Fusion, cases: &[Case]) -> BTreeMap<String, f64> {
    let share = |hits: usize, of: usize| hits as f64 / of.max(1) as f64;
    let right = |scores: &[f64], case: &Case| ranked(scores).first() == Some(&case.class);
    let n = cases.len();
    let image = cases.iter().filter(|c| right(&fusion.image_only(&c.logits), c)).count();
    let mut readings = BTreeMap::from([
        ("rows".to_string(), n as f64),
        ("image_top1".into(), share(image, n)),
        ("image_nll".into(), cases.iter().map(|c| image_loss(fusion, c)).sum::<f64>() / n as f64),
    ]);
    let placed: Vec<(&Case, &Vec<f64>)> =
        cases.iter().filter_map(|c| c.presence.as_ref().map(|p| (c, p))).collect();
    if !placed.is_empty() {
        let prior = placed.iter().filter(|(c, p)| right(p, c)).count();
        let fused = placed.iter().filter(|(c, p)| right(&fusion.fuse(&c.logits, p, 0.0), c)).count();
        let loss: f64 = placed.iter().map(|(c, _)| fused_loss(fusion, c)).sum();
        readings.extend([
            ("rows_with_place".to_string(), placed.len() as f64),
            ("prior_top1".into(), share(prior, placed.len())),
            ("fused_top1".into(), share(fused, placed.len())),
            ("fused_nll".into(), loss / placed.len() as f64),
        ]);
    }
    readings
}

/// The argument of the least value on an interval: a grid of 25, then golden section around the best.
fn minimise(low: f64, high: f64, f: impl Fn(f64) -> f64) -> f64 {
    let step = (high - low) / 24.0;
    let grid = (0..=24).map(|i| low + step * f64::from(i)).map(|x| (x, f(x)));
    let best = grid.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(low, |(x, _)| x);
    let (mut a, mut b) = ((best - step).max(low), (best + step).min(high));
    let ratio = 0.618_033_988_749_895;
    for _ in 0..30 {
        let (c, d) = (b - ratio * (b - a), a + ratio * (b - a));
        if f(c) < f(d) { b = d } else { a = c }
    }
    (a + b) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::rng;
    use rand::RngExt;

    /// Cases whose labels are drawn from softmax(logits / t) · presence.
    fn cases(n: usize, t: f64, worth: f64) -> Vec<Case> {
        let mut rng = rng::stream(1, "test", 0);
        (0..n)
            .map(|_| {
                let logits: Vec<f32> = (0..4).map(|_| 6.0 * rng.random::<f32>()).collect();
                let presence: Vec<f64> = (0..4).map(|_| rng.random::<f64>()).collect();
                let truth = Fusion { temperature: t, prior_weight: worth, prior_floor: 1e-6, fade_m: 1e9 };
                let p = truth.fuse(&logits, &presence, 0.0);
                let mut u: f64 = rng.random();
                let class = p
                    .iter()
                    .position(|p| {
                        u -= p;
                        u < 0.0
                    })
                    .unwrap_or(3);
                Case { logits, presence: Some(presence), class: ClassId(class as u16) }
            })
            .collect()
    }

    #[test]
    fn finds_what_the_labels_were_drawn_with() {
        let fit = calibrate(&cases(4000, 2.0, 1.0)).fusion;
        assert!((fit.prior_weight - 1.0).abs() < 0.25, "{fit:?}");
        assert!((fit.temperature - 2.0).abs() < 0.6, "{fit:?}");
        let fit = calibrate(&cases(4000, 1.0, 0.0)).fusion;
        assert!(fit.prior_weight < 0.1, "{fit:?}");
        assert!((fit.temperature - 1.0).abs() < 0.1, "{fit:?}");
    }

    #[test]
    fn fusing_never_loses_on_what_it_was_fitted_to() {
        for worth in [0.0, 0.5, 2.0] {
            let readings = calibrate(&cases(1000, 1.0, worth)).readings;
            assert!(readings["fused_nll"] <= readings["image_nll"] + 0.01, "{worth}: {readings:?}");
        }
    }

    #[test]
    fn few_rows_stay_near_the_defaults() {
        let fit = calibrate(&[]);
        assert_eq!(fit.fusion, Fusion::default());
        assert!(fit.remark.contains("not fitted"));
        let fit = calibrate(&cases(3, 1.0, 1.0));
        assert!((0.3..3.0).contains(&fit.fusion.temperature), "{:?}", fit.fusion);
        assert!(fit.remark.contains("only 3 rows"));
        fit.fusion.validate().unwrap();
    }
}

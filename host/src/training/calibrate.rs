//! Stage `calibrate`: temperature, prior weight and prior floor of the [`Fusion`], fitted on the
//! hold-out by the likelihood of its labels.

use std::collections::BTreeMap;

use csp_models::{
    fusion::{Fusion, ranked},
    labels::ClassId,
};
use rayon::prelude::*;

use crate::data::units;

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

/// What the prior says at a labelled row that it has not learned from, nor from its neighbours.
///
/// Of thousands of classes nearly all are below any floor at one place: only the others' scores are kept.
#[derive(Clone, Debug)]
pub struct Opinion {
    /// ln of the scores above [`FLOORS`]' least, descending.
    above: Vec<f64>,
    /// Number of all classes.
    classes: usize,
    /// ln of the score of what is there, no less than that least floor.
    own: f64,
    /// True where what is there has the highest score.
    right: bool,
}

impl Opinion {
    /// Presence scores `[classes]` at the place, and what is there.
    pub fn of(presence: &[f64], class: ClassId) -> Self {
        let least = FLOORS.0;
        let mut above: Vec<f64> = presence.iter().filter(|&&p| p > least).map(|p| p.ln()).collect();
        above.sort_by(|a, b| b.total_cmp(a));
        let own = presence.get(class.index()).copied().unwrap_or(0.0);
        // of equal scores the first counts, as everywhere
        let (before, after) = presence.split_at(class.index().min(presence.len()));
        let right = before.iter().all(|&p| p < own) && after.iter().all(|&p| p <= own);
        Self { above, classes: presence.len(), own: own.max(least).ln(), right }
    }

    /// −log of the prior, weighed and floored, for what is there.
    fn loss(&self, weight: f64, ln_floor: f64) -> f64 {
        let higher = &self.above[..self.above.partition_point(|&ln| ln > ln_floor)];
        let floored = (self.classes - higher.len()) as f64 * (weight * ln_floor).exp();
        let sum = higher.iter().map(|ln| (weight * ln).exp()).sum::<f64>() + floored;
        sum.ln() - weight * self.own.max(ln_floor)
    }
}

/// The least and the largest floor that are tried.
const FLOORS: (f64, f64) = (1e-3, 0.5);

/// Opinions that are asked for, and heard, at most: each can hold a score for every class. Twenty thousand
/// tell as much as all; of tens of thousands of classes there are fewer, and the usual floor counts the more.
pub fn opinions_at_most(classes: usize) -> usize {
    ((1 << 24) / classes.max(1)).clamp(1_000, 20_000)
}

/// Rows below which the fit is not to be relied on.
pub(super) const FEW: usize = 30;

/// Standard deviation of the pull of ln T towards 0.
const PULL_TEMPERATURE: f64 = 0.5;
/// The floor that unseen places usually ask for, and the deviation of its logarithm. At σ = ½ a class
/// is as likely as any: what the prior says for a class carries over to new places, what it says
/// against one does so far less (EuroSAT: the best floor on cells unseen by all was 0.27 to 0.5).
const USUAL_FLOOR: (f64, f64) = (0.4, 0.5);
/// Mean and standard deviation of the pull on how much of the prior is left beside a picture.
const PULL_SHARE: (f64, f64) = (0.75, 0.35);

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

/// Fits the fusion: the temperature to the hold-out; floor and weight to what the prior is worth
/// alone, on `unseen` rows and the hold-out; then the share of that weight that is left beside a
/// picture, to the hold-out.
///
/// The prior is judged on all labelled rows, `cells` cells of them, because its mistakes come by
/// cells: a hold-out of twenty may hold none of those that make it confidently wrong. (EuroSAT, 5 % of
/// the labels: fitted to the hold-out alone, fusing lost 1 to 6 points at new places, always with a
/// floor near zero.)
pub fn calibrate(cases: &[Case], unseen: &[Opinion], cells: usize) -> Calibration {
    let mut fusion = Fusion { temperature: temperature(cases), ..Fusion::default() };
    let held = cases.iter().filter_map(|case| Some(Opinion::of(case.presence.as_ref()?, case.class)));
    let held: Vec<Opinion> = held.collect();
    let all: Vec<&Opinion> = unseen.iter().chain(&held).collect();
    let classes = all.first().map_or(0, |opinion| opinion.classes);
    let opinions = units::sample(&all, opinions_at_most(classes), 0, "calibrate");
    if opinions.len() >= FEW {
        (fusion.prior_weight, fusion.prior_floor) = worth_alone(&opinions, cells.max(1));
        let alone = fusion.prior_weight;
        let placed: Vec<&Case> = cases.iter().filter(|case| case.presence.is_some()).collect();
        let loss = |share: f64| {
            let fusion = Fusion { prior_weight: alone * share, ..fusion };
            sum(&placed, |case| fused_loss(&fusion, case)) + pull(share - PULL_SHARE.0, PULL_SHARE.1)
        };
        fusion.prior_weight = alone * minimise(0.0, 1.5, loss);
    } else {
        // so little says nothing about how wrong the prior can be: it may tip a balance, not veto
        (fusion.prior_weight, fusion.prior_floor) = (0.5, 0.2);
    }
    let remark = match cases.len() {
        0 => "no row could be held out: the temperature is 1, not fitted; label more rows".into(),
        n if n < FEW => format!("only {n} rows were held out: the calibration leans on its defaults"),
        _ => String::new(),
    };
    Calibration { fusion, readings: readings(&fusion, cases), remark }
}

/// The temperature that makes the pictures' answers likeliest; 1 without any.
pub fn temperature(cases: &[Case]) -> f64 {
    if cases.is_empty() {
        return 1.0;
    }
    let loss = |ln_t: f64| {
        let fusion = Fusion { temperature: ln_t.exp(), ..Fusion::default() };
        sum(cases, |case| image_loss(&fusion, case)) + pull(ln_t, PULL_TEMPERATURE)
    };
    minimise(-3.0, 3.0, loss).exp()
}

/// A fit without any picture: weight and floor as in [`calibrate`], on `unseen` rows and the `held`
/// ones. The readings are `prior_top1` and `rows_with_place`.
pub fn calibrate_prior(held: &[Opinion], unseen: &[Opinion], cells: usize) -> Calibration {
    let opinions: Vec<Opinion> = unseen.iter().chain(held).cloned().collect();
    let Calibration { fusion, .. } = calibrate(&[], &opinions, cells);
    let mut readings = BTreeMap::new();
    if !held.is_empty() {
        let hits = held.iter().filter(|opinion| opinion.right).count();
        readings.insert("rows_with_place".into(), held.len() as f64);
        readings.insert("prior_top1".into(), hits as f64 / held.len() as f64);
    }
    Calibration { fusion, readings, remark: String::new() }
}

/// Weight and floor that make the normalised prior likeliest.
fn worth_alone(opinions: &[&Opinion], cells: usize) -> (f64, f64) {
    // an opinion counts by its cell, not by its row: neighbours are right and wrong together
    let each = (cells as f64 / opinions.len() as f64).min(1.0);
    let loss = |weight: f64, floor: f64| -> f64 {
        let ln_floor = floor.ln();
        let losses = sum(opinions, |opinion| opinion.loss(weight, ln_floor));
        each * losses + pull((floor / USUAL_FLOOR.0).ln(), USUAL_FLOOR.1)
    };
    // a grid over the floor: the loss is not convex in it
    let (low, high) = (FLOORS.0.ln(), FLOORS.1.ln());
    let floors = (0..=18).map(|i| (low + (high - low) * f64::from(i) / 18.0).exp());
    let fits = floors.map(|floor| {
        let weight = minimise(0.0, 3.0, |weight| loss(weight, floor));
        (loss(weight, floor), weight, floor)
    });
    fits.min_by(|a, b| a.0.total_cmp(&b.0)).map_or((0.0, 0.2), |(_, weight, floor)| (weight, floor))
}

/// The sum of `of` over the rows, on all cores; the same on any number of them.
fn sum<T: Sync>(rows: &[T], of: impl Fn(&T) -> f64 + Sync) -> f64 {
    let each: Vec<f64> = rows.par_iter().with_min_len(64).map(&of).collect();
    each.iter().sum()
}

/// A normal prior as a penalty on the summed loss.
fn pull(x: f64, deviation: f64) -> f64 {
    x * x / (2.0 * deviation * deviation)
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
    if cases.is_empty() {
        return BTreeMap::new();
    }
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
    let (mut c, mut d) = (b - ratio * (b - a), a + ratio * (b - a));
    let (mut at_c, mut at_d) = (f(c), f(d));
    for _ in 0..30 {
        if at_c < at_d {
            (b, d, at_d) = (d, c, at_c);
            c = b - ratio * (b - a);
            at_c = f(c);
        } else {
            (a, c, at_c) = (c, d, at_d);
            d = a + ratio * (b - a);
            at_d = f(d);
        }
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
        let fit = calibrate(&cases(4000, 2.0, 1.0), &[], 0).fusion;
        assert!((fit.temperature - 2.0).abs() < 0.6, "{fit:?}");
        assert!(fit.prior_weight > 0.4, "{fit:?}");
        let fit = calibrate(&cases(4000, 1.0, 0.0), &[], 0).fusion;
        assert!(fit.prior_weight < 0.1, "{fit:?}");
        assert!((fit.temperature - 1.0).abs() < 0.1, "{fit:?}");
    }

    #[test]
    fn fusing_never_loses_on_what_it_was_fitted_to() {
        for worth in [0.0, 0.5, 2.0] {
            let readings = calibrate(&cases(1000, 1.0, worth), &[], 0).readings;
            assert!(readings["fused_nll"] <= readings["image_nll"] + 0.01, "{worth}: {readings:?}");
        }
    }

    #[test]
    fn an_opinion_costs_what_its_scores_say() {
        let presence = [0.7, 0.02, 4e-4, 0.02, 1e-9];
        for (class, weight, floor) in [(0, 1.0, 1e-3), (2, 0.4, 1e-3), (4, 1.7, 0.3), (1, 2.0, 0.02)] {
            let log = |p: f64| weight * p.max(floor).ln();
            let sum: f64 = presence.iter().map(|&p| log(p).exp()).sum();
            let expected = sum.ln() - log(presence[usize::from(class)]);
            let got = Opinion::of(&presence, ClassId(class)).loss(weight, f64::ln(floor));
            assert!((got - expected).abs() < 1e-12, "{class}: {got} {expected}");
        }
        assert!(Opinion::of(&presence, ClassId(0)).right && !Opinion::of(&presence, ClassId(3)).right);
    }

    /// A prior that is right in 19 cells of 20 and certain of the wrong class in the last.
    #[test]
    fn a_prior_that_can_be_certain_and_wrong_gets_a_floor() {
        let [right, wrong] = [0, 2].map(|class| Opinion::of(&[0.9, 1e-6, 1e-6, 1e-6], ClassId(class)));
        let unseen = [vec![right; 190], vec![wrong; 10]].concat();
        let fit = calibrate(&cases(100, 1.0, 1.0), &unseen, 20).fusion;
        assert!(fit.prior_floor > 1e-2, "{fit:?}");
    }

    #[test]
    fn few_rows_stay_near_the_defaults() {
        let fit = calibrate(&[], &[], 0);
        let cautious = Fusion { prior_weight: 0.5, prior_floor: 0.2, ..Fusion::default() };
        assert_eq!(fit.fusion, cautious);
        assert!(fit.remark.contains("not fitted"));
        let fit = calibrate(&cases(3, 1.0, 1.0), &[], 0);
        assert!((0.3..3.0).contains(&fit.fusion.temperature), "{:?}", fit.fusion);
        assert_eq!((fit.fusion.prior_weight, fit.fusion.prior_floor), (0.5, 0.2));
        assert!(fit.remark.contains("only 3 rows"));
        fit.fusion.validate().unwrap();
    }
}

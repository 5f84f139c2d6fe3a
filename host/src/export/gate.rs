//! What quantization cost, class by class, and whether that is more than may be.
//!
//! f32 and int8 answer the same pictures, so the pictures on which only one of them is right carry all
//! the news. A class is refused for a loss that is larger than the budget *and* no chance: with twenty
//! pictures of a class one flip is five points and says nothing.

use csp_models::{
    labels::{ClassId, Labels},
    manifest::{ClassLoss, GateReport},
};
use serde::Serialize;

use crate::evaluation::{Share, best};

/// Chance of a false alarm that is accepted, over all classes together.
const DOUBT: f64 = 0.05;
/// From this many pictures on, a loss of top-1 is taken as measured: below, chance has a say.
const ENOUGH_PICTURES: usize = 500;

/// What [`Gate::top1`] is called among the classes.
pub const ALL: &str = "(all)";

/// How much quantization may cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Budget {
    /// Top-1 accuracy over all pictures, 0 to 1.
    pub top1: f64,
    /// Recall of any one class, 0 to 1.
    pub class: f64,
}

impl Default for Budget {
    /// Half a point of top-1, three points of a class.
    fn default() -> Self {
        Self { top1: 0.005, class: 0.03 }
    }
}

/// What is to be thought of a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Within the budget.
    Kept,
    /// More than the budget, but so few pictures disagree that it may be chance.
    Unclear,
    /// More than the budget, beyond doubt.
    Lost,
}

/// Two networks' answers to the same pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paired {
    /// Pictures both name right.
    pub both: usize,
    /// Pictures f32 alone names right.
    pub only_f32: usize,
    /// Pictures int8 alone names right.
    pub only_int8: usize,
    /// Pictures both name wrong.
    pub neither: usize,
}

impl Paired {
    /// Pictures.
    pub fn n(self) -> usize {
        self.both + self.only_f32 + self.only_int8 + self.neither
    }

    /// Share of pictures f32 names right, 0 to 1.
    pub fn f32(self) -> f64 {
        (self.both + self.only_f32) as f64 / self.n().max(1) as f64
    }

    /// Share of pictures int8 names right, 0 to 1.
    pub fn int8(self) -> f64 {
        (self.both + self.only_int8) as f64 / self.n().max(1) as f64
    }

    /// What int8 loses, −1 to 1; negative: it gains.
    pub fn drop(self) -> f64 {
        (self.only_f32 as f64 - self.only_int8 as f64) / self.n().max(1) as f64
    }

    /// 95 % interval of [`Paired::drop`]: Newcombe, Statistics in Medicine 17 (1998) 2635–2650, method
    /// 10: the Wilson intervals of both shares, squared and added, with their correlation.
    pub fn interval(self) -> [f64; 2] {
        let n = self.n();
        if n == 0 {
            return [-1.0, 1.0];
        }
        let [a, b, c, d] = [self.both, self.only_f32, self.only_int8, self.neither].map(|count| count as f64);
        let (first, second) =
            (Share::of(self.both + self.only_f32, n), Share::of(self.both + self.only_int8, n));
        let margins = (a + b) * (c + d) * (a + c) * (b + d);
        let raised = a * d - b * c;
        let correlated = if raised > 0.0 { (raised - n as f64 / 2.0).max(0.0) } else { raised };
        let phi = if margins > 0.0 { correlated / margins.sqrt() } else { 0.0 };
        let add = |x: f64, y: f64| (x * x - 2.0 * phi * x * y + y * y).max(0.0).sqrt();
        let drop = self.drop();
        [
            (drop - add(first.value - first.low, second.high - second.value)).max(-1.0),
            (drop + add(first.high - first.value, second.value - second.low)).min(1.0),
        ]
    }

    /// Chance that as many or more of the pictures that differ go against int8, were it as good as
    /// f32: McNemar's test (Psychometrika 12, 1947) in its exact binomial form, one-sided.
    pub fn chance(self) -> f64 {
        let trials = self.only_f32 + self.only_int8;
        let mut log_term = -(trials as f64) * std::f64::consts::LN_2;
        let mut tail = 0.0;
        for hits in 0..=trials {
            if hits >= self.only_f32 {
                tail += log_term.exp();
            }
            log_term += ((trials - hits) as f64 / (hits + 1) as f64).ln();
        }
        f64::min(tail, 1.0)
    }

    fn count(&mut self, f32_right: bool, int8_right: bool) {
        *match (f32_right, int8_right) {
            (true, true) => &mut self.both,
            (true, false) => &mut self.only_f32,
            (false, true) => &mut self.only_int8,
            (false, false) => &mut self.neither,
        } += 1;
    }
}

/// f32 and int8 on the pictures of one class, or on all.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Drop {
    /// The class's name; [`ALL`] for all pictures.
    pub class: String,
    /// Pictures.
    pub n: usize,
    /// Share that f32 names right, 0 to 1.
    pub f32: f64,
    /// Share that int8 names right.
    pub int8: f64,
    /// What int8 loses, −1 to 1.
    pub drop: f64,
    /// 95 % interval of `drop`.
    pub interval: [f64; 2],
    /// Pictures that f32 alone names right.
    pub only_f32: usize,
    /// Pictures that int8 alone names right.
    pub only_int8: usize,
    /// What is to be thought of it.
    pub verdict: Verdict,
}

impl Drop {
    fn of(class: &str, paired: Paired, budget: f64, surely: impl Fn(Paired) -> bool) -> Self {
        let verdict = match paired.drop() > budget + 1e-9 {
            false => Verdict::Kept,
            true if surely(paired) => Verdict::Lost,
            true => Verdict::Unclear,
        };
        Self {
            class: class.into(),
            n: paired.n(),
            f32: paired.f32(),
            int8: paired.int8(),
            drop: paired.drop(),
            interval: paired.interval(),
            only_f32: paired.only_f32,
            only_int8: paired.only_int8,
            verdict,
        }
    }
}

/// The gate's findings.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gate {
    /// What may be lost.
    pub budget: Budget,
    /// Over all pictures.
    pub top1: Drop,
    /// Each class that has pictures, in the model's order.
    pub classes: Vec<Drop>,
}

impl Gate {
    /// Compares answers `[pictures][classes]` to the same pictures; `None` where no picture has a class.
    pub fn of(
        labels: &Labels,
        truth: &[Option<ClassId>],
        f32_answers: &[Vec<f32>],
        int8_answers: &[Vec<f32>],
        budget: Budget,
    ) -> Option<Self> {
        let mut counts = vec![Paired::default(); labels.len()];
        let mut all = Paired::default();
        for ((truth, before), after) in truth.iter().zip(f32_answers).zip(int8_answers) {
            let Some(class) = *truth else { continue };
            let right = [before, after].map(|logits| best(logits) == Some(class));
            all.count(right[0], right[1]);
            if let Some(count) = counts.get_mut(class.index()) {
                count.count(right[0], right[1]);
            }
        }
        let seen = counts.iter().filter(|count| count.n() > 0).count();
        // Bonferroni: of many classes some lose by chance
        let surely = |paired: Paired| paired.chance() * seen as f64 <= DOUBT;
        let classes = counts.iter().enumerate().filter(|(_, count)| count.n() > 0);
        let classes = classes
            .map(|(i, &count)| Drop::of(labels.name(ClassId(i as u16)), count, budget.class, surely))
            .collect();
        let enough = |paired: Paired| paired.n() >= ENOUGH_PICTURES || paired.chance() <= DOUBT;
        (all.n() > 0).then(|| Self { budget, top1: Drop::of(ALL, all, budget.top1, enough), classes })
    }

    /// False when top-1 or a class loses more than the budget, beyond doubt.
    pub fn passes(&self) -> bool {
        self.with(Verdict::Lost).next().is_none()
    }

    /// The findings of one verdict, all pictures first.
    pub fn with(&self, verdict: Verdict) -> impl Iterator<Item = &Drop> {
        std::iter::once(&self.top1).chain(&self.classes).filter(move |drop| drop.verdict == verdict)
    }

    /// The class that loses most; the one with more pictures of equals.
    pub fn worst(&self) -> Option<&Drop> {
        self.classes.iter().max_by(|a, b| a.drop.total_cmp(&b.drop).then(a.n.cmp(&b.n)))
    }

    /// As the manifest keeps it.
    pub fn report(&self, forced: bool) -> GateReport {
        let losses = |verdict| {
            self.with(verdict)
                .map(|drop| ClassLoss {
                    class: drop.class.clone(),
                    pictures: drop.n as u32,
                    f32: drop.f32,
                    int8: drop.int8,
                })
                .collect()
        };
        GateReport {
            max_drop: self.budget.top1,
            max_class_drop: self.budget.class,
            passed: self.passes(),
            forced,
            lost: losses(Verdict::Lost),
            unclear: losses(Verdict::Unclear),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use csp_models::labels::Label;
    use proptest::prelude::*;

    fn paired(both: usize, only_f32: usize, only_int8: usize, neither: usize) -> Paired {
        Paired { both, only_f32, only_int8, neither }
    }

    /// tools/quantizer_referee.py: scipy's exact binomial test, and Newcombe's method written in numpy,
    /// which reproduces Fagerland, Lydersen & Laake, Statistics in Medicine 33 (2014), table 6, for the
    /// first table here: −0.507 to −0.026.
    #[test]
    fn interval_and_chance_agree_with_the_referee() {
        for (table, low, high, chance) in GOLDEN {
            let [a, b, c, d] = table;
            let paired = paired(a, b, c, d);
            let [found_low, found_high] = paired.interval();
            assert!(
                (found_low - low).abs() < 1e-9 && (found_high - high).abs() < 1e-9,
                "{table:?} {:?}",
                paired.interval()
            );
            assert!((paired.chance() - chance).abs() < 1e-9, "{table:?} {}", paired.chance());
        }
    }

    const GOLDEN: [([usize; 4], f64, f64, f64); 7] = [
        ([1, 1, 7, 12], -0.506920226686141, -0.025559124164859837, 0.99609375),
        ([59, 6, 16, 80], -0.1186211956387099, -0.004625113933050096, 0.9915497303009033),
        ([140, 8, 2, 5], -0.004322245135327883, 0.08754132399311035, 0.0546875),
        ([17, 3, 0, 0], -0.03839633312626736, 0.3604188647407569, 0.125),
        ([20, 0, 0, 0], -0.16112515805281924, 0.16112515805281924, 1.0),
        ([0, 0, 5, 0], -1.0, -0.38554900569034356, 1.0),
        ([180, 20, 0, 0], 0.06083797220716375, 0.14940581243271744, 9.5367431640625e-07),
    ];

    fn verdicts(counts: &[(usize, usize, usize, usize)], budget: Budget) -> Gate {
        let labels = Labels((0..counts.len()).map(|i| Label::new(format!("c{i}"))).collect());
        let (mut truth, mut before, mut after) = (vec![], vec![], vec![]);
        for (class, &(both, only_f32, only_int8, neither)) in counts.iter().enumerate() {
            let other = (class + 1) % counts.len();
            let logits = |right: bool| {
                let mut row = vec![0.0; counts.len()];
                row[if right { class } else { other }] = 1.0;
                row
            };
            for (count, right) in [
                (both, [true, true]),
                (only_f32, [true, false]),
                (only_int8, [false, true]),
                (neither, [false, false]),
            ] {
                for _ in 0..count {
                    truth.push(Some(ClassId(class as u16)));
                    before.push(logits(right[0]));
                    after.push(logits(right[1]));
                }
            }
        }
        Gate::of(&labels, &truth, &before, &after, budget).unwrap()
    }

    #[test]
    fn a_small_class_is_warned_about_and_a_large_one_refused() {
        // 3 of 20 is 15 points and may be chance; 20 of 200 is 10 points and is not
        let gate =
            verdicts(&[(17, 3, 0, 0), (180, 20, 0, 0), (190, 4, 2, 4)], Budget { top1: 1.0, class: 0.03 });
        let found: Vec<Verdict> = gate.classes.iter().map(|drop| drop.verdict).collect();
        assert_eq!(found, [Verdict::Unclear, Verdict::Lost, Verdict::Kept]);
        assert!(!gate.passes());
        assert_eq!(gate.worst().unwrap().class, "c0");
        let report = gate.report(true);
        assert!(report.forced && !report.passed);
        assert_eq!((report.lost.len(), report.unclear.len(), report.lost[0].class.as_str()), (1, 1, "c1"));
        assert!(verdicts(&[(17, 3, 0, 0), (194, 6, 0, 0)], Budget { top1: 1.0, class: 0.03 }).passes());
    }

    #[test]
    fn top1_counts_as_measured_on_many_pictures_and_by_chance_on_few() {
        let budget = Budget { top1: 0.005, class: 1.0 };
        let top1 = |both: usize, only_f32, only_int8| {
            verdicts(&[(both, only_f32, only_int8, 0), (1, 0, 0, 0)], budget).top1.verdict
        };
        assert_eq!(top1(990, 8, 2), Verdict::Lost);
        assert_eq!(top1(990, 7, 2), Verdict::Kept);
        // 2 of 60 is 3 points and chance, 6 of 60 is not
        assert_eq!(top1(58, 2, 0), Verdict::Unclear);
        assert_eq!(top1(54, 6, 0), Verdict::Lost);
    }

    #[test]
    fn pictures_without_class_decide_nothing() {
        let labels = Labels(["a", "b"].map(Label::new).into());
        let rows = vec![vec![1.0, 0.0]; 3];
        assert!(Gate::of(&labels, &[None; 3], &rows, &rows, Budget::default()).is_none());
    }

    proptest! {
        #[test]
        fn the_interval_holds_the_difference_and_chance_is_one(
            both in 0usize..60, b in 0usize..30, c in 0usize..30, neither in 0usize..60,
        ) {
            let paired = paired(both, b, c, neither);
            let [low, high] = paired.interval();
            prop_assert!(-1.0 <= low && low <= paired.drop() && paired.drop() <= high && high <= 1.0);
            prop_assert!((0.0..=1.0).contains(&paired.chance()));
            // the other way round is the mirror image
            let [mirror_low, mirror_high] = Paired { only_f32: c, only_int8: b, ..paired }.interval();
            prop_assert!((low + mirror_high).abs() < 1e-9 && (high + mirror_low).abs() < 1e-9);
            prop_assert!(b <= c || paired.chance() <= 0.5 + 1e-9);
        }
    }
}

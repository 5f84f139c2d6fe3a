//! Top-k accuracy from ranks: the rank of the true class is 1 + the number of classes above it, so
//! nothing is sorted. A class without a score of its own has no rank, and is wrong for every k.

use csp_models::labels::ClassId;
use serde::{Deserialize, Serialize};

/// Where the true classes of some rows rank. Zeros when there are no rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Share ranked first, 0 to 1.
    pub top1: f64,
    /// Share ranked in the first three, 0 to 1.
    pub top3: f64,
    /// Mean of 1/rank, 0 to 1; a class without a rank adds 0.
    pub mrr: f64,
    /// Number of rows.
    pub n: usize,
}

impl Accuracy {
    /// From the ranks of the true classes, 1 = best; `None` for those that have none.
    pub fn of(ranks: &[Option<usize>]) -> Self {
        let n = ranks.len();
        let mrr = ranks.iter().flatten().map(|&rank| 1.0 / rank as f64).sum::<f64>() / n.max(1) as f64;
        Self { top1: top(1, ranks), top3: top(3, ranks), mrr, n }
    }
}

/// Share of ranks up to `k`; zero without ranks.
pub fn top(k: usize, ranks: &[Option<usize>]) -> f64 {
    ranks.iter().flatten().filter(|&&rank| rank <= k).count() as f64 / ranks.len().max(1) as f64
}

/// Rank of a class among scores `[classes]`, 1 = best; ties count for the lower class number, as in
/// [`csp_models::fusion::ranked`]. `None` for a class that has no score, or NaN.
pub fn rank_of<T: PartialOrd + Copy>(class: ClassId, scores: &[T]) -> Option<usize> {
    let own = *scores.get(class.index()).filter(|own| own.partial_cmp(own).is_some())?;
    let above = |(i, score): (usize, &T)| *score > own || (*score == own && i < class.index());
    Some(1 + scores.iter().enumerate().filter(|&entry| above(entry)).count())
}

/// The class of the highest score, the lowest number among equals; `None` without scores.
pub fn best<T: PartialOrd + Copy>(scores: &[T]) -> Option<ClassId> {
    let better = |best: usize, i: usize| if scores[i] > scores[best] { i } else { best };
    (0..scores.len()).reduce(better).map(|i| ClassId(i as u16))
}

#[cfg(test)]
mod tests {
    use super::*;
    use csp_models::fusion::ranked;
    use proptest::prelude::*;

    #[test]
    fn counts_shares() {
        let mrr = (1.0 + 1.0 + 1.0 / 3.0 + 0.25) / 4.0;
        let ranks = [1, 1, 3, 4].map(Some);
        assert_eq!(Accuracy::of(&ranks), Accuracy { top1: 0.5, top3: 0.75, mrr, n: 4 });
        assert_eq!(Accuracy::of(&[]), Accuracy::default());
    }

    #[test]
    fn what_has_no_score_is_wrong_for_every_k() {
        assert_eq!(rank_of(ClassId(1), &[0.1, f64::NAN, 0.2]), None);
        assert_eq!(rank_of(super::super::UNKNOWN, &[0.1, 0.7]), None);
        let ranks = [Some(1), None, None, Some(2)];
        assert_eq!(Accuracy::of(&ranks), Accuracy { top1: 0.25, top3: 0.5, mrr: 0.375, n: 4 });
        assert_eq!(top(usize::MAX, &ranks), 0.5);
    }

    proptest! {
        #[test]
        fn rank_agrees_with_sorting(scores in proptest::collection::vec(-3i8..3, 1..40), class in 0usize..40) {
            let class = ClassId((class % scores.len()) as u16);
            let scores: Vec<f64> = scores.into_iter().map(f64::from).collect();
            let sorted = ranked(&scores).iter().position(|&c| c == class).unwrap() + 1;
            prop_assert_eq!(rank_of(class, &scores), Some(sorted));
            prop_assert_eq!(best(&scores), ranked(&scores).first().copied());
        }
    }
}

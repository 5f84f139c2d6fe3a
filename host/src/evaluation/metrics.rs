//! Top-k accuracy from ranks: the rank of the true class is 1 + the number of classes above it, so
//! nothing is sorted.

use csp_models::labels::{ClassId, Labels};
use serde::Serialize;

use super::Scored;

/// Share of rows whose true class is first, or among the first three. Zero when there are no rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Accuracy {
    /// Share ranked first, 0 to 1.
    pub top1: f64,
    /// Share ranked in the first three, 0 to 1.
    pub top3: f64,
    /// Number of rows.
    pub n: usize,
}

impl Accuracy {
    /// From the ranks of the true classes, 1 = best.
    pub fn of(ranks: &[usize]) -> Self {
        let share = |k: usize| match ranks.len() {
            0 => 0.0,
            n => ranks.iter().filter(|&&rank| rank <= k).count() as f64 / n as f64,
        };
        Self { top1: share(1), top3: share(3), n: ranks.len() }
    }
}

/// Rank of a class among scores `[classes]`, 1 = best; ties count for the lower class number, as in
/// [`csp_models::fusion::ranked`].
pub fn rank_of(class: ClassId, scores: &[f64]) -> usize {
    let own = scores.get(class.index()).copied().unwrap_or(f64::NEG_INFINITY);
    let above = |(i, score): (usize, &f64)| *score > own || (*score == own && i < class.index());
    1 + scores.iter().enumerate().filter(|&entry| above(entry)).count()
}

/// Accuracy of one class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassAccuracy {
    /// The class's name.
    pub class: String,
    /// Rows of it.
    pub n: usize,
    /// Share named right by the image alone; `None` where no row of it has an image score.
    pub image_top1: Option<f64>,
    /// Share named right by image and place.
    pub fused_top1: f64,
}

impl ClassAccuracy {
    pub(super) fn group(
        labels: &Labels,
        rows: &[Scored],
        image: &[Option<usize>],
        fused: &[usize],
    ) -> Vec<Self> {
        let mut counts = vec![(0usize, 0usize, 0usize, 0usize); labels.len()];
        for ((row, &image), &fused) in rows.iter().zip(image).zip(fused) {
            let count = &mut counts[row.truth.index()];
            count.0 += 1;
            count.1 += usize::from(image.is_some());
            count.2 += usize::from(image == Some(1));
            count.3 += usize::from(fused == 1);
        }
        let seen = counts.into_iter().enumerate().filter(|(_, (n, ..))| *n > 0);
        seen.map(|(i, (n, pictures, image, fused))| Self {
            class: labels.name(ClassId(i as u16)).into(),
            n,
            image_top1: (pictures > 0).then(|| image as f64 / pictures as f64),
            fused_top1: fused as f64 / n as f64,
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use csp_models::fusion::ranked;
    use proptest::prelude::*;

    #[test]
    fn counts_shares() {
        assert_eq!(Accuracy::of(&[1, 1, 3, 4]), Accuracy { top1: 0.5, top3: 0.75, n: 4 });
        assert_eq!(Accuracy::of(&[]).n, 0);
    }

    proptest! {
        #[test]
        fn rank_agrees_with_sorting(scores in proptest::collection::vec(-3i8..3, 1..40), class in 0usize..40) {
            let class = ClassId((class % scores.len()) as u16);
            let scores: Vec<f64> = scores.into_iter().map(f64::from).collect();
            let sorted = ranked(&scores).iter().position(|&c| c == class).unwrap() + 1;
            prop_assert_eq!(rank_of(class, &scores), sorted);
        }
    }
}

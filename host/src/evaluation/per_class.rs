//! Each class for itself: how many there were, how many were found, how many of its calls were right.

use std::collections::BTreeMap;

use csp_models::labels::{ClassId, Labels};
use serde::Serialize;

use super::{Answers, UNKNOWN};
use crate::data::{Dataset, Row};

/// Two-sided 95 % of a normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// A share with Wilson's 95 % interval, which stays inside 0 to 1 and is honest for few rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Share {
    /// The share, 0 to 1; 0 of nothing is 0.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Share {
    /// `hits` of `n`. Of nothing, the interval is 0 to 1.
    pub fn of(hits: usize, n: usize) -> Self {
        if n == 0 {
            return Self { value: 0.0, low: 0.0, high: 1.0 };
        }
        let (count, p) = (n as f64, hits as f64 / n as f64);
        let scale = 1.0 + Z * Z / count;
        let middle = (p + Z * Z / (2.0 * count)) / scale;
        let half = Z * (p * (1.0 - p) / count + Z * Z / (4.0 * count * count)).sqrt() / scale;
        Self { value: p, low: (middle - half).max(0.0), high: (middle + half).min(1.0) }
    }
}

/// How well one class is told from the others.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassAccuracy {
    /// The class's name.
    pub class: String,
    /// Rows of it.
    pub n: usize,
    /// Share of its rows named right by the image alone; `None` where no row of it has an image score.
    pub image_top1: Option<f64>,
    /// Share of its rows named right by image and place.
    pub fused_top1: f64,
    /// Recall of image and place, with its interval.
    pub recall: Share,
    /// Rows that image and place call this class.
    pub called: usize,
    /// Precision of image and place: how many of those are of it.
    pub precision: Share,
}

impl ClassAccuracy {
    /// Of the classes of `rows` that the model does not know, by name: none of their rows is named right.
    pub fn of_unknown(data: &Dataset, rows: &[(&Row, ClassId)], answers: &Answers) -> Vec<Self> {
        // rows, and those with an image score
        let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        let unknown = rows.iter().zip(&answers.image).filter(|((_, truth), _)| *truth == UNKNOWN);
        for ((row, _), image) in unknown {
            let Some(class) = row.class else { continue };
            let (n, pictures) = counts.entry(data.labels.name(class)).or_default();
            *n += 1;
            *pictures += usize::from(image.is_some());
        }
        let counts = counts.into_iter();
        counts
            .map(|(class, (n, pictures))| Self {
                class: class.into(),
                n,
                image_top1: (pictures > 0).then_some(0.0),
                fused_top1: 0.0,
                recall: Share::of(0, n),
                called: 0,
                precision: Share::of(0, 0),
            })
            .collect()
    }

    /// Of every class that occurs or was called, in the model's order.
    pub(super) fn group(labels: &Labels, answers: &Answers) -> Vec<Self> {
        #[derive(Clone, Copy, Default)]
        struct Count {
            n: usize,
            pictures: usize,
            image: usize,
            fused: usize,
            called: usize,
        }
        let mut counts = vec![Count::default(); labels.len()];
        let Answers { truth, image, fused, .. } = answers;
        for ((truth, image), fused) in truth.iter().zip(image).zip(fused) {
            if let Some(count) = counts.get_mut(truth.index()) {
                count.n += 1;
                count.pictures += usize::from(image.is_some());
                count.image += usize::from(image.is_some_and(|image| image.is_right()));
                count.fused += usize::from(fused.is_right());
            }
            if let Some(count) = counts.get_mut(fused.best.index()) {
                count.called += 1;
            }
        }
        let seen = counts.into_iter().enumerate().filter(|(_, count)| count.n + count.called > 0);
        seen.map(|(i, Count { n, pictures, image, fused, called })| Self {
            class: labels.name(ClassId(i as u16)).into(),
            n,
            image_top1: (pictures > 0).then(|| image as f64 / pictures as f64),
            fused_top1: Share::of(fused, n).value,
            recall: Share::of(fused, n),
            called,
            precision: Share::of(fused, called),
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{data::Options, evaluation::Answer};
    use csp_models::labels::Label;
    use proptest::prelude::*;

    /// `scipy.stats.binomtest(hits, n).proportion_ci(method="wilson")`, tools/metrics_referee.py.
    #[test]
    fn intervals_agree_with_scipy() {
        for (hits, n, low, high) in [
            (0, 10, 0.0, 0.277_532_799_862_889_26),
            (7, 10, 0.396_778_147_461_145_26, 0.892_208_732_593_699),
            (50, 50, 0.928_652_400_866_641_2, 1.0),
            (431, 577, 0.709_940_392_565_237_7, 0.780_727_061_818_351),
        ] {
            let share = Share::of(hits, n);
            assert!((share.low - low).abs() < 1e-12 && (share.high - high).abs() < 1e-12, "{share:?}");
        }
        assert_eq!(Share::of(0, 0), Share { value: 0.0, low: 0.0, high: 1.0 });
    }

    #[test]
    fn a_class_that_is_only_called_has_precision_zero() {
        let labels = Labels(["a", "b", "c"].map(Label::new).to_vec());
        let answer = |rank, best| Answer { rank: Some(rank), best: ClassId(best), confidence: 0.5 };
        let answers = Answers {
            truth: vec![ClassId(0); 3],
            fused: vec![answer(1, 0), answer(1, 0), answer(2, 1)],
            image: vec![None, Some(answer(1, 0)), Some(answer(2, 1))],
            location: vec![None; 3],
        };
        let groups = ClassAccuracy::group(&labels, &answers);
        assert_eq!(groups.len(), 2);
        assert_eq!((groups[0].n, groups[0].called, groups[0].precision.value), (3, 2, 1.0));
        assert!((groups[0].recall.value - 2.0 / 3.0).abs() < 1e-12 && groups[0].image_top1 == Some(0.5));
        assert_eq!((groups[1].n, groups[1].called, groups[1].precision.value), (0, 1, 0.0));
    }

    #[test]
    fn a_class_the_model_does_not_know_is_never_named_right() {
        let data = Dataset {
            source: "t.csv".into(),
            rows: [0, 1, 1].map(|class| Row { class: Some(ClassId(class)), ..Row::default() }).to_vec(),
            labels: Labels(["a", "dodo"].map(Label::new).to_vec()),
            options: Options::default(),
            sha256: String::new(),
        };
        let truth = [ClassId(0), UNKNOWN, UNKNOWN];
        let rows: Vec<(&Row, ClassId)> = data.rows.iter().zip(truth).collect();
        let answers = truth.map(|truth| Answer::of(truth, &[0.9, 0.1]));
        let answers = Answers {
            truth: truth.to_vec(),
            image: vec![Some(answers[0]), Some(answers[1]), None],
            location: vec![None; 3],
            fused: answers.to_vec(),
        };
        let unknown = ClassAccuracy::of_unknown(&data, &rows, &answers);
        assert_eq!(unknown.len(), 1);
        assert_eq!((unknown[0].class.as_str(), unknown[0].n), ("dodo", 2));
        assert_eq!((unknown[0].image_top1, unknown[0].recall.value), (Some(0.0), 0.0));
        let known = Labels(["a", "b"].map(Label::new).to_vec());
        assert_eq!(ClassAccuracy::group(&known, &answers)[0].called, 3, "the calls count all the same");
    }

    proptest! {
        #[test]
        fn the_share_lies_in_its_interval(n in 1usize..5000, part in 0.0f64..=1.0) {
            let share = Share::of((n as f64 * part) as usize, n);
            prop_assert!(0.0 <= share.low && share.low <= share.value + 1e-12);
            prop_assert!(share.value <= share.high + 1e-12 && share.high <= 1.0);
        }
    }
}

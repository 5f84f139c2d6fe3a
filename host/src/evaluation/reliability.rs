//! Does 80 % mean four times in five? Expected calibration error and the bins of its diagram.

use serde::{Deserialize, Serialize};

use super::Answer;

/// Bins of equal width (Guo et al., ICML 2017, use 15).
pub const BINS: usize = 15;

/// Answers of about the same confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Mean probability of the class named, 0 to 1.
    pub confidence: f64,
    /// Share named right, 0 to 1.
    pub accuracy: f64,
    /// Answers in the bin.
    pub n: usize,
}

/// How far confidence and accuracy are apart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reliability {
    /// Expected calibration error: mean of |accuracy − confidence| over the bins, by their rows.
    pub ece: f64,
    /// The bins that hold answers, by rising confidence.
    pub bins: Vec<Bin>,
}

impl Reliability {
    /// Of answers with the probability of the class they name; bin i holds (i/15, (i+1)/15].
    pub fn of(answers: &[Answer]) -> Self {
        let mut sums = [(0.0, 0usize, 0usize); BINS];
        for answer in answers {
            let bin = (answer.confidence * BINS as f64).ceil() as usize;
            let sum = &mut sums[bin.clamp(1, BINS) - 1];
            *sum = (sum.0 + answer.confidence, sum.1 + usize::from(answer.is_right()), sum.2 + 1);
        }
        let bins: Vec<Bin> = (sums.into_iter().filter(|(.., n)| *n > 0))
            .map(|(confidence, right, n)| Bin {
                confidence: confidence / n as f64,
                accuracy: right as f64 / n as f64,
                n,
            })
            .collect();
        let gaps = bins.iter().map(|bin| (bin.accuracy - bin.confidence).abs() * bin.n as f64);
        Self { ece: gaps.sum::<f64>() / answers.len().max(1) as f64, bins }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use csp_models::labels::ClassId;

    /// The answers of `tools/metrics_referee.py`: confidence and correctness from formulas, so that
    /// both sides have the same without a file between them.
    fn answers() -> Vec<Answer> {
        (0..400u32)
            .map(|i| {
                let confidence = 0.1 + 0.9 * (f64::from(i * 37 % 400) + 0.5) / 400.0;
                let right = f64::from(i * 53 % 101) / 101.0 < confidence * confidence;
                Answer { rank: Some(if right { 1 } else { 2 }), best: ClassId(0), confidence }
            })
            .collect()
    }

    /// From that script.
    const ECE: f64 = 0.176_296_874_999_999_96;

    #[test]
    fn agrees_with_the_referee() {
        let reliability = Reliability::of(&answers());
        assert!((reliability.ece - ECE).abs() < 1e-12, "{}", reliability.ece);
        assert_eq!(reliability.bins.iter().map(|bin| bin.n).sum::<usize>(), 400);
    }

    #[test]
    fn certainty_that_is_right_has_no_error_and_the_rest_has_its_gap() {
        let sure = Answer { rank: Some(1), best: ClassId(0), confidence: 1.0 };
        assert_eq!(Reliability::of(&[sure; 3]).ece, 0.0);
        assert_eq!(Reliability::of(&[Answer { rank: Some(2), ..sure }]).ece, 1.0);
        assert_eq!(Reliability::of(&[]), Reliability::default());
    }
}

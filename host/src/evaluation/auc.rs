//! Area under the receiver operating characteristic.

/// The chance that a present case scores above an absent one, ties counting half (Mann and Whitney);
/// `None` unless there are both.
pub fn auc(scored: &[(f64, bool)]) -> Option<f64> {
    let mut order: Vec<(f64, bool)> = scored.to_vec();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let present = order.iter().filter(|(_, present)| *present).count() as f64;
    let absent = order.len() as f64 - present;
    if present == 0.0 || absent == 0.0 {
        return None;
    }
    let (mut below, mut wins) = (0.0, 0.0);
    for tied in order.chunk_by(|a, b| a.0 == b.0) {
        let here = tied.iter().filter(|(_, present)| *present).count() as f64;
        let lower = tied.len() as f64 - here;
        wins += here * (below + lower / 2.0);
        below += lower;
    }
    Some(wins / (present * absent))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERENCE: f64 = 0.609_344_422_700_587_1;

    /// `sklearn.metrics.roc_auc_score`, tools/metrics_referee.py; scores are rounded so that some tie.
    #[test]
    fn agrees_with_scikit_learn() {
        let scored: Vec<(f64, bool)> = (0..300u32)
            .map(|i| {
                let score = f64::from(i * 37 % 101 / 5);
                (score, f64::from(i * 53 % 97) < 20.0 + 2.5 * score)
            })
            .collect();
        assert!((auc(&scored).unwrap() - REFERENCE).abs() < 1e-12, "{:?}", auc(&scored));
        assert_eq!(auc(&[(1.0, true)]), None);
        assert_eq!(auc(&[(1.0, true), (1.0, false)]), Some(0.5));
    }
}

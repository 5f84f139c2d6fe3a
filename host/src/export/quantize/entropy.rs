//! The range that loses the least information: Migacz, "8-bit inference with TensorRT", GTC 2017.
//!
//! For each bound on the absolute value, what lies within is compared with itself on int8's levels by the
//! Kullback–Leibler divergence; what is cut counts at the edge it was cut to. TensorRT's ranges are
//! symmetric and use 128 levels for the absolute value; ours end where the numbers do, and use all 256.

use super::observe::Statistics;

/// Levels of an int8 value.
const LEVELS: usize = 256;
/// What stands for a count of nothing where something was cut to: without it a lone outlier, cut to a bin
/// that is else empty, would be infinitely far from any range but the full one.
const NEVER: f64 = 1e-4;
/// Bounds that are tried, evenly spaced up to the largest absolute value.
const BOUNDS: usize = 128;

/// Lowest and highest number to keep.
pub(super) fn least_divergence(statistics: &Statistics) -> (f32, f32) {
    let full = (statistics.low, statistics.high);
    let counts = &statistics.histogram;
    let bin = statistics.bin();
    if bin <= 0.0 {
        return full;
    }
    // the bin that holds zero, or the end nearest to it: what every candidate contains
    let zero = ((-statistics.low / bin).max(0.0) as usize).min(counts.len() - 1);
    let reach = zero.max(counts.len() - zero);
    let mut best = (f64::INFINITY, full);
    for bound in (1..=BOUNDS).rev() {
        let bins = (reach * bound).div_ceil(BOUNDS);
        let (from, to) = (zero.saturating_sub(bins), (zero + bins).min(counts.len()));
        if to - from < LEVELS {
            break;
        }
        let divergence = divergence(counts, from, to);
        // of equals the wider: it cuts less
        if divergence < best.0 {
            let at = |edge: usize| statistics.low + bin * edge as f32;
            best = (divergence, (at(from), at(to)));
        }
    }
    best.1
}

/// How far the bins `from..to`, with everything outside added to the first and last, are from the same
/// bins on [`LEVELS`] levels.
fn divergence(counts: &[u64], from: usize, to: usize) -> f64 {
    let kept = &counts[from..to];
    let mut seen: Vec<f64> = kept.iter().map(|&count| count as f64).collect();
    let (first, last) = (0, seen.len() - 1);
    seen[first] += counts[..from].iter().sum::<u64>() as f64;
    seen[last] += counts[to..].iter().sum::<u64>() as f64;
    let mut levels = vec![0.0; seen.len()];
    for level in 0..LEVELS {
        let bins = level * seen.len() / LEVELS..(level + 1) * seen.len() / LEVELS;
        let filled = bins.clone().filter(|&i| seen[i] > 0.0).count();
        let share = kept[bins.clone()].iter().sum::<u64>() as f64 / filled.max(1) as f64;
        for i in bins.filter(|&i| seen[i] > 0.0) {
            levels[i] = share.max(NEVER);
        }
    }
    let (all, all_levels) = (seen.iter().sum::<f64>(), levels.iter().sum::<f64>());
    if all == 0.0 || all_levels == 0.0 {
        return f64::INFINITY;
    }
    let terms = seen.iter().zip(levels).filter(|(seen, _)| **seen > 0.0);
    terms.map(|(&seen, level)| seen / all * ((seen / all) / (level / all_levels)).ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A histogram that the referee can make too: a Laplacian, or its upper half, with outliers.
    fn histogram(low: f32, high: f32, width: f64, outliers: u64) -> Statistics {
        let mut statistics = Statistics::with_range(low, high);
        let bin = (f64::from(high) - f64::from(low)) / statistics.histogram.len() as f64;
        for (i, count) in statistics.histogram.iter_mut().enumerate() {
            let value = f64::from(low) + bin * (i as f64 + 0.5);
            *count = (1e6 * (-value.abs() / width).exp()) as u64;
        }
        if let Some(last) = statistics.histogram.last_mut() {
            *last += outliers;
        }
        statistics
    }

    /// `tools/quantizer_referee.py entropy`: numpy, written from the description of the method.
    #[test]
    fn ranges_agree_with_numpy() {
        for (low, high, width, outliers, expected) in GOLDEN {
            let (found_low, found_high) = least_divergence(&histogram(low, high, width, outliers));
            let bin = (high - low) / 4096.0;
            for (found, expected) in [(found_low, expected.0), (found_high, expected.1)] {
                assert!((found - expected).abs() < bin / 2.0, "{low}..{high}: {found} is not {expected}");
            }
        }
    }

    /// Lowest and highest number, width, outliers; the range to keep.
    type Case = (f32, f32, f64, u64, (f32, f32));

    const GOLDEN: [Case; 5] = [
        (0.0, 8.0, 0.5, 0, (0.0, 6.1875)),
        (0.0, 8.0, 0.25, 1000, (0.0, 3.0)),
        (-4.0, 12.0, 0.5, 50, (-4.0, 5.53125)),
        (-3.0, 3.0, 0.2, 0, (-2.25, 2.25)),
        (0.0, 6.0, 1000000.0, 0, (0.0, 6.0)),
    ];

    #[test]
    fn nothing_seen_keeps_the_whole_range() {
        let empty = Statistics::with_range(0.0, 0.0);
        assert_eq!(least_divergence(&empty), (0.0, 0.0));
        assert_eq!(least_divergence(&Statistics::with_range(-1.0, 2.0)), (-1.0, 2.0));
    }
}

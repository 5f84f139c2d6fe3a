//! Weights → int8, one scale a channel, the scales on an integer grid.
//!
//! With `scale[c] = u · m_c` and integer `m_c`, a runtime requantizes a row by an integer multiply and
//! one scalar scale, which its matrix kernels fuse, instead of a vector of floats, which they do not.

/// int8 weights with one scale a channel.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Filters {
    /// The unit of all scales; 17 significant bits, so that `u · m` is exact in f32.
    pub unit: f32,
    /// `m_c`, 1..=127.
    pub multipliers: Vec<u8>,
    /// `u · m_c`.
    pub scales: Vec<f32>,
    /// `[channels, …]` as given, each in −127..=127.
    pub weights: Vec<i8>,
    /// Biases in units of `input scale · scale[c]`.
    pub biases: Vec<i32>,
}

/// Largest multiplier: with it the product of an 8-bit weight and the multiplier fits 15 bits.
const MAX_MULTIPLIER: u32 = 127;

/// Quantizes filters laid out one after the other.
///
/// `bias` gives a channel's bias for its rounded filter (bias correction needs to see the rounding).
/// `None` where no multiplier keeps the accumulators inside 32 bits.
pub(super) fn quantize(
    weights: &[f32],
    channels: usize,
    input_scale: f32,
    bias: impl Fn(usize, &[f32]) -> f64,
) -> Option<Filters> {
    let per_channel = (weights.len() / channels.max(1)).max(1);
    let filters: Vec<&[f32]> = weights.chunks_exact(per_channel).collect();
    let ideal: Vec<f32> = filters.iter().map(|filter| largest(filter) / 127.0).collect();
    let widest = ideal.iter().copied().fold(0.0, f32::max);
    let mut top = MAX_MULTIPLIER;
    // A coarser grid means smaller multipliers, hence smaller accumulators.
    while top >= 1 {
        let unit = exact_unit(widest / top as f32);
        match on_grid(&filters, &ideal, unit, top, input_scale, &bias) {
            Ok(filters) => return Some(filters),
            Err(excess) => top = ((f64::from(top) / excess) as u32).min(top - 1),
        }
    }
    None
}

/// By how much an accumulator would overflow, as a factor above 1.
type Excess = f64;

fn on_grid(
    filters: &[&[f32]],
    ideal: &[f32],
    unit: f32,
    top: u32,
    input_scale: f32,
    bias: &impl Fn(usize, &[f32]) -> f64,
) -> Result<Filters, Excess> {
    let mut out = Filters { unit, multipliers: vec![], scales: vec![], weights: vec![], biases: vec![] };
    for (c, filter) in filters.iter().enumerate() {
        let multiplier = best_multiplier(filter, ideal[c], unit, top);
        let scale = unit * multiplier as f32;
        let rounded: Vec<i8> = filter.iter().map(|&w| round(w, scale)).collect();
        let real: Vec<f32> = rounded.iter().map(|&q| f32::from(q) * scale).collect();
        let bias = (bias(c, &real) / (f64::from(input_scale) * f64::from(scale))).round();
        // m · (Σ|w| · 128 + |b'|) < 2³¹, where b' = b − x_zero · Σw is at most |b| + 128 Σ|w|
        let sum: f64 = rounded.iter().map(|&q| f64::from(q.unsigned_abs())).sum();
        let reach = f64::from(multiplier) * (256.0 * sum + bias.abs());
        if reach >= f64::from(1u32 << 31) {
            return Err(reach / f64::from(1u32 << 31));
        }
        out.multipliers.push(multiplier as u8);
        out.scales.push(scale);
        out.weights.extend(rounded);
        out.biases.push(bias as i32);
    }
    Ok(out)
}

/// Of the multipliers that clip little, the one with the least squared error.
fn best_multiplier(filter: &[f32], ideal: f32, unit: f32, top: u32) -> u32 {
    let full = ((ideal / unit).ceil() as u32).clamp(1, top);
    let least = (full * 3 / 4).max(1);
    let error = |multiplier: u32| -> f64 {
        let scale = unit * multiplier as f32;
        filter.iter().map(|&w| f64::from(w - f32::from(round(w, scale)) * scale).powi(2)).sum()
    };
    // ties go to the larger: it clips less
    (least..=full).rev().min_by(|&a, &b| error(a).total_cmp(&error(b))).unwrap_or(full)
}

fn round(weight: f32, scale: f32) -> i8 {
    (weight / scale).round_ties_even().clamp(-127.0, 127.0) as i8
}

fn largest(numbers: &[f32]) -> f32 {
    numbers.iter().fold(0.0, |max, n| n.abs().max(max))
}

/// The next f32 with 17 significant bits at or above a positive number.
fn exact_unit(unit: f32) -> f32 {
    let unit = unit.max(1e-20);
    f32::from_bits((unit.to_bits() + 0x7f) & !0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn zero_bias(_: usize, _: &[f32]) -> f64 {
        0.0
    }

    #[test]
    fn the_widest_channel_uses_the_whole_grid() {
        let filters = quantize(&[1.27, -0.3, 0.02, 0.01], 2, 0.1, zero_bias).unwrap();
        assert_eq!(filters.multipliers[0], 127);
        assert_eq!(filters.weights[0], 127);
    }

    #[test]
    fn long_filters_stay_inside_32_bits() {
        let (inputs, channels) = (20_000, 2);
        let filters = quantize(&vec![0.5; inputs * channels], channels, 0.02, |_, _| 3.0).unwrap();
        for c in 0..channels {
            let sum: i64 = filters.weights[c * inputs..][..inputs].iter().map(|&w| i64::from(w).abs()).sum();
            let reach = i64::from(filters.multipliers[c]) * (sum * 128 + i64::from(filters.biases[c]).abs());
            assert!(reach < 1 << 31, "{reach}");
        }
        assert!(filters.multipliers[0] < 127);
        // the grid is coarser, the weights are not
        assert!((f32::from(filters.weights[0]) * filters.scales[0] - 0.5).abs() < 0.5 / 100.0);
    }

    #[test]
    fn a_bias_beyond_32_bits_is_refused() {
        assert!(quantize(&[1e-6, 1e-6], 2, 1e-6, |_, _| 1e9).is_none());
    }

    #[test]
    fn a_dead_channel_has_zero_weights() {
        let filters = quantize(&[0.0, 0.0, 1.0, 1.0], 2, 0.1, |_, _| 0.5).unwrap();
        assert_eq!(&filters.weights[..2], [0, 0]);
        assert!(filters.multipliers.iter().all(|&m| m >= 1));
    }

    proptest! {
        #[test]
        fn lies_on_the_grid_and_near_the_weights(
            weights in proptest::collection::vec(-2f32..2.0, 8 * 9),
            gains in proptest::collection::vec(0.05f32..1.0, 8),
        ) {
            let weights: Vec<f32> = weights.iter().enumerate().map(|(i, w)| w * gains[i / 9]).collect();
            let filters = quantize(&weights, 8, 0.05, zero_bias).unwrap();
            let widest = largest(&weights);
            for c in 0..8 {
                let m = filters.multipliers[c];
                prop_assert!((1..=127).contains(&m));
                prop_assert_eq!(f64::from(filters.scales[c]), f64::from(filters.unit) * f64::from(m));
                let filter = &weights[c * 9..][..9];
                // one grid step above the ideal scale at most, and half a step of rounding
                let step = largest(filter) / 127.0 + widest / 127.0 / 127.0 * 1.01;
                let error = |scale: f32| -> f64 {
                    filter.iter().map(|&w| f64::from(w - f32::from(round(w, scale)) * scale).powi(2)).sum()
                };
                prop_assert!(error(filters.scales[c]) <= 9.0 * f64::from(step / 2.0).powi(2) * 1.01);
            }
        }
    }
}

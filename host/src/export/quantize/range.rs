//! From what was seen of a value to the scale and zero point of its int8 form.

use super::{entropy, observe::Statistics, plan::Bounds};

/// How much of an activation's range is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// All of it.
    MinMax,
    /// All but the outermost 0.01 % at either end.
    Percentile,
    /// As much as gives the least mean squared error, rounding and clipping together.
    Mse,
    /// As much as loses the least information (Kullback–Leibler divergence), as TensorRT does it.
    Entropy,
}

impl Method {
    /// Every method.
    pub const ALL: [Self; 4] = [Self::Mse, Self::Percentile, Self::MinMax, Self::Entropy];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::MinMax => "min-max",
            Self::Percentile => "percentile 99.99",
            Self::Mse => "MSE",
            Self::Entropy => "entropy",
        }
    }
}

/// Share of the numbers at either end that [`Method::Percentile`] cuts.
const TAIL: f64 = 1e-4;

/// `real = scale · (q − zero)`, `q` in −128..=127.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Affine {
    pub scale: f32,
    pub zero: i8,
}

impl Affine {
    /// The finest that holds `low..=high` and represents zero exactly.
    pub fn holding(low: f32, high: f32) -> Self {
        let (low, high) = (low.min(0.0), high.max(0.0));
        // A value that is always zero gets a scale that no division trips over.
        let scale = ((high - low) / 255.0).max(1e-8);
        let zero = (-128.0 - low / scale).round_ties_even().clamp(-128.0, 127.0);
        Self { scale, zero: zero as i8 }
    }

    fn round_trip(self, value: f32) -> f32 {
        let q = (value / self.scale).round_ties_even() + f32::from(self.zero);
        (q.clamp(-128.0, 127.0) - f32::from(self.zero)) * self.scale
    }
}

/// The int8 form of a value.
pub(super) fn affine(statistics: &Statistics, bounds: Bounds, method: Method) -> Affine {
    let (low, high) = match method {
        Method::MinMax => (statistics.low, statistics.high),
        Method::Percentile => percentile(statistics, TAIL),
        Method::Mse => least_error(statistics),
        Method::Entropy => entropy::least_divergence(statistics),
    };
    Affine::holding(low.max(bounds.low), high.min(bounds.high))
}

/// How many times wider the whole range is than that of all but the outermost 0.01 %.
pub(super) fn stretch(statistics: &Statistics) -> f32 {
    let (low, high) = percentile(statistics, TAIL);
    let width = |low: f32, high: f32| high.max(0.0) - low.min(0.0);
    width(statistics.low, statistics.high) / width(low, high).max(f32::MIN_POSITIVE)
}

fn percentile(statistics: &Statistics, tail: f64) -> (f32, f32) {
    let total: u64 = statistics.histogram.iter().sum();
    let spare = (total as f64 * tail) as u64;
    let cut = |counts: &mut dyn Iterator<Item = &u64>| {
        let mut seen = 0;
        counts
            .take_while(|&&count| {
                seen += count;
                seen <= spare
            })
            .count() as f32
    };
    let bin = statistics.bin();
    let low = statistics.low + bin * cut(&mut statistics.histogram.iter());
    let high = statistics.high - bin * cut(&mut statistics.histogram.iter().rev());
    if low < high { (low, high) } else { (statistics.low, statistics.high) }
}

/// Shrinks one end, then the other, and keeps the best of 50 steps each.
fn least_error(statistics: &Statistics) -> (f32, f32) {
    let (mut low, mut high) = (statistics.low.min(0.0), statistics.high.max(0.0));
    let shares = || (1..=50).map(|step| step as f32 / 50.0);
    let best = |ranges: &mut dyn Iterator<Item = (f32, f32)>| {
        ranges
            .map(|(low, high)| (error(statistics, Affine::holding(low, high)), (low, high)))
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, range)| range)
    };
    for _ in 0..2 {
        (low, high) = best(&mut shares().map(|s| (low, statistics.high.max(0.0) * s))).unwrap_or((low, high));
        (low, high) = best(&mut shares().map(|s| (statistics.low.min(0.0) * s, high))).unwrap_or((low, high));
    }
    (low, high)
}

fn error(statistics: &Statistics, affine: Affine) -> f64 {
    let bin = statistics.bin();
    let bins = statistics.histogram.iter().enumerate().filter(|&(_, &count)| count > 0);
    bins.map(|(i, &count)| {
        let value = statistics.low + bin * (i as f32 + 0.5);
        let off = f64::from(value - affine.round_trip(value));
        count as f64 * off * off
    })
    .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seen(low: f32, high: f32, fill: impl Fn(f32) -> u64) -> Statistics {
        let mut statistics = Statistics::with_range(low, high);
        let bin = statistics.bin();
        for (i, count) in statistics.histogram.iter_mut().enumerate() {
            *count = fill(low + bin * (i as f32 + 0.5));
        }
        statistics
    }

    #[test]
    fn relu6_starts_at_minus_128() {
        let statistics = seen(0.0, 6.0, |_| 1);
        for method in Method::ALL {
            let affine = affine(&statistics, Bounds { low: 0.0, high: 6.0 }, method);
            assert_eq!(affine.zero, -128);
            assert!((affine.scale - 6.0 / 255.0).abs() < 6.0 / 255.0 * 0.03, "{method:?} {affine:?}");
        }
    }

    #[test]
    fn a_lone_outlier_does_not_set_the_range() {
        // not flat: flat numbers look the same on any levels, so that entropy would keep them all
        let slope = |v: f32| (1e6 * (1.0 - v.abs())) as u64;
        let statistics = seen(-1.0, 100.0, |v| if v.abs() < 1.0 { slope(v) } else { u64::from(v > 99.98) });
        let full = affine(&statistics, Bounds::OPEN, Method::MinMax);
        assert!(stretch(&statistics) > 40.0);
        for method in [Method::Percentile, Method::Mse, Method::Entropy] {
            assert!(affine(&statistics, Bounds::OPEN, method).scale < full.scale / 10.0, "{method:?}");
        }
    }

    #[test]
    fn a_value_that_is_always_zero_is_representable() {
        let affine = affine(&seen(0.0, 0.0, |_| 0), Bounds::OPEN, Method::Mse);
        assert!(affine.scale > 0.0 && affine.round_trip(0.0) == 0.0);
    }

    proptest! {
        #[test]
        fn zero_is_exact_and_the_range_is_held(low in -100f32..100.0, width in 1e-3f32..200.0) {
            let affine = Affine::holding(low, low + width);
            prop_assert_eq!(affine.round_trip(0.0), 0.0);
            for value in [low, low + width] {
                prop_assert!((affine.round_trip(value) - value).abs() <= affine.scale * 1.01);
            }
        }
    }
}

//! One f32 filter a channel, on planes (`[channel][row][column]`), where tract's own walks them pixel by
//! pixel.
//!
//! A plane is spread over `stride²` planes of its phases, the border of zeros included, each `wide` numbers
//! wide: then every tap of every output reads consecutive numbers, whatever the stride, and an output row
//! may be summed together with the next. What is summed beyond a row's end is thrown away.

/// Numbers summed at once.
const LANES: usize = 16;
/// Outputs summed before they are stored, at least: small planes would be all loop.
const STRIP: usize = 4 * LANES;

/// Shapes of one depthwise convolution without dilation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    /// Channels.
    pub channels: usize,
    /// Rows and columns of an input plane.
    pub input: [usize; 2],
    /// Rows and columns of an output plane.
    pub output: [usize; 2],
    /// Rows and columns of a filter.
    pub kernel: [usize; 2],
    /// Zeros above and left of a plane.
    pub before: [usize; 2],
    /// Both ways.
    pub stride: usize,
}

/// A depthwise convolution with what follows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Depthwise {
    pub shape: Shape,
    /// `[channels][kernel]`.
    pub weights: Vec<f32>,
    /// `[channels]`.
    pub bias: Vec<f32>,
    /// Outputs are held within these; ±∞ for a layer without activation.
    pub range: [f32; 2],
}

impl Shape {
    /// Rows and columns of a phase plane, enough for what every output reads, junk included.
    fn phase(&self) -> [usize; 2] {
        [0, 1].map(|side| {
            let reach = (self.output[side] - 1) * self.stride + self.kernel[side];
            reach.max(self.before[side] + self.input[side]).div_ceil(self.stride)
        })
    }
}

impl Depthwise {
    /// True for shapes this can do.
    pub fn fits(&self) -> bool {
        let Shape { channels, input, output, kernel, stride, .. } = self.shape;
        let positive = [input, output, kernel].iter().flatten().all(|&size| size > 0);
        positive
            && (1..=2).contains(&stride)
            && self.weights.len() == channels * kernel[0] * kernel[1]
            && self.bias.len() == channels
    }

    /// Computes `out` `[channels][output]` from `x` `[channels][input]`.
    ///
    /// # Panics
    /// When the slices do not have these lengths or [`fits`](Self::fits) is false.
    pub fn run(&self, x: &[f32], out: &mut [f32]) {
        let Shape { channels, input, output, .. } = self.shape;
        assert!(self.fits());
        assert_eq!(x.len(), channels * input[0] * input[1]);
        assert_eq!(out.len(), channels * output[0] * output[1]);
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                // SAFETY: the processor has it.
                return unsafe { planes_avx512(self, x, out) };
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                // SAFETY: the processor has both.
                return unsafe { planes_avx2(self, x, out) };
            }
        }
        planes::<false>(self, x, out);
    }

    /// True where this is faster than tract's own: on ARM that lays such networks out channels-last.
    pub fn pays() -> bool {
        #[cfg(target_arch = "x86_64")]
        return is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        #[cfg(not(target_arch = "x86_64"))]
        false
    }
}

/// # Safety
/// The processor has AVX-512.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn planes_avx512(layer: &Depthwise, x: &[f32], out: &mut [f32]) {
    planes::<true>(layer, x, out);
}

/// # Safety
/// The processor has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn planes_avx2(layer: &Depthwise, x: &[f32], out: &mut [f32]) {
    planes::<true>(layer, x, out);
}

/// `FUSED`: the processor multiplies and adds in one instruction.
#[inline(always)]
fn planes<const FUSED: bool>(layer: &Depthwise, x: &[f32], out: &mut [f32]) {
    let Shape { input, output, kernel, stride, .. } = layer.shape;
    let [high, wide] = layer.shape.phase();
    let plane = high * wide;
    // room for the last strip, which is rounded up to whole lanes and reads a filter further
    let span = plane + STRIP + LANES + kernel[1];
    let mut phases = vec![0f32; stride * stride * span];
    let rows = STRIP.div_ceil(wide).min(output[0]);
    let mut sums = vec![0f32; (rows * wide).next_multiple_of(LANES)];
    // where each tap begins among the phases
    let taps: Vec<usize> = (0..kernel[0] * kernel[1])
        .map(|tap| {
            let (dy, dx) = (tap / kernel[1], tap % kernel[1]);
            (dy % stride * stride + dx % stride) * span + dy / stride * wide + dx / stride
        })
        .collect();
    let planes = x.chunks_exact(input[0] * input[1]).zip(out.chunks_exact_mut(output[0] * output[1]));
    for ((x, out), (weights, &bias)) in planes.zip(layer.weights.chunks_exact(taps.len()).zip(&layer.bias)) {
        spread(&layer.shape, x, &mut phases, [wide, span]);
        for (strip, out) in out.chunks_mut(rows * output[1]).enumerate() {
            let count = (out.len() / output[1] * wide).next_multiple_of(LANES);
            let from = strip * rows * wide;
            match weights {
                // by far the most frequent ones, all taps in registers
                &[_, _, _, _, _, _, _, _, _] => {
                    strip_of::<9, FUSED>(&phases, &taps, weights, bias, from, &mut sums[..count])
                }
                _ => strip_of_any::<FUSED>(&phases, &taps, weights, bias, from, &mut sums[..count]),
            }
            let [low, most] = layer.range;
            for (out, sums) in out.chunks_exact_mut(output[1]).zip(sums.chunks_exact(wide)) {
                for (out, sum) in out.iter_mut().zip(sums) {
                    *out = sum.max(low).min(most);
                }
            }
        }
    }
}

/// Writes a plane into its phases; borders are zero already and stay so.
#[inline(always)]
fn spread(shape: &Shape, x: &[f32], phases: &mut [f32], [wide, span]: [usize; 2]) {
    let Shape { input, before, stride, .. } = *shape;
    for (y, row) in x.chunks_exact(input[1]).enumerate() {
        let (y, left) = (y + before[0], before[1]);
        let line = y % stride * stride * span + y / stride * wide;
        if stride == 1 {
            phases[line + left..line + left + input[1]].copy_from_slice(row);
            continue;
        }
        for phase in 0..stride {
            // the first column of the plane that falls into this phase
            let first = (phase + stride - left % stride) % stride;
            let at = line + phase * span + (first + left) / stride;
            let count = input[1].saturating_sub(first).div_ceil(stride);
            for (to, from) in phases[at..at + count].iter_mut().zip(row.iter().skip(first).step_by(2)) {
                *to = *from;
            }
        }
    }
}

#[inline(always)]
fn add<const FUSED: bool>(x: f32, w: f32, sum: f32) -> f32 {
    if FUSED { x.mul_add(w, sum) } else { x * w + sum }
}

#[inline(always)]
fn strip_of<const TAPS: usize, const FUSED: bool>(
    phases: &[f32],
    taps: &[usize],
    weights: &[f32],
    bias: f32,
    from: usize,
    sums: &mut [f32],
) {
    let weights: [f32; TAPS] = std::array::from_fn(|tap| weights[tap]);
    let rows: [&[f32]; TAPS] = std::array::from_fn(|tap| &phases[taps[tap] + from..][..sums.len()]);
    for (block, sums) in sums.chunks_exact_mut(LANES).enumerate() {
        let mut lanes = [bias; LANES];
        for (row, weight) in rows.iter().zip(weights) {
            let row = &row[block * LANES..(block + 1) * LANES];
            for (lane, x) in lanes.iter_mut().zip(row) {
                *lane = add::<FUSED>(*x, weight, *lane);
            }
        }
        sums.copy_from_slice(&lanes);
    }
}

#[inline(always)]
fn strip_of_any<const FUSED: bool>(
    phases: &[f32],
    taps: &[usize],
    weights: &[f32],
    bias: f32,
    from: usize,
    sums: &mut [f32],
) {
    for (block, sums) in sums.chunks_exact_mut(LANES).enumerate() {
        let mut lanes = [bias; LANES];
        for (tap, weight) in taps.iter().zip(weights) {
            let row = &phases[tap + from + block * LANES..][..LANES];
            for (lane, x) in lanes.iter_mut().zip(row) {
                *lane = add::<FUSED>(*x, *weight, *lane);
            }
        }
        sums.copy_from_slice(&lanes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As the definition says, in f64.
    fn reference(layer: &Depthwise, x: &[f32]) -> Vec<f32> {
        let Shape { channels, input, output, kernel, before, stride } = layer.shape;
        let mut out = Vec::new();
        for c in 0..channels {
            for y in 0..output[0] {
                for column in 0..output[1] {
                    let mut sum = f64::from(layer.bias[c]);
                    for dy in 0..kernel[0] {
                        for dx in 0..kernel[1] {
                            let at = [y * stride + dy, column * stride + dx];
                            let [row, column] = [0, 1].map(|side| at[side].wrapping_sub(before[side]));
                            if row < input[0] && column < input[1] {
                                let x = x[(c * input[0] + row) * input[1] + column];
                                let weight = layer.weights[(c * kernel[0] + dy) * kernel[1] + dx];
                                sum += f64::from(x) * f64::from(weight);
                            }
                        }
                    }
                    out.push((sum as f32).max(layer.range[0]).min(layer.range[1]));
                }
            }
        }
        out
    }

    fn noise(count: usize, seed: u64) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    proptest! {
        #[test]
        fn is_the_definition(
            channels in 1usize..4, input in [1usize..40, 1usize..40], kernel in [1usize..6, 1usize..6],
            before in [0usize..3, 0usize..3], after in [0usize..3, 0usize..3], stride in 1usize..3,
            clamped: bool, seed: u64,
        ) {
            let room = [0, 1].map(|side| (input[side] + before[side] + after[side]).checked_sub(kernel[side]));
            let [Some(high), Some(wide)] = room else { return Ok(()) };
            let output = [high / stride + 1, wide / stride + 1];
            let layer = Depthwise {
                shape: Shape { channels, input, output, kernel, before, stride },
                weights: noise(channels * kernel[0] * kernel[1], seed),
                bias: noise(channels, seed ^ 1),
                range: if clamped { [-0.25, 0.5] } else { [f32::NEG_INFINITY, f32::INFINITY] },
            };
            prop_assert!(layer.fits());
            let x = noise(channels * input[0] * input[1], seed ^ 2);
            let want = reference(&layer, &x);
            let mut out = vec![f32::NAN; want.len()];
            layer.run(&x, &mut out);
            let mut plain = vec![f32::NAN; want.len()];
            planes::<false>(&layer, &x, &mut plain);
            for got in [&out, &plain] {
                for (got, want) in got.iter().zip(&want) {
                    prop_assert!((got - want).abs() <= 1e-5, "{got} is not {want}");
                }
            }
        }
    }
}

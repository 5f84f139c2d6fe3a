//! Residual sum, global average, dense heads.

use super::{
    Kernels,
    pool::{Pool, Shares, piece},
};

/// Scales and zero points of `a + b`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SumArgs {
    /// Of the two summands.
    pub scales: [f32; 2],
    /// Of the two summands.
    pub zeros: [i8; 2],
    /// Of the sum.
    pub scale: f32,
    /// Of the sum.
    pub zero: i8,
}

/// # Safety
/// The processor has the kernel's features.
pub(super) type Sum = unsafe fn(&SumArgs, &[i8], &[i8], &mut [i8]);

/// DequantizeLinear twice, Add, QuantizeLinear, in that arithmetic: it divides by the scale.
///
/// # Panics
/// When the three are not equally long.
pub(crate) fn sum(kernels: &Kernels, pool: &Pool, args: &SumArgs, a: &[i8], b: &[i8], out: &mut [i8]) {
    assert!(a.len() == b.len() && a.len() == out.len());
    let count = out.len();
    let out = Shares::new(out);
    pool.run(&|part| {
        let range = piece(count, part, pool.threads());
        // SAFETY: `Kernels::available` hands out only what the processor runs; pieces do not overlap.
        unsafe { (kernels.sum)(args, &a[range.clone()], &b[range.clone()], &mut *out.slice(range)) }
    });
}

/// QuantizeLinear of one number.
#[inline(always)]
pub(crate) fn quantize(value: f32, scale: f32, zero: i8) -> i8 {
    nearest(value / scale, zero)
}

/// `clamp(rint(value) + zero)`, ties to even.
#[inline(always)]
pub(super) fn nearest(value: f32, zero: i8) -> i8 {
    // 1.5 · 2²³: a float this large has no fraction, so that adding it rounds, and its low byte is the
    // integer. A conversion with Rust's checks costs four times as much (27 → 7 µs for 24,576 sums).
    const WHOLE: f32 = 12_582_912.0;
    let (low, high) = (-128.0 - f32::from(zero), 127.0 - f32::from(zero));
    let whole = value.max(low).min(high) + WHOLE;
    (whole.to_bits() as i8).wrapping_add(zero)
}

/// Written once, compiled for each kind of processor.
#[inline(always)]
pub(super) fn sum_body(args: &SumArgs, a: &[i8], b: &[i8], out: &mut [i8]) {
    let SumArgs { scales, zeros, scale, zero } = *args;
    let [za, zb] = zeros.map(i32::from);
    for ((&a, &b), out) in a.iter().zip(b).zip(out) {
        let a = (i32::from(a) - za) as f32 * scales[0];
        let b = (i32::from(b) - zb) as f32 * scales[1];
        *out = quantize(a + b, scale, zero);
    }
}

/// DequantizeLinear, GlobalAveragePool: the mean over the pixels, for each channel.
///
/// Sums in f32 in onnxruntime's order: four running sums over pixels 0, 4, 8…, 1, 5, 9… and so on,
/// (0 + 2) + (1 + 3), then the last up to three pixels one by one.
pub(crate) fn global_average(x: &[i8], channels: usize, scale: f32, zero: i8) -> Vec<f32> {
    let real = |x: i8| (i32::from(x) - i32::from(zero)) as f32 * scale;
    let pixels = x.len() / channels.max(1);
    let mut lanes = [(); 4].map(|()| vec![0f32; channels]);
    let mut rows = x.chunks_exact(channels.max(1));
    for (pixel, row) in rows.by_ref().take(pixels / 4 * 4).enumerate() {
        for (sum, &x) in lanes[pixel % 4].iter_mut().zip(row) {
            *sum += real(x);
        }
    }
    let [a, b, c, d] = &lanes;
    let mut sums: Vec<f32> = (0..channels).map(|i| (a[i] + c[i]) + (b[i] + d[i])).collect();
    for row in rows {
        for (sum, &x) in sums.iter_mut().zip(row) {
            *sum += real(x);
        }
    }
    sums.iter().map(|sum| sum / pixels as f32).collect()
}

/// # Safety
/// The processor has the kernel's features.
pub(super) type Dense = unsafe fn(&[i8], i8, &[i8], &mut [i32]);

/// MatMulInteger of one row: `Σ_k (x[k] − zero) · w[k][n]`, `weights` `[k][n]`.
pub(crate) fn dense_i32(kernels: &Kernels, x: &[i8], zero: i8, weights: &[i8], columns: usize) -> Vec<i32> {
    let mut sums = vec![0i32; columns];
    // SAFETY: `Kernels::available` hands out only what the processor runs.
    unsafe { (kernels.dense)(x, zero, weights, &mut sums) };
    sums
}

/// Written once, compiled for each kind of processor.
#[inline(always)]
pub(super) fn dense_body(x: &[i8], zero: i8, weights: &[i8], sums: &mut [i32]) {
    // (x − zero) · w is at most 255 · 128 and fits 16 bits
    let zero = i16::from(zero);
    for (&x, row) in x.iter().zip(weights.chunks_exact(sums.len().max(1))) {
        let x = i16::from(x) - zero;
        for (sum, &w) in sums.iter_mut().zip(row) {
            *sum = sum.wrapping_add(i32::from(x * i16::from(w)));
        }
    }
}

/// Gemm of one row in f32, one term after the other: the same on every processor. `weights` `[k][n]`.
pub(crate) fn dense_f32(x: &[f32], weights: &[f32], bias: &[f32]) -> Vec<f32> {
    let mut sums = vec![0f32; bias.len()];
    for (&x, weights) in x.iter().zip(weights.chunks_exact(bias.len().max(1))) {
        for (sum, &w) in sums.iter_mut().zip(weights) {
            *sum += x * w;
        }
    }
    sums.iter().zip(bias).map(|(sum, bias)| sum + bias).collect()
}

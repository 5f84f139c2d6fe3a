//! AVX-512 with VNNI: 64 products an instruction.

use std::arch::x86_64::*;

use super::{
    Kernels, LANES, Shape,
    depthwise::RowArgs,
    elementwise::{SumArgs, dense_body, sum_body},
    gemm::TileArgs,
};

pub(super) static KERNELS: Kernels = Kernels {
    name: "avx512-vnni",
    columns: COLUMNS,
    depth: DEPTH,
    shift: 128,
    // 32 registers: sums, one row's input and a group of weights a block.
    shapes: &[
        Shape { rows: 14, blocks: 1, tiles: &[tile::<14, 1>] },
        Shape { rows: 12, blocks: 2, tiles: &[tile::<12, 1>, tile::<12, 2>] },
        Shape { rows: 8, blocks: 3, tiles: &[tile::<8, 1>, tile::<8, 2>, tile::<8, 3>] },
        Shape { rows: 6, blocks: 4, tiles: &[tile::<6, 1>, tile::<6, 2>, tile::<6, 3>, tile::<6, 4>] },
    ],
    depthwise: row,
    sum,
    dense,
};

const COLUMNS: usize = 16;
const DEPTH: usize = 4;

/// `vpdpbusd` multiplies unsigned by signed bytes: inputs are shifted by 128, which the bias takes back.
///
/// # Safety
/// See [`super::gemm::Tile`]; `COLUMNS` × `DEPTH` weights a group.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn tile<const R: usize, const B: usize>(args: &TileArgs) {
    let flip = _mm512_set1_epi32(0x8080_8080_u32 as i32);
    let mut sums = [[_mm512_setzero_si512(); B]; R];
    // SAFETY: the contract gives R offsets a tap, each with groups × DEPTH readable bytes, B blocks of
    // weights, parameters for B × COLUMNS columns and `rows` × `columns` outputs (the mask cuts the rest).
    unsafe {
        for tap in 0..args.taps {
            let mut x = [args.x; R];
            for (r, x) in x.iter_mut().enumerate() {
                *x = args.x.add(*args.offsets.add(tap * R + r));
            }
            let mut weights = args.weights.add(tap * args.groups * COLUMNS * DEPTH);
            for group in 0..args.groups {
                let mut w = [_mm512_setzero_si512(); B];
                for (b, w) in w.iter_mut().enumerate() {
                    *w = _mm512_load_si512(weights.add(b * args.block).cast());
                }
                for (sums, x) in sums.iter_mut().zip(&x) {
                    let x = _mm512_set1_epi32(x.add(group * DEPTH).cast::<i32>().read_unaligned());
                    let x = _mm512_xor_si512(x, flip);
                    for (sum, w) in sums.iter_mut().zip(&w) {
                        *sum = _mm512_dpbusd_epi32(*sum, x, *w);
                    }
                }
                weights = weights.add(COLUMNS * DEPTH);
            }
        }
        for b in 0..B {
            let bias = _mm512_loadu_si512(args.bias.add(b * COLUMNS).cast());
            let scale = _mm512_loadu_ps(args.scale.add(b * COLUMNS));
            let mask = mask(args.columns - b * COLUMNS);
            for (r, sums) in sums.iter().enumerate().take(args.rows) {
                let bytes = requant(sums[b], bias, scale, args.zero);
                _mm_mask_storeu_epi8(args.out.add(r * args.stride + b * COLUMNS), mask, bytes);
            }
        }
    }
}

/// The first `columns` of 16.
fn mask(columns: usize) -> u16 {
    if columns >= 16 { u16::MAX } else { (1 << columns) - 1 }
}

/// See [`super::scalar::requant`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn requant(sum: __m512i, bias: __m512i, scale: __m512, zero: i8) -> __m128i {
    let low = _mm512_set1_ps(-128.0 - f32::from(zero));
    let high = _mm512_set1_ps(127.0 - f32::from(zero));
    let value = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(sum, bias)), scale);
    // the conversion rounds to the nearest, ties to even: Rust never changes the rounding mode
    let whole = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(value, low), high));
    _mm512_cvtepi32_epi8(_mm512_add_epi32(whole, _mm512_set1_epi32(i32::from(zero))))
}

/// # Safety
/// See [`super::depthwise::Row`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn row(args: &RowArgs) {
    // SAFETY: the same contract.
    unsafe {
        match args.taps {
            9 => row_of_9(args),
            25 => row_of::<25>(args),
            1 => row_of::<1>(args),
            _ => super::scalar::row_from(args, 0),
        }
    }
}

/// Bytes of four taps side by side for each of 32 channels: 0–3 and 16–19, 4–7 and 20–23, and so on.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn interleave([a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
    let low = (_mm256_unpacklo_epi8(a, b), _mm256_unpacklo_epi8(c, d));
    let high = (_mm256_unpackhi_epi8(a, b), _mm256_unpackhi_epi8(c, d));
    [
        _mm256_unpacklo_epi16(low.0, low.1),
        _mm256_unpackhi_epi16(low.0, low.1),
        _mm256_unpacklo_epi16(high.0, high.1),
        _mm256_unpackhi_epi16(high.0, high.1),
    ]
}

/// 3 × 3: taps in fours, so that `vpdpbusd` sums along them; 32 channels at a time.
///
/// # Safety
/// See [`super::depthwise::Row`]; there are 9 taps.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn row_of_9(args: &RowArgs) {
    const WIDE: usize = 32;
    let padded = args.channels.next_multiple_of(LANES);
    let flip = _mm256_set1_epi8(i8::MIN);
    let none = _mm256_setzero_si256();
    let high = _mm256_set1_ps(127.0 - f32::from(args.zero));
    let zero = _mm256_set1_epi16(args.zero.into());
    for channel in (0..args.channels).step_by(WIDE) {
        // SAFETY: weights and parameters are padded to LANES, a multiple of WIDE; an offset is followed by
        // `channels` + SLACK bytes, so WIDE from any channel are readable; the mask cuts the store.
        unsafe {
            let tap = |tap: usize| _mm256_loadu_si256(args.weights.add(tap * padded + channel).cast());
            let weights = [
                interleave([tap(0), tap(1), tap(2), tap(3)]),
                interleave([tap(4), tap(5), tap(6), tap(7)]),
                interleave([tap(8), none, none, none]),
            ];
            let (mut bias, mut scale) = ([none; 4], [_mm256_setzero_ps(); 4]);
            for part in 0..4 {
                let at = channel + 4 * part;
                let halves = [at, at + 16].map(|at| _mm_loadu_si128(args.bias.add(at).cast()));
                bias[part] = _mm256_set_m128i(halves[1], halves[0]);
                let halves = [at, at + 16].map(|at| _mm_loadu_ps(args.scale.add(at)));
                scale[part] = _mm256_set_m128(halves[1], halves[0]);
                // inputs are shifted by 128: the bias takes it back
                let shift = weights.iter().fold(none, |sum, w| _mm256_dpbusd_epi32(sum, flip, w[part]));
                bias[part] = _mm256_sub_epi32(bias[part], shift);
            }
            let left = args.channels - channel;
            let mask = if left >= WIDE { u32::MAX } else { (1 << left) - 1 };
            for pixel in 0..args.pixels {
                let offsets = args.offsets.add(pixel * 9);
                let tap = |tap: usize| {
                    let x = args.x.add(*offsets.add(tap) + channel);
                    _mm256_xor_si256(_mm256_loadu_si256(x.cast()), flip)
                };
                // the last one's neighbours meet weights of zero
                let last = tap(8);
                let inputs = [
                    interleave([tap(0), tap(1), tap(2), tap(3)]),
                    interleave([tap(4), tap(5), tap(6), tap(7)]),
                    interleave([last; 4]),
                ];
                let whole = |part: usize| {
                    let mut sum = bias[part];
                    for (x, w) in inputs.iter().zip(&weights) {
                        sum = _mm256_dpbusd_epi32(sum, x[part], w[part]);
                    }
                    let value = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), scale[part]);
                    // too large would convert to the smallest number; too small does so rightly
                    _mm256_cvtps_epi32(_mm256_min_ps(value, high))
                };
                // packing undoes the order of `interleave`
                let low = _mm256_adds_epi16(_mm256_packs_epi32(whole(0), whole(1)), zero);
                let high = _mm256_adds_epi16(_mm256_packs_epi32(whole(2), whole(3)), zero);
                let out = args.out.add(pixel * args.channels + channel);
                _mm256_mask_storeu_epi8(out, mask, _mm256_packs_epi16(low, high));
            }
        }
    }
}

/// 32 channels at a time, in 16 bits: the sum of two products fits, as weights are −127 to 127.
///
/// # Safety
/// See [`super::depthwise::Row`]; there are `T` taps.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn row_of<const T: usize>(args: &RowArgs) {
    const WIDE: usize = 32;
    let padded = args.channels.next_multiple_of(LANES);
    for channel in (0..args.channels).step_by(WIDE) {
        // SAFETY: weights and parameters are padded to LANES, a multiple of WIDE; an offset is followed by
        // `channels` + SLACK bytes, so WIDE from any channel are readable; the mask cuts the store.
        unsafe {
            let mut weights = [_mm512_setzero_si512(); T];
            for (tap, w) in weights.iter_mut().enumerate() {
                let bytes = _mm256_loadu_si256(args.weights.add(tap * padded + channel).cast());
                *w = _mm512_cvtepi8_epi16(bytes);
            }
            let parameters = |at: usize| {
                let bias = _mm512_loadu_si512(args.bias.add(channel + at).cast());
                (bias, _mm512_loadu_ps(args.scale.add(channel + at)))
            };
            let (low, high) = (parameters(0), parameters(16));
            let left = args.channels - channel;
            let masks = (mask(left), mask(left.saturating_sub(16)));
            for pixel in 0..args.pixels {
                let offsets = args.offsets.add(pixel * T);
                let product = |tap: usize| {
                    let x = args.x.add(*offsets.add(tap) + channel);
                    let x = _mm512_cvtepi8_epi16(_mm256_loadu_si256(x.cast()));
                    _mm512_mullo_epi16(x, weights[tap])
                };
                let (mut a, mut b) = (_mm512_setzero_si512(), _mm512_setzero_si512());
                for tap in (0..T).step_by(2) {
                    let mut both = product(tap);
                    if tap + 1 < T {
                        both = _mm512_add_epi16(both, product(tap + 1));
                    }
                    a = _mm512_add_epi32(a, _mm512_cvtepi16_epi32(_mm512_castsi512_si256(both)));
                    b = _mm512_add_epi32(b, _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64::<1>(both)));
                }
                let out = args.out.add(pixel * args.channels + channel);
                _mm_mask_storeu_epi8(out, masks.0, requant(a, low.0, low.1, args.zero));
                if masks.1 != 0 {
                    _mm_mask_storeu_epi8(out.add(16), masks.1, requant(b, high.0, high.1, args.zero));
                }
            }
        }
    }
}

/// # Safety
/// The processor has AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn sum(args: &SumArgs, a: &[i8], b: &[i8], out: &mut [i8]) {
    sum_body(args, a, b, out);
}

/// # Safety
/// The processor has AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn dense(x: &[i8], zero: i8, weights: &[i8], sums: &mut [i32]) {
    dense_body(x, zero, weights, sums);
}

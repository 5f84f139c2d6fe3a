//! AVX2, with and without 256-bit VNNI.

use std::arch::x86_64::*;

use super::{
    Kernels, LANES, Shape,
    depthwise::RowArgs,
    elementwise::{SumArgs, dense_body, sum_body},
    gemm::TileArgs,
};

/// Two registers of eight sums.
const COLUMNS: usize = 16;

pub(super) static AVX2: Kernels = Kernels {
    name: "avx2",
    columns: COLUMNS,
    depth: 2,
    shift: 0,
    shapes: &[Shape { rows: 4, blocks: 1, tiles: &[tile_avx2::<4>] }],
    depthwise: row,
    sum,
    dense,
};

pub(super) static AVX_VNNI: Kernels = Kernels {
    name: "avx-vnni",
    columns: COLUMNS,
    depth: 4,
    shift: 128,
    shapes: &[Shape { rows: 5, blocks: 1, tiles: &[tile_avx_vnni::<5>] }],
    depthwise: row,
    sum,
    dense,
};

/// The same on 256-bit registers of a processor with AVX-512.
pub(super) static AVX512_VNNI_256: Kernels = Kernels {
    name: "avx512-vnni-256",
    columns: COLUMNS,
    depth: 4,
    shift: 128,
    shapes: &[Shape { rows: 5, blocks: 1, tiles: &[tile_avx512_vnni::<5>] }],
    depthwise: row,
    sum,
    dense,
};

/// Sums in 32 bits of products of 16-bit numbers: `vpmaddubsw` would saturate, this cannot.
///
/// # Safety
/// See [`super::gemm::Tile`]; `COLUMNS` × 2 weights a group, one block.
#[target_feature(enable = "avx2")]
unsafe fn tile_avx2<const R: usize>(args: &TileArgs) {
    let mut sums = [[_mm256_setzero_si256(); 2]; R];
    // SAFETY: the contract gives R offsets a tap, each with groups × 2 readable bytes, and a block.
    unsafe {
        for tap in 0..args.taps {
            let mut x = [args.x; R];
            for (r, x) in x.iter_mut().enumerate() {
                *x = args.x.add(*args.offsets.add(tap * R + r));
            }
            let mut weights = args.weights.add(tap * args.groups * COLUMNS * 2);
            for group in 0..args.groups {
                let w = [0, 16].map(|at| _mm256_cvtepi8_epi16(_mm_loadu_si128(weights.add(at).cast())));
                for (sums, x) in sums.iter_mut().zip(&x) {
                    let pair = _mm_set1_epi16(x.add(group * 2).cast::<i16>().read_unaligned());
                    let pair = _mm256_cvtepi8_epi16(pair);
                    for (sum, &w) in sums.iter_mut().zip(&w) {
                        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pair, w));
                    }
                }
                weights = weights.add(COLUMNS * 2);
            }
        }
        store(args, &sums);
    }
}

/// The tile with 256-bit `vpdpbusd`, which has two encodings and so two intrinsics.
macro_rules! vnni_tile {
    ($name:ident, $features:literal, $dot:ident) => {
        /// As in `avx512`: inputs shifted by 128, which the bias takes back.
        ///
        /// # Safety
        /// See [`super::gemm::Tile`]; `COLUMNS` × 4 weights a group, one block.
        #[target_feature(enable = $features)]
        unsafe fn $name<const R: usize>(args: &TileArgs) {
            let flip = _mm256_set1_epi32(0x8080_8080_u32 as i32);
            let mut sums = [[_mm256_setzero_si256(); 2]; R];
            // SAFETY: the contract gives R offsets a tap, each with groups × 4 readable bytes, and a block.
            unsafe {
                for tap in 0..args.taps {
                    let mut x = [args.x; R];
                    for (r, x) in x.iter_mut().enumerate() {
                        *x = args.x.add(*args.offsets.add(tap * R + r));
                    }
                    let mut weights = args.weights.add(tap * args.groups * COLUMNS * 4);
                    for group in 0..args.groups {
                        let w = [0, 32].map(|at| _mm256_loadu_si256(weights.add(at).cast()));
                        for (sums, x) in sums.iter_mut().zip(&x) {
                            let x = _mm256_set1_epi32(x.add(group * 4).cast::<i32>().read_unaligned());
                            let x = _mm256_xor_si256(x, flip);
                            for (sum, &w) in sums.iter_mut().zip(&w) {
                                *sum = $dot(*sum, x, w);
                            }
                        }
                        weights = weights.add(COLUMNS * 4);
                    }
                }
                store(args, &sums);
            }
        }
    };
}
vnni_tile!(tile_avx_vnni, "avx2,avxvnni", _mm256_dpbusd_avx_epi32);
vnni_tile!(tile_avx512_vnni, "avx2,avx512vl,avx512vnni", _mm256_dpbusd_epi32);

/// # Safety
/// `args` as the tile got them.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn store<const R: usize>(args: &TileArgs, sums: &[[__m256i; 2]; R]) {
    // SAFETY: parameters for COLUMNS columns, room for `rows` × `columns` outputs.
    unsafe {
        let bias = [0, 8].map(|at| _mm256_loadu_si256(args.bias.add(at).cast()));
        let scale = [0, 8].map(|at| _mm256_loadu_ps(args.scale.add(at)));
        for (r, sums) in sums.iter().enumerate().take(args.rows) {
            let bytes = requant(*sums, bias, scale, args.zero);
            put(args.out.add(r * args.stride), bytes, args.columns);
        }
    }
}

/// The first `count` of 16 bytes.
///
/// # Safety
/// As many are writable at `out`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn put(out: *mut i8, bytes: __m128i, count: usize) {
    // SAFETY: `count` bytes are writable.
    unsafe {
        if count >= 16 {
            _mm_storeu_si128(out.cast(), bytes);
        } else {
            let mut all = [0i8; 16];
            _mm_storeu_si128(all.as_mut_ptr().cast(), bytes);
            std::ptr::copy_nonoverlapping(all.as_ptr(), out, count);
        }
    }
}

/// See [`super::scalar::requant`].
#[inline]
#[target_feature(enable = "avx2")]
fn requant(sums: [__m256i; 2], bias: [__m256i; 2], scale: [__m256; 2], zero: i8) -> __m128i {
    let low = _mm256_set1_ps(-128.0 - f32::from(zero));
    let high = _mm256_set1_ps(127.0 - f32::from(zero));
    let whole = |half: usize| {
        let value = _mm256_cvtepi32_ps(_mm256_add_epi32(sums[half], bias[half]));
        let value = _mm256_mul_ps(value, scale[half]);
        // the conversion rounds to the nearest, ties to even: Rust never changes the rounding mode
        let whole = _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(value, low), high));
        _mm256_add_epi32(whole, _mm256_set1_epi32(i32::from(zero)))
    };
    // packs within halves of registers: put the quarters back in order
    let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(whole(0), whole(1)));
    _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words))
}

/// 16 channels at a time, in 16 bits: the sum of two products fits, as weights are −127 to 127.
///
/// # Safety
/// See [`super::depthwise::Row`].
#[target_feature(enable = "avx2")]
unsafe fn row(args: &RowArgs) {
    // SAFETY: the same contract.
    unsafe {
        match args.taps {
            9 => row_of::<9>(args),
            25 => row_of::<25>(args),
            1 => row_of::<1>(args),
            _ => super::scalar::row_from(args, 0),
        }
    }
}

/// # Safety
/// See [`super::depthwise::Row`]; there are `T` taps.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn row_of<const T: usize>(args: &RowArgs) {
    const WIDE: usize = 16;
    let padded = args.channels.next_multiple_of(LANES);
    for channel in (0..args.channels).step_by(WIDE) {
        // SAFETY: weights and parameters are padded to LANES, a multiple of WIDE; an offset is followed by
        // `channels` + SLACK bytes, so WIDE from any channel are readable; `put` cuts the store.
        unsafe {
            let widen = |at: *const i8| _mm256_cvtepi8_epi16(_mm_loadu_si128(at.cast()));
            let mut weights = [_mm256_setzero_si256(); T];
            for (tap, w) in weights.iter_mut().enumerate() {
                *w = widen(args.weights.add(tap * padded + channel));
            }
            let bias = [0, 8].map(|at| _mm256_loadu_si256(args.bias.add(channel + at).cast()));
            let scale = [0, 8].map(|at| _mm256_loadu_ps(args.scale.add(channel + at)));
            for pixel in 0..args.pixels {
                let offsets = args.offsets.add(pixel * T);
                let product = |tap: usize| {
                    _mm256_mullo_epi16(widen(args.x.add(*offsets.add(tap) + channel)), weights[tap])
                };
                let mut sums = [_mm256_setzero_si256(); 2];
                for tap in (0..T).step_by(2) {
                    let mut both = product(tap);
                    if tap + 1 < T {
                        both = _mm256_add_epi16(both, product(tap + 1));
                    }
                    let low = _mm256_cvtepi16_epi32(_mm256_castsi256_si128(both));
                    let high = _mm256_cvtepi16_epi32(_mm256_extracti128_si256::<1>(both));
                    sums = [_mm256_add_epi32(sums[0], low), _mm256_add_epi32(sums[1], high)];
                }
                let out = args.out.add(pixel * args.channels + channel);
                put(out, requant(sums, bias, scale, args.zero), args.channels - channel);
            }
        }
    }
}

/// # Safety
/// The processor has AVX2.
#[target_feature(enable = "avx2")]
unsafe fn sum(args: &SumArgs, a: &[i8], b: &[i8], out: &mut [i8]) {
    sum_body(args, a, b, out);
}

/// # Safety
/// The processor has AVX2.
#[target_feature(enable = "avx2")]
unsafe fn dense(x: &[i8], zero: i8, weights: &[i8], sums: &mut [i32]) {
    dense_body(x, zero, weights, sums);
}

//! NEON: every 64-bit ARM, with the dot products of newer ones where there are some.

use std::arch::{aarch64::*, asm};

use super::{
    Kernels, LANES, Shape,
    depthwise::RowArgs,
    elementwise::{SumArgs, dense_body, sum_body},
    gemm::TileArgs,
};

const COLUMNS: usize = 4;

pub(super) static NEON: Kernels = Kernels {
    name: "neon",
    columns: COLUMNS,
    depth: 16,
    shift: 0,
    shapes: &[Shape { rows: 4, blocks: 16, tiles: &[tile] }],
    depthwise: row,
    sum,
    dense,
};

pub(super) static DOTPROD: Kernels = Kernels {
    name: "neon-dotprod",
    columns: COLUMNS,
    depth: 4,
    shift: 0,
    shapes: &[Shape { rows: 8, blocks: 2, tiles: &[tile_dot::<1>, tile_dot::<2>] }],
    depthwise: row,
    sum,
    dense,
};

pub(super) static I8MM: Kernels = Kernels {
    name: "neon-i8mm",
    columns: 8,
    depth: 8,
    shift: 0,
    shapes: &[Shape { rows: 8, blocks: 1, tiles: &[tile_i8mm] }],
    depthwise: row,
    sum,
    dense,
};

/// 4 × 4 sums a block, 16 of depth a step: the products of two inputs with weights of −127 to 127 fit 16
/// bits, so a step is one multiply, one multiply-accumulate and one pairwise accumulate for 16 products.
///
/// # Safety
/// See [`super::gemm::Tile`]; `COLUMNS` × 16 weights a group, any number of blocks.
#[target_feature(enable = "neon")]
unsafe fn tile(args: &TileArgs) {
    for block in 0..args.blocks {
        let mut sums = [[vdupq_n_s32(0); COLUMNS]; 4];
        // SAFETY: the contract gives 4 offsets a tap, each with groups × 16 readable bytes, blocks of
        // weights `block` bytes apart, parameters for them and room for `rows` × `columns` outputs.
        unsafe {
            let mut weights = args.weights.add(block * args.block);
            for tap in 0..args.taps {
                let mut x = [args.x; 4];
                for (r, x) in x.iter_mut().enumerate() {
                    *x = args.x.add(*args.offsets.add(tap * 4 + r));
                }
                for _ in 0..args.groups {
                    let w = vld1q_s8_x4(weights);
                    let w = [w.0, w.1, w.2, w.3];
                    for (sums, x) in sums.iter_mut().zip(&mut x) {
                        let input = vld1q_s8(*x);
                        *x = x.add(16);
                        for (sum, &w) in sums.iter_mut().zip(&w) {
                            let pairs = vmull_s8(vget_low_s8(input), vget_low_s8(w));
                            *sum = vpadalq_s16(*sum, vmlal_high_s8(pairs, input, w));
                        }
                    }
                    weights = weights.add(COLUMNS * 16);
                }
            }
            let across = |s: [int32x4_t; COLUMNS]| vpaddq_s32(vpaddq_s32(s[0], s[1]), vpaddq_s32(s[2], s[3]));
            store(args, block * COLUMNS, 0, sums.map(across));
        }
    }
}

/// 8 × 4 B sums, 4 of depth a step.
///
/// # Safety
/// See [`super::gemm::Tile`]; `COLUMNS` × 4 weights a group, `B` blocks; the processor has `dotprod`.
#[target_feature(enable = "neon,dotprod")]
unsafe fn tile_dot<const B: usize>(args: &TileArgs) {
    let mut sums = [[vdupq_n_s32(0); 8]; B];
    // SAFETY: the contract gives 8 offsets a tap, each with groups × 4 readable bytes, and B blocks.
    unsafe {
        for tap in 0..args.taps {
            let mut x = [args.x; 8];
            for (r, x) in x.iter_mut().enumerate() {
                *x = args.x.add(*args.offsets.add(tap * 8 + r));
            }
            let mut weights = args.weights.add(tap * args.groups * COLUMNS * 4);
            for group in 0..args.groups {
                let mut w = [vdupq_n_s8(0); B];
                for (b, w) in w.iter_mut().enumerate() {
                    *w = vld1q_s8(weights.add(b * args.block));
                }
                for (r, x) in x.iter().enumerate() {
                    let input = x.add(group * 4).cast::<i32>().read_unaligned();
                    let input = vreinterpretq_s8_s32(vdupq_n_s32(input));
                    for (sums, &w) in sums.iter_mut().zip(&w) {
                        sums[r] = dot(sums[r], w, input);
                    }
                }
                weights = weights.add(COLUMNS * 4);
            }
        }
        for (b, sums) in sums.into_iter().enumerate() {
            store(args, b * COLUMNS, 0, [sums[0], sums[1], sums[2], sums[3]]);
            store(args, b * COLUMNS, 4, [sums[4], sums[5], sums[6], sums[7]]);
        }
    }
}

/// `sdot`: four sums of four products each. Rust's intrinsic for it is not stable.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot(mut sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: arithmetic on registers alone; the processor has `dotprod`, as this function's callers do.
    unsafe {
        asm!("sdot {0:v}.4s, {1:v}.16b, {2:v}.16b", inout(vreg) sum, in(vreg) a, in(vreg) b,
             options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

/// 8 × 8 sums, 8 of depth a step: an instruction multiplies two rows of 8 by two columns of 8.
///
/// # Safety
/// See [`super::gemm::Tile`]; 8 × 8 weights a group, one block; the processor has `i8mm`.
#[target_feature(enable = "neon,i8mm")]
unsafe fn tile_i8mm(args: &TileArgs) {
    // `sums[i][j]`: rows 2 i and 2 i + 1 of columns 2 j and 2 j + 1
    let mut sums = [[vdupq_n_s32(0); 4]; 4];
    // SAFETY: the contract gives 8 offsets a tap, each with groups × 8 readable bytes, one block of
    // weights, parameters for it and room for `rows` × `columns` outputs.
    unsafe {
        for tap in 0..args.taps {
            let mut x = [args.x; 8];
            for (r, x) in x.iter_mut().enumerate() {
                *x = args.x.add(*args.offsets.add(tap * 8 + r));
            }
            let mut weights = args.weights.add(tap * args.groups * 64);
            for group in 0..args.groups {
                let w = vld1q_s8_x4(weights);
                let w = [w.0, w.1, w.2, w.3];
                for (sums, x) in sums.iter_mut().zip(x.as_chunks::<2>().0) {
                    let [a, b] = x.map(|x| vld1_s8(x.add(group * 8)));
                    let input = vcombine_s8(a, b);
                    for (sum, &w) in sums.iter_mut().zip(&w) {
                        *sum = multiply_matrices(*sum, input, w);
                    }
                }
                weights = weights.add(64);
            }
        }
        for column in [0, 4] {
            let row = |r: usize| {
                let [a, b] = [0, 1].map(|j| vreinterpretq_s64_s32(sums[r / 2][column / 2 + j]));
                vreinterpretq_s32_s64(if r % 2 == 0 { vzip1q_s64(a, b) } else { vzip2q_s64(a, b) })
            };
            store(args, column, 0, [row(0), row(1), row(2), row(3)]);
            store(args, column, 4, [row(4), row(5), row(6), row(7)]);
        }
    }
}

/// `smmla`: 2 × 8 by 8 × 2. Rust's intrinsic for it is not stable.
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn multiply_matrices(mut sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: arithmetic on registers alone; the processor has `i8mm`, as this function's callers do.
    unsafe {
        asm!("smmla {0:v}.4s, {1:v}.16b, {2:v}.16b", inout(vreg) sum, in(vreg) a, in(vreg) b,
             options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

/// Four rows of four sums, the first at `row` and `column` of the tile.
///
/// # Safety
/// Parameters for `COLUMNS` columns, room for the tile's `rows` × `columns` outputs.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn store(args: &TileArgs, column: usize, row: usize, sums: [int32x4_t; 4]) {
    // SAFETY: the contract; rows and columns beyond the tile's are not written.
    unsafe {
        let bias = vld1q_s32(args.bias.add(column));
        let scale = vld1q_f32(args.scale.add(column));
        let bytes = requant(sums, [bias; 4], [scale; 4], args.zero);
        if args.rows >= row + 4 && args.columns >= column + COLUMNS {
            let out = args.out.add(row * args.stride + column);
            let words = vreinterpretq_s32_s8(bytes);
            vst1q_lane_s32::<0>(out.cast(), words);
            vst1q_lane_s32::<1>(out.add(args.stride).cast(), words);
            vst1q_lane_s32::<2>(out.add(2 * args.stride).cast(), words);
            vst1q_lane_s32::<3>(out.add(3 * args.stride).cast(), words);
        } else {
            let mut all = [0i8; 16];
            vst1q_s8(all.as_mut_ptr(), bytes);
            for r in row..args.rows.min(row + 4) {
                for c in column..args.columns.min(column + COLUMNS) {
                    *args.out.add(r * args.stride + c) = all[(r - row) * COLUMNS + c - column];
                }
            }
        }
    }
}

/// See [`super::scalar::requant`]: every step saturates, so that what is clamped there comes out the
/// same.
#[inline]
#[target_feature(enable = "neon")]
fn requant(sums: [int32x4_t; 4], bias: [int32x4_t; 4], scale: [float32x4_t; 4], zero: i8) -> int8x16_t {
    let whole = |i: usize| {
        let value = vmulq_f32(vcvtq_f32_s32(vaddq_s32(sums[i], bias[i])), scale[i]);
        vcvtnq_s32_f32(value)
    };
    let zero = vdupq_n_s16(zero.into());
    let low = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(whole(0)), whole(1)), zero);
    let high = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(whole(2)), whole(3)), zero);
    vqmovn_high_s16(vqmovn_s16(low), high)
}

/// 16 channels at a time, in 16 bits: the sum of two products fits, as weights are −127 to 127.
///
/// # Safety
/// See [`super::depthwise::Row`].
#[target_feature(enable = "neon")]
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
#[target_feature(enable = "neon")]
unsafe fn row_of<const T: usize>(args: &RowArgs) {
    const WIDE: usize = 16;
    let padded = args.channels.next_multiple_of(LANES);
    for channel in (0..args.channels).step_by(WIDE) {
        // SAFETY: weights and parameters are padded to LANES, a multiple of WIDE; an offset is followed by
        // `channels` + SLACK bytes, so WIDE from any channel are readable; the store is cut.
        unsafe {
            let mut weights = [vdupq_n_s8(0); T];
            for (tap, w) in weights.iter_mut().enumerate() {
                *w = vld1q_s8(args.weights.add(tap * padded + channel));
            }
            let x = args.x.add(channel);
            let left = args.channels - channel;
            for pixel in 0..args.pixels {
                let offsets = args.offsets.add(pixel * T);
                let mut sums = [0, 4, 8, 12].map(|at| vld1q_s32(args.bias.add(channel + at)));
                for tap in (0..T).step_by(2) {
                    let (w, input) = (weights[tap], vld1q_s8(x.add(*offsets.add(tap))));
                    let mut low = vmull_s8(vget_low_s8(input), vget_low_s8(w));
                    let mut high = vmull_high_s8(input, w);
                    if tap + 1 < T {
                        let (w, input) = (weights[tap + 1], vld1q_s8(x.add(*offsets.add(tap + 1))));
                        low = vmlal_s8(low, vget_low_s8(input), vget_low_s8(w));
                        high = vmlal_high_s8(high, input, w);
                    }
                    sums = [
                        vaddw_s16(sums[0], vget_low_s16(low)),
                        vaddw_high_s16(sums[1], low),
                        vaddw_s16(sums[2], vget_low_s16(high)),
                        vaddw_high_s16(sums[3], high),
                    ];
                }
                let scale = [0, 4, 8, 12].map(|at| vld1q_f32(args.scale.add(channel + at)));
                let bytes = requant(sums, [vdupq_n_s32(0); 4], scale, args.zero);
                let out = args.out.add(pixel * args.channels + channel);
                if left >= WIDE {
                    vst1q_s8(out, bytes);
                } else {
                    let mut all = [0i8; WIDE];
                    vst1q_s8(all.as_mut_ptr(), bytes);
                    std::ptr::copy_nonoverlapping(all.as_ptr(), out, left);
                }
            }
        }
    }
}

/// # Safety
/// None needed: every 64-bit ARM has NEON.
unsafe fn sum(args: &SumArgs, a: &[i8], b: &[i8], out: &mut [i8]) {
    sum_body(args, a, b, out);
}

/// # Safety
/// None needed: every 64-bit ARM has NEON.
unsafe fn dense(x: &[i8], zero: i8, weights: &[i8], sums: &mut [i32]) {
    dense_body(x, zero, weights, sums);
}

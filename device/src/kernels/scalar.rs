//! The reference of every kernel, in plain Rust; runs anywhere.

use super::{
    Kernels, Shape,
    depthwise::RowArgs,
    elementwise::{SumArgs, dense_body, nearest, sum_body},
    gemm::TileArgs,
};

pub(super) static KERNELS: Kernels = Kernels {
    name: "scalar",
    columns: COLUMNS,
    depth: 1,
    shift: 0,
    shapes: &[Shape { rows: 1, blocks: 1, tiles: &[tile] }],
    depthwise: row,
    sum,
    dense,
};

/// Wide enough for the compiler to use what vectors there are.
const COLUMNS: usize = 16;

/// The arithmetic of all kernels: scale in f32, to the nearest integer, ties to even, clamp.
#[inline(always)]
pub(super) fn requant(sum: i32, bias: i32, scale: f32, zero: i8) -> i8 {
    nearest(sum.wrapping_add(bias) as f32 * scale, zero)
}

/// # Safety
/// See [`super::gemm::Tile`].
unsafe fn tile(args: &TileArgs) {
    let mut sums = [0i32; COLUMNS];
    // SAFETY: the contract gives one offset a tap, `groups` bytes from each, and a block of weights of
    // taps × groups × COLUMNS bytes.
    unsafe {
        for tap in 0..args.taps {
            let x = args.x.add(*args.offsets.add(tap));
            let weights = args.weights.add(tap * args.groups * COLUMNS);
            for d in 0..args.groups {
                let x = i32::from(*x.add(d));
                let weights = &*weights.add(d * COLUMNS).cast::<[i8; COLUMNS]>();
                for (sum, &w) in sums.iter_mut().zip(weights) {
                    *sum = sum.wrapping_add(x * i32::from(w));
                }
            }
        }
        for (column, &sum) in sums.iter().enumerate().take(args.columns) {
            *args.out.add(column) = requant(sum, *args.bias.add(column), *args.scale.add(column), args.zero);
        }
    }
}

/// # Safety
/// See [`super::depthwise::Row`].
unsafe fn row(args: &RowArgs) {
    // SAFETY: the contract.
    unsafe { row_from(args, 0) }
}

/// The channels from `first` on.
///
/// # Safety
/// See [`super::depthwise::Row`].
pub(super) unsafe fn row_from(args: &RowArgs, first: usize) {
    let padded = args.channels.next_multiple_of(super::LANES);
    for pixel in 0..args.pixels {
        for channel in first..args.channels {
            // SAFETY: the contract gives `taps` offsets a pixel, `channels` bytes from each, padded
            // parameters and room for `pixels` × `channels` outputs.
            unsafe {
                let offsets = args.offsets.add(pixel * args.taps);
                let sum = (0..args.taps).fold(0i32, |sum, tap| {
                    let x = *args.x.add(*offsets.add(tap) + channel);
                    let w = *args.weights.add(tap * padded + channel);
                    sum.wrapping_add(i32::from(x) * i32::from(w))
                });
                *args.out.add(pixel * args.channels + channel) =
                    requant(sum, *args.bias.add(channel), *args.scale.add(channel), args.zero);
            }
        }
    }
}

/// # Safety
/// None needed; the type is that of the other processors' kernels.
unsafe fn sum(args: &SumArgs, a: &[i8], b: &[i8], out: &mut [i8]) {
    sum_body(args, a, b, out);
}

/// # Safety
/// None needed; the type is that of the other processors' kernels.
unsafe fn dense(x: &[i8], zero: i8, weights: &[i8], sums: &mut [i32]) {
    dense_body(x, zero, weights, sums);
}

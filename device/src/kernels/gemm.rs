//! Matrix product and dense convolution, cut into tiles.
//!
//! A convolution is a matrix product whose rows are gathered through the offsets of a [`Window`]:
//! nothing is unfolded.

use super::{
    Kernels, Requant, Shape,
    buffer::{Buffer, SLACK},
    pool::{Pool, Shares, piece},
    window::Window,
};

/// Weights of a product in the order the kernels read them:
/// `[block of columns][tap][group of depth][column][depth in group]`, zeros where a block or a group
/// is not full.
#[derive(Clone, Debug)]
pub(crate) struct Weights {
    data: Buffer,
    /// Output channels.
    pub columns: usize,
    /// Taps of the window.
    pub taps: usize,
    /// Input channels.
    pub depth: usize,
    /// Bytes of a block of columns.
    block: usize,
    requant: Requant,
}

impl Weights {
    /// Packs `weights`, `[column][tap][depth]`, for `kernels`. Whole groups are copied at once: a board
    /// waits for this each time it starts.
    ///
    /// # Panics
    /// When the weights are not so many.
    pub fn pack(
        kernels: &Kernels,
        [columns, taps, depth]: [usize; 3],
        weights: &[i8],
        mut requant: Requant,
    ) -> Self {
        assert_eq!(weights.len(), columns * taps * depth);
        let groups = depth.div_ceil(kernels.depth);
        let group = kernels.columns * kernels.depth;
        let block = taps * groups * group;
        let mut data = Buffer::new(columns.div_ceil(kernels.columns) * block);
        for (column, weights) in weights.chunks_exact((taps * depth).max(1)).enumerate() {
            let start = column / kernels.columns * block + column % kernels.columns * kernels.depth;
            for (tap, weights) in weights.chunks_exact(depth.max(1)).enumerate() {
                for (at, weights) in weights.chunks(kernels.depth).enumerate() {
                    let at = start + (tap * groups + at) * group;
                    data[at..at + weights.len()].copy_from_slice(weights);
                }
            }
            if kernels.shift != 0 {
                let total: i32 = weights.iter().map(|&weight| i32::from(weight)).sum();
                requant.bias[column] = requant.bias[column].wrapping_sub(kernels.shift.wrapping_mul(total));
            }
        }
        Self { data, columns, taps, depth, block, requant }
    }

    /// Bytes they take.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }
}

/// What a tile computes: `rows` × `columns` outputs.
#[derive(Debug)]
pub(super) struct TileArgs {
    /// The input.
    pub x: *const i8,
    /// `[taps][tile rows]` offsets into it.
    pub offsets: *const usize,
    pub taps: usize,
    /// Groups of depth of a tap.
    pub groups: usize,
    /// Blocks of columns; tiles of one size know theirs.
    #[allow(dead_code)]
    pub blocks: usize,
    /// The first of them.
    pub weights: *const i8,
    /// Bytes from a block to the next.
    pub block: usize,
    pub bias: *const i32,
    pub scale: *const f32,
    pub zero: i8,
    /// First output.
    pub out: *mut i8,
    /// Bytes from an output row to the next.
    pub stride: usize,
    /// Rows that are stored.
    pub rows: usize,
    /// Columns that are stored.
    pub columns: usize,
}

/// # Safety
/// The processor has the kernel's features; for each of `taps` × the tile's rows, `offsets` points to
/// `groups` × depth bytes (rounded up to whole groups) readable from `x`; `weights` holds `blocks`
/// blocks, as many as the tile takes; `bias` and `scale` as many numbers as these have columns; `out` is writable at `rows` rows
/// of `columns` bytes, `stride` apart.
pub(super) type Tile = unsafe fn(&TileArgs);

/// `out[pixel][column] = requant(Σ_tap Σ_depth x[offset(pixel, tap) + depth] · w)`.
///
/// `x` is a whole buffer as `window` describes it, `out` begins with the first output pixel.
///
/// # Panics
/// When the parts do not fit each other: the plan that calls made them together.
pub(crate) fn convolve(
    kernels: &Kernels,
    pool: &Pool,
    window: &Window,
    weights: &Weights,
    x: &[i8],
    out: &mut [i8],
) {
    let pixels = window.output[0] * window.output[1];
    let (columns, requant) = (weights.columns, &weights.requant);
    let blocks = columns.div_ceil(kernels.columns);
    assert_eq!((window.taps(), window.span), (weights.taps, weights.depth));
    assert!(window.span >= window.channels);
    assert!(x.len() >= window.reach() + SLACK && window.origin >= weights.depth);
    assert!(out.len() >= pixels * columns);
    assert!(weights.data.len() >= blocks * weights.block);
    let padded = blocks * kernels.columns;
    assert!(requant.bias.len() >= padded && requant.scale.len() >= padded);

    let shapes = kernels.shapes;
    let shape = shapes.iter().rev().find(|shape| shape.tiles.len() <= blocks).unwrap_or(&shapes[0]);
    let &Shape { rows, blocks: most, tiles } = shape;
    // as even as it goes: 5 blocks in tiles of 4 are 3 + 2
    let wide = blocks.div_ceil(blocks.div_ceil(most));
    let groups = weights.depth.div_ceil(kernels.depth);
    let fill = |first: usize, offsets: &mut [usize]| window.offsets(first, offsets, rows, 1);
    let out = Shares::new(&mut out[..pixels * columns]);
    let tile = |first: usize, block: usize, offsets: &[usize]| {
        let count = wide.min(blocks - block);
        let column = block * kernels.columns;
        let args = TileArgs {
            x: x.as_ptr(),
            offsets: offsets.as_ptr(),
            taps: weights.taps,
            groups,
            blocks: count,
            weights: weights.data[block * weights.block..].as_ptr(),
            block: weights.block,
            bias: requant.bias[column..].as_ptr(),
            scale: requant.scale[column..].as_ptr(),
            zero: requant.zero,
            out: out.from(first * columns + column),
            stride: columns,
            rows: rows.min(pixels - first),
            columns: (count * kernels.columns).min(columns - column),
        };
        // SAFETY: `Kernels::available` hands out only what the processor runs. An offset is 0 or a pixel
        // of the window; both are followed by `depth` bytes rounded up to a group (at most SLACK more):
        // asserted above for the pixels by `reach`, for the pixel outside by `origin`. The rest is
        // asserted above: blocks × bytes of weights, padded parameters, pixels × columns of output. No
        // two tiles have outputs in common, so it does not matter which thread computes which.
        unsafe { tiles[(count - 1).min(tiles.len() - 1)](&args) }
    };
    // The larger operand is read once, the smaller again and again from the cache.
    let (down, across) = (pixels.div_ceil(rows), blocks.div_ceil(wide));
    let by_columns = weights.bytes() > pixels * weights.depth;
    pool.run(&|part| {
        let mut offsets = vec![0; weights.taps * rows];
        let mut filled = None;
        for at in piece(down * across, part, pool.threads()) {
            let (row, column) = match by_columns {
                true => (at % down, at / down),
                false => (at / across, at % across),
            };
            if filled != Some(row) {
                fill(row * rows, &mut offsets);
                filled = Some(row);
            }
            tile(row * rows, column * wide, &offsets);
        }
    });
}

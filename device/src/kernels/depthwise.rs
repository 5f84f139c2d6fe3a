//! One filter a channel.

use super::{
    Kernels, LANES, Requant,
    buffer::{Buffer, SLACK},
    pool::{Pool, Shares, piece},
    window::Window,
};

/// Weights `[tap][channel]`, channels padded to a multiple of [`LANES`].
#[derive(Clone, Debug)]
pub(crate) struct Filters {
    data: Buffer,
    /// Channels.
    pub channels: usize,
    taps: usize,
    requant: Requant,
}

impl Filters {
    /// Packs `weight(channel, tap)`; weights are −127 to 127, so that two products fit 16 bits.
    pub fn pack([channels, taps]: [usize; 2], weight: impl Fn(usize, usize) -> i8, requant: Requant) -> Self {
        let padded = channels.next_multiple_of(LANES);
        let mut data = Buffer::new(taps * padded);
        for tap in 0..taps {
            for channel in 0..channels {
                data[tap * padded + channel] = weight(channel, tap);
            }
        }
        Self { data, channels, taps, requant }
    }
}

/// A row of output pixels.
#[derive(Debug)]
pub(super) struct RowArgs {
    pub x: *const i8,
    /// `[pixels][taps]` offsets into it.
    pub offsets: *const usize,
    pub pixels: usize,
    pub taps: usize,
    pub channels: usize,
    /// `[taps][channels padded]`.
    pub weights: *const i8,
    pub bias: *const i32,
    pub scale: *const f32,
    pub zero: i8,
    /// `[pixels][channels]`.
    pub out: *mut i8,
}

/// # Safety
/// The processor has the kernel's features; every offset is followed by `channels` + [`SLACK`] bytes
/// readable from `x`; weights, bias and scale are padded to [`LANES`]; `out` is writable at `pixels` ×
/// `channels` bytes.
pub(super) type Row = unsafe fn(&RowArgs);

/// `out[pixel][channel] = requant(Σ_tap x[offset(pixel, tap) + channel] · w[tap][channel])`.
///
/// `x` is a whole buffer as `window` describes it, `out` begins with the first output pixel.
///
/// # Panics
/// When the parts do not fit each other: the plan that calls made them together.
pub(crate) fn depthwise(
    kernels: &Kernels,
    pool: &Pool,
    window: &Window,
    filters: &Filters,
    x: &[i8],
    out: &mut [i8],
) {
    let (channels, taps, [height, width]) = (filters.channels, filters.taps, window.output);
    let requant = &filters.requant;
    assert_eq!((window.taps(), window.channels, window.span), (taps, channels, channels));
    assert!(x.len() >= window.reach() + SLACK && window.origin >= channels);
    assert!(out.len() >= height * width * channels);
    let padded = channels.next_multiple_of(LANES);
    assert!(requant.bias.len() >= padded && requant.scale.len() >= padded);
    assert!(filters.data.len() >= taps * padded);
    let out = Shares::new(&mut out[..height * width * channels]);
    pool.run(&|part| {
        let mut offsets = vec![0; width * taps];
        for y in piece(height, part, pool.threads()) {
            window.offsets(y * width, &mut offsets, 1, taps);
            let args = RowArgs {
                x: x.as_ptr(),
                offsets: offsets.as_ptr(),
                pixels: width,
                taps,
                channels,
                weights: filters.data.as_ptr(),
                bias: requant.bias.as_ptr(),
                scale: requant.scale.as_ptr(),
                zero: requant.zero,
                out: out.from(y * width * channels),
            };
            // SAFETY: `Kernels::available` hands out only what the processor runs. An offset is 0 or a
            // pixel of the window; `channels` + SLACK bytes follow both (`origin`, `reach`). Padding of
            // parameters and room for the row are asserted above; each row is one thread's.
            unsafe { (kernels.depthwise)(&args) }
        }
    });
}

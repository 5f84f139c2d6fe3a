//! Integer kernels: what the lowered network spends its time in.
//!
//! | file | holds |
//! |---|---|
//! | `buffer` | aligned bytes with room to read beyond the end |
//! | `window` | where the pixels under a sliding window lie |
//! | `gemm` | matrix product and dense convolution, cut into tiles |
//! | `depthwise` | one filter a channel |
//! | `elementwise` | residual sum, global average, dense heads |
//! | `pool` | threads that share the work of one step |
//! | `scalar` | the reference of every kernel |
//! | `x86`, `avx512`, `neon` | the same for one kind of processor |
//!
//! Activations are int8, channels last (`[pixel][channel]`). Every kernel computes
//! `clamp(rint((Σ x·w + bias) as f32 · scale) + zero)` with exact 32-bit sums (modulo 2³²) and ties to
//! even, as onnxruntime does: all processors give the same bytes. The only place with `unsafe`; each
//! kernel is tested against its scalar twin.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx512;
pub(crate) mod buffer;
pub(crate) mod depthwise;
pub(crate) mod elementwise;
pub(crate) mod gemm;
#[cfg(target_arch = "aarch64")]
mod neon;
pub(crate) mod pool;
mod scalar;
pub(crate) mod window;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
mod tests;

use std::env;

use depthwise::Row;
use elementwise::{Dense, Sum};
use gemm::Tile;

/// Parameters of channels come in multiples of this many, the last ones zero.
pub(crate) const LANES: usize = 64;

/// How sums become bytes.
#[derive(Clone, Debug)]
pub(crate) struct Requant {
    /// Per channel, the input's zero point folded in; padded to a multiple of [`LANES`].
    pub bias: Vec<i32>,
    /// Per channel, `x_scale · w_scale / y_scale`; padded likewise.
    pub scale: Vec<f32>,
    /// Zero point of the output.
    pub zero: i8,
}

impl Requant {
    /// Pads the parameters of each channel.
    pub fn new(mut bias: Vec<i32>, mut scale: Vec<f32>, zero: i8) -> Self {
        let padded = bias.len().next_multiple_of(LANES);
        bias.resize(padded, 0);
        scale.resize(padded, 0.0);
        Self { bias, scale, zero }
    }
}

/// The kernels of one kind of processor.
#[derive(Debug)]
pub(crate) struct Kernels {
    /// As `CSP_KERNELS` names them.
    pub name: &'static str,
    /// Columns of a block of weights.
    columns: usize,
    /// Weights of one column that lie together.
    depth: usize,
    /// What the tiles add to each input before they multiply.
    shift: i32,
    /// Tile shapes, from few columns to many.
    shapes: &'static [Shape],
    /// One row of output pixels of a depthwise convolution.
    depthwise: Row,
    /// Residual sum.
    sum: Sum,
    /// Matrix times vector.
    dense: Dense,
}

/// Tiles of so many rows and at most so many blocks of columns a call; `tiles[i]` takes `i + 1` blocks,
/// the last one any number of them.
#[derive(Debug)]
struct Shape {
    rows: usize,
    blocks: usize,
    tiles: &'static [Tile],
}

impl Kernels {
    /// All that this processor can run, the best first.
    pub fn available() -> Vec<&'static Self> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni");
            if avx512 {
                found.push(&avx512::KERNELS);
            }
            if is_x86_feature_detected!("avx2") {
                if is_x86_feature_detected!("avxvnni") {
                    found.push(&x86::AVX_VNNI);
                }
                if avx512 {
                    found.push(&x86::AVX512_VNNI_256);
                }
                found.push(&x86::AVX2);
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            if std::arch::is_aarch64_feature_detected!("i8mm") {
                found.push(&neon::I8MM);
            }
            if std::arch::is_aarch64_feature_detected!("dotprod") {
                found.push(&neon::DOTPROD);
            }
            // every 64-bit ARM has it
            found.push(&neon::NEON);
        }
        found.push(&scalar::KERNELS);
        found
    }

    /// Those named, else those `CSP_KERNELS` names, else the best for this processor.
    ///
    /// # Errors
    /// Kernels that do not exist or that this processor cannot run.
    pub fn select(name: Option<&str>) -> Result<&'static Self, String> {
        match name {
            Some(name) => Self::named(Some(name)),
            None => Self::named(env::var("CSP_KERNELS").ok().as_deref()),
        }
    }

    fn named(name: Option<&str>) -> Result<&'static Self, String> {
        let available = Self::available();
        let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(available[0]) };
        available.iter().copied().find(|kernels| kernels.name == name).ok_or_else(|| {
            let names: Vec<_> = available.iter().map(|kernels| kernels.name).collect();
            format!("kernels `{name}` (CSP_KERNELS): this processor runs {}", names.join(", "))
        })
    }
}

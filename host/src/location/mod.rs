//! Location networks on their own: those of a run, and trained ones of the original's lab, brought to
//! our modules and asked about places.
//!
//! | module | holds |
//! |---|---|
//! | [`checkpoint`] | checkpoints of the csp, sphere2vec and TorchSpatial repositories → encoder and network |
//! | `shapes` | which of a checkpoint's tensors is which |
//! | [`embed`] | embeddings and presence scores of places, in f32 or f64 |

pub mod checkpoint;
pub mod embed;
mod shapes;

pub use checkpoint::{ImportError, Imported};
pub use embed::{Answers, Precision};

#[cfg(test)]
mod tests;

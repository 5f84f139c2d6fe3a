//! How a geo-aware image classifier is made and reviewed.
//!
//! ```text
//! data ─► features ─► training ─► evaluation ─► export ─► (the field) ─► review
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`data`] | tables, photo folders, COCO Camera Traps → one [`data::Dataset`]; its checks and splits |
//! | [`features`] | decoded pictures and frozen features, cached on disk |
//! | [`training`] | the stages of Contrastive Spatial Pre-Training, losses, run directories |
//! | [`location`] | location networks on their own: trained ones of the original's lab, embeddings |
//! | [`evaluation`] | accuracy of image, place and both |
//! | [`export`] | burn's captured graph → ONNX → int8 → bundle |
//! | [`review`] | what the traps wrote down |
//! | [`sample`] | the synthetic sample of `csp-host demo` |
//! | [`coastline`] | land and sea |
//! | [`plots`] | pictures for people |
//! | [`cli`] | one file a verb |
// one place maps a file into memory: features/table.rs
#![deny(unsafe_code)]

pub mod cli;
pub mod coastline;
pub mod data;
pub mod evaluation;
pub mod export;
pub mod features;
pub mod location;
pub mod plots;
pub mod progress;
pub mod review;
pub mod sample;
mod secret_file;
pub mod training;

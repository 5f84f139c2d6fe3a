//! How a model is made and reviewed.
#![forbid(unsafe_code)]

pub mod data;
pub mod sample;

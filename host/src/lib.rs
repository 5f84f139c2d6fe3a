//! How a model is made and reviewed.
pub mod export;

//! How a model is made and reviewed.

pub mod data;
pub mod features;
pub mod training;

//! The stages that learn, one file each. Each is a [`Stage`](super::runner::Stage): a state and a step.

mod backbone;
mod dropout;
mod finetune;
mod joint;
mod modulate;
mod parts;
mod picture_views;
mod places;
mod pretrain;
mod probe;
mod queue;

pub(crate) use backbone::{Backbone, cross_entropy};
pub(crate) use finetune::{Finetune, Sightings, Start};
pub(crate) use joint::Joint;
pub(crate) use modulate::{Modulate, place_rows};
pub(crate) use picture_views::PictureViews;
pub use places::PlaceFit;
pub(crate) use pretrain::{Pretrain, project};
pub(crate) use probe::Probe;

use burn::tensor::{Device, Int, Tensor, TensorData};

/// Indices or classes as a tensor.
pub(crate) fn indices(values: impl IntoIterator<Item = i32>, device: &Device) -> Tensor<1, Int> {
    let values: Vec<i32> = values.into_iter().collect();
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}

/// Steps for `epochs` passes, within limits.
fn steps_for(epochs: f64, steps_per_epoch: u64, min: u64, max: u64) -> u64 {
    ((epochs * steps_per_epoch as f64).round() as u64).clamp(min, max).max(1)
}

/// Steps of warm-up: 5 %.
fn warmup(steps: u64) -> u64 {
    steps / 20
}

//! Batch inference: features of many pictures, logits of many places.

use burn::{
    module::Module,
    tensor::{Device, Tensor, TensorData},
};
use csp_models::{
    encoder::PositionEncoder,
    fusion::sigmoid,
    labels::Labels,
    manifest::ImageInput,
    nn::{Backbone, LocationClassifier},
    picture,
    situation::{Situation, YEAR_DATES},
};
use rayon::prelude::*;
use std::ops::Range;

use super::PixelCache;
use crate::training::TrainError;

/// Places in a forward pass: some thousands, fewer where each has very many classes, so that what they
/// say fits (a score takes 12 bytes on its way).
pub fn places_at_once(classes: usize) -> usize {
    ((1 << 24) / classes.max(1)).clamp(64, 4096)
}

/// Pooled features of a range of cached pictures, row by row, by a backbone with its running statistics
/// and without augmentation: one forward pass.
///
/// # Errors
/// A picture that cannot be read.
pub fn image_features(
    backbone: &Backbone,
    cache: &PixelCache,
    pictures: Range<usize>,
    input: &ImageInput,
    device: &Device,
) -> Result<Vec<f32>, TrainError> {
    let count = pictures.len();
    let planes: Result<Vec<Vec<f32>>, TrainError> = pictures
        .into_par_iter()
        .map(|index| {
            let mut pixels = Vec::new();
            cache.read(index, &mut pixels)?;
            Ok(picture::to_f32(&pixels, input))
        })
        .collect();
    let shape = [count, 3, input.height as usize, input.width as usize];
    let images = Tensor::<4>::from_data(TensorData::new(planes?.concat(), shape), device);
    Ok(backbone.forward(images).into_data().iter::<f32>().collect())
}

/// Class logits `[N, classes]` of places, each at its date.
pub fn location_logits(
    network: &LocationClassifier,
    encoder: &PositionEncoder,
    places: &[Situation],
    device: &Device,
) -> Vec<Vec<f32>> {
    let network = network.valid();
    let forward = |chunk: &[Situation]| rows(network.forward(position_features(encoder, chunk, device)));
    let [_, classes] = network.classes.weight.dims();
    places.chunks(places_at_once(classes)).flat_map(forward).collect()
}

/// Presence scores `[N, classes]` of places: σ of the logits, for an encoder with a season the mean over
/// the year where a date is not known.
pub fn location_presence(
    network: &LocationClassifier,
    labels: &Labels,
    encoder: &PositionEncoder,
    places: &[Situation],
    device: &Device,
) -> Vec<Vec<f64>> {
    let network = network.valid();
    let forward = |chunk: &[Situation]| {
        Ok::<_, std::convert::Infallible>(rows(network.forward(position_features(encoder, chunk, device))))
    };
    presence_of(labels, encoder.season(), places, forward).unwrap_or_else(|never| match never {})
}

/// Presence scores of places from what gives the logits of some thousands at once. A `seasonal` model
/// without a date answers with its mean over the year; of classes without places nothing is said
/// ([`Labels::stand_in`]).
///
/// # Errors
/// What `logits` returns.
pub fn presence_of<E>(
    labels: &Labels,
    seasonal: bool,
    places: &[Situation],
    logits: impl Fn(&[Situation]) -> Result<Vec<Vec<f32>>, E>,
) -> Result<Vec<Vec<f64>>, E> {
    let mut all = Vec::with_capacity(places.len());
    // a place without a date is asked about at a year's dates
    let dates = if seasonal { YEAR_DATES as usize } else { 1 };
    for chunk in places.chunks(places_at_once(labels.len()).div_ceil(dates)) {
        let spread: Vec<Vec<Situation>> = chunk.iter().map(|place| place.spread(seasonal)).collect();
        let mut answers = logits(&spread.concat())?.into_iter();
        all.extend(spread.iter().map(|dates| {
            let mut mean: Vec<f64> = Vec::new();
            for row in answers.by_ref().take(dates.len()) {
                mean.resize(row.len(), 0.0);
                mean.iter_mut().zip(row).for_each(|(sum, z)| *sum += sigmoid(f64::from(z)));
            }
            mean.iter_mut().for_each(|score| *score /= dates.len() as f64);
            labels.stand_in(&mut mean);
            mean
        }));
    }
    Ok(all)
}

/// Position features of places, computed in f64 on the host. A date that is not known is the middle of
/// the year's circle, as far from every day as from any other.
///
/// # Shapes
/// Returns `[places, encoder.dim()]`.
pub fn position_features(encoder: &PositionEncoder, places: &[Situation], device: &Device) -> Tensor<2> {
    let dim = encoder.dim();
    let mut features = vec![0f32; places.len() * dim];
    features.par_chunks_exact_mut(dim).zip(places).for_each_init(
        || vec![0f64; dim],
        |row, (out, place)| {
            encoder.encode_into(place.at, place.date, row);
            out.iter_mut().zip(&*row).for_each(|(out, &feature)| *out = feature as f32);
        },
    );
    Tensor::from_data(TensorData::new(features, [places.len(), dim]), device)
}

fn rows(matrix: Tensor<2>) -> Vec<Vec<f32>> {
    let [_, width] = matrix.dims();
    let values: Vec<f32> = matrix.into_data().iter::<f32>().collect();
    values.chunks_exact(width.max(1)).map(<[f32]>::to_vec).collect()
}

//! Batch inference: features of many pictures, logits of many places.

use burn::{
    module::Module,
    tensor::{Device, Tensor, TensorData},
};
use csp_models::{
    encoder::PositionEncoder,
    manifest::ImageInput,
    nn::{Backbone, LocationClassifier},
    picture,
    place::LatLon,
};
use rayon::prelude::*;
use std::ops::Range;

use super::PixelCache;
use crate::training::TrainError;

/// Places in a forward pass.
const PLACES: usize = 4096;

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

/// Class logits `[N, classes]` of places.
pub fn location_logits(
    network: &LocationClassifier,
    encoder: &PositionEncoder,
    places: &[LatLon],
    device: &Device,
) -> Vec<Vec<f32>> {
    let network = network.valid();
    let forward = |chunk: &[LatLon]| rows(network.forward(position_features(encoder, chunk, device)));
    places.chunks(PLACES).flat_map(forward).collect()
}

/// Position features of places, computed in f64 on the host.
///
/// # Shapes
/// Returns `[places, encoder.dim()]`.
pub fn position_features(encoder: &PositionEncoder, places: &[LatLon], device: &Device) -> Tensor<2> {
    let dim = encoder.dim();
    let mut features = vec![0f32; places.len() * dim];
    features.par_chunks_exact_mut(dim).zip(places).for_each_init(
        || vec![0f64; dim],
        |row, (out, &place)| {
            encoder.encode_into(place, None, row);
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

//! Batch inference: logits and features of many pictures, logits of many places.

use burn::{
    module::Module,
    tensor::{Device, Tensor, TensorData},
};
use csp_models::{
    encoder::PositionEncoder,
    manifest::ImageInput,
    nn::{ImageClassifier, LocationClassifier},
    picture,
    place::LatLon,
};
use rayon::prelude::*;
use std::path::Path;

use super::PixelCache;
use crate::{
    progress::{Progress, Voice},
    training::TrainError,
};

/// Pictures in a forward pass. On flex larger batches are no faster (64, 128, 256 within 5 %).
const BATCH: usize = 128;
/// Places in a forward pass.
const PLACES: usize = 4096;

/// What the image network says about each picture.
#[derive(Clone, Debug, Default)]
pub struct ImageOutputs {
    /// Pooled features, `[N, features]`.
    pub features: Vec<Vec<f32>>,
    /// Class logits, `[N, classes]`.
    pub logits: Vec<Vec<f32>>,
}

/// Runs the image network, without augmentation and with its running statistics, on cached pictures.
///
/// # Errors
/// A picture that cannot be read; `Ok(None)` when `stop` says so.
pub fn image_outputs(
    network: &ImageClassifier,
    cache: &PixelCache,
    pictures: &[usize],
    input: &ImageInput,
    device: &Device,
    voice: Voice,
    stop: &dyn Fn() -> bool,
) -> Result<Option<ImageOutputs>, TrainError> {
    let network = network.valid();
    let mut outputs = ImageOutputs::default();
    let mut progress = Progress::new(voice, "features", 0, pictures.len() as u64);
    for chunk in pictures.chunks(BATCH) {
        let planes: Result<Vec<Vec<f32>>, TrainError> = chunk
            .par_iter()
            .map(|&index| {
                let mut pixels = Vec::new();
                cache.read(index, &mut pixels)?;
                Ok(picture::to_f32(&pixels, input))
            })
            .collect();
        let (features, logits) = forward(&network, &planes?, input, device);
        outputs.features.extend(features);
        outputs.logits.extend(logits);
        progress.at(outputs.logits.len() as u64, || "pictures".into());
        if stop() {
            return Ok(None);
        }
    }
    progress.done(&format!("{} pictures", pictures.len()));
    Ok(Some(outputs))
}

/// Class logits `[N, classes]` of photographs on disk, decoded as they are needed.
///
/// # Errors
/// The first photograph that cannot be read, named.
pub fn image_logits(
    network: &ImageClassifier,
    pictures: &[impl AsRef<Path> + Sync],
    input: &ImageInput,
    device: &Device,
    voice: Voice,
) -> Result<Vec<Vec<f32>>, TrainError> {
    let network = network.valid();
    let mut all = Vec::with_capacity(pictures.len());
    let mut progress = Progress::new(voice, "images", 0, pictures.len() as u64);
    for chunk in pictures.chunks(BATCH) {
        let planes: Result<Vec<Vec<f32>>, TrainError> = chunk
            .par_iter()
            .map(|path| Ok(picture::to_f32(&picture::load(path.as_ref(), input)?, input)))
            .collect();
        all.extend(forward(&network, &planes?, input, device).1);
        progress.at(all.len() as u64, || "pictures".into());
    }
    progress.done(&format!("{} pictures", pictures.len()));
    Ok(all)
}

fn forward(
    network: &ImageClassifier,
    planes: &[Vec<f32>],
    input: &ImageInput,
    device: &Device,
) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
    let shape = [planes.len(), 3, input.height as usize, input.width as usize];
    let images = Tensor::<4>::from_data(TensorData::new(planes.concat(), shape), device);
    let features = network.backbone.forward(images);
    let logits = network.head.forward(features.clone());
    (rows(features), rows(logits))
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

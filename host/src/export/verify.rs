//! An exported network must answer as the trained one does: checked at every export, not only in tests.

use burn::{
    module::Module,
    tensor::{Device, Tensor, TensorData},
};
use csp_models::{picture, place::LatLon, time::YearFraction};

use super::{TrainedModel, error::ExportError, graph::Graph, run::Runner};

/// Largest difference, as a share of the largest logit. Both compute in f32 and sum in another order;
/// MobileNetV2 differs by 1e-5.
const TOLERANCE: f32 = 1e-3;
/// Pictures compared.
const PICTURES: usize = 4;

pub(super) fn image(model: &TrainedModel, graph: &Graph, pictures: &[Vec<u8>]) -> Result<(), ExportError> {
    let Some(network) = &model.image else { return Ok(()) };
    let size = model.input.width as usize * model.input.height as usize * 3;
    // a picture of its own, so that the check never runs on nothing
    let ramp: Vec<u8> = (0..size).map(|i| (i * 7 + i / 97 * 13) as u8).collect();
    let runner = Runner::new(graph)?;
    let usable = pictures.iter().filter(|pixels| pixels.len() == size).take(PICTURES);
    for pixels in usable.chain([&ramp]) {
        let floats = picture::to_f32(pixels, &model.input);
        let device = network.devices().first().cloned().unwrap_or_else(Device::flex);
        let shape = [1, 3, model.input.height as usize, model.input.width as usize];
        let input = Tensor::<4>::from_data(TensorData::new(floats.clone(), shape), &device);
        let expected = network.valid().forward(input.without_autodiff());
        compare("image", expected, &runner.floats(&floats)?.swap_remove(0))?;
    }
    Ok(())
}

pub(super) fn location(model: &TrainedModel, graph: &Graph) -> Result<(), ExportError> {
    let (Some(network), Some(encoder)) = (&model.location, &model.encoder) else { return Ok(()) };
    let runner = Runner::new(graph)?;
    for (lat, lon) in [(0.0, 0.0), (34.05, -118.25), (-41.29, 174.78), (69.65, 18.96)] {
        let Ok(place) = LatLon::new(lat, lon) else { continue };
        let features: Vec<f32> =
            encoder.encode(place, YearFraction::new(0.3)).into_iter().map(|feature| feature as f32).collect();
        let device = network.devices().first().cloned().unwrap_or_else(Device::flex);
        let shape = [1, features.len()];
        let input = Tensor::<2>::from_data(TensorData::new(features.clone(), shape), &device);
        let expected = network.valid().forward(input.without_autodiff());
        compare("location", expected, &runner.floats(&features)?.swap_remove(0))?;
    }
    Ok(())
}

fn compare(network: &str, expected: Tensor<2>, got: &[f32]) -> Result<(), ExportError> {
    let expected: Vec<f32> = expected.into_data().iter::<f32>().collect();
    let largest = expected.iter().fold(1f32, |max, z| max.max(z.abs()));
    let difference = expected.iter().zip(got).map(|(e, g)| (e - g).abs()).fold(0f32, f32::max);
    // written so that NaN fails
    let fits = expected.len() == got.len() && difference <= TOLERANCE * largest;
    if fits {
        return Ok(());
    }
    Err(ExportError::Tensor {
        network: network.into(),
        tensor: "logits".into(),
        problem: format!(
            "differ from the trained network's by {difference:e} at up to {largest:.3}: please report this, it is a fault of the exporter"
        ),
    })
}

//! Embeddings and presence scores of places.

use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{DType, Device, Tensor, TensorData},
};
use csp_models::{
    encoder::PositionEncoder, fusion::sigmoid, nn::LocationClassifier, place::LatLon, time::YearFraction,
};

/// Places in a forward pass.
const CHUNK: usize = 2048;

/// The numbers the network is computed in; position features are f64 in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// As training and the field compute it.
    F32,
    /// Beyond what the weights are known to; for comparisons.
    #[default]
    F64,
}

/// What a location network says of places.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answers {
    /// `e(x)`, `[places][embedding]`, not normalised.
    pub embeddings: Vec<Vec<f64>>,
    /// σ(e(x)·T), `[places][classes]`.
    pub scores: Vec<Vec<f64>>,
}

/// Embeddings and scores of places at their times of the year, on the CPU.
pub fn embed(
    encoder: &PositionEncoder,
    network: &LocationClassifier,
    places: &[(LatLon, Option<YearFraction>)],
    precision: Precision,
) -> Answers {
    let device = Device::flex();
    let network = network.valid().to_device(&device);
    let (network, dtype) = match precision {
        Precision::F32 => (network, DType::F32),
        Precision::F64 => (network.map(&mut Widen), DType::F64),
    };
    let mut answers = Answers::default();
    for chunk in places.chunks(CHUNK) {
        let features: Vec<f64> =
            chunk.iter().flat_map(|&(place, date)| encoder.encode(place, date)).collect();
        let features = TensorData::new(features, [chunk.len(), encoder.dim()]);
        let embedding = network.encoder.forward(Tensor::<2>::from_data(features, (&device, dtype)));
        let logits = network.classes.forward(embedding.clone());
        answers.embeddings.extend(rows(embedding));
        answers.scores.extend(rows(logits).map(|row| row.into_iter().map(sigmoid).collect()));
    }
    answers
}

fn rows(matrix: Tensor<2>) -> impl Iterator<Item = Vec<f64>> {
    let [count, width] = matrix.dims();
    let values: Vec<f64> = matrix.into_data().iter::<f64>().collect();
    (0..count).map(move |row| values[row * width..][..width].to_vec())
}

/// f32 weights as f64.
struct Widen;

impl ModuleMapper for Widen {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| tensor.cast(DType::F64))
    }
}

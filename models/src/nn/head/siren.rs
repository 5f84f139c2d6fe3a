//! Sine activations: y = sin(w₀ dropout(W x + b)), the last layer linear (Sitzmann et al. 2020; on
//! spherical harmonics Rußwurm et al., ICLR 2024, and SatCLIP).

use burn::{nn::Linear, tensor::Tensor};

use super::{Drop, HeadSettings, scaled};

pub(super) fn forward(
    layers: &[Linear],
    settings: &HeadSettings,
    features: Tensor<2>,
    drop: Drop<'_>,
) -> Tensor<2> {
    let Some((last, sines)) = layers.split_last() else { return features };
    let mut x = features;
    for (i, layer) in sines.iter().enumerate() {
        let w0 = if i == 0 { settings.w0_first } else { settings.w0 };
        x = (drop(layer.forward(x)) * w0).sin();
    }
    last.forward(x)
}

/// Weights and biases uniform in ±1/inputs in the first layer, ±√(6/inputs)/w₀ in the others.
pub(super) fn respread(layers: &mut [Linear], w0: f64) {
    for (i, layer) in layers.iter_mut().enumerate() {
        let [inputs, outputs] = layer.weight.lazy_shape().dims();
        let (inputs, outputs) = (inputs as f64, outputs as f64);
        let bound = if i == 0 { 1.0 / inputs } else { (6.0 / inputs).sqrt() / w0 };
        layer.weight = scaled(&layer.weight, bound / (6.0 / (inputs + outputs)).sqrt());
        layer.bias = layer.bias.as_ref().map(|bias| scaled(bias, bound * inputs.sqrt()));
    }
}

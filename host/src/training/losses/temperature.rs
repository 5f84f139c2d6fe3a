//! Temperatures of the contrastive terms: fixed numbers, or learned as in CLIP.

use burn::{
    module::Param,
    tensor::{Device, Tensor, TensorData},
};

/// Largest factor a learned temperature reaches (CLIP): τ stays at 0.01 or above.
pub const MAX_SCALE: f64 = 100.0;

/// What similarities are divided by.
#[derive(Clone, Debug)]
pub enum Temperature {
    /// τ.
    Fixed(f64),
    /// `[1]`: log(1/τ), with its gradient.
    Learned(Box<Tensor<1>>),
}

impl Temperature {
    /// Similarities over τ.
    ///
    /// # Shapes
    /// - input, output: `[B, …]`
    pub fn cool(&self, similarity: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Fixed(1.0) => similarity,
            Self::Fixed(tau) => similarity / *tau,
            Self::Learned(log_scale) => similarity * log_scale.as_ref().clone().exp().unsqueeze::<2>(),
        }
    }
}

/// The temperature of each term.
#[derive(Clone, Debug)]
pub struct Temperatures {
    /// τ₀, in-batch.
    pub batch: Temperature,
    /// τ₁, random locations.
    pub random: Temperature,
    /// τ₂, dropout.
    pub dropout: Temperature,
}

impl Temperatures {
    /// Fixed ones: in-batch, random, dropout.
    pub fn fixed(taus: [f64; 3]) -> Self {
        let [batch, random, dropout] = taus.map(Temperature::Fixed);
        Self { batch, random, dropout }
    }

    /// Of a parameter made by [`parameter`].
    pub fn learned(log_scales: &Tensor<1>) -> Self {
        let one = |at| Temperature::Learned(Box::new(log_scales.clone().narrow(0, at, 1)));
        Self { batch: one(0), random: one(1), dropout: one(2) }
    }
}

/// `[3]`: log(1/τ) of the three terms, to be trained.
pub fn parameter(taus: [f64; 3], device: &Device) -> Param<Tensor<1>> {
    let logs: Vec<f32> = taus.iter().map(|tau| -tau.ln() as f32).collect();
    Param::from_tensor(Tensor::from_data(TensorData::new(logs, [3]), device))
}

/// The parameter after a step, none above [`MAX_SCALE`].
pub fn clamped(parameter: Param<Tensor<1>>) -> Param<Tensor<1>> {
    parameter.map(|logs| Tensor::from_inner(logs.inner().clamp_max(MAX_SCALE.ln())).require_grad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learned_is_fixed_at_its_start_and_stays_bounded() {
        let device = Device::flex().autodiff();
        let s = Tensor::<2>::from_data([[0.5f32, -0.2]], &device);
        let start = parameter([0.07, 1.0, 0.001], &device);
        let values = |t: Tensor<2>| t.into_data().iter::<f32>().collect::<Vec<f32>>();
        let learned = values(Temperatures::learned(&start.val()).batch.cool(s.clone()));
        let fixed = values(Temperature::Fixed(0.07).cool(s.clone()));
        for (a, b) in learned.iter().zip(&fixed) {
            assert!((a / b - 1.0).abs() < 1e-6, "{a} {b}");
        }
        let bounded = clamped(start);
        let sharpest = values(Temperatures::learned(&bounded.val()).dropout.cool(s));
        assert!((sharpest[0] - 50.0).abs() < 1e-3, "{sharpest:?}");
        let gradient = bounded.val().exp().sum().backward();
        assert!(bounded.val().grad(&gradient).is_some(), "it still learns");
    }
}

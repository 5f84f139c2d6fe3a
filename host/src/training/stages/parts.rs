//! A step taken in parts, one after another, where memory is short.

use std::ops::Range;

use burn::{
    module::Module,
    optim::{GradientsAccumulator, GradientsParams},
    tensor::Tensor,
};

use crate::training::TrainError;

/// In how many parts the rows of a step pass through a network: memory goes with the size of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts(usize);

impl Parts {
    /// All rows at once.
    pub const WHOLE: Self = Self(1);

    /// Twice as many parts; false where some of `rows` rows would then have none.
    pub fn halve(&mut self, rows: usize) -> bool {
        self.0 *= 2;
        self.0 <= rows
    }

    /// The mean loss `[1]` over `rows` rows, off the graph, and its gradients; `loss` gives the mean over
    /// a range of them.
    ///
    /// # Errors
    /// What `loss` fails with.
    pub fn gradients<M: Module>(
        self,
        module: &M,
        rows: usize,
        mut loss: impl FnMut(Range<usize>) -> Result<Tensor<1>, TrainError>,
    ) -> Result<(Tensor<1>, GradientsParams), TrainError> {
        let size = rows.div_ceil(self.0).max(1);
        let mut gradients = GradientsAccumulator::new();
        let mut losses = Vec::with_capacity(self.0);
        for start in (0..rows).step_by(size) {
            let part = start..(start + size).min(rows);
            let share = part.len() as f64 / rows as f64;
            let mut loss = loss(part)?;
            if share < 1.0 {
                loss = loss * share;
            }
            gradients.accumulate(module, GradientsParams::from_grads(loss.backward(), module));
            losses.push(loss.inner());
        }
        Ok((Tensor::cat(losses, 0).sum(), gradients.grads()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::{
        init,
        optim::{AdamW, AdamWConfig},
        weights::Weights,
    };
    use burn::{
        nn::{Linear, LinearConfig},
        tensor::{Device, TensorData},
    };

    #[test]
    fn parts_of_unlike_size_give_the_gradient_of_the_whole() {
        let device = Device::flex().autodiff();
        let layer = init::randomise(LinearConfig::new(3, 2).init(&device), 1, "test");
        let numbers: Vec<f32> = (0..21).map(|i| (i as f32 * 0.7).sin()).collect();
        let x = Tensor::<2>::from_data(TensorData::new(numbers, [7, 3]), &device);
        let step = |parts: Parts| -> (f32, Vec<f32>) {
            let loss = |part: Range<usize>| {
                Ok(layer.forward(x.clone().narrow(0, part.start, part.len())).square().mean())
            };
            let (loss, gradients) = parts.gradients(&layer, 7, loss).unwrap();
            let sgd = AdamWConfig { momentum: Some(0.0), ..AdamWConfig::default() };
            let moved: Linear = AdamW::new(sgd).step(layer.clone(), gradients, 1.0, |_| 1.0);
            let weights = Weights::of("", &moved).0.into_values().flat_map(|array| array.values);
            (loss.into_scalar::<f32>(), weights.collect())
        };
        let mut parts = Parts::WHOLE;
        let (loss, whole) = step(parts);
        assert!(parts.halve(7) && parts.halve(7), "four parts: 2, 2, 2 and 1 rows");
        let (again, divided) = step(parts);
        assert!((loss - again).abs() < 1e-6, "{loss} {again}");
        assert!(whole.iter().zip(&divided).all(|(a, b)| (a - b).abs() < 1e-6), "{whole:?} {divided:?}");
        assert!(!parts.halve(7), "eight parts of seven rows are too many");
    }
}

//! Dropout whose masks come from a named stream: the same on a resumed run, and on every device.

use burn::tensor::{Tensor, TensorData};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::training::rng;

/// Draws the masks of one step.
#[derive(Debug)]
pub(super) struct Dropout {
    /// Of 256.
    dropped: u16,
    rng: ChaCha8Rng,
}

impl Dropout {
    /// For step `step`; `rate` is rounded to 1/256.
    pub fn new(rate: f64, seed: u64, purpose: &str, step: u64) -> Self {
        let dropped = (rate * 256.0).round().clamp(0.0, 255.0) as u16;
        Self { dropped, rng: rng::stream(seed, purpose, step) }
    }

    /// The activations with a share of them zero and the others scaled up for it.
    ///
    /// # Shapes
    /// - input, output: `[batch, width]`
    pub fn apply(&mut self, x: Tensor<2>) -> Tensor<2> {
        if self.dropped == 0 {
            return x;
        }
        let [rows, width] = x.dims();
        let mut bytes = vec![0u8; rows * width];
        self.rng.fill_bytes(&mut bytes);
        let scale = 256.0 / f32::from(256 - self.dropped);
        let mask: Vec<f32> =
            bytes.iter().map(|&b| if u16::from(b) < self.dropped { 0.0 } else { scale }).collect();
        let device = x.device();
        x * Tensor::from_data(TensorData::new(mask, [rows, width]), &device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn keeps_the_mean_and_repeats() {
        let x = Tensor::<2>::ones([400, 500], &Device::flex());
        let draw = |step| -> Vec<f32> {
            Dropout::new(0.3, 1, "t", step).apply(x.clone()).into_data().iter::<f32>().collect()
        };
        let (first, again, other) = (draw(0), draw(0), draw(1));
        assert_eq!(first, again);
        assert_ne!(first, other);
        let mean = first.iter().map(|&v| f64::from(v)).sum::<f64>() / 2e5;
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
        let zeros = first.iter().filter(|&&v| v == 0.0).count() as f64 / 2e5;
        assert!((zeros - 77.0 / 256.0).abs() < 0.006, "{zeros}");
    }
}

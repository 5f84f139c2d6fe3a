//! Augmented pictures of a step, the same whenever they are asked for.

use burn::tensor::{Device, Tensor, TensorData};
use csp_models::manifest::ImageInput;
use rayon::prelude::*;

use crate::{
    features::{Augment, PixelCache},
    training::{TrainError, rng},
};

/// Where views come from.
#[derive(Clone, Copy)]
pub(crate) struct PictureViews<'a> {
    /// The pictures.
    pub pixels: &'a PixelCache,
    /// Their size and normalisation.
    pub input: ImageInput,
    /// What may be done to them.
    pub augment: Augment,
    /// Seed of every view.
    pub seed: u64,
    /// Name of the stream of random numbers.
    pub purpose: &'static str,
}

impl PictureViews<'_> {
    /// Views `[pictures, 3, height, width]`: the `i`-th is number `first + i` of the stream.
    pub fn batch(&self, pictures: &[usize], first: u64, device: &Device) -> Result<Tensor<4>, TrainError> {
        let (width, height) = (self.input.width as usize, self.input.height as usize);
        let mut planes = vec![0f32; pictures.len() * 3 * width * height];
        planes.par_chunks_exact_mut(3 * width * height).zip(pictures).enumerate().try_for_each_init(
            Vec::new,
            |pixels, (i, (out, &picture))| {
                let mut rng = rng::stream(self.seed, self.purpose, first + i as u64);
                self.pixels.read(picture, pixels)?;
                self.augment.view(pixels, &self.input, &mut rng, out);
                Ok::<(), TrainError>(())
            },
        )?;
        let shape = [pictures.len(), 3, height, width];
        Ok(Tensor::from_data(TensorData::new(planes, shape), device))
    }
}

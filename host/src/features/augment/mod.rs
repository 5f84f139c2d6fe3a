//! Random views of a picture, each a function of the picture and a stream of random numbers.

mod colour;
mod crop;
mod mild;

use csp_models::manifest::ImageInput;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::training::config::{AugmentConfig, Flip, Views};
use crop::Crop;
use mild::Mild;

/// What may be done to a picture.
#[derive(Clone, Copy, Debug)]
pub enum Augment {
    /// Shifts and light.
    Mild(Mild),
    /// Crops and colour.
    Crop(Crop),
}

impl Augment {
    /// By the configuration.
    pub fn new(flip: Flip, config: &AugmentConfig) -> Self {
        match config.views {
            Views::Mild => Self::Mild(Mild::new(flip)),
            Views::Crop => Self::Crop(Crop { flip, config: *config }),
        }
    }

    /// A random view of `pixels` `[height, width, 3]` as network input `[3, height, width]`, over `out`.
    pub fn view(&self, pixels: &[u8], input: &ImageInput, rng: &mut ChaCha8Rng, out: &mut [f32]) {
        match self {
            Self::Mild(mild) => mild.view(pixels, input, rng, out),
            Self::Crop(crop) => crop.view(pixels, input, rng, out),
        }
    }
}

/// Whether to mirror left and right, to mirror up and down, to exchange both axes.
fn mirror(flip: Flip, square: bool, rng: &mut ChaCha8Rng) -> [bool; 3] {
    match flip {
        Flip::None => [false, false, false],
        Flip::Horizontal => [rng.random(), false, false],
        Flip::Both => [rng.random(), rng.random(), rng.random::<bool>() && square],
    }
}

//! Mirror images, small shifts, mild changes of light: the photograph's meaning and its scale stay.

use csp_models::manifest::ImageInput;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::training::config::Flip;

/// What may be done to a picture.
#[derive(Clone, Copy, Debug)]
pub struct Mild {
    /// Mirror images.
    pub flip: Flip,
    /// Largest shift as a share of the side; the edge is repeated.
    pub shift: f32,
    /// Largest relative change of brightness and contrast, and half of it per channel.
    pub light: f32,
}

impl Mild {
    /// What training from scratch uses: a sixteenth of the side, 20 % of light.
    pub fn new(flip: Flip) -> Self {
        Self { flip, shift: 1.0 / 16.0, light: 0.2 }
    }

    /// A random view of `pixels` `[height, width, 3]` as network input `[3, height, width]`, over `out`.
    pub fn view(&self, pixels: &[u8], input: &ImageInput, rng: &mut ChaCha8Rng, out: &mut [f32]) {
        let (width, height) = (input.width as usize, input.height as usize);
        let [flip_x, flip_y, turn] = super::mirror(self.flip, width == height, rng);
        let mut offset = |side: usize| {
            let most = (side as f32 * self.shift).round() as i32;
            rng.random_range(-most..=most) as isize
        };
        let (dx, dy) = (offset(width), offset(height));
        let mut factor = |range: f32| 1.0 + range * (2.0 * rng.random::<f32>() - 1.0);
        let (brightness, contrast) = (factor(self.light), factor(self.light));
        let tints = [factor(self.light / 2.0), factor(self.light / 2.0), factor(self.light / 2.0)];
        let middle = pixels.iter().map(|&p| u64::from(p)).sum::<u64>() as f32 / (pixels.len() as f32 * 255.0);

        let clamp = |v: isize, side: usize| v.clamp(0, side as isize - 1) as usize;
        for (channel, plane) in out.chunks_exact_mut(width * height).enumerate() {
            // p ↦ ((p − middle)·contrast + middle)·brightness·tint, then the network's normalisation
            let gain = brightness * tints[channel];
            let scale = contrast * gain / (255.0 * input.std[channel]);
            let shift = (middle * (1.0 - contrast) * gain - input.mean[channel]) / input.std[channel];
            for (y, row) in plane.chunks_exact_mut(width).enumerate() {
                let y = clamp(if flip_y { height - 1 - y } else { y } as isize + dy, height);
                for (x, value) in row.iter_mut().enumerate() {
                    let x = clamp(if flip_x { width - 1 - x } else { x } as isize + dx, width);
                    let at = if turn { x * width + y } else { y * width + x };
                    *value = f32::from(pixels[3 * at + channel]) * scale + shift;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::rng;
    use csp_models::picture;

    const INPUT: ImageInput =
        ImageInput { width: 8, height: 8, mean: [0.5, 0.4, 0.3], std: [0.25, 0.5, 1.0] };

    fn pixels() -> Vec<u8> {
        (0..8 * 8 * 3).map(|i| (i * 37 % 251) as u8).collect()
    }

    #[test]
    fn nothing_allowed_is_the_plain_input() {
        let none = Mild { flip: Flip::None, shift: 0.0, light: 0.0 };
        let mut out = vec![0.0; 8 * 8 * 3];
        none.view(&pixels(), &INPUT, &mut rng::stream(1, "t", 0), &mut out);
        for (got, want) in out.iter().zip(picture::to_f32(&pixels(), &INPUT)) {
            assert!((got - want).abs() < 1e-4, "{got} {want}");
        }
    }

    #[test]
    fn mirror_images_are_those_of_the_square() {
        let views = |flip| {
            let augment = Mild { flip, shift: 0.0, light: 0.0 };
            let mut seen: Vec<Vec<u32>> = Vec::new();
            for i in 0..200 {
                let mut out = vec![0.0; 8 * 8 * 3];
                augment.view(&pixels(), &INPUT, &mut rng::stream(1, "t", i), &mut out);
                let bits: Vec<u32> = out.iter().map(|v| v.to_bits()).collect();
                if !seen.contains(&bits) {
                    seen.push(bits);
                }
            }
            seen.len()
        };
        assert_eq!([Flip::None, Flip::Horizontal, Flip::Both].map(views), [1, 2, 8]);
    }
}

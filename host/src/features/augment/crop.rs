//! Random resized crops, mirror images and colour jitter (csp-spec §1.5; as torchvision's transforms
//! of these names). Crops are taken from the stored pictures, which have the network's input size.

use csp_models::manifest::ImageInput;
use rand::{RngExt, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::colour;
use crate::training::config::{AugmentConfig, Flip};

/// Tries before the whole picture is taken: a narrow crop of a large share may not fit.
const TRIES: usize = 10;

/// The ranges of what may be done.
#[derive(Clone, Copy, Debug)]
pub struct Crop {
    /// Mirror images.
    pub flip: Flip,
    /// Everything else.
    pub config: AugmentConfig,
}

/// A part of the picture in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Window {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

impl Crop {
    /// See [`Augment::view`](super::Augment::view).
    pub fn view(&self, pixels: &[u8], input: &ImageInput, rng: &mut ChaCha8Rng, out: &mut [f32]) {
        let (width, height) = (input.width as usize, input.height as usize);
        let window = self.window(width as f64, height as f64, rng);
        let mirror = super::mirror(self.flip, width == height, rng);
        resample(pixels, width, height, window, mirror, out);
        self.jitter(rng, out);
        for (channel, plane) in out.chunks_exact_mut(width * height).enumerate() {
            let (mean, std) = (input.mean[channel], input.std[channel]);
            plane.iter_mut().for_each(|value| *value = (*value - mean) / std);
        }
    }

    /// A window of a random share of the picture and a random shape.
    fn window(&self, width: f64, height: f64, rng: &mut ChaCha8Rng) -> Window {
        let AugmentConfig { area: [least, most], ratio, .. } = self.config;
        for _ in 0..TRIES {
            let area = width * height * (least + (most - least) * rng.random::<f64>());
            let shape = (ratio.ln() * (2.0 * rng.random::<f64>() - 1.0)).exp();
            let (w, h) = ((area * shape).sqrt().round(), (area / shape).sqrt().round());
            if (1.0..=width).contains(&w) && (1.0..=height).contains(&h) {
                let mut start = |room: f64| (rng.random::<f64>() * (room + 1.0)).floor().min(room);
                return Window { x: start(width - w), y: start(height - h), width: w, height: h };
            }
        }
        Window { x: 0.0, y: 0.0, width, height }
    }

    /// Brightness, contrast, saturation and hue, in random order.
    fn jitter(&self, rng: &mut ChaCha8Rng, planes: &mut [f32]) {
        let AugmentConfig { brightness, contrast, saturation, hue, .. } = self.config;
        let mut order = [0, 1, 2, 3];
        order.shuffle(rng);
        let mut around =
            |centre: f64, range: f64| (centre + range * (2.0 * rng.random::<f64>() - 1.0)) as f32;
        let (brightness, contrast) = (around(1.0, brightness).max(0.0), around(1.0, contrast).max(0.0));
        let (saturation, hue) = (around(1.0, saturation).max(0.0), around(0.0, hue));
        for step in order {
            match step {
                0 => colour::brightness(planes, brightness),
                1 => colour::contrast(planes, contrast),
                2 => colour::saturation(planes, saturation),
                _ => colour::hue(planes, hue),
            }
        }
    }
}

/// The window, mirrored, over the whole output: levels 0 to 1, planar, bilinear between pixel centres.
fn resample(pixels: &[u8], width: usize, height: usize, window: Window, mirror: [bool; 3], out: &mut [f32]) {
    let [flip_x, flip_y, turn] = mirror;
    let taps =
        |start: f64, length: f64, sides: usize, flip: bool, limit: usize| -> Vec<(usize, usize, f32)> {
            let last = (start + length - 1.0).max(start);
            (0..sides)
                .map(|i| {
                    let i = if flip { sides - 1 - i } else { i };
                    let at = (start + (i as f64 + 0.5) * length / sides as f64 - 0.5).clamp(start, last);
                    let low = at.floor();
                    ((low as usize).min(limit - 1), (low as usize + 1).min(limit - 1), (at - low) as f32)
                })
                .collect()
        };
    // exchanged axes: what runs across the output runs down the picture; only squares are turned
    let across = taps(window.x, window.width, width, flip_x, width);
    let down = taps(window.y, window.height, height, flip_y, height);
    let (plane, level) =
        (width * height, |x: usize, y: usize, c: usize| f32::from(pixels[3 * (y * width + x) + c]));
    for row in 0..height {
        for column in 0..width {
            let (x, y) = if turn { (across[row], down[column]) } else { (across[column], down[row]) };
            for c in 0..3 {
                let mix = |y: usize| level(x.0, y, c) * (1.0 - x.2) + level(x.1, y, c) * x.2;
                let value = mix(y.0) * (1.0 - y.2) + mix(y.1) * y.2;
                out[c * plane + row * width + column] = value / 255.0;
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
        ImageInput { width: 12, height: 8, mean: [0.5, 0.4, 0.3], std: [0.25, 0.5, 1.0] };
    const STILL: AugmentConfig = AugmentConfig {
        views: crate::training::config::Views::Crop,
        area: [1.0, 1.0],
        ratio: 1.0,
        brightness: 0.0,
        contrast: 0.0,
        saturation: 0.0,
        hue: 0.0,
    };

    fn pixels() -> Vec<u8> {
        (0..12 * 8 * 3).map(|i| (i * 37 % 251) as u8).collect()
    }

    fn view(crop: Crop, input: &ImageInput, index: u64) -> Vec<f32> {
        let mut out = vec![0.0; 12 * 8 * 3];
        crop.view(&pixels(), input, &mut rng::stream(1, "t", index), &mut out);
        out
    }

    #[test]
    fn nothing_allowed_is_the_plain_input() {
        // a crop of ratio 1 and the whole area does not fit a picture that is not square: the whole is taken
        let plain = picture::to_f32(&pixels(), &INPUT);
        for (got, want) in view(Crop { flip: Flip::None, config: STILL }, &INPUT, 0).iter().zip(plain) {
            assert!((got - want).abs() < 1e-4, "{got} {want}");
        }
    }

    #[test]
    fn windows_stay_inside_and_cover_the_range() {
        let crop =
            Crop { flip: Flip::None, config: AugmentConfig { ratio: 2.0, ..AugmentConfig::default() } };
        let mut rng = rng::stream(2, "t", 0);
        let windows: Vec<Window> = (0..2000).map(|_| crop.window(60.0, 40.0, &mut rng)).collect();
        for w in &windows {
            assert!(w.x >= 0.0 && w.y >= 0.0 && w.x + w.width <= 60.0 && w.y + w.height <= 40.0, "{w:?}");
        }
        let share = |w: &Window| w.width * w.height / 2400.0;
        let (least, most) =
            windows.iter().map(share).fold((1.0, 0.0), |(a, b): (f64, f64), s| (a.min(s), b.max(s)));
        assert!(least < 0.1 && most > 0.9, "{least} {most}");
        assert!(
            windows.iter().any(|w| w.width > 1.7 * w.height)
                && windows.iter().any(|w| w.height > 1.7 * w.width)
        );
    }

    #[test]
    fn the_same_stream_gives_the_same_view() {
        let crop = Crop { flip: Flip::Horizontal, config: AugmentConfig::default() };
        assert_eq!(view(crop, &INPUT, 3), view(crop, &INPUT, 3));
        assert_ne!(view(crop, &INPUT, 3), view(crop, &INPUT, 4));
        let levels = ImageInput { mean: [0.0; 3], std: [1.0; 3], ..INPUT };
        for index in 0..50 {
            assert!(view(crop, &levels, index).iter().all(|v| (0.0..=1.0).contains(v)));
        }
    }

    /// A quarter of a gradient, enlarged, is that part of the gradient.
    #[test]
    fn crops_keep_what_they_show() {
        let (width, height) = (16, 16);
        let gradient: Vec<u8> =
            (0..height * width).flat_map(|i| [(i % width * 10) as u8, (i / width * 10) as u8, 7]).collect();
        let window = Window { x: 4.0, y: 8.0, width: 8.0, height: 8.0 };
        let mut out = vec![0.0; width * height * 3];
        resample(&gradient, width, height, window, [false; 3], &mut out);
        for y in 1..height - 1 {
            for x in 1..width - 1 {
                let (want_x, want_y) = (40.0 + 5.0 * x as f32 - 2.5, 80.0 + 5.0 * y as f32 - 2.5);
                assert!((out[y * width + x] * 255.0 - want_x).abs() < 1e-3);
                assert!((out[width * height + y * width + x] * 255.0 - want_y).abs() < 1e-3);
            }
        }
        let mut mirrored = vec![0.0; width * height * 3];
        resample(&gradient, width, height, window, [true, false, false], &mut mirrored);
        for (row, other) in out.chunks(width).zip(mirrored.chunks(width)) {
            assert!(row.iter().eq(other.iter().rev()));
        }
    }
}

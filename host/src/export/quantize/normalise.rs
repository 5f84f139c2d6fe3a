//! The picture's normalisation inside the convolutions that read it.
//!
//! They are fed levels, 0 to 1, counted from the byte that stands for "outside the picture".

use csp_models::manifest::ImageInput;

/// The byte that stands for "outside the picture": as close to the normalised zero as one byte for
/// three channels can be.
pub(super) fn zero_point(input: &ImageInput) -> i8 {
    let mean = input.mean.iter().sum::<f32>() / 3.0;
    ((mean * 255.0).round_ties_even() - 128.0).clamp(-128.0, 127.0) as i8
}

/// What that byte is in units of the normalised input of a channel: the error at the padded border,
/// and the shift that the convolution's bias takes in.
pub(super) fn border(input: &ImageInput, channel: usize) -> f64 {
    let level = (f64::from(zero_point(input)) + 128.0) / 255.0;
    (level - f64::from(input.mean[channel])) / f64::from(input.std[channel])
}

/// Turns weights `[out, in, kernel, kernel]` for the normalised picture into weights for levels counted
/// from the border's byte; returns what each output's bias has to take in.
pub(super) fn fold(weight: &mut [f32], shape: &[usize], input: &ImageInput) -> Vec<f64> {
    let (channels, inputs) = (shape[0], shape[1]);
    let kernel = (shape[2] * shape[3]).max(1);
    let mut shift = vec![0.0; channels];
    for (c, filter) in weight.chunks_exact_mut((inputs * kernel).max(1)).enumerate() {
        for (i, taps) in filter.chunks_exact_mut(kernel).enumerate() {
            // all three planes in one group; with three groups a filter reads the plane of its group
            let plane = if inputs == 3 { i } else { c * 3 / channels };
            let sum: f64 = taps.iter().map(|&w| f64::from(w)).sum();
            shift[c] += sum * border(input, plane);
            let std = f64::from(input.std[plane]);
            taps.iter_mut().for_each(|w| *w = (f64::from(*w) / std) as f32);
        }
    }
    shift
}

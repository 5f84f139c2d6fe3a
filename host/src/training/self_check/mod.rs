//! Whether a device computes what the CPU does: steps of every kind of network on both, compared.

mod layers;

use burn::{
    module::Module,
    optim::GradientsParams,
    tensor::{Device, Int, Tensor, TensorData},
};
use csp_models::{
    nn::{BackboneKind, ImageClassifierConfig, LocationClassifierConfig},
    situation::Situation,
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use self::layers::Layers;
use super::{
    TrainError,
    config::{LocationConfig, PretrainConfig},
    init,
    losses::presence::{Observed, PresenceConfig},
    optim::{AdamW, AdamWConfig, gradient_norm},
    rng,
    row_features::RowFeatures,
    sampler::Negatives,
    stages::{Pretrain, cross_entropy, indices},
};
use crate::features::position_features;

/// How large the networks of a check are: a device chooses its kernels by that.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Rows of the data set.
    rows: usize,
    /// Image features of a row.
    features: usize,
    /// Rows of a step.
    batch: usize,
    /// Hidden width and embedding of the location network.
    location: [usize; 2],
    /// The image network.
    backbone: BackboneKind,
    /// Length of a side of its pictures, pixels.
    side: usize,
}

impl Size {
    /// A slow device finishes too.
    pub const SMALL: Self = Self {
        rows: 512,
        features: 96,
        batch: 128,
        location: [128, 64],
        backbone: BackboneKind::SmallCnn(8),
        side: 32,
    };
    /// As in training: the released model's location network, MobileNetV2 at 224 × 224.
    pub const LARGE: Self = Self {
        rows: 4096,
        features: 2048,
        batch: 1024,
        location: [512, 256],
        backbone: BackboneKind::MobileNetV2(1.0),
        side: 224,
    };
}

/// Classes of the check, and pictures of a step.
const CLASSES: usize = 10;
const PICTURES: usize = 8;

/// A step on both devices.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CheckedStep {
    /// The stage whose step it is.
    pub stage: &'static str,
    /// From 1 in each stage.
    pub step: u64,
    /// Loss on the CPU and on the device.
    pub loss: [f64; 2],
    /// Length of the gradient on the CPU and on the device.
    pub gradient: [f64; 2],
    /// Whether both agree.
    pub agrees: bool,
}

/// The outcome of a check.
#[derive(Clone, Debug, Serialize)]
pub struct SelfCheck {
    /// Every step.
    pub steps: Vec<CheckedStep>,
    /// The first step that differs.
    pub first_difference: Option<CheckedStep>,
    /// Largest relative difference of a loss that passes.
    pub tolerance: f64,
}

/// Largest relative difference of a gradient that passes, in tolerances: the optimizer's first steps
/// take the sign of a gradient, also of one that is nearly 0.
const GRADIENT: f64 = 10.0;

/// Loss and length of the gradient of each step.
type Trace = Vec<(f64, f64)>;
/// Takes so many steps of a size on a device with a seed.
type Take = fn(&Device, &Size, u64, u64) -> Result<Trace, TrainError>;

/// What is checked.
const STAGES: [(&str, Take); 4] =
    [("pretrain", pretrain), ("finetune", finetune), ("backbone", backbone), ("layers", layers)];

/// Takes `steps` steps of pre-training with all terms of its loss, of fine-tuning, of an image network and of
/// what published ones are built of on the CPU and on `device`, with one seed. After each stage `tell` hears
/// of its steps.
///
/// # Errors
/// A step that cannot be taken.
pub fn self_check(
    device: &Device,
    size: &Size,
    steps: u64,
    seed: u64,
    tolerance: f64,
    mut tell: impl FnMut(&[CheckedStep]),
) -> Result<SelfCheck, TrainError> {
    let mut all = Vec::new();
    for (stage, take) in STAGES {
        let on = |device| take(device, size, steps, seed);
        let checked = compare(stage, &on(&Device::flex())?, &on(device)?, tolerance);
        tell(&checked);
        all.extend(checked);
    }
    let first_difference = all.iter().find(|step| !step.agrees).copied();
    Ok(SelfCheck { steps: all, first_difference, tolerance })
}

fn pretrain(device: &Device, size: &Size, steps: u64, seed: u64) -> Result<Trace, TrainError> {
    let mut rng = rng::stream(seed, "self-check", 0);
    let places = places(&mut rng, size.rows);
    // waves over the sphere, so that there is something to learn
    let waves: Vec<[f64; 3]> =
        (0..size.features).map(|_| [0; 3].map(|_| 6.0 * rng.random::<f64>() - 3.0)).collect();
    let seen = |place: &Situation| {
        let (lat, lon) = (place.at.lat().to_radians(), place.at.lon().to_radians());
        let on_sphere = [lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()];
        let along = move |wave: &[f64; 3]| wave.iter().zip(on_sphere).map(|(w, x)| w * x).sum::<f64>();
        waves.iter().map(move |wave| along(wave).sin() as f32).collect::<Vec<f32>>()
    };
    let features: Vec<f32> = places.iter().flat_map(seen).collect();
    let no_room = || TrainError::corrupt("self-check", "the device has no room for its features");
    let images = RowFeatures::hold(features, size.features, device).ok_or_else(no_room)?;
    let mut config = PretrainConfig {
        batch: size.batch,
        min_steps: steps,
        max_steps: steps,
        learned_temperatures: true,
        queue: 2 * size.batch,
        ..PretrainConfig::default()
    };
    config.mc.symmetric = true;
    let mut stage = Pretrain::new(&places, images, &[], &location(size), &config, seed, device);
    (0..steps).map(|step| stage.traced_step(step)).collect()
}

/// The presence loss with its random places, on a class matrix.
fn finetune(device: &Device, size: &Size, steps: u64, seed: u64) -> Result<Trace, TrainError> {
    let device = device.clone().autodiff();
    let mut rng = rng::stream(seed, "self-check", 1);
    let location = location(size);
    let batch = size.batch;
    let positions = position_features(&location.encoder, &places(&mut rng, 2 * batch), &device);
    let network = LocationClassifierConfig::new(location.network(), CLASSES).init(&device);
    let classes = classes(batch, &device);
    let loss = PresenceConfig::default();
    Ok(trace(init::randomise(network, seed, "self-check/finetune"), steps, |network| {
        let logits = network.forward(positions.clone());
        loss.loss(Observed {
            logits: logits.clone().narrow(0, 0, batch),
            background: Some(logits.narrow(0, batch, batch)),
            classes: classes.clone(),
            others: None,
            users: None,
            weights: None,
        })
    }))
}

/// Convolutions, batch normalisation and the mean over the picture.
fn backbone(device: &Device, size: &Size, steps: u64, seed: u64) -> Result<Trace, TrainError> {
    let device = device.clone().autodiff();
    let network = ImageClassifierConfig::new(size.backbone, CLASSES).init(&device);
    Ok(on_pictures(network, (size.side, steps, seed), "backbone", &device, |network, pictures| {
        network.forward(pictures)
    }))
}

/// Layers of published backbones: depthwise and one-dimensional filters, pools with a border.
fn layers(device: &Device, size: &Size, steps: u64, seed: u64) -> Result<Trace, TrainError> {
    let device = device.clone().autodiff();
    let network = Layers::new(CLASSES, &device);
    Ok(on_pictures(network, (size.side, steps, seed), "layers", &device, |network, pictures| {
        network.forward(pictures)
    }))
}

/// Steps of a classifier on pictures of noise, which it learns by heart.
fn on_pictures<M: Module>(
    network: M,
    (side, steps, seed): (usize, u64, u64),
    stage: &str,
    device: &Device,
    logits: impl Fn(&M, Tensor<4>) -> Tensor<2>,
) -> Trace {
    let mut rng = rng::stream(seed, "self-check", 2);
    let pixels: Vec<f32> = (0..PICTURES * 3 * side * side).map(|_| 2.0 * rng.random::<f32>() - 1.0).collect();
    let pictures: Tensor<4> = Tensor::from_data(TensorData::new(pixels, [PICTURES, 3, side, side]), device);
    let classes = classes(PICTURES, device);
    trace(init::randomise(network, seed, &format!("self-check/{stage}")), steps, |network| {
        cross_entropy(logits(network, pictures.clone()), classes.clone(), 0.1)
    })
}

/// Steps of a network down a loss `[1]`.
fn trace<M: Module>(mut network: M, steps: u64, loss: impl Fn(&M) -> Tensor<1>) -> Trace {
    let mut optimizer = AdamW::new(AdamWConfig { weight_decay: 0.01, ..AdamWConfig::default() });
    let mut step = |_| {
        let loss = loss(&network);
        let gradients = GradientsParams::from_grads(loss.backward(), &network);
        let norm = gradient_norm(&network, &gradients);
        network = optimizer.step(network.clone(), gradients, 1e-3, |_| 1.0);
        (f64::from(loss.into_scalar::<f32>()), norm)
    };
    (0..steps).map(&mut step).collect()
}

fn places(rng: &mut ChaCha8Rng, rows: usize) -> Vec<Situation> {
    (0..rows).map(|_| Situation::undated(Negatives::Sphere.draw(rng))).collect()
}

fn location(size: &Size) -> LocationConfig {
    let [hidden, embedding] = size.location;
    LocationConfig { hidden, embedding, ..LocationConfig::default() }
}

/// `[rows]`, one after the other.
fn classes(rows: usize, device: &Device) -> Tensor<1, Int> {
    indices((0..rows).map(|row| (row % CLASSES) as i32), device)
}

fn compare(stage: &'static str, cpu: &Trace, other: &Trace, tolerance: f64) -> Vec<CheckedStep> {
    // a NaN agrees with nothing
    let close = |a: f64, b: f64, tolerance: f64| (a - b).abs() <= tolerance * a.abs().max(1e-6);
    (1..)
        .zip(cpu.iter().zip(other))
        .map(|(step, (a, b))| CheckedStep {
            stage,
            step,
            loss: [a.0, b.0],
            gradient: [a.1, b.1],
            agrees: close(a.0, b.0, tolerance) && close(a.1, b.1, GRADIENT * tolerance),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_agrees_with_itself_and_learns() {
        let mut told = Vec::new();
        let check =
            self_check(&Device::flex(), &Size::SMALL, 20, 3, 1e-3, |steps| told.extend_from_slice(steps))
                .unwrap();
        assert_eq!(check.first_difference, None);
        assert_eq!((check.steps.len(), &told), (80, &check.steps));
        for step in &check.steps {
            assert_eq!(step.loss[0], step.loss[1], "one seed, one device: one result");
            assert!(step.gradient[0] > 0.0);
        }
        // from step 4 on the queue of pre-training is full
        for (stage, from) in [("pretrain", 3), ("finetune", 0), ("backbone", 0), ("layers", 0)] {
            let of: Vec<f64> =
                check.steps.iter().filter(|step| step.stage == stage).map(|step| step.loss[0]).collect();
            assert!(of[19] < of[from] - 0.1, "{stage}: {of:?}");
        }
    }

    #[test]
    fn the_first_step_that_differs_is_named() {
        let good: Trace = (0..20).map(|i| (5.0 - 0.1 * f64::from(i), 1.0)).collect();
        let first = |change: &dyn Fn(&mut Trace)| {
            let mut other = good.clone();
            change(&mut other);
            compare("pretrain", &good, &other, 1e-3).iter().find(|step| !step.agrees).map(|step| step.step)
        };
        assert_eq!(first(&|_| ()), None);
        assert_eq!(first(&|other| other[6].0 *= 1.002), Some(7));
        assert_eq!(first(&|other| other[6].0 *= 1.0005), None);
        assert_eq!(first(&|other| other[3].1 *= 1.02), Some(4));
        assert_eq!(first(&|other| other[9].0 = f64::NAN), Some(10));
        // another seed is another run: the check can fail on real numbers too
        for (stage, take) in STAGES {
            let [a, b] = [1, 2].map(|seed| take(&Device::flex(), &Size::SMALL, 3, seed).unwrap());
            assert!(!compare(stage, &a, &b, 1e-3)[0].agrees, "{stage}");
        }
    }
}

//! Whether a device computes what the CPU does: twenty steps of pre-training on both, compared.

use csp_models::{place::LatLon, situation::Situation};
use rand::RngExt;
use serde::Serialize;

use burn::tensor::{Device, Tensor, TensorData};

use super::{
    TrainError,
    config::{LocationConfig, PretrainConfig},
    rng,
    sampler::Negatives,
    stages::Pretrain,
};

/// Rows, image features and batch of the check: small, so that a slow device finishes too.
const ROWS: usize = 512;
const FEATURES: usize = 96;
const BATCH: usize = 128;

/// A step on both devices.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CheckedStep {
    /// From 1.
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
    pub first_difference: Option<u64>,
    /// Largest relative difference of a loss that passes.
    pub tolerance: f64,
}

/// Largest relative difference of a gradient that passes, in tolerances: the optimizer's first steps
/// take the sign of a gradient, also of one that is nearly 0.
const GRADIENT: f64 = 10.0;

/// Takes `steps` steps with all terms of the loss on the CPU and on `device`, with one seed.
///
/// # Errors
/// A step that cannot be taken.
pub fn self_check(device: &Device, steps: u64, seed: u64, tolerance: f64) -> Result<SelfCheck, TrainError> {
    Ok(compare(&trace(&Device::flex(), steps, seed)?, &trace(device, steps, seed)?, tolerance))
}

/// Loss and gradient of each step.
fn trace(device: &Device, steps: u64, seed: u64) -> Result<Vec<(f64, f64)>, TrainError> {
    let mut rng = rng::stream(seed, "self-check", 0);
    let places: Vec<LatLon> = (0..ROWS).map(|_| Negatives::Sphere.draw(&mut rng)).collect();
    // waves over the sphere, so that there is something to learn
    let waves: Vec<[f64; 3]> =
        (0..FEATURES).map(|_| [0; 3].map(|_| 6.0 * rng.random::<f64>() - 3.0)).collect();
    let seen = |place: &LatLon| {
        let (lat, lon) = (place.lat().to_radians(), place.lon().to_radians());
        let on_sphere = [lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()];
        let along = move |wave: &[f64; 3]| wave.iter().zip(on_sphere).map(|(w, x)| w * x).sum::<f64>();
        waves.iter().map(move |wave| along(wave).sin() as f32).collect::<Vec<f32>>()
    };
    let features: Vec<f32> = places.iter().flat_map(seen).collect();
    let images = Tensor::from_data(TensorData::new(features, [ROWS, FEATURES]), device);
    let location = LocationConfig { hidden: 128, embedding: 64, ..LocationConfig::default() };
    let mut config = PretrainConfig {
        batch: BATCH,
        min_steps: steps,
        max_steps: steps,
        learned_temperatures: true,
        queue: 2 * BATCH,
        ..PretrainConfig::default()
    };
    config.mc.symmetric = true;
    let mut stage = Pretrain::new(&undated(&places), images, &[], &location, &config, seed, device);
    (0..steps).map(|step| stage.traced_step(step)).collect()
}

fn undated(places: &[LatLon]) -> Vec<Situation> {
    places.iter().copied().map(Situation::undated).collect()
}

fn compare(cpu: &[(f64, f64)], other: &[(f64, f64)], tolerance: f64) -> SelfCheck {
    // a NaN agrees with nothing
    let close = |a: f64, b: f64, tolerance: f64| (a - b).abs() <= tolerance * a.abs().max(1e-6);
    let steps: Vec<CheckedStep> = (1..)
        .zip(cpu.iter().zip(other))
        .map(|(step, (a, b))| CheckedStep {
            step,
            loss: [a.0, b.0],
            gradient: [a.1, b.1],
            agrees: close(a.0, b.0, tolerance) && close(a.1, b.1, GRADIENT * tolerance),
        })
        .collect();
    let first_difference = steps.iter().find(|step| !step.agrees).map(|step| step.step);
    SelfCheck { steps, first_difference, tolerance }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_agrees_with_itself_and_learns() {
        let check = self_check(&Device::flex(), 20, 3, 1e-3).unwrap();
        assert_eq!(check.first_difference, None);
        assert_eq!(check.steps.len(), 20);
        for step in &check.steps {
            assert_eq!(step.loss[0], step.loss[1], "one seed, one device: one result");
            assert!(step.gradient[0] > 0.0);
        }
        // from step 4 on the queue is full
        assert!(check.steps[19].loss[0] < check.steps[3].loss[0] - 0.1, "{:?}", check.steps);
    }

    #[test]
    fn the_first_step_that_differs_is_named() {
        type Trace = Vec<(f64, f64)>;
        let good: Trace = (0..20).map(|i| (5.0 - 0.1 * f64::from(i), 1.0)).collect();
        let first = |change: &dyn Fn(&mut Trace)| {
            let mut other = good.clone();
            change(&mut other);
            compare(&good, &other, 1e-3).first_difference
        };
        assert_eq!(first(&|_| ()), None);
        assert_eq!(first(&|other| other[6].0 *= 1.002), Some(7));
        assert_eq!(first(&|other| other[6].0 *= 1.0005), None);
        assert_eq!(first(&|other| other[3].1 *= 1.02), Some(4));
        assert_eq!(first(&|other| other[9].0 = f64::NAN), Some(10));
        // another seed is another run: the check can fail on real numbers too
        let (a, b) = (trace(&Device::flex(), 3, 1).unwrap(), trace(&Device::flex(), 3, 2).unwrap());
        assert_eq!(compare(&a, &b, 1e-3).first_difference, Some(1));
    }

    /// Left out, loudly, where there is no software Vulkan; `CSP_TEST_VULKAN=1` runs it.
    #[test]
    fn software_vulkan_computes_what_the_cpu_does() {
        if std::env::var_os("CSP_TEST_VULKAN").is_none() {
            eprintln!("SKIPPED: CSP_TEST_VULKAN is not set: no check of a Vulkan device");
            return;
        }
        let device = crate::training::choose_device("vulkan")
            .or_else(|_| crate::training::choose_device("vulkan:software"))
            .expect("CSP_TEST_VULKAN is set, so there is a Vulkan device");
        let check = self_check(&device.device, 20, 3, 1e-3).unwrap();
        assert_eq!(check.first_difference, None, "{}: {:#?}", device.description, check.steps);
    }
}

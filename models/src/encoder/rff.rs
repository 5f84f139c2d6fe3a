//! Random Fourier features (Rahimi and Recht, NIPS 2007): √(2/F) cos(⟨ω_f, u⟩ + b_f) of the place u
//! in [-1, 1]² over an extent, ω_f normal, b_f uniform in [0, 2π).
//!
//! ω and b are those given, as a trained network brings them, or drawn from a seed: the same numbers
//! on every machine.

use alloc::vec::Vec;
use core::f64::consts::TAU;

use super::{EncoderSpec, Kind, Prepared, Settings, direct};
use crate::place::LatLon;

pub(super) const KIND: Kind = Kind {
    name: "rff",
    aliases: &[],
    about: "random Fourier features of longitude and latitude (Rahimi and Recht 2007)",
    takes: &["frequencies", "sigmas", "seed", "extent", "directions", "shifts"],
    defaults: Settings {
        frequencies: 256,
        sigmas: [16.0, 0.0, 0.0, 0.0],
        extent: [-180.0, 180.0, -90.0, 90.0],
        ..Settings::NONE
    },
    dim: |settings| usize::from(settings.frequencies),
    prepare,
    encode,
};

/// ω₁, ω₂, b of each feature.
fn prepare(settings: &Settings, given: &EncoderSpec) -> Vec<f64> {
    if let (Some(directions), Some(shifts)) = (&given.directions, &given.shifts) {
        let given = directions.iter().zip(shifts);
        return given.flat_map(|(&[x, y], &shift)| [x, y, shift]).collect();
    }
    let mut draws = Draws(settings.seed);
    let count = usize::from(settings.frequencies);
    let spread = settings.spreads().cycle();
    spread
        .take(count)
        .flat_map(|sigma| [sigma * draws.normal(), sigma * draws.normal(), TAU * draws.uniform()])
        .collect()
}

fn encode(prepared: &Prepared, place: LatLon, out: &mut [f64]) {
    let [u, v] = direct::within(&prepared.settings, place);
    let size = libm::sqrt(2.0 / out.len() as f64);
    for (feature, row) in out.iter_mut().zip(prepared.table.chunks_exact(3)) {
        *feature = size * libm::cos(row[0] * u + row[1] * v + row[2]);
    }
}

/// Random numbers (SplitMix64, Steele et al. 2014): a few lines that stay the same for good, since
/// a model's features depend on them.
pub(super) struct Draws(pub u64);

impl Draws {
    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal, by Box and Muller.
    pub fn normal(&mut self) -> f64 {
        let (u, v) = (1.0 - self.uniform(), self.uniform());
        libm::sqrt(-2.0 * libm::log(u)) * libm::cos(TAU * v)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        EncoderSpec,
        tests::{check_full, named},
    };
    use super::*;

    #[test]
    fn given_directions_are_used_as_they_are() {
        let spec = EncoderSpec {
            directions: Some(alloc::vec![[0.5, -1.5], [20.0, 3.25]]),
            shifts: Some(alloc::vec![0.1, 1.2]),
            ..EncoderSpec::of("rff")
        };
        let encoder = spec.build().unwrap();
        check_full(&encoder, &[0.6995904011298476, -0.282374778138056]);
        assert_eq!(encoder.spec().frequencies, Some(2));
    }

    #[test]
    fn drawn_directions_are_normal_and_stay_the_same() {
        let mut draws = Draws(0);
        let normal: Vec<f64> = (0..20_000).map(|_| draws.normal()).collect();
        let mean = normal.iter().sum::<f64>() / 2e4;
        let square = normal.iter().map(|x| x * x).sum::<f64>() / 2e4;
        assert!(mean.abs() < 0.03 && (square - 1.0).abs() < 0.04, "{mean} {square}");
        // the first number of the published sequence for seed 0: 0xe220a8397b1dcdaf
        assert_eq!(Draws(0).uniform(), (0xe220_a839_7b1d_cdafu64 >> 11) as f64 / (1u64 << 53) as f64);
        let other = EncoderSpec { seed: Some(1), ..EncoderSpec::of("rff") }.build().unwrap();
        assert!(named("rff") == named("rff") && named("rff") != other);
        let squares: f64 =
            named("rff").encode(super::super::tests::los_angeles(), None).iter().map(|f| f * f).sum();
        assert!((squares - 1.0).abs() < 0.2, "{squares}");
    }
}

//! Real spherical harmonics Y_lm for l < degree, at [l² + l + m], by the recurrence over l of the
//! fully normalised Legendre functions: no factorials, stable at the poles.
//!
//! The angles are SatCLIP's: azimuth longitude + 180°, colatitude latitude + 90° (from the south
//! pole). Without the Condon-Shortley sign.

use alloc::vec::Vec;
use core::f64::consts::PI;

use super::{EncoderSpec, Kind, Prepared, Settings};
use crate::place::LatLon;

pub(super) const ORTHONORMAL: Kind = Kind {
    name: "spherical-harmonics",
    aliases: &["sh", "spherical_harmonics", "sphericalharmonics"],
    about: "real spherical harmonics below a degree, orthonormal: no pole, no seam (Rußwurm et al., ICLR 2024)",
    takes: &["degree"],
    defaults: Settings { degree: 10, ..Settings::NONE },
    dim: |settings| usize::from(settings.degree) * usize::from(settings.degree),
    prepare,
    encode: |prepared, place, out| encode(prepared, place, 1.0, out),
};

/// SatCLIP's published code takes √((2l+1)/4·π) for √((2l+1)/(4π)) where m = 0; its weights need the
/// same factor π.
pub(super) const SATCLIP: Kind = Kind {
    name: "spherical-harmonics-satclip",
    aliases: &["satclip"],
    about: "the same with π times Y_l0, as the weights of SatCLIP (AAAI 2025) expect them",
    encode: |prepared, place, out| encode(prepared, place, PI, out),
    ..ORTHONORMAL
};

/// Of each (l, m), m ≤ l: the factors a, b of P̄_l^m = a (x P̄_{l−1}^m − b P̄_{l−2}^m); for m = l, a is
/// that of P̄_m^m = a sin θ P̄_{m−1}^{m−1}.
fn prepare(settings: &Settings, _: &EncoderSpec) -> Vec<f64> {
    let pairs = (0..u32::from(settings.degree)).flat_map(|l| (0..=l).map(move |m| (l, m)));
    let factors = pairs.flat_map(|(l, m)| {
        let (l, m) = (f64::from(l), f64::from(m));
        if l == m {
            // the real functions of m and −m carry √2, once
            let double = if m == 1.0 { 2.0 } else { 1.0 };
            return [libm::sqrt(double * (2.0 * m + 1.0) / (2.0 * m).max(1.0)), 0.0];
        }
        let a = libm::sqrt((4.0 * l * l - 1.0) / (l * l - m * m));
        let before = l - 1.0;
        [a, libm::sqrt((before * before - m * m) / (4.0 * before * before - 1.0))]
    });
    factors.collect()
}

fn encode(prepared: &Prepared, place: LatLon, zonal: f64, out: &mut [f64]) {
    let degree = usize::from(prepared.settings.degree);
    let [lon, lat] = place.lon_lat().map(|degrees| degrees * PI / 180.0);
    // cos and sin of the colatitude lat + 90°
    let (x, s) = (-libm::sin(lat), libm::cos(lat));
    let factor = |l: usize, m: usize| {
        let at = 2 * (l * (l + 1) / 2 + m);
        (prepared.table[at], prepared.table[at + 1])
    };
    let mut diagonal = 1.0 / libm::sqrt(4.0 * PI);
    for m in 0..degree {
        if m > 0 {
            diagonal *= factor(m, m).0 * s;
        }
        let angle = m as f64 * (lon + PI);
        let (around, across) = if m == 0 { (zonal, zonal) } else { (libm::cos(angle), libm::sin(angle)) };
        let (mut legendre, mut before) = (diagonal, 0.0);
        for l in m..degree {
            if l > m {
                let (a, b) = factor(l, m);
                (legendre, before) = (a * (x * legendre - b * before), legendre);
            }
            out[l * l + l - m] = across * legendre;
            out[l * l + l + m] = around * legendre;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        EncoderSpec, PositionEncoder,
        tests::{check_full, los_angeles},
    };
    use super::*;

    fn harmonics(kind: &str, degree: u16) -> PositionEncoder {
        EncoderSpec { degree: Some(degree), ..EncoderSpec::of(kind) }.build().unwrap()
    }

    #[test]
    fn matches_the_golden_vectors() {
        check_full(
            &harmonics("satclip", 3),
            &[
                0.886226925,
                0.356612102,
                -0.859465745,
                0.191614594,
                0.312718784,
                -0.446482132,
                -0.058936335,
                -0.239903503,
                -0.206984048,
            ],
        );
        let orthonormal = harmonics("spherical-harmonics", 3).encode(los_angeles(), None);
        for (at, want) in [(0, 0.282094792), (2, -0.273576443), (6, -0.018760018), (3, 0.191614594)] {
            assert!((orthonormal[at] - want).abs() < 1e-9, "{at}: {}", orthonormal[at]);
        }
    }

    /// Σ_m Y_lm² = (2l + 1) / 4π everywhere (the addition theorem), so nothing overflows or dies away
    /// up to the highest degree, at the poles neither.
    #[test]
    fn each_degree_has_its_power_everywhere() {
        let encoder = harmonics("spherical-harmonics", 41);
        for (lat, lon) in
            [(90.0, 0.0), (-90.0, 17.0), (89.9999, -180.0), (0.0, 180.0), (34.05, -118.25), (-61.3, 2.0)]
        {
            let features = encoder.encode(LatLon::new(lat, lon).unwrap(), None);
            for l in 0..41 {
                let power: f64 = features[l * l..(l + 1) * (l + 1)].iter().map(|y| y * y).sum();
                let want = (2 * l + 1) as f64 / (4.0 * PI);
                assert!((power - want).abs() < 1e-11 * want, "{lat},{lon} l = {l}: {power} is not {want}");
            }
        }
    }

    /// The integral over the sphere of Y_a Y_b is 1 for a = b and else 0: Gauss-Legendre nodes would
    /// be exact, a fine midpoint rule is near enough to tell signs and normalisation apart.
    #[test]
    fn they_are_orthonormal() {
        let encoder = harmonics("spherical-harmonics", 4);
        let (rows, columns) = (400, 32);
        let mut gram = [[0f64; 16]; 16];
        for i in 0..rows {
            // equal areas: the sine of latitude is uniform
            let lat = libm::asin(-1.0 + (2 * i + 1) as f64 / rows as f64) * 180.0 / PI;
            for j in 0..columns {
                let lon = -180.0 + 360.0 * (j as f64 + 0.5) / columns as f64;
                let y = encoder.encode(LatLon::new(lat, lon).unwrap(), None);
                for a in 0..16 {
                    for b in 0..16 {
                        gram[a][b] += y[a] * y[b] * 4.0 * PI / (rows * columns) as f64;
                    }
                }
            }
        }
        for (a, row) in gram.iter().enumerate() {
            for (b, value) in row.iter().enumerate() {
                let want = if a == b { 1.0 } else { 0.0 };
                assert!((value - want).abs() < 1e-3, "{a},{b}: {value}");
            }
        }
    }
}

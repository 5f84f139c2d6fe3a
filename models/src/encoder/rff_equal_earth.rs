//! The random Fourier features of GeoCLIP (NeurIPS 2023): the place in the Equal Earth projection,
//! at several spreads; for each, all cos 2π⟨ω_f, x⟩, then all sines, ω_f normal with that spread.

use alloc::vec::Vec;
use core::f64::consts::TAU;

use super::{EncoderSpec, Kind, Prepared, Settings, radians, rff::Draws};
use crate::place::LatLon;

pub(super) const KIND: Kind = Kind {
    name: "rff-equal-earth",
    aliases: &["geoclip"],
    about: "random Fourier features at several spreads in the Equal Earth projection (GeoCLIP, NeurIPS 2023)",
    takes: &["frequencies", "sigmas", "seed", "directions"],
    defaults: Settings { frequencies: 64, sigmas: [1.0, 16.0, 256.0, 0.0], ..Settings::NONE },
    dim: |settings| 2 * usize::from(settings.frequencies) * settings.spreads().count(),
    prepare,
    encode,
};

/// ω₁, ω₂ of each frequency, spread after spread.
fn prepare(settings: &Settings, given: &EncoderSpec) -> Vec<f64> {
    if let Some(directions) = &given.directions {
        return directions.iter().flatten().copied().collect();
    }
    let mut draws = Draws(settings.seed);
    let per_sigma = 2 * usize::from(settings.frequencies);
    let drawn = settings.spreads().flat_map(|sigma| core::iter::repeat_n(sigma, per_sigma));
    drawn.map(|sigma| sigma * draws.normal()).collect()
}

fn encode(prepared: &Prepared, place: LatLon, out: &mut [f64]) {
    let f = usize::from(prepared.settings.frequencies);
    // GeoCLIP's scale: its x and y are about ±1 at the edges
    let [x, y] = equal_earth(place).map(|along| along * 66.50336 / 180.0);
    for (features, rows) in out.chunks_exact_mut(2 * f).zip(prepared.table.chunks_exact(2 * f)) {
        let (cosines, sines) = features.split_at_mut(f);
        for ((cosine, sine), row) in cosines.iter_mut().zip(sines).zip(rows.chunks_exact(2)) {
            let angle = TAU * (row[0] * x + row[1] * y);
            (*cosine, *sine) = (libm::cos(angle), libm::sin(angle));
        }
    }
}

/// The Equal Earth projection (Šavrič et al., IJGIS 2019) of the unit sphere.
fn equal_earth(place: LatLon) -> [f64; 2] {
    const A: [f64; 4] = [1.340264, -0.081106, 0.000893, 0.003796];
    let [lon, lat] = radians(place);
    let root3 = libm::sqrt(3.0);
    let theta = libm::asin(root3 / 2.0 * libm::sin(lat));
    let t2 = theta * theta;
    let t6 = t2 * t2 * t2;
    let slope = 9.0 * A[3] * t6 * t2 + 7.0 * A[2] * t6 + 3.0 * A[1] * t2 + A[0];
    let x = 2.0 * root3 * lon * libm::cos(theta) / (3.0 * slope);
    [x, theta * (A[3] * t6 * t2 + A[2] * t6 + A[1] * t2 + A[0])]
}

#[cfg(test)]
mod tests {
    use super::super::{
        EncoderSpec,
        tests::{check_full, named},
    };
    use super::*;

    #[test]
    fn the_projection_has_its_published_edges() {
        let edge = |lat, lon| equal_earth(LatLon::new(lat, lon).unwrap());
        let close = |got: [f64; 2], want: [f64; 2]| {
            got.iter().zip(want).for_each(|(g, w)| assert!((g - w).abs() < 1e-12, "{got:?} {want:?}"));
        };
        close(edge(0.0, 180.0), [2.7066299836960743, 0.0]);
        close(edge(90.0, 0.0), [0.0, 1.317362759157413]);
    }

    #[test]
    fn matches_an_independent_evaluation() {
        let spec = EncoderSpec {
            sigmas: Some(alloc::vec![1.0]),
            directions: Some(alloc::vec![[0.5, -1.5], [20.0, 3.25]]),
            ..EncoderSpec::of("geoclip")
        };
        check_full(
            &spec.build().unwrap(),
            &[-0.4738405089499909, 0.018164378140674484, 0.880610681333138, -0.9998350140732033],
        );
        assert_eq!(named("rff-equal-earth").dim(), 3 * 2 * 64);
    }
}

//! NeRF: sines, then cosines, of the point of the unit sphere at the angular frequencies π 2^s
//! (Mildenhall et al. 2020, eq. 4), coordinate-major.

use core::f64::consts::PI;

use super::{Kind, Prepared, Settings, xyz};
use crate::place::LatLon;

pub(super) const KIND: Kind = Kind {
    name: "nerf",
    aliases: &[],
    about: "the point of the unit sphere at frequencies doubling from ½ (Mildenhall et al. 2020)",
    takes: &["frequencies"],
    defaults: Settings { frequencies: 8, ..Settings::NONE },
    dim: |settings| 6 * usize::from(settings.frequencies),
    prepare: |settings, _| (0..settings.frequencies).map(|s| PI * libm::exp2(f64::from(s))).collect(),
    encode,
};

fn encode(prepared: &Prepared, place: LatLon, out: &mut [f64]) {
    let f = prepared.table.len();
    let (sines, cosines) = out.split_at_mut(3 * f);
    for (axis, coordinate) in xyz::point(place).into_iter().enumerate() {
        for (s, frequency) in prepared.table.iter().enumerate() {
            let angle = coordinate * frequency;
            sines[axis * f + s] = libm::sin(angle);
            cosines[axis * f + s] = libm::cos(angle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{EncoderSpec, tests::check_full};

    #[test]
    fn matches_the_golden_vector() {
        let spec = EncoderSpec { frequencies: Some(2), ..EncoderSpec::of("NeRF") };
        check_full(
            &spec.build().unwrap(),
            &[
                -0.943166756,
                -0.626866034,
                -0.750398997,
                0.992005161,
                0.982336570,
                -0.367634725,
                0.332319831,
                -0.779127060,
                -0.660985132,
                -0.126197310,
                -0.187122589,
                -0.929970273,
            ],
        );
    }
}

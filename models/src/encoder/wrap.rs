//! wrap: sin and cos of each coordinate over its own period (Mac Aodha et al., ICCV 2019).
//!
//! Latitude has the period of the whole circle too, so that both poles are one point: kept as it is,
//! for the models trained so; [`xyz`](super::xyz) has no such seam.

use core::f64::consts::PI;

use super::{Kind, Prepared, Settings};
use crate::place::LatLon;

pub(super) const KIND: Kind = Kind {
    name: "wrap",
    aliases: &["geo_net", "geo_net_fft", "geo-net", "wrap_ffn"],
    about: "sine and cosine of each coordinate over its range (Mac Aodha et al. 2019); both poles are one",
    takes: &[],
    defaults: Settings::NONE,
    dim: |_| 4,
    prepare: |_, _| alloc::vec::Vec::new(),
    encode,
};

fn encode(_: &Prepared, place: LatLon, out: &mut [f64]) {
    let [lon, lat] = place.lon_lat();
    let (u, v) = (PI * (lon / 180.0), PI * (lat / 90.0));
    out.copy_from_slice(&[libm::sin(u), libm::sin(v), libm::cos(u), libm::cos(v)]);
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_full, named};

    #[test]
    fn matches_the_golden_vector() {
        check_full(&named("geo_net"), &[-0.880890738, 0.927836254, -0.473319667, 0.372987783]);
    }
}

//! The point of the unit sphere: x towards 0° E, y towards 90° E, z towards the north pole.

use super::{Kind, Settings, radians};
use crate::place::LatLon;

pub(super) const KIND: Kind = Kind {
    name: "xyz",
    aliases: &[],
    about: "the point of the unit sphere",
    takes: &[],
    defaults: Settings::NONE,
    dim: |_| 3,
    prepare: |_, _| alloc::vec::Vec::new(),
    encode: |_, place, out| out.copy_from_slice(&point(place)),
};

/// Of length 1.
pub(super) fn point(place: LatLon) -> [f64; 3] {
    let [lon, lat] = radians(place);
    let ring = libm::cos(lat);
    [ring * libm::cos(lon), ring * libm::sin(lon), libm::sin(lat)]
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_full, named};

    #[test]
    fn matches_the_golden_vector() {
        check_full(&named("xyz"), &[-0.392168664, -0.729861377, 0.559916162]);
    }
}

//! Sphere2Vec-sphereC: scale-major, the point of the unit sphere at both scaled angles.

use super::{Kind, Prepared, radians, scales};
use crate::place::LatLon;

pub(super) const KIND: Kind = Kind {
    name: "sphere2vec-c",
    aliases: &["sphere", "sphere2vec-spherec", "spherec"],
    about: "points of the sphere with both angles at each scale, radians (Sphere2Vec, 2023)",
    takes: scales::TAKES,
    defaults: scales::SPHERE,
    dim: |settings| 3 * usize::from(settings.frequencies),
    prepare: scales::ladder,
    encode,
};

fn encode(prepared: &Prepared, place: LatLon, out: &mut [f64]) {
    let [lon, lat] = radians(place);
    for (features, scale) in out.chunks_exact_mut(3).zip(&prepared.table) {
        let (l, p) = (lon / scale, lat / scale);
        let ring = libm::cos(p);
        features.copy_from_slice(&[libm::sin(p), ring * libm::cos(l), ring * libm::sin(l)]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_full, check_sums, scaled};

    #[test]
    fn matches_the_golden_vectors() {
        check_full(
            &scaled("sphere", 2, 0.001, 1.0),
            &[-0.5, 0.852868532, 0.150383733, 0.559916162, -0.392168664, -0.729861377],
        );
        check_sums(
            &scaled("Sphere2Vec-sphereC", 32, 0.001, 1.0),
            [(2.694119472, 32.0, -0.729861377), (-9.172384184, 32.0, 0.399889617), (-1.871525979, 32.0, 0.0)],
        );
    }
}

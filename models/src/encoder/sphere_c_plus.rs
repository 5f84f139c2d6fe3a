//! Sphere2Vec-sphereC+: scale-major, the grid's four terms and the two horizontal ones of sphereC.

use super::{Kind, Prepared, radians, scales};
use crate::place::LatLon;

pub(super) const KIND: Kind = Kind {
    name: "sphere2vec-c+",
    aliases: &["spheregrid", "sphere2vec-spherec+", "spherec+"],
    about: "sphere2vec-c and the grid's terms at each scale, radians (Sphere2Vec, 2023)",
    takes: scales::TAKES,
    defaults: scales::SPHERE,
    dim: |settings| 6 * usize::from(settings.frequencies),
    prepare: scales::ladder,
    encode,
};

fn encode(prepared: &Prepared, place: LatLon, out: &mut [f64]) {
    let [lon, lat] = radians(place);
    for (features, scale) in out.chunks_exact_mut(6).zip(&prepared.table) {
        let (l, p) = (lon / scale, lat / scale);
        let (sin_l, cos_l, sin_p, cos_p) = (libm::sin(l), libm::cos(l), libm::sin(p), libm::cos(p));
        features.copy_from_slice(&[sin_p, cos_p, sin_l, cos_l, cos_p * cos_l, cos_p * sin_l]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_full, check_sums, scaled};

    #[test]
    fn matches_the_golden_vectors() {
        check_full(
            &scaled("spheregrid", 2, 0.001, 1.0),
            &[
                -0.5,
                -0.866025404,
                -0.173648178,
                -0.984807753,
                0.852868532,
                0.150383733,
                0.559916162,
                0.828549269,
                -0.880890738,
                -0.473319667,
                -0.392168664,
                -0.729861377,
            ],
        );
        check_sums(
            &scaled("Sphere2Vec-sphereC+", 32, 0.001, 1.0),
            [
                (-4.005249598, 77.571742456, -0.729861377),
                (-2.794232612, 75.916601121, 0.399889617),
                (9.248131246, 82.594117927, 0.0),
            ],
        );
    }
}

//! Sphere2Vec-sphereM+: scale-major, the grid's four terms and the four mixed ones of sphereM.

use super::{Kind, Prepared, radians, scales};
use crate::place::LatLon;

pub(super) const KIND: Kind = Kind {
    name: "sphere2vec-m+",
    aliases: &["spheregridmixscale", "sphere2vec-spherem+", "spherem+"],
    about: "sphere2vec-m and the grid's terms at each scale, radians (Sphere2Vec, 2023)",
    takes: scales::TAKES,
    defaults: scales::SPHERE,
    dim: |settings| 8 * usize::from(settings.frequencies),
    prepare: scales::ladder,
    encode,
};

fn encode(prepared: &Prepared, place: LatLon, out: &mut [f64]) {
    let [lon, lat] = radians(place);
    let (sin_lon, cos_lon, cos_lat) = (libm::sin(lon), libm::cos(lon), libm::cos(lat));
    for (features, scale) in out.chunks_exact_mut(8).zip(&prepared.table) {
        let (l, p) = (lon / scale, lat / scale);
        let (sin_l, cos_l, cos_p) = (libm::sin(l), libm::cos(l), libm::cos(p));
        features.copy_from_slice(&[
            libm::sin(p),
            cos_p,
            sin_l,
            cos_l,
            cos_p * cos_lon,
            cos_lat * cos_l,
            cos_p * sin_lon,
            cos_lat * sin_l,
        ]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_full, check_sums, scaled};

    #[test]
    fn matches_the_golden_vectors() {
        check_full(
            &scaled("spheregridmixscale", 2, 0.001, 1.0),
            &[
                -0.5,
                -0.866025404,
                -0.173648178,
                -0.984807753,
                0.409906856,
                -0.815961744,
                0.762873757,
                -0.143876071,
                0.559916162,
                0.828549269,
                -0.880890738,
                -0.473319667,
                -0.392168664,
                -0.392168664,
                -0.729861377,
                -0.729861377,
            ],
        );
        check_sums(
            &scaled("Sphere2Vec-sphereM+", 32, 0.001, 1.0),
            [
                (-10.449721041, 99.539546977, -0.729861377),
                (2.593809642, 97.978183757, 0.399889617),
                (8.752863758, 82.594117927, 0.0),
            ],
        );
    }
}

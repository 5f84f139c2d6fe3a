//! Sphere2Vec-sphereM: scale-major, products of one scaled and one unscaled angle.

use super::{Kind, Prepared, radians, scales};
use crate::place::LatLon;

pub(super) const KIND: Kind = Kind {
    name: "sphere2vec-m",
    aliases: &["spheremixscale", "sphere2vec-spherem", "spherem"],
    about: "one angle at each scale, the other as it is, radians (Sphere2Vec, 2023)",
    takes: scales::TAKES,
    defaults: scales::SPHERE,
    dim: |settings| 5 * usize::from(settings.frequencies),
    prepare: scales::ladder,
    encode,
};

fn encode(prepared: &Prepared, place: LatLon, out: &mut [f64]) {
    let [lon, lat] = radians(place);
    let (sin_lon, cos_lon, cos_lat) = (libm::sin(lon), libm::cos(lon), libm::cos(lat));
    for (features, scale) in out.chunks_exact_mut(5).zip(&prepared.table) {
        let (l, p) = (lon / scale, lat / scale);
        let cos_p = libm::cos(p);
        features.copy_from_slice(&[
            libm::sin(p),
            cos_p * cos_lon,
            cos_lat * libm::cos(l),
            cos_p * sin_lon,
            cos_lat * libm::sin(l),
        ]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_full, check_sums, scaled};

    #[test]
    fn matches_the_golden_vectors() {
        check_full(
            &scaled("spheremixscale", 2, 0.001, 1.0),
            &[
                -0.5,
                0.409906856,
                -0.815961744,
                0.762873757,
                -0.143876071,
                0.559916162,
                -0.392168664,
                -0.392168664,
                -0.729861377,
                -0.729861377,
            ],
        );
        check_sums(
            &scaled("Sphere2Vec-sphereM", 32, 0.001, 1.0),
            [
                (-3.750351971, 53.967804521, -0.729861377),
                (-3.784341930, 54.061582636, 0.399889617),
                (-2.366793467, 32.0, 0.0),
            ],
        );
    }
}

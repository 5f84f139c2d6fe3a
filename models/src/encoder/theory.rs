//! Space2Vec-theory: scale-major, six features a scale, from three directions 120° apart.

use super::{Kind, Prepared, Settings, scales};
use crate::place::LatLon;

pub(super) const KIND: Kind = Kind {
    name: "space2vec-theory",
    aliases: &["theory"],
    about: "projections on three directions 120° apart at each scale, degrees (Space2Vec, ICLR 2020)",
    takes: scales::TAKES,
    defaults: Settings { frequencies: 16, r_min: 1.0, r_max: 360.0, ..Settings::NONE },
    dim: |settings| 6 * usize::from(settings.frequencies),
    prepare: scales::ladder,
    encode,
};

fn encode(prepared: &Prepared, place: LatLon, out: &mut [f64]) {
    let [lon, lat] = place.lon_lat();
    let half_sqrt3 = libm::sqrt(3.0) / 2.0;
    let directions = [[1.0, 0.0], [-0.5, half_sqrt3], [-0.5, -half_sqrt3]];
    for (features, scale) in out.chunks_exact_mut(6).zip(&prepared.table) {
        for (pair, [x, y]) in features.chunks_exact_mut(2).zip(directions) {
            let angle = (lon * x + lat * y) / scale;
            pair.copy_from_slice(&[libm::sin(angle), libm::cos(angle)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_full, check_sums, scaled};

    #[test]
    fn matches_the_golden_vectors() {
        check_full(
            &scaled("theory", 2, 0.1, 360.0),
            &[
                -0.952445134,
                0.304710135,
                0.201140107,
                0.979562483,
                0.871690091,
                0.490057533,
                -0.322597308,
                0.946536305,
                0.243669573,
                0.969858309,
                0.082231583,
                0.996613248,
            ],
        );
        check_sums(
            &scaled("space2vec-theory", 32, 0.1, 360.0),
            [
                (17.444206564, 96.0, 0.996613248),
                (0.365246585, 96.0, 0.991750456),
                (8.443774392, 96.0, 0.893145070),
            ],
        );
    }
}

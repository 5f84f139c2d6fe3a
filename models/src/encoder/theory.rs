//! Space2Vec-theory: scale-major, six features a scale, from three directions 120° apart.

use super::Scales;
use crate::place::LatLon;

pub(super) fn encode(scales: Scales, place: LatLon, out: &mut [f64]) {
    let [lon, lat] = place.lon_lat();
    let half_sqrt3 = libm::sqrt(3.0) / 2.0;
    let directions = [[1.0, 0.0], [-0.5, half_sqrt3], [-0.5, -half_sqrt3]];
    for (features, scale) in out.chunks_exact_mut(6).zip(scales.iter()) {
        for (pair, [x, y]) in features.chunks_exact_mut(2).zip(directions) {
            let angle = (lon * x + lat * y) / scale;
            pair.copy_from_slice(&[libm::sin(angle), libm::cos(angle)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{PositionEncoder, Scales, golden};

    #[test]
    fn matches_the_golden_vectors() {
        let small = Scales { frequencies: 2, r_min: 0.1, r_max: 360.0 };
        golden::check_full(
            PositionEncoder::Space2vecTheory(small),
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
        golden::check_sums(
            PositionEncoder::Space2vecTheory(Scales { frequencies: 32, ..small }),
            &[
                ((34.05, -118.25), 17.444206564, 96.0, 0.996613248),
                ((-33.8688, 151.2093), 0.365246585, 96.0, 0.991750456),
                ((90.0, 180.0), 8.443774392, 96.0, 0.893145070),
            ],
        );
    }
}

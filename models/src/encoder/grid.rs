//! Space2Vec-grid: axis-major, all longitude pairs first, then all latitude pairs.

use super::Scales;
use crate::place::LatLon;

pub(super) fn encode(scales: Scales, place: LatLon, out: &mut [f64]) {
    let half = 2 * usize::from(scales.frequencies);
    for (axis, degrees) in place.lon_lat().into_iter().enumerate() {
        for (pair, scale) in out[axis * half..][..half].chunks_exact_mut(2).zip(scales.iter()) {
            let angle = degrees / scale;
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
            PositionEncoder::Space2vecGrid(small),
            &[
                -0.952445134,
                0.304710135,
                -0.322597308,
                0.946536305,
                0.934905754,
                0.354896085,
                0.094442373,
                0.995530330,
            ],
        );
        golden::check_sums(
            PositionEncoder::Space2vecGrid(Scales { frequencies: 32, ..small }),
            &[
                ((34.05, -118.25), 6.005723877, 64.0, 0.995530330),
                ((-33.8688, 151.2093), 10.376842323, 64.0, 0.995577740),
                ((90.0, 180.0), 12.134531105, 64.0, 0.968912422),
            ],
        );
    }
}

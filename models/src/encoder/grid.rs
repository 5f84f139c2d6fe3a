//! Space2Vec-grid: axis-major, all longitude pairs first, then all latitude pairs.

use super::{Kind, Prepared, Settings, scales};
use crate::place::LatLon;

pub(super) const KIND: Kind = Kind {
    name: "space2vec-grid",
    // the original's gridcellnorm turns degrees into radians after their use: the same numbers
    aliases: &["gridcell", "gridcellnorm", "grid"],
    about: "sine and cosine of each coordinate at each scale, degrees (Space2Vec, ICLR 2020)",
    takes: scales::TAKES,
    defaults: Settings { frequencies: 16, r_min: 1.0, r_max: 360.0, ..Settings::NONE },
    dim: |settings| 4 * usize::from(settings.frequencies),
    prepare: scales::ladder,
    encode,
};

fn encode(prepared: &Prepared, place: LatLon, out: &mut [f64]) {
    let half = out.len() / 2;
    for (axis, degrees) in place.lon_lat().into_iter().enumerate() {
        for (pair, scale) in out[axis * half..][..half].chunks_exact_mut(2).zip(&prepared.table) {
            let angle = degrees / scale;
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
            &scaled("gridcell", 2, 0.1, 360.0),
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
        check_sums(
            &scaled("space2vec-grid", 32, 0.1, 360.0),
            [
                (6.005723877, 64.0, 0.995530330),
                (10.376842323, 64.0, 0.995577740),
                (12.134531105, 64.0, 0.968912422),
            ],
        );
    }
}

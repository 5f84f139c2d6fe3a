//! Sphere2Vec-dfs: the double Fourier series on the sphere. The outer product of
//! [sin l₀…, cos l₀…] (rows) with [sin p₀…, cos p₀…] (columns), then sin p, cos p, sin l, cos l of
//! each scale.

use super::{Kind, Prepared, Settings, radians, scales};
use crate::place::LatLon;

pub(super) const KIND: Kind = Kind {
    name: "sphere2vec-dfs",
    aliases: &["dft", "dfs", "sphere2vec-dft"],
    about: "double Fourier series: every scale of one angle with every scale of the other, radians (Sphere2Vec, 2023)",
    takes: scales::TAKES,
    // 4 F² + 4 F features
    defaults: Settings { frequencies: 8, ..scales::SPHERE },
    dim: |settings| {
        let f = usize::from(settings.frequencies);
        4 * f * f + 4 * f
    },
    prepare: scales::ladder,
    encode,
};

fn encode(prepared: &Prepared, place: LatLon, out: &mut [f64]) {
    let [lon, lat] = radians(place);
    let f = prepared.table.len();
    let (products, single) = out.split_at_mut(4 * f * f);
    for (terms, scale) in single.chunks_exact_mut(4).zip(&prepared.table) {
        let (l, p) = (lon / scale, lat / scale);
        terms.copy_from_slice(&[libm::sin(p), libm::cos(p), libm::sin(l), libm::cos(l)]);
    }
    for (row, terms) in products.chunks_exact_mut(2 * f).enumerate() {
        let of_lon = single[4 * (row % f) + 2 + row / f];
        for (column, term) in terms.iter_mut().enumerate() {
            *term = of_lon * single[4 * (column % f) + column / f];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_full, check_sums, scaled};

    #[test]
    fn matches_the_golden_vectors() {
        check_full(
            &scaled("dft", 2, 0.001, 1.0),
            &[
                0.086824089,
                -0.097228421,
                0.150383733,
                -0.143876071,
                0.440445369,
                -0.493224961,
                0.762873757,
                -0.729861377,
                0.492403877,
                -0.551409778,
                0.852868532,
                -0.815961744,
                0.236659834,
                -0.265019332,
                0.409906856,
                -0.392168664,
                -0.5,
                -0.866025404,
                -0.173648178,
                -0.984807753,
                0.559916162,
                0.828549269,
                -0.880890738,
                -0.473319667,
            ],
        );
        check_sums(
            &scaled("Sphere2Vec-dfs", 8, 0.001, 1.0),
            [
                (-9.818949901, 80.0, -0.473319667),
                (15.876492528, 80.0, -0.876384865),
                (-4.086225593, 80.0, -1.0),
            ],
        );
    }
}

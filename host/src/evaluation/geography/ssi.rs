//! Spatial self-information: how surprising the Moran's I of marked points is, if the marks were dealt
//! to the places at random (Wang et al., "Probing the Information Theoretical Roots of Spatial
//! Dependence Measures", 2024; as scores of geographic bias in TorchSpatial, NeurIPS D&B 2024).
//!
//! The released scores end in −ln(p + 1e-256): half of them sit at that ceiling of 589.46. Here the
//! normal density's logarithm is formed directly.

use csp_models::place::{EARTH_RADIUS_M, LatLon};

use crate::evaluation::priors::{apart, on_sphere};

/// Neighbours that make the weights of Moran's I.
const LINKS: usize = 4;
/// The nearest rows of a neighbourhood that count.
const NEAREST: usize = 100;
/// Points of the background for each row.
const BACKGROUND: f64 = 5.0;

/// The rows around a place, before a background of places where nothing is.
#[derive(Clone, Debug)]
pub struct Neighbourhood {
    /// Indices of the rows, nearest first.
    rows: Vec<usize>,
    /// Points of the background.
    background: usize,
    /// The four nearest points of each point, rows first.
    links: Vec<[usize; LINKS]>,
}

impl Neighbourhood {
    /// Up to 100 of `places` within `radius` radians of `centre`; `None` with fewer than two.
    pub fn around(centre: LatLon, places: &[LatLon], radius: f64) -> Option<Self> {
        let mut near: Vec<(f64, usize)> = (places.iter().enumerate())
            .map(|(i, place)| (centre.distance_m(*place) / EARTH_RADIUS_M, i))
            .filter(|(arc, _)| *arc <= radius)
            .collect();
        near.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        near.truncate(NEAREST);
        if near.len() < 2 {
            return None;
        }
        let background = rings(centre, radius, near.len());
        let rows = near.iter().map(|&(_, i)| places[i]);
        let points: Vec<[f64; 3]> = rows.chain(background.iter().copied()).map(on_sphere).collect();
        let links = (0..points.len()).map(|i| nearest(&points, i)).collect();
        Some(Self { rows: near.into_iter().map(|(_, i)| i).collect(), background: background.len(), links })
    }

    /// The surprisal of the rows' marks (`mark` of their index, not 0, the background's); `None` where
    /// chance leaves no spread to compare with.
    pub fn surprisal(&self, mark: impl Fn(usize) -> f64) -> Option<f64> {
        let mut marks: Vec<f64> = self.rows.iter().map(|&i| mark(i)).collect();
        marks.resize(self.rows.len() + self.background, 0.0);
        surprisal(&marks, &self.links)
    }
}

/// Concentric rings around a place, a point for each patch of area; the density follows the rows.
fn rings(centre: LatLon, radius: f64, rows: usize) -> Vec<LatLon> {
    use std::f64::consts::PI;
    let density = (BACKGROUND * rows as f64 / (PI * radius * radius)).ceil();
    let step = 1.0 / density.sqrt();
    let mut points = Vec::new();
    for ring in 1..=(radius / step).ceil() as u32 {
        let count = (2.0 * PI * f64::from(ring)).ceil();
        for j in 0..count as u32 {
            // counted from the north, clockwise, starting there
            let bearing = 2.0 * PI * (1.0 - f64::from(j) / count);
            points.push(centre.travel(bearing, step * f64::from(ring) * EARTH_RADIUS_M));
        }
    }
    points
}

fn nearest(points: &[[f64; 3]], from: usize) -> [usize; LINKS] {
    let mut best = [(f64::INFINITY, from); LINKS];
    for (i, point) in points.iter().enumerate().filter(|(i, _)| *i != from) {
        let distance = apart(&points[from], point);
        if let Some(slot) = best.iter().position(|(other, _)| distance < *other) {
            best[slot..].rotate_right(1);
            best[slot] = (distance, i);
        }
    }
    best.map(|(_, i)| i)
}

/// −ln of the normal density of the marks' Moran sum Σ w_ij (x_i − x̄)(x_j − x̄), with the moments it
/// has when the marks are dealt at random; nats. The most frequent mark is the background, which adds
/// no variance. `None` where the variance is zero.
pub fn surprisal(marks: &[f64], links: &[[usize; LINKS]]) -> Option<f64> {
    let total = marks.len() as f64;
    let mean = marks.iter().sum::<f64>() / total;
    let moran: f64 = (marks.iter().zip(links))
        .map(|(mark, links)| (mark - mean) * links.iter().map(|&j| marks[j] - mean).sum::<f64>())
        .sum();
    let mut kinds: Vec<(f64, f64)> = Vec::new();
    for &mark in marks {
        match kinds.iter_mut().find(|(kind, _)| *kind == mark) {
            Some((_, count)) => *count += 1.0,
            None => kinds.push((mark, 1.0)),
        }
    }
    kinds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let most = kinds.iter().map(|(_, count)| *count).fold(0.0, f64::max);
    let (common, _) = *kinds.iter().find(|(_, count)| *count == most)?;
    let links = LINKS as f64;
    let (mut expected, mut variance) = (0.0, 0.0);
    for &(a, count_a) in &kinds {
        for &(b, count_b) in &kinds {
            let product = (a - mean) * (b - mean);
            let counted = a != common && b != common;
            if a == b {
                let pairs = (count_a - 1.0) * links * count_a / total;
                expected += product * (pairs - 1.0);
                if counted {
                    let left = 1.0 - links * (2.0 * count_a - 1.0) / (3.0 * total);
                    variance += (a - common).powi(4) * 2.0 * pairs * left;
                }
            } else {
                let pairs = links * count_a * count_b / total;
                expected += product * pairs;
                if counted {
                    let base = common - mean;
                    let weight = product - 2.0 * (a - mean) * base + base * base;
                    variance += weight * weight * pairs * (1.0 - links * count_a.max(count_b) / total);
                }
            }
        }
    }
    if variance <= 0.0 {
        return None;
    }
    let z2 = (moran - expected).powi(2) / variance;
    Some(0.5 * (z2 + variance.ln() + (2.0 * std::f64::consts::PI).ln()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The spiral of tools/metrics_referee.py, where the same is computed in matrices by numpy.
    fn spiral() -> Vec<LatLon> {
        let at = |t: f64| {
            LatLon::new(-33.0 + 0.09 * t * (0.7 * t).sin(), 150.0 + 0.09 * t * (0.7 * t).cos()).unwrap()
        };
        (0..60).map(|t| at(f64::from(t))).collect()
    }

    #[test]
    fn agrees_with_the_referee() {
        let places = spiral();
        let around = Neighbourhood::around(places[0], &places, 0.05).unwrap();
        let mark = |i: usize| if i.is_multiple_of(3) { 2.0 } else { 1.0 };
        for (got, want) in [
            (around.surprisal(|_| 1.0).unwrap(), 2.538_160_715_492_871_6),
            (around.surprisal(mark).unwrap(), 3.445_403_731_554_163_2),
        ] {
            assert!((got / want - 1.0).abs() < 1e-9, "{got} is not {want}");
        }
    }

    #[test]
    fn a_lone_place_says_nothing_and_clusters_have_no_ceiling() {
        let places = spiral();
        let far = LatLon::new(60.0, 10.0).unwrap();
        assert!(Neighbourhood::around(far, &places, 0.05).is_none());
        let dense: Vec<LatLon> = (0..100)
            .map(|i| LatLon::new(10.0 + 1e-4 * f64::from(i % 10), 1e-4 * f64::from(i / 10)).unwrap())
            .collect();
        let surprise = Neighbourhood::around(dense[0], &dense, 0.05).unwrap().surprisal(|_| 1.0).unwrap();
        assert!(surprise > 589.46, "{surprise}");
    }
}

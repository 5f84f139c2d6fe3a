//! The invented continent, and who lives where on it.

use std::collections::BTreeSet;

use csp_models::place::LatLon;
use rand::Rng;

use super::SampleSize;
use crate::data::units::{below, shuffle};

/// The invented species; neighbours (0 and 1, 2 and 3, …) look alike. Their genera are 0 to 3.
pub const SPECIES: [&str; 8] = [
    "ashen velk",
    "dusky velk",
    "banded orro",
    "barred orro",
    "dotted tamm",
    "spotted tamm",
    "brown quill",
    "pale quill",
];

/// Side of the cells that separate train from val, degrees.
pub const CELL_DEGREES: f64 = 2.5;

/// Where the continent lies: open ocean, so that nobody takes it for a real one.
const CENTRE: (f64, f64) = (-36.0, -123.0);
/// Half its extent, degrees of latitude and longitude.
const EXTENT: (f64, f64) = (13.0, 16.0);
/// Sites keep this far from the edges of cells, degrees, so that jitter never crosses one.
const CLEAR_OF_EDGES: f64 = 0.02;
/// Photographs for each camera.
const PER_SITE: usize = 8;

/// A uniform number in [0, 1).
pub(super) fn uniform(rng: &mut impl Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// A nearly normal number with mean 0 and deviation 1: twelve uniform ones, so no tail beyond 6.
pub(super) fn normal(rng: &mut impl Rng) -> f64 {
    (0..12).map(|_| uniform(rng)).sum::<f64>() - 6.0
}

/// Position on the continent: about -1 to 1 west to east and south to north.
fn chart(place: LatLon) -> (f64, f64) {
    ((place.lon() - CENTRE.1) / EXTENT.1, (place.lat() - CENTRE.0) / EXTENT.0)
}

/// Bays and capes: the coast's distance from the centre varies with the direction.
fn is_land(place: LatLon) -> bool {
    let (x, y) = chart(place);
    let direction = y.atan2(x);
    let coast = 0.78 + 0.12 * (2.0 * direction + 0.7).sin() + 0.08 * (5.0 * direction - 0.4).sin();
    x.hypot(y) < coast
}

/// From 0 (dry, ochre) in the south to 1 (wet, green) in the north, with a dry middle.
pub(super) fn wetness(place: LatLon) -> f64 {
    let (x, y) = chart(place);
    (0.5 + 0.35 * y + 0.25 * (2.2 * x).sin()).clamp(0.0, 1.0)
}

/// How suitable a place is for each species, on a scale of its own.
///
/// Of each genus one species lives on either side of a smooth border and both near it; the genera
/// themselves have regions where they are commoner.
fn suitability(place: LatLon) -> [f64; SPECIES.len()] {
    let (x, y) = chart(place);
    let borders = [
        -x + 0.3 * (2.5 * y).sin(),
        y + 0.3 * (3.0 * x).sin(),
        2.0 * (x.hypot(y) - 0.5),
        0.8 * (3.0 * (x + y)).sin(),
    ];
    let regions = [
        (2.5 * x + 1.5 * y).sin(),
        (2.5 * y - 1.5 * x + 1.0).cos(),
        (3.0 * x - 1.0).sin() * (1.0 - y * y),
        -(2.8 * x).cos() * (2.0 * y + 0.5).sin(),
    ];
    let mut suitability = [0.0; SPECIES.len()];
    for genus in 0..4 {
        let common = (1.8 * regions[genus]).exp();
        let first = 1.0 / (1.0 + (-8.0 * borders[genus]).exp());
        suitability[2 * genus] = common * first;
        suitability[2 * genus + 1] = common * (1.0 - first);
    }
    suitability
}

/// Who is seen where: suitability, scaled so that each species is about as common as any other on the whole continent.
pub(super) struct Ranges {
    scale: [f64; SPECIES.len()],
}

impl Ranges {
    pub(super) fn new() -> Self {
        let steps = (-25..=25).map(|i| f64::from(i) / 25.0);
        let grid: Vec<LatLon> = steps
            .clone()
            .flat_map(|x| steps.clone().map(move |y| (x, y)))
            .filter_map(|(x, y)| LatLon::new(CENTRE.0 + EXTENT.0 * y, CENTRE.1 + EXTENT.1 * x).ok())
            .filter(|place| is_land(*place))
            .collect();
        let mut ranges = Self { scale: [1.0; SPECIES.len()] };
        // scaling one species changes the shares of the others, so a few rounds
        for _ in 0..20 {
            let mut shares = [0.0; SPECIES.len()];
            for place in &grid {
                shares.iter_mut().zip(ranges.frequencies(*place)).for_each(|(sum, share)| *sum += share);
            }
            let even = grid.len() as f64 / SPECIES.len() as f64;
            ranges.scale.iter_mut().zip(shares).for_each(|(scale, share)| *scale *= even / share);
        }
        ranges
    }

    /// How common each species is at a place; the sum is 1.
    fn frequencies(&self, place: LatLon) -> [f64; SPECIES.len()] {
        let mut frequencies = suitability(place);
        frequencies.iter_mut().zip(self.scale).for_each(|(frequency, scale)| *frequency *= scale);
        let total: f64 = frequencies.iter().sum();
        frequencies.map(|frequency| frequency / total)
    }

    /// A species drawn by how common each is there.
    pub(super) fn draw(&self, rng: &mut impl Rng, place: LatLon) -> usize {
        let mut left = uniform(rng);
        for (species, frequency) in self.frequencies(place).into_iter().enumerate() {
            left -= frequency;
            if left < 0.0 {
                return species;
            }
        }
        SPECIES.len() - 1
    }
}

/// Camera sites for train and val, in different cells. Both lists have at least one.
pub(super) fn sites(rng: &mut impl Rng, size: SampleSize) -> [Vec<LatLon>; 2] {
    let wanted = [size.train, size.val].map(|photographs| photographs.div_ceil(PER_SITE).max(1));
    let cell_of = |place: LatLon| {
        let cells = |value: f64| (value / CELL_DEGREES).floor() as i64;
        (cells(place.lat() + 90.0), cells(place.lon() + 180.0))
    };
    // cells with land, then a share of them for val
    let mut cells = BTreeSet::new();
    for _ in 0..4000 {
        if let Some(place) = somewhere(rng) {
            cells.insert(cell_of(place));
        }
    }
    let mut cells: Vec<_> = cells.into_iter().collect();
    shuffle(&mut cells, rng);
    let share = wanted[1] as f64 / (wanted[0] + wanted[1]) as f64;
    let val_cells = ((cells.len() as f64 * share).round() as usize).clamp(1, cells.len() - 1);
    let val: BTreeSet<_> = cells[..val_cells].iter().copied().collect();
    let train: BTreeSet<_> = cells[val_cells..].iter().copied().collect();
    let mut sites = [Vec::new(), Vec::new()];
    while sites.iter().zip(wanted).any(|(have, want)| have.len() < want) {
        let Some(place) = somewhere(rng) else { continue };
        for (part, cells) in [&train, &val].into_iter().enumerate() {
            if cells.contains(&cell_of(place)) && sites[part].len() < wanted[part] {
                sites[part].push(place);
            }
        }
    }
    sites
}

/// A place on land and clear of the edges of cells; `None` when the draw was none.
fn somewhere(rng: &mut impl Rng) -> Option<LatLon> {
    let lat = CENTRE.0 + EXTENT.0 * (2.0 * uniform(rng) - 1.0);
    let lon = CENTRE.1 + EXTENT.1 * (2.0 * uniform(rng) - 1.0);
    let clear = [lat + 90.0, lon + 180.0].iter().all(|value| {
        let inside = value.rem_euclid(CELL_DEGREES);
        (CLEAR_OF_EDGES..CELL_DEGREES - CLEAR_OF_EDGES).contains(&inside)
    });
    LatLon::new(lat, lon).ok().filter(|place| clear && is_land(*place))
}

/// What a receiver would say there: up to 200 m off.
pub(super) fn jitter(rng: &mut impl Rng, site: LatLon) -> LatLon {
    let bearing = f64::from(below(rng, 360) as u32).to_radians();
    let distance = 200.0 * uniform(rng);
    site.travel(bearing, distance)
}

//! Land and sea: the 1:110m polygons of Natural Earth (public domain), made by `tools/coastline.py`.
//! Accurate to about 30 km; small islands are missing.

use std::sync::LazyLock;

use csp_models::place::LatLon;

static FILE: &[u8] = include_bytes!("../assets/land-110m.bin");
static RINGS: LazyLock<Vec<Vec<[f64; 2]>>> = LazyLock::new(|| read(FILE));
static MASK: LazyLock<Vec<bool>> = LazyLock::new(|| rasterise(&RINGS));

/// Cells of the land mask in a degree.
const CELLS: usize = 2;
const COLUMNS: usize = 360 * CELLS;
const ROWS: usize = 180 * CELLS;

/// The coastlines: closed rings of (longitude, latitude) in degrees, cut at ±180°. A line between two
/// points at the same end of the map (longitude ±180, or latitude −90) is such a cut and no coast.
pub fn rings() -> &'static [Vec<[f64; 2]>] {
    &RINGS
}

/// Whether a place is on land, by the centre of its half-degree cell.
pub fn is_land(place: LatLon) -> bool {
    let cell = |degrees: f64, cells: usize| ((degrees * CELLS as f64) as usize).min(cells - 1);
    MASK[cell(place.lat() + 90.0, ROWS) * COLUMNS + cell(place.lon() + 180.0, COLUMNS)]
}

/// Stops at the end of the file: the unit test holds it to its length.
fn read(bytes: &[u8]) -> Vec<Vec<[f64; 2]>> {
    let mut words = bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]]));
    let mut next = || words.next().unwrap_or(0);
    let count = next();
    let mut ring = || {
        let points = next();
        (0..points).map(|_| [f64::from(next()) / 100.0, f64::from(next()) / 100.0]).collect()
    };
    (0..count).map(|_| ring()).collect()
}

/// South to north, west to east: whether the centre of each cell is inside an odd number of rings.
fn rasterise(rings: &[Vec<[f64; 2]>]) -> Vec<bool> {
    let mut mask = vec![false; ROWS * COLUMNS];
    for (row, cells) in mask.chunks_exact_mut(COLUMNS).enumerate() {
        let lat = (row as f64 + 0.5) / CELLS as f64 - 90.0;
        let mut crossings: Vec<f64> = Vec::new();
        for ring in rings {
            for (&[x0, y0], &[x1, y1]) in ring.iter().zip(ring.iter().cycle().skip(1)) {
                if (y0 > lat) != (y1 > lat) {
                    crossings.push(x0 + (x1 - x0) * (lat - y0) / (y1 - y0));
                }
            }
        }
        for (column, cell) in cells.iter_mut().enumerate() {
            let lon = (column as f64 + 0.5) / CELLS as f64 - 180.0;
            *cell = crossings.iter().filter(|&&x| x <= lon).count() % 2 == 1;
        }
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_whole() {
        let points: usize = rings().iter().map(Vec::len).sum();
        assert_eq!(FILE.len(), 2 + 2 * rings().len() + 4 * points);
        assert!(points > 5000, "{points}");
        for [lon, lat] in rings().iter().flatten() {
            assert!(lon.abs() <= 180.0 && lat.abs() <= 90.0, "{lon} {lat}");
        }
    }

    #[test]
    fn land_is_where_it_should_be() {
        let at = |lat, lon| is_land(LatLon::new(lat, lon).unwrap());
        let land = [
            (48.0, 11.0),
            (-25.0, 135.0),
            (67.0, -179.0), // Chukotka, east of the antimeridian
            (67.0, 178.0),
            (-85.0, 0.0),
            (-85.0, -179.9),
            (-90.0, 180.0),
            (0.0, 22.0),
            (40.0, -100.0),
            (-15.0, -55.0),
        ];
        let sea = [(0.0, -30.0), (90.0, 0.0), (30.0, -140.0), (-40.0, 80.0), (42.0, 51.0), (0.0, 180.0)];
        for (lat, lon) in land {
            assert!(at(lat, lon), "{lat} {lon} is land");
        }
        for (lat, lon) in sea {
            assert!(!at(lat, lon), "{lat} {lon} is water");
        }
    }

    /// 29.2 % of the Earth is land; without the small islands a little less.
    #[test]
    fn the_share_of_land() {
        let area = |row: usize| ((row as f64 + 0.5) / CELLS as f64 - 90.0).to_radians().cos();
        let (mut land, mut all) = (0.0, 0.0);
        for (row, cells) in MASK.chunks_exact(COLUMNS).enumerate() {
            land += area(row) * cells.iter().filter(|cell| **cell).count() as f64;
            all += area(row) * COLUMNS as f64;
        }
        let share = land / all;
        assert!((0.28..0.30).contains(&share), "{share}");
    }
}

//! Rows whose latitude and longitude may be exchanged although both are in range.
//!
//! 51° N 10° E exchanged is 10° N 51° E, a valid place. Where a data set covers one region, such a
//! row shows: it lies outside the region, and its exchange lies in the middle of it.

use std::collections::HashMap;

use csp_models::place::LatLon;

use super::Row;

/// Side of the cells in which neighbours are counted, degrees.
const CELL: f64 = 2.0;
/// So many times more neighbours on the other side of the exchange make a row a suspect.
const MORE: usize = 10;

/// Indices of the suspects, ascending. None in sets that cover the whole world, since nothing is outside them.
pub(crate) fn suspects(rows: &[Row]) -> Vec<usize> {
    let mut cells: HashMap<(i32, i32), usize> = HashMap::new();
    let cell = |lat: f64, lon: f64| ((lat / CELL).floor() as i32, (lon / CELL).floor() as i32);
    for place in rows.iter().filter_map(|row| row.place) {
        *cells.entry(cell(place.lat(), place.lon())).or_default() += 1;
    }
    let neighbours = |lat: f64, lon: f64| -> usize {
        let (row, column) = cell(lat, lon);
        let around = (-1..=1).flat_map(|dr| (-1..=1).map(move |dc| (row + dr, column + dc)));
        around.filter_map(|key| cells.get(&key)).sum()
    };
    let odd = |place: LatLon| {
        let (lat, lon) = (place.lat(), place.lon());
        lon.abs() <= 90.0 && neighbours(lon, lat) >= MORE * neighbours(lat, lon)
    };
    let mut region: Option<[f64; 4]> = None;
    let mut candidates = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let Some(place) = row.place else { continue };
        if odd(place) {
            candidates.push((index, place));
        } else {
            let (lat, lon) = (place.lat(), place.lon());
            let [s, n, w, e] = region.unwrap_or([lat, lat, lon, lon]);
            region = Some([s.min(lat), n.max(lat), w.min(lon), e.max(lon)]);
        }
    }
    let Some([south, north, west, east]) = region else { return Vec::new() };
    let inside = |lat: f64, lon: f64| (south..=north).contains(&lat) && (west..=east).contains(&lon);
    candidates.retain(|(_, place)| !inside(place.lat(), place.lon()) && inside(place.lon(), place.lat()));
    candidates.into_iter().map(|(index, _)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(lat: f64, lon: f64) -> Row {
        Row {
            name: "".into(),
            image: None,
            place: LatLon::new(lat, lon).ok(),
            season: None,
            class: None,
            split: None,
            ..Row::default()
        }
    }

    /// 400 rows between 40 and 60° N, 0 and 20° E.
    fn region() -> Vec<Row> {
        (0..400).map(|i| row(40.0 + f64::from(i / 20), f64::from(i % 20))).collect()
    }

    #[test]
    fn exchanged_rows_of_a_region_stand_out() {
        let mut rows = region();
        for (lat, lon) in [(10.0, 51.0), (5.0, 45.0), (70.0, 30.0), (-20.0, -60.0)] {
            rows.push(row(lat, lon));
        }
        assert_eq!(suspects(&rows), [400, 401], "far places are no suspects, exchanged ones are");
        assert!(suspects(&region()).is_empty());
    }

    #[test]
    fn nothing_is_outside_the_world() {
        let mut rows = region();
        rows.extend(
            (-8..=8)
                .flat_map(|lat| (-17..=17).map(move |lon| row(f64::from(lat) * 10.0, f64::from(lon) * 10.0))),
        );
        assert!(suspects(&rows).is_empty());
        assert!(suspects(&[row(10.0, 50.0), row(50.0, 10.0)]).is_empty());
    }
}

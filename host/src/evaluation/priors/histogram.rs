//! What was seen in the same cell of a grid.

use std::{collections::HashMap, sync::Arc};

use csp_models::place::LatLon;

use super::{Prior, Seen, frequencies, smoothed};

/// Classes counted in cells of latitude and longitude.
#[derive(Clone, Debug)]
pub struct Histogram {
    cells: Arc<HashMap<(i32, i32), Vec<f64>>>,
    frequencies: Arc<Vec<f64>>,
    degrees: f64,
    smoothing: f64,
}

impl Histogram {
    /// Counts labelled places in cells of `degrees`; all rows' frequencies count `smoothing` rows in
    /// each, and alone where nothing was seen.
    pub fn new(rows: &[Seen], classes: usize, degrees: f64, smoothing: f64) -> Self {
        let mut cells: HashMap<_, Vec<f64>> = HashMap::new();
        for &(at, class) in rows {
            cells.entry(cell(at, degrees)).or_insert_with(|| vec![0.0; classes])[class.index()] += 1.0;
        }
        let frequencies = Arc::new(frequencies(rows, classes));
        Self { cells: Arc::new(cells), frequencies, degrees, smoothing }
    }

    pub(super) fn candidates(rows: &[Seen], classes: usize) -> Vec<Box<dyn Prior>> {
        let of_size = |degrees: f64| {
            let counted = Self::new(rows, classes, degrees, 1.0);
            [0.5, 2.0, 8.0, 32.0]
                .map(|smoothing| Box::new(Self { smoothing, ..counted.clone() }) as Box<dyn Prior>)
        };
        [0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0].into_iter().flat_map(of_size).collect()
    }
}

fn cell(at: LatLon, degrees: f64) -> (i32, i32) {
    // longitude 180 is -180
    let lon = if at.lon() >= 180.0 { -180.0 } else { at.lon() };
    ((at.lat() / degrees).floor() as i32, (lon / degrees).floor() as i32)
}

impl Prior for Histogram {
    fn shares(&self, at: LatLon) -> Vec<f64> {
        match self.cells.get(&cell(at, self.degrees)) {
            Some(counts) => smoothed(counts, &self.frequencies, self.smoothing),
            None => self.frequencies.to_vec(),
        }
    }

    fn setting(&self) -> String {
        format!("cells of {}°, smoothing {}", self.degrees, self.smoothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use csp_models::labels::ClassId;

    #[test]
    fn counts_in_the_cell_and_falls_back_on_frequencies() {
        let at = |lat, lon| LatLon::new(lat, lon).unwrap();
        let rows = [(at(0.5, 180.0), ClassId(0)), (at(0.2, -179.5), ClassId(0)), (at(9.0, 9.0), ClassId(1))];
        let prior = Histogram::new(&rows, 2, 1.0, 2.0);
        // frequencies (2.5/4, 1.5/4); the cell at the antimeridian holds both rows of class 0
        assert!((prior.shares(at(0.9, -179.9))[0] - (2.0 + 2.0 * 0.625) / 4.0).abs() < 1e-12);
        assert_eq!(prior.shares(at(-40.0, 3.0)), [0.625, 0.375]);
    }
}

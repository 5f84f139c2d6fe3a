//! What was seen in the same cell of a grid.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use csp_models::{labels::ClassId, situation::Situation};

use super::{Prior, Seen, frequencies, smoothed};
use crate::data::units::Unit;

/// Classes counted in cells of latitude and longitude, and there in parts of the year.
#[derive(Clone, Debug)]
pub struct Histogram {
    cells: Arc<HashMap<Bin, Counts>>,
    frequencies: Arc<Vec<f64>>,
    degrees: f64,
    smoothing: f64,
    /// Equal parts of the year; 1: dates do not count.
    parts: u32,
}

/// Cell and part of the year; the whole year without one.
type Bin = (Unit<'static>, Option<u32>);

/// Rows of the classes that were seen there.
type Counts = BTreeMap<ClassId, f64>;

impl Histogram {
    /// Counts labelled places in cells of `degrees`, whatever the date; all rows' frequencies count
    /// `smoothing` rows in each, and alone where nothing was seen.
    pub fn new(rows: &[Seen], classes: usize, degrees: f64, smoothing: f64) -> Self {
        Self::with_season(rows, classes, degrees, smoothing, 1)
    }

    /// Counts each of `parts` equal parts of the year for itself too; there the cell's whole year counts
    /// `smoothing` rows.
    pub fn with_season(rows: &[Seen], classes: usize, degrees: f64, smoothing: f64, parts: u32) -> Self {
        let mut cells: HashMap<Bin, Counts> = HashMap::new();
        for &(here, class) in rows {
            let cell = cell(here, degrees);
            let part = part(here, parts).filter(|_| parts > 1);
            for part in [None].into_iter().chain(part.map(Some)) {
                *cells.entry((cell, part)).or_default().entry(class).or_default() += 1.0;
            }
        }
        let frequencies = Arc::new(frequencies(rows, classes));
        Self { cells: Arc::new(cells), frequencies, degrees, smoothing, parts }
    }

    pub(super) fn candidates(rows: &[Seen], classes: usize, by_season: bool) -> Vec<Box<dyn Prior>> {
        let years: &[u32] = if by_season { &[1, 4, 12] } else { &[1] };
        let of_size = |degrees: f64| {
            years.iter().flat_map(move |&parts| {
                let counted = Self::with_season(rows, classes, degrees, 1.0, parts);
                [0.5, 2.0, 8.0, 32.0]
                    .map(|smoothing| Box::new(Self { smoothing, ..counted.clone() }) as Box<dyn Prior>)
            })
        };
        [0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0].into_iter().flat_map(of_size).collect()
    }
}

fn cell(here: Situation, degrees: f64) -> Unit<'static> {
    Unit::of_degrees(0, Some(here.at), degrees)
}

/// The part of the year, of so many; `None` where the date is not known.
fn part(here: Situation, parts: u32) -> Option<u32> {
    here.date.map(|date| (date.value() * f64::from(parts)) as u32)
}

impl Prior for Histogram {
    fn shares(&self, here: Situation) -> Vec<f64> {
        let cell = cell(here, self.degrees);
        let counts = |part| self.cells.get(&(cell, part));
        let leaning = |counts: &Counts, base: &[f64]| {
            let mut all = vec![0.0; base.len()];
            counts.iter().for_each(|(class, count)| all[class.index()] = *count);
            smoothed(&all, base, self.smoothing)
        };
        let year = match counts(None) {
            Some(counts) => leaning(counts, &self.frequencies),
            None => self.frequencies.to_vec(),
        };
        let part = part(here, self.parts).filter(|_| self.parts > 1);
        match part.and_then(|part| counts(Some(part))) {
            Some(counts) => leaning(counts, &year),
            None => year,
        }
    }

    fn setting(&self) -> String {
        let year = if self.parts > 1 { format!(", {} parts of the year", self.parts) } else { String::new() };
        format!("cells of {}°{year}, smoothing {}", self.degrees, self.smoothing)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{at, on},
        *,
    };
    use csp_models::labels::ClassId;

    #[test]
    fn counts_in_the_cell_and_falls_back_on_frequencies() {
        let rows = [(at(0.5, 180.0), ClassId(0)), (at(0.2, -179.5), ClassId(0)), (at(9.0, 9.0), ClassId(1))];
        let prior = Histogram::new(&rows, 2, 1.0, 2.0);
        // frequencies (2.5/4, 1.5/4); the cell at the antimeridian holds both rows of class 0
        assert!((prior.shares(at(0.9, -179.9))[0] - (2.0 + 2.0 * 0.625) / 4.0).abs() < 1e-12);
        assert_eq!(prior.shares(at(-40.0, 3.0)), [0.625, 0.375]);
    }

    #[test]
    fn a_part_of_the_year_leans_on_the_whole_year() {
        let rows =
            [(on(0.5, 0.5, 0.1), ClassId(0)), (on(0.5, 0.5, 0.6), ClassId(1)), (at(0.5, 0.5), ClassId(1))];
        let prior = Histogram::with_season(&rows, 2, 1.0, 1.0, 4);
        // frequencies (1.5/4, 2.5/4); the cell over the year (1 + 0.375)/4 of class 0
        let year = 1.375 / 4.0;
        assert!((prior.shares(at(0.1, 0.1))[0] - year).abs() < 1e-12);
        assert!((prior.shares(on(0.1, 0.1, 0.2))[0] - (1.0 + year) / 2.0).abs() < 1e-12, "the first quarter");
        assert!((prior.shares(on(0.1, 0.1, 0.3))[0] - year).abs() < 1e-12, "nothing seen in the second");
        let blind = Histogram::new(&rows, 2, 1.0, 1.0);
        assert_eq!(blind.shares(on(0.1, 0.1, 0.2)), blind.shares(at(0.1, 0.1)));
    }
}

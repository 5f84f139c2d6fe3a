//! Photographs with places: every supported format becomes one [`Dataset`].

use std::path::PathBuf;

use csp_models::{labels::{ClassId, Labels}, place::LatLon};

/// Which part of a data set a row belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Split {
    /// For training.
    Train,
    /// For choosing and reporting.
    Val,
    /// Kept for the very end.
    Test,
}

/// One photograph, or one observation without a photograph.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The name as it stands in the source.
    pub name: String,
    /// The photograph's file; `None` for an observation without one.
    pub image: Option<PathBuf>,
    /// Where; `None` when the source does not say.
    pub place: Option<LatLon>,
    /// Season as a share of the year in [0, 1); `None` when the source does not say.
    pub season: Option<f64>,
    /// The class, an index into [`Dataset::labels`]; `None` when unlabelled.
    pub class: Option<ClassId>,
    /// The split the source gives; `None` when it gives none.
    pub split: Option<Split>,
    /// The camera or site it belongs to, for splits that keep cameras apart.
    pub camera: Option<String>,
}

/// A data set in memory, photographs left on disk.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// What was opened.
    pub source: PathBuf,
    /// The rows, in the order of the source.
    pub rows: Vec<Row>,
    /// The classes, sorted by name.
    pub labels: Labels,
    /// SHA-256 (hex) over the rows' content: names, places, classes, splits.
    pub sha256: String,
}

//! Photographs with places: every supported format becomes one [`Dataset`].
//!
//! | module | holds |
//! |---|---|
//! | [`problem`] | what can be wrong, how bad it is and what to do about it |
//! | [`split`], [`units`] | dividing rows by block or camera; the draws behind every choice of rows |
//! | [`check`] | the report of `csp-host data check` |
//! | `recognise` | which format a path is |
//! | `table`, `quotes`, `columns`, `coordinates`, `dates` | CSV and TSV, as people write them |
//! | `folder`, `exif_place`, `geotiff`, `projection` | a folder of photographs with GPS, or of georeferenced tiles |
//! | `coco`, `locations` | COCO Camera Traps and iNaturalist JSON, with places from a second file or their own |
//! | `coco_folder` | a folder with such a JSON for each split |
//! | `image_folder` | where the photographs are that a table or JSON names |
//! | `camtrap_dp` | Camtrap DP packages |
//! | `fmow` | the tree of Functional Map of the World |
//! | `geo_prior` | the JSONs of geo_prior's release: BirdSnap, NABirds, location lists |
//! | `json`, `class_names`, `lineage` | what these share: lenient JSON, names of numbered classes, taxonomy |
//! | `seam` | places on both sides of ±180°, where some encoders jump |
//! | `swapped` | rows whose latitude and longitude may be exchanged though both are in range |
//! | `rows` | from drafts of any format to rows: classes numbered, duplicates settled, digest taken |

mod camtrap_dp;
mod check_images;
mod class_names;
mod coco;
mod coco_folder;
mod columns;
mod coordinates;
mod dates;
mod exif_place;
mod fmow;
mod folder;
mod geo_prior;
mod geotiff;
mod image_folder;
mod json;
mod lineage;
mod locations;
mod quotes;
mod recognise;
mod rows;
mod seam;
mod swapped;
mod table;
mod text_map;
mod walk;

pub mod check;
pub mod places;
pub mod problem;
mod projection;
pub mod split;
pub mod units;

use std::{
    borrow::Cow,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use csp_models::{
    labels::{ClassId, Labels},
    place::LatLon,
    situation::Situation,
    time::YearFraction,
};
use serde::{Deserialize, Serialize};

pub(crate) use class_names::plain as plain_name;
use lineage::Lineages;
use problem::{Kind, Problems, Severity};
pub use seam::about_seam;
pub use split::{SplitBy, SplitPlan};

/// Largest JSON that is read, bytes.
pub const MAX_INDEX_FILE: u64 = 4 << 30;

/// Most rows that are read.
pub const MAX_ROWS: usize = 100_000_000;

/// Which part of a data set a row belongs to.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// For training.
    Train,
    /// For choosing and reporting.
    Val,
    /// Kept for the very end.
    Test,
}

impl Split {
    /// The split a word stands for: `train`/`training`, `val`/`valid`/`validation`/`dev`, `test`/`testing`.
    pub fn from_word(word: &str) -> Option<Self> {
        match word.trim().to_lowercase().as_str() {
            "train" | "training" => Some(Self::Train),
            "val" | "valid" | "validation" | "dev" => Some(Self::Val),
            "test" | "testing" => Some(Self::Test),
            _ => None,
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        })
    }
}

/// What a row is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// As the source calls it.
    Text(Box<str>),
    /// By the line of a table it starts in, where it has no other name.
    Line(u64),
}

impl Default for Name {
    fn default() -> Self {
        Self::Text("".into())
    }
}

impl<S: Into<Box<str>>> From<S> for Name {
    fn from(text: S) -> Self {
        Self::Text(text.into())
    }
}

impl Name {
    /// The name as the source gives it; `None` where it gives none.
    pub(crate) fn given(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Line(_) => None,
        }
    }

    /// The name in words.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Line(line) => Cow::Owned(format!("line {line}")),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// One photograph, or one observation without a photograph.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// The name as it stands in the source, or where it stands.
    pub name: Name,
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
    pub camera: Option<Arc<str>>,
    /// Who took it, as the source names them; shared between the rows of one person. `None` when unknown.
    pub user: Option<Arc<str>>,
    /// How far off the place may be, metres: above 0 and up to half way round the Earth.
    pub uncertainty_m: Option<f64>,
}

impl Row {
    /// Where and when; `None` without a place.
    pub fn situation(&self) -> Option<Situation> {
        self.place.map(|at| Situation::new(at, self.season.and_then(YearFraction::new)))
    }
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
    /// How it was read: enough to read it again.
    pub options: Options,
    /// SHA-256 (hex) over the rows' content: names, places, seasons, classes, splits, cameras, and
    /// users and uncertainties where there are any. Not the pixels.
    pub sha256: String,
}

impl Dataset {
    /// The rows divided anew between train and `held`: the same data set, digest and options included, as
    /// opening the source with this division gives, so that a run of it finds its rows again.
    ///
    /// # Errors
    /// [`split::SplitError`].
    pub(crate) fn divided(&self, plan: &SplitPlan, held: Split) -> Result<Self, split::SplitError> {
        let mut divided = self.clone();
        split::assign(&mut divided.rows, plan, held)?;
        divided.sha256 = rows::digest(&divided.rows, &divided.labels);
        divided.options.split = Some(plan.clone());
        divided.options.held_out = (held != Split::Val).then_some(held);
        Ok(divided)
    }
}

/// The formats a data set comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// CSV or TSV with a header: image_path, lat, lon[, date][, label][, split][, camera][, user][, uncertainty_m].
    Table,
    /// A folder of photographs or GeoTIFF tiles: class = sub-folder, place and date from EXIF or the georeference.
    Folder,
    /// COCO Camera Traps JSON with a location table beside it.
    #[value(name = "coco")]
    #[serde(rename = "coco")]
    CocoCameraTraps,
    /// iNaturalist 2017, 2018 or 2021: an annotation JSON, or a folder with one for each split, named
    /// after it (train2018.json, cis_val_annotations.json).
    #[value(name = "inat")]
    #[serde(rename = "inat")]
    INaturalist,
    /// A Camtrap DP package: its folder or its datapackage.json.
    CamtrapDp,
    /// The folder of Functional Map of the World: …_rgb.json beside …_rgb.jpg.
    Fmow,
    /// A JSON of geo_prior's release: BirdSnap, NABirds, or a list of locations with classes.
    GeoPrior,
    /// The same with the places and dates of its `ebird_meta`, which the published results of BirdSnap and
    /// NABirds use: drawn from checklists of the species, not where the photograph was taken.
    GeoPriorEbird,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Table => "table",
            Self::Folder => "folder of photographs",
            Self::CocoCameraTraps => "COCO Camera Traps JSON",
            Self::INaturalist => "iNaturalist JSON",
            Self::CamtrapDp => "Camtrap DP package",
            Self::Fmow => "Functional Map of the World",
            Self::GeoPrior => "geo_prior JSON",
            Self::GeoPriorEbird => "geo_prior JSON, places of ebird_meta",
        })
    }
}

/// How to open a data set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// The format, where it is not to be recognised.
    pub format: Option<Format>,
    /// The table of coordinates that a COCO Camera Traps JSON needs, where it has no usual name.
    pub locations: Option<PathBuf>,
    /// The folder that the photographs' names in a table, JSON or package start at, where it is not found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<PathBuf>,
    /// Leaves the photographs aside: for learning from places alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub places_only: bool,
    /// Divides the rows anew into train and val, in place of what the source gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<SplitPlan>,
    /// The split that `split` divides from train; unset: val. A sweep that reports on test sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<Split>,
}

/// A data set and what was found while reading it.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The rows.
    pub dataset: Dataset,
    /// The format it was read as.
    pub format: Format,
    /// How it was understood, a line each: columns, location table, folders.
    pub notes: Vec<String>,
    /// What is wrong with it. After [`open`] these are warnings only.
    pub problems: Problems,
}

/// Why a data set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Missing or unreadable.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// No format fits, or its outline (columns, structure) is not as it has to be.
    #[error("{path}: {reason}", path = .path.display())]
    Outline {
        /// The file or folder.
        path: PathBuf,
        /// What is missing or ambiguous, and the fix.
        reason: String,
    },
    /// Rows that would spoil training unnoticed.
    #[error("{path}: refused, since this would spoil training:\n{summary}`csp-host data check` on it lists everything", path = .path.display())]
    Refused {
        /// The data set.
        path: PathBuf,
        /// Each kind of error with its first lines and its fix.
        summary: String,
    },
}

impl DataError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    pub(crate) fn outline(path: &Path, reason: impl Into<String>) -> Self {
        Self::Outline { path: path.into(), reason: reason.into() }
    }
}

/// Opens a data set for training or evaluation. Without `format` it is recognised.
///
/// # Errors
/// [`DataError`] names file, line, column and value. Everything of [`Severity::Error`] refuses the
/// data set; warnings come back in [`Opened::problems`].
pub fn open(path: &Path, format: Option<Format>) -> Result<Opened, DataError> {
    open_with(path, &Options { format, ..Options::default() })
}

/// [`open`] with all options.
///
/// # Errors
/// Those of [`open`].
pub fn open_with(path: &Path, options: &Options) -> Result<Opened, DataError> {
    let opened = inspect(path, options)?;
    if opened.problems.total(Severity::Error) > 0 {
        return Err(DataError::Refused { path: path.into(), summary: opened.problems.errors_text() });
    }
    Ok(opened)
}

/// Reads a data set of any condition: what is wrong is counted in [`Opened::problems`], errors too.
/// For reports; train on [`open`].
///
/// # Errors
/// Only when there are no rows to speak of: [`DataError::Io`] and [`DataError::Outline`].
pub fn inspect(path: &Path, options: &Options) -> Result<Opened, DataError> {
    let format = match options.format {
        Some(format) => format,
        None => recognise::format(path)?,
    };
    let images = options.images.as_deref();
    if let Some(images) = images {
        if matches!(format, Format::Folder | Format::Fmow) {
            let reason = format!("a {format} holds its photographs itself: leave --images out");
            return Err(DataError::outline(path, reason));
        }
        if !std::fs::metadata(images).map_err(|source| DataError::io(images, source))?.is_dir() {
            return Err(DataError::outline(images, "--images: not a folder"));
        }
    }
    let mut problems = Problems::default();
    let mut notes = Vec::new();
    let mut lineages = Lineages::new();
    let places = options.locations.as_deref();
    let mut drafts = match format {
        Format::Table => table::read(path, images, &mut notes, &mut problems)?,
        Format::Folder => folder::read(path, &mut notes, &mut problems)?,
        Format::CocoCameraTraps | Format::INaturalist if path.is_dir() => {
            coco_folder::read(path, places, images, &mut lineages, &mut notes, &mut problems)?
        }
        Format::CocoCameraTraps | Format::INaturalist => {
            coco::read(path, places, images, &mut lineages, &mut notes, &mut problems)?
        }
        Format::CamtrapDp => camtrap_dp::read(path, images, &mut lineages, &mut notes, &mut problems)?,
        Format::Fmow => fmow::read(path, &mut notes, &mut problems)?,
        Format::GeoPrior => geo_prior::read(path, false, images, &mut notes, &mut problems)?,
        Format::GeoPriorEbird => geo_prior::read(path, true, images, &mut notes, &mut problems)?,
    };
    if drafts.len() > MAX_ROWS {
        return Err(DataError::outline(path, format!("more than {MAX_ROWS} rows; split the data set")));
    }
    if options.places_only {
        notes.push("photographs are left aside (places only)".into());
        drafts.iter_mut().for_each(|draft| draft.image = None);
    }
    if options.locations.is_some() && !matches!(format, Format::CocoCameraTraps | Format::INaturalist) {
        notes.push("the location table is not used: this format has its own places".into());
    }
    // rows that were dropped for an error are reported as that
    if drafts.is_empty() && problems.total(Severity::Error) == 0 {
        problems.add(Kind::NoRows, || path.display().to_string());
    }
    let mut drafts = rows::without_repeats(drafts, &mut problems);
    if let Some(plan) = &options.split {
        let note = split::assign(&mut drafts, plan, options.held_out.unwrap_or(Split::Val));
        notes.extend(note.map_err(|error| DataError::outline(path, error.to_string()))?);
    }
    let mut dataset = rows::settle(path, drafts, &lineages, &mut problems);
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let locations = options.locations.as_ref().map(absolute);
    let images = options.images.as_ref().map(absolute);
    dataset.options = Options { format: Some(format), locations, images, ..options.clone() };
    Ok(Opened { dataset, format, notes, problems })
}

#[cfg(test)]
mod camtrap_dp_tests;
#[cfg(test)]
mod formats_tests;
#[cfg(test)]
mod tests;

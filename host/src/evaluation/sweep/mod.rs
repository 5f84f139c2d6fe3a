//! Every method on every label ratio and seed, and on every split asked for: one table.
//!
//! | module | holds |
//! |---|---|
//! | `plan` | the splits: as given, at random, by blocks |
//! | `method` | the methods, and the figures of one |
//! | `cell` | one (split, ratio, seed): runs trained or taken over, methods measured |
//! | `kept` | what a cell has measured, and of what |
//! | `pictures` | which photographs a sweep is of |
//! | `table` | means and deviations as Markdown, CSV and JSON |

mod cell;
mod kept;
mod method;
mod pictures;
mod plan;
mod table;

use std::{
    io,
    io::Write,
    path::{Path, PathBuf},
};

use csp_models::bundle::write_atomically;

use super::EvaluationError;
use crate::{
    data::{Dataset, Split, SplitBy, split::SplitError},
    plots,
    progress::Voice,
    training::{Chosen, TrainConfig, TrainError},
};

pub use method::{Figures, Measures, Method};
pub use table::SweepTable;

/// What to sweep over.
#[derive(Debug)]
pub struct SweepOptions<'a> {
    /// Shares of the training labels, each above 0 and up to 1.
    pub labels: &'a [f64],
    /// Seeds 0 to `seeds − 1`.
    pub seeds: u64,
    /// Split to report on.
    pub split: Split,
    /// How the rows are divided into training and `split`, each in turn.
    pub plans: &'a [SplitBy],
    /// The columns of the table.
    pub methods: &'a [Method],
    /// Settings of every run.
    pub config: TrainConfig,
    /// Where to compute.
    pub device: Chosen,
    /// Folder of the results.
    pub out: &'a Path,
    /// An earlier sweep that trained the same backbones.
    pub backbones_of: Option<&'a Path>,
    /// An earlier sweep whose finished runs are measured instead of training the same ones again.
    pub runs_of: Option<&'a Path>,
    /// What is said on the way.
    pub voice: Voice,
}

/// Why a sweep stopped.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// A run failed.
    #[error("{run}: {source}", run = .run.display())]
    Train {
        /// Its directory.
        run: PathBuf,
        /// Why.
        source: TrainError,
    },
    /// A model could not be evaluated.
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    /// The rows cannot be divided as asked.
    #[error("{data}: {source}", data = .data.display())]
    Split {
        /// The data set.
        data: PathBuf,
        /// Why not.
        source: SplitError,
    },
    /// Divided before, and again with another split held out.
    #[error("--splits with --split {held}: --split-by has divided the rows already; leave one of both out")]
    Twice {
        /// The split to report on.
        held: Split,
    },
    /// A result could not be read or written.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A result of an earlier sweep that is not of this one.
    #[error("{path}: {reason}: give another -o, or remove it", path = .path.display())]
    Stale {
        /// The result.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// A method needs pictures and there are none.
    #[error("{data}: no row has a picture to learn from: leave out the method \"{method}\" (--methods supervised,knn,histogram)", data = .data.display())]
    NoPictures {
        /// The data set.
        data: PathBuf,
        /// The method's title.
        method: &'static str,
    },
    /// The modulated head is asked for and not trained.
    #[error("method modulated: set image.modulation.enabled = true in the configuration")]
    NotModulated,
    /// The picture could not be drawn.
    #[error(transparent)]
    Plot(#[from] plots::PlotError),
}

/// Trains and measures everything that is not done yet, and writes tables and pictures.
///
/// # Errors
/// [`SweepError`]; what is done stays done.
pub fn run(data: &Dataset, options: &SweepOptions<'_>) -> Result<SweepTable, SweepError> {
    if options.methods.contains(&Method::Modulated) && !options.config.image.modulation.enabled {
        return Err(SweepError::NotModulated);
    }
    if !has_pictures(data) {
        let of_pictures = [Method::Image, Method::Csp, Method::Modulated];
        if let Some(method) = options.methods.iter().find(|method| of_pictures.contains(method)) {
            return Err(SweepError::NoPictures { data: data.source.clone(), method: method.title() });
        }
    }
    let pictures = pictures::digest(data, options.split, &options.out.join("cache"), options.voice)?;
    let mut table = SweepTable::new(options);
    for (number, &by) in options.plans.iter().enumerate() {
        let divided = plan::divide(by, data, options.split)?;
        // seeds outside: an unfinished sweep has figures for every ratio
        for seed in 0..options.seeds {
            for (ratio, &share) in options.labels.iter().enumerate() {
                let figures = cell::figures(&divided, options, by, share, seed, pictures.as_deref())?;
                table.add(number, ratio, figures);
                write_tables(&table, options)?;
            }
        }
    }
    for (number, &by) in options.plans.iter().enumerate() {
        let split = if options.plans.len() > 1 { format!(", split {by}") } else { String::new() };
        let seeds = if options.seeds == 1 { "1 seed".into() } else { format!("{} seeds", options.seeds) };
        let title = format!("Top-1 on {:?}{split}, {seeds}", options.split).to_lowercase();
        let path = options.out.join(plan::file_name(by, "accuracy.svg"));
        plots::label_ratio_lines(&path, &title, &table.series(number))?;
    }
    Ok(table)
}

/// Whether any row has a picture.
fn has_pictures(data: &Dataset) -> bool {
    data.rows.iter().any(|row| row.image.is_some())
}

fn write_tables(table: &SweepTable, options: &SweepOptions<'_>) -> Result<(), SweepError> {
    let json = serde_json::to_string_pretty(table).map_err(io::Error::other);
    for (name, text) in
        [("table.md", Ok(table.to_string())), ("table.csv", Ok(table.csv())), ("table.json", json)]
    {
        let path = options.out.join(name);
        let written = text.and_then(|text| write_atomically(&path, |out| out.write_all(text.as_bytes())));
        written.map_err(|source| SweepError::Io { path: path.clone(), source })?;
    }
    Ok(())
}

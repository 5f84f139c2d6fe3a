//! How good a model is, with and without the place.

mod metrics;
mod predictor;
pub mod sweep;

use csp_models::{
    fusion,
    labels::{ClassId, Labels},
    picture,
    place::Place,
};
use rayon::prelude::*;
use serde::Serialize;

use crate::{
    data::{Dataset, Row, Split},
    progress::{Progress, Voice},
};

pub use metrics::{Accuracy, ClassAccuracy, rank_of};
pub use predictor::{EnginePredictor, Predictor, RunPredictor};

/// Pictures classified between two looks at the progress bar.
const BATCH: usize = 128;

/// Accuracies of one model on one set of rows.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    /// Labelled rows evaluated.
    pub n: usize,
    /// The image alone, on all that have one; `None` without any, or without an image branch.
    pub image: Option<Accuracy>,
    /// The place alone, on those that have one; `None` without any, or without a location branch.
    pub location: Option<Accuracy>,
    /// Image and place; where one of them is missing, the other alone.
    pub fused: Accuracy,
    /// The rows without a place, if there are any: the fused answer is the image's.
    pub without_place: Option<Accuracy>,
    /// The same per class, in the model's order, classes without pictures left out.
    pub per_class: Vec<ClassAccuracy>,
}

/// Why a model cannot be evaluated on a data set.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationError {
    /// The data has a class the model does not know.
    #[error(
        "{data}: class {class:?} (first in {row}) is unknown to the model, which knows {known}; \
         rename it in the table or leave those rows out"
    )]
    UnknownClass {
        /// The data set.
        data: String,
        /// The class.
        class: String,
        /// First row of it.
        row: String,
        /// The model's classes, shortened.
        known: String,
    },
    /// Nothing to evaluate.
    #[error("{data}: no labelled row{} with a picture or a place that this model can use to evaluate on", match split { Some(s) => format!(" in split {s:?}"), None => String::new() })]
    Empty {
        /// The data set.
        data: String,
        /// The split asked for.
        split: Option<Split>,
    },
    /// A picture cannot be read.
    #[error(transparent)]
    Picture(#[from] picture::PictureError),
    /// The model failed.
    #[error("{0}")]
    Model(String),
}

/// One evaluated row: its class in the model's numbering and the logits of both branches.
#[derive(Clone, Debug)]
pub struct Scored {
    /// The true class.
    pub truth: ClassId,
    /// Image logits, `[classes]`; `None` without a picture or an image branch, never without `presence`.
    pub image: Option<Vec<f32>>,
    /// Presence scores, `[classes]` in [0, 1]; `None` without a place or a location branch.
    pub presence: Option<Vec<f64>>,
}

/// The labelled rows of a split (all splits for `None`), with their classes as the model numbers them:
/// those with a picture, and where none has one, those with a place.
///
/// # Errors
/// [`EvaluationError::UnknownClass`] and [`EvaluationError::Empty`].
pub fn labelled<'a>(
    data: &'a Dataset,
    split: Option<Split>,
    model: &Labels,
) -> Result<Vec<(&'a Row, ClassId)>, EvaluationError> {
    let wanted = |row: &&Row| split.is_none_or(|split| row.split == Some(split));
    let pictured = data.rows.iter().filter(wanted).any(|row| row.class.is_some() && row.image.is_some());
    let mut rows = Vec::new();
    for row in data.rows.iter().filter(wanted) {
        let Some(class) = row.class else { continue };
        if if pictured { row.image.is_none() } else { row.place.is_none() } {
            continue;
        }
        let name = data.labels.name(class);
        let Some(truth) = model.find(name) else {
            let known: Vec<&str> = model.0.iter().take(8).map(|label| label.name.as_str()).collect();
            return Err(EvaluationError::UnknownClass {
                data: data.source.display().to_string(),
                class: name.into(),
                row: row.name.clone(),
                known: known.join(", ") + if model.len() > known.len() { ", …" } else { "" },
            });
        };
        rows.push((row, truth));
    }
    if rows.is_empty() {
        return Err(EvaluationError::Empty { data: data.source.display().to_string(), split });
    }
    Ok(rows)
}

/// Both branches' scores of every row.
///
/// # Errors
/// A picture that cannot be read, or a model that fails.
pub fn score(
    model: &dyn Predictor,
    rows: &[(&Row, ClassId)],
    voice: Voice,
) -> Result<Vec<Scored>, EvaluationError> {
    let mut progress = Progress::new(voice, "evaluate", 0, rows.len() as u64);
    let mut scored = Vec::with_capacity(rows.len());
    for batch in rows.chunks(BATCH) {
        if !model.has_image() || batch.iter().all(|(row, _)| row.image.is_none()) {
            for (row, truth) in batch {
                let presence = presence(model, row)?;
                // a row with neither is none that this model can answer
                scored.extend(presence.map(|p| Scored { truth: *truth, image: None, presence: Some(p) }));
            }
            continue;
        }
        let pixels = batch
            .par_iter()
            .filter_map(|(row, _)| row.image.as_deref())
            .map(|path| picture::load(path, model.input()))
            .collect::<Result<Vec<_>, _>>()?;
        let logits = model.image_logits(&pixels).map_err(EvaluationError::Model)?;
        for ((row, truth), image) in batch.iter().zip(logits) {
            let presence = presence(model, row)?;
            scored.push(Scored { truth: *truth, image: Some(image), presence });
        }
        progress.at(scored.len() as u64, String::new);
    }
    progress.done(&format!("{} rows", scored.len()));
    Ok(scored)
}

fn presence(model: &dyn Predictor, row: &Row) -> Result<Option<Vec<f64>>, EvaluationError> {
    let Some(at) = row.place.filter(|_| model.has_location()) else { return Ok(None) };
    fusion::presence(&Place::configured(at), |point| model.location_logits(point))
        .map(Some)
        .map_err(EvaluationError::Model)
}

/// Accuracies from scores.
pub fn summarise(model: &dyn Predictor, scored: &[Scored]) -> Evaluation {
    let fusion = model.fusion();
    let mut image = Vec::with_capacity(scored.len());
    let mut location = Vec::new();
    let mut fused = Vec::with_capacity(scored.len());
    let mut without_place = Vec::new();
    for row in scored {
        let alone = row.image.as_ref().map(|logits| rank_of(row.truth, &fusion.image_only(logits)));
        let place = row.presence.as_ref().map(|presence| rank_of(row.truth, presence));
        location.extend(place);
        let both = match (&row.image, &row.presence) {
            (Some(logits), Some(presence)) => rank_of(row.truth, &fusion.fuse(logits, presence, 0.0)),
            _ => alone.or(place).unwrap_or(usize::MAX),
        };
        fused.push(both);
        if place.is_none() {
            without_place.extend(alone);
        }
        image.push(alone);
    }
    let some = |ranks: &[usize]| (!ranks.is_empty()).then(|| Accuracy::of(ranks));
    let per_class = ClassAccuracy::group(model.labels(), scored, &image, &fused);
    Evaluation {
        n: scored.len(),
        image: some(&image.into_iter().flatten().collect::<Vec<_>>()),
        location: some(&location),
        fused: Accuracy::of(&fused),
        without_place: some(&without_place),
        per_class,
    }
}

//! How good a model is, with and without the place.
//!
//! | module | holds |
//! |---|---|
//! | `metrics`, `per_class`, `reliability`, `auc` | figures from ranks, calls and confidences |
//! | [`geography`] | the same by region, and how clustered the failures are |
//! | [`embedding`] | what a location encoder tells apart |
//! | `predictions` | the answers row by row, as a CSV |
//! | `predictor` | what can be evaluated: a run, a bundle |
//! | `asked` | which branch answers the rows asked about, and which rows are left out |
//! | `taught` | which of the rows asked about are a run's own training rows |
//! | [`priors`] | what a location encoder has to beat: nearest neighbours, a grid of counts, kernels |
//! | [`sweep`] | methods × splits × label ratios × seeds, in one table |

mod asked;
mod auc;
pub mod embedding;
pub mod geography;
mod metrics;
mod modulated;
mod per_class;
mod predictions;
mod predictor;
pub mod priors;
mod reliability;
pub mod sweep;
mod taught;

use csp_models::{
    fusion::Fusion,
    labels::{ClassId, Labels},
    picture,
    place::LatLon,
    situation::Situation,
    time::YearFraction,
};
use rayon::prelude::*;
use serde::Serialize;

use crate::{
    data::{Dataset, Row, Split},
    features::places_at_once,
    progress::{Progress, Voice},
};

pub use asked::Asked;
pub use auc::auc;
pub use metrics::{Accuracy, best, rank_of, top};
pub use modulated::modulated;
pub use per_class::{ClassAccuracy, Share};
pub use predictions::write_predictions;
pub use predictor::{EnginePredictor, Predictor, RunPredictor};
pub use reliability::{Bin, Reliability};
pub use taught::about_taught;

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
    /// The image head that the place has a say in, on all of them; for a run that trained one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modulated: Option<Accuracy>,
    /// The same per class, in the model's order, classes that neither occur nor are called left out. At the
    /// end, where they were asked for, classes that the model [does not know](ClassAccuracy::of_unknown).
    pub per_class: Vec<ClassAccuracy>,
    /// Whether the probabilities can be believed.
    pub calibration: Calibrations,
}

/// Calibration of the three ways to answer.
#[derive(Clone, Debug, Serialize)]
pub struct Calibrations {
    /// The image alone, by its calibrated softmax.
    pub image: Option<Reliability>,
    /// The place alone: the prior as the fusion weighs it, normalised over the classes.
    pub location: Option<Reliability>,
    /// Image and place.
    pub fused: Reliability,
}

/// One method's answer to one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// Rank of the true class, 1 = best; `None` where the model does not know it.
    pub rank: Option<usize>,
    /// The class named.
    pub best: ClassId,
    /// Its probability.
    pub confidence: f64,
}

impl Answer {
    /// Whether the class named is the true one.
    pub fn is_right(&self) -> bool {
        self.rank == Some(1)
    }

    /// From probabilities `[classes]`.
    pub fn of(truth: ClassId, probabilities: &[f64]) -> Self {
        let best = best(probabilities).unwrap_or(ClassId(0));
        let confidence = probabilities.get(best.index()).copied().unwrap_or(0.0);
        Self { rank: rank_of(truth, probabilities), best, confidence }
    }
}

/// The answers of the three ways, row by row.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// The true classes.
    pub truth: Vec<ClassId>,
    /// The image alone; `None` where there is none.
    pub image: Vec<Option<Answer>>,
    /// The place alone; `None` where there is none.
    pub location: Vec<Option<Answer>>,
    /// Image and place; where one is missing, the other's.
    pub fused: Vec<Answer>,
}

impl Answers {
    /// From both branches' scores.
    pub fn of(fusion: &Fusion, scored: impl IntoIterator<Item = Scored>) -> Self {
        let mut answers = Self::default();
        answers.add(fusion, scored);
        answers
    }

    /// More rows: scores are rows × classes, answers are not, so that few of the former need to be held.
    pub fn add(&mut self, fusion: &Fusion, scored: impl IntoIterator<Item = Scored>) {
        for row in scored {
            let image = row.image.as_ref().map(|logits| Answer::of(row.truth, &fusion.image_only(logits)));
            // a picture that says nothing leaves the prior alone
            let alone = |presence: &Vec<f64>| {
                let prior = Answer::of(row.truth, &fusion.fuse(&vec![0.0; presence.len()], presence, 0.0));
                // the floor makes ties of what the scores still tell apart
                Answer { rank: rank_of(row.truth, presence), ..prior }
            };
            let location = row.presence.as_ref().map(alone);
            let fused = match (&row.image, &row.presence) {
                (Some(logits), Some(presence)) => {
                    Some(Answer::of(row.truth, &fusion.fuse(logits, presence, 0.0)))
                }
                _ => image.or(location),
            };
            // `score` gives no row without either
            let Some(fused) = fused else { continue };
            self.truth.push(row.truth);
            self.image.push(image);
            self.location.push(location);
            self.fused.push(fused);
        }
    }
}

/// Accuracy of answers.
pub fn accuracy(answers: &[Answer]) -> Accuracy {
    Accuracy::of(&answers.iter().map(|answer| answer.rank).collect::<Vec<_>>())
}

/// Why a model cannot be evaluated on a data set.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationError {
    /// The data has no class that the model knows.
    #[error(
        "{data}: class {class:?} (first in {row}) and all others are unknown to the model, which knows {known}; \
         rename them in the table, or take the model that was trained for it"
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

/// The class of rows that are of none of the model's: no score is its own, so it counts as wrong.
pub const UNKNOWN: ClassId = ClassId(u16::MAX);

/// The labelled rows of a split (all splits for `None`), with their classes as the model numbers them
/// ([`UNKNOWN`] where it has no such class): those with a picture, and where none has one, those with a
/// place.
///
/// # Errors
/// [`EvaluationError::UnknownClass`] where the model knows none of them, and [`EvaluationError::Empty`].
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
        rows.push((row, model.find(data.labels.name(class)).unwrap_or(UNKNOWN)));
    }
    let Some((first, _)) = rows.first() else {
        return Err(EvaluationError::Empty { data: data.source.display().to_string(), split });
    };
    if rows.iter().all(|(_, truth)| *truth == UNKNOWN) {
        let known: Vec<&str> = model.0.iter().take(8).map(|label| label.name.as_str()).collect();
        return Err(EvaluationError::UnknownClass {
            data: data.source.display().to_string(),
            class: first.class.map_or("?", |class| data.labels.name(class)).into(),
            row: first.name.to_string(),
            known: known.join(", ") + if model.len() > known.len() { ", …" } else { "" },
        });
    }
    Ok(rows)
}

/// What is to be said of rows whose class the model does not know; `None` without any.
pub fn about_unknown(data: &Dataset, rows: &[(&Row, ClassId)]) -> Option<String> {
    let of = rows.iter().filter(|(_, truth)| *truth == UNKNOWN).filter_map(|(row, _)| row.class);
    let mut counts = std::collections::BTreeMap::new();
    of.for_each(|class| *counts.entry(data.labels.name(class)).or_insert(0usize) += 1);
    let each: Vec<String> = counts.iter().map(|(name, count)| format!("{name} ({count})")).collect();
    (!each.is_empty()).then(|| {
        let rows: usize = counts.values().sum();
        format!(
            "{rows} rows are of classes that the model does not know and count as wrong: {}",
            each.join(", ")
        )
    })
}

/// The rows that a model can say something about: by their picture, or by their place.
pub fn answerable<'a>(model: &dyn Predictor, rows: &[(&'a Row, ClassId)]) -> Vec<(&'a Row, ClassId)> {
    let by_image = |row: &Row| model.has_image() && row.image.is_some();
    let by_place = |row: &Row| model.has_location() && row.place.is_some();
    rows.iter().copied().filter(|(row, _)| by_image(row) || by_place(row)).collect()
}

/// The answers to the [`answerable`] rows.
///
/// # Errors
/// A picture that cannot be read, or a model that fails.
pub fn answers(
    model: &dyn Predictor,
    rows: &[(&Row, ClassId)],
    voice: Voice,
) -> Result<Answers, EvaluationError> {
    let rows = answerable(model, rows);
    let mut progress = Progress::new(voice, "evaluate", 0, rows.len() as u64);
    let mut answers = Answers::default();
    let pictures = model.has_image() && rows.iter().any(|(row, _)| row.image.is_some());
    let at_once = if pictures { BATCH } else { places_at_once(model.labels().len()) };
    for batch in rows.chunks(at_once) {
        let images = pictures_logits(model, batch)?;
        answers.add(model.fusion(), place_scores(model, batch, &images)?);
        progress.at(answers.truth.len() as u64, String::new);
    }
    progress.done(&format!("{} rows", rows.len()));
    Ok(answers)
}

/// Image logits `[classes]` of each row; `None` without a picture or an image branch.
///
/// # Errors
/// A picture that cannot be read, or a model that fails.
pub fn image_logits(
    model: &dyn Predictor,
    rows: &[(&Row, ClassId)],
    voice: Voice,
) -> Result<Vec<Option<Vec<f32>>>, EvaluationError> {
    if !model.has_image() {
        return Ok(vec![None; rows.len()]);
    }
    let mut progress = Progress::new(voice, "evaluate", 0, rows.len() as u64);
    let mut all = Vec::with_capacity(rows.len());
    for batch in rows.chunks(BATCH) {
        all.extend(pictures_logits(model, batch)?);
        progress.at(all.len() as u64, String::new);
    }
    progress.done(&format!("{} rows", rows.len()));
    Ok(all)
}

/// [`image_logits`] of a batch.
fn pictures_logits(
    model: &dyn Predictor,
    batch: &[(&Row, ClassId)],
) -> Result<Vec<Option<Vec<f32>>>, EvaluationError> {
    if !model.has_image() {
        return Ok(vec![None; batch.len()]);
    }
    let pixels = batch
        .par_iter()
        .filter_map(|(row, _)| row.image.as_deref())
        .map(|path| picture::load(path, model.input()))
        .collect::<Result<Vec<_>, _>>()?;
    let logits = if pixels.is_empty() {
        Vec::new()
    } else {
        model.image_logits(&pixels).map_err(EvaluationError::Model)?
    };
    let mut logits = logits.into_iter();
    Ok(batch.iter().map(|(row, _)| row.image.as_ref().and_then(|_| logits.next())).collect())
}

/// The answers to rows whose image logits are there already.
///
/// # Errors
/// A model that fails.
pub fn answers_beside(
    model: &dyn Predictor,
    rows: &[(&Row, ClassId)],
    images: &[Option<Vec<f32>>],
) -> Result<Answers, EvaluationError> {
    let mut answers = Answers::default();
    let at_once = places_at_once(model.labels().len());
    for (rows, images) in rows.chunks(at_once).zip(images.chunks(at_once)) {
        answers.add(model.fusion(), place_scores(model, rows, images)?);
    }
    Ok(answers)
}

/// What the place says of each row, beside its image logits.
fn place_scores(
    model: &dyn Predictor,
    rows: &[(&Row, ClassId)],
    images: &[Option<Vec<f32>>],
) -> Result<Vec<Scored>, EvaluationError> {
    let places: Vec<Situation> =
        rows.iter().filter_map(|(row, _)| row.situation().filter(|_| model.has_location())).collect();
    // a place of the data is exact: its disc is the point itself
    let mut presence = model.presence(&places).map_err(EvaluationError::Model)?.into_iter();
    let one = |((row, truth), image): (&(&Row, ClassId), &Option<Vec<f32>>)| Scored {
        truth: *truth,
        image: image.clone(),
        presence: row.place.filter(|_| model.has_location()).and_then(|_| presence.next()),
    };
    Ok(rows.iter().zip(images).map(one).collect())
}

/// Presence scores, 0 to 1, of one class at many places on a date; where a model with seasons is given
/// none, their mean over the year.
///
/// # Errors
/// What the model says, or that it has no such class.
pub fn presence_map(
    model: &dyn Predictor,
    class: ClassId,
    places: &[LatLon],
    date: Option<YearFraction>,
) -> Result<Vec<f64>, String> {
    let score = |scores: Vec<f64>| {
        scores.get(class.index()).copied().ok_or_else(|| format!("the model has no class {}", class.0))
    };
    let places: Vec<Situation> = places.iter().map(|&at| Situation::new(at, date)).collect();
    // some at a time: a map has many places, and a year twelve dates
    let chunks = places.chunks(places_at_once(model.labels().len())).map(|chunk| model.presence(chunk));
    let mut all = Vec::with_capacity(places.len());
    for scores in chunks {
        all.extend(scores?.into_iter().map(score).collect::<Result<Vec<f64>, String>>()?);
    }
    Ok(all)
}

/// Rows with a place that a model with seasons is asked about without a date; 0 for other models.
pub fn undated(model: &dyn Predictor, rows: &[(&Row, ClassId)]) -> usize {
    let asked = rows.iter().filter(|_| model.has_location() && model.is_seasonal());
    asked.filter_map(|(row, _)| row.situation()).filter(|place| place.date.is_none()).count()
}

/// Accuracies from answers.
pub fn summarise(model: &dyn Predictor, answers: &Answers) -> Evaluation {
    let image: Vec<Answer> = answers.image.iter().copied().flatten().collect();
    let location: Vec<Answer> = answers.location.iter().copied().flatten().collect();
    let rows = answers.fused.iter().zip(&answers.location);
    let without_place: Vec<Answer> =
        rows.filter(|(_, location)| location.is_none()).map(|(fused, _)| *fused).collect();
    let some = |answers: &[Answer]| (!answers.is_empty()).then(|| accuracy(answers));
    let reliability = |answers: &[Answer]| (!answers.is_empty()).then(|| Reliability::of(answers));
    Evaluation {
        n: answers.fused.len(),
        image: some(&image),
        location: some(&location),
        fused: accuracy(&answers.fused),
        without_place: some(&without_place),
        modulated: None,
        per_class: ClassAccuracy::group(model.labels(), answers),
        calibration: Calibrations {
            image: reliability(&image),
            location: reliability(&location),
            fused: Reliability::of(&answers.fused),
        },
    }
}

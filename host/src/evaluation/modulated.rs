//! The image head that the place has a say in, beside image, place and their fusion.

use csp_models::{fusion::Fusion, labels::ClassId, picture, situation::Situation};
use rayon::prelude::*;

use super::{Answer, EvaluationError, Predictor};
use crate::{
    data::Row,
    progress::{Progress, Voice},
};

/// Pictures classified between two looks at the progress bar.
const BATCH: usize = 128;

/// Its answers to rows that have a picture, each by the softmax of its logits; `None` for a model without
/// such a head.
///
/// # Errors
/// A picture that cannot be read, or a model that fails.
pub fn modulated(
    model: &dyn Predictor,
    rows: &[(&Row, ClassId)],
    voice: Voice,
) -> Result<Option<Vec<Answer>>, EvaluationError> {
    if !model.is_modulated() {
        return Ok(None);
    }
    let rows: Vec<_> = rows
        .iter()
        .filter_map(|(row, truth)| Some((row.image.as_deref()?, row.situation(), truth)))
        .collect();
    let mut progress = Progress::new(voice, "modulated", 0, rows.len() as u64);
    let mut answers = Vec::with_capacity(rows.len());
    // a temperature of 1: the one of the model is the plain head's
    let plain = Fusion::default();
    for batch in rows.chunks(BATCH) {
        let paths: Vec<_> = batch.iter().map(|(path, ..)| *path).collect();
        let pixels =
            paths.par_iter().map(|path| picture::load(path, model.input())).collect::<Result<Vec<_>, _>>()?;
        let places: Vec<Option<Situation>> = batch.iter().map(|(_, place, _)| *place).collect();
        let logits = model.modulated_logits(&pixels, &places).map_err(EvaluationError::Model)?;
        let answer = |(logits, (.., truth)): (&Vec<f32>, &(_, _, &ClassId))| {
            Answer::of(**truth, &plain.image_only(logits))
        };
        answers.extend(logits.iter().zip(batch).map(answer));
        progress.at(answers.len() as u64, String::new);
    }
    progress.done(&format!("{} pictures", answers.len()));
    Ok(Some(answers))
}

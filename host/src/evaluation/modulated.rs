//! The image head that the place has a say in, beside image, place and their fusion.

use csp_models::{labels::ClassId, picture, situation::Situation};
use rayon::prelude::*;

use super::{Accuracy, EvaluationError, Predictor, rank_of};
use crate::{
    data::Row,
    progress::{Progress, Voice},
};

/// Pictures classified between two looks at the progress bar.
const BATCH: usize = 128;

/// Its accuracy on rows that have a picture; `None` for a model without one.
///
/// # Errors
/// A picture that cannot be read, or a model that fails.
pub fn modulated(
    model: &dyn Predictor,
    rows: &[(&Row, ClassId)],
    voice: Voice,
) -> Result<Option<Accuracy>, EvaluationError> {
    if !model.is_modulated() {
        return Ok(None);
    }
    let mut progress = Progress::new(voice, "modulated", 0, rows.len() as u64);
    let mut ranks = Vec::with_capacity(rows.len());
    for batch in rows.chunks(BATCH) {
        let paths: Vec<_> = batch.iter().filter_map(|(row, _)| row.image.as_deref()).collect();
        let pixels =
            paths.par_iter().map(|path| picture::load(path, model.input())).collect::<Result<Vec<_>, _>>()?;
        let places: Vec<Option<Situation>> = batch.iter().map(|(row, _)| row.situation()).collect();
        let logits = model.modulated_logits(&pixels, &places).map_err(EvaluationError::Model)?;
        for (logits, (_, truth)) in logits.iter().zip(batch) {
            let scores: Vec<f64> = logits.iter().map(|&logit| f64::from(logit)).collect();
            ranks.push(rank_of(*truth, &scores));
        }
        progress.at(ranks.len() as u64, String::new);
    }
    progress.done(&format!("{} pictures", ranks.len()));
    Ok(Some(Accuracy::of(&ranks)))
}

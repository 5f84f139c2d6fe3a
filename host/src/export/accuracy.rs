//! How good an exported image network is, by the very engine that runs it in the field.

use csp_models::{bundle::Bundle, labels::ClassId};
use rayon::prelude::*;

use super::error::ExportError;
use crate::evaluation::{Accuracy, best, rank_of};

/// Logits of every picture by a bundle's image network, `[pictures][classes]`.
pub(super) fn answers(
    bundle: &Bundle,
    pictures: &[(&[u8], Option<ClassId>)],
) -> Result<Vec<Vec<f32>>, ExportError> {
    let refused = |reason: String| ExportError::Engine { network: "image".into(), reason };
    let engine = csp_device::infer::Engine::load(bundle).map_err(|error| refused(error.to_string()))?;
    pictures
        .par_iter()
        .map(|(pixels, _)| engine.classify(pixels).map_err(|error| refused(error.to_string())))
        .collect()
}

/// Accuracy over the pictures with a class; `None` without any.
pub(super) fn accuracy(answers: &[Vec<f32>], pictures: &[(&[u8], Option<ClassId>)]) -> Option<Accuracy> {
    let rows = answers.iter().zip(pictures);
    let ranks: Vec<_> =
        rows.filter_map(|(logits, (_, class))| class.map(|class| rank_of(class, logits))).collect();
    (!ranks.is_empty()).then(|| Accuracy::of(&ranks))
}

/// Share of pictures on which two networks name the same class.
pub(super) fn agreement(a: &[Vec<f32>], b: &[Vec<f32>]) -> f64 {
    let same = a.iter().zip(b).filter(|(a, b)| best(a) == best(b)).count();
    same as f64 / a.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_only_pictures_with_a_class() {
        let answers = vec![vec![1.0, 0.0], vec![1.0, 0.0], vec![0.0, 1.0]];
        let class = |c| Some(ClassId(c));
        let pictures: [(&[u8], _); 3] = [(&[], class(0)), (&[], class(1)), (&[], None)];
        let accuracy = accuracy(&answers, &pictures).unwrap();
        assert_eq!((accuracy.top1, accuracy.top3, accuracy.n), (0.5, 1.0, 2));
        assert!(super::accuracy(&answers, &pictures[2..]).is_none());
        assert_eq!(
            agreement(&answers, &[answers[0].clone(), answers[2].clone(), answers[2].clone()]),
            2.0 / 3.0
        );
    }
}

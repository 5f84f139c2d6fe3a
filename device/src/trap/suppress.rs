//! People and vehicles in view: which pictures are not to be kept as they are.

use alloc::vec::Vec;

use csp_models::groups::Group;

use super::Prediction;

/// Whose pictures are suppressed, and from which probability on.
#[derive(Clone, Debug, PartialEq)]
pub struct Suppression {
    groups: Vec<Group>,
    threshold: f64,
}

impl Suppression {
    /// Suppresses pictures that show one of `groups` with at least this probability, above 0 and at most 1.
    pub fn new(groups: Vec<Group>, threshold: f64) -> Self {
        Self { groups, threshold }
    }

    /// True when a model whose classes belong to these groups can see whom it is about. `classes` holds
    /// the group of each class.
    pub fn sees(&self, classes: &[Option<Group>]) -> bool {
        classes.iter().flatten().any(|group| self.groups.contains(group))
    }

    /// The group for which a picture is suppressed, if any of its predictions (whole frames of the burst,
    /// crop; by the picture alone or with the place) sees it: whichever is surest.
    pub fn group<'p>(
        &self,
        classes: &[Option<Group>],
        predictions: impl IntoIterator<Item = &'p Prediction>,
    ) -> Option<Group> {
        let likely = |group: Group, scores: &[f64]| {
            let of_group = classes.iter().zip(scores).filter(|(class, _)| **class == Some(group));
            of_group.map(|(_, p)| p).sum::<f64>() >= self.threshold
        };
        let predictions: Vec<&Prediction> = predictions.into_iter().collect();
        let seen = |group: &Group| {
            predictions.iter().any(|said| likely(*group, &said.image) || likely(*group, &said.fused))
        };
        self.groups.iter().copied().find(seen)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use csp_models::{fusion::Decision, record::Provenance};

    use super::*;

    fn said(image: [f64; 4], fused: [f64; 4]) -> Prediction {
        Prediction {
            image: image.to_vec(),
            prior: None,
            fused: fused.to_vec(),
            decision: Decision::Abstain,
            provenance: Provenance::Image,
            year_mean: false,
            prior_computed: false,
            set_aside: None,
        }
    }

    /// lynx, human, vehicle, ranger.
    const CLASSES: [Option<Group>; 4] = [None, Some(Group::Human), Some(Group::Vehicle), Some(Group::Human)];
    const LYNX: [f64; 4] = [0.9, 0.05, 0.05, 0.0];

    #[test]
    fn people_are_seen_by_whichever_prediction_is_surest() {
        let wish = Suppression::new(vec![Group::Human, Group::Vehicle], 0.25);
        let of = |predictions: &[Prediction]| wish.group(&CLASSES, predictions);
        let lynx = said(LYNX, LYNX);
        assert_eq!(of(&[]), None);
        assert_eq!(of(core::slice::from_ref(&lynx)), None);
        assert_eq!(of(&[said([0.6, 0.4, 0.0, 0.0], LYNX)]), Some(Group::Human), "before the place spoke");
        let crop = [0.1, 0.1, 0.8, 0.0];
        assert_eq!(of(&[lynx, said(crop, crop)]), Some(Group::Vehicle));
        let two_kinds = [0.7, 0.15, 0.0, 0.15];
        assert_eq!(of(&[said(two_kinds, two_kinds)]), Some(Group::Human), "the group's classes add up");
    }

    #[test]
    fn a_model_without_people_sees_none() {
        let wish = Suppression::new(vec![Group::Human], 0.25);
        assert!(wish.sees(&CLASSES));
        assert!(!wish.sees(&[None, Some(Group::Vehicle)]));
        assert!(!Suppression::new(Vec::new(), 0.25).sees(&CLASSES));
    }
}

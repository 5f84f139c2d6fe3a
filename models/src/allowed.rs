//! The species that can occur at a site: an optional list that rules the others out.
//!
//! What is ruled out gets no probability and the rest is normalised; the best class that was ruled out
//! and would have won is kept beside the decision, so that a reviewer sees a range that grew. People,
//! vehicles and empty frames are never ruled out: privacy rests on them.

use alloc::{string::String, vec::Vec};

use crate::{
    fusion::ranked,
    groups::{Groups, named},
    labels::{ClassId, Labels},
};

/// Which classes may be named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed(Vec<bool>);

/// A list that does not fit the model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllowedError {
    /// A name of the list is that of no class.
    #[error(
        "allowed species: \"{name}\" is neither a class of the model nor a group above one; `csp-host model inspect` lists them"
    )]
    Unknown {
        /// The name.
        name: String,
    },
    /// A list of nothing.
    #[error("allowed species: the list is empty; leave it out to allow every class")]
    Empty,
}

impl Allowed {
    /// From names of classes or of taxa above them (`Felidae` allows every cat); case does not matter.
    ///
    /// # Errors
    /// [`AllowedError`]: an empty list, or a name that is none of the model's.
    pub fn new(names: &[String], labels: &Labels, groups: &Groups) -> Result<Self, AllowedError> {
        if names.is_empty() {
            return Err(AllowedError::Empty);
        }
        let known = |name: &String| labels.0.iter().any(|label| named(label, name));
        if let Some(name) = names.iter().find(|name| !known(name)) {
            return Err(AllowedError::Unknown { name: name.clone() });
        }
        let allows = |label| names.iter().any(|name| named(label, name)) || groups.of(label).is_some();
        Ok(Self(labels.0.iter().map(allows).collect()))
    }

    /// True for a class that may be named.
    pub fn allows(&self, class: ClassId) -> bool {
        self.0.get(class.index()).copied().unwrap_or_default()
    }

    /// Image logits `[classes]`, minus infinity where the class is ruled out: a softmax gives it
    /// exactly 0 and normalises the rest.
    pub fn mask(&self, logits: &[f32]) -> Vec<f32> {
        let masked = |(&logit, &allowed): (&f32, &bool)| if allowed { logit } else { f32::NEG_INFINITY };
        logits.iter().zip(&self.0).map(masked).collect()
    }

    /// The class that would have won without the list, if it was ruled out; `unmasked` is `P(y|I,x)`
    /// over every class.
    pub fn set_aside(&self, unmasked: &[f64]) -> Option<ClassId> {
        ranked(unmasked).first().copied().filter(|&best| !self.allows(best))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fusion::Fusion,
        labels::{Label, Taxon},
    };
    use alloc::vec;

    fn labels() -> Labels {
        let cat = |name: &str| Label {
            name: name.into(),
            lineage: vec![Taxon { rank: "family".into(), name: "Felidae".into() }],
            placed: true,
        };
        Labels(vec![cat("lynx"), cat("tiger"), Label::new("hare"), Label::new("human")])
    }

    fn allowed(names: &[&str]) -> Result<Allowed, AllowedError> {
        let names: Vec<String> = names.iter().map(|name| (*name).into()).collect();
        Allowed::new(&names, &labels(), &Groups::default())
    }

    #[test]
    fn what_is_ruled_out_gets_nothing_and_the_rest_all() {
        let list = allowed(&["lynx", "hare"]).unwrap();
        let fusion = Fusion::default();
        let logits = [1.0f32, 3.0, 0.5, -1.0];
        let unmasked = fusion.image_only(&logits);
        let masked = fusion.image_only(&list.mask(&logits));
        assert_eq!(masked[1], 0.0);
        let rest: f64 = unmasked[0] + unmasked[2] + unmasked[3];
        for class in [0, 2, 3] {
            assert!((masked[class] - unmasked[class] / rest).abs() < 1e-12);
        }
        assert_eq!(list.set_aside(&unmasked), Some(ClassId(1)), "the tiger would have won");
        assert_eq!(list.set_aside(&masked), None);
        // however sure the picture is of what cannot be
        let sure = list.mask(&[0.0, 1e4, 0.0, 0.0]);
        assert!((fusion.fuse(&sure, &[1.0; 4], 0.0).iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_taxon_allows_its_classes_and_people_are_always_allowed() {
        let list = allowed(&["felidae"]).unwrap();
        let may: Vec<bool> = (0..4).map(|class| list.allows(ClassId(class))).collect();
        assert_eq!(may, [true, true, false, true]);
        assert_eq!(allowed(&["lynks"]), Err(AllowedError::Unknown { name: "lynks".into() }));
        assert_eq!(allowed(&[]), Err(AllowedError::Empty));
    }
}

//! Classes and where they stand in a taxonomy.

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};

/// The position of a class in the model's outputs and in [`Labels`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClassId(pub u16);

impl ClassId {
    /// As an index into scores and labels.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// One taxonomic rank of a class, such as (`family`, `Felidae`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taxon {
    /// `kingdom`, `class`, `order`, `family`, `genus`, …
    pub rank: String,
    /// The group's name at that rank.
    pub name: String,
}

/// A class the model can name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// The name in the training data.
    pub name: String,
    /// The groups above it, broadest first. Empty where none is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lineage: Vec<Taxon>,
    /// False where no record with a place has taught the model where the class lives.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub placed: bool,
}

fn yes() -> bool {
    true
}

fn is_yes(placed: &bool) -> bool {
    *placed
}

impl Label {
    /// A class without taxonomy.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), lineage: Vec::new(), placed: true }
    }
}

/// The classes of a model, in the order of its outputs. At most 65,535.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Labels(pub Vec<Label>);

impl Labels {
    /// Number of classes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True without classes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The class of that exact name.
    pub fn find(&self, name: &str) -> Option<ClassId> {
        self.0.iter().position(|label| label.name == name).map(|i| ClassId(i as u16))
    }

    /// Puts the mean of all other scores in the place of those of classes that no record with a place has
    /// taught ([`Label::placed`]): the place then neither favours nor vetoes them. What a location network
    /// says of such a class means nothing; trained on presences it says "nowhere".
    ///
    /// # Shapes
    /// - presence: `[classes]`, 0 to 1
    pub fn stand_in(&self, presence: &mut [f64]) {
        let placed = || self.0.iter().map(|label| label.placed);
        let count = placed().filter(|placed| *placed).count();
        if count == self.len() || count == 0 {
            return;
        }
        let taught = presence.iter().zip(placed()).filter(|(_, placed)| *placed);
        let mean = taught.map(|(score, _)| score).sum::<f64>() / count as f64;
        presence.iter_mut().zip(placed()).filter(|(_, placed)| !placed).for_each(|(score, _)| *score = mean);
    }

    /// The name of a class; `?` outside the list.
    pub fn name(&self, class: ClassId) -> &str {
        self.0.get(class.index()).map_or("?", |label| label.name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fusion::Fusion;
    use alloc::vec;

    #[test]
    fn a_class_without_places_is_neither_favoured_nor_vetoed() {
        let mut labels = Labels(["lynx", "blank", "hare"].map(Label::new).to_vec());
        let mut presence = vec![0.9, 0.0, 0.1];
        labels.stand_in(&mut presence);
        assert_eq!(presence, [0.9, 0.0, 0.1], "all of them have places");
        labels.0[1].placed = false;
        labels.stand_in(&mut presence);
        assert_eq!(presence, [0.9, 0.5, 0.1]);
        // what is alike everywhere says nothing of it either
        let (fusion, logits) = (Fusion::default(), [0.3, 1.0, -0.2]);
        let mut flat = vec![0.4, 0.0, 0.4];
        labels.stand_in(&mut flat);
        let (fused, alone) = (fusion.fuse(&logits, &flat, 0.0), fusion.image_only(&logits));
        assert!(fused.iter().zip(alone).all(|(a, b)| (a - b).abs() < 1e-12));
    }

    #[test]
    fn labels_of_before_have_places_and_say_no_more_than_then() {
        let old = r#"{"name":"lynx"}"#;
        let label: Label = serde_json::from_str(old).unwrap();
        assert!(label.placed);
        assert_eq!(serde_json::to_string(&label).unwrap(), old);
        let unplaced = Label { placed: false, ..label };
        assert!(serde_json::to_string(&unplaced).unwrap().contains("\"placed\":false"));
    }
}

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
}

impl Label {
    /// A class without taxonomy.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), lineage: Vec::new() }
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

    /// The name of a class; `?` outside the list.
    pub fn name(&self, class: ClassId) -> &str {
        self.0.get(class.index()).map_or("?", |label| label.name.as_str())
    }
}

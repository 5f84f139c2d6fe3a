//! The methods that are compared, and the figures of one.

use serde::{Deserialize, Serialize};

use crate::evaluation::{Accuracy, Answer, Reliability, accuracy};

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The image classifier alone.
    Image,
    /// A location encoder trained on the labelled places only.
    Supervised,
    /// The same, pre-trained on all pictures with places.
    Csp,
    /// The image head that the place of the CSP run has a say in; needs `image.modulation.enabled`.
    Modulated,
    /// The k nearest labelled places.
    Knn,
    /// Counts in cells of a grid.
    Histogram,
    /// Kernel densities; slow on many labels.
    Kde,
}

impl Method {
    /// Those of the table unless others are asked for.
    pub const USUAL: [Self; 5] = [Self::Image, Self::Supervised, Self::Csp, Self::Knn, Self::Histogram];

    /// Its name in a heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Image => "image only",
            Self::Supervised => "supervised location",
            Self::Csp => "CSP",
            Self::Modulated => "modulated by CSP",
            Self::Knn => "nearest neighbours",
            Self::Histogram => "grid histogram",
            Self::Kde => "kernel density",
        }
    }
}

/// What is measured of answers, all 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measures {
    /// Ranks of the true classes.
    #[serde(flatten)]
    pub accuracy: Accuracy,
    /// Expected calibration error.
    pub ece: f64,
}

impl Measures {
    pub(super) fn of(answers: &[Answer]) -> Self {
        Self { accuracy: accuracy(answers), ece: Reliability::of(answers).ece }
    }
}

/// The figures of a method for one (split, ratio, seed).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// With the image; of [`Method::Image`] the image itself.
    pub fused: Measures,
    /// The place alone; `None` without.
    pub alone: Option<Measures>,
    /// What was chosen for it, in words; empty where nothing was.
    pub setting: String,
}

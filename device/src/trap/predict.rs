//! Image logits and a place → probabilities and a decision.

use alloc::{string::String, vec::Vec};
use core::fmt;

use csp_models::{
    fusion::{self, Decision, Fusion, Thresholds},
    labels::{ClassId, Labels},
    place::{LatLon, Place},
    record::{Candidate, Provenance},
    situation::Situation,
    time::YearFraction,
};

/// A model: decodes pictures, runs its networks and knows its classes.
pub trait Classifier {
    /// Why a picture or a network failed, for a person.
    type Error: fmt::Display;

    /// A picture's file as the network's pixels: `height × width × 3` bytes.
    ///
    /// # Errors
    /// Not a photograph, damaged, or beyond the limits. `name` is for the message.
    fn decode(&mut self, name: &str, file: &[u8]) -> Result<Vec<u8>, Self::Error>;

    /// Image logits `[classes]` of pixels `[height, width, 3]`.
    ///
    /// # Errors
    /// The network failed.
    fn image_logits(&mut self, pixels: &[u8]) -> Result<Vec<f32>, Self::Error>;

    /// Location logits `[classes]` of a place at a date; `None` for a model without a location network.
    ///
    /// # Errors
    /// The network failed.
    fn location_logits(&mut self, situation: Situation) -> Result<Option<Vec<f32>>, Self::Error>;

    /// True when the location network looks at the date.
    fn is_seasonal(&self) -> bool;

    /// The classes, in the order of the logits.
    fn labels(&self) -> &Labels;

    /// How image and place are combined.
    fn fusion(&self) -> &Fusion;

    /// How sure a decision has to be.
    fn thresholds(&self) -> &Thresholds;
}

/// What is said about one picture. Every vector is `[classes]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// `P(y|I)`, calibrated.
    pub image: Vec<f64>,
    /// Presence score at the place; `None` without a place or a location network.
    pub prior: Option<Vec<f64>>,
    /// `P(y|I,x)`; equal to `image` without a prior.
    pub fused: Vec<f64>,
    /// What is concluded.
    pub decision: Decision,
    /// What the conclusion rests on.
    pub provenance: Provenance,
    /// True when the prior is the mean over the year: the model knows seasons, and no clock the date.
    pub year_mean: bool,
    /// False when the prior of that place was at hand from before.
    pub prior_computed: bool,
}

/// A classifier and the prior of the place it was last asked about: a trap stands still, so the
/// location network runs once a place (with seasons: once a day), not once a picture.
#[derive(Debug)]
pub struct Predictor<C> {
    /// The model.
    pub classifier: C,
    prior: Option<(Key, Vec<f64>)>,
}

/// What a prior is of: place, uncertainty in metres, and the day where the model asks for it.
type Key = (LatLon, f64, Option<YearFraction>);

impl<C: Classifier> Predictor<C> {
    /// A predictor that has seen no place yet.
    pub fn new(classifier: C) -> Self {
        Self { classifier, prior: None }
    }

    /// Fuses image logits `[classes]` with the prior of a place on a day, and decides. Only a model
    /// with seasons looks at the date; where it is not known, its prior is the mean over the year.
    ///
    /// # Errors
    /// The location network failed.
    pub fn predict(
        &mut self,
        logits: &[f32],
        place: Option<&Place>,
        date: Option<YearFraction>,
    ) -> Result<Prediction, C::Error> {
        let day = date.filter(|_| self.classifier.is_seasonal()).map(YearFraction::midday);
        let (prior, prior_computed) = match place {
            Some(place) => self.prior(place, day)?,
            None => (None, false),
        };
        let year_mean = prior.is_some() && day.is_none() && self.classifier.is_seasonal();
        let fusion = self.classifier.fusion();
        let image = fusion.image_only(logits);
        let (fused, provenance) = match (&prior, place) {
            (Some(prior), Some(place)) => {
                (fusion.fuse(logits, prior, place.uncertainty_m), Provenance::of(Some(place)))
            }
            _ => (image.clone(), Provenance::Image),
        };
        let decision = fusion::decide(&fused, self.classifier.labels(), self.classifier.thresholds());
        Ok(Prediction { image, prior, fused, decision, provenance, year_mean, prior_computed })
    }

    fn prior(
        &mut self,
        place: &Place,
        day: Option<YearFraction>,
    ) -> Result<(Option<Vec<f64>>, bool), C::Error> {
        let key = (place.at, place.uncertainty_m, day);
        if let Some((known, prior)) = &self.prior
            && *known == key
        {
            return Ok((Some(prior.clone()), false));
        }
        let mut missing = false;
        let seasonal = self.classifier.is_seasonal();
        let prior = fusion::presence(place, day, seasonal, |point| {
            let logits = self.classifier.location_logits(point)?;
            missing |= logits.is_none();
            Ok(logits.unwrap_or_default())
        })?;
        if missing {
            return Ok((None, false));
        }
        self.prior = Some((key, prior.clone()));
        Ok((Some(prior), true))
    }
}

impl Prediction {
    /// The best `top` classes by image, by prior and by both: the union, best fused first.
    pub fn candidates(&self, labels: &Labels, top: usize) -> Vec<Candidate> {
        let mut keep: Vec<ClassId> = Vec::new();
        for scores in [Some(&self.image), self.prior.as_ref(), Some(&self.fused)].into_iter().flatten() {
            keep.extend(fusion::ranked(scores).into_iter().take(top));
        }
        let mut candidates: Vec<Candidate> = fusion::ranked(&self.fused)
            .into_iter()
            .filter(|class| keep.contains(class))
            .map(|class| Candidate {
                class,
                name: String::from(labels.name(class)),
                image: score(&self.image, class),
                prior: self.prior.as_ref().map(|prior| score(prior, class)),
                fused: score(&self.fused, class),
            })
            .collect();
        candidates.shrink_to_fit();
        candidates
    }
}

fn score(scores: &[f64], class: ClassId) -> f64 {
    scores.get(class.index()).copied().unwrap_or_default()
}

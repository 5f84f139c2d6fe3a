//! Image logits and a place → probabilities and a decision.

use alloc::{string::String, vec::Vec};
use core::fmt;

use csp_models::{
    allowed::Allowed,
    fusion::{self, Decision, Fusion, Thresholds},
    groups::{Group, Groups},
    labels::{ClassId, Labels},
    part::Part,
    place::{LatLon, Place},
    record::{Candidate, Provenance},
    situation::Situation,
    time::YearFraction,
};

use super::{motion::Grey, suppress::Suppression};

/// What of a picture's file is looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum View {
    /// All of it.
    Whole,
    /// All of a frame that is compared with the others of its burst.
    Frame,
    /// The part that moved.
    Part(Part),
}

/// A picture as the networks see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// `height × width × 3` bytes of the image network's input.
    pub pixels: Vec<u8>,
    /// The frame in small and grey, for [`View::Frame`]; `None` where nobody looks for motion.
    pub grey: Option<Grey>,
}

/// A model: decodes pictures, runs its networks and knows its classes.
pub trait Classifier {
    /// Why a picture or a network failed, for a person.
    type Error: fmt::Display;

    /// A picture's file as the network's pixels.
    ///
    /// # Errors
    /// Not a photograph, damaged, or beyond the limits. `name` is for the message.
    fn decode(&mut self, name: &str, file: &[u8], view: View) -> Result<Decoded, Self::Error>;

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
    /// The class that would have won, had the list of allowed species not ruled it out; its `fused` is
    /// the probability before the list.
    pub set_aside: Option<Candidate>,
}

/// A classifier and the priors of the places it was last asked about: a trap stands still, so the
/// location network runs once a place (with seasons: once a day), not once a picture.
#[derive(Debug)]
pub struct Predictor<C> {
    /// The model.
    pub classifier: C,
    /// The species of the site; `None` allows every class.
    pub allowed: Option<Allowed>,
    /// The group of each class of the model.
    pub groups: Vec<Option<Group>>,
    /// Whose pictures are suppressed; `None` for nobody's.
    pub suppression: Option<Suppression>,
    /// The latest first.
    priors: Vec<(Key, Vec<f64>)>,
}

/// Priors kept: a fix on the corner of four cells of [`Place::snapped`] wanders between them.
const PRIORS: usize = 4;

/// What a prior is of: snapped place, uncertainty in metres, and the day where the model asks for it.
type Key = (LatLon, f64, Option<YearFraction>);

impl<C: Classifier> Predictor<C> {
    /// A predictor that has seen no place yet.
    pub fn new(classifier: C) -> Self {
        let groups = Groups::default().of_each(classifier.labels());
        Self { classifier, allowed: None, groups, suppression: None, priors: Vec::new() }
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
        // without a prior the image decides alone
        let known = prior.as_ref().zip(place);
        let provenance = known.map_or(Provenance::Image, |(_, place)| Provenance::of(Some(place)));
        let fuse = |logits: &[f32]| match known {
            Some((prior, place)) => fusion.fuse_at(logits, prior, place),
            None => fusion.image_only(logits),
        };
        let unmasked = fuse(logits);
        let (fused, set_aside) = match &self.allowed {
            None => (unmasked, None),
            Some(allowed) => {
                let set_aside = allowed.set_aside(&unmasked).map(|class| Candidate {
                    class,
                    name: String::from(self.classifier.labels().name(class)),
                    image: score(&image, class),
                    prior: prior.as_ref().map(|prior| score(prior, class)),
                    fused: score(&unmasked, class),
                });
                (fuse(&allowed.mask(logits)), set_aside)
            }
        };
        let decision = fusion::decide(&fused, self.classifier.labels(), self.classifier.thresholds());
        Ok(Prediction { image, prior, fused, decision, provenance, year_mean, prior_computed, set_aside })
    }

    fn prior(
        &mut self,
        place: &Place,
        day: Option<YearFraction>,
    ) -> Result<(Option<Vec<f64>>, bool), C::Error> {
        let place = place.snapped();
        let key = (place.at, place.uncertainty_m, day);
        if let Some(at) = self.priors.iter().position(|(known, _)| *known == key) {
            if let Some(front) = self.priors.get_mut(..=at) {
                front.rotate_right(1);
            }
            return Ok((self.priors.first().map(|(_, prior)| prior.clone()), false));
        }
        let mut missing = false;
        let seasonal = self.classifier.is_seasonal();
        let mut prior = fusion::presence(&place, day, seasonal, |point| {
            let logits = self.classifier.location_logits(point)?;
            missing |= logits.is_none();
            Ok(logits.unwrap_or_default())
        })?;
        if missing {
            return Ok((None, false));
        }
        self.classifier.labels().stand_in(&mut prior);
        self.priors.truncate(PRIORS - 1);
        self.priors.insert(0, (key, prior.clone()));
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

#[cfg(test)]
mod tests {
    use alloc::{boxed::Box, vec};

    use csp_models::{groups::Groups, labels::Label, place::PlaceSource};

    use super::*;

    /// Three classes with the same prior everywhere; counts how often its location network runs.
    struct Three {
        labels: Labels,
        fusion: Fusion,
        thresholds: Thresholds,
        runs: u32,
    }

    impl Classifier for Three {
        type Error = &'static str;
        fn decode(&mut self, _: &str, file: &[u8], _: View) -> Result<Decoded, Self::Error> {
            Ok(Decoded { pixels: file.to_vec(), grey: None })
        }
        fn image_logits(&mut self, _: &[u8]) -> Result<Vec<f32>, Self::Error> {
            Err("not asked for")
        }
        fn location_logits(&mut self, _: Situation) -> Result<Option<Vec<f32>>, Self::Error> {
            self.runs += 1;
            Ok(Some(vec![1.0, 0.0, -1.0]))
        }
        fn is_seasonal(&self) -> bool {
            false
        }
        fn labels(&self) -> &Labels {
            &self.labels
        }
        fn fusion(&self) -> &Fusion {
            &self.fusion
        }
        fn thresholds(&self) -> &Thresholds {
            &self.thresholds
        }
    }

    fn predictor() -> Box<Predictor<Three>> {
        Box::new(Predictor::new(Three {
            labels: Labels(["lynx", "tiger", "hare"].map(Label::new).to_vec()),
            fusion: Fusion::default(),
            thresholds: Thresholds::default(),
            runs: 0,
        }))
    }

    #[test]
    fn a_fix_that_wanders_by_centimetres_costs_one_prior() {
        let mut predictor = predictor();
        let start = LatLon::new(46.5, 8.0).unwrap();
        for second in 0..1000 {
            let at = start.travel(f64::from(second), 0.03);
            let place = Place { at, uncertainty_m: 9.0, source: PlaceSource::LiveFix };
            predictor.predict(&[0.0; 3], Some(&place), None).unwrap();
        }
        // a disc is 19 points; the fix may lie on the corner of four cells
        assert!(predictor.classifier.runs <= 4 * 19, "{} runs", predictor.classifier.runs);
        let before = predictor.classifier.runs;
        let moved = Place { at: start.travel(0.0, 500.0), uncertainty_m: 9.0, source: PlaceSource::LiveFix };
        assert!(predictor.predict(&[0.0; 3], Some(&moved), None).unwrap().prior_computed);
        assert_eq!(predictor.classifier.runs, before + 19);
    }

    #[test]
    fn the_winner_that_cannot_be_here_is_set_aside() {
        let mut predictor = predictor();
        let place = Place::configured(LatLon::new(46.5, 8.0).unwrap());
        let logits = [0.0, 5.0, 0.0];
        let free = predictor.predict(&logits, Some(&place), None).unwrap();
        assert!(matches!(free.decision, Decision::Class { class: ClassId(1), .. }));
        assert_eq!(free.set_aside, None);

        let names = ["lynx".into(), "hare".into()];
        let allowed = Allowed::new(&names, &predictor.classifier.labels, &Groups::default());
        predictor.allowed = Some(allowed.unwrap());
        let held = predictor.predict(&logits, Some(&place), None).unwrap();
        assert!(matches!(held.decision, Decision::Class { class: ClassId(0), .. }), "{held:?}");
        assert_eq!((held.fused[1], held.image.clone()), (0.0, free.image.clone()));
        assert!((held.fused.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let tiger = held.set_aside.unwrap();
        assert_eq!((tiger.name.as_str(), tiger.fused), ("tiger", free.fused[1]));
        let quiet = predictor.predict(&[5.0, 0.0, 0.0], Some(&place), None).unwrap();
        assert_eq!(quiet.set_aside, None, "it did not beat the decision");
    }
}

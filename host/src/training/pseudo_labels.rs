//! Pseudo-labels: what the image network, trained on the labelled rows, sees in pictures that nobody
//! labelled (Lee, *Pseudo-Label*, 2013). The location branch learns from them as from labels, at many times
//! the places.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use csp_models::{
    fusion::Fusion,
    labels::{ClassId, Labels},
    place::LatLon,
    situation::Situation,
};
use rand::RngExt;
use rayon::prelude::*;

use super::{
    TrainError,
    calibrate::{Case, FEW, temperature},
    guard::Blocks,
    image::{BLOCK, Classifier, Outputs, Pictures},
    pipeline::Job,
    roles::Role,
    run_dir::StageInfo,
    runner::{self, Context},
    weights::{Array, Weights},
};
use crate::{data::units::Unit, progress::Progress};

/// Name of the pass in files and messages.
const PASS: &str = "pseudo-labels";
/// Probabilities that are kept: from the first on, and from so large a share of the highest.
const LEAST: (f64, f64) = (0.01, 0.05);
/// Classes that are kept at most: of thousands alike, each a little likely, each picture would keep them all.
const MOST: usize = 64;

/// A place whose picture nobody labelled, and what the picture may show.
pub(super) type Guessed = (Situation, Guess);

/// What a picture may show: the classes of some probability, which sum to 1.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Guess {
    /// Class and the sum of the probabilities up to it.
    up_to: Arc<[(ClassId, f32)]>,
}

impl Guess {
    /// Of `probabilities` `[classes]` those that count; `None` where the highest is below `threshold`, or of
    /// a class of which the place says nothing.
    pub fn of(probabilities: &[f64], threshold: f64, labels: &Labels) -> Option<Self> {
        let placed = |class: usize| labels.0.get(class).is_none_or(|label| label.placed);
        let highest = probabilities.iter().copied().fold(0.0, f64::max);
        let first = probabilities.iter().position(|&p| p == highest)?;
        if highest == 0.0 || highest < threshold || !placed(first) {
            return None;
        }
        let least = LEAST.0.min(LEAST.1 * highest);
        let counts = |&(class, p): &(usize, f64)| p >= least && placed(class);
        let mut likely: Vec<(usize, f64)> =
            probabilities.iter().copied().enumerate().filter(counts).collect();
        if likely.len() > MOST {
            likely.sort_by(|a, b| b.1.total_cmp(&a.1));
            likely.truncate(MOST);
        }
        let all: f64 = likely.iter().map(|(_, p)| p).sum();
        let mut sum = 0.0;
        let up_to = likely.into_iter().map(|(class, p)| {
            sum += p / all;
            (ClassId(class as u16), sum as f32)
        });
        Some(Self { up_to: up_to.collect() })
    }

    /// A class, by its probability.
    pub fn draw(&self, rng: &mut impl RngExt) -> ClassId {
        let drawn: f32 = rng.random();
        let at = self.up_to.partition_point(|(_, sum)| *sum <= drawn);
        // rounding can leave the last sum below 1
        self.up_to[at.min(self.up_to.len() - 1)].0
    }

    /// The classes and their probabilities.
    pub fn each(&self) -> impl Iterator<Item = (ClassId, f64)> {
        let before = std::iter::once(0.0).chain(self.up_to.iter().map(|(_, sum)| *sum));
        self.up_to.iter().zip(before).map(|(&(class, sum), before)| (class, f64::from(sum - before)))
    }
}

/// Those `guesses` that share no cell of `degrees` degrees with any of the places `aside`: a prior that is
/// judged there has not been taught there.
pub(super) fn beyond(
    guesses: &[Guessed],
    aside: impl IntoIterator<Item = LatLon>,
    degrees: f64,
) -> Vec<Guessed> {
    let cell = |at: LatLon| Unit::of_degrees(0, Some(at), degrees);
    let aside: BTreeSet<Unit<'static>> = aside.into_iter().map(cell).collect();
    guesses.iter().filter(|(seen, _)| !aside.contains(&cell(seen.at))).cloned().collect()
}

impl Job<'_> {
    /// What the image network sees in the unlabelled pictures that have a place, where it is sure enough by
    /// the temperature that fits the hold-out; kept in the run, so that a resumed one learns from the same.
    pub(super) fn guesses(
        &self,
        context: &mut Context<'_>,
        pictures: &Pictures,
        outputs: &Outputs,
        image: &Classifier,
    ) -> Result<Vec<Guessed>, TrainError> {
        let threshold = self.config.finetune.pseudo_labels;
        let samples = &self.set.samples;
        let unlabelled = (0..samples.len()).filter(|&at| samples[at].role == Role::Unlabelled);
        let (asked, of): (Vec<usize>, Vec<usize>) = unlabelled
            .filter(|&at| samples[at].place.is_some())
            .filter_map(|at| Some((at, pictures.of_sample[at]?)))
            .unzip();
        let taught_places = samples.iter().any(|row| row.role == Role::Labelled && row.place.is_some());
        if threshold >= 1.0 || of.is_empty() || !taught_places {
            return Ok(Vec::new());
        }
        let answers = match runner::finished(context.run, PASS)? {
            Some(answers) => answers,
            None => {
                let begun = Instant::now();
                let guesses = self.look(context, pictures, outputs, image, (&asked, &of))?;
                let answers = to_weights(&guesses);
                runner::keep(context.run, PASS, &answers)?;
                let notes = [("of".to_string(), of.len().into()), ("taught".into(), guesses.len().into())];
                let seconds = begun.elapsed().as_secs_f64();
                context.run.note(PASS, StageInfo { seconds, notes: notes.into(), ..StageInfo::default() })?;
                answers
            }
        };
        let corrupt = || TrainError::corrupt(context.run.finished(PASS), "it is of other rows");
        let guesses = from_weights(&answers, self.set.labels.len()).ok_or_else(corrupt)?;
        let (sure, all) = (guesses.len(), of.len());
        context.voice.say(&format!(
            "{PASS:>18} {sure} of {all} unlabelled pictures are clear enough to teach their place"
        ));
        let placed = guesses.into_iter().map(|(at, guess)| Some((samples.get(at)?.situation()?, guess)));
        let placed: Vec<Guessed> = placed.collect::<Option<_>>().ok_or_else(corrupt)?;
        let held = samples.iter().filter(|sample| sample.role == Role::Holdout);
        Ok(beyond(&placed, held.filter_map(|sample| sample.place), self.config.holdout.block_deg))
    }

    /// Asks the image network about samples `asked`, whose pictures are `of`.
    fn look(
        &self,
        context: &Context<'_>,
        pictures: &Pictures,
        outputs: &Outputs,
        image: &Classifier,
        (asked, of): (&[usize], &[usize]),
    ) -> Result<Vec<(usize, Guess)>, TrainError> {
        let cases = self.labelled(pictures, Role::Holdout).into_iter().filter_map(|(picture, class)| {
            Some(Case { logits: image.logits.get(&picture)?.clone(), presence: None, class })
        });
        let cases: Vec<Case> = cases.collect();
        if cases.len() < FEW {
            context.voice.say(&format!(
                "{PASS:>18} only {} rows were held out: how sure the image network may be is hardly known",
                cases.len()
            ));
        }
        let fusion = Fusion { temperature: temperature(&cases), ..Fusion::default() };
        let threshold = self.config.finetune.pseudo_labels;
        let head = self.trained_head(context, &image.weights)?;
        let mut blocks = Blocks::new(PASS, context.fragile());
        let mut progress = Progress::new(context.voice, PASS, 0, of.len() as u64);
        let mut guesses = Vec::new();
        for start in (0..of.len()).step_by(BLOCK) {
            let rows = start..(start + BLOCK).min(of.len());
            let logits =
                blocks.run(rows.clone(), |rows| outputs.logits(&head, &of[rows], &context.device))?;
            let seen: Vec<Option<Guess>> = logits
                .par_iter()
                .map(|logits| Guess::of(&fusion.image_only(logits), threshold, &self.set.labels))
                .collect();
            let sure = asked[rows.clone()].iter().zip(seen);
            guesses.extend(sure.filter_map(|(&at, guess)| Some((at, guess?))));
            progress.at(rows.end as u64, || "pictures".into());
            if (context.stop)() && rows.end < of.len() {
                return Err(self.interrupted(PASS));
            }
        }
        progress.done(&format!("{} pictures", of.len()));
        Ok(guesses)
    }
}

/// Numbers of samples are kept as two digits of this base: exact in f32.
const BASE: usize = 1 << 16;

fn to_weights(guesses: &[(usize, Guess)]) -> Weights {
    let array = |values: Vec<f32>| Array { shape: vec![values.len()], values };
    let each = |of: fn(&(ClassId, f32)) -> f32| -> Vec<f32> {
        guesses.iter().flat_map(|(_, guess)| guess.up_to.iter().map(of)).collect()
    };
    let of_rows = |of: fn(&(usize, Guess)) -> usize| guesses.iter().map(|row| of(row) as f32).collect();
    let arrays = [
        ("sample.high", of_rows(|(at, _)| at / BASE)),
        ("sample.low", of_rows(|(at, _)| at % BASE)),
        ("classes", of_rows(|(_, guess)| guess.up_to.len())),
        ("class", each(|(class, _)| f32::from(class.0))),
        ("up_to", each(|(_, sum)| *sum)),
    ];
    Weights(arrays.into_iter().map(|(name, values)| (name.to_string(), array(values))).collect())
}

/// `None` where it is not what [`to_weights`] makes of that many classes.
fn from_weights(weights: &Weights, classes: usize) -> Option<Vec<(usize, Guess)>> {
    let of = |name: &str| Some(&weights.0.get(name)?.values[..]);
    let (high, low, counts) = (of("sample.high")?, of("sample.low")?, of("classes")?);
    let (mut class, mut up_to) = (of("class")?, of("up_to")?);
    if high.len() != low.len() || high.len() != counts.len() {
        return None;
    }
    let rows = high.iter().zip(low).zip(counts).map(|((&high, &low), &count)| {
        let (these, sums);
        (these, class) = class.split_at_checked(count as usize)?;
        (sums, up_to) = up_to.split_at_checked(count as usize)?;
        let known = |(&class, &sum): (&f32, &f32)| {
            ((class as usize) < classes).then_some((ClassId(class as u16), sum))
        };
        let up_to = these.iter().zip(sums).map(known).collect::<Option<_>>()?;
        let at = (high as usize).checked_mul(BASE)?.checked_add(low as usize)?;
        (count >= 1.0).then_some((at, Guess { up_to }))
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::rng;
    use csp_models::labels::Label;

    fn guess(probabilities: &[f64], threshold: f64) -> Option<Guess> {
        Guess::of(probabilities, threshold, &Labels::default())
    }

    #[test]
    fn classes_are_drawn_by_their_probabilities() {
        let guess = guess(&[0.6, 0.005, 0.3, 0.095], 0.6).unwrap();
        let each: Vec<(u16, f64)> = guess.each().map(|(class, p)| (class.0, p)).collect();
        let mut rng = rng::stream(1, "test", 0);
        let mut drawn = [0u32; 4];
        (0..20_000).for_each(|_| drawn[guess.draw(&mut rng).index()] += 1);
        for ((class, p), expected) in each.iter().zip([0.6, 0.3, 0.095]) {
            assert!((p - expected / 0.995).abs() < 1e-6, "{each:?}");
            let share = f64::from(drawn[usize::from(*class)]) / 20_000.0;
            assert!((share - p).abs() < 0.01, "{drawn:?}");
        }
        assert_eq!((each.len(), drawn[1]), (3, 0));
    }

    #[test]
    fn an_unsure_answer_is_no_guess() {
        assert_eq!(guess(&[0.59, 0.41], 0.6), None);
        assert_eq!(guess(&[f64::NAN; 2], 0.0), None);
        // of very many alike none is above the least that is kept, and not all are kept
        assert_eq!(guess(&[1.0 / 40.0; 40], 0.0).unwrap().each().count(), 40);
        let mut many = vec![0.0009; 1000];
        many[700] = 0.1009;
        let kept = guess(&many, 0.0).unwrap();
        assert_eq!((kept.each().count(), kept.each().any(|(class, p)| class.0 == 700 && p > 0.9)), (1, true));
        assert_eq!(guess(&[1.0 / 500.0; 500], 0.0).unwrap().each().count(), MOST);
    }

    #[test]
    fn a_class_of_which_the_place_says_nothing_is_not_guessed() {
        let mut labels = Labels(["river", "forest", "field"].map(Label::new).to_vec());
        labels.0[0].placed = false;
        assert_eq!(Guess::of(&[0.7, 0.2, 0.1], 0.6, &labels), None);
        let seen = Guess::of(&[0.2, 0.7, 0.1], 0.6, &labels).unwrap();
        let each: Vec<(u16, f64)> = seen.each().map(|(class, p)| (class.0, (8.0 * p).round())).collect();
        assert_eq!(each, [(1, 7.0), (2, 1.0)]);
    }

    #[test]
    fn what_is_kept_reads_back() {
        let guesses: Vec<(usize, Guess)> =
            [(3, [0.9, 0.1]), (70_000, [0.0, 1.0]), (usize::from(u16::MAX), [0.5, 0.5])]
                .map(|(at, p)| (at, guess(&p, 0.0).unwrap()))
                .to_vec();
        let kept = to_weights(&guesses);
        assert_eq!(from_weights(&kept, 2), Some(guesses));
        assert_eq!(from_weights(&kept, 1), None, "a class that there is not");
        for name in ["class", "sample.low"] {
            let mut cut = kept.clone();
            cut.0.get_mut(name).unwrap().values.pop();
            assert_eq!(from_weights(&cut, 2), None, "{name}");
        }
    }

    #[test]
    fn cells_that_are_set_aside_are_not_taught() {
        let at = |lat, lon| LatLon::new(lat, lon).unwrap();
        let places = [at(10.2, 20.2), at(10.9, 20.9), at(11.1, 20.5), at(-10.2, 20.2)];
        let guesses = places.map(|at| (Situation::undated(at), guess(&[1.0], 0.5).unwrap()));
        let left = |aside: &[LatLon]| -> Vec<LatLon> {
            beyond(&guesses, aside.iter().copied(), 1.0).iter().map(|(seen, _)| seen.at).collect()
        };
        assert_eq!(left(&[at(10.5, 20.5)]), places[2..]);
        assert_eq!(left(&[]), places);
    }
}

//! Pictures → prediction → entry, one network run a step.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use csp_models::{
    fusion,
    groups::Group,
    record::{
        Activity, BoardState, BurstFrame, Crop, Entry, Event, FailureRecord, Latency, Picture,
        PredictionRecord,
    },
    time::YearFraction,
};

use super::{
    Classifier, Clock, Kept, Kit, MAX_FRAMES, Prediction, Shot, Store, TOP, Taken, Trap, View,
    burst::{Burst, Frame},
    closer::Closer,
    motion::{Grey, crop_decides},
};

/// A burst in work.
#[derive(Debug)]
pub(super) struct Work {
    pub burst: Burst,
    /// The frame to classify next.
    next: usize,
    pub seen: heapless::Vec<Seen, MAX_FRAMES>,
    /// What moved was looked for.
    pub looked: bool,
    pub closer: Option<Closer>,
}

impl Work {
    /// What moved was not looked for yet, and there are frames to compare.
    fn is_comparable(&self) -> bool {
        !self.looked && self.seen.iter().filter(|seen| seen.grey.is_some()).count() > 1
    }
}

/// A classified frame.
#[derive(Debug)]
pub(super) struct Seen {
    pub frame: usize,
    logits: Vec<f32>,
    pub latency: Latency,
    pub grey: Option<Grey>,
}

impl<K: Kit> Trap<K> {
    /// Moves the burst in work on, or takes up the next; true when something was done.
    pub(super) fn work(&mut self) -> bool {
        let Some(mut work) = self.work.take() else {
            let Some(burst) = self.queue.pop_front() else { return false };
            self.work =
                Some(Work { burst, next: 0, seen: heapless::Vec::new(), looked: false, closer: None });
            return true;
        };
        if let Some(reason) = self.not_classifying() {
            let entry = self.unclassified(work, &reason);
            self.outbox.push(entry);
        } else if work.next < work.burst.frames.len() {
            self.classify(&mut work);
            self.work = Some(work);
        } else if work.is_comparable() {
            self.look_closer(&mut work);
            self.work = Some(work);
        } else {
            let entry = self.decide(work);
            self.outbox.push(entry);
        }
        true
    }

    /// True when a picture is stored only after the model has looked at it, for who may be in view.
    pub(super) fn looks_first(&self) -> bool {
        let Ok(model) = &self.model else { return false };
        let sees = model.suppression.as_ref().is_some_and(|wish| wish.sees(&model.groups));
        sees && self.not_classifying().is_none()
    }

    /// Why pictures are recorded and not classified at present.
    fn not_classifying(&self) -> Option<String> {
        if self.settings.safe_mode {
            return Some("safe mode: pictures are only recorded".into());
        }
        if let Err(problem) = &self.model {
            return Some(problem.clone());
        }
        (self.watch.activity >= Activity::PicturesOnly)
            .then(|| "saving energy: pictures are only recorded".into())
    }

    fn classify(&mut self, work: &mut Work) {
        let index = work.next;
        work.next += 1;
        let view = if work.burst.frames.len() > 1 { View::Frame } else { View::Whole };
        let (Ok(model), Some(frame)) = (&mut self.model, work.burst.frames.get_mut(index)) else { return };
        let Some(file) = frame.file() else { return };
        let start = self.clock.monotonic_us();
        let decoded = model.classifier.decode(&frame.name, file, view).map_err(|e| (false, e.to_string()));
        let between = self.clock.monotonic_us();
        let seen = decoded.and_then(|decoded| match model.classifier.image_logits(&decoded.pixels) {
            Ok(logits) => Ok((logits, decoded.grey)),
            Err(error) => Err((true, error.to_string())),
        });
        let done = self.clock.monotonic_us();
        work.burst.spent.inference_us += done.saturating_sub(start);
        match seen {
            Ok((logits, grey)) => {
                let latency = Latency {
                    decode_ms: millis(start, between),
                    image_ms: millis(between, done),
                    prior_ms: 0.0,
                };
                let _ = work.seen.push(Seen { frame: index, logits, latency, grey });
                self.watch.model_faulty = false;
            }
            Err((network, problem)) => {
                frame.problem = Some(problem.clone());
                if network {
                    self.model_problem(problem);
                }
            }
        }
    }

    /// The entry of a burst. The frame that shows best what moved speaks for it, without motion the first
    /// that can be classified: it shows what triggered. The others are told beside it.
    fn decide(&mut self, mut work: Work) -> Entry {
        let main = work.closer.as_ref().map(|closer| closer.frame);
        let main = work.seen.iter().position(|seen| Some(seen.frame) == main).unwrap_or_default();
        let Some(main_frame) = work.seen.get(main).map(|seen| seen.frame) else {
            let problem = work.burst.frames.iter().find_map(|frame| frame.problem.clone());
            return self.failure(work, problem.unwrap_or_else(|| "no picture".into()));
        };
        let start = self.clock.monotonic_us();
        let (predictions, crop) = match self.predict(&work, true) {
            Ok(predicted) => predicted,
            Err(error) => {
                let problem = format!("location network: {error}");
                self.model_problem(problem.clone());
                return self.failure(work, problem);
            }
        };
        let now = self.clock.monotonic_us();
        work.burst.spent.inference_us += now.saturating_sub(start);
        self.settle(&mut work.burst, predictions.iter().chain(crop.as_ref()));

        let board = self.board_of(&work.burst);
        let (Ok(model), Some(whole), Some(seen)) = (&self.model, predictions.get(main), work.seen.get(main))
        else {
            return self.unclassified(work, "no model");
        };
        let labels = model.classifier.labels();
        let mut latency = seen.latency;
        if predictions.iter().any(|prediction| prediction.prior_computed) {
            latency.prior_ms = millis(start, now);
        }
        let decides = crop.as_ref().filter(|crop| crop_decides(whole, crop, &model.groups));
        let deciding = decides.unwrap_or(whole);
        let decision = deciding.decision.clone();
        let (provenance, year_mean) = (whole.provenance, whole.year_mean);
        let (candidates, set_aside) = (whole.candidates(labels, TOP), deciding.set_aside.clone());
        let crop = crop.as_ref().zip(work.closer.as_ref()).map(|(crop, closer)| Crop {
            bbox: closer.part.shares(),
            candidates: crop.candidates(labels, TOP),
            decides: decides.is_some(),
        });
        let top = |frame: usize| {
            let seen = work.seen.iter().position(|seen| seen.frame == frame);
            let scores = seen.and_then(|at| predictions.get(at)).map(|prediction| &prediction.image);
            scores.map_or_else(Vec::new, |scores| {
                let best = fusion::ranked(scores).into_iter().take(TOP);
                best.map(|class| (class, scores.get(class.index()).copied().unwrap_or_default() as f32))
                    .collect()
            })
        };
        let others = work.burst.frames.iter().enumerate().filter(|(index, _)| *index != main_frame);
        let burst = others
            .map(|(index, frame)| BurstFrame {
                image: frame.name.clone(),
                image_sha256: frame.sha256,
                image_top: top(index),
            })
            .collect();
        let (time, place) = (work.burst.time, work.burst.place);
        let Some(frame) = work.burst.frames.get_mut(main_frame) else {
            return self.failure(work, "no picture".into());
        };
        Entry::Prediction(PredictionRecord {
            seq: 0,
            time,
            image: core::mem::take(&mut frame.name),
            image_sha256: frame.sha256.unwrap_or_default(),
            place,
            candidates,
            decision,
            provenance,
            latency,
            board,
            burst,
            year_mean,
            crop,
            set_aside,
            picture: frame.kept.take().unwrap_or(Picture::Elsewhere),
            sealed: None,
        })
    }

    /// What is said of each frame that was seen, and of the part that moved; `placed` for whether the place
    /// has a say.
    fn predict(&mut self, work: &Work, placed: bool) -> Result<Predicted, Error<K>> {
        let Ok(model) = &mut self.model else { return Ok((Vec::new(), None)) };
        let place = work.burst.place.as_ref().filter(|_| placed);
        let date = YearFraction::of(work.burst.time);
        let mut predict = |logits: &[f32]| model.predict(logits, place, date);
        let frames = work.seen.iter().map(|seen| predict(&seen.logits)).collect::<Result<_, _>>()?;
        let crop = work.closer.as_ref().map(|closer| predict(&closer.logits)).transpose()?;
        Ok((frames, crop))
    }

    /// Keeps the pictures that waited for what is said of them.
    fn settle<'p>(&mut self, burst: &mut Burst, predictions: impl Iterator<Item = &'p Prediction>) {
        let suppressed = self.model.as_ref().ok().and_then(|model| {
            let wish = model.suppression.as_ref()?;
            wish.group(&model.groups, predictions)
        });
        let taken = burst.taken();
        for frame in burst.frames.iter_mut().filter(|frame| frame.kept.is_none()) {
            self.keep(frame, taken, suppressed);
        }
    }

    /// Gives a picture to the store.
    pub(super) fn keep(&mut self, frame: &mut Frame, taken: Taken, suppressed: Option<Group>) {
        let (Some(bytes), Some(sha256)) = (&frame.bytes, frame.sha256) else { return };
        let taken = Some(taken).filter(|_| !frame.foreign);
        match self.store.keep(&Shot { name: &frame.name, bytes, sha256, taken, suppressed }) {
            Ok(Kept { picture, sha256 }) => {
                frame.kept = Some(picture);
                frame.sha256 = Some(sha256);
            }
            Err(error) => frame.kept = Some(Picture::NotStored { problem: error.to_string() }),
        }
    }

    fn unclassified(&mut self, work: Work, reason: &str) -> Entry {
        let own = work.burst.frames.first().and_then(|frame| frame.problem.clone());
        self.failure(work, own.unwrap_or_else(|| reason.into()))
    }

    /// The entry of a burst that nothing is predicted of; it names the other pictures, too. What was seen of
    /// them by themselves still says who is in view.
    fn failure(&mut self, mut work: Work, mut error: String) -> Entry {
        let (seen, crop) = self.predict(&work, false).unwrap_or_default();
        self.settle(&mut work.burst, seen.iter().chain(crop.as_ref()));
        let burst = work.burst;
        let board = self.board_of(&burst);
        let mut frames = burst.frames.into_iter();
        let (image, image_sha256) =
            frames.next().map_or((burst.stem, None), |frame| (frame.name, frame.sha256));
        let others: Vec<String> = frames.map(|frame| frame.name).collect();
        if !others.is_empty() {
            error = format!("{error} (of the same trigger: {})", others.join(", "));
        }
        Entry::Failure(FailureRecord {
            seq: 0,
            time: burst.time,
            image,
            image_sha256,
            place: burst.place,
            error,
            board,
            sealed: None,
        })
    }

    /// The board's state with the energy that a burst has cost.
    fn board_of(&mut self, burst: &Burst) -> BoardState {
        let mj = self.watch.meter.entry(&self.settings.power, burst.spent);
        // Rounded to what the record holds; negative watts are refused by the configuration.
        let energy_mj =
            self.settings.events.then_some(libm::round(mj).clamp(0.0, f64::from(u32::MAX)) as u32);
        BoardState { energy_mj, ..self.board_state() }
    }

    pub(super) fn model_problem(&mut self, problem: String) {
        if !core::mem::replace(&mut self.watch.model_faulty, true) {
            self.tell(Event::ModelFault { problem });
        }
    }
}

/// What is said of each frame, and of the part that moved.
type Predicted = (Vec<Prediction>, Option<Prediction>);
type Error<K> = <<K as Kit>::Classifier as Classifier>::Error;

pub(super) fn millis(from_us: u64, to_us: u64) -> f32 {
    to_us.saturating_sub(from_us) as f32 / 1000.0
}

//! Pictures → prediction → entry, one network run a step.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use csp_models::{
    fusion,
    record::{Activity, BoardState, BurstFrame, Entry, Event, FailureRecord, Latency, PredictionRecord},
    time::YearFraction,
};

use super::{Classifier, Clock, Kit, MAX_FRAMES, TOP, Trap, burst::Burst};

/// A burst in work.
#[derive(Debug)]
pub(super) struct Work {
    burst: Burst,
    /// The frame to classify next.
    next: usize,
    seen: heapless::Vec<Seen, MAX_FRAMES>,
}

/// A classified frame.
#[derive(Debug)]
struct Seen {
    frame: usize,
    logits: Vec<f32>,
    latency: Latency,
}

impl<K: Kit> Trap<K> {
    /// Moves the burst in work on, or takes up the next; true when something was done.
    pub(super) fn work(&mut self) -> bool {
        let Some(mut work) = self.work.take() else {
            let Some(burst) = self.queue.pop_front() else { return false };
            self.work = Some(Work { burst, next: 0, seen: heapless::Vec::new() });
            return true;
        };
        if let Some(reason) = self.not_classifying() {
            let entry = self.unclassified(work.burst, &reason);
            self.outbox.push(entry);
        } else if work.next < work.burst.frames.len() {
            self.classify(&mut work);
            self.work = Some(work);
        } else {
            let entry = self.decide(work);
            self.outbox.push(entry);
        }
        true
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
        let (Ok(model), Some(frame)) = (&mut self.model, work.burst.frames.get_mut(index)) else { return };
        let Ok(file) = &frame.file else { return };
        let start = self.clock.monotonic_us();
        let pixels = model.classifier.decode(&frame.name, file).map_err(|error| (false, error.to_string()));
        let decoded = self.clock.monotonic_us();
        let logits = pixels.and_then(|pixels| {
            model.classifier.image_logits(&pixels).map_err(|error| (true, error.to_string()))
        });
        let done = self.clock.monotonic_us();
        work.burst.spent.inference_us += done.saturating_sub(start);
        match logits {
            Ok(logits) => {
                let latency = Latency {
                    decode_ms: millis(start, decoded),
                    image_ms: millis(decoded, done),
                    prior_ms: 0.0,
                };
                let _ = work.seen.push(Seen { frame: index, logits, latency });
                self.watch.model_faulty = false;
            }
            Err((network, problem)) => {
                frame.file = Err(problem.clone());
                if network {
                    self.model_problem(problem);
                }
            }
        }
    }

    /// The entry of a burst. The first frame that can be classified speaks for it: it shows what
    /// triggered. The others are told beside it.
    fn decide(&mut self, work: Work) -> Entry {
        let Work { mut burst, seen, .. } = work;
        let Some((main, others)) = seen.split_first() else {
            let problem = burst.frames.iter().find_map(|frame| frame.file.as_ref().err().cloned());
            return self.failure(burst, problem.unwrap_or_else(|| "no picture".into()));
        };
        let start = self.clock.monotonic_us();
        let date = YearFraction::of(burst.time);
        let Ok(model) = &mut self.model else { return self.unclassified(burst, "no model") };
        let predicted = model.predict(&main.logits, burst.place.as_ref(), date);
        let prediction = match predicted {
            Ok(prediction) => prediction,
            Err(error) => {
                let problem = format!("location network: {error}");
                self.model_problem(problem.clone());
                return self.failure(burst, problem);
            }
        };
        let (classifier, now) = (&model.classifier, self.clock.monotonic_us());
        let mut latency = main.latency;
        if prediction.prior_computed {
            latency.prior_ms = millis(start, now);
        }
        burst.spent.inference_us += now.saturating_sub(start);
        let top = |frame: usize| {
            let logits = others.iter().find(|seen| seen.frame == frame).map(|seen| &seen.logits);
            logits.map_or_else(Vec::new, |logits| {
                let scores = classifier.fusion().image_only(logits);
                let best = fusion::ranked(&scores).into_iter().take(TOP);
                best.map(|class| (class, scores.get(class.index()).copied().unwrap_or_default() as f32))
                    .collect()
            })
        };
        let others = burst.frames.iter().enumerate().filter(|(index, _)| *index != main.frame);
        let others = others.map(|(index, frame)| BurstFrame {
            image: frame.name.clone(),
            image_sha256: frame.sha256,
            image_top: top(index),
        });
        let others = others.collect();
        let candidates = prediction.candidates(classifier.labels(), TOP);
        let board = self.board_of(&burst);
        let Some(frame) = burst.frames.get_mut(main.frame) else {
            return self.failure(burst, "no picture".into());
        };
        Entry::Prediction(PredictionRecord {
            seq: 0,
            time: burst.time,
            image: core::mem::take(&mut frame.name),
            image_sha256: frame.sha256.unwrap_or_default(),
            place: burst.place,
            candidates,
            decision: prediction.decision,
            provenance: prediction.provenance,
            latency,
            board,
            burst: others,
            year_mean: prediction.year_mean,
            crop: None,
            set_aside: prediction.set_aside,
            picture: frame.kept.clone(),
            sealed: None,
        })
    }

    fn unclassified(&mut self, burst: Burst, reason: &str) -> Entry {
        let own = burst.frames.first().and_then(|frame| frame.file.as_ref().err().cloned());
        self.failure(burst, own.unwrap_or_else(|| reason.into()))
    }

    /// The entry of a burst that nothing is predicted of; it names the other pictures, too.
    fn failure(&mut self, burst: Burst, mut error: String) -> Entry {
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

    fn model_problem(&mut self, problem: String) {
        if !core::mem::replace(&mut self.watch.model_faulty, true) {
            self.tell(Event::ModelFault { problem });
        }
    }
}

fn millis(from_us: u64, to_us: u64) -> f32 {
    to_us.saturating_sub(from_us) as f32 / 1000.0
}

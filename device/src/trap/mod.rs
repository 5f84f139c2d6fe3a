//! The trap: trigger → classify → fuse → decide → record, as a state machine over traits.
//!
//! It knows no camera, network, file or clock: the board, the desk and the tests bring their own.
//! A picture that cannot be read or classified becomes a [`FailureRecord`], never a stop; only a
//! store that does not take an entry is an error, and the entry is kept for the next attempt.

pub mod predict;

use alloc::{
    boxed::Box,
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;

use csp_models::{
    place::Place,
    record::{BoardState, Entry, FailureRecord, Latency, Picture, PredictionRecord},
    time::{TimeSource, Timestamp, YearFraction},
};
use embedded_hal::delay::DelayNs;

use crate::gps::{Gps, Receiver};
pub use predict::{Classifier, Prediction, Predictor};

/// Classes kept of each of the three rankings (image, prior, both).
pub const TOP: usize = 3;

/// What brings pictures.
pub trait Camera {
    /// Why a picture could not be taken or read, for a person.
    type Error: fmt::Display;

    /// The next picture, if something triggered; returns at once.
    fn poll(&mut self) -> Option<Shot<Self::Error>>;
}

/// A trigger and the picture it gave.
#[derive(Debug)]
pub struct Shot<E> {
    /// File name of the picture.
    pub image: String,
    /// The picture's file and its SHA-256, or why there is none.
    pub file: Result<PictureFile, E>,
}

/// The bytes of a picture's file.
#[derive(Debug)]
pub struct PictureFile {
    /// JPEG or PNG.
    pub bytes: Vec<u8>,
    /// Their SHA-256.
    pub sha256: [u8; 32],
}

/// What records go to.
pub trait Store {
    /// Why an entry was not taken.
    type Error: fmt::Display;

    /// Sequence number of the next entry.
    fn next_seq(&self) -> u64;

    /// Takes an entry; on return it is durable.
    ///
    /// # Errors
    /// The entry is not in the store, which is as it was before.
    fn append(&mut self, entry: &Entry) -> Result<(), Self::Error>;
}

/// The board's clocks.
pub trait Clock {
    /// Microseconds since the board (or the program) started; never goes back.
    fn monotonic_us(&self) -> u64;

    /// UTC in milliseconds since 1970 by the board's own clock, when it has one that is set.
    fn utc_millis(&self) -> Option<i64>;
}

/// What a step did.
#[derive(Debug)]
pub enum Event {
    /// Nothing triggered.
    Idle,
    /// A picture moved on to the next stage.
    Working,
    /// An entry is in the store.
    Recorded(Box<Entry>),
}

/// Where a picture stands.
#[derive(Debug)]
enum State<E> {
    Idle,
    Triggered(Triggered<E>),
    Classified { about: About, sha256: [u8; 32], logits: Vec<f32>, latency: Latency },
    Decided(Entry),
}

#[derive(Debug)]
struct Triggered<E> {
    shot: Shot<E>,
    time: Timestamp,
    place: Option<Place>,
}

/// What is known of a picture besides its pixels.
#[derive(Debug)]
struct About {
    image: String,
    time: Timestamp,
    place: Option<Place>,
}

/// A trap: its parts, and the picture in hand.
#[derive(Debug)]
pub struct Trap<Cam: Camera, Rec, Cls, Sto, Clk> {
    camera: Cam,
    receiver: Rec,
    gps: Gps,
    predictor: Predictor<Cls>,
    store: Sto,
    clock: Clk,
    state: State<Cam::Error>,
    receiver_fault: Option<String>,
    /// When the receiver was last heard, milliseconds of the monotonic clock.
    heard_ms: u64,
}

/// Between two looks at an idle camera: short beside any trigger's latency, long beside a look's cost.
const REST_MS: u32 = 20;
/// A receiver sends its sentences in one burst a second: silence this long ends an epoch.
const PAUSE_MS: u64 = 300;

impl<Cam, Rec, Cls, Sto, Clk> Trap<Cam, Rec, Cls, Sto, Clk>
where
    Cam: Camera,
    Rec: Receiver,
    Cls: Classifier,
    Sto: Store,
    Clk: Clock,
{
    /// A trap that waits for its first trigger. `gps` may already have heard the receiver.
    pub fn new(camera: Cam, receiver: Rec, gps: Gps, classifier: Cls, store: Sto, clock: Clk) -> Self {
        Self {
            camera,
            receiver,
            gps,
            predictor: Predictor::new(classifier),
            store,
            clock,
            state: State::Idle,
            receiver_fault: None,
            heard_ms: 0,
        }
    }

    /// Does one thing and returns: waits for nothing, so the caller can feed a watchdog in between.
    ///
    /// # Errors
    /// The store did not take an entry; the next step tries again.
    pub fn step(&mut self) -> Result<Event, Sto::Error> {
        self.listen();
        match core::mem::replace(&mut self.state, State::Idle) {
            State::Idle => {
                let Some(shot) = self.camera.poll() else { return Ok(Event::Idle) };
                let place = self.gps.place(self.now_ms());
                self.state = State::Triggered(Triggered { shot, time: self.time(), place });
            }
            State::Triggered(triggered) => self.state = self.classify(triggered),
            State::Classified { about, sha256, logits, latency } => {
                self.state = State::Decided(self.decide(about, sha256, &logits, latency));
            }
            State::Decided(entry) => {
                if let Err(error) = self.store.append(&entry) {
                    self.state = State::Decided(entry);
                    return Err(error);
                }
                return Ok(Event::Recorded(Box::new(entry)));
            }
        }
        Ok(Event::Working)
    }

    /// Waits a moment, as nothing happens, and hears the receiver meanwhile.
    pub fn rest(&mut self, delay: &mut impl DelayNs) {
        self.listen();
        delay.delay_ms(REST_MS);
    }

    /// The receiver's fault, once: the trap goes on with the place it has.
    pub fn take_receiver_fault(&mut self) -> Option<String> {
        self.receiver_fault.take()
    }

    /// What the receiver has said so far.
    pub fn gps(&self) -> &Gps {
        &self.gps
    }

    /// What brings the pictures.
    pub fn camera(&mut self) -> &mut Cam {
        &mut self.camera
    }

    /// Hears what the receiver said since the last step.
    pub fn listen(&mut self) {
        let mut buffer = [0; 256];
        // A receiver sends 1 kB/s; the bound keeps a source that never ends from holding the trap.
        for _ in 0..256 {
            let now = self.now_ms();
            match self.receiver.read(&mut buffer) {
                Ok(0) => {
                    if now.saturating_sub(self.heard_ms) > PAUSE_MS {
                        self.gps.pause(now);
                    }
                    return;
                }
                Ok(count) => {
                    self.heard_ms = now;
                    self.gps.take(buffer.get(..count).unwrap_or(&buffer), now);
                }
                Err(error) => {
                    self.receiver_fault = Some(error.to_string());
                    return;
                }
            }
        }
    }

    fn classify(&mut self, Triggered { shot, time, place }: Triggered<Cam::Error>) -> State<Cam::Error> {
        let about = About { image: shot.image, time, place };
        let file = match shot.file {
            Ok(file) => file,
            Err(error) => return State::Decided(self.failure(about, None, error.to_string())),
        };
        let start = self.clock.monotonic_us();
        let pixels = self.predictor.classifier.decode(&about.image, &file.bytes);
        let decoded = self.clock.monotonic_us();
        let logits = pixels.and_then(|pixels| self.predictor.classifier.image_logits(&pixels));
        match logits {
            Ok(logits) => {
                let image_ms = millis(decoded, self.clock.monotonic_us());
                let latency = Latency { decode_ms: millis(start, decoded), image_ms, prior_ms: 0.0 };
                State::Classified { about, sha256: file.sha256, logits, latency }
            }
            Err(error) => State::Decided(self.failure(about, Some(file.sha256), error.to_string())),
        }
    }

    fn decide(&mut self, about: About, sha256: [u8; 32], logits: &[f32], mut latency: Latency) -> Entry {
        let start = self.clock.monotonic_us();
        let date = YearFraction::of(about.time);
        let prediction = match self.predictor.predict(logits, about.place.as_ref(), date) {
            Ok(prediction) => prediction,
            Err(error) => {
                let error = format!("location network: {error}");
                return self.failure(about, Some(sha256), error);
            }
        };
        if prediction.prior_computed {
            latency.prior_ms = millis(start, self.clock.monotonic_us());
        }
        Entry::Prediction(PredictionRecord {
            seq: self.store.next_seq(),
            time: about.time,
            image: about.image,
            image_sha256: sha256,
            place: about.place,
            candidates: prediction.candidates(self.predictor.classifier.labels(), TOP),
            decision: prediction.decision,
            provenance: prediction.provenance,
            latency,
            board: self.board(),
            burst: Vec::new(),
            year_mean: prediction.year_mean,
            crop: None,
            set_aside: prediction.set_aside,
            picture: Picture::Elsewhere,
            sealed: None,
        })
    }

    fn failure(&self, about: About, image_sha256: Option<[u8; 32]>, error: String) -> Entry {
        let About { image, time, place } = about;
        Entry::Failure(FailureRecord {
            seq: self.store.next_seq(),
            time,
            image,
            image_sha256,
            place,
            error,
            board: self.board(),
            sealed: None,
        })
    }

    fn board(&self) -> BoardState {
        BoardState { monotonic_ms: self.now_ms(), ..BoardState::default() }
    }

    fn now_ms(&self) -> u64 {
        self.clock.monotonic_us() / 1000
    }

    /// GPS time, else the board's clock, else the time since it started.
    fn time(&self) -> Timestamp {
        let now = self.now_ms();
        let stamp = |millis, source| Timestamp { millis, source };
        self.gps
            .utc_millis(now)
            .map(|millis| stamp(millis, TimeSource::Gps))
            .or_else(|| self.clock.utc_millis().map(|millis| stamp(millis, TimeSource::Rtc)))
            .unwrap_or_else(|| stamp(i64::try_from(now).unwrap_or(i64::MAX), TimeSource::SinceBoot))
    }
}

fn millis(from_us: u64, to_us: u64) -> f32 {
    to_us.saturating_sub(from_us) as f32 / 1000.0
}

#[cfg(test)]
mod tests;

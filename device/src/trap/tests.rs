//! The trap with parts made of vectors: pictures that wait, as on a desk. `faults` is the board.

mod faults;

use alloc::{collections::VecDeque, rc::Rc, vec, vec::Vec};
use core::cell::{Cell, RefCell};

use csp_models::{
    fusion::{Decision, Fusion, Thresholds},
    labels::{Label, Labels},
    place::{LatLon, Place, PlaceSource},
    record::Provenance,
    situation::Situation,
    time::YearFraction,
};
use proptest::prelude::*;

use super::motion::Grey;
use super::*;
use crate::gps::{NoReceiver, tests::line};

/// Files that wait, as on a desk: each is a trigger and has its name.
#[derive(Clone, Default)]
struct Pictures(Rc<RefCell<VecDeque<File>>>, Rc<RefCell<Option<String>>>);

type File = (&'static str, Result<PictureFile, &'static str>);

impl Trigger for Pictures {
    type Error = &'static str;
    fn poll(&mut self, _: u64) -> Result<bool, Self::Error> {
        Ok(!self.0.borrow().is_empty())
    }
    fn waits(&self) -> bool {
        true
    }
}

impl Camera for Pictures {
    type Error = &'static str;
    fn capture(&mut self, _: u8) -> Result<PictureFile, Self::Error> {
        let (name, file) = self.0.borrow_mut().pop_front().unwrap();
        *self.1.borrow_mut() = Some(name.into());
        file
    }
    fn name(&self) -> Option<String> {
        self.1.borrow().clone()
    }
}

/// Two classes; the picture's first byte decides the image, the hemisphere decides the prior.
struct TwoClasses {
    labels: Labels,
    fusion: Fusion,
    thresholds: Thresholds,
    location_runs: Rc<Cell<u32>>,
    seasonal: bool,
}

impl Classifier for TwoClasses {
    type Error = &'static str;
    fn decode(&mut self, _: &str, file: &[u8], view: View) -> Result<Decoded, Self::Error> {
        match (view, file) {
            (_, []) => Err("empty file"),
            (View::Part(_), &[_, _, crop]) => Ok(Decoded { pixels: vec![crop], grey: None }),
            (View::Frame, &[_, frame, _]) => {
                Ok(Decoded { pixels: file.to_vec(), grey: Some(scene(square_of(frame))) })
            }
            _ => Ok(Decoded { pixels: file.to_vec(), grey: None }),
        }
    }
    fn image_logits(&mut self, pixels: &[u8]) -> Result<Vec<f32>, Self::Error> {
        match pixels[0] {
            255 => Err("network broke"),
            value => Ok(vec![f32::from(value), 1.0]),
        }
    }
    fn location_logits(
        &mut self,
        Situation { at, date }: Situation,
    ) -> Result<Option<Vec<f32>>, Self::Error> {
        self.location_runs.set(self.location_runs.get() + 1);
        // a hare of the south, with seasons of its second half of the year
        let hare = at.lat() < 0.0 && (!self.seasonal || date.is_some_and(|date| date.value() > 0.5));
        Ok(Some(if hare { vec![-9.0, 9.0] } else { vec![9.0, -9.0] }))
    }
    fn is_seasonal(&self) -> bool {
        self.seasonal
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

/// Where the square of a frame stands, its upper left corner.
fn square_of(frame: u8) -> (u8, u8) {
    (20 + 45 * (frame % 3), 30 + 10 * (frame % 3))
}

/// A scene of 160 × 120 with a bright square of 20 pixels.
fn scene((left, top): (u8, u8)) -> Grey {
    let level = |at: usize| {
        let (x, y) = (at % 160, at / 160);
        let inside = |from: u8, at: usize| (usize::from(from)..usize::from(from) + 20).contains(&at);
        if inside(left, x) && inside(top, y) { 200.0 } else { 60.0 + ((x * 7 + y * 3) % 50) as f32 }
    };
    Grey::new(160, 120, (0..160 * 120).map(level).collect()).unwrap()
}

/// Refuses as often as told, then takes everything.
#[derive(Default)]
struct Shelf {
    entries: Rc<RefCell<Vec<Entry>>>,
    refuse: u32,
}

impl Store for Shelf {
    type Error = &'static str;
    fn next_seq(&self) -> u64 {
        self.entries.borrow().len() as u64
    }
    fn append(&mut self, entry: &Entry) -> Result<(), Self::Error> {
        if self.refuse > 0 {
            self.refuse -= 1;
            return Err("full");
        }
        self.entries.borrow_mut().push(entry.clone());
        Ok(())
    }
}

struct Ticks(Cell<u64>);

impl Clock for Ticks {
    fn monotonic_us(&self) -> u64 {
        self.0.set(self.0.get() + 500);
        self.0.get()
    }
    fn utc_millis(&self) -> Option<i64> {
        None
    }
}

fn file(bytes: &[u8]) -> PictureFile {
    PictureFile { bytes: bytes.to_vec(), sha256: [bytes.len() as u8; 32] }
}

fn shot(bytes: &[u8]) -> File {
    ("a.jpg", Ok(file(bytes)))
}

struct DeskKit;

impl Kit for DeskKit {
    type Trigger = Pictures;
    type Camera = Pictures;
    type Flash = NoPin;
    type Receiver = NoReceiver;
    type Power = NoPin;
    type Classifier = TwoClasses;
    type Store = Shelf;
    type Clock = Ticks;
    type Board = NoSensors;
}

type Entries = Rc<RefCell<Vec<Entry>>>;
type TestTrap = Trap<DeskKit>;

fn two_classes() -> TwoClasses {
    TwoClasses {
        labels: Labels(vec![Label::new("lynx"), Label::new("hare")]),
        fusion: Fusion::default(),
        thresholds: Thresholds::default(),
        location_runs: Rc::default(),
        seasonal: false,
    }
}

fn trap(shots: Vec<File>, gps: Gps, refuse: u32) -> (TestTrap, Entries, Rc<Cell<u32>>) {
    seasonal_trap(shots, gps, refuse, false)
}

fn seasonal_trap(
    shots: Vec<File>,
    gps: Gps,
    refuse: u32,
    seasonal: bool,
) -> (TestTrap, Entries, Rc<Cell<u32>>) {
    let entries = Entries::default();
    let classifier = TwoClasses { seasonal, ..two_classes() };
    let runs = Rc::clone(&classifier.location_runs);
    let pictures = Pictures(Rc::new(RefCell::new(shots.into())), Rc::default());
    let parts = Parts {
        trigger: pictures.clone(),
        camera: pictures,
        flash: NoPin,
        receiver: NoReceiver,
        power: NoPin,
        classifier: Ok(classifier),
        store: Shelf { entries: Rc::clone(&entries), refuse },
        clock: Ticks(Cell::new(0)),
        board: NoSensors,
    };
    (Trap::new(parts, gps, Settings::desk()), entries, runs)
}

fn nairobi() -> Gps {
    let mut gps = Gps::new(None, None);
    // the clock is set by the second epoch that agrees
    for time in ["120000.00", "120001.00"] {
        let rmc = format!("GNRMC,{time},A,0117.5260,S,03649.3140,E,0.02,,231126,,,A");
        gps.take(line(&rmc).as_bytes(), 0);
    }
    gps.pause(0);
    gps
}

fn run(trap: &mut TestTrap) {
    while !matches!(trap.step().unwrap(), Step::Idle) {}
}

#[test]
fn the_place_turns_the_decision_and_the_record_says_so() {
    let (mut alone, entries, _) = trap(vec![shot(&[2])], Gps::new(None, None), 0);
    run(&mut alone);
    let Entry::Prediction(record) = &entries.borrow()[0] else { panic!() };
    assert!(matches!(&record.decision, Decision::Class { name, .. } if name == "lynx"));
    assert_eq!((record.provenance, record.place), (Provenance::Image, None));
    assert_eq!(record.time.source, TimeSource::SinceBoot);
    assert!(record.candidates.iter().all(|c| c.prior.is_none() && c.fused == c.image));

    let (mut placed, entries, _) = trap(vec![shot(&[2])], nairobi(), 0);
    run(&mut placed);
    let Entry::Prediction(record) = &entries.borrow()[0] else { panic!() };
    assert!(matches!(&record.decision, Decision::Class { name, .. } if name == "hare"), "{record:?}");
    assert_eq!(record.provenance, Provenance::ImageLiveFix);
    assert_eq!(record.place.unwrap().source, PlaceSource::LiveFix);
    assert_eq!(record.time.source, TimeSource::Gps);
    assert!(record.time.millis >= 1_795_435_200_000);
    assert_eq!(record.candidates[0].name, "hare");
    assert!(record.latency.decode_ms > 0.0 && record.latency.image_ms > 0.0);
}

#[test]
fn the_prior_is_computed_once_a_place() {
    let (mut trap, entries, runs) = trap(vec![shot(&[2]), shot(&[3]), shot(&[4])], nairobi(), 0);
    run(&mut trap);
    assert_eq!(entries.borrow().len(), 3);
    assert_eq!(runs.get(), 19, "one disc of 19 points");
    let prior_ms: Vec<f32> = entries
        .borrow()
        .iter()
        .map(|entry| if let Entry::Prediction(record) = entry { record.latency.prior_ms } else { -1.0 })
        .collect();
    assert!(prior_ms[0] > 0.0 && prior_ms[1..] == [0.0, 0.0], "{prior_ms:?}");
}

#[test]
fn the_season_is_the_records_and_without_a_clock_the_years_mean() {
    let prior = |gps: Gps, seasonal: bool, name: &str| {
        let (mut trap, entries, runs) = seasonal_trap(vec![shot(&[2]), shot(&[3])], gps, 0, seasonal);
        run(&mut trap);
        let Entry::Prediction(record) = &entries.borrow()[1] else { panic!() };
        let prior = record.candidates.iter().find(|c| c.name == name).unwrap().prior.unwrap();
        (prior, runs.get(), record.time.source)
    };
    let site = || Gps::new(Some(LatLon::new(-1.3, 36.8).unwrap()), None);
    // 23 November by the receiver
    let (hare, runs, source) = prior(nairobi(), true, "hare");
    assert!(hare > 0.99 && runs == 19 && source == TimeSource::Gps, "{hare} {runs} {source:?}");
    // no clock: half the year
    let (hare, runs, source) = prior(site(), true, "hare");
    assert!((hare - 0.5).abs() < 1e-3 && runs == 12 && source == TimeSource::SinceBoot, "{hare} {runs}");
    let (hare, runs, _) = prior(site(), false, "hare");
    assert!(hare > 0.99 && runs == 1, "without seasons once: {hare} {runs}");
}

#[test]
fn a_prior_lasts_a_day() {
    let classifier = TwoClasses { seasonal: true, ..two_classes() };
    let runs = Rc::clone(&classifier.location_runs);
    let mut predictor = Predictor::new(classifier);
    let place = Place::configured(LatLon::new(-1.3, 36.8).unwrap());
    let mut at = |hour: f64| {
        let date = YearFraction::new(hour / (365.0 * 24.0));
        let prediction = predictor.predict(&[0.0, 0.0], Some(&place), date).unwrap();
        assert!(!prediction.year_mean);
        (prediction.prior_computed, prediction.fused)
    };
    let (computed, morning) = at(4800.1);
    assert!(computed);
    assert_eq!(at(4823.9), (false, morning.clone()));
    assert_eq!(at(4824.1), (true, morning.clone()), "the next day, of the same half of the year");
    assert_ne!(at(100.0).1, morning);
    assert_eq!(runs.get(), 3);
    assert!(predictor.predict(&[0.0, 0.0], Some(&place), None).unwrap().year_mean);
    assert!(!predictor.predict(&[0.0, 0.0], None, None).unwrap().year_mean, "no prior at all");
}

#[test]
fn a_bad_picture_is_recorded_and_the_next_one_classified() {
    let unread = ("b.jpg", Err("no such file"));
    let (mut trap, entries, _) = trap(vec![shot(&[]), unread, shot(&[255]), shot(&[3])], nairobi(), 0);
    run(&mut trap);
    let entries = entries.borrow();
    let errors: Vec<&str> = entries
        .iter()
        .filter_map(
            |entry| if let Entry::Failure(record) = entry { Some(record.error.as_str()) } else { None },
        )
        .collect();
    assert_eq!(errors, ["empty file", "no such file", "network broke"]);
    assert!(matches!(&entries[3], Entry::Prediction(_)));
    assert_eq!(entries.iter().map(Entry::seq).collect::<Vec<_>>(), [0, 1, 2, 3]);
}

#[test]
fn a_store_that_refuses_is_asked_again() {
    let (mut trap, entries, _) = trap(vec![shot(&[2]), shot(&[3])], nairobi(), 3);
    let mut refused = 0;
    loop {
        match trap.step() {
            Ok(Step::Idle) => break,
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error, "full");
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 3);
    assert_eq!(entries.borrow().iter().map(Entry::seq).collect::<Vec<_>>(), [0, 1]);
}

proptest! {
    /// Whatever the pictures are and however often the store refuses: one entry each, in order.
    #[test]
    fn every_trigger_leaves_exactly_one_entry(
        files in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3), 0..20),
        refuse in 0u32..5,
    ) {
        let (mut trap, entries, _) = trap(files.iter().map(|file| shot(file)).collect(), nairobi(), refuse);
        while !matches!(trap.step(), Ok(Step::Idle)) {}
        let seqs: Vec<u64> = entries.borrow().iter().map(Entry::seq).collect();
        prop_assert_eq!(seqs, (0..files.len() as u64).collect::<Vec<_>>());
    }
}

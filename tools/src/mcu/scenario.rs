//! What host and microcontroller both run, line by line: the same source, compiled twice.
//!
//! Numbers are written as their bits: equal lines mean equal results, not similar ones.

use alloc::{collections::VecDeque, format, rc::Rc, string::String, vec, vec::Vec};
use core::{
    cell::{Cell, RefCell},
    fmt::{Arguments, Write},
};

use csp_device::{
    gps::{DutyConfig, Gps, Receiver},
    trap::{
        Camera, Classifier, Clock, Decoded, Kit, NoPin, NoSensors, Parts, PictureFile, Predictor, Settings,
        Step, Store, Trap, Trigger, View,
    },
};
use csp_models::{
    encoder::{EncoderSpec, PositionEncoder},
    fusion::{Fusion, Thresholds},
    labels::{Label, Labels},
    place::{LatLon, Place},
    record::{Entry, to_frame},
    situation::Situation,
};

/// Takes a line.
pub type Out<'o> = &'o mut dyn FnMut(Arguments<'_>);

/// Bytes of a tenth of a second: the recording's 200 a second.
const CHUNK: usize = 20;

/// FNV-1a: enough to tell that two runs saw the same.
fn fold(sum: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(sum, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn bits(place: Option<Place>) -> String {
    let Some(place) = place else { return "none".into() };
    let numbers = [place.at.lat(), place.at.lon(), place.uncertainty_m].map(f64::to_bits);
    format!("{:016x} {:016x} {:016x} {:?}", numbers[0], numbers[1], numbers[2], place.source)
}

/// The receiver: every epoch, event and power wish of the recording, and the place each minute.
pub fn gps(recording: &[u8], out: Out<'_>) {
    let mut gps =
        Gps::new(None, None).with_duty(DutyConfig { settle_ms: 3_600_000, ..DutyConfig::default() });
    let (mut epochs, mut fixes, mut sum, mut now) = (0u32, 0u32, 0xcbf2_9ce4_8422_2325u64, 0);
    for (index, chunk) in recording.chunks(CHUNK).enumerate() {
        now = index as u64 * 100;
        if let Some(epoch) = gps.take(chunk, now) {
            epochs += 1;
            sum = fold(sum, &epoch.time_ms.to_le_bytes());
            if let Ok(fix) = epoch.fix {
                fixes += 1;
                sum = fold(sum, &fix.at.lat().to_le_bytes());
                sum = fold(sum, &fix.at.lon().to_le_bytes());
                sum = fold(sum, &fix.utc_millis.unwrap_or(-1).to_le_bytes());
            }
        }
        if let Some(wish) = gps.tick(now) {
            out(format_args!("{now} receiver {wish:?}"));
        }
        while let Some(event) = gps.take_event() {
            out(format_args!("{now} event {event}"));
        }
        if let Some(kept) = gps.remember(now) {
            out(format_args!("{now} remember {:016x}", fold(0, &kept.to_bytes())));
        }
        if index % 600 == 0 {
            out(format_args!("{now} place {}", bits(gps.place(now))));
        }
    }
    let (used, damaged) = gps.sentences();
    out(format_args!("epochs {epochs} fixes {fixes} sum {sum:016x} sentences {used} damaged {damaged}"));
    out(format_args!("end {} utc {:?}", bits(gps.place(now)), gps.utc_millis(now)));
}

const CLASSES: usize = 12;

/// A location branch with a real encoder and made-up weights, and an image branch of the picture's bytes.
struct Model {
    encoder: PositionEncoder,
    labels: Labels,
    fusion: Fusion,
    thresholds: Thresholds,
}

impl Model {
    fn new() -> Option<Self> {
        let labels = Labels((0..CLASSES).map(|class| Label::new(format!("class-{class}"))).collect());
        let encoder = EncoderSpec::of("sphere2vec-c+").build().ok()?;
        Some(Self { encoder, labels, fusion: Fusion::default(), thresholds: Thresholds { decide: 0.3 } })
    }
}

/// A weight in [-1, 1).
fn weight(index: usize) -> f64 {
    let hash = (index as u32).wrapping_mul(2_654_435_761).rotate_left(13).wrapping_mul(2_246_822_519);
    f64::from(hash as i32) / 2_147_483_648.0
}

impl Classifier for Model {
    type Error = &'static str;

    fn decode(&mut self, _: &str, file: &[u8], _: View) -> Result<Decoded, Self::Error> {
        if file.is_empty() { Err("empty file") } else { Ok(Decoded { pixels: file.to_vec(), grey: None }) }
    }

    fn image_logits(&mut self, pixels: &[u8]) -> Result<Vec<f32>, Self::Error> {
        Ok((0..CLASSES).map(|class| f32::from(pixels[class % pixels.len()]) / 16.0).collect())
    }

    fn is_seasonal(&self) -> bool {
        false
    }

    fn location_logits(
        &mut self,
        Situation { at, date }: Situation,
    ) -> Result<Option<Vec<f32>>, Self::Error> {
        let features = self.encoder.encode(at, date);
        let row = |class: usize| -> f64 {
            features.iter().enumerate().map(|(i, value)| value * weight(class * features.len() + i)).sum()
        };
        Ok(Some((0..CLASSES).map(|class| row(class) as f32).collect()))
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

/// Something moves once in so many looks.
struct Looks(u32);

impl Trigger for Looks {
    type Error = core::convert::Infallible;

    fn poll(&mut self, _: u64) -> Result<bool, Self::Error> {
        self.0 += 1;
        Ok(self.0.is_multiple_of(1500))
    }
}

/// Some pictures, one of them empty, and then none.
struct Pictures(VecDeque<Vec<u8>>);

impl Camera for Pictures {
    type Error = &'static str;

    fn capture(&mut self, _: u8) -> Result<PictureFile, Self::Error> {
        let bytes = self.0.pop_front().ok_or("out of film")?;
        let sha256 = [bytes.len() as u8; 32];
        Ok(PictureFile { bytes, sha256 })
    }
}

/// The recording at its own pace.
struct Recorded<'r> {
    rest: core::slice::Chunks<'r, u8>,
    clock: Rc<Cell<u64>>,
}

impl Receiver for Recorded<'_> {
    type Error = core::convert::Infallible;

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error> {
        // Every other read finds nothing, as a trap that is faster than its line does.
        let now = self.clock.get();
        self.clock.set(now + 50_000);
        if (now / 50_000).is_multiple_of(2) {
            return Ok(0);
        }
        let Some(chunk) = self.rest.next() else { return Ok(0) };
        buffer[..chunk.len()].copy_from_slice(chunk);
        Ok(chunk.len())
    }
}

struct Time(Rc<Cell<u64>>);

impl Clock for Time {
    fn monotonic_us(&self) -> u64 {
        self.0.get()
    }

    fn utc_millis(&self) -> Option<i64> {
        None
    }
}

/// Keeps the records' frames, as they would stand on disk.
struct Frames(Rc<RefCell<Vec<Vec<u8>>>>);

impl Store for Frames {
    type Error = &'static str;

    fn next_seq(&self) -> u64 {
        self.0.borrow().len() as u64
    }

    fn append(&mut self, entry: &Entry) -> Result<(), Self::Error> {
        self.0.borrow_mut().push(to_frame(entry).map_err(|_| "frame")?);
        Ok(())
    }
}

/// The parts of this trap.
struct Recording<'r>(core::marker::PhantomData<&'r ()>);

impl<'r> Kit for Recording<'r> {
    type Trigger = Looks;
    type Camera = Pictures;
    type Flash = NoPin;
    type Receiver = Recorded<'r>;
    type Power = NoPin;
    type Classifier = Model;
    type Store = Frames;
    type Clock = Time;
    type Board = NoSensors;
}

/// Fusion at places of every kind, then the trap over the whole recording.
pub fn trap(recording: &[u8], out: Out<'_>) {
    let (Some(model), Some(fused)) = (Model::new(), Model::new()) else {
        return out(format_args!("error: the encoder does not build"));
    };
    let mut predictor = Predictor::new(fused);
    for (lat, lon) in [(-1.292_1, 36.821_9), (89.999, -179.999), (-33.868_8, 151.209_3), (0.0, 0.5)] {
        let Ok(at) = LatLon::new(lat, lon) else { continue };
        for uncertainty_m in [0.0, 8.0, 60_000.0] {
            let place = Place { uncertainty_m, ..Place::configured(at) };
            let logits: Vec<f32> = (0..CLASSES).map(|class| weight(class) as f32 * 3.0).collect();
            let Ok(prediction) = predictor.predict(&logits, Some(&place), None) else { continue };
            let mut line = String::new();
            for value in &prediction.fused {
                let _ = write!(line, " {:016x}", value.to_bits());
            }
            out(format_args!("fused {at} ±{uncertainty_m}{line} {:?}", prediction.decision));
        }
    }
    let clock = Rc::new(Cell::new(0));
    let frames = Rc::new(RefCell::new(Vec::new()));
    let receiver = Recorded { rest: recording.chunks(CHUNK), clock: Rc::clone(&clock) };
    let shots =
        (0..12u8).map(|shot| if shot == 5 { vec![] } else { vec![shot * 11, 200 - shot, 7] }).collect();
    let parts = Parts::<Recording<'_>> {
        trigger: Looks(0),
        camera: Pictures(shots),
        flash: NoPin,
        receiver,
        power: NoPin,
        classifier: Ok(model),
        store: Frames(Rc::clone(&frames)),
        clock: Time(Rc::clone(&clock)),
        board: NoSensors,
    };
    let mut trap = Trap::new(parts, Gps::new(None, None), Settings { events: true, ..Settings::desk() });
    let end_us = (recording.len() as u64 / CHUNK as u64 + 10) * 100_000;
    while clock.get() < end_us {
        match trap.step() {
            Ok(Step::Recorded(entry)) => {
                let frame = frames.borrow().last().cloned().unwrap_or_default();
                let kind = match &*entry {
                    Entry::Prediction(record) => {
                        format!("{} {:?}", record.provenance.as_str(), record.decision)
                    }
                    Entry::Failure(record) => format!("failure {}", record.error),
                    Entry::Event(record) => format!("event {}", record.event.kind()),
                };
                out(format_args!("record {} {:016x} {kind}", frame.len(), fold(0, &frame)));
            }
            Ok(_) => {}
            Err(error) => return out(format_args!("error: store: {error}")),
        }
    }
    out(format_args!("records {} place {}", frames.borrow().len(), bits(trap.gps().place(end_us / 1000))));
}

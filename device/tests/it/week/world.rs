//! A tree in Kenya, its weather, its animals, and a trap's parts that stand in it.

use std::{cell::RefCell, collections::VecDeque, convert::Infallible, f64::consts::PI, path::Path, rc::Rc};

use csp_device::{
    gps::{DutyConfig, Gps, Receiver, Remembered},
    store::{Identity, Store as Segments, StoreError},
    trap::{
        Battery, Board, Camera, Classifier, Clock, Decoded, Kept, Kit, Parts, PictureFile, Settings, Shot,
        Step, Store, Trap, Trigger, View,
    },
};
use csp_models::{
    bundle::sha256_hex,
    fusion::{Fusion, Thresholds},
    labels::{Label, Labels},
    place::LatLon,
    record::{Entry, Event, LastRun, Picture},
    situation::Situation,
    time::civil_from_days,
};

/// 2026-11-16T00:00:00Z, a Monday.
pub(super) const START_UTC_MS: i64 = 20_773 * 86_400_000;
/// Local noon is three hours before that of Greenwich.
const LOCAL_H: f64 = 3.0;
const PICTURE_BYTES: u64 = 2_400_000;
/// Room on the card: it fills in the week.
const CARD_BYTES: u64 = 3_000 << 20;
/// Of the battery, watt-hours.
const BATTERY_WH: f64 = 24.0;
/// Of the panel under a clear sky, watts.
const PANEL_W: f64 = 3.2;
/// Clouds by day: the share of the panel's power that is left.
const SKY: [f64; 7] = [1.0, 0.9, 0.25, 0.05, 0.02, 0.6, 1.0];

/// When what happens, hours since the start.
const OUTAGES_H: [(f64, f64); 2] = [(36.0, 62.0), (126.0, 131.0)];
pub(super) const MOVED_H: f64 = 82.0;
const CAMERA_GONE_H: (f64, f64) = (98.0, 100.5);
const HOT_NOON_H: f64 = 33.0 - LOCAL_H + 3.0;

/// Moving classes and how a picture of each looks to the model.
const CLASSES: [&str; 5] = ["blank", "impala", "zebra", "leopard", "hyena"];

struct State {
    /// Since the week began, microseconds.
    us: u64,
    /// Of that when this boot began.
    boot_us: u64,
    boot: u32,
    random: u64,
    battery_wh: f64,
    power_on: bool,
    flash_on: bool,
    free: u64,
    kept: VecDeque<String>,
    events: VecDeque<Event>,
    /// Next second for which the receiver speaks.
    receiver_s: u64,
    bytes: VecDeque<u8>,
    animal: usize,
    next_animal_us: u64,
    /// Up to where the battery is accounted for.
    charged_us: u64,
    /// Extra energy since then, joules.
    joules: f64,
}

/// The world, shared by the parts.
#[derive(Clone)]
pub(super) struct Sim(Rc<RefCell<State>>);

/// The receiver's supply.
pub(super) struct Supply(Sim);

/// The card.
pub(super) struct Card(Sim, Segments);

/// The parts of a simulated trap.
pub(super) struct Tree;

impl Kit for Tree {
    type Trigger = Sim;
    type Camera = Sim;
    type Flash = Sim;
    type Receiver = Sim;
    type Power = Supply;
    type Classifier = Eye;
    type Store = Card;
    type Clock = Sim;
    type Board = Sim;
}

impl State {
    fn hours(&self) -> f64 {
        self.us as f64 / 3.6e9
    }

    /// 0 to 24 at the tree.
    fn local_h(&self) -> f64 {
        (self.hours() + LOCAL_H).rem_euclid(24.0)
    }

    /// Uniform in 0 to 1 (splitmix64).
    fn uniform(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Sun's height as a share of noon's; 0 at night.
    fn sun(&self) -> f64 {
        ((self.local_h() - 6.0) / 12.0 * PI).sin().max(0.0)
    }

    fn sky(&self) -> f64 {
        SKY.get((self.hours() / 24.0) as usize % SKY.len()).copied().unwrap_or(1.0)
    }

    /// Animals pass at dawn and dusk; on windy afternoons grass moves.
    fn per_hour(&self) -> f64 {
        let hour = self.local_h();
        let peak = |at: f64| (-((hour - at) / 1.5).powi(2)).exp();
        let windy = (self.hours() / 24.0) as usize % 3 == 1 && (13.0..16.0).contains(&hour);
        0.6 + 7.0 * peak(6.3) + 9.0 * peak(18.6) + if windy { 40.0 } else { 0.0 }
    }

    fn charge(&mut self) {
        let hours = (self.us - self.charged_us) as f64 / 3.6e9;
        self.charged_us = self.us;
        let draw = 0.4 + if self.power_on { 0.1 } else { 0.0 };
        let gain = PANEL_W * self.sun() * self.sky();
        self.battery_wh =
            (self.battery_wh + (gain - draw) * hours - self.joules / 3600.0).clamp(0.0, BATTERY_WH);
        self.joules = 0.0;
    }

    /// Where the trap hangs now.
    fn at(&self) -> LatLon {
        place_at(self.hours())
    }

    /// Speaks the seconds that have passed since it was heard last; those that nobody heard are gone.
    fn speak(&mut self) {
        let now_s = self.us / 1_000_000;
        if !self.power_on {
            self.receiver_s = now_s + 1;
            return;
        }
        self.receiver_s = self.receiver_s.max(now_s.saturating_sub(2));
        while self.receiver_s <= now_s {
            let second = self.receiver_s;
            self.receiver_s += 1;
            let hours = second as f64 / 3600.0;
            let sky = !OUTAGES_H.iter().any(|&(from, to)| (from..to).contains(&hours));
            let (east, north) = ((self.uniform() - 0.5) * 6e-5, (self.uniform() - 0.5) * 6e-5);
            let at = self.at();
            let utc = START_UTC_MS / 1000 + second as i64;
            let (year, month, day) = civil_from_days(utc.div_euclid(86_400));
            let s = utc.rem_euclid(86_400);
            let time = format!("{:02}{:02}{:02}.00", s / 3600, s / 60 % 60, s % 60);
            let date = format!("{day:02}{month:02}{:02}", year % 100);
            let lines = if sky {
                let (lat, lon) = (degrees(at.lat() + north, 2, "NS"), degrees(at.lon() + east, 3, "EW"));
                vec![
                    format!("GNRMC,{time},A,{lat},{lon},0.02,,{date},,,A"),
                    format!("GNGGA,{time},{lat},{lon},1,09,0.92,1795.1,M,-15.3,M,,"),
                    "GNGSA,A,3,01,04,07,09,,,,,,,,,1.25,0.92,1.06,1".into(),
                ]
            } else {
                vec![format!("GNRMC,{time},V,,,,,,,{date},,,N"), format!("GNGGA,{time},,,,,0,03,,,M,,M,,")]
            };
            for line in lines {
                let sum = line.bytes().fold(0, |sum, byte| sum ^ byte);
                self.bytes.extend(format!("${line}*{sum:02X}\r\n").bytes());
            }
        }
    }
}

/// Where the trap hangs.
pub(super) fn place_at(hours: f64) -> LatLon {
    let (lat, lon) = if hours < MOVED_H { (-1.2921, 36.8219) } else { (-1.2958, 36.8254) };
    LatLon::new(lat, lon).unwrap()
}

/// `ddmm.mmmm,H`
fn degrees(value: f64, width: usize, hemispheres: &str) -> String {
    let (whole, letter) = (value.abs().floor(), usize::from(value < 0.0));
    let minutes = (value.abs() - whole) * 60.0;
    format!("{whole:0width$.0}{minutes:07.4},{}", &hemispheres[letter..=letter])
}

impl Sim {
    pub fn new(seed: u64) -> Self {
        Self(Rc::new(RefCell::new(State {
            us: 0,
            boot_us: 0,
            boot: 0,
            random: seed,
            battery_wh: 0.9 * BATTERY_WH,
            power_on: true,
            flash_on: false,
            free: CARD_BYTES,
            kept: VecDeque::new(),
            events: VecDeque::new(),
            receiver_s: 0,
            bytes: VecDeque::new(),
            animal: 0,
            next_animal_us: 0,
            charged_us: 0,
            joules: 0.0,
        })))
    }

    pub fn begin_boot(&self, boot: u32, from_h: f64) {
        let mut state = self.0.borrow_mut();
        state.us = (from_h * 3.6e9) as u64;
        (state.boot, state.boot_us, state.power_on) = (boot, state.us, true);
        state.bytes.clear();
    }

    pub fn hours(&self) -> f64 {
        self.0.borrow().hours()
    }

    pub fn pass(&self, us: u64) {
        self.0.borrow_mut().us += us;
    }

    pub fn is_flash_on(&self) -> bool {
        self.0.borrow().flash_on
    }

    /// Time that costs more than waiting.
    fn work(&self, us: u64, watts: f64) {
        let mut state = self.0.borrow_mut();
        state.us += us;
        let flash = if state.flash_on { 3.0 } else { 0.0 };
        state.joules += (watts - 0.4 + flash) * us as f64 / 1e6;
    }

    pub fn power(&self) -> Supply {
        Supply(self.clone())
    }

    pub fn card(&self, segments: Segments) -> Card {
        Card(self.clone(), segments)
    }
}

impl Trigger for Sim {
    type Error = Infallible;

    fn poll(&mut self, _: u64) -> Result<bool, Infallible> {
        let mut state = self.0.borrow_mut();
        if state.us < state.next_animal_us {
            return Ok(false);
        }
        let first = state.next_animal_us == 0;
        let wait_h = -(1.0 - state.uniform()).ln() / state.per_hour();
        state.next_animal_us = state.us + (wait_h.min(1.0) * 3.6e9) as u64;
        let windy = state.per_hour() > 30.0;
        let pick = state.uniform();
        state.animal = if windy { 0 } else { (pick * CLASSES.len() as f64) as usize };
        // an hour without anything is no animal
        Ok(!first && wait_h < 1.0)
    }
}

impl Camera for Sim {
    type Error = &'static str;

    fn capture(&mut self, frame: u8) -> Result<PictureFile, &'static str> {
        self.work(150_000, 1.2);
        let mut state = self.0.borrow_mut();
        if (CAMERA_GONE_H.0..CAMERA_GONE_H.1).contains(&state.hours()) {
            return Err("no frame within 10 s: the cable?");
        }
        let noise = (state.uniform() * 200.0) as u8;
        let bytes = vec![state.animal as u8, frame, noise];
        let digest = sha256_hex(&[&bytes[..], &state.us.to_le_bytes()].concat());
        let mut sha256 = [0; 32];
        for (to, pair) in sha256.iter_mut().zip(digest.as_bytes().chunks(2)) {
            *to = std::str::from_utf8(pair)
                .ok()
                .and_then(|pair| u8::from_str_radix(pair, 16).ok())
                .unwrap_or(0);
        }
        Ok(PictureFile { bytes, sha256 })
    }
}

impl embedded_hal::digital::ErrorType for Sim {
    type Error = Infallible;
}

impl embedded_hal::digital::OutputPin for Sim {
    fn set_low(&mut self) -> Result<(), Infallible> {
        self.0.borrow_mut().flash_on = false;
        Ok(())
    }
    fn set_high(&mut self) -> Result<(), Infallible> {
        self.0.borrow_mut().flash_on = true;
        Ok(())
    }
}

impl embedded_hal::digital::ErrorType for Supply {
    type Error = Infallible;
}

impl embedded_hal::digital::OutputPin for Supply {
    fn set_low(&mut self) -> Result<(), Infallible> {
        self.0.0.borrow_mut().power_on = false;
        Ok(())
    }
    fn set_high(&mut self) -> Result<(), Infallible> {
        self.0.0.borrow_mut().power_on = true;
        Ok(())
    }
}

impl Receiver for Sim {
    type Error = Infallible;

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        let mut state = self.0.borrow_mut();
        state.speak();
        let count = buffer.len().min(state.bytes.len());
        for (to, from) in buffer.iter_mut().zip(state.bytes.drain(..count)) {
            *to = from;
        }
        Ok(count)
    }
}

impl Clock for Sim {
    fn monotonic_us(&self) -> u64 {
        let state = self.0.borrow();
        state.us - state.boot_us
    }

    /// A board without a clock chip.
    fn utc_millis(&self) -> Option<i64> {
        None
    }

    fn boot(&self) -> u32 {
        self.0.borrow().boot
    }
}

impl Board for Sim {
    fn battery(&mut self) -> Battery {
        let mut state = self.0.borrow_mut();
        state.charge();
        let share = state.battery_wh / BATTERY_WH;
        Battery {
            millivolts: Some((3300.0 + 850.0 * share) as u16),
            percent: Some((100.0 * share).round() as u8),
        }
    }

    /// Air, the board's own heat, and one noon on which the sun finds the box.
    fn temperature_c(&mut self) -> Option<f32> {
        let state = self.0.borrow();
        let noon = (-((state.hours() - HOT_NOON_H) / 1.6).powi(2)).exp();
        Some((24.0 + 14.0 * state.sun() * state.sky() + 36.0 * noon) as f32)
    }
}

impl Store for Card {
    type Error = StoreError;

    fn next_seq(&self) -> u64 {
        self.1.next_seq()
    }

    fn append(&mut self, entry: &Entry) -> Result<(), StoreError> {
        self.0.work(25_000, 1.2);
        self.1.append(entry)
    }

    /// Only the room that pictures take is simulated: the oldest make way for new ones.
    fn keep(&mut self, shot: &Shot<'_>) -> Result<Kept, StoreError> {
        let mut state = self.0.0.borrow_mut();
        let mut removed = Vec::new();
        if state.free < 20 * PICTURE_BYTES {
            // by the fifty: a card is not tidied for every picture
            removed.extend((0..50).map_while(|_| state.kept.pop_front()));
            state.free += removed.len() as u64 * PICTURE_BYTES;
        }
        if let Some(last) = removed.last() {
            let (count, bytes) = (removed.len() as u32, removed.len() as u64 * PICTURE_BYTES);
            state.events.push_back(Event::PicturesRemoved { count, bytes, up_to: last.clone() });
        }
        state.free = state.free.saturating_sub(PICTURE_BYTES);
        state.kept.push_back(shot.name.into());
        Ok(Kept { picture: Picture::Kept, sha256: shot.sha256 })
    }

    fn free_bytes(&self) -> Option<u64> {
        Some(self.0.0.borrow().free)
    }

    fn take_event(&mut self) -> Option<Event> {
        self.0.0.borrow_mut().events.pop_front()
    }
}

/// A model that mostly sees right.
pub(super) struct Eye {
    sim: Sim,
    labels: Labels,
    fusion: Fusion,
    thresholds: Thresholds,
}

pub(super) fn labelled(sim: &Sim) -> Eye {
    Eye {
        sim: sim.clone(),
        labels: Labels(CLASSES.map(Label::new).to_vec()),
        fusion: Fusion::default(),
        thresholds: Thresholds::default(),
    }
}

impl Classifier for Eye {
    type Error = &'static str;

    fn decode(&mut self, _: &str, file: &[u8], _: View) -> Result<Decoded, &'static str> {
        self.sim.work(120_000, 2.0);
        Ok(Decoded { pixels: file.to_vec(), grey: None })
    }

    fn image_logits(&mut self, pixels: &[u8]) -> Result<Vec<f32>, &'static str> {
        self.sim.work(800_000, 2.0);
        let (animal, noise) = (pixels.first().copied().unwrap_or(0), pixels.get(2).copied().unwrap_or(0));
        let logit = |class: usize| {
            let own = if class == usize::from(animal) { 3.5 } else { 0.0 };
            own - if (usize::from(noise) + class).is_multiple_of(7) { 2.5 } else { 0.0 }
        };
        Ok((0..CLASSES.len()).map(logit).collect())
    }

    fn location_logits(&mut self, _: Situation) -> Result<Option<Vec<f32>>, &'static str> {
        self.sim.work(4_000, 2.0);
        Ok(Some(vec![2.0, 2.0, 1.0, -1.0, 0.0]))
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

/// What the segments' headers say.
pub(super) fn identity() -> Identity {
    Identity {
        device: "simulated".into(),
        deployment: "a week".into(),
        build: "simulated".into(),
        model_digest: [0; 32],
    }
}

/// One run of the firmware, from power to power; returns the place it knew. `refused` hears of every
/// entry that the card did not take.
pub(super) fn live(
    sim: &Sim,
    dir: &Path,
    to_h: f64,
    after: LastRun,
    remembered: Option<Remembered>,
    refused: impl Fn(StoreError),
) -> Result<Option<Remembered>, StoreError> {
    let (store, _) = Segments::open(dir, identity())?;
    let parts: Parts<Tree> = Parts {
        trigger: sim.clone(),
        camera: sim.clone(),
        flash: sim.clone(),
        receiver: sim.clone(),
        power: sim.power(),
        classifier: Ok(labelled(sim)),
        store: sim.card(store),
        clock: sim.clone(),
        board: sim.clone(),
    };
    let mut gps = Gps::new(None, None).with_duty(DutyConfig::default());
    if let Some(place) = remembered {
        gps.recall(&place, None, 0);
    }
    let settings = Settings {
        frames: 3,
        interval_ms: 400,
        cool_down_ms: 15_000,
        flash_warm_up_ms: Some(50),
        timelapse_ms: Some(6 * 3_600_000),
        storage_low_bytes: 60 << 20,
        events: true,
        ..Settings::desk()
    };
    let mut trap = Trap::new(parts, gps, settings);
    trap.tell(Event::Started { after, config_sha256: None });
    let mut known = remembered;
    while sim.hours() < to_h {
        match trap.step() {
            Ok(Step::Idle) => sim.pass(1_000_000),
            Ok(Step::Waiting) => sim.pass(10_000),
            Ok(Step::Working | Step::Recorded(_)) => sim.pass(500),
            Err(error) => {
                refused(error);
                sim.pass(1_000_000);
            }
        }
        known = trap.remember().or(known);
    }
    Ok(known)
}

//! The receiver: bytes → sentences → fixes → a place.
//!
//! | step | file | rejects |
//! |---|---|---|
//! | bytes → text | [`framing`] | noise, binary protocols, overlong lines |
//! | text → observation | [`sentence`] | bad checksums, coordinates that are none |
//! | observations of one second → fix | [`epoch`] | invalid, contradicting, dead-reckoned positions |
//! | fixes → position of a trap that stands still | [`still`] | jumps, speed, poor geometry |
//! | positions → place | [`ladder`] | nothing: it says how good the place is |
//!
//! Beside them [`clock`] sets UTC, [`duty`] says when the receiver is worth its power, [`line`] hears silence
//! and noise, [`remembered`] carries the place through a power cut, and [`event`] tells the story.

pub mod clock;
pub mod duty;
pub mod epoch;
pub mod event;
pub mod framing;
pub mod ladder;
pub mod line;
pub mod remembered;
pub mod sentence;
pub mod still;

use core::fmt;

use csp_models::place::{LatLon, Place, PlaceSource};
use heapless::Deque;

pub use clock::{ClockOffset, ClockSet};
pub use duty::{Duty, DutyConfig, Phase, ReceiverPower, Sight};
pub use epoch::{Epoch, Fix, Grade, Refusal};
pub use event::GpsEvent;
pub use remembered::{Remembered, RememberedError};
pub use still::Moved;

/// Where the receiver's bytes come from.
pub trait Receiver {
    /// Why reading failed; the trap reports it and goes on without a receiver.
    type Error: fmt::Display;

    /// Copies bytes that are there into `buffer`, without waiting for more: 0 when there are none now.
    ///
    /// # Errors
    /// The source is broken (unplugged, closed by an error).
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error>;
}

/// A trap without a receiver.
pub struct NoReceiver;

impl Receiver for NoReceiver {
    type Error = core::convert::Infallible;
    fn read(&mut self, _: &mut [u8]) -> Result<usize, Self::Error> {
        Ok(0)
    }
}

/// Events kept for [`Gps::take_event`]; when nobody takes them, the oldest go.
const EVENTS: usize = 16;
/// A fix that is gone for so long is lost, milliseconds: a second under a branch is not.
const LOST_MS: u64 = 60_000;
/// A place is worth writing down again when it has moved so far, metres, …
const REMEMBER_M: f64 = 20.0;
/// … but not more often than that, milliseconds, unless the trap was carried off.
const REMEMBER_MS: u64 = 600_000;
/// … and once a day in any case, so that its age is known.
const REMEMBER_DAILY_MS: u64 = 86_400_000;

/// Everything between a receiver's bytes and a [`Place`].
///
/// Call [`take`](Self::take) with what the receiver sent, [`pause`](Self::pause) when it pauses and
/// [`tick`](Self::tick) now and then in any case. Times are milliseconds of one monotonic clock.
#[derive(Debug)]
pub struct Gps {
    framer: framing::Framer,
    filter: epoch::Filter,
    ladder: ladder::Ladder,
    clock: clock::UtcClock,
    line: line::Line,
    /// `None` for a receiver that is always on.
    duty: Option<Duty>,
    events: Deque<GpsEvent, EVENTS>,
    /// The clock of a recording; `None` for a receiver that is heard live.
    recording: Option<Recording>,
    /// Sentences used so far, and lines that failed their checksum.
    sentences: (u32, u32),
    had_fix: HadFix,
    rolled_over: bool,
    /// What [`Gps::remember`] gave last, and when.
    remembered: Option<(LatLon, f64, u64)>,
}

/// The story of the fix.
#[derive(Clone, Copy, Debug, PartialEq)]
enum HadFix {
    Never,
    /// Live when last looked at.
    At(u64),
    /// Said to be lost; the time of the last.
    Lost(u64),
}

/// The clock of a recording: time passes as its epochs say and stands still at its end.
#[derive(Clone, Copy, Debug, Default)]
struct Recording {
    clock_ms: u64,
    time_ms: Option<u32>,
    heard_ms: u64,
}

impl Gps {
    /// A receiver that is heard live and always on. `earliest_day` is the firmware's build date (days
    /// since 1970-01-01): earlier dates are taken for a week rollover; `None` trusts every date.
    pub fn new(site: Option<LatLon>, earliest_day: Option<i64>) -> Self {
        Self {
            framer: framing::Framer::default(),
            filter: epoch::Filter::new(earliest_day),
            ladder: ladder::Ladder::new(site),
            clock: clock::UtcClock::default(),
            line: line::Line::default(),
            duty: None,
            events: Deque::new(),
            recording: None,
            sentences: (0, 0),
            had_fix: HadFix::Never,
            rolled_over: false,
            remembered: None,
        }
    }

    /// A recording, taken in as fast as it reads: the place is that of its end, however long ago
    /// that is heard, and the ages of fixes are counted by its own clock. Its dates are trusted.
    pub fn recorded(site: Option<LatLon>) -> Self {
        let (recording, clock) = (Some(Recording::default()), clock::UtcClock::believing());
        Self { recording, clock, ..Self::new(site, None) }
    }

    /// The same receiver, switched on and off as [`tick`](Self::tick) says.
    #[must_use]
    pub fn with_duty(self, config: DutyConfig) -> Self {
        Self { duty: Some(Duty::new(config)), ..self }
    }

    /// Starts from the place of an earlier boot. `utc_millis` is what the board's clock says at
    /// `now_ms`, if it has one: without it the age is unknown and the place counts as old.
    ///
    /// A place that was kept under another configured site is not used: a person moved the trap.
    pub fn recall(&mut self, remembered: &Remembered, utc_millis: Option<i64>, now_ms: u64) {
        if self.ladder.site().is_some() && remembered.site != self.ladder.site() {
            return self.tell(GpsEvent::SiteChanged);
        }
        let age_ms = utc_millis.zip(remembered.utc_millis).and_then(|(now, then)| now.checked_sub(then));
        let age_s = age_ms.and_then(|age| u64::try_from(age / 1000).ok());
        self.ladder.recall(remembered, age_s, now_ms);
        self.tell(GpsEvent::Recalled { age_s });
    }

    /// Takes bytes that arrived at `now_ms` of the monotonic clock; returns the last epoch they ended.
    pub fn take(&mut self, bytes: &[u8], now_ms: u64) -> Option<Epoch> {
        let mut ended = None;
        let mut sentence = false;
        for &byte in bytes {
            let Some(text) = self.framer.push(byte) else { continue };
            match sentence::parse(text) {
                Ok(seen) => {
                    sentence = true;
                    self.sentences.0 = self.sentences.0.saturating_add(1);
                    if let Some(epoch) = self.filter.push(&seen) {
                        self.observe(&epoch, now_ms);
                        ended = Some(epoch);
                    }
                }
                Err(sentence::SentenceError::Checksum) => {
                    self.sentences.1 = self.sentences.1.saturating_add(1);
                }
                Err(sentence::SentenceError::Malformed | sentence::SentenceError::Other) => sentence = true,
            }
        }
        if let Some(event) = self.line.heard(bytes.len(), sentence, now_ms) {
            self.tell(event);
        }
        ended
    }

    /// Ends the epoch under way: the receiver has paused, or the recording is over.
    pub fn pause(&mut self, now_ms: u64) -> Option<Epoch> {
        let epoch = self.filter.finish()?;
        self.observe(&epoch, now_ms);
        Some(epoch)
    }

    /// Lets time pass; returns what the receiver's supply should become, when that changes.
    pub fn tick(&mut self, now_ms: u64) -> Option<ReceiverPower> {
        let sight = Sight { fix: self.ladder.is_live(self.time(now_ms)), in_doubt: self.ladder.in_doubt() };
        let wish = self.duty.as_mut().and_then(|duty| duty.step(now_ms, sight));
        if wish == Some(ReceiverPower::On) {
            self.line.restart(now_ms);
        }
        let on = self.duty.as_ref().is_none_or(Duty::is_on);
        if on && self.recording.is_none() {
            if let Some(event) = self.line.waited(now_ms) {
                self.tell(event);
            }
            if let HadFix::At(last) = self.had_fix
                && now_ms.saturating_sub(last) >= LOST_MS
            {
                self.had_fix = HadFix::Lost(last);
                self.tell(GpsEvent::FixLost);
            }
        } else if let HadFix::At(_) = self.had_fix {
            // A receiver that is off has not lost its fix.
            self.had_fix = HadFix::At(now_ms);
        }
        wish
    }

    /// What happened, oldest first.
    pub fn take_event(&mut self) -> Option<GpsEvent> {
        self.events.pop_front()
    }

    /// Ends the receiver's pause: something shook the trap, or a person asks where it is.
    pub fn wake(&mut self) {
        if let Some(duty) = &mut self.duty {
            duty.wake();
        }
    }

    /// Where the receiver's cycle stands; `None` when it is always on.
    pub fn phase(&self) -> Option<Phase> {
        self.duty.as_ref().map(Duty::phase)
    }

    /// The place to keep for the next boot, when it is worth writing: give it to [`Gps::recall`] then.
    pub fn remember(&mut self, now_ms: u64) -> Option<Remembered> {
        let place = self.place(now_ms).filter(|place| place.source == PlaceSource::LiveFix)?;
        if self.ladder.grade() < Some(Grade::Good) && self.remembered.is_some() {
            return None;
        }
        let worth = self.remembered.is_none_or(|(at, uncertainty_m, then)| {
            let (metres, since) = (at.distance_m(place.at), now_ms.saturating_sub(then));
            let better = metres > REMEMBER_M || place.uncertainty_m < 0.75 * uncertainty_m;
            metres > still::GATE_M || since >= REMEMBER_DAILY_MS || (better && since >= REMEMBER_MS)
        });
        if !worth || self.ladder.in_doubt() {
            return None;
        }
        self.remembered = Some((place.at, place.uncertainty_m, now_ms));
        let (at, uncertainty_m) = (place.at, place.uncertainty_m);
        Some(Remembered { at, uncertainty_m, utc_millis: self.utc_millis(now_ms), site: self.ladder.site() })
    }

    /// The best place known at `now_ms`.
    pub fn place(&self, now_ms: u64) -> Option<Place> {
        self.ladder.place(self.recording.map_or(now_ms, |recording| recording.clock_ms))
    }

    /// UTC in milliseconds since 1970 at `now_ms`, once two epochs have told it.
    pub fn utc_millis(&self, now_ms: u64) -> Option<i64> {
        self.clock.offset()?.utc_millis(self.time(now_ms))
    }

    /// What ties the monotonic clock to UTC, once it is known.
    pub fn clock_offset(&self) -> Option<ClockOffset> {
        self.clock.offset()
    }

    /// True once a fix was seen.
    pub fn has_fix(&self) -> bool {
        self.ladder.grade().is_some()
    }

    /// Sentences that were used, and lines that failed their checksum.
    pub fn sentences(&self) -> (u32, u32) {
        self.sentences
    }

    /// `now_ms`, on the clock of the recording if it is one.
    fn time(&self, now_ms: u64) -> u64 {
        self.recording.map_or(now_ms, |recording| {
            recording.clock_ms.saturating_add(now_ms.saturating_sub(recording.heard_ms))
        })
    }

    fn observe(&mut self, epoch: &Epoch, now_ms: u64) {
        const DAY_MS: u32 = 86_400_000;
        let mut now = now_ms;
        if let Some(recording) = &mut self.recording {
            if let Some(before) = recording.time_ms {
                let step = (epoch.time_ms + DAY_MS - before) % DAY_MS;
                // More than half a day ahead is a step back: recordings get spliced.
                recording.clock_ms += u64::from(if step > DAY_MS / 2 { 0 } else { step });
            }
            recording.time_ms = Some(epoch.time_ms);
            recording.heard_ms = now_ms;
            now = recording.clock_ms;
        }
        if let Some(moved) = self.ladder.observe(epoch, now) {
            self.tell(GpsEvent::Moved(moved));
        }
        let Ok(fix) = &epoch.fix else { return };
        if fix.rollovers > 0 && !core::mem::replace(&mut self.rolled_over, true) {
            self.tell(GpsEvent::Rollover { weeks: u32::from(fix.rollovers) * 1024 });
        }
        if let Some(set) = self.clock.observe(fix, now) {
            self.tell(GpsEvent::ClockSet(set));
        }
        match core::mem::replace(&mut self.had_fix, HadFix::At(now)) {
            HadFix::At(_) => {}
            HadFix::Lost(last) => {
                self.tell(GpsEvent::FixBack { without_s: now.saturating_sub(last) / 1000 });
            }
            HadFix::Never => {
                let (at, uncertainty_m) = (fix.at, fix.uncertainty_m);
                self.tell(GpsEvent::FirstFix { at, uncertainty_m, after_ms: now });
            }
        }
    }

    fn tell(&mut self, event: GpsEvent) {
        if self.events.is_full() {
            self.events.pop_front();
        }
        let _ = self.events.push_back(event);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use alloc::{format, string::String, vec::Vec};

    use csp_models::place::PlaceSource;
    use proptest::prelude::*;

    use super::*;

    /// A sentence with its checksum and line end.
    pub fn line(body: &str) -> String {
        format!("${body}*{:02X}\r\n", body.bytes().fold(0, |sum, byte| sum ^ byte))
    }

    /// Seconds of a good receiver in Nairobi from 12:00:00, one epoch each.
    fn stream(seconds: u32) -> Vec<u8> {
        (0..seconds)
            .flat_map(|s| {
                let time = format!("1200{s:02}.00");
                [
                    line(&format!("GNRMC,{time},A,0117.5260,S,03649.3140,E,0.02,,231126,,,A")),
                    line(&format!("GNGGA,{time},0117.5260,S,03649.3140,E,1,09,0.92,1795.1,M,-15.3,M,,")),
                    line("GNGSA,A,3,01,04,,,,,,,,,,,1.25,0.92,1.06,1"),
                ]
            })
            .flat_map(String::into_bytes)
            .collect()
    }

    fn nairobi(place: Option<Place>) {
        let place = place.unwrap();
        assert!(place.at.distance_m(LatLon::new(-1.292_1, 36.821_9).unwrap()) < 20.0, "{place:?}");
    }

    #[test]
    fn a_stream_becomes_a_live_place_and_a_time() {
        let mut gps = Gps::new(None, None);
        assert_eq!(gps.place(0), None);
        gps.take(&stream(3), 1000);
        gps.pause(1000);
        let place = gps.place(1500);
        assert_eq!(place.unwrap().source, PlaceSource::LiveFix);
        assert_eq!(place.unwrap().uncertainty_m, 10.0);
        nairobi(place);
        // 2026-11-23T12:00:02Z, half a second later
        assert_eq!(gps.utc_millis(1500), Some(1_795_435_202_500));
    }

    #[test]
    fn a_recording_stands_still_at_its_end() {
        let mut gps = Gps::recorded(None);
        gps.take(&stream(3), 0);
        for (time, day) in [("120003.00", "231126"), ("120030.00", "231126")] {
            gps.take(line(&format!("GNRMC,{time},V,,,,,,,{day},,,N")).as_bytes(), 0);
        }
        gps.pause(0);
        // the fix of 12:00:02 was 28 s old when the recording ended, and stays so
        for now in [0, 1_000_000] {
            assert_eq!(gps.place(now).unwrap().source, PlaceSource::LastFix { age_s: 28 });
        }
        assert_eq!(gps.utc_millis(500), Some(1_795_435_230_500));
    }

    /// What happened, as text.
    fn told(gps: &mut Gps) -> Vec<String> {
        core::iter::from_fn(|| gps.take_event()).map(|event| format!("{event}")).collect()
    }

    /// Seconds from 12:00:00 on, one `take` each, at that second of the monotonic clock.
    fn hear(gps: &mut Gps, from: u32, seconds: u32, lon_minutes: &str) -> Vec<ReceiverPower> {
        let mut wishes = Vec::new();
        for s in from..from + seconds {
            let (now, time) =
                (u64::from(s) * 1000, format!("{:02}{:02}{:02}.00", 12 + s / 3600, s / 60 % 60, s % 60));
            let rmc = format!("GNRMC,{time},A,0117.5260,S,036{lon_minutes},E,0.02,,231126,,,A");
            let gga = format!("GNGGA,{time},0117.5260,S,036{lon_minutes},E,1,09,0.92,1795.1,M,-15.3,M,,");
            gps.take((line(&rmc) + &line(&gga)).as_bytes(), now);
            gps.pause(now);
            wishes.extend(gps.tick(now));
        }
        wishes
    }

    #[test]
    fn the_story_of_a_trap_is_told() {
        let mut gps = Gps::new(None, Some(20_000));
        hear(&mut gps, 100, 60, "49.3140");
        assert_eq!(
            told(&mut gps),
            ["first fix after 100 s: 1.29210°S 36.82190°E ± 10 m", "clock set from the receiver"]
        );
        for s in 160..390 {
            assert_eq!(gps.tick(s * 1000), None);
        }
        assert_eq!(
            told(&mut gps),
            [
                "the receiver has been silent for 60 s",
                "no fix for a minute",
                "the receiver has been silent for 120 s"
            ]
        );
        // carried 1.1 km to the east
        hear(&mut gps, 400, 120, "49.9140");
        let story = told(&mut gps);
        assert_eq!(story.len(), 3, "{story:?}");
        assert!(story[0].starts_with("the receiver speaks again after 241 s"), "{story:?}");
        assert_eq!(story[1], "fix again after 241 s");
        assert!(story[2].starts_with("the trap was moved 1112 m, from 1.29210°S"), "{story:?}");
    }

    #[test]
    fn the_receiver_sleeps_and_the_place_stays() {
        let config = DutyConfig { settle_ms: 60_000, ..DutyConfig::default() };
        let mut gps = Gps::new(None, None).with_duty(config);
        assert_eq!(hear(&mut gps, 0, 120, "49.3140"), [ReceiverPower::On, ReceiverPower::Off]);
        told(&mut gps);
        let (mut now, mut wish) = (120_000, None);
        while wish.is_none() {
            now += 1000;
            wish = gps.tick(now);
        }
        assert_eq!(wish, Some(ReceiverPower::On));
        assert!((now as i64 - 6 * 3_600_000).abs() < 120_000, "{now}");
        assert_eq!(told(&mut gps), [""; 0], "a receiver that is off is not silent");
        let Some(Place { source: PlaceSource::LastFix { age_s }, uncertainty_m, .. }) = gps.place(now) else {
            panic!()
        };
        assert!(age_s > 21_000 && uncertainty_m == 60.0, "{age_s} {uncertainty_m}");
    }

    #[test]
    fn a_place_survives_a_restart() {
        let site = LatLon::new(-1.0, 36.0).unwrap();
        let mut gps = Gps::new(Some(site), None);
        assert_eq!(gps.remember(0), None);
        hear(&mut gps, 0, 60, "49.3140");
        let kept = gps.remember(60_000).unwrap();
        assert_eq!((kept.site, kept.utc_millis), (Some(site), Some(1_795_435_260_000)));
        assert_eq!(gps.remember(61_000), None, "nothing new");
        hear(&mut gps, 61, 120, "49.9140");
        assert!(gps.remember(181_000).is_some(), "moved");

        let kept = Remembered::from_bytes(&kept.to_bytes()).unwrap();
        let mut gps = Gps::new(Some(site), None);
        gps.recall(&kept, Some(1_795_435_260_000 + 3_600_000), 5);
        nairobi(gps.place(5));
        assert_eq!(gps.place(5).unwrap().source, PlaceSource::LastFix { age_s: 3600 });
        assert_eq!(told(&mut gps), ["last known place taken up, 3600 s old"]);
        // a clock before the fix tells no age
        gps.recall(&kept, Some(0), 5);
        assert_eq!(gps.place(5).unwrap().source, PlaceSource::LastFix { age_s: ladder::UNKNOWN_AGE_S });

        // a person has configured another site since
        let elsewhere = LatLon::new(50.0, 5.0).unwrap();
        let mut gps = Gps::new(Some(elsewhere), None);
        gps.recall(&kept, None, 0);
        assert_eq!(gps.place(0), Some(Place::configured(elsewhere)));
        assert_eq!(told(&mut gps), ["the configured site is new: the last known place is dropped"]);
    }

    #[test]
    fn a_rolled_over_receiver_is_put_right_and_said() {
        let mut gps = Gps::new(None, Some(20_700));
        for s in 0..5 {
            let rmc = format!("GNRMC,12000{s}.00,A,0117.5260,S,03649.3140,E,0.02,,090407,,,A");
            gps.take(line(&rmc).as_bytes(), s * 1000);
        }
        assert_eq!(gps.clock_offset().unwrap().rollovers, 1);
        assert_eq!(gps.utc_millis(3_000), Some(1_795_435_203_000 - 1_000));
        let story = told(&mut gps);
        assert_eq!(story[0], "the receiver's date has rolled over: 1024 weeks were added");
        assert_eq!(story.len(), 3, "{story:?}");
    }

    #[test]
    fn events_nobody_takes_are_bounded() {
        let mut gps = Gps::new(None, None);
        for round in 0..100u64 {
            gps.tick(round * 1_000_000);
            gps.take(b"x", round * 1_000_000 + 500_000);
        }
        assert_eq!(told(&mut gps).len(), EVENTS);
    }

    #[test]
    fn noise_gives_no_place() {
        let mut gps = Gps::new(None, None);
        let noise: Vec<u8> = (0..100_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        gps.take(&noise, 0);
        gps.pause(0);
        assert_eq!(gps.place(0), None);
    }

    proptest! {
        #[test]
        fn never_panics_and_never_invents(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
            let mut gps = Gps::new(None, Some(20_000));
            gps.take(&bytes, 0);
            gps.pause(0);
            prop_assert_eq!(gps.place(0), None);
        }

        /// Sentences cut, damaged and mixed with noise may be lost, never misread.
        #[test]
        fn damage_never_moves_the_trap(
            damage in proptest::collection::vec((0usize..3000, any::<u8>(), 0usize..40), 0..12),
        ) {
            let mut bytes = stream(12);
            for (at, value, cut) in damage {
                let at = at % bytes.len();
                bytes[at] = value;
                let end = (at + cut).min(bytes.len());
                if cut % 2 == 0 { bytes.drain(at..end); }
            }
            let mut gps = Gps::new(None, None);
            gps.take(&bytes, 0);
            gps.pause(0);
            if let Some(place) = gps.place(0) { nairobi(Some(place)); }
        }

        #[test]
        fn pieces_of_any_size_read_the_same(sizes in proptest::collection::vec(1usize..200, 1..40)) {
            let bytes = stream(5);
            let (mut whole, mut pieces) = (Gps::new(None, None), Gps::new(None, None));
            whole.take(&bytes, 0);
            let mut rest = &bytes[..];
            for size in sizes.iter().cycle() {
                if rest.is_empty() { break; }
                let (head, tail) = rest.split_at((*size).min(rest.len()));
                pieces.take(head, 0);
                rest = tail;
            }
            prop_assert_eq!(whole.place(0), pieces.place(0));
            prop_assert_eq!(whole.sentences(), pieces.sentences());
        }
    }
}

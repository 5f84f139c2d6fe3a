//! A trap at a tree whose parts fail: whatever happens, what is acknowledged stays, every trigger is
//! told of, the flash goes out and the trap comes to rest.

use csp_models::record::{ActivityReason, EventRecord, FailureRecord, Picture, PredictionRecord};
use embedded_hal::digital::{ErrorKind, ErrorType, OutputPin};
use embedded_hal_mock::eh1::digital::{Mock, State, Transaction};

use super::*;
use crate::trap::energy::Plan;

mod company;

/// What the parts do next.
#[derive(Clone, Debug)]
struct World {
    us: u64,
    utc: Option<i64>,
    moves: u32,
    /// Polls that said yes.
    triggers: u32,
    captures: u32,
    picture: u8,
    /// What the image network makes of the part that moves.
    moving: Option<u8>,
    camera_fails: bool,
    sensor_fails: bool,
    flash_fails: bool,
    flash_high: bool,
    store_fails: bool,
    keep_fails: bool,
    seals: bool,
    seal_fails: bool,
    free: u64,
    battery: Option<u8>,
    celsius: f32,
    entries: Vec<Entry>,
    kept: Vec<String>,
    /// For whom each picture offered to the store is suppressed.
    shots: Vec<Option<csp_models::groups::Group>>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            us: 0,
            utc: None,
            moves: 0,
            triggers: 0,
            captures: 0,
            picture: 2,
            moving: None,
            camera_fails: false,
            sensor_fails: false,
            flash_fails: false,
            flash_high: true,
            store_fails: false,
            keep_fails: false,
            seals: false,
            seal_fails: false,
            free: u64::MAX,
            battery: Some(90),
            celsius: 20.0,
            entries: Vec::new(),
            kept: Vec::new(),
            shots: Vec::new(),
        }
    }
}

#[derive(Clone, Default)]
struct Shared(Rc<RefCell<World>>);

impl Trigger for Shared {
    type Error = &'static str;
    fn poll(&mut self, _: u64) -> Result<bool, Self::Error> {
        let mut world = self.0.borrow_mut();
        if world.sensor_fails {
            return Err("line gone");
        }
        if world.moves == 0 {
            return Ok(false);
        }
        world.moves -= 1;
        world.triggers += 1;
        Ok(true)
    }
}

impl Camera for Shared {
    type Error = &'static str;
    fn capture(&mut self, frame: u8) -> Result<PictureFile, Self::Error> {
        let mut world = self.0.borrow_mut();
        world.us += 30_000;
        world.captures += 1;
        if world.camera_fails {
            return Err("no frame");
        }
        // 0 is an empty file
        let mut bytes = if world.picture == 0 { vec![] } else { vec![world.picture, frame] };
        bytes.extend(world.moving);
        Ok(PictureFile { sha256: [frame; 32], bytes })
    }
}

impl ErrorType for Shared {
    type Error = ErrorKind;
}

impl OutputPin for Shared {
    fn set_low(&mut self) -> Result<(), ErrorKind> {
        let mut world = self.0.borrow_mut();
        if world.flash_fails {
            return Err(ErrorKind::Other);
        }
        world.flash_high = false;
        Ok(())
    }
    fn set_high(&mut self) -> Result<(), ErrorKind> {
        let mut world = self.0.borrow_mut();
        if world.flash_fails {
            return Err(ErrorKind::Other);
        }
        world.flash_high = true;
        Ok(())
    }
}

impl Store for Shared {
    type Error = &'static str;
    fn next_seq(&self) -> u64 {
        self.0.borrow().entries.len() as u64
    }
    fn append(&mut self, entry: &Entry) -> Result<(), Self::Error> {
        let mut world = self.0.borrow_mut();
        if world.store_fails {
            return Err("read-only");
        }
        world.entries.push(entry.clone());
        Ok(())
    }
    fn keep(&mut self, shot: &Shot<'_>) -> Result<Kept, Self::Error> {
        let mut world = self.0.borrow_mut();
        if world.keep_fails {
            return Err("full");
        }
        world.shots.push(shot.suppressed);
        if let Some(group) = shot.suppressed {
            let picture = Picture::Suppressed { group: group.as_str().into() };
            return Ok(Kept { picture, sha256: shot.sha256 });
        }
        world.kept.push(shot.name.into());
        Ok(Kept { picture: Picture::Kept, sha256: shot.sha256 })
    }
    fn seal(&self, entry: &mut Entry) -> Result<(), Self::Error> {
        if self.0.borrow().seal_fails {
            return Err("no random numbers");
        }
        if let (true, Entry::Prediction(record)) = (self.0.borrow().seals, entry) {
            record.place = None;
        }
        Ok(())
    }
    fn free_bytes(&self) -> Option<u64> {
        Some(self.0.borrow().free)
    }
}

impl Clock for Shared {
    fn monotonic_us(&self) -> u64 {
        let mut world = self.0.borrow_mut();
        world.us += 10;
        world.us
    }
    fn utc_millis(&self) -> Option<i64> {
        self.0.borrow().utc
    }
    fn boot(&self) -> u32 {
        7
    }
}

impl Board for Shared {
    fn battery(&mut self) -> Battery {
        Battery { millivolts: Some(3700), percent: self.0.borrow().battery }
    }
    fn temperature_c(&mut self) -> Option<f32> {
        Some(self.0.borrow().celsius)
    }
}

struct TreeKit<P>(core::marker::PhantomData<P>);

impl<P: OutputPin> Kit for TreeKit<P> {
    type Trigger = Shared;
    type Camera = Shared;
    type Flash = P;
    type Receiver = NoReceiver;
    type Power = NoPin;
    type Classifier = TwoClasses;
    type Store = Shared;
    type Clock = Shared;
    type Board = Shared;
}

fn settings() -> Settings {
    Settings {
        frames: 3,
        interval_ms: 100,
        flash_warm_up_ms: Some(50),
        storage_low_bytes: 1_000,
        events: true,
        ..Settings::desk()
    }
}

fn with_flash<P: OutputPin>(world: &Shared, flash: P, settings: Settings) -> Trap<TreeKit<P>> {
    let parts = Parts {
        trigger: world.clone(),
        camera: world.clone(),
        flash,
        receiver: NoReceiver,
        power: NoPin,
        classifier: Ok(two_classes()),
        store: world.clone(),
        clock: world.clone(),
        board: world.clone(),
    };
    Trap::new(parts, Gps::new(Some(LatLon::new(-1.3, 36.8).unwrap()), None), settings)
}

fn tree(settings: Settings) -> (Trap<TreeKit<Shared>>, Shared) {
    let world = Shared::default();
    (with_flash(&world, world.clone(), settings), world)
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.0.borrow_mut());
    }

    fn events(&self) -> Vec<Event> {
        let world = self.0.borrow();
        let events = world.entries.iter().filter_map(|entry| match entry {
            Entry::Event(EventRecord { event, .. }) => Some(event.clone()),
            _ => None,
        });
        events.collect()
    }

    fn kinds(&self) -> Vec<&'static str> {
        self.events().iter().map(Event::kind).collect()
    }

    fn failures(&self) -> Vec<FailureRecord> {
        let world = self.0.borrow();
        let failures = world.entries.iter().filter_map(|entry| match entry {
            Entry::Failure(record) => Some(record.clone()),
            _ => None,
        });
        failures.collect()
    }

    fn prediction(&self) -> PredictionRecord {
        let world = self.0.borrow();
        let found = world.entries.iter().find_map(|entry| match entry {
            Entry::Prediction(record) => Some(record.clone()),
            _ => None,
        });
        found.expect("a prediction")
    }
}

/// Steps for that long of the trap's time.
fn pass<P: OutputPin>(trap: &mut Trap<TreeKit<P>>, world: &Shared, ms: u64) {
    let end = world.0.borrow().us + ms * 1000;
    while world.0.borrow().us < end {
        match trap.step() {
            Ok(Step::Idle | Step::Waiting) | Err(_) => world.change(|world| world.us += 5_000),
            Ok(_) => {}
        }
    }
}

#[test]
fn a_trigger_becomes_a_burst_with_flash_and_one_entry() {
    let (mut trap, world) = tree(settings());
    assert!(!world.0.borrow().flash_high, "off from the start");
    world.change(|world| world.moves = 1);
    let (mut lit, mut dark_captures) = (false, 0);
    for _ in 0..400 {
        let before = world.0.borrow().captures;
        let high = world.0.borrow().flash_high;
        lit |= high;
        if matches!(trap.step(), Ok(Step::Idle | Step::Waiting)) {
            world.change(|world| world.us += 5_000);
        }
        dark_captures += u32::from(world.0.borrow().captures > before && !high);
    }
    assert!(lit && dark_captures == 0 && !world.0.borrow().flash_high);
    let record = world.prediction();
    assert_eq!(record.image, "undated-0007-000001-0.jpg");
    assert_eq!(record.picture, Picture::Kept);
    assert_eq!(record.burst.len(), 2);
    assert!(record.burst.iter().all(|frame| frame.image_top.len() == 2 && frame.image_sha256.is_some()));
    assert_eq!(world.0.borrow().kept.len(), 3);
    assert_eq!((record.board.boot, record.board.battery_percent), (7, Some(90)));
    // 3 × 30 ms of camera at 1.2 W and at least 0.25 s of flash at 3 W
    let energy = record.board.energy_mj.unwrap();
    assert!((800..1500).contains(&energy), "{energy} mJ");
}

#[test]
fn the_flash_goes_out_after_a_camera_error() {
    let mut pin = Mock::new(&[
        Transaction::set(State::Low),
        Transaction::set(State::High),
        Transaction::set(State::Low),
        Transaction::set(State::Low),
    ]);
    let world = Shared::default();
    world.change(|world| (world.moves, world.camera_fails) = (1, true));
    let mut trap = with_flash(&world, pin.clone(), settings());
    pass(&mut trap, &world, 500);
    drop(trap);
    pin.done();
    assert_eq!(world.failures()[0].error, "no frame");
    assert_eq!(world.kinds(), ["camera_fault"]);
}

#[test]
fn a_camera_that_panics_leaves_no_light_on() {
    let mut pin = Mock::new(&[
        Transaction::set(State::Low),
        Transaction::set(State::High),
        Transaction::set(State::Low),
    ]);
    let world = Shared::default();
    world.change(|world| world.moves = 1);
    let mut trap = with_flash(&world, pin.clone(), settings());
    trap.step().unwrap();
    assert!(trap.is_flash_on());
    drop(trap);
    pin.done();
}

#[test]
fn a_camera_that_goes_mid_burst_leaves_the_frames_there_are() {
    let (mut trap, world) = tree(settings());
    world.change(|world| world.moves = 1);
    while world.0.borrow().captures < 2 {
        trap.step().unwrap();
        world.change(|world| world.us += 5_000);
    }
    world.change(|world| world.camera_fails = true);
    pass(&mut trap, &world, 1000);
    assert_eq!(world.prediction().burst.len(), 1);
    // left alone for a while, then tried again, ever more rarely
    world.change(|world| world.moves = 1_000_000);
    pass(&mut trap, &world, 60_000);
    let captures = world.0.borrow().captures;
    assert!((6..12).contains(&captures), "{captures} attempts in a minute");
    world.change(|world| world.camera_fails = false);
    world.change(|world| world.moves = 0);
    pass(&mut trap, &world, 40_000);
    world.change(|world| world.moves = 1);
    pass(&mut trap, &world, 5_000);
    let kinds = world.kinds();
    assert_eq!(kinds.first(), Some(&"camera_fault"));
    assert!(kinds.contains(&"camera_back") && kinds.contains(&"triggers_missed"), "{kinds:?}");
    assert!(kinds.iter().filter(|kind| **kind == "camera_fault").count() <= 5);
    assert_eq!(trap.health(), Health::Well);
}

#[test]
fn without_a_model_pictures_are_kept_and_recorded() {
    let world = Shared::default();
    let mut parts_trap = with_flash(&world, NoPin, settings());
    parts_trap.model = Err("m.cspm: no such file".into());
    world.change(|world| world.moves = 1);
    pass(&mut parts_trap, &world, 2000);
    let failure = &world.failures()[0];
    assert!(failure.error.contains("no such file") && failure.error.contains("-1.jpg"), "{}", failure.error);
    assert_eq!(failure.image_sha256, Some([0; 32]));
    assert_eq!((world.kinds(), world.0.borrow().kept.len()), (vec!["model_fault"], 3));
    assert_eq!(parts_trap.health(), Health::NotClassifying);
}

#[test]
fn safe_mode_keeps_and_records_without_the_model() {
    let (mut trap, world) = tree(Settings { safe_mode: true, ..settings() });
    world.change(|world| (world.moves, world.picture) = (1, 255));
    pass(&mut trap, &world, 2000);
    assert!(world.failures()[0].error.contains("safe mode"));
    assert_eq!(world.0.borrow().kept.len(), 3);
}

#[test]
fn entries_wait_for_a_store_that_refuses_and_what_cannot_wait_is_counted() {
    let (mut trap, world) = tree(Settings { frames: 1, ..settings() });
    world.change(|world| (world.store_fails, world.keep_fails, world.moves) = (true, true, 100));
    pass(&mut trap, &world, 60_000);
    assert_eq!((world.0.borrow().triggers, world.0.borrow().entries.len()), (100, 0));
    assert_eq!(trap.health(), Health::StoreFault);
    world.change(|world| (world.store_fails, world.keep_fails) = (false, false));
    pass(&mut trap, &world, 120_000);
    let world_entries = world.0.borrow().entries.clone();
    let pictures = world_entries.iter().filter(|entry| !matches!(entry, Entry::Event(_))).count();
    assert_eq!(pictures, outbox::OUTBOX);
    let Picture::NotStored { problem } = world.prediction().picture else { panic!() };
    assert_eq!(problem, "full");
    let missed = world.events().iter().find_map(|event| match event {
        Event::TriggersMissed { count, reason } => Some((*count, reason.clone())),
        _ => None,
    });
    let (count, reason) = missed.unwrap();
    assert_eq!(count as usize, 100 - outbox::OUTBOX);
    assert!(reason.contains("store"), "{reason}");
    let seqs: Vec<u64> = world_entries.iter().map(Entry::seq).collect();
    assert_eq!(seqs, (0..seqs.len() as u64).collect::<Vec<_>>());
}

#[test]
fn a_low_battery_and_heat_lower_the_activity_and_say_so() {
    let (mut trap, world) = tree(Settings { plan: Plan::default(), ..settings() });
    let shoot = |trap: &mut Trap<TreeKit<Shared>>, change: &dyn Fn(&mut World)| {
        world.change(|world| change(world));
        pass(trap, &world, 6_000);
        let before = world.0.borrow().captures;
        world.change(|world| world.moves = 1);
        pass(trap, &world, 6_000);
        world.0.borrow().captures - before
    };
    assert_eq!(shoot(&mut trap, &|_| ()), 3);
    assert_eq!(shoot(&mut trap, &|world| world.battery = Some(30)), 2);
    assert_eq!(shoot(&mut trap, &|world| world.battery = Some(20)), 1);
    assert!(world.failures().last().unwrap().error.contains("saving energy"));
    assert_eq!(shoot(&mut trap, &|world| world.battery = Some(5)), 0);
    assert_eq!(trap.missed(), 1);
    assert_eq!(shoot(&mut trap, &|world| world.battery = Some(80)), 3);
    assert_eq!(shoot(&mut trap, &|world| world.celsius = 70.0), 2);
    let levels: Vec<_> = world
        .events()
        .into_iter()
        .filter_map(
            |event| if let Event::Activity { level, reason } = event { Some((level, reason)) } else { None },
        )
        .collect();
    let battery = ActivityReason::Battery;
    assert_eq!(
        levels,
        [
            (Activity::Reduced, battery),
            (Activity::PicturesOnly, battery),
            (Activity::Minimal, battery),
            (Activity::Full, ActivityReason::Recovered),
            (Activity::Reduced, ActivityReason::Temperature),
        ]
    );
    assert!(world.kinds().contains(&"triggers_missed"));
}

#[test]
fn time_lapse_room_and_the_clock_are_looked_after() {
    let (mut trap, world) = tree(Settings { frames: 1, timelapse_ms: Some(60_000), ..settings() });
    pass(&mut trap, &world, 200_000);
    assert_eq!(world.0.borrow().captures, 3);
    assert_eq!(world.prediction().time.source, TimeSource::SinceBoot);
    world.change(|world| (world.free, world.utc) = (500, Some(1_795_435_200_000)));
    pass(&mut trap, &world, 120_000);
    let set = world.events().into_iter().find_map(|event| match event {
        Event::ClockSet { boot, monotonic_ms, utc_ms, .. } => Some((boot, monotonic_ms, utc_ms)),
        _ => None,
    });
    let (boot, monotonic_ms, utc_ms) = set.unwrap();
    assert_eq!((boot, utc_ms), (7, 1_795_435_200_000));
    assert!((200_000..206_000).contains(&monotonic_ms), "{monotonic_ms}");
    assert_eq!(world.kinds().iter().filter(|kind| **kind == "storage_low").count(), 1);
    assert!(world.0.borrow().kept.last().unwrap().starts_with("20261123T"));
}

#[test]
fn a_full_queue_is_counted_and_said() {
    // Every step that classifies is preceded by a trigger: pictures come faster than the model.
    let (mut trap, world) = tree(Settings { frames: 1, flash_warm_up_ms: None, ..settings() });
    world.change(|world| world.moves = 30);
    for _ in 0..200 {
        let _ = trap.step();
    }
    pass(&mut trap, &world, 10_000);
    let missed: u32 = world
        .events()
        .iter()
        .map(|event| if let Event::TriggersMissed { count, .. } = event { *count } else { 0 })
        .sum();
    let pictures = world.0.borrow().entries.iter().filter(|entry| !matches!(entry, Entry::Event(_))).count();
    assert!(missed > 0);
    assert_eq!(pictures as u32 + missed, 30);
}

/// Something that happens to the trap.
#[derive(Clone, Copy, Debug)]
enum Act {
    Move(u32),
    Steps(u8),
    Pass(u64),
    Camera(bool),
    Sensor(bool),
    Flash(bool),
    Store(bool),
    Keep(bool),
    Picture(u8),
    Battery(u8),
    Celsius(f32),
    Free(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (1u32..5).prop_map(Act::Move),
        4 => (1u8..60).prop_map(Act::Steps),
        3 => (1u64..20_000).prop_map(Act::Pass),
        2 => any::<bool>().prop_map(Act::Camera),
        1 => any::<bool>().prop_map(Act::Sensor),
        2 => any::<bool>().prop_map(Act::Flash),
        2 => any::<bool>().prop_map(Act::Store),
        1 => any::<bool>().prop_map(Act::Keep),
        1 => prop_oneof![Just(0u8), Just(2), Just(255)].prop_map(Act::Picture),
        1 => (0u8..100).prop_map(Act::Battery),
        1 => (-20f32..100.0).prop_map(Act::Celsius),
        1 => (0u64..3_000).prop_map(Act::Free),
    ]
}

proptest! {
    #[test]
    fn faults_lose_nothing_and_the_trap_comes_to_rest(acts in proptest::collection::vec(act(), 1..60)) {
        let (mut trap, world) = tree(settings());
        let mut acknowledged = Vec::new();
        for act in acts {
            let steps = match act {
                Act::Steps(steps) => steps,
                Act::Pass(ms) => { world.change(|world| world.us += ms * 1000); 3 }
                _ => 1,
            };
            world.change(|world| match act {
                Act::Steps(_) | Act::Pass(_) => {}
                Act::Move(moves) => world.moves += moves,
                Act::Camera(fails) => world.camera_fails = fails,
                Act::Sensor(fails) => world.sensor_fails = fails,
                Act::Flash(fails) => world.flash_fails = fails,
                Act::Store(fails) => world.store_fails = fails,
                Act::Keep(fails) => world.keep_fails = fails,
                Act::Picture(first) => world.picture = first,
                Act::Battery(percent) => world.battery = Some(percent),
                Act::Celsius(celsius) => world.celsius = celsius,
                Act::Free(free) => world.free = free,
            });
            for _ in 0..steps {
                if let Ok(Step::Recorded(entry)) = trap.step() {
                    acknowledged.push(*entry);
                }
                world.change(|world| world.us += 3_000);
                let world = world.0.borrow();
                prop_assert!(!world.flash_high || trap.is_flash_on() || world.flash_fails, "the flash burns");
            }
        }
        // everything works again, and nothing moves
        world.change(|world| {
            (world.camera_fails, world.sensor_fails, world.flash_fails) = (false, false, false);
            (world.store_fails, world.keep_fails, world.moves) = (false, false, 0);
            (world.battery, world.celsius) = (Some(100), 20.0);
        });
        for _ in 0..5_000 {
            if let Ok(Step::Recorded(entry)) = trap.step() {
                acknowledged.push(*entry);
            }
            world.change(|world| world.us += 100_000);
        }
        prop_assert!(trap.is_idle());
        let world = world.0.borrow();
        prop_assert!(!world.flash_high, "the flash burns");
        prop_assert_eq!(&world.entries, &acknowledged);
        let seqs: Vec<u64> = acknowledged.iter().map(Entry::seq).collect();
        prop_assert_eq!(seqs, (0..acknowledged.len() as u64).collect::<Vec<_>>());
        // every trigger has its entry, or is counted in one
        let told: u32 = acknowledged.iter().map(|entry| match entry {
            Entry::Event(EventRecord { event: Event::TriggersMissed { count, .. }, .. }) => *count,
            Entry::Event(_) => 0,
            _ => 1,
        }).sum();
        prop_assert_eq!(told + trap.missed(), world.triggers);
    }
}

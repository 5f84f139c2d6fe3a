//! The trap at a tree: `csp-device run --config trap.toml`. Whatever a part does, the run goes on; each
//! fault is an entry that the reviewer sees.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::Context;
use csp_models::{
    bundle::write_atomically,
    record::{Entry, Event},
};
use embedded_hal::{delay::DelayNs, digital::OutputPin};

use super::{
    Exit,
    config::refuse,
    diary::{Diary, DiaryError},
    explain, ignore_closed_pipe, open_model,
    run::{BoardClock, RunArgs, Sleep, Tally, build, report},
};
use crate::{
    board::{Sensors, gpio, lamp},
    camera::BoardCamera,
    config::{CameraKind, TrapConfig},
    desk::Desk,
    gps::{DutyConfig, Gps, Remembered},
    health::{DeviceWatchdog, Feeder, Starts, last_words},
    infer::Engine,
    privacy::Privacy,
    receiver::{Heard, Source, build_day},
    store::Identity,
    trap::{Camera, Clock, Kit, Parts, PictureFile, Settings, Step, Trap, Trigger},
};

/// Runs the trap of a configuration until `stop` is set (or, with `--once`, its folder is done).
///
/// # Errors
/// The state folder or the camera's folder cannot be used, or another csp-device runs this trap.
pub(super) fn run(
    path: &Path,
    args: &RunArgs,
    stop: &AtomicBool,
    out: &mut dyn Write,
) -> anyhow::Result<(Exit, Tally)> {
    let (config, digest) = match TrapConfig::read(path) {
        Ok((config, digest)) => (overridden(config, args), digest),
        Err(error) => return Ok((refuse(&error), Tally::default())),
    };
    // The watchdog first: what follows may hang as well.
    let mut faults = Vec::new();
    let dog = config.watchdog.device.as_deref().and_then(|device| {
        let opened = DeviceWatchdog::open(device);
        opened.map_err(|error| faults.push(format!("watchdog {}: {error}", device.display()))).ok()
    });
    let clock = BoardClock::start(0);
    let now = |clock: &BoardClock| clock.monotonic_us() / 1000;
    let mut feeder =
        dog.map(|dog| Feeder::new(dog, (config.watchdog.deadline_s * 1000.0) as u64, now(&clock)));

    let _lock = lock(&config.store.state)?;
    let (start, mut starts, counted) = Starts::begin(&config.store.state);
    if let Err(error) = counted {
        faults.push(format!("{}: {error}; starts are not counted", config.store.state.display()));
    }
    last_words::install(starts.words().into());
    let clock = clock.of_boot(start.boot);
    let safe_mode = start.safe_mode(config.watchdog.boot_loop);

    // In safe mode the model is not even opened: it may be what brings the trap down.
    let model = match &safe_mode {
        Some(reason) => Err(format!("safe mode: {reason}")),
        None => open_model(&config.model.path, config.model.engine(), &config.model.trust())
            .map_err(|error| explain(&error)),
    };
    let (model_digest, engine) = match model {
        Ok((digest, engine)) => (digest, Ok(engine)),
        Err(problem) => {
            note!("model: {problem}; pictures are recorded unclassified");
            ([0; 32], Err(problem))
        }
    };
    let identity = Identity {
        device: config.trap.name.clone(),
        deployment: config.trap.deployment.clone(),
        build: build(),
        model_digest,
    };
    let privacy = Privacy::new(&config.privacy)?;
    let labels = engine.as_ref().ok().map(|engine| &engine.manifest().labels);
    let company = labels.map_or_else(Vec::new, |labels| privacy.groups(labels));
    faults.extend(privacy.doubts(labels, config.site.place().is_some()));
    let (diary, done) = Diary::open(&config.store.dir, identity, config.store.limits(), privacy.clone())?;
    let (mut gps, receiver) = receiver(&config, args, &mut faults);
    let place = config.store.state.join("place");
    if privacy.seals_places() {
        // From before there was a key: who takes the card is not to read there where it hung.
        forget_place(&place, &mut faults);
    } else {
        recall(&mut gps, &place, &clock);
    }

    let (desk, camera) = match BoardCamera::of(&config.camera) {
        Some(camera) => (None, FieldCamera::Board(camera)),
        None => {
            let folder = config.camera.folder.as_deref().unwrap_or(Path::new(""));
            let desk =
                Desk::open(folder, done).with_context(|| format!("camera.folder {}", folder.display()))?;
            (Some(desk.clone()), FieldCamera::Desk(desk))
        }
    };
    let trigger = match (&desk, config.trigger.line) {
        (Some(desk), _) => FieldTrigger::Desk(desk.clone()),
        (None, Some(_)) => FieldTrigger::Motion(MotionLine::new(&config)),
        (None, None) => FieldTrigger::None,
    };
    let mut settings = Settings { safe_mode: safe_mode.is_some(), ..config.settings() };
    if desk.is_some() {
        // A file is a trigger: there is no burst, and nothing to light.
        settings =
            Settings { frames: 1, flash_warm_up_ms: None, timelapse_ms: None, cool_down_ms: 0, ..settings };
    }
    let mut output = |name: &str, chip: &Path, line: Option<u32>| {
        let opened = line.map_or_else(|| Ok(gpio::Output::none()), |line| gpio::Output::open(chip, line));
        opened.unwrap_or_else(|error| {
            faults.push(format!("{name}: {error}; going on without it"));
            gpio::Output::none()
        })
    };
    let flash = output("flash", &config.flash.chip, config.flash.line);
    let power = output("receiver's supply", &config.gps.power_chip, config.gps.power_line);
    let mut light = output("lamp", &config.leds.chip, config.leds.line);
    let allowed = engine.as_ref().map(|engine| config.site.allowed(&engine.manifest().labels));
    let allowed = allowed.unwrap_or(Ok(None)).unwrap_or_else(|problem| {
        // A wrong list is no reason to record nothing.
        faults.push(format!("{problem}; every species is allowed"));
        None
    });
    let parts = Parts {
        trigger,
        camera,
        flash,
        receiver,
        power,
        classifier: engine.as_ref().map_err(Clone::clone),
        store: diary,
        clock,
        board: Sensors::new(&config.energy.power_supply, &config.energy.thermal),
    };
    let mut trap: FieldTrap<'_> = Trap::new(parts, gps, settings);
    trap.allow(allowed);
    trap.suppress(company, privacy.suppression());

    trap.tell(Event::Started { after: start.after, config_sha256: Some(digest) });
    if let Some(message) = start.words {
        trap.tell(Event::Panicked { message });
    }
    if let Some(reason) = safe_mode {
        note!("safe mode: {reason}");
        trap.tell(Event::SafeMode { reason });
    }
    for fault in faults {
        note!("{fault}");
        trap.tell(Event::Note { text: fault });
    }

    let show_ms = (config.leds.minutes * 60_000.0) as u64;
    let mut lit = None;
    let mut said = String::new();
    let mut tally = Tally::default();
    while !stop.load(Ordering::Relaxed) {
        let step = trap.step();
        let now = now(&clock);
        match &step {
            Ok(Step::Recorded(entry)) => {
                tally.count(entry);
                ignore_closed_pipe(report(entry, args.json, out))?;
                if matches!(&**entry, Entry::Event(event) if matches!(event.event, Event::Panicked { .. })) {
                    last_words::forget(starts.words());
                }
            }
            Ok(Step::Idle) if args.once && desk.as_ref().is_none_or(Desk::is_settled) => break,
            Ok(Step::Idle | Step::Waiting) => trap.rest(&mut Sleep),
            Ok(Step::Working) => {}
            Err(DiaryError::JustOpened) => {}
            Err(error) => {
                let problem = error.to_string();
                if problem != said {
                    note!("store: {problem}; entries wait");
                    said = problem;
                }
                anyhow::ensure!(!args.once, "store.dir: {said}");
            }
        }
        // A full card is waited for in good health: only work that does not get on starves the watchdog.
        let resting = matches!(step, Ok(Step::Idle | Step::Waiting) | Err(_));
        if let Some(feeder) = &mut feeder
            && let Err(error) = feeder.turn(now, trap.progress(), resting)
        {
            note!("watchdog: {error}");
        }
        if let Err(error) = starts.live(now) {
            note!("{}: {error}", config.store.state.display());
        }
        let shines = lamp::shines(trap.health(), now, show_ms);
        if lit != Some(shines) {
            lit = Some(shines);
            // A lamp that fails is no reason for anything.
            let _ = if shines { light.set_high() } else { light.set_low() };
        }
        if let Some(place_known) = trap.remember().filter(|_| !privacy.seals_places()) {
            keep_place(&place, &place_known);
        }
        if let Some(fault) = trap.take_receiver_fault() {
            note!("{fault}; going on without it");
        }
        if let Some(fault) = desk.as_ref().and_then(Desk::take_fault) {
            note!("{fault}; looking again");
        }
    }
    // A panic that was caught (a network's) has left its words, too.
    if let Some(words) = last_words::read(starts.words()) {
        trap.tell(Event::Note { text: format!("a panic was survived: {words}") });
        last_words::forget(starts.words());
    }
    trap.tell(Event::Stopped);
    finish(&mut trap, args, out, &mut tally)?;
    let _ = light.set_low();
    if let Err(error) = starts.stop() {
        note!("{}: {error}", config.store.state.display());
    }
    if let Some(Err(error)) = feeder.map(Feeder::disarm) {
        note!("watchdog: {error}; the board may restart");
    }
    let Tally { predictions, failures } = tally;
    note!("{predictions} classified, {failures} failed, records in {}", config.store.dir.display());
    Ok((Exit::Done, tally))
}

/// Finishes what is under way; a store that takes nothing is not waited for.
fn finish(
    trap: &mut FieldTrap<'_>,
    args: &RunArgs,
    out: &mut dyn Write,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    const MOST: Duration = Duration::from_secs(10);
    let start = Instant::now();
    while !trap.is_idle() && start.elapsed() < MOST {
        match trap.step() {
            Ok(Step::Recorded(entry)) => {
                tally.count(&entry);
                let stopped = matches!(&*entry, Entry::Event(event) if event.event == Event::Stopped);
                ignore_closed_pipe(report(&entry, args.json, out))?;
                if stopped {
                    break;
                }
            }
            Ok(Step::Working) => {}
            Ok(Step::Idle | Step::Waiting) => Sleep.delay_ms(5),
            Err(error) => {
                note!("store: {error}; the last entries are lost");
                break;
            }
        }
    }
    Ok(())
}

/// The command line goes before the file.
fn overridden(mut config: TrapConfig, args: &RunArgs) -> TrapConfig {
    if let Some(folder) = &args.desk {
        config.camera.kind = CameraKind::Folder;
        config.camera.folder = Some(folder.clone());
    }
    if let Some(site) = args.site {
        (config.site.lat, config.site.lon) = (Some(site.lat()), Some(site.lon()));
    }
    if !args.name.is_empty() {
        config.trap.name.clone_from(&args.name);
    }
    if !args.deployment.is_empty() {
        config.trap.deployment.clone_from(&args.deployment);
    }
    config.gps.port = args.nmea.clone().or(config.gps.port);
    config.model.path = args.model.clone().unwrap_or(config.model.path);
    config.model.prefer_f32 |= args.prefer_f32;
    config.model.trust.extend(args.trust.iter().map(ToString::to_string));
    if args.threads != 0 {
        config.model.threads = args.threads;
    }
    config.store.dir = args.store.clone().unwrap_or(config.store.dir);
    config
}

/// One trap a state folder: two would count each other's starts and shoot each other's flash.
fn lock(state: &Path) -> anyhow::Result<Option<File>> {
    let path = state.join("lock");
    let opened = fs::create_dir_all(state)
        .and_then(|()| OpenOptions::new().create(true).truncate(false).write(true).open(&path));
    match opened.map(|file| (file.try_lock(), file)) {
        Ok((Ok(()), file)) => Ok(Some(file)),
        Ok((Err(TryLockError::WouldBlock), _)) => {
            anyhow::bail!("store.state {}: in use by another csp-device", state.display())
        }
        // A card that is read-only has no second writer either.
        Ok((Err(TryLockError::Error(error)), _)) | Err(error) => {
            note!("{}: {error}; going on without a lock", path.display());
            Ok(None)
        }
    }
}

fn receiver(config: &TrapConfig, args: &RunArgs, faults: &mut Vec<String>) -> (Gps, Heard) {
    let site = config.site.place();
    let Some(port) = &config.gps.port else { return (Gps::new(site, None), Heard::none()) };
    let opened = Source::find(port).and_then(|source| {
        note!("receiver: {source}");
        let serial = matches!(source, Source::Serial { .. });
        source.open(site, args.nmea_rate).map(|(gps, heard)| (serial, gps, heard))
    });
    match opened {
        Ok((serial, gps, heard)) => {
            // What is not a port has no supply to save.
            let gps =
                if serial && config.gps.duty_cycle { gps.with_duty(DutyConfig::default()) } else { gps };
            (gps, heard)
        }
        Err(error) => {
            faults.push(format!("gps.port: {error}; going on without a receiver"));
            (Gps::new(site, Some(build_day())), Heard::none())
        }
    }
}

fn recall(gps: &mut Gps, path: &Path, clock: &BoardClock) {
    let Ok(bytes) = fs::read(path) else { return };
    match Remembered::from_bytes(&bytes) {
        Ok(place) => gps.recall(&place, clock.utc_millis(), clock.monotonic_us() / 1000),
        Err(error) => note!("{}: {error}", path.display()),
    }
}

fn forget_place(path: &Path, faults: &mut Vec<String>) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            faults.push(format!("{}: {error}; a place stands there in the clear", path.display()));
        }
        _ => {}
    }
}

fn keep_place(path: &Path, place: &Remembered) {
    if let Err(error) = write_atomically(path, |file| file.write_all(&place.to_bytes())) {
        note!("{}: {error}", path.display());
    }
}

struct FieldKit<'e>(std::marker::PhantomData<&'e Engine>);

impl<'e> Kit for FieldKit<'e> {
    type Trigger = FieldTrigger;
    type Camera = FieldCamera;
    type Flash = gpio::Output;
    type Receiver = Heard;
    type Power = gpio::Output;
    type Classifier = &'e Engine;
    type Store = Diary;
    type Clock = BoardClock;
    type Board = Sensors;
}

type FieldTrap<'e> = Trap<FieldKit<'e>>;

/// What triggers, by configuration.
enum FieldTrigger {
    Desk(Desk),
    Motion(MotionLine),
    None,
}

impl Trigger for FieldTrigger {
    type Error = String;

    fn poll(&mut self, now_ms: u64) -> Result<bool, String> {
        match self {
            Self::Desk(desk) => desk.poll(now_ms).map_err(|error| error.to_string()),
            Self::Motion(line) => line.poll(now_ms),
            Self::None => Ok(false),
        }
    }

    fn waits(&self) -> bool {
        matches!(self, Self::Desk(_))
    }
}

/// A sensor's line that is taken again when it was lost, or not there yet.
struct MotionLine {
    chip: PathBuf,
    line: u32,
    debounce_ms: u64,
    open: Result<gpio::Motion, String>,
    next_ms: u64,
}

impl MotionLine {
    const RETRY_MS: u64 = 10_000;

    fn new(config: &TrapConfig) -> Self {
        Self {
            chip: config.trigger.chip.clone(),
            line: config.trigger.line.unwrap_or_default(),
            debounce_ms: config.trigger.debounce_ms,
            open: Err("not opened yet".into()),
            next_ms: 0,
        }
    }

    fn poll(&mut self, now_ms: u64) -> Result<bool, String> {
        if self.open.is_err() && now_ms >= self.next_ms {
            self.next_ms = now_ms.saturating_add(Self::RETRY_MS);
            self.open = gpio::Motion::open(&self.chip, self.line, self.debounce_ms)
                .map_err(|error| error.to_string());
        }
        let polled = match &mut self.open {
            Ok(motion) => motion.poll(now_ms).map_err(|error| error.to_string()),
            Err(problem) => return Err(problem.clone()),
        };
        if let Err(problem) = &polled {
            self.open = Err(problem.clone());
        }
        polled
    }
}

/// What takes pictures, by configuration.
enum FieldCamera {
    Desk(Desk),
    Board(BoardCamera),
}

impl Camera for FieldCamera {
    type Error = String;

    fn capture(&mut self, frame: u8) -> Result<PictureFile, String> {
        match self {
            Self::Desk(desk) => desk.capture(frame).map_err(|error| error.to_string()),
            Self::Board(camera) => camera.capture(frame).map_err(|error| error.to_string()),
        }
    }

    fn rest(&mut self) {
        if let Self::Board(camera) = self {
            camera.rest();
        }
    }

    fn name(&self) -> Option<String> {
        match self {
            Self::Desk(desk) => desk.name(),
            Self::Board(_) => None,
        }
    }
}

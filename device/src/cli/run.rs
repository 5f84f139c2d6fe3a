//! `csp-device run`: the trap. Here on a desk, where a folder is the camera and a file or a port the
//! receiver; with a configuration in [`field`](super::field).

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use csp_models::{
    bundle::hex,
    place::LatLon,
    record::{Entry, Event, PredictionRecord},
    signature::TrustedKey,
};

use embedded_hal::delay::DelayNs;

use super::{Exit, classify::decision_text, describe, ignore_closed_pipe, open_model, parse_site};
use crate::{
    desk::Desk,
    diagnostics::own_build_id,
    gps::Gps,
    infer::{Engine, EngineOptions},
    receiver::{Heard, Source, build_day},
    store::{Identity, Recovery, Store},
    trap::{Clock, Kit, NoPin, NoSensors, Parts, Settings, Step, Trap},
};

/// Run the trap: with --config on a board, else every picture that appears in a folder is classified and recorded.
///
/// With --config the trap keeps a diary besides: starts, faults, fixes, battery and heat become records, and
/// no fault ends the run. What is given here as well overrides the configuration.
///
/// Each picture is recorded exactly once, across restarts: what the store has by name and SHA-256 is
/// not done again. A receiver that talks nonsense stops nothing: the records say that no place was known,
/// and a recording without one sentence ends the run with exit code 1. Time is the receiver's UTC once it has a fix, else this computer's clock. Ends
/// with Ctrl-C, or with --once when the folder is done.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// The trap's configuration; `csp-device config --print` writes one with explanations.
    #[arg(long, value_name = "trap.toml")]
    pub config: Option<PathBuf>,

    /// The folder that stands for the camera: .jpg, .jpeg and .png files in it are triggers.
    #[arg(long, value_name = "DIR", required_unless_present = "config")]
    pub desk: Option<PathBuf>,

    /// The receiver: an NMEA file, a pipe, `-`, or a serial port (`/dev/ttyUSB0`, `/dev/ttyS0:4800`).
    ///
    /// A file is read to its end before the first picture: the place is that of its end.
    #[arg(long, value_name = "FILE|PORT[:BAUD]")]
    pub nmea: Option<String>,

    /// Replay an NMEA file at this multiple of real time, while pictures are taken.
    #[arg(long, value_name = "FACTOR", requires = "nmea")]
    pub nmea_rate: Option<f64>,

    /// Seconds to wait for a fix before the first picture, when the receiver is heard live.
    #[arg(long, default_value_t = 3.0, value_name = "SECONDS")]
    pub wait_fix: f64,

    /// The model: a .cspm file or a folder of the same files.
    #[arg(long, value_name = "MODEL", required_unless_present = "config")]
    pub model: Option<PathBuf>,

    /// Run only a model that one of these minisign public keys signed (RW…); repeat it for several.
    #[arg(long, value_name = "KEY")]
    pub trust: Vec<TrustedKey>,

    /// The folder the records go to; it is made when missing. `csp-host logs show` reads it.
    #[arg(long, value_name = "DIR", required_unless_present = "config")]
    pub store: Option<PathBuf>,

    /// Where the trap hangs, for when the receiver has no fix.
    #[arg(long, value_name = "LAT,LON", allow_hyphen_values = true, value_parser = parse_site)]
    pub site: Option<LatLon>,

    /// Name of the trap in its records; left out, that of the configuration, or `desk`.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
    pub name: String,

    /// Deployment (site and season) in its records.
    #[arg(long, default_value = "", value_name = "NAME")]
    pub deployment: String,

    /// Classify what is in the folder and stop.
    #[arg(long)]
    pub once: bool,

    /// Run the f32 image network beside an int8 one; refused where the bundle was exported without it.
    #[arg(long)]
    pub prefer_f32: bool,

    /// Threads that share an int8 network, whatever their number with the same answers; 0: one for each
    /// core.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub threads: usize,

    /// Each record as a line of JSON on stdout.
    #[arg(long)]
    pub json: bool,
}

impl RunArgs {
    /// A folder, a model and a store, every option at its default.
    pub fn new(desk: &Path, model: &Path, store: &Path) -> Self {
        Self {
            config: None,
            desk: Some(desk.into()),
            nmea: None,
            nmea_rate: None,
            wait_fix: 3.0,
            model: Some(model.into()),
            trust: Vec::new(),
            store: Some(store.into()),
            site: None,
            name: String::new(),
            deployment: String::new(),
            once: false,
            prefer_f32: false,
            threads: 0,
            json: false,
        }
    }
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Pictures classified and recorded.
    pub predictions: u64,
    /// Pictures that could not be classified, recorded as failures.
    pub failures: u64,
}

impl Tally {
    pub(super) fn count(&mut self, entry: &Entry) {
        match entry {
            Entry::Prediction(_) => self.predictions += 1,
            Entry::Failure(_) => self.failures += 1,
            Entry::Event(_) => {}
        }
    }
}

/// Runs the verb until `stop` is set or, with `--once`, the folder is done. Records go to the store,
/// lines about them to `out` (JSON) or stderr.
///
/// # Errors
/// The model is refused, a folder or the receiver does not open, or the store does not take a record.
pub fn run(args: &RunArgs, stop: &AtomicBool, out: &mut dyn Write) -> anyhow::Result<(Exit, Tally)> {
    let within = |value: f64| value.is_finite() && value >= 0.0;
    if args.nmea_rate.is_some_and(|rate| !within(rate) || rate == 0.0) || !within(args.wait_fix) {
        note!("error: --nmea-rate must be above 0 and --wait-fix 0 or more");
        return Ok((Exit::Usage, Tally::default()));
    }
    if let Some(config) = &args.config {
        return super::field::run(config, args, stop, out);
    }
    let (Some(desk_dir), Some(model), Some(store_dir)) = (&args.desk, &args.model, &args.store) else {
        note!("error: without --config, --desk, --model and --store are needed");
        return Ok((Exit::Usage, Tally::default()));
    };
    let options =
        EngineOptions { prefer_f32: args.prefer_f32, threads: args.threads, ..EngineOptions::default() };
    let (digest, engine) = open_model(model, options, &args.trust)?;
    let identity = Identity {
        device: if args.name.is_empty() { "desk".into() } else { args.name.clone() },
        deployment: args.deployment.clone(),
        build: build(),
        model_digest: digest,
    };
    // The receiver before the store: a wrong port leaves no empty store behind.
    let (gps, receiver) = match &args.nmea {
        None => (Gps::new(args.site, None), Heard::none()),
        Some(text) => {
            let source = Source::find(text).context("--nmea")?;
            note!("receiver: {source}");
            source.open(args.site, args.nmea_rate).context("--nmea")?
        }
    };
    // Only a recording has been heard to its end here.
    let mut nonsense = None;
    if let Some(name) = args.nmea.as_ref().filter(|_| !receiver.is_open()) {
        let (used, dropped) = gps.sentences();
        nonsense = (used == 0).then_some((name, dropped));
        let fix = if gps.has_fix() { "" } else { ", no fix in it" };
        note!("receiver: {used} sentences used, {dropped} damaged{fix}");
    }
    Desk::open(desk_dir, Default::default()).with_context(|| format!("--desk {}", desk_dir.display()))?;
    let (store, recovery) = Store::open(store_dir, identity).context("--store")?;
    report_recovery(&recovery);
    let desk =
        Desk::open(desk_dir, recovery.done).with_context(|| format!("--desk {}", desk_dir.display()))?;

    let live = receiver.is_open();
    let clock = BoardClock::start(0);
    if engine.is_seasonal() && clock.utc_millis().is_none() {
        note!(
            "clock: never set; until the receiver gives the date, places are judged by their mean over the \
             year (records stamped boot+…)"
        );
    }
    let parts = Parts {
        trigger: desk.clone(),
        camera: desk.clone(),
        flash: NoPin,
        receiver,
        power: NoPin,
        classifier: Ok(&engine),
        store,
        clock,
        board: NoSensors,
    };
    let mut trap = Trap::new(parts, gps, Settings::desk());
    if live {
        wait_for_fix(&mut trap, args.wait_fix, stop);
    }
    let tally = watch(&mut trap, &desk, args, stop, out)?;
    note!("{} classified, {} failed, records in {}", tally.predictions, tally.failures, store_dir.display());
    if let Some((name, dropped)) = nonsense {
        note!(
            "error: --nmea {name}: no NMEA sentence in it ({dropped} damaged); every record was made without a \
             receiver. Is it the right file, and text such as $GPRMC,…*hh?"
        );
        return Ok((Exit::Failed, tally));
    }
    Ok((Exit::Done, tally))
}

/// A folder as the camera, a model, no board.
struct DeskKit<'e>(std::marker::PhantomData<&'e Engine>);

impl<'e> Kit for DeskKit<'e> {
    type Trigger = Desk;
    type Camera = Desk;
    type Flash = NoPin;
    type Receiver = Heard;
    type Power = NoPin;
    type Classifier = &'e Engine;
    type Store = Store;
    type Clock = BoardClock;
    type Board = NoSensors;
}

type DeskTrap<'e> = Trap<DeskKit<'e>>;

fn watch(
    trap: &mut DeskTrap<'_>,
    desk: &Desk,
    args: &RunArgs,
    stop: &AtomicBool,
    out: &mut dyn Write,
) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    while !stop.load(Ordering::Relaxed) {
        match trap.step().context("--store")? {
            Step::Working => {}
            Step::Recorded(entry) => {
                tally.count(&entry);
                ignore_closed_pipe(report(&entry, args.json, out))?;
            }
            Step::Idle if args.once && desk.is_settled() => break,
            Step::Idle | Step::Waiting => trap.rest(&mut Sleep),
        }
        if let Some(fault) = trap.take_receiver_fault() {
            note!("{fault}; going on without it");
        }
        if let Some(fault) = desk.take_fault() {
            anyhow::ensure!(!args.once, "--desk: {fault}");
            note!("{fault}; looking again");
        }
    }
    Ok(tally)
}

fn wait_for_fix(trap: &mut DeskTrap<'_>, seconds: f64, stop: &AtomicBool) {
    let start = Instant::now();
    while !trap.gps().has_fix() && start.elapsed().as_secs_f64() < seconds && !stop.load(Ordering::Relaxed) {
        trap.rest(&mut Sleep);
    }
    if !trap.gps().has_fix() {
        note!("receiver: no fix yet");
    }
}

/// Version and build id of this program, for the header of its records: the build id names the ELF that
/// decodes its diagnostics.
pub(super) fn build() -> String {
    const VERSION: &str = concat!("csp-device ", env!("CARGO_PKG_VERSION"));
    match own_build_id() {
        id if id.is_empty() => VERSION.into(),
        id => format!("{VERSION} {id}"),
    }
}

/// The delay of a computer with an operating system.
pub(super) struct Sleep;

impl DelayNs for Sleep {
    fn delay_ns(&mut self, ns: u32) {
        thread::sleep(Duration::from_nanos(ns.into()));
    }
}

pub(super) fn report_recovery(recovery: &Recovery) {
    if recovery.entries > 0 {
        note!("store: {} records from before", recovery.entries);
    }
    if recovery.torn_bytes > 0 {
        note!("store: the last write was interrupted; {} bytes of it were cut off", recovery.torn_bytes);
    }
    if recovery.damaged > 0 {
        note!("store: {} damaged records were skipped", recovery.damaged);
    }
}

pub(super) fn report(entry: &Entry, json: bool, out: &mut dyn Write) -> io::Result<()> {
    if json {
        writeln!(out, "{}", json_line(entry)?)?;
        return out.flush();
    }
    match entry {
        Entry::Prediction(PredictionRecord {
            seq,
            time,
            image,
            place,
            decision,
            provenance,
            latency,
            ..
        }) => {
            let total = latency.decode_ms + latency.image_ms + latency.prior_ms;
            let (decision, place) = (decision_text(decision), describe(place.as_ref()));
            note!(
                "#{seq} {time} {image}: {decision} ({}), place {place}, {total:.0} ms",
                provenance.as_str()
            );
        }
        Entry::Failure(failure) => {
            note!("#{} {} {}: not classified: {}", failure.seq, failure.time, failure.image, failure.error);
        }
        Entry::Event(event) => note!("#{} {} {}", event.seq, event.time, event_text(&event.event)?),
    }
    Ok(())
}

/// An event in a line: its kind, and its fields as JSON.
fn event_text(event: &Event) -> serde_json::Result<String> {
    let mut value = serde_json::to_value(event)?;
    if let Some(digest) = value.pointer_mut("/started/config_sha256").filter(|digest| digest.is_array()) {
        // 64 letters tell a person nothing
        *digest = serde_json::Value::Null;
    }
    Ok(match value {
        serde_json::Value::Object(kinds) => {
            kinds.into_iter().map(|(kind, fields)| format!("{kind} {fields}")).collect::<String>()
        }
        _ => event.kind().to_string(),
    })
}

/// An entry as JSON, its digest in hex.
fn json_line(entry: &Entry) -> serde_json::Result<serde_json::Value> {
    let digest = match entry {
        Entry::Prediction(record) => Some(record.image_sha256),
        Entry::Failure(record) => record.image_sha256,
        Entry::Event(_) => None,
    };
    let mut value = serde_json::to_value(entry)?;
    if let Some(digest) = digest {
        for fields in value.as_object_mut().into_iter().flat_map(|kinds| kinds.values_mut()) {
            fields["image_sha256"] = hex(&digest).into();
        }
    }
    Ok(value)
}

/// This computer's clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct BoardClock {
    start: Instant,
    boot: u32,
}

impl BoardClock {
    /// Starts counting; `boot` is the count of starts.
    pub(super) fn start(boot: u32) -> Self {
        Self { start: Instant::now(), boot }
    }

    /// The same clock, its start now counted.
    pub(super) fn of_boot(self, boot: u32) -> Self {
        Self { boot, ..self }
    }
}

impl Clock for BoardClock {
    fn monotonic_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// A clock that stands before the firmware was made was never set.
    fn utc_millis(&self) -> Option<i64> {
        let millis = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()?;
        (millis >= build_day() * 86_400_000).then_some(millis)
    }

    fn boot(&self) -> u32 {
        self.boot
    }
}

//! From the trigger to the durable record: what each stage of the trap's own state machine takes.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use csp_device::{
    gps::{Gps, NoReceiver},
    infer::{Engine, EngineOptions, InferError},
    store::{Identity, Store as Segments, StoreError},
    trap::{
        Camera, Classifier, Clock, Decoded, Kept, Kit, NoPin, NoSensors, Parts, PictureFile, Settings, Shot,
        Step, Store, Trap, Trigger, View,
    },
};
use csp_models::{
    fusion::{Fusion, Thresholds},
    labels::Labels,
    picture::{RgbImage, encode_jpeg},
    place::LatLon,
    record::Entry,
    situation::Situation,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::decode::peak_kib;

/// Pictures of a trap, by name and size in pixels.
const SIZES: [Named; 2] = [("1080p", (1920, 1080)), ("12 MP", (4000, 3000))];

/// Median time of each stage from trigger to durable record, and peak memory, at 1080p and 12 MP, f32 and int8.
///
/// The camera is a JPEG at hand: what a camera itself takes is its own. Every configuration has a process of
/// its own.
#[derive(Debug, clap::Args)]
pub struct TrapArgs {
    /// The model, with f32 beside int8 (`csp-tools random-bundle --location 256`).
    model: PathBuf,
    /// Triggers; the first is left out of the medians.
    #[arg(long, default_value_t = 30)]
    events: u32,
    /// Folder for the stores, on the medium to be measured.
    #[arg(long, default_value = ".", value_name = "DIR")]
    disk: PathBuf,
    /// Threads of the int8 network; 0: one for each core.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
    /// What the child process does.
    #[arg(long, hide = true)]
    child: Option<usize>,
}

/// Runs the verb.
///
/// # Errors
/// The model is refused, or the disk does not take the stores.
pub fn run(args: &TrapArgs) -> Result<()> {
    if let Some(index) = args.child {
        let ((_, size), prefer_f32) = configuration(index).context("no such configuration")?;
        println!("{}", measure(args, size, prefer_f32)?);
        return Ok(());
    }
    // Made here: the memory it takes is not the trap's.
    for (_, size) in SIZES {
        fs::write(picture_path(&args.disk, size), picture_file(size)?)?;
    }
    let rows = measure_all(args);
    for (_, size) in SIZES {
        fs::remove_file(picture_path(&args.disk, size))?;
    }
    let rows = rows?;
    if args.json {
        println!("{}", json!({ "events": args.events, "threads": args.threads, "rows": rows }));
        return Ok(());
    }
    print(&rows);
    Ok(())
}

fn measure_all(args: &TrapArgs) -> Result<Vec<Value>> {
    let mut rows = Vec::new();
    for index in 0.. {
        let Some(((name, _), prefer_f32)) = configuration(index) else { break };
        let mut row = spawn(args, index)?;
        row["picture"] = name.into();
        row["network"] = if prefer_f32 { "f32" } else { "int8" }.into();
        rows.push(row);
    }
    Ok(rows)
}

fn print(rows: &[Value]) {
    let stages = ["hash", "keep", "decode", "image", "prior", "append", "total"];
    println!("| picture | network | {} | peak MiB |", stages.map(|stage| format!("{stage} ms")).join(" | "));
    println!("|---|---|{}---|", "---|".repeat(stages.len()));
    for row in rows {
        let times =
            stages.map(|stage| format!("{:.1}", row["median_ms"][stage].as_f64().unwrap_or(f64::NAN)));
        let peak = row["peak_kib"].as_f64().unwrap_or(f64::NAN) / 1024.0;
        let (picture, network) = (row["picture"].as_str(), row["network"].as_str());
        println!(
            "| {} | {} | {} | {peak:.1} |",
            picture.unwrap_or_default(),
            network.unwrap_or_default(),
            times.join(" | ")
        );
    }
}

/// A picture's name, and its width and height.
type Named = (&'static str, (u32, u32));

/// Picture and whether f32 runs, of the configuration with that number.
fn configuration(index: usize) -> Option<(Named, bool)> {
    Some((*SIZES.get(index / 2)?, index.is_multiple_of(2)))
}

fn spawn(args: &TrapArgs, index: usize) -> Result<Value> {
    let output = Command::new(std::env::current_exe()?)
        .args(["bench", "trap"])
        .arg(&args.model)
        .args(["--child", &index.to_string(), "--events", &args.events.to_string()])
        .args(["--threads", &args.threads.to_string(), "--disk"])
        .arg(&args.disk)
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Times of a stage, one an event.
type Times = Rc<RefCell<BTreeMap<&'static str, Vec<Duration>>>>;

fn timed<T>(times: &Times, stage: &'static str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    times.borrow_mut().entry(stage).or_default().push(start.elapsed());
    result
}

fn measure(args: &TrapArgs, size: (u32, u32), prefer_f32: bool) -> Result<Value> {
    let picture = fs::read(picture_path(&args.disk, size))?;
    let options = EngineOptions { prefer_f32, threads: args.threads, ..EngineOptions::default() };
    let (model_digest, engine) = Engine::open(&args.model, options, &[])?;
    let dir = args.disk.join(format!(".bench-trap-{}", std::process::id()));
    let identity = Identity {
        device: "bench".into(),
        deployment: String::new(),
        build: "csp-tools".into(),
        model_digest,
    };
    let (store, _) = Segments::open(&dir, identity)?;
    let times = Times::default();
    let moves = Rc::new(RefCell::new(args.events));
    let triggered = Rc::new(RefCell::new(Instant::now()));
    let parts: Parts<Bench<'_>> = Parts {
        trigger: Moves(Rc::clone(&moves), Rc::clone(&triggered)),
        camera: AtHand(picture, Rc::clone(&times)),
        flash: NoPin,
        receiver: NoReceiver,
        power: NoPin,
        classifier: Ok(Watched(&engine, Rc::clone(&times))),
        store: Card(store, Rc::clone(&times)),
        clock: SinceStart(Instant::now()),
        board: NoSensors,
    };
    let site = LatLon::new(-1.2921, 36.8219).ok();
    let mut trap = Trap::new(parts, Gps::new(site, None), Settings::desk());
    let mut recorded = 0;
    while recorded < args.events {
        if let Step::Recorded(entry) = trap.step()? {
            ensure!(matches!(*entry, Entry::Prediction(_)), "not classified: {entry:?}");
            times.borrow_mut().entry("total").or_default().push(triggered.borrow().elapsed());
            recorded += 1;
        }
    }
    drop(trap);
    fs::remove_dir_all(&dir)?;
    let median = |times: &Vec<Duration>| {
        // the first event opens files and warms caches
        let mut rest: Vec<Duration> = times.iter().skip(1).copied().collect();
        rest.sort();
        rest.get(rest.len() / 2).map(|time| time.as_secs_f64() * 1e3)
    };
    let mut medians: BTreeMap<&str, Option<f64>> =
        times.borrow().iter().filter(|(stage, _)| **stage != "prior").map(|(s, t)| (*s, median(t))).collect();
    // a trap stands still: the location network ran for the first picture alone
    let prior: Duration = times.borrow().get("prior").into_iter().flatten().sum();
    medians.insert("prior", Some(prior.as_secs_f64() * 1e3));
    Ok(json!({ "median_ms": medians, "peak_kib": peak_kib()? }))
}

fn picture_path(disk: &Path, (width, height): (u32, u32)) -> PathBuf {
    disk.join(format!(".bench-trap-{width}x{height}.jpg"))
}

/// A JPEG of that size, as busy as a picture of a wood.
fn picture_file((width, height): (u32, u32)) -> Result<Vec<u8>> {
    let level = |x: u32, y: u32| {
        let mut noise = x.wrapping_mul(374_761_393).wrapping_add(y.wrapping_mul(668_265_263));
        noise = (noise ^ (noise >> 13)).wrapping_mul(1_274_126_177);
        let wave = (f64::from(x) / 37.0).sin() * (f64::from(y) / 23.0).cos();
        (128.0 + 70.0 * wave + f64::from(noise >> 27)) as u8
    };
    let picture = RgbImage::from_fn(width, height, |x, y| {
        let level = level(x, y);
        [level, level.wrapping_add(9), level / 2].into()
    });
    Ok(encode_jpeg(&picture, 85)?)
}

struct Bench<'e>(std::marker::PhantomData<&'e Engine>);

impl<'e> Kit for Bench<'e> {
    type Trigger = Moves;
    type Camera = AtHand;
    type Flash = NoPin;
    type Receiver = NoReceiver;
    type Power = NoPin;
    type Classifier = Watched<'e>;
    type Store = Card;
    type Clock = SinceStart;
    type Board = NoSensors;
}

/// Triggers as soon as the one before is recorded.
struct Moves(Rc<RefCell<u32>>, Rc<RefCell<Instant>>);

impl Trigger for Moves {
    type Error = std::convert::Infallible;

    fn poll(&mut self, _: u64) -> Result<bool, Self::Error> {
        let mut left = self.0.borrow_mut();
        let moves = *left > 0;
        *left = left.saturating_sub(1);
        *self.1.borrow_mut() = Instant::now();
        Ok(moves)
    }

    fn waits(&self) -> bool {
        true
    }
}

/// The same picture, over and over.
struct AtHand(Vec<u8>, Times);

impl Camera for AtHand {
    type Error = std::convert::Infallible;

    fn capture(&mut self, _: u8) -> Result<PictureFile, Self::Error> {
        let bytes = self.0.clone();
        let sha256 = timed(&self.1, "hash", || Sha256::digest(&bytes).into());
        Ok(PictureFile { bytes, sha256 })
    }
}

struct Card(Segments, Times);

impl Store for Card {
    type Error = StoreError;

    fn next_seq(&self) -> u64 {
        self.0.next_seq()
    }

    fn append(&mut self, entry: &Entry) -> Result<(), StoreError> {
        timed(&self.1, "append", || self.0.append(entry))
    }

    fn keep(&mut self, shot: &Shot<'_>) -> Result<Kept, StoreError> {
        let picture = timed(&self.1, "keep", || self.0.keep(shot.name, shot.bytes))?;
        Ok(Kept { picture, sha256: shot.sha256 })
    }
}

struct Watched<'e>(&'e Engine, Times);

impl Classifier for Watched<'_> {
    type Error = InferError;

    fn decode(&mut self, name: &str, file: &[u8], view: View) -> Result<Decoded, InferError> {
        timed(&self.1, "decode", || Classifier::decode(&mut self.0, name, file, view))
    }

    fn image_logits(&mut self, pixels: &[u8]) -> Result<Vec<f32>, InferError> {
        timed(&self.1, "image", || self.0.image_logits(pixels))
    }

    fn location_logits(&mut self, situation: Situation) -> Result<Option<Vec<f32>>, InferError> {
        timed(&self.1, "prior", || Classifier::location_logits(&mut self.0, situation))
    }

    fn is_seasonal(&self) -> bool {
        Engine::is_seasonal(self.0)
    }

    fn labels(&self) -> &Labels {
        &self.0.manifest().labels
    }

    fn fusion(&self) -> &Fusion {
        &self.0.manifest().fusion
    }

    fn thresholds(&self) -> &Thresholds {
        &self.0.manifest().thresholds
    }
}

struct SinceStart(Instant);

impl Clock for SinceStart {
    fn monotonic_us(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn utc_millis(&self) -> Option<i64> {
        None
    }
}

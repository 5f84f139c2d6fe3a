//! `csp-tools rig`: the trap's own program on an emulated board, with a real kernel's drivers for camera, pins,
//! receiver, card and watchdog.
//!
//! | part | file |
//! |---|---|
//! | the story, and what has to hold | this one |
//! | kernel and programs of the board | `guest` |
//! | its root file system | `initramfs`, `init.sh` |
//! | qemu, its console and its pins | `board` |
//! | the card, read without mounting it | `card` |
//! | the receiver's sky | `receiver` |

mod board;
mod card;
mod guest;
mod initramfs;
mod receiver;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use csp_device::store;
use csp_models::{
    bundle::{hex, sha256_hex},
    picture,
    record::{Entry, Picture, PredictionRecord},
    time::TimeSource,
};
use serde::Serialize;
use serde_json::{Value, json};

use board::{Board, Hardware};
use guest::{Guest, MODULES, Missing};
use initramfs::Archive;
use receiver::{PLACE, Sky};

/// Lines of the board's GPIO; the third is its power button.
const PIR: u32 = 2;
const FLASH: u32 = 6;

/// Run the trap's program on an emulated board: boot, selftest, triggers, a power cut, a hang.
///
/// Exit code 0: all holds · 1: something does not · 4: this computer lacks qemu or cannot fetch the kernel.
#[derive(Debug, clap::Args)]
pub struct RigArgs {
    /// The program: `cargo build --release -p csp-device --target aarch64-unknown-linux-gnu`.
    #[arg(long, value_name = "FILE", default_value = "target/aarch64-unknown-linux-gnu/release/csp-device")]
    device: PathBuf,
    /// The model it runs (`csp-tools random-bundle --backbone small-cnn --width 16 --side 64 --classes 10`).
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// Folder for the kernel's packages; they are fetched once.
    #[arg(long, value_name = "DIR", default_value = "target/rig")]
    guest: PathBuf,
    /// Folder for this run's card and sockets.
    #[arg(long, value_name = "DIR", default_value = "target/rig/run")]
    out: PathBuf,
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
}

/// One thing that has to hold.
#[derive(Debug, Serialize)]
struct Check {
    what: &'static str,
    holds: bool,
    found: String,
}

/// Runs the verb.
///
/// # Errors
/// The board does not come as far as a check.
pub fn run(args: &RigArgs) -> Result<ExitCode> {
    let mut checks = Vec::new();
    match story(args, &mut checks) {
        Err(error) if error.downcast_ref::<Missing>().is_some() => {
            eprintln!("SKIPPED: no emulated board: {error:#}");
            return Ok(ExitCode::from(4));
        }
        Err(error) => {
            checks.push(Check { what: "the story to its end", holds: false, found: format!("{error:#}") })
        }
        Ok(()) => {}
    }
    let failed = checks.iter().filter(|check| !check.holds).count();
    if args.json {
        println!("{}", serde_json::to_string_pretty(&json!({ "ok": failed == 0, "checks": checks }))?);
    } else {
        for Check { what, holds, found } in &checks {
            println!("{:<6} {what}: {found}", if *holds { "ok" } else { "FAILED" });
        }
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn story(args: &RigArgs, checks: &mut Vec<Check>) -> Result<()> {
    let mut check = |what, holds, found: String| {
        eprintln!("{} {what}: {found}", if holds { "ok    " } else { "FAILED" });
        checks.push(Check { what, holds, found });
    };
    let qemu = guest::program("qemu-system-aarch64", "qemu-system-arm")?;
    let tools = card::Tools::find()?;
    fs::create_dir_all(&args.guest)?;
    let guest = Guest::find(&args.guest)?;
    let _ = fs::remove_dir_all(&args.out);
    fs::create_dir_all(&args.out)?;
    let dir = fs::canonicalize(&args.out)?;
    let initramfs = dir.join("initramfs");
    fs::write(&initramfs, root(args, &guest)?)?;
    let card = dir.join("card.img");
    tools.format(&card)?;
    let receiver = dir.join("gps");
    Sky::listen(&receiver)?;
    let hardware =
        Hardware { qemu, kernel: guest.kernel.clone(), initramfs, card, receiver, dir: dir.clone() };

    // What the console has acknowledged: sequence number → picture's digest, or nothing for an event.
    let mut acknowledged = BTreeMap::new();
    let mut trap = Trap::boot(&hardware)?;
    check("boots to its program", trap.complaints().is_empty(), trap.complaints().join("; "));
    let report = trap.selftest()?;
    for part in ["store", "model", "camera", "trigger", "flash", "receiver", "watchdog"] {
        let found = report["checks"].as_array().into_iter().flatten().find(|check| check["part"] == part);
        let found = found.context("the selftest leaves a part out")?;
        let what = match part {
            "camera" => "selftest: V4L2 camera",
            "trigger" => "selftest: motion sensor's pin",
            "flash" => "selftest: flash's pin",
            "receiver" => "selftest: receiver on a serial port",
            "watchdog" => "selftest: watchdog",
            "model" => "selftest: model",
            _ => "selftest: card",
        };
        check(what, found["status"] == "ok", found["found"].as_str().unwrap_or_default().into());
    }
    trap.start()?;
    // UTC is believed an epoch later than the place: pictures before that are dated by the board's own clock.
    let mut unknown = vec!["first_fix", "clock_set"];
    trap.entry("a first fix and UTC", &mut acknowledged, |entry| {
        unknown.retain(|kind| entry["Event"]["event"].get(kind).is_none());
        unknown.is_empty()
    })?;
    for _ in 0..3 {
        let lit = trap.trigger(&mut acknowledged)?;
        check("a trigger lights the flash and is recorded", true, lit);
    }
    // the power fails right after the last acknowledgement
    drop(trap);

    let mut trap = Trap::boot(&hardware)?;
    trap.start()?;
    trap.trigger(&mut acknowledged)?;
    let ended = trap.word("stop", "ended")?;
    check("stops when asked to", ended == "0", format!("exit code {ended}"));
    trap.board.type_line("poweroff")?;
    trap.board.wait_off(Duration::from_secs(60))?;
    let records = read_back(&tools.read_out(&hardware.card, &dir.join("found"))?, &mut check, &acknowledged)?;
    let live = records.iter().filter(|record| record.provenance.as_str() == "image+live_fix");
    let near = live.filter(|record| {
        record.time.source == TimeSource::Gps
            && record.place.is_some_and(|place| {
                (place.at.lat() - PLACE.0).abs() < 1e-4 && (place.at.lon() - PLACE.1).abs() < 1e-4
            })
    });
    let (near, all) = (near.count(), records.len());
    check("place and time are the receiver's", near >= 3, format!("of {near} of {all} pictures"));

    let mut trap = Trap::boot(&hardware)?;
    trap.start()?;
    trap.entry("the start", &mut acknowledged, |entry| entry["Event"]["event"].get("started").is_some())?;
    trap.word("hang", "hung")?;
    let (off, watchdog) = trap.board.wait_off(Duration::from_secs(180))?;
    check("the watchdog resets a program that hangs", watchdog, format!("after {:.0} s", off.as_secs_f64()));
    Ok(())
}

/// The root file system.
fn root(args: &RigArgs, guest: &Guest) -> Result<Vec<u8>> {
    let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
    let mut archive = Archive::default();
    for folder in ["bin", "modules", "proc", "sys", "dev", "data"] {
        archive.folder(folder);
    }
    archive.program("init", include_bytes!("init.sh"));
    archive.program("bin/busybox", &read(&guest.busybox)?);
    let device = read(&args.device).map_err(|error| Missing(format!("{error:#}; build it first")))?;
    archive.program("bin/csp-device", &initramfs::bare(&args.device, &device)?);
    archive.file("model.cspm", &read(&args.model)?);
    archive.file("trap.toml", CONFIG.as_bytes());
    let mut list = String::new();
    for (name, path) in guest.with_dependencies(&MODULES)? {
        archive.file(&format!("modules/{name}.ko"), &read(&path)?);
        list += &format!("{name}\n");
    }
    archive.file("modules.list", list.as_bytes());
    Ok(archive.finish())
}

const CONFIG: &str = r#"[trap]
name = "rig"
[camera]
kind = "v4l2"
width = 640
height = 360
settle_frames = 2
[trigger]
line = 2
[flash]
line = 6
[burst]
frames = 2
interval_s = 0.2
cool_down_s = 1.0
[gps]
port = "/dev/ttyUSB0:9600"
duty_cycle = false
[store]
min_free_mib = 4
reserve_mib = 1
low_mib = 8
[model]
path = "/model.cspm"
[privacy]
suppress = []
[watchdog]
device = "/dev/watchdog"
deadline_s = 20.0
"#;

/// A board with its program.
struct Trap {
    board: Board,
}

/// How long nothing moves before it moves again: well above `trigger.debounce_ms`, on a board that is slow.
const STILL: Duration = Duration::from_millis(400);

/// An emulated board on a busy computer is slow.
const LIMIT: Duration = Duration::from_secs(240);

impl Trap {
    fn boot(hardware: &Hardware) -> Result<Self> {
        let mut board = Board::on(hardware)?;
        board.wait("boot", LIMIT, |line| line.contains("rig: up").then_some(()))?;
        Ok(Self { board })
    }

    /// What the board's first program found wrong.
    fn complaints(&self) -> Vec<String> {
        let told = self.board.said.iter().filter_map(|line| line.split_once("rig: "));
        told.filter(|(_, said)| !said.starts_with("up ")).map(|(_, said)| said.to_string()).collect()
    }

    /// Types a word and waits for `rig: ANSWER …`; what comes behind it.
    fn word(&mut self, word: &str, answer: &str) -> Result<String> {
        self.board.type_line(word)?;
        let answer = format!("rig: {answer}");
        self.board.wait(word, LIMIT, |line| line.split_once(&answer).map(|(_, rest)| rest.trim().to_string()))
    }

    fn selftest(&mut self) -> Result<Value> {
        let from = self.board.said.len();
        self.word("selftest", "ended")?;
        let said = self.board.said.get(from..).unwrap_or_default();
        let lines =
            said.iter().skip_while(|line| *line != "{").take_while(|line| !line.contains("rig: ended"));
        let text: String = lines.map(|line| format!("{line}\n")).collect();
        serde_json::from_str(&text).with_context(|| format!("the selftest's report: {text}"))
    }

    fn start(&mut self) -> Result<()> {
        self.board.type_line("start")
    }

    /// The next entry that is acknowledged and wanted.
    fn entry(
        &mut self,
        what: &str,
        acknowledged: &mut BTreeMap<u64, Option<String>>,
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> Result<()> {
        self.board.wait(what, LIMIT, |line| {
            let entry: Value = serde_json::from_str(line).ok()?;
            let fields = entry.as_object()?.values().next()?;
            let digest = fields["image_sha256"].as_str().map(String::from);
            acknowledged.insert(fields["seq"].as_u64()?, digest);
            wanted(&entry).then_some(())
        })
    }

    /// Something moves: the flash goes on and off, a prediction is acknowledged.
    fn trigger(&mut self, acknowledged: &mut BTreeMap<u64, Option<String>>) -> Result<String> {
        let moment = Duration::from_secs(60);
        ensure!(!self.board.is_high(FLASH)?, "the flash burns before anything moved");
        // The program may still be opening its parts, or cool down: what moves goes on moving.
        let mut looks = 0;
        self.board.set_pin(PIR, true)?;
        while self.board.wait_pin(FLASH, true, Duration::from_secs(2)).is_err() {
            looks += 1;
            ensure!(looks < 60, "the flash does not go on");
            self.board.set_pin(PIR, false)?;
            // The kernel takes a shorter low for a bounce, and sees no new rise.
            thread::sleep(STILL);
            self.board.set_pin(PIR, true)?;
        }
        let lit = Instant::now();
        self.board.wait_pin(FLASH, false, moment)?;
        let lit = lit.elapsed().as_millis();
        self.board.set_pin(PIR, false)?;
        self.entry("a prediction", acknowledged, |entry| entry.get("Prediction").is_some())?;
        ensure!(!self.board.is_high(FLASH)?, "the flash burns on");
        Ok(format!("lit for {lit} ms"))
    }
}

/// Reads the store and checks what was acknowledged and what it names.
fn read_back(
    dir: &Path,
    check: &mut impl FnMut(&'static str, bool, String),
    acknowledged: &BTreeMap<u64, Option<String>>,
) -> Result<Vec<PredictionRecord>> {
    let mut damaged = 0;
    let mut entries = BTreeMap::new();
    for (_, segment) in store::read(dir)? {
        damaged += segment.damaged.len();
        entries.extend(segment.entries.into_iter().map(|entry| (entry.seq(), entry)));
    }
    let digest = |entry: &Entry| entry.picture().and_then(|(_, sha256)| sha256).map(|sha256| hex(&sha256));
    let lost = acknowledged.iter().filter(|(seq, sha256)| {
        entries.get(seq).is_none_or(|entry| sha256.is_some() && digest(entry) != **sha256)
    });
    let lost = lost.count();
    check(
        "nothing acknowledged is lost in a power cut",
        lost == 0 && damaged == 0,
        format!("{} acknowledged, {lost} lost, {damaged} damaged", acknowledged.len()),
    );
    let records: Vec<PredictionRecord> = entries
        .into_values()
        .filter_map(|entry| if let Entry::Prediction(record) = entry { Some(record) } else { None })
        .collect();
    let mut whole = 0;
    for record in &records {
        let path = dir.join("pictures").join(&record.image);
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        let decoded = picture::decode(&path, &bytes)?;
        let levels = decoded.as_raw();
        let busy = levels.iter().max().zip(levels.iter().min()).is_some_and(|(high, low)| high - low > 100);
        let fits = sha256_hex(&bytes) == hex(&record.image_sha256) && decoded.dimensions() == (640, 360);
        whole += usize::from(fits && busy && record.picture == Picture::Kept && record.burst.len() == 1);
    }
    check(
        "pictures are whole and those of their records",
        whole == records.len() && whole >= 4,
        format!("{whole} of {} of the test camera", records.len()),
    );
    Ok(records)
}

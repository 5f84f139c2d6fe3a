//! `csp-device run --config`, `config` and `selftest`: the trap with a diary, on files.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use csp_device::{
    cli::{Exit, config, run, selftest},
    store,
};
use csp_models::{
    manifest::NumberFormat,
    record::{Entry, Event, LastRun, Picture},
};
use tempfile::TempDir;

use crate::fixture;

#[derive(Parser)]
struct Run {
    #[command(flatten)]
    args: run::RunArgs,
}

#[derive(Parser)]
struct Selftest {
    #[command(flatten)]
    args: selftest::SelftestArgs,
}

#[derive(Parser)]
struct Config {
    #[command(flatten)]
    args: config::ConfigArgs,
}

/// A folder with a model, two pictures and a configuration that stays within the folder; nobody is suppressed
/// unless it says so.
pub fn trap(more: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fixture::bundle(NumberFormat::Int8).write(&dir.path().join("m.cspm")).unwrap();
    fs::create_dir(dir.path().join("desk")).unwrap();
    for index in 0..2 {
        fs::write(dir.path().join(format!("desk/{index}.png")), fixture::png(index)).unwrap();
    }
    let path = |name: &str| dir.path().join(name).display().to_string();
    let privacy = if more.contains("[privacy]") { "" } else { "[privacy]\nsuppress = []\n" };
    let text = format!(
        "[trap]\nname = \"t1\"\n[store]\ndir = {:?}\nstate = {:?}\n[energy]\npower_supply = {:?}\nthermal = {:?}\n{privacy}{}",
        path("store"),
        path("state"),
        path("power"),
        path("thermal"),
        more.replace("DIR", &dir.path().display().to_string()),
    );
    fs::write(dir.path().join("trap.toml"), text).unwrap();
    dir
}

pub const FOLDER: &str =
    "[camera]\nkind = \"folder\"\nfolder = \"DIR/desk\"\n[model]\npath = \"DIR/m.cspm\"\n";

fn run_with(dir: &Path, more: &[&str], stop: &AtomicBool) -> anyhow::Result<(Exit, run::Tally)> {
    let config = dir.join("trap.toml").display().to_string();
    let args = Run::parse_from(["run", "--config", &config].iter().chain(more)).args;
    run::run(&args, stop, &mut Vec::new())
}

pub fn run_once(dir: &Path) -> (Exit, run::Tally) {
    run_with(dir, &["--once"], &AtomicBool::new(false)).unwrap()
}

/// Runs until `enough` of the entries.
pub fn run_until(dir: &Path, enough: impl Fn(&[Entry]) -> bool + Send + Sync) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(60) && !enough(&entries(dir)) {
                thread::sleep(Duration::from_millis(50));
            }
            stop.store(true, Ordering::Relaxed);
        });
        run_with(dir, &[], &stop).unwrap();
    });
}

pub fn entries(dir: &Path) -> Vec<Entry> {
    let segments = store::read(&dir.join("store")).unwrap_or_default();
    segments.into_iter().flat_map(|(_, segment)| segment.entries).collect()
}

pub fn events(dir: &Path) -> Vec<Event> {
    let events = entries(dir).into_iter().filter_map(|entry| match entry {
        Entry::Event(record) => Some(record.event),
        _ => None,
    });
    events.collect()
}

fn kinds(dir: &Path) -> Vec<&'static str> {
    events(dir).iter().map(Event::kind).collect()
}

#[test]
fn the_diary_begins_with_the_start_and_ends_with_the_stop() {
    let dir = trap(FOLDER);
    assert_eq!(run_once(dir.path()), (Exit::Done, run::Tally { predictions: 2, failures: 0 }));
    let all = entries(dir.path());
    let seqs: Vec<u64> = all.iter().map(Entry::seq).collect();
    assert_eq!(seqs, [0, 1, 2, 3]);
    let Event::Started { after, config_sha256 } = &events(dir.path())[0] else { panic!("{all:?}") };
    assert_eq!(*after, LastRun::None);
    assert_eq!(csp_models::bundle::hex(&config_sha256.unwrap()), {
        let text = fs::read(dir.path().join("trap.toml")).unwrap();
        csp_models::bundle::sha256_hex(&text)
    });
    assert_eq!(kinds(dir.path()), ["started", "stopped"]);
    let Entry::Prediction(record) = &all[1] else { panic!("{all:?}") };
    assert_eq!((record.image.as_str(), &record.picture), ("0.png", &Picture::Kept));
    assert_eq!((record.board.boot, record.board.energy_mj.is_some()), (1, true));
    assert_eq!(fs::read(dir.path().join("store/pictures/0.png")).unwrap(), fixture::png(0));

    assert_eq!(run_once(dir.path()).1, run::Tally::default(), "nothing is done twice");
    let Event::Started { after, .. } = &events(dir.path())[2] else { panic!() };
    assert_eq!(*after, LastRun::Clean);
}

#[test]
fn a_camera_program_a_time_lapse_and_board_readings() {
    let more = "[camera]\ncommand = [\"sh\", \"-c\", \"cat DIR/desk/0.png\"]\n[model]\npath = \"DIR/m.cspm\"\n\
                [timelapse]\nevery_minutes = 0.003\n[burst]\nframes = 2\ninterval_s = 0.01\ncool_down_s = 0.0\n\
                [gps]\nport = \"DIR/no-such-receiver\"\n[flash]\nchip = \"DIR/no-chip\"\nline = 4\n\
                [trigger]\nchip = \"DIR/no-chip\"\nline = 5\n";
    let dir = trap(more);
    for (path, text) in [
        ("power/BAT0/type", "Battery\n"),
        ("power/BAT0/capacity", "30\n"),
        ("thermal/thermal_zone0/temp", "41500\n"),
    ] {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    // a low battery ends the time-lapse: a full one first
    fs::write(dir.path().join("power/BAT0/capacity"), "90\n").unwrap();
    run_until(dir.path(), |entries| {
        entries.iter().filter(|entry| matches!(entry, Entry::Prediction(_))).count() >= 2
    });
    let all = entries(dir.path());
    let record =
        all.iter().find_map(|entry| if let Entry::Prediction(p) = entry { Some(p) } else { None }).unwrap();
    assert_eq!((record.burst.len(), &record.picture), (1, &Picture::Kept));
    assert!(record.image.ends_with("Z-0001-000001-0.png"), "{}", record.image);
    assert!(dir.path().join("store/pictures").join(&record.burst[0].image).is_file());
    assert_eq!((record.board.battery_percent, record.board.temperature_c), (Some(90), Some(41.5)));
    let notes: String = events(dir.path()).iter().map(|event| format!("{event:?}\n")).collect();
    for fault in ["no-such-receiver", "flash: ", "trigger: "] {
        assert!(notes.contains(fault), "{fault}: {notes}");
    }

    // the same camera, broken
    let text = fs::read_to_string(dir.path().join("trap.toml")).unwrap();
    fs::write(dir.path().join("trap.toml"), text.replace("desk/0.png", "desk/gone.png")).unwrap();
    run_until(dir.path(), |entries| {
        let fault =
            |entry: &Entry| matches!(entry, Entry::Event(e) if matches!(e.event, Event::CameraFault { .. }));
        entries.iter().any(fault) && matches!(entries.last(), Some(Entry::Failure(_) | Entry::Event(_)))
    });
    assert!(kinds(dir.path()).contains(&"camera_fault"));
}

#[test]
fn every_kind_of_camera_takes_the_pictures_of_a_time_lapse() {
    let kind = |kind: &str| {
        format!(
            "[camera]\nkind = {kind:?}\nfolder = \"DIR/desk\"\ndevice = \"DIR/video9\"\n\
             [model]\npath = \"DIR/m.cspm\"\n[timelapse]\nevery_minutes = 0.003\n\
             [burst]\nframes = 2\ninterval_s = 0.01\ncool_down_s = 0.0\n"
        )
    };
    let dir = trap(&kind("replay"));
    run_until(dir.path(), |entries| entries.iter().any(|entry| matches!(entry, Entry::Prediction(_))));
    let all = entries(dir.path());
    let Some(Entry::Prediction(record)) = all.iter().find(|entry| entry.picture().is_some()) else {
        panic!("{all:?}")
    };
    for (name, index) in [(&record.image, 0), (&record.burst[0].image, 1)] {
        let stored = fs::read(dir.path().join("store/pictures").join(name)).unwrap();
        assert_eq!(stored, fixture::png(index), "{name}");
    }

    let dir = trap(&kind("v4l2"));
    run_until(dir.path(), |entries| {
        entries
            .iter()
            .any(|entry| matches!(entry, Entry::Event(e) if matches!(e.event, Event::CameraFault { .. })))
    });
    let faults = format!("{:?}", events(dir.path()));
    assert!(faults.contains("video9") && faults.contains("plugged in"), "{faults}");
    let (exit, report) = selftest(dir.path(), &[]);
    assert_eq!(exit, Exit::Failed);
    assert!(report.to_string().contains("v4l2-ctl"), "{report:#}");
}

#[test]
fn without_a_model_the_pictures_are_recorded() {
    let dir = trap(&FOLDER.replace("m.cspm", "none.cspm"));
    assert_eq!(run_once(dir.path()).1, run::Tally { predictions: 0, failures: 2 });
    assert!(kinds(dir.path()).contains(&"model_fault"));
    // a damaged one
    let dir = trap(FOLDER);
    fs::write(dir.path().join("m.cspm"), b"junk").unwrap();
    assert_eq!(run_once(dir.path()).1, run::Tally { predictions: 0, failures: 2 });
    let Entry::Failure(failure) = &entries(dir.path())[2] else { panic!("{:?}", entries(dir.path())) };
    assert!(failure.error.contains("m.cspm"), "{}", failure.error);
    assert!(dir.path().join("store/pictures/0.png").is_file());
}

#[test]
fn a_boot_loop_ends_in_safe_mode_and_last_words_are_told() {
    let dir = trap(FOLDER);
    let state = dir.path().join("state");
    fs::create_dir(&state).unwrap();
    fs::write(state.join("starts"), "csp-starts 1\nboot 6\nshort 3\nclean false\n").unwrap();
    fs::write(state.join("last-words"), "panicked at camera.rs:1:1: boom").unwrap();
    assert_eq!(run_once(dir.path()).1, run::Tally { predictions: 0, failures: 2 });
    let all = events(dir.path());
    assert!(matches!(&all[0], Event::Started { after: LastRun::Panic, .. }));
    assert_eq!(all[1], Event::Panicked { message: "panicked at camera.rs:1:1: boom".into() });
    assert!(matches!(&all[2], Event::SafeMode { reason } if reason.contains("3 starts")), "{all:?}");
    // it was asked to stop: the next start is a good one
    let before = all.len();
    fs::write(dir.path().join("desk/2.png"), fixture::png(2)).unwrap();
    assert_eq!(run_once(dir.path()).1, run::Tally { predictions: 1, failures: 0 });
    assert!(matches!(&events(dir.path())[before], Event::Started { after: LastRun::Clean, .. }));
}

#[test]
fn one_trap_a_state_folder_and_mistakes_are_usage() {
    let dir = trap(FOLDER);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| run_with(dir.path(), &[], &stop).unwrap());
        let start = Instant::now();
        while entries(dir.path()).is_empty() && start.elapsed() < Duration::from_secs(30) {
            thread::sleep(Duration::from_millis(20));
        }
        let error = run_with(dir.path(), &["--once"], &AtomicBool::new(false)).unwrap_err().to_string();
        stop.store(true, Ordering::Relaxed);
        assert!(error.contains("in use by another csp-device"), "{error}");
    });
    fs::write(dir.path().join("trap.toml"), "[burst]\nframe = 1\n").unwrap();
    assert_eq!(run_with(dir.path(), &[], &AtomicBool::new(false)).unwrap().0, Exit::Usage);
    assert!(Run::try_parse_from(["run", "--desk", "x"]).is_err());
}

#[test]
fn the_command_line_goes_before_the_file() {
    let dir = trap("[model]\npath = \"/nonexistent\"\n");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let more = [
        "--once",
        "--desk",
        &path("desk"),
        "--model",
        &path("m.cspm"),
        "--name",
        "other",
        "--site",
        "-1.29,36.82",
    ];
    let (_, tally) = run_with(dir.path(), &more, &AtomicBool::new(false)).unwrap();
    assert_eq!(tally, run::Tally { predictions: 2, failures: 0 });
    let (_, segment) = store::read(&dir.path().join("store")).unwrap().remove(0);
    assert_eq!(segment.header.unwrap().device, "other");
    let Entry::Prediction(record) = &segment.entries[1] else { panic!() };
    assert_eq!(record.provenance.as_str(), "image+configured_site");
}

pub fn selftest(dir: &Path, more: &[&str]) -> (Exit, serde_json::Value) {
    let config = dir.join("trap.toml").display().to_string();
    let first = ["selftest", "--json", "--listen", "0.3", "--config", &config];
    let args = Selftest::parse_from(first.iter().chain(more)).args;
    let mut out = Vec::new();
    let exit = selftest::run(&args, &mut out).unwrap();
    (exit, serde_json::from_slice(&out).unwrap())
}

#[test]
fn the_selftest_finds_what_works_and_explains_what_does_not() {
    let dir = trap(&format!("{FOLDER}[site]\nlat = -1.3\nlon = 36.8\n"));
    let (exit, report) = selftest(dir.path(), &[]);
    assert_eq!((exit, &report["ok"]), (Exit::Done, &true.into()), "{report:#}");
    let status = |report: &serde_json::Value, part: &str| {
        let checks = report["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["part"] == part).unwrap().clone();
        (check["status"].as_str().unwrap().to_string(), check["next"].as_str().unwrap().to_string())
    };
    for part in ["store", "state", "model", "camera"] {
        assert_eq!(status(&report, part).0, "ok", "{report:#}");
    }
    assert!(!dir.path().join("store/.selftest").exists());

    let broken = "[camera]\ncommand = [\"/nonexistent/cam\"]\n[model]\npath = \"DIR/none.cspm\"\n\
                  [gps]\nport = \"DIR/none\"\n[trigger]\nchip = \"DIR/none\"\nline = 1\n\
                  [flash]\nchip = \"DIR/none\"\nline = 2\n[watchdog]\ndevice = \"DIR/none\"\n";
    let dir = trap(broken);
    fs::write(dir.path().join("store"), "a file where the folder should be").unwrap();
    let (exit, report) = selftest(dir.path(), &[]);
    assert_eq!((exit, &report["ok"]), (Exit::Failed, &false.into()));
    for part in ["store", "model", "camera", "trigger", "flash", "receiver", "watchdog"] {
        let (status, next) = status(&report, part);
        assert_eq!(status, "failed", "{part}");
        assert!(!next.is_empty(), "{part} says what to do");
    }
}

#[test]
fn the_configuration_is_printed_and_checked() {
    let dir = trap(FOLDER);
    let path = dir.path().join("trap.toml").display().to_string();
    let print = |words: &[&str]| {
        let args = Config::parse_from(["config"].iter().chain(words)).args;
        let mut out = Vec::new();
        (config::run(&args, &mut out).unwrap(), String::from_utf8(out).unwrap())
    };
    let (exit, text) = print(&["--print", "--config", &path]);
    assert_eq!(exit, Exit::Done);
    assert!(text.contains("name = \"t1\"") && text.contains("kind = \"folder\""));
    let parsed = csp_device::config::TrapConfig::parse(&text).unwrap();
    assert_eq!(parsed, csp_device::config::TrapConfig::read(Path::new(&path)).unwrap().0);
    assert_eq!(print(&["--config", &path]).0, Exit::Done);
    fs::write(&path, "[trap]\nnmae = \"x\"\n").unwrap();
    assert_eq!(print(&["--config", &path]).0, Exit::Usage);
    assert_eq!(print(&["--config", "/nonexistent.toml"]).0, Exit::Failed);
    assert!(Config::try_parse_from(["config"]).is_err());
}

/// A picture of that many bytes; what follows a PNG's end is no part of the picture.
fn heavy_png(index: usize, bytes: usize) -> Vec<u8> {
    let mut png = fixture::png(index);
    png.resize(bytes, 0);
    png
}

#[test]
fn the_card_is_bounded_and_says_what_it_gave_up() {
    // `low_mib` beyond any disk, a quota of three pictures
    let dir = trap(FOLDER);
    let text = fs::read_to_string(dir.path().join("trap.toml")).unwrap();
    let bounded = text.replace("[store]\n", "[store]\npictures_mib = 1\nlow_mib = 1073741824\n");
    fs::write(dir.path().join("trap.toml"), bounded).unwrap();
    for index in 0..5 {
        fs::write(dir.path().join(format!("desk/{index}.png")), heavy_png(index % 2, 300_000 + index))
            .unwrap();
    }
    assert_eq!(run_once(dir.path()).1, run::Tally { predictions: 5, failures: 0 });
    let stored = |index: u32| dir.path().join(format!("store/pictures/{index}.png"));
    assert!(!stored(0).exists() && !stored(1).exists() && stored(4).is_file());
    let removed = |events: &[Event]| {
        let removed = events.iter().filter_map(|event| match event {
            Event::PicturesRemoved { count, bytes, up_to } => Some((*count, *bytes, up_to.clone())),
            _ => None,
        });
        removed.collect::<Vec<_>>()
    };
    let told = removed(&events(dir.path()));
    let (count, bytes) = told.iter().fold((0, 0), |(count, bytes), more| (count + more.0, bytes + more.1));
    assert_eq!((count, bytes), (2, 600_001), "{told:?}");
    assert_eq!(told.last().unwrap().2, "1.png");
    assert_eq!(kinds(dir.path()).iter().filter(|kind| **kind == "storage_low").count(), 1);

    // one goes missing between two starts
    fs::remove_file(stored(3)).unwrap();
    run_once(dir.path());
    let after = removed(&events(dir.path()));
    assert_eq!(after[told.len()..], [(1, 0, "3.png".to_string())]);
    run_once(dir.path());
    assert_eq!(removed(&events(dir.path())).len(), after.len(), "said once");
}

#[test]
fn a_species_that_cannot_be_here_is_set_aside() {
    let record = |dir: &Path| {
        let all = entries(dir);
        let record = all.into_iter().find_map(|entry| match entry {
            Entry::Prediction(record) => Some(record),
            _ => None,
        });
        record.unwrap()
    };
    let free = trap(FOLDER);
    run_once(free.path());
    let best = record(free.path()).candidates[0].clone();
    assert_eq!((best.name.as_str(), record(free.path()).set_aside), ("lynx", None));

    let listed = trap(&format!("{FOLDER}[site]\nallow = [\"roe deer\"]\nallow_file = \"DIR/list\"\n"));
    fs::write(listed.path().join("list"), "# of this valley\nHare # and no other\n\n").unwrap();
    run_once(listed.path());
    let held = record(listed.path());
    let aside = held.set_aside.unwrap();
    assert_eq!((aside.name.as_str(), aside.fused), ("lynx", best.fused));
    assert_ne!(held.candidates[0].name, "lynx");
    let lynx = held.candidates.iter().find(|candidate| candidate.name == "lynx").unwrap();
    assert_eq!((lynx.image, lynx.fused), (best.image, 0.0));
    let (_, report) = selftest(listed.path(), &[]);
    assert!(report.to_string().contains("3 of 4 classes are allowed"), "{report:#}");

    // a list that does not fit costs the list, not the records
    fs::write(listed.path().join("list"), "unicorn\n").unwrap();
    fs::write(listed.path().join("desk/2.png"), heavy_png(0, 5000)).unwrap();
    assert_eq!(run_once(listed.path()).1, run::Tally { predictions: 1, failures: 0 });
    assert!(format!("{:?}", events(listed.path())).contains("unicorn"));
    assert_eq!(selftest(listed.path(), &[]).0, Exit::Failed);
}

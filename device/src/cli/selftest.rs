//! `csp-device selftest`: tries every part of a trap and explains what fails.

use std::{
    fs,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use csp_models::{bundle::write_atomically, labels::ClassId};
use serde::Serialize;

use super::{Exit, config::refuse, describe, explain, ignore_closed_pipe, open_model, run::BoardClock};
use crate::{
    board::{Sensors, gpio, lamp},
    camera::BoardCamera,
    config::{CameraKind, TrapConfig},
    gps::Receiver,
    infer::Engine,
    privacy::Privacy,
    receiver::Source,
    trap::{Board, Camera, Classifier, Clock, View},
};

/// Try every part of the trap: clock, store, model, camera, sensors, receiver. Exit code 1 when one fails.
///
/// It changes nothing that lasts: the flash is not fired, the watchdog is not armed, and what it writes into the
/// store's folder it removes again (folders that are missing it makes, as the trap would). Run it at the tree before closing the box, while no trap is running.
#[derive(Clone, Debug, clap::Args)]
pub struct SelftestArgs {
    /// The trap's configuration; without one the defaults are tried.
    #[arg(long, value_name = "trap.toml")]
    pub config: Option<std::path::PathBuf>,

    /// Seconds to hear the receiver.
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS")]
    pub listen: f64,

    /// Print what the lamp's flashes mean, and try nothing.
    #[arg(long)]
    pub leds: bool,

    /// The result as one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// How a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It works.
    Ok,
    /// Not configured, so not tried.
    Skipped,
    /// It works, and something about it should be known.
    Warning,
    /// It does not work.
    Failed,
}

/// What was found of one part.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// The part.
    pub part: &'static str,
    /// How it is.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// What to do next; empty when nothing is to be done.
    pub next: String,
}

fn check(part: &'static str, status: Status, found: impl Into<String>, next: impl Into<String>) -> Check {
    Check { part, status, found: found.into(), next: next.into() }
}

/// Runs the verb.
///
/// # Errors
/// Only when nothing can be written.
pub fn run(args: &SelftestArgs, out: &mut dyn Write) -> anyhow::Result<Exit> {
    if args.leds {
        let lines = lamp::CODES.iter().map(|(flashes, _, meaning)| format!("{flashes}  {meaning}\n"));
        let text = lines.collect::<String>() + "flashes of 200 ms, repeated every 4 s\n";
        ignore_closed_pipe(out.write_all(text.as_bytes()))?;
        return Ok(Exit::Done);
    }
    if !args.listen.is_finite() || !(0.0..=3600.0).contains(&args.listen) {
        note!("error: --listen must be 0 to 3600 seconds");
        return Ok(Exit::Usage);
    }
    let config = match args.config.as_deref().map(TrapConfig::read) {
        None => TrapConfig::default(),
        Some(Ok((config, _))) => config,
        Some(Err(error)) => return Ok(refuse(&error)),
    };
    let (model, engine) = model(&config);
    let checks = vec![
        clock(),
        folder("store", &config.store.dir),
        folder("state", &config.store.state),
        model,
        species(&config, engine.as_ref()),
        privacy(&config, engine.as_ref()),
        camera(&config, engine),
        trigger(&config),
        flash(&config),
        receiver(&config, args.listen),
        battery(&config),
        temperature(&config),
        watchdog(&config),
    ];
    let failed = checks.iter().any(|check| check.status == Status::Failed);
    let text = if args.json {
        serde_json::to_string_pretty(&serde_json::json!({ "ok": !failed, "checks": checks }))? + "\n"
    } else {
        checks.iter().map(line).collect()
    };
    ignore_closed_pipe(out.write_all(text.as_bytes()))?;
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

fn line(check: &Check) -> String {
    let word = match check.status {
        Status::Ok => "ok",
        Status::Skipped => "-",
        Status::Warning => "warning",
        Status::Failed => "FAILED",
    };
    let next = if check.next.is_empty() { String::new() } else { format!("\n{:>22}→ {}", "", check.next) };
    format!("{:<12} {word:<8} {}{next}\n", check.part, check.found)
}

fn clock() -> Check {
    match BoardClock::start(0).utc_millis() {
        Some(millis) => {
            let time = csp_models::time::Timestamp { millis, source: csp_models::time::TimeSource::Rtc };
            check("clock", Status::Ok, time.to_string(), "")
        }
        None => check(
            "clock",
            Status::Warning,
            "never set: the date lies before this program was made",
            "records count from the start until the receiver gives the date; set it with `date -u -s`, or fit a clock chip",
        ),
    }
}

/// Writes a megabyte and removes it.
fn folder(part: &'static str, dir: &Path) -> Check {
    const BYTES: usize = 1 << 20;
    let probe = dir.join(".selftest");
    let start = Instant::now();
    let written = fs::create_dir_all(dir)
        .and_then(|()| write_atomically(&probe, |file| file.write_all(&[0x5a; BYTES])));
    let took = start.elapsed();
    let read = written.and_then(|()| fs::read(&probe));
    let _ = fs::remove_file(&probe);
    match read {
        Ok(bytes) if bytes.len() == BYTES && bytes.iter().all(|&byte| byte == 0x5a) => {
            let found = format!(
                "{}: 1 MiB written, synced and read back in {:.0} ms",
                dir.display(),
                took.as_secs_f64() * 1e3
            );
            if took > Duration::from_secs(2) {
                check(
                    part,
                    Status::Warning,
                    found,
                    "a slow card: a trap writes a few MiB a trigger; try another",
                )
            } else {
                check(part, Status::Ok, found, "")
            }
        }
        Ok(_) => check(
            part,
            Status::Failed,
            format!("{}: what was written did not read back", dir.display()),
            "the card is failing or fake: replace it",
        ),
        Err(error) => {
            let next = match error.kind() {
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                    "free some space: copy the store to the host, then remove it"
                }
                std::io::ErrorKind::ReadOnlyFilesystem => {
                    "the card is mounted read-only, often after damage: check it (fsck) and mount it again"
                }
                std::io::ErrorKind::PermissionDenied => "give this user the folder, or set it under [store]",
                _ => "is the card mounted? set the folder under [store]",
            };
            check(part, Status::Failed, format!("{}: {error}", dir.display()), next)
        }
    }
}

fn model(config: &TrapConfig) -> (Check, Option<Engine>) {
    let path = &config.model.path;
    let start = Instant::now();
    let (_, engine) = match open_model(path, config.model.engine(), &config.model.trust()) {
        Ok(opened) => opened,
        Err(error) => {
            let next = "copy a model made by `csp-host export` there, or set [model] path; until then pictures are recorded unclassified";
            return (check("model", Status::Failed, explain(&error), next), None);
        }
    };
    let loaded = start.elapsed();
    let input = &engine.manifest().input;
    // Mid-grey says nothing and runs every layer.
    let pixels = vec![128; input.width as usize * input.height as usize * 3];
    let start = Instant::now();
    let mut classifier = &engine;
    let logits = classifier.image_logits(&pixels);
    let took = start.elapsed().as_secs_f64() * 1e3;
    let found = match logits {
        Ok(logits) if logits.iter().all(|logit| logit.is_finite()) => format!(
            "{}: {} classes, loaded in {:.0} ms, a picture takes {took:.0} ms",
            path.display(),
            logits.len(),
            loaded.as_secs_f64() * 1e3
        ),
        Ok(_) => {
            let found = format!("{}: its answer is not finite", path.display());
            return (check("model", Status::Failed, found, "export the model again"), None);
        }
        Err(error) => {
            let found = format!("{}: {error}", path.display());
            return (check("model", Status::Failed, found, "export the model again"), None);
        }
    };
    (check("model", Status::Ok, found, ""), Some(engine))
}

fn species(config: &TrapConfig, engine: Option<&Engine>) -> Check {
    let Some(engine) = engine else {
        return check("species", Status::Skipped, "not checked without a model", "");
    };
    let labels = &engine.manifest().labels;
    match config.site.allowed(labels) {
        Ok(None) => check("species", Status::Skipped, "every class of the model is allowed", ""),
        Ok(Some(allowed)) => {
            let classes = (0..labels.0.len()).filter_map(|class| Some(ClassId(class.try_into().ok()?)));
            let count = classes.filter(|&class| allowed.allows(class)).count();
            check("species", Status::Ok, format!("{count} of {} classes are allowed", labels.0.len()), "")
        }
        Err(problem) => check(
            "species",
            Status::Failed,
            problem,
            "until [site] allow names classes of this model, every species is allowed",
        ),
    }
}

fn privacy(config: &TrapConfig, engine: Option<&Engine>) -> Check {
    let wishes = match Privacy::new(&config.privacy) {
        Ok(wishes) => wishes,
        Err(error) => return check("privacy", Status::Failed, error.to_string(), "mend [privacy]"),
    };
    let labels = engine.map(|engine| &engine.manifest().labels);
    let doubts = wishes.doubts(labels, config.site.place().is_some());
    if let Some((first, rest)) = doubts.split_first() {
        let next = "choose a model that knows them, list its names under [privacy], or take it as it is";
        let rest = rest.iter().map(|doubt| format!("; {doubt}")).collect::<String>();
        return check("privacy", Status::Warning, format!("{first}{rest}"), next);
    }
    let groups: Vec<&str> = config.privacy.suppress.iter().map(|group| group.as_str()).collect();
    let kept =
        if wishes.suppression().is_some() { "are not kept in the clear" } else { "are kept as any other" };
    let places = if wishes.seals_places() { "sealed" } else { "in the clear" };
    match groups.as_slice() {
        [] => check("privacy", Status::Ok, format!("every picture is kept, places {places}"), ""),
        groups => {
            let found = format!("pictures of {} {kept}, places {places}", groups.join(", "));
            check("privacy", Status::Ok, found, "")
        }
    }
}

fn camera(config: &TrapConfig, engine: Option<Engine>) -> Check {
    let Some(mut camera) = BoardCamera::of(&config.camera) else {
        let folder = config.camera.folder.clone().unwrap_or_default();
        return match fs::read_dir(&folder) {
            Ok(_) => check("camera", Status::Ok, format!("folder {}", folder.display()), ""),
            Err(error) => check(
                "camera",
                Status::Failed,
                format!("{}: {error}", folder.display()),
                "make the folder, or set [camera] folder",
            ),
        };
    };
    let start = Instant::now();
    let file = match camera.capture(0) {
        Ok(file) => file,
        Err(error) => {
            let next = match config.camera.kind {
                CameraKind::V4l2 => "`v4l2-ctl --list-devices` lists devices; set [camera] device",
                CameraKind::Command => {
                    "run the command by hand; is the ribbon cable seated, and the camera enabled?"
                }
                CameraKind::Folder | CameraKind::Replay => "put pictures there, or set [camera] folder",
            };
            return check("camera", Status::Failed, error.to_string(), next);
        }
    };
    let took = start.elapsed().as_secs_f64();
    let found = format!("{} kB in {took:.1} s", file.bytes.len() / 1000);
    let Some(engine) = engine else {
        return check("camera", Status::Warning, found, "without a model the picture was not decoded");
    };
    let mut classifier = &engine;
    match classifier.decode("the camera's picture", &file.bytes, View::Whole) {
        Ok(_) => check("camera", Status::Ok, format!("{found}, decoded"), ""),
        Err(error) => check(
            "camera",
            Status::Failed,
            format!("{found}: {error}"),
            "a command must write one whole JPEG or PNG to its standard output, and nothing else",
        ),
    }
}

fn trigger(config: &TrapConfig) -> Check {
    let trigger = &config.trigger;
    let Some(line) = trigger.line else {
        let (status, found) = if config.camera.kind == CameraKind::Folder {
            (Status::Skipped, "every picture in the folder is a trigger")
        } else if config.timelapse.every_minutes > 0.0 {
            (Status::Skipped, "no motion sensor: time-lapse only")
        } else {
            let next = "set [trigger] line, or [timelapse] every_minutes";
            return check("trigger", Status::Failed, "nothing triggers: neither sensor nor time-lapse", next);
        };
        return check("trigger", status, found, "");
    };
    let opened = gpio::Motion::open(&trigger.chip, line, trigger.debounce_ms);
    match opened.and_then(|motion| motion.is_high()) {
        Ok(true) => check("trigger", Status::Ok, format!("line {line} is high: motion, now"), ""),
        Ok(false) => {
            check("trigger", Status::Ok, format!("line {line} is low: wave at it and try again"), "")
        }
        Err(error) => check(
            "trigger",
            Status::Failed,
            error.to_string(),
            "gpiodetect and gpioinfo list chips and lines",
        ),
    }
}

fn flash(config: &TrapConfig) -> Check {
    let Some(line) = config.flash.line else { return check("flash", Status::Skipped, "none configured", "") };
    match gpio::Output::open(&config.flash.chip, line) {
        Ok(_) => check("flash", Status::Ok, format!("line {line} can be driven (it was not fired)"), ""),
        Err(error) => {
            check("flash", Status::Failed, error.to_string(), "gpiodetect and gpioinfo list chips and lines")
        }
    }
}

fn receiver(config: &TrapConfig, seconds: f64) -> Check {
    let site = config.site.place();
    let Some(port) = &config.gps.port else {
        return match site {
            Some(site) => {
                check("receiver", Status::Skipped, format!("none configured; the site is {site}"), "")
            }
            None => check(
                "receiver",
                Status::Warning,
                "neither receiver nor site: the picture alone will decide",
                "set [gps] port, or [site] lat and lon",
            ),
        };
    };
    let (mut gps, mut heard) = match Source::find(port).and_then(|source| source.open(site, None)) {
        Ok(opened) => opened,
        Err(error) => {
            return check(
                "receiver",
                Status::Failed,
                error.to_string(),
                "is it plugged in? `ls /dev/tty*` lists ports; set [gps] port",
            );
        }
    };
    let start = Instant::now();
    let mut buffer = [0; 512];
    let mut bytes = 0;
    while heard.is_open() && start.elapsed().as_secs_f64() < seconds {
        let now_ms = start.elapsed().as_millis() as u64;
        match heard.read(&mut buffer) {
            Ok(0) => {
                gps.tick(now_ms);
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(count) => {
                bytes += count;
                gps.take(buffer.get(..count).unwrap_or_default(), now_ms);
            }
            Err(error) => return check("receiver", Status::Failed, error.to_string(), "look at its cable"),
        }
    }
    let now_ms = start.elapsed().as_millis() as u64;
    gps.pause(now_ms);
    let (used, damaged) = gps.sentences();
    let found = format!("{port}: {used} sentences, {damaged} damaged");
    if used == 0 && bytes == 0 && heard.is_open() {
        let next = "nothing came: is it supplied, and its TX on our RX?";
        return check("receiver", Status::Failed, format!("{port}: silent for {seconds} s"), next);
    }
    if used == 0 {
        let next = "bytes and no sentence: try another speed ([gps] port = \"…:4800\", 38400, 115200), and NMEA output";
        return check("receiver", Status::Failed, found, next);
    }
    match gps.place(now_ms).filter(|_| gps.has_fix()) {
        Some(place) => check("receiver", Status::Ok, format!("{found}; {}", describe(Some(&place))), ""),
        None => check(
            "receiver",
            Status::Warning,
            format!("{found}; no fix yet"),
            "a cold start takes up to 15 minutes under open sky",
        ),
    }
}

fn sensors(config: &TrapConfig) -> Sensors {
    Sensors::new(&config.energy.power_supply, &config.energy.thermal)
}

fn battery(config: &TrapConfig) -> Check {
    let battery = sensors(config).battery();
    let volts =
        battery.millivolts.map_or_else(String::new, |mv| format!(", {:.2} V", f64::from(mv) / 1000.0));
    let limits = config.energy.battery_percent;
    match battery.percent {
        Some(percent) if limits.first().is_some_and(|&limit| percent < limit) => check(
            "battery",
            Status::Warning,
            format!("{percent} %{volts}: the trap will do less"),
            "charge it before you leave",
        ),
        Some(percent) => check("battery", Status::Ok, format!("{percent} %{volts}"), ""),
        None => check(
            "battery",
            Status::Skipped,
            format!(
                "not measured below {}: activity is not lowered for it{volts}",
                config.energy.power_supply.display()
            ),
            "",
        ),
    }
}

fn temperature(config: &TrapConfig) -> Check {
    match sensors(config).temperature_c() {
        Some(celsius) if config.energy.temperature_c.first().is_some_and(|&limit| celsius > limit) => check(
            "temperature",
            Status::Warning,
            format!("{celsius:.1} °C: the trap will do less"),
            "give it shade and air",
        ),
        Some(celsius) => check("temperature", Status::Ok, format!("{celsius:.1} °C"), ""),
        None => check(
            "temperature",
            Status::Skipped,
            format!("not measured below {}", config.energy.thermal.display()),
            "",
        ),
    }
}

fn watchdog(config: &TrapConfig) -> Check {
    let Some(device) = &config.watchdog.device else {
        return check(
            "watchdog",
            Status::Warning,
            "none configured: a trap that hangs stays so",
            "set [watchdog] device = \"/dev/watchdog\" on a board",
        );
    };
    // Opening it would arm it.
    match fs::metadata(device) {
        Ok(_) => {
            check("watchdog", Status::Ok, format!("{} is there (it was not armed)", device.display()), "")
        }
        Err(error) => check(
            "watchdog",
            Status::Failed,
            format!("{}: {error}", device.display()),
            "load the board's watchdog driver (modprobe), or leave the key out",
        ),
    }
}

//! The sections of `trap.toml`. Doc comments are what `csp-device config --print` writes: for people.

use std::path::PathBuf;

use csp_models::{
    allowed::Allowed,
    groups::Groups,
    labels::Labels,
    picture::MAX_SIDE,
    place::LatLon,
    signature::{SignatureError, TrustedKey},
};
use serde::{Deserialize, Serialize};

use super::TrapConfig;
use crate::{
    infer::EngineOptions,
    privacy::Privacy,
    store::Limits,
    trap::{
        MAX_FRAMES,
        energy::{Plan, PowerModel},
    },
};

/// A pebibyte: what is beyond is a slip of the pen.
const MOST_MIB: u64 = 1 << 30;

/// `[trap]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrapIdentity {
    /// Name of this trap: one a box, for as long as it lives.
    pub name: String,
    /// The deployment: site and season, such as "north-ridge-2026".
    pub deployment: String,
}

impl Default for TrapIdentity {
    fn default() -> Self {
        Self { name: "trap".into(), deployment: String::new() }
    }
}

/// `[site]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SiteConfig {
    /// Degrees north, such as -1.2921 (WGS84).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lat: Option<f64>,
    /// Degrees east, such as 36.8219.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lon: Option<f64>,
    /// The species that can occur here, as classes of the model or taxa above them (["Lynx lynx", "Cervidae"]);
    /// what is not listed is never the answer, and recorded as set aside where it would have been. People,
    /// vehicles and empty frames are never ruled out. Empty, with no file either, allows everything.
    pub allow: Vec<String>,
    /// A file of more such names, one a line; # begins a comment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_file: Option<PathBuf>,
}

impl SiteConfig {
    /// The place, if there is one.
    pub fn place(&self) -> Option<LatLon> {
        LatLon::measured(self.lat?, self.lon?).ok()
    }

    /// The species that can occur, by a model's classes; `None` allows all.
    ///
    /// # Errors
    /// The key, and why its list cannot be used, for a person.
    pub fn allowed(&self, labels: &Labels) -> Result<Option<Allowed>, String> {
        let mut names = self.allow.clone();
        if let Some(path) = &self.allow_file {
            let fault =
                |error: &dyn std::fmt::Display| format!("site.allow_file {}: {error}", path.display());
            let text = std::fs::read_to_string(path).map_err(|error| fault(&error))?;
            let lines = text.lines().filter_map(|line| line.split('#').next());
            names.extend(lines.map(str::trim).filter(|name| !name.is_empty()).map(String::from));
            if names.is_empty() {
                return Err(fault(&"no names in it; leave it out to allow everything"));
            }
        }
        if names.is_empty() {
            return Ok(None);
        }
        let allowed = Allowed::new(&names, labels, &Groups::default());
        allowed.map(Some).map_err(|error| format!("site.allow: {error}"))
    }
}

/// `[camera]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CameraConfig {
    /// Where pictures come from.
    pub kind: CameraKind,
    /// For "command": program and arguments; it writes one JPEG or PNG to its standard output.
    pub command: Vec<String>,
    /// For "v4l2": the device.
    pub device: String,
    /// For "v4l2": pixels across; the nearest size that the device offers is taken.
    pub width: u32,
    /// For "v4l2": pixels down.
    pub height: u32,
    /// For "v4l2": frames let go after the device starts, until its exposure has settled.
    pub settle_frames: u32,
    /// For "command" and "v4l2": a picture that takes longer has failed, seconds.
    pub timeout_s: f64,
    /// For "folder" and "replay": the folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
}

impl Default for CameraConfig {
    fn default() -> Self {
        let command = ["rpicam-still", "--nopreview", "--immediate", "--encoding", "jpg", "--output", "-"]
            .map(String::from);
        Self {
            kind: CameraKind::Command,
            command: command.into(),
            device: "/dev/video0".into(),
            width: 1920,
            height: 1080,
            settle_frames: 5,
            timeout_s: 10.0,
            folder: None,
        }
    }
}

/// Where pictures come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CameraKind {
    /// a program that takes a picture, such as rpicam-still
    Command,
    /// a video device: USB cameras, and most of those on a ribbon cable
    V4l2,
    /// a folder that pictures appear in, each of them a trigger: for a desk, and for cameras with their own software
    Folder,
    /// the pictures of a folder by name, over and over: for trying sensor, burst and time-lapse without a camera
    Replay,
}

/// `[trigger]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TriggerConfig {
    /// The GPIO chip of the motion sensor.
    pub chip: PathBuf,
    /// Its line; high is motion. Left out, only time-lapse takes pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The line has to stay high for so long, milliseconds: it rings, and picks up radio.
    pub debounce_ms: u64,
}

impl Default for TriggerConfig {
    fn default() -> Self {
        Self { chip: "/dev/gpiochip0".into(), line: None, debounce_ms: 40 }
    }
}

/// `[burst]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BurstConfig {
    /// Pictures a trigger, 1 to 10. Each is classified; the first that can be decides.
    pub frames: u8,
    /// From one picture to the next, seconds.
    pub interval_s: f64,
    /// After a burst nothing triggers for so long, seconds: an animal that stays fills the card.
    pub cool_down_s: f64,
    /// Memory for pictures that wait for the model, MiB; those beyond are kept unclassified.
    pub waiting_mib: usize,
}

impl Default for BurstConfig {
    fn default() -> Self {
        Self { frames: 3, interval_s: 0.3, cool_down_s: 10.0, waiting_mib: 64 }
    }
}

/// `[flash]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FlashConfig {
    /// The GPIO chip of the flash.
    pub chip: PathBuf,
    /// Its line; high is on. Left out, no flash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// From switching it on to the first picture, milliseconds.
    pub warm_up_ms: u64,
}

impl Default for FlashConfig {
    fn default() -> Self {
        Self { chip: "/dev/gpiochip0".into(), line: None, warm_up_ms: 50 }
    }
}

/// `[timelapse]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TimelapseConfig {
    /// A burst that often, minutes; 0 for never. Left out while the trap saves energy.
    pub every_minutes: f64,
}

/// `[gps]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GpsConfig {
    /// The receiver: a serial port, with its speed if it is not 9600 ("/dev/ttyUSB0", "/dev/ttyS0:4800"), or a
    /// file or pipe of NMEA. Left out, the site is the place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// Listen now and then instead of always: a fix four times a day.
    pub duty_cycle: bool,
    /// The GPIO chip of the receiver's supply.
    pub power_chip: PathBuf,
    /// Its line; high is on. Left out, the receiver stays supplied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_line: Option<u32>,
}

impl Default for GpsConfig {
    fn default() -> Self {
        Self { port: None, duty_cycle: true, power_chip: "/dev/gpiochip0".into(), power_line: None }
    }
}

/// `[store]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// The folder of records and pictures; `csp-host logs show` reads it.
    pub dir: PathBuf,
    /// The folder of what the trap knows besides: its starts, the last place.
    pub state: PathBuf,
    /// Pictures take at most so much of the card, MiB; the oldest make room for newer ones, each removal is an
    /// event. Records are never removed. Left out, as much as `min_free_mib` leaves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pictures_mib: Option<u64>,
    /// Pictures leave so much of the card free, MiB.
    pub min_free_mib: u64,
    /// Set aside for records when the card is full nevertheless, MiB; 4 are some 7,000 records.
    pub reserve_mib: u64,
    /// Less room than that is an event, MiB.
    pub low_mib: u64,
}

impl StoreConfig {
    /// The same for the store.
    pub fn limits(&self) -> Limits {
        Limits {
            picture_bytes: self.pictures_mib.map(|mib| mib << 20),
            min_free_bytes: self.min_free_mib << 20,
            reserve_bytes: self.reserve_mib << 20,
            ..Limits::default()
        }
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        let Limits { picture_bytes: _, min_free_bytes, reserve_bytes, segment_bytes: _ } = Limits::default();
        Self {
            dir: "/data/store".into(),
            state: "/data/state".into(),
            pictures_mib: None,
            min_free_mib: min_free_bytes >> 20,
            reserve_mib: reserve_bytes >> 20,
            low_mib: 256,
        }
    }
}

/// `[energy]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EnergyConfig {
    /// The board waiting for a trigger, watts.
    pub idle_w: f32,
    /// The board taking a picture, watts.
    pub capture_w: f32,
    /// The board running the networks, watts.
    pub inference_w: f32,
    /// The flash on top, watts.
    pub flash_w: f32,
    /// The receiver on top, watts.
    pub receiver_w: f32,
    /// Energy for a day, watt-hours. Spent faster than the day passes, the trap does less. Left out for mains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daily_wh: Option<f32>,
    /// Battery below these, percent: shorter bursts; single pictures unclassified; triggers counted only.
    pub battery_percent: [u8; 3],
    /// Board hotter than these, degrees Celsius: the same three.
    pub temperature_c: [f32; 3],
    /// Folder of the system's power readings.
    pub power_supply: PathBuf,
    /// Folder of the system's thermometers.
    pub thermal: PathBuf,
}

impl Default for EnergyConfig {
    fn default() -> Self {
        let PowerModel { idle_w, capture_w, inference_w, flash_w, receiver_w } = PowerModel::default();
        let Plan { daily_wh, battery_percent, temperature_c } = Plan::default();
        Self {
            idle_w,
            capture_w,
            inference_w,
            flash_w,
            receiver_w,
            daily_wh,
            battery_percent,
            temperature_c,
            power_supply: "/sys/class/power_supply".into(),
            thermal: "/sys/class/thermal".into(),
        }
    }
}

/// `[model]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// A .cspm file or a folder of the same files. Missing or refused, pictures are recorded unclassified.
    pub path: PathBuf,
    /// Public keys (minisign, ["RW…"]) of who may make models for this trap; one of them has to have signed the
    /// model (csp-host model sign). Empty, any model is run.
    pub trust: Vec<String>,
    /// Run the f32 image network beside an int8 one; a bundle exported without it is then refused.
    pub prefer_f32: bool,
    /// Threads that share an int8 network, 0 for as many as the board has cores. The answers do not depend on it.
    pub threads: usize,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self { path: "/data/model.cspm".into(), trust: Vec::new(), prefer_f32: false, threads: 0 }
    }
}

impl ModelConfig {
    /// Whose models are run; empty for anybody's. A configuration that was checked holds nothing but keys.
    pub fn trust(&self) -> Vec<TrustedKey> {
        self.trust.iter().filter_map(|text| text.parse().ok()).collect()
    }

    /// How the engine is to run the model.
    pub fn engine(&self) -> EngineOptions {
        EngineOptions { prefer_f32: self.prefer_f32, threads: self.threads, ..EngineOptions::default() }
    }
}

/// `[watchdog]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WatchdogConfig {
    /// The system's watchdog, such as "/dev/watchdog". Left out, nothing restarts a trap that hangs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<PathBuf>,
    /// It is fed only while the trap got something done within so long, seconds.
    pub deadline_s: f64,
    /// So many starts in a row that do not last ten minutes: safe mode, in which nothing is classified.
    pub boot_loop: u32,
}

impl Default for WatchdogConfig {
    fn default() -> Self {
        Self { device: None, deadline_s: 60.0, boot_loop: 3 }
    }
}

/// `[leds]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LedsConfig {
    /// The GPIO chip of the lamp.
    pub chip: PathBuf,
    /// Its line; high is on. Left out, no lamp.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// After the start it shows the trap's health for so long, minutes; then it stays dark, except while a
    /// fault lasts. Animals see it, thieves too.
    pub minutes: f64,
}

impl Default for LedsConfig {
    fn default() -> Self {
        Self { chip: "/dev/gpiochip0".into(), line: None, minutes: 10.0 }
    }
}

/// The first value that makes no sense: its key, and what it must be.
pub(super) fn check(config: &TrapConfig) -> Result<(), (&'static str, String)> {
    let TrapConfig { trap, site, camera, burst, timelapse, energy, watchdog, leds, .. } = config;
    let within = |value: f64, low: f64, high: f64| (low..=high).contains(&value);
    let ascending = |values: &[f32; 3]| values.is_sorted() && values.iter().all(|v| v.is_finite());
    let watts = [
        ("energy.idle_w", energy.idle_w),
        ("energy.capture_w", energy.capture_w),
        ("energy.inference_w", energy.inference_w),
        ("energy.flash_w", energy.flash_w),
        ("energy.receiver_w", energy.receiver_w),
    ];
    let fail = |key, problem: &str| Err((key, problem.to_string()));
    if trap.name.trim().is_empty() {
        return fail("trap.name", "a trap needs a name");
    }
    match (site.lat, site.lon) {
        (None, None) => {}
        (Some(_), None) => return fail("site.lat", "lat and lon go together: give both or none"),
        (None, Some(_)) => return fail("site.lon", "lat and lon go together: give both or none"),
        (Some(lat), Some(lon)) => {
            if let Err(error) = LatLon::measured(lat, lon) {
                return Err(("site.lat", format!("{error}")));
            }
        }
    }
    if matches!(camera.kind, CameraKind::Folder | CameraKind::Replay) && camera.folder.is_none() {
        return fail("camera.kind", "a folder camera needs camera.folder");
    }
    if camera.kind == CameraKind::V4l2 && cfg!(not(target_os = "linux")) {
        return fail("camera.kind", "video devices are read on Linux only");
    }
    if camera.kind == CameraKind::V4l2 && camera.device.is_empty() {
        return fail("camera.device", "name a device such as \"/dev/video0\"");
    }
    for (key, side) in [("camera.width", camera.width), ("camera.height", camera.height)] {
        if !(16..=MAX_SIDE).contains(&side) {
            return Err((key, format!("16 to {MAX_SIDE} pixels")));
        }
    }
    if camera.settle_frames > 300 {
        return fail("camera.settle_frames", "at most 300 frames");
    }
    if camera.kind == CameraKind::Command && camera.command.first().is_none_or(String::is_empty) {
        return fail("camera.command", "name a program");
    }
    if !within(camera.timeout_s, 0.1, 600.0) {
        return fail("camera.timeout_s", "0.1 to 600 seconds");
    }
    if !(1..=MAX_FRAMES).contains(&usize::from(burst.frames)) {
        return Err(("burst.frames", format!("1 to {MAX_FRAMES}")));
    }
    if !within(burst.interval_s, 0.0, 60.0) {
        return fail("burst.interval_s", "0 to 60 seconds");
    }
    if !within(burst.cool_down_s, 0.0, 86_400.0) {
        return fail("burst.cool_down_s", "0 to 86400 seconds");
    }
    if !(1..=4096).contains(&burst.waiting_mib) {
        return fail("burst.waiting_mib", "1 to 4096 MiB");
    }
    if config.flash.warm_up_ms > 10_000 {
        return fail("flash.warm_up_ms", "at most 10000 milliseconds");
    }
    if config.trigger.debounce_ms > 10_000 {
        return fail("trigger.debounce_ms", "at most 10000 milliseconds");
    }
    if config.store.low_mib > MOST_MIB {
        return fail("store.low_mib", "at most 1073741824 MiB");
    }
    if config.store.pictures_mib.is_some_and(|mib| !(1..=MOST_MIB).contains(&mib)) {
        return fail("store.pictures_mib", "1 to 1073741824 MiB, or left out");
    }
    if config.store.min_free_mib > MOST_MIB {
        return fail("store.min_free_mib", "at most 1073741824 MiB");
    }
    if config.store.reserve_mib > 1024 {
        return fail("store.reserve_mib", "at most 1024 MiB");
    }
    if !within(timelapse.every_minutes, 0.0, 525_600.0) {
        return fail("timelapse.every_minutes", "0 (never) to 525600 minutes");
    }
    if let Some((key, _)) = watts.into_iter().find(|(_, watts)| !within(f64::from(*watts), 0.0, 1000.0)) {
        return fail(key, "0 to 1000 watts");
    }
    if energy.daily_wh.is_some_and(|wh| !wh.is_finite() || wh <= 0.0) {
        return fail("energy.daily_wh", "above 0, or left out");
    }
    if !energy.battery_percent.iter().rev().is_sorted() || energy.battery_percent.iter().any(|&p| p > 100) {
        return fail("energy.battery_percent", "three falling percentages such as [40, 25, 12]");
    }
    if !ascending(&energy.temperature_c) {
        return fail("energy.temperature_c", "three rising temperatures such as [65.0, 73.0, 80.0]");
    }
    if let Err(error) = Privacy::new(&config.privacy) {
        return Err((error.key(), error.to_string()));
    }
    let keys = config.model.trust.iter().map(|text| text.parse::<TrustedKey>());
    if let Err(error) = keys.collect::<Result<Vec<_>, SignatureError>>() {
        return Err(("model.trust", error.to_string()));
    }
    if !within(watchdog.deadline_s, 1.0, 3600.0) {
        return fail("watchdog.deadline_s", "1 to 3600 seconds");
    }
    if watchdog.boot_loop < 2 {
        return fail("watchdog.boot_loop", "2 or more: one short start is no loop");
    }
    if !within(leds.minutes, 0.0, 525_600.0) {
        return fail("leds.minutes", "0 to 525600 minutes");
    }
    Ok(())
}

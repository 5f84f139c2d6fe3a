//! `csp-tools gps-check`: our fixes of recorded receivers against gpsd's own reading of them.
//!
//! A capture `x.log` has gpsd's answer beside it in `x.log.chk`, from which the `TPV` reports are
//! taken. Epochs are matched by their UTC time of day; a report without a time by its position.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use csp_device::gps::{Epoch, Fix, Gps, Refusal, framing::Framer, sentence};
use csp_models::place::LatLon;
use serde::Serialize;
use serde_json::Value;

/// Positions of one second that differ by more are a difference, metres: sentences of one epoch
/// round differently (four decimals of a minute are 0.2 m), and nothing else should.
const TOLERANCE_M: f64 = 3.0;
/// gpsd prints nine decimals of a degree: closer than this is the same sentence, metres.
const SAME_M: f64 = 0.1;
/// A fix gpsd does not report for that second still has to lie this close to one that it reports,
/// metres: the receivers of the captures move at most as fast as a car.
const NEAR_M: f64 = 100.0;

/// Compare our fixes of NMEA captures with gpsd's (`x.log` beside `x.log.chk`).
///
/// Exit code 1 when a position differs and nothing explains it. `fixes` and `gpsd` count seconds with a position
/// (gpsd's reports without a time one by one), `both` those that match, `ours` and `gpsd` behind `max m` those that only
/// one has.
#[derive(Debug, clap::Args)]
pub struct GpsCheckArgs {
    /// Folder of captures.
    folder: PathBuf,
    /// One JSON document instead of a table.
    #[arg(long)]
    json: bool,
}

/// One capture.
#[derive(Debug, Default, Serialize)]
struct Row {
    file: String,
    bytes: usize,
    /// Sentences used, and lines that failed their checksum.
    sentences: u32,
    damaged: u32,
    /// Seconds with a fix of ours, and of gpsd's (reports with a position and mode 2 or 3).
    fixes: usize,
    gpsd_fixes: usize,
    /// Seconds that have both.
    both: usize,
    /// Largest distance between the two, metres.
    max_m: f64,
    /// Differences above the tolerance, or fixes of ours far from anything gpsd reports, that nothing explains.
    wrong: usize,
    only_ours: usize,
    only_gpsd: usize,
    /// Why there are differences, with counts.
    why: Vec<String>,
}

/// What gpsd said.
#[derive(Debug, Default)]
struct Reports {
    by_time: BTreeMap<u32, Vec<LatLon>>,
    untimed: Vec<LatLon>,
    present: bool,
}

impl Reports {
    fn parse(text: &str) -> Self {
        let mut reports = Self { present: true, ..Self::default() };
        for report in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            if report["class"] != "TPV" || report["mode"].as_u64().is_none_or(|mode| mode < 2) {
                continue;
            }
            let (Some(lat), Some(lon)) = (report["lat"].as_f64(), report["lon"].as_f64()) else { continue };
            let Ok(at) = LatLon::new(lat, lon) else { continue };
            match report["time"].as_str().and_then(time_of_day) {
                Some(time) => reports.by_time.entry(time).or_default().push(at),
                None => reports.untimed.push(at),
            }
        }
        reports
    }

    fn all(&self) -> impl Iterator<Item = LatLon> {
        self.by_time.values().flatten().chain(&self.untimed).copied()
    }

    fn seconds(&self) -> usize {
        self.by_time.len() + self.untimed.len()
    }
}

/// Milliseconds since midnight of `2021-06-10T18:18:55.750Z`.
fn time_of_day(iso: &str) -> Option<u32> {
    let clock = iso.split_once('T')?.1.strip_suffix('Z')?;
    let mut parts = clock.split(':');
    let (hour, minute): (u32, u32) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let second: f64 = parts.next()?.parse().ok()?;
    Some((hour * 60 + minute) * 60_000 + (second * 1000.0).round() as u32)
}

fn nearest(at: LatLon, among: impl Iterator<Item = LatLon>) -> f64 {
    among.map(|other| at.distance_m(other)).fold(f64::INFINITY, f64::min)
}

/// Every epoch of a recording.
fn epochs(bytes: &[u8]) -> (Vec<Epoch>, (u32, u32)) {
    let mut gps = Gps::recorded(None);
    let mut epochs: Vec<Epoch> = bytes.iter().filter_map(|byte| gps.take(&[*byte], 0)).collect();
    epochs.extend(gps.pause(0));
    (epochs, gps.sentences())
}

/// Every position that a sentence names, by time of day.
fn positions(bytes: &[u8]) -> BTreeMap<u32, Vec<LatLon>> {
    let (mut framer, mut said) = (Framer::default(), BTreeMap::<u32, Vec<LatLon>>::new());
    for byte in bytes {
        let seen = framer.push(*byte).and_then(|text| sentence::parse(text).ok());
        if let Some((time, at)) = seen.and_then(|seen| seen.time_ms.zip(seen.at)) {
            said.entry(time).or_default().push(at);
        }
    }
    said
}

fn compare(file: String, bytes: &[u8], reports: &Reports) -> Row {
    let (epochs, (sentences, damaged)) = epochs(bytes);
    let said = positions(bytes);
    // Text has no control characters but line ends and tabs.
    let control = bytes.iter().filter(|byte| !matches!(byte, b' '..=b'~' | b'\r' | b'\n' | b'\t')).count();
    let binary = control * 100 > bytes.len();
    let fixes: Vec<(u32, Fix)> =
        epochs.iter().filter_map(|epoch| Some((epoch.time_ms, epoch.fix.ok()?))).collect();
    let mut row = Row {
        file,
        bytes: bytes.len(),
        sentences,
        damaged,
        fixes: fixes.len(),
        gpsd_fixes: reports.seconds(),
        ..Row::default()
    };
    let mut why: BTreeMap<&'static str, usize> = BTreeMap::new();
    let mut count = |reason| *why.entry(reason).or_default() += 1;
    for (time, fix) in &fixes {
        let same = reports.by_time.get(time).map(|at| nearest(fix.at, at.iter().copied()));
        if let Some(metres) = same {
            row.both += 1;
            row.max_m = row.max_m.max(metres);
            if metres > TOLERANCE_M {
                let theirs = || reports.by_time.get(time).into_iter().flatten().copied();
                let sentence_of = |from: u32, to: u32| {
                    theirs()
                        .any(|at| nearest(at, said.range(from..=to).flat_map(|(_, at)| at).copied()) < SAME_M)
                };
                if sentence_of(*time, *time) {
                    count("in a second whose own sentences differ by more; gpsd took another of them");
                } else if sentence_of(time.saturating_sub(2000), time + 2000) {
                    count("in a second for which gpsd reports the neighbouring second's position");
                } else if binary && metres <= NEAR_M {
                    count("in a second that gpsd has from a binary message in the same stream");
                } else {
                    row.wrong += 1;
                    count("UNEXPLAINED: both in that second, elsewhere");
                }
            }
            continue;
        }
        let metres = nearest(fix.at, reports.all());
        if nearest(fix.at, reports.untimed.iter().copied()) <= TOLERANCE_M {
            row.both += 1;
            continue;
        }
        row.only_ours += 1;
        if metres <= NEAR_M {
            count("ours in a second that gpsd merges or skips");
        } else if reports.present {
            row.wrong += 1;
            count("UNEXPLAINED: ours, and gpsd has none near");
        } else {
            count("no gpsd answer to compare with");
        }
    }
    let ours = |time| epochs.iter().filter(move |epoch| epoch.time_ms == time);
    for time in reports.by_time.keys() {
        if ours(*time).any(|epoch| epoch.fix.is_ok()) {
            continue;
        }
        row.only_gpsd += 1;
        count(missing(ours(*time).next(), &row));
    }
    for at in &reports.untimed {
        if nearest(*at, fixes.iter().map(|(_, fix)| fix.at)) > TOLERANCE_M {
            row.only_gpsd += 1;
            count(missing(None, &row));
        }
    }
    row.why = why.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    row
}

/// Why gpsd has a fix where we have none.
fn missing(epoch: Option<&Epoch>, row: &Row) -> &'static str {
    match epoch.map(|epoch| epoch.fix) {
        None if row.sentences == 0 => {
            "gpsd's from a binary or proprietary protocol; no NMEA fix sentence here"
        }
        None => "gpsd's from a binary or proprietary message; no NMEA sentence of that second",
        Some(Err(Refusal::Void)) => "gpsd's where a sentence of the second says \"no fix\"",
        Some(Err(Refusal::Reckoned)) => "gpsd's, dead reckoning or simulated: refused here",
        Some(Err(Refusal::NoPosition)) => "gpsd's where a sentence of the second has no readable position",
        Some(Err(Refusal::Contradiction)) => "gpsd's where the sentences of the second contradict each other",
        Some(Ok(_)) => "?",
    }
}

/// Runs the verb.
///
/// # Errors
/// A folder that cannot be read, one without captures, or a position that differs from gpsd's.
pub fn run(args: &GpsCheckArgs) -> Result<()> {
    let listed = fs::read_dir(&args.folder).with_context(|| args.folder.display().to_string())?;
    let mut paths = listed.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    paths.sort();
    ensure!(!paths.is_empty(), "{}: no .log files", args.folder.display());
    let rows = paths.iter().map(|path| check(path)).collect::<Result<Vec<Row>>>()?;
    let sum = |of: fn(&Row) -> usize| rows.iter().map(of).sum::<usize>();
    let wrong = sum(|row| row.wrong);
    if args.json {
        let total = serde_json::json!({
            "captures": rows.len(), "fixes": sum(|row| row.fixes), "gpsd_fixes": sum(|row| row.gpsd_fixes),
            "both": sum(|row| row.both), "wrong": wrong, "tolerance_m": TOLERANCE_M,
            "max_m": rows.iter().map(|row| row.max_m).fold(0.0, f64::max),
        });
        println!("{}", serde_json::json!({ "total": total, "captures": rows }));
    } else {
        println!(
            "{:<38} {:>9} {:>7} {:>6} {:>6} {:>6} {:>6} {:>5} {:>5}  explanation",
            "capture", "sentences", "damaged", "fixes", "gpsd", "both", "max m", "ours", "gpsd"
        );
        for row in &rows {
            println!(
                "{:<38} {:>9} {:>7} {:>6} {:>6} {:>6} {:>6.2} {:>5} {:>5}  {}",
                row.file,
                row.sentences,
                row.damaged,
                row.fixes,
                row.gpsd_fixes,
                row.both,
                row.max_m,
                row.only_ours,
                row.only_gpsd,
                row.why.join("; ")
            );
        }
        println!(
            "{} captures: {} fixes of ours, {} of gpsd's, {} seconds with both, {wrong} differ by more than {TOLERANCE_M} m without an explanation",
            rows.len(),
            sum(|row| row.fixes),
            sum(|row| row.gpsd_fixes),
            sum(|row| row.both)
        );
    }
    ensure!(
        wrong == 0,
        "{wrong} positions differ from gpsd's by more than {TOLERANCE_M} m without an explanation"
    );
    Ok(())
}

fn check(path: &Path) -> Result<Row> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    let chk = path.with_extension("log.chk");
    let reports = match fs::read(&chk) {
        Ok(text) => Reports::parse(&String::from_utf8_lossy(&text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Reports::default(),
        Err(error) => return Err(error).with_context(|| chk.display().to_string()),
    };
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(compare(file, &bytes, &reports))
}

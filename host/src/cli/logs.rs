//! `csp-host logs`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use csp_models::{
    bundle::hex,
    fusion::Decision,
    place::{Place, PlaceSource},
    record::{Candidate, Entry, PredictionRecord, SegmentHeader},
    time::{TimeSource, Timestamp},
};
use serde_json::{Value, json};

use super::{Context, logs_open, print_json};
use crate::{
    progress::note,
    review::{
        Store,
        firmware_log::{self, Program},
        words,
    },
};

/// What the traps wrote down.
#[derive(Debug, clap::Args)]
pub struct LogsArgs {
    #[command(subcommand)]
    verb: LogsVerb,
}

#[derive(Debug, clap::Subcommand)]
enum LogsVerb {
    Show(ShowArgs),
    Open(logs_open::OpenArgs),
    Decode(DecodeArgs),
}

/// List what a trap saw: time and place with their sources, the three opinions, the decision.
///
/// Records after a cut or damage are still shown; what is lost is said on stderr.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// The store: the `--store` directory of `csp-device run`.
    store: PathBuf,
    /// How many classes of each opinion to print.
    #[arg(long, default_value_t = 2, value_name = "K")]
    top: usize,
    /// Only the first N records.
    #[arg(long, value_name = "N")]
    first: Option<usize>,
    /// The secret key's file: opens the places that the trap sealed to it.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
}

/// Read what the firmware said of itself, with the program that said it.
///
/// The log holds numbers; their texts are in the program. Another build's program is refused, by name.
/// Damaged frames are skipped and counted on stderr.
#[derive(Debug, clap::Args)]
pub struct DecodeArgs {
    /// Log files (`*.defmt`), or folders of them: the `diagnostics` folder of a store.
    #[arg(required = true, value_name = "FILE|DIR")]
    logs: Vec<PathBuf>,
    /// The csp-device that ran on the trap, as it was built.
    #[arg(long, value_name = "PROGRAM")]
    elf: PathBuf,
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
/// A store that cannot be read at all.
pub fn run(args: &LogsArgs, _context: &Context) -> Result<()> {
    match &args.verb {
        LogsVerb::Decode(args) => decode(args),
        LogsVerb::Show(args) => {
            let mut store = Store::read(&args.store)?;
            if let Some(key) = &args.key {
                logs_open::open_places(&mut store, key)?;
            }
            show_store(&store, Shown { top: args.top, first: args.first, json: args.json })
        }
        LogsVerb::Open(args) => logs_open::run(args),
    }
}

fn decode(args: &DecodeArgs) -> Result<()> {
    let program = Program::open(&args.elf)?;
    let mut shown = Vec::new();
    for path in firmware_log::logs(&args.logs)? {
        let log = program.decode(&path)?;
        let path = path.display();
        if log.header.is_none() {
            note(format_args!("warning: {path}: its header is damaged; taken for a log of this program"));
        }
        if log.damaged > 0 {
            note(format_args!("warning: {path}: {} damaged frames skipped", log.damaged));
        }
        if log.torn_tail > 0 {
            note(format_args!("warning: {path}: its last {} bytes are an unfinished frame", log.torn_tail));
        }
        if args.json {
            shown.push(json!({
                "file": path.to_string(),
                "version": log.header.as_ref().map(|header| &header.version),
                "build_id": log.header.as_ref().map(|header| &header.build_id),
                "damaged_frames": log.damaged,
                "torn_bytes": log.torn_tail,
                "lines": log.lines,
            }));
            continue;
        }
        for line in &log.lines {
            let uptime = line.uptime_us.map_or(f64::NAN, |us| us as f64 / 1e6);
            let time = line.utc.as_deref().unwrap_or("no clock");
            let at = line.at.as_ref().map_or(String::new(), |at| format!("  ({at})"));
            outln!("{time} {uptime:>12.6} {:<5} {}{at}", line.level, line.message);
        }
    }
    if args.json {
        return print_json(&json!({ "logs": shown }));
    }
    Ok(())
}

/// How much of a store is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown {
    /// Classes of each opinion.
    pub top: usize,
    /// Only the first so many records.
    pub first: Option<usize>,
    /// One JSON document instead of text.
    pub json: bool,
}

pub(crate) fn show(dir: &Path, shown: Shown) -> Result<()> {
    show_store(&Store::read(dir)?, shown)
}

fn show_store(store: &Store, shown: Shown) -> Result<()> {
    let entries = || store.headed().take(shown.first.unwrap_or(usize::MAX));
    let damage = store.damage();
    for line in &damage {
        note(format_args!("warning: {line}"));
    }
    if shown.json {
        let records: Vec<Value> =
            entries().map(|(header, entry)| to_json(header, entry, shown.top)).collect();
        return print_json(&json!({ "damage": damage, "records": records }));
    }
    let mut above = None;
    for (header, entry) in entries() {
        if above != header {
            above = header;
            print_header(header);
        }
        print(entry, shown.top);
    }
    outln!("\n{} of {} records", entries().count(), store.entries().count());
    Ok(())
}

fn print_header(header: Option<&SegmentHeader>) {
    match header {
        None => outln!("\ntrap and model unknown: the header of this segment is damaged"),
        Some(header) => outln!(
            "\ntrap {} · deployment {} · {} · model {}",
            header.device,
            header.deployment,
            header.build,
            &hex(&header.model_digest)[..12]
        ),
    }
}

/// The `k` best candidates of one opinion; a candidate without that opinion is left out.
pub(crate) fn top(
    record: &PredictionRecord,
    k: usize,
    opinion: impl Fn(&Candidate) -> Option<f64>,
) -> Vec<(&str, f64)> {
    let mut scored: Vec<(&str, f64)> =
        record.candidates.iter().filter_map(|c| opinion(c).map(|score| (c.name.as_str(), score))).collect();
    scored.sort_by(|a, b| b.1.total_cmp(&a.1));
    scored.truncate(k);
    scored
}

fn print_heading(seq: u64, time: Timestamp, image: &str) {
    outln!("\n#{seq} {time} ({}) · {image}", time_source(time.source));
}

fn print(entry: &Entry, k: usize) {
    match entry {
        Entry::Prediction(record) => {
            let (place, source) = match &record.sealed {
                Some(_) => ("sealed".into(), "--key FILE opens it".into()),
                None => describe_place(record.place.as_ref()),
            };
            print_heading(record.seq, record.time, &record.image);
            outln!("  place     {place} ({source})");
            let line = |name: &str, list: Vec<(&str, f64)>| {
                let list: Vec<String> =
                    list.iter().map(|(class, p)| format!("{class} {:.1} %", 100.0 * p)).collect();
                outln!("  {name:<9} {}", if list.is_empty() { "none".into() } else { list.join(" · ") });
            };
            line("image", top(record, k, |c| Some(c.image)));
            line("prior", top(record, k, |c| c.prior));
            line("fused", top(record, k, |c| Some(c.fused)));
            outln!("  decision  {} [{}]", describe_decision(&record.decision), record.provenance.as_str());
            let t = &record.latency;
            outln!(
                "  latency   decode {:.1} ms · image {:.1} ms · prior {:.1} ms",
                t.decode_ms,
                t.image_ms,
                t.prior_ms
            );
            for frame in &record.burst {
                let top: Vec<String> = frame
                    .image_top
                    .iter()
                    .map(|(class, p)| format!("class {} {:.1} %", class.0, 100.0 * p))
                    .collect();
                outln!("  burst     {} {}", frame.image, top.join(" · "));
            }
            if let Some(crop) = &record.crop {
                let best = crop
                    .candidates
                    .first()
                    .map_or("nothing".into(), |c| format!("{} {:.1} %", c.name, 100.0 * c.fused));
                let weight = if crop.decides { "decides" } else { "does not decide" };
                outln!("  crop      {best} ({weight})");
            }
            if let Some(ruled_out) = &record.set_aside {
                outln!(
                    "  set aside {} {:.1} %: not on the list of species",
                    ruled_out.name,
                    100.0 * ruled_out.fused
                );
            }
            if record.year_mean {
                outln!("  season    unknown: the mean over the year");
            }
            if let Some(picture) = words::picture(&record.picture) {
                outln!("  picture   {picture}");
            }
        }
        Entry::Failure(record) => {
            print_heading(record.seq, record.time, &record.image);
            outln!("  failed    {}", record.error);
        }
        Entry::Event(record) => {
            print_heading(record.seq, record.time, record.event.kind());
            outln!("  event     {}", words::event(&record.event));
        }
    }
    if let Some(board) = words::board(entry.board()) {
        outln!("  board     {board}");
    }
}

fn to_json(header: Option<&SegmentHeader>, entry: &Entry, k: usize) -> Value {
    let opinion = |list: Vec<(&str, f64)>| -> Vec<Value> {
        list.into_iter().map(|(class, p)| json!({"class": class, "probability": p})).collect()
    };
    let mut value = match entry {
        Entry::Prediction(record) => json!({
            "kind": "prediction",
            "seq": record.seq,
            "time": record.time.to_string(),
            "time_source": record.time.source,
            "image": record.image,
            "image_sha256": hex(&record.image_sha256),
            "place": record.place,
            "sealed": record.sealed.is_some(),
            "image_top": opinion(top(record, k, |c| Some(c.image))),
            "prior_top": opinion(top(record, k, |c| c.prior)),
            "fused_top": opinion(top(record, k, |c| Some(c.fused))),
            "decision": record.decision,
            "provenance": record.provenance.as_str(),
            "year_mean": record.year_mean,
            "latency": record.latency,
            "burst": record.burst.iter().map(|frame| json!({
                "image": frame.image,
                "image_sha256": frame.image_sha256.as_ref().map(|digest| hex(digest)),
                "image_top": frame.image_top,
            })).collect::<Vec<Value>>(),
            "crop": record.crop,
            "set_aside": record.set_aside,
            "picture": record.picture,
            "place_sealed": record.sealed.is_some(),
        }),
        Entry::Failure(record) => json!({
            "kind": "failure",
            "seq": record.seq,
            "time": record.time.to_string(),
            "time_source": record.time.source,
            "image": record.image,
            "image_sha256": record.image_sha256.as_ref().map(|digest| hex(digest)),
            "place": record.place,
            "place_sealed": record.sealed.is_some(),
            "error": record.error,
        }),
        Entry::Event(record) => json!({
            "kind": "event",
            "seq": record.seq,
            "time": record.time.to_string(),
            "time_source": record.time.source,
            "event_kind": record.event.kind(),
            "text": words::event(&record.event),
            "event": record.event,
        }),
    };
    value["board"] = json!(entry.board());
    value["device"] = json!(header.map(|header| &header.device));
    value["deployment"] = json!(header.map(|header| &header.deployment));
    value["build"] = json!(header.map(|header| &header.build));
    value["model_sha256"] = json!(header.map(|header| hex(&header.model_digest)));
    value
}

fn time_source(source: TimeSource) -> &'static str {
    match source {
        TimeSource::Gps => "GPS time",
        TimeSource::Rtc => "system clock",
        TimeSource::SinceBoot => "since boot, no calendar",
    }
}

fn describe_place(place: Option<&Place>) -> (String, String) {
    let Some(place) = place else { return ("unknown".into(), "no place: the image decided alone".into()) };
    let source = match place.source {
        PlaceSource::LiveFix => "live fix".into(),
        PlaceSource::LastFix { age_s } => format!("last fix, {age_s} s old"),
        PlaceSource::ConfiguredSite => "configured site".into(),
    };
    (format!("{} ±{:.0} m", place.at, place.uncertainty_m), source)
}

/// A decision in words.
pub(crate) fn describe_decision(decision: &Decision) -> String {
    match decision {
        Decision::Class { name, probability, .. } => format!("{name} ({:.1} %)", 100.0 * probability),
        Decision::RollUp { rank, name, probability } => {
            format!("{rank} {name} ({:.1} %)", 100.0 * probability)
        }
        Decision::Abstain => "abstained: nothing is sure enough".into(),
    }
}

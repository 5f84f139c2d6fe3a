//! The story as the reviewer gets it: nothing but the records, read back from the store.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Result, ensure};
use csp_host::plots::Timeline;
use csp_models::record::{Activity, Entry, Event};
use serde::Serialize;

use super::world::START_UTC_MS;

/// What the records tell.
pub(super) struct Story {
    pub timeline: Timeline,
    pub summary: Summary,
}

/// Counts.
#[derive(Serialize)]
pub(super) struct Summary {
    entries: usize,
    predictions: usize,
    failures: usize,
    triggers_missed: u32,
    /// By where the place came from.
    provenance: BTreeMap<&'static str, usize>,
    /// Entries stamped without a calendar, and those that a later `clock_set` dates.
    undated: usize,
    datable: usize,
    events: BTreeMap<&'static str, usize>,
    /// Energy of all entries, joules.
    entries_joules: f64,
    activity: Vec<(f64, Activity)>,
}

/// Kinds in the order of the picture.
const ORDER: [&str; 14] = [
    "started",
    "clock_set",
    "first_fix",
    "fix_lost",
    "moved",
    "receiver_silent",
    "activity",
    "camera_fault",
    "camera_back",
    "triggers_missed",
    "storage_low",
    "pictures_removed",
    "model_fault",
    "note",
];

pub(super) fn read(store: &Path, hours: f64) -> Result<Story> {
    let mut entries = Vec::new();
    for (path, segment) in csp_device::store::read(store)? {
        ensure!(segment.damaged.is_empty() && segment.torn_tail == 0, "{}: damaged", path.display());
        entries.extend(segment.entries);
    }
    ensure!(
        entries.iter().enumerate().all(|(index, entry)| entry.seq() == index as u64),
        "the entries are not numbered without gaps"
    );
    // when each boot began, by what the receiver said of its clock
    let mut began = BTreeMap::new();
    for entry in &entries {
        if let Entry::Event(record) = entry
            && let Event::ClockSet { boot, monotonic_ms, utc_ms, .. } = record.event
        {
            began.entry(boot).or_insert(utc_ms - i64::try_from(monotonic_ms)?);
        }
    }
    let mut story =
        Timeline { hours, pictures: vec![(0.0, 0.0); hours.ceil() as usize], ..Timeline::default() };
    let mut events: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    let mut summary = Summary {
        entries: entries.len(),
        predictions: 0,
        failures: 0,
        triggers_missed: 0,
        provenance: BTreeMap::new(),
        undated: 0,
        datable: 0,
        events: BTreeMap::new(),
        entries_joules: 0.0,
        activity: vec![(0.0, Activity::Full)],
    };
    for entry in &entries {
        let board = entry.board();
        let undated = entry.time().source == csp_models::time::TimeSource::SinceBoot;
        summary.undated += usize::from(undated);
        let Some(began) = began.get(&board.boot) else { continue };
        summary.datable += usize::from(undated);
        let hour = (began + i64::try_from(board.monotonic_ms)? - START_UTC_MS) as f64 / 3.6e6;
        story.battery.extend(board.battery_percent.map(|percent| (hour, f64::from(percent))));
        story.temperature.extend(board.temperature_c.map(|celsius| (hour, f64::from(celsius))));
        summary.entries_joules += f64::from(board.energy_mj.unwrap_or(0)) / 1000.0;
        let bar = story.pictures.get_mut(hour.max(0.0) as usize);
        match entry {
            Entry::Prediction(record) => {
                summary.predictions += 1;
                *summary.provenance.entry(record.provenance.as_str()).or_default() += 1;
                if let Some(bar) = bar {
                    bar.0 += 1.0;
                }
            }
            Entry::Failure(_) => {
                summary.failures += 1;
                if let Some(bar) = bar {
                    bar.1 += 1.0;
                }
            }
            Entry::Event(record) => {
                let kind = record.event.kind();
                *summary.events.entry(kind).or_default() += 1;
                events.entry(kind).or_default().push(hour);
                match &record.event {
                    Event::TriggersMissed { count, .. } => summary.triggers_missed += count,
                    Event::Activity { level, .. } => summary.activity.push((hour, *level)),
                    _ => {}
                }
            }
        }
    }
    let level = |activity: Activity| match activity {
        Activity::Full => 0.0,
        Activity::Reduced => 1.0,
        Activity::PicturesOnly => 2.0,
        Activity::Minimal => 3.0,
    };
    story.activity = summary.activity.iter().map(|&(hour, activity)| (hour, level(activity))).collect();
    for kind in ORDER {
        story.events.extend(events.remove(kind).map(|hours| (kind.replace('_', " "), hours)));
    }
    story.events.extend(events.into_iter().map(|(kind, hours)| (kind.replace('_', " "), hours)));
    Ok(Story { timeline: story, summary })
}

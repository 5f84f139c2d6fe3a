//! A week of a trap in seconds: the state machine, the receiver's filters and the store are those of the
//! field; the tree, the weather and the animals are made up.

mod world;

use std::collections::BTreeMap;

use csp_device::store;
use csp_models::{
    record::{Activity, ActivityReason, Entry, Event, LastRun, PredictionRecord},
    time::TimeSource,
};
use world::{MOVED_H, START_UTC_MS, Sim, live, place_at};

/// The power fails for a minute.
const POWER_CUT_H: f64 = 5.55 * 24.0;
const END_H: f64 = 7.0 * 24.0;

#[test]
fn a_week_is_told_by_its_records() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::new(1);
    sim.begin_boot(1, 0.0);
    let refused = |error| panic!("{error}");
    let known = live(&sim, dir.path(), POWER_CUT_H, LastRun::None, None, refused).unwrap();
    sim.begin_boot(2, POWER_CUT_H + 0.02);
    live(&sim, dir.path(), END_H, LastRun::Interrupted, known, refused).unwrap();
    assert!(!sim.is_flash_on());

    let mut entries = Vec::new();
    for (path, segment) in store::read(dir.path()).unwrap() {
        assert!(segment.damaged.is_empty() && segment.torn_tail == 0, "{}", path.display());
        entries.extend(segment.entries);
    }
    assert!(entries.iter().enumerate().all(|(at, entry)| entry.seq() == at as u64), "numbered without gaps");

    // every boot's clock was set, so every entry has its hour, also those made before
    let mut began = BTreeMap::new();
    for entry in &entries {
        if let Entry::Event(record) = entry
            && let Event::ClockSet { boot, monotonic_ms, utc_ms, .. } = record.event
        {
            began.entry(boot).or_insert(utc_ms - monotonic_ms as i64);
        }
    }
    assert_eq!(began.keys().copied().collect::<Vec<_>>(), [1, 2]);
    let hour = |entry: &Entry| {
        let board = entry.board();
        (began[&board.boot] + board.monotonic_ms as i64 - START_UTC_MS) as f64 / 3.6e6
    };
    let undated = entries.iter().filter(|entry| entry.time().source == TimeSource::SinceBoot).count();
    assert!(undated >= 2, "the starts, at least, come before the clock");
    assert!(entries.windows(2).all(|pair| hour(&pair[0]) <= hour(&pair[1]) + 0.01));

    let told = |wanted: &dyn Fn(&Event) -> bool| -> Vec<f64> {
        let found =
            entries.iter().filter(|entry| matches!(entry, Entry::Event(record) if wanted(&record.event)));
        found.map(&hour).collect()
    };
    let mut kinds = BTreeMap::<&str, usize>::new();
    for entry in &entries {
        if let Entry::Event(record) = entry {
            *kinds.entry(record.event.kind()).or_default() += 1;
        }
    }
    eprintln!("{} entries; events {kinds:?}", entries.len());
    for kind in [
        "started",
        "clock_set",
        "first_fix",
        "fix_lost",
        "moved",
        "activity",
        "camera_fault",
        "camera_back",
        "storage_low",
        "pictures_removed",
        "triggers_missed",
    ] {
        assert!(kinds.contains_key(kind), "no {kind}: {kinds:?}");
    }
    // told within the cycle of the receiver, once, and by its true distance
    let moved = told(
        &|event| matches!(event, Event::Moved { distance_m, .. } if (500.0..620.0).contains(distance_m)),
    );
    assert!(moved.len() == 1 && (MOVED_H..MOVED_H + 7.0).contains(&moved[0]), "{moved:?}");
    let camera = told(&|event| matches!(event, Event::CameraFault { .. }));
    assert!(camera.iter().all(|hour| (98.0..100.5).contains(hour)), "{camera:?}");
    let level = |wanted: Activity, why: ActivityReason| {
        told(
            &|event| matches!(event, Event::Activity { level, reason } if (*level, *reason) == (wanted, why)),
        )
    };
    assert!((31.0..36.0).contains(&level(Activity::Reduced, ActivityReason::Temperature)[0]), "the hot noon");
    let battery = [Activity::Reduced, Activity::PicturesOnly, Activity::Minimal]
        .map(|activity| level(activity, ActivityReason::Battery)[0]);
    assert!(battery.is_sorted() && battery[0] > 72.0, "under clouds from the third day: {battery:?}");
    assert!(
        level(Activity::Full, ActivityReason::Recovered).last().unwrap() > &battery[2],
        "the sun is back"
    );

    // the prior followed the trap: what was predicted knew the right tree but for hours after the move
    let predictions: Vec<(f64, &PredictionRecord)> = entries
        .iter()
        .filter_map(
            |entry| if let Entry::Prediction(record) = entry { Some((hour(entry), record)) } else { None },
        )
        .collect();
    assert!(predictions.len() > 200, "{}", predictions.len());
    for (hour, record) in predictions.iter().filter(|(hour, _)| !(MOVED_H..moved[0] + 0.1).contains(hour)) {
        if let Some(place) = record.place {
            let off = place.at.distance_m(place_at(*hour));
            assert!(off < 60.0, "{off:.0} m off at hour {hour:.1}: {place:?}");
        }
    }
    let placed = predictions.iter().filter(|(_, record)| record.place.is_some()).count();
    assert!(placed * 100 > predictions.len() * 95, "{placed} of {} had a place", predictions.len());
    let unclassified = entries.iter().filter(|entry| matches!(entry, Entry::Failure(_))).count();
    assert!(unclassified > 0, "pictures taken while saving energy are recorded");
}

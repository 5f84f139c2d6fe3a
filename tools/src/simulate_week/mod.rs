//! `csp-tools simulate-week`: a week of a trap in seconds. The state machine, the receiver's filters and
//! the store are those of the field; the tree, the weather and the animals are made up.

mod story;
// The same tree that the device's tests live at.
// Parts of the simulation that only the test asks about.
#[allow(dead_code)]
#[path = "../../../device/tests/it/week/world.rs"]
mod world;

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use csp_device::{
    gps::{DutyConfig, Gps, Remembered},
    store::Store,
    trap::{
        Parts, Settings, Step, Trap,
        energy::{Plan, PowerModel},
    },
};
use csp_host::plots::trap_timeline;
use csp_models::record::{Event, LastRun};
use world::{Sim, Tree, identity, labelled};

/// Run a trap through a made-up week: days and nights, a receiver that loses the sky, a trap that is carried off,
/// a card that fills, a battery under clouds, a hot noon, a camera that fails, a power cut.
///
/// Writes OUT/store (`csp-host logs show` reads it), OUT/timeline.png and OUT/timeline.json.
#[derive(Debug, clap::Args)]
pub struct WeekArgs {
    /// The folder to write to; its store must not exist yet.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Another seed is another week.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Days to simulate.
    #[arg(long, default_value_t = 7.0, value_name = "DAYS")]
    days: f64,
}

/// When the power is cut for a moment, hours since the start.
const POWER_CUT_H: f64 = 5.55 * 24.0;

/// Runs the verb.
///
/// # Errors
/// The folder cannot be written, or there is a store in it.
pub fn run(args: &WeekArgs) -> Result<()> {
    anyhow::ensure!((0.1..=60.0).contains(&args.days), "--days {}: 0.1 to 60", args.days);
    let store = args.output.join("store");
    anyhow::ensure!(!store.exists(), "{} exists: give another folder", store.display());
    fs::create_dir_all(&args.output)?;
    let sim = Sim::new(args.seed);
    let end_h = 24.0 * args.days;
    let mut remembered = None;
    let mut boots = vec![(0.0, POWER_CUT_H.min(end_h), LastRun::None)];
    if end_h > POWER_CUT_H {
        boots.push((POWER_CUT_H + 0.02, end_h, LastRun::Interrupted));
    }
    for (index, (from_h, to_h, after)) in boots.into_iter().enumerate() {
        sim.begin_boot(index as u32 + 1, from_h);
        remembered = live(&sim, &store, to_h, after, remembered)?;
    }
    let story = story::read(&store, end_h).context("the store does not read back")?;
    let png = args.output.join("timeline.png");
    let title = format!("A simulated trap: {:.0} days, seed {}", args.days, args.seed);
    trap_timeline(&png, &title, &story.timeline)?;
    fs::write(args.output.join("timeline.json"), serde_json::to_vec_pretty(&story.summary)?)?;
    println!("{}", serde_json::to_string_pretty(&story.summary)?);
    eprintln!("{} and {}", store.display(), png.display());
    Ok(())
}

/// One run of the firmware, from power to power.
fn live(
    sim: &Sim,
    dir: &std::path::Path,
    to_h: f64,
    after: LastRun,
    remembered: Option<Remembered>,
) -> Result<Option<Remembered>> {
    let (store, _) = Store::open(dir, identity())?;
    let parts: Parts<Tree> = Parts {
        trigger: sim.clone(),
        camera: sim.clone(),
        flash: sim.clone(),
        receiver: sim.clone(),
        power: sim.power(),
        classifier: Ok(labelled(sim)),
        store: sim.card(store),
        clock: sim.clone(),
        board: sim.clone(),
    };
    let mut gps = Gps::new(None, None).with_duty(DutyConfig::default());
    if let Some(place) = remembered {
        gps.recall(&place, None, 0);
    }
    let settings = Settings {
        frames: 3,
        interval_ms: 400,
        cool_down_ms: 15_000,
        flash_warm_up_ms: Some(50),
        timelapse_ms: Some(6 * 3_600_000),
        storage_low_bytes: 60 << 20,
        power: PowerModel::default(),
        plan: Plan::default(),
        events: true,
        ..Settings::desk()
    };
    let mut trap = Trap::new(parts, gps, settings);
    trap.tell(Event::Started { after, config_sha256: None });
    let mut remembered = remembered;
    while sim.hours() < to_h {
        match trap.step() {
            // a card that is full is said by the trap itself
            Ok(Step::Idle) | Err(_) => sim.pass(1_000_000),
            Ok(Step::Waiting) => sim.pass(10_000),
            Ok(Step::Working | Step::Recorded(_)) => sim.pass(500),
        }
        remembered = trap.remember().or(remembered);
    }
    Ok(remembered)
}

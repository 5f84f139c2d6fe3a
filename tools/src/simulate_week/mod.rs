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
use csp_host::plots::trap_timeline;
use csp_models::record::LastRun;
use world::{Sim, live};

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
        // a card that is full is said by the trap itself
        remembered = live(&sim, &store, to_h, after, remembered, |_| ())?;
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

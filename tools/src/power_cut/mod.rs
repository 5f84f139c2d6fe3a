//! `csp-tools power-cut`: does the trap's store keep what it acknowledged?

mod killed;
pub(crate) mod ledger;
mod unsynced;

use std::{ops::AddAssign, path::PathBuf};

use anyhow::Result;
use serde::Serialize;

/// Cut the power of the trap's store again and again, and count what it lost.
///
/// One cut in ten kills a process that writes through the store to a real disk. The others cut the power of
/// a simulated disk after a random operation: of what was not synced, writes are dropped or torn at
/// 512 bytes, sizes and names arrive or not in any order; some cuts hit the recovery of the one before,
/// some meet a full disk or a quota. After each cut the store is opened again: every acknowledged record has
/// to be there unchanged, and every picture it names with the right SHA-256. Exit code 1 when one is not.
#[derive(Debug, clap::Args)]
pub struct PowerCutArgs {
    /// How many cuts.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    cuts: u32,
    /// Begin the random numbers here; the simulated cuts of a seed are always the same.
    #[arg(long, default_value_t = 1, value_name = "SEED")]
    seed: u64,
    /// Let the simulated disk forget every sync, to see that losses are found.
    #[arg(long)]
    forget_syncs: bool,
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
    /// The process that is killed: writes to this folder until then.
    #[arg(long, hide = true, value_name = "DIR")]
    child: Option<PathBuf>,
}

/// What a number of cuts did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Toll {
    /// Cuts.
    pub cuts: u32,
    /// Records acknowledged before them.
    pub acknowledged: u64,
    /// Pictures that those records name.
    pub pictures: u64,
    /// Acknowledged records that were gone or changed, or whose picture was.
    pub lost: u64,
    /// Stores that did not open again, or did not take a record then.
    pub unreadable: u32,
}

impl AddAssign for Toll {
    fn add_assign(&mut self, other: Self) {
        self.cuts += other.cuts;
        self.acknowledged += other.acknowledged;
        self.pictures += other.pictures;
        self.lost += other.lost;
        self.unreadable += other.unreadable;
    }
}

impl Toll {
    fn is_clean(&self) -> bool {
        self.lost == 0 && self.unreadable == 0
    }
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    all: Toll,
    seed: u64,
    layers: Layers,
}

#[derive(Serialize)]
struct Layers {
    killed: Toll,
    unsynced: Toll,
}

/// Runs the verb.
///
/// # Errors
/// A child that cannot be started; records that were lost.
pub fn run(args: &PowerCutArgs) -> Result<()> {
    if let Some(dir) = &args.child {
        return killed::child(dir, args.seed);
    }
    let kills = (args.cuts / 10).max(1).min(args.cuts);
    let unsynced = unsynced::run(args.cuts - kills, args.seed, args.forget_syncs);
    let killed = killed::run(kills, args.seed)?;
    let mut all = unsynced;
    all += killed;
    if args.json {
        let report = Report { all, seed: args.seed, layers: Layers { killed, unsynced } };
        println!("{}", serde_json::to_string(&report)?);
    } else {
        for (name, toll) in [("killed processes", killed), ("unsynced writes dropped", unsynced)] {
            println!(
                "{name}: {} cuts, {} records and {} pictures acknowledged, {} lost, {} stores unreadable",
                toll.cuts, toll.acknowledged, toll.pictures, toll.lost, toll.unreadable
            );
        }
    }
    anyhow::ensure!(all.is_clean(), "{} records lost, {} stores unreadable", all.lost, all.unreadable);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_acknowledged_is_lost() {
        let toll = unsynced::run(400, 7, false);
        assert!(toll.is_clean(), "{toll:?}");
        assert!(toll.acknowledged > 2000 && toll.pictures > 500, "{toll:?}");
        assert_eq!(toll, unsynced::run(400, 7, false), "a seed names its cuts");
    }

    /// The measure must be able to fail: a disk that forgets every sync loses records.
    #[test]
    fn a_disk_that_forgets_syncs_is_found_out() {
        let toll = unsynced::run(100, 7, true);
        assert!(toll.lost > 100, "{toll:?}");
    }
}

//! `csp-tools soak`: does the trap's store keep its memory?

use std::{env, fs};

use anyhow::{Context, Result};
use csp_device::store::{Limits, Store, files::Disk};
use csp_models::record::Picture;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::power_cut::ledger::{identity, prediction};

/// Record many events with pictures under a quota, and watch the memory that the process holds.
///
/// The store is the trap's, on this computer's disk; no network runs. Memory counts as flat when its growth from
/// a tenth of the events to the last is below 256 KiB. Exit code 1 when it is not.
#[derive(Debug, clap::Args)]
pub struct SoakArgs {
    /// How many events.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    events: u64,
    /// Bytes of each picture.
    #[arg(long, default_value_t = 20_000, value_name = "BYTES")]
    picture_bytes: usize,
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
}

/// Growth that counts as none, KiB: the allocator's own.
const FLAT_KIB: u64 = 256;

/// Runs the verb.
///
/// # Errors
/// The store refuses, the system does not tell the memory, or it grew.
pub fn run(args: &SoakArgs) -> Result<()> {
    let dir = env::temp_dir().join(format!("csp-soak-{}", std::process::id()));
    let measured = soak(args, &dir);
    let _ = fs::remove_dir_all(&dir);
    let rss = measured?;
    let early = rss.first().map_or(0, |(_, kib)| *kib);
    let last = rss.last().map_or(0, |(_, kib)| *kib);
    if args.json {
        let steps: Vec<_> =
            rss.iter().map(|(events, kib)| json!({"events": events, "rss_kib": kib})).collect();
        println!(
            "{}",
            json!({ "events": args.events, "growth_kib": last.saturating_sub(early), "rss": steps })
        );
    } else {
        rss.iter().for_each(|(events, kib)| println!("{events:>8} events  {kib:>8} KiB"));
    }
    anyhow::ensure!(last <= early + FLAT_KIB, "the process grew from {early} to {last} KiB");
    Ok(())
}

/// Resident memory after each tenth of the events.
fn soak(args: &SoakArgs, dir: &std::path::Path) -> Result<Vec<(u64, u64)>> {
    let quota = 100 * args.picture_bytes as u64;
    let limits = Limits { picture_bytes: Some(quota), min_free_bytes: 0, ..Limits::default() };
    let (mut store, _) = Store::open_with(Disk, dir, identity(), limits)?;
    let mut picture = vec![0x5a; args.picture_bytes];
    let mut rss = Vec::new();
    for event in 0..args.events {
        picture.iter_mut().zip(event.to_le_bytes()).for_each(|(to, from)| *to = from);
        let seq = store.next_seq();
        let name = format!("{seq:08}.jpg");
        let kept = store.keep(&name, &picture)?;
        anyhow::ensure!(kept == Picture::Kept, "{name} was not kept");
        store.append(&prediction(seq, &name, Sha256::digest(&picture).into(), kept))?;
        store.take_removed();
        if (event + 1) % (args.events / 10).max(1) == 0 {
            rss.push((event + 1, resident_kib()?));
        }
    }
    Ok(rss)
}

fn resident_kib() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status").context("memory is measured on Linux only")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    line.split_whitespace().next().context("no VmRSS")?.parse().context("VmRSS")
}

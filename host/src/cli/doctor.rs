//! `csp-host doctor`.

use anyhow::Result;

use super::{Context, print_json};
use crate::training::device::doctor::{Findings, examine};

/// Say what there is to train on, and why not more.
///
/// Lists the CPU and every graphics processor that can be reached, what is missing for the others
/// (driver, permission, cargo feature), and what `--device auto` takes.
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
/// None; nothing to train on but the CPU is no error.
pub fn run(args: &DoctorArgs, _context: &Context) -> Result<()> {
    let found = examine();
    if args.json {
        return print_json(&found);
    }
    let Findings { cpu, apis, auto } = found;
    let memory = cpu.memory_mib.map_or_else(String::new, |mib| format!(", {:.1} GiB", mib as f64 / 1024.0));
    outln!("cpu      {}: {} threads{memory}", cpu.model, cpu.threads);
    for api in apis {
        for adapter in &api.adapters {
            outln!("{:8} {} ({}, {})", adapter.device, adapter.name, adapter.kind, adapter.driver);
        }
        for hint in &api.hints {
            outln!("{:8} – {hint}", api.name);
        }
    }
    outln!("auto     {}: {}", auto.device, auto.reason);
    Ok(())
}

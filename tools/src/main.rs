//! `csp-tools`: what developers run.

extern crate alloc;

mod bench;
mod check_backbones;
mod disdat;
mod dump_logits;
mod fuzz;
mod gps_check;
mod mcu;
mod power_cut;
mod random_bundle;
mod rig;
mod simulate_week;
mod soak;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "csp-tools", version, about = "What developers run: referees, benchmarks, fixture makers")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Bench(bench::BenchArgs),
    Disdat(disdat::DisdatArgs),
    CheckBackbones(check_backbones::CheckArgs),
    DumpLogits(dump_logits::DumpArgs),
    GpsCheck(gps_check::GpsCheckArgs),
    Mcu(mcu::McuArgs),
    PowerCut(power_cut::PowerCutArgs),
    Fuzz(fuzz::FuzzArgs),
    RandomBundle(random_bundle::RandomArgs),
    Rig(rig::RigArgs),
    SimulateWeek(simulate_week::WeekArgs),
    Soak(soak::SoakArgs),
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().verb {
        Verb::Bench(args) => bench::run(&args),
        Verb::Disdat(args) => disdat::run(&args),
        Verb::CheckBackbones(args) => check_backbones::run(&args),
        Verb::DumpLogits(args) => dump_logits::run(&args),
        Verb::GpsCheck(args) => gps_check::run(&args),
        Verb::Mcu(args) => mcu::run(&args),
        Verb::PowerCut(args) => power_cut::run(&args),
        Verb::Fuzz(args) => fuzz::run(&args),
        Verb::RandomBundle(args) => random_bundle::run(&args),
        Verb::Rig(args) => return rig::run(&args),
        Verb::SimulateWeek(args) => simulate_week::run(&args),
        Verb::Soak(args) => soak::run(&args),
    }
    .map(|()| ExitCode::SUCCESS)
}

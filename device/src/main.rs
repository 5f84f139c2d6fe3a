//! `csp-device`: runs a model on pictures and on the trap.

use std::{
    io,
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
};

use clap::{Parser, Subcommand};
use csp_device::{
    cli::{Exit, bench, classify, config, explain, run, selftest},
    diagnostics,
};

/// The camera-trap side of CSP: name what is in a picture from the picture and the place.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Bench(bench::BenchArgs),
    Classify(classify::ClassifyArgs),
    Config(config::ConfigArgs),
    Run(run::RunArgs),
    Selftest(selftest::SelftestArgs),
}

fn main() -> ExitCode {
    diagnostics::begin();
    let result = match Cli::parse().verb {
        Verb::Bench(args) => bench::run(&args, &mut io::stdout().lock()),
        Verb::Classify(args) => classify::run(&args, &mut io::stdout().lock()),
        Verb::Config(args) => config::run(&args, &mut io::stdout().lock()),
        Verb::Selftest(args) => selftest::run(&args, &mut io::stdout().lock()),
        Verb::Run(args) => stop_on_ctrl_c()
            .and_then(|stop| run::run(&args, &stop, &mut io::stdout().lock()))
            .map(|(exit, _)| exit),
    };
    let exit = result.unwrap_or_else(|error| {
        let error_text = explain(&error);
        #[cfg(target_os = "linux")]
        defmt::error!("ended by {=str}", error_text.as_str());
        eprintln!("error: {error_text}");
        Exit::of(&error)
    });
    diagnostics::sync();
    ExitCode::from(exit.code())
}

/// The first Ctrl-C ends the run after the record in work, the second at once.
fn stop_on_ctrl_c() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if seen.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })?;
    Ok(stop)
}

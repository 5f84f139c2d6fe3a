//! The command line: one file a verb, each an args struct and `run`. The work is in the library.
//!
//! Exit codes: 0 done · 1 failed · 2 usage · 3 refused by a gate or a signature.

/// `print!` for results, see [`write_out`].
macro_rules! out {
    ($($arg:tt)*) => { $crate::cli::write_out(format_args!($($arg)*)) };
}

/// `println!` for results, see [`write_out`].
macro_rules! outln {
    () => { out!("\n") };
    ($($arg:tt)*) => { out!("{}\n", format_args!($($arg)*)) };
}

pub mod add_class;
pub mod data;
pub mod demo;
pub mod doctor;
pub mod eval;
pub mod export;
pub mod keys;
pub mod location;
pub mod logs;
mod logs_open;
pub mod map;
pub mod model;
pub mod plot;
pub mod runs;
pub mod self_check;
pub mod sweep;
pub mod train;

use std::{
    fmt,
    io::{self, Write},
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
};

use clap::{Parser, Subcommand, builder::TypedValueParser as _};

use crate::{
    progress::{Voice, note},
    training::guard::{hush_devices, reported},
};

/// Train, evaluate, export and review geo-aware image classifiers for camera traps.
///
/// The loop: data check → train → eval → export → csp-device on the trap → logs show.
/// `csp-host demo` runs all of it on a generated sample.
#[derive(Debug, Parser)]
#[command(name = "csp-host", version, propagate_version = true)]
pub struct Cli {
    /// Print nothing but results and errors.
    #[arg(short, long, global = true)]
    quiet: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Demo(demo::DemoArgs),
    Data(data::DataArgs),
    Train(train::TrainArgs),
    Eval(eval::EvalArgs),
    Sweep(sweep::SweepArgs),
    Runs(runs::RunsArgs),
    Doctor(doctor::DoctorArgs),
    SelfCheck(self_check::SelfCheckArgs),
    AddClass(add_class::AddClassArgs),
    Map(map::MapArgs),
    Plot(plot::PlotArgs),
    Export(export::ExportArgs),
    Location(location::LocationArgs),
    Model(model::ModelArgs),
    Logs(logs::LogsArgs),
    Keys(keys::KeysArgs),
}

/// What every verb is given beside its own arguments.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// How much is said on stderr.
    pub voice: Voice,
}

/// An error that a gate or a digest raised: exit code 3.
#[derive(Debug)]
pub struct Refused(pub anyhow::Error);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&explain(&self.0))
    }
}

impl std::error::Error for Refused {}

impl Cli {
    /// Runs the verb; errors go to stderr, each with its causes.
    pub fn run(self) -> ExitCode {
        let context = Context { voice: if self.quiet { Voice::Silent } else { Voice::of_stderr() } };
        hush_devices();
        let verb = self.verb;
        let result = reported(|| match verb {
            Verb::Demo(args) => demo::run(&args, &context),
            Verb::Data(args) => data::run(&args, &context),
            Verb::Train(args) => train::run(&args, &context),
            Verb::Eval(args) => eval::run(&args, &context),
            Verb::Sweep(args) => sweep::run(&args, &context),
            Verb::Runs(args) => runs::run(&args, &context),
            Verb::Doctor(args) => doctor::run(&args, &context),
            Verb::SelfCheck(args) => self_check::run(&args, &context),
            Verb::AddClass(args) => add_class::run(&args, &context),
            Verb::Map(args) => map::run(&args, &context),
            Verb::Plot(args) => plot::run(&args, &context),
            Verb::Export(args) => export::run(&args, &context),
            Verb::Location(args) => location::run(&args, &context),
            Verb::Model(args) => model::run(&args, &context),
            Verb::Logs(args) => logs::run(&args, &context),
            Verb::Keys(args) => keys::run(&args, &context),
        });
        let result = result.unwrap_or_else(|why| {
            Err(anyhow::anyhow!(
                "the device failed: {why}; csp-host self-check tells whether it computes rightly"
            ))
        });
        match result {
            Ok(()) if OUTPUT_LOST.load(Ordering::Relaxed) => ExitCode::FAILURE,
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                note(format_args!("error: {}", explain(&error)));
                ExitCode::from(if error.is::<Refused>() { 3 } else { 1 })
            }
        }
    }
}

/// An error with its causes, each said once: many messages hold that of their cause already.
fn explain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            text += if text.is_empty() { "" } else { ": " };
            text += &cause;
        }
    }
    text
}

/// Set once a result could not be written to stdout.
static OUTPUT_LOST: AtomicBool = AtomicBool::new(false);

/// Writes a result to stdout. A reader that goes away (`| head`) has seen enough; a full disk behind
/// `>` is said once, and the exit code tells. Neither stops the work.
pub(crate) fn write_out(text: fmt::Arguments<'_>) {
    if let Err(error) = io::stdout().lock().write_fmt(text)
        && error.kind() != io::ErrorKind::BrokenPipe
        && !OUTPUT_LOST.swap(true, Ordering::Relaxed)
    {
        note(format_args!("error: standard output: {error}"));
    }
}

/// Opens a bundle; one that does not verify is refused.
pub(crate) fn open_bundle(path: &std::path::Path) -> anyhow::Result<csp_models::bundle::Bundle> {
    use csp_models::bundle::{Bundle, BundleError};
    Bundle::open(path).map_err(|error| match error {
        BundleError::Io { .. } => error.into(),
        refused => Refused(refused.into()).into(),
    })
}

/// A share on the command line: above 0 and up to 1.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err("it must be a number above 0 and up to 1, such as 0.05".into()),
    }
}

/// The name of a picture on the command line: refused at once where no picture is written so.
pub(crate) fn picture() -> clap::builder::ValueParser {
    let named = |path: std::path::PathBuf| crate::plots::check_name(&path).map(|()| path);
    clap::builder::PathBufValueParser::new().try_map(named).into()
}

/// Writes one JSON document to stdout.
pub(crate) fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    outln!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_before_any_work() {
        let refusal = |line: &str| {
            let parsed = Cli::try_parse_from(line.split(' '));
            parsed.map_or_else(|error| error.to_string(), |_| String::new())
        };
        for line in [
            "csp-host map run --class fox -o x.gif",
            "csp-host plot run -o x",
            "csp-host eval run --data t.csv --reliability x.jpg",
        ] {
            let said = refusal(line);
            assert!(said.contains(".png or .svg"), "{line}: {said}");
        }
        let said = refusal("csp-host eval run --data t.csv --top 0");
        assert!(said.contains("--top") && said.contains('0'), "{said}");
        for line in [
            "csp-host map run --class fox --bbox 170,-20,-170,-10 -o x.PNG",
            "csp-host plot run",
            "csp-host eval run --data t.csv --reliability x.svg --top 1",
        ] {
            assert_eq!(refusal(line), "", "{line}");
        }
    }
}

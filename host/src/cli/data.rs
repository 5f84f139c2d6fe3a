//! `csp-host data`: what is in a data set, and what is wrong with it.

use std::{
    io::{self, Write},
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::bail;
use clap::{Args, Subcommand};
use csp_host::data::{Format, Options, check};
use indicatif::{ProgressBar, ProgressStyle};

use super::Context;

/// Look at a data set before training on it.
#[derive(Debug, Args)]
pub struct DataArgs {
    #[command(subcommand)]
    command: DataCommand,
}

#[derive(Debug, Subcommand)]
enum DataCommand {
    Check(CheckArgs),
}

/// Report what is in a data set and what is wrong with it
///
/// Counts rows, classes and splits, draws a map, decodes every photograph, and lists every problem by
/// kind with its first lines and the fix. Errors are what training refuses, since it would spoil the
/// model unnoticed: text or NaN as a coordinate, swapped or out-of-range or 0,0 places, missing and
/// truncated photographs, one photograph under two classes or in two splits. Warnings are for you to judge.
///
/// Ends with 0 when there are no errors and with 1 when there are; the report is complete either way.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// A CSV or TSV, a folder of photographs, or a COCO Camera Traps JSON
    ///
    /// A table names its columns in the first line: `image_path,lat,lon` and, where known, `date`,
    /// `label`, `split`, `camera`; common other names (latitude, lng, species, …) are understood.
    path: PathBuf,
    /// Read it as this format instead of recognising it
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Table or JSON `location,lat,lon` with the places of a COCO Camera Traps JSON's locations
    ///
    /// Found without this option when it is called <name>_locations.csv or locations.csv beside the JSON.
    #[arg(long, value_name = "FILE")]
    locations: Option<PathBuf>,
    /// Do not decode the photographs: quicker, and truncated and identical files stay unnoticed
    #[arg(long)]
    no_images: bool,
}

/// Runs `csp-host data …`.
///
/// # Errors
/// The data set has errors; the report was printed.
pub fn run(args: DataArgs, context: &Context) -> anyhow::Result<()> {
    match args.command {
        DataCommand::Check(args) => check(args, context),
    }
}

fn check(args: CheckArgs, context: &Context) -> anyhow::Result<()> {
    let options = Options { format: args.format, locations: args.locations };
    let quiet = context.quiet;
    let report = check::check(&args.path, &options, !args.no_images, |photographs| {
        let progress = Progress::new(photographs, quiet);
        move || progress.advance()
    });
    let text = if context.json { serde_json::to_string_pretty(&report)? + "\n" } else { report.to_string() };
    match io::stdout().write_all(text.as_bytes()) {
        // `| head` has seen enough
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    if report.errors > 0 {
        bail!("{}: {}", args.path.display(), check::plural(report.errors, "error"));
    }
    Ok(())
}

/// A bar on a terminal, a line every tenth otherwise; both on stderr.
struct Progress {
    bar: ProgressBar,
    total: usize,
    done: AtomicUsize,
    plain: bool,
}

impl Progress {
    fn new(total: usize, quiet: bool) -> Self {
        let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(total as u64) };
        let template = "decoding {wide_bar} {pos}/{len} {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        // indicatif hides itself where stderr is no terminal
        let plain = bar.is_hidden() && !quiet && total > 0;
        Self { bar, total, done: AtomicUsize::new(0), plain }
    }

    fn advance(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        self.bar.inc(1);
        let tenths = |n: usize| n * 10 / self.total.max(1);
        if self.plain && tenths(done) > tenths(done - 1) {
            eprintln!("decoding photographs: {done} of {}", self.total);
        }
        if done == self.total {
            self.bar.finish_and_clear();
        }
    }
}

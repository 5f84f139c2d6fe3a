//! `csp-host data`: what is in a data set, and what is wrong with it.

use std::{
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::bail;
use clap::{Args, Subcommand};

use super::{Context, print_json};
use crate::{
    data::{self, Dataset, Format, Options, check},
    progress::{Progress, Voice},
};

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
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
}

/// Runs `csp-host data …`.
///
/// # Errors
/// The data set has errors; the report was printed.
pub fn run(args: &DataArgs, context: &Context) -> anyhow::Result<()> {
    match &args.command {
        DataCommand::Check(args) => check(args, context),
    }
}

fn check(args: &CheckArgs, context: &Context) -> anyhow::Result<()> {
    let options = Options { format: args.format, locations: args.locations.clone() };
    let report = check::check(&args.path, &options, !args.no_images, |photographs| {
        let total = photographs as u64;
        let progress = Mutex::new(Some(Progress::new(context.voice, "decode", 0, total)));
        let done = AtomicU64::new(0);
        // called from every decoding thread
        move || {
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            let Ok(mut progress) = progress.lock() else { return };
            if let Some(progress) = progress.as_mut() {
                progress.at(done, String::new);
            }
            if done == total
                && let Some(progress) = progress.take()
            {
                progress.done(&format!("{total} photographs"));
            }
        }
    });
    if args.json {
        print_json(&report)?;
    } else {
        out!("{report}");
    }
    if report.errors > 0 {
        bail!("{}: {}", args.path.display(), check::plural(report.errors, "error"));
    }
    Ok(())
}

/// A data set on the command line of a verb that works on one.
#[derive(Clone, Debug, Args)]
pub struct DataSource {
    /// Photographs with places: a CSV or TSV, a folder, or a COCO Camera Traps JSON.
    #[arg(long, value_name = "TABLE")]
    pub data: PathBuf,
    /// Read it as this format instead of recognising it.
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// Table or JSON with the places of a COCO Camera Traps JSON's locations.
    #[arg(long, value_name = "FILE")]
    pub locations: Option<PathBuf>,
}

impl DataSource {
    /// Opens it; how it was understood and its warnings go to stderr.
    ///
    /// # Errors
    /// Anything that would spoil training or a figure unnoticed.
    pub fn open(&self, voice: Voice) -> anyhow::Result<Dataset> {
        let options = Options { format: self.format, locations: self.locations.clone() };
        let opened = data::open_with(&self.data, &options)?;
        voice.say(&format!("{}: {}, {} rows", self.data.display(), opened.format, opened.dataset.rows.len()));
        for problem in opened.problems.iter() {
            voice.say(&format!("warning: {problem}"));
        }
        Ok(opened.dataset)
    }
}

//! `csp-host sweep`.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::{Context, data::DataSource};
use crate::{
    data::Split,
    evaluation::sweep::{self, SweepOptions},
    training::{self, TrainConfig},
};

/// The paper's table: image only, supervised location and CSP over label ratios and seeds.
///
/// Every (ratio, seed) trains one backbone and two location branches, with and without contrastive
/// pre-training. An interrupted sweep goes on where it stopped. Writes table.md, table.csv,
/// accuracy.svg and the runs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  csp-host sweep --data photos.csv --labels 0.05,0.1,0.2,1 --seeds 3 -o sweep")]
pub struct SweepArgs {
    #[command(flatten)]
    source: DataSource,
    /// Shares of the training labels, separated by commas.
    #[arg(long, value_delimiter = ',', value_parser = super::share, default_value = "0.05,0.1,0.2,1")]
    labels: Vec<f64>,
    /// Seeds 0 to N − 1.
    #[arg(long, default_value_t = 3, value_name = "N")]
    seeds: u64,
    /// Split to report on.
    #[arg(long, value_enum, default_value_t = Split::Val)]
    split: Split,
    /// Settings of all runs, TOML; `csp-host train --help` says more.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// `auto`, `cpu`, `vulkan`, …
    #[arg(long, default_value = "auto")]
    device: String,
    /// Take the backbones of an earlier sweep with the same data and image settings.
    #[arg(long, value_name = "DIR")]
    backbones_of: Option<PathBuf>,
    /// Folder of the results.
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
}

/// Runs the verb.
///
/// # Errors
/// Any run that fails; the finished ones are kept.
pub fn run(args: &SweepArgs, context: &Context) -> Result<()> {
    if args.seeds == 0 || args.labels.is_empty() {
        bail!("--seeds and --labels: nothing to run");
    }
    let mut config = args.config.as_deref().map_or_else(|| Ok(TrainConfig::default()), TrainConfig::read)?;
    config.split = args.source.plan(&config.split);
    let data = args.source.open_split(&config.split, context.voice)?;
    let table = sweep::run(
        &data,
        &SweepOptions {
            labels: &args.labels,
            seeds: args.seeds,
            split: args.split,
            config,
            device: training::choose_device(&args.device)?,
            out: &args.out,
            backbones_of: args.backbones_of.as_deref(),
            voice: context.voice,
        },
    )?;
    out!("{table}");
    Ok(())
}

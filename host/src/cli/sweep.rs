//! `csp-host sweep`.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::{Context, data::DataSource, print_json};
use crate::{
    data::{Split, SplitBy},
    evaluation::sweep::{self, Method, SweepOptions},
    training::{self, TrainConfig},
};

/// The paper's table: image only, location encoders and classical priors over label ratios and seeds.
///
/// Every (ratio, seed) trains one backbone and two location branches, with and without contrastive
/// pre-training. The classical priors (k nearest labelled places, counts in a grid) are tuned on
/// training cells held out, and every prior is fused with the same image network and calibrated in the
/// same way. Nothing is tuned on what is reported.
///
/// An interrupted sweep goes on where it stopped, and one that is asked for more methods measures only
/// those; results of other data, photographs or settings are refused. Writes table.md, table.csv, table.json,
/// accuracy.svg and the runs.
///
/// Several machines share a sweep: each trains other --labels with the same data and settings; their
/// folders runs/labels-… are put into one, and there the sweep of all --labels only draws up the table.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  csp-host sweep --data photos.csv --labels 0.05,0.1,0.2,1 --seeds 3 -o sweep
  csp-host sweep --data photos.csv --splits given,random,block:100 --seeds 3 -o sweep
  csp-host sweep --data photos.csv --runs-of sweep --methods image,csp,knn -o more")]
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
    /// How rows are divided into training and --split, each in turn: given (as the table says), random,
    /// block:KM (whole cells), camera. Random beside block shows what neighbours are worth. The division is
    /// the same for all seeds: deviations are of training alone.
    #[arg(long, value_delimiter = ',', default_value = "given", value_name = "SPLITS")]
    splits: Vec<SplitBy>,
    /// Columns of the table.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Method::USUAL)]
    methods: Vec<Method>,
    /// Settings of all runs, TOML; `csp-host train --help` says more.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// `auto`, `cpu`, `vulkan`, …
    #[arg(long, default_value = "auto")]
    device: String,
    /// Take the backbones of an earlier sweep with the same data and image settings.
    #[arg(long, value_name = "DIR")]
    backbones_of: Option<PathBuf>,
    /// Measure the finished runs of an earlier sweep with the same data and settings; what it lacks is trained.
    #[arg(long, value_name = "DIR")]
    runs_of: Option<PathBuf>,
    /// The table as one JSON document on stdout.
    #[arg(long)]
    json: bool,
    /// Folder of the results.
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
}

/// Runs the verb.
///
/// # Errors
/// Any run that fails; the finished ones are kept.
pub fn run(args: &SweepArgs, context: &Context) -> Result<()> {
    if args.seeds == 0 || args.labels.is_empty() || args.methods.is_empty() || args.splits.is_empty() {
        bail!("--seeds, --labels, --methods, --splits: nothing to run");
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
            plans: &args.splits,
            methods: &args.methods,
            config,
            device: training::choose_device(&args.device)?,
            out: &args.out,
            backbones_of: args.backbones_of.as_deref(),
            runs_of: args.runs_of.as_deref(),
            voice: context.voice,
        },
    )?;
    if args.json {
        return print_json(&table);
    }
    out!("{table}");
    Ok(())
}

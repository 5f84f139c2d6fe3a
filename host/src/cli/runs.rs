//! `csp-host runs`.

use std::path::PathBuf;

use anyhow::Result;
use serde_json::{Value, json};

use super::{Context, print_json};
use crate::{
    progress::note,
    training::runs::{self, RunReport, State},
};

/// List training runs, and compare them.
#[derive(Debug, clap::Args)]
pub struct RunsArgs {
    #[command(subcommand)]
    verb: RunsVerb,
}

#[derive(Debug, clap::Subcommand)]
enum RunsVerb {
    List(ListArgs),
    Compare(CompareArgs),
}

/// List the runs in a folder and below it: how far they came, with what, how good they are.
///
/// The accuracies are of the rows each run held out to calibrate on, and so only comparable between
/// runs of the same data, labels and seed; `csp-host eval` says what a model is worth.
#[derive(Debug, clap::Args)]
struct ListArgs {
    /// A folder with runs.
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
}

/// Put runs side by side: the settings in which they differ, and what came out.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  csp-host runs compare runs/first runs/second")]
struct CompareArgs {
    /// Run directories.
    #[arg(required = true, num_args = 2.., value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
/// No such folder; for `compare` also a run that cannot be read.
pub fn run(args: &RunsArgs, _context: &Context) -> Result<()> {
    match &args.verb {
        RunsVerb::List(args) => list(args),
        RunsVerb::Compare(args) => compare(args),
    }
}

fn list(args: &ListArgs) -> Result<()> {
    let (runs, broken) = runs::find(&args.dir)?;
    if args.json {
        let broken: Vec<String> = broken.iter().map(ToString::to_string).collect();
        return print_json(&json!({ "runs": runs, "unreadable": broken }));
    }
    let percent = |run: &RunReport, key: &str| {
        run.holdout.get(key).map_or_else(String::new, |share| format!("{:.1}", 100.0 * share))
    };
    let head = ["run", "state", "seed", "labels", "data", "seconds", "image %", "place %", "both %"];
    let mut rows = vec![head.map(String::from).to_vec()];
    for run in &runs {
        let path = run.path.strip_prefix(&args.dir).unwrap_or(&run.path);
        let path = if path.as_os_str().is_empty() { &run.path } else { path };
        rows.push(vec![
            path.display().to_string(),
            run.state.to_string(),
            run.info.seed.to_string(),
            run.info.label_fraction.to_string(),
            run.info.data_sha256.chars().take(8).collect(),
            format!("{:.0}", run.seconds()),
            percent(run, "image_top1"),
            percent(run, "prior_top1"),
            percent(run, "fused_top1"),
        ]);
    }
    out!("{}", table(&rows));
    for error in &broken {
        note(format_args!("warning: {error}"));
    }
    if runs.is_empty() {
        note(format_args!("no run.json in {} or below it", args.dir.display()));
    }
    Ok(())
}

fn compare(args: &CompareArgs) -> Result<()> {
    let runs: Vec<RunReport> =
        args.runs.iter().map(|path| RunReport::read(path)).collect::<Result<_, _>>()?;
    let compared = runs::compare(&runs);
    if args.json {
        let states: Vec<&State> = runs.iter().map(|run| &run.state).collect();
        return print_json(&json!({
            "runs": args.runs, "states": states, "settings": compared.settings, "metrics": compared.metrics,
        }));
    }
    let short = |value: &Value| match value {
        Value::Null => String::new(),
        Value::Number(n) if n.is_f64() => format!("{:.4}", n.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) if text.len() == 64 => text.chars().take(8).collect(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    let head = |title: &str, of: &dyn Fn(&RunReport) -> String| -> Vec<String> {
        std::iter::once(title.to_string()).chain(runs.iter().map(of)).collect()
    };
    let mut rows = vec![head("", &|run| run.path.display().to_string())];
    rows.push(head("state", &|run| run.state.to_string()));
    for (key, values) in compared.settings.iter().chain(&compared.metrics) {
        let key = key.strip_prefix("config.").unwrap_or(key);
        rows.push(std::iter::once(key.to_string()).chain(values.iter().map(short)).collect());
    }
    out!("{}", table(&rows));
    if compared.settings.is_empty() {
        note(format_args!("the runs were made with the same settings"));
    }
    Ok(())
}

/// Columns of equal width, two spaces apart.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

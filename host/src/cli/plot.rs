//! `csp-host plot`.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};

use super::Context;
use crate::{
    plots::{self, Curve},
    training::{RunDir, run_dir::Metric},
};

/// Draw how a run learned: the loss of each stage over its steps, from metrics.jsonl.
///
/// A stage that was read once, as short ones are, is a point.
///
/// The held-out loss of the location stages is the mean −log of the normalised prior at rows kept
/// aside; it is on another scale than the training loss, and what matters is where it turns.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  csp-host plot runs/first -o curves.png")]
pub struct PlotArgs {
    /// A run directory of `csp-host train`, finished or not.
    run: PathBuf,
    /// The picture, .png or .svg; RUN/training.svg unless given.
    #[arg(short, long, value_name = "FILE", value_parser = super::picture())]
    out: Option<PathBuf>,
}

/// Runs the verb.
///
/// # Errors
/// Not a run, or one without metrics.
pub fn run(args: &PlotArgs, context: &Context) -> Result<()> {
    let run = RunDir::open(&args.run)?;
    let path = run.root().join("metrics.jsonl");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut curves: Vec<Curve> = Vec::new();
    // a last line may be half written while training goes on
    for metric in text.lines().filter_map(|line| serde_json::from_str::<Metric>(line).ok()) {
        let at = match curves.iter().position(|curve| curve.stage == metric.stage) {
            Some(at) => at,
            None => {
                let stage = metric.stage.clone();
                curves.push(Curve { stage, loss: Vec::new(), holdout: Vec::new() });
                curves.len() - 1
            }
        };
        curves[at].loss.push((metric.step, metric.loss));
        if let Some(loss) = metric.holdout.get("loss") {
            curves[at].holdout.push((metric.step, *loss));
        }
    }
    let out = args.out.clone().unwrap_or_else(|| args.run.join("training.svg"));
    let name = args.run.file_name().unwrap_or_default().to_string_lossy();
    plots::training_curves(&out, &format!("Training of {name}"), &curves)?;
    context.voice.say(&format!("drawn: {}", out.display()));
    Ok(())
}

//! `csp-host self-check`.

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use burn::tensor::Device;
use serde_json::json;

use super::{Context, print_json, runs::table};
use crate::training::{
    choose_device,
    self_check::{CheckedStep, Size, self_check},
};

/// Check that a device computes what the CPU does: 20 steps of each kind of training on both.
///
/// Contrastive pre-training, fine-tuning with the presence loss, a convolutional network and the layers of
/// published ones: loss and gradient of every step are compared; the first step that differs is named and
/// the exit code is 1. Run it once on each new machine or driver before training there.
#[derive(Debug, clap::Args)]
pub struct SelfCheckArgs {
    /// `auto`, `cpu`, `vulkan`, `vulkan:1`, `metal`, `cuda`; see csp-host doctor.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Steps to take of each kind; 20 unless it is said, with --large 3, after which rounding alone can
    /// lead large networks apart.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    steps: Option<u64>,
    /// Networks, batches and pictures as large as in training (minutes on a CPU): a device chooses other
    /// kernels for other sizes.
    #[arg(long)]
    large: bool,
    /// Seed of weights and rows.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Largest relative difference of the loss; ten times that for the gradient.
    #[arg(long, default_value_t = 1e-3)]
    tolerance: f64,
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
    /// Set for the process that computes.
    #[arg(long, hide = true)]
    here: bool,
}

/// Runs the verb.
///
/// # Errors
/// No such device, or it computes something else.
pub fn run(args: &SelfCheckArgs, context: &Context) -> Result<()> {
    if !(args.tolerance.is_finite() && args.tolerance >= 0.0) {
        bail!("--tolerance {}: it must be 0 or more", args.tolerance);
    }
    let chosen = choose_device(&args.device)?;
    if chosen.device != Device::flex() && !args.here {
        return in_a_process_of_its_own(&chosen.description);
    }
    context.voice.say(&format!("device: {}", chosen.description));
    let steps = args.steps.unwrap_or(if args.large { 3 } else { 20 });
    let (seed, tolerance) = (args.seed, args.tolerance);
    let size = if args.large { Size::LARGE } else { Size::SMALL };
    let check = self_check(&chosen.device, &size, steps, seed, tolerance, |checked| {
        if !args.json {
            out!("{}", side_by_side(checked));
        }
    })?;
    if args.json {
        print_json(&json!({ "device": chosen.description, "check": check }))?;
    }
    match check.first_difference {
        None => {
            context.voice.say(&format!("{} steps agree within {tolerance}", check.steps.len()));
            Ok(())
        }
        Some(CheckedStep { stage, step, .. }) => bail!(
            "{} differs from the CPU from step {step} of {stage} on: do not train on it; another driver may help",
            chosen.description
        ),
    }
}

/// The steps of a stage as a table.
fn side_by_side(checked: &[CheckedStep]) -> String {
    let stage = checked.first().map_or("", |step| step.stage);
    let head = [stage, "loss cpu", "loss device", "gradient cpu", "gradient device", ""];
    let mut rows = vec![head.map(String::from).to_vec()];
    for step in checked {
        let numbers = [step.loss[0], step.loss[1], step.gradient[0], step.gradient[1]];
        let mut row = vec![step.step.to_string()];
        row.extend(numbers.map(|number| format!("{number:.6}")));
        row.push(if step.agrees { "" } else { "differs" }.into());
        rows.push(row);
    }
    table(&rows)
}

/// The same command in another process: a graphics driver can crash the one that uses it, and then
/// nobody would be left to say so.
fn in_a_process_of_its_own(device: &str) -> Result<()> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let status = Command::new(program).args(std::env::args_os().skip(1)).arg("--here").status()?;
    match status.code() {
        Some(0) => Ok(()),
        Some(_) => bail!("{device} did not pass, see above"),
        None => bail!("{device}: its driver crashed ({status}): do not train on it; another driver may help"),
    }
}

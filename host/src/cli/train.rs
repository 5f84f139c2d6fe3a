//! `csp-host train`.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context as _, Result};

use super::{Context, data::DataSource, print_json};
use crate::{
    progress::note,
    training::{self, Summary, TrainConfig, TrainOptions},
};

/// Train a model: backbone, contrastive pre-training of the location branch, fine-tuning, calibration.
///
/// Without --labels every training label is used; with --labels 0.05 one in twenty of each class is,
/// and the other rows teach only by picture and place (and, with finetune.pseudo_labels, by what the
/// image network is sure to see in them). Rows of the val and test splits are never touched. Part of the
/// labelled rows, whole map cells, is held out to fit how much the place counts.
///
/// Ctrl-C, a crash or a full disk leaves a run that --resume goes on with; on the CPU to the very
/// same model.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  csp-host train --data photos.csv --out runs/first
  csp-host train --data photos.csv --out runs/few --labels 0.05 --seed 1 --config my.toml
  csp-host train --data photos.csv --out runs/first --resume
  csp-host train --print-config > my.toml

A run holds run.json (settings, seed, digests), rows.json (which row taught what), metrics.jsonl,
checkpoints/ and model/.")]
pub struct TrainArgs {
    #[command(flatten)]
    source: Option<DataSource>,
    /// Directory of the run; must not exist yet, unless with --resume.
    #[arg(long, value_name = "RUN", required_unless_present = "print_config")]
    out: Option<PathBuf>,
    /// Settings, TOML; every key is optional, an unknown one is an error.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Share of the training labels that training may see, above 0 and up to 1.
    #[arg(long, default_value_t = 1.0, value_name = "SHARE", value_parser = super::share)]
    labels: f64,
    /// `auto`: a GPU where there is one, else the CPU. `cpu`, `vulkan`, `metal`, `cuda`: that or nothing.
    /// `vulkan:0,vulkan:1`: pre-training on both at once, the rest on the first. See csp-host doctor.
    #[arg(long, visible_alias = "devices", default_value = "auto")]
    device: String,
    /// Seed of every random choice.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Go on with the run in --out.
    #[arg(long)]
    resume: bool,
    /// Begin with these weights (`backbone.weights`): a state dict of torchvision or timm, safetensors or
    /// .pth, for the kind of network that the configuration names; or a run's model/image.safetensors.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Take the backbone of a finished run that trained the same one.
    #[arg(long, value_name = "RUN")]
    backbone_of: Option<PathBuf>,
    /// Print every setting with its default and what it does, as TOML, and stop.
    #[arg(long, exclusive = true)]
    print_config: bool,
    /// A JSON summary on stdout at the end.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
/// Bad data or settings, no such device, a full disk, an interruption.
pub fn run(args: &TrainArgs, context: &Context) -> Result<()> {
    let changes = |config: &mut TrainConfig| {
        if args.weights.is_some() {
            config.backbone.weights.clone_from(&args.weights);
        }
    };
    let mut config = match &args.config {
        Some(path) => TrainConfig::read_with(path, changes)?,
        None => {
            let mut config = TrainConfig::default();
            changes(&mut config);
            config
        }
    };
    if args.print_config {
        out!("{}", config.explained()?);
        return Ok(());
    }
    let (Some(source), Some(out)) = (&args.source, &args.out) else {
        anyhow::bail!("--data and --out say what to train on and where to");
    };
    let device = training::choose_device(&args.device)?;
    // a flag wins over the file, and the run keeps what counted
    config.split = source.plan(&config.split);
    let data = source.open_split(&config.split, context.voice)?;
    let reason = if device.reason.is_empty() { String::new() } else { format!(": {}", device.reason) };
    context.voice.say(&format!("device: {}{reason}", device.description));
    let stop = stop_on_ctrl_c()?;
    let summary = training::train(
        &data,
        &TrainOptions {
            out,
            config,
            labels: args.labels,
            seed: args.seed,
            device,
            resume: args.resume,
            voice: context.voice,
            cache: None,
            backbone_of: args.backbone_of.as_deref(),
            stop: &|| stop.load(Ordering::Relaxed),
            stop_after_steps: None,
        },
    )?;
    if args.json {
        let Summary { rows, holdout, seconds } = &summary;
        let [labelled, held_out, unlabelled, shielded] = rows;
        let rows = serde_json::json!({
            "labelled": labelled, "held_out": held_out, "unlabelled": unlabelled, "shielded": shielded,
        });
        return print_json(&serde_json::json!({ "rows": rows, "holdout": holdout, "seconds": seconds }));
    }
    let percent = |key: &str| summary.holdout.get(key).map(|share| format!("{:.1} %", 100.0 * share));
    for (name, key) in [("image alone", "image_top1"), ("place alone", "prior_top1"), ("both", "fused_top1")]
    {
        if let Some(percent) = percent(key) {
            context.voice.say(&format!("held-out rows, {name}: {percent}"));
        }
    }
    context.voice.say(&format!("done: {}", out.display()));
    Ok(())
}

/// The first Ctrl-C ends the run after the step in work, with a checkpoint; the second at once.
fn stop_on_ctrl_c() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if seen.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        note(format_args!("\nstopping after this step; Ctrl-C again stops at once"));
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(stop)
}

//! `csp-host demo`: the whole loop on a generated sample, in the words a user would type.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use csp_models::{fusion, labels::Labels, place::Place};

use super::{Context, eval, export, open_bundle, train};
use crate::{
    data::{self, Split},
    evaluation::{self, Evaluation, EnginePredictor, Predictor},
    plots::{self, RangeMap},
    sample::{self, SampleSize},
};

/// The loop on a generated sample: data → train → eval → int8 → device → records → review.
///
/// The sample is synthetic: drawn animals on an invented continent, in look-alike pairs that live in
/// different regions. It shows that the parts fit together; it says nothing about real animals.
/// Needs no download, no GPU and no system package, and takes about two minutes on two cores.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Where sample, run, model and pictures go; must not exist yet.
    #[arg(long, value_name = "DIR", default_value = "csp-demo")]
    out: PathBuf,
    /// Seed of the sample and of the training.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Share of the sample's training labels that training may see.
    #[arg(long, default_value_t = 0.25)]
    labels: f64,
    /// A quarter of the sample and of the training: for tests.
    #[arg(long, hide = true)]
    small: bool,
}

/// Runs the verb.
///
/// # Errors
/// Any step that fails, named.
pub fn run(args: &DemoArgs, context: &Context) -> Result<()> {
    let out = &args.out;
    if out.exists() {
        bail!("{} exists already: remove it, or give another --out", out.display());
    }
    let step = |number: usize, what: &str, typed: &str| context.voice.say(&format!("\n[{number}/7] {what}\n  $ {typed}"));
    let dir = out.display();

    context.voice.say("The sample is SYNTHETIC: drawn animals on an invented continent.");
    let size = if args.small { SampleSize::small() } else { SampleSize::default() };
    let table = sample::generate(&out.join("sample"), args.seed, size)?;

    step(1, "What is in the data", &format!("csp-host data check {dir}/sample/table.csv"));
    let opened = data::open(&table, None)?;
    let rows = &opened.dataset.rows;
    let labels: Vec<&str> = opened.dataset.labels.0.iter().map(|label| label.name.as_str()).collect();
    context.voice.say(&format!("  {} pictures of {} classes: {}", rows.len(), labels.len(), labels.join(", ")));

    step(
        2,
        "Train: backbone, contrastive pre-training, fine-tuning, calibration",
        &format!("csp-host train --data {dir}/sample/table.csv --out {dir}/run --labels {} --seed {}", args.labels, args.seed),
    );
    let run_dir = out.join("run");
    train::run(&train::TrainArgs::for_demo(&table, &run_dir, args.labels, args.seed, args.small), context)
        .context("training")?;

    step(3, "Quantize and export", &format!("csp-host export {dir}/run --quantize int8 -o {dir}/model.cspm"));
    let model = out.join("model.cspm");
    export::run(&export::ExportArgs::for_demo(&run_dir, &model), context).context("export")?;

    step(4, "Evaluate the int8 model on cells it has not seen", &format!("csp-host eval {dir}/model.cspm --data {dir}/sample/table.csv --split val"));
    let predictor = EnginePredictor::new(open_bundle(&model)?)?;
    let val = evaluation::labelled(&opened.dataset, Some(Split::Val), predictor.labels())?;
    let scored = evaluation::score(&predictor, &val, context.voice)?;
    let evaluation = evaluation::summarise(&predictor, &scored);
    eval::print(&evaluation)?;

    step(
        5,
        "One picture on the device, without and with its place",
        &format!("csp-device classify {dir}/model.cspm {dir}/trap/… [--lat Y --lon X]"),
    );
    let trap = sample::write_trap_inputs(&out.join("trap"), &opened.dataset, args.seed)?;
    on_the_device(&predictor, &trap)?;

    step(
        6,
        "A trap on the desk: every picture is a trigger, the receiver's NMEA gives the place",
        &format!("csp-device run --desk {dir}/trap/pictures --nmea {dir}/trap/gps.nmea --model {dir}/model.cspm --store {dir}/store --once"),
    );
    let store = out.join("store");
    csp_device::cli::run::run(&desk_args(&trap, &model, &store))?;

    step(7, "What the trap wrote down", &format!("csp-host logs show {dir}/store"));
    super::logs::show_first(&store, 3)?;

    let pictures = draw(out, &opened.dataset.labels, &predictor, &evaluation, rows)?;
    let points = 100.0 * (evaluation.fused.top1 - evaluation.image.top1);
    println!("\nOn {} unseen synthetic pictures: image alone {:.1} %, with place {:.1} % ({points:+.1} points).",
        evaluation.n, 100.0 * evaluation.image.top1, 100.0 * evaluation.fused.top1);
    println!("Pictures:");
    pictures.iter().for_each(|picture| println!("  {}", picture.display()));
    println!("Everything is in {dir}; remove it when you are done.");
    Ok(())
}

//! `csp-host demo`: the whole loop on a generated sample, in the words a user would type.

use std::{
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use anyhow::{Context as _, Result, bail};
use csp_device::cli::{classify::ClassifyArgs, run::RunArgs};
use csp_models::place::LatLon;

use super::{Context, eval, export, logs, open_bundle};
use crate::{
    data::{self, Dataset, Split},
    evaluation::{self, EnginePredictor, Evaluation, Predictor},
    plots::{self, Bounds, RangeMap},
    sample::{self, SampleSize},
    training::{self, TrainConfig, TrainOptions},
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
    #[arg(long, default_value_t = 0.25, value_parser = super::share)]
    labels: f64,
    /// A smaller sample and less training: for tests.
    #[arg(long, hide = true)]
    small: bool,
}

/// Runs the verb.
///
/// # Errors
/// Any step that fails, named.
pub fn run(args: &DemoArgs, context: &Context) -> Result<()> {
    let (out, voice) = (&args.out, context.voice);
    if out.exists() {
        bail!("{} exists already: remove it, or give another --out", out.display());
    }
    let dir = out.display();
    let step = |number: usize, what: &str, typed: String| {
        voice.say(&format!("\n[{number}/7] {what}\n      $ {typed}"));
    };
    voice.say("The sample is SYNTHETIC: drawn animals on an invented continent, in look-alike pairs.");
    let size = if args.small { SampleSize { train: 800, val: 240 } } else { SampleSize::default() };
    let table = sample::generate(&out.join("sample"), args.seed, size)?;

    step(1, "what is in the data", format!("csp-host data check {dir}/sample/table.csv"));
    let data = data::open(&table, None)?.dataset;
    let classes: Vec<&str> = data.labels.0.iter().map(|label| label.name.as_str()).collect();
    voice.say(&format!("{} pictures of {} classes: {}", data.rows.len(), classes.len(), classes.join(", ")));

    let typed =
        format!("csp-host train --data {dir}/sample/table.csv --out {dir}/run --labels {}", args.labels);
    step(2, "train: backbone, contrastive pre-training, fine-tuning, calibration", typed);
    let run = out.join("run");
    let options = TrainOptions {
        out: &run,
        config: config(args.small),
        labels: args.labels,
        seed: args.seed,
        device: training::choose_device("cpu")?,
        resume: false,
        voice,
        cache: None,
        backbone_of: None,
        stop: &|| false,
        stop_after_steps: None,
    };
    training::train(&data, &options).context("training")?;

    let model = out.join("model.cspm");
    step(3, "quantize and export", format!("csp-host export {dir}/run --quantize int8 -o {dir}/model.cspm"));
    export::run(&export::ExportArgs::for_demo(&run, &model), context)?;

    let typed = format!("csp-host eval {dir}/model.cspm --data {dir}/sample/table.csv --split val");
    step(4, "evaluate the int8 model, by the engine of the trap, on cells it has not seen", typed);
    let predictor = EnginePredictor::new(open_bundle(&model)?)?;
    let rows = evaluation::labelled(&data, Some(Split::Val), predictor.labels())?;
    let answers = evaluation::answers(&predictor, &rows, voice)?;
    let evaluation = evaluation::summarise(&predictor, &answers);
    eval::print(&evaluation)?;

    let trap =
        sample::write_trap_inputs(&out.join("trap"), &table, if args.small { 6 } else { 12 }, args.seed)?;
    let Some((picture, truth)) = trap.truth.first() else { bail!("the sample has no pictures for a trap") };
    let picture = trap.desk.join(picture);
    let place = format!("--lat {:.4} --lon {:.4}", trap.place.lat(), trap.place.lon());
    let typed = format!("csp-device classify {dir}/model.cspm {} {place}", picture.display());
    step(5, &format!("one picture on the device, without and with its place (it shows: {truth})"), typed);
    for at in [None, Some(trap.place)] {
        let classify = ClassifyArgs {
            model: model.clone(),
            trust: Vec::new(),
            images: vec![picture.clone()],
            lat: at.map(LatLon::lat),
            lon: at.map(LatLon::lon),
            uncertainty_m: 0.0,
            date: None,
            top: 3,
            prefer_f32: false,
            threads: 0,
            json: false,
        };
        csp_device::cli::classify::run(&classify, &mut std::io::stdout().lock())?;
    }

    let store = out.join("store");
    let typed = format!(
        "csp-device run --once --desk {} --nmea {} --model {dir}/model.cspm --store {dir}/store",
        trap.desk.display(),
        trap.nmea.display()
    );
    step(6, "a trap on the desk: every picture is a trigger, the receiver gives the place", typed);
    let desk = RunArgs {
        nmea: Some(trap.nmea.display().to_string()),
        once: true,
        name: "demo-trap".into(),
        deployment: "synthetic".into(),
        ..RunArgs::new(&trap.desk, &model, &store)
    };
    csp_device::cli::run::run(&desk, &AtomicBool::new(false), &mut std::io::sink())?;

    step(7, "what the trap wrote down (its first records)", format!("csp-host logs show {dir}/store"));
    logs::show(&store, logs::Shown { top: 2, first: Some(3), json: false })?;

    let pictures = draw(out, &data, &predictor, &evaluation)?;
    let image = evaluation.image.unwrap_or_default().top1;
    outln!(
        "\nOn {} unseen synthetic pictures: image alone {:.1} %, with place {:.1} % ({:+.1} points).\nPictures:",
        evaluation.n,
        100.0 * image,
        100.0 * evaluation.fused.top1,
        100.0 * (evaluation.fused.top1 - image)
    );
    pictures.iter().for_each(|picture| outln!("  {}", picture.display()));
    outln!("Everything is in {dir}; remove it when you are done.");
    Ok(())
}

/// Settings for a sample of a thousand drawn pictures on two cores.
fn config(small: bool) -> TrainConfig {
    let mut config = TrainConfig::default();
    let samples = if small { 5_000 } else { 14_000 };
    (config.backbone.min_samples, config.backbone.max_samples) = (samples, samples);
    config
}

/// Bars of the accuracy, and range maps of the two classes that place helped most.
fn draw(
    out: &Path,
    data: &Dataset,
    predictor: &EnginePredictor,
    evaluation: &Evaluation,
) -> Result<Vec<PathBuf>> {
    let bars = out.join("accuracy.svg");
    plots::accuracy_bars(&bars, "Synthetic sample, unseen cells, int8", evaluation)?;
    let mut drawn = vec![bars];
    let places: Vec<LatLon> = data.rows.iter().filter_map(|row| row.place).collect();
    let Some(bounds) = Bounds::around(&places) else { return Ok(drawn) };
    let mut helped: Vec<_> = evaluation.per_class.iter().collect();
    let gain = |class: &evaluation::ClassAccuracy| class.fused_top1 - class.image_top1.unwrap_or(0.0);
    helped.sort_by(|a, b| gain(b).total_cmp(&gain(a)));
    for class in helped.into_iter().take(2) {
        let (Some(in_model), Some(in_data)) =
            (predictor.labels().find(&class.class), data.labels.find(&class.class))
        else {
            continue;
        };
        let rows = data.rows.iter().filter(|row| row.class == Some(in_data) && row.split == Some(Split::Val));
        let seen: Vec<LatLon> = rows.filter_map(|row| row.place).collect();
        let path =
            out.join(format!("range-{}.svg", class.class.replace(|c: char| !c.is_ascii_alphanumeric(), "-")));
        let title = format!("{} (synthetic): expected and seen", class.class);
        let map =
            RangeMap { title: &title, bounds, seen: &seen, seen_are: "places seen, val rows", grain: 6 };
        plots::range_map(&path, &map, |places| evaluation::presence_map(predictor, in_model, places, None))?;
        drawn.push(path);
    }
    Ok(drawn)
}

//! `csp-host eval`.

use std::path::PathBuf;

use anyhow::Result;

use super::{Context, Refused, data::DataSource, open_bundle, print_json};
use crate::{
    data::Split,
    evaluation::{self, Accuracy, EnginePredictor, Evaluation, Predictor, RunPredictor},
    training::TrainedModel,
};

/// Accuracy of a run or a bundle: image alone, place alone, both.
///
/// A run is computed by burn, a bundle by the engine the trap runs. Rows without a place are
/// answered by the image alone, and counted; a data set without pictures by the place alone.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  csp-host eval runs/first --data photos.csv --split val
  csp-host eval model.cspm --data photos.csv --split val --json")]
pub struct EvalArgs {
    /// A run directory of `csp-host train`, or a bundle of `csp-host export`.
    pub model: PathBuf,
    /// The data set.
    #[command(flatten)]
    pub source: DataSource,
    /// Only the rows of this split.
    #[arg(long, value_enum)]
    pub split: Option<Split>,
    /// One JSON document on stdout.
    #[arg(long)]
    pub json: bool,
}

/// Runs the verb.
///
/// # Errors
/// Anything that keeps the figures from being right.
pub fn run(args: &EvalArgs, context: &Context) -> Result<()> {
    let mut source = args.source.clone();
    source.as_in(&args.model);
    let data = source.open(context.voice)?;
    let model = open_model(&args.model)?;
    let rows = evaluation::labelled(&data, args.split, model.labels())?;
    let scored = evaluation::score(model.as_ref(), &rows, context.voice)?;
    let evaluation = evaluation::summarise(model.as_ref(), &scored);
    if args.json { print_json(&evaluation) } else { print(&evaluation) }
}

/// A run directory or a bundle, by what is on disk.
pub(crate) fn open_model(path: &std::path::Path) -> Result<Box<dyn Predictor>> {
    if path.is_dir() && !path.join(csp_models::manifest::file::MANIFEST).exists() {
        let device = burn::tensor::Device::flex();
        let model = TrainedModel::load(path, &device)?;
        return Ok(Box::new(RunPredictor { model, device }));
    }
    let predictor = EnginePredictor::new(open_bundle(path)?)
        .map_err(|error| Refused(anyhow::Error::new(error).context(path.display().to_string())))?;
    Ok(Box::new(predictor))
}

pub(crate) fn print(evaluation: &Evaluation) -> Result<()> {
    let line = |name: &str, accuracy: &Accuracy| {
        outln!(
            "{name:<22} {:>6.1} %  {:>6.1} %  {:>7}",
            100.0 * accuracy.top1,
            100.0 * accuracy.top3,
            accuracy.n
        );
    };
    outln!("{:<22} {:>8}  {:>8}  {:>7}", "", "top-1", "top-3", "rows");
    match &evaluation.image {
        Some(image) => line("image alone", image),
        None => outln!("image alone            no row has a picture, or the model no image branch"),
    }
    match &evaluation.location {
        Some(location) => line("place alone", location),
        None => outln!("place alone            no row has a place, or the model no location branch"),
    }
    line("image and place", &evaluation.fused);
    if let Some(without_place) = &evaluation.without_place {
        line("  rows without a place", without_place);
    }
    outln!("\n{:<28} {:>7}  {:>8}  {:>8}", "class", "rows", "image", "fused");
    for class in &evaluation.per_class {
        outln!(
            "{:<28} {:>7}  {:>8}  {:>6.1} %",
            class.class,
            class.n,
            class.image_top1.map_or("-".into(), |share| format!("{:.1} %", 100.0 * share)),
            100.0 * class.fused_top1
        );
    }
    Ok(())
}

//! `csp-host eval`.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use super::{Context, Refused, data::DataSource, open_bundle, print_json};
use crate::{
    data::Split,
    evaluation::{
        self, Accuracy, Answer, Answers, Asked, ClassAccuracy, EnginePredictor, Evaluation, EvaluationError,
        Predictor, Reliability, RunPredictor, geography::Geography, top,
    },
    plots,
    training::{RunDir, TrainedModel},
};

/// Accuracy of a run or a bundle: image alone, place alone, both.
///
/// A run is computed by burn, a bundle by the engine the trap runs. Rows without a place are
/// answered by the image alone, a data set without pictures by the place alone; rows without a picture
/// beside others with one are left out. How many rows each is, is said. Data of a
/// run's own is divided as the run divided it, and rows that the run learned from are counted in a warning.
///
/// MRR is the mean of 1/rank of the true class, ECE how far stated and true certainty are apart. Each
/// class has its recall and precision with Wilson's 95 % interval; classes that the model does not know
/// count as wrong, within top K too, and add 0 to the MRR. With --regions the accuracy is also
/// told by cells of the map, and apart for cells that hold training rows and cells that hold none:
/// only the latter says what to expect at a new place.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  csp-host eval runs/first --data photos.csv --split val
  csp-host eval runs/first --data photos.csv --split val --regions 5 --reliability calibration.svg
  csp-host eval runs/first --data photos.csv --split val --predictions answers.csv
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
    /// Also the share of rows whose class is among the first K.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u16).range(1..))]
    pub top: Option<u16>,
    /// Also accuracy by map cells of this many degrees, and how clustered the failures are.
    #[arg(long, value_name = "DEGREES", value_parser = degrees)]
    pub regions: Option<f64>,
    /// Draw the reliability diagram, .svg or .png.
    #[arg(long, value_name = "FILE", value_parser = super::picture())]
    pub reliability: Option<PathBuf>,
    /// Also the answer to each row, as CSV: picture, place, true class; then the class named, its
    /// probability and the rank of the true class, fused, and the same of the image and the place alone.
    ///
    /// Top-k, MRR and ECE can be computed from it. A rank is empty where the model does not know the class,
    /// a branch where it has no answer.
    #[arg(long, value_name = "FILE")]
    pub predictions: Option<PathBuf>,
    /// One JSON document on stdout.
    #[arg(long)]
    pub json: bool,
}

/// What `--json` prints: [`Evaluation`] and what else was asked for.
#[derive(serde::Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    evaluation: &'a Evaluation,
    asked: Asked,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<TopK>,
    #[serde(skip_serializing_if = "Option::is_none")]
    geography: Option<Geography>,
}

/// Shares of rows whose class is among the first `k`.
#[derive(serde::Serialize)]
struct TopK {
    k: usize,
    image: Option<f64>,
    location: Option<f64>,
    fused: f64,
}

impl TopK {
    fn of(k: usize, answers: &Answers) -> Self {
        let share = |answers: &[Option<Answer>]| {
            let ranks: Vec<_> = answers.iter().flatten().map(|answer| answer.rank).collect();
            (!ranks.is_empty()).then(|| top(k, &ranks))
        };
        let fused: Vec<_> = answers.fused.iter().map(|answer| answer.rank).collect();
        Self { k, image: share(&answers.image), location: share(&answers.location), fused: top(k, &fused) }
    }
}

/// Runs the verb.
///
/// # Errors
/// Anything that keeps the figures from being right.
pub fn run(args: &EvalArgs, context: &Context) -> Result<()> {
    let mut source = args.source.clone();
    source.as_in(&args.model);
    let there = |path: &std::path::Path| std::fs::canonicalize(path).ok();
    if let Some(path) =
        args.predictions.as_deref().filter(|path| there(path).is_some() && there(path) == there(&source.data))
    {
        bail!("--predictions {}: that is the data set itself", path.display());
    }
    let data = source.open(context.voice)?;
    let model = open_model(&args.model)?;
    if let Some(form) = model.form() {
        context.voice.say(&format!("runs: {form}"));
    }
    let rows = evaluation::labelled(&data, args.split, model.labels())?;
    let rows = evaluation::answerable(model.as_ref(), &rows);
    if rows.is_empty() {
        return Err(
            EvaluationError::Empty { data: data.source.display().to_string(), split: args.split }.into()
        );
    }
    let asked = Asked::of((model.has_image(), model.has_location()), &data, args.split, &rows);
    context.voice.say(&asked.to_string());
    if let Some(unknown) = evaluation::about_unknown(&data, &rows) {
        context.voice.say(&unknown);
    }
    if let Ok(run) = RunDir::open(&args.model)
        && let Some(taught) = evaluation::about_taught(&run, &data, &rows)?
    {
        context.voice.say(&taught);
    }
    let undated = evaluation::undated(model.as_ref(), &rows);
    if undated > 0 {
        context.voice.say(&format!(
            "season: {undated} of {} rows have no date; their prior is the mean over the year",
            rows.len()
        ));
    }
    let answers = evaluation::answers(model.as_ref(), &rows, context.voice)?;
    let mut evaluation = evaluation::summarise(model.as_ref(), &answers);
    evaluation.per_class.extend(ClassAccuracy::of_unknown(&data, &rows, &answers));
    let modulated = evaluation::modulated(model.as_ref(), &rows, context.voice)?;
    evaluation.modulated = modulated.map(|answers| evaluation::accuracy(&answers));
    let top_k = args.top.map(|k| TopK::of(k.into(), &answers));
    let geography = match args.regions {
        Some(degrees) => Geography::of(&data, &rows, &answers, degrees),
        None => None,
    };
    if let Some(path) = &args.predictions {
        evaluation::write_predictions(path, &data, model.labels(), &rows, &answers)
            .with_context(|| format!("--predictions {}", path.display()))?;
        context.voice.say(&format!("written: {}", path.display()));
    }
    if let Some(path) = &args.reliability {
        let split = args.split.map_or(String::new(), |split| format!(", {split}"));
        let title = title(&args.model, &data) + &split;
        plots::reliability_diagram(path, &title, &evaluation.calibration)?;
        context.voice.say(&format!("drawn: {}", path.display()));
    }
    if args.json {
        return print_json(&Report { evaluation: &evaluation, asked, top_k, geography });
    }
    print(&evaluation)?;
    if let Some(TopK { k, image, location, fused }) = top_k {
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let [image, location] = [image, location].map(|share| share.map_or("–".into(), percent));
        outln!("\ntop-{k}: image {image}, place {location}, both {}", percent(fused));
    }
    match (&geography, args.regions) {
        (Some(geography), _) => print_geography(geography),
        (None, Some(_)) => outln!("\nno row has a place: nothing to tell by region"),
        (None, None) => {}
    }
    Ok(())
}

fn title(model: &std::path::Path, data: &crate::data::Dataset) -> String {
    let name = |path: &std::path::Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    format!("{} on {}", name(model), name(&data.source))
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
    let line = |name: &str, accuracy: &Accuracy, reliability: Option<&Reliability>| {
        let ece = reliability.map_or(String::new(), |reliability| format!("{:.3}", reliability.ece));
        outln!(
            "{name:<22} {:>6.1} %  {:>6.1} %  {:>6.3}  {ece:>6}  {:>7}",
            100.0 * accuracy.top1,
            100.0 * accuracy.top3,
            accuracy.mrr,
            accuracy.n
        );
    };
    let calibration = &evaluation.calibration;
    outln!("{:<22} {:>8}  {:>8}  {:>6}  {:>6}  {:>7}", "", "top-1", "top-3", "MRR", "ECE", "rows");
    match &evaluation.image {
        Some(image) => line("image alone", image, calibration.image.as_ref()),
        None => outln!("image alone            no row has a picture, or the model no image branch"),
    }
    match &evaluation.location {
        Some(location) => line("place alone", location, calibration.location.as_ref()),
        None => outln!("place alone            no row has a place, or the model no location branch"),
    }
    line("image and place", &evaluation.fused, Some(&calibration.fused));
    if let Some(modulated) = &evaluation.modulated {
        line("image, place modulates", modulated, None);
    }
    if let Some(without_place) = &evaluation.without_place {
        line("  rows without a place", without_place, None);
    }
    outln!(
        "\n{:<28} {:>7}  {:>8}  {:>8} {:^13}  {:>7}  {:>9} {:^13}",
        "class",
        "rows",
        "image",
        "fused",
        "(95 %)",
        "called",
        "precision",
        "(95 %)"
    );
    let interval =
        |share: &evaluation::Share| format!("{:.0} to {:.0}", 100.0 * share.low, 100.0 * share.high);
    for class in &evaluation.per_class {
        outln!(
            "{:<28} {:>7}  {:>8}  {:>6.1} % {:^13}  {:>7}  {:>7.1} % {:^13}",
            class.class,
            class.n,
            class.image_top1.map_or("–".into(), |share| format!("{:.1} %", 100.0 * share)),
            100.0 * class.fused_top1,
            interval(&class.recall),
            class.called,
            100.0 * class.precision.value,
            interval(&class.precision),
        );
    }
    Ok(())
}

/// Regions printed.
const WORST: usize = 10;

/// The side of a region from the command line.
fn degrees(text: &str) -> Result<f64, String> {
    let degrees = text.parse().ok().filter(|degrees: &f64| *degrees > 0.0 && *degrees <= 90.0);
    degrees.ok_or_else(|| format!("{text:?} is not above 0 and up to 90 degrees"))
}

fn print_geography(geography: &Geography) {
    let Geography { degrees, regions, .. } = geography;
    let percent = |share: Option<f64>| share.map_or("–".into(), |share| format!("{:.1} %", 100.0 * share));
    let help = match geography.helped_hurt {
        Some([helped, hurt]) => format!("the place helps the image in {helped} and hurts it in {hurt}"),
        None => "no row has both a picture and a place to compare".into(),
    };
    outln!(
        "\n{} regions of {degrees}°, each counted once: image {}, image and place {:.1} % (deviation {:.1}); {help}",
        regions.len(),
        percent(geography.mean_image_top1),
        100.0 * geography.mean_fused_top1,
        100.0 * geography.sd_fused_top1
    );
    if let Some(training) = &geography.training {
        for (name, (image, fused)) in
            [("with training rows", &training.among_training), ("without", &training.apart)]
        {
            outln!(
                "  cells {name:<20} image {:>7}  fused {:>7}  {:>7} rows",
                percent(image.map(|image| image.top1)),
                percent((fused.n > 0).then_some(fused.top1)),
                fused.n
            );
        }
    }
    outln!("surely worst:          south     west    rows     image     fused (95 %)");
    for region in regions.iter().take(WORST) {
        outln!(
            "                    {:>8.2} {:>8.2} {:>7}  {:>8}  {:>6.1} % ({:.0} to {:.0})",
            region.south,
            region.west,
            region.n,
            percent(region.image_top1),
            100.0 * region.fused.value,
            100.0 * region.fused.low,
            100.0 * region.fused.high
        );
    }
    if let Some(information) = &geography.self_information {
        outln!(
            "spatial self-information within {} rad, nats: {:.1} of the sampling, {:.1} of hits and misses ({} rows)",
            information.radius,
            information.unmarked,
            information.marked,
            information.rows
        );
    }
}

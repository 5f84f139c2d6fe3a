//! `csp-host map`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use csp_models::{place::LatLon, situation::Situation, time::YearFraction};

use super::{Context, data::DataSource, eval::open_model};
use crate::{
    data::{self, Dataset, Format},
    evaluation::{self, Predictor, RunPredictor, embedding},
    plots::{self, Bounds, EmbeddingMap, RangeMap},
    training::{RunDir, TrainedModel},
};

/// Draw where a model expects a class, or what its location encoder tells apart.
///
/// A range map shows the presence score of the place alone, before any picture, from 0 to 1, with coast
/// and graticule and the places of the class in the data. An embedding map colours each place by the
/// first three principal components of its embedding: places of like colour are alike to the model.
/// The maps are equirectangular, true to scale along their middle latitude.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  csp-host map runs/first --class \"Panthera onca\" -o jaguar.png
  csp-host map runs/first --class \"Panthera onca\" --bbox world -o jaguar-world.svg
  csp-host map runs/season --class \"Panthera onca\" --date july -o jaguar-july.png
  csp-host map model.cspm --class \"Panthera onca\" --data photos.csv -o jaguar.png
  csp-host map runs/first --embedding --bbox -10,35,30,60 -o embedding.png")]
pub struct MapArgs {
    /// A run directory of `csp-host train`, or a bundle of `csp-host export`.
    model: PathBuf,
    /// The class, as it is named in the data.
    #[arg(long, required_unless_present = "embedding", conflicts_with = "embedding")]
    class: Option<String>,
    /// Draw the embedding instead of a class; runs only.
    #[arg(long)]
    embedding: bool,
    /// When, for a model that knows seasons: a day (2026-07-14) or a month (7, jul). Unset: the mean over
    /// the year.
    #[arg(long, value_name = "DAY|MONTH", value_parser = YearFraction::parse)]
    date: Option<YearFraction>,
    /// The part of the Earth: WEST,SOUTH,EAST,NORTH in degrees, or `world`. Unset: around the places of
    /// the data.
    #[arg(long, value_name = "BOX", allow_hyphen_values = true)]
    bbox: Option<Bounds>,
    /// Where the places seen come from; unset: the data the run was trained on.
    #[arg(long, value_name = "TABLE")]
    data: Option<PathBuf>,
    /// Read --data as this format instead of recognising it.
    #[arg(long, value_enum, requires = "data")]
    format: Option<Format>,
    /// Table or JSON with the places of a COCO Camera Traps JSON's locations.
    #[arg(long, value_name = "FILE", requires = "data")]
    locations: Option<PathBuf>,
    /// Pixels of a cell of the raster.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    grain: u32,
    /// The picture: .png or .svg.
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
}

/// Runs the verb.
///
/// # Errors
/// No such class, no location branch, or a picture that cannot be written.
pub fn run(args: &MapArgs, context: &Context) -> Result<()> {
    let data = match args.data.clone() {
        Some(data) => Some(DataSource::plain(data, args.format, args.locations.clone()).open(context.voice)?),
        None => training_data(&args.model, context),
    };
    let places: Vec<LatLon> = data.iter().flat_map(|data| &data.rows).filter_map(|row| row.place).collect();
    let bounds = args.bbox.or_else(|| Bounds::around(&places)).unwrap_or_else(Bounds::world);
    let name = args.model.file_name().unwrap_or_default().to_string_lossy();
    match &args.class {
        Some(class) => range(args, class, data.as_ref(), bounds, &name, context)?,
        None => embed(args, bounds, &name, context)?,
    }
    context.voice.say(&format!("drawn: {}", args.out.display()));
    Ok(())
}

/// What the title says of the season.
fn season(args: &MapArgs, seasonal: bool, context: &Context) -> String {
    match (args.date, seasonal) {
        (Some(date), true) => format!(" on {date}"),
        (None, true) => ", mean over the year".into(),
        (Some(_), false) => {
            context.voice.say("note: this model knows no seasons, --date changes nothing");
            String::new()
        }
        (None, false) => String::new(),
    }
}

fn range(
    args: &MapArgs,
    class: &str,
    data: Option<&Dataset>,
    bounds: Bounds,
    name: &str,
    context: &Context,
) -> Result<()> {
    let model = open_model(&args.model)?;
    let labels = model.labels();
    let Some(in_model) = labels.find(class) else {
        let known: Vec<&str> = labels.0.iter().take(12).map(|label| label.name.as_str()).collect();
        let more = if labels.len() > known.len() { ", …" } else { "" };
        bail!("--class: the model has no class {class:?}; it knows {}{more}", known.join(", "));
    };
    if !model.has_location() {
        bail!("{}: the model has no location branch: it was trained without places", args.model.display());
    }
    let in_data = data.and_then(|data| Some((data, data.labels.find(class)?)));
    let seen: Vec<LatLon> = in_data.map_or(Vec::new(), |(data, class)| {
        data.rows.iter().filter(|row| row.class == Some(class)).filter_map(|row| row.place).collect()
    });
    let title = format!("{class}: where {name} expects it{}", season(args, model.is_seasonal(), context));
    let map = RangeMap { title: &title, bounds, seen: &seen, seen_are: "places seen", grain: args.grain };
    plots::range_map(&args.out, &map, |places| {
        evaluation::presence_map(model.as_ref() as &dyn Predictor, in_model, places, args.date)
    })?;
    Ok(())
}

fn embed(args: &MapArgs, bounds: Bounds, name: &str, context: &Context) -> Result<()> {
    let device = burn::tensor::Device::flex();
    let model = TrainedModel::load(&args.model, &device)
        .context("--embedding needs a run: a bundle's location network ends in class scores")?;
    let run = RunPredictor { model, device };
    let title = match (args.date, run.is_seasonal()) {
        // one colour a place: embeddings have no mean that means something
        (None, true) => bail!("--embedding: this model knows seasons; give --date"),
        (_, seasonal) => format!("What {name} tells apart{}", season(args, seasonal, context)),
    };
    let map = EmbeddingMap { title: &title, bounds, grain: args.grain };
    plots::embedding_map(&args.out, &map, |places| {
        let places: Vec<Situation> = places.iter().map(|&at| Situation::new(at, args.date)).collect();
        let rows = embedding::embeddings(&run.model, &places, &run.device)
            .ok_or("the model has no location branch: it was trained without places")?;
        Ok(embedding::principal_colours(&rows))
    })
    .map_err(|error| anyhow!(error))
}

/// The data a run was trained on, where it still is; a map can do without.
fn training_data(model: &Path, context: &Context) -> Option<Dataset> {
    let run = RunDir::open(model).ok()?;
    match data::open_with(run.data(), &run.info().data_options) {
        Ok(opened) => Some(opened.dataset),
        Err(error) => {
            context.voice.say(&format!("no places seen on the map: {error}; --data says where they are"));
            None
        }
    }
}

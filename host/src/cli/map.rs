//! `csp-host map`.

use std::{collections::BTreeSet, fmt, path::PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use csp_models::{
    place::LatLon,
    situation::Situation,
    time::{DateError, YearFraction},
};

use super::{Context, data::DataSource, eval::open_model};
use crate::{
    data::{self, Dataset, Format},
    evaluation::{self, Predictor, RunPredictor, embedding},
    plots::{self, Bounds, EmbeddingMap, RangeMap},
    training::{RunDir, TrainedModel, added_records::AddedRecords},
};

/// Draw where a model expects a class, or what its location encoder tells apart.
///
/// A range map shows the presence score of the place alone, before any picture, from 0 to 1, with coast
/// and graticule and the places of the class in the data, those that the model did not learn from too:
/// the legend counts both. Of a class of `csp-host add-class` they are its records. An embedding map
/// colours each place by the first three principal components of its embedding: places of like colour are
/// alike to the model.
/// The maps are equirectangular, true to scale along their middle latitude (beyond 78°, where the true shape
/// would be a needle, drawn wider). The coast is Natural Earth's at 1:110m, to about 30 km and without small
/// islands: places at the shore can lie in its sea.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  csp-host map runs/first --class \"Panthera onca\" -o jaguar.png
  csp-host map runs/first --class \"Panthera onca\" --bbox world -o jaguar-world.svg
  csp-host map runs/season --class \"Panthera onca\" --date july -o jaguar-july.png
  csp-host map runs/fiji --class \"Pteropus tonganus\" --bbox 170,-20,-170,-10 -o flying-fox.png
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
    /// When, for a model that knows seasons: a day (2026-07-14) or the middle of a month (7, jul). Unset: the mean
    /// over the year.
    #[arg(long, value_name = "DAY|MONTH", value_parser = When::parse)]
    date: Option<When>,
    /// The part of the Earth: WEST,SOUTH,EAST,NORTH in degrees, across 180° where EAST is below WEST, or
    /// `world`. Unset: around the places of the data and of the class.
    #[arg(long, value_name = "BOX", allow_hyphen_values = true)]
    bbox: Option<Bounds>,
    /// Where the places of the class come from. Unset: the data the run was trained on, or the records of
    /// an added class.
    #[arg(long, value_name = "TABLE")]
    data: Option<PathBuf>,
    /// Read --data as this format instead of recognising it.
    #[arg(long, value_enum, requires = "data")]
    format: Option<Format>,
    /// Where the cameras of a COCO or iNaturalist JSON in --data stand: a table or JSON `location,lat,lon`.
    #[arg(long, value_name = "FILE", requires = "data")]
    locations: Option<PathBuf>,
    /// Pixels of a cell of the raster.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    grain: u32,
    /// The picture: .png or .svg.
    #[arg(short, long, value_name = "FILE", value_parser = super::picture())]
    out: PathBuf,
}

/// A time of the year, and how it was named.
#[derive(Clone, Copy, Debug)]
struct When {
    at: YearFraction,
    /// A month: its middle.
    month: bool,
}

impl When {
    fn parse(text: &str) -> Result<Self, DateError> {
        Ok(Self { at: YearFraction::parse(text)?, month: !text.contains('-') })
    }
}

impl fmt::Display for When {
    /// ` on 14 July`, ` in mid-July`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let day = self.at.to_string();
        match day.split_once(' ').filter(|_| self.month) {
            Some((_, month)) => write!(f, " in mid-{month}"),
            None => write!(f, " on {day}"),
        }
    }
}

/// Runs the verb.
///
/// # Errors
/// No such class, no location branch, or a picture that cannot be written.
pub fn run(args: &MapArgs, context: &Context) -> Result<()> {
    let observed = Observed::of(args, context)?;
    let bounds = args.bbox.or_else(|| observed.bounds()).unwrap_or_else(Bounds::world);
    let name = args.model.file_name().unwrap_or_default().to_string_lossy();
    match &args.class {
        Some(class) => range(args, class, &observed, bounds, &name, context)?,
        None => embed(args, bounds, &name, context)?,
    }
    context.voice.say(&format!("drawn: {}", args.out.display()));
    Ok(())
}

impl MapArgs {
    fn at(&self) -> Option<YearFraction> {
        self.date.map(|date| date.at)
    }
}

/// What the title says of the season.
fn season(args: &MapArgs, seasonal: bool, context: &Context) -> String {
    match (args.date, seasonal) {
        (Some(date), true) => date.to_string(),
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
    observed: &Observed,
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
    if labels.0.get(in_model.index()).is_some_and(|label| !label.placed) {
        bail!("--class: no record with a place has taught the model where {class:?} lives");
    }
    let (seen, seen_are) = observed.of_class(class, bounds);
    let title = format!("{class}: where {name} expects it{}", season(args, model.is_seasonal(), context));
    let map = RangeMap { title: &title, bounds, seen: &seen, seen_are: &seen_are, grain: args.grain };
    plots::range_map(&args.out, &map, |places| {
        evaluation::presence_map(model.as_ref() as &dyn Predictor, in_model, places, args.at())
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
        let places: Vec<Situation> = places.iter().map(|&at| Situation::new(at, args.at())).collect();
        let rows = embedding::embeddings(&run.model, &places, &run.device)
            .ok_or("the model has no location branch: it was trained without places")?;
        Ok(embedding::principal_colours(&rows))
    })
    .map_err(|error| anyhow!(error))
}

/// What there is to know of where classes were seen.
#[derive(Default)]
struct Observed {
    /// --data, or what the run was trained on, where it still is.
    data: Option<Dataset>,
    /// The rows whose label the model learned, where the data is the run's.
    taught: Option<BTreeSet<usize>>,
    /// Where the class was seen, if it was added to the run and --data says nothing else of it.
    added: Vec<LatLon>,
}

impl Observed {
    fn of(args: &MapArgs, context: &Context) -> Result<Self> {
        let run = if args.model.join("run.json").is_file() { Some(RunDir::open(&args.model)?) } else { None };
        let mut observed = match (args.data.clone(), &run) {
            (Some(data), _) => {
                let source = DataSource::plain(data, args.format, args.locations.clone());
                let data = source.open(context.voice)?;
                Self { data: Some(data), ..Self::default() }
            }
            (None, Some(run)) => Self::of_run(run, context)?,
            (None, None) => Self::default(),
        };
        let class = args.class.as_deref().unwrap_or_default();
        let labels = observed.data.as_ref().map(|data| &data.labels);
        let said = args.data.is_some() && labels.is_some_and(|labels| labels.find(class).is_some());
        if let Some(run) = run.filter(|_| !said) {
            observed.added = AddedRecords::read(&run)?.of(class).iter().map(|record| record.at).collect();
        }
        Ok(observed)
    }

    /// Of the data a run was trained on; a map can do without it.
    fn of_run(run: &RunDir, context: &Context) -> Result<Self> {
        match data::open_with(run.data(), &run.info().data_options) {
            Ok(opened) if opened.dataset.sha256 == run.info().data_sha256 => {
                let taught = run.rows()?.labelled.into_iter().collect();
                Ok(Self { data: Some(opened.dataset), taught: Some(taught), ..Self::default() })
            }
            Ok(opened) => {
                let path = run.data().display();
                context.voice.say(&format!("warning: {path} is not what the run was trained on"));
                Ok(Self { data: Some(opened.dataset), ..Self::default() })
            }
            Err(error) => {
                context
                    .voice
                    .say(&format!("no places of the data on the map: {error}; --data says where it is"));
                Ok(Self::default())
            }
        }
    }

    fn bounds(&self) -> Option<Bounds> {
        let rows = self.data.iter().flat_map(|data| &data.rows);
        let places: Vec<LatLon> =
            rows.filter_map(|row| row.place).chain(self.added.iter().copied()).collect();
        Bounds::around(&places)
    }

    /// The places of a class, each once, and what a legend says of those within `bounds`.
    fn of_class(&self, class: &str, bounds: Bounds) -> (Vec<LatLon>, String) {
        if !self.added.is_empty() {
            return (distinct(self.added.iter().copied()), "places of its records".into());
        }
        let Some((data, class)) = self.data.as_ref().and_then(|data| Some((data, data.labels.find(class)?)))
        else {
            return (Vec::new(), String::new());
        };
        let rows = || data.rows.iter().enumerate().filter(|(_, row)| row.class == Some(class));
        let seen = distinct(rows().filter_map(|(_, row)| row.place));
        let within = |places: &[LatLon]| places.iter().filter(|place| bounds.contains(**place)).count();
        let learned = self.taught.as_ref().map(|taught| {
            let rows = rows().filter(|(i, _)| taught.contains(i));
            within(&distinct(rows.filter_map(|(_, row)| row.place)))
        });
        let are = match learned {
            Some(learned) if learned < within(&seen) => {
                format!("places in the data, {learned} of them learned")
            }
            _ => "places in the data".into(),
        };
        (seen, are)
    }
}

/// Places, each once: a camera takes many pictures.
fn distinct(places: impl Iterator<Item = LatLon>) -> Vec<LatLon> {
    let mut places: Vec<LatLon> = places.collect();
    places.sort_by(|a, b| a.lat().total_cmp(&b.lat()).then(a.lon().total_cmp(&b.lon())));
    places.dedup();
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Options, Row};
    use csp_models::labels::{ClassId, Label, Labels};

    fn at(lat: f64, lon: f64) -> LatLon {
        LatLon::new(lat, lon).unwrap()
    }

    /// Eight pictures of a fox at four places, and one of an owl.
    fn data() -> Dataset {
        let row = |lat: f64, lon: f64, class: u16| Row {
            place: Some(at(lat, lon)),
            class: Some(ClassId(class)),
            ..Row::default()
        };
        let foxes = (0..8u8).map(|i| row(f64::from(i / 2), 10.0, 0));
        Dataset {
            source: "d.csv".into(),
            rows: foxes.chain([row(0.0, 12.0, 1)]).collect(),
            labels: Labels(["fox", "owl"].map(Label::new).to_vec()),
            options: Options::default(),
            sha256: String::new(),
        }
    }

    #[test]
    fn places_are_counted_once_and_learned_ones_apart() {
        let taught = |rows: &[usize]| Some(rows.iter().copied().collect());
        let observed = Observed { data: Some(data()), taught: taught(&[0, 1, 6, 8]), ..Observed::default() };
        let (places, are) = observed.of_class("fox", Bounds::world());
        assert_eq!((places.len(), are.as_str()), (4, "places in the data, 2 of them learned"));
        let (_, are) = observed.of_class("fox", "9,-1,11,1.5".parse().unwrap());
        assert_eq!(are, "places in the data, 1 of them learned");
        assert_eq!(observed.of_class("owl", Bounds::world()).1, "places in the data");
        assert_eq!(observed.of_class("yak", Bounds::world()).0, []);
        let elsewhere = Observed { taught: None, ..observed };
        assert_eq!(elsewhere.of_class("fox", Bounds::world()).1, "places in the data");
    }

    #[test]
    fn a_month_is_not_a_day() {
        let said = |text: &str| When::parse(text).unwrap().to_string();
        for month in ["7", "jul", "July"] {
            assert_eq!(said(month), " in mid-July");
        }
        assert_eq!(said("2026-07-14"), " on 14 July");
        assert_eq!(said("2026-02-15"), " on 15 February");
        assert_eq!(said("2"), " in mid-February");
        assert!(When::parse("13").is_err());
    }

    #[test]
    fn records_of_an_added_class_are_seen_and_in_the_picture() {
        let added = vec![at(40.0, 60.0), at(41.0, 61.0), at(41.0, 61.0)];
        let observed = Observed { data: Some(data()), added, ..Observed::default() };
        let bounds = observed.bounds().unwrap();
        assert!(bounds.contains(at(41.0, 61.0)) && bounds.contains(at(0.0, 10.0)), "{bounds}");
        let (places, are) = observed.of_class("newt", bounds);
        assert_eq!((places.len(), are.as_str()), (2, "places of its records"));
    }
}

//! `csp-device classify`: pictures on the command line, answers on stdout.

use std::{
    io::Write,
    path::{Path, PathBuf},
    time::Instant,
};

use csp_models::{
    bundle::hex,
    fusion::{Decision, ranked},
    labels::Labels,
    manifest::NumberFormat,
    picture,
    place::{LatLon, Place},
    record::{Candidate, Latency, Provenance},
    signature::TrustedKey,
    time::YearFraction,
};
use serde::Serialize;

use super::{Exit, describe, ignore_closed_pipe, open_model, peak_rss_kib};
use crate::{
    infer::{Engine, EngineOptions, InferError},
    trap::{Classifier, Prediction, Predictor},
};

/// Name what is in pictures, with or without a place.
///
/// Exit code 0: every picture was classified · 1: some were not · 2: usage · 3: the model is refused.
#[derive(Clone, Debug, clap::Args)]
pub struct ClassifyArgs {
    /// The model: a .cspm file or a folder of the same files.
    pub model: PathBuf,

    /// Photographs, JPEG or PNG.
    #[arg(required = true)]
    pub images: Vec<PathBuf>,

    /// Run only a model that one of these minisign public keys signed (RW…); repeat it for several.
    #[arg(long, value_name = "KEY")]
    pub trust: Vec<TrustedKey>,

    /// Latitude of the place in degrees, south negative. Without a place the picture decides alone.
    #[arg(long, requires = "lon", allow_hyphen_values = true, value_name = "DEGREES")]
    pub lat: Option<f64>,

    /// Longitude of the place in degrees, west negative.
    #[arg(long, requires = "lat", allow_hyphen_values = true, value_name = "DEGREES")]
    pub lon: Option<f64>,

    /// How far from there the true place may be, metres. The less certain, the less it says.
    #[arg(long, requires = "lat", default_value_t = 0.0, value_name = "METRES")]
    pub uncertainty_m: f64,

    /// When, for a model that knows seasons: a day (2026-07-14) or a month (7, jul). Without a date its
    /// prior is the mean over the year.
    #[arg(long, requires = "lat", value_name = "DAY|MONTH", value_parser = YearFraction::parse)]
    pub date: Option<YearFraction>,

    /// Classes listed by image, by place and by both.
    #[arg(long, default_value_t = 3, value_name = "K", value_parser = clap::value_parser!(u16).range(1..))]
    pub top: u16,

    /// Run the f32 image network beside an int8 one; refused where the bundle was exported without it.
    #[arg(long)]
    pub prefer_f32: bool,

    /// Threads that share an int8 network, whatever their number with the same answers; 0: one for each
    /// core.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub threads: usize,

    /// One JSON document instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// Everything `classify` has to say.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The model.
    pub model: ModelLine,
    /// The place the pictures were said to be from.
    pub place: Option<Place>,
    /// What the prior made of the date; `None` without a place, or for a model without seasons.
    pub season: Option<Season>,
    /// One for each picture, in the order given.
    pub results: Vec<Answer>,
    /// Pictures that were not classified.
    pub failed: usize,
    /// Milliseconds to verify and load the model.
    pub load_ms: f64,
    /// The most memory the process has held, KiB.
    pub peak_rss_kib: Option<u64>,
}

/// The season of a prior.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Season {
    /// The middle of that day, as a share of the year from 0 to 1.
    Day(f64),
    /// The mean over the year: no date was given.
    YearMean,
}

/// Which model answered.
#[derive(Clone, Debug, Serialize)]
pub struct ModelLine {
    /// The manifest's name.
    pub name: String,
    /// SHA-256 of its manifest, hex.
    pub digest: String,
    /// Number format the image network ran in.
    pub format: NumberFormat,
}

/// What is said about one picture.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// The path as given.
    pub image: String,
    /// Why there is no answer.
    pub error: Option<String>,
    /// The answer.
    #[serde(flatten)]
    pub said: Option<Said>,
}

/// The answer to a picture.
#[derive(Clone, Debug, Serialize)]
pub struct Said {
    /// What is concluded.
    pub decision: Decision,
    /// What the conclusion rests on: `image`, `image+configured_site`.
    pub provenance: &'static str,
    /// The place that was used.
    pub place: Option<Place>,
    /// The best classes.
    pub top: Top,
    /// The union of the three lists with all three probabilities, best fused first.
    pub candidates: Vec<Candidate>,
    /// Where the time went, milliseconds.
    pub latency: Latency,
}

/// The best classes by image, by place and by both.
#[derive(Clone, Debug, Serialize)]
pub struct Top {
    /// `P(y|I)`.
    pub image: Vec<Ranked>,
    /// Presence at the place, 0 to 1 for each class; `None` without a place.
    pub prior: Option<Vec<Ranked>>,
    /// `P(y|I,x)`.
    pub fused: Vec<Ranked>,
}

/// A class and its probability.
#[derive(Clone, Debug, Serialize)]
pub struct Ranked {
    /// The class's name.
    pub class: String,
    /// Its probability.
    pub probability: f64,
}

impl ClassifyArgs {
    /// The place given, if one was.
    ///
    /// # Errors
    /// Coordinates or an uncertainty out of range.
    fn place(&self) -> anyhow::Result<Option<Place>> {
        let (Some(lat), Some(lon)) = (self.lat, self.lon) else { return Ok(None) };
        let at = LatLon::measured(lat, lon).map_err(|error| anyhow::anyhow!("--lat/--lon: {error}"))?;
        let uncertainty_m = self.uncertainty_m;
        anyhow::ensure!(
            uncertainty_m.is_finite() && uncertainty_m >= 0.0,
            "--uncertainty-m is {uncertainty_m}: it must be 0 metres or more"
        );
        Ok(Some(Place { uncertainty_m, ..Place::configured(at) }))
    }
}

/// Runs the verb: the report goes to `out`.
///
/// # Errors
/// The model is refused, or nothing can be written.
pub fn run(args: &ClassifyArgs, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let place = match args.place() {
        Ok(place) => place,
        Err(error) => {
            note!("error: {error}");
            return Ok(Exit::Usage);
        }
    };
    let report = classify(args, place)?;
    let text =
        if args.json { format!("{}\n", serde_json::to_string_pretty(&report)?) } else { table(&report) };
    ignore_closed_pipe(out.write_all(text.as_bytes()).and_then(|()| out.flush()))?;
    for error in report.results.iter().filter_map(|answer| answer.error.as_ref()) {
        note!("error: {error}");
    }
    Ok(if report.failed == 0 { Exit::Done } else { Exit::Failed })
}

/// Classifies the pictures of `args` at `place`.
///
/// # Errors
/// The model cannot be opened or is refused. A picture that fails is an [`Answer`] with its error.
pub fn classify(args: &ClassifyArgs, place: Option<Place>) -> anyhow::Result<Report> {
    let start = Instant::now();
    let options =
        EngineOptions { prefer_f32: args.prefer_f32, threads: args.threads, ..EngineOptions::default() };
    let (digest, engine) = open_model(&args.model, options, &args.trust)?;
    let load_ms = start.elapsed().as_secs_f64() * 1000.0;
    // All networks first, all answers after: an answer kept between two runs of the network splits the
    // heap, and glibc then grows it by megabytes a picture (200 pictures at 224 × 224: 555 MiB, now 61).
    let classes = engine.manifest().labels.len();
    let mut seen = Vec::with_capacity(args.images.len());
    let mut logits = Vec::with_capacity(args.images.len() * classes);
    for path in &args.images {
        seen.push(look(&engine, path, &mut logits));
    }
    let season = place.filter(|_| engine.is_seasonal()).map(|_| match args.date {
        Some(date) => Season::Day(date.midday().value()),
        None => Season::YearMean,
    });
    if args.date.is_some() && !engine.is_seasonal() {
        note!("note: this model knows no seasons, --date changes nothing");
    }
    let mut predictor = Predictor::new(&engine);
    let mut logits = logits.chunks_exact(classes.max(1));
    let results: Vec<Answer> = args
        .images
        .iter()
        .zip(seen)
        .map(|(path, seen)| {
            let said = seen.and_then(|latency| {
                let logits = logits.next().unwrap_or_default();
                answer(&mut predictor, logits, latency, (place.as_ref(), args.date), usize::from(args.top))
            });
            let (said, error) = match said {
                Ok(said) => (Some(said), None),
                Err(error) => (None, Some(error.to_string())),
            };
            Answer { image: path.display().to_string(), error, said }
        })
        .collect();
    let failed = results.iter().filter(|answer| answer.error.is_some()).count();
    let manifest = engine.manifest();
    let model = ModelLine { name: manifest.name.clone(), digest: hex(&digest), format: engine.format() };
    Ok(Report { model, place, season, results, failed, load_ms, peak_rss_kib: peak_rss_kib() })
}

/// Runs the image network; its logits are added to `logits`, nothing is when it fails.
fn look(engine: &Engine, path: &Path, logits: &mut Vec<f32>) -> Result<Latency, InferError> {
    let start = Instant::now();
    let pixels = picture::load(path, &engine.manifest().input)?;
    let decode_ms = millis(start);
    let start = Instant::now();
    logits.extend_from_slice(&engine.classify(&pixels)?);
    Ok(Latency { decode_ms, image_ms: millis(start), prior_ms: 0.0 })
}

fn answer(
    predictor: &mut Predictor<&Engine>,
    logits: &[f32],
    mut latency: Latency,
    (place, date): (Option<&Place>, Option<YearFraction>),
    top: usize,
) -> Result<Said, InferError> {
    let start = Instant::now();
    let prediction = predictor.predict(logits, place, date)?;
    if prediction.prior_computed {
        latency.prior_ms = millis(start);
    }
    let labels = Classifier::labels(&predictor.classifier);
    Ok(Said {
        place: place.copied(),
        top: Top::of(&prediction, labels, top),
        candidates: prediction.candidates(labels, top),
        provenance: Provenance::as_str(prediction.provenance),
        decision: prediction.decision,
        latency,
    })
}

impl Top {
    fn of(prediction: &Prediction, labels: &Labels, top: usize) -> Self {
        let best = |scores: &Vec<f64>| -> Vec<Ranked> {
            let named = |class: csp_models::labels::ClassId| Ranked {
                class: labels.name(class).to_string(),
                probability: scores.get(class.index()).copied().unwrap_or_default(),
            };
            ranked(scores).into_iter().take(top).map(named).collect()
        };
        Self {
            image: best(&prediction.image),
            prior: prediction.prior.as_ref().map(best),
            fused: best(&prediction.fused),
        }
    }
}

fn millis(since: Instant) -> f32 {
    since.elapsed().as_secs_f32() * 1000.0
}

/// A decision in words: `lynx 0.93`, `family Felidae 0.71`, `not sure`.
pub(crate) fn decision_text(decision: &Decision) -> String {
    match decision {
        Decision::Class { name, probability, .. } => format!("{name} {probability:.2}"),
        Decision::RollUp { rank, name, probability } => format!("{rank} {name} {probability:.2}"),
        Decision::Abstain => "not sure".to_string(),
    }
}

fn table(report: &Report) -> String {
    let format = match report.model.format {
        NumberFormat::F32 => "f32",
        NumberFormat::Int8 => "int8",
    };
    let mut text = format!(
        "model  {} ({format}), loaded in {:.0} ms\nplace  {}\n",
        report.model.name,
        report.load_ms,
        describe(report.place.as_ref())
    );
    match report.season.map(|season| match season {
        Season::Day(share) => YearFraction::new(share),
        Season::YearMean => None,
    }) {
        Some(Some(date)) => text += &format!("season {date}\n"),
        Some(None) => text += "season not known: the mean over the year\n",
        None => {}
    }
    for answer in &report.results {
        text += &format!("\n{}\n", answer.image);
        if let Some(error) = &answer.error {
            text += &format!("  not classified: {error}\n");
        }
        let Some(said) = &answer.said else { continue };
        let Latency { decode_ms, image_ms, prior_ms } = said.latency;
        text += &format!("  {} ({})\n", decision_text(&said.decision), said.provenance);
        let width =
            said.candidates.iter().map(|candidate| candidate.name.chars().count()).max().unwrap_or(0).max(5);
        text += &format!("  {:width$}  image  place  fused\n", "class");
        for candidate in &said.candidates {
            let prior = candidate.prior.map_or("    -".to_string(), |prior| format!("{prior:.3}"));
            text += &format!(
                "  {:width$}  {:.3}  {prior}  {:.3}\n",
                candidate.name, candidate.image, candidate.fused
            );
        }
        text += &format!("  decode {decode_ms:.1} ms, image {image_ms:.1} ms, place {prior_ms:.1} ms\n");
    }
    let done = report.results.len() - report.failed;
    text += &format!("\n{done} classified, {} failed", report.failed);
    if let Some(peak) = report.peak_rss_kib {
        text += &format!(", peak memory {:.1} MiB", peak as f64 / 1024.0);
    }
    text + "\n"
}

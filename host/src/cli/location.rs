//! `csp-host location`.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use burn::tensor::Device;
use clap::Subcommand;
use csp_models::{
    bundle::write_atomically,
    encoder::{EncoderSpec, KINDS, PositionEncoder},
    nn::LocationClassifier,
};
use serde_json::json;

use super::{Context, print_json};
use crate::{
    data::places,
    location::{Precision, checkpoint, embed},
    progress::note,
    training::TrainedModel,
};

/// Location networks on their own: embeddings and class scores of places, and what encoders there are.
#[derive(Debug, clap::Args)]
pub struct LocationArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Embed(EmbedArgs),
    Encoders(EncodersArgs),
}

/// What a trained location network says of places: the embedding of each, and with --scores the presence
/// score of each class.
///
/// Takes a run of `csp-host train`, or a checkpoint of the csp, sphere2vec and TorchSpatial repositories
/// (`.pth`, `.pth.tar`: a state_dict with the params it was trained with). A checkpoint is read without
/// running anything in it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  csp-host location embed model_yfcc_Space2Vec-grid.pth.tar --places places.csv --scores -o out.csv
  csp-host location embed runs/first --places places.csv > embeddings.csv

The output has a row a place, in the order of the input: lat, lon, e0, e1, …, and with --scores
score_0, score_1, … (a run: score_NAME).")]
struct EmbedArgs {
    /// A checkpoint, or a run directory.
    model: PathBuf,
    /// CSV with the columns lat and lon, degrees; a column date where the encoder takes the season, without
    /// which a row counts as the middle of the year's circle.
    #[arg(long, value_name = "FILE")]
    places: PathBuf,
    /// Where the CSV goes; stdout without it.
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Presence scores of the classes too, after the embedding.
    #[arg(long)]
    scores: bool,
    /// `f32` as training and the field compute it; `f64` beyond what the weights are known to.
    #[arg(long, value_enum, default_value_t = Precision::F64)]
    precision: Precision,
    /// What was computed, as one JSON document on stdout; needs --out.
    #[arg(long, requires = "out")]
    json: bool,
}

/// The encoders that `[location.encoder] kind = …` takes, with their settings and defaults.
#[derive(Debug, clap::Args)]
struct EncodersArgs {
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
/// A file that cannot be read, or is not what it should be.
pub fn run(args: &LocationArgs, context: &Context) -> Result<()> {
    match &args.command {
        Command::Embed(args) => run_embed(args, context),
        Command::Encoders(args) => encoders(args),
    }
}

/// A location network of either source.
struct Network {
    encoder: PositionEncoder,
    network: LocationClassifier,
    /// Names of the score columns.
    classes: Vec<String>,
}

fn open(path: &Path) -> Result<Network> {
    let device = Device::flex();
    if path.is_dir() {
        let model = TrainedModel::load(path, &device)?;
        let both = model.location.zip(model.encoder);
        let (network, encoder) = both.with_context(|| {
            format!("{}: this run has no location network, its data had no places", path.display())
        })?;
        let classes = model.labels.0.into_iter().map(|label| label.name).collect();
        return Ok(Network { encoder, network, classes });
    }
    let imported = checkpoint::read(path, &device)?;
    let classes = (0..imported.classes).map(|class| class.to_string()).collect();
    Ok(Network { encoder: imported.encoder, network: imported.network, classes })
}

fn run_embed(args: &EmbedArgs, context: &Context) -> Result<()> {
    let model = open(&args.model)?;
    if args.scores && model.classes.is_empty() {
        bail!(
            "{}: it has no classes (class_emb.weight), so there are no scores: leave out --scores",
            args.model.display()
        );
    }
    let queries = places::read(&args.places, model.encoder.season())?;
    let undated = queries.iter().filter(|(_, date)| date.is_none()).count();
    if model.encoder.season() && undated > 0 {
        note(format_args!(
            "warning: the encoder takes the season and {undated} of {} rows have no date: they count as the middle \
             of the year's circle",
            queries.len()
        ));
    }
    let answers = embed::embed(&model.encoder, &model.network, &queries, args.precision);
    let embedding = answers.embeddings.first().map_or(0, Vec::len);

    let mut csv = csv::Writer::from_writer(Vec::new());
    let mut header = vec!["lat".to_string(), "lon".into()];
    header.extend((0..embedding).map(|i| format!("e{i}")));
    if args.scores {
        header.extend(model.classes.iter().map(|class| format!("score_{class}")));
    }
    csv.write_record(&header)?;
    // the shortest text that reads back as the same number
    let text = |value: f64| match args.precision {
        Precision::F32 => (value as f32).to_string(),
        Precision::F64 => value.to_string(),
    };
    for ((place, _), (embedding, scores)) in
        queries.iter().zip(answers.embeddings.iter().zip(&answers.scores))
    {
        let place = [place.lat().to_string(), place.lon().to_string()];
        let scores = scores.iter().filter(|_| args.scores);
        csv.write_record(place.into_iter().chain(embedding.iter().chain(scores).map(|&v| text(v))))?;
    }
    let csv = csv.into_inner().map_err(|error| anyhow::anyhow!("{error}"))?;
    let summary = json!({
        "model": args.model,
        "encoder": model.encoder,
        "features": model.encoder.dim(),
        "embedding": embedding,
        "classes": model.classes.len(),
        "places": queries.len(),
        "precision": args.precision,
    });
    match &args.out {
        Some(path) => {
            write_atomically(path, |out| out.write_all(&csv)).with_context(|| path.display().to_string())?;
            context.voice.say(&format!("{} places → {}", queries.len(), path.display()));
        }
        None => out!("{}", String::from_utf8_lossy(&csv)),
    }
    context.voice.say(&format!(
        "{}, embedding of {embedding}, {} classes",
        model.encoder,
        model.classes.len()
    ));
    if args.json { print_json(&summary) } else { Ok(()) }
}

fn encoders(args: &EncodersArgs) -> Result<()> {
    let defaults = KINDS.iter().map(|kind| Ok((kind, EncoderSpec::of(kind.name).build()?)));
    let rows: Vec<_> = defaults.collect::<Result<_>>()?;
    if args.json {
        let rows: Vec<_> = (rows.iter())
            .map(|(kind, encoder)| {
                json!({
                    "kind": kind.name, "aliases": kind.aliases, "about": kind.about,
                    "defaults": encoder, "features": encoder.dim(), "seam": encoder.has_seam(),
                })
            })
            .collect();
        return print_json(&rows);
    }
    for (kind, encoder) in rows {
        outln!("{}", kind.name);
        outln!("    {}", kind.about);
        outln!("    default: {encoder}");
        let seam =
            if encoder.has_seam() { "a jump: neighbours on its two sides are far apart" } else { "none" };
        outln!("    seam at ±180°: {seam}");
        if !kind.aliases.is_empty() {
            outln!("    also: {}", kind.aliases.join(", "));
        }
    }
    outln!("\nEach also takes season = true: two features more, for the time of the year.");
    Ok(())
}

//! `csp-tools dump-logits`: what the device's engine answers, for referees in other languages.
//!
//! | file | holds |
//! |---|---|
//! | `model.cspm` | the bundle |
//! | `pixels.u8` | `[pictures, height, width, 3]`, as fed |
//! | `image.onnx.logits.f32`, `image.f32.onnx.logits.f32` | `[pictures, classes]`, little-endian |
//! | `features.f32`, `location.onnx.logits.f32` | `[places, features]`, `[places, classes]` |
//! | `index.json` | paths, classes and places of the rows |

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use csp_device::infer::{Engine, EngineOptions};
use csp_host::{
    data::{self, Split},
    evaluation,
};
use csp_models::{
    bundle::{Bundle, write_atomically},
    manifest::file,
    picture,
    situation::Situation,
};
use serde_json::json;

/// Write pixels and the logits that the device's engine gives for them.
#[derive(Debug, clap::Args)]
pub struct DumpArgs {
    /// A bundle.
    model: PathBuf,
    /// Labelled photographs.
    table: PathBuf,
    /// Only the rows of this split.
    #[arg(long, value_enum)]
    split: Option<Split>,
    /// At most this many pictures, evenly spaced over the rows.
    #[arg(long, default_value_t = 500, value_name = "N")]
    limit: usize,
    /// The folder to write; made if absent.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

/// Runs the verb.
///
/// # Errors
/// A bundle, table or picture that cannot be read, an engine that fails, a full disk.
pub fn run(args: &DumpArgs) -> Result<()> {
    let bundle = Bundle::open(&args.model)?;
    let manifest = &bundle.manifest;
    let dataset = data::open(&args.table, None)?.dataset;
    let mut rows = evaluation::labelled(&dataset, args.split, &manifest.labels)?;
    rows.retain(|(_, class)| *class != evaluation::UNKNOWN);
    let count = rows.len().min(args.limit);
    let rows: Vec<_> = (0..count).map(|i| rows[i * rows.len() / count]).collect();
    let paths: Vec<&Path> = rows.iter().filter_map(|(row, _)| row.image.as_deref()).collect();
    let pictures: Vec<Vec<u8>> =
        paths.iter().map(|path| picture::load(path, &manifest.input)).collect::<Result<_, _>>()?;

    std::fs::create_dir_all(&args.output).with_context(|| args.output.display().to_string())?;
    let write = |name: &str, bytes: &[u8]| -> Result<()> {
        let path = args.output.join(name);
        write_atomically(&path, |out| std::io::Write::write_all(out, bytes))
            .with_context(|| path.display().to_string())
    };
    bundle.write(&args.output.join("model.cspm"))?;
    write("pixels.u8", &pictures.concat())?;

    let mut networks = vec![(file::IMAGE, false)];
    if manifest.has_fallback() {
        networks.push((file::IMAGE_F32, true));
    }
    for (name, prefer_f32) in networks {
        let engine = Engine::load_with(&bundle, EngineOptions { prefer_f32, ..EngineOptions::default() })?;
        let logits: Vec<Vec<f32>> =
            pictures.iter().map(|pixels| engine.classify(pixels)).collect::<Result<_, _>>()?;
        write(&format!("{name}.logits.f32"), &bytes(logits.into_iter().flatten()))?;
    }
    let places: Vec<Situation> = rows.iter().filter_map(|(row, _)| row.situation()).collect();
    if let Some(encoder) = &manifest.encoder {
        let engine = Engine::load(&bundle)?;
        let features = places.iter().flat_map(|s| encoder.encode(s.at, s.date)).map(|feature| feature as f32);
        write("features.f32", &bytes(features))?;
        let logits: Vec<Option<Vec<f32>>> =
            places.iter().map(|&situation| engine.location_logits(situation)).collect::<Result<_, _>>()?;
        write(&format!("{}.logits.f32", file::LOCATION), &bytes(logits.into_iter().flatten().flatten()))?;
    }
    let index = json!({
        "model": args.model,
        "digest": csp_models::bundle::hex(&bundle.digest),
        "images": paths,
        "classes": rows.iter().map(|(_, class)| class.0).collect::<Vec<_>>(),
        "places": places.iter().map(|s| [s.at.lat(), s.at.lon()]).collect::<Vec<_>>(),
    });
    write("index.json", index.to_string().as_bytes())?;
    eprintln!("{} pictures in {}", pictures.len(), args.output.display());
    Ok(())
}

fn bytes(numbers: impl Iterator<Item = f32>) -> Vec<u8> {
    numbers.flat_map(f32::to_le_bytes).collect()
}

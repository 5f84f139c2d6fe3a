//! `csp-tools check-backbones`: networks as torch saved them, read here, against what torch answered.
//! The files are made by `tools/backbone_referee.py files DIR`.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use csp_host::training::published::{StateDict, answer};
use csp_models::nn::BackboneKind;
use serde_json::Value;

/// Largest difference of features and logits that passes, as a share of the largest of them above 1
/// (freshly initialised by timm, Inception v3 answers with hundreds).
const LIMIT: f32 = 1e-4;

/// Read saved networks and compare their answers with torch's.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// What `tools/backbone_referee.py files DIR` wrote.
    folder: PathBuf,
}

/// Runs the verb.
///
/// # Errors
/// A file that cannot be read, or an answer that differs.
pub fn run(args: &CheckArgs) -> Result<()> {
    let index = args.folder.join("index.json");
    let text = std::fs::read_to_string(&index).with_context(|| index.display().to_string())?;
    let entries: Vec<Value> = serde_json::from_str(&text)?;
    let mut worst = 0f32;
    for entry in &entries {
        let name = entry["kind"].as_str().unwrap_or_default();
        let kind = match name {
            "mobilenet-v2" => BackboneKind::MobileNetV2(1.0),
            other => serde_json::from_value(Value::from(other))?,
        };
        let side = entry["side"].as_u64().unwrap_or(0) as usize;
        let numbers = |key: &str| -> Vec<f32> {
            let list = entry[key].as_array().into_iter().flatten();
            list.filter_map(|v| v.as_f64().map(|v| v as f32)).collect()
        };
        for file in entry["files"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let state = StateDict::read(&args.folder.join(file))?;
            let (features, logits) =
                answer(kind, &state, &numbers("image"), side).map_err(|e| anyhow::anyhow!("{file}: {e}"))?;
            let off = |got: &[f32], want: &[f32]| -> Result<f32> {
                ensure!(got.len() == want.len(), "{file}: {} numbers, torch gave {}", got.len(), want.len());
                Ok(got.iter().zip(want).map(|(g, w)| (g - w).abs()).fold(0.0, f32::max))
            };
            let off = (off(&features, &numbers("features"))?, off(&logits, &numbers("logits"))?);
            let largest = features.iter().chain(&logits).map(|v| v.abs()).fold(0.0, f32::max);
            println!(
                "{file:<40} features off by {:.1e}, logits by {:.1e}, largest {largest:.2}",
                off.0, off.1
            );
            worst = worst.max(off.0.max(off.1) / largest.max(1.0));
        }
    }
    ensure!(worst <= LIMIT, "off by {worst:e}, more than {LIMIT:e}");
    Ok(())
}

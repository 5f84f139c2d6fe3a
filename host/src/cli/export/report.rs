//! What an export measured, for people.

use std::{io::Write, path::Path};

use anyhow::{Context as _, Result};
use csp_models::bundle::write_atomically;

use super::bytes;
use crate::{
    export::{Accuracy, ExportReport, gate::Verdict},
    plots,
};

/// Classes and layers printed: the worst. The JSON and the model card have all of them.
const LINES: usize = 12;

pub(super) fn print(report: &ExportReport) {
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    outln!("{}", report.name);
    outln!("{:<24} {:>10} {:>10}", "", "f32", if report.int8.is_some() { "int8" } else { "" });
    if let Some(f32_accuracy) = &report.f32 {
        let int8 =
            |pick: fn(&Accuracy) -> f64| report.int8.as_ref().map_or(String::new(), |a| percent(pick(a)));
        outln!("{:<24} {:>10} {:>10}", "image top-1", percent(f32_accuracy.top1), int8(|a| a.top1));
        outln!("{:<24} {:>10} {:>10}", "image top-3", percent(f32_accuracy.top3), int8(|a| a.top3));
        outln!("{:<24} {:>10}", "hold-out pictures", f32_accuracy.n);
    } else {
        outln!("accuracy not measured: the run holds no labelled pictures out");
    }
    classes(report);
    if let Some(quantization) = &report.quantization {
        outln!("{:<24} {:>10} {:>10}", "same answer", "", percent(quantization.agreement));
        outln!(
            "{:<24} {} on {} pictures",
            "quantization",
            quantization.method,
            quantization.calibration_images
        );
        for attempt in &report.tried {
            outln!(
                "{:<24} {:<18} {:?} head{} {:>6.1} dB",
                "  tried",
                attempt.ranges.name(),
                attempt.head,
                if attempt.equalised { ", equalised" } else { "" },
                attempt.snr_db
            );
        }
        if !quantization.f32_layers.is_empty() {
            outln!("{:<24} {}", "layers left in f32", quantization.f32_layers.join(", "));
        }
    }
    if let Some(found) = report.quantization.as_ref().and_then(|report| report.location.as_ref()) {
        outln!(
            "{:<24} int8 weights in {} layers, {:.1} dB, presence within {:.4} anywhere",
            "location network",
            found.layers,
            found.snr_db,
            found.largest_difference
        );
        let row = |name: &str, f32: Option<f64>, int8: Option<f64>| {
            if let (Some(f32), Some(int8)) = (f32, int8) {
                outln!("{name:<24} {:>10} {:>10}", percent(f32), percent(int8));
            }
        };
        row("  place alone, top-1", found.top1_f32, found.top1_int8);
        row("  image and place", found.fused_f32, found.fused_int8);
    }
    layers(report);
    outln!("{:<24} {:.1} M", "multiply-adds a picture", report.multiply_adds as f64 / 1e6);
    for (name, size) in &report.files {
        outln!("{:<24} {:>10}", name, bytes(*size));
    }
    if let Some(ratio) = report.size_ratio() {
        outln!("{:<24} {:>10.3}", "image int8 / f32", ratio);
    }
    if let Some(ratio) = report.bundle_ratio() {
        outln!("{:<24} {:>10.3}", "files / f32 networks", ratio);
    }
}

fn classes(report: &ExportReport) {
    let Some(gate) = &report.gate else { return };
    outln!(
        "\n{:<24} {:>8} {:>8} {:>8} {:>16} {:>9}",
        "recall of a class",
        "f32",
        "int8",
        "lost",
        "95 %",
        "pictures"
    );
    let mut worst: Vec<_> = gate.classes.iter().collect();
    worst.sort_by(|a, b| b.drop.total_cmp(&a.drop));
    for drop in worst.iter().take(LINES) {
        let short: String = drop.class.chars().take(22).collect();
        outln!(
            "  {short:<22} {:>7.1}% {:>7.1}% {:>8.1} {:>16} {:>9}{}",
            100.0 * drop.f32,
            100.0 * drop.int8,
            100.0 * drop.drop,
            format!("{:.1} to {:.1}", 100.0 * drop.interval[0], 100.0 * drop.interval[1]),
            drop.n,
            match drop.verdict {
                Verdict::Kept => "",
                Verdict::Unclear => "  unclear",
                Verdict::Lost => "  LOST",
            }
        );
    }
    if worst.len() > LINES {
        outln!("  and {} classes that lose less", worst.len() - LINES);
    }
    outln!("");
}

fn layers(report: &ExportReport) {
    let mut noisiest: Vec<_> = report.layers.iter().collect();
    noisiest.sort_by(|a, b| a.snr_db.total_cmp(&b.snr_db));
    if let (Some(noisiest), Some(cleanest)) = (noisiest.first(), noisiest.last()) {
        outln!(
            "{:<24} {:.1} dB ({}) to {:.1} dB ({})",
            "signal to noise of layers",
            noisiest.snr_db,
            noisiest.layer,
            cleanest.snr_db,
            cleanest.layer
        );
    }
    if report.sensitivity.is_empty() {
        return;
    }
    outln!("\n{:<34} {:>14} {:>14} {:>8}", "logits, dB", "it alone int8", "all but it", "M MAC");
    for layer in report.sensitivity.iter().take(LINES) {
        outln!(
            "  {:<32} {:>14.1} {:>14.1} {:>8.2}",
            layer.layer,
            layer.alone_db,
            layer.without_db,
            layer.multiply_adds as f64 / 1e6
        );
    }
    outln!("");
}

/// Writes picture and figures into a folder.
pub(super) fn write(dir: &Path, report: &ExportReport) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    for name in ["quantization.svg", "quantization.png"] {
        plots::quantization(&dir.join(name), report)?;
    }
    let path = dir.join("quantization.json");
    let json = serde_json::to_vec_pretty(report)?;
    write_atomically(&path, |out| out.write_all(&json)).with_context(|| path.display().to_string())
}

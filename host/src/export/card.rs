//! MODEL_CARD.md: what a person must know before trusting the model.

use std::fmt::Write;

use csp_models::manifest::{Manifest, NumberFormat};

use super::{ExportReport, gate::Verdict, quantize::Quantized};

pub(super) fn card(
    manifest: &Manifest,
    report: &ExportReport,
    quantized: Option<&Quantized>,
    fallback: bool,
) -> String {
    let mut out = String::new();
    write(&mut out, manifest, report, quantized, fallback).unwrap_or_default();
    out
}

fn write(
    out: &mut String,
    manifest: &Manifest,
    report: &ExportReport,
    quantized: Option<&Quantized>,
    fallback: bool,
) -> std::fmt::Result {
    let (input, from) = (&manifest.input, &manifest.provenance);
    writeln!(out, "# {}\n", manifest.name)?;
    writeln!(
        out,
        "Names one of {} classes in a photograph of {}×{} pixels{}.\n",
        manifest.labels.len(),
        input.width,
        input.height,
        match manifest.encoder.as_ref().map(|encoder| encoder.season()) {
            Some(true) => ", weighing in where and at what time of the year it was taken",
            Some(false) => ", weighing in where it was taken",
            None => "; it does not use the place",
        }
    )?;

    writeln!(out, "## Training\n")?;
    writeln!(out, "| | |\n|---|---|")?;
    writeln!(out, "| image network | {} |", or_unknown(&from.backbone))?;
    if let Some(location) = &from.location {
        writeln!(out, "| location network | {location} |")?;
    }
    writeln!(out, "| data (SHA-256 of the table) | `{}` |", or_unknown(&from.data_sha256))?;
    writeln!(
        out,
        "| labelled rows | {} ({:.1} % of the labels) |",
        from.labelled_rows,
        100.0 * from.label_fraction
    )?;
    writeln!(out, "| rows without label, for pre-training | {} |", from.unlabelled_rows)?;
    writeln!(out, "| seed | {} |", from.seed)?;
    writeln!(out, "| device | {} |", or_unknown(&from.device))?;
    writeln!(out, "| made by | {} |\n", or_unknown(&from.tool))?;

    writeln!(out, "## Accuracy of the image network, without place\n")?;
    match &report.f32 {
        None => writeln!(out, "Not measured: no labelled pictures were at hand at export.\n")?,
        Some(f32_accuracy) => {
            writeln!(out, "| | top-1 | top-3 | pictures |\n|---|---|---|---|")?;
            let rows = [("f32", Some(f32_accuracy)), ("int8", report.int8.as_ref())];
            for (name, accuracy) in rows.into_iter().filter_map(|(name, a)| a.map(|a| (name, a))) {
                let (top1, top3) = (100.0 * accuracy.top1, 100.0 * accuracy.top3);
                writeln!(out, "| {name} | {top1:.2} % | {top3:.2} % | {} |", accuracy.n)?;
            }
            writeln!(
                out,
                "\nMeasured at export with the inference engine of the device, on pictures kept out of training. \
                 Other cameras, seasons and places will do worse.\n"
            )?;
        }
    }

    losses(out, report)?;

    writeln!(out, "## Numbers\n")?;
    match (manifest.image_format, quantized) {
        (NumberFormat::Int8, Some(quantized)) => {
            writeln!(
                out,
                "`image.onnx` is int8 (profile {}): every convolution is a QLinearConv with weights scaled a channel{}; \
                 {}activation ranges by {} on {} pictures; rounding of the weights is compensated in the biases; \
                 {}. Signal to noise of the logits {:.1} dB. {}",
                super::quantize::PROFILE,
                match quantized.f32_layers.len() {
                    0 => String::new(),
                    n => format!(
                        ", but {n} that cost too much and stay f32 ({})",
                        quantized
                            .f32_layers
                            .iter()
                            .map(|name| format!("`{name}`"))
                            .collect::<Vec<_>>()
                            .join(", ")
                    ),
                },
                if quantized.chosen.equalised { "channels evened out across layers; " } else { "" },
                quantized.chosen.ranges.name(),
                quantized.calibration_images,
                match quantized.chosen.head {
                    super::quantize::Head::Integer =>
                        "the linear layer is int8 with f32 logits (MatMulInteger)",
                    super::quantize::Head::Float =>
                        "the linear layer stays f32, its integer form cost too much",
                },
                quantized.chosen.snr_db,
                match fallback {
                    true => "`image.f32.onnx` is the network before quantization.",
                    false => "The network before quantization is not in the bundle: int8 is all it can run.",
                }
            )?;
            if let Some(report) = &report.quantization {
                writeln!(
                    out,
                    "Both name the same class on {:.1} % of {} pictures.",
                    100.0 * report.agreement,
                    report.compared_images
                )?;
            }
            let [r, g, b] = quantized.border_error;
            writeln!(
                out,
                "Outside the picture the convolutions see one byte for all channels: off by {r:+.3}, {g:+.3}, {b:+.3} \
                 (red, green, blue) of a standard deviation from the training's border.\n"
            )?;
        }
        _ => writeln!(out, "`image.onnx` is f32.\n")?,
    }
    if manifest.encoder.is_some() {
        place(out, report)?;
    }
    writeln!(
        out,
        "Fusion: temperature {:.3}, prior weight {:.3}, prior floor {:.4}; a class is named from {:.0} % on.\n",
        manifest.fusion.temperature,
        manifest.fusion.prior_weight,
        manifest.fusion.prior_floor,
        100.0 * manifest.thresholds.decide
    )?;

    writeln!(out, "## Limits\n")?;
    writeln!(
        out,
        "- It knows the classes below and nothing else: anything else gets the nearest of them, or an abstention.\n\
         - Its prior reflects where the training observations were made, not where a species can live.\n\
         - It was not tested on people; do not use it to identify anyone.\n"
    )?;
    writeln!(out, "## Licences\n")?;
    match manifest.licences.as_slice() {
        [] => writeln!(out, "Not stated at export.\n")?,
        licences => licences.iter().try_for_each(|licence| writeln!(out, "- {licence}"))?,
    }
    writeln!(out, "\n## Classes\n")?;
    for label in &manifest.labels.0 {
        let lineage: Vec<&str> = label.lineage.iter().map(|taxon| taxon.name.as_str()).collect();
        let lineage =
            if lineage.is_empty() { String::new() } else { format!(" ({})", lineage.join(" › ")) };
        let place = if label.placed || manifest.encoder.is_none() {
            ""
        } else {
            "; no record with a place taught it, so the place neither favours nor rules it out"
        };
        writeln!(out, "- {}{lineage}{place}", label.name)?;
    }
    Ok(())
}

/// How the location network is stored.
fn place(out: &mut String, report: &ExportReport) -> std::fmt::Result {
    let Some(found) = report.quantization.as_ref().and_then(|report| report.location.as_ref()) else {
        return writeln!(out, "`location.onnx` is f32: small presence scores matter.\n");
    };
    write!(
        out,
        "`location.onnx` computes in f32 with weights that are stored as int8, one scale an output of a layer \
         ({} layers). Presence scores all over the globe differ from f32 by {:.4} at most, signal to noise of the \
         logits {:.1} dB.",
        found.layers, found.largest_difference, found.snr_db
    )?;
    let figures = (found.top1_f32, found.top1_int8, found.fused_f32, found.fused_int8);
    if let (Some(f32), Some(int8), Some(fused_f32), Some(fused_int8)) = figures {
        let [f32, int8, fused_f32, fused_int8] =
            [f32, int8, fused_f32, fused_int8].map(|share| 100.0 * share);
        write!(
            out,
            " On {} pictures with a place: the place alone {f32:.2} % in f32, {int8:.2} % so; with the image \
             {fused_f32:.2} % and {fused_int8:.2} %.",
            found.compared
        )?;
    }
    writeln!(out, "\n")
}

/// f32 and int8, class by class.
fn losses(out: &mut String, report: &ExportReport) -> std::fmt::Result {
    let Some(gate) = &report.gate else { return Ok(()) };
    let (top1, class) = (100.0 * gate.budget.top1, 100.0 * gate.budget.class);
    let limits = format!("{top1:.1} points of top-1 and {class:.1} of a class");
    match report.quantization.as_ref().and_then(|quantization| quantization.gate.as_ref()) {
        Some(found) if !found.passed => {
            writeln!(out, "**int8 loses more than {limits}; the bundle was written although it does.**\n")?
        }
        _ => writeln!(out, "int8 loses no more than {limits}, beyond doubt.\n")?,
    }
    writeln!(out, "| class | pictures | f32 | int8 | lost, points (95 %) | |\n|---|---|---|---|---|---|")?;
    for drop in &gate.classes {
        let [low, high] = drop.interval.map(|end| 100.0 * end);
        writeln!(
            out,
            "| {} | {} | {:.1} % | {:.1} % | {:.1} ({low:.1} to {high:.1}) | {} |",
            drop.class.replace('|', "\\|"),
            drop.n,
            100.0 * drop.f32,
            100.0 * drop.int8,
            100.0 * drop.drop,
            match drop.verdict {
                Verdict::Kept => "",
                Verdict::Unclear => "more than may be, perhaps by chance",
                Verdict::Lost => "lost",
            }
        )?;
    }
    writeln!(out)
}

fn or_unknown(text: &str) -> &str {
    if text.is_empty() { "not recorded" } else { text }
}

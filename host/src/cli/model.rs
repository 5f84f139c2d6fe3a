//! `csp-host model`.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Result, anyhow};
use csp_models::{
    bundle::{Bundle, hex},
    manifest::NumberFormat,
    signature::TrustedKey,
};

use super::{Context, export::bytes, open_bundle, print_json};
use crate::export::{
    onnx::{self, Outline},
    signing,
};

/// Look into a bundle.
#[derive(Debug, clap::Args)]
pub struct ModelArgs {
    #[command(subcommand)]
    verb: ModelVerb,
}

#[derive(Debug, clap::Subcommand)]
enum ModelVerb {
    Inspect(InspectArgs),
    Verify(VerifyArgs),
    Sign(SignArgs),
}

/// Print what a bundle holds: classes, input, networks, quantization, where it comes from.
///
/// Every file is checked against its digest first.
#[derive(Debug, clap::Args)]
struct InspectArgs {
    /// A bundle of `csp-host export`.
    model: PathBuf,
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
}

/// Check every file of a bundle against its digest, and who signed it; exit code 3 if something differs.
#[derive(Debug, clap::Args)]
struct VerifyArgs {
    /// A bundle of `csp-host export`.
    model: PathBuf,
    /// A public key (RW…) that has to have signed it; repeat it for one of several.
    #[arg(long, value_name = "KEY")]
    trust: Vec<TrustedKey>,
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
}

/// Sign a bundle, so that traps which trust your key run it.
///
/// The signature is over the manifest, which lists the digest of every other file; signing again replaces it.
/// The stock tool verifies it too: `unzip MODEL.cspm manifest.json manifest.json.minisig`, then
/// `minisign -V -P KEY -m manifest.json`.
#[derive(Debug, clap::Args)]
struct SignArgs {
    /// A bundle of `csp-host export`.
    model: PathBuf,
    /// The secret key's file (`csp-host keys new --sign FILE`).
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Write the signed bundle there; left out, MODEL itself is replaced.
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
/// A bundle that cannot be read; [`Refused`](super::Refused) when it does not verify.
pub fn run(args: &ModelArgs, _context: &Context) -> Result<()> {
    match &args.verb {
        ModelVerb::Inspect(args) => inspect(args),
        ModelVerb::Verify(args) => verify(args),
        ModelVerb::Sign(args) => sign(args),
    }
}

fn verify(args: &VerifyArgs) -> Result<()> {
    let bundle = open_bundle(&args.model)?;
    let (files, digest) = (bundle.manifest.files.len(), hex(&bundle.digest));
    let signed = match args.trust.as_slice() {
        [] => None,
        trust => Some(bundle.verify(trust).map_err(|error| {
            super::Refused(anyhow::Error::new(error).context(args.model.display().to_string()))
        })?),
    };
    if args.json {
        return print_json(&serde_json::json!({
            "verified": true,
            "files": files,
            "digest": digest,
            "signature": bundle.signature(),
            "trusted": signed.is_some(),
            "comment": signed,
        }));
    }
    let signature = match (&signed, bundle.signature()) {
        (Some(comment), _) => format!("signed by a trusted key: {comment}"),
        (None, Some(_)) => "signed; --trust KEY checks by whom".into(),
        (None, None) => "not signed".into(),
    };
    outln!("{}: {files} files are as the manifest says · {digest} · {signature}", args.model.display());
    Ok(())
}

fn sign(args: &SignArgs) -> Result<()> {
    let out = args.out.as_ref().unwrap_or(&args.model);
    if out.is_dir() {
        return Err(anyhow!("{}: a folder; name a .cspm file with --out", out.display()));
    }
    let (bundle, public) = signing::sign(open_bundle(&args.model)?, &args.key)?;
    bundle.write(out)?;
    if args.json {
        return print_json(
            &serde_json::json!({ "path": out, "digest": hex(&bundle.digest), "public": public }),
        );
    }
    outln!("{}: signed by {public}", out.display());
    Ok(())
}

fn inspect(args: &InspectArgs) -> Result<()> {
    let bundle = open_bundle(&args.model)?;
    let networks = networks(&args.model, &bundle)?;
    if args.json {
        return print_json(&serde_json::json!({
            "path": args.model,
            "digest": hex(&bundle.digest),
            "signed": bundle.signature().is_some(),
            "manifest": bundle.manifest,
            "networks": networks,
        }));
    }
    print(&bundle, &networks);
    Ok(())
}

fn networks(path: &std::path::Path, bundle: &Bundle) -> Result<BTreeMap<String, Outline>> {
    let files = bundle.manifest.files.keys().filter(|name| name.ends_with(".onnx"));
    files
        .map(|name| {
            let outline = onnx::outline(bundle.file(name).unwrap_or_default())
                .map_err(|reason| anyhow!("{}: {name}: not an ONNX file: {reason}", path.display()))?;
            Ok((name.clone(), outline))
        })
        .collect()
}

fn print(bundle: &Bundle, networks: &BTreeMap<String, Outline>) {
    let manifest = &bundle.manifest;
    let row = |name: &str, value: &str| outln!("{name:<14} {value}");
    row("name", &manifest.name);
    row("digest", &hex(&bundle.digest));
    let signed = "yes; `csp-host model verify --trust KEY` says by whom";
    row("signed", if bundle.signature().is_some() { signed } else { "no" });
    let input = &manifest.input;
    let numbers = |v: &[f32; 3]| v.map(|n| format!("{n:.3}")).join(" ");
    let (mean, std) = (numbers(&input.mean), numbers(&input.std));
    row("input", &format!("{}×{} RGB, mean {mean}, std {std}", input.width, input.height));
    let names: Vec<&str> = manifest.labels.0.iter().take(8).map(|label| label.name.as_str()).collect();
    let more = if manifest.labels.len() > names.len() { ", …" } else { "" };
    row("classes", &format!("{}: {}{more}", manifest.labels.len(), names.join(", ")));
    match &manifest.encoder {
        Some(encoder) => row("place", &encoder.to_string()),
        None => row("place", "not used: image only"),
    }
    let fusion = &manifest.fusion;
    row(
        "fusion",
        &format!(
            "temperature {:.3}, prior weight {:.3}, floor {:.4}, halved at {:.0} m; decides from {:.2}",
            fusion.temperature,
            fusion.prior_weight,
            fusion.prior_floor,
            fusion.fade_m,
            manifest.thresholds.decide
        ),
    );
    match (&manifest.quantization, manifest.image_format) {
        (Some(q), _) => {
            let percent =
                |share: Option<f64>| share.map_or("?".into(), |share| format!("{:.2} %", 100.0 * share));
            row("quantization", &format!("{} on {} pictures", q.method, q.calibration_images));
            let (f32_top1, int8_top1, same) =
                (percent(q.top1_f32), percent(q.top1_int8), percent(Some(q.agreement)));
            row(
                "",
                &format!(
                    "top-1 f32 {f32_top1}, int8 {int8_top1}, same answer {same} of {}",
                    q.compared_images
                ),
            );
            if let Some(found) = &q.location {
                row(
                    "",
                    &format!(
                        "location network: int8 weights in {} layers, presence within {:.4}",
                        found.layers, found.largest_difference
                    ),
                );
            }
            if !q.f32_layers.is_empty() {
                row("", &format!("in f32: {}", q.f32_layers.join(", ")));
            }
            if let Some(gate) = q.gate.as_ref().filter(|gate| !gate.passed) {
                let lost: Vec<&str> = gate.lost.iter().map(|loss| loss.class.as_str()).collect();
                row("", &format!("loses more than it may: {}; written by --force", lost.join(", ")));
            }
        }
        (None, NumberFormat::F32) => row("quantization", "none, f32"),
        (None, NumberFormat::Int8) => row("quantization", "int8, without a report"),
    }
    if manifest.image_format == NumberFormat::Int8 {
        row(
            "fallback",
            match manifest.has_fallback() {
                true => "image.f32.onnx, run by csp-device --prefer-f32",
                false => "none: int8 is all this bundle can run",
            },
        );
    }
    let from = &manifest.provenance;
    row("trained", &format!("{} on {}, {}", from.backbone, from.device, from.tool));
    row(
        "",
        &format!(
            "{} labelled rows ({:.1} %), {} unlabelled, seed {}",
            from.labelled_rows,
            100.0 * from.label_fraction,
            from.unlabelled_rows,
            from.seed
        ),
    );
    row("data", &from.data_sha256);
    row(
        "licences",
        &if manifest.licences.is_empty() { "not stated".into() } else { manifest.licences.join("; ") },
    );
    outln!();
    for (name, entry) in &manifest.files {
        outln!("{name:<18} {:>9}  {}", bytes(entry.size), &entry.sha256[..16.min(entry.sha256.len())]);
        let Some(outline) = networks.get(name) else { continue };
        let port = |ports: &[onnx::Port]| {
            ports
                .iter()
                .map(|p| format!("{} {} {:?}", p.name, p.element, p.shape))
                .collect::<Vec<_>>()
                .join(", ")
        };
        outln!("{:<18} {} → {}", "", port(&outline.inputs), port(&outline.outputs));
        let operators: Vec<String> =
            outline.operators.iter().map(|(op, count)| format!("{op} {count}")).collect();
        outln!("{:<18} {} parameters · {}", "", outline.parameters, operators.join(" · "));
    }
}

//! `csp-host export`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use burn::tensor::Device;
use csp_models::manifest::NumberFormat;

use super::{Context, Refused, print_json};
use crate::{
    export::{self, ExportReport, Options, pictures, quantize::Settings},
    training::TrainedModel,
};

/// Number formats on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Quantize {
    /// Integers, four times smaller; the f32 network travels beside it.
    Int8,
    /// f32 only.
    None,
}

/// Make the bundle that a trap runs: ONNX, int8, manifest, model card.
///
/// The accuracy of f32 and int8 is measured with the engine the trap runs, on pictures of the run's
/// hold-out, and printed before anything is written. If int8 loses more than --max-loss nothing is
/// written (exit code 3) unless --force.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  csp-host export runs/first --quantize int8 -o model.cspm --licence 'photos: CC BY 4.0'
  csp-host export runs/first --quantize none -o model.f32.cspm --json")]
pub struct ExportArgs {
    /// A run directory of `csp-host train`.
    pub run: PathBuf,
    /// Number format of the image network; the location network stays f32.
    #[arg(long, value_enum, default_value = "int8", value_name = "FORMAT")]
    pub quantize: Quantize,
    /// The bundle to write.
    #[arg(short, long, value_name = "MODEL.cspm")]
    pub output: PathBuf,
    /// Training pictures from which the ranges of the activations are taken.
    #[arg(long, default_value_t = 256, value_name = "N")]
    pub calibration_images: usize,
    /// Licence of data or weights, for manifest and model card; may be given several times.
    #[arg(long, value_name = "TEXT")]
    pub licence: Vec<String>,
    /// Name of the model; default: the run's.
    #[arg(long)]
    pub name: Option<String>,
    /// Points of top-1 accuracy that int8 may lose; a single picture of the hold-out always may.
    #[arg(long, default_value_t = 2.0, value_name = "POINTS")]
    pub max_loss: f64,
    /// Write even if int8 loses more.
    #[arg(long)]
    pub force: bool,
    /// One JSON document on stdout.
    #[arg(long)]
    pub json: bool,
}

impl ExportArgs {
    /// int8 with every default, as `csp-host demo` exports.
    pub fn for_demo(run: &Path, output: &Path) -> Self {
        Self {
            run: run.into(),
            quantize: Quantize::Int8,
            output: output.into(),
            calibration_images: 256,
            licence: vec!["generated sample: CC0-1.0".into()],
            name: None,
            max_loss: 2.0,
            force: false,
            json: false,
        }
    }
}

/// Runs the verb.
///
/// # Errors
/// A run that is not finished or damaged, a network that cannot be exported, a full disk; [`Refused`]
/// when int8 loses too much.
pub fn run(args: &ExportArgs, context: &Context) -> Result<()> {
    check_output(&args.output)?;
    if !(args.max_loss.is_finite() && args.max_loss >= 0.0) {
        bail!("--max-loss {}: it must be 0 or more points", args.max_loss);
    }
    let model = TrainedModel::load(&args.run, &Device::flex())?;
    context.voice.say("reading calibration and hold-out pictures");
    let pictures = pictures::of_run(&args.run, &model, args.calibration_images)?;
    let options = Options {
        format: match args.quantize {
            Quantize::Int8 => NumberFormat::Int8,
            Quantize::None => NumberFormat::F32,
        },
        name: args.name.clone(),
        licences: args.licence.clone(),
        settings: Settings::default(),
        max_loss: args.max_loss / 100.0,
    };
    context.voice.say(match args.quantize {
        Quantize::Int8 => "exporting, quantizing, measuring f32 and int8",
        Quantize::None => "exporting, measuring",
    });
    let (bundle, report) = export::export(&model, &pictures.calibration, &pictures.compare, &options)?;
    if args.json {
        print_json(&report)?
    } else {
        print(&report)
    }
    if !report.passes() && !args.force {
        let lost = 100.0 * report.lost.unwrap_or_default();
        return Err(Refused(anyhow::anyhow!(
            "int8 loses {lost:.1} points of top-1, --max-loss allows {:.1}: nothing written; give more calibration \
             pictures, export --quantize none, or --force",
            args.max_loss
        ))
        .into());
    }
    bundle.write(&args.output)?;
    let size: u64 = report.files.values().sum();
    let short = &report.digest[..12];
    context.voice.say(&format!("wrote {} · {} · {short}", args.output.display(), bytes(size)));
    Ok(())
}

/// Minutes of work should not end at a folder that is not there.
fn check_output(output: &Path) -> Result<()> {
    let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !parent.is_dir() {
        bail!("{}: the folder {} does not exist", output.display(), parent.display());
    }
    if output.is_dir() {
        bail!("{}: is a folder, name a file such as model.cspm", output.display());
    }
    Ok(())
}

fn print(report: &ExportReport) {
    outln!("{}", report.name);
    outln!("{:<24} {:>10} {:>10}", "", "f32", if report.int8.is_some() { "int8" } else { "" });
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    if let Some(f32_accuracy) = &report.f32 {
        let int8 = |pick: fn(&export::Accuracy) -> f64| {
            report.int8.as_ref().map_or(String::new(), |a| percent(pick(a)))
        };
        outln!("{:<24} {:>10} {:>10}", "image top-1", percent(f32_accuracy.top1), int8(|a| a.top1));
        outln!("{:<24} {:>10} {:>10}", "image top-3", percent(f32_accuracy.top3), int8(|a| a.top3));
        outln!("{:<24} {:>10}", "hold-out pictures", f32_accuracy.n);
    } else {
        outln!("accuracy not measured: the run holds no labelled pictures out");
    }
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
                "{:<24} {:<18} {:?} head {:>6.1} dB",
                "  tried",
                attempt.ranges,
                attempt.head,
                attempt.snr_db
            );
        }
    }
    outln!("{:<24} {:.1} M", "multiply-adds a picture", report.multiply_adds as f64 / 1e6);
    for (name, size) in &report.files {
        outln!("{:<24} {:>10}", name, bytes(*size));
    }
}

pub(super) fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{count} B"),
        10_000..10_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        _ => format!("{:.1} MB", count as f64 / 1e6),
    }
}

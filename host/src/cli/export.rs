//! `csp-host export`.

mod report;

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use burn::tensor::Device;
use csp_models::{bundle::write_atomically, manifest::NumberFormat};

use super::{Context, Refused, print_json};
use crate::{
    export::{
        self, ExportError, ExportReport, Exported, Options,
        gate::{ALL, Budget, Gate, Verdict},
        onnx,
        pictures::{self, RunPictures},
        quantize::{Method, Settings},
        twins::Twin,
    },
    training::TrainedModel,
};

/// Number formats on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Quantize {
    /// Integers, four times smaller and several times faster.
    Int8,
    /// f32 only.
    None,
}

/// Whether channels are evened out across layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Equalise {
    /// If that errs less on calibration pictures held out.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// What an int8 bundle holds beside its image network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Fallback {
    /// The image network in f32 as well, four times as large: what `csp-device --prefer-f32` runs.
    F32,
    /// Nothing: int8 is all the bundle can run. About a quarter of the size of one of f32.
    None,
}

/// How the weights of the location network are stored in an int8 bundle. It computes in f32 either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LocationWeights {
    /// int8, if the place alone and image and place together keep within the budget; else f32.
    Auto,
    /// f32.
    F32,
}

/// How activations are stored in a twin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Activations {
    /// As the trap has them.
    I8,
    /// 128 higher, so that onnxruntime on x86 finds its fast kernels; weights stay int8.
    U8,
}

/// How an int8 network is spelt in a twin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// QLinearConv and MatMulInteger, as the trap has them.
    Qlinear,
    /// Operators of floats between QuantizeLinear and DequantizeLinear, as compilers for other chips
    /// want them.
    Qdq,
}

/// Make the bundle that a trap runs: ONNX, int8, manifest, model card.
///
/// The accuracy of f32 and int8 is measured with the engine the trap runs, on pictures of the run's
/// hold-out, and printed before anything is written. Where int8 loses more than --max-drop, or a class
/// more than --max-class-drop, the layers that cost most stay f32, as few as help; where that does not
/// help either, nothing is written (exit code 3) unless --force, and then the manifest says so.
///
/// A class's loss counts if it is larger than the budget and no chance (McNemar's exact test, 5 % over
/// all classes together): a class of twenty pictures is warned about, not refused for one flip.
///
/// A trap reads only what it runs, so that the f32 network beside int8 costs room on the card and in a
/// transfer, and no time. --fallback none leaves it out; a trap that is told --prefer-f32 then refuses.
///
/// With --format qdq or --activations u8 the same network is written once more, beside the bundle, for
/// other toolchains: model.qdq.onnx, model.u8.onnx, or model.qdq.u8.onnx with both. A trap runs the
/// bundle alone.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  csp-host export runs/first --quantize int8 -o model.cspm --licence 'photos: CC BY 4.0'
  csp-host export runs/first --fallback none -o small.cspm             # int8 alone, for a slow link
  csp-host export runs/first --max-drop 0.3 --max-class-drop 2 --report report -o model.cspm
  csp-host export runs/first --format qdq --activations u8 -o model.cspm   # and model.qdq.u8.onnx
  csp-host export runs/first --quantize none -o model.f32.cspm --json")]
pub struct ExportArgs {
    /// A run directory of `csp-host train`.
    pub run: PathBuf,
    /// Number format of the image network.
    #[arg(long, value_enum, default_value = "int8", value_name = "FORMAT")]
    pub quantize: Quantize,
    /// What the bundle holds beside an int8 image network.
    #[arg(long, value_enum, default_value = "f32", value_name = "NETWORK")]
    pub fallback: Fallback,
    /// Weights of the location network beside an int8 image network.
    #[arg(long, value_enum, default_value = "auto", value_name = "FORMAT")]
    pub location_weights: LocationWeights,
    /// The bundle to write.
    #[arg(short, long, value_name = "MODEL.cspm")]
    pub output: PathBuf,
    /// Training pictures from which the ranges of the activations are taken, a quarter of them to choose
    /// the method on; at least 16.
    #[arg(long, default_value_t = 256, value_name = "N")]
    pub calibration_images: usize,
    /// How ranges are taken from them; default: whichever errs least.
    #[arg(long, value_enum, value_name = "METHOD")]
    pub calibration: Option<Method>,
    /// Even the channels out across layers before quantizing (cross-layer equalisation), where
    /// convolutions follow each other with nothing but an activation between them.
    #[arg(long, value_enum, default_value = "auto", value_name = "WHEN")]
    pub equalise: Equalise,
    /// Licence of data or weights, for manifest and model card; may be given several times.
    #[arg(long, value_name = "TEXT")]
    pub licence: Vec<String>,
    /// Name of the model; default: the run's.
    #[arg(long)]
    pub name: Option<String>,
    /// Points of top-1 accuracy that int8 may lose; below 500 pictures of the hold-out, beyond doubt.
    #[arg(long, alias = "max-loss", default_value_t = 0.5, value_name = "POINTS")]
    pub max_drop: f64,
    /// Points of recall that any class may lose, beyond doubt.
    #[arg(long, default_value_t = 3.0, value_name = "POINTS")]
    pub max_class_drop: f64,
    /// Write even if int8 loses more; the manifest says so.
    #[arg(long)]
    pub force: bool,
    /// Every layer in integers, whatever that costs.
    #[arg(long, conflicts_with = "keep_f32")]
    pub no_mixed: bool,
    /// Keep this layer in f32, by its name in the report; may be given several times.
    #[arg(long, value_name = "LAYER")]
    pub keep_f32: Vec<String>,
    /// Measure what each layer costs by itself, even if int8 keeps within the budget.
    #[arg(long)]
    pub sensitivity: bool,
    /// Write a twin beside the bundle with activations of this type.
    #[arg(long, value_enum, default_value = "i8", value_name = "TYPE")]
    pub activations: Activations,
    /// Write a twin beside the bundle in this form.
    #[arg(long, value_enum, default_value = "qlinear", value_name = "FORM")]
    pub format: Format,
    /// Folder for quantization.svg, quantization.png and quantization.json; made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,
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
            fallback: Fallback::F32,
            location_weights: LocationWeights::Auto,
            output: output.into(),
            calibration_images: 256,
            calibration: None,
            equalise: Equalise::Auto,
            licence: vec!["generated sample: CC0-1.0".into()],
            name: None,
            max_drop: 0.5,
            max_class_drop: 3.0,
            force: false,
            no_mixed: false,
            keep_f32: Vec::new(),
            sensitivity: false,
            activations: Activations::I8,
            format: Format::Qlinear,
            report: None,
            json: false,
        }
    }

    fn budget(&self) -> Result<Budget> {
        let points = |option: &str, points: f64| match points.is_finite() && (0.0..=100.0).contains(&points) {
            true => Ok(points / 100.0),
            false => bail!("--{option} {points}: it must be 0 to 100 points"),
        };
        Ok(Budget {
            top1: points("max-drop", self.max_drop)?,
            class: points("max-class-drop", self.max_class_drop)?,
        })
    }

    /// The twin that is asked for, and where it goes.
    fn twin(&self) -> Result<Option<(Twin, PathBuf)>> {
        let twin = Twin { unsigned: self.activations == Activations::U8, qdq: self.format == Format::Qdq };
        if twin == Twin::default() {
            return Ok(None);
        }
        if self.quantize == Quantize::None {
            bail!(
                "--activations u8 and --format qdq are forms of an int8 network: leave --quantize none out"
            );
        }
        Ok(Some((twin, self.output.with_extension(format!("{}.onnx", twin.suffix())))))
    }
}

/// Runs the verb.
///
/// # Errors
/// A run that is not finished or damaged, a network that cannot be exported, a full disk; [`Refused`]
/// when int8 loses too much.
pub fn run(args: &ExportArgs, context: &Context) -> Result<()> {
    check_output(&args.output)?;
    if args.quantize == Quantize::None && args.fallback == Fallback::None {
        bail!("--fallback none leaves out the f32 network beside an int8 one: leave --quantize none out");
    }
    let (budget, twin) = (args.budget()?, args.twin()?);
    let model = TrainedModel::load(&args.run, &Device::flex())?;
    context.voice.say("reading calibration and hold-out pictures");
    let pictures = pictures::of_run(&args.run, &model, args.calibration_images)?;
    let options = Options {
        format: match args.quantize {
            Quantize::Int8 => NumberFormat::Int8,
            Quantize::None => NumberFormat::F32,
        },
        fallback: args.fallback == Fallback::F32,
        location: match args.location_weights {
            LocationWeights::Auto => export::Location::Smallest,
            LocationWeights::F32 => export::Location::F32,
        },
        name: args.name.clone(),
        licences: args.licence.clone(),
        settings: Settings {
            method: args.calibration,
            equalise: match args.equalise {
                Equalise::Auto => None,
                Equalise::On => Some(true),
                Equalise::Off => Some(false),
            },
            f32_layers: args.keep_f32.iter().cloned().collect(),
            ..Settings::default()
        },
        mixed: !args.no_mixed,
        sensitivity: args.sensitivity,
        budget,
        force: args.force,
    };
    context.voice.say(match args.quantize {
        Quantize::Int8 => "exporting, quantizing, measuring f32 and int8",
        Quantize::None => "exporting, measuring",
    });
    let exported = export::export(&model, &pictures.calibration, &pictures.compare, &options);
    let Exported { bundle, report, quantized } = exported.map_err(|error| named(error, &pictures))?;
    if args.json {
        print_json(&report)?
    } else {
        report::print(&report)
    }
    warn(&report, &pictures, context);
    if let Some(dir) = &args.report {
        report::write(dir, &report)?;
        context.voice.say(&format!("wrote {}", dir.join("quantization.svg").display()));
    }
    if let Some(gate) = report.gate.as_ref().filter(|gate| !gate.passes() && !args.force) {
        return Err(Refused(anyhow::anyhow!("{}", refusal(gate))).into());
    }
    bundle.write(&args.output)?;
    let size: u64 = report.files.values().sum();
    let short = &report.digest[..12];
    let alone = report.format == NumberFormat::Int8 && !bundle.manifest.has_fallback();
    let alone = if alone { " · int8 alone, no f32 beside it" } else { "" };
    context.voice.say(&format!("wrote {} · {}{alone} · {short}", args.output.display(), bytes(size)));
    if let (Some((twin, path)), Some(quantized)) = (twin, quantized) {
        let file = onnx::encode(&twin.of(&quantized.graph)?);
        write_atomically(&path, |out| out.write_all(&file)).with_context(|| path.display().to_string())?;
        context.voice.say(&format!("wrote {} · {}", path.display(), bytes(file.len() as u64)));
    }
    Ok(())
}

/// Why nothing is written, and what can be done.
fn refusal(gate: &Gate) -> String {
    let lost: Vec<String> = gate
        .with(Verdict::Lost)
        .take(8)
        .map(|drop| {
            let of = if drop.class == ALL { "top-1".into() } else { format!("class {}", drop.class) };
            format!(
                "{of} loses {:.1} points ({:.1} to {:.1}) on {} pictures",
                100.0 * drop.drop,
                100.0 * drop.interval[0],
                100.0 * drop.interval[1],
                drop.n
            )
        })
        .collect();
    format!(
        "{}; --max-drop allows {:.1} points of top-1, --max-class-drop {:.1} of a class: nothing written; give more \
         --calibration-images, export --quantize none, or --force",
        lost.join(", "),
        100.0 * gate.budget.top1,
        100.0 * gate.budget.class
    )
}

/// An error with the files of the calibration pictures it is about.
fn named(error: ExportError, pictures: &RunPictures) -> anyhow::Error {
    let files: Vec<String> = error
        .pictures()
        .iter()
        .filter_map(|&i| pictures.files.get(i))
        .take(3)
        .map(|path| path.display().to_string())
        .collect();
    match files.is_empty() {
        true => error.into(),
        false => anyhow::anyhow!("{error} ({})", files.join(", ")),
    }
}

/// What is no error and should be known.
fn warn(report: &ExportReport, pictures: &RunPictures, context: &Context) {
    for drop in report.gate.iter().flat_map(|gate| gate.with(Verdict::Unclear)) {
        let what = if drop.class == ALL { "top-1".into() } else { format!("class {}", drop.class) };
        context.voice.say(&format!(
            "unclear: {what} loses {:.1} points on {} pictures, {} against {} that differ: more pictures would tell",
            100.0 * drop.drop,
            drop.n,
            drop.only_f32,
            drop.only_int8
        ));
    }
    for outlier in &report.outliers {
        let file = pictures.files.get(outlier.picture);
        context.voice.say(&format!(
            "outlier: the range of {} is {:.0} times that of all but 1 in 10,000 of its numbers, furthest on {}",
            outlier.tensor,
            outlier.stretch,
            file.map_or(format!("calibration picture {}", outlier.picture), |path| path.display().to_string())
        ));
    }
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

pub(super) fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{count} B"),
        10_000..10_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        _ => format!("{:.1} MB", count as f64 / 1e6),
    }
}

//! `csp-tools random-bundle`: a bundle with random weights, to measure engines and sizes without
//! training.

use std::path::PathBuf;

use anyhow::Result;
use csp_host::{
    export::{self, Options, quantize},
    training::{TrainedModel, choose_device},
};
use csp_models::{
    encoder::PositionEncoder,
    fusion::{Fusion, Thresholds},
    labels::{Label, Labels},
    manifest::{ImageInput, ModelProvenance, NumberFormat},
    nn::{BackboneKind, HeadConfig, ImageClassifierConfig, LocationClassifierConfig},
};

/// Write a bundle whose image network has random weights; its answers mean nothing.
#[derive(Debug, clap::Args)]
pub struct RandomArgs {
    /// Backbone.
    #[arg(long, value_enum, default_value_t = Backbone::MobilenetV2)]
    pub backbone: Backbone,
    /// Width multiplier of MobileNetV2, or channels of the first stage of the small CNN.
    #[arg(long, default_value_t = 1.0, value_name = "W")]
    pub width: f64,
    /// Height and width of the input, pixels.
    #[arg(long, default_value_t = 224, value_name = "PIXELS")]
    pub side: u32,
    /// Classes.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub classes: usize,
    /// Pictures the quantizer sees.
    #[arg(long, default_value_t = 16, value_name = "N")]
    pub calibration: usize,
    /// Add a location network of the released shape (space2vec-grid, one hidden layer of so many).
    #[arg(long, value_name = "WIDTH")]
    pub location: Option<usize>,
    /// int8 alone, without the f32 network beside it.
    #[arg(long)]
    pub no_fallback: bool,
    /// The .cspm to write.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
}

/// A backbone to make.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Backbone {
    MobilenetV2,
    SmallCnn,
    #[value(name = "resnet-18")]
    ResNet18,
}

/// Runs the verb.
///
/// # Errors
/// The export fails or the disk is full.
pub fn run(args: &RandomArgs) -> Result<()> {
    let backbone = match args.backbone {
        Backbone::MobilenetV2 => BackboneKind::MobileNetV2(args.width),
        Backbone::ResNet18 => BackboneKind::ResNet18,
        Backbone::SmallCnn => BackboneKind::SmallCnn(args.width.max(1.0) as usize),
    };
    let device = choose_device("cpu")?.device;
    device.seed(7);
    let labels = (0..args.classes).map(|class| Label::new(format!("class {class}"))).collect();
    let encoder = args.location.map(|_| PositionEncoder::default());
    let location = encoder.as_ref().zip(args.location).map(|(encoder, width)| {
        let head = HeadConfig::new(encoder.dim()).with_hidden(width, 1);
        LocationClassifierConfig::new(head, args.classes).init(&device)
    });
    let model = TrainedModel {
        modulated: None,
        place_only: 0,
        image: Some(ImageClassifierConfig { backbone, classes: args.classes }.init(&device)),
        location,
        input: ImageInput {
            width: args.side,
            height: args.side,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        },
        encoder,
        labels: Labels(labels),
        fusion: Fusion::default(),
        thresholds: Thresholds::default(),
        provenance: ModelProvenance { backbone: backbone.to_string(), seed: 7, ..Default::default() },
        name: format!("random-{backbone}-{}", args.side),
    };
    let pictures: Vec<Vec<u8>> = (0..args.calibration as u64).map(|seed| picture(seed, args.side)).collect();
    let settings = quantize::Settings {
        method: Some(quantize::Method::MinMax),
        head: Some(quantize::Head::Integer),
        equalise: Some(false),
        ..Default::default()
    };
    let options =
        Options { format: NumberFormat::Int8, fallback: !args.no_fallback, settings, ..Options::default() };
    let export::Exported { bundle, report, .. } = export::export(&model, &pictures, &[], &options)?;
    bundle.write(&args.output)?;
    for (name, size) in &report.files {
        eprintln!("{name}: {size} bytes");
    }
    if let Some(ratio) = report.bundle_ratio() {
        eprintln!("{:.3} of the networks in f32", ratio);
    }
    eprintln!("{} M multiply-adds, {}", report.multiply_adds / 1_000_000, args.output.display());
    Ok(())
}

/// Waves of several lengths and some grain: every layer sees a range of values.
fn picture(seed: u64, side: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let waves: Vec<[f32; 6]> = (0..6).map(|_| [(); 6].map(|()| next())).collect();
    let mut pixels = Vec::with_capacity((side * side * 3) as usize);
    for y in 0..side {
        for x in 0..side {
            let (u, v) = (x as f32 / side as f32, y as f32 / side as f32);
            for channel in 0..3 {
                let wave =
                    |w: &[f32; 6]| (30.0 * (w[0] - 0.5) * u + 30.0 * (w[1] - 0.5) * v + 6.3 * w[2]).sin();
                let level: f32 = waves.iter().map(|w| wave(w) * w[3 + channel]).sum();
                pixels.push((127.0 + 40.0 * level + 30.0 * (next() - 0.5)).clamp(0.0, 255.0) as u8);
            }
        }
    }
    pixels
}

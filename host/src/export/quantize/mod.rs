//! Post-training quantization of an f32 graph to the integer profile `int8-v1`.
//!
//! | file | does |
//! |---|---|
//! | `images` | calibration pictures that can be calibrated on |
//! | `equalise` | evens the channels out, across convolutions |
//! | `plan` | which tensors become int8, which activation disappears into which range |
//! | `observe` | runs the f32 graph on calibration pictures: extremes, histograms, channel means |
//! | `range` | extremes and histograms → a scale and a zero point |
//! | `entropy` | one way to do so: least Kullback–Leibler divergence |
//! | `filters` | weights → int8 on an integer grid of scales |
//! | `emit`, `normalise` | write the integer graph |
//! | `layers` | signal to noise of each layer, and what each costs by itself |
//!
//! # Profile int8-v1
//! - Input `image`: int8 `[1, 3, H, W]`, pixel ^ 0x80; normalisation is inside the first convolution.
//! - Every convolution is a `QLinearConv`: int8 activations (one scale and zero point a tensor), int8
//!   weights with one scale a channel, `w_scale[c] = u · m_c` with integer `m_c` in 1..=127, scalar int8
//!   weight zero point 0, int32 bias, and `m_c · (Σ|w_c| · 128 + |bias'|) < 2³¹`.
//! - ReLU and ReLU6 are the output range of the operator before them; no activation node is left.
//! - Residual: `DequantizeLinear` twice, `Add`, `QuantizeLinear`. Pooling in f32 after `DequantizeLinear`.
//! - A linear layer: `QuantizeLinear → MatMulInteger → Cast → Mul → Add`, logits in f32, or `Gemm` in
//!   f32 where the integer form measurably costs more ([`Head`]).
//! - A layer whose integer form costs too much stays f32, between `DequantizeLinear` and
//!   `QuantizeLinear`; then with its `Relu` or `Clip` as a node of its own.

mod emit;
mod entropy;
pub(super) mod equalise;
mod filters;
mod images;
pub(super) mod layers;
mod normalise;
mod observe;
mod plan;
mod range;

use std::collections::{BTreeMap, BTreeSet};

use csp_models::manifest::ImageInput;

pub use layers::{LayerNoise, LayerReport};
pub use observe::Outlier;
pub use range::Method;

use super::{error::ExportError, graph::Graph, run::Runner};
use emit::Emitted;
use observe::Statistics;
use plan::{Floats, Role};

/// Name of the integer profile, in the file's metadata.
pub const PROFILE: &str = "int8-v1";

/// Least number of calibration pictures.
pub const MIN_IMAGES: usize = 16;

/// How linear layers are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Head {
    /// int8 × int8 → int32, rescaled to f32.
    Integer,
    /// f32.
    Float,
}

/// What may be chosen about a quantization. The default measures and takes the best.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Method of the activation ranges; `None`: whichever errs least on held-out pictures.
    pub method: Option<Method>,
    /// Form of the linear layers; `None`: integer unless it costs, see [`GOOD_ENOUGH_DB`].
    pub head: Option<Head>,
    /// Whether channels are evened out across layers first; `None`: if that errs less.
    pub equalise: Option<bool>,
    /// Layers that stay f32, by name.
    pub f32_layers: BTreeSet<String>,
}

/// One quantization that was tried.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Attempt {
    /// Method of the activation ranges.
    pub ranges: Method,
    /// Form of the linear layers.
    pub head: Head,
    /// Channels were evened out across layers.
    pub equalised: bool,
    /// Signal to noise of the logits on held-out calibration pictures, dB.
    pub snr_db: f64,
}

/// An integer network and how it came about.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// The integer graph.
    pub graph: Graph,
    /// What was chosen, with its signal to noise on pictures held out from calibration.
    pub chosen: Attempt,
    /// What was tried.
    pub tried: Vec<Attempt>,
    /// Layers that stay f32, by name.
    pub f32_layers: BTreeSet<String>,
    /// Pictures the ranges were taken from.
    pub calibration_images: usize,
    /// Each layer, in the order they run.
    pub layers: Vec<LayerReport>,
    /// Values whose range a few numbers set.
    pub outliers: Vec<Outlier>,
    /// Error at the padded border per channel, in units of the normalised input: the border is one
    /// byte for all channels, the mean of the three normalisation means.
    pub border_error: [f32; 3],
}

/// Share of calibration pictures held out to choose the method on: one in this many.
const HOLD_OUT: usize = 4;
/// Signal to noise of the logits from which on the integer head is kept whatever f32 would give:
/// noise of 3 % of the logits' spread decides next to nothing. Below it, f32 must win by 0.83 dB (10 %
/// less error) to be worth four times the bytes.
pub const GOOD_ENOUGH_DB: f64 = 30.0;
/// Pictures beyond which choosing the method gains nothing.
const MAX_HELD_OUT: usize = 64;

/// Quantizes a lowered image network: [`Quantizer`] with its first choice.
///
/// # Errors
/// See [`Quantizer::new`].
pub fn quantize(
    graph: &Graph,
    input: &ImageInput,
    images: &[Vec<u8>],
    settings: &Settings,
) -> Result<Quantized, ExportError> {
    let quantizer = Quantizer::new(graph, input, images, settings)?;
    quantizer.quantized(&settings.f32_layers)
}

/// A network that was measured and is ready to be written in integers.
#[derive(Debug)]
pub struct Quantizer<'a> {
    input: &'a ImageInput,
    /// The network with the channels as chosen, and what was seen of its values.
    form: Form,
    chosen: Attempt,
    tried: Vec<Attempt>,
    /// Pictures that the choices are judged on.
    judged: Vec<&'a [u8]>,
    /// Logits of the f32 network on them.
    expected: Vec<Vec<f32>>,
    /// Positions, among the given pictures, of those that were calibrated on.
    calibrated: Vec<usize>,
}

/// A network that computes the same as the given one.
#[derive(Debug)]
struct Form {
    graph: Graph,
    statistics: BTreeMap<String, Statistics>,
}

impl Form {
    fn new(graph: Graph, input: &ImageInput, images: &[&[u8]]) -> Result<Self, ExportError> {
        let plan = plan::plan(&graph, &Floats::Only(BTreeSet::new()))?;
        let statistics = observe::observe(&graph, &plan.observed, input, images)?;
        Ok(Self { graph, statistics })
    }

    fn emit(
        &self,
        floats: &Floats,
        input: &ImageInput,
        method: Method,
        head: Head,
    ) -> Result<Emitted, ExportError> {
        let plan = plan::plan(&self.graph, floats)?;
        emit::emit(&self.graph, &plan, &self.statistics, input, method, head)
    }
}

impl<'a> Quantizer<'a> {
    /// Measures a lowered image network and chooses how to quantize it.
    ///
    /// # Shapes
    /// `images`: pixels `height × width × 3` of the network's input size, at least [`MIN_IMAGES`] of
    /// them, from the training split.
    ///
    /// # Errors
    /// [`ExportError::Calibration`] for too few or constant pictures, [`ExportError::Activation`] for a
    /// network that is not finite on them, [`ExportError::Quantize`] for one that has no integer form
    /// or no layer of a name in [`Settings::f32_layers`].
    pub fn new(
        graph: &Graph,
        input: &'a ImageInput,
        images: &'a [Vec<u8>],
        settings: &Settings,
    ) -> Result<Self, ExportError> {
        images::check(input, images)?;
        let (judged, calibrated): (Vec<usize>, Vec<usize>) =
            (0..images.len()).partition(|i| i % HOLD_OUT == HOLD_OUT - 1);
        let of = |positions: &[usize]| -> Vec<&'a [u8]> {
            positions.iter().map(|&i| images[i].as_slice()).collect()
        };
        let judged = of(&judged[..judged.len().min(MAX_HELD_OUT)]);
        let calibrate = of(&calibrated);
        // positions among those calibrated on → among those given
        let located = |error| match error {
            ExportError::Activation { network, node, tensor, picture } => {
                ExportError::Activation { network, node, tensor, picture: calibrated[picture] }
            }
            other => other,
        };
        let plain = Form::new(graph.clone(), input, &calibrate).map_err(located)?;
        let names = layers::names(&plain.graph);
        if let Some(unknown) = settings.f32_layers.iter().find(|name| !names.contains(*name)) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            return Err(ExportError::Quantize {
                network: graph.name.clone(),
                node: unknown.clone(),
                problem: format!("no layer has this name; the layers are {}", names.join(", ")),
            });
        }
        let expected = logits(&Runner::new(graph)?, input, &judged)?;
        let equalised = match settings.equalise {
            Some(false) => None,
            _ => equalise::equalise(graph, input, &calibrate)?
                .map(|graph| Form::new(graph, input, &calibrate))
                .transpose()
                .map_err(located)?,
        };
        let floats = Floats::Only(settings.f32_layers.clone());
        let mut tried: Vec<Attempt> = Vec::new();
        let mut attempt = |form: &Form, ranges: Method, head: Head, equalised: bool| {
            let emitted = form.emit(&floats, input, ranges, head)?;
            let got = logits(&Runner::new(&emitted.graph)?, input, &judged)?;
            let attempt = Attempt { ranges, head, equalised, snr_db: snr_db(&expected, &got) };
            tried.push(attempt);
            Ok::<_, ExportError>(attempt)
        };
        let better = |best: Attempt, new: Attempt| if new.snr_db > best.snr_db { new } else { best };
        let first = settings.head.unwrap_or(Head::Integer);
        let methods = settings.method.map_or(Method::ALL.to_vec(), |method| vec![method]);
        let start = methods.first().copied().unwrap_or(Method::Mse);
        // the form first, by one method: the methods differ by less than a badly scaled channel costs
        let mut chosen = match (&equalised, settings.equalise) {
            (Some(form), Some(true)) => attempt(form, start, first, true)?,
            (Some(form), _) => {
                let plain = attempt(&plain, start, first, false)?;
                better(plain, attempt(form, start, first, true)?)
            }
            (None, _) => attempt(&plain, start, first, false)?,
        };
        let form = if chosen.equalised { equalised.unwrap_or(plain) } else { plain };
        for &method in methods.iter().skip(1) {
            chosen = better(chosen, attempt(&form, method, first, chosen.equalised)?);
        }
        let has_dense = form.graph.nodes.iter().any(|node| node.op == "Gemm");
        if settings.head.is_none() && has_dense && chosen.snr_db < GOOD_ENOUGH_DB {
            let float = attempt(&form, chosen.ranges, Head::Float, chosen.equalised)?;
            if float.snr_db > chosen.snr_db + 20.0 * 1.1f64.log10() {
                chosen = float;
            }
        }
        Ok(Self { input, form, chosen, tried, judged, expected, calibrated })
    }

    /// The integer network, but for the layers of `f32_layers`.
    ///
    /// # Errors
    /// See [`Quantizer::new`].
    pub fn quantized(&self, f32_layers: &BTreeSet<String>) -> Result<Quantized, ExportError> {
        let floats = Floats::Only(f32_layers.clone());
        let emitted = self.form.emit(&floats, self.input, self.chosen.ranges, self.chosen.head)?;
        let layers = self.layers(&emitted, f32_layers)?;
        let got = logits(&Runner::new(&emitted.graph)?, self.input, &self.judged)?;
        let mut outliers = observe::outliers(&self.form.statistics);
        for outlier in &mut outliers {
            outlier.picture = self.calibrated[outlier.picture];
        }
        Ok(Quantized {
            graph: emitted.graph,
            chosen: Attempt { snr_db: snr_db(&self.expected, &got), ..self.chosen },
            tried: self.tried.clone(),
            f32_layers: f32_layers.clone(),
            calibration_images: self.calibrated.len(),
            layers,
            outliers,
            border_error: [0, 1, 2].map(|c| normalise::border(self.input, c) as f32),
        })
    }
}

fn logits(runner: &Runner, input: &ImageInput, images: &[&[u8]]) -> Result<Vec<Vec<f32>>, ExportError> {
    images.iter().map(|image| Ok(runner.picture(image, input)?.swap_remove(0))).collect()
}

/// Power of the signal over power of the difference, in dB. The mean of each row is taken out first:
/// a softmax does not see it.
pub(super) fn snr_db(expected: &[Vec<f32>], got: &[Vec<f32>]) -> f64 {
    let centred = |row: &[f32]| -> Vec<f64> {
        let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / row.len().max(1) as f64;
        row.iter().map(|&v| f64::from(v) - mean).collect()
    };
    let (mut signal, mut noise) = (0.0, 0.0);
    for (expected, got) in expected.iter().zip(got) {
        for (e, g) in centred(expected).into_iter().zip(centred(got)) {
            signal += e * e;
            noise += (e - g) * (e - g);
        }
    }
    // A network that answers the same to everything has no signal to lose.
    10.0 * (signal.max(1e-30) / noise.max(1e-30)).log10()
}

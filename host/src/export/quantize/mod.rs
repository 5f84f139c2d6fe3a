//! Post-training quantization of an f32 graph to the integer profile `int8-v1`.
//!
//! | file | does |
//! |---|---|
//! | `plan` | which tensors become int8, which activation disappears into which range |
//! | `observe` | runs the f32 graph on calibration pictures: extremes, histograms, channel means |
//! | `range` | extremes and histograms → a scale and a zero point |
//! | `filters` | weights → int8 on an integer grid of scales |
//! | `emit` | writes the integer graph |
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

mod emit;
mod filters;
mod observe;
mod plan;
mod range;

use csp_models::manifest::ImageInput;

pub use range::Method;

use super::{error::ExportError, graph::Graph, run::Runner};

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
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// Method of the activation ranges; `None`: whichever errs least on held-out pictures.
    pub method: Option<Method>,
    /// Form of the linear layers; `None`: integer unless it costs, see [`GOOD_ENOUGH_DB`].
    pub head: Option<Head>,
}

/// An integer network and how it came about.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// The integer graph.
    pub graph: Graph,
    /// Method of the activation ranges.
    pub method: Method,
    /// Form of the linear layers.
    pub head: Head,
    /// Pictures the ranges were taken from.
    pub calibration_images: usize,
    /// Signal to noise of the logits on pictures held out from calibration, dB.
    pub snr_db: f64,
    /// What was tried: method, head, dB.
    pub tried: Vec<(Method, Head, f64)>,
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

/// Quantizes a lowered image network.
///
/// # Shapes
/// `images`: pixels `height × width × 3` of the network's input size, at least [`MIN_IMAGES`] of them,
/// from the training split.
///
/// # Errors
/// [`ExportError::Calibration`] for too few or constant pictures, [`ExportError::Quantize`] for a
/// network that has no integer form.
pub fn quantize(
    graph: &Graph,
    input: &ImageInput,
    images: &[Vec<u8>],
    settings: Settings,
) -> Result<Quantized, ExportError> {
    check_images(input, images)?;
    let plan = plan::plan(graph)?;
    let held_out = |i: usize| i % HOLD_OUT == HOLD_OUT - 1;
    let choose: Vec<&[u8]> =
        (0..images.len()).filter(|&i| held_out(i)).take(MAX_HELD_OUT).map(|i| images[i].as_slice()).collect();
    let calibrate: Vec<&[u8]> =
        (0..images.len()).filter(|&i| !held_out(i)).map(|i| images[i].as_slice()).collect();
    let statistics = observe::observe(graph, &plan.observed, input, &calibrate)?;

    let reference = Runner::new(graph)?;
    let expected = logits(&reference, input, &choose)?;
    let methods = settings.method.map_or(Method::ALL.to_vec(), |method| vec![method]);
    let attempt = |method: Method, head: Head| -> Result<(Graph, f64), ExportError> {
        let graph = emit::emit(graph, &plan, &statistics, input, method, head)?;
        let got = logits(&Runner::new(&graph)?, input, &choose)?;
        Ok((graph, snr_db(&expected, &got)))
    };
    let mut tried = Vec::new();
    let mut best: Option<(Method, Head, Graph, f64)> = None;
    let first = settings.head.unwrap_or(Head::Integer);
    for method in methods {
        let (graph, db) = attempt(method, first)?;
        tried.push((method, first, db));
        if best.as_ref().is_none_or(|&(.., best_db)| db > best_db) {
            best = Some((method, first, graph, db));
        }
    }
    let Some((method, mut head, mut graph, mut snr_db)) = best else {
        return Err(ExportError::Calibration { problem: "no method of ranges was given".into() });
    };
    if settings.head.is_none() && plan.has_dense && snr_db < GOOD_ENOUGH_DB {
        let (float_graph, db) = attempt(method, Head::Float)?;
        tried.push((method, Head::Float, db));
        if db > snr_db + 20.0 * 1.1f64.log10() {
            (head, graph, snr_db) = (Head::Float, float_graph, db);
        }
    }
    let zero = emit::input_zero_point(input);
    let border_error = [0, 1, 2].map(|c| emit::border(input, zero, c) as f32);
    Ok(Quantized { graph, method, head, calibration_images: calibrate.len(), snr_db, tried, border_error })
}

fn check_images(input: &ImageInput, images: &[Vec<u8>]) -> Result<(), ExportError> {
    let error = |problem: String| Err(ExportError::Calibration { problem });
    if images.len() < MIN_IMAGES {
        return error(format!(
            "{} pictures are too few, at least {MIN_IMAGES} are needed: raise --calibration-images or add training pictures",
            images.len()
        ));
    }
    let size = input.width as usize * input.height as usize * 3;
    if let Some((i, image)) = images.iter().enumerate().find(|(_, image)| image.len() != size) {
        return error(format!(
            "picture {i} has {} bytes, the network takes {}×{}×3 = {size}",
            image.len(),
            input.width,
            input.height
        ));
    }
    let constant = images.iter().filter(|image| image.iter().all(|p| *p == image[0])).count();
    if images.len() - constant < MIN_IMAGES {
        return error(format!(
            "{constant} of {} pictures are one single colour and tell nothing about the ranges: check the training pictures",
            images.len()
        ));
    }
    Ok(())
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

//! Cross-layer equalisation: Nagel, van Baalen, Blankevoort & Welling, "Data-Free Quantization Through
//! Weight Equalization and Bias Correction", ICCV 2019, section 4.1.
//!
//! Between two convolutions with nothing but a ReLU between them, a channel may be divided by `s` in the
//! first and multiplied by `s` in the second without changing what the network computes. With `s_i =
//! √(r1_i / r2_i)`, `r` the largest weights of channel `i` in the first and in the second (eq. 11), both
//! have the range `√(r1_i · r2_i)`, and no channel is lost in the scale of another.
//!
//! ReLU6 is not indifferent to scale: it cuts at 6 whatever `s` is. The paper puts ReLU in its place;
//! we leave the network as it was trained, and scale a channel only as far as its cut, before and after,
//! lies above everything the calibration pictures reach, with [`MARGIN`] to spare.

use std::collections::BTreeMap;

use csp_models::manifest::ImageInput;

use super::super::{
    error::ExportError,
    graph::{Graph, Numbers},
    run::Runner,
};

/// How far below the cut of a ReLU6 a channel has to stay, as a factor: other pictures reach further.
const MARGIN: f32 = 1.1;
/// Sweeps over all pairs; a chain of pairs settles in fewer.
const SWEEPS: usize = 30;
/// Change of scale, as a factor, below which a pair has settled.
const SETTLED: f32 = 1.001;

/// Two convolutions with nothing but an activation between them.
#[derive(Clone, Debug)]
struct Pair {
    first: usize,
    second: usize,
    /// Where the activation cuts; infinite for ReLU and none.
    cut: f32,
    channels: usize,
}

/// A network that computes the same with its channels equalised; `None` where no two convolutions
/// follow each other.
pub(super) fn equalise(
    graph: &Graph,
    input: &ImageInput,
    images: &[&[u8]],
) -> Result<Option<Graph>, ExportError> {
    let pairs = pairs(graph);
    if pairs.is_empty() {
        return Ok(None);
    }
    let peaks = peaks(graph, &pairs, input, images)?;
    let mut graph = graph.clone();
    let mut scales: Vec<Vec<f32>> = pairs.iter().map(|pair| vec![1.0; pair.channels]).collect();
    for _ in 0..SWEEPS {
        let mut moved = 1f32;
        for (at, pair) in pairs.iter().enumerate() {
            let ranges = ranges(&graph, pair);
            let mut steps = vec![1.0; pair.channels];
            for (i, step) in steps.iter_mut().enumerate() {
                let [first, second] = ranges[i];
                if first <= 0.0 || second <= 0.0 {
                    continue;
                }
                let wanted = scales[at][i] * (first / second).sqrt();
                let allowed = match peaks.get(&pair.first) {
                    None => wanted,
                    Some(peaks) if peaks[i] * MARGIN > pair.cut => 1.0,
                    Some(peaks) => wanted.max(peaks[i] * MARGIN / pair.cut),
                };
                *step = allowed / scales[at][i];
                scales[at][i] = allowed;
                moved = moved.max(step.max(1.0 / *step));
            }
            rescale(&mut graph, pair, &steps);
        }
        if moved < SETTLED {
            break;
        }
    }
    Ok(Some(graph))
}

/// Every pair whose first convolution is read by the second alone, through a ReLU, a ReLU6 or nothing.
fn pairs(graph: &Graph) -> Vec<Pair> {
    let uses = graph.uses();
    let once = |name: &str| uses.get(name) == Some(&1);
    let mut pairs = Vec::new();
    for (at, node) in graph.nodes.iter().enumerate().filter(|(_, node)| weight_of(graph, node).is_some()) {
        let mut value = &node.output;
        let mut cut = f32::INFINITY;
        let reader = |value: &String| {
            graph.nodes.iter().position(|node| node.inputs.contains(value)).filter(|_| once(value))
        };
        let Some(mut next) = reader(value) else { continue };
        let after = &graph.nodes[next];
        let bound = |i: usize| -> Option<f32> {
            let name = after.inputs.get(i).filter(|name| !name.is_empty())?;
            graph.constants.get(name)?.as_f32()?.first().copied()
        };
        match after.op {
            "Relu" => {}
            // only a lower bound of zero is indifferent to scale
            "Clip" if bound(1) == Some(0.0) && bound(2).is_some_and(|high| high > 0.0) => {
                cut = bound(2).unwrap_or(cut);
            }
            "Conv" => {}
            _ => continue,
        }
        if after.op != "Conv" {
            value = &after.output;
            let Some(found) = reader(value) else { continue };
            next = found;
        }
        let second = &graph.nodes[next];
        let channels = graph.shape(&node.output).get(1).copied().unwrap_or(0);
        let Some(weight) = weight_of(graph, second).filter(|_| second.inputs[0] == *value) else { continue };
        let group = usize::try_from(second.int("group", 1)).unwrap_or(0);
        let depthwise = group == channels && weight[1] == 1 && weight[0] == channels;
        let dense = group == 1 && weight[1] == channels;
        // weights that two convolutions share cannot be scaled for one of them
        let own = [node, second].iter().all(|conv| conv.inputs.iter().skip(1).all(|name| once(name)));
        if channels > 0 && own && (depthwise || dense) {
            pairs.push(Pair { first: at, second: next, cut, channels });
        }
    }
    pairs
}

/// Shape of a convolution's constant f32 weight.
fn weight_of<'a>(graph: &'a Graph, node: &super::super::graph::Node) -> Option<&'a [usize]> {
    let weight = graph.constants.get(node.inputs.get(1)?).filter(|_| node.op == "Conv")?;
    (weight.as_f32().is_some() && weight.shape.len() == 4).then_some(weight.shape.as_slice())
}

/// Largest number of each channel before the ReLU6 of each pair that has one, by its first convolution.
fn peaks(
    graph: &Graph,
    pairs: &[Pair],
    input: &ImageInput,
    images: &[&[u8]],
) -> Result<BTreeMap<usize, Vec<f32>>, ExportError> {
    let cut: Vec<&Pair> = pairs.iter().filter(|pair| pair.cut.is_finite()).collect();
    if cut.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut probe = graph.clone();
    probe.outputs = cut.iter().map(|pair| graph.nodes[pair.first].output.clone()).collect();
    probe.prune();
    let runner = Runner::new(&probe)?;
    let mut peaks: BTreeMap<usize, Vec<f32>> =
        cut.iter().map(|pair| (pair.first, vec![0.0; pair.channels])).collect();
    for image in images {
        for (pair, values) in cut.iter().zip(runner.picture(image, input)?) {
            let Some(peaks) = peaks.get_mut(&pair.first) else { continue };
            let per_channel = (values.len() / pair.channels).max(1);
            for (peak, channel) in peaks.iter_mut().zip(values.chunks_exact(per_channel)) {
                *peak = channel.iter().copied().fold(*peak, f32::max);
            }
        }
    }
    Ok(peaks)
}

/// Of each channel the largest weight that makes it and the largest that reads it.
fn ranges(graph: &Graph, pair: &Pair) -> Vec<[f32; 2]> {
    let mut ranges = vec![[0f32; 2]; pair.channels];
    each_weight(graph, pair, |channel, side, weight| {
        ranges[channel][side] = ranges[channel][side].max(weight.abs());
    });
    ranges
}

fn each_weight(graph: &Graph, pair: &Pair, mut see: impl FnMut(usize, usize, f32)) {
    for (side, at) in [pair.first, pair.second].into_iter().enumerate() {
        let Some(weight) = graph.nodes[at].inputs.get(1).and_then(|name| graph.constants.get(name)) else {
            continue;
        };
        for (i, &w) in weight.as_f32().unwrap_or_default().iter().enumerate() {
            see(channel_of(&weight.shape, pair.channels, side, i), side, w);
        }
    }
}

/// The channel between a pair that the `i`th weight of its first or second convolution belongs to.
fn channel_of(shape: &[usize], channels: usize, side: usize, i: usize) -> usize {
    let kernel = (shape[2] * shape[3]).max(1);
    let filter = i / (shape[1] * kernel).max(1);
    // a depthwise filter reads the channel of its own number
    let reads_own = side == 1 && shape[1] == 1 && shape[0] == channels;
    if side == 0 || reads_own { filter } else { i / kernel % shape[1] }
}

/// Divides the first convolution's channels by `steps` and multiplies what the second reads by them.
fn rescale(graph: &mut Graph, pair: &Pair, steps: &[f32]) {
    for (side, at) in [pair.first, pair.second].into_iter().enumerate() {
        let names = graph.nodes[at].inputs.clone();
        if let Some(weight) = names.get(1).and_then(|name| graph.constants.get_mut(name)) {
            let shape = weight.shape.clone();
            if let Numbers::F32(numbers) = &mut weight.numbers {
                for (i, w) in numbers.iter_mut().enumerate() {
                    let step = steps[channel_of(&shape, pair.channels, side, i)];
                    *w = if side == 0 { *w / step } else { *w * step };
                }
            }
        }
        let bias = names.get(2).filter(|_| side == 0).and_then(|name| graph.constants.get_mut(name));
        if let Some(Numbers::F32(numbers)) = bias.map(|bias| &mut bias.numbers) {
            numbers.iter_mut().zip(steps).for_each(|(b, step)| *b /= step);
        }
    }
}

/// A network that computes the same with its channels scaled apart by up to `factor`: what equalisation
/// is for. The first `most` pairs, but those with a ReLU6 between them.
#[cfg(test)]
pub(in crate::export) fn unbalance(graph: &Graph, factor: f32, most: usize) -> Graph {
    let mut graph = graph.clone();
    for pair in pairs(&graph).iter().filter(|pair| pair.cut.is_infinite()).take(most) {
        let position = |i: usize| (i * 29 + pair.first * 13) % 31;
        let steps: Vec<f32> =
            (0..pair.channels).map(|i| factor.powf(position(i) as f32 / 15.0 - 1.0)).collect();
        rescale(&mut graph, pair, &steps);
    }
    graph
}

#[cfg(test)]
mod tests;

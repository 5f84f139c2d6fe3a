//! BatchNorm with fixed statistics is a scale and a shift per channel: both go into the convolution
//! before it.

use super::super::graph::{Constant, Graph};

/// Folds every BatchNormalization into the Conv that alone feeds it.
pub(super) fn batch_norms(graph: &mut Graph) -> bool {
    let mut changed = false;
    while let Some((conv, norm, weight, bias)) = (0..graph.nodes.len()).find_map(|at| foldable(graph, at)) {
        let output = graph.nodes[norm].output.clone();
        let node = &mut graph.nodes[conv];
        let [weight_name, bias_name] = ["weight", "bias"].map(|part| format!("{}.{part}", node.name));
        graph.values.remove(&node.output);
        node.output = output;
        graph.nodes.remove(norm);
        // The folded weight takes the name of the one it replaces; nothing else may read that one.
        let old = graph.nodes[conv].inputs.clone();
        let uses = graph.uses();
        for name in &old[1..] {
            if uses.get(name) == Some(&1) {
                graph.constants.remove(name);
            }
        }
        let weight = graph.constant(&weight_name, weight);
        let bias = graph.constant(&bias_name, bias);
        graph.nodes[conv].inputs = vec![old[0].clone(), weight, bias];
        changed = true;
    }
    changed
}

/// The pair (Conv, BatchNormalization) at `norm` with the folded weight and bias.
fn foldable(graph: &Graph, norm: usize) -> Option<(usize, usize, Constant, Constant)> {
    let node = graph.nodes.get(norm).filter(|node| node.op == "BatchNormalization")?;
    let conv = graph.producer(&node.inputs[0]).filter(|&at| graph.nodes[at].op == "Conv")?;
    let source = &graph.nodes[conv];
    let readers = graph.nodes.iter().flat_map(|n| &n.inputs).chain(&graph.outputs);
    if readers.filter(|&name| *name == source.output).count() != 1 {
        return None;
    }
    let numbers = |name: &String| graph.constants.get(name)?.as_f32();
    let [gamma, beta, mean, variance] = [1, 2, 3, 4].map(|at| node.inputs.get(at).and_then(numbers));
    let (gamma, beta, mean, variance) = (gamma?, beta?, mean?, variance?);
    let epsilon = f64::from(node.float("epsilon", 1e-5));
    let weight = graph.constants.get(&source.inputs[1])?;
    let channels = gamma.len();
    let per_channel = weight.as_f32()?.len() / channels;
    if weight.shape.first() != Some(&channels) || per_channel == 0 {
        return None;
    }
    let old_bias = source.inputs.get(2).and_then(numbers);
    let mut folded = weight.as_f32()?.to_vec();
    let mut bias = vec![0.0; channels];
    for (c, filter) in folded.chunks_exact_mut(per_channel).enumerate() {
        let scale = f64::from(gamma[c]) / (f64::from(variance[c]) + epsilon).sqrt();
        filter.iter_mut().for_each(|w| *w = (f64::from(*w) * scale) as f32);
        let shift = f64::from(old_bias.map_or(0.0, |bias| bias[c])) - f64::from(mean[c]);
        bias[c] = (shift * scale + f64::from(beta[c])) as f32;
    }
    Some((conv, norm, Constant::f32(weight.shape.clone(), folded), Constant::f32([channels], bias)))
}

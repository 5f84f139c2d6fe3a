//! Several recorded operators that are one, and operators that do nothing.

use super::super::graph::{Attribute, Constant, Graph, Node, Numbers};

/// Removes operators that return their input: reshapes and expansions to the same shape, and
/// reshapes of reshapes.
pub(super) fn bypass(graph: &mut Graph) -> bool {
    let mut changed = false;
    for at in 0..graph.nodes.len() {
        let node = &graph.nodes[at];
        let Some(input) = node.inputs.first().cloned() else { continue };
        let same = matches!(node.op, "Reshape" | "Expand")
            && graph.shape(&input) == graph.shape(&node.output)
            && graph.values.contains_key(&input)
            && !(graph.outputs.contains(&node.output) && graph.inputs.contains(&input));
        if same {
            let output = node.output.clone();
            // a removed producer leaves no reader behind, so prune takes it
            graph.redirect(&output, &input);
            changed |= !graph.nodes[at].inputs.is_empty() && graph.values.contains_key(&output);
            graph.values.remove(&output);
            continue;
        }
        if node.op == "Reshape"
            && let Some(before) = graph.producer(&input).filter(|&p| graph.nodes[p].op == "Reshape")
        {
            let source = graph.nodes[before].inputs[0].clone();
            graph.nodes[at].inputs[0] = source;
            changed = true;
        }
    }
    graph.nodes.retain(|node| graph.values.contains_key(&node.output));
    changed
}

/// Means over height and width, one after the other → GlobalAveragePool.
pub(super) fn global_average(graph: &mut Graph) -> bool {
    let uses = graph.uses();
    let is_mean = |node: &Node| node.op == "ReduceMean" && node.int("keepdims", 1) == 1;
    let pair = graph.nodes.iter().enumerate().find_map(|(at, node)| {
        let before = graph.producer(node.inputs.first()?)?;
        let (first, mut axes) = (&graph.nodes[before], node.ints("axes").to_vec());
        axes.extend(first.ints("axes"));
        axes.sort_unstable();
        let fits = is_mean(node)
            && is_mean(first)
            && axes == [2, 3]
            && uses.get(&first.output) == Some(&1)
            && graph.shape(&first.inputs[0]).len() == 4;
        fits.then(|| (at, first.inputs[0].clone()))
    });
    let Some((at, source)) = pair else { return false };
    let node = &mut graph.nodes[at];
    node.op = "GlobalAveragePool";
    node.inputs = vec![source];
    node.attributes.clear();
    true
}

/// Clip with 0 and no finite maximum → Relu.
pub(super) fn rectify(graph: &mut Graph) -> bool {
    let mut changed = false;
    for at in 0..graph.nodes.len() {
        let node = &graph.nodes[at];
        let bound = |i: usize| graph.constants.get(node.inputs.get(i)?)?.as_f32()?.first().copied();
        let open = node.inputs.get(2).is_none_or(String::is_empty) || bound(2) >= Some(f32::MAX);
        if node.op == "Clip" && bound(1) == Some(0.0) && open {
            let node = &mut graph.nodes[at];
            node.op = "Relu";
            node.inputs.truncate(1);
            changed = true;
        }
    }
    changed
}

/// A matrix product of rank 2 with a constant, and the constant row added to it → Gemm.
pub(super) fn gemm(graph: &mut Graph) -> bool {
    let uses = graph.uses();
    let mut changed = false;
    for at in 0..graph.nodes.len() {
        let node = &graph.nodes[at];
        if node.op == "MatMul"
            && graph.shape(&node.inputs[0]).len() == 2
            && graph.constants.get(&node.inputs[1]).is_some_and(|w| w.shape.len() == 2)
        {
            graph.nodes[at].op = "Gemm";
            changed = true;
        }
    }
    for at in 0..graph.nodes.len() {
        let node = &graph.nodes[at];
        if node.op != "Add" {
            continue;
        }
        let order = [(0, 1), (1, 0)].into_iter().find_map(|(product, bias)| {
            let before = graph.producer(&node.inputs[product])?;
            let gemm = &graph.nodes[before];
            let bias = graph.constants.get(&node.inputs[bias]).map(|c| (&node.inputs[bias], c))?;
            let columns = graph.shape(&gemm.output).last().copied()?;
            let row = bias.1.as_f32()?.len() == columns && bias.1.shape.last() == Some(&columns);
            let fits =
                gemm.op == "Gemm" && gemm.inputs.len() == 2 && uses.get(&gemm.output) == Some(&1) && row;
            fits.then(|| (before, bias.0.clone()))
        });
        if let Some((before, bias)) = order {
            let row = graph.constants[&bias].as_f32().map(<[f32]>::to_vec).unwrap_or_default();
            let name = if graph.constants[&bias].shape.len() == 1 {
                bias
            } else {
                graph.constant(&format!("{}.bias", graph.nodes[before].name), Constant::f32([row.len()], row))
            };
            let output = graph.nodes[at].output.clone();
            graph.values.remove(&graph.nodes[before].output);
            graph.nodes[before].inputs.push(name);
            graph.nodes[before].output = output;
            graph.nodes.remove(at);
            return true;
        }
    }
    changed
}

/// Reshape of `[1, c, 1, 1]` to `[1, c]` → Flatten, which needs no shape constant.
pub(super) fn flatten(graph: &mut Graph) {
    for at in 0..graph.nodes.len() {
        let node = &graph.nodes[at];
        let (from, to) =
            (graph.shape(node.inputs.first().map_or("", String::as_str)), graph.shape(&node.output));
        let fits = node.op == "Reshape"
            && to.len() == 2
            && from.first() == to.first()
            && from[1..].iter().product::<usize>() == to[1]
            && matches!(
                graph.constants.get(&node.inputs[1]),
                Some(Constant { numbers: Numbers::I64(_), .. })
            );
        if fits {
            let node = &mut graph.nodes[at];
            node.op = "Flatten";
            node.inputs.truncate(1);
            node.attributes = [("axis", Attribute::Int(1))].into();
        }
    }
}

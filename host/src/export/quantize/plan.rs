//! What becomes of each node: decided once, before anything is measured.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{
    error::ExportError,
    graph::{Graph, Node},
};

/// What an activation leaves through.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bounds {
    pub low: f32,
    pub high: f32,
}

impl Bounds {
    pub const OPEN: Self = Self { low: f32::NEG_INFINITY, high: f32::INFINITY };
}

/// What becomes of a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Role {
    /// Becomes a QLinearConv.
    Conv,
    /// Stays f32 between DequantizeLinear and QuantizeLinear.
    Add,
    /// Becomes MatMulInteger, or stays Gemm.
    Dense,
    /// Runs on int8 as it is: MaxPool.
    Keep,
    /// Disappears into the output range of the node before it.
    Swallowed,
    /// Stays f32.
    Float,
}

/// The decisions for a graph.
pub(super) struct Plan {
    /// By node, in the graph's order.
    pub roles: Vec<Role>,
    /// For a node that swallows the activation after it: the value it computes instead, and bounds.
    pub outputs: BTreeMap<usize, (String, Bounds)>,
    /// Values whose range must be known.
    pub observed: BTreeSet<String>,
}

/// Layers that stay f32 although they have an integer form.
#[derive(Clone, Debug)]
pub(super) enum Floats {
    /// These convolutions and linear layers, by name.
    Only(BTreeSet<String>),
    /// All but this one, and residual sums with them: what that layer's integer form costs by itself.
    AllBut(String),
}

impl Floats {
    fn holds(&self, node: &Node) -> bool {
        match self {
            Self::Only(names) => names.contains(&node.name),
            Self::AllBut(name) => node.name != *name,
        }
    }
}

pub(super) fn plan(graph: &Graph, floats: &Floats) -> Result<Plan, ExportError> {
    let error = |node: &str, problem: &str| ExportError::Quantize {
        network: graph.name.clone(),
        node: node.into(),
        problem: problem.into(),
    };
    let input = &graph.inputs[0];
    if graph.shape(input).len() != 4 || graph.shape(input)[1] != 3 {
        return Err(error(input, "the input is not a picture [1, 3, height, width]"));
    }
    let mut roles = vec![Role::Float; graph.nodes.len()];
    let mut outputs = BTreeMap::new();
    let mut observed = BTreeSet::from([input.clone()]);
    let constant = |name: Option<&String>| name.is_some_and(|name| graph.constants.contains_key(name));
    for (at, node) in graph.nodes.iter().enumerate() {
        if roles[at] == Role::Swallowed {
            continue;
        }
        roles[at] = match node.op {
            _ if floats.holds(node) => Role::Float,
            "Conv" if constant(node.inputs.get(1)) => Role::Conv,
            "Add" if !node.inputs.iter().any(|name| constant(Some(name))) => Role::Add,
            "Gemm" if constant(node.inputs.get(1)) => Role::Dense,
            "MaxPool" => Role::Keep,
            _ => Role::Float,
        };
        if node.inputs.contains(input) && node.op != "Conv" {
            return Err(error(
                &node.name,
                "only convolutions may read the picture, they take its normalisation in",
            ));
        }
        if matches!(roles[at], Role::Conv | Role::Add) {
            let (output, bounds) = match activation_after(graph, node) {
                Some((next, bounds)) => {
                    roles[next] = Role::Swallowed;
                    (graph.nodes[next].output.clone(), bounds)
                }
                None => (node.output.clone(), Bounds::OPEN),
            };
            observed.insert(output.clone());
            outputs.insert(at, (output, bounds));
        }
        // what is read as int8 and might come from a float node
        if matches!(roles[at], Role::Conv | Role::Dense | Role::Keep) {
            observed.insert(node.inputs[0].clone());
        }
    }
    Ok(Plan { roles, outputs, observed })
}

/// The ReLU or Clip that alone reads a node, if a range with zero inside can stand for it.
fn activation_after(graph: &Graph, node: &Node) -> Option<(usize, Bounds)> {
    let mut readers = graph.nodes.iter().enumerate().filter(|(_, n)| n.inputs.contains(&node.output));
    let (at, next) = readers.next()?;
    if readers.next().is_some() || graph.outputs.contains(&node.output) {
        return None;
    }
    let bound = |i: usize, default: f32| match next.inputs.get(i) {
        None => Some(default),
        Some(name) if name.is_empty() => Some(default),
        Some(name) => graph.constants.get(name)?.as_f32()?.first().copied(),
    };
    let bounds = match next.op {
        "Relu" => Bounds { low: 0.0, high: f32::INFINITY },
        "Clip" => Bounds { low: bound(1, f32::NEG_INFINITY)?, high: bound(2, f32::INFINITY)? },
        _ => return None,
    };
    (bounds.low <= 0.0 && bounds.high >= 0.0).then_some((at, bounds))
}

//! What an ONNX file must look like before tract sees it.
//!
//! tract panics, aborts or allocates without bound on crafted graphs (stride 0, empty scales, pads of
//! 65536, dangling outputs). This check infers every shape itself and lets through only the operators,
//! attributes and sizes our exporter writes; what it accepts is decoded once and handed on as it is,
//! so there is no second reading that could differ.

mod ops;
mod tensor;

use std::collections::HashMap;

use tract_onnx::pb;

pub(crate) use tensor::{Dtype, Value};

/// Most elements of one tensor: 128 MiB of f32.
pub(crate) const MAX_ELEMENTS: usize = 1 << 25;
/// Most elements of all constants together: 512 MiB of f32.
const MAX_WEIGHTS: usize = 1 << 27;
/// Most numbers that all values of a graph may hold together, weights apart: what a picture may cost.
const MAX_COMPUTED: usize = 1 << 27;
/// Most bytes in memory at one moment of a run, weights apart, for boards of 512 MB. A ResNet-50 in f32
/// at 448 × 448 needs a fifth of it.
const MAX_LIVE: usize = 128 << 20;
/// Most bytes that follow from constants alone, and that tract therefore computes when it loads.
const MAX_DERIVED: usize = 64 << 20;
/// Most nodes of a graph (ResNet-152 has about 500).
const MAX_NODES: usize = 2048;
/// Operator sets tract 0.23 is tested on, from the first with per-axis quantization.
const OPSETS: std::ops::RangeInclusive<i64> = 13..=18;

/// Why a graph is not one of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {problem}")]
pub struct ProfileError {
    /// The node, tensor or field.
    pub at: String,
    /// What is wrong with it.
    pub problem: String,
}

/// What a network of a bundle takes and gives.
#[derive(Clone, Debug)]
pub(crate) struct Contract {
    /// Number format of the one input.
    pub dtype: Dtype,
    /// Its shape.
    pub input: Vec<usize>,
    /// The one output is f32 `[1, classes]`.
    pub classes: usize,
}

/// All that is known of the values of a graph, by name.
pub(crate) type Values<'a> = HashMap<&'a str, Value<'a>>;

/// Checks a decoded model against the profile and its contract; returns what was learned of its values.
///
/// # Errors
/// Names the first node, tensor or field that does not fit.
pub(crate) fn check<'a>(model: &'a pb::ModelProto, contract: &Contract) -> Result<Values<'a>, ProfileError> {
    let fail = |at: &str, problem: String| Err(ProfileError { at: at.to_string(), problem });
    if !model.functions.is_empty() || !model.training_info.is_empty() {
        return fail("model", "it holds functions or training information".to_string());
    }
    // Others may be imported; whoever uses one of their operators is refused by its name.
    let mut standard = model.opset_import.iter().filter(|set| set.domain.is_empty());
    match (standard.next(), standard.next()) {
        (Some(set), None) if OPSETS.contains(&set.version) => {}
        (Some(set), None) => {
            return fail("opset_import", format!("operator set {}, supported is 13 to 18", set.version));
        }
        _ => return fail("opset_import", "it must import the standard operators, once".to_string()),
    }
    let Some(graph) = &model.graph else { return fail("model", "it has no graph".to_string()) };
    if !graph.sparse_initializer.is_empty() || !graph.quantization_annotation.is_empty() {
        return fail(
            "graph",
            "sparse initializers and quantization annotations are not supported".to_string(),
        );
    }
    if graph.node.len() > MAX_NODES {
        return fail("graph", format!("{} nodes, supported are {MAX_NODES}", graph.node.len()));
    }

    let mut names = Names::default();
    for initializer in &graph.initializer {
        let at = format!("initializer `{}`", initializer.name);
        let value =
            tensor::constant(initializer).map_err(|problem| ProfileError { at: at.clone(), problem })?;
        names.define(&at, &initializer.name, value)?;
    }
    let [input] = &graph.input[..] else {
        return fail("graph input", format!("{} inputs, it must have one", graph.input.len()));
    };
    let (dtype, shape) =
        tensor::declared(input).map_err(|problem| ProfileError { at: "graph input".to_string(), problem })?;
    if (dtype, &shape) != (contract.dtype, &contract.input) {
        let wanted = format!("{:?} {:?}", contract.dtype, contract.input);
        return fail("graph input", format!("it is {dtype:?} {shape:?}, the manifest asks for {wanted}"));
    }
    names.define("graph input", &input.name, Value::computed(dtype, shape))?;

    for (index, node) in graph.node.iter().enumerate() {
        let at = format!("node {index} `{}` ({})", node.name, node.op_type);
        let value =
            ops::check(node, &names.values).map_err(|problem| ProfileError { at: at.clone(), problem })?;
        let [output] = &node.output[..] else {
            return fail(&at, format!("{} outputs, it must have one", node.output.len()));
        };
        names.define(&at, output, value)?;
    }
    live(graph, &names.values)?;

    let [output] = &graph.output[..] else {
        return fail("graph output", format!("{} outputs, it must have one", graph.output.len()));
    };
    let Some(value) = names.values.get(output.name.as_str()) else {
        return fail("graph output", format!("no node gives `{}`", output.name));
    };
    let (dtype, shape) = tensor::declared(output)
        .map_err(|problem| ProfileError { at: "graph output".to_string(), problem })?;
    if value.fixed || (dtype, &shape) != (value.dtype, &value.shape) {
        let found = format!("{:?} {:?}", value.dtype, value.shape);
        return fail("graph output", format!("declared as {dtype:?} {shape:?}, computed is {found}"));
    }
    if dtype != Dtype::F32 || shape != [1, contract.classes] {
        return fail(
            "graph output",
            format!("it is {dtype:?} {shape:?}, the manifest asks for F32 [1, {}]", contract.classes),
        );
    }
    Ok(names.values)
}

/// Bounds what is in memory at once: a value lives from its node to the last that reads it.
fn live(graph: &pb::GraphProto, values: &Values<'_>) -> Result<(), ProfileError> {
    let mut last = HashMap::new();
    for (at, node) in graph.node.iter().enumerate() {
        last.extend(node.input.iter().map(|name| (name.as_str(), at)));
    }
    let size = |name: &str| values.get(name).filter(|value| !value.derived).map_or(0, Value::bytes_held);
    let mut held: usize = graph.input.iter().map(|input| size(&input.name)).sum();
    for (at, node) in graph.node.iter().enumerate() {
        held = node.output.iter().fold(held, |held, name| held.saturating_add(size(name)));
        if held > MAX_LIVE {
            return Err(ProfileError {
                at: format!("node {at} `{}` ({})", node.name, node.op_type),
                problem: format!("{held} bytes in memory at once, supported are {MAX_LIVE}"),
            });
        }
        let mut done: Vec<&str> = node.input.iter().map(String::as_str).collect();
        done.extend(node.output.iter().map(String::as_str).filter(|name| !last.contains_key(name)));
        done.sort_unstable();
        done.dedup();
        let over = |name: &&str| last.get(*name).is_none_or(|&last| last == at);
        held = done.into_iter().filter(over).fold(held, |held, name| held.saturating_sub(size(name)));
    }
    Ok(())
}

/// Every value by name, each defined once and before its use: the graph has no cycle.
#[derive(Default)]
struct Names<'a> {
    values: Values<'a>,
    weights: usize,
    derived: usize,
    computed: usize,
}

impl<'a> Names<'a> {
    fn define(&mut self, at: &str, name: &'a str, value: Value<'a>) -> Result<(), ProfileError> {
        let fail = |problem: String| Err(ProfileError { at: at.to_string(), problem });
        if name.is_empty() {
            return fail("its value has no name".to_string());
        }
        if value.constant.is_some() {
            self.weights = self.weights.saturating_add(value.len());
            if self.weights > MAX_WEIGHTS {
                return fail(format!("more than {MAX_WEIGHTS} weights"));
            }
        } else if value.derived {
            self.derived = self.derived.saturating_add(value.bytes_held());
            if self.derived > MAX_DERIVED {
                return fail(format!("more than {MAX_DERIVED} bytes that follow from constants"));
            }
        } else {
            self.computed = self.computed.saturating_add(value.len());
            if self.computed > MAX_COMPUTED {
                return fail(format!("more than {MAX_COMPUTED} computed numbers a picture"));
            }
        }
        if self.values.insert(name, value).is_some() {
            return fail(format!("`{name}` is defined twice"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

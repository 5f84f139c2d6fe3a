//! Lowers an int8 graph onto our kernels.
//!
//! ```text
//! ONNX, checked ─cover─► runs of nodes ─┬─ ours: one operator a run (`CspInt8Region`)
//!                                       └─ theirs: tract's own operators
//!                                            ─► one tract model ─► plan
//! ```
//!
//! The patterns are found in the ONNX graph, which the profile check has just read, and not in tract's
//! typed model: tract spreads a QLinearConv over up to nine nodes before anything could be matched, and
//! its shape inference, declutter and optimiser are most of the time it takes to load (seconds on a
//! small board). A run of covered nodes becomes one operator, so that pictures stay channels-last in
//! buffers made once, whatever is between. tract still runs the model; what no kernel covers is parsed
//! and optimised by it as ever.

mod build;
mod cover;
mod op;
mod plan;

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tract_onnx::{
    pb::{
        GraphProto, ModelProto, NodeProto, TensorShapeProto, TypeProto, ValueInfoProto,
        tensor_shape_proto::{Dimension, dimension},
        type_proto,
    },
    prelude::*,
    tract_core::ops::source::TypedSource,
};

use super::profile::Values;
pub(super) use build::Target;
use build::datum_type;
use cover::{Cover, Source, cover};
use op::Int8Region;
use plan::Given;

/// A model in which covered nodes are replaced.
#[derive(Debug)]
pub(super) struct Lowered {
    /// Ready to be planned; `None` when nothing of it is ours.
    pub model: Option<TypedModel>,
    /// What became of each node.
    pub lines: Vec<Line>,
}

/// What became of a node.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Line {
    /// Its name, or that of its output.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// `csp`: our kernels; `fused`: part of a neighbour; `tract`: tract's own operators.
    pub engine: String,
    /// Why it is not ours.
    pub reason: Option<String>,
}

/// A run of nodes for one engine, indices in the graph's order.
#[derive(Debug)]
struct Stage {
    ours: bool,
    nodes: Vec<usize>,
}

/// Lowers a checked graph.
///
/// # Errors
/// tract refuses what is left to it.
pub(super) fn lower(proto: &ModelProto, values: &Values<'_>, target: &Target) -> TractResult<Lowered> {
    let Some(graph) = &proto.graph else { return Ok(Lowered { model: None, lines: vec![] }) };
    let (mut makers, mut readers) = (HashMap::new(), HashMap::<_, Vec<_>>::new());
    for (at, node) in graph.node.iter().enumerate() {
        makers.insert(node.output[0].as_str(), at);
        for name in &node.input {
            readers.entry(name.as_str()).or_default().push(at);
        }
    }
    let source = Source { graph, values, makers: &makers, readers: &readers };
    let covers = cover(source);
    let lines = graph.node.iter().zip(&covers).filter_map(|(node, cover)| Line::of(node, cover)).collect();
    if !covers.contains(&Cover::Ours) {
        return Ok(Lowered { model: None, lines });
    }
    let stages = stages(&covers);
    let mut owner = HashMap::new();
    for (stage, at) in
        stages.iter().enumerate().flat_map(|(i, stage)| stage.nodes.iter().map(move |&at| (i, at)))
    {
        owner.insert(at, stage);
    }
    // Theirs first: what they read from other runs, through patterns that are not made otherwise.
    let mut wanted: HashSet<(usize, &str)> = HashSet::new();
    let mut parts = HashMap::new();
    for (at, stage) in stages.iter().enumerate().filter(|(_, stage)| !stage.ours) {
        let part = part(source, &covers, stage);
        wanted.extend(part.inputs.iter().map(|&name| (at, name)));
        parts.insert(at, part);
    }
    let outputs: HashSet<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
    let read_elsewhere = |name: &str, by: usize| {
        outputs.contains(name)
            || wanted.iter().any(|&(stage, wanted)| stage != by && wanted == name)
            || read_by_ours(source, &covers, name).iter().any(|at| owner.get(at).is_some_and(|&of| of != by))
    };

    let mut model = TypedModel::default();
    let mut outlets: HashMap<String, OutletId> = HashMap::new();
    for input in &graph.input {
        let value = source.value(&input.name).map_err(TractError::msg)?;
        let fact = datum_type(value.dtype).fact(&value.shape[..]);
        outlets.insert(input.name.clone(), model.add_source(&input.name, fact)?);
    }
    let lookup = |outlets: &HashMap<String, OutletId>, name: &str| {
        outlets.get(name).copied().ok_or_else(|| TractError::msg(format!("`{name}` is not there yet")))
    };
    for (at, stage) in stages.iter().enumerate() {
        if stage.ours {
            let region =
                build::region(source, &covers, &stage.nodes, |name| read_elsewhere(name, at), target)
                    .map_err(TractError::msg)?;
            let inputs =
                region.inputs.iter().map(|name| lookup(&outlets, name)).collect::<TractResult<Vec<_>>>()?;
            let made = model.wire_node(format!("int8.{at}"), region.op, &inputs)?;
            outlets.extend(region.outputs.into_iter().zip(made));
        } else if let Some(part) = parts.remove(&at) {
            let gives: Vec<&str> = stage
                .nodes
                .iter()
                .map(|&node| graph.node[node].output[0].as_str())
                .filter(|name| read_elsewhere(name, at))
                .collect();
            splice(proto, source, &part, &gives, &mut model, &mut outlets)?;
        }
    }
    let ends =
        graph.output.iter().map(|output| lookup(&outlets, &output.name)).collect::<TractResult<Vec<_>>>()?;
    model.select_output_outlets(&ends)?;
    // Nothing for the optimiser to do on a model of ours alone.
    let model = if stages.iter().all(|stage| stage.ours) { model } else { model.into_optimized()? };
    Ok(Lowered { model: Some(model), lines })
}

impl Line {
    fn of(node: &NodeProto, cover: &Cover) -> Option<Self> {
        let (engine, reason) = match cover {
            Cover::Constant => return None,
            Cover::Ours => ("csp", None),
            Cover::Through => ("fused", None),
            Cover::Theirs(reason) => ("tract", Some(reason.clone())),
        };
        let node_name = if node.name.is_empty() { &node.output[0] } else { &node.name };
        Some(Self { node: node_name.clone(), op: node.op_type.clone(), engine: engine.into(), reason })
    }

    /// A graph that tract runs as a whole.
    pub(super) fn all_tract(graph: &GraphProto, reason: &str) -> Vec<Self> {
        graph.node.iter().filter_map(|node| Self::of(node, &Cover::Theirs(reason.into()))).collect()
    }
}

/// Cuts the graph where the engine changes.
fn stages(covers: &[Cover]) -> Vec<Stage> {
    let mut stages: Vec<Stage> = Vec::new();
    for (at, cover) in covers.iter().enumerate() {
        let ours = match cover {
            Cover::Ours => true,
            Cover::Theirs(_) => false,
            Cover::Through | Cover::Constant => continue,
        };
        match stages.last_mut().filter(|stage| stage.ours == ours) {
            Some(stage) => stage.nodes.push(at),
            None => stages.push(Stage { ours, nodes: vec![at] }),
        }
    }
    stages
}

/// Our nodes that read a value, through patterns too.
fn read_by_ours(source: Source<'_>, covers: &[Cover], name: &str) -> Vec<usize> {
    let readers = source.readers.get(name).map_or(&[][..], Vec::as_slice);
    let through = |&at: &usize| match covers[at] {
        Cover::Ours => vec![at],
        Cover::Through => read_by_ours(source, covers, &source.graph.node[at].output[0]),
        _ => vec![],
    };
    readers.iter().flat_map(through).collect()
}

/// A run of tract's nodes with all it needs.
struct Part<'a> {
    nodes: Vec<&'a NodeProto>,
    /// Values from other runs.
    inputs: Vec<&'a str>,
    constants: Vec<&'a str>,
}

fn part<'a>(source: Source<'a>, covers: &[Cover], stage: &Stage) -> Part<'a> {
    let mut inside: HashSet<usize> = stage.nodes.iter().copied().collect();
    let mut open: Vec<usize> = stage.nodes.clone();
    let (mut inputs, mut constants) = (Vec::new(), Vec::new());
    while let Some(at) = open.pop() {
        for name in source.graph.node[at].input.iter().map(String::as_str).filter(|name| !name.is_empty()) {
            match source.makers.get(name) {
                Some(maker) if inside.contains(maker) => {}
                // patterns and constants are made again where they are needed
                Some(&maker) if matches!(covers[maker], Cover::Through | Cover::Constant) => {
                    inside.insert(maker);
                    open.push(maker);
                }
                None if source.values.get(name).is_some_and(|value| value.constant.is_some()) => {
                    constants.push(name);
                }
                _ if inputs.contains(&name) => {}
                _ => inputs.push(name),
            }
        }
    }
    let mut order: Vec<usize> = inside.into_iter().collect();
    order.sort_unstable();
    constants.sort_unstable();
    constants.dedup();
    Part { nodes: order.iter().map(|&at| &source.graph.node[at]).collect(), inputs, constants }
}

/// Has tract parse `part` and puts what comes out into `model`.
fn splice(
    proto: &ModelProto,
    source: Source<'_>,
    part: &Part<'_>,
    gives: &[&str],
    model: &mut TypedModel,
    outlets: &mut HashMap<String, OutletId>,
) -> TractResult<()> {
    let initializers = source.graph.initializer.iter();
    let graph = GraphProto {
        node: part.nodes.iter().copied().cloned().collect(),
        name: source.graph.name.clone(),
        initializer: initializers
            .filter(|tensor| part.constants.binary_search(&tensor.name.as_str()).is_ok())
            .cloned()
            .collect(),
        input: part
            .inputs
            .iter()
            .map(|name| info(source, name))
            .collect::<Result<_, _>>()
            .map_err(TractError::msg)?,
        output: gives
            .iter()
            .map(|name| info(source, name))
            .collect::<Result<_, _>>()
            .map_err(TractError::msg)?,
        ..GraphProto::default()
    };
    let small = ModelProto {
        ir_version: proto.ir_version,
        opset_import: proto.opset_import.clone(),
        graph: Some(graph),
        ..ModelProto::default()
    };
    let parsed = super::network::tract_parser().model_for_proto_model(&small)?;
    let typed = parsed.into_typed()?;
    let mut map: HashMap<OutletId, OutletId> = HashMap::new();
    for (outlet, name) in typed.input_outlets()?.iter().zip(&part.inputs) {
        let from = outlets.get(*name).ok_or_else(|| TractError::msg(format!("`{name}` is not there yet")))?;
        map.insert(*outlet, *from);
    }
    for at in typed.eval_order()? {
        let node = typed.node(at);
        if node.op_is::<TypedSource>() {
            continue;
        }
        let inputs: Vec<OutletId> = node.inputs.iter().filter_map(|input| map.get(input).copied()).collect();
        let name = model.unique_name(&*node.name);
        let made = model.wire_node(name, node.op.clone(), &inputs)?;
        for (slot, outlet) in made.into_iter().enumerate() {
            map.insert(OutletId::new(at, slot), outlet);
        }
    }
    for (outlet, name) in typed.output_outlets()?.iter().zip(gives) {
        let outlet = map.get(outlet).ok_or_else(|| TractError::msg(format!("`{name}` is not made")))?;
        outlets.insert((*name).to_string(), *outlet);
    }
    Ok(())
}

/// The declaration of a value, from what the profile check found.
fn info(source: Source<'_>, name: &str) -> Result<ValueInfoProto, String> {
    let value = source.value(name)?;
    let dim = |&size: &usize| Dimension {
        value: Some(dimension::Value::DimValue(size as i64)),
        ..Dimension::default()
    };
    let tensor = type_proto::Tensor {
        elem_type: value.dtype.onnx(),
        shape: Some(TensorShapeProto { dim: value.shape.iter().map(dim).collect() }),
    };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    Ok(ValueInfoProto { name: name.to_string(), r#type: Some(kind), ..ValueInfoProto::default() })
}

/// Time of each step of a model that is one region: name, kind, duration.
pub(super) fn step_times(model: &TypedModel, input: &[i8]) -> Option<Vec<(String, &'static str, Duration)>> {
    let mut regions = model.nodes().iter().filter_map(|node| node.op_as::<Int8Region>());
    let region = regions.next()?;
    let mut clock = Vec::new();
    region.plan.run(&[Given::I8(input)], Some(&mut clock))?;
    Some(region.plan.steps().zip(clock).map(|((name, kind), time)| (name.to_string(), kind, time)).collect())
}

#[cfg(test)]
mod tests;

//! burn's recorded operations → ONNX operators, one to one where ONNX has the operator.
//!
//! | file | operations |
//! |---|---|
//! | `layers` | convolution, normalisation, linear, pooling |
//! | `pointwise` | arithmetic, activations, functions |
//! | `shape` | reshape, transpose, slices, reductions |
//!
//! What comes out is correct and not yet tidy: [`simplify`](super::simplify) folds and prunes.

mod layers;
mod pointwise;
mod shape;

use std::collections::{BTreeMap, HashMap};

use burn::{
    module::Module,
    tensor::{DType, Tensor},
};
use burn_capture::TensorId;
use burn_ir::{ActivationOperationIr as Act, ModuleOperationIr as Layer, OperationIr, ScalarIr, TensorIr};

use super::{
    capture::{self, Recording},
    error::ExportError,
    graph::{Attribute, Constant, Element, Graph, Node, ValueType},
    simplify,
};

/// A burn module as an ONNX graph for one input shape, folded and pruned.
///
/// # Shapes
/// `input` is the name and the shape of the value fed (batch 1), `output` the name of the value
/// returned.
///
/// # Errors
/// [`ExportError::UnsupportedOp`] names the first operation without an ONNX form,
/// [`ExportError::Tensor`] a weight that is not finite.
pub fn lower<M: Module, const D: usize, const O: usize>(
    network: &str,
    module: &M,
    input: (&str, [usize; D]),
    output: &str,
    forward: impl Fn(&M, Tensor<D>) -> Tensor<O>,
) -> Result<Graph, ExportError> {
    let recording = capture::record(network, module, input.1, forward)?;
    let mut lowering = Lowering::new(network, &recording, input)?;
    for operation in &recording.operations {
        lowering.operation(operation)?;
    }
    let mut graph = lowering.finish(&recording)?;
    simplify::simplify(&mut graph);
    let returned = graph.outputs[0].clone();
    graph.rename(&returned, output);
    check(&graph)?;
    Ok(graph)
}

/// Weights that are not finite would only be noticed in the field.
fn check(graph: &Graph) -> Result<(), ExportError> {
    let error = |tensor: &str, problem: &str| ExportError::Tensor {
        network: graph.name.clone(),
        tensor: tensor.into(),
        problem: problem.into(),
    };
    for (name, constant) in &graph.constants {
        if constant.as_f32().is_some_and(|numbers| numbers.iter().any(|n| !n.is_finite())) {
            return Err(error(name, "holds a number that is not finite: the training diverged"));
        }
    }
    if graph.inputs.iter().any(|input| graph.outputs.contains(input)) || graph.nodes.is_empty() {
        return Err(error("output", "does not depend on the input"));
    }
    Ok(())
}

/// The state of one lowering.
struct Lowering<'a> {
    graph: Graph,
    /// Names of values and constants by burn's id.
    names: HashMap<TensorId, String>,
    /// Module paths of the weights.
    paths: &'a HashMap<TensorId, String>,
}

/// An operation's own error: `None` means "no ONNX form".
type Lowered = Option<()>;

impl<'a> Lowering<'a> {
    fn new<const D: usize>(
        network: &str,
        recording: &'a Recording,
        (name, shape): (&str, [usize; D]),
    ) -> Result<Self, ExportError> {
        let mut graph = Graph { name: network.into(), inputs: vec![name.into()], ..Graph::default() };
        graph.values.insert(name.into(), ValueType { element: Element::F32, shape: shape.into() });
        let mut names = HashMap::from([(recording.input, name.to_string())]);
        for (id, data) in &recording.values {
            if *id == recording.input {
                continue;
            }
            let name = match recording.names.get(id) {
                Some(path) => path.clone(),
                None => graph.fresh("constant"),
            };
            let shape: Vec<usize> = data.shape().iter().copied().collect();
            let constant = match data.dtype() {
                DType::F32 | DType::F64 | DType::F16 | DType::BF16 | DType::Flex32 => {
                    Constant::f32(shape, data.iter::<f32>().collect())
                }
                DType::I64 | DType::I32 => {
                    Constant { shape, numbers: super::graph::Numbers::I64(data.iter::<i64>().collect()) }
                }
                other => {
                    return Err(ExportError::Tensor {
                        network: network.into(),
                        tensor: name,
                        problem: format!("is stored as {other:?}, which is not exported"),
                    });
                }
            };
            names.insert(*id, graph.constant(&name, constant));
        }
        Ok(Self { graph, names, paths: &recording.names })
    }

    fn operation(&mut self, operation: &OperationIr) -> Result<(), ExportError> {
        let lowered = match operation {
            OperationIr::Init(_) | OperationIr::Drop(_) => Some(()),
            OperationIr::BaseFloat(op) => self.base(op),
            OperationIr::NumericFloat(_, op) => self.numeric(op),
            OperationIr::Float(_, op) => self.float(op),
            OperationIr::Module(op) => self.layer(op),
            OperationIr::Activation(op) => self.activation(op),
            _ => None,
        };
        lowered.ok_or_else(|| ExportError::UnsupportedOp {
            network: self.graph.name.clone(),
            op: operation_name(operation),
        })
    }

    fn finish(mut self, recording: &Recording) -> Result<Graph, ExportError> {
        let name = self.names.get(&recording.output).ok_or_else(|| ExportError::Capture {
            network: self.graph.name.clone(),
            reason: "its result was not recorded".into(),
        })?;
        self.graph.outputs = vec![name.clone()];
        Ok(self.graph)
    }

    /// The name of an operand. An id that was never produced cannot occur in a recording burn has
    /// validated; were it to, the operation counts as unsupported.
    fn name(&self, tensor: &TensorIr) -> Option<String> {
        self.names.get(&tensor.id).cloned()
    }

    fn dims(tensor: &TensorIr) -> Vec<usize> {
        tensor.shape.iter().copied().collect()
    }

    /// Adds a node whose inputs are already named; its output is `out`.
    fn emit(
        &mut self,
        op: &'static str,
        inputs: Vec<String>,
        out: &TensorIr,
        attributes: impl IntoIterator<Item = (&'static str, Attribute)>,
    ) -> Lowered {
        let shape = Self::dims(out);
        let output = self.emit_inner(op, inputs, &shape, attributes);
        self.names.insert(out.id, output);
        Some(())
    }

    /// Adds a node for a value burn has no id for; returns the value's name.
    fn emit_inner(
        &mut self,
        op: &'static str,
        inputs: Vec<String>,
        shape: &[usize],
        attributes: impl IntoIterator<Item = (&'static str, Attribute)>,
    ) -> String {
        let name = self.node_name(op, &inputs);
        let output = self.graph.fresh(&format!("{name}.out"));
        let attributes: BTreeMap<_, _> = attributes.into_iter().collect();
        let node = Node { op, name, inputs, output: output.clone(), attributes };
        self.graph.push(node, Element::F32, shape);
        output
    }

    /// The module path of the first weight among the inputs, else the operator's name.
    fn node_name(&self, op: &str, inputs: &[String]) -> String {
        let is_path = |input: &&String| self.paths.values().any(|path| path == *input);
        let module = inputs.iter().find(is_path).and_then(|path| path.rsplit_once('.'));
        match module {
            Some((module, _)) => self.graph.fresh(module),
            None => self.graph.fresh(&op.to_lowercase()),
        }
    }

    /// A scalar as a constant.
    fn scalar(&mut self, value: ScalarIr) -> String {
        let value: f32 = value.elem();
        self.graph.constant(&format!("scalar.{value}"), Constant::scalar(value))
    }
}

/// burn's name of an operation: the last constructor before its operands.
fn operation_name(operation: &OperationIr) -> String {
    let text = format!("{operation:?}");
    let head = text.split(" {").next().unwrap_or(&text);
    let parts: Vec<&str> = head.split(['(', ' ', ',']).filter(|part| !part.is_empty()).collect();
    let named = parts.iter().rev().find(|part| !part.ends_with("Ir")).unwrap_or(&"?");
    match (parts.first(), *named) {
        (Some(family), name) if *family != name => format!("{family}::{name}"),
        (_, name) => name.to_string(),
    }
}

fn ints<T: Copy + TryInto<i64>>(values: &[T]) -> Attribute {
    Attribute::Ints(values.iter().map(|&v| v.try_into().unwrap_or(i64::MAX)).collect())
}

// Dispatch by family; each arm lives in the file its family belongs to.
impl Lowering<'_> {
    fn layer(&mut self, op: &Layer) -> Lowered {
        match op {
            Layer::Conv2d(op) => self.conv2d(op),
            Layer::BatchNorm(op) => self.batch_norm(op),
            Layer::LayerNorm(op) => self.layer_norm(op),
            Layer::Linear(op) => self.linear(op),
            Layer::AdaptiveAvgPool2d(op) => self.adaptive_average(op),
            Layer::AvgPool2d(op) => self.average_pool(op),
            Layer::MaxPool2d(op) => self.max_pool(op),
            _ => None,
        }
    }

    fn activation(&mut self, op: &Act) -> Lowered {
        match op {
            Act::Relu(op) => self.unary("Relu", op),
            Act::Sigmoid(op) => self.unary("Sigmoid", op),
            Act::Gelu(op) => self.gelu(op),
            Act::LeakyRelu(op) => {
                let alpha = Attribute::Float(op.rhs.elem());
                let inputs = vec![self.name(&op.lhs)?];
                self.emit("LeakyRelu", inputs, &op.out, [("alpha", alpha)])
            }
            Act::HardSigmoid(op) => {
                let attributes = [
                    ("alpha", Attribute::Float(op.alpha.elem())),
                    ("beta", Attribute::Float(op.beta.elem())),
                ];
                let inputs = vec![self.name(&op.tensor)?];
                self.emit("HardSigmoid", inputs, &op.out, attributes)
            }
            Act::Softmax(op) => {
                let inputs = vec![self.name(&op.input)?];
                self.emit("Softmax", inputs, &op.out, [("axis", Attribute::Int(op.axis as i64))])
            }
            _ => None,
        }
    }
}

//! A network between burn and ONNX: standard ONNX operators on named values of known shape.
//!
//! Everything downstream of the capture works on this: folding, quantization, the ONNX writer.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Numbers of a constant, row-major.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    /// float32
    F32(Vec<f32>),
    /// int8
    I8(Vec<i8>),
    /// uint8
    U8(Vec<u8>),
    /// int32
    I32(Vec<i32>),
    /// int64: shapes and axes
    I64(Vec<i64>),
}

/// Element type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// float32
    F32,
    /// int8
    I8,
    /// uint8
    U8,
    /// int32
    I32,
    /// int64
    I64,
}

/// A tensor known at export: a weight, or a parameter of an operator.
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    /// Shape; empty for a scalar (rank 0).
    pub shape: Vec<usize>,
    /// The numbers, `shape`'s product of them.
    pub numbers: Numbers,
}

impl Constant {
    /// A float tensor.
    pub fn f32(shape: impl Into<Vec<usize>>, numbers: Vec<f32>) -> Self {
        Self { shape: shape.into(), numbers: Numbers::F32(numbers) }
    }

    /// A rank-0 float.
    pub fn scalar(value: f32) -> Self {
        Self::f32([], vec![value])
    }

    /// A rank-0 int8.
    pub fn scalar_i8(value: i8) -> Self {
        Self { shape: vec![], numbers: Numbers::I8(vec![value]) }
    }

    /// A vector of int64, as shapes and axes are given.
    pub fn i64(numbers: Vec<i64>) -> Self {
        Self { shape: vec![numbers.len()], numbers: Numbers::I64(numbers) }
    }

    /// The numbers of a float tensor.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.numbers {
            Numbers::F32(numbers) => Some(numbers),
            _ => None,
        }
    }

    /// Element type.
    pub fn element(&self) -> Element {
        match self.numbers {
            Numbers::F32(_) => Element::F32,
            Numbers::I8(_) => Element::I8,
            Numbers::U8(_) => Element::U8,
            Numbers::I32(_) => Element::I32,
            Numbers::I64(_) => Element::I64,
        }
    }
}

/// Element type and static shape of a value that is computed or fed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueType {
    /// Element type.
    pub element: Element,
    /// Shape, batch 1 first.
    pub shape: Vec<usize>,
}

/// An operator's attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// An integer.
    Int(i64),
    /// A float.
    Float(f32),
    /// Integers.
    Ints(Vec<i64>),
}

/// One operator. Every operator we emit has one output.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// ONNX operator, such as `Conv`.
    pub op: &'static str,
    /// Unique name: the module path of its weight where it has one.
    pub name: String,
    /// Names of values or constants, in ONNX order.
    pub inputs: Vec<String>,
    /// The value it computes.
    pub output: String,
    /// Attributes by ONNX name.
    pub attributes: BTreeMap<&'static str, Attribute>,
}

impl Node {
    /// An integer attribute, or its default.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        match self.attributes.get(name) {
            Some(Attribute::Int(value)) => *value,
            _ => default,
        }
    }

    /// A float attribute, or its default.
    pub fn float(&self, name: &str, default: f32) -> f32 {
        match self.attributes.get(name) {
            Some(Attribute::Float(value)) => *value,
            _ => default,
        }
    }

    /// An attribute of integers; empty where absent.
    pub fn ints(&self, name: &str) -> &[i64] {
        match self.attributes.get(name) {
            Some(Attribute::Ints(values)) => values,
            _ => &[],
        }
    }

    /// Adds an attribute.
    pub fn with(mut self, name: &'static str, value: Attribute) -> Self {
        self.attributes.insert(name, value);
        self
    }
}

/// A network, nodes in an order in which they can run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// Its name in the ONNX file.
    pub name: String,
    /// Names of the values fed.
    pub inputs: Vec<String>,
    /// Names of the values returned.
    pub outputs: Vec<String>,
    /// The operators.
    pub nodes: Vec<Node>,
    /// Weights and parameters by name.
    pub constants: BTreeMap<String, Constant>,
    /// Types of inputs and of every node's output.
    pub values: BTreeMap<String, ValueType>,
    /// Written into the file's metadata.
    pub metadata: BTreeMap<String, String>,
}

impl Graph {
    /// Shape of a value or a constant; empty for an unknown name.
    pub fn shape(&self, name: &str) -> &[usize] {
        match (self.values.get(name), self.constants.get(name)) {
            (Some(value), _) => &value.shape,
            (None, Some(constant)) => &constant.shape,
            (None, None) => &[],
        }
    }

    /// A name not in use that starts with `base`.
    pub fn fresh(&self, base: &str) -> String {
        let taken = |name: &str| {
            self.constants.contains_key(name)
                || self.values.contains_key(name)
                || self.nodes.iter().any(|node| node.name == name)
        };
        if !taken(base) {
            return base.to_string();
        }
        (1..).map(|i| format!("{base}_{i}")).find(|name| !taken(name)).unwrap_or_default()
    }

    /// Adds a constant under `base` or a name that starts with it; returns the name.
    pub fn constant(&mut self, base: &str, constant: Constant) -> String {
        // Equal parameters (the same bound, the same scale) share one entry.
        if self.constants.get(base) == Some(&constant) {
            return base.to_string();
        }
        let name = self.fresh(base);
        self.constants.insert(name.clone(), constant);
        name
    }

    /// Appends a node with the type of its output.
    pub fn push(&mut self, node: Node, element: Element, shape: &[usize]) {
        self.values.insert(node.output.clone(), ValueType { element, shape: shape.to_vec() });
        self.nodes.push(node);
    }

    /// How many nodes read a value, a graph output counted as one more.
    pub fn uses(&self) -> HashMap<String, usize> {
        let mut uses = HashMap::new();
        for name in self.nodes.iter().flat_map(|node| &node.inputs).chain(&self.outputs) {
            *uses.entry(name.clone()).or_default() += 1;
        }
        uses
    }

    /// Position of the node that computes a value.
    pub fn producer(&self, value: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.output == value)
    }

    /// Makes every reader of `old` read `new`.
    pub fn redirect(&mut self, old: &str, new: &str) {
        for input in self.nodes.iter_mut().flat_map(|node| &mut node.inputs).chain(&mut self.outputs) {
            if input == old {
                *input = new.to_string();
            }
        }
    }

    /// Gives a value another name.
    pub fn rename(&mut self, old: &str, new: &str) {
        self.redirect(old, new);
        if let Some(value) = self.values.remove(old) {
            self.values.insert(new.to_string(), value);
        }
        for name in self.nodes.iter_mut().map(|node| &mut node.output).chain(&mut self.inputs) {
            if name == old {
                *name = new.to_string();
            }
        }
    }

    /// Removes nodes, constants and values that no output depends on.
    pub fn prune(&mut self) {
        let mut live: BTreeSet<String> = self.outputs.iter().cloned().collect();
        for node in self.nodes.iter().rev() {
            if live.contains(&node.output) {
                live.extend(node.inputs.iter().cloned());
            }
        }
        self.nodes.retain(|node| live.contains(&node.output));
        self.constants.retain(|name, _| live.contains(name));
        let inputs = &self.inputs;
        self.values.retain(|name, _| live.contains(name) || inputs.contains(name));
    }

    /// Multiply-adds of one run: convolutions and matrix products.
    pub fn multiply_adds(&self) -> u64 {
        self.nodes.iter().map(|node| self.multiply_adds_of(node)).sum()
    }

    /// Multiply-adds of one of its nodes.
    pub fn multiply_adds_of(&self, node: &Node) -> u64 {
        let size = |shape: &[usize]| shape.iter().product::<usize>() as u64;
        let weight = |at: usize| node.inputs.get(at).map_or(&[][..], |name| self.shape(name));
        match node.op {
            // each output is a dot product over one filter
            "Conv" => size(self.shape(&node.output)) * size(weight(1).get(1..).unwrap_or(&[])),
            "QLinearConv" => size(self.shape(&node.output)) * size(weight(3).get(1..).unwrap_or(&[])),
            "Gemm" | "MatMul" | "MatMulInteger" => size(weight(1)),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(op: &'static str, inputs: &[&str], output: &str) -> Node {
        Node {
            op,
            name: output.into(),
            inputs: inputs.iter().map(|s| s.to_string()).collect(),
            output: output.into(),
            attributes: BTreeMap::new(),
        }
    }

    #[test]
    fn prune_keeps_only_what_the_outputs_need() {
        let mut graph = Graph { inputs: vec!["x".into()], outputs: vec!["y".into()], ..Graph::default() };
        graph.constants.insert("w".into(), Constant::scalar(1.0));
        graph.constants.insert("unused".into(), Constant::scalar(2.0));
        graph.push(node("Mul", &["x", "w"], "y"), Element::F32, &[1]);
        graph.push(node("Sqrt", &["y"], "dead"), Element::F32, &[1]);
        graph.prune();
        assert_eq!(graph.nodes.len(), 1);
        assert_eq!(graph.constants.keys().collect::<Vec<_>>(), ["w"]);
        assert!(!graph.values.contains_key("dead"));
    }

    #[test]
    fn names_stay_unique() {
        let mut graph = Graph::default();
        assert_eq!(graph.constant("a", Constant::scalar(1.0)), "a");
        assert_eq!(graph.constant("a", Constant::scalar(1.0)), "a");
        assert_eq!(graph.constant("a", Constant::scalar(2.0)), "a_1");
    }
}

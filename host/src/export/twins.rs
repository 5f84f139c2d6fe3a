//! Other spellings of an int8 network, for toolchains that do not take ours: passes over the graph that
//! was quantized, which change no number it computes but the rounding of what is rounded elsewhere.
//!
//! A trap runs none of them: its bundle holds the profile `int8-v1` and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    ExportError,
    graph::{Attribute, Constant, Element, Graph, Node, Numbers},
};

/// Which twin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Twin {
    /// Activations are uint8, every zero point 128 higher, the input plain pixels: what onnxruntime is
    /// fastest with on x86. Weights stay int8.
    pub unsigned: bool,
    /// Every operator in f32 between DequantizeLinear and QuantizeLinear, which a compiler for another
    /// chip puts together again.
    pub qdq: bool,
}

impl Twin {
    /// What tells its file from others: `qdq`, `u8`, `qdq.u8`; empty for no twin.
    pub fn suffix(self) -> String {
        let parts = [("qdq", self.qdq), ("u8", self.unsigned)];
        parts.iter().filter(|(_, on)| *on).map(|(part, _)| *part).collect::<Vec<_>>().join(".")
    }

    /// The twin of a network that [`super::quantize`] wrote.
    ///
    /// # Errors
    /// [`ExportError::Quantize`] for an operator that the quantizer does not write.
    pub fn of(self, graph: &Graph) -> Result<Graph, ExportError> {
        let mut twin = if self.qdq { qdq(graph)? } else { graph.clone() };
        if self.unsigned {
            unsigned(&mut twin)?;
        }
        let form = self.suffix();
        if !form.is_empty() {
            twin.metadata.insert("profile".into(), format!("{}, twin {form}", super::quantize::PROFILE));
            twin.metadata.insert("input".into(), if self.unsigned { "pixel" } else { "pixel ^ 0x80" }.into());
        }
        Ok(twin)
    }
}

fn error(graph: &Graph, node: &Node, problem: &str) -> ExportError {
    ExportError::Quantize { network: graph.name.clone(), node: node.name.clone(), problem: problem.into() }
}

/// Inputs of an operator that are zero points of activations.
fn zero_points(op: &str) -> Option<&'static [usize]> {
    Some(match op {
        "QLinearConv" => &[2, 7],
        "QuantizeLinear" | "DequantizeLinear" | "MatMulInteger" => &[2],
        _ => return None,
    })
}

/// Turns every int8 activation into uint8: 128 more, like its zero point.
fn unsigned(graph: &mut Graph) -> Result<(), ExportError> {
    let mut zeros = BTreeSet::new();
    for node in &graph.nodes {
        let from_constant = node.inputs.first().is_some_and(|name| graph.constants.contains_key(name));
        // weights keep their sign
        for &at in zero_points(node.op).filter(|_| !from_constant).unwrap_or_default() {
            zeros.insert(node.inputs.get(at).cloned().unwrap_or_default());
        }
    }
    for name in zeros {
        let Some(Constant { numbers, .. }) = graph.constants.get_mut(&name) else { continue };
        if let Numbers::I8(signed) = numbers {
            *numbers = Numbers::U8(signed.iter().map(|&zero| (zero as u8) ^ 0x80).collect());
        }
    }
    for value in graph.values.values_mut().filter(|value| value.element == Element::I8) {
        value.element = Element::U8;
    }
    match graph.nodes.iter().find(|node| node.op == "MatMulInteger" && node.inputs.len() < 3) {
        Some(node) => Err(error(graph, node, "its input has no zero point to move")),
        None => Ok(()),
    }
}

/// Writes every integer operator as one of floats between conversions.
fn qdq(source: &Graph) -> Result<Graph, ExportError> {
    let mut graph = Graph { nodes: Vec::new(), ..source.clone() };
    // what MatMulInteger's chain becomes: the Gemm, waiting for its bias
    let mut writer = Writer { source, graph: &mut graph, float: BTreeMap::new(), scaled: BTreeMap::new() };
    for node in &source.nodes {
        writer.node(node)?;
    }
    graph.prune();
    Ok(graph)
}

struct Writer<'a> {
    source: &'a Graph,
    graph: &'a mut Graph,
    /// f32 form of an int8 value.
    float: BTreeMap<String, String>,
    /// Outputs of MatMulInteger and of the Cast after it: the product's f32 operands before rescaling.
    scaled: BTreeMap<String, Product>,
}

/// A product of an int8 vector and an int8 matrix that waits for its scale.
#[derive(Clone)]
struct Product {
    node: String,
    x: String,
    weight: String,
}

impl Writer<'_> {
    fn push(
        &mut self,
        op: &'static str,
        name: &str,
        inputs: &[&str],
        output: &str,
        element: Element,
        shape: &[usize],
    ) {
        let node = Node {
            op,
            name: self.graph.fresh(name),
            inputs: inputs.iter().map(|name| name.to_string()).collect(),
            output: output.into(),
            attributes: BTreeMap::new(),
        };
        self.graph.push(node, element, shape);
    }

    fn last(&mut self) -> Option<&mut Node> {
        self.graph.nodes.last_mut()
    }

    /// The f32 form of an int8 value with these parameters.
    fn dequantized(&mut self, value: &str, scale: &str, zero: &str) -> String {
        if let Some(found) = self.float.get(value) {
            return found.clone();
        }
        let output = format!("{value}.real");
        let shape = self.source.shape(value).to_vec();
        self.push(
            "DequantizeLinear",
            &format!("{value}.real.dequantize"),
            &[value, scale, zero],
            &output,
            Element::F32,
            &shape,
        );
        self.float.insert(value.into(), output.clone());
        output
    }

    /// The f32 form of a constant with one scale a channel of `axis`, zero points all 0.
    fn dequantized_constant(
        &mut self,
        name: &str,
        scales: Constant,
        axis: i64,
    ) -> Result<String, ExportError> {
        let constant = self.source.constants.get(name).cloned();
        let zeros = match constant.as_ref().map(|constant| &constant.numbers) {
            Some(Numbers::I8(_)) => Numbers::I8(vec![0; scales.shape.iter().product()]),
            _ => Numbers::I32(vec![0; scales.shape.iter().product()]),
        };
        let zeros = Constant { shape: scales.shape.clone(), numbers: zeros };
        let shape = self.source.shape(name).to_vec();
        let scale = self.graph.constant(&format!("{name}.real.scale"), scales);
        let zero = self.graph.constant(&format!("{name}.real.zero_point"), zeros);
        let output = self.graph.fresh(&format!("{name}.real"));
        self.push("DequantizeLinear", &output, &[name, &scale, &zero], &output.clone(), Element::F32, &shape);
        if let Some(node) = self.last() {
            node.attributes.insert("axis", Attribute::Int(axis));
        }
        Ok(output)
    }

    fn floats(&self, node: &Node, at: usize) -> Result<&[f32], ExportError> {
        let constant = node.inputs.get(at).and_then(|name| self.source.constants.get(name));
        constant
            .and_then(Constant::as_f32)
            .ok_or_else(|| error(self.source, node, "a scale is not a constant of floats"))
    }

    fn node(&mut self, node: &Node) -> Result<(), ExportError> {
        match node.op {
            "QLinearConv" => self.convolution(node),
            "MaxPool"
                if self.source.values.get(&node.output).map(|value| value.element) == Some(Element::I8) =>
            {
                self.pool(node)
            }
            "MatMulInteger" => {
                let [x, weight, _] = &node.inputs[..] else {
                    return Err(error(self.source, node, "it has no zero point for its input"));
                };
                let product = Product { node: node.name.clone(), x: x.clone(), weight: weight.clone() };
                self.scaled.insert(node.output.clone(), product);
                Ok(())
            }
            "Cast" if self.scaled.contains_key(&node.inputs[0]) => {
                let product = self.scaled[&node.inputs[0]].clone();
                self.scaled.insert(node.output.clone(), product);
                Ok(())
            }
            "Mul" if self.scaled.contains_key(&node.inputs[0]) => self.product(node),
            _ => {
                self.graph.push(
                    node.clone(),
                    self.source.values[&node.output].element,
                    self.source.shape(&node.output),
                );
                Ok(())
            }
        }
    }

    fn convolution(&mut self, node: &Node) -> Result<(), ExportError> {
        let [x, x_scale, x_zero, weight, _, _, y_scale, y_zero, bias] = &node.inputs[..] else {
            return Err(error(self.source, node, "it is not a QLinearConv with a bias"));
        };
        let scales = self.floats(node, 4)?.to_vec();
        let x_level = self.floats(node, 1)?.first().copied().unwrap_or(0.0);
        let channels = scales.len();
        let bias_scales: Vec<f32> = scales.iter().map(|scale| x_level * scale).collect();
        let x = self.dequantized(x, x_scale, x_zero);
        let weight = self.dequantized_constant(weight, Constant::f32([channels], scales), 0)?;
        let bias = self.dequantized_constant(bias, Constant::f32([channels], bias_scales), 0)?;
        let shape = self.source.shape(&node.output).to_vec();
        let real = format!("{}.exact", node.output);
        self.push("Conv", &node.name, &[&x, &weight, &bias], &real, Element::F32, &shape);
        let attributes = node.attributes.clone();
        if let Some(conv) = self.last() {
            conv.attributes = attributes;
        }
        self.quantized(&node.output, &real, y_scale, y_zero, &shape);
        Ok(())
    }

    fn quantized(&mut self, output: &str, real: &str, scale: &str, zero: &str, shape: &[usize]) {
        let name = format!("{output}.quantize");
        self.push("QuantizeLinear", &name, &[real, scale, zero], output, Element::I8, shape);
    }

    /// Scale and zero point of an int8 value, wherever an operator names them.
    fn parameters(&self, value: &str) -> Option<[String; 2]> {
        self.source.nodes.iter().find_map(|node| {
            let at = |scale: usize, zero: usize| {
                Some([node.inputs.get(scale)?.clone(), node.inputs.get(zero)?.clone()])
            };
            match node.op {
                "QLinearConv" if node.inputs[0] == value => at(1, 2),
                "QLinearConv" if node.output == value => at(6, 7),
                "QuantizeLinear" if node.output == value => at(1, 2),
                "DequantizeLinear" if node.inputs[0] == value => at(1, 2),
                "MaxPool" if node.output == value => self.parameters(&node.inputs[0]),
                _ => None,
            }
        })
    }

    fn pool(&mut self, node: &Node) -> Result<(), ExportError> {
        let Some([scale, zero]) = self.parameters(&node.inputs[0]) else {
            return Err(error(self.source, node, "nothing tells the scale of its input"));
        };
        let x = self.dequantized(&node.inputs[0], &scale, &zero);
        let shape = self.source.shape(&node.output).to_vec();
        let real = format!("{}.exact", node.output);
        self.push("MaxPool", &node.name, &[&x], &real, Element::F32, &shape);
        let attributes = node.attributes.clone();
        if let Some(pool) = self.last() {
            pool.attributes = attributes;
        }
        self.quantized(&node.output, &real, &scale, &zero, &shape);
        Ok(())
    }

    /// MatMulInteger, Cast and Mul as a product of dequantized operands; the Add after it stays.
    fn product(&mut self, node: &Node) -> Result<(), ExportError> {
        let product = self.scaled[&node.inputs[0]].clone();
        let Some([scale, zero]) = self.parameters(&product.x) else {
            return Err(error(self.source, node, "nothing tells the scale of its input"));
        };
        let level =
            self.source.constants.get(&scale).and_then(Constant::as_f32).and_then(|s| s.first().copied());
        let level = level.filter(|level| *level > 0.0).unwrap_or(1.0);
        let scales: Vec<f32> = self.floats(node, 1)?.iter().map(|scale| scale / level).collect();
        let x = self.dequantized(&product.x, &scale, &zero);
        let weight = self.dequantized_constant(&product.weight, Constant::f32([scales.len()], scales), 1)?;
        let shape = self.source.shape(&node.output).to_vec();
        self.push("MatMul", &product.node, &[&x, &weight], &node.output, Element::F32, &shape);
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! What each layer's integer form costs.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{
    super::{
        error::ExportError,
        graph::{Constant, Element, Graph, Node},
        run::Runner,
    },
    Emitted, Floats, Quantizer, Role, logits, plan, snr_db,
};

/// Pictures that layers are judged on: a layer's noise hardly differs between pictures.
const PICTURES: usize = 16;

/// A layer of the integer network.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerReport {
    /// Its name: the module path of its weight.
    pub layer: String,
    /// `Conv`, `Add` or `Gemm`.
    pub op: &'static str,
    /// It stays f32.
    pub f32: bool,
    /// Multiply-adds of one picture.
    pub multiply_adds: u64,
    /// Signal to noise of what it computes, after its activation: with the noise of all layers before it.
    pub snr_db: f64,
}

/// What a layer does to the logits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerNoise {
    /// Its name.
    pub layer: String,
    /// Multiply-adds of one picture.
    pub multiply_adds: u64,
    /// Signal to noise of the logits when this layer alone is in integers, dB.
    pub alone_db: f64,
    /// Signal to noise of the logits when all but this layer are, dB.
    pub without_db: f64,
}

/// Names of the layers that can be integers or f32.
pub(in crate::export) fn names(graph: &Graph) -> BTreeSet<String> {
    graph.nodes.iter().filter(|node| is_layer(node)).map(|node| node.name.clone()).collect()
}

fn is_layer(node: &Node) -> bool {
    matches!(node.op, "Conv" | "Gemm")
}

impl Quantizer<'_> {
    /// Signal to noise of each layer of an integer network.
    pub(super) fn layers(
        &self,
        emitted: &Emitted,
        f32_layers: &BTreeSet<String>,
    ) -> Result<Vec<LayerReport>, ExportError> {
        let graph = &self.form.graph;
        let plan = plan::plan(graph, &Floats::Only(BTreeSet::new()))?;
        let measured: Vec<(&Node, String)> = graph
            .nodes
            .iter()
            .enumerate()
            .filter(|(at, _)| matches!(plan.roles[*at], Role::Conv | Role::Add | Role::Dense))
            .map(|(at, node)| {
                (node, plan.outputs.get(&at).map_or(node.output.clone(), |(output, _)| output.clone()))
            })
            .collect();
        let mut expected = graph.clone();
        let mut got = emitted.graph.clone();
        expected.outputs = measured.iter().map(|(_, value)| value.clone()).collect();
        got.outputs = measured.iter().map(|(_, value)| readable(&mut got, emitted, value)).collect();
        expected.prune();
        got.prune();
        let (expected, got) = (Runner::new(&expected)?, Runner::new(&got)?);
        let mut powers = vec![(0f64, 0f64); measured.len()];
        for image in self.judged.iter().take(PICTURES) {
            let (expected, got) = (expected.picture(image, self.input)?, got.picture(image, self.input)?);
            for ((signal, noise), (expected, got)) in powers.iter_mut().zip(expected.iter().zip(&got)) {
                for (&e, &g) in expected.iter().zip(got) {
                    *signal += f64::from(e) * f64::from(e);
                    *noise += (f64::from(e) - f64::from(g)).powi(2);
                }
            }
        }
        let report = |((node, _), (signal, noise)): (&(&Node, String), (f64, f64))| LayerReport {
            layer: node.name.clone(),
            op: node.op,
            f32: f32_layers.contains(&node.name),
            multiply_adds: graph.multiply_adds_of(node),
            snr_db: 10.0 * (signal.max(1e-30) / noise.max(1e-30)).log10(),
        };
        Ok(measured.iter().zip(powers).map(report).collect())
    }

    /// What each layer costs by itself and what it would gain as f32, the one that costs most first.
    ///
    /// # Errors
    /// See [`Quantizer::new`].
    pub fn sensitivity(&self) -> Result<Vec<LayerNoise>, ExportError> {
        let judged = &self.judged[..self.judged.len().min(PICTURES)];
        let expected = &self.expected[..judged.len()];
        let measure = |floats: Floats| -> Result<f64, ExportError> {
            let emitted = self.form.emit(&floats, self.input, self.chosen.ranges, self.chosen.head)?;
            Ok(snr_db(expected, &logits(&Runner::new(&emitted.graph)?, self.input, judged)?))
        };
        let mut layers = Vec::new();
        for node in self.form.graph.nodes.iter().filter(|node| is_layer(node)) {
            layers.push(LayerNoise {
                layer: node.name.clone(),
                multiply_adds: self.form.graph.multiply_adds_of(node),
                alone_db: measure(Floats::AllBut(node.name.clone()))?,
                without_db: measure(Floats::Only(BTreeSet::from([node.name.clone()])))?,
            });
        }
        layers.sort_by(|a, b| a.alone_db.total_cmp(&b.alone_db));
        Ok(layers)
    }
}

/// Name of the f32 form of a value in an integer graph.
fn readable(graph: &mut Graph, emitted: &Emitted, value: &str) -> String {
    let Some((int8, affine)) = emitted.int8.get(value).filter(|(name, _)| graph.values.contains_key(name))
    else {
        return value.into();
    };
    let shape = graph.shape(int8).to_vec();
    let scale = graph.constant(&format!("{value}.probe.scale"), Constant::scalar(affine.scale));
    let zero = graph.constant(&format!("{value}.probe.zero_point"), Constant::scalar_i8(affine.zero));
    let output = graph.fresh(&format!("{value}.probe"));
    let node = Node {
        op: "DequantizeLinear",
        name: output.clone(),
        inputs: vec![int8.clone(), scale, zero],
        output: output.clone(),
        attributes: Default::default(),
    };
    graph.push(node, Element::F32, &shape);
    output
}

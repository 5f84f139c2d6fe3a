//! Which of a checkpoint's tensors is which: torch's names and layout → those of our modules.

use std::collections::{BTreeMap, BTreeSet};

use csp_models::nn::{Activation, HeadConfig, HeadKind, HeadSettings};

use crate::training::{
    torch_file::Tensor,
    weights::{Array, Weights},
};

/// What only training needs: photographers, and the projections of contrastive pre-training.
const IDLE: [&str; 3] = ["user_emb.", "img_dec.", "loc_dec."];

/// What stands before the names of a module inside another, of one that was spread over several devices
/// (`module.`), and of a compiled one.
const OUTER: [&str; 5] = ["loc_enc.", "spa_enc.", "position_encoder.", "module.", "_orig_mod."];

/// The tensors by their names without what the original puts before them: its modules stand in one
/// another under several names, so that `loc_enc.spa_enc.ffn…` and `spa_enc.ffn…` are one tensor.
pub(super) struct Tensors {
    all: BTreeMap<String, Tensor>,
    used: BTreeSet<String>,
}

/// A network as it was found.
pub(super) struct Found {
    /// For `LocationClassifier`, under `location`.
    pub weights: Weights,
    /// Inputs and outputs of each linear layer of the head.
    layers: Vec<[usize; 2]>,
    classes: usize,
}

impl Tensors {
    pub fn new(tensors: BTreeMap<String, Tensor>) -> Self {
        let bare = |name: String| {
            let mut rest = name.as_str();
            while let Some(inner) = OUTER.iter().find_map(|outer| rest.strip_prefix(outer)) {
                rest = inner;
            }
            rest.to_string()
        };
        let all = tensors.into_iter().map(|(name, tensor)| (bare(name), tensor)).collect();
        Self { all, used: BTreeSet::new() }
    }

    pub fn has(&self, name: &str) -> bool {
        self.all.contains_key(name)
    }

    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.all.get(name).map(|tensor| &tensor.shape[..])
    }

    /// The tensor of a name and of so many axes.
    fn take(&mut self, name: &str, axes: usize) -> Result<&Tensor, String> {
        let Some(tensor) = self.all.get(name) else { return Err(format!("tensor {name} is missing")) };
        if tensor.shape.len() != axes {
            return Err(format!("tensor {name} has shape {:?}, not {axes} axes", tensor.shape));
        }
        if let Some(at) = tensor.data.iter().position(|value| !value.is_finite()) {
            return Err(format!("tensor {name} holds {} at number {at}", tensor.data[at]));
        }
        self.used.insert(name.to_string());
        Ok(tensor)
    }

    /// The tensor of a name and a shape.
    fn shaped(&mut self, name: &str, shape: &[usize]) -> Result<&Tensor, String> {
        let tensor = self.take(name, shape.len())?;
        if tensor.shape == shape {
            return Ok(tensor);
        }
        Err(format!("tensor {name} has shape {:?}, not {shape:?}", tensor.shape))
    }

    /// TorchSpatial's tiles of one cell: it never says how large a tile is, and by default one covers the Earth.
    /// What the cell holds is the same everywhere, so its product with the first layer joins that layer's
    /// bias, and the layer becomes one that looks at nothing of two features.
    ///
    /// # Errors
    /// Several cells; a skip connection over the cell.
    pub fn fold_tile(&mut self, skip: bool) -> Result<(), String> {
        let cell = self.take("embedding.weight", 2)?.clone();
        let name = "ffn.layers.0.linear";
        let weight = self.take(&format!("{name}.weight"), 2)?.clone();
        let bias = self.take(&format!("{name}.bias"), 1)?.clone();
        let (outputs, inputs) = (weight.shape[0], weight.shape[1]);
        if inputs == 0 || cell.shape != [1, inputs] {
            return Err(format!(
                "tensor embedding.weight has shape {:?}: only a single tile, [1, {inputs}], can be followed",
                cell.shape
            ));
        }
        if bias.shape != [outputs] {
            return Err(format!("tensor {name}.bias has shape {:?}, not [{outputs}]", bias.shape));
        }
        let skips = |inputs: usize| skip && inputs == outputs && self.has("ffn.layers.1.linear.weight");
        if skips(inputs) || skips(2) {
            return Err("a skip connection over a tile is not supported".into());
        }
        let product = |row: &[f32]| -> f64 {
            row.iter().zip(&cell.data).map(|(&w, &c)| f64::from(w) * f64::from(c)).sum()
        };
        let rows = weight.data.chunks_exact(inputs).zip(&bias.data);
        let folded = rows.map(|(row, &bias)| (f64::from(bias) + product(row)) as f32).collect();
        let blind = Tensor { shape: vec![outputs, 2], data: vec![0.0; 2 * outputs], ..weight };
        self.all.insert(format!("{name}.weight"), blind);
        self.all.insert(format!("{name}.bias"), Tensor { data: folded, ..bias });
        Ok(())
    }

    /// Those that belong to nothing we know.
    fn left_over(&self) -> Vec<&str> {
        let idle = |name: &str| IDLE.iter().any(|prefix| name.starts_with(prefix));
        let names = self.all.keys().map(String::as_str);
        names.filter(|name| !self.used.contains(*name) && !idle(name)).collect()
    }
}

impl Found {
    /// Number of linear layers of the head.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// Shape of the head, and number of classes.
    pub fn shape(&self, activation: Activation, settings: HeadSettings) -> (HeadConfig, usize) {
        let end = |layer: Option<&[usize; 2]>, side: usize| layer.map_or(0, |widths| widths[side]);
        let inner = self.layers.len().saturating_sub(1);
        let residual = settings.kind == HeadKind::Fcnet;
        let head = HeadConfig {
            input: end(self.layers.first(), 0),
            hidden: end(self.layers.first(), 1),
            hidden_layers: if residual { 0 } else { inner },
            output: end(self.layers.last(), 1),
            activation,
            settings: if residual { HeadSettings { blocks: inner / 2, ..settings } } else { settings },
        };
        (head, self.classes)
    }
}

/// The head and the class matrix.
///
/// # Errors
/// Lists what is missing, or left over.
pub(super) fn network(tensors: &mut Tensors, residual: bool) -> Result<Found, String> {
    let numbered = |tensors: &Tensors, name: &dyn Fn(usize) -> String| {
        (0..).take_while(|&i| tensors.has(&name(i))).count()
    };
    let names: Vec<String> = if residual {
        // Linear, ReLU, then blocks of w1 and w2
        let blocks = numbered(tensors, &|i| format!("feats.{}.w1.weight", i + 2));
        let inner = (2..2 + blocks).flat_map(|i| [format!("feats.{i}.w1"), format!("feats.{i}.w2")]);
        std::iter::once("feats.0".to_string()).chain(inner).collect()
    } else {
        let layers = numbered(tensors, &|i| format!("ffn.layers.{i}.linear.weight"));
        (0..layers.max(1)).map(|i| format!("ffn.layers.{i}.linear")).collect()
    };
    let mut found = Found { weights: Weights::default(), layers: Vec::new(), classes: 0 };
    let mut missing = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let to = format!("location.encoder.layers.{i}");
        let before = found.layers.last().map(|&[_, outputs]| outputs);
        match linear(tensors, name, before) {
            Ok((weight, bias)) => {
                found.layers.push([weight.shape[0], weight.shape[1]]);
                found.weights.0.extend([(format!("{to}.weight"), weight), (format!("{to}.bias"), bias)]);
            }
            Err(problem) => missing.push(problem),
        }
        let outputs = found.layers.last().map_or(0, |&[_, outputs]| outputs);
        let norm = name.strip_suffix(".linear").map(|layer| format!("{layer}.layernorm"));
        let half = |tensors: &Tensors, norm: &str| {
            ["weight", "bias"].iter().any(|of| tensors.has(&format!("{norm}.{of}")))
        };
        if let Some(norm) = norm.filter(|norm| half(tensors, norm)) {
            for (theirs, ours) in [("weight", "gamma"), ("bias", "beta")] {
                match tensors.shaped(&format!("{norm}.{theirs}"), &[outputs]) {
                    Ok(tensor) => {
                        found.weights.0.insert(format!("location.encoder.norms.{i}.{ours}"), array(tensor));
                    }
                    Err(problem) => missing.push(problem),
                }
            }
        }
    }
    let embedding = found.layers.last().map_or(0, |&[_, outputs]| outputs);
    let classes = match tensors.shape("class_emb.weight") {
        Some(shape) => {
            let rows = shape.first().copied().unwrap_or(0);
            tensors.shaped("class_emb.weight", &[rows, embedding]).map(turned)
        }
        // an encoder without classes has embeddings all the same
        None => Ok(Array { shape: vec![embedding, 0], values: Vec::new() }),
    };
    match classes {
        Ok(matrix) => {
            found.classes = matrix.shape[1];
            found.weights.0.insert("location.classes.weight".into(), matrix);
        }
        Err(problem) => missing.push(problem),
    }
    if !missing.is_empty() {
        return Err(format!(
            "{}; it has {}",
            missing.join(", "),
            listed(tensors.all.keys().map(String::as_str))
        ));
    }
    let left_over = tensors.left_over();
    if !left_over.is_empty() {
        return Err(format!("it is of another network, nothing here uses {}", listed(left_over.into_iter())));
    }
    Ok(found)
}

/// ω and b of random features.
pub(super) fn directions(tensors: &mut Tensors) -> Result<(Vec<[f64; 2]>, Vec<f64>), String> {
    let matrix = tensors.take("dirvec", 2)?;
    let &[2, count] = &matrix.shape[..] else {
        return Err(format!("tensor dirvec has shape {:?}, not [2, features]", matrix.shape));
    };
    let (x, y) = matrix.data.split_at(count);
    let rows = x.iter().zip(y).map(|(&x, &y)| [f64::from(x), f64::from(y)]).collect();
    let shifts = tensors.take("shift", 1)?.data.iter().map(|&shift| f64::from(shift)).collect();
    Ok((rows, shifts))
}

/// Weight and bias of a layer that takes as many numbers as the one `before` it gives.
fn linear(tensors: &mut Tensors, name: &str, before: Option<usize>) -> Result<(Array, Array), String> {
    let of = format!("{name}.weight");
    let weight = turned(tensors.take(&of, 2)?);
    let (inputs, outputs) = (weight.shape[0], weight.shape[1]);
    if let Some(before) = before.filter(|&before| before != inputs) {
        let shape = [outputs, inputs];
        return Err(format!("tensor {of} has shape {shape:?}, the layer before it gives {before}"));
    }
    let bias = array(tensors.shaped(&format!("{name}.bias"), &[outputs])?);
    Ok((weight, bias))
}

fn array(tensor: &Tensor) -> Array {
    Array { shape: tensor.shape.clone(), values: tensor.data.clone() }
}

/// torch's `[out, in]` as our `[in, out]`; `tensor` has two axes.
fn turned(tensor: &Tensor) -> Array {
    let (rows, columns) = (tensor.shape[0], tensor.shape[1]);
    let values = (0..columns).flat_map(|c| (0..rows).map(move |r| tensor.data[r * columns + c])).collect();
    Array { shape: vec![columns, rows], values }
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 12;
    let names: Vec<&str> = names.collect();
    let more = names.len().saturating_sub(SHOWN);
    let shown = names[..names.len() - more].join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

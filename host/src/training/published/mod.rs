//! Weights that others have trained: state dicts of torchvision and timm, by their own names.

mod begin;
mod state_dict;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{Device, Tensor, TensorData},
};
use csp_models::nn::{BackboneKind, ImageClassifier, ImageClassifierConfig, Naming, PublishedName};

use super::weights::{Array, Weights};
pub(crate) use begin::{Weighing, begin, look};
pub use state_dict::StateDict;

/// Names listed before "and … more".
const LISTED: usize = 6;
/// What the message of a state dict that does not fit compares it with.
const KNOWN: [BackboneKind; 4] = [
    BackboneKind::MobileNetV2(1.0),
    BackboneKind::ResNet18,
    BackboneKind::ResNet50,
    BackboneKind::InceptionV3,
];

/// What a state dict gave.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The backbone under `image.backbone`, and its classifier under `image.head` where it has one.
    pub weights: Weights,
    /// Whose names it was written with.
    pub naming: Naming,
    /// Number of tensors taken.
    pub tensors: usize,
    /// Classes of the classifier it came with, if any.
    pub classes: Option<usize>,
}

impl Imported {
    /// The network with this backbone; its classifier stays.
    ///
    /// # Errors
    /// Names a tensor that does not fit: the network is of another kind than was imported for.
    pub fn into_backbone(self, mut network: ImageClassifier) -> Result<ImageClassifier, String> {
        network.backbone = self.weights.apply("image.backbone", network.backbone)?;
        Ok(network)
    }
}

/// What does not fit, each entry as it is to be read.
#[derive(Default)]
struct Misfit {
    missing: Vec<String>,
    shapes: Vec<String>,
    unused: Vec<String>,
}

impl Misfit {
    fn count(&self) -> usize {
        self.missing.len() + self.shapes.len() + self.unused.len()
    }
}

/// The tensors of a state dict under our names, every one accounted for: `num_batches_tracked` and
/// Inception's auxiliary head are not needed, the classifier is optional.
///
/// # Errors
/// Lists the tensors that are missing, of another shape, or not part of this network, and says which
/// network it would fit.
pub fn import(kind: BackboneKind, state: &StateDict) -> Result<Imported, String> {
    let best = Naming::ALL.into_iter().filter_map(|naming| attempt(kind, naming, state));
    match best.min_by_key(|(_, misfit)| misfit.count()) {
        None => {
            let other = fitting(kind, state);
            Err(format!("{kind} is our own network: nobody publishes weights for it{other}"))
        }
        Some((imported, misfit)) if misfit.count() == 0 => Ok(imported),
        Some((_, misfit)) => Err(explain(kind, state, &misfit)),
    }
}

/// Pooled feature and logits of one picture `[3, side, side]`, already normalised, by a whole published
/// network on the CPU: for referees.
///
/// # Errors
/// See [`import`]; a state dict without a classifier.
pub fn answer(
    kind: BackboneKind,
    state: &StateDict,
    picture: &[f32],
    side: usize,
) -> Result<(Vec<f32>, Vec<f32>), String> {
    let imported = import(kind, state)?;
    let classes = imported.classes.ok_or("it has no classifier")?;
    let device = Device::flex();
    let network = ImageClassifierConfig::new(kind, classes).init(&device);
    let network = imported.weights.apply("image", network)?;
    let image = Tensor::<4>::from_data(TensorData::new(picture.to_vec(), [1, 3, side, side]), &device);
    let features = network.backbone.forward(image);
    let logits = network.head.forward(features.clone());
    Ok((Array::of(features).values, Array::of(logits).values))
}

fn attempt(kind: BackboneKind, naming: Naming, state: &StateDict) -> Option<(Imported, Misfit)> {
    let shapes = shapes(kind);
    let names = kind.published_names(naming)?;
    let mut misfit = Misfit::default();
    let mut weights = Weights::default();
    let mut used = BTreeSet::new();
    let mut classes = None;
    for PublishedName { ours, theirs, transposed } in names {
        let head = ours.starts_with("head.");
        let Some(array) = state.tensors.get(&theirs) else {
            if !head {
                misfit.missing.push(theirs);
            }
            continue;
        };
        let array = if transposed { transpose(array) } else { Some(array.clone()) };
        let want = shapes.get(&ours).map_or(&[][..], Vec::as_slice);
        match array {
            // a classifier of any number of classes is a classifier
            Some(array) if array.shape == want || head && fits_head(&array.shape, want) => {
                if head {
                    classes = array.shape.last().copied();
                }
                weights.0.insert(format!("image.{ours}"), array);
            }
            _ => {
                let found = state.tensors.get(&theirs).map_or(&[][..], |array| &array.shape);
                misfit.shapes.push(format!("{theirs} is {found:?}, not {want:?}"));
            }
        }
        used.insert(theirs);
    }
    let extra = state.tensors.keys().filter(|name| !used.contains(*name) && !needless(name));
    misfit.unused.extend(extra.cloned());
    let tensors = weights.0.len();
    Some((Imported { weights, naming, tensors, classes }, misfit))
}

fn fits_head(shape: &[usize], want: &[usize]) -> bool {
    shape.len() == want.len() && (shape.len() < 2 || shape[0] == want[0])
}

/// Counters, and the head that only training uses.
fn needless(name: &str) -> bool {
    name.ends_with("num_batches_tracked") || name.starts_with("AuxLogits.")
}

fn transpose(array: &Array) -> Option<Array> {
    let [rows, columns] = array.shape[..] else { return None };
    let values = (0..columns).flat_map(|c| (0..rows).map(move |r| array.values[r * columns + c]));
    Some(Array { shape: vec![columns, rows], values: values.collect() })
}

/// The shape of every tensor of an image classifier, by its path; the classifier's for one class.
fn shapes(kind: BackboneKind) -> BTreeMap<String, Vec<usize>> {
    let mut shapes = Shapes::default();
    ImageClassifierConfig::new(kind, 1).init(&Device::flex()).visit(&mut shapes);
    shapes.shapes
}

#[derive(Default)]
struct Shapes {
    path: Vec<String>,
    shapes: BTreeMap<String, Vec<usize>>,
}

impl ModuleVisitor for Shapes {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.into());
    }
    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.shapes.insert(self.path.join("."), param.lazy_shape().to_vec());
    }
}

/// Which other network a state dict fits, in words; empty where none.
fn fitting(kind: BackboneKind, state: &StateDict) -> String {
    let fits = |other: &BackboneKind| {
        *other != kind
            && Naming::ALL
                .iter()
                .any(|&naming| attempt(*other, naming, state).is_some_and(|(_, misfit)| misfit.count() == 0))
    };
    match KNOWN.iter().find(|other| fits(other)) {
        Some(other) => format!("; they are those of {other}: set backbone.kind"),
        None => String::new(),
    }
}

fn explain(kind: BackboneKind, state: &StateDict, misfit: &Misfit) -> String {
    let list = |what: &str, names: &[String]| match names.len() {
        0 => String::new(),
        n => {
            let more = if n > LISTED { format!(" and {} more", n - LISTED) } else { String::new() };
            format!("; {n} {what}: {}{more}", names[..n.min(LISTED)].join(", "))
        }
    };
    let other = fitting(kind, state);
    format!(
        "these are not the weights of {kind}{}{}{}{other}",
        list("missing", &misfit.missing),
        list("of another shape", &misfit.shapes),
        list("unknown to it", &misfit.unused),
    )
}

//! Networks and optimizers as named tensors, in one safetensors file with one line of metadata.
//!
//! burn's own records carry parameter ids drawn at random, so that two equal networks differ on
//! disk; these files are a pure function of the weights, which is what "bit-identical" is tested on.

use std::{collections::BTreeMap, fs, io::Write, path::Path};

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{Tensor, TensorData},
};
use csp_models::bundle::write_atomically;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::TrainError;

/// Key of the metadata line.
const META: &str = "csp";

/// Named f32 tensors, sorted by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights(pub BTreeMap<String, Array>);

/// Shape and values, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Length of each axis.
    pub shape: Vec<usize>,
    /// The values.
    pub values: Vec<f32>,
}

impl Array {
    /// The values of a tensor, brought to the host.
    pub fn of<const D: usize>(tensor: Tensor<D>) -> Self {
        let data = tensor.into_data();
        Self { shape: data.shape().to_vec(), values: data.iter::<f32>().collect() }
    }

    pub(crate) fn data(&self) -> TensorData {
        TensorData::new(self.values.clone(), self.shape.clone())
    }
}

impl Weights {
    /// The tensors of a trained module alone, under `prefix`.
    pub fn of<M: Module>(prefix: &str, trained: &M) -> Self {
        let mut weights = Self::default();
        weights.collect(prefix, &trained.valid());
        weights
    }

    /// Every tensor of a module, under `prefix`. Take the module through `valid()` first if it was
    /// trained: batch normalisation keeps its last update aside until then.
    pub fn collect<M: Module>(&mut self, prefix: &str, module: &M) {
        module.visit(&mut Collector { path: vec![prefix.into()], out: &mut self.0 });
    }

    /// The module with every tensor replaced by the one of its name under `prefix`.
    ///
    /// # Errors
    /// Names the first tensor that is missing, of another shape, or left over under `prefix`.
    pub fn apply<M: Module>(&self, prefix: &str, module: M) -> Result<M, String> {
        // an update that batch normalisation keeps aside would later take the place of what is loaded here
        drop(module.valid());
        let mut applier =
            Applier { path: vec![prefix.into()], from: &self.0, used: Vec::new(), problem: None };
        let module = module.map(&mut applier);
        let Applier { used, mut problem, .. } = applier;
        let under = format!("{prefix}.");
        let left_over = self.0.keys().find(|name| name.starts_with(&under) && !used.contains(name));
        if let (None, Some(name)) = (&problem, left_over) {
            problem = Some(format!("tensor {name} belongs to another network"));
        }
        problem.map_or(Ok(module), Err)
    }

    /// The first NaN or infinity, if there is one.
    pub fn not_finite(&self) -> Option<f32> {
        self.0.values().flat_map(|array| &array.values).copied().find(|value| !value.is_finite())
    }

    /// Writes the tensors and a line of metadata; a crash leaves the old file or the new one.
    ///
    /// # Errors
    /// The system's reason.
    pub fn write(&self, path: &Path, meta: &str) -> Result<(), TrainError> {
        let bytes = self.to_bytes(meta).map_err(|reason| TrainError::corrupt(path, reason))?;
        write_atomically(path, |out| out.write_all(&bytes)).map_err(TrainError::io(path))
    }

    fn to_bytes(&self, meta: &str) -> Result<Vec<u8>, String> {
        let bytes: Vec<(&String, &Array, Vec<u8>)> = (self.0.iter())
            .map(|(name, array)| (name, array, array.values.iter().flat_map(|v| v.to_le_bytes()).collect()))
            .collect();
        let views: Result<Vec<_>, _> = bytes
            .iter()
            .map(|(name, array, bytes)| {
                TensorView::new(Dtype::F32, array.shape.clone(), bytes).map(|view| (name.as_str(), view))
            })
            .collect();
        let meta = [(META.to_string(), meta.to_string())].into_iter().collect();
        safetensors::serialize(views.map_err(|e| e.to_string())?, Some(meta)).map_err(|e| e.to_string())
    }

    /// Reads a file of [`write`](Self::write): tensors and metadata.
    ///
    /// # Errors
    /// Missing, unreadable or damaged.
    pub fn read(path: &Path) -> Result<(Self, String), TrainError> {
        let bytes = fs::read(path).map_err(TrainError::io(path))?;
        Self::from_bytes(&bytes).map_err(|reason| TrainError::corrupt(path, reason))
    }

    fn from_bytes(bytes: &[u8]) -> Result<(Self, String), String> {
        let damaged = |e: safetensors::SafeTensorError| format!("not a whole safetensors file: {e}");
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
        let meta = header.metadata().as_ref().and_then(|m| m.get(META)).cloned();
        let meta = meta.ok_or_else(|| format!("no \"{META}\" metadata: not written by csp-host train"))?;
        let mut weights = Self::default();
        for (name, view) in SafeTensors::deserialize(bytes).map_err(damaged)?.tensors() {
            if view.dtype() != Dtype::F32 {
                return Err(format!("tensor {name} is {:?}, not F32", view.dtype()));
            }
            let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            let array = Array { shape: view.shape().to_vec(), values: values.collect() };
            weights.0.insert(name, array);
        }
        Ok((weights, meta))
    }
}

struct Collector<'a> {
    path: Vec<String>,
    out: &'a mut BTreeMap<String, Array>,
}

impl ModuleVisitor for Collector<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.into());
    }
    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.out.insert(self.path.join("."), Array::of(param.transform_for_save().val()));
    }
}

struct Applier<'a> {
    path: Vec<String>,
    from: &'a BTreeMap<String, Array>,
    used: Vec<String>,
    problem: Option<String>,
}

impl ModuleMapper for Applier<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.into());
    }
    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (name, shape) = (self.path.join("."), param.lazy_shape().to_vec());
        match self.from.get(&name) {
            Some(array) if array.shape == shape => {
                let tensor = Tensor::from_data(array.data(), &param.lazy_device());
                let id = param.id;
                self.used.push(name);
                param.transform_for_load(tensor, id)
            }
            found => {
                let problem = match found {
                    Some(array) => format!("tensor {name} has shape {:?}, not {shape:?}", array.shape),
                    None => format!("tensor {name} is missing"),
                };
                self.problem.get_or_insert(problem);
                param
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::{
        nn::{BatchNormConfig, LinearConfig},
        tensor::Device,
    };

    #[test]
    fn what_is_loaded_stays_whatever_a_pass_before_left() {
        let device = Device::flex().autodiff();
        let norm = BatchNormConfig::new(2).init(&device);
        let before = Weights::of("norm", &norm);
        let pictures = TensorData::new((0..32).map(|i| i as f32).collect::<Vec<_>>(), [2, 2, 2, 4]);
        norm.forward::<4>(Tensor::from_data(pictures, &device));
        let norm = before.apply("norm", norm).unwrap();
        assert_eq!(Weights::of("norm", &norm), before);
    }

    #[test]
    fn round_trips_and_refuses_damage() {
        let device = Device::flex();
        let mut weights = Weights::default();
        weights.collect("a", &LinearConfig::new(3, 5).init(&device));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.safetensors");
        weights.write(&path, "{}").unwrap();
        assert_eq!(Weights::read(&path).unwrap(), (weights.clone(), "{}".to_string()));

        let loaded = weights.apply("a", LinearConfig::new(3, 5).init(&device)).unwrap();
        let mut again = Weights::default();
        again.collect("a", &loaded);
        assert_eq!(again, weights);

        let wrong = weights.apply("a", LinearConfig::new(3, 4).init(&device)).unwrap_err();
        assert!(wrong.contains("a.weight") || wrong.contains("a.bias"), "{wrong}");
        let bare = weights.apply("a", LinearConfig::new(3, 5).with_bias(false).init(&device)).unwrap_err();
        assert!(bare.contains("a.bias"), "{bare}");

        let bytes = fs::read(&path).unwrap();
        for cut in [0, 4, 20, bytes.len() - 1] {
            fs::write(&path, &bytes[..cut]).unwrap();
            assert!(matches!(Weights::read(&path), Err(TrainError::Corrupt { .. })), "cut at {cut}");
        }
    }
}

//! Runs a network we wrote, on this machine, by tract: for calibration and for checking ourselves.
//! Accuracy is measured by the field's own engine instead ([`super::accuracy`]).

use std::sync::Arc;

use csp_models::{manifest::ImageInput, picture};
use tract_onnx::prelude::*;

use super::{
    error::ExportError,
    graph::{Element, Graph},
    onnx,
};

/// An optimised network, ready to run.
pub(super) struct Runner {
    plan: Arc<TypedRunnableModel>,
    network: String,
    shape: Vec<usize>,
    element: Element,
}

impl Runner {
    /// Prepares the ONNX form of a graph.
    ///
    /// # Errors
    /// [`ExportError::Engine`] when tract refuses the file.
    pub fn new(graph: &Graph) -> Result<Self, ExportError> {
        let plan = plan(&graph.name, &onnx::encode(graph))?;
        let input = &graph.inputs[0];
        let element = graph.values.get(input).map_or(Element::F32, |value| value.element);
        Ok(Self { plan, network: graph.name.clone(), shape: graph.shape(input).to_vec(), element })
    }

    /// Every output for one picture, given as pixels `height × width × 3`.
    ///
    /// # Errors
    /// [`ExportError::Engine`] when the run fails, pixels of another size included.
    pub fn picture(&self, pixels: &[u8], input: &ImageInput) -> Result<Vec<Vec<f32>>, ExportError> {
        let tensor = match self.element {
            Element::I8 => Tensor::from_shape(&self.shape, &picture::to_i8(pixels)),
            _ => Tensor::from_shape(&self.shape, &picture::to_f32(pixels, input)),
        };
        self.run(tensor)
    }

    /// Every output for an input of floats.
    ///
    /// # Errors
    /// [`ExportError::Engine`] when the run fails, an input of another size included.
    pub fn floats(&self, input: &[f32]) -> Result<Vec<Vec<f32>>, ExportError> {
        self.run(Tensor::from_shape(&self.shape, input))
    }

    fn run(&self, input: TractResult<Tensor>) -> Result<Vec<Vec<f32>>, ExportError> {
        let run = || -> TractResult<Vec<Vec<f32>>> {
            let outputs = self.plan.run(tvec!(input?.into_tvalue()))?;
            outputs
                .iter()
                .map(|output| Ok(output.to_plain_array_view::<f32>()?.iter().copied().collect()))
                .collect()
        };
        run().map_err(|error| refused(&self.network, &error))
    }
}

fn plan(network: &str, bytes: &[u8]) -> Result<Arc<TypedRunnableModel>, ExportError> {
    tract_onnx::onnx()
        .model_for_read(&mut { bytes })
        .and_then(|model| model.into_optimized())
        .and_then(|model| model.into_runnable())
        .map_err(|error| refused(network, &error))
}

fn refused(network: &str, error: &TractError) -> ExportError {
    ExportError::Engine { network: network.into(), reason: format!("{error:#}") }
}

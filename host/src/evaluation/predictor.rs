//! What can be evaluated: a training run on its burn device, or a bundle on the field's own engine.

use burn::tensor::{Device, Tensor, TensorData};
use csp_device::infer::Engine;
use csp_models::{
    bundle::Bundle,
    fusion::Fusion,
    labels::Labels,
    manifest::{ImageInput, NumberFormat},
    picture,
    situation::Situation,
};

use crate::{
    features,
    training::{self, TrainedModel},
};

/// Both branches of a model.
pub trait Predictor: Sync {
    /// The classes, in the order of the outputs.
    fn labels(&self) -> &Labels;
    /// How pictures are prepared.
    fn input(&self) -> &ImageInput;
    /// How the branches are combined.
    fn fusion(&self) -> &Fusion;
    /// In which form the networks are stored and run, where that is not f32.
    fn form(&self) -> Option<String> {
        None
    }
    /// False for a model trained without pictures.
    fn has_image(&self) -> bool {
        true
    }
    /// False for an image-only model.
    fn has_location(&self) -> bool;
    /// True when the location branch looks at the date.
    fn is_seasonal(&self) -> bool;
    /// Image logits of pictures, each `[height, width, 3]` bytes: `[pictures][classes]`.
    ///
    /// # Errors
    /// What the engine says.
    fn image_logits(&self, pictures: &[Vec<u8>]) -> Result<Vec<Vec<f32>>, String>;
    /// Location logits of a place at its date, `[classes]`.
    ///
    /// # Errors
    /// What the engine says, or that there is no location branch.
    fn location_logits(&self, at: Situation) -> Result<Vec<f32>, String>;
    /// Location logits of many places: `[places][classes]`.
    ///
    /// # Errors
    /// Those of [`location_logits`](Self::location_logits).
    fn many_location_logits(&self, places: &[Situation]) -> Result<Vec<Vec<f32>>, String> {
        places.iter().map(|at| self.location_logits(*at)).collect()
    }
    /// Presence scores of many places: `[places][classes]`; the mean over the year where a model with
    /// seasons is asked without a date.
    ///
    /// # Errors
    /// Those of [`location_logits`](Self::location_logits).
    fn presence(&self, places: &[Situation]) -> Result<Vec<Vec<f64>>, String> {
        features::presence_of(self.labels(), self.is_seasonal(), places, |places| {
            self.many_location_logits(places)
        })
    }
    /// True with an image head that the place has a say in.
    fn is_modulated(&self) -> bool {
        false
    }
    /// Logits of that head: `[pictures][classes]`.
    ///
    /// # Errors
    /// What the engine says, or that there is no such head.
    fn modulated_logits(
        &self,
        _pictures: &[Vec<u8>],
        _places: &[Option<Situation>],
    ) -> Result<Vec<Vec<f32>>, String> {
        Err(NO_MODULATION.into())
    }
}

const NO_IMAGE: &str = "the model has no image branch: its data had no pictures";
const NO_LOCATION: &str = "the model has no location branch";
const NO_MODULATION: &str = "the model has no image head that the place has a say in";

/// A training run.
#[derive(Debug)]
pub struct RunPredictor {
    /// The model of the run.
    pub model: TrainedModel,
    /// Where it is computed.
    pub device: Device,
}

impl Predictor for RunPredictor {
    fn labels(&self) -> &Labels {
        &self.model.labels
    }

    fn input(&self) -> &ImageInput {
        &self.model.input
    }

    fn fusion(&self) -> &Fusion {
        &self.model.fusion
    }

    fn has_image(&self) -> bool {
        self.model.image.is_some()
    }

    fn has_location(&self) -> bool {
        self.model.location.is_some()
    }

    fn is_seasonal(&self) -> bool {
        self.model.encoder.as_ref().is_some_and(|encoder| encoder.season())
    }

    fn image_logits(&self, pictures: &[Vec<u8>]) -> Result<Vec<Vec<f32>>, String> {
        let network = self.model.image.as_ref().ok_or(NO_IMAGE)?;
        rows(network.forward(self.images(pictures)))
    }

    fn location_logits(&self, at: Situation) -> Result<Vec<f32>, String> {
        self.many_location_logits(&[at])?.pop().ok_or_else(|| NO_LOCATION.into())
    }

    fn many_location_logits(&self, places: &[Situation]) -> Result<Vec<Vec<f32>>, String> {
        let (Some(network), Some(encoder)) = (&self.model.location, &self.model.encoder) else {
            return Err(NO_LOCATION.into());
        };
        Ok(features::location_logits(network, encoder, places, &self.device))
    }

    fn is_modulated(&self) -> bool {
        self.model.modulated.is_some()
    }

    fn modulated_logits(
        &self,
        pictures: &[Vec<u8>],
        places: &[Option<Situation>],
    ) -> Result<Vec<Vec<f32>>, String> {
        let model = &self.model;
        let (Some(head), Some(location), Some(encoder)) = (&model.modulated, &model.location, &model.encoder)
        else {
            return Err(NO_MODULATION.into());
        };
        let embeddings = training::place_rows(&location.encoder, encoder, places, &self.device);
        let image = model.image.as_ref().ok_or(NO_IMAGE)?;
        let features = image.backbone.forward(self.images(pictures));
        rows(head.forward(features, embeddings))
    }
}

impl RunPredictor {
    /// Normalised pictures `[pictures, 3, height, width]`.
    fn images(&self, pictures: &[Vec<u8>]) -> Tensor<4> {
        let input = &self.model.input;
        let pixels: Vec<f32> = pictures.iter().flat_map(|picture| picture::to_f32(picture, input)).collect();
        let shape = [pictures.len(), 3, input.height as usize, input.width as usize];
        Tensor::from_data(TensorData::new(pixels, shape), &self.device)
    }
}

/// A tensor `[rows, columns]` as vectors.
fn rows(tensor: Tensor<2>) -> Result<Vec<Vec<f32>>, String> {
    let [_, columns] = tensor.dims();
    let values: Vec<f32> = tensor.into_data().try_into_vec().map_err(|error| format!("{error:?}"))?;
    Ok(values.chunks(columns).map(<[f32]>::to_vec).collect())
}

/// A bundle, run by the engine that the field runs.
pub struct EnginePredictor {
    bundle: Bundle,
    engine: Engine,
}

impl EnginePredictor {
    /// Loads a verified bundle.
    ///
    /// # Errors
    /// The engine's refusal.
    pub fn new(bundle: Bundle) -> Result<Self, csp_device::infer::InferError> {
        let engine = Engine::load(&bundle)?;
        Ok(Self { bundle, engine })
    }
}

impl Predictor for EnginePredictor {
    fn labels(&self) -> &Labels {
        &self.bundle.manifest.labels
    }

    fn input(&self) -> &ImageInput {
        &self.bundle.manifest.input
    }

    fn fusion(&self) -> &Fusion {
        &self.bundle.manifest.fusion
    }

    fn form(&self) -> Option<String> {
        let manifest = &self.bundle.manifest;
        if self.engine.format() == NumberFormat::F32 {
            return None;
        }
        let beside = if manifest.has_fallback() { "f32 beside it" } else { "no f32 beside it" };
        let location = manifest.quantization.as_ref().and_then(|report| report.location.as_ref());
        let location = location.map_or("", |_| ", location network with int8 weights");
        Some(format!("int8 image network ({beside}){location}"))
    }

    fn has_location(&self) -> bool {
        self.engine.has_location()
    }

    fn is_seasonal(&self) -> bool {
        self.engine.is_seasonal()
    }

    fn image_logits(&self, pictures: &[Vec<u8>]) -> Result<Vec<Vec<f32>>, String> {
        use rayon::prelude::*;
        pictures.par_iter().map(|pixels| self.engine.classify(pixels).map_err(|e| e.to_string())).collect()
    }

    fn location_logits(&self, at: Situation) -> Result<Vec<f32>, String> {
        let logits = self.engine.location_logits(at).map_err(|error| error.to_string())?;
        logits.ok_or_else(|| NO_LOCATION.into())
    }
}

//! Stage `backbone`: the image network, end to end, on the labelled rows and no others.

use burn::{
    optim::GradientsParams,
    tensor::{Device, Int, Tensor, activation::log_softmax},
};
use csp_models::{labels::ClassId, manifest::ImageInput, nn::ImageClassifier};

use super::{PictureViews, indices, steps_for, warmup};
use crate::{
    features::{Augment, PixelCache},
    training::{
        TrainError,
        config::{BackboneConfig, OptimizerName},
        optim::{AdamW, AdamWConfig, cosine},
        runner::{Done, Stage},
        sampler::Batches,
        weights::Weights,
    },
};

/// State of the stage.
pub(crate) struct Backbone<'a> {
    network: ImageClassifier,
    optimizer: AdamW,
    batches: Batches,
    steps: u64,
    config: BackboneConfig,
    views: PictureViews<'a>,
    /// (index into the pixel cache, class)
    rows: Vec<(usize, ClassId)>,
    device: Device,
}

impl<'a> Backbone<'a> {
    /// Trains `network`, which lives on the autodiff side of `device`, on `rows`.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        network: ImageClassifier,
        rows: Vec<(usize, ClassId)>,
        pixels: &'a PixelCache,
        input: ImageInput,
        augment: Augment,
        config: &BackboneConfig,
        seed: u64,
        device: &Device,
    ) -> Self {
        let batches = Batches::new(seed, "backbone/batch", rows.len(), config.batch);
        let batch = batches.size() as u64;
        let (min, max) = (config.min_samples.div_ceil(batch), config.max_samples.div_ceil(batch));
        let steps = steps_for(config.epochs, batches.steps_per_epoch(), min, max);
        let momentum = (config.optimizer == OptimizerName::Sgd).then_some(config.momentum);
        let optimizer = AdamWConfig { weight_decay: config.weight_decay, momentum, ..AdamWConfig::default() };
        let optimizer = AdamW::new(optimizer);
        Self {
            network,
            optimizer,
            batches,
            steps,
            config: config.clone(),
            views: PictureViews { pixels, input, augment, seed, purpose: "backbone/augment" },
            rows,
            device: device.clone().autodiff(),
        }
    }

    /// Augmented pictures `[batch, 3, height, width]` and classes `[batch]` of a step.
    fn batch(&mut self, step: u64) -> Result<(Tensor<4>, Tensor<1, Int>), TrainError> {
        let rows: Vec<(usize, ClassId)> =
            self.batches.at(step).iter().map(|&i| self.rows[i as usize]).collect();
        let pictures: Vec<usize> = rows.iter().map(|(picture, _)| *picture).collect();
        let images = self.views.batch(&pictures, step * self.config.batch as u64, &self.device)?;
        Ok((images, indices(rows.iter().map(|(_, class)| i32::from(class.0)), &self.device)))
    }
}

/// Cross-entropy `[1]` with a share `smoothing` of each label spread over all classes.
///
/// # Shapes
/// - logits: `[batch, classes]`, classes: `[batch]`
pub(super) fn cross_entropy(logits: Tensor<2>, classes: Tensor<1, Int>, smoothing: f64) -> Tensor<1> {
    let log_p = log_softmax(logits, 1);
    let own = log_p.clone().gather(1, classes.unsqueeze_dim(1)).mean().neg();
    if smoothing == 0.0 { own } else { own * (1.0 - smoothing) - log_p.mean() * smoothing }
}

impl Stage for Backbone<'_> {
    fn name(&self) -> &'static str {
        "backbone"
    }
    fn steps(&self) -> u64 {
        self.steps
    }
    fn steps_per_epoch(&self) -> u64 {
        self.batches.steps_per_epoch()
    }
    fn step(&mut self, step: u64) -> Result<Done, TrainError> {
        let (images, classes) = self.batch(step)?;
        let samples = classes.dims()[0];
        let loss = cross_entropy(self.network.forward(images), classes, self.config.label_smoothing);
        let gradients = GradientsParams::from_grads(loss.backward(), &self.network);
        let lr = cosine(self.config.lr, step, self.steps, warmup(self.steps));
        self.network = self.optimizer.step(self.network.clone(), gradients, lr, |_| 1.0);
        Ok(Done { loss, lr, samples })
    }
    fn optimizer(&mut self) -> &mut AdamW {
        &mut self.optimizer
    }
    fn load(&mut self, from: &Weights, step: u64) -> Result<(), String> {
        self.network = from.apply("image", self.network.clone())?;
        self.optimizer.load("adam", from, step, &self.device.clone().inner());
        Ok(())
    }
    fn result(&mut self) -> Weights {
        Weights::of("image", &self.network)
    }
}

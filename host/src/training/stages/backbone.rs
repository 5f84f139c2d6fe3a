//! Stage `backbone`: the image network, end to end, on the labelled rows and no others.

use burn::tensor::{Device, Int, Tensor, activation::log_softmax};
use csp_models::{labels::ClassId, manifest::ImageInput, nn::ImageClassifier};

use super::{PictureViews, indices, parts::Parts, steps_for, warmup};
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
    /// With more than one, batch normalisation looks at a part, not at the whole.
    parts: Parts,
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
            parts: Parts::WHOLE,
            device: device.clone().autodiff(),
        }
    }

    /// Augmented pictures `[rows, 3, height, width]`, the first of them number `first` of all, and classes
    /// `[rows]`.
    fn batch(
        &self,
        rows: &[(usize, ClassId)],
        first: u64,
    ) -> Result<(Tensor<4>, Tensor<1, Int>), TrainError> {
        let pictures: Vec<usize> = rows.iter().map(|(picture, _)| *picture).collect();
        let images = self.views.batch(&pictures, first, &self.device)?;
        Ok((images, indices(rows.iter().map(|(_, class)| i32::from(class.0)), &self.device)))
    }
}

/// Cross-entropy `[1]` with a share `smoothing` of each label spread over all classes.
///
/// # Shapes
/// - logits: `[batch, classes]`, classes: `[batch]`
pub(crate) fn cross_entropy(logits: Tensor<2>, classes: Tensor<1, Int>, smoothing: f64) -> Tensor<1> {
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
        let rows: Vec<(usize, ClassId)> =
            self.batches.at(step).iter().map(|&i| self.rows[i as usize]).collect();
        let first = step * self.config.batch as u64;
        let (loss, gradients) = self.parts.gradients(&self.network, rows.len(), |part| {
            let from = first + part.start as u64;
            let (images, classes) = self.batch(&rows[part], from)?;
            Ok(cross_entropy(self.network.forward(images), classes, self.config.label_smoothing))
        })?;
        let lr = cosine(self.config.lr, step, self.steps, warmup(self.steps));
        self.network = self.optimizer.step(self.network.clone(), gradients, lr, |_| 1.0);
        Ok(Done { loss, lr, samples: rows.len() })
    }
    fn optimizer(&mut self) -> &mut AdamW {
        &mut self.optimizer
    }
    fn halve(&mut self) -> bool {
        self.parts.halve(self.batches.size())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{progress::Voice, training::init};
    use burn::module::{Module, ParamGroup};
    use csp_models::nn::{BackboneKind, ImageClassifierConfig};

    #[test]
    fn half_the_memory_takes_the_same_step() {
        let dir = tempfile::tempdir().unwrap();
        let paths: Vec<_> = (0..7u8).map(|i| dir.path().join(format!("{i}.png"))).collect();
        for (path, i) in paths.iter().zip(0u8..) {
            let at = |x: u32, y: u32| image::Rgb([x as u8 * 13 + i * 30, y as u8 * 11, 200 - i * 20]);
            image::RgbImage::from_fn(16, 16, at).save(path).unwrap();
        }
        let input = ImageInput { width: 16, height: 16, mean: [0.5; 3], std: [0.25; 3] };
        let pixels = PixelCache::open(dir.path(), &paths, &input, Voice::Silent, &|| false).unwrap().unwrap();
        let rows: Vec<_> = (0..7).map(|i| (i, ClassId(i as u16 % 2))).collect();
        let device = Device::flex();
        let network = || {
            let network =
                ImageClassifierConfig::new(BackboneKind::SmallCnn(4), 2).init(&device.clone().autodiff());
            let mut network = init::randomise(network, 3, "test");
            // statistics that stay: those of a part would be others than those of the whole
            network.backbone = network.backbone.freeze_group(ParamGroup::from_predicate(".norm."));
            network
        };
        // plain SGD shows the gradient as it is
        let (optimizer, momentum) = (OptimizerName::Sgd, 0.0);
        let config = BackboneConfig { batch: 7, optimizer, momentum, lr: 1.0, ..BackboneConfig::default() };
        let augment = Augment::new(crate::training::config::Flip::Both, &config.augment);
        let stage = || Backbone::new(network(), rows.clone(), &pixels, input, augment, &config, 1, &device);
        let (mut whole, mut halved) = (stage(), stage());
        let before = whole.result();
        assert!(halved.halve() && halved.halve());
        // parts of 2, 2, 2 and 1
        let losses = [&mut whole, &mut halved].map(|stage| stage.step(0).unwrap().loss.into_scalar::<f32>());
        assert!((losses[0] - losses[1]).abs() < 1e-5, "{losses:?}");
        let largest = |a: &Weights, b: &Weights| {
            let values = |of: &Weights| of.0.values().flat_map(|a| a.values.clone()).collect::<Vec<f32>>();
            values(a).iter().zip(values(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        let (whole, parts) = (whole.result(), halved.result());
        assert!(largest(&before, &whole) > 1e-3, "{}", largest(&before, &whole));
        assert!(largest(&whole, &parts) < 1e-5, "{}", largest(&whole, &parts));
        assert!(!halved.halve(), "eight parts of seven pictures are too many");
    }
}

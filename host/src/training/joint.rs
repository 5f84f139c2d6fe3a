//! Contrastive pre-training with the backbone open, where it is asked for.

use csp_models::nn::ImageClassifierConfig;

use super::{
    TrainError,
    config::PretrainConfig,
    image::Pictures,
    pipeline::Job,
    runner::{self, Context},
    stages::{Joint, PictureViews, Pretrain},
    weights::Weights,
};
use crate::features::Augment;

impl Job<'_> {
    /// Trains backbone, location encoder and projection together; the backbone of `image` is replaced.
    /// Returns encoder and projection, `None` when the stage is off or there is nothing to pair.
    pub(super) fn joint(
        &self,
        context: &mut Context<'_>,
        pictures: &Pictures,
        image: &mut Weights,
    ) -> Result<Option<Weights>, TrainError> {
        let config = &self.config.joint;
        if !config.enabled {
            return Ok(None);
        }
        let pairs: Vec<_> = self.pairs(pictures).collect();
        let places: Vec<_> = pairs.iter().map(|(place, ..)| *place).collect();
        let classes: Vec<_> = pairs.iter().map(|(_, class, _)| *class).collect();
        let of: Vec<_> = pairs.iter().map(|(.., picture)| *picture).collect();
        if places.len() < 2 {
            context.voice.say("fewer than two rows have both picture and place: no joint pre-training");
            return Ok(None);
        }
        let device = context.device.clone();
        let kind = self.config.backbone.network();
        let network =
            ImageClassifierConfig::new(kind, self.set.labels.len()).init(&device.clone().autodiff());
        let network = image
            .apply("image", network)
            .map_err(|reason| TrainError::corrupt(context.run.finished("backbone"), reason))?;
        let pretrain = PretrainConfig {
            epochs: config.epochs,
            min_steps: config.min_steps,
            max_steps: config.max_steps,
            batch: config.batch,
            lr: config.lr,
            weight_decay: config.weight_decay,
            ..self.config.pretrain.clone()
        };
        let location = &self.config.location;
        let pretrain =
            Pretrain::open(&places, kind.features(), &classes, location, &pretrain, self.seed, &device);
        let pretrain = self.begun(pretrain)?;
        let views = PictureViews {
            pixels: &pictures.pixels,
            input: pictures.input,
            augment: Augment::new(self.config.input.flip, &self.config.backbone.augment),
            seed: self.seed,
            purpose: "joint/augment",
        };
        let mut stage = Joint::new(pretrain, network.backbone, of, views, config, &device);
        let result = runner::run(context, &mut stage)?;
        let (backbone, pair): (Vec<_>, Vec<_>) =
            result.0.into_iter().partition(|(name, _)| name.starts_with("image.backbone."));
        image.0.extend(backbone);
        Ok(Some(Weights(pair.into_iter().collect())))
    }
}

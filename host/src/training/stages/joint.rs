//! Stage `joint`: contrastive learning between place and picture with both encoders open. The loss
//! sees the whole batch, the backbone a few pictures at a time, see [`grad_cache`].

use burn::{
    module::{Module, ParamGroup},
    tensor::Device,
};
use csp_models::nn;

use super::{PictureViews, Pretrain, warmup};
use crate::training::{
    TrainError,
    config::JointConfig,
    grad_cache,
    optim::{AdamW, AdamWConfig, cosine},
    runner::{Done, Stage},
    weights::Weights,
};

/// State of the stage.
pub(crate) struct Joint<'a> {
    pretrain: Pretrain,
    backbone: nn::Backbone,
    optimizer: AdamW,
    config: JointConfig,
    views: PictureViews<'a>,
    /// Picture of each pair.
    pictures: Vec<usize>,
    device: Device,
}

impl<'a> Joint<'a> {
    /// Opens `backbone`, which lives on the autodiff side of `device`, beside the encoders of
    /// `pretrain`, whose rows are the pairs of `pictures`. Batch normalisation keeps its statistics,
    /// scales and shifts: with those of a batch, rows would not be independent.
    pub fn new(
        pretrain: Pretrain,
        backbone: nn::Backbone,
        pictures: Vec<usize>,
        views: PictureViews<'a>,
        config: &JointConfig,
        device: &Device,
    ) -> Self {
        let optimizer = AdamWConfig { weight_decay: config.weight_decay, ..AdamWConfig::default() };
        Self {
            pretrain,
            backbone: backbone.freeze_group(ParamGroup::from_predicate(".norm.")),
            optimizer: AdamW::new(optimizer),
            config: config.clone(),
            views,
            pictures,
            device: device.clone().autodiff(),
        }
    }
}

impl Stage for Joint<'_> {
    fn name(&self) -> &'static str {
        "joint"
    }
    fn steps(&self) -> u64 {
        self.pretrain.steps()
    }
    fn steps_per_epoch(&self) -> u64 {
        self.pretrain.steps_per_epoch()
    }
    fn step(&mut self, step: u64) -> Result<Done, TrainError> {
        let rows: Vec<usize> =
            self.pretrain.rows(step).iter().map(|&row| self.pictures[row as usize]).collect();
        let micro = self.config.micro_batch;
        let (views, device, first) = (self.views, self.device.clone(), step * self.config.batch as u64);
        let forward = |backbone: &nn::Backbone, part: usize| {
            let start = part * micro;
            let rows = &rows[start..(start + micro).min(rows.len())];
            let trains = backbone.devices().iter().any(Device::is_autodiff);
            let device = if trains { device.clone() } else { device.clone().inner() };
            Ok(backbone.forward(views.batch(rows, first + start as u64, &device)?))
        };
        let parts = rows.len().div_ceil(micro);
        let pretrain = &mut self.pretrain;
        let cached =
            grad_cache::backward(&self.backbone, parts, forward, |features| pretrain.loss(step, features))?;
        let lr = self.pretrain.descend(step, cached.rest);
        let steps = self.steps();
        let backbone_lr = cosine(self.config.backbone_lr, step, steps, warmup(steps));
        self.backbone = self.optimizer.step(self.backbone.clone(), cached.module, backbone_lr, |_| 1.0);
        Ok(Done { loss: cached.loss, lr, samples: rows.len() })
    }
    fn optimizer(&mut self) -> &mut AdamW {
        &mut self.optimizer
    }
    fn halve(&mut self) -> bool {
        self.config.micro_batch /= 2;
        self.config.micro_batch > 0
    }
    fn save(&mut self, into: &mut Weights) {
        self.pretrain.save(into);
        into.0.extend(Weights::of("image.backbone", &self.backbone).0);
        self.optimizer.save("adam_backbone", into);
    }
    fn load(&mut self, from: &Weights, step: u64) -> Result<(), String> {
        self.pretrain.load(from, step)?;
        self.backbone = from.apply("image.backbone", self.backbone.clone())?;
        self.optimizer.load("adam_backbone", from, step, &self.device.clone().inner());
        Ok(())
    }
    fn result(&mut self) -> Weights {
        let mut weights = self.pretrain.result();
        weights.0.extend(Weights::of("image.backbone", &self.backbone).0);
        weights
    }
}

//! Everything that can be set about a run, with its default. Read from TOML, stored in `run.json`;
//! an unknown key is an error. A file a section.

mod augment;
mod backbone;
mod checkpoint;
mod explain;
mod finetune;
mod image;
mod input;
mod joint;
mod location;
mod modulation;
mod pretrain;

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};

pub use self::{
    augment::{AugmentConfig, Views},
    backbone::{Architecture, BackboneConfig, OptimizerName},
    checkpoint::CheckpointConfig,
    finetune::FinetuneConfig,
    image::{Head, ImageHeadConfig, ProbeConfig},
    input::{Flip, HoldoutConfig, InputConfig, Normalise},
    joint::JointConfig,
    location::LocationConfig,
    modulation::ModulationConfig,
    pretrain::{Objective, PretrainConfig},
};
use super::TrainError;
use crate::data::SplitPlan;

/// The whole of a configuration file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// How the rows are divided into train and val where the data set is opened.
    #[serde(skip_serializing_if = "SplitPlan::is_given")]
    pub split: SplitPlan,
    /// How a picture becomes the network's input.
    pub input: InputConfig,
    /// The rows kept from training to calibrate on.
    pub holdout: HoldoutConfig,
    /// Training of the image network.
    pub backbone: BackboneConfig,
    /// The location network.
    pub location: LocationConfig,
    /// Contrastive pre-training of the location network.
    pub pretrain: PretrainConfig,
    /// Contrastive pre-training with the backbone open, instead of `pretrain`.
    pub joint: JointConfig,
    /// Supervised training of the location network.
    pub finetune: FinetuneConfig,
    /// The image classifier's last layer.
    pub image: ImageHeadConfig,
    /// Checkpoints.
    pub checkpoint: CheckpointConfig,
}

impl TrainConfig {
    /// Whether the image head is fitted to features as they are: asked for, or nothing else trains it.
    pub(crate) fn probed(&self) -> bool {
        self.image.head == Head::Probe || self.backbone.epochs == 0.0 || self.joint.enabled
    }

    /// Reads a TOML file.
    ///
    /// # Errors
    /// Unreadable, not TOML, an unknown key, or a value that [`validate`](Self::validate) refuses.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        Self::read_with(path, |_| ())
    }

    /// [`read`](Self::read), with what the command line `changes` about the file before it is checked.
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    pub fn read_with(path: &Path, changes: impl FnOnce(&mut Self)) -> Result<Self, TrainError> {
        let text = fs::read_to_string(path).map_err(TrainError::io(path))?;
        let not_settings = |error: toml::de::Error| TrainError::Config {
            field: path.display().to_string(),
            problem: error.to_string(),
        };
        let mut config: Self = toml::from_str(&text).map_err(not_settings)?;
        changes(&mut config);
        let given: toml::Table = toml::from_str(&text).map_err(not_settings)?;
        let said = given.get("finetune").is_some_and(|section| section.get("prototypes").is_some());
        if config.regresses() && !said {
            config.finetune.prototypes = false;
        }
        config.validate().map_err(|error| match error {
            TrainError::Config { field, problem } => {
                TrainError::Config { field: format!("{}: {field}", path.display()), problem }
            }
            other => other,
        })?;
        Ok(config)
    }

    /// Whether pre-training predicts features from places, which brings no picture into the embedding.
    fn regresses(&self) -> bool {
        self.pretrain.enabled && self.pretrain.objective == Objective::Mse
    }

    /// Checks every value that training relies on.
    ///
    /// # Errors
    /// Names the first setting out of range.
    pub fn validate(&self) -> Result<(), TrainError> {
        let Self { split, input, holdout, backbone, location, pretrain, joint, finetune, image, checkpoint } =
            self;
        let fail = |field: &str, problem: String| Err(TrainError::Config { field: field.into(), problem });
        let sections = [
            vec![("split.val", split.val > 0.0 && split.val < 1.0, "above 0 and below 1")],
            input.checks(),
            holdout.checks(),
            backbone.checks(),
            location.checks(),
            pretrain.checks(),
            joint.checks(),
            finetune.checks(),
            image.checks(),
            checkpoint.checks(),
        ];
        if let Some((field, _, need)) = sections.into_iter().flatten().find(|(_, fits, _)| !fits) {
            return fail(field, format!("it must be {need}"));
        }
        if self.regresses() && finetune.prototypes {
            let problem = "it must be false or left out: pretrain.objective = \"mse\" does not bring pictures \
                           into the embedding";
            return fail("finetune.prototypes", problem.into());
        }
        if joint.enabled && pretrain.objective == Objective::Mse {
            let problem = "it must be mc or nce where joint.enabled = true: a backbone that is regressed on can \
                           make its features vanish";
            return fail("pretrain.objective", problem.into());
        }
        Ok(())
    }
}

/// Path of a setting, whether its value can be used, and what the value must be.
type Check = (&'static str, bool, &'static str);

fn share(value: f64) -> bool {
    (0.0..1.0).contains(&value)
}

fn positive(value: f64) -> bool {
    value.is_finite() && value > 0.0
}

/// Kilometres that a place may be moved by.
fn blur(km: f64) -> bool {
    (0.0..=1000.0).contains(&km)
}

fn not_negative(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::losses::presence::PresenceKind;

    fn parse(text: &str) -> Result<TrainConfig, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        fs::write(&path, text).unwrap();
        TrainConfig::read(&path).map_err(|e| e.to_string())
    }

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(parse("").unwrap(), TrainConfig::default());
        let text = toml::to_string(&TrainConfig::default()).unwrap();
        assert_eq!(parse(&text).unwrap(), TrainConfig::default());
    }

    #[test]
    fn settings_are_read_and_wrong_ones_named() {
        let config = parse(
            "[pretrain]\nobjective = \"nce\"\n[pretrain.mc]\ntau_batch = 0.1\n\
             [location.encoder]\nkind = \"space2vec-theory\"\nfrequencies = 8\nr_min = 1.0\nr_max = 90.0\n",
        )
        .unwrap();
        assert_eq!(config.pretrain.objective, Objective::Nce);
        assert_eq!(config.pretrain.mc.tau_batch, 0.1);
        assert_eq!(config.location.encoder.dim(), 48);
        for (text, named) in [
            ("[pretrain]\nlearning_rate = 1", "learning_rate"),
            ("[backbone]\nlr = -1.0", "backbone.lr"),
            ("[backbone]\nepochs = 0", "backbone.weights"),
            ("[backbone]\nkind = \"vit\"", "vit"),
            ("[pretrain.mc]\ntau_batch = 0.0", "tau_batch"),
            ("[pretrain.mc]\naverage = true", "pretrain.mc.symmetric = true"),
            ("[pretrain]\nqueue = 64", "pretrain.mc.symmetric = true"),
            ("[pretrain]\nobjective = \"mse\"\n[finetune]\nprototypes = true", "finetune.prototypes"),
            ("[pretrain.nce]\nweight_batch = -1.0", "pretrain.nce.weight_batch"),
            (
                "[pretrain]\nobjective = \"nce\"\n[pretrain.nce]\nweight_batch = 0.0\nweight_random = 0.0\n\
                 weight_dropout = 0.0",
                "every weight of it is 0",
            ),
            ("[pretrain]\nlearned_temperatures = true\n[pretrain.mc]\ntau_random = 0.001", "0.01"),
            ("[finetune.loss]\nkind = \"slds\"\nusers = true", "finetune.loss.kind"),
            ("[finetune.loss]\nkind = \"cross-entropy\"\npositive_weight = 2048.0", "loss.positive_weight"),
            ("[finetune.loss]\nkind = \"cross-entropy\"\nbackground_weight = 0.5", "loss.background_weight"),
            ("[finetune.loss]\nkind = \"cross-entropy\"\neps = 1e-5", "finetune.loss.eps"),
            ("[pretrain]\nnegatives = \"ocean\"", "ocean"),
            ("[pretrain]\nblur_km = -1.0", "pretrain.blur_km"),
            ("[finetune]\nblur_km = nan", "finetune.blur_km"),
            ("[finetune]\nbalance = true\n[finetune.loss]\nkind = \"ssdl\"", "finetune.balance"),
            (
                "[location.encoder]\nkind = \"space2vec-grid\"\nfrequencies = 0\nr_min = 1\nr_max = 2",
                "frequencies",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(named) && error.contains("c.toml"), "{text}: {error}");
        }
    }

    #[test]
    fn what_a_setting_excludes_is_off_where_nobody_asked_for_it() {
        let config = parse("[pretrain]\nobjective = \"mse\"").unwrap();
        assert!(!config.finetune.prototypes);
        // as the run keeps it, it reads back
        assert_eq!(parse(&toml::to_string(&config).unwrap()).unwrap(), config);
        assert!(parse("[pretrain]\nobjective = \"mse\"\nenabled = false").unwrap().finetune.prototypes);
        assert!(parse("[pretrain]\nobjective = \"nce\"").unwrap().finetune.prototypes);
        let config = parse("[finetune.loss]\nkind = \"cross-entropy\"\nbackground_weight = 0.0").unwrap();
        assert_eq!(config.finetune.loss.kind, PresenceKind::CrossEntropy);
        let all = toml::to_string(&config).unwrap();
        assert_eq!(parse(&all).unwrap(), config);
    }
}

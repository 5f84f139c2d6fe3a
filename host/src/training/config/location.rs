//! Section `[location]`.

use csp_models::{
    encoder::PositionEncoder,
    nn::{Activation, HeadConfig, HeadKind, HeadSettings},
};
use serde::{Deserialize, Serialize};

use super::{Check, positive, share};

/// Section `[location]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LocationConfig {
    /// Position features: `kind` and the settings of its own that differ from its defaults, see
    /// `csp-host location encoders`. The default's 16 scales from 1° reach places between the
    /// labelled ones; the released models use 32 from 0.1°, for data that is dense at that scale.
    /// `season = true` adds the time of the year, from the data's dates.
    pub encoder: PositionEncoder,
    /// The trained location network to begin with, in pre-training or else in fine-tuning: a run, a run's
    /// `model/location.safetensors`, or a checkpoint of the csp, sphere2vec and TorchSpatial repositories
    /// (`.pth`, `.pth.tar`; safetensors by their names). The settings here have to be its own; the
    /// refusal of another says which fit. Its class matrix is kept where its classes are the data's and
    /// no pre-training comes first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<std::path::PathBuf>,
    /// Width of each hidden layer.
    pub hidden: usize,
    /// Number of hidden layers.
    pub hidden_layers: usize,
    /// Width of the embedding.
    pub embedding: usize,
    /// `relu`, `leaky-relu` (0.2), `gelu`, `sigmoid` or `tanh`.
    pub activation: Activation,
    /// Share of activations dropped in training, rounded to 1/256.
    pub dropout: f64,
    /// Which network stands on the features, with its switches.
    pub head: HeadSettings,
}

impl Default for LocationConfig {
    fn default() -> Self {
        Self {
            encoder: PositionEncoder::default(),
            weights: None,
            hidden: 512,
            hidden_layers: 1,
            embedding: 256,
            activation: Activation::LeakyRelu,
            dropout: 0.5,
            head: HeadSettings::default(),
        }
    }
}

impl LocationConfig {
    /// The network behind the position features.
    pub fn network(&self) -> HeadConfig {
        HeadConfig {
            input: self.encoder.dim(),
            hidden: self.hidden,
            hidden_layers: self.hidden_layers,
            output: self.embedding,
            activation: self.activation,
            settings: self.head,
        }
    }
}

impl LocationConfig {
    /// True when every capsule has its share of the features, and the season's two are what is left over.
    fn capsules_fit(&self) -> bool {
        let (capsules, season) = (self.head.capsules, if self.encoder.season() { 2 } else { 0 });
        let whole =
            capsules == 1 || (capsules > season && (self.encoder.dim() - season).is_multiple_of(capsules));
        (1..=16).contains(&capsules) && whole
    }

    pub(super) fn checks(&self) -> Vec<Check> {
        vec![
            ("location.hidden", (1..=8192).contains(&self.hidden), "1 to 8192"),
            ("location.hidden_layers", (1..=8).contains(&self.hidden_layers), "1 to 8"),
            ("location.embedding", (1..=8192).contains(&self.embedding), "1 to 8192"),
            ("location.dropout", share(self.dropout), "0 or more and below 1"),
            ("location.head.blocks", self.head.blocks <= 16, "0 to 16"),
            (
                "location.head.capsules",
                self.head.kind != HeadKind::Capsules || self.capsules_fit(),
                "a divisor of the number of features; with a season, and more than one, above 2",
            ),
            ("location.head.w0_first", positive(self.head.w0_first), "above 0"),
            ("location.head.w0", positive(self.head.w0), "above 0"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use csp_models::nn::NormPlace;

    use super::*;
    use crate::training::TrainConfig;

    fn read(text: &str) -> Result<LocationConfig, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, text).unwrap();
        TrainConfig::read(&path).map(|config| config.location).map_err(|error| error.to_string())
    }

    #[test]
    fn an_encoder_is_chosen_by_name() {
        let location = read("[location.encoder]\nkind = \"spheremixscale\"\nfrequencies = 8\n").unwrap();
        assert_eq!(location.encoder, PositionEncoder::scaled("sphere2vec-m", 8, 0.02, 1.0).unwrap());
        assert_eq!((location.network().input, location.hidden), (40, 512));
        let unknown = read("[location.encoder]\nkind = \"vit\"\n").unwrap_err();
        assert!(unknown.contains("c.toml") && unknown.contains("sphere2vec-m+"), "{unknown}");
        let foreign = read("[location.encoder]\nkind = \"wrap\"\nr_min = 1.0\n").unwrap_err();
        assert!(foreign.contains("r_min") && foreign.contains("takes none"), "{foreign}");
        let season = read("[location.encoder]\nkind = \"xyz\"\nseason = true\n").unwrap();
        assert!(season.encoder.season() && season.network().input == 5);
    }

    #[test]
    fn a_head_is_chosen_with_its_switches() {
        let text = "[location]\nhidden = 64\nhidden_layers = 2\nactivation = \"tanh\"\n\
                    [location.head]\nkind = \"siren\"\nw0_first = 10.0\nnorm = \"before-activation\"\n";
        let network = read(text).unwrap().network();
        assert_eq!((network.hidden, network.activation), (64, Activation::Tanh));
        assert_eq!(network.settings.kind, HeadKind::Siren);
        assert_eq!((network.settings.w0_first, network.settings.w0), (10.0, 1.0));
        assert_eq!(network.settings.norm, NormPlace::BeforeActivation);
        for (text, word) in [
            ("[location.head]\nkind = \"mlp\"\n", "fcnet"),
            ("[location.head]\nw0 = 0.0\n", "location.head.w0"),
            ("[location.head]\nkind = \"capsules\"\ncapsules = 5\n", "location.head.capsules"),
            ("[location.head]\nlayers = 3\n", "layers"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    /// `run.json` of before there were other heads.
    #[test]
    fn runs_of_before_still_read() {
        let old = r#"{"encoder":{"kind":"space2vec-grid","frequencies":16,"r_min":1.0,"r_max":360.0},
            "hidden":512,"hidden_layers":1,"embedding":256,"activation":"leaky-relu","dropout":0.5}"#;
        assert_eq!(serde_json::from_str::<LocationConfig>(old).unwrap(), LocationConfig::default());
    }
}

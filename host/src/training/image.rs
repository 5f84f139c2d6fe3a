//! The image branch: pictures, backbone, features, head.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Instant};

use burn::{module::Module, nn::Linear, tensor::Device};
use csp_models::{
    bundle::hex,
    labels::ClassId,
    manifest::ImageInput,
    nn::{BackboneKind, ImageClassifier, ImageClassifierConfig},
    picture,
};
use sha2::{Digest, Sha256};

use super::{
    TrainError,
    config::Normalise,
    guard::Blocks,
    init,
    pipeline::Job,
    published::{self, Weighing},
    roles::Role,
    row_features::RowFeatures,
    run_dir::StageInfo,
    runner::{self, Context},
    stages::{Backbone, Probe},
    standard::Standard,
    weights::{Array, Weights},
};
use crate::features::{Augment, FeatureTable, PixelCache, TableKey, image_features};

/// Pictures whose logits or projections are computed at a time.
pub(super) const BLOCK: usize = 4096;

/// The decoded pictures of the training rows.
pub(super) struct Pictures {
    pub(super) pixels: PixelCache,
    pub(super) input: ImageInput,
    /// Index into the pixel cache of each sample.
    pub(super) of_sample: Vec<Option<usize>>,
}

/// The image network without augmentation on every picture.
pub(super) struct Outputs {
    /// Pooled features, on disk.
    pub(super) features: Arc<FeatureTable>,
}

/// A finished image classifier.
pub(super) struct Classifier {
    pub(super) weights: Weights,
    /// Logits of the pictures asked for, `[classes]` each.
    pub(super) logits: BTreeMap<usize, Vec<f32>>,
}

impl Job<'_> {
    pub(super) fn pictures(&self, context: &mut Context<'_>) -> Result<Pictures, TrainError> {
        let begun = Instant::now();
        let mut files = Vec::new();
        let mut of_sample = Vec::with_capacity(self.set.samples.len());
        for sample in &self.set.samples {
            of_sample.push(sample.image.as_ref().map(|path| {
                files.push(path.clone());
                files.len() - 1
            }));
        }
        let kind = self.config.backbone.network();
        let side = match self.config.input.size {
            Some(side) => side,
            None => natural_size(&files, kind),
        };
        if side < kind.min_side() {
            let problem = format!("{side} pixels are too few for {kind}: {} or more", kind.min_side());
            return Err(TrainError::Config { field: "input.size".into(), problem });
        }
        let (mean, std) = self.normalisation(kind)?;
        let input = ImageInput { width: side, height: side, mean, std };
        let pixels = PixelCache::open(&self.cache, &files, &input, context.voice, context.stop)?
            .ok_or_else(|| self.interrupted("decode"))?;
        let seconds = begun.elapsed().as_secs_f64();
        context.run.decoded(pixels.content(), files.len(), seconds)?;
        Ok(Pictures { pixels, input, of_sample })
    }

    /// Mean and deviation of the channels.
    fn normalisation(&self, kind: BackboneKind) -> Result<([f32; 3], [f32; 3]), TrainError> {
        // 128/255 is the int8 zero point exactly; 0.25 is about the spread of photographs
        let plain = ([128.0 / 255.0; 3], [0.25; 3]);
        let weights = self.config.backbone.weights.as_deref();
        Ok(match (self.config.input.normalise, weights) {
            (Normalise::Plain, _) | (Normalise::Auto, None) => plain,
            (Normalise::Published, _) => kind.published_normalisation(),
            (Normalise::Auto, Some(path)) => match published::look(path)? {
                Weighing::Run(Some(input)) => (input.mean, input.std),
                Weighing::Run(None) => plain,
                Weighing::Published => kind.published_normalisation(),
            },
        })
    }

    /// (picture, class) of the samples of a role.
    pub(super) fn labelled(&self, pictures: &Pictures, role: Role) -> Vec<(usize, ClassId)> {
        let samples = self.set.samples.iter().zip(&pictures.of_sample);
        samples
            .filter(|(sample, _)| sample.role == role)
            .filter_map(|(sample, picture)| Some(((*picture)?, sample.class?)))
            .collect()
    }

    pub(super) fn backbone(
        &self,
        context: &mut Context<'_>,
        pictures: &Pictures,
    ) -> Result<Weights, TrainError> {
        let rows = self.labelled(pictures, Role::Labelled);
        if rows.len() < 2 {
            let problem = "fewer than two labelled training rows have a picture".to_string();
            return Err(TrainError::Data { data: self.dataset.source.clone(), problem });
        }
        if let Some(weights) = runner::finished(context.run, "backbone")? {
            context.voice.say(&format!("{:>18} done before", "backbone"));
            return Ok(weights);
        }
        let device = context.device.clone().autodiff();
        let network = init::randomise(self.image_network(&device), self.seed, "backbone/init");
        let network = self.begin(context, network)?;
        let config = &self.config.backbone;
        if config.epochs == 0.0 {
            let weights = Weights::of("image", &network);
            runner::keep(context.run, "backbone", &weights)?;
            return Ok(weights);
        }
        let augment = Augment::new(self.config.input.flip, &config.augment);
        let device = context.device.clone();
        let mut stage = Backbone::new(
            network,
            rows,
            &pictures.pixels,
            pictures.input,
            augment,
            config,
            self.seed,
            &device,
        );
        runner::run(context, &mut stage)
    }

    /// The network with the weights it is to begin with, which are noted in the run.
    fn begin(
        &self,
        context: &mut Context<'_>,
        network: ImageClassifier,
    ) -> Result<ImageClassifier, TrainError> {
        let Some(path) = &self.config.backbone.weights else { return Ok(network) };
        let kind = self.config.backbone.network();
        let (network, source) = published::begin(path, kind, network)?;
        context.voice.say(&format!("{:>18} {}", "weights", source.said));
        context.run.note("weights", StageInfo { notes: source.notes, ..StageInfo::default() })?;
        Ok(network)
    }

    pub(super) fn image_network(&self, device: &Device) -> ImageClassifier {
        ImageClassifierConfig::new(self.config.backbone.network(), self.set.labels.len()).init(device)
    }

    /// Features of every picture, kept on disk under the digests of pictures and backbone.
    pub(super) fn features(
        &self,
        context: &mut Context<'_>,
        pictures: &Pictures,
        image: &Weights,
    ) -> Result<Outputs, TrainError> {
        let begun = Instant::now();
        let network = image
            .apply("image", self.image_network(&context.device))
            .map_err(|reason| TrainError::corrupt(context.run.finished("backbone"), reason))?
            .valid();
        let key = TableKey {
            pictures: pictures.pixels.digest().into(),
            weights: backbone_digest(image, &pictures.input),
            rows: pictures.pixels.len(),
            width: self.config.backbone.network().features(),
        };
        let mut computed = false;
        let mut blocks = Blocks::new("features", context.fragile());
        let device = context.device.clone();
        let (voice, stop) = (context.voice, context.stop);
        let features = FeatureTable::open(&self.cache, &key, voice, stop, &mut |rows| {
            computed = true;
            blocks.run(rows, |rows| {
                image_features(&network.backbone, &pictures.pixels, rows, &pictures.input, &device)
            })
        })?
        .ok_or_else(|| self.interrupted("features"))?;
        if computed {
            let seconds = begun.elapsed().as_secs_f64();
            context.run.note("features", StageInfo { seconds, ..StageInfo::default() })?;
        }
        Ok(Outputs { features: Arc::new(features) })
    }

    /// The image network with its last layer as configured, and the logits of the pictures `wanted`.
    pub(super) fn head(
        &self,
        context: &mut Context<'_>,
        pictures: &Pictures,
        outputs: &Outputs,
        mut image: Weights,
        wanted: &[usize],
    ) -> Result<Classifier, TrainError> {
        let device = context.device.clone();
        let config = self.config;
        if config.probed() {
            let rows = self.labelled(pictures, Role::Labelled);
            let of: Vec<usize> = rows.iter().map(|(picture, _)| *picture).collect();
            let fresh = self.image_network(&device.clone().autodiff()).head;
            // of unlike means and scales none of many features would be fitted well by one rate
            let standard = Standard::of(&outputs.features, &of)?;
            let mut stage = Probe::new(
                init::randomise(fresh, self.seed, "probe/init"),
                RowFeatures::of(&outputs.features, of, standard.clone(), &device)?,
                rows.iter().map(|(_, class)| i32::from(class.0)).collect(),
                &config.image.probe,
                self.seed,
                &device,
            );
            let mut result = runner::run(context, &mut stage)?;
            if !standard.fold(&mut result, "head") {
                return Err(TrainError::corrupt(context.run.finished("probe"), "it is of another width"));
            }
            image.0.extend(result.0.into_iter().map(|(name, array)| (format!("image.{name}"), array)));
        }
        let head = self.trained_head(context, &image)?;
        let mut logits = BTreeMap::new();
        for block in wanted.chunks(BLOCK) {
            logits.extend(block.iter().copied().zip(outputs.logits(&head, block, &device)?));
        }
        Ok(Classifier { weights: image, logits })
    }

    /// The last layer of an image network.
    pub(super) fn trained_head(&self, context: &Context<'_>, image: &Weights) -> Result<Linear, TrainError> {
        let network = image.apply("image", self.image_network(&context.device));
        Ok(network.map_err(|reason| TrainError::corrupt(context.run.finished("probe"), reason))?.head)
    }
}

impl Outputs {
    /// The features of these pictures, a row each.
    pub(super) fn rows(&self, pictures: Vec<usize>, device: &Device) -> Result<RowFeatures, TrainError> {
        let standard = Standard::nothing(self.features.width());
        RowFeatures::of(&self.features, pictures, standard, device)
    }

    /// The logits `[classes]` of each of these pictures.
    pub(super) fn logits(
        &self,
        head: &Linear,
        pictures: &[usize],
        device: &Device,
    ) -> Result<Vec<Vec<f32>>, TrainError> {
        let all = Array::of(head.forward(self.matrix(pictures, device)?));
        Ok(all.values.chunks_exact(all.shape[1]).map(<[f32]>::to_vec).collect())
    }

    /// The features of these pictures on a device, `[pictures, features]`.
    pub(super) fn matrix(
        &self,
        pictures: &[usize],
        device: &Device,
    ) -> Result<burn::tensor::Tensor<2>, TrainError> {
        let shape = [pictures.len(), self.features.width()];
        let data = burn::tensor::TensorData::new(self.features.rows(pictures)?, shape);
        Ok(burn::tensor::Tensor::from_data(data, device))
    }
}

/// Of everything a feature depends on besides the picture: the classifier on top is not part of it.
fn backbone_digest(image: &Weights, input: &ImageInput) -> String {
    let mut hash = Sha256::new();
    for value in input.mean.iter().chain(&input.std) {
        hash.update(value.to_le_bytes());
    }
    for (name, array) in image.0.iter().filter(|(name, _)| name.starts_with("image.backbone.")) {
        hash.update(name.as_bytes());
        array.values.iter().for_each(|value| hash.update(value.to_le_bytes()));
    }
    hex(&hash.finalize())
}

/// The side of the network's input: the pictures' own where none of a sample is above 96 pixels.
fn natural_size(files: &[PathBuf], kind: BackboneKind) -> u32 {
    let largest = files
        .iter()
        .step_by((files.len() / 256).max(1))
        .filter_map(|path| picture::dimensions(path))
        .map(|(width, height)| width.max(height))
        .max();
    match largest {
        Some(side) if side <= 96 => side.next_multiple_of(8).max(32).max(kind.min_side()),
        _ => kind.side(),
    }
}

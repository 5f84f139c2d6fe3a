//! The stages in their order, and what passes from one to the next.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use burn::tensor::Device;
use csp_models::{
    bundle::sha256_hex,
    fusion::{Thresholds, sigmoid},
    labels::ClassId,
    manifest::{ImageInput, ModelProvenance},
    nn::{ImageClassifier, ImageClassifierConfig, LocationClassifierConfig},
    place::LatLon,
};

use super::{
    Chosen, RunDir, TrainConfig, TrainError,
    calibrate::{Case, Opinion, calibrate},
    config::{Architecture, Head},
    init,
    model::{self, LocationShape, ModelInfo},
    roles::{self, Role, Sample, TrainingSet},
    run_dir::{RunInfo, StageInfo},
    runner::{self, Context},
    stages::{Backbone, Finetune, Pretrain, Probe, Start, matrix, project},
    weights::{Array, Weights},
};
use crate::{
    data::Dataset,
    features::{Augment, PixelCache, image_outputs, location_logits},
    progress::Voice,
};

/// How to train.
pub struct TrainOptions<'a> {
    /// The run directory, to be made, or to go on with.
    pub out: &'a Path,
    /// Every setting.
    pub config: TrainConfig,
    /// Share of the training labels to use, above 0 and up to 1.
    pub labels: f64,
    /// Seed of every random choice.
    pub seed: u64,
    /// The device.
    pub device: Chosen,
    /// Goes on with the run in `out`.
    pub resume: bool,
    /// What is said on the way.
    pub voice: Voice,
    /// Folder for decoded pictures, to share between runs; `out/cache` when `None`.
    pub cache: Option<PathBuf>,
    /// A finished run of the same data, labels, seed and image settings whose backbone is taken over
    /// instead of training the same one again.
    pub backbone_of: Option<&'a Path>,
    /// True when the user wants to stop; asked between steps.
    pub stop: &'a dyn Fn() -> bool,
    /// For tests: as if the user stopped after this many steps of this process.
    pub stop_after_steps: Option<u64>,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Rows of each role: labelled, held out, unlabelled, shielded.
    pub rows: [usize; 4],
    /// Accuracies and losses on the hold-out, see [`Calibration`](super::calibrate::Calibration).
    pub holdout: BTreeMap<String, f64>,
    /// Seconds of each stage.
    pub seconds: BTreeMap<String, f64>,
}

/// Trains a model into a run directory.
///
/// # Errors
/// [`TrainError`]; an interrupted run can be resumed.
pub fn train(dataset: &Dataset, options: &TrainOptions<'_>) -> Result<Summary, TrainError> {
    let TrainOptions { config, voice, stop, .. } = options;
    let (voice, stop) = (*voice, *stop);
    config.validate()?;
    if !(options.labels > 0.0 && options.labels <= 1.0) {
        let problem = format!("{} is not a share: give a number above 0 and up to 1", options.labels);
        return Err(TrainError::Config { field: "--labels".into(), problem });
    }
    let set = TrainingSet::new(dataset, options.labels, options.seed, &config.holdout)?;
    let info = RunInfo::new(
        dataset.source.clone(),
        dataset.sha256.clone(),
        options.seed,
        options.labels,
        options.device.description.clone(),
        config.clone(),
    );
    let mut run = if options.resume {
        RunDir::resume(options.out, &info)?
    } else {
        RunDir::create(options.out, info, &set.roles())?
    };
    if let Some(other) = options.backbone_of {
        run.take_backbone(other)?;
    }
    let roles = set.roles();
    let rows = [&roles.labelled, &roles.holdout, &roles.unlabelled, &roles.shielded].map(Vec::len);
    voice.say(&format!(
        "rows: {} labelled, {} held out to calibrate, {} unlabelled, {} unused (unlabelled, in held-out cells)",
        rows[0], rows[1], rows[2], rows[3]
    ));
    let cache = options.cache.clone().unwrap_or_else(|| run.cache());
    fs::create_dir_all(&cache).map_err(TrainError::io(&cache))?;
    let mut context = Context {
        run: &mut run,
        device: options.device.device.clone(),
        voice,
        every: config.checkpoint.every,
        stop,
        steps_left: Cell::new(options.stop_after_steps),
    };
    let job = Job { set: &set, config, seed: options.seed, cache, dataset };
    let pictures = job.pictures(&mut context)?;
    let image = job.backbone(&mut context, &pictures)?;
    let outputs = job.features(&mut context, &pictures, &image)?;
    let location = job.location(&mut context, &pictures, &outputs)?;
    let (image, logits) = job.head(&mut context, &pictures, &outputs, image)?;
    let cases = job.cases(&pictures, &logits, location.as_ref(), &context.device)?;
    let unseen = location.as_ref().map_or(&[][..], |location| &location.unseen);
    let fit = calibrate(&cases, unseen, set.labelled_cells(config.holdout.block_deg));
    if !fit.remark.is_empty() {
        voice.say(&format!("{:>18} {}", "calibrate", fit.remark));
    }
    let notes = fit.readings.iter().map(|(k, v)| (k.clone(), serde_json::json!(v))).collect();
    context.run.note("calibrate", StageInfo { notes, ..StageInfo::default() })?;

    let name = options.out.file_name().map_or_else(|| "model".into(), |n| n.to_string_lossy().into_owned());
    let model = ModelInfo {
        name,
        input: pictures.input,
        backbone: config.backbone.network(),
        encoder: location.as_ref().map(|_| config.location.encoder),
        location: location.as_ref().map(|_| LocationShape {
            hidden: config.location.hidden,
            hidden_layers: config.location.hidden_layers,
            embedding: config.location.embedding,
            activation: config.location.network().activation,
        }),
        labels: set.labels.clone(),
        fusion: fit.fusion,
        thresholds: Thresholds::default(),
        provenance: job.provenance(options, rows),
        holdout: fit.readings.clone(),
        files: BTreeMap::new(),
    };
    model::save(context.run, model, &image, location.as_ref().map(|location| &location.weights))?;
    let seconds = run.info().stages.iter().map(|(stage, info)| (stage.clone(), info.seconds)).collect();
    Ok(Summary { rows, holdout: fit.readings, seconds })
}

/// What all stages share.
struct Job<'a> {
    set: &'a TrainingSet,
    config: &'a TrainConfig,
    seed: u64,
    cache: PathBuf,
    dataset: &'a Dataset,
}

/// The decoded pictures of the training rows.
struct Pictures {
    pixels: PixelCache,
    input: ImageInput,
    /// Index into the pixel cache of each sample.
    of_sample: Vec<Option<usize>>,
}

/// The trained location branch.
struct Location {
    weights: Weights,
    /// What it says about places whose cell it has not learned from.
    unseen: Vec<Opinion>,
}

/// Stages of the folds.
const FOLDS: [&str; 5] = ["fold-1", "fold-2", "fold-3", "fold-4", "fold-5"];

/// Image network outputs for every picture.
struct Outputs {
    features: Vec<Vec<f32>>,
    logits: Vec<Vec<f32>>,
}

impl Job<'_> {
    fn interrupted(&self, stage: &'static str) -> TrainError {
        TrainError::Interrupted { stage, step: 0 }
    }

    fn pictures(&self, context: &mut Context<'_>) -> Result<Pictures, TrainError> {
        let begun = Instant::now();
        let mut files = Vec::new();
        let mut of_sample = Vec::with_capacity(self.set.samples.len());
        for sample in &self.set.samples {
            of_sample.push(sample.image.as_ref().map(|path| {
                files.push(path.clone());
                files.len() - 1
            }));
        }
        let side = match self.config.input.size {
            Some(side) => side,
            None => natural_size(&files, self.config.backbone.kind),
        };
        // 128/255 is the int8 zero point exactly; 0.25 is about the spread of photographs
        let input = ImageInput { width: side, height: side, mean: [128.0 / 255.0; 3], std: [0.25; 3] };
        let pixels = PixelCache::open(&self.cache, &files, &input, context.voice, context.stop)?
            .ok_or_else(|| self.interrupted("decode"))?;
        let seconds = begun.elapsed().as_secs_f64();
        context.run.note("decode", StageInfo { seconds, ..StageInfo::default() })?;
        Ok(Pictures { pixels, input, of_sample })
    }

    /// (picture, class) of the samples of a role.
    fn labelled(&self, pictures: &Pictures, role: Role) -> Vec<(usize, ClassId)> {
        let samples = self.set.samples.iter().zip(&pictures.of_sample);
        samples
            .filter(|(sample, _)| sample.role == role)
            .filter_map(|(sample, picture)| Some(((*picture)?, sample.class?)))
            .collect()
    }

    fn backbone(&self, context: &mut Context<'_>, pictures: &Pictures) -> Result<Weights, TrainError> {
        let rows = self.labelled(pictures, Role::Labelled);
        if rows.len() < 2 {
            let problem = "fewer than two labelled training rows have a picture".to_string();
            return Err(TrainError::Data { data: self.dataset.source.clone(), problem });
        }
        let device = context.device.clone().autodiff();
        let mut network = init::randomise(self.image_network(&device), self.seed, "backbone/init");
        let config = &self.config.backbone;
        if let Some(path) = &config.weights {
            if path.extension().is_none_or(|e| e != "safetensors") {
                let problem = format!("{}: only a run's model/image.safetensors can be read", path.display());
                return Err(TrainError::Config { field: "backbone.weights".into(), problem });
            }
            let (weights, _) = Weights::read(path)?;
            network.backbone = weights
                .apply("image.backbone", network.backbone)
                .map_err(|reason| TrainError::corrupt(path, reason))?;
        }
        if config.epochs == 0.0 {
            let mut weights = Weights::default();
            weights.collect("image", &burn::module::Module::valid(&network));
            return Ok(weights);
        }
        let augment = Augment::new(self.config.input.flip);
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

    fn image_network(&self, device: &Device) -> ImageClassifier {
        ImageClassifierConfig::new(self.config.backbone.network(), self.set.labels.len()).init(device)
    }

    /// Features and logits of every picture, kept on disk under the digests of pictures and network.
    fn features(
        &self,
        context: &mut Context<'_>,
        pictures: &Pictures,
        image: &Weights,
    ) -> Result<Outputs, TrainError> {
        let begun = Instant::now();
        let bits = image
            .0
            .iter()
            .flat_map(|(name, array)| name.bytes().chain(array.values.iter().flat_map(|v| v.to_le_bytes())));
        let mut key: Vec<u8> = bits.collect();
        key.extend(pictures.pixels.digest().bytes());
        let key: String = sha256_hex(&key).chars().take(16).collect();
        let path = context.run.cache().join(format!("features-{key}.safetensors"));
        if let Ok((cached, _)) = Weights::read(&path) {
            let rows = |name: &str| -> Option<Vec<Vec<f32>>> {
                let array = cached.0.get(name)?;
                let width = *array.shape.get(1)?;
                Some(array.values.chunks_exact(width.max(1)).map(<[f32]>::to_vec).collect())
            };
            if let (Some(features), Some(logits)) = (rows("features"), rows("logits"))
                && logits.len() == pictures.pixels.len()
            {
                return Ok(Outputs { features, logits });
            }
        }
        let network = image
            .apply("image", self.image_network(&context.device))
            .map_err(|reason| TrainError::corrupt(context.run.finished("backbone"), reason))?;
        let all: Vec<usize> = (0..pictures.pixels.len()).collect();
        let outputs = image_outputs(
            &network,
            &pictures.pixels,
            &all,
            &pictures.input,
            &context.device,
            context.voice,
            context.stop,
        )?
        .ok_or_else(|| self.interrupted("features"))?;
        let array = |rows: &[Vec<f32>]| Array {
            shape: vec![rows.len(), rows.first().map_or(0, Vec::len)],
            values: rows.concat(),
        };
        let mut cached = Weights::default();
        cached.0.insert("features".into(), array(&outputs.features));
        cached.0.insert("logits".into(), array(&outputs.logits));
        cached.write(&path, "{}")?;
        let seconds = begun.elapsed().as_secs_f64();
        context.run.note("features", StageInfo { seconds, ..StageInfo::default() })?;
        Ok(Outputs { features: outputs.features, logits: outputs.logits })
    }

    /// The location branch, `None` where the labelled rows have no places.
    fn location(
        &self,
        context: &mut Context<'_>,
        pictures: &Pictures,
        outputs: &Outputs,
    ) -> Result<Option<Location>, TrainError> {
        let placed = |role: Role| -> Vec<(LatLon, ClassId)> {
            let samples = self.set.samples.iter().filter(|sample| sample.role == role);
            samples.filter_map(|sample| Some((sample.place?, sample.class?))).collect()
        };
        let (rows, holdout) = (placed(Role::Labelled), placed(Role::Holdout));
        if rows.is_empty() {
            context.voice.say("no labelled row has a place: the model will know pictures only");
            return Ok(None);
        }
        let pretrained = self.pretrain(context, pictures, outputs)?;
        let (pretrained, prototypes) = match &pretrained {
            Some((weights, prototypes)) => (Some(weights), Some(&prototypes[..])),
            None => (None, None),
        };
        let prototypes = prototypes.filter(|_| self.config.finetune.prototypes);
        let start = Start { pretrained, prototypes };
        let unseen = self.unseen(context, &rows, start)?;
        let weights = self.finetune(context, "finetune", &rows, holdout, start)?;
        Ok(Some(Location { weights, unseen }))
    }

    fn finetune(
        &self,
        context: &mut Context<'_>,
        name: &'static str,
        rows: &[(LatLon, ClassId)],
        aside: Vec<(LatLon, ClassId)>,
        start: Start<'_>,
    ) -> Result<Weights, TrainError> {
        let device = context.device.clone();
        let mut stage = Finetune::new(
            name,
            rows,
            aside,
            self.set.labels.len(),
            start,
            &self.config.location,
            &self.config.finetune,
            self.seed,
            &device,
        )
        .map_err(|reason| TrainError::corrupt(context.run.finished("pretrain"), reason))?;
        runner::run(context, &mut stage)
    }

    /// What the prior says at each labelled row when it has not learned from the row's cell.
    fn unseen(
        &self,
        context: &mut Context<'_>,
        rows: &[(LatLon, ClassId)],
        start: Start<'_>,
    ) -> Result<Vec<Opinion>, TrainError> {
        let folds = self.config.finetune.folds;
        let parts = roles::folds(rows, folds, self.seed, self.config.holdout.block_deg);
        let mut opinions = Vec::new();
        for (name, part) in FOLDS.into_iter().zip(&parts) {
            let (aside, learned): (Vec<_>, Vec<_>) =
                rows.iter().enumerate().partition(|(i, _)| part.contains(i));
            let bare = |rows: Vec<(usize, &(LatLon, ClassId))>| -> Vec<(LatLon, ClassId)> {
                rows.into_iter().map(|(_, row)| *row).collect()
            };
            let (aside, learned) = (bare(aside), bare(learned));
            let weights = self.finetune(context, name, &learned, aside.clone(), start)?;
            let places: Vec<LatLon> = aside.iter().map(|(place, _)| *place).collect();
            let presence = self.presence(&weights, &places, &context.device)?;
            opinions.extend(
                presence.into_iter().zip(aside).map(|(presence, (_, class))| Opinion { presence, class }),
            );
        }
        Ok(opinions)
    }

    /// Presence scores `[places, classes]` of a location network.
    fn presence(
        &self,
        weights: &Weights,
        places: &[LatLon],
        device: &Device,
    ) -> Result<Vec<Vec<f64>>, TrainError> {
        let shape = LocationClassifierConfig::new(self.config.location.network(), self.set.labels.len());
        let network = weights
            .apply("location", shape.init(device))
            .map_err(|reason| TrainError::corrupt("location", reason))?;
        let logits = location_logits(&network, &self.config.location.encoder, places, device);
        Ok(logits.into_iter().map(|row| row.into_iter().map(|z| sigmoid(f64::from(z))).collect()).collect())
    }

    /// The pre-trained pair, and the mean direction of each class's pictures in its embedding.
    fn pretrain(
        &self,
        context: &mut Context<'_>,
        pictures: &Pictures,
        outputs: &Outputs,
    ) -> Result<Option<(Weights, Vec<Vec<f32>>)>, TrainError> {
        if !self.config.pretrain.enabled {
            return Ok(None);
        }
        let seen = |role: Role| match role {
            Role::Labelled | Role::Unlabelled => true,
            Role::Holdout => !self.config.holdout.shield,
            Role::Shielded => false,
        };
        let both = |(sample, picture): (&Sample, &Option<usize>)| {
            Some((sample.place?, &outputs.features[(*picture)?])).filter(|_| seen(sample.role))
        };
        let pairs = self.set.samples.iter().zip(&pictures.of_sample).filter_map(both);
        let (places, features): (Vec<LatLon>, Vec<&Vec<f32>>) = pairs.unzip();
        if places.len() < 2 {
            context.voice.say("fewer than two rows have both picture and place: no pre-training");
            return Ok(None);
        }
        let device = context.device.clone();
        let standard = Standard::of(&features);
        let mut stage = Pretrain::new(
            &places,
            matrix(&standard.apply(&features), &device),
            &self.config.location,
            &self.config.pretrain,
            self.seed,
            &device,
        );
        let weights = runner::run(context, &mut stage)?;
        let labelled = self.labelled(pictures, Role::Labelled);
        let features: Vec<&Vec<f32>> = labelled.iter().map(|(i, _)| &outputs.features[*i]).collect();
        let features = matrix(&standard.apply(&features), &device);
        let projected = project(&weights, features, &self.config.location)
            .map_err(|reason| TrainError::corrupt(context.run.finished("pretrain"), reason))?;
        let prototypes = prototypes(&projected, &labelled, self.set.labels.len());
        Ok(Some((weights, prototypes)))
    }

    /// The image network with its last layer as configured, and the logits of every picture.
    fn head(
        &self,
        context: &mut Context<'_>,
        pictures: &Pictures,
        outputs: &Outputs,
        mut image: Weights,
    ) -> Result<(Weights, Vec<Vec<f32>>), TrainError> {
        if self.config.image.head == Head::Trained && self.config.backbone.epochs > 0.0 {
            return Ok((image, outputs.logits.clone()));
        }
        let rows = self.labelled(pictures, Role::Labelled);
        let features: Vec<Vec<f32>> =
            rows.iter().map(|(picture, _)| outputs.features[*picture].clone()).collect();
        let device = context.device.clone();
        let fresh = self.image_network(&device.clone().autodiff()).head;
        let mut stage = Probe::new(
            init::randomise(fresh, self.seed, "probe/init"),
            matrix(&features, &device),
            rows.iter().map(|(_, class)| i32::from(class.0)),
            &self.config.image.probe,
            &device,
        );
        let result = runner::run(context, &mut stage)?;
        let head = result
            .apply("head", self.image_network(&device).head)
            .map_err(|reason| TrainError::corrupt(context.run.finished("probe"), reason))?;
        let logits = Array::of(head.forward(matrix(&outputs.features, &device)));
        image.0.extend(result.0.into_iter().map(|(name, array)| (format!("image.{name}"), array)));
        let width = self.set.labels.len();
        Ok((image, logits.values.chunks_exact(width).map(<[f32]>::to_vec).collect()))
    }

    fn cases(
        &self,
        pictures: &Pictures,
        logits: &[Vec<f32>],
        location: Option<&Location>,
        device: &Device,
    ) -> Result<Vec<Case>, TrainError> {
        let mut cases = Vec::new();
        for (sample, picture) in self.set.samples.iter().zip(&pictures.of_sample) {
            if let (Role::Holdout, Some(picture), Some(class)) = (sample.role, *picture, sample.class) {
                let presence = match (location, sample.place) {
                    (Some(location), Some(place)) => {
                        self.presence(&location.weights, &[place], device)?.pop()
                    }
                    _ => None,
                };
                cases.push(Case { logits: logits[picture].clone(), presence, class });
            }
        }
        Ok(cases)
    }

    fn provenance(&self, options: &TrainOptions<'_>, rows: [usize; 4]) -> ModelProvenance {
        let began = match &self.config.backbone.weights {
            Some(path) => format!("from {}", path.display()),
            None => "from random weights".into(),
        };
        ModelProvenance {
            tool: format!("csp-host {}", env!("CARGO_PKG_VERSION")),
            data_sha256: self.dataset.sha256.clone(),
            seed: self.seed,
            label_fraction: options.labels,
            labelled_rows: (rows[0] + rows[1]) as u64,
            unlabelled_rows: rows[2] as u64,
            backbone: format!("{} {began}", self.config.backbone.network()),
            device: options.device.description.clone(),
        }
    }
}

/// Mean and scale of each image feature. The projection W has a bias and so can represent the same
/// without; it learns faster with them.
struct Standard(Vec<(f64, f64)>);

impl Standard {
    fn of(rows: &[&Vec<f32>]) -> Self {
        let n = rows.len() as f64;
        let one = |feature: usize| {
            let values = || rows.iter().map(|row| f64::from(row[feature]));
            let mean = values().sum::<f64>() / n;
            let deviation = (values().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
            (mean, if deviation > 1e-6 { 1.0 / deviation } else { 0.0 })
        };
        Self((0..rows.first().map_or(0, |row| row.len())).map(one).collect())
    }

    fn apply(&self, rows: &[&Vec<f32>]) -> Vec<Vec<f32>> {
        let scale = |row: &&Vec<f32>| {
            let scaled = row.iter().zip(&self.0).map(|(&v, (mean, scale))| (f64::from(v) - mean) * scale);
            scaled.map(|v| v as f32).collect()
        };
        rows.iter().map(scale).collect()
    }
}

/// The mean direction of each class, from which the mean over the classes is taken away: what sets
/// the class apart. Length 1; zero for a class without pictures.
fn prototypes(rows: &[Vec<f32>], labelled: &[(usize, ClassId)], classes: usize) -> Vec<Vec<f32>> {
    let width = rows.first().map_or(0, Vec::len);
    let mut sums = vec![(vec![0f64; width], 0usize); classes];
    for (row, (_, class)) in rows.iter().zip(labelled) {
        let (sum, count) = &mut sums[class.index()];
        sum.iter_mut().zip(row).for_each(|(sum, &v)| *sum += f64::from(v));
        *count += 1;
    }
    let means: Vec<Vec<f64>> = (sums.into_iter())
        .map(|(sum, count)| sum.into_iter().map(|v| v / count.max(1) as f64).collect())
        .collect();
    let middle: Vec<f64> =
        (0..width).map(|i| means.iter().map(|mean| mean[i]).sum::<f64>() / classes as f64).collect();
    let unit = |mean: &Vec<f64>| {
        if mean.iter().all(|&v| v == 0.0) {
            return vec![0.0; width];
        }
        let apart: Vec<f64> = mean.iter().zip(&middle).map(|(v, m)| v - m).collect();
        let length = apart.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-12);
        apart.into_iter().map(|v| (v / length) as f32).collect()
    };
    means.iter().map(unit).collect()
}

/// The side of the network's input: the pictures' own where none of a sample is above 96 pixels.
fn natural_size(files: &[PathBuf], kind: Architecture) -> u32 {
    let largest = files
        .iter()
        .step_by((files.len() / 256).max(1))
        .filter_map(|path| image::image_dimensions(path).ok())
        .map(|(width, height)| width.max(height))
        .max();
    match (largest, kind) {
        (Some(side), _) if side <= 96 => side.next_multiple_of(8).max(32),
        (_, Architecture::SmallCnn) => 128,
        (_, Architecture::MobileNetV2) => 224,
    }
}

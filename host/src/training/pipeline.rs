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
    fusion::Thresholds,
    labels::ClassId,
    manifest::{ImageInput, ModelProvenance},
    nn::{BackboneKind, ImageClassifier, ImageClassifierConfig},
    picture,
};

use super::{
    Chosen, RunDir, TrainConfig, TrainError,
    calibrate::{Case, Opinion, calibrate, calibrate_prior},
    config::Head,
    init,
    location::Location,
    model::{self, LocationShape, ModelInfo},
    roles::{Role, TrainingSet},
    run_dir::{RunInfo, StageInfo},
    runner::{self, Context},
    stages::{Backbone, Probe, matrix},
    weights::{Array, Weights},
};
use crate::{
    data::Dataset,
    features::{Augment, PixelCache, image_outputs},
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
    let device = options.device.description.clone();
    let info = RunInfo::new(dataset, options.seed, options.labels, device, config.clone());
    let roles = set.roles();
    let mut run = if options.resume {
        RunDir::resume(options.out, &info, &roles)?
    } else {
        RunDir::create(options.out, info, &roles)?
    };
    if let Some(other) = options.backbone_of {
        run.take_backbone(other)?;
    }
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
        more: options.device.more.clone(),
        voice,
        every: config.checkpoint.every,
        stop,
        steps_left: Cell::new(options.stop_after_steps),
    };
    let job = Job { set: &set, config, seed: options.seed, cache, dataset };
    let pictures = job.pictures(&mut context)?;
    let cells = set.labelled_cells(config.holdout.block_deg);
    let (image, location, fit) = if pictures.pixels.is_empty() {
        voice.say("no row has a picture: only the location branch is trained, the place answers alone");
        let Some(location) = job.location(&mut context, &pictures, &Outputs::default())? else {
            let problem = "no training row has a picture, and no labelled one a place".into();
            return Err(TrainError::Data { data: dataset.source.clone(), problem });
        };
        let held = job.held_opinions(&location, &context.device)?;
        let fit = calibrate_prior(&held, &location.unseen, cells);
        (None, Some(location), fit)
    } else {
        let image = job.backbone(&mut context, &pictures)?;
        let outputs = job.features(&mut context, &pictures, &image)?;
        let location = job.location(&mut context, &pictures, &outputs)?;
        let (image, logits) = job.head(&mut context, &pictures, &outputs, image)?;
        let cases = job.cases(&pictures, &logits, location.as_ref(), &context.device)?;
        let unseen = location.as_ref().map_or(&[][..], |location| &location.unseen);
        let fit = calibrate(&cases, unseen, cells);
        (Some(image), location, fit)
    };
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
        encoder: location.as_ref().map(|_| config.location.encoder.clone()),
        location: location.as_ref().map(|_| LocationShape::of(&config.location.network())),
        labels: set.labels.clone(),
        place_only: 0,
        fusion: fit.fusion,
        thresholds: Thresholds::default(),
        provenance: job.provenance(options, rows, image.is_some()),
        holdout: fit.readings.clone(),
        files: BTreeMap::new(),
    };
    model::save(context.run, model, image.as_ref(), location.as_ref().map(|location| &location.weights))?;
    let seconds = run.info().stages.iter().map(|(stage, info)| (stage.clone(), info.seconds)).collect();
    Ok(Summary { rows, holdout: fit.readings, seconds })
}

/// What all stages share.
pub(super) struct Job<'a> {
    pub(super) set: &'a TrainingSet,
    pub(super) config: &'a TrainConfig,
    pub(super) seed: u64,
    cache: PathBuf,
    pub(super) dataset: &'a Dataset,
}

/// The decoded pictures of the training rows.
pub(super) struct Pictures {
    pixels: PixelCache,
    input: ImageInput,
    /// Index into the pixel cache of each sample.
    pub(super) of_sample: Vec<Option<usize>>,
}

/// Image network outputs for every picture.
#[derive(Default)]
pub(super) struct Outputs {
    pub(super) features: Vec<Vec<f32>>,
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
            None => natural_size(&files, self.config.backbone.network()),
        };
        // 128/255 is the int8 zero point exactly; 0.25 is about the spread of photographs
        let input = ImageInput { width: side, height: side, mean: [128.0 / 255.0; 3], std: [0.25; 3] };
        let pixels = PixelCache::open(&self.cache, &files, &input, context.voice, context.stop)?
            .ok_or_else(|| self.interrupted("decode"))?;
        let seconds = begun.elapsed().as_secs_f64();
        let notes = BTreeMap::from([("pictures".to_string(), files.len().into())]);
        context.run.note("decode", StageInfo { seconds, notes, ..StageInfo::default() })?;
        Ok(Pictures { pixels, input, of_sample })
    }

    /// (picture, class) of the samples of a role.
    pub(super) fn labelled(&self, pictures: &Pictures, role: Role) -> Vec<(usize, ClassId)> {
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
            let weights = Weights::of("image", &network);
            runner::keep(context.run, "backbone", &weights)?;
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

    /// What the prior says of the held-out rows.
    fn held_opinions(&self, location: &Location, device: &Device) -> Result<Vec<Opinion>, TrainError> {
        let held = self.set.samples.iter().filter(|sample| sample.role == Role::Holdout);
        let (places, classes): (Vec<_>, Vec<_>) =
            held.filter_map(|sample| Some((sample.place?, sample.class?))).unzip();
        let presence = self.presence(&location.weights, &places, device)?;
        Ok(presence.into_iter().zip(classes).map(|(presence, class)| Opinion { presence, class }).collect())
    }

    fn provenance(&self, options: &TrainOptions<'_>, rows: [usize; 4], image: bool) -> ModelProvenance {
        let began = match &self.config.backbone.weights {
            // its name: the folders are the user's own affair
            Some(path) => format!("from {}", path.file_name().unwrap_or_default().to_string_lossy()),
            None => "from random weights".into(),
        };
        ModelProvenance {
            tool: format!("csp-host {}", env!("CARGO_PKG_VERSION")),
            data_sha256: self.dataset.sha256.clone(),
            seed: self.seed,
            label_fraction: options.labels,
            labelled_rows: (rows[0] + rows[1]) as u64,
            unlabelled_rows: rows[2] as u64,
            backbone: match image {
                true => format!("{} {began}", self.config.backbone.network()),
                false => "none: the data has no pictures".into(),
            },
            device: options.device.description.clone(),
        }
    }
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

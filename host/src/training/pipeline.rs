//! The stages in their order, and what passes from one to the next.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use burn::tensor::Device;
use csp_models::{fusion::Thresholds, manifest::ModelProvenance};

use super::{
    Chosen, RunDir, TrainConfig, TrainError,
    calibrate::{Calibration, Case, Opinion, calibrate, calibrate_prior},
    image::{Classifier, Pictures},
    location::{self, Location},
    location_weights::Begin,
    model::{self, LocationShape, ModelInfo},
    modulation::Modulation,
    roles::{Role, TrainingSet},
    run_dir::{RunInfo, StageInfo},
    runner::Context,
    weights::Weights,
};
use crate::{
    data::{Dataset, about_seam},
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
    let TrainOptions { config, voice, .. } = options;
    let voice = *voice;
    config.validate()?;
    if !(options.labels > 0.0 && options.labels <= 1.0) {
        let problem = format!("{} is not a share: give a number above 0 and up to 1", options.labels);
        return Err(TrainError::Config { field: "--labels".into(), problem });
    }
    let mut set = TrainingSet::new(dataset, options.labels, options.seed, &config.holdout)?;
    let begin = taught(&mut set, config, voice)?;
    let dates = set.about_dates(&config.location.encoder)?;
    location::users(&set, config, dataset)?;
    let device = options.device.description.clone();
    let info = RunInfo::new(dataset, options.seed, options.labels, device, config.clone());
    let roles = set.roles();
    let mut run = if options.resume {
        RunDir::resume(options.out, &info, &roles)?
    } else {
        RunDir::create(options.out, info, &roles)?
    };
    if let Some(changes) = run.made_otherwise() {
        voice.say(&format!("this run began with {changes}: it can come out otherwise than uninterrupted"));
    }
    if let Some(dates) = dates {
        voice.say(&dates);
    }
    if let Some(seam) = about_seam(&dataset.rows, &config.location.encoder) {
        voice.say(&seam);
    }
    if let Some(error) = options.backbone_of.and_then(|other| run.look_at_backbone(other).err()) {
        if !options.resume {
            run.abandon();
        }
        return Err(error);
    }
    match learn(&mut run, &set, begin, dataset, options) {
        // nothing has been learned, and other settings need another run
        Err(error @ (TrainError::Config { .. } | TrainError::Differs { .. })) if !options.resume => {
            run.abandon();
            Err(error)
        }
        done => done,
    }
}

/// Leaves classes that nothing teaches out of `set`, says which and what the place knows nothing of, and
/// reads the location network to begin with: one that knows all classes keeps them.
fn taught(set: &mut TrainingSet, config: &TrainConfig, voice: Voice) -> Result<Option<Begin>, TrainError> {
    let read = |set: &TrainingSet| {
        let path = config.location.weights.as_deref();
        path.map(|path| Begin::read(path, &config.location, &set.labels)).transpose()
    };
    let begin = read(set)?;
    if begin.as_ref().is_some_and(Begin::has_classes) {
        return Ok(begin);
    }
    let say = |names: &[String], why: &str| {
        if !names.is_empty() {
            let classes = if names.len() == 1 { "class" } else { "classes" };
            voice.say(&format!("{} {classes} {why}: {}", names.len(), listed(names)));
        }
    };
    let untaught = set.leave_out_untaught();
    say(&untaught, "not learned, for want of a training row");
    let unplaced = set.mark_unplaced();
    say(&unplaced, "of which the place will say nothing, for want of a labelled row with a place");
    if untaught.is_empty() { Ok(begin) } else { read(set) }
}

/// The first names of a list.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 8;
    names[..names.len().min(SHOWN)].join(", ") + if names.len() > SHOWN { ", …" } else { "" }
}

/// All stages of a run that has begun.
fn learn(
    run: &mut RunDir,
    set: &TrainingSet,
    begin: Option<Begin>,
    dataset: &Dataset,
    options: &TrainOptions<'_>,
) -> Result<Summary, TrainError> {
    let TrainOptions { config, voice, stop, .. } = options;
    let (voice, stop) = (*voice, *stop);
    let roles = set.roles();
    let rows = [&roles.labelled, &roles.holdout, &roles.unlabelled, &roles.shielded].map(Vec::len);
    voice.say(&format!(
        "rows: {} labelled, {} held out to calibrate, {} unlabelled, {} unused (unlabelled, in held-out cells)",
        rows[0], rows[1], rows[2], rows[3]
    ));
    if let (Some(begin), Some(path)) = (&begin, &config.location.weights) {
        voice.say(&format!("{:>18} {}", "location.weights", begin.said));
        run.begin_location(path, begin)?;
    }
    let cache = options.cache.clone().unwrap_or_else(|| run.cache());
    fs::create_dir_all(&cache).map_err(TrainError::io(&cache))?;
    let mut context = Context {
        run,
        device: options.device.device.clone(),
        more: options.device.more.clone(),
        voice,
        every: config.checkpoint.every,
        stop,
        steps_left: Cell::new(options.stop_after_steps),
    };
    if context.fragile() {
        voice.say("the first steps of each stage try out kernels on the device: with large pictures that takes minutes");
    }
    let job = Job { set, config, seed: options.seed, cache, dataset, begin };
    let pictures = job.pictures(&mut context)?;
    if let Some(other) = options.backbone_of {
        context.run.take_backbone(other)?;
    }
    let cells = set.labelled_cells(config.holdout.block_deg);
    let Trained { image, location, modulation, mut fit } = if pictures.pixels.is_empty() {
        job.places_alone(&mut context, &pictures, cells)?
    } else {
        job.both_branches(&mut context, &pictures, cells)?
    };
    if !fit.remark.is_empty() {
        voice.say(&format!("{:>18} {}", "calibrate", fit.remark));
    }
    if let Some(share) = modulation.as_ref().and_then(|modulation| modulation.holdout_top1) {
        fit.readings.insert("modulated_top1".into(), share);
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
        provenance: job.provenance(options, rows, image.is_some(), context.run.weights_sha256()),
        holdout: fit.readings.clone(),
        files: BTreeMap::new(),
    };
    let parts = model::Parts {
        image: image.as_ref(),
        location: location.as_ref().map(|location| &location.weights),
        modulation: modulation.as_ref().map(|modulation| &modulation.weights),
    };
    model::save(context.run, model, &parts)?;
    let seconds = run.info().stages.iter().map(|(stage, info)| (stage.clone(), info.seconds)).collect();
    Ok(Summary { rows, holdout: fit.readings, seconds })
}

/// What the stages came to.
struct Trained {
    image: Option<Weights>,
    location: Option<Location>,
    modulation: Option<Modulation>,
    fit: Calibration,
}

/// What all stages share.
pub(super) struct Job<'a> {
    pub(super) set: &'a TrainingSet,
    pub(super) config: &'a TrainConfig,
    pub(super) seed: u64,
    pub(super) cache: PathBuf,
    pub(super) dataset: &'a Dataset,
    /// The trained location network to begin with.
    pub(super) begin: Option<Begin>,
}

impl Job<'_> {
    pub(super) fn interrupted(&self, stage: &'static str) -> TrainError {
        TrainError::Interrupted { stage, step: 0 }
    }

    /// A range model: the data has no pictures.
    fn places_alone(
        &self,
        context: &mut Context<'_>,
        pictures: &Pictures,
        cells: usize,
    ) -> Result<Trained, TrainError> {
        context
            .voice
            .say("no row has a picture: only the location branch is trained, the place answers alone");
        let Some(location) = self.location(context, pictures, None, None, Vec::new())? else {
            let problem = "no training row has a picture, and no labelled one a place".into();
            return Err(TrainError::Data { data: self.dataset.source.clone(), problem });
        };
        let held = self.held_opinions(&location, &context.device)?;
        let fit = calibrate_prior(&held, &location.unseen, cells);
        Ok(Trained { image: None, location: Some(location), modulation: None, fit })
    }

    fn both_branches(
        &self,
        context: &mut Context<'_>,
        pictures: &Pictures,
        cells: usize,
    ) -> Result<Trained, TrainError> {
        let mut image = self.backbone(context, pictures)?;
        let joint = self.joint(context, pictures, &mut image)?;
        let outputs = self.features(context, pictures, &image)?;
        let held: Vec<usize> = self.labelled(pictures, Role::Holdout).into_iter().map(|(at, _)| at).collect();
        let image = self.head(context, pictures, &outputs, image, &held)?;
        let guesses = self.guesses(context, pictures, &outputs, &image)?;
        let Classifier { weights: image, logits } = image;
        let location = self.location(context, pictures, Some(&outputs), joint, guesses)?;
        let modulation = self.modulation(context, pictures, &outputs, &image, location.as_ref())?;
        let cases = self.cases(pictures, &logits, location.as_ref(), &context.device)?;
        let unseen = location.as_ref().map_or(&[][..], |location| &location.unseen);
        let fit = calibrate(&cases, unseen, cells);
        Ok(Trained { image: Some(image), location, modulation, fit })
    }

    /// What the prior says of the held-out rows.
    fn held_opinions(&self, location: &Location, device: &Device) -> Result<Vec<Opinion>, TrainError> {
        let held = self.set.samples.iter().filter(|sample| sample.role == Role::Holdout);
        let held: Vec<_> = held.filter_map(|sample| Some((sample.situation()?, sample.class?))).collect();
        self.opinions(&location.weights, &held, device)
    }

    fn cases(
        &self,
        pictures: &Pictures,
        logits: &BTreeMap<usize, Vec<f32>>,
        location: Option<&Location>,
        device: &Device,
    ) -> Result<Vec<Case>, TrainError> {
        let mut cases = Vec::new();
        for (sample, picture) in self.set.samples.iter().zip(&pictures.of_sample) {
            let logits = picture.and_then(|picture| logits.get(&picture));
            if let (Role::Holdout, Some(logits), Some(class)) = (sample.role, logits, sample.class) {
                let presence = match (location, sample.situation()) {
                    (Some(location), Some(place)) => {
                        self.presence(&location.weights, &[place], device)?.pop()
                    }
                    _ => None,
                };
                cases.push(Case { logits: logits.clone(), presence, class });
            }
        }
        Ok(cases)
    }

    fn provenance(
        &self,
        options: &TrainOptions<'_>,
        rows: [usize; 4],
        image: bool,
        weights_sha256: Option<&str>,
    ) -> ModelProvenance {
        let began = match &self.config.backbone.weights {
            // its name: the folders are the user's own affair
            Some(path) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                match weights_sha256 {
                    Some(digest) => format!("from {name} (SHA-256 {digest})"),
                    None => format!("from {name}"),
                }
            }
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
            location: self.begin.as_ref().zip(self.config.location.weights.as_ref()).map(|(begin, path)| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                format!("from {name} (SHA-256 {})", begin.sha256)
            }),
            device: options.device.description.clone(),
        }
    }
}

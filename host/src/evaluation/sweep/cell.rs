//! One (split, ratio, seed): its runs are trained, or taken over where they are finished, and every
//! method is measured on the same rows with the same image logits.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use csp_models::{bundle::sha256_hex, labels::ClassId, place::LatLon, situation::Situation};
use rayon::prelude::*;

use super::{
    Figures, Measures, Method, SweepError, SweepOptions,
    kept::{Kept, Of},
    plan,
};
use crate::{
    data::{
        Dataset, Row, SplitBy,
        units::{self, Unit},
    },
    evaluation::{
        self, Answers, RunPredictor, Scored, answers_beside, image_logits, labelled,
        priors::{self, Kind},
    },
    features::{PixelCache, places_at_once},
    training::{
        self, RowRoles, RunDir, TrainConfig, TrainOptions, TrainedModel,
        calibrate::{Case, Opinion, calibrate, calibrate_prior},
    },
};

/// The figures of all methods asked for; those measured before, of the same `pictures`, are read.
pub(super) fn figures(
    data: &Dataset,
    options: &SweepOptions<'_>,
    by: SplitBy,
    share: f64,
    seed: u64,
    pictures: Option<&str>,
) -> Result<BTreeMap<Method, Figures>, SweepError> {
    let place = |sweep: &Path| sweep.join(plan::runs(by)).join(format!("labels-{share}-seed-{seed}"));
    let cell = Cell {
        data,
        options,
        share,
        seed,
        pictures,
        dir: place(options.out),
        backbones: options.backbones_of.map(place),
        runs: options.runs_of.map(place),
    };
    let path = cell.dir.join(FIGURES);
    let of = Of {
        data: data.sha256.clone(),
        pictures: pictures.map(str::to_string),
        split: format!("{:?}", options.split).to_lowercase(),
        labels: share,
        seed,
        device: options.device.description.clone(),
        config: options.config.clone(),
        tool: env!("CARGO_PKG_VERSION").into(),
    };
    let mut done = Kept::read(&path, of)?;
    let missing: Vec<Method> =
        options.methods.iter().copied().filter(|method| !done.methods.contains_key(method)).collect();
    if !missing.is_empty() {
        if !done.vouched {
            cell.hold_runs_to_pictures(&path)?;
            done.write(&path)?;
        }
        cell.measure(&missing, &mut done.methods)?;
        done.write(&path)?;
    }
    done.methods.retain(|method, _| options.methods.contains(method));
    Ok(done.methods)
}

struct Cell<'a> {
    data: &'a Dataset,
    options: &'a SweepOptions<'a>,
    share: f64,
    seed: u64,
    /// Digest of the photographs, if there are any.
    pictures: Option<&'a str>,
    dir: PathBuf,
    /// Where runs with the same backbones may be.
    backbones: Option<PathBuf>,
    /// Where the same runs may be, finished.
    runs: Option<PathBuf>,
}

/// The file of a cell's figures.
const FIGURES: &str = "figures.json";
/// Folders of the runs with and without pre-training.
const CSP: &str = "csp";
const SUPERVISED: &str = "supervised";

impl Cell<'_> {
    fn measure(&self, methods: &[Method], figures: &mut BTreeMap<Method, Figures>) -> Result<(), SweepError> {
        let needs = |method| methods.contains(&method);
        let pretrained = needs(Method::Csp) || needs(Method::Modulated);
        let supervised_only = !pretrained && (needs(Method::Supervised) || !super::has_pictures(self.data));
        let first = self.run(if supervised_only { SUPERVISED } else { CSP }, None)?;
        let rows = labelled(self.data, Some(self.options.split), &first.predictor.model.labels)?;
        let voice = self.options.voice;
        if let Some(unknown) = evaluation::about_unknown(self.data, &rows) {
            voice.say(&unknown);
        }
        let images = image_logits(&first.predictor, &rows, voice)?;
        for &method in methods {
            let measured = match method {
                Method::Image => {
                    let truth = rows.iter().map(|(_, class)| *class);
                    let scored = (truth.zip(&images)).map(|(truth, image)| Scored {
                        truth,
                        image: image.clone(),
                        presence: None,
                    });
                    let answers = Answers::of(&first.predictor.model.fusion, scored);
                    let setting = format!("T = {:.2}", first.predictor.model.fusion.temperature);
                    Figures { fused: Measures::of(&answers.fused), alone: None, setting }
                }
                Method::Csp | Method::Supervised => {
                    let name = if method == Method::Csp { CSP } else { SUPERVISED };
                    let other;
                    let run = if first.root.ends_with(name) {
                        &first
                    } else {
                        other = self.run(name, Some(&first.root))?;
                        &other
                    };
                    let fresh;
                    let images = if run.image == first.image {
                        &images
                    } else {
                        fresh = image_logits(&run.predictor, &rows, voice)?;
                        &fresh
                    };
                    let answers = answers_beside(&run.predictor, &rows, images)?;
                    of_answers(&run.predictor.model.fusion, &answers)
                }
                Method::Modulated => {
                    let answers = evaluation::modulated(&first.predictor, &rows, voice)?;
                    let answers = answers.ok_or(SweepError::NotModulated)?;
                    Figures { fused: Measures::of(&answers), alone: None, setting: String::new() }
                }
                Method::Knn => self.prior(Kind::Neighbours, &first, &rows, &images)?,
                Method::Histogram => self.prior(Kind::Histogram, &first, &rows, &images)?,
                Method::Kde => self.prior(Kind::Kernel, &first, &rows, &images)?,
            };
            figures.insert(method, measured);
        }
        Ok(())
    }

    /// A finished run: the one of an earlier sweep, or this one's, trained now if it has to be.
    fn run(&self, name: &str, backbone_of: Option<&Path>) -> Result<Finished, SweepError> {
        let options = self.options;
        let config = self.config(name);
        let out = self.dir.join(name);
        let mut runs = self.runs.as_ref();
        if let Some(run) = runs.map(|runs| runs.join(name)).filter(|run| self.is_finished(run, &config)) {
            let kept = run.with_file_name(FIGURES);
            let vouched = self.pictures.is_some_and(|pictures| Kept::is_of(&kept, pictures));
            if vouched || self.shows_the_same(&run)? {
                return self.open(run);
            }
            options.voice.say(&format!("{}: of other photographs, not taken over", run.display()));
            runs = None;
        }
        if self.is_finished(&out, &config) {
            return self.open(out);
        }
        let backbone_of = backbone_of.map(Path::to_path_buf).or_else(|| {
            let sweeps = self.backbones.iter().chain(runs);
            sweeps.map(|sweep| sweep.join(CSP)).find(|run| run.exists())
        });
        options.voice.say(&format!("\n{} labels {}, seed {}", out.display(), self.share, self.seed));
        let train = TrainOptions {
            out: &out,
            config,
            labels: self.share,
            seed: self.seed,
            device: options.device.clone(),
            resume: out.join("run.json").exists(),
            voice: options.voice,
            cache: Some(options.out.join("cache")),
            backbone_of: backbone_of.as_deref(),
            stop: &|| false,
            stop_after_steps: None,
        };
        training::train(self.data, &train)
            .map_err(|source| SweepError::Train { run: out.clone(), source })?;
        self.open(out)
    }

    /// The settings of a run.
    fn config(&self, name: &str) -> TrainConfig {
        let mut config = self.options.config.clone();
        config.pretrain.enabled = name == CSP;
        if let Some(plan) = &self.data.options.split {
            config.split = plan.clone();
        }
        if name == SUPERVISED {
            // what pictures without labels tell is what the other is compared for
            config.finetune.pseudo_labels = 1.0;
        }
        config
    }

    /// Refuses runs that lie here finished and learned from other photographs.
    fn hold_runs_to_pictures(&self, figures: &Path) -> Result<(), SweepError> {
        for name in [CSP, SUPERVISED] {
            let run = self.dir.join(name);
            if self.is_finished(&run, &self.config(name)) && !self.shows_the_same(&run)? {
                let reason = format!("the run {name} beside it is of other photographs under the same names");
                return Err(SweepError::Stale { path: figures.into(), reason });
            }
        }
        Ok(())
    }

    /// Whether the photographs that a finished run learned from show what they showed it; true for a run
    /// that does not say.
    fn shows_the_same(&self, root: &Path) -> Result<bool, SweepError> {
        let failed = |source| SweepError::Train { run: root.into(), source };
        let run = RunDir::open(root).map_err(failed)?;
        let RowRoles { labelled, holdout, unlabelled, shielded } = run.rows().map_err(failed)?;
        let rows: BTreeSet<usize> = [labelled, holdout, unlabelled, shielded].concat().into_iter().collect();
        let files: Vec<PathBuf> =
            rows.into_iter().filter_map(|row| self.data.rows.get(row)?.image.clone()).collect();
        let Some(was) = run.pictures_sha256().filter(|_| !files.is_empty()) else { return Ok(true) };
        let input = TrainedModel::load(root, &self.options.device.device).map_err(failed)?.input;
        let cache = self.options.out.join("cache");
        fs::create_dir_all(&cache).map_err(|source| SweepError::Io { path: cache.clone(), source })?;
        let pixels =
            PixelCache::open(&cache, &files, &input, self.options.voice, &|| false).map_err(failed)?;
        Ok(pixels.is_some_and(|pixels| pixels.content() == was))
    }

    /// True for a run of this data, seed, ratio, device and `config` whose model is complete.
    fn is_finished(&self, run: &Path, config: &TrainConfig) -> bool {
        RunDir::open(run).is_ok_and(|run| {
            let info = run.info();
            info.data_sha256 == self.data.sha256
                && info.seed == self.seed
                && info.label_fraction == self.share
                && info.device == self.options.device.description
                && info.config == *config
                && run.model().join("model.json").is_file()
        })
    }

    fn open(&self, root: PathBuf) -> Result<Finished, SweepError> {
        let failed = |source| SweepError::Train { run: root.clone(), source };
        let device = self.options.device.device.clone();
        let model = TrainedModel::load(&root, &device).map_err(failed)?;
        let path = RunDir::open(&root).map_err(failed)?.model().join("image.safetensors");
        let image = match &model.image {
            Some(_) => {
                let bytes =
                    fs::read(&path).map_err(|source| SweepError::Io { path: path.clone(), source })?;
                Some(sha256_hex(&bytes))
            }
            None => None,
        };
        Ok(Finished { image, predictor: RunPredictor { model, device }, root })
    }

    /// A prior without a network, fitted to the labelled rows of the run, tuned and calibrated on what
    /// the run held out, as its own prior is.
    fn prior(
        &self,
        kind: Kind,
        run: &Finished,
        rows: &[(&Row, ClassId)],
        images: &[Option<Vec<f32>>],
    ) -> Result<Figures, SweepError> {
        let failed = |source| SweepError::Train { run: run.root.clone(), source };
        let used = RunDir::open(&run.root).and_then(|run| run.rows()).map_err(failed)?;
        let labels = &run.predictor.model.labels;
        let of = |rows: &[usize]| -> Vec<(&Row, ClassId)> {
            let row = |&row: &usize| {
                let row = self.data.rows.get(row)?;
                Some((row, labels.find(self.data.labels.name(row.class?))?))
            };
            rows.iter().filter_map(row).collect()
        };
        let (learned, held) = (of(&used.labelled), of(&used.holdout));
        // dates count for these priors where they do for the networks
        let seasonal = self.options.config.location.encoder.season();
        let situation = |row: &Row| {
            let here = row.situation()?;
            Some(if seasonal { here } else { Situation::undated(here.at) })
        };
        let seen: Vec<priors::Seen> =
            learned.iter().filter_map(|(row, class)| Some((situation(row)?, *class))).collect();
        let (finetune, holdout) = (&self.options.config.finetune, &self.options.config.holdout);
        let places: Vec<LatLon> = seen.iter().map(|(here, _)| here.at).collect();
        let folds = units::folds(&places, finetune.folds, self.seed, holdout.block_deg);
        let tuned = priors::tune(kind, &seen, labels.len(), &folds, finetune.balance);
        let often = finetune.balance.then(|| priors::frequencies(&seen, labels.len()));
        let presence =
            |row: &Row| Some(priors::presence(&tuned.prior.shares(situation(row)?), often.as_deref()));
        let pictured: Vec<(&Row, ClassId)> =
            held.iter().copied().filter(|(row, _)| row.image.is_some()).collect();
        let logits = image_logits(&run.predictor, &pictured, self.options.voice)?;
        let cases: Vec<Case> = (pictured.iter().zip(logits))
            .filter_map(|(&(row, class), logits)| {
                Some(Case { logits: logits?, presence: presence(row), class })
            })
            .collect();
        let placed = learned.iter().chain(&held).filter_map(|(row, _)| row.place);
        let cells: BTreeSet<Unit<'_>> =
            placed.map(|place| Unit::of_degrees(0, Some(place), holdout.block_deg)).collect();
        let unseen: &[Opinion] = &tuned.unseen;
        let fusion = if run.image.is_some() {
            calibrate(&cases, unseen, cells.len()).fusion
        } else {
            let of = |&(row, class): &(&Row, ClassId)| Some(Opinion::of(&presence(row)?, class));
            let held: Vec<Opinion> = held.iter().filter_map(of).collect();
            calibrate_prior(&held, unseen, cells.len()).fusion
        };
        let mut answers = Answers::default();
        let at_once = places_at_once(labels.len());
        for (rows, images) in rows.chunks(at_once).zip(images.chunks(at_once)) {
            let scored: Vec<Scored> = (rows.par_iter().zip(images))
                .map(|(&(row, truth), image)| Scored { truth, image: image.clone(), presence: presence(row) })
                .collect();
            answers.add(&fusion, scored);
        }
        let setting = tuned.prior.setting();
        let figures = of_answers(&fusion, &answers);
        self.options.voice.say(&format!("{kind:?}: {setting}; {}", figures.setting));
        Ok(Figures { setting: format!("{setting}; {}", figures.setting), ..figures })
    }
}

/// A run whose model is complete.
struct Finished {
    root: PathBuf,
    predictor: RunPredictor,
    /// Digest of the image network; `None` for a range model.
    image: Option<String>,
}

fn of_answers(fusion: &csp_models::fusion::Fusion, answers: &Answers) -> Figures {
    let alone: Vec<_> = answers.location.iter().copied().flatten().collect();
    Figures {
        fused: Measures::of(&answers.fused),
        alone: (!alone.is_empty()).then(|| Measures::of(&alone)),
        setting: format!(
            "T = {:.2}, w = {:.2}, floor = {:.3}",
            fusion.temperature, fusion.prior_weight, fusion.prior_floor
        ),
    }
}

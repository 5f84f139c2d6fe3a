//! Accuracy over label ratios and seeds: image only, supervised location, CSP.

use std::{
    fmt, fs, io,
    io::Write,
    path::{Path, PathBuf},
};

use csp_models::bundle::write_atomically;
use serde::{Deserialize, Serialize};

use super::{EvaluationError, RunPredictor, labelled, score, summarise};
use crate::{
    data::{Dataset, Split},
    plots::{self, Series},
    progress::Voice,
    training::{self, Chosen, TrainConfig, TrainError, TrainOptions, TrainedModel},
};

/// What to sweep over.
#[derive(Debug)]
pub struct SweepOptions<'a> {
    /// Shares of the training labels, each above 0 and up to 1.
    pub labels: &'a [f64],
    /// Seeds 0 to `seeds − 1`.
    pub seeds: u64,
    /// Split to report on.
    pub split: Split,
    /// Settings of every run.
    pub config: TrainConfig,
    /// Where to compute.
    pub device: Chosen,
    /// Folder of the results.
    pub out: &'a Path,
    /// An earlier sweep that trained the same backbones.
    pub backbones_of: Option<&'a Path>,
    /// What is said on the way.
    pub voice: Voice,
}

/// Why a sweep stopped.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// A run failed.
    #[error("{run}: {source}", run = .run.display())]
    Train {
        /// Its directory.
        run: PathBuf,
        /// Why.
        source: TrainError,
    },
    /// A model could not be evaluated.
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    /// A result could not be written.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A result of an earlier sweep that is not of this one.
    #[error("{path}: {reason}: give another -o, or remove it", path = .path.display())]
    Stale {
        /// The result.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// The picture could not be drawn.
    #[error(transparent)]
    Plot(#[from] plots::PlotError),
}

/// Top-1 accuracies of one (ratio, seed), 0 to 1.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Outcome {
    image: f64,
    supervised: f64,
    csp: f64,
    supervised_location: f64,
    csp_location: f64,
}

/// Folder of the runs with pre-training.
const CSP: &str = "csp";

/// `outcome.json`: figures, and what they are of.
#[derive(Debug, Serialize, Deserialize)]
struct Done {
    of: serde_json::Value,
    outcome: Outcome,
}

/// Picks a method's figure.
type Figure = fn(&Outcome) -> f64;

/// The columns of the table, and where their figures are.
const METHODS: [(&str, Figure); 5] = [
    ("image only", |o| o.image),
    ("supervised location, fused", |o| o.supervised),
    ("CSP, fused", |o| o.csp),
    ("supervised location alone", |o| o.supervised_location),
    ("CSP location alone", |o| o.csp_location),
];

/// Mean and standard deviation of every cell.
#[derive(Clone, Debug)]
pub struct SweepTable {
    seeds: u64,
    /// (share of labels, outcomes of the seeds)
    rows: Vec<(f64, Vec<Outcome>)>,
}

/// Trains and evaluates every (ratio, seed) that is not done yet, and writes table and picture.
///
/// # Errors
/// [`SweepError`]; what is done stays done.
pub fn run(data: &Dataset, options: &SweepOptions<'_>) -> Result<SweepTable, SweepError> {
    let rows = options.labels.iter().map(|&share| (share, Vec::new())).collect();
    let mut table = SweepTable { seeds: options.seeds, rows };
    // seeds outside: an unfinished sweep has figures for every ratio
    for seed in 0..options.seeds {
        for (share, outcomes) in &mut table.rows {
            outcomes.push(outcome(data, options, *share, seed)?);
        }
    }
    let write = |name: &str, text: String| {
        let path = options.out.join(name);
        write_atomically(&path, |out| out.write_all(text.as_bytes()))
            .map_err(|source| SweepError::Io { path: path.clone(), source })
    };
    write("table.md", table.to_string())?;
    write("table.csv", table.csv())?;
    let title = format!("Top-1 on {:?}, {} seeds", options.split, options.seeds).to_lowercase();
    plots::label_ratio_lines(&options.out.join("accuracy.svg"), &title, &table.series())?;
    Ok(table)
}

fn outcome(data: &Dataset, options: &SweepOptions<'_>, share: f64, seed: u64) -> Result<Outcome, SweepError> {
    let place = |sweep: &Path| sweep.join("runs").join(format!("labels-{share}-seed-{seed}"));
    let dir = place(options.out);
    let earlier = options.backbones_of.map(|sweep| place(sweep).join(CSP)).filter(|run| run.exists());
    let done = dir.join("outcome.json");
    let of = serde_json::json!({
        "data": data.sha256, "split": options.split, "device": options.device.description,
        "config": options.config, "tool": env!("CARGO_PKG_VERSION"),
    });
    if let Ok(bytes) = fs::read(&done) {
        let earlier: Done = serde_json::from_slice(&bytes)
            .map_err(|error| SweepError::Stale { path: done.clone(), reason: error.to_string() })?;
        if earlier.of != of {
            let reason = "it is of other data, settings, split or device".into();
            return Err(SweepError::Stale { path: done, reason });
        }
        return Ok(earlier.outcome);
    }
    let split = options.split;
    let train = |name: &str, pretrain: bool, backbone_of: Option<&Path>| {
        let out = dir.join(name);
        options.voice.say(&format!("\n{} labels {share}, seed {seed}", out.display()));
        let mut config = options.config.clone();
        config.pretrain.enabled = pretrain;
        let options = TrainOptions {
            out: &out,
            config,
            labels: share,
            seed,
            device: options.device.clone(),
            resume: out.join("run.json").exists(),
            voice: options.voice,
            cache: Some(options.out.join("cache")),
            backbone_of,
            stop: &|| false,
            stop_after_steps: None,
        };
        training::train(data, &options).map_err(|source| SweepError::Train { run: out.clone(), source })?;
        let device = options.device.device.clone();
        let model = TrainedModel::load(&out, &device)
            .map_err(|source| SweepError::Train { run: out.clone(), source })?;
        let predictor = RunPredictor { model, device };
        let rows = labelled(data, Some(split), &predictor.model.labels)?;
        let scored = score(&predictor, &rows, options.voice)?;
        Ok::<_, SweepError>((summarise(&predictor, &scored), out))
    };
    let (csp, run) = train(CSP, true, earlier.as_deref())?;
    let (supervised, _) = train("supervised", false, Some(&run))?;
    let top1 = |accuracy: Option<super::Accuracy>| accuracy.map_or(f64::NAN, |accuracy| accuracy.top1);
    let outcome = Outcome {
        image: top1(csp.image),
        supervised: supervised.fused.top1,
        csp: csp.fused.top1,
        csp_location: top1(csp.location),
        supervised_location: top1(supervised.location),
    };
    let json = serde_json::to_vec_pretty(&Done { of, outcome }).unwrap_or_default();
    write_atomically(&done, |out| out.write_all(&json))
        .map_err(|source| SweepError::Io { path: done.clone(), source })?;
    Ok(outcome)
}

impl SweepTable {
    /// (mean, standard deviation over the seeds) of a method.
    fn cell(outcomes: &[Outcome], figure: Figure) -> (f64, f64) {
        let n = outcomes.len() as f64;
        let mean = outcomes.iter().map(figure).sum::<f64>() / n;
        let squares: f64 = outcomes.iter().map(|outcome| (figure(outcome) - mean).powi(2)).sum();
        (mean, if outcomes.len() > 1 { (squares / (n - 1.0)).sqrt() } else { 0.0 })
    }

    /// The fused methods and the image alone, for a picture.
    fn series(&self) -> Vec<Series> {
        let series = METHODS.iter().take(3).map(|&(name, figure)| Series {
            name: name.into(),
            points: self
                .rows
                .iter()
                .map(|(share, outcomes)| {
                    let (mean, sd) = Self::cell(outcomes, figure);
                    (*share, mean, sd)
                })
                .collect(),
        });
        series.collect()
    }

    /// One line a (ratio, method): `labels,method,seeds,top1_mean,top1_sd`.
    fn csv(&self) -> String {
        let mut text = String::from("labels,method,seeds,top1_mean,top1_sd\n");
        for (share, outcomes) in &self.rows {
            for &(name, figure) in &METHODS {
                let (mean, sd) = Self::cell(outcomes, figure);
                text += &format!("{share},\"{name}\",{},{mean:.6},{sd:.6}\n", self.seeds);
            }
        }
        text
    }
}

impl fmt::Display for SweepTable {
    /// A Markdown table, top-1 in percent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Top-1 in %, mean ± standard deviation over {} seeds.\n", self.seeds)?;
        write!(f, "| labels |")?;
        METHODS.iter().try_for_each(|(name, _)| write!(f, " {name} |"))?;
        writeln!(f, "\n|---|{}", "---|".repeat(METHODS.len()))?;
        for (share, outcomes) in &self.rows {
            write!(f, "| {} % |", 100.0 * share)?;
            for &(_, figure) in &METHODS {
                let (mean, sd) = Self::cell(outcomes, figure);
                write!(f, " {:.1} ± {:.1} |", 100.0 * mean, 100.0 * sd)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

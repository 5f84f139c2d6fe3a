//! Runs a stage step by step: checkpoints, metrics, progress, interruption, loss watch. The stages
//! know nothing of any of these.

use std::{cell::Cell, collections::BTreeMap, fs, path::Path, time::Instant};

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::{
    TrainError,
    optim::AdamW,
    run_dir::{Metric, RunDir, StageInfo},
    weights::Weights,
};
use crate::progress::{Progress, Voice};

/// Steps between two readings of the loss: each reading waits for the device.
const READ_EVERY: u64 = 10;

/// What every stage is run with.
pub(crate) struct Context<'a> {
    pub run: &'a mut RunDir,
    /// Without autodiff.
    pub device: Device,
    pub voice: Voice,
    /// Steps between two checkpoints.
    pub every: u64,
    /// True when the user wants to stop.
    pub stop: &'a dyn Fn() -> bool,
    /// Steps left before an imaginary interruption; `None` for no limit.
    pub steps_left: Cell<Option<u64>>,
}

impl Context<'_> {
    /// Counts a step; true when to stop after it.
    fn spent(&self) -> bool {
        let left = self.steps_left.get().map(|left| left.saturating_sub(1));
        self.steps_left.set(left);
        left == Some(0) || (self.stop)()
    }
}

/// What a step reports.
pub(crate) struct Done {
    /// `[1]`, still on the device.
    pub loss: Tensor<1>,
    pub lr: f64,
    pub samples: usize,
}

/// A stage of training: a loop of steps with a state that can be saved between any two of them.
pub(crate) trait Stage {
    /// Its name in files and messages.
    fn name(&self) -> &'static str;
    /// Steps in all.
    fn steps(&self) -> u64;
    /// Steps of one pass over the rows.
    fn steps_per_epoch(&self) -> u64;
    /// Takes step `step`.
    fn step(&mut self, step: u64) -> Result<Done, TrainError>;
    /// Readings on the hold-out after `step` steps; empty unless it is time for them, which `step`
    /// alone decides.
    fn evaluate(&mut self, _step: u64) -> BTreeMap<String, f64> {
        BTreeMap::new()
    }
    /// What the optimizer remembers.
    fn optimizer(&mut self) -> &mut AdamW;
    /// Everything the steps to come depend on.
    fn save(&mut self, into: &mut Weights) {
        *into = self.result();
        self.optimizer().save("adam", into);
    }
    /// Goes back to a saved state after `step` steps.
    fn load(&mut self, from: &Weights, step: u64) -> Result<(), String>;
    /// The result, once all steps are done.
    fn result(&mut self) -> Weights;
}

/// Metadata of a checkpoint.
#[derive(Serialize, Deserialize)]
struct Meta {
    stage: String,
    step: u64,
}

fn meta(stage: &str, step: u64) -> String {
    serde_json::json!({ "stage": stage, "step": step }).to_string()
}

fn read(path: &Path, stage: &str) -> Result<(Weights, u64), TrainError> {
    let (weights, meta) = Weights::read(path)?;
    let meta: Meta = serde_json::from_str(&meta).map_err(|e| TrainError::corrupt(path, e))?;
    if meta.stage != stage {
        return Err(TrainError::corrupt(path, format!("it belongs to stage {}", meta.stage)));
    }
    Ok((weights, meta.step))
}

/// The result of a finished stage, if it is finished.
pub(crate) fn finished(run: &RunDir, stage: &str) -> Result<Option<Weights>, TrainError> {
    let path = run.finished(stage);
    if path.is_file() { read(&path, stage).map(|(weights, _)| Some(weights)) } else { Ok(None) }
}

/// Records the result of a stage that had nothing to learn.
pub(crate) fn keep(run: &RunDir, stage: &str, weights: &Weights) -> Result<(), TrainError> {
    weights.write(&run.finished(stage), &meta(stage, 0))
}

/// Runs a stage to its end, from its last checkpoint if there is one.
pub(crate) fn run(context: &mut Context<'_>, stage: &mut dyn Stage) -> Result<Weights, TrainError> {
    let name = stage.name();
    if let Some(weights) = finished(context.run, name)? {
        context.voice.say(&format!("{name:>18} done before"));
        return Ok(weights);
    }
    let under_way = context.run.under_way(name);
    let mut start = 0;
    if under_way.is_file() {
        let (weights, step) = read(&under_way, name)?;
        stage.load(&weights, step).map_err(|reason| TrainError::corrupt(&under_way, reason))?;
        start = step;
        context.voice.say(&format!("{name:>18} goes on at step {step} of {}", stage.steps()));
    }
    context.run.rewind_metrics(name, start)?;
    let took = steps(context, stage, start)?;
    let result = stage.result();
    // the last reading of the loss comes before the last step
    if let Some(value) = result.not_finite() {
        return Err(not_finite(context.run, name, stage.steps(), value));
    }
    result.write(&context.run.finished(name), &meta(name, stage.steps()))?;
    if under_way.is_file() {
        fs::remove_file(&under_way).map_err(TrainError::io(&under_way))?;
    }
    let info = StageInfo { steps: stage.steps(), seconds: took, ..StageInfo::default() };
    context.run.note(name, info)?;
    Ok(result)
}

fn not_finite(run: &RunDir, stage: &'static str, step: u64, loss: f32) -> TrainError {
    let kept = match read(&run.under_way(stage), stage) {
        Ok((_, step)) => format!("the checkpoint of step {step} is kept"),
        Err(_) => "there is no earlier checkpoint of this stage".into(),
    };
    TrainError::NotFinite { stage, step, loss, kept }
}

fn steps(context: &mut Context<'_>, stage: &mut dyn Stage, start: u64) -> Result<f64, TrainError> {
    let (name, total) = (stage.name(), stage.steps());
    let begun = Instant::now();
    let mut progress = Progress::new(context.voice, name, start, total);
    let mut sum: Option<Tensor<1>> = None;
    let (mut summed, mut samples, mut since) = (0u32, 0, Instant::now());
    let mut last = f64::NAN;
    let save = |context: &Context<'_>, stage: &mut dyn Stage, step| {
        let mut weights = Weights::default();
        stage.save(&mut weights);
        // a finite loss can still have made a step to infinity: never over the last good state
        match weights.not_finite() {
            Some(value) => Err(not_finite(context.run, name, step, value)),
            None => weights.write(&context.run.under_way(name), &meta(name, step)),
        }
    };
    for step in start..total {
        let done = stage.step(step)?;
        let after = step + 1;
        let loss = done.loss.inner();
        sum = Some(sum.map_or(loss.clone(), |sum| sum + loss));
        summed += 1;
        samples += done.samples;
        let holdout = stage.evaluate(after);
        let stop = context.spent() && after < total;
        let checkpoint = after.is_multiple_of(context.every) && after < total;
        if after.is_multiple_of(READ_EVERY) || after == total || stop || checkpoint {
            let mean = sum.take().map_or(f32::NAN, |sum| sum.into_scalar::<f32>() / summed as f32);
            if !mean.is_finite() {
                return Err(not_finite(context.run, name, after, mean));
            }
            last = f64::from(mean);
            let epoch = after as f64 / stage.steps_per_epoch() as f64;
            let samples_per_s = samples as f64 / since.elapsed().as_secs_f64().max(1e-9);
            context.run.metric(&Metric {
                stage: name.into(),
                step: after,
                epoch,
                loss: last,
                lr: done.lr,
                samples_per_s,
                wall_s: begun.elapsed().as_secs_f64(),
                holdout,
            })?;
            progress.at(after, || format!("loss {last:.4} epoch {epoch:.1} {samples_per_s:.0} rows/s"));
            (summed, samples, since) = (0, 0, Instant::now());
        }
        if checkpoint || stop {
            save(context, stage, after)?;
        }
        if stop {
            return Err(TrainError::Interrupted { stage: name, step: after });
        }
    }
    let took = begun.elapsed().as_secs_f64();
    progress.done(&format!("{total} steps, loss {last:.4}"));
    Ok(took)
}

//! Runs a stage step by step: checkpoints, metrics, progress, interruption, loss watch. The stages
//! know nothing of any of these.

use std::{cell::Cell, collections::BTreeMap, fs, path::Path, time::Instant};

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::{
    TrainError,
    guard::{on_device, short_of_memory},
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
    /// Further devices, for the stages that can use them.
    pub more: Vec<Device>,
    pub voice: Voice,
    /// Steps between two checkpoints.
    pub every: u64,
    /// True when the user wants to stop.
    pub stop: &'a dyn Fn() -> bool,
    /// Steps left before an imaginary interruption; `None` for no limit.
    pub steps_left: Cell<Option<u64>>,
}

impl Context<'_> {
    /// Whether a device can fail in the middle of a stage.
    pub fn fragile(&self) -> bool {
        self.more.iter().chain([&self.device]).any(|device| *device != Device::flex())
    }

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
    /// Makes do with half the memory in the steps to come; false if it cannot.
    fn halve(&mut self) -> bool {
        false
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
    let mut first = Weights::default();
    if context.fragile() {
        let (reached, kept) = (start, kept(context.run, name));
        on_device(true, || stage.save(&mut first)).map_err(|reason| TrainError::DeviceLost {
            stage: name,
            step: reached,
            reason,
            kept,
        })?;
    }
    let took = match steps(context, stage, start) {
        // once: a device that fails again has more than too little memory
        Err(TrainError::DeviceLost { step, reason, .. }) if short_of_memory(&reason) && stage.halve() => {
            context
                .voice
                .say(&format!("{name:>18} out of memory in step {step}: on with half as much at once"));
            let (state, at) = if under_way.is_file() { read(&under_way, name)? } else { (first, start) };
            stage.load(&state, at).map_err(|reason| TrainError::corrupt(&under_way, reason))?;
            // pages as large as the largest tensor so far would leave no room for the smaller ones to come
            context.device.memory_cleanup();
            context.run.rewind_metrics(name, at)?;
            steps(context, stage, at)?
        }
        took => took?,
    };
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
    if context.fragile() {
        context.device.memory_cleanup();
    }
    Ok(result)
}

/// Which state a failure leaves.
fn kept(run: &RunDir, stage: &'static str) -> String {
    match read(&run.under_way(stage), stage) {
        Ok((_, step)) => format!("the checkpoint of step {step} is kept"),
        Err(_) => "there is no earlier checkpoint of this stage".into(),
    }
}

fn not_finite(run: &RunDir, stage: &'static str, step: u64, loss: f32) -> TrainError {
    TrainError::NotFinite { stage, step, loss, kept: kept(run, stage) }
}

fn steps(context: &mut Context<'_>, stage: &mut dyn Stage, start: u64) -> Result<f64, TrainError> {
    let (name, total) = (stage.name(), stage.steps());
    let begun = Instant::now();
    let mut progress = Progress::new(context.voice, name, start, total);
    let mut sum: Option<Tensor<1>> = None;
    let (mut summed, mut samples, mut since) = (0u32, 0, Instant::now());
    let mut last = f64::NAN;
    let fragile = context.fragile();
    let lost = |context: &Context<'_>, step: u64, reason: String| TrainError::DeviceLost {
        stage: name,
        step,
        reason,
        kept: kept(context.run, name),
    };
    let save = |context: &Context<'_>, stage: &mut dyn Stage, step| {
        let mut weights = Weights::default();
        on_device(fragile, || stage.save(&mut weights)).map_err(|reason| lost(context, step, reason))?;
        // a finite loss can still have made a step to infinity: never over the last good state
        match weights.not_finite() {
            Some(value) => Err(not_finite(context.run, name, step, value)),
            None => weights.write(&context.run.under_way(name), &meta(name, step)),
        }
    };
    for step in start..total {
        let after = step + 1;
        let done =
            on_device(fragile, || stage.step(step)).map_err(|reason| lost(context, after, reason))??;
        let loss = done.loss.inner();
        sum = Some(sum.map_or(loss.clone(), |sum| sum + loss));
        summed += 1;
        samples += done.samples;
        let holdout =
            on_device(fragile, || stage.evaluate(after)).map_err(|reason| lost(context, after, reason))?;
        let stop = context.spent() && after < total;
        let checkpoint = after.is_multiple_of(context.every) && after < total;
        if after.is_multiple_of(READ_EVERY) || after == total || stop || checkpoint {
            let sum = sum.take();
            let read = || sum.map_or(f32::NAN, |sum| sum.into_scalar::<f32>() / summed as f32);
            let mean = on_device(fragile, read).map_err(|reason| lost(context, after, reason))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        data::{Dataset, Options},
        training::{TrainConfig, optim::AdamWConfig, roles::RowRoles, run_dir::RunInfo, weights::Array},
    };

    /// Counts its steps; its loss is NaN in one of them.
    struct Counter {
        count: f32,
        nan_at: Option<u64>,
        /// Fails there for want of memory, until it was halved so often.
        full_at: Option<(u64, usize)>,
        optimizer: AdamW,
    }

    impl Counter {
        fn new(nan_at: Option<u64>) -> Self {
            Self { count: 0.0, nan_at, full_at: None, optimizer: AdamW::new(AdamWConfig::default()) }
        }
    }

    impl Stage for Counter {
        fn name(&self) -> &'static str {
            "pretrain"
        }
        fn steps(&self) -> u64 {
            50
        }
        fn steps_per_epoch(&self) -> u64 {
            10
        }
        fn step(&mut self, step: u64) -> Result<Done, TrainError> {
            self.count += 1.0;
            if self.full_at.is_some_and(|(at, halvings)| at == step && halvings > 0) {
                let (reason, kept) = ("Out of memory".to_string(), "nothing is kept".to_string());
                return Err(TrainError::DeviceLost { stage: "pretrain", step, reason, kept });
            }
            let loss = if self.nan_at == Some(step) { f32::NAN } else { self.count };
            let loss = Tensor::<1>::from_data([loss], &Device::flex().autodiff());
            Ok(Done { loss, lr: 0.1, samples: 1 })
        }
        fn optimizer(&mut self) -> &mut AdamW {
            &mut self.optimizer
        }
        fn halve(&mut self) -> bool {
            if let Some((_, halvings)) = &mut self.full_at {
                *halvings -= 1;
            }
            true
        }
        fn load(&mut self, from: &Weights, _step: u64) -> Result<(), String> {
            self.count = from.0["count"].values[0];
            Ok(())
        }
        fn result(&mut self) -> Weights {
            Weights([("count".to_string(), Array { shape: vec![1], values: vec![self.count] })].into())
        }
    }

    fn go(dir: &Path, stage: &mut Counter) -> Result<Weights, TrainError> {
        let data = Dataset {
            source: "d.csv".into(),
            rows: Vec::new(),
            labels: csp_models::labels::Labels::default(),
            options: Options::default(),
            sha256: String::new(),
        };
        let info = RunInfo::new(&data, 1, 1.0, "flex".into(), TrainConfig::default());
        let roles = RowRoles::default();
        let mut run = if dir.join("run.json").exists() {
            RunDir::resume(dir, &info, &roles)?
        } else {
            RunDir::create(dir, info, &roles)?
        };
        let mut context = Context {
            run: &mut run,
            device: Device::flex(),
            more: Vec::new(),
            voice: Voice::Silent,
            every: 10,
            stop: &|| false,
            steps_left: Cell::new(None),
        };
        super::run(&mut context, stage)
    }

    #[test]
    fn a_nan_stops_the_stage_at_its_last_good_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        let error = go(&run, &mut Counter::new(Some(24))).unwrap_err().to_string();
        assert!(
            error.contains("NaN at step 30") && error.contains("the checkpoint of step 20 is kept"),
            "{error}"
        );
        let checkpoint = read(&run.join("checkpoints/pretrain.step.safetensors"), "pretrain").unwrap();
        assert_eq!((checkpoint.0.0["count"].values[0], checkpoint.1), (20.0, 20));
        // and from there it goes on as if nothing had been
        assert_eq!(go(&run, &mut Counter::new(None)).unwrap().0["count"].values, [50.0]);

        let early = go(&dir.path().join("early"), &mut Counter::new(Some(3))).unwrap_err().to_string();
        assert!(early.contains("no earlier checkpoint"), "{early}");
    }

    #[test]
    fn out_of_memory_is_tried_again_with_half_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut once = Counter { full_at: Some((24, 1)), ..Counter::new(None) };
        assert_eq!(go(&dir.path().join("once"), &mut once).unwrap().0["count"].values, [50.0]);
        let metrics = fs::read_to_string(dir.path().join("once/metrics.jsonl")).unwrap();
        assert_eq!(metrics.lines().count(), 5, "no step is reported twice");
        let mut twice = Counter { full_at: Some((24, 2)), ..Counter::new(None) };
        let error = go(&dir.path().join("twice"), &mut twice).unwrap_err().to_string();
        assert!(error.contains("Out of memory") && error.contains("halve pretrain.batch"), "{error}");
    }

    #[test]
    fn a_device_that_fails_says_what_to_do() {
        let error = |stage: &'static str, reason: &str| {
            let (reason, kept) = (reason.to_string(), "the checkpoint of step 20 is kept".to_string());
            TrainError::DeviceLost { stage, step: 30, reason, kept }.to_string()
        };
        for (stage, fix) in [
            ("pretrain", "halve pretrain.batch"),
            ("fold-2", "halve finetune.batch"),
            ("modulate", "halve image.modulation.batch"),
            ("joint", "halve joint.micro_batch"),
            ("probe", "--device cpu"),
        ] {
            let error = error(stage, "Out of memory");
            assert!(error.contains(fix), "{error}");
        }
        let lost = error("pretrain", "device lost");
        assert!(lost.contains("step 20 is kept. Go on with --resume"), "{lost}");
    }
}

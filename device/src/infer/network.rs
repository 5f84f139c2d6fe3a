//! One network of a bundle, from its bytes to its logits.

use std::{
    any::Any,
    borrow::Cow,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use prost::Message;
use tract_onnx::{Onnx, pb::ModelProto, prelude::*};

use super::{
    EngineOptions, InferError,
    lower::{self, Line, Lowered, Target},
    profile::{self, Contract},
};

use crate::kernels::pool::Pool;

/// tract's ONNX reader as we use it.
pub(super) fn tract_parser() -> Onnx {
    let mut onnx = tract_onnx::onnx().with_ignore_value_info(true);
    onnx.use_output_shapes = false;
    onnx
}

/// One network, planned.
#[derive(Debug)]
pub(super) struct Network {
    file: &'static str,
    shape: Vec<usize>,
    classes: usize,
    plan: Arc<TypedRunnableModel>,
    /// What runs each node.
    pub lines: Vec<Line>,
    /// Integer kernels in use.
    pub kernels: Option<&'static str>,
    pool: Arc<Pool>,
}

impl Network {
    /// Reads, checks, lowers and plans a network; `options.plain` leaves the lowering out.
    pub fn load(
        bytes: Cow<'_, [u8]>,
        file: &'static str,
        contract: &Contract,
        options: EngineOptions,
        target: &Target,
    ) -> Result<Self, InferError> {
        let load = || -> Result<Self, InferError> {
            let model = ModelProto::decode(&*bytes)
                .map_err(|error| InferError::Decode { file, reason: error.to_string() })?;
            drop(bytes);
            let values =
                profile::check(&model, contract).map_err(|source| InferError::Profile { file, source })?;
            // the last cause: tract's first line only names the step
            let fail = |error: TractError| InferError::Load { file, reason: format!("{error:#}") };
            let Lowered { model: ours, lines } = match options.plain {
                true => {
                    let graph = model.graph.as_ref();
                    let lines = graph.map_or(vec![], |graph| Line::all_tract(graph, "as asked for"));
                    Lowered { model: None, lines }
                }
                false => lower::lower(&model, &values, target).map_err(fail)?,
            };
            drop(values);
            let (model, kernels) = match ours {
                Some(ours) => (ours, Some(target.kernels.name)),
                None => {
                    let parsed = tract_parser().model_for_proto_model(&model).map_err(fail)?;
                    // One copy of the weights less while the optimiser makes its own.
                    drop(model);
                    (parsed.into_optimized().map_err(fail)?, None)
                }
            };
            let plan = model.into_runnable().map_err(fail)?;
            let (shape, classes) = (contract.input.clone(), contract.classes);
            let pool = Arc::clone(&target.pool);
            Ok(Self { file, shape, classes, plan, lines, kernels, pool })
        };
        catch_unwind(AssertUnwindSafe(load))
            .unwrap_or_else(|panic| Err(InferError::Load { file, reason: panic_text(&*panic) }))
    }

    /// Threads that share it: tract's own operators run in one.
    pub fn threads(&self) -> usize {
        if self.kernels.is_some() { self.pool.threads() } else { 1 }
    }

    /// Operators in the order they run.
    pub fn operators(&self) -> Vec<String> {
        let model = self.plan.model();
        let operators = model.nodes().iter().map(|node| {
            let info = node.op.info().unwrap_or_default();
            std::iter::once(node.op.name().to_string()).chain(info)
        });
        operators.flatten().collect()
    }

    /// Time of each step, where our kernels run all of it.
    pub fn step_times(&self, input: &[i8]) -> Option<Vec<(String, &'static str, Duration)>> {
        let ours = self.lines.iter().all(|line| line.engine != "tract");
        lower::step_times(self.plan.model(), input).filter(|_| ours)
    }

    /// Logits of one input.
    pub fn run<T: Datum + Copy>(&self, input: &[T]) -> Result<Vec<f32>, InferError> {
        let run = || -> TractResult<Vec<f32>> {
            let input = Tensor::from_shape(&self.shape, input)?;
            let outputs = self.plan.run(tvec!(input.into_tvalue()))?;
            let output = outputs.first().ok_or_else(|| anyhow::anyhow!("no output"))?;
            Ok(output.try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
        };
        let fail = |reason: String| InferError::Run { file: self.file, reason };
        let logits = catch_unwind(AssertUnwindSafe(run))
            .map_err(|panic| fail(panic_text(&*panic)))?
            .map_err(|error| fail(format!("{error:#}")))?;
        if logits.len() != self.classes {
            return Err(fail(format!("{} logits for {} classes", logits.len(), self.classes)));
        }
        if logits.iter().any(|logit| !logit.is_finite()) {
            return Err(fail("its output holds NaN or infinity".to_string()));
        }
        Ok(logits)
    }
}

/// The message of a caught panic.
fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("it panicked: {}", text.unwrap_or_else(|| "no message".to_string()))
}

//! A lowered region as one operator of tract.

use std::sync::Arc;

use tract_onnx::tract_core::{
    as_op,
    internal::{
        DatumType, EvalContext, EvalOp, Op, StaticName, TValue, TVec, Tensor, TractResult, TypedFact, TypedOp,
    },
    not_out_of_plan, op_as_typed_op,
};

use tract_onnx::prelude::DatumTypeExt;

use super::plan::{Given, Plan, Vector};

/// One node of tract's graph that runs a [`Plan`].
#[derive(Clone, Debug)]
pub(super) struct Int8Region {
    pub plan: Arc<Plan>,
    /// Format and shape of each output.
    pub outputs: Vec<(DatumType, Vec<usize>)>,
}

impl PartialEq for Int8Region {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.plan, &other.plan)
    }
}

impl Eq for Int8Region {}

impl Op for Int8Region {
    fn name(&self) -> StaticName {
        "CspInt8Region".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        Ok(self.plan.steps().map(|(name, kind)| format!("{name}: {kind}")).collect())
    }

    op_as_typed_op!();
}

impl EvalOp for Int8Region {
    not_out_of_plan!();

    fn eval(&self, _: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let mut given = Vec::new();
        for input in &inputs {
            let tensor = input.try_as_plain_ram()?;
            given.push(match input.datum_type() {
                DatumType::I8 => Given::I8(tensor.as_slice()?),
                DatumType::I32 => Given::I32(tensor.as_slice()?),
                _ => Given::F32(tensor.as_slice()?),
            });
        }
        let given = self.plan.run(&given, None);
        let vectors = given.ok_or_else(|| anyhow::anyhow!("a tensor is not the one planned for"))?;
        let tensors = vectors.into_iter().zip(&self.outputs).map(|(vector, (_, shape))| {
            Ok(match vector {
                Vector::F32(numbers) => Tensor::from_shape(shape, &numbers)?,
                Vector::I8(numbers) => Tensor::from_shape(shape, &numbers)?,
                Vector::I32(numbers) => Tensor::from_shape(shape, &numbers)?,
            }
            .into())
        });
        tensors.collect()
    }
}

impl TypedOp for Int8Region {
    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(self.outputs.iter().map(|(format, shape)| format.fact(&shape[..])).collect())
    }

    as_op!();
}

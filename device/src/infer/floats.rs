//! Makes f32 networks on x86-64 faster than tract's own operators do: depthwise convolutions, with the
//! activation behind them, run in our kernel.
//!
//! tract walks such a layer pixel by pixel, and its activation in passes over the whole tensor after it;
//! on ARM it lays the network out channels-last and is fast, so that nothing is replaced there. Everything
//! else stays tract's: its products of matrices are as fast as others'. The sums are those of tract up to
//! their rounding.

use std::collections::BTreeSet;

use tract_onnx::{
    prelude::*,
    tract_core::{
        as_op,
        internal::{EvalContext, EvalOp, Op, StaticName},
        not_out_of_plan, op_as_typed_op,
        ops::{
            binary::TypedBinOp,
            cnn::{Conv, KernelFormat},
            nn::DataFormat,
        },
    },
};

use crate::kernels::floats::{Depthwise, Shape};

/// One depthwise convolution of tract's graph.
#[derive(Clone, Debug, PartialEq)]
struct FloatDepthwise(Arc<Depthwise>);

// its numbers are finite: the profile lets no others through
impl Eq for FloatDepthwise {}

impl FloatDepthwise {
    fn shape(&self) -> [usize; 4] {
        let Shape { channels, output: [height, width], .. } = self.0.shape;
        [1, channels, height, width]
    }
}

impl Op for FloatDepthwise {
    fn name(&self) -> StaticName {
        "CspFloatDepthwise".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        Ok(vec![format!("{:?} within {:?}", self.0.shape, self.0.range)])
    }

    op_as_typed_op!();
}

impl EvalOp for FloatDepthwise {
    not_out_of_plan!();

    fn eval(&self, _: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = inputs.first().ok_or_else(|| anyhow::anyhow!("no input"))?;
        let x = input.try_as_plain_ram()?.as_slice::<f32>()?;
        let Shape { channels, input: [height, width], .. } = self.0.shape;
        anyhow::ensure!(x.len() == channels * height * width, "a tensor is not the one planned for");
        let mut out = vec![0f32; self.shape().iter().product()];
        self.0.run(x, &mut out);
        Ok(tvec!(Tensor::from_shape(&self.shape(), &out)?.into_tvalue()))
    }
}

impl TypedOp for FloatDepthwise {
    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(self.shape())))
    }

    as_op!();
}

/// The optimised model, and the names of the layers that our kernel runs and of those that became part
/// of them.
#[derive(Debug)]
pub(super) struct Floats {
    pub model: TypedModel,
    pub ours: BTreeSet<String>,
    pub fused: BTreeSet<String>,
}

/// Replaces what is faster so, and optimises the rest.
///
/// # Errors
/// tract refuses the model.
pub(super) fn optimized(model: TypedModel, replace: bool) -> TractResult<Floats> {
    let mut floats = Floats { model, ours: BTreeSet::new(), fused: BTreeSet::new() };
    if replace {
        floats.model = floats.model.into_decluttered()?;
        let convolutions: Vec<usize> =
            floats.model.nodes().iter().filter(|node| node.op_is::<Conv>()).map(|node| node.id).collect();
        for at in convolutions {
            floats.replace(at)?;
        }
    }
    floats.model = floats.model.into_optimized()?;
    Ok(floats)
}

impl Floats {
    fn replace(&mut self, at: usize) -> TractResult<()> {
        let model = &self.model;
        let Some(mut layer) = depthwise(model, at) else { return Ok(()) };
        let mut last = at;
        let mut fused = Vec::new();
        while let Some((next, side, bound)) = bound_behind(model, last) {
            // a lower bound after an upper one, or the other way round: each holds what came before
            layer.range = match side {
                Side::Low => layer.range.map(|end| end.max(bound)),
                Side::High => layer.range.map(|end| end.min(bound)),
            };
            fused.push(model.node(next).name.clone());
            last = next;
        }
        let name = model.node(at).name.clone();
        let mut patch = TypedModelPatch::new("depthwise in f32");
        let x = patch.tap_model(model, model.node(at).inputs[0])?;
        let made = patch.wire_node(&name, FloatDepthwise(Arc::new(layer)), &[x])?;
        patch.shunt_outside(model, last.into(), made[0])?;
        patch.apply(&mut self.model)?;
        self.ours.insert(name);
        // tract names the two halves of `clip` `clip.min` and `clip.max`
        self.fused.extend(fused.iter().map(|name| {
            let whole = name.strip_suffix(".min").or_else(|| name.strip_suffix(".max"));
            whole.unwrap_or(name).to_string()
        }));
        Ok(())
    }
}

/// A node as a layer of ours, if it is one that our kernel does faster.
fn depthwise(model: &TypedModel, at: usize) -> Option<Depthwise> {
    let node = model.node(at);
    let conv = node.op_as::<Conv>()?;
    let spec = &conv.pool_spec;
    let input = model.outlet_fact(*node.inputs.first()?).ok()?;
    let (&[1, channels, height, width], [kernel_high, kernel_wide]) =
        (input.shape.as_concrete()?, &spec.kernel_shape[..])
    else {
        return None;
    };
    let plain = conv.q_params.is_none()
        && input.datum_type == DatumType::F32
        && spec.data_format == DataFormat::NCHW
        && conv.kernel_fmt == KernelFormat::OIHW
        && conv.group == channels
        && spec.output_channels == channels
        && spec.dilations().iter().all(|&dilation| dilation == 1);
    let (kernel, strides) = ([*kernel_high, *kernel_wide], spec.strides());
    let &[stride, across] = &*strides else { return None };
    if !plain || channels == 1 || stride != across || node.inputs.len() != 3 {
        return None;
    }
    let constant = |slot: usize| {
        let tensor = model.outlet_fact(node.inputs[slot]).ok()?.konst.clone()?;
        tensor.try_as_plain_ram().ok()?.as_slice::<f32>().ok().map(<[f32]>::to_vec)
    };
    let (weights, mut bias) = (constant(1)?, constant(2)?);
    if let &[one] = &bias[..] {
        bias = vec![one; channels];
    }
    let padding = spec.computed_padding(&[height, width]);
    let [rows, columns] = &padding[..] else { return None };
    let shape = Shape {
        channels,
        input: [height, width],
        output: [rows.convoluted, columns.convoluted],
        kernel,
        before: [rows.pad_before, columns.pad_before],
        stride,
    };
    let layer = Depthwise { shape, weights, bias, range: [f32::NEG_INFINITY, f32::INFINITY] };
    layer.fits().then_some(layer)
}

enum Side {
    Low,
    High,
}

/// The one node that reads this one, if it holds it above or below a constant.
fn bound_behind(model: &TypedModel, at: usize) -> Option<(usize, Side, f32)> {
    let outlet = OutletId::from(at);
    let [reader] = &model.outlet_successors(outlet)[..] else { return None };
    if model.output_outlets().ok()?.contains(&outlet) {
        return None;
    }
    let node = model.node(reader.node);
    let side = match &*node.op_as::<TypedBinOp>()?.0.name() {
        "Max" => Side::Low,
        "Min" => Side::High,
        _ => return None,
    };
    let other = node.inputs.get(1 - reader.slot)?;
    let constant = model.outlet_fact(*other).ok()?.konst.clone()?;
    match *constant.try_as_plain_ram().ok()?.as_slice::<f32>().ok()? {
        [bound] => Some((reader.node, side, bound)),
        _ => None,
    }
}

//! Arithmetic, functions, and the activations that ONNX has to be built for.

use burn_ir::{
    BinaryOpIr, FloatOperationIr as Float, NumericOperationIr as Numeric, ScalarIr, ScalarOpIr, UnaryOpIr,
};

use super::{super::graph::Attribute, Lowered, Lowering};

impl Lowering<'_> {
    pub(super) fn unary(&mut self, onnx: &'static str, op: &UnaryOpIr) -> Lowered {
        let inputs = vec![self.name(&op.input)?];
        self.emit(onnx, inputs, &op.out, [])
    }

    fn binary(&mut self, onnx: &'static str, op: &BinaryOpIr) -> Lowered {
        let inputs = vec![self.name(&op.lhs)?, self.name(&op.rhs)?];
        self.emit(onnx, inputs, &op.out, [])
    }

    fn with_scalar(&mut self, onnx: &'static str, op: &ScalarOpIr) -> Lowered {
        let inputs = vec![self.name(&op.lhs)?, self.scalar(op.rhs)];
        self.emit(onnx, inputs, &op.out, [])
    }

    /// ½ x (1 + erf(x / √2)): opset 17 has no Gelu.
    pub(super) fn gelu(&mut self, op: &UnaryOpIr) -> Lowered {
        let x = self.name(&op.input)?;
        let shape = Self::dims(&op.out);
        let [root, one, half] =
            [std::f64::consts::SQRT_2, 1.0, 0.5].map(|value| self.scalar(ScalarIr::Float(value)));
        let scaled = self.emit_inner("Div", vec![x.clone(), root], &shape, []);
        let erf = self.emit_inner("Erf", vec![scaled], &shape, []);
        let gate = self.emit_inner("Add", vec![erf, one], &shape, []);
        let gated = self.emit_inner("Mul", vec![x, gate], &shape, []);
        self.emit("Mul", vec![gated, half], &op.out, [])
    }

    pub(super) fn numeric(&mut self, op: &Numeric) -> Lowered {
        match op {
            Numeric::Add(op) => self.binary("Add", op),
            Numeric::AddScalar(op) => self.with_scalar("Add", op),
            Numeric::Sub(op) => self.binary("Sub", op),
            Numeric::SubScalar(op) => self.with_scalar("Sub", op),
            Numeric::Mul(op) => self.binary("Mul", op),
            Numeric::MulScalar(op) => self.with_scalar("Mul", op),
            Numeric::Div(op) => self.binary("Div", op),
            Numeric::DivScalar(op) => self.with_scalar("Div", op),
            Numeric::PowiScalar(op) => self.with_scalar("Pow", op),
            Numeric::Abs(op) => self.unary("Abs", op),
            Numeric::Neg(op) => self.unary("Neg", op),
            Numeric::Clamp(op) => {
                let inputs = vec![self.name(&op.tensor)?, self.scalar(op.min), self.scalar(op.max)];
                self.emit("Clip", inputs, &op.out, [])
            }
            Numeric::ClampMin(op) => match op.rhs.elem::<f32>() {
                0.0 => {
                    let inputs = vec![self.name(&op.lhs)?];
                    self.emit("Relu", inputs, &op.out, [])
                }
                _ => self.with_scalar("Clip", op),
            },
            Numeric::ClampMax(op) => {
                // an absent minimum is an empty name
                let inputs = vec![self.name(&op.lhs)?, String::new(), self.scalar(op.rhs)];
                self.emit("Clip", inputs, &op.out, [])
            }
            Numeric::MeanDim(op) => {
                let attributes =
                    [("axes", Attribute::Ints(vec![op.axis as i64])), ("keepdims", Attribute::Int(1))];
                let inputs = vec![self.name(&op.input)?];
                self.emit("ReduceMean", inputs, &op.out, attributes)
            }
            Numeric::SumDim(op) => self.sum(&op.input, &op.out, &[op.axis]),
            Numeric::SumDims(op) => self.sum(&op.input, &op.out, &op.axes),
            _ => None,
        }
    }

    pub(super) fn float(&mut self, op: &Float) -> Lowered {
        match op {
            Float::Exp(op) => self.unary("Exp", op),
            Float::Log(op) => self.unary("Log", op),
            Float::Sqrt(op) => self.unary("Sqrt", op),
            Float::Erf(op) => self.unary("Erf", op),
            Float::Tanh(op) => self.unary("Tanh", op),
            Float::Sin(op) => self.unary("Sin", op),
            Float::Cos(op) => self.unary("Cos", op),
            Float::Recip(op) => self.unary("Reciprocal", op),
            Float::PowfScalar(op) => self.with_scalar("Pow", op),
            Float::Matmul(op) => {
                let inputs = vec![self.name(&op.lhs)?, self.name(&op.rhs)?];
                self.emit("MatMul", inputs, &op.out, [])
            }
            _ => None,
        }
    }
}

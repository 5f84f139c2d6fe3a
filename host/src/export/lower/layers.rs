//! Convolution, normalisation, linear layers, pooling.

use burn_ir::{
    AdaptiveAvgPool2dOpIr, AvgPool2dOpIr, BatchNormOpIr, Conv2dOpIr, LayerNormOpIr, LinearOpIr, MaxPool2dOpIr,
};

use super::{super::graph::Attribute, Lowered, Lowering, ints};

impl Lowering<'_> {
    /// burn's weight is `[out, in / groups, kernel, kernel]`, as ONNX's.
    pub(super) fn conv2d(&mut self, op: &Conv2dOpIr) -> Lowered {
        let mut inputs = vec![self.name(&op.x)?, self.name(&op.weight)?];
        if let Some(bias) = &op.bias {
            inputs.push(self.name(bias)?);
        }
        let options = &op.options;
        let [(top, bottom), (left, right)] = options.padding;
        let attributes = [
            ("kernel_shape", ints(&Self::dims(&op.weight)[2..])),
            ("strides", ints(&options.stride)),
            ("pads", ints(&[top, left, bottom, right])),
            ("dilations", ints(&options.dilation)),
            ("group", Attribute::Int(options.groups as i64)),
        ];
        self.emit("Conv", inputs, &op.out, attributes)
    }

    pub(super) fn batch_norm(&mut self, op: &BatchNormOpIr) -> Lowered {
        let operands = [&op.x, &op.gamma, &op.beta, &op.mean, &op.variance];
        let inputs = operands.into_iter().map(|tensor| self.name(tensor)).collect::<Option<_>>()?;
        let epsilon = Attribute::Float(op.epsilon.elem());
        self.emit("BatchNormalization", inputs, &op.out, [("epsilon", epsilon)])
    }

    /// Over the last axis.
    pub(super) fn layer_norm(&mut self, op: &LayerNormOpIr) -> Lowered {
        let mut inputs = vec![self.name(&op.input)?, self.name(&op.gamma)?];
        if let Some(beta) = &op.beta {
            inputs.push(self.name(beta)?);
        }
        let attributes = [("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(op.epsilon.elem()))];
        self.emit("LayerNormalization", inputs, &op.out, attributes)
    }

    /// burn's weight is `[in, out]`: Gemm without transposition.
    pub(super) fn linear(&mut self, op: &LinearOpIr) -> Lowered {
        let mut inputs = vec![self.name(&op.x)?, self.name(&op.weight)?];
        let bias = match &op.bias {
            Some(bias) => Some(self.name(bias)?),
            None => None,
        };
        if Self::dims(&op.x).len() == 2 {
            inputs.extend(bias);
            return self.emit("Gemm", inputs, &op.out, []);
        }
        match bias {
            None => self.emit("MatMul", inputs, &op.out, []),
            Some(bias) => {
                let product = self.emit_inner("MatMul", inputs, &Self::dims(&op.out), []);
                self.emit("Add", vec![product, bias], &op.out, [])
            }
        }
    }

    /// To 1 × 1 only: other sizes have no ONNX operator.
    pub(super) fn adaptive_average(&mut self, op: &AdaptiveAvgPool2dOpIr) -> Lowered {
        let inputs = vec![self.name(&op.x)?];
        match op.output_size {
            [1, 1] => self.emit("GlobalAveragePool", inputs, &op.out, []),
            _ => None,
        }
    }

    pub(super) fn average_pool(&mut self, op: &AvgPool2dOpIr) -> Lowered {
        let [height, width] = op.padding;
        let attributes = [
            ("kernel_shape", ints(&op.kernel_size)),
            ("strides", ints(&op.stride)),
            ("pads", ints(&[height, width, height, width])),
            ("ceil_mode", Attribute::Int(i64::from(op.ceil_mode))),
            ("count_include_pad", Attribute::Int(i64::from(op.count_include_pad))),
        ];
        let inputs = vec![self.name(&op.x)?];
        self.emit("AveragePool", inputs, &op.out, attributes)
    }

    pub(super) fn max_pool(&mut self, op: &MaxPool2dOpIr) -> Lowered {
        let [height, width] = op.padding;
        let attributes = [
            ("kernel_shape", ints(&op.kernel_size)),
            ("strides", ints(&op.stride)),
            ("pads", ints(&[height, width, height, width])),
            ("dilations", ints(&op.dilation)),
            ("ceil_mode", Attribute::Int(i64::from(op.ceil_mode))),
        ];
        let inputs = vec![self.name(&op.x)?];
        self.emit("MaxPool", inputs, &op.out, attributes)
    }
}

//! Reshape, transpose, slices, reductions over shapes.

use burn_ir::{BaseOperationIr as Base, TensorIr};

use super::{
    super::graph::{Attribute, Constant},
    Lowered, Lowering, ints,
};

impl Lowering<'_> {
    fn shape_constant(&mut self, dims: &[usize]) -> String {
        let numbers: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
        let text: Vec<String> = dims.iter().map(usize::to_string).collect();
        self.graph.constant(&format!("shape.{}", text.join("x")), Constant::i64(numbers))
    }

    pub(super) fn sum(&mut self, input: &TensorIr, out: &TensorIr, axes: &[usize]) -> Lowered {
        let inputs = vec![self.name(input)?, self.shape_constant(axes)];
        self.emit("ReduceSum", inputs, out, [("keepdims", Attribute::Int(1))])
    }

    pub(super) fn base(&mut self, op: &Base) -> Lowered {
        match op {
            Base::Reshape(op) => {
                let inputs = vec![self.name(&op.input)?, self.shape_constant(&Self::dims(&op.out))];
                self.emit("Reshape", inputs, &op.out, [])
            }
            Base::Expand(op) => {
                let inputs = vec![self.name(&op.input)?, self.shape_constant(&Self::dims(&op.out))];
                self.emit("Expand", inputs, &op.out, [])
            }
            Base::Permute(op) => {
                let inputs = vec![self.name(&op.input)?];
                self.emit("Transpose", inputs, &op.out, [("perm", ints(&op.axes))])
            }
            Base::SwapDims(op) => {
                let mut axes: Vec<usize> = (0..Self::dims(&op.out).len()).collect();
                axes.swap(op.dim1, op.dim2);
                let inputs = vec![self.name(&op.input)?];
                self.emit("Transpose", inputs, &op.out, [("perm", ints(&axes))])
            }
            Base::Cat(op) => {
                let inputs = op.tensors.iter().map(|tensor| self.name(tensor)).collect::<Option<_>>()?;
                self.emit("Concat", inputs, &op.out, [("axis", Attribute::Int(op.dim as i64))])
            }
            Base::Slice(op) => {
                let dims = Self::dims(&op.tensor);
                if op.ranges.iter().any(|range| range.step != 1 || range.start < 0) {
                    return None;
                }
                let starts: Vec<usize> = op.ranges.iter().map(|range| range.start as usize).collect();
                let ends: Vec<usize> = op
                    .ranges
                    .iter()
                    .zip(&dims)
                    .map(|(range, &size)| range.end.map_or(Some(size), |end| usize::try_from(end).ok()))
                    .collect::<Option<_>>()?;
                let inputs =
                    vec![self.name(&op.tensor)?, self.shape_constant(&starts), self.shape_constant(&ends)];
                self.emit("Slice", inputs, &op.out, [])
            }
            // float to float: one number format is exported
            Base::Cast(op) if op.out.dtype.is_float() && op.input.dtype.is_float() => {
                let name = self.name(&op.input)?;
                self.names.insert(op.out.id, name);
                Some(())
            }
            Base::Zeros(op) => self.filled(&op.out, 0.0),
            Base::Ones(op) => self.filled(&op.out, 1.0),
            _ => None,
        }
    }

    fn filled(&mut self, out: &TensorIr, value: f32) -> Lowered {
        let shape = Self::dims(out);
        let numbers = vec![value; shape.iter().product()];
        let name = self.graph.constant("constant", Constant::f32(shape, numbers));
        self.names.insert(out.id, name);
        Some(())
    }
}

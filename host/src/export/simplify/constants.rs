//! Operators on constants alone are computed now.

use super::super::graph::{Constant, Graph, Node, Numbers};

/// Replaces every node whose inputs are all float constants by its value, where we can compute it.
pub(super) fn fold(graph: &mut Graph) -> bool {
    let mut changed = false;
    while let Some((at, value)) =
        graph.nodes.iter().enumerate().find_map(|(at, node)| Some((at, evaluate(graph, node)?)))
    {
        let node = graph.nodes.remove(at);
        graph.values.remove(&node.output);
        let name = graph.constant(&node.output, value);
        graph.redirect(&node.output, &name);
        changed = true;
    }
    changed
}

fn evaluate(graph: &Graph, node: &Node) -> Option<Constant> {
    let constants: Vec<&Constant> =
        node.inputs.iter().map(|name| graph.constants.get(name)).collect::<Option<_>>()?;
    let shape = graph.shape(&node.output);
    let numbers = match (node.op, constants.as_slice()) {
        ("Reshape", [x, _]) => x.as_f32()?.to_vec(),
        ("Transpose", [x]) => transpose(x, node.ints("perm"))?,
        ("Expand", [x, _]) => broadcast(x, shape)?,
        (_, [x]) => {
            let f = unary(node.op)?;
            x.as_f32()?.iter().map(|&v| f(v)).collect()
        }
        (_, [a, b]) => {
            let f = binary(node.op)?;
            broadcast(a, shape)?.into_iter().zip(broadcast(b, shape)?).map(|(a, b)| f(a, b)).collect()
        }
        _ => return None,
    };
    (numbers.len() == shape.iter().product::<usize>()).then(|| Constant::f32(shape, numbers))
}

fn unary(op: &str) -> Option<fn(f32) -> f32> {
    Some(match op {
        "Exp" => f32::exp,
        "Log" => f32::ln,
        "Sqrt" => f32::sqrt,
        "Neg" => |x| -x,
        "Abs" => f32::abs,
        "Reciprocal" => f32::recip,
        "Sin" => f32::sin,
        "Cos" => f32::cos,
        "Tanh" => f32::tanh,
        "Relu" => |x| x.max(0.0),
        _ => return None,
    })
}

fn binary(op: &str) -> Option<fn(f32, f32) -> f32> {
    Some(match op {
        "Add" => |a, b| a + b,
        "Sub" => |a, b| a - b,
        "Mul" => |a, b| a * b,
        "Div" => |a, b| a / b,
        "Pow" => f32::powf,
        _ => return None,
    })
}

/// Row-major distance between neighbours on each axis.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// For every element of `shape` in order: its place in the source, given the source's stride on
/// each axis of `shape`.
fn gather(source: &[f32], shape: &[usize], source_strides: &[usize]) -> Vec<f32> {
    let out = strides(shape);
    let place = |flat: usize| -> usize {
        (0..shape.len()).map(|axis| flat / out[axis] % shape[axis] * source_strides[axis]).sum()
    };
    (0..shape.iter().product::<usize>()).map(|flat| source[place(flat)]).collect()
}

fn transpose(x: &Constant, perm: &[i64]) -> Option<Vec<f32>> {
    let (source, from) = (x.as_f32()?, strides(&x.shape));
    let perm: Vec<usize> = perm.iter().map(|&axis| usize::try_from(axis).ok()).collect::<Option<_>>()?;
    if perm.len() != x.shape.len() || perm.iter().any(|&axis| axis >= x.shape.len()) {
        return None;
    }
    let shape: Vec<usize> = perm.iter().map(|&axis| x.shape[axis]).collect();
    let from: Vec<usize> = perm.iter().map(|&axis| from[axis]).collect();
    Some(gather(source, &shape, &from))
}

/// The numbers of a constant over a larger shape, by the usual rules.
fn broadcast(x: &Constant, shape: &[usize]) -> Option<Vec<f32>> {
    let Numbers::F32(source) = &x.numbers else { return None };
    let missing = shape.len().checked_sub(x.shape.len())?;
    let own = strides(&x.shape);
    let mut from = vec![0; shape.len()];
    for (axis, (&size, &stride)) in x.shape.iter().zip(&own).enumerate() {
        match size {
            1 => {}
            _ if size == shape[missing + axis] => from[missing + axis] = stride,
            _ => return None,
        }
    }
    Some(gather(source, shape, &from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposes_and_broadcasts() {
        let x = Constant::f32([2, 3], vec![0., 1., 2., 3., 4., 5.]);
        assert_eq!(transpose(&x, &[1, 0]).unwrap(), [0., 3., 1., 4., 2., 5.]);
        let row = Constant::f32([3], vec![1., 2., 3.]);
        assert_eq!(broadcast(&row, &[2, 3]).unwrap(), [1., 2., 3., 1., 2., 3.]);
        let column = Constant::f32([2, 1], vec![1., 2.]);
        assert_eq!(broadcast(&column, &[2, 3]).unwrap(), [1., 1., 1., 2., 2., 2.]);
        assert_eq!(broadcast(&Constant::scalar(7.0), &[2]).unwrap(), [7., 7.]);
        assert!(broadcast(&row, &[2, 2]).is_none());
    }
}

//! Cross-entropy of a similarity matrix against its diagonal, without keeping the matrix.
//!
//! Recorded operation by operation, `B × B` logits, their log-softmax and the gradients of both are
//! held and walked over about ten times a step. Here rows go through in blocks: each block's softmax
//! gives its part of the loss and of the gradients of both sides, and is dropped. The recorded graph
//! then holds one product a side whose gradient is the one computed.

use burn::tensor::{Bool, Tensor};

use super::{temperature::Temperature, without};

/// Numbers of a block: 128 rows of a batch of 8192. Blocks of 1 to 16 MiB are equally fast.
const BLOCK: usize = 1 << 20;

/// Mean over the rows of −log softmax(left · rightᵀ / τ) at column `i` of row `i`, `[1]`, with the
/// gradients to both sides and to a learned temperature.
///
/// # Shapes
/// - left: `[B, d]`, right: `[B + …, d]`: columns past `B` are negatives of every row
/// - exempt: `[B, B + …]`, columns that are out of a row's softmax
pub(super) fn match_rows(
    left: &Tensor<2>,
    right: &Tensor<2>,
    tau: &Temperature,
    exempt: Option<&Tensor<2, Bool>>,
) -> Tensor<1> {
    let scale: Tensor<1> = match tau {
        Temperature::Fixed(tau) => Tensor::full([1], 1.0 / tau, &left.device()),
        Temperature::Learned(log_scale) => log_scale.as_ref().clone().exp(),
    };
    let (a, b, factor) = (left.clone().inner(), right.clone().inner(), scale.clone().inner());
    let [rows, _] = a.dims();
    let [columns, _] = b.dims();
    let device = a.device();
    let height = (BLOCK / columns.max(1)).clamp(1, rows.max(1));
    let mut loss = Tensor::<1>::zeros([1], &device);
    let mut to_a = Vec::new();
    let mut to_b = Tensor::<2>::zeros(b.dims(), &device);
    for from in (0..rows).step_by(height) {
        let height = height.min(rows - from);
        let block = a.clone().narrow(0, from, height);
        let own_of_b = b.clone().narrow(0, from, height);
        // the small side takes every factor: each walk over a block of logits costs a tenth of a product
        let cooled = block.clone() * factor.clone().unsqueeze::<2>();
        let logits = cooled.clone().matmul(b.clone().transpose());
        let exempt = exempt.map(|exempt| exempt.clone().inner().narrow(0, from, height));
        let logits = without(logits, exempt.as_ref());
        let top = logits.clone().max_dim(1);
        let shares = (logits - top.clone()).exp();
        let sums = shares.clone().sum_dim(1);
        let own = (cooled * own_of_b.clone()).sum_dim(1);
        loss = loss + (sums.clone().log() + top - own).sum();
        to_a.push(shares.clone().matmul(b.clone()) / sums.clone() - own_of_b);
        to_b = to_b + shares.transpose().matmul(block / sums);
    }
    // each row's own column: softmax less one
    let own = to_b.clone().narrow(0, 0, rows) - a.clone();
    let to_b =
        if columns > rows { Tensor::cat(vec![own, to_b.narrow(0, rows, columns - rows)], 0) } else { own };
    let to_a = Tensor::cat(to_a, 0);
    let per_row = 1.0 / rows.max(1) as f64;
    let (loss, to_a, to_b) = (loss * per_row, to_a * per_row, to_b * per_row);
    // d loss / d scale is the similarity under the gradient of the logits
    let to_scale = (a * to_a.clone()).sum();
    let factor = factor.unsqueeze::<2>();
    let (to_a, to_b) = (to_a * factor.clone(), to_b * factor);
    // what has no autodiff is a constant to what has
    let sides = (left.clone() * to_a).sum() + (right.clone() * to_b).sum();
    let carried = match tau {
        Temperature::Fixed(_) => sides,
        Temperature::Learned(_) => sides + (scale * to_scale).sum(),
    };
    // the gradient of what is carried, the value of the loss, to the bit
    carried.clone() - carried.inner() + loss
}

#[cfg(test)]
mod tests {
    use super::super::{diagonal, golden, unit_rows};
    use super::*;
    use burn::tensor::{Device, activation::log_softmax};

    /// The same by recorded operations.
    fn recorded(
        left: &Tensor<2>,
        right: &Tensor<2>,
        tau: &Temperature,
        exempt: Option<&Tensor<2, Bool>>,
    ) -> Tensor<1> {
        let logits = without(tau.cool(left.clone().matmul(right.clone().transpose())), exempt);
        diagonal(log_softmax(logits, 1)).mean().neg()
    }

    #[test]
    fn value_and_gradients_are_those_of_the_recorded_operations() {
        let device = Device::flex().autodiff();
        let on = |t: Tensor<2>| Tensor::<2>::from_data(t.into_data(), &device).require_grad();
        // 1500 columns: blocks of 699 rows and one of 102
        for (rows, columns, masked) in [(3, 3, false), (3, 8, true), (800, 1500, false), (800, 1500, true)] {
            let left = on(unit_rows(golden::matrix(rows, 8, 1.0, f64::sin)));
            let right = on(unit_rows(golden::matrix(columns, 8, 2.5, f64::cos)));
            let log_scale = Tensor::<1>::from_data([1.5f32], &device).require_grad();
            let exempt = masked.then(|| {
                let value = Tensor::<2>::from_inner(golden::matrix(rows, columns, 0.3, f64::sin));
                let own = Tensor::<2, Bool>::diag_mask([rows, columns], 0, &device);
                value.greater_elem(0.8) & own
            });
            for tau in [Temperature::Fixed(0.2), Temperature::Learned(Box::new(log_scale.clone()))] {
                let run = |f: &dyn Fn() -> Tensor<1>| {
                    // twice, so that the gradient from above is not 1
                    let loss = f() * 2.0;
                    let grads = loss.backward();
                    let of =
                        |t: &Tensor<2>| t.grad(&grads).unwrap().into_data().iter::<f32>().collect::<Vec<_>>();
                    let mut all = vec![loss.into_scalar::<f32>()];
                    all.extend(of(&left));
                    all.extend(of(&right));
                    all.extend(log_scale.grad(&grads).map(|g| g.into_scalar::<f32>()));
                    all
                };
                let got = run(&|| match_rows(&left, &right, &tau, exempt.as_ref()));
                let want = run(&|| recorded(&left, &right, &tau, exempt.as_ref()));
                assert_eq!(got.len(), want.len());
                for (at, (got, want)) in got.iter().zip(&want).enumerate() {
                    let bound = 2e-5 * want.abs().max(0.05);
                    assert!(
                        (got - want).abs() < bound,
                        "{rows}×{columns} {masked} {at}: {got} is not {want}"
                    );
                }
            }
        }
    }
}

//! The regression baseline: the location embedding predicts the image feature.

use burn::tensor::Tensor;

/// Mean over all entries of the squared difference, `[1]`.
///
/// # Shapes
/// - prediction, target: `[B, d]`
pub fn mse(prediction: Tensor<2>, target: Tensor<2>) -> Tensor<1> {
    (prediction - target).square().mean()
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, matrix};

    #[test]
    fn matches_the_golden_value() {
        let got = super::mse(matrix(3, 4, 1.0, f64::sin), matrix(3, 4, 2.5, f64::sin));
        check(got, 0.946788790070, "mse");
    }
}

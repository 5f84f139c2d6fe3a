//! The losses of CSP, one file each, exactly as the released code computes them (csp-spec §1.7,
//! §1.10) and numerically safer where the value does not change. Each file holds its golden values.

mod matching;
pub mod mc;
pub mod mse;
pub mod nce;
pub mod presence;
pub mod temperature;

use burn::tensor::{Bool, Device, Tensor};

/// What one step of pre-training compares: embeddings of the same `B` rows, not yet normalised.
#[derive(Clone, Debug)]
pub struct Views {
    /// `e(x)`, `[B, d]`.
    pub location: Tensor<2>,
    /// `e(x)` again with a fresh dropout mask, `[B, d]`; `None` without the dropout term.
    pub second: Option<Tensor<2>>,
    /// `W F(I)`, `[B, d]`.
    pub image: Tensor<2>,
    /// Embeddings of random places, `[C·B, d]`, row `c·B + i` for the `c`-th of row `i`; `None`
    /// without the random-location term.
    pub random: Option<Tensor<2>>,
    /// Location embeddings of earlier steps, `[K, d]`, already of length 1 and without gradient.
    pub queue: Option<Tensor<2>>,
    /// Pairs that are not held against each other though they are not one row.
    pub exempt: Exempt,
}

/// Pairs that are no negatives: of one class, or the same row seen earlier.
#[derive(Clone, Debug, Default)]
pub struct Exempt {
    /// Among the batch, `[B, B]`, symmetric, false on the diagonal.
    pub batch: Option<Tensor<2, Bool>>,
    /// Batch rows against the queue, `[B, K]`.
    pub queue: Option<Tensor<2, Bool>>,
}

impl Views {
    /// The same views with rows of length 1.
    #[must_use]
    pub fn normalised(self) -> Self {
        Self {
            location: unit_rows(self.location),
            second: self.second.map(unit_rows),
            image: unit_rows(self.image),
            random: self.random.map(unit_rows),
            ..self
        }
    }
}

/// Rows divided by their Euclidean length. The floor only matters for an all-zero row, which a
/// ReLU encoder with dropout can produce and which would otherwise be NaN.
///
/// # Shapes
/// - input, output: `[rows, d]`
pub fn unit_rows(x: Tensor<2>) -> Tensor<2> {
    let length = x.clone().square().sum_dim(1).clamp_min(1e-12).sqrt();
    x / length
}

/// Similarity of each row with each of its random places.
///
/// # Shapes
/// - image: `[B, d]`, random: `[C·B, d]`
/// - output: `[B, C]`
fn with_random(image: &Tensor<2>, random: Tensor<2>) -> Tensor<2> {
    let [batch, width] = image.dims();
    let draws = random.dims()[0] / batch;
    let random: Tensor<3> = random.reshape([draws, batch, width]);
    let each: Tensor<3> = (random * image.clone().unsqueeze_dim(0)).sum_dim(2);
    each.reshape([draws, batch]).transpose()
}

/// The diagonal of a matrix with at least as many columns as rows, `[B, B + …]` → `[B, 1]`.
fn diagonal(matrix: Tensor<2>) -> Tensor<2> {
    let [rows, _] = matrix.dims();
    let at = Tensor::<1, burn::tensor::Int>::arange(0..rows as i64, &matrix.device());
    matrix.gather(1, at.unsqueeze_dim(1))
}

/// Terms times their weights, summed; a weight of 1 costs nothing. 0 without a term.
fn weighted(terms: Vec<(Tensor<1>, f64)>, device: &Device) -> Tensor<1> {
    let terms = terms.into_iter().map(|(term, weight)| if weight == 1.0 { term } else { term * weight });
    terms.reduce(|sum, term| sum + term).unwrap_or_else(|| Tensor::zeros([1], device))
}

/// Logits with the exempt pairs out of every softmax.
fn without(logits: Tensor<2>, exempt: Option<&Tensor<2, Bool>>) -> Tensor<2> {
    match exempt {
        // finite, so that no row can turn to NaN
        Some(exempt) => logits.mask_fill(exempt.clone(), -1e30),
        None => logits,
    }
}

/// `log(1 + exp(x))` without overflow.
pub(crate) fn softplus(x: Tensor<2>) -> Tensor<2> {
    x.clone().clamp_min(0.0) + (x.abs().neg().exp() + 1.0).log()
}

#[cfg(test)]
pub(crate) mod golden {
    //! Matrices of csp-spec §7.3: entry (i, j) = f(o + i·c + j). Made independently in numpy (f64).
    use burn::tensor::{Device, Tensor, TensorData};

    use burn::tensor::Bool;

    use super::{Exempt, Views, unit_rows};

    pub fn matrix(rows: usize, cols: usize, offset: f64, f: fn(f64) -> f64) -> Tensor<2> {
        let values: Vec<f32> = (0..rows * cols).map(|at| f(offset + at as f64) as f32).collect();
        Tensor::from_data(TensorData::new(values, [rows, cols]), &Device::flex())
    }

    /// Three rows, four numbers, two random places a row.
    pub fn views() -> Views {
        Views {
            location: matrix(3, 4, 1.0, f64::sin),
            second: Some(matrix(3, 4, 1.0, f64::cos)),
            image: matrix(3, 4, 2.5, f64::sin),
            random: Some(matrix(6, 4, 40.0, f64::sin)),
            queue: None,
            exempt: Exempt::default(),
        }
    }

    /// With a queue of five and the exemptions of `tools/losses_referee.py`: rows 0 and 2 are of one
    /// class, as is queue entry 1; entry 3 is row 1 seen earlier.
    pub fn views_with_queue() -> Views {
        let flags = |rows: &[&[u8]]| -> Tensor<2, Bool> {
            let flat: Vec<bool> = rows.concat().into_iter().map(|flag| flag != 0).collect();
            let data = TensorData::new(flat, [rows.len(), rows[0].len()]);
            Tensor::from_data(data, &Device::flex())
        };
        Views {
            queue: Some(unit_rows(matrix(5, 4, 60.0, f64::sin))),
            exempt: Exempt {
                batch: Some(flags(&[&[0, 0, 1], &[0, 0, 0], &[1, 0, 0]])),
                queue: Some(flags(&[&[0, 1, 0, 0, 0], &[0, 0, 0, 1, 0], &[0, 1, 0, 0, 0]])),
            },
            ..views()
        }
    }

    pub fn check(got: Tensor<1>, want: f64, what: &str) {
        let got = f64::from(got.into_scalar::<f32>());
        assert!((got / want - 1.0).abs() < 1e-5, "{what}: {got} is not {want}");
    }
}

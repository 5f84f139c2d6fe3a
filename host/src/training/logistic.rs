//! Logistic regression with a ridge, for a class matrix's column: what [`add_class`](super::add_class) fits.

use std::collections::BTreeSet;

use csp_models::fusion::sigmoid;
use rayon::prelude::*;

/// Ridges that are tried, as shares of the mean squared length of an embedding.
const RIDGES: [f64; 6] = [1e-3, 1e-2, 3e-2, 0.1, 1.0, 10.0];

/// One case: embedding, 1 for present and 0 for absent, weight.
pub(super) type Case<'a> = (&'a [f64], f64, f64);

/// Presences that are kept, each of weight 1, and absences with their weights.
pub(super) fn cases<'a>(
    positives: &'a [Vec<f64>],
    absent: &'a [(Vec<f64>, f64)],
    keep: impl Fn(usize) -> bool,
) -> Vec<Case<'a>> {
    let kept = positives.iter().enumerate().filter(|(i, _)| keep(*i));
    let present = kept.map(|(_, embedding)| (&embedding[..], 1.0, 1.0));
    present.chain(absent.iter().map(|(embedding, weight)| (&embedding[..], 0.0, *weight))).collect()
}

/// The ridge with the least loss at records left out, part by part, and their mean score with it.
pub(super) fn choose_ridge(
    positives: &[Vec<f64>],
    absent: &[(Vec<f64>, f64)],
    parts: &[BTreeSet<usize>],
) -> (f64, f64) {
    let square = |row: &[f64]| row.iter().map(|v| v * v).sum::<f64>();
    let usual = positives.iter().map(|row| square(row)).sum::<f64>() / positives.len() as f64;
    let tried = RIDGES.par_iter().map(|share| {
        let ridge = share * usual;
        let (mut loss, mut score) = (0.0, 0.0);
        for part in parts {
            let column = fit(&cases(positives, absent, |i| !part.contains(&i)), ridge);
            for embedding in part.iter().filter_map(|&i| positives.get(i)) {
                let logit = dot(embedding, &column);
                loss += softplus(-logit);
                score += sigmoid(logit);
            }
            // what holds records high must not hold everything high
            let absences =
                absent.iter().map(|(embedding, weight)| weight * softplus(dot(embedding, &column)));
            loss += absences.sum::<f64>() / parts.len() as f64;
        }
        (loss, ridge, score / positives.len() as f64)
    });
    let tried: Vec<(f64, f64, f64)> = tried.collect();
    let best = tried.into_iter().min_by(|a, b| a.0.total_cmp(&b.0));
    best.map_or((usual, 0.5), |(_, ridge, score)| (ridge, score))
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// Scalar product.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Weighted logistic regression without intercept: the column t with the least
/// Σ w softplus(∓e·t) + ridge/2 |t|², by Newton's method.
pub(super) fn fit(cases: &[Case<'_>], ridge: f64) -> Vec<f64> {
    let width = cases.first().map_or(0, |(row, ..)| row.len());
    let mut column = vec![0.0; width];
    let loss = |column: &[f64]| {
        let one = |(row, present, weight): &Case<'_>| {
            let logit = dot(row, column);
            weight * softplus(if *present > 0.5 { -logit } else { logit })
        };
        cases.iter().map(one).sum::<f64>() + 0.5 * ridge * dot(column, column)
    };
    let mut current = loss(&column);
    for _ in 0..50 {
        let mut gradient: Vec<f64> = column.iter().map(|v| ridge * v).collect();
        let mut hessian = vec![vec![0.0; width]; width];
        (0..width).for_each(|i| hessian[i][i] = ridge);
        for (row, present, weight) in cases {
            let p = sigmoid(dot(row, &column));
            gradient.iter_mut().zip(*row).for_each(|(g, v)| *g += weight * (p - present) * v);
            let curve = weight * p * (1.0 - p);
            for (i, line) in hessian.iter_mut().enumerate() {
                let scale = curve * row[i];
                line[..=i].iter_mut().zip(*row).for_each(|(h, v)| *h += scale * v);
            }
        }
        let step = solve(hessian, &gradient);
        // a full step may overshoot where the sigmoids are flat
        let mut length = 1.0;
        let next = loop {
            let next: Vec<f64> = column.iter().zip(&step).map(|(c, s)| c - length * s).collect();
            if loss(&next) <= current || length < 1e-6 {
                break next;
            }
            length /= 2.0;
        };
        let reached = loss(&next);
        let gained = current - reached;
        (column, current) = (next, reached);
        if gained.abs() <= 1e-13 * (1.0 + current) {
            break;
        }
    }
    column
}

/// Solves `A x = b` for a positive definite A, given by its lower half, by Cholesky's method.
fn solve(mut a: Vec<Vec<f64>>, b: &[f64]) -> Vec<f64> {
    let n = b.len();
    for i in 0..n {
        for j in 0..=i {
            let (rows, rest) = a.split_at_mut(i);
            let line = &mut rest[0];
            let sum = line[j] - dot(&line[..j], if j < i { &rows[j][..j] } else { &[] });
            if j < i {
                line[j] = sum / rows[j][j];
            } else {
                let square = dot(&line[..i], &line[..i]);
                line[i] = (line[i] - square).max(1e-300).sqrt();
            }
        }
    }
    let mut x = b.to_vec();
    for i in 0..n {
        x[i] = (x[i] - dot(&a[i][..i], &x[..i])) / a[i][i];
    }
    for i in (0..n).rev() {
        let below: f64 = (i + 1..n).map(|j| a[j][i] * x[j]).sum();
        x[i] = (x[i] - below) / a[i][i];
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERENCE: [f64; 3] =
        [-0.043_630_245_688_222_71, 0.163_240_662_945_294_52, 0.049_476_684_289_644_31];

    /// scikit-learn's LogisticRegression, tools/metrics_referee.py.
    #[test]
    fn the_regression_agrees_with_scikit_learn() {
        let rows: Vec<[f64; 3]> = (0..40)
            .map(|i| {
                let t = f64::from(i);
                [(0.9 * t).sin(), (0.4 * t).cos(), (0.15 * t + 1.0).sin()]
            })
            .collect();
        let cases: Vec<Case<'_>> = (rows.iter().enumerate())
            .map(|(i, row)| if i % 4 == 0 { (&row[..], 1.0, 1.0) } else { (&row[..], 0.0, 0.5) })
            .collect();
        for (got, want) in fit(&cases, 0.3).iter().zip(REFERENCE) {
            assert!((got - want).abs() < 1e-6, "{got} is not {want}");
        }
    }

    #[test]
    fn without_evidence_there_is_no_opinion() {
        let row = [1.0, 2.0];
        let cases: Vec<Case<'_>> = vec![(&row, 1.0, 1.0), (&row, 0.0, 1.0)];
        assert!(fit(&cases, 0.1).iter().all(|v| v.abs() < 1e-12));
    }

    #[test]
    fn solves_what_it_is_given() {
        // A = [[4, 2, 0], [2, 5, 3], [0, 3, 6]], x = (1, −2, 3)
        let a = vec![vec![4.0, 0.0, 0.0], vec![2.0, 5.0, 0.0], vec![0.0, 3.0, 6.0]];
        let x = solve(a, &[0.0, 1.0, 12.0]);
        for (got, want) in x.iter().zip([1.0, -2.0, 3.0]) {
            assert!((got - want).abs() < 1e-12, "{x:?}");
        }
    }
}

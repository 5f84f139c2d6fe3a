//! A class from few records, without training anew: one column of the class matrix T, fitted on the
//! frozen location encoder (few-shot, csp-spec §8.3).
//!
//! The column minimises the presence loss of one class with a ridge on it: the records are presences,
//! the places of the other classes and random places are presumed absences, each of the three with the
//! same total weight, as a class of average frequency has it in the full loss. The ridge is chosen by
//! leaving records out. Few records leave the column small, and its scores near ½: no opinion.
//!
//! The image network has never seen the class. The new run knows it by place only: it takes part in the
//! prior, never in what is made of a picture.

use std::path::Path;

use burn::tensor::Device;
use csp_models::{
    fusion::sigmoid,
    labels::{ClassId, Label},
    situation::Situation,
};
use rayon::prelude::*;
use serde::Serialize;

use super::{
    RunDir, TrainError, TrainedModel,
    model::{self, ModelInfo},
    run_dir::{StageInfo, read_json},
    sampler::{Negatives, random_places},
    weights::Weights,
};
use crate::evaluation::embedding::embeddings;

/// Places of other classes, and random places, that stand against the records: more change little.
const ABSENCES: usize = 400;
/// Records are left out in at most this many parts.
const PARTS: usize = 10;
/// Ridges that are tried, as shares of the mean squared length of an embedding.
const RIDGES: [f64; 6] = [1e-3, 1e-2, 3e-2, 0.1, 1.0, 10.0];
/// The fewest records.
const FEWEST: usize = 3;

/// What is to be added to what.
#[derive(Debug)]
pub struct AddClass<'a> {
    /// The run; it is not changed.
    pub run: &'a Path,
    /// The new run, which must not exist.
    pub out: &'a Path,
    /// The class.
    pub name: &'a str,
    /// Where it was seen, and when; to a run with seasons, a date that is not known is the middle of the
    /// year's circle, as in training.
    pub records: &'a [Situation],
    /// Where the classes of the run were seen, as the run numbers them.
    pub others: &'a [(Situation, ClassId)],
    /// Seed of the random places.
    pub seed: u64,
}

/// What the new class does to one of the others, at its own places.
#[derive(Clone, Debug, Serialize)]
pub struct Effect {
    /// The other class.
    pub class: String,
    /// Its places.
    pub n: usize,
    /// Of those, where the prior named it first before.
    pub first_before: usize,
    /// And with the new class.
    pub first_after: usize,
    /// Mean share of the normalised prior that the new class takes there.
    pub share_taken: f64,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct AddReport {
    /// The new class.
    pub class: String,
    /// Its records.
    pub records: usize,
    /// The ridge that did best at records left out.
    pub ridge: f64,
    /// Mean presence score of records left out.
    pub left_out_score: f64,
    /// Mean presence score at the places of the others.
    pub others_score: f64,
    /// Places of the others.
    pub others: usize,
    /// Share of them whose class the prior names first, before and after.
    pub others_top1: [f64; 2],
    /// Largest share of the normalised prior that the new class takes at one of them.
    pub largest_share: f64,
    /// By falling share.
    pub effects: Vec<Effect>,
}

/// Fits the class and writes the new run.
///
/// # Errors
/// A run that is not finished or has no location branch, a class it knows already, fewer than three
/// records, no place of another class, or an output that exists.
pub fn add_class(options: &AddClass<'_>) -> Result<AddReport, TrainError> {
    let refuse = |field: &str, problem: String| Err(TrainError::Config { field: field.into(), problem });
    let device = Device::flex();
    let known = TrainedModel::load(options.run, &device)?;
    let run = RunDir::open(options.run)?;
    if known.labels.find(options.name).is_some() {
        return refuse("--name", format!("the run knows {:?} already", options.name));
    }
    if options.records.len() < FEWEST {
        let problem = format!("{} records with a place; {FEWEST} are needed", options.records.len());
        return refuse("--records", problem);
    }
    if options.others.is_empty() {
        return refuse("--data", "no place of the run's classes to stand against the new one".into());
    }
    let Some(embed) = embedder(&known, &device) else {
        return refuse("RUN", "it has no location branch: it was trained without places".into());
    };
    let positives = embed(options.records);
    let seasonal = known.encoder.as_ref().is_some_and(|encoder| encoder.season());
    let random = random_places(Negatives::Sphere, seasonal, (options.seed, "add-class", 0), ABSENCES);
    let every = (options.others.len() / ABSENCES).max(1);
    let theirs: Vec<Situation> = options.others.iter().step_by(every).map(|(at, _)| *at).collect();
    let weight = |count: usize| positives.len() as f64 / count as f64;
    let absent: Vec<(Vec<f64>, f64)> = (embed(&theirs).into_iter().map(|e| (e, weight(theirs.len()))))
        .chain(embed(&random).into_iter().map(|e| (e, weight(random.len()))))
        .collect();
    let (ridge, left_out_score) = choose_ridge(&positives, &absent);
    let column = fit(&cases(&positives, &absent, |_| true), ridge);

    let mut info: ModelInfo = read_json(&run.model().join("model.json"))?;
    info.labels.0.push(Label::new(options.name));
    info.place_only += 1;
    info.name = options.out.file_name().map_or(info.name, |name| name.to_string_lossy().into_owned());
    let image_path = run.model().join(model::IMAGE);
    let image = if known.image.is_some() { Some(Weights::read(&image_path)?.0) } else { None };
    let location_path = run.model().join(model::LOCATION);
    let mut location = Weights::read(&location_path)?.0;
    append(&mut location, &column).map_err(|reason| TrainError::corrupt(&location_path, reason))?;

    let report = report(options, &known, &device, &column, ridge, left_out_score);
    let mut about = run.info().clone();
    // a run with an added class cannot be trained on: --resume compares this and says so
    about.tool = format!("{} with {:?} added", about.tool, options.name);
    let notes = [("class", options.name.into()), ("records", options.records.len().into())];
    let notes = notes.map(|(key, value): (&str, serde_json::Value)| (key.to_string(), value)).into();
    about.stages.insert(format!("add-class {}", options.name), StageInfo { notes, ..StageInfo::default() });
    let new = RunDir::create(options.out, about, &run.rows()?)?;
    // a modulated head knows the old classes only, and stays behind with its run
    info.files.clear();
    let parts = model::Parts { image: image.as_ref(), location: Some(&location), modulation: None };
    model::save(&new, info, &parts)?;
    Ok(report)
}

/// Embeddings in f64, if there is a location branch.
fn embedder<'a>(
    model: &'a TrainedModel,
    device: &'a Device,
) -> Option<impl Fn(&[Situation]) -> Vec<Vec<f64>> + 'a> {
    model.location.as_ref()?;
    Some(move |places: &[Situation]| {
        let rows = embeddings(model, places, device).unwrap_or_default();
        rows.into_iter().map(|row| row.into_iter().map(f64::from).collect()).collect()
    })
}

/// One case of the regression: embedding, 1 for present and 0 for absent, weight.
type Case<'a> = (&'a [f64], f64, f64);

fn cases<'a>(
    positives: &'a [Vec<f64>],
    absent: &'a [(Vec<f64>, f64)],
    keep: impl Fn(usize) -> bool,
) -> Vec<Case<'a>> {
    let kept = positives.iter().enumerate().filter(|(i, _)| keep(*i));
    let present = kept.map(|(_, embedding)| (&embedding[..], 1.0, 1.0));
    present.chain(absent.iter().map(|(embedding, weight)| (&embedding[..], 0.0, *weight))).collect()
}

/// The ridge with the least loss at records left out, and their mean score with it.
fn choose_ridge(positives: &[Vec<f64>], absent: &[(Vec<f64>, f64)]) -> (f64, f64) {
    let square = |row: &[f64]| row.iter().map(|v| v * v).sum::<f64>();
    let usual = positives.iter().map(|row| square(row)).sum::<f64>() / positives.len() as f64;
    let parts = positives.len().min(PARTS);
    let tried = RIDGES.par_iter().map(|share| {
        let ridge = share * usual;
        let (mut loss, mut score) = (0.0, 0.0);
        for part in 0..parts {
            let column = fit(&cases(positives, absent, |i| i % parts != part), ridge);
            let left_out = positives.iter().enumerate().filter(|(i, _)| i % parts == part);
            for (_, embedding) in left_out {
                let logit = dot(embedding, &column);
                loss += softplus(-logit);
                score += sigmoid(logit);
            }
            // what holds records high must not hold everything high
            let absences =
                absent.iter().map(|(embedding, weight)| weight * softplus(dot(embedding, &column)));
            loss += absences.sum::<f64>() / parts as f64;
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

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Weighted logistic regression without intercept: the column t with the least
/// Σ w softplus(∓e·t) + ridge/2 |t|², by Newton's method.
fn fit(cases: &[Case<'_>], ridge: f64) -> Vec<f64> {
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

/// Adds a column to the class matrix.
fn append(location: &mut Weights, column: &[f64]) -> Result<(), String> {
    let name = "location.classes.weight";
    let array = location.0.get_mut(name).ok_or_else(|| format!("tensor {name} is missing"))?;
    let [rows, classes] = array.shape[..] else { return Err(format!("tensor {name} is not a matrix")) };
    if rows != column.len() || classes == 0 {
        return Err(format!("tensor {name} has shape {:?}, not [{}, classes]", array.shape, column.len()));
    }
    let lines = array.values.chunks_exact(classes).zip(column);
    array.values = lines.flat_map(|(line, new)| line.iter().copied().chain([*new as f32])).collect();
    array.shape = vec![rows, classes + 1];
    Ok(())
}

fn report(
    options: &AddClass<'_>,
    known: &TrainedModel,
    device: &Device,
    column: &[f64],
    ridge: f64,
    left_out_score: f64,
) -> AddReport {
    let places: Vec<Situation> = options.others.iter().map(|(at, _)| *at).collect();
    let scores: Vec<f64> = embedder(known, device)
        .map_or(Vec::new(), |embed| embed(&places).iter().map(|e| sigmoid(dot(e, column))).collect());
    let presences = match (&known.location, &known.encoder) {
        (Some(network), Some(encoder)) => {
            crate::features::location_presence(network, &known.labels, encoder, &places, device)
        }
        _ => Vec::new(),
    };
    let mut effects: Vec<Effect> = (known.labels.0.iter())
        .map(|label| Effect {
            class: label.name.clone(),
            n: 0,
            first_before: 0,
            first_after: 0,
            share_taken: 0.0,
        })
        .collect();
    let mut largest_share = 0.0f64;
    for (((_, class), presence), &score) in options.others.iter().zip(&presences).zip(&scores) {
        let Some(effect) = effects.get_mut(class.index()) else { continue };
        let share = score / (score + presence.iter().sum::<f64>());
        let first = crate::evaluation::rank_of(*class, presence) == 1;
        effect.n += 1;
        effect.first_before += usize::from(first);
        effect.first_after += usize::from(first && presence[class.index()] >= score);
        effect.share_taken += share;
        largest_share = largest_share.max(share);
    }
    effects.retain(|effect| effect.n > 0);
    effects.iter_mut().for_each(|effect| effect.share_taken /= effect.n as f64);
    effects.sort_by(|a, b| b.share_taken.total_cmp(&a.share_taken));
    let n = effects.iter().map(|effect| effect.n).sum::<usize>();
    let share =
        |count: fn(&Effect) -> usize| effects.iter().map(count).sum::<usize>() as f64 / n.max(1) as f64;
    AddReport {
        class: options.name.into(),
        records: options.records.len(),
        ridge,
        left_out_score,
        others_score: scores.iter().sum::<f64>() / scores.len().max(1) as f64,
        others: n,
        others_top1: [share(|effect| effect.first_before), share(|effect| effect.first_after)],
        largest_share,
        effects,
    }
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

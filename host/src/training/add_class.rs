//! A class from few records, without training anew: one column of the class matrix T, fitted on the
//! frozen location encoder (few-shot, csp-spec §8.3).
//!
//! The column minimises the presence loss of one class with a ridge on it: the records are presences,
//! the places of the other classes and random places are presumed absences, each of the three with the
//! same total weight, as a class of average frequency has it in the full loss. The ridge is chosen by
//! leaving records out, whole cells of the map at once, since neighbours would teach each other. Few
//! records leave the column small, and its scores near ½: no opinion.
//!
//! The image network has never seen the class. The new run knows it by place only: it takes part in the
//! prior, never in what is made of a picture.

use std::{collections::BTreeSet, fs, path::Path};

use burn::tensor::Device;
use csp_models::{
    fusion::{Fusion, sigmoid},
    labels::{ClassId, Label},
    situation::Situation,
};
use serde::Serialize;

use super::{
    RunDir, TrainError, TrainedModel,
    added_records::AddedRecords,
    logistic::{cases, choose_ridge, dot, fit},
    model::{self, ModelInfo},
    run_dir::{StageInfo, read_json},
    sampler::{Negatives, random_places},
    staged::Staged,
    weights::Weights,
};
use crate::{
    data::{
        plain_name,
        units::{self, Unit},
    },
    evaluation::embedding::embeddings,
    features::{location_presence, places_at_once},
    progress::{Progress, Voice},
};

/// Places of other classes, and random places, that stand against the records: more change little.
const ABSENCES: usize = 400;
/// Cells of records are left out in at most this many parts.
const PARTS: usize = 10;
/// The fewest records.
const FEWEST: usize = 3;

/// What is to be added to what.
#[derive(Debug)]
pub struct AddClass<'a> {
    /// The run; it is not changed.
    pub run: &'a Path,
    /// The new run, which must not exist.
    pub out: &'a Path,
    /// The class; white space around it does not count.
    pub name: &'a str,
    /// Where it was seen, and when; to a run with seasons, a date that is not known is the middle of the
    /// year's circle, as in training.
    pub records: &'a [Situation],
    /// Where the classes of the run were seen, as the run numbers them.
    pub others: &'a [(Situation, ClassId)],
    /// Seed of the random places.
    pub seed: u64,
    /// Hears how far it has come.
    pub voice: Voice,
}

/// What the new class does to one of the others, at its own places.
#[derive(Clone, Debug, Serialize)]
pub struct Effect {
    /// The other class.
    pub class: String,
    /// Its places.
    pub n: usize,
    /// Of those, where the place alone named it first before.
    pub first_before: usize,
    /// And with the new class.
    pub first_after: usize,
    /// Mean share that the new class takes there of the prior as the fusion weighs it, normalised over the
    /// classes.
    pub share_taken: f64,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct AddReport {
    /// The new class.
    pub class: String,
    /// Its records.
    pub records: usize,
    /// Cells of the map that they lie in.
    pub cells: usize,
    /// Height and width of a cell, degrees: that of the run's hold-out.
    pub cell_deg: f64,
    /// The ridge that did best at records left out.
    pub ridge: f64,
    /// Mean presence score of records whose cell was left out; `None` where all lie in one.
    pub left_out_score: Option<f64>,
    /// Mean presence score at the places of the others.
    pub others_score: f64,
    /// Places of the others.
    pub others: usize,
    /// Share of them whose class the prior names first, before and after.
    pub others_top1: [f64; 2],
    /// Largest share of the prior, as the fusion weighs it, that the new class takes at one of them.
    pub largest_share: f64,
    /// The calibration that the shares are by and the new run keeps: fitted without the new class.
    pub fusion: Fusion,
    /// By falling share.
    pub effects: Vec<Effect>,
}

/// Fits the class and writes the new run, which appears complete or not at all.
///
/// # Errors
/// A run that is not finished or has no location branch, a class it knows already or that has no name, fewer
/// than three records, no place of another class, or an output that exists.
pub fn add_class(options: &AddClass<'_>) -> Result<AddReport, TrainError> {
    let refuse = |field: &str, problem: String| Err(TrainError::Config { field: field.into(), problem });
    let out = options.out;
    if out.is_file() || fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
        return refuse("--out", format!("{} exists; give a directory that does not", out.display()));
    }
    let name =
        plain_name(options.name).map_err(|problem| TrainError::Config { field: "--name".into(), problem })?;
    let device = Device::flex();
    let known = TrainedModel::load(options.run, &device)?;
    let run = RunDir::open(options.run)?;
    if known.labels.0.iter().any(|label| label.name.trim() == name) {
        return refuse("--name", format!("the run knows {name:?} already"));
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
    let cells = Cells::of(options.records, run.info().config.holdout.block_deg, options.seed);
    let (ridge, left_out_score) = choose_ridge(&positives, &absent, &cells.parts);
    let column = fit(&cases(&positives, &absent, |_| true), ridge);

    let mut info: ModelInfo = read_json(&run.model().join("model.json"))?;
    info.labels.0.push(Label::new(name));
    info.place_only += 1;
    info.name = options.out.file_name().map_or(info.name, |name| name.to_string_lossy().into_owned());
    let image_path = run.model().join(model::IMAGE);
    let image = if known.image.is_some() { Some(Weights::read(&image_path)?.0) } else { None };
    let location_path = run.model().join(model::LOCATION);
    let mut location = Weights::read(&location_path)?.0;
    append(&mut location, &column).map_err(|reason| TrainError::corrupt(&location_path, reason))?;

    let effects = Effects::of(options, &known, &device, &column);
    let mut added = AddedRecords::read(&run)?;
    added.classes.push((name.into(), options.records.to_vec()));
    let mut about = run.info().clone();
    // a run with an added class cannot be trained on: --resume compares this and says so
    about.tool = format!("{} with {name:?} added", about.tool);
    let notes = [("class", name.into()), ("records", options.records.len().into())];
    let notes = notes.map(|(key, value): (&str, serde_json::Value)| (key.to_string(), value)).into();
    about.stages.insert(format!("add-class {name}"), StageInfo { notes, ..StageInfo::default() });
    let staged = Staged::beside(out)?;
    let new = RunDir::create(staged.path(), about, &run.rows()?)?;
    added.write(&new)?;
    // a modulated head knows the old classes only, and stays behind with its run
    info.files.clear();
    let parts = model::Parts { image: image.as_ref(), location: Some(&location), modulation: None };
    model::save(&new, info, &parts)?;
    drop(new);
    staged.keep()?;
    Ok(AddReport {
        class: name.into(),
        records: options.records.len(),
        cells: cells.count,
        cell_deg: cells.degrees,
        ridge,
        left_out_score: (cells.count > 1).then_some(left_out_score),
        others_score: effects.score,
        others: effects.n,
        others_top1: effects.top1,
        largest_share: effects.largest_share,
        fusion: known.fusion,
        effects: effects.by_class,
    })
}

/// Where the records lie, and which of them are left out together.
struct Cells {
    count: usize,
    degrees: f64,
    /// Indices of records.
    parts: Vec<BTreeSet<usize>>,
}

impl Cells {
    /// Whole cells are left out; of records in one cell a tenth is, for want of better: that tells ridges
    /// apart, and nothing about other places.
    fn of(records: &[Situation], degrees: f64, seed: u64) -> Self {
        let places: Vec<_> = records.iter().map(|record| record.at).collect();
        let cell = |(i, place): (usize, &_)| Unit::of_degrees(i, Some(*place), degrees);
        let count = places.iter().enumerate().map(cell).collect::<BTreeSet<_>>().len();
        let parts = match count {
            0 | 1 => {
                let parts = records.len().min(PARTS);
                (0..parts).map(|part| (part..records.len()).step_by(parts).collect()).collect()
            }
            _ => units::folds(&places, count.min(PARTS), seed, degrees),
        };
        Self { count, degrees, parts }
    }
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

/// What the new class does to the others.
struct Effects {
    by_class: Vec<Effect>,
    /// Mean presence score of the new class at their places.
    score: f64,
    n: usize,
    top1: [f64; 2],
    largest_share: f64,
}

impl Effects {
    fn of(options: &AddClass<'_>, known: &TrainedModel, device: &Device, column: &[f64]) -> Self {
        let scores_of = |places: &[Situation]| -> Vec<f64> {
            embedder(known, device)
                .map_or(Vec::new(), |embed| embed(places).iter().map(|e| sigmoid(dot(e, column))).collect())
        };
        let presences_of = |places: &[Situation]| match (&known.location, &known.encoder) {
            (Some(network), Some(encoder)) => {
                location_presence(network, &known.labels, encoder, places, device)
            }
            _ => Vec::new(),
        };
        let none = |label: &Label| Effect {
            class: label.name.clone(),
            n: 0,
            first_before: 0,
            first_after: 0,
            share_taken: 0.0,
        };
        let mut by_class: Vec<Effect> = known.labels.0.iter().map(none).collect();
        let (mut largest_share, mut score_sum) = (0.0f64, 0.0);
        let mut progress = Progress::new(options.voice, "others", 0, options.others.len() as u64);
        let mut asked = 0;
        // some at a time: a run has many places, and each a score for every class
        for others in options.others.chunks(places_at_once(known.labels.len())) {
            let places: Vec<Situation> = others.iter().map(|(at, _)| *at).collect();
            let (scores, presences) = (scores_of(&places), presences_of(&places));
            score_sum += scores.iter().sum::<f64>();
            asked += others.len();
            progress.at(asked as u64, || "places".into());
            for (((_, class), presence), &score) in others.iter().zip(&presences).zip(&scores) {
                let Some(effect) = by_class.get_mut(class.index()) else { continue };
                let share = share_taken(&known.fusion, presence, score);
                let first = crate::evaluation::rank_of(*class, presence) == Some(1);
                effect.n += 1;
                effect.first_before += usize::from(first);
                effect.first_after += usize::from(first && presence[class.index()] >= score);
                effect.share_taken += share;
                largest_share = largest_share.max(share);
            }
        }
        progress.done(&format!("{asked} places"));
        by_class.retain(|effect| effect.n > 0);
        by_class.iter_mut().for_each(|effect| effect.share_taken /= effect.n as f64);
        by_class.sort_by(|a, b| b.share_taken.total_cmp(&a.share_taken));
        let n = by_class.iter().map(|effect| effect.n).sum::<usize>();
        let share =
            |count: fn(&Effect) -> usize| by_class.iter().map(count).sum::<usize>() as f64 / n.max(1) as f64;
        Self {
            score: score_sum / options.others.len().max(1) as f64,
            n,
            top1: [share(|effect| effect.first_before), share(|effect| effect.first_after)],
            largest_share,
            by_class,
        }
    }
}

/// Share of a new class with presence `score` in what the place alone says: its prior beside those of the
/// others, `[classes]`, as the fusion weighs them under a picture that says nothing.
fn share_taken(fusion: &Fusion, presence: &[f64], score: f64) -> f64 {
    let all: Vec<f64> = presence.iter().copied().chain([score]).collect();
    fusion.fuse(&vec![0.0; all.len()], &all, 0.0).last().copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_taken_is_that_of_the_weighted_prior() {
        let fusion = Fusion { prior_weight: 2.0, prior_floor: 0.1, ..Fusion::default() };
        // max(p, 0.1)²: 0.81, 0.01 and 0.09
        let share = share_taken(&fusion, &[0.9, 0.001], 0.3);
        assert!((share - 0.09 / 0.91).abs() < 1e-12, "{share}");
        let none = Fusion { prior_weight: 0.0, ..fusion };
        assert!((share_taken(&none, &[0.9, 0.001], 0.3) - 1.0 / 3.0).abs() < 1e-12, "no weight, no say");
    }

    #[test]
    fn neighbours_do_not_teach_each_other() {
        // two clusters of records a cell each, whose embeddings have next to nothing in common
        let at = |lat| Situation::undated(csp_models::place::LatLon::new(lat, 10.5).unwrap());
        let records: Vec<Situation> =
            (0..10).map(|i| at(if i < 5 { 20.4 } else { 30.4 } + 0.01 * f64::from(i))).collect();
        let positives: Vec<Vec<f64>> =
            (0..10).map(|i| if i < 5 { vec![1.0, 0.0, 0.0] } else { vec![0.0, 1.0, 0.0] }).collect();
        let absent = vec![(vec![0.0, 0.0, 1.0], 10.0)];
        let cells = Cells::of(&records, 1.0, 0);
        assert_eq!((cells.count, cells.parts.len()), (2, 2));
        let (_, apart) = choose_ridge(&positives, &absent, &cells.parts);
        assert!((apart - 0.5).abs() < 1e-6, "{apart}: a cell that was not seen has no opinion");
        let one = Cells::of(&records[..5], 1.0, 0);
        assert_eq!((one.count, one.parts.len()), (1, 5));
        let single: Vec<BTreeSet<usize>> = (0..10).map(|i| BTreeSet::from([i])).collect();
        let (_, among_neighbours) = choose_ridge(&positives, &absent, &single);
        assert!(among_neighbours > 0.95, "{among_neighbours}");
        // more cells than parts: each record is left out once
        let many: Vec<Situation> = (0..40).map(|i| at(f64::from(i))).collect();
        let cells = Cells::of(&many, 1.0, 0);
        assert_eq!((cells.count, cells.parts.len()), (40, PARTS));
        assert_eq!(cells.parts.iter().flatten().collect::<BTreeSet<_>>().len(), 40);
        assert_eq!(cells.parts.iter().map(BTreeSet::len).sum::<usize>(), 40);
    }
}

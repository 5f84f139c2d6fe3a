//! Where a model is right and where it is not: accuracy by region, at places with and without training
//! rows nearby, and how clustered the failures are.

mod ssi;

use std::collections::{BTreeMap, BTreeSet};

use csp_models::{labels::ClassId, place::LatLon};
use rayon::prelude::*;
use serde::Serialize;

use super::{Accuracy, Answer, Answers, Share, accuracy};
use crate::data::{Dataset, Row, Split, units::Unit};

pub use ssi::{Neighbourhood, surprisal};

/// Neighbourhood of the self-information, radians: 0.05 is about 320 km.
const RADIUS: f64 = 0.05;

/// Accuracy in one cell of the grid.
#[derive(Clone, Debug, Serialize)]
pub struct Region {
    /// Southern edge, degrees north.
    pub south: f64,
    /// Western edge, degrees east.
    pub west: f64,
    /// Rows in it.
    pub n: usize,
    /// Share the image alone names right; rows without an image score count as missed.
    pub image_top1: f64,
    /// Share that image and place name right, with its 95 % interval.
    pub fused: Share,
}

/// Accuracy of the same model apart from its training rows and among them.
#[derive(Clone, Debug, Serialize)]
pub struct Contrast {
    /// Rows in cells that hold training rows: image, image and place.
    pub among_training: [Accuracy; 2],
    /// Rows in cells that hold none.
    pub apart: [Accuracy; 2],
}

/// How clustered hits and misses are, by spatial self-information (Wang et al., 2024): the surprisal
/// −log p, in nats, of Moran's I around each row. Computed as a logarithm throughout, so that it has no
/// ceiling.
#[derive(Clone, Debug, Serialize)]
pub struct SelfInformation {
    /// Rows with at least one other in reach.
    pub rows: usize,
    /// Radius of a neighbourhood, radians.
    pub radius: f64,
    /// Mean over the rows of where there are rows at all: what sampling alone gives.
    pub unmarked: f64,
    /// Mean with misses as 1 and hits as 2 before a background of 0: above that of answers scattered at
    /// random where failures cluster. Comparable between models on the same rows only.
    pub marked: f64,
}

/// How evenly a model serves the places it is asked about.
#[derive(Clone, Debug, Serialize)]
pub struct Geography {
    /// Side of a region, degrees.
    pub degrees: f64,
    /// Mean over the regions, each counted once: the image alone.
    pub mean_image_top1: f64,
    /// The same of image and place.
    pub mean_fused_top1: f64,
    /// Standard deviation of the regions' fused accuracy.
    pub sd_fused_top1: f64,
    /// Regions where the place helped, and where it hurt.
    pub helped_hurt: [usize; 2],
    /// By rising upper end of the fused interval: the first are those that are surely bad.
    pub regions: Vec<Region>,
    /// `None` unless the data tells training rows from the rest.
    pub training: Option<Contrast>,
    /// `None` where no row has another in reach.
    pub self_information: Option<SelfInformation>,
}

impl Geography {
    /// Of the answers to `rows`, in regions of `degrees`, above 0; `None` where no row has a place.
    pub fn of(data: &Dataset, rows: &[(&Row, ClassId)], answers: &Answers, degrees: f64) -> Option<Self> {
        let blocks: Vec<Option<Block>> = rows.iter().map(|(row, _)| block(row, degrees)).collect();
        let mut members: BTreeMap<Block, Vec<usize>> = BTreeMap::new();
        for (i, block) in blocks.iter().enumerate() {
            if let Some(block) = block {
                members.entry(*block).or_default().push(i);
            }
        }
        if members.is_empty() {
            return None;
        }
        let region = |(block, rows): (&Block, &Vec<usize>)| {
            let hits = |right: &dyn Fn(usize) -> bool| rows.iter().filter(|&&i| right(i)).count();
            let image = hits(&|i| answers.image[i].is_some_and(|answer| answer.is_right()));
            Region {
                south: f64::from(block.0) * degrees,
                west: f64::from(block.1) * degrees,
                n: rows.len(),
                image_top1: image as f64 / rows.len() as f64,
                fused: Share::of(hits(&|i| answers.fused[i].is_right()), rows.len()),
            }
        };
        let mut regions: Vec<Region> = members.iter().map(region).collect();
        regions.sort_by(|a, b| a.fused.high.total_cmp(&b.fused.high));
        let mean = |f: &dyn Fn(&Region) -> f64| regions.iter().map(f).sum::<f64>() / regions.len() as f64;
        let fused = mean(&|region| region.fused.value);
        let count = |f: &dyn Fn(&Region) -> bool| regions.iter().filter(|region| f(region)).count();
        Some(Self {
            degrees,
            mean_image_top1: mean(&|region| region.image_top1),
            mean_fused_top1: fused,
            sd_fused_top1: mean(&|region| (region.fused.value - fused).powi(2)).sqrt(),
            helped_hurt: [
                count(&|region| region.fused.value > region.image_top1),
                count(&|region| region.fused.value < region.image_top1),
            ],
            training: contrast(data, rows, &blocks, answers, degrees),
            self_information: self_information(rows, answers),
            regions,
        })
    }
}

/// Row and column of a cell, counted from (0, 0).
type Block = (i32, i32);

fn block(row: &Row, degrees: f64) -> Option<Block> {
    match Unit::of_degrees(0, row.place, degrees) {
        Unit::Cell(row, column) => Some((row, column)),
        Unit::Row(_) | Unit::Camera(_) => None,
    }
}

/// Rows in cells with and without training rows; `None` where none of the evaluated rows is apart from
/// the training rows by its split.
fn contrast(
    data: &Dataset,
    rows: &[(&Row, ClassId)],
    blocks: &[Option<Block>],
    answers: &Answers,
    degrees: f64,
) -> Option<Contrast> {
    if rows.iter().any(|(row, _)| matches!(row.split, None | Some(Split::Train))) {
        return None;
    }
    let of_training = data.rows.iter().filter(|row| row.split == Some(Split::Train));
    let training: BTreeSet<Block> = of_training.filter_map(|row| block(row, degrees)).collect();
    if training.is_empty() {
        return None;
    }
    let both = |among: bool| {
        let chosen = |answers: &mut dyn Iterator<Item = Option<Answer>>| {
            let rows = answers.zip(blocks);
            let rows = rows.filter(|(_, block)| block.is_some_and(|b| training.contains(&b) == among));
            accuracy(&rows.filter_map(|(answer, _)| answer).collect::<Vec<_>>())
        };
        [chosen(&mut answers.image.iter().copied()), chosen(&mut answers.fused.iter().copied().map(Some))]
    };
    Some(Contrast { among_training: both(true), apart: both(false) })
}

fn self_information(rows: &[(&Row, ClassId)], answers: &Answers) -> Option<SelfInformation> {
    let placed = rows.iter().zip(&answers.fused);
    let marked: Vec<(LatLon, bool)> =
        placed.filter_map(|((row, _), answer)| Some((row.place?, answer.is_right()))).collect();
    let places: Vec<LatLon> = marked.iter().map(|(at, _)| *at).collect();
    let one = |&centre: &LatLon| {
        let around = Neighbourhood::around(centre, &places, RADIUS)?;
        let unmarked = around.surprisal(|_| 1.0)?;
        Some([unmarked, around.surprisal(|i| if marked[i].1 { 2.0 } else { 1.0 })?])
    };
    let scores: Vec<[f64; 2]> = places.par_iter().filter_map(one).collect();
    let mean = |i: usize| scores.iter().map(|score| score[i]).sum::<f64>() / scores.len() as f64;
    (!scores.is_empty()).then(|| SelfInformation {
        rows: scores.len(),
        radius: RADIUS,
        unmarked: mean(0),
        marked: mean(1),
    })
}

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
    /// Rows of them that the image alone answers.
    pub pictures: usize,
    /// Share of those it names right; `None` without any.
    pub image_top1: Option<f64>,
    /// Share that image and place name right, with its 95 % interval.
    pub fused: Share,
}

/// Accuracy of the same model apart from its training rows and among them.
#[derive(Clone, Debug, Serialize)]
pub struct Contrast {
    /// Rows in cells that hold training rows: image, image and place; the image `None` where it answers none
    /// of them.
    pub among_training: (Option<Accuracy>, Accuracy),
    /// Rows in cells that hold none.
    pub apart: (Option<Accuracy>, Accuracy),
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
    /// Mean over the regions that the image alone answers in, each counted once; `None` without any.
    pub mean_image_top1: Option<f64>,
    /// The same of image and place, over all regions.
    pub mean_fused_top1: f64,
    /// Standard deviation of the regions' fused accuracy.
    pub sd_fused_top1: f64,
    /// Regions where the place helped the image, and where it hurt, over rows with both; `None` where no
    /// row has both.
    pub helped_hurt: Option<[usize; 2]>,
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
            let pictures = hits(&|i| answers.image[i].is_some());
            Region {
                south: f64::from(block.0) * degrees,
                west: f64::from(block.1) * degrees,
                n: rows.len(),
                pictures,
                image_top1: (pictures > 0).then(|| image as f64 / pictures as f64),
                fused: Share::of(hits(&|i| answers.fused[i].is_right()), rows.len()),
            }
        };
        let mut regions: Vec<Region> = members.iter().map(region).collect();
        regions.sort_by(|a, b| a.fused.high.total_cmp(&b.fused.high));
        let mean = |f: &dyn Fn(&Region) -> f64| regions.iter().map(f).sum::<f64>() / regions.len() as f64;
        let fused = mean(&|region| region.fused.value);
        let images: Vec<f64> = regions.iter().filter_map(|region| region.image_top1).collect();
        Some(Self {
            degrees,
            mean_image_top1: (!images.is_empty()).then(|| images.iter().sum::<f64>() / images.len() as f64),
            mean_fused_top1: fused,
            sd_fused_top1: mean(&|region| (region.fused.value - fused).powi(2)).sqrt(),
            helped_hurt: helped_hurt(members.values(), answers),
            training: contrast(data, rows, &blocks, answers, degrees),
            self_information: self_information(rows, answers),
            regions,
        })
    }
}

/// Regions, each given by its rows, in which the fused answer is right more often than the image's, and
/// less often, over the rows that both branches answer; `None` without such rows.
fn helped_hurt<'a>(regions: impl Iterator<Item = &'a Vec<usize>>, answers: &Answers) -> Option<[usize; 2]> {
    let (mut both, mut counts) = (false, [0, 0]);
    for rows in regions {
        let (mut image, mut fused) = (0usize, 0usize);
        for &i in rows {
            let (Some(answer), Some(_)) = (answers.image[i], answers.location[i]) else { continue };
            both = true;
            image += usize::from(answer.is_right());
            fused += usize::from(answers.fused[i].is_right());
        }
        counts[0] += usize::from(fused > image);
        counts[1] += usize::from(fused < image);
    }
    both.then_some(counts)
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
        let image = chosen(&mut answers.image.iter().copied());
        ((image.n > 0).then_some(image), chosen(&mut answers.fused.iter().copied().map(Some)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Options;
    use csp_models::labels::{Label, Labels};

    /// Two cells of two rows, in the second a training row too.
    fn data() -> Dataset {
        let row = |lat: f64, split| Row {
            place: LatLon::new(lat, 0.5).ok(),
            class: Some(ClassId(0)),
            split: Some(split),
            ..Row::default()
        };
        let rows = [0.2, 0.4, 1.2, 1.4].map(|lat| row(lat, Split::Val));
        Dataset {
            source: "t.csv".into(),
            rows: rows.into_iter().chain([row(1.6, Split::Train)]).collect(),
            labels: Labels(["a", "b"].map(Label::new).to_vec()),
            options: Options::default(),
            sha256: String::new(),
        }
    }

    fn geography(image: [Option<bool>; 4], fused: [bool; 4]) -> Geography {
        let data = data();
        let rows: Vec<(&Row, ClassId)> = data.rows[..4].iter().map(|row| (row, ClassId(0))).collect();
        let answer = |right: bool| Answer {
            rank: Some(if right { 1 } else { 2 }),
            best: ClassId(u16::from(!right)),
            confidence: 0.9,
        };
        let answers = Answers {
            truth: vec![ClassId(0); 4],
            image: image.iter().map(|right| right.map(answer)).collect(),
            location: fused.map(|right| Some(answer(right))).to_vec(),
            fused: fused.map(answer).to_vec(),
        };
        Geography::of(&data, &rows, &answers, 1.0).unwrap()
    }

    #[test]
    fn places_alone_have_no_image_to_help_or_hurt() {
        let alone = geography([None; 4], [true, true, true, false]);
        assert_eq!((alone.mean_image_top1, alone.helped_hurt), (None, None));
        assert!(alone.regions.iter().all(|region| region.image_top1.is_none() && region.n == 2));
        assert!((alone.mean_fused_top1 - 0.75).abs() < 1e-12);
        let training = alone.training.as_ref().unwrap();
        assert!(training.apart.0.is_none() && training.apart.1.n == 2);
        let json = serde_json::to_value(&alone).unwrap();
        assert!(json["mean_image_top1"].is_null() && json["helped_hurt"].is_null(), "{json}");
        assert!(json["training"]["apart"][0].is_null() && json["training"]["apart"][1]["n"] == 2, "{json}");
    }

    #[test]
    fn help_and_hurt_are_of_the_rows_with_both() {
        // the row without a picture is right by its place, which is no help to a picture
        let some = geography([Some(true), None, Some(false), Some(false)], [true, true, true, false]);
        assert_eq!(some.helped_hurt, Some([1, 0]));
        let southern = some.regions.iter().find(|region| region.south == 0.0).unwrap();
        assert_eq!((southern.n, southern.pictures, southern.image_top1), (2, 1, Some(1.0)));
        assert_eq!(some.mean_image_top1, Some(0.5));
    }
}

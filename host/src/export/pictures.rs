//! The pictures an export needs, from the data its run was trained on.

use std::path::{Path, PathBuf};

use csp_models::{labels::ClassId, manifest::ImageInput, picture, situation::Situation};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::TrainedModel;
use crate::{
    data::{self, Dataset},
    training::RunDir,
};

/// Most hold-out pictures that f32 and int8 are compared on: a point of accuracy needs a few hundred.
const MAX_COMPARED: usize = 2000;

/// A picture that f32 and int8 are compared on.
#[derive(Clone, Debug)]
pub struct Compared {
    /// Pixels of the model's input size, `height × width × 3`.
    pub pixels: Vec<u8>,
    /// What it shows.
    pub class: ClassId,
    /// Where and when it was taken, if that is known.
    pub at: Option<Situation>,
}

/// Pictures of a run.
#[derive(Debug, Default)]
pub struct RunPictures {
    /// From the training split, labelled or not: pixels of the model's input size.
    pub calibration: Vec<Vec<u8>>,
    /// The files of `calibration`.
    pub files: Vec<PathBuf>,
    /// From the run's hold-out, which calibrated and never trained.
    pub compare: Vec<Compared>,
}

/// Loads up to `calibration` training pictures and the hold-out of a run, drawn by the run's seed.
///
/// # Errors
/// Not a run, its data is gone or no longer the same, or a picture cannot be read.
pub fn of_run(run: &Path, model: &TrainedModel, calibration: usize) -> anyhow::Result<RunPictures> {
    let dir = RunDir::open(run)?;
    let info = dir.info();
    let Dataset { rows, labels, sha256, .. } = data::open_with(dir.data(), &info.data_options)?.dataset;
    if sha256 != info.data_sha256 {
        anyhow::bail!(
            "{}: its content is no longer what {} was trained on: restore it, or train again",
            dir.data().display(),
            run.display()
        );
    }
    let roles = dir.rows()?;
    let mut rng = ChaCha8Rng::seed_from_u64(info.seed);
    let mut draw = |mut wanted: Vec<usize>, count: usize| -> Vec<usize> {
        wanted.retain(|&row| rows.get(row).is_some_and(|row| row.image.is_some()));
        wanted.shuffle(&mut rng);
        wanted.truncate(count);
        wanted
    };
    let training = draw([roles.labelled, roles.unlabelled].concat(), calibration);
    let held_out = draw(roles.holdout, MAX_COMPARED);
    let path = |row: usize| rows[row].image.clone().unwrap_or_default();
    let class = |row: usize| model.labels.find(labels.name(rows[row].class?));
    let compare: Vec<(usize, ClassId)> =
        held_out.into_iter().filter_map(|row| Some((row, class(row)?))).collect();
    let files: Vec<PathBuf> = training.into_iter().map(path).collect();
    Ok(RunPictures {
        calibration: load(&files, &model.input)?,
        files,
        compare: {
            let paths: Vec<PathBuf> = compare.iter().map(|(row, _)| path(*row)).collect();
            let pictures = load(&paths, &model.input)?.into_iter().zip(compare);
            pictures
                .map(|(pixels, (row, class))| Compared { pixels, class, at: rows[row].situation() })
                .collect()
        },
    })
}

fn load(paths: &[PathBuf], input: &ImageInput) -> anyhow::Result<Vec<Vec<u8>>> {
    Ok(paths.par_iter().map(|path| picture::load(path, input)).collect::<Result<_, _>>()?)
}

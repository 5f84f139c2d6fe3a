//! A small synthetic data set, drawn on the spot: invented animals on an invented continent.
//!
//! Eight species in four pairs of look-alikes. A photograph tells the pair well and the species
//! poorly; the place tells which of a pair lives there and little else. So both together name what
//! neither can alone, as with real look-alike species. Nothing in it says anything about real animals.

mod draw;
mod trap;
mod world;

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

use csp_models::{bundle::write_atomically, place::LatLon, time::civil_from_days};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::data::{DataError, Split};

pub use trap::{TrapInputs, write_trap_inputs};
pub use world::{CELL_DEGREES, SPECIES};

/// Side of the photographs, pixels.
pub const SIDE: u32 = 64;
const JPEG_QUALITY: u8 = 90;

/// How many photographs to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleSize {
    /// For training.
    pub train: usize,
    /// For reporting.
    pub val: usize,
}

impl Default for SampleSize {
    /// Enough to see the effect, small enough for a demo.
    fn default() -> Self {
        Self { train: 1200, val: 400 }
    }
}

/// Why the sample could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// A file could not be written or read.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A photograph could not be encoded.
    #[error("{path}: {source}", path = .path.display())]
    Encode {
        /// The file.
        path: PathBuf,
        /// The encoder's reason.
        source: image::ImageError,
    },
    /// The sample that trap inputs are taken from cannot be opened.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The sample has no photographs that trap inputs could be taken from.
    #[error("{path}: no val photographs with camera and place", path = .path.display())]
    NoPhotographs {
        /// The sample's table.
        path: PathBuf,
    },
}

impl SampleError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        |source| Self::Io { path, source }
    }
}

/// One photograph to be drawn.
struct Shot {
    name: String,
    site: usize,
    place: LatLon,
    date: String,
    species: usize,
    split: Split,
}

/// Draws a sample into `dir` and returns its table: `table.csv`, `images/synthetic-*.jpg`, `README.txt`.
///
/// The same seed and size give the same files. Train and val lie in different cells of
/// [`CELL_DEGREES`] degrees. The table is written last: where it exists, everything it names does.
///
/// # Errors
/// [`SampleError::Io`] and [`SampleError::Encode`] name the file.
pub fn generate(dir: &Path, seed: u64, size: SampleSize) -> Result<PathBuf, SampleError> {
    let images = dir.join("images");
    fs::create_dir_all(&images).map_err(SampleError::io(&images))?;
    let shots = plan(seed, size);
    shots.par_iter().enumerate().try_for_each(|(i, shot)| {
        let path = images.join(&shot.name);
        let mut bytes = Vec::new();
        // each photograph has a stream of its own, so the order of drawing does not matter
        let picture = draw::photograph(shot.species, &shot.place, shot.site, seed, i);
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY)
            .encode_image(&picture)
            .map_err(|source| SampleError::Encode { path: path.clone(), source })?;
        fs::write(&path, bytes).map_err(SampleError::io(&path))
    })?;
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        write_atomically(&path, |out| out.write_all(text.as_bytes())).map_err(SampleError::io(&path))?;
        Ok(path)
    };
    write("README.txt", readme(seed, size))?;
    write("table.csv", table(&shots))
}

/// Chooses sites, species and dates.
fn plan(seed: u64, size: SampleSize) -> Vec<Shot> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let ranges = world::Ranges::new();
    let [train, val] = world::sites(&mut rng, size);
    let mut shots = Vec::with_capacity(size.train + size.val);
    let parts = [(&train, Split::Train, size.train, 0), (&val, Split::Val, size.val, train.len())];
    for (sites, split, count, first_site) in parts {
        for i in 0..count {
            // round the sites, so that each camera has nearly as many photographs
            let local = i % sites.len();
            let place = world::jitter(&mut rng, sites[local]);
            let species = ranges.draw(&mut rng, sites[local]);
            let day = 20_089 + crate::data::units::below(&mut rng, 365) as i64; // 2025-01-01 on
            let (year, month, day) = civil_from_days(day);
            shots.push(Shot {
                name: format!("synthetic-{:05}.jpg", shots.len() + 1),
                site: first_site + local,
                place,
                date: format!("{year:04}-{month:02}-{day:02}"),
                species,
                split,
            });
        }
    }
    shots
}

fn table(shots: &[Shot]) -> String {
    let mut text = String::from("image_path,lat,lon,date,label,split,camera\n");
    for shot in shots {
        let Shot { name, place, date, split, site, .. } = shot;
        text.push_str(&format!(
            "images/{name},{:.6},{:.6},{date},{},{split},synthetic-site-{site:03}\n",
            place.lat(),
            place.lon(),
            SPECIES[shot.species],
        ));
    }
    text
}

fn readme(seed: u64, size: SampleSize) -> String {
    let pairs = SPECIES.chunks(2).map(|pair| format!("  {} / {}\n", pair[0], pair[1])).collect::<String>();
    format!(
        "SYNTHETIC SAMPLE. Nothing here is real.\n\n\
         These photographs were drawn by csp-host (seed {seed}): {} for training, {} for validation.\n\
         The animals, their ranges and the continent in the empty South Pacific are invented.\n\
         Accuracies on this sample show that the program works, and say nothing about real animals.\n\n\
         Pairs of look-alikes, told apart mainly by where they live:\n{pairs}\n\
         table.csv    image_path, lat, lon, date, label, split, camera\n\
         images/      {SIDE}x{SIDE} JPEG\n\n\
         Training and validation lie in different cells of {CELL_DEGREES} degrees, so no place is in both.\n",
        size.train, size.val,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{self, problem::Severity, units::Unit};
    use std::{
        collections::{BTreeMap, HashSet},
        time::Instant,
    };

    const SMALL: SampleSize = SampleSize { train: 120, val: 40 };

    #[test]
    fn opens_clean_and_says_synthetic_everywhere() {
        let dir = tempfile::tempdir().unwrap();
        let table = generate(dir.path(), 1, SMALL).unwrap();
        let opened = data::open(&table, None).unwrap();
        assert_eq!(opened.problems.total(Severity::Warning), 0, "{:?}", opened.problems);
        let rows = &opened.dataset.rows;
        assert_eq!(rows.len(), 160);
        assert!(rows.iter().all(|row| row.place.is_some() && row.class.is_some() && row.season.is_some()));
        assert!(rows.iter().all(|row| row.name.to_string().contains("synthetic") && row.camera.is_some()));
        let readme = fs::read_to_string(dir.path().join("README.txt")).unwrap();
        assert!(readme.starts_with("SYNTHETIC"));
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let (one, two, other) =
            (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (dir, seed) in [(&one, 5), (&two, 5), (&other, 6)] {
            generate(dir.path(), seed, SMALL).unwrap();
        }
        for name in ["table.csv", "README.txt", "images/synthetic-00001.jpg", "images/synthetic-00160.jpg"] {
            let read = |dir: &tempfile::TempDir| fs::read(dir.path().join(name)).unwrap();
            assert_eq!(read(&one), read(&two), "{name}");
            assert_ne!(read(&one), read(&other), "{name}");
        }
    }

    #[test]
    fn place_helps_and_does_not_decide() {
        for seed in 0..3 {
            let shots = plan(seed, SampleSize::default());
            let of = |split| shots.iter().filter(move |shot| shot.split == split);
            assert_eq!((of(Split::Train).count(), of(Split::Val).count()), (1200, 400));
            let cells = |split| -> HashSet<_> {
                of(split).map(|shot| Unit::of_degrees(0, Some(shot.place), CELL_DEGREES)).collect()
            };
            assert!(cells(Split::Train).is_disjoint(&cells(Split::Val)));
            let mut counts = BTreeMap::new();
            shots.iter().for_each(|shot| *counts.entry(shot.species).or_insert(0) += 1);
            assert_eq!(counts.len(), SPECIES.len());
            assert!(counts.values().all(|&n| n > 80), "{counts:?}");
            // nearest 15 training photographs vote; chance is about 1 in 8
            let right = of(Split::Val)
                .filter(|shot| {
                    let mut near: Vec<(f64, usize)> =
                        of(Split::Train).map(|t| (t.place.distance_m(shot.place), t.species)).collect();
                    near.sort_by(|a, b| a.0.total_cmp(&b.0));
                    let mut votes = [0; SPECIES.len()];
                    near.iter().take(15).for_each(|(_, species)| votes[*species] += 1);
                    votes.iter().enumerate().max_by_key(|(_, n)| **n).unwrap().0 == shot.species
                })
                .count();
            let accuracy = right as f64 / 400.0;
            eprintln!("seed {seed}: nearest neighbours by place {accuracy:.3}");
            assert!((0.25..0.65).contains(&accuracy), "{accuracy}");
        }
    }

    #[test]
    fn look_alikes_look_alike() {
        let place = LatLon::new(-30.0, -122.0).unwrap();
        // the same scene and the same pose, another species in it
        let difference = |a: usize, b: usize| {
            let of = |scene: usize| {
                let one = draw::photograph(a, &place, 3, 9, scene);
                let two = draw::photograph(b, &place, 3, 9, scene);
                let pairs = one.as_raw().iter().zip(two.as_raw());
                pairs.map(|(p, q)| f64::from(p.abs_diff(*q))).sum::<f64>() / one.as_raw().len() as f64
            };
            (0..12).map(of).sum::<f64>() / 12.0
        };
        for (a, name) in SPECIES.iter().enumerate() {
            let twin = difference(a, a ^ 1);
            assert!(twin > 0.05, "{name} and its twin are not the same: {twin}");
            for b in (0..SPECIES.len()).filter(|b| b / 2 != a / 2) {
                let stranger = difference(a, b);
                assert!(stranger > 3.0 * twin, "{name} {}: {stranger} {twin}", SPECIES[b]);
            }
        }
    }

    #[test]
    fn the_default_size_is_quick() {
        let dir = tempfile::tempdir().unwrap();
        let start = Instant::now();
        generate(dir.path(), 1, SampleSize::default()).unwrap();
        eprintln!("drew 1600 photographs in {:?}", start.elapsed());
        assert!(cfg!(debug_assertions) || start.elapsed().as_secs() < 20);
    }
}

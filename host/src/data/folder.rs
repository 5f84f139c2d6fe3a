//! A folder of photographs: class = sub-folder, place and date from EXIF.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use csp_models::picture::shown_bands;
use rayon::prelude::*;

use super::{
    DataError, Split,
    check::plural,
    exif_place,
    problem::{Kind, Problems, quoted},
    rows::Draft,
    walk,
};

/// Folders inside folders that are entered.
const MAX_DEPTH: usize = 16;

/// Reads a folder: `class/photo.jpg`, `split/class/photo.jpg` when every first folder is named after a
/// split, anything deeper is the camera. Photographs without a sub-folder are unlabelled.
///
/// # Errors
/// The folder or one in it cannot be listed.
pub(crate) fn read(
    path: &Path,
    notes: &mut Vec<String>,
    problems: &mut Problems,
) -> Result<Vec<Draft>, DataError> {
    let mut found = Found::default();
    walk::files(path, MAX_DEPTH, &mut |file| found.add(file))?;
    found.photographs.sort();
    for (extension, files) in &found.foreign {
        for file in files {
            problems.add(Kind::ForeignImage, || format!(".{extension}: {}", quoted(&file.to_string_lossy())));
        }
    }
    let relative = |file: &Path| file.strip_prefix(path).unwrap_or(file).to_path_buf();
    let folders: Vec<Vec<String>> = found
        .photographs
        .iter()
        .map(|file| {
            let relative = relative(file);
            let parent = relative.parent().unwrap_or(Path::new(""));
            parent.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect()
        })
        .collect();
    let by_split = folders.iter().all(|f| f.first().is_some_and(|name| Split::from_word(name).is_some()));
    notes.push(if by_split {
        "split = first folder, class = second folder, place and date = EXIF".into()
    } else {
        "class = first folder, place and date = EXIF".to_string()
    });
    let facts: Vec<exif_place::Facts> =
        found.photographs.par_iter().map(|file| exif_place::read(file)).collect();
    note_tiles(found.photographs.iter().zip(&facts), notes);
    let mut drafts = Vec::with_capacity(facts.len());
    for ((file, folders), facts) in found.photographs.into_iter().zip(folders).zip(facts) {
        let name = relative(&file).to_string_lossy().into_owned();
        if let Some(bands) = facts.bands.filter(|bands| *bands > 4 && shown_bands(*bands) == [0, 1, 2]) {
            problems.add(Kind::SomeBands, || format!("{}: {bands} bands", quoted(&name)));
        }
        for (kind, reason) in [
            (Kind::BadGeoreference, facts.bad_georeference),
            (Kind::BadExifPlace, facts.bad_place),
            (Kind::BadDate, facts.bad_date),
            (Kind::BadExif, facts.damage),
        ] {
            if let Some(reason) = reason {
                problems.add(kind, || format!("{}: {reason}", quoted(&name)));
            }
        }
        let (split, rest) = match folders.split_first() {
            Some((first, rest)) if by_split => (Split::from_word(first), rest),
            _ => (None, folders.as_slice()),
        };
        let (class, deeper) = rest.split_first().map_or((None, rest), |(class, rest)| (Some(class), rest));
        drafts.push(Draft {
            at: quoted(&name).into(),
            name: name.into(),
            image: Some(file),
            place: facts.place,
            date: facts.date.map(Into::into),
            class: class.map(|name| name.as_str().into()),
            split,
            camera: (!deeper.is_empty()).then(|| deeper.join("/").into()),
            ..Draft::default()
        });
    }
    Ok(drafts)
}

/// Says how tiles are read, and which of their bands are shown.
fn note_tiles<'a>(
    files: impl Iterator<Item = (&'a PathBuf, &'a exif_place::Facts)>,
    notes: &mut Vec<String>,
) {
    let mut of_bands: BTreeMap<usize, usize> = BTreeMap::new();
    let mut tiles = 0;
    for (_, facts) in files.filter(|(file, _)| exif_place::is_tile(file)) {
        tiles += 1;
        if let Some(bands) = facts.bands {
            *of_bands.entry(bands).or_default() += 1;
        }
    }
    if tiles == 0 {
        return;
    }
    notes.push(format!(
        "{tiles} TIFF tiles: place = middle of the georeference; 16-bit values / 16, or / 257 in tiles of which \
         more than 5 % go above 20,000"
    ));
    for (bands, count) in of_bands {
        let [red, green, blue] = shown_bands(bands).map(|band| band + 1);
        let these = format!("{} of {}", plural(count, "tile"), plural(bands, "band"));
        notes.push(match bands {
            ..=2 => format!("{these}: the first is grey"),
            12 | 13 => format!(
                "{these}, taken for Sentinel-2's in its order: bands {red}, {green} and {blue} are red, green and blue"
            ),
            _ => format!("{these}: bands {red}, {green} and {blue} are red, green and blue"),
        });
    }
}

#[derive(Default)]
struct Found {
    photographs: Vec<PathBuf>,
    /// Pictures of other kinds, by extension.
    foreign: BTreeMap<String, Vec<PathBuf>>,
}

impl Found {
    fn add(&mut self, file: PathBuf) {
        let extension = file.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        match extension.as_str() {
            "jpg" | "jpeg" | "jpe" | "png" | "tif" | "tiff" => self.photographs.push(file),
            "heic" | "heif" | "avif" | "webp" | "bmp" | "gif" | "jp2" | "dng" | "cr2" | "cr3" | "nef"
            | "arw" | "orf" | "rw2" | "raf" => {
                self.foreign.entry(extension).or_default().push(file);
            }
            _ => {}
        }
    }
}

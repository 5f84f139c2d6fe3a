//! A folder with a JSON for each split, as iNaturalist (`train2018.json`, `val2018.json`) and Caltech's
//! camera traps (`train_annotations.json`, `cis_val_annotations.json`) are distributed.

use std::path::{Path, PathBuf};

use serde::{Deserialize, de::IgnoredAny};

use super::{
    DataError, Format, Split, coco, json, lineage::Lineages, problem::Problems, recognise, rows::Draft,
};

/// True for a folder with a JSON for training.
pub(crate) fn is_one(folder: &Path) -> bool {
    Jsons::of(folder).splits.iter().any(|(split, _)| *split == Split::Train)
}

/// The JSONs of a folder but for those of places and categories.
#[derive(Debug, Default)]
struct Jsons {
    splits: Vec<(Split, PathBuf)>,
    /// Those that are not read, and why.
    left: Vec<(PathBuf, &'static str)>,
}

impl Jsons {
    fn of(folder: &Path) -> Self {
        let mut found = Self::default();
        let Ok(entries) = std::fs::read_dir(folder) else { return found };
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort();
        for path in paths {
            let Some(stem) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json")) else {
                continue;
            };
            let stem = stem.to_lowercase();
            if stem.contains("location") || stem.contains("categor") {
                continue;
            }
            let coco = || {
                matches!(recognise::annotations(&path), Some(Format::CocoCameraTraps | Format::INaturalist))
            };
            match split_of(&stem) {
                _ if stem.contains("bbox") => found.left.push((path, "boxes")),
                Ok(_) if !coco() => found.left.push((path, "no images and annotations")),
                Ok(split) => found.splits.push((split, path)),
                Err(reason) => found.left.push((path, reason)),
            }
        }
        found.splits.sort();
        found
    }
}

/// The split that a name stands for: `train2018`, `cis_val_annotations`.
fn split_of(stem: &str) -> Result<Split, &'static str> {
    let words = stem.split(|c: char| !c.is_alphabetic());
    let mut splits: Vec<Split> = words.filter_map(Split::from_word).collect();
    splits.dedup();
    match splits[..] {
        [split] => Ok(split),
        [] => Err("its name tells no split"),
        _ => Err("its name tells several splits"),
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Reads the JSONs of a folder, each as its split; those left out are noted.
///
/// # Errors
/// Those of [`coco::read`]; two JSONs for training, which repeat each other as a rule.
pub(crate) fn read(
    folder: &Path,
    location_table: Option<&Path>,
    images: Option<&Path>,
    lineages: &mut Lineages,
    notes: &mut Vec<String>,
    problems: &mut Problems,
) -> Result<Vec<Draft>, DataError> {
    let Jsons { splits, mut left } = Jsons::of(folder);
    let train: Vec<String> =
        splits.iter().filter(|(split, _)| *split == Split::Train).map(|(_, path)| name(path)).collect();
    if let [first, second, ..] = &train[..] {
        // a smaller edition has the longer name: train_mini.json
        let away = if first.len() > second.len() { first } else { second };
        return Err(DataError::outline(
            folder,
            format!("{first} and {second} are both for train: move {away} away, or give one of them"),
        ));
    }
    let mut all = Vec::new();
    for (split, path) in splits {
        // the annotations of the challenges' test sets are not public
        if split == Split::Test && !is_annotated(&path)? {
            left.push((path, "no annotations"));
            continue;
        }
        notes.push(format!("{split}: {}", name(&path)));
        let mut drafts = coco::read(&path, location_table, images, lineages, notes, problems)?;
        drafts.iter_mut().for_each(|draft| draft.split = Some(split));
        all.append(&mut drafts);
    }
    if all.is_empty() {
        return Err(DataError::outline(folder, "no train….json in it: give the folder of the annotations"));
    }
    if !left.is_empty() {
        let left = left.iter().map(|(path, reason)| format!("{} ({reason})", name(path)));
        notes.push(format!("left out: {}", left.collect::<Vec<_>>().join(", ")));
    }
    Ok(all)
}

/// Whether a JSON has any annotations.
fn is_annotated(path: &Path) -> Result<bool, DataError> {
    #[derive(Deserialize)]
    struct Outline {
        #[serde(default)]
        annotations: Option<Vec<IgnoredAny>>,
    }
    let outline: Outline = json::read(path, "a JSON of annotations", &mut Vec::new())?;
    Ok(outline.annotations.is_some_and(|annotations| !annotations.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_split() {
        for (stem, split) in [
            ("train2018", Some(Split::Train)),
            ("train_mini", Some(Split::Train)),
            ("train_annotations", Some(Split::Train)),
            ("iwildcam2022_train_annotations", Some(Split::Train)),
            ("cis_val_annotations", Some(Split::Val)),
            ("validation", Some(Split::Val)),
            ("trans_test_annotations", Some(Split::Test)),
            ("train_val2017", None),
            ("constraint", None),
            ("caltech_images_20210113", None),
        ] {
            assert_eq!(split_of(stem).ok(), split, "{stem}");
        }
    }
}

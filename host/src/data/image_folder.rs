//! Where the photographs are that a table or JSON names.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Names that are tried: the first few of a file.
const TRIED: usize = 20;
/// Folders that are looked into beside the file, and above it.
const FOLDERS: usize = 256;

/// The file a table or JSON names, relative to `base`. Backslashes are turned where only that finds it.
pub(crate) fn resolve(base: &Path, name: &str) -> PathBuf {
    let path = base.join(name);
    if name.contains('\\') && !path.exists() {
        let turned = base.join(name.replace('\\', "/"));
        if turned.exists() {
            return turned;
        }
    }
    path
}

/// The folder that the names in `index` start at: the one `given`; else where the file itself lies, a folder
/// `images` there or one named like the file, the first that holds any of the first few of `names`; else, as
/// Caltech's `cct_images` and iWildCam's `../train` lie, the only folder beside the file, or else around
/// its own folder, that holds all of these.
pub(crate) fn of<'a>(
    index: &Path,
    given: Option<&Path>,
    names: impl Iterator<Item = &'a str>,
    notes: &mut Vec<String>,
) -> PathBuf {
    if let Some(given) = given {
        return given.into();
    }
    let names: Vec<&str> = names.take(TRIED).collect();
    let holds = |folder: &Path, name: &&str| resolve(folder, name).is_file();
    let beside = index.parent().unwrap_or(Path::new(""));
    let usual =
        [beside.to_path_buf(), beside.join("images"), beside.join(index.file_stem().unwrap_or_default())];
    if let Some(folder) = usual.iter().find(|folder| names.iter().any(|name| holds(folder, name))) {
        return folder.clone();
    }
    let [beside, ..] = usual;
    // of a bare name the parent is empty; what is around a folder is around where it really lies
    let here = if beside.as_os_str().is_empty() { Path::new(".") } else { &beside };
    let whole = fs::canonicalize(here).unwrap_or_default();
    let above = whole.parent();
    let around = above.map(|above| [vec![above.to_path_buf()], folders_in(above)].concat());
    for folders in [folders_in(&whole), around.unwrap_or_default()] {
        let all = |folder: &PathBuf| !names.is_empty() && names.iter().all(|name| holds(folder, name));
        let found: Vec<PathBuf> = folders.into_iter().filter(all).collect();
        match &found[..] {
            [] => {}
            [folder] => return folder.clone(),
            [first, second, ..] => {
                notes.push(format!(
                    "photographs of these names are in {} and in {}: say which with --images DIR",
                    first.display(),
                    second.display()
                ));
                return beside;
            }
        }
    }
    beside
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let folders = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        // a link is followed; a photograph is not looked up
        let kind = entry.file_type().ok()?;
        (!hidden && (kind.is_dir() || kind.is_symlink() && entry.path().is_dir())).then(|| entry.path())
    });
    let mut folders: Vec<PathBuf> = folders.take(FOLDERS).collect();
    folders.sort();
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_as_data_sets_are_distributed() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["1.jpg", "2.jpg"];
        let put = |path: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        };
        let mut notes = Vec::new();
        let mut of = |index: &str| {
            let folder = of(&dir.path().join(index), None, names.into_iter(), &mut notes);
            folder.strip_prefix(dir.path()).unwrap().to_string_lossy().into_owned()
        };
        // nowhere: beside, as the message then says
        assert_eq!(of("set/metadata/a.json"), "set/metadata");
        put("set/train/1.jpg");
        assert_eq!(of("set/metadata/a.json"), "set/metadata", "one of two may be of another data set");
        put("set/metadata/x");
        put("set/train/2.jpg");
        assert_eq!(of("set/metadata/a.json"), "set/train");
        put("set/metadata/photos/1.jpg");
        put("set/metadata/photos/2.jpg");
        assert_eq!(of("set/metadata/a.json"), "set/metadata/photos");
        put("set/metadata/images/1.jpg");
        assert_eq!(of("set/metadata/a.json"), "set/metadata/images");
        put("set/metadata/1.jpg");
        assert_eq!(of("set/metadata/a.json"), "set/metadata");
        put("two/a/1.jpg");
        put("two/a/2.jpg");
        put("two/b/1.jpg");
        put("two/b/2.jpg");
        assert_eq!(of("two/a.csv"), "two/a", "a folder named like the file");
        assert_eq!(of("two/c.csv"), "two");
        assert!(notes.len() == 1 && notes[0].contains("--images DIR"), "{notes:?}");
    }
}

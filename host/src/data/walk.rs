//! The files below a folder.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::DataError;

/// Calls `each` with every file below `folder`, by name within a folder; hidden ones and folders more than
/// `depth` below are left out. Links are followed, but no folder is entered twice: they can lead round in
/// circles.
///
/// # Errors
/// A folder that cannot be listed.
pub(crate) fn files(folder: &Path, depth: usize, each: &mut dyn FnMut(PathBuf)) -> Result<(), DataError> {
    below(folder, depth, &mut BTreeSet::new(), each)
}

fn below(
    folder: &Path,
    depth: usize,
    entered: &mut BTreeSet<PathBuf>,
    each: &mut dyn FnMut(PathBuf),
) -> Result<(), DataError> {
    let io = |source| DataError::io(folder, source);
    if !entered.insert(fs::canonicalize(folder).map_err(io)?) {
        return Ok(());
    }
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        paths.push(entry.map_err(io)?.path());
    }
    paths.sort();
    for path in paths {
        if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
            continue;
        }
        if !path.is_dir() {
            each(path);
        } else if depth > 0 {
            below(&path, depth - 1, entered, each)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn links_are_followed_once_and_hidden_files_left() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        for name in ["a/2.txt", "a/1.txt", ".hidden"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        fs::write(elsewhere.path().join("3.txt"), "").unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), dir.path().join("b")).unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("a/round")).unwrap();
        let found = |depth| {
            let mut found = Vec::new();
            files(dir.path(), depth, &mut |file| {
                found.push(file.strip_prefix(dir.path()).unwrap().to_string_lossy().into_owned());
            })
            .unwrap();
            found
        };
        assert_eq!(found(8), ["a/1.txt", "a/2.txt", "b/3.txt"]);
        assert!(found(0).is_empty());
    }
}

//! A folder as the camera: its pictures by name, one a capture, from the start again after the last.

use std::{
    fs,
    path::{Path, PathBuf},
};

use csp_models::picture;

use super::{CameraError, Still};
use crate::desk::is_picture;

/// The folder.
#[derive(Debug)]
pub struct FolderCamera {
    dir: PathBuf,
    /// The file given last: names may come and go in between.
    last: Option<PathBuf>,
}

impl FolderCamera {
    /// Pictures of `dir`; it is listed at each capture.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.into(), last: None }
    }

    fn next(&self) -> Result<PathBuf, String> {
        let entries = fs::read_dir(&self.dir).map_err(|error| error.to_string())?;
        let mut paths: Vec<PathBuf> = entries
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| path.is_file() && path.file_name().is_some_and(|name| is_picture(Path::new(name))))
            .collect();
        paths.sort();
        let after = |path: &&PathBuf| self.last.as_ref().is_none_or(|last| *path > last);
        let next = paths.iter().find(after).or(paths.first());
        next.cloned().ok_or_else(|| "no .jpg, .jpeg or .png in it".to_string())
    }
}

impl Still for FolderCamera {
    fn capture(&mut self) -> Result<Vec<u8>, CameraError> {
        let refuse = |problem| CameraError::Folder { folder: self.dir.display().to_string(), problem };
        let path = self.next().map_err(refuse)?;
        self.last = Some(path.clone());
        picture::read(&path).map_err(|error| CameraError::Corrupt(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_one_after_the_other_and_begins_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut camera = FolderCamera::new(dir.path());
        assert!(matches!(camera.capture(), Err(CameraError::Folder { .. })));
        for (name, content) in [("b.jpg", "b"), ("a.jpg", "a"), ("c.txt", "c")] {
            fs::write(dir.path().join(name), content).unwrap();
        }
        let taken: Vec<Vec<u8>> = (0..3).map(|_| camera.capture().unwrap()).collect();
        assert_eq!(taken, [b"a", b"b", b"a"]);
        assert!(FolderCamera::new(Path::new("/nonexistent")).capture().is_err());
    }
}

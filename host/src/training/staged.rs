//! A directory that appears under its name complete, or not at all.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process,
};

use super::TrainError;

/// A directory under way, beside the place it is meant for; gone with this value unless it was [kept](Self::keep).
#[derive(Debug)]
pub(crate) struct Staged {
    path: PathBuf,
    out: PathBuf,
}

impl Staged {
    /// The way to `out`, whose parent is made; nothing is there yet.
    ///
    /// # Errors
    /// A path without a name, or the system's reason.
    pub(crate) fn beside(out: &Path) -> Result<Self, TrainError> {
        let Some(name) = out.file_name() else {
            let problem = format!("{} is not the name of a directory", out.display());
            return Err(TrainError::Config { field: "--out".into(), problem });
        };
        fs::create_dir_all(parent(out)).map_err(TrainError::io(parent(out)))?;
        let path = parent(out).join(format!(".{}.{}.tmp", name.to_string_lossy(), process::id()));
        // of a process of this number that was killed
        let _ = fs::remove_dir_all(&path);
        Ok(Self { path, out: out.into() })
    }

    /// True for the path of such a directory.
    pub(crate) fn is(path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with('.') && name.ends_with(".tmp")
    }

    /// Where it is for now.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name; a directory that is there may only be empty.
    ///
    /// # Errors
    /// The system's reason.
    pub(crate) fn keep(self) -> Result<(), TrainError> {
        // fails where there is none, and where it is not empty
        let _ = fs::remove_dir(&self.out);
        fs::rename(&self.path, &self.out).map_err(TrainError::io(&self.out))?;
        let parent = parent(&self.out);
        // a file system that cannot do it on directories keeps the name all the same
        let _ = File::open(parent).and_then(|parent| parent.sync_all());
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The folder a path is in.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appears_complete_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("runs/new");
        let begin = || {
            let staged = Staged::beside(&out).unwrap();
            assert!(Staged::is(staged.path()) && !Staged::is(&out));
            fs::create_dir(staged.path()).unwrap();
            fs::write(staged.path().join("run.json"), "{}").unwrap();
            staged
        };
        let left = || fs::read_dir(dir.path().join("runs")).unwrap().count();
        drop(begin());
        assert_eq!(left(), 0, "cut short, nothing is left");
        fs::create_dir(&out).unwrap();
        begin().keep().unwrap();
        assert!(out.join("run.json").is_file() && left() == 1);
        fs::write(out.join("mine"), "m").unwrap();
        let error = begin().keep().unwrap_err().to_string();
        assert!(error.contains("new"), "{error}");
        assert!(out.join("mine").is_file() && left() == 1);
        assert!(Staged::beside(Path::new("..")).unwrap_err().to_string().contains("--out"));
    }
}

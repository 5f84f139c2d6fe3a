//! The segment file being written, and what is done to the ones before it.

use std::{io, path::Path, path::PathBuf};

use super::files::Files;

/// The segment being written.
#[derive(Debug)]
pub(super) struct Open<F: Files> {
    pub path: PathBuf,
    pub file: F::File,
    /// Bytes of whole frames in it.
    pub size: u64,
    /// A failed write could not be taken back: `size` may be less than the file's.
    dirty: bool,
}

impl<F: Files> Open<F> {
    /// Makes a segment that begins with that frame, durably, or leaves none.
    pub fn create(files: &F, path: PathBuf, header: &[u8]) -> io::Result<Self> {
        let file = files.create(&path)?;
        let mut open = Self { path, file, size: 0, dirty: false };
        let folder = open.path.parent().unwrap_or(Path::new("")).to_path_buf();
        let written = open.write(files, header).and_then(|()| files.sync_folder(&folder));
        if let Err(error) = written {
            let _ = files.remove(&open.path);
            return Err(error);
        }
        Ok(open)
    }

    /// Goes on in a segment of that many whole bytes.
    pub fn resume(files: &F, path: PathBuf, size: u64) -> io::Result<Self> {
        let file = files.open(&path)?;
        Ok(Self { path, file, size, dirty: false })
    }

    /// Appends whole frames durably, or takes back what got written of them.
    pub fn write(&mut self, files: &F, frames: &[u8]) -> io::Result<()> {
        if self.dirty {
            self.take_back(files)?;
        }
        let written = files.append(&mut self.file, frames).and_then(|()| files.sync(&mut self.file));
        match written {
            Ok(()) => self.size += frames.len() as u64,
            Err(_) => {
                // If this fails as well the tail reads as torn, and the next write tries again.
                self.dirty = self.take_back(files).is_err();
            }
        }
        written
    }

    fn take_back(&mut self, files: &F) -> io::Result<()> {
        files.set_len(&mut self.file, self.size)?;
        files.sync(&mut self.file)?;
        self.dirty = false;
        Ok(())
    }
}

/// Cuts a segment to its whole frames. The rest is unacknowledged; it is kept beside it for the curious.
pub(super) fn cut_tail<F: Files>(files: &F, path: &Path, bytes: &[u8], whole: u64) -> io::Result<()> {
    let tail = usize::try_from(whole).ok().and_then(|from| bytes.get(from..)).unwrap_or_default();
    let torn = path.with_extension("torn");
    let _ = files.remove(&torn);
    let _ = files.create(&torn).and_then(|mut file| files.append(&mut file, tail));
    let mut file = files.open(path)?;
    files.set_len(&mut file, whole)?;
    files.sync(&mut file)
}

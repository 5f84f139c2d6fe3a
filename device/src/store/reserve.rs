//! A file that only takes up room: it is removed when the disk is full, so that records still go in.

use std::{io, path::Path, path::PathBuf};

use super::files::Files;

#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    bytes: u64,
    held: bool,
}

impl Reserve {
    /// Finds the reserve of a store; what is there of another size is made anew.
    pub fn open<F: Files>(files: &F, dir: &Path, bytes: u64) -> Self {
        let path = dir.join("reserve");
        let found = files
            .list(dir)
            .ok()
            .and_then(|listed| listed.into_iter().find(|(listed, _)| *listed == path).map(|(_, size)| size));
        let held = found == Some(bytes) && bytes > 0;
        if found.is_some() && !held {
            let _ = files.remove(&path);
        }
        Self { path, bytes, held }
    }

    pub fn is_held(&self) -> bool {
        self.held || self.bytes == 0
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes the room, where twice as much is free: a reserve must not itself fill the disk.
    pub fn hold<F: Files>(&mut self, files: &F) {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        if self.is_held() || files.free_bytes(folder).is_some_and(|free| free < self.bytes.saturating_mul(2))
        {
            return;
        }
        let make = || -> io::Result<()> {
            let mut file = files.create(&self.path)?;
            files.preallocate(&mut file, self.bytes)?;
            files.sync(&mut file)
        };
        self.held = make().is_ok();
        if !self.held {
            let _ = files.remove(&self.path);
        }
    }

    /// Gives the room up; false when there was none to give.
    pub fn release<F: Files>(&mut self, files: &F) -> bool {
        if !self.held {
            return false;
        }
        self.held = false;
        files.remove(&self.path).is_ok()
    }
}

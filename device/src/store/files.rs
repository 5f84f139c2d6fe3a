//! What the store asks of a file system: few enough operations that another can be put in its place.

use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// A file system. [`Disk`] is the real one; [`Simulated`](super::simulated::Simulated) forgets what was
/// not synced when its power is cut.
///
/// Nothing is durable before it is synced: a file's content by [`sync`](Files::sync), its name by
/// [`sync_folder`](Files::sync_folder) of the folder it stands in.
pub trait Files: fmt::Debug {
    /// A file open for appending.
    type File: fmt::Debug;
    /// Keeps others out for as long as it lives.
    type Lock: fmt::Debug;

    /// Makes a folder and those above it, durably; one that is there already is fine.
    ///
    /// # Errors
    /// The system's reason, here and below.
    fn make_folder(&self, path: &Path) -> io::Result<()>;

    /// Locks a file, which is made when missing; `None` while somebody else holds it.
    ///
    /// # Errors
    /// The system's reason.
    fn lock(&self, path: &Path) -> io::Result<Option<Self::Lock>>;

    /// The files (not folders) of a folder with their sizes in bytes, in no order.
    ///
    /// # Errors
    /// The system's reason.
    fn list(&self, folder: &Path) -> io::Result<Vec<(PathBuf, u64)>>;

    /// A file's bytes.
    ///
    /// # Errors
    /// The system's reason.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Makes a file that must not be there yet.
    ///
    /// # Errors
    /// The system's reason.
    fn create(&self, path: &Path) -> io::Result<Self::File>;

    /// Opens a file for appending.
    ///
    /// # Errors
    /// The system's reason.
    fn open(&self, path: &Path) -> io::Result<Self::File>;

    /// Writes at the file's end; after an error any part of the bytes may stand there.
    ///
    /// # Errors
    /// The system's reason.
    fn append(&self, file: &mut Self::File, bytes: &[u8]) -> io::Result<()>;

    /// Cuts a file to a length in bytes.
    ///
    /// # Errors
    /// The system's reason.
    fn set_len(&self, file: &mut Self::File, length: u64) -> io::Result<()>;

    /// Gives an empty file that many bytes of real space.
    ///
    /// # Errors
    /// The system's reason.
    fn preallocate(&self, file: &mut Self::File, length: u64) -> io::Result<()>;

    /// Waits until a file's content and length are durable.
    ///
    /// # Errors
    /// The system's reason.
    fn sync(&self, file: &mut Self::File) -> io::Result<()>;

    /// Moves a file over whatever has the new name, at once or not at all.
    ///
    /// # Errors
    /// The system's reason.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// The system's reason.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Waits until the names in a folder are durable.
    ///
    /// # Errors
    /// The system's reason.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;

    /// Bytes that can still be written; `None` where the system does not say.
    fn free_bytes(&self, folder: &Path) -> Option<u64>;
}

/// The file system of the board.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Files for Disk {
    type File = File;
    type Lock = File;

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        if !path.is_dir() {
            if parent != Path::new(".") {
                self.make_folder(parent)?;
            }
            match fs::create_dir(path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        // Even a folder found here may not be on the medium: whoever made it was killed. A parent that
        // may not be listed is no reason to give up.
        match self.sync_folder(parent) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            synced => synced,
        }
    }

    fn lock(&self, path: &Path) -> io::Result<Option<File>> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_file() {
                found.push((entry.path(), metadata.len()));
            }
        }
        Ok(found)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().append(true).create_new(true).open(path)
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().append(true).open(path)
    }

    fn append(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn set_len(&self, file: &mut File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    fn preallocate(&self, file: &mut File, length: u64) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{FallocateFlags, fallocate};
            if fallocate(&*file, FallocateFlags::empty(), 0, length).is_ok() {
                return Ok(());
            }
        }
        // FAT and others know no reservation; zeros take the same room.
        let zeros = [0; 1 << 16];
        let mut left = length;
        while left > 0 {
            let count = left.min(zeros.len() as u64);
            file.write_all(zeros.get(..count as usize).unwrap_or(&zeros))?;
            left -= count;
        }
        Ok(())
    }

    fn sync(&self, file: &mut File) -> io::Result<()> {
        file.sync_data()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        // Elsewhere than on Unix a folder cannot be opened, and needs not.
        if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
    }

    #[cfg(unix)]
    fn free_bytes(&self, folder: &Path) -> Option<u64> {
        let found = rustix::fs::statvfs(folder).ok()?;
        found.f_bavail.checked_mul(found.f_frsize)
    }

    #[cfg(not(unix))]
    fn free_bytes(&self, _: &Path) -> Option<u64> {
        None
    }
}

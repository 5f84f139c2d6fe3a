//! A file that only its owner may read, and that is never written over.

use std::{fs, io, io::Write, path::Path};

/// Writes a secret key into a new file.
///
/// # Errors
/// The file exists already, or cannot be written.
pub(crate) fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

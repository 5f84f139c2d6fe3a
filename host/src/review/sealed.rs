//! Opening what a trap sealed to its owner: places in records, pictures beside them.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use csp_models::{
    bundle::write_atomically,
    picture::MAX_FILE,
    seal::{self, Identity, KeyError, SealError},
};

use super::Store;
use crate::secret_file;

/// Longest name of a folder inside a folder: deeper is a loop of links.
const MAX_DEPTH: u32 = 8;

/// Why sealed things stay shut.
#[derive(Debug, thiserror::Error)]
pub enum UnsealError {
    /// A file or folder cannot be read or written.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The key file holds no key.
    #[error("{path}: {source}", path = .path.display())]
    Key {
        /// The key file.
        path: PathBuf,
        /// What is wrong.
        source: KeyError,
    },
    /// The system cannot make a key.
    #[error(transparent)]
    Random(#[from] SealError),
}

/// What became of the pictures of a folder.
#[derive(Debug, Default)]
pub struct Opened {
    /// The files written.
    pub written: Vec<PathBuf>,
    /// The files that stayed shut, each with its reason.
    pub failed: Vec<(PathBuf, String)>,
}

/// The secret keys of a key file, ours or `age-keygen`'s.
///
/// # Errors
/// [`UnsealError`]: unreadable, or no key in it.
pub fn read_keys(path: &Path) -> Result<Vec<Identity>, UnsealError> {
    let text = fs::read_to_string(path).map_err(|source| UnsealError::Io { path: path.into(), source })?;
    Identity::from_key_file(&text).map_err(|source| UnsealError::Key { path: path.into(), source })
}

/// Makes a secret key in a new file that only its owner may read; gives the public key.
///
/// # Errors
/// The file exists already, or cannot be written.
pub fn new_key(path: &Path) -> Result<seal::Recipient, UnsealError> {
    let key = Identity::generate()?;
    secret_file::write(path, &key.key_file())
        .map_err(|source| UnsealError::Io { path: path.into(), source })?;
    Ok(key.recipient())
}

impl Store {
    /// Puts the sealed places back into the entries; gives how many were opened and how many the keys do
    /// not fit.
    pub fn unseal(&mut self, keys: &[Identity]) -> (usize, usize) {
        let entries = self.segments.iter_mut().flat_map(|segment| &mut segment.content.entries);
        entries.fold((0, 0), |(opened, shut), entry| match seal::open_entry(keys, entry) {
            Ok(true) => (opened + 1, shut),
            Ok(false) => (opened, shut),
            Err(_) => (opened, shut + 1),
        })
    }
}

/// Opens every `*.age` below `from` into `to`, under the same names without `.age`.
///
/// # Errors
/// The folder cannot be listed, or the first file that cannot be written; what merely stays shut is in
/// [`Opened::failed`].
pub fn open_pictures(from: &Path, keys: &[Identity], to: &Path) -> Result<Opened, UnsealError> {
    let mut opened = Opened::default();
    for path in sealed_files(from, MAX_DEPTH)? {
        match open_file(&path, keys) {
            Ok(plain) => {
                let inside = path.strip_prefix(from).unwrap_or(&path).with_extension("");
                let target = to.join(inside);
                let io = |source| UnsealError::Io { path: target.clone(), source };
                if let Some(folder) = target.parent() {
                    fs::create_dir_all(folder).map_err(io)?;
                }
                write_atomically(&target, |file| file.write_all(&plain)).map_err(io)?;
                opened.written.push(target);
            }
            Err(reason) => opened.failed.push((path, reason)),
        }
    }
    Ok(opened)
}

fn open_file(path: &Path, keys: &[Identity]) -> Result<Vec<u8>, String> {
    // a sealed picture is little longer than the picture
    let length = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > MAX_FILE + (1 << 20) {
        return Err(format!("{length} bytes is no picture's size"));
    }
    let sealed = fs::read(path).map_err(|error| error.to_string())?;
    seal::open(keys, &sealed).map_err(|error| error.to_string())
}

fn sealed_files(dir: &Path, depth: u32) -> Result<Vec<PathBuf>, UnsealError> {
    let io = |source| UnsealError::Io { path: dir.into(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.is_dir() && depth > 0 {
            found.extend(sealed_files(&path, depth - 1)?);
        } else if path.is_file() && path.extension().is_some_and(|extension| extension == "age") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_opened_under_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to, key_file) = (dir.path().join("s"), dir.path().join("o"), dir.path().join("key"));
        let public = new_key(&key_file).unwrap();
        assert!(new_key(&key_file).is_err(), "a key is never written over");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&key_file).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let keys = read_keys(&key_file).unwrap();
        fs::create_dir_all(from.join("pictures")).unwrap();
        fs::write(from.join("pictures/a.jpg.age"), seal::seal(&public, b"pixels").unwrap()).unwrap();
        fs::write(from.join("b.jpg.age"), b"not sealed").unwrap();
        fs::write(from.join("c.jpg"), b"in the clear").unwrap();
        let opened = open_pictures(&from, &keys, &to).unwrap();
        assert_eq!(opened.written, [to.join("pictures/a.jpg")]);
        assert_eq!(fs::read(to.join("pictures/a.jpg")).unwrap(), b"pixels");
        assert_eq!(opened.failed.len(), 1);
        let other = [Identity::generate().unwrap()];
        let shut = open_pictures(&from, &other, &dir.path().join("n")).unwrap();
        assert!(shut.written.is_empty() && shut.failed.iter().any(|(_, why)| why.contains("another")));
        assert!(matches!(read_keys(&from.join("c.jpg")), Err(UnsealError::Key { .. })));
    }
}

//! Model bundles on disk: one uncompressed zip (`.cspm`) or a directory of the same files.
//!
//! Nothing is used before its size and SHA-256 match the manifest. A board that runs a part of the
//! files reads that part alone ([`Bundle::open_some`]): what is never read is never used either.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Cursor, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use sha2::{Digest, Sha256};
use zip::{CompressionMethod, ZipArchive, ZipWriter, write::SimpleFileOptions};

use crate::{
    manifest::{FileEntry, Manifest, ManifestError, file},
    signature::{self, SignatureError, TrustedKey},
};

/// Largest file of a bundle that is read, bytes.
pub const MAX_FILE: u64 = 512 << 20;
/// Longest signature: four lines of text.
const MAX_SIGNATURE: u64 = 4096;

/// A verified model.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// Its manifest.
    pub manifest: Manifest,
    /// SHA-256 of `manifest.json`; since that lists every other digest, the model's identity.
    pub digest: [u8; 32],
    /// `manifest.json` as it is on disk: what is signed.
    json: Vec<u8>,
    signature: Option<String>,
    files: BTreeMap<String, Vec<u8>>,
}

/// Why a bundle is refused.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The file or a part of it cannot be read.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The bundle, or the file in it.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Not a zip.
    #[error("{path}: not a model bundle ({reason})", path = .path.display())]
    NotABundle {
        /// The bundle.
        path: PathBuf,
        /// What the zip reader says.
        reason: String,
    },
    /// A file the manifest lists is absent.
    #[error("{path}: {name} is missing", path = .path.display())]
    Missing {
        /// The bundle.
        path: PathBuf,
        /// The absent file.
        name: String,
    },
    /// A file is not the one the manifest describes.
    #[error("{path}: {name} is not the file the manifest describes ({what} differs): the bundle is damaged or was altered", path = .path.display())]
    Altered {
        /// The bundle.
        path: PathBuf,
        /// The file.
        name: String,
        /// `size` or `SHA-256`.
        what: &'static str,
    },
    /// A file larger than [`MAX_FILE`].
    #[error("{path}: {name} is larger than {MAX_FILE} bytes", path = .path.display())]
    TooLarge {
        /// The bundle.
        path: PathBuf,
        /// The file.
        name: String,
    },
    /// `manifest.json` does not parse.
    #[error("{path}: manifest.json: {source}", path = .path.display())]
    Json {
        /// The bundle.
        path: PathBuf,
        /// Line, column and field.
        source: serde_json::Error,
    },
    /// `manifest.json` parses and cannot be used.
    #[error("{path}: manifest.json: {source}", path = .path.display())]
    Manifest {
        /// The bundle.
        path: PathBuf,
        /// The field.
        source: ManifestError,
    },
}

impl Bundle {
    /// Puts a bundle together: fills in the manifest's file list.
    ///
    /// # Errors
    /// A manifest that [`Manifest::validate`] refuses, named after `bundle`.
    pub fn assemble(mut manifest: Manifest, files: BTreeMap<String, Vec<u8>>) -> Result<Self, ManifestError> {
        manifest.files = files
            .iter()
            .map(|(name, bytes)| {
                (name.clone(), FileEntry { size: bytes.len() as u64, sha256: sha256_hex(bytes) })
            })
            .collect();
        manifest.validate()?;
        let json = manifest_json(&manifest);
        let digest = Sha256::digest(&json).into();
        Ok(Self { manifest, digest, json, signature: None, files })
    }

    /// Reads and verifies a bundle, a `.cspm` file or a directory.
    ///
    /// # Errors
    /// [`BundleError`] names the file at fault.
    pub fn open(path: &Path) -> Result<Self, BundleError> {
        Self::open_some(path, |_, _| true)
    }

    /// Reads and verifies the manifest and those files it lists that `wanted` asks for; of the others
    /// only that they are there and how large they are. [`Bundle::file`] knows those read.
    ///
    /// # Errors
    /// [`BundleError`] names the file at fault.
    pub fn open_some(path: &Path, wanted: impl Fn(&Manifest, &str) -> bool) -> Result<Self, BundleError> {
        let mut source = Source::open(path)?;
        let json = source.read(file::MANIFEST, MAX_FILE)?;
        // The schema first: a newer manifest need not fit our struct.
        #[derive(serde::Deserialize)]
        struct Schema {
            schema: u32,
        }
        let json_error = |source| BundleError::Json { path: path.into(), source };
        let Schema { schema } = serde_json::from_slice(&json).map_err(json_error)?;
        let refuse = |source| BundleError::Manifest { path: path.into(), source };
        if schema > crate::manifest::MANIFEST_SCHEMA {
            return Err(refuse(ManifestError::NewerSchema { found: schema }));
        }
        let manifest: Manifest = serde_json::from_slice(&json).map_err(json_error)?;
        manifest.validate().map_err(refuse)?;
        let mut files = BTreeMap::new();
        for (name, entry) in &manifest.files {
            let altered = |what| BundleError::Altered { path: path.into(), name: name.clone(), what };
            if entry.size > MAX_FILE {
                return Err(BundleError::TooLarge { path: path.into(), name: name.clone() });
            }
            if source.size(name)? != entry.size {
                return Err(altered("size"));
            }
            if !wanted(&manifest, name) {
                continue;
            }
            let bytes = source.read(name, entry.size)?;
            if bytes.len() as u64 != entry.size {
                return Err(altered("size"));
            }
            if sha256_hex(&bytes) != entry.sha256 {
                return Err(altered("SHA-256"));
            }
            files.insert(name.clone(), bytes);
        }
        let signature = match source.size(file::SIGNATURE) {
            Ok(_) => Some(source.read(file::SIGNATURE, MAX_SIGNATURE)?),
            Err(BundleError::Missing { .. }) => None,
            Err(error) => return Err(error),
        };
        let signature = signature.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok(Self { manifest, digest: Sha256::digest(&json).into(), json, signature, files })
    }

    /// The bytes of `manifest.json`: what a signature is over.
    pub fn manifest_json(&self) -> &[u8] {
        &self.json
    }

    /// The text of its signature's file, verified by nobody yet; `None` for an unsigned bundle.
    pub fn signature(&self) -> Option<&str> {
        self.signature.as_deref()
    }

    /// The same bundle with a signature, in place of the one it may have.
    #[must_use]
    pub fn signed(self, signature: String) -> Self {
        Self { signature: Some(signature), ..self }
    }

    /// Checks that one of `keys` signed the manifest; returns the comment under the signature.
    ///
    /// # Errors
    /// [`SignatureError`]: not signed, by another key, or changed since.
    pub fn verify(&self, keys: &[TrustedKey]) -> Result<String, SignatureError> {
        signature::verify(&self.json, self.signature(), keys)
    }

    /// The content of a file the manifest lists and that was read.
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(Vec::as_slice)
    }

    /// The same, given away: a board has no room for a network and its file.
    pub fn take_file(&mut self, name: &str) -> Option<Vec<u8>> {
        self.files.remove(name)
    }

    /// Writes a `.cspm`: to a temporary beside it, synced, then renamed. The same model gives the same bytes.
    ///
    /// # Errors
    /// The system's reason; `path` is then as it was.
    pub fn write(&self, path: &Path) -> Result<(), BundleError> {
        let io = |source| BundleError::Io { path: path.into(), source };
        let bytes = self.zip().map_err(io)?;
        write_atomically(path, |out| out.write_all(&bytes)).map_err(io)
    }

    /// The zip in memory: a writer that meets a full disk half-way would complain on its own.
    fn zip(&self) -> io::Result<Vec<u8>> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        let signature = self.signature.iter().map(|text| (file::SIGNATURE, text.as_bytes()));
        let files = self.files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
        for (name, bytes) in
            [(file::MANIFEST, self.json.as_slice())].into_iter().chain(signature).chain(files)
        {
            zip.start_file(name, options).map_err(io::Error::other)?;
            zip.write_all(bytes)?;
        }
        Ok(zip.finish().map_err(io::Error::other)?.into_inner())
    }
}

/// Creates or replaces a file so that a crash leaves the old one or the new one, never a part:
/// `fill` writes to a temporary beside it, which is synced and renamed over `path`.
///
/// # Errors
/// The system's reason, or that of `fill`; the temporary is removed and `path` is as it was.
pub fn write_atomically(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::other("not a file name"))?;
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = parent.join(temporary(&name.to_string_lossy(), std::process::id()));
    let write = || {
        let mut out = File::create(&temporary)?;
        fill(&mut out)?;
        out.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(parent)?.sync_all()
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

/// The name under which a process writes a file.
fn temporary(name: &str, process: u32) -> String {
    format!(".{name}.{process}.tmp")
}

/// The process that writes under a name of [`temporary`].
fn writer(temporary: &str) -> Option<u32> {
    let (name, process) = temporary.strip_prefix('.')?.strip_suffix(".tmp")?.rsplit_once('.')?;
    let id: u32 = process.parse().ok()?;
    // as written: no sign, no zeros before it
    (!name.is_empty() && id.to_string() == process).then_some(id)
}

/// Removes from a folder, not from those in it, what [`write_atomically`] of processes that were killed left
/// half-written, ten minutes after the last was written to it: a process of another container or machine is
/// not in this one's list, but it goes on writing. Without `/proc` all stays.
pub fn remove_leftovers(folder: &Path) {
    let at_rest = |entry: &fs::DirEntry| {
        let since = entry.metadata().and_then(|meta| meta.modified()).map(|time| time.elapsed());
        since.is_ok_and(|since| since.is_ok_and(|since| since > Duration::from_secs(600)))
    };
    let is_gone =
        |id: u32| Path::new("/proc/self").exists() && !Path::new("/proc").join(id.to_string()).exists();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let left = entry.file_name().to_str().and_then(writer).is_some_and(is_gone);
        if left && entry.file_type().is_ok_and(|kind| kind.is_file()) && at_rest(&entry) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn manifest_json(manifest: &Manifest) -> Vec<u8> {
    let mut json = serde_json::to_vec_pretty(manifest).expect("a manifest is plain data with string keys");
    json.push(b'\n');
    json
}

/// SHA-256 as lower-case hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes as lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The two shapes a bundle has on disk.
enum Source {
    Directory(PathBuf),
    Zip(PathBuf, ZipArchive<File>),
}

impl Source {
    fn open(path: &Path) -> Result<Self, BundleError> {
        let io = |source| BundleError::Io { path: path.into(), source };
        if fs::metadata(path).map_err(io)?.is_dir() {
            return Ok(Self::Directory(path.into()));
        }
        let archive = ZipArchive::new(File::open(path).map_err(io)?)
            .map_err(|e| BundleError::NotABundle { path: path.into(), reason: e.to_string() })?;
        Ok(Self::Zip(path.into(), archive))
    }

    /// A file's size, as the directory or the zip's index has it.
    fn size(&mut self, name: &str) -> Result<u64, BundleError> {
        match self {
            Self::Directory(dir) => match fs::metadata(dir.join(name)) {
                Ok(found) => Ok(found.len()),
                Err(source) => Err(unreadable(dir, name, source)),
            },
            Self::Zip(path, archive) => Ok(entry(path, archive, name)?.size()),
        }
    }

    /// A file's bytes, at most one more than `limit` so that a longer one is noticed.
    fn read(&mut self, name: &str, limit: u64) -> Result<Vec<u8>, BundleError> {
        let mut bytes = Vec::new();
        // in one piece: a vector that doubles holds a network three times
        let size = self.size(name)?.min(limit + 1) as usize;
        match self {
            Self::Directory(dir) => {
                let read = |bytes: &mut Vec<u8>| {
                    bytes.try_reserve_exact(size)?;
                    File::open(dir.join(name))?.take(limit + 1).read_to_end(bytes)
                };
                read(&mut bytes).map_err(|source| unreadable(dir, name, source))?;
            }
            Self::Zip(path, archive) => {
                let file = entry(path, archive, name)?;
                // the zip's own checksum stands before ours
                let read = |bytes: &mut Vec<u8>| {
                    bytes.try_reserve_exact(size)?;
                    file.take(limit + 1).read_to_end(bytes)
                };
                read(&mut bytes).map_err(|error| BundleError::NotABundle {
                    path: path.clone(),
                    reason: format!("{name}: {error}"),
                })?;
            }
        }
        Ok(bytes)
    }
}

fn unreadable(dir: &Path, name: &str, source: io::Error) -> BundleError {
    match source.kind() {
        io::ErrorKind::NotFound => BundleError::Missing { path: dir.into(), name: name.into() },
        _ => BundleError::Io { path: dir.join(name), source },
    }
}

fn entry<'a>(
    path: &Path,
    archive: &'a mut ZipArchive<File>,
    name: &str,
) -> Result<zip::read::ZipFile<'a, File>, BundleError> {
    archive.by_name(name).map_err(|error| match error {
        zip::result::ZipError::FileNotFound => BundleError::Missing { path: path.into(), name: name.into() },
        other => BundleError::NotABundle { path: path.into(), reason: other.to_string() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fusion::{Fusion, Thresholds},
        labels::{Label, Labels},
        manifest::{ImageInput, MANIFEST_SCHEMA, ModelProvenance, NumberFormat},
    };

    fn sample() -> Bundle {
        let manifest = Manifest {
            schema: MANIFEST_SCHEMA,
            name: "sample".into(),
            input: ImageInput { width: 64, height: 64, mean: [0.5; 3], std: [0.5; 3] },
            image_format: NumberFormat::F32,
            encoder: None,
            labels: Labels(vec![Label::new("a"), Label::new("b")]),
            fusion: Fusion::default(),
            thresholds: Thresholds::default(),
            quantization: None,
            provenance: ModelProvenance::default(),
            licences: vec![],
            files: BTreeMap::new(),
        };
        let files = BTreeMap::from([
            (file::IMAGE.to_string(), vec![42; 1000]),
            (file::MODEL_CARD.to_string(), b"card".to_vec()),
        ]);
        Bundle::assemble(manifest, files).unwrap()
    }

    #[test]
    fn round_trips_byte_for_byte() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one.cspm"), dir.path().join("two.cspm"));
        sample().write(&one).unwrap();
        let read = Bundle::open(&one).unwrap();
        assert_eq!(read.manifest, sample().manifest);
        assert_eq!(read.digest, sample().digest);
        assert_eq!(read.file(file::IMAGE).unwrap(), [42; 1000]);
        read.write(&two).unwrap();
        assert_eq!(fs::read(&one).unwrap(), fs::read(&two).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "no temporary is left");
    }

    #[test]
    fn a_changed_byte_anywhere_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.cspm");
        sample().write(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        let at = bytes.windows(8).position(|w| w == [42; 8]).unwrap();
        for change in [at, at + 500] {
            let mut damaged = bytes.clone();
            damaged[change] ^= 1;
            fs::write(&path, damaged).unwrap();
            assert!(Bundle::open(&path).is_err());
        }
        for cut in (0..bytes.len()).step_by(97) {
            fs::write(&path, &bytes[..cut]).unwrap();
            assert!(Bundle::open(&path).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn what_is_not_wanted_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.cspm");
        sample().write(&path).unwrap();
        let card = |_: &Manifest, name: &str| name == file::MODEL_CARD;
        let part = Bundle::open_some(&path, card).unwrap();
        assert_eq!(part.digest, sample().digest);
        assert_eq!((part.file(file::MODEL_CARD), part.file(file::IMAGE)), (Some(&b"card"[..]), None));
        // damage elsewhere does not matter to who reads the card alone, and to no one else
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.windows(8).position(|w| w == [42; 8]).unwrap();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(Bundle::open_some(&path, card).is_ok());
        assert!(Bundle::open_some(&path, |_, name| name == file::IMAGE).is_err());
        // what is missing or cut is
        let bundle = sample();
        fs::write(dir.path().join(file::MANIFEST), manifest_json(&bundle.manifest)).unwrap();
        fs::write(dir.path().join(file::MODEL_CARD), b"card").unwrap();
        assert!(matches!(Bundle::open_some(dir.path(), card), Err(BundleError::Missing { .. })));
        fs::write(dir.path().join(file::IMAGE), [42; 999]).unwrap();
        let cut = Bundle::open_some(dir.path(), card);
        assert!(matches!(cut, Err(BundleError::Altered { what: "size", .. })));
    }

    #[test]
    fn names_the_file_at_fault() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = sample();
        fs::write(dir.path().join(file::MANIFEST), manifest_json(&bundle.manifest)).unwrap();
        fs::write(dir.path().join(file::MODEL_CARD), b"card").unwrap();
        let error = Bundle::open(dir.path()).unwrap_err();
        assert!(matches!(&error, BundleError::Missing { name, .. } if name == file::IMAGE), "{error}");
        fs::write(dir.path().join(file::IMAGE), [42; 999]).unwrap();
        assert!(matches!(Bundle::open(dir.path()), Err(BundleError::Altered { what: "size", .. })));
        fs::write(dir.path().join(file::IMAGE), [41; 1000]).unwrap();
        assert!(matches!(Bundle::open(dir.path()), Err(BundleError::Altered { what: "SHA-256", .. })));
        fs::write(dir.path().join(file::IMAGE), [42; 1000]).unwrap();
        assert!(Bundle::open(dir.path()).is_ok());
        fs::write(dir.path().join(file::MANIFEST), br#"{"schema": 99, "future": true}"#).unwrap();
        let error = Bundle::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("schema is 99"), "{error}");
    }

    #[test]
    fn what_killed_processes_left_is_told_from_all_else() {
        assert_eq!(writer(&temporary("a.b.safetensors", 4711)), Some(4711));
        for other in ["a.4711.tmp", ".a.4711.tmp2", ".a.x.tmp", ".a.+5.tmp", ".a.05.tmp", "..5.tmp", ".5.tmp"]
        {
            assert_eq!(writer(other), None, "{other}");
        }
        let dir = tempfile::tempdir().unwrap();
        // above what Linux hands out (2^22)
        let gone = temporary("gone", u32::MAX);
        let [own, plain] = [temporary("own", std::process::id()), "gone.tmp".to_string()];
        let fresh = temporary("fresh", u32::MAX);
        for name in [&gone, &own, &plain, &fresh] {
            fs::write(dir.path().join(name), "half").unwrap();
        }
        for name in [&gone, &own, &plain] {
            let file = File::options().write(true).open(dir.path().join(name)).unwrap();
            file.set_modified(std::time::SystemTime::now() - Duration::from_secs(3600)).unwrap();
        }
        fs::create_dir(dir.path().join(temporary("folder", u32::MAX))).unwrap();
        remove_leftovers(dir.path());
        remove_leftovers(&dir.path().join("missing"));
        let is_there = |name: &String| dir.path().join(name).exists();
        assert_eq!(is_there(&gone), !Path::new("/proc/self").exists());
        assert!(
            is_there(&own)
                && is_there(&plain)
                && is_there(&fresh)
                && is_there(&temporary("folder", u32::MAX))
        );
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, "old").unwrap();
        assert!(
            write_atomically(&path, |out| {
                out.write_all(b"half")?;
                Err(io::Error::other("full"))
            })
            .is_err()
        );
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

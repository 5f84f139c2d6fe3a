//! Which photographs a sweep is of: the digest of a data set is of its table, and photographs can change
//! under their names.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use csp_models::bundle::{hex, write_atomically};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::SweepError;
use crate::{
    data::{Dataset, Split},
    progress::{Progress, Voice},
};

/// Files read between two looks at the progress bar.
const CHUNK: usize = 1024;

/// SHA-256 of the photographs of training and `held` rows, in their order; `None` without any. Files are
/// read once: where names, sizes and times of change are as they were, so is what was kept in `cache`.
///
/// # Errors
/// A file that cannot be read, or a cache that cannot be written.
pub(super) fn digest(
    data: &Dataset,
    held: Split,
    cache: &Path,
    voice: Voice,
) -> Result<Option<String>, SweepError> {
    let used = data.rows.iter().filter(|row| row.split.is_none_or(|of| of == Split::Train || of == held));
    let files: Vec<&PathBuf> = used.filter_map(|row| row.image.as_ref()).collect();
    if files.is_empty() {
        return Ok(None);
    }
    let kept = cache.join(format!("photographs-{}.sha256", facts(&files)?));
    if let Some(digest) = fs::read_to_string(&kept).ok().filter(|text| text.len() == 64) {
        return Ok(Some(digest));
    }
    let mut progress = Progress::new(voice, "photographs", 0, files.len() as u64);
    let (mut hash, mut read) = (Sha256::new(), 0);
    for chunk in files.chunks(CHUNK) {
        let digests: Result<Vec<_>, SweepError> =
            chunk.par_iter().map(|path| fs::read(path).map(Sha256::digest).map_err(io_of(path))).collect();
        digests?.iter().for_each(|digest| hash.update(digest));
        read += chunk.len();
        progress.at(read as u64, || "files".into());
    }
    progress.done(&format!("{read} files"));
    let digest = hex(&hash.finalize());
    fs::create_dir_all(cache).map_err(io_of(cache))?;
    write_atomically(&kept, |out| io::Write::write_all(out, digest.as_bytes())).map_err(io_of(&kept))?;
    Ok(Some(digest))
}

/// Digest of names, sizes and times of change.
fn facts(files: &[&PathBuf]) -> Result<String, SweepError> {
    let facts: Result<Vec<(u64, u128)>, SweepError> = files
        .par_iter()
        .map(|path| {
            let meta = fs::metadata(path).map_err(io_of(path))?;
            let changed = meta.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            Ok((meta.len(), changed.map_or(0, |since| since.as_nanos())))
        })
        .collect();
    let mut hash = Sha256::new();
    for (path, (size, changed)) in files.iter().zip(facts?) {
        hash.update(path.to_string_lossy().as_bytes());
        hash.update([0]);
        hash.update(size.to_le_bytes());
        hash.update(changed.to_le_bytes());
    }
    Ok(hex(&hash.finalize()).chars().take(16).collect())
}

fn io_of(path: &Path) -> impl FnOnce(io::Error) -> SweepError + '_ {
    move |source| SweepError::Io { path: path.into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Options, Row};
    use csp_models::labels::Labels;

    #[test]
    fn is_of_the_content_and_of_the_rows_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        let splits = [Some(Split::Train), None, Some(Split::Val), Some(Split::Test)];
        let rows = splits.iter().enumerate().map(|(i, split)| {
            let path = dir.path().join(format!("{i}.png"));
            fs::write(&path, [i as u8; 9]).unwrap();
            Row { image: Some(path), split: *split, ..Row::default() }
        });
        let mut data = Dataset {
            source: "t.csv".into(),
            rows: rows.collect(),
            labels: Labels::default(),
            options: Options::default(),
            sha256: String::new(),
        };
        let now = |data: &Dataset| digest(data, Split::Val, &cache, Voice::Silent).unwrap();
        let first = now(&data);
        assert!(first.is_some());
        let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
        write("3.png", b"a test row's");
        assert_eq!(now(&data), first);
        for name in ["0.png", "1.png", "2.png"] {
            let was = fs::read(dir.path().join(name)).unwrap();
            write(name, b"another");
            assert_ne!(now(&data), first, "{name}");
            write(name, &was);
            assert_eq!(now(&data), first, "{name} as it was, at another time");
        }
        fs::remove_file(dir.path().join("2.png")).unwrap();
        let error = digest(&data, Split::Val, &cache, Voice::Silent).unwrap_err().to_string();
        assert!(error.contains("2.png"), "{error}");
        data.rows.iter_mut().for_each(|row| row.image = None);
        assert_eq!(now(&data), None);
    }
}

//! Decoded, upright, resized pictures in one flat file `[N, height, width, 3]`, so that an epoch
//! decodes no JPEG. Batches are read with `pread`; the operating system keeps what fits in memory.
//! Behind the pixels is their SHA-256: a file that does not agree with it is decoded anew.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use csp_models::{
    bundle::{hex, write_atomically},
    manifest::ImageInput,
    picture::{self, PictureError},
};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::{
    progress::{Progress, Voice},
    training::TrainError,
};

/// Pictures decoded between two writes.
const CHUNK: usize = 256;
/// Bytes of the check behind the pixels.
const CHECK: usize = 32;

/// The pictures of a training set at one input size.
#[derive(Debug)]
pub struct PixelCache {
    file: File,
    path: PathBuf,
    /// Bytes of one picture.
    stride: usize,
    len: usize,
    digest: String,
    content: String,
}

impl PixelCache {
    /// Opens the cache of these pictures in `folder`, or decodes them into it. A cache counts as
    /// that of the same pictures when names, sizes and times of change of the files agree; it
    /// appears under its name only when complete. One that is damaged, or of a version that kept no digest,
    /// is replaced, which is said; who reads from the old file meanwhile keeps it. `stop` is asked between
    /// chunks.
    ///
    /// # Errors
    /// The first picture that cannot be decoded; a full disk; `Ok(None)` when stopped.
    pub fn open(
        folder: &Path,
        pictures: &[PathBuf],
        input: &ImageInput,
        voice: Voice,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Self>, TrainError> {
        let digest = digest(pictures, input).map_err(|(path, source)| TrainError::Io { path, source })?;
        let path = folder.join(format!("pixels-{digest}.u8"));
        let stride = input.width as usize * input.height as usize * 3;
        let found = checked(&path, (stride * pictures.len()) as u64).map_err(TrainError::io(&path))?;
        if matches!(found, Found::Damaged) {
            let path = path.display();
            voice.say(&format!("{:>18} {path} is damaged or of an older csp-host: decoding anew", "decode"));
        }
        let (file, content) = match found {
            Found::Sound(file, content) => (file, content),
            Found::Damaged | Found::Nothing => match decode_all(&path, pictures, input, voice, stop)? {
                Some(content) => (File::open(&path).map_err(TrainError::io(&path))?, content),
                None => return Ok(None),
            },
        };
        Ok(Some(Self { file, path, stride, len: pictures.len(), digest, content }))
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True without pictures.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Identifies pictures and input size.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// SHA-256 of all pixels, hex: of what the photographs show, wherever they lie and whenever copied.
    pub fn content(&self) -> &str {
        &self.content
    }

    /// The pixels `[height, width, 3]` of a picture, over `out`.
    ///
    /// # Errors
    /// The system's reason, naming the file.
    pub fn read(&self, index: usize, out: &mut Vec<u8>) -> Result<(), TrainError> {
        out.resize(self.stride, 0);
        let at = (index * self.stride) as u64;
        read_at(&self.file, out, at).map_err(TrainError::io(&self.path))
    }
}

/// What lies under a cache's name.
enum Found {
    Nothing,
    Damaged,
    /// With the SHA-256 of its pixels, hex.
    Sound(File, String),
}

/// Reads a cache of so many bytes of pixels once, and compares them with the check behind them.
fn checked(path: &Path, pixels: u64) -> io::Result<Found> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    };
    if file.metadata()?.len() != pixels + CHECK as u64 {
        return Ok(Found::Damaged);
    }
    let (mut hash, mut block) = (Sha256::new(), vec![0u8; 1 << 20]);
    let mut left = pixels;
    while left > 0 {
        let part = &mut block[..left.min(1 << 20) as usize];
        if file.read_exact(part).is_err() {
            return Ok(Found::Damaged);
        }
        hash.update(&*part);
        left -= part.len() as u64;
    }
    let mut stored = [0; CHECK];
    if file.read_exact(&mut stored).is_err() {
        return Ok(Found::Damaged);
    }
    let content = hash.finalize();
    Ok(if content[..] == stored { Found::Sound(file, hex(&content)) } else { Found::Damaged })
}

#[cfg(unix)]
pub(super) fn read_at(file: &File, out: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, at)
}

#[cfg(windows)]
pub(super) fn read_at(file: &File, mut out: &mut [u8], mut at: u64) -> io::Result<()> {
    while !out.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, out, at)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => (out, at) = (&mut out[n..], at + n as u64),
        }
    }
    Ok(())
}

/// Digest of names, sizes and times of change of the files, and of the input's size.
fn digest(pictures: &[PathBuf], input: &ImageInput) -> Result<String, (PathBuf, io::Error)> {
    let facts: Result<Vec<_>, _> = pictures
        .par_iter()
        .map(|path| {
            let meta = fs::metadata(path).map_err(|error| (path.clone(), error))?;
            let changed = meta.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
            Ok((meta.len(), changed.map_or(0, |t| t.as_nanos())))
        })
        .collect();
    let mut hash = Sha256::new();
    hash.update([input.width.to_le_bytes(), input.height.to_le_bytes()].concat());
    for (path, (size, changed)) in pictures.iter().zip(facts?) {
        hash.update(path.to_string_lossy().as_bytes());
        hash.update([0]);
        hash.update(size.to_le_bytes());
        hash.update(changed.to_le_bytes());
    }
    Ok(hex(&hash.finalize()).chars().take(16).collect())
}

/// Writes the pixels and their check; SHA-256 of the pixels, hex, or `None` when stopped.
fn decode_all(
    path: &Path,
    pictures: &[PathBuf],
    input: &ImageInput,
    voice: Voice,
    stop: &dyn Fn() -> bool,
) -> Result<Option<String>, TrainError> {
    let mut progress = Progress::new(voice, "decode", 0, pictures.len() as u64);
    let mut refused: Option<PictureError> = None;
    let (mut stopped, mut content) = (false, String::new());
    let written = write_atomically(path, |out| {
        let mut hash = Sha256::new();
        for (i, chunk) in pictures.chunks(CHUNK).enumerate() {
            let decoded: Result<Vec<_>, _> = chunk.par_iter().map(|p| picture::load(p, input)).collect();
            match decoded {
                Ok(decoded) => decoded.iter().try_for_each(|pixels| {
                    hash.update(pixels);
                    out.write_all(pixels)
                })?,
                Err(error) => {
                    refused = Some(error);
                    return Err(io::Error::other("a picture was refused"));
                }
            }
            if stop() {
                stopped = true;
                return Err(io::Error::other("stopped"));
            }
            progress.at((i * CHUNK + chunk.len()) as u64, || "pictures".into());
        }
        let check = hash.finalize();
        content = hex(&check);
        out.write_all(&check)
    });
    match (written, refused) {
        (_, Some(error)) => Err(error.into()),
        (Err(_), None) if stopped => Ok(None),
        (Err(error), None) => Err(TrainError::io(path)(error)),
        (Ok(()), None) => {
            progress.done(&format!("{} pictures", pictures.len()));
            Ok(Some(content))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INPUT: ImageInput = ImageInput { width: 16, height: 16, mean: [0.5; 3], std: [0.25; 3] };

    fn pictures(dir: &Path, count: u8) -> Vec<PathBuf> {
        (0..count)
            .map(|i| {
                let path = dir.join(format!("{i}.png"));
                image::RgbImage::from_pixel(20, 20, image::Rgb([i * 10, 5, 200])).save(&path).unwrap();
                path
            })
            .collect()
    }

    fn open(dir: &Path, pictures: &[PathBuf]) -> Result<Option<PixelCache>, TrainError> {
        PixelCache::open(dir, pictures, &INPUT, Voice::Silent, &|| false)
    }

    #[test]
    fn holds_every_picture_and_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let files = pictures(dir.path(), 20);
        let cache = open(dir.path(), &files).unwrap().unwrap();
        let mut pixels = Vec::new();
        for i in [0, 19, 7] {
            cache.read(i, &mut pixels).unwrap();
            assert_eq!(pixels[..3], [i as u8 * 10, 5, 200]);
        }
        let before = fs::metadata(&cache.path).unwrap().modified().unwrap();
        let again = open(dir.path(), &files).unwrap().unwrap();
        assert_eq!(fs::metadata(&again.path).unwrap().modified().unwrap(), before);
        // a changed picture is another cache
        image::RgbImage::new(30, 30).save(&files[3]).unwrap();
        assert_ne!(open(dir.path(), &files).unwrap().unwrap().digest(), cache.digest());
    }

    #[test]
    fn a_damaged_cache_is_decoded_anew() {
        let dir = tempfile::tempdir().unwrap();
        let files = pictures(dir.path(), 5);
        let first = open(dir.path(), &files).unwrap().unwrap();
        let sound = fs::read(&first.path).unwrap();
        let pixels = 5 * 16 * 16 * 3;
        assert_eq!(sound.len(), pixels + CHECK);
        assert_eq!(first.content(), csp_models::bundle::sha256_hex(&sound[..pixels]));
        let flipped = |at: usize| {
            let mut bytes = sound.clone();
            bytes[at] ^= 1;
            bytes
        };
        // (what lies there: damage in the pixels, in the check, a cut, and a file without a check)
        let cut = sound[..100].to_vec();
        for damaged in [flipped(7), flipped(pixels + 3), cut, sound[..pixels].to_vec()] {
            fs::write(&first.path, damaged).unwrap();
            let again = open(dir.path(), &files).unwrap().unwrap();
            assert_eq!(again.content(), first.content());
            assert_eq!(fs::read(&again.path).unwrap(), sound);
            // and the next one finds it sound
            assert_eq!(open(dir.path(), &files).unwrap().unwrap().content(), first.content());
        }
        // who is stopped leaves what is there
        fs::write(&first.path, flipped(7)).unwrap();
        let stopped = PixelCache::open(dir.path(), &files, &INPUT, Voice::Silent, &|| true).unwrap();
        assert!(stopped.is_none());
        assert_eq!(fs::read(&first.path).unwrap(), flipped(7));
    }

    #[test]
    fn a_bad_picture_is_named_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let cache = tempfile::tempdir().unwrap();
        let mut files = pictures(dir.path(), 5);
        fs::write(&files[2], b"not a picture").unwrap();
        let error = open(cache.path(), &files).unwrap_err().to_string();
        assert!(error.contains("2.png"), "{error}");
        files[2] = dir.path().join("missing.png");
        let error = open(cache.path(), &files).unwrap_err().to_string();
        assert!(error.contains("missing.png"), "{error}");
        let files = pictures(dir.path(), 5);
        let stopped = PixelCache::open(cache.path(), &files, &INPUT, Voice::Silent, &|| true).unwrap();
        assert!(stopped.is_none());
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0);
    }
}

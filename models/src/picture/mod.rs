//! Photographs: decoded within limits, turned upright, resized. The same pixels on host and device.
//!
//! | file | does |
//! |---|---|
//! | this one | reads and decodes a file, resizes, normalises |
//! | `reduced` | a file as the network's input, decoded no larger than needed |
//! | `part` | the pixels of a part of a picture |
//! | `jpeg` | a JPEG's outline: segments, frame header, whether it is whole |
//! | `exif` | time and place written into a JPEG |

mod exif;
mod jpeg;
mod part;
mod reduced;
#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::{self, BufReader, Cursor, Read},
    path::{Path, PathBuf},
};

pub use image::RgbImage;
use image::{
    DynamicImage, ImageDecoder, ImageError, ImageReader, Limits, imageops::FilterType, metadata::Orientation,
};

use crate::manifest::ImageInput;

#[cfg(feature = "tiff")]
pub use crate::tile::shown_bands;

pub use self::exif::{ExifError, ExifTag, with_exif};
pub use part::Part;
pub use reduced::{decode_for, to_input};

/// Longest file of a photograph that is read, bytes.
pub const MAX_FILE: u64 = 64 << 20;
/// Longest side of a photograph, pixels.
pub const MAX_SIDE: u32 = 16_384;
/// Memory a decoder may take, bytes.
pub const MAX_DECODE: u64 = 256 << 20;

/// Why a photograph cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// Missing, unreadable or too large.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The photograph.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Not a photograph, truncated, or beyond the limits.
    #[error("{path}: not a readable picture: {reason}", path = .path.display())]
    Decode {
        /// The photograph.
        path: PathBuf,
        /// The decoder's reason.
        reason: String,
    },
}

/// The bytes of a photograph's file.
///
/// # Errors
/// Missing, unreadable, or larger than [`MAX_FILE`].
pub fn read(path: &Path) -> Result<Vec<u8>, PictureError> {
    let io = |source| PictureError::Io { path: path.into(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(io)?;
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io(io::Error::other("the file is larger than 64 MiB")));
    }
    Ok(bytes)
}

/// Decodes a JPEG or PNG and turns it upright by its EXIF orientation; with feature `tiff` also a
/// TIFF tile, those of its bands that `shown_bands` names as red, green and blue. `path` is for the error.
///
/// # Errors
/// [`PictureError::Decode`]: not a photograph, truncated, or beyond [`MAX_SIDE`] and [`MAX_DECODE`].
pub fn decode(path: &Path, bytes: &[u8]) -> Result<RgbImage, PictureError> {
    let refuse = |reason: String| PictureError::Decode { path: path.into(), reason };
    let run = || -> Result<RgbImage, ImageError> {
        let mut reader = ImageReader::new(BufReader::new(Cursor::new(bytes))).with_guessed_format()?;
        let mut limits = Limits::default();
        limits.max_image_width = Some(MAX_SIDE);
        limits.max_image_height = Some(MAX_SIDE);
        limits.max_alloc = Some(MAX_DECODE);
        reader.limits(limits);
        let mut decoder = reader.into_decoder()?;
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let mut picture = DynamicImage::from_decoder(decoder)?;
        picture.apply_orientation(orientation);
        Ok(picture.into_rgb8())
    };
    #[cfg(feature = "tiff")]
    if crate::tile::is_tiff(bytes) {
        return crate::tile::decode(bytes).map_err(refuse);
    }
    whole_jpeg(bytes).map_err(refuse)?;
    run().map_err(|error| refuse(error.to_string()))
}

/// Refuses a JPEG that is cut or of a kind that is not read, before a decoder sees it; anything else passes.
fn whole_jpeg(bytes: &[u8]) -> Result<(), String> {
    if !jpeg::is_jpeg(bytes) {
        return Ok(());
    }
    if let Some(problem) = jpeg::frame(bytes).and_then(|frame| frame.unsupported()) {
        return Err(problem);
    }
    // A truncated JPEG is half a photograph: the decoder fills the rest with grey and says nothing.
    if jpeg::ends_whole(bytes) {
        Ok(())
    } else {
        Err("the file is truncated (no end-of-image marker)".into())
    }
}

/// A frame of a motion-JPEG stream as a file of its own: padding behind its end cut off, the standard
/// Huffman tables put in where it leaves them out; its pixels stay as they are.
///
/// # Errors
/// Cut, or no JPEG that is read here.
pub fn complete_jpeg(frame: &[u8]) -> Result<Vec<u8>, PictureError> {
    jpeg::complete(frame).map_err(|reason| PictureError::Decode { path: "frame".into(), reason })
}

/// A picture as the bytes of a JPEG file of `quality` 1 to 100.
///
/// # Errors
/// A picture of no pixels, or larger than a JPEG can be.
pub fn encode_jpeg(picture: &RgbImage, quality: u8) -> Result<Vec<u8>, PictureError> {
    let mut bytes = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality.clamp(1, 100));
    picture
        .write_with_encoder(encoder)
        .map_err(|error| PictureError::Decode { path: "frame".into(), reason: error.to_string() })?;
    Ok(bytes)
}

/// Width and height as the file has them, before it is turned upright; `None` for what is no picture.
pub fn dimensions(path: &Path) -> Option<(u32, u32)> {
    #[cfg(feature = "tiff")]
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("tif") || e.eq_ignore_ascii_case("tiff")) {
        let bytes = read(path).ok()?;
        return crate::tile::open(&bytes).ok().map(|(_, width, height)| (width, height));
    }
    image::image_dimensions(path).ok()
}

/// Resizes to the network's input, the whole frame, area-weighted (triangle filter).
///
/// # Shapes
/// Returns `height × width × 3` bytes, row by row, red green blue.
pub fn fit(picture: &RgbImage, input: &ImageInput) -> Vec<u8> {
    if picture.dimensions() == (input.width, input.height) {
        return picture.as_raw().clone();
    }
    resize(picture, input.width, input.height).into_raw()
}

fn resize(picture: &RgbImage, width: u32, height: u32) -> RgbImage {
    image::imageops::resize(picture, width, height, FilterType::Triangle)
}

/// Reads a photograph as the network's input.
///
/// # Errors
/// Those of [`read`] and [`to_input`].
pub fn load(path: &Path, input: &ImageInput) -> Result<Vec<u8>, PictureError> {
    to_input(path, &read(path)?, input, Part::WHOLE)
}

/// What a fuzzer calls with any bytes: every way a foreign file goes through here. Nothing may panic.
pub fn fuzz_picture(bytes: &[u8]) {
    let input = ImageInput { width: 8, height: 8, mean: [0.0; 3], std: [1.0; 3] };
    let path = Path::new("fuzz");
    let quarter = Part::new([0.25, 0.5, 0.25, 0.25]).unwrap_or(Part::WHOLE);
    for part in [Part::WHOLE, quarter] {
        let _ = to_input(path, bytes, &input, part);
    }
    let _ = complete_jpeg(bytes);
    let _ = with_exif(bytes, &ExifTag { camera: Some("fuzz".into()), ..ExifTag::default() });
}

/// Pixels `[height, width, 3]` as the f32 network's input `[3, height, width]`: `(p / 255 − mean) / std`.
pub fn to_f32(pixels: &[u8], input: &ImageInput) -> Vec<f32> {
    let plane = pixels.len() / 3;
    let mut out = vec![0.0; pixels.len()];
    for (channel, values) in out.chunks_exact_mut(plane).enumerate() {
        let (mean, std) = (input.mean[channel], input.std[channel]);
        for (value, pixel) in values.iter_mut().zip(pixels.chunks_exact(3)) {
            *value = (f32::from(pixel[channel]) / 255.0 - mean) / std;
        }
    }
    out
}

/// Pixels `[height, width, 3]` as the int8 network's input `[3, height, width]`: `p − 128`.
pub fn to_i8(pixels: &[u8]) -> Vec<i8> {
    let plane = pixels.len() / 3;
    let mut out = vec![0; pixels.len()];
    for (channel, values) in out.chunks_exact_mut(plane).enumerate() {
        for (value, pixel) in values.iter_mut().zip(pixels.chunks_exact(3)) {
            *value = (pixel[channel] ^ 0x80) as i8;
        }
    }
    out
}

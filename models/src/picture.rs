//! Photographs: decoded within limits, turned upright, resized. The same pixels on host and device.

use std::{
    fs::File,
    io::{self, BufReader, Cursor, Read},
    path::{Path, PathBuf},
};

use image::{
    DynamicImage, ImageDecoder, ImageError, ImageReader, Limits, RgbImage, imageops::FilterType,
    metadata::Orientation,
};

use crate::manifest::ImageInput;

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
/// TIFF tile, bands 1 to 3 as red, green and blue. `path` is for the error.
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
    // A truncated JPEG is half a photograph: the decoder fills the rest with grey and says nothing.
    if bytes.starts_with(&[0xff, 0xd8]) && !ends_whole(bytes) {
        return Err(refuse("the file is truncated (no end-of-image marker)".to_string()));
    }
    run().map_err(|error| refuse(error.to_string()))
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

/// True when a JPEG reaches its end-of-image marker: segments are walked by their lengths, so the
/// marker of a thumbnail inside the EXIF data does not count.
fn ends_whole(jpeg: &[u8]) -> bool {
    let mut at = 2;
    let mut in_scan = false;
    while let (Some(&byte), Some(&marker)) = (jpeg.get(at), jpeg.get(at + 1)) {
        match (byte, marker) {
            (0xff, 0xd9) => return true,
            (0xff, 0xff) => at += 1,
            (0xff, 0x00 | 0x01 | 0xd0..=0xd7) => at += 2,
            (0xff, _) => {
                let (Some(&high), Some(&low)) = (jpeg.get(at + 2), jpeg.get(at + 3)) else { return false };
                in_scan = marker == 0xda;
                at += 2 + usize::from(u16::from_be_bytes([high, low])).max(2);
            }
            _ if in_scan => at += 1,
            _ => return false,
        }
    }
    false
}

/// Resizes to the network's input, the whole frame, area-weighted (triangle filter).
///
/// # Shapes
/// Returns `height × width × 3` bytes, row by row, red green blue.
pub fn fit(picture: &RgbImage, input: &ImageInput) -> Vec<u8> {
    if picture.dimensions() == (input.width, input.height) {
        return picture.as_raw().clone();
    }
    image::imageops::resize(picture, input.width, input.height, FilterType::Triangle).into_raw()
}

/// Reads, decodes and fits a photograph.
///
/// # Errors
/// Those of [`read`] and [`decode`].
pub fn load(path: &Path, input: &ImageInput) -> Result<Vec<u8>, PictureError> {
    decode(path, &read(path)?).map(|picture| fit(&picture, input))
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

#[cfg(test)]
mod tests {
    use super::*;

    const INPUT: ImageInput =
        ImageInput { width: 16, height: 8, mean: [0.5, 0.25, 0.0], std: [0.5, 1.0, 2.0] };

    fn jpeg(width: u32, height: u32) -> Vec<u8> {
        let picture = RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 3) as u8, (y * 5) as u8, 90]));
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn a_truncated_photograph_is_an_error() {
        let whole = jpeg(64, 48);
        let path = Path::new("x.jpg");
        assert_eq!(decode(path, &whole).unwrap().dimensions(), (64, 48));
        for cut in 0..whole.len() - 1 {
            assert!(decode(path, &whole[..cut]).is_err(), "cut at {cut} of {}", whole.len());
        }
    }

    #[test]
    fn exif_orientation_turns_the_picture() {
        // APP1 with one IFD entry: orientation (0x0112) = 6, a quarter turn clockwise
        let tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        let whole = jpeg(64, 48);
        let mut turned = whole[..2].to_vec();
        turned.extend_from_slice(&[0xff, 0xe1, 0, (2 + 6 + tiff.len()) as u8]);
        turned.extend_from_slice(b"Exif\0\0");
        turned.extend_from_slice(tiff);
        turned.extend_from_slice(&whole[2..]);
        assert_eq!(decode(Path::new("x.jpg"), &turned).unwrap().dimensions(), (48, 64));
        // a thumbnail's end-of-image marker inside a segment does not make a cut picture whole
        let mut thumbnail = whole[..2].to_vec();
        thumbnail.extend_from_slice(&[0xff, 0xe1, 0, 6, 0xff, 0xd8, 0xff, 0xd9]);
        thumbnail.extend_from_slice(&whole[2..whole.len() / 2]);
        assert!(decode(Path::new("x.jpg"), &thumbnail).is_err());
    }

    #[test]
    fn inputs_are_planar_and_normalised() {
        let pixels = fit(&decode(Path::new("x"), &jpeg(64, 48)).unwrap(), &INPUT);
        assert_eq!(pixels.len(), 16 * 8 * 3);
        let (f32s, i8s) = (to_f32(&pixels, &INPUT), to_i8(&pixels));
        for i in 0..16 * 8 {
            for channel in 0..3 {
                let p = pixels[3 * i + channel];
                let (at, value) = (channel * 16 * 8 + i, f32::from(p) / 255.0);
                assert_eq!(f32s[at], (value - INPUT.mean[channel]) / INPUT.std[channel]);
                assert_eq!(i16::from(i8s[at]), i16::from(p) - 128);
            }
        }
        assert_eq!(to_i8(&[0, 128, 255]), vec![-128, 0, 127]);
    }

    #[test]
    fn limits_hold() {
        // a PNG header that claims 60000 × 60000 pixels
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xea\x60\0\0\xea\x60\x08\x02\0\0\0".to_vec();
        png.extend_from_slice(&[0; 64]);
        assert!(decode(Path::new("x.png"), &png).is_err());
        assert!(decode(Path::new("x.png"), b"not a picture").is_err());
        assert!(matches!(load(Path::new("/nonexistent.jpg"), &INPUT), Err(PictureError::Io { .. })));
    }
}

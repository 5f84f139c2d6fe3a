//! Decoding at reduced scale: a photograph of 12 megapixels becomes a network's input without ever
//! being 36 MB of pixels.
//!
//! A JPEG can be decoded to 1/2, 1/4 or 1/8 of its size by leaving out the fine coefficients of each
//! block. The rule is [`reduction`]'s and is the same on host and device; what is not reduced (small
//! pictures, PNG, four colour components) is decoded whole as it always was.

use image::{DynamicImage, RgbImage, metadata::Orientation};
use jpeg_decoder::PixelFormat;

use super::{MAX_DECODE, MAX_SIDE, Part, PictureError, decode, fit, jpeg, resize, whole_jpeg};
use crate::manifest::ImageInput;
use std::path::Path;

/// A reduced picture keeps at least so many pixels for each of the network's, along each side: what the
/// resize filter then averages over. Below 2 it would begin to show the cruder filter of the decoder.
const OVERSAMPLING: u32 = 2;
/// Pixels that a picture is reduced to where it can be, whatever a crop would like: 12 MB of colour.
const MAX_PIXELS: u64 = 4 << 20;

/// By how much a picture of `width × height` pixels is reduced for a `part` of it to become
/// `input`: 1, 2, 4 or 8. The most that leaves [`OVERSAMPLING`], or more where [`MAX_PIXELS`] asks.
pub(super) fn reduction((width, height): (u32, u32), part: Part, input: (u32, u32)) -> u32 {
    let enough = |divisor: &u32| {
        let long = |side: u32, share: f32| f64::from(side.div_ceil(*divisor)) * f64::from(share);
        long(width, part.width) >= f64::from(OVERSAMPLING * input.0)
            && long(height, part.height) >= f64::from(OVERSAMPLING * input.1)
    };
    let wanted = [8, 4, 2].into_iter().find(enough).unwrap_or(1);
    let fits = |divisor: &u32| {
        u64::from(width.div_ceil(*divisor)) * u64::from(height.div_ceil(*divisor)) <= MAX_PIXELS
    };
    [1, 2, 4, 8].into_iter().find(|divisor| *divisor >= wanted && fits(divisor)).unwrap_or(8)
}

/// A photograph, or a part of it, as the network's input: decoded at reduced scale where that serves,
/// turned upright, cut and resized. The one way from a file to pixels, in training and in the field.
/// `path` is for the error.
///
/// # Shapes
/// Returns `height × width × 3` bytes of `input`, row by row, red green blue.
///
/// # Errors
/// Those of [`decode`].
pub fn to_input(path: &Path, bytes: &[u8], input: &ImageInput, part: Part) -> Result<Vec<u8>, PictureError> {
    let picture = decode_for(path, bytes, input, part)?;
    if part == Part::WHOLE {
        return Ok(fit(&picture, input));
    }
    let cut = part.cut(&picture);
    Ok(resize(&cut, input.width, input.height).into_raw())
}

/// The whole picture, upright, at the scale that `part` of it as `input` needs.
///
/// # Errors
/// Those of [`decode`].
pub fn decode_for(
    path: &Path,
    bytes: &[u8],
    input: &ImageInput,
    part: Part,
) -> Result<RgbImage, PictureError> {
    let refuse = |reason: String| PictureError::Decode { path: path.into(), reason };
    let Some(frame) = jpeg::frame(bytes).filter(|frame| matches!(frame.components, 1 | 3)) else {
        return decode(path, bytes);
    };
    whole_jpeg(bytes).map_err(refuse)?;
    let orientation =
        jpeg::exif(bytes).and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms);
    let size = match orientation {
        Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH => (frame.height, frame.width),
        _ => (frame.width, frame.height),
    };
    let divisor = reduction(size, part, (input.width, input.height));
    if divisor == 1 {
        return decode(path, bytes);
    }
    let mut picture = DynamicImage::from(reduced(bytes, &frame, divisor).map_err(refuse)?);
    picture.apply_orientation(orientation);
    Ok(picture.into_rgb8())
}

fn reduced(bytes: &[u8], frame: &jpeg::Frame, divisor: u32) -> Result<RgbImage, String> {
    if frame.width > MAX_SIDE || frame.height > MAX_SIDE {
        return Err(format!("{} × {} pixels; {MAX_SIDE} a side are read", frame.width, frame.height));
    }
    // a progressive file's coefficients are all kept until its last scan, two bytes each
    let coefficients = u64::from(frame.width) * u64::from(frame.height) * u64::from(frame.components) * 2;
    if frame.kind == 2 && coefficients > MAX_DECODE {
        return Err(format!("a progressive JPEG of {} × {} pixels is too large", frame.width, frame.height));
    }
    let side = |side: u32| u16::try_from(side.div_ceil(divisor)).unwrap_or(u16::MAX);
    let wanted = (side(frame.width), side(frame.height));
    let mut decoder = jpeg_decoder::Decoder::new(bytes);
    decoder.set_max_decoding_buffer_size(usize::try_from(MAX_DECODE).unwrap_or(usize::MAX));
    let size = decoder.scale(wanted.0, wanted.1).map_err(|error| error.to_string())?;
    let pixels = decoder.decode().map_err(|error| error.to_string())?;
    let rgb = match decoder.info().map(|info| info.pixel_format) {
        Some(PixelFormat::RGB24) => pixels,
        Some(PixelFormat::L8) => pixels.into_iter().flat_map(|grey| [grey; 3]).collect(),
        other => return Err(format!("pixels of format {other:?}")),
    };
    RgbImage::from_raw(size.0.into(), size.1.into(), rgb)
        .ok_or_else(|| "the decoder gave too few pixels".into())
}

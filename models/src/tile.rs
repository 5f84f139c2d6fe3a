//! TIFF tiles, as satellites' pictures come: the first three bands as red, green and blue.

use std::io::Cursor;

use image::RgbImage;
use tiff::{
    ColorType, TiffError,
    decoder::{Decoder, DecodingResult, Limits},
};

use crate::picture::{MAX_DECODE, MAX_SIDE};

/// What 16-bit values are divided by: 4095, the brightest of 12-bit sensors, and a reflectance of
/// 0.41 in the scale of Sentinel-2 and Landsat, become 255; what is brighter is white.
const DARK: u16 = 16;
/// A picture with a value above this uses its 16 bits, as photographs do, and is divided by 257.
/// Sentinel-2's and 12-bit values stay below.
const BRIGHT: u16 = 20_000;

/// True for the first bytes of a TIFF.
pub(crate) fn is_tiff(bytes: &[u8]) -> bool {
    matches!(bytes, [b'I', b'I', b'*' | b'+', 0, ..] | [b'M', b'M', 0, b'*' | b'+', ..])
}

type Tiff<'a> = Decoder<Cursor<&'a [u8]>>;

/// A decoder of the first picture in a TIFF, within our limits, with its width and height.
pub(crate) fn open(bytes: &[u8]) -> Result<(Tiff<'_>, u32, u32), String> {
    let mut limits = Limits::default();
    limits.decoding_buffer_size = MAX_DECODE as usize;
    limits.intermediate_buffer_size = MAX_DECODE as usize;
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(say)?.with_limits(limits);
    let (width, height) = decoder.dimensions().map_err(say)?;
    if width == 0 || height == 0 || width > MAX_SIDE || height > MAX_SIDE {
        return Err(format!("{width} × {height} pixels; 1 to {MAX_SIDE} a side are read"));
    }
    Ok((decoder, width, height))
}

fn say(error: TiffError) -> String {
    format!("TIFF: {error}")
}

/// Decodes 8- and 16-bit TIFFs of any number of bands: bands 1 to 3 are red, green and blue; with
/// one or two bands the first is grey. 16-bit values above [`BRIGHT`] anywhere in these bands mean
/// the full range, else they are divided by [`DARK`].
pub(crate) fn decode(bytes: &[u8]) -> Result<RgbImage, String> {
    let (mut decoder, width, height) = open(bytes)?;
    let bands = match decoder.colortype().map_err(say)? {
        ColorType::Gray(_) => 1,
        ColorType::GrayA(_) => 2,
        ColorType::RGB(_) => 3,
        ColorType::RGBA(_) => 4,
        ColorType::Multiband { num_samples, .. } => usize::from(num_samples),
        other => return Err(format!("TIFF: colours as {other:?} are not read; save it as RGB")),
    };
    let mut samples = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut samples).map_err(say)?;
    let pixels = width as usize * height as usize;
    let planes = layout.planes > 1;
    let band_of = |channel: usize| if bands >= 3 { channel } else { 0 };
    let at = |pixel: usize, channel: usize| match planes {
        true => band_of(channel) * pixels + pixel,
        false => pixel * bands + band_of(channel),
    };
    let indices = (0..pixels).flat_map(|pixel| (0..3).map(move |channel| (pixel, channel)));
    let short = || "TIFF: fewer samples than its size says".to_string();
    let rgb: Option<Vec<u8>> = match &samples {
        DecodingResult::U8(values) => {
            indices.map(|(pixel, channel)| values.get(at(pixel, channel)).copied()).collect()
        }
        DecodingResult::U16(values) => {
            let value = |(pixel, channel)| values.get(at(pixel, channel)).copied();
            let most = indices.clone().filter_map(value).max().unwrap_or(0);
            let divisor = if most > BRIGHT { 257 } else { DARK };
            indices.map(|index| value(index).map(|value| (value / divisor).min(255) as u8)).collect()
        }
        _ => return Err(
            "TIFF: only 8- and 16-bit whole numbers are read; convert it (gdal_translate -ot Byte -scale)"
                .into(),
        ),
    };
    RgbImage::from_raw(width, height, rgb.ok_or_else(short)?).ok_or_else(short)
}

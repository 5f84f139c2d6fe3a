//! TIFF tiles, as satellites' pictures come: the first three bands as red, green and blue, of Sentinel-2's
//! twelve or thirteen those of true colour.

use std::io::Cursor;

use image::RgbImage;
use tiff::{
    ColorType, TiffError,
    decoder::{Decoder, DecodingResult, Limits},
    tags::Tag,
};

use crate::picture::{MAX_DECODE, MAX_SIDE};

/// What 16-bit values are divided by: 4095, the brightest of 12-bit sensors, and a reflectance of
/// 0.41 in the scale of Sentinel-2 and Landsat, become 255; what is brighter is white.
const DARK: u16 = 16;
/// A picture with more than one value in [`FEW`] above this uses its 16 bits, as photographs do, and is
/// divided by 257. Sentinel-2's and 12-bit values stay below, but for a glint, a cloud or a dead pixel.
const BRIGHT: u16 = 20_000;
/// One value in so many above [`BRIGHT`] is chance: 5 %.
const FEW: usize = 20;

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

/// The bands, counted from 0, that are shown as red, green and blue. Twelve or thirteen are those of
/// Sentinel-2 in its order (products L2A and L1C), where B04, B03 and B02 are true colour; else the first
/// three, and with one or two bands the first is grey.
pub fn shown_bands(bands: usize) -> [usize; 3] {
    match bands {
        0..=2 => [0, 0, 0],
        12 | 13 => [3, 2, 1],
        _ => [0, 1, 2],
    }
}

/// Decodes 8- and 16-bit TIFFs of any number of bands, those of [`shown_bands`]. 16-bit values are divided
/// by [`DARK`], or by 257 where more than one in [`FEW`] of those shown lies above [`BRIGHT`]; what the
/// tile's tag `GDAL_NODATA` marks as missing does not count there.
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
    let missing = decoder.find_tag(Tag::GdalNodata).ok().flatten();
    let missing = missing.and_then(|value| value.into_string().ok());
    let missing = missing.and_then(|text| text.trim_matches([' ', '\0']).parse::<f64>().ok());
    let mut samples = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut samples).map_err(say)?;
    let pixels = width as usize * height as usize;
    let planes = layout.planes > 1;
    let shown = shown_bands(bands);
    let at = |pixel: usize, channel: usize| match planes {
        true => shown[channel] * pixels + pixel,
        false => pixel * bands + shown[channel],
    };
    let indices = (0..pixels).flat_map(|pixel| (0..3).map(move |channel| (pixel, channel)));
    let short = || "TIFF: fewer samples than its size says".to_string();
    let rgb: Option<Vec<u8>> = match &samples {
        DecodingResult::U8(values) => {
            indices.map(|(pixel, channel)| values.get(at(pixel, channel)).copied()).collect()
        }
        DecodingResult::U16(values) => {
            let value = |(pixel, channel)| values.get(at(pixel, channel)).copied();
            let valid = indices.clone().filter_map(value);
            let divisor = divisor(valid.filter(|value| missing != Some(f64::from(*value))));
            indices.map(|index| value(index).map(|value| (value / divisor).min(255) as u8)).collect()
        }
        _ => return Err(
            "TIFF: only 8- and 16-bit whole numbers are read; convert it (gdal_translate -ot Byte -scale)"
                .into(),
        ),
    };
    RgbImage::from_raw(width, height, rgb.ok_or_else(short)?).ok_or_else(short)
}

/// What 16-bit values are divided by: no single pixel decides how bright its tile is.
fn divisor(values: impl Iterator<Item = u16>) -> u16 {
    let (mut all, mut bright) = (0usize, 0usize);
    for value in values {
        all += 1;
        bright += usize::from(value > BRIGHT);
    }
    if bright > all / FEW { 257 } else { DARK }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tiff::encoder::{TiffEncoder, colortype};

    /// Ten by ten pixels of one band, with the text of a nodata tag.
    fn grey(values: &[u16], missing: Option<&str>) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        let mut encoder = TiffEncoder::new(&mut file).unwrap();
        let mut picture = encoder.new_image::<colortype::Gray16>(10, 10).unwrap();
        if let Some(text) = missing {
            picture.encoder().write_tag(Tag::GdalNodata, text).unwrap();
        }
        picture.write_data(values).unwrap();
        file.into_inner()
    }

    fn first_pixel(values: &[u16], missing: Option<&str>) -> u8 {
        decode(&grey(values, missing)).unwrap().get_pixel(0, 0).0[0]
    }

    #[test]
    fn a_few_bright_pixels_do_not_darken_a_tile() {
        let mut values = [1600u16; 100];
        values[1..6].fill(60_000);
        assert_eq!(first_pixel(&values, None), 100);
        values[6] = 60_000;
        assert_eq!(first_pixel(&values, None), 6);
    }

    #[test]
    fn what_is_missing_has_no_say() {
        let mut values = [1600u16; 100];
        values[1..60].fill(65_535);
        assert_eq!(first_pixel(&values, None), 6);
        assert_eq!(first_pixel(&values, Some("65535")), 100);
        // a frame of zeros does not hide that the rest is bright
        values[..97].fill(0);
        values[97..].fill(51_400);
        assert_eq!(decode(&grey(&values, None)).unwrap().get_pixel(9, 9).0, [255; 3]);
        let picture = decode(&grey(&values, Some("0"))).unwrap();
        assert_eq!(picture.get_pixel(9, 9).0, [200; 3]);
        assert_eq!(first_pixel(&[0; 100], Some("0")), 0);
    }

    #[test]
    fn true_colour_of_sentinel_2() {
        for (bands, shown) in
            [(1, [0; 3]), (2, [0; 3]), (3, [0, 1, 2]), (5, [0, 1, 2]), (12, [3, 2, 1]), (13, [3, 2, 1])]
        {
            assert_eq!(shown_bands(bands), shown, "{bands}");
        }
    }
}

//! A device's frames as JPEG files.

use csp_models::picture::{self, RgbImage};

use super::CameraError;

/// Quality of the JPEG files made from raw frames.
const QUALITY: u8 = 92;

/// How a device's pixels come, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PixelFormat {
    /// Motion JPEG: each frame a JPEG, often without Huffman tables.
    Mjpeg,
    /// Two pixels in four bytes: Y0 U Y1 V, ITU-R BT.601 of limited range.
    Yuyv,
    /// One byte of brightness a pixel, as infrared cameras give it.
    Grey,
}

impl PixelFormat {
    /// Its V4L2 code.
    pub fn fourcc(self) -> &'static str {
        match self {
            Self::Mjpeg => "MJPG",
            Self::Yuyv => "YUYV",
            Self::Grey => "GREY",
        }
    }

    /// The format of a V4L2 code, if it is understood here.
    pub fn of(fourcc: [u8; 4]) -> Option<Self> {
        match &fourcc {
            b"MJPG" | b"JPEG" => Some(Self::Mjpeg),
            b"YUYV" => Some(Self::Yuyv),
            b"GREY" | b"Y800" => Some(Self::Grey),
            _ => None,
        }
    }
}

/// A frame of `width × height` pixels as a JPEG file. Motion JPEG stays as it is, but for missing Huffman
/// tables, which are put in, and whatever stands behind its end, which is cut off.
///
/// # Errors
/// A raw frame of another length, or a motion-JPEG frame that is cut or no JPEG.
pub fn to_jpeg(
    format: PixelFormat,
    (width, height): (u32, u32),
    frame: &[u8],
) -> Result<Vec<u8>, CameraError> {
    let pixels = width as usize * height as usize;
    let exact = |bytes: usize| match frame.get(..bytes) {
        // a driver may pad the last page
        Some(frame) if pixels > 0 => Ok(frame),
        _ => Err(CameraError::Short {
            found: frame.len(),
            expected: bytes,
            width,
            height,
            format: format.fourcc(),
        }),
    };
    let rgb: Vec<u8> = match format {
        PixelFormat::Mjpeg => {
            return picture::complete_jpeg(frame).map_err(|error| CameraError::Corrupt(error.to_string()));
        }
        PixelFormat::Yuyv => exact(2 * pixels)?.chunks_exact(4).flat_map(two_pixels).collect(),
        PixelFormat::Grey => exact(pixels)?.iter().flat_map(|&grey| [grey; 3]).collect(),
    };
    let picture = RgbImage::from_raw(width, height, rgb)
        .ok_or_else(|| CameraError::Corrupt("YUYV of an odd number of pixels".into()))?;
    picture::encode_jpeg(&picture, QUALITY).map_err(|error| CameraError::Corrupt(error.to_string()))
}

/// BT.601 of limited range, in 16.16 fixed point.
fn two_pixels(yuyv: &[u8]) -> [u8; 6] {
    let byte = |at: usize| i32::from(yuyv.get(at).copied().unwrap_or_default());
    let (u, v) = (byte(1) - 128, byte(3) - 128);
    let pixel = |luma: i32| {
        let y = 76_309 * (luma - 16) + (1 << 15);
        [y + 104_597 * v, y - 25_675 * u - 53_279 * v, y + 132_201 * u].map(|c| (c >> 16).clamp(0, 255) as u8)
    };
    let ([r0, g0, b0], [r1, g1, b1]) = (pixel(byte(0)), pixel(byte(2)));
    [r0, g0, b0, r1, g1, b1]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Y, U, V of BT.601 (limited range) for known colours: the table of the standard's 100 % bars.
    const BARS: [([u8; 3], [u8; 3]); 8] = [
        ([235, 128, 128], [255, 255, 255]),
        ([210, 16, 146], [255, 255, 0]),
        ([170, 166, 16], [0, 255, 255]),
        ([145, 54, 34], [0, 255, 0]),
        ([106, 202, 222], [255, 0, 255]),
        ([81, 90, 240], [255, 0, 0]),
        ([41, 240, 110], [0, 0, 255]),
        ([16, 128, 128], [0, 0, 0]),
    ];

    #[test]
    fn the_colour_bars_have_their_colours() {
        for ([y, u, v], rgb) in BARS {
            let got = two_pixels(&[y, u, y, v]);
            for (got, want) in got.iter().zip(rgb.iter().cycle()) {
                assert!(got.abs_diff(*want) <= 2, "{got:?} for {rgb:?}");
            }
        }
    }

    #[test]
    fn raw_frames_become_jpeg_files() {
        let (width, height) = (32, 16);
        let frame: Vec<u8> = (0..width * height / 2).flat_map(|_| [81, 90, 81, 240]).collect();
        let size = (width as u32, height as u32);
        let jpeg = to_jpeg(PixelFormat::Yuyv, size, &frame).unwrap();
        let decoded = picture::decode(Path::new("x"), &jpeg).unwrap();
        assert_eq!(decoded.dimensions(), size);
        let [r, g, b] = decoded.get_pixel(5, 5).0;
        assert!(r > 245 && g < 10 && b < 10, "{r} {g} {b}");

        let grey: Vec<u8> = (0..32 * 16).map(|at| (at % 32) * 8).map(|v: u16| v as u8).collect();
        let jpeg = to_jpeg(PixelFormat::Grey, size, &grey).unwrap();
        let decoded = picture::decode(Path::new("x"), &jpeg).unwrap();
        assert!(decoded.get_pixel(20, 3).0.iter().all(|c| c.abs_diff(160) < 6));
    }

    #[test]
    fn short_and_damaged_frames_are_errors() {
        let short = to_jpeg(PixelFormat::Yuyv, (32, 16), &[0; 100]).unwrap_err();
        assert_eq!(short.to_string(), "a frame of 100 bytes, 1024 are 32 × 16 pixels of YUYV");
        assert!(to_jpeg(PixelFormat::Grey, (0, 0), &[]).is_err());
        assert!(to_jpeg(PixelFormat::Yuyv, (1, 1), &[0; 4]).is_err());
        assert!(to_jpeg(PixelFormat::Mjpeg, (32, 16), &[0; 4000]).is_err());
        let whole = to_jpeg(PixelFormat::Grey, (32, 16), &[90; 512]).unwrap();
        assert_eq!(to_jpeg(PixelFormat::Mjpeg, (32, 16), &whole).unwrap(), whole);
        assert!(to_jpeg(PixelFormat::Mjpeg, (32, 16), &whole[..whole.len() / 2]).is_err());
        let padded = [&whole[..], &[0; 300]].concat();
        assert_eq!(to_jpeg(PixelFormat::Mjpeg, (32, 16), &padded).unwrap(), whole);
    }
}

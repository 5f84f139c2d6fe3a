//! Tests of decoding, whole and reduced.

use super::*;

const INPUT: ImageInput = ImageInput { width: 16, height: 8, mean: [0.5, 0.25, 0.0], std: [0.5, 1.0, 2.0] };

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

/// Files of `tools/picture_fixtures.py`: 64 × 48 pixels of one scene.
macro_rules! fixture {
    ($name:literal) => {
        &include_bytes!(concat!("data/", $name))[..]
    };
}

const HALF: ImageInput = ImageInput { width: 16, height: 12, mean: [0.0; 3], std: [1.0; 3] };

fn difference(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / a.len() as f64
}

/// The decoder this one replaces at reduced scale is libjpeg's in everybody's mind: its pixels at 1/2.
#[test]
fn half_scale_is_libjpegs() {
    let cases = [
        (fixture!("444.jpg"), fixture!("444.half.rgb"), 1.0),
        (fixture!("grey.jpg"), fixture!("grey.half.rgb"), 1.0),
        // libjpeg keeps the chroma of 4:2:0 at full resolution, this decoder halves and spreads it
        (fixture!("420.jpg"), fixture!("420.half.rgb"), 4.0),
    ];
    for (at, (file, want, most)) in cases.into_iter().enumerate() {
        let got = decode_for(Path::new("x"), file, &HALF, Part::WHOLE).unwrap();
        assert_eq!(got.dimensions(), (32, 24), "case {at}");
        let mean = difference(got.as_raw(), want);
        assert!(mean < most, "case {at}: mean difference {mean}");
    }
}

#[test]
fn every_kind_of_jpeg_gives_about_the_same_picture() {
    let path = Path::new("x");
    let plain = to_input(path, fixture!("444.jpg"), &HALF, Part::WHOLE).unwrap();
    for (name, file) in [
        ("4:2:0", fixture!("420.jpg")),
        ("4:2:2", fixture!("422.jpg")),
        ("progressive", fixture!("progressive.jpg")),
        ("RGB", fixture!("rgb.jpg")),
        ("CMYK", fixture!("cmyk.jpg")),
    ] {
        let pixels = to_input(path, file, &HALF, Part::WHOLE).unwrap();
        let mean = difference(&pixels, &plain);
        assert!(mean < 6.0, "{name}: {mean}");
    }
    let grey = to_input(path, fixture!("grey.jpg"), &HALF, Part::WHOLE).unwrap();
    assert!(grey.chunks_exact(3).all(|p| p[0] == p[1] && p[1] == p[2]));
}

#[test]
fn all_eight_orientations_are_upright_at_any_scale() {
    let files = [
        fixture!("upright-1.jpg"),
        fixture!("upright-2.jpg"),
        fixture!("upright-3.jpg"),
        fixture!("upright-4.jpg"),
        fixture!("upright-5.jpg"),
        fixture!("upright-6.jpg"),
        fixture!("upright-7.jpg"),
        fixture!("upright-8.jpg"),
    ];
    let path = Path::new("x");
    let whole = decode(path, files[0]).unwrap();
    let half = decode_for(path, files[0], &HALF, Part::WHOLE).unwrap();
    assert_eq!((whole.dimensions(), half.dimensions()), ((64, 48), (32, 24)));
    for (at, file) in files.into_iter().enumerate() {
        let upright = decode(path, file).unwrap();
        assert_eq!(upright.dimensions(), (64, 48), "orientation {}", at + 1);
        assert!(difference(upright.as_raw(), whole.as_raw()) < 2.5, "orientation {}", at + 1);
        let upright = decode_for(path, file, &HALF, Part::WHOLE).unwrap();
        assert_eq!(upright.dimensions(), (32, 24), "orientation {}", at + 1);
        assert!(difference(upright.as_raw(), half.as_raw()) < 2.5, "orientation {}", at + 1);
    }
}

/// Pictures that were trained on before are decoded as they were.
#[test]
fn a_tile_of_the_networks_size_is_never_reduced() {
    let tile = ImageInput { width: 64, height: 64, ..HALF };
    let path = Path::new("x");
    let file = jpeg(64, 64);
    let pixels = to_input(path, &file, &tile, Part::WHOLE).unwrap();
    assert_eq!(pixels, decode(path, &file).unwrap().into_raw());
    assert_eq!(reduced::reduction((64, 64), Part::WHOLE, (64, 64)), 1);
    assert_eq!(reduced::reduction((127, 4000), Part::WHOLE, (64, 64)), 1);
}

#[test]
fn the_scale_leaves_twice_the_input() {
    let at = |size, part, input: u32| reduced::reduction(size, part, (input, input));
    assert_eq!(at((4000, 3000), Part::WHOLE, 224), 4);
    assert_eq!(at((1920, 1080), Part::WHOLE, 224), 2);
    assert_eq!(at((640, 480), Part::WHOLE, 224), 1);
    assert_eq!(at((3584, 3584), Part::WHOLE, 224), 8);
    // a crop wants more, as long as all of it fits
    let fifth = Part::new([0.4, 0.4, 0.2, 0.2]).unwrap();
    assert_eq!(at((1920, 1080), fifth, 224), 1);
    assert_eq!(at((4000, 3000), fifth, 224), 2, "12 megapixels are never decoded whole");
    assert_eq!(at((16_000, 16_000), fifth, 224), 8);
}

#[test]
fn a_part_is_the_same_as_cutting_the_whole() {
    let (path, file) = (Path::new("x"), fixture!("444.jpg"));
    let part = Part::new([0.25, 0.5, 0.5, 0.25]).unwrap();
    let input = ImageInput { width: 32, height: 12, ..HALF };
    let got = to_input(path, file, &input, part).unwrap();
    let whole = decode(path, file).unwrap();
    let want = image::imageops::crop_imm(&whole, 16, 24, 32, 12).to_image();
    assert_eq!(got, want.into_raw());
    // at half scale about the same
    let small = ImageInput { width: 8, height: 3, ..HALF };
    let got = to_input(path, file, &small, part).unwrap();
    let cut = image::imageops::crop_imm(&whole, 16, 24, 32, 12).to_image();
    assert!(difference(&got, resize(&cut, 8, 3).as_raw()) < 5.0);
    for bad in [[0.5, 0.0, 0.6, 1.0], [-0.1, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0], [f32::NAN, 0.0, 1.0, 1.0]]
    {
        assert_eq!(Part::new(bad), None);
    }
    assert_eq!(Part::new([0.0, 0.0, 1.0, 1.0]), Some(Part::WHOLE));
    let dot = Part::new([0.999, 0.999, 0.001, 0.001]).unwrap();
    assert_eq!(dot.cut(&whole).dimensions(), (1, 1));
}

#[test]
fn what_is_not_read_says_why() {
    let path = Path::new("x.jpg");
    let mut file = jpeg(64, 48);
    let sof = file.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    let mut reason = |marker: u8, precision: u8| {
        (file[sof + 1], file[sof + 4]) = (marker, precision);
        to_input(path, &file, &HALF, Part::WHOLE).unwrap_err().to_string()
    };
    assert!(reason(0xc0, 12).contains("12 bits"));
    assert!(reason(0xc3, 8).contains("lossless"));
    assert!(reason(0xc9, 8).contains("arithmetic"));
    assert!(reason(0xc5, 8).contains("hierarchical"));
    // a header that claims 65,535 a side
    let mut huge = jpeg(64, 48);
    huge[sof + 5..sof + 9].fill(0xff);
    assert!(to_input(path, &huge, &HALF, Part::WHOLE).unwrap_err().to_string().contains("16384"));
}

#[test]
fn motion_jpeg_gets_its_tables() {
    let whole = fixture!("420.jpg");
    assert_eq!(complete_jpeg(whole).unwrap(), whole);
    let without: Vec<u8> = {
        let tables: Vec<_> = jpeg::segments(whole).filter(|s| s.marker == 0xc4).collect();
        let mut out = whole.to_vec();
        tables.iter().rev().for_each(|s| drop(out.drain(s.start..s.end)));
        out
    };
    assert!(without.len() < whole.len() - 400);
    let path = Path::new("x");
    let completed = complete_jpeg(&[&without[..], &[0; 100]].concat()).unwrap();
    assert_eq!(decode(path, &completed).unwrap(), decode(path, whole).unwrap());
    assert!(complete_jpeg(&without[..without.len() - 2]).is_err());
}

mod exif_data {
    use ::exif::{In, Reader, Tag};

    use super::*;
    use crate::{
        place::{LatLon, Place},
        time::{TimeSource, Timestamp},
    };

    fn tag() -> ExifTag {
        ExifTag {
            // 2026-07-14T12:34:56.789Z
            time: Some(Timestamp { millis: 1_784_032_496_789, source: TimeSource::Gps }),
            place: Some(Place {
                uncertainty_m: 12.5,
                ..Place::configured(LatLon::new(-33.868_82, 151.209_29).unwrap())
            }),
            camera: Some("trap-7".into()),
        }
    }

    fn value(file: &[u8], tag: Tag) -> Option<String> {
        let exif = Reader::new().read_from_container(&mut Cursor::new(file)).ok()?;
        exif.get_field(tag, In::PRIMARY).map(|field| field.display_value().to_string())
    }

    fn scan(file: &[u8]) -> &[u8] {
        &file[jpeg::segments(file).find(|s| s.marker == 0xda).unwrap().start..]
    }

    #[test]
    fn time_and_place_read_back_and_the_pixels_stay() {
        for file in [fixture!("444.jpg"), fixture!("upright-6.jpg"), fixture!("progressive.jpg")] {
            let tagged = with_exif(file, &tag()).unwrap();
            assert_eq!(scan(&tagged), scan(file));
            let is = |tag, want: &str| assert_eq!(value(&tagged, tag).as_deref(), Some(want));
            is(Tag::DateTimeOriginal, "2026-07-14 12:34:56");
            is(Tag::OffsetTimeOriginal, "\"+00:00\"");
            is(Tag::OffsetTime, "\"+00:00\"");
            is(Tag::SubSecTimeOriginal, "\"789\"");
            is(Tag::Model, "\"trap-7\"");
            is(Tag::GPSLatitude, "33 deg 52 min 7.752 sec");
            is(Tag::GPSLatitudeRef, "S");
            is(Tag::GPSLongitude, "151 deg 12 min 33.444 sec");
            is(Tag::GPSLongitudeRef, "E");
            is(Tag::GPSHPositioningError, "12.5");
            assert_eq!(
                jpeg::exif(&tagged).and_then(Orientation::from_exif_chunk).is_some(),
                jpeg::exif(file).is_some()
            );
            // turned as before, and written again it is the same
            assert_eq!(decode(Path::new("x"), &tagged).unwrap(), decode(Path::new("x"), file).unwrap());
            assert_eq!(with_exif(&tagged, &tag()).unwrap(), tagged);
        }
    }

    #[test]
    fn without_leave_no_place_stays() {
        let tagged = with_exif(fixture!("444.jpg"), &tag()).unwrap();
        let bare = with_exif(&tagged, &ExifTag::default()).unwrap();
        assert_eq!(value(&bare, Tag::GPSLatitude), None);
        assert_eq!(value(&bare, Tag::DateTimeOriginal).as_deref(), Some("2026-07-14 12:34:56"));
        // since boot is no date: the file says nothing of one
        let time = Timestamp { millis: 5, source: TimeSource::SinceBoot };
        let undated = with_exif(fixture!("444.jpg"), &ExifTag { time: Some(time), ..ExifTag::default() });
        assert_eq!(undated.unwrap(), fixture!("444.jpg"));
    }

    #[test]
    fn refuses_what_is_no_jpeg_or_too_much() {
        for file in [&b""[..], b"\xff\xd8", b"\x89PNG\r\n\x1a\n", &fixture!("444.jpg")[..200]] {
            assert_eq!(with_exif(file, &tag()), Err(ExifError::NotJpeg));
        }
        let long = ExifTag { camera: Some("x".repeat(70_000)), ..tag() };
        assert!(matches!(with_exif(fixture!("444.jpg"), &long), Err(ExifError::Data(_))));
    }
}

/// Every foreign byte goes through here; what a mutation of it makes may be an error, never a panic.
#[test]
fn mutated_files_never_panic() {
    let seeds =
        [fixture!("420.jpg"), fixture!("progressive.jpg"), fixture!("upright-6.jpg"), fixture!("cmyk.jpg")];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for round in 0..2000 {
        let mut file = seeds[round % seeds.len()].to_vec();
        for _ in 0..=next(4) {
            let at = next(file.len());
            match next(4) {
                0 => file[at] = next(256) as u8,
                1 => file[at] ^= 1 << next(8),
                2 => drop(file.drain(at..(at + 1 + next(8)).min(file.len()))),
                _ => file.insert(at, [0xff, 0xda, 0, 0xd9][next(4)]),
            }
            if file.is_empty() {
                break;
            }
        }
        fuzz_picture(&file);
    }
}

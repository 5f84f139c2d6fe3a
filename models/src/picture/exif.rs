//! Time and place written into a JPEG's EXIF data. The compressed pixels are not touched.

use std::io::Cursor;

use exif::{Context, Field, In, Rational, Tag, Value, experimental::Writer};

use super::jpeg::{self, APP0, APP1, EXIF};
use crate::{
    place::Place,
    time::{TimeSource, Timestamp},
};

/// What is written; everything else the file's EXIF data said stays, but for thumbnails and maker notes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExifTag {
    /// When the picture was taken. A time [since boot](TimeSource::SinceBoot) knows no date and is not
    /// written.
    pub time: Option<Timestamp>,
    /// Where. With `None` the file says nothing of a place, even if it did before.
    pub place: Option<Place>,
    /// The trap that took it (`Model`).
    pub camera: Option<String>,
}

/// Why nothing could be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExifError {
    /// No JPEG, or one whose header is damaged.
    #[error("the file is not a JPEG with a readable header")]
    NotJpeg,
    /// The data do not fit into a segment of 64 KiB, or are no EXIF data.
    #[error("EXIF data: {0}")]
    Data(String),
}

/// The same JPEG with its EXIF data set. Only segments before the first scan change.
///
/// # Errors
/// [`ExifError`]: not a JPEG, or EXIF data too large for its segment.
pub fn with_exif(file: &[u8], tag: &ExifTag) -> Result<Vec<u8>, ExifError> {
    let segments: Vec<_> = jpeg::segments(file).collect();
    if segments.last().is_none_or(|last| last.marker != 0xda) || jpeg::frame(file).is_none() {
        return Err(ExifError::NotJpeg);
    }
    let mut ours = time_fields(tag.time);
    ours.extend(tag.place.iter().flat_map(place_fields));
    if let Some(camera) = &tag.camera {
        ours.push(text(Tag::Model, camera));
    }
    let fields = [kept(jpeg::exif(file), tag), ours.clone()].concat();
    // old data that cannot be written again go, rather than stay with the place they may hold
    let exif = segment(&fields).or_else(|_| segment(&ours))?;
    // JFIF wants to be first; EXIF is next
    let jfif = segments.iter().take_while(|segment| segment.marker == APP0).count();
    let (first, rest) = segments.split_at(jfif);
    let scan = segments.last().map_or(file.len(), |scan| scan.end);
    let bytes = |segment: &jpeg::Segment<'_>| file.get(segment.start..segment.end).unwrap_or_default();
    let mut out = Vec::with_capacity(file.len() + exif.len());
    out.extend_from_slice(file.get(..2).unwrap_or_default());
    first.iter().for_each(|segment| out.extend_from_slice(bytes(segment)));
    out.extend_from_slice(&exif);
    rest.iter().filter(|s| !is_metadata(s)).for_each(|segment| out.extend_from_slice(bytes(segment)));
    out.extend_from_slice(file.get(scan..).unwrap_or_default());
    Ok(out)
}

/// EXIF, and XMP, which may repeat the place.
fn is_metadata(segment: &jpeg::Segment<'_>) -> bool {
    segment.marker == APP1
        && (segment.body.starts_with(EXIF) || segment.body.starts_with(b"http://ns.adobe.com/x"))
}

/// What the file said already and `tag` does not replace; nothing of EXIF data that cannot be read.
fn kept(old: Option<&[u8]>, tag: &ExifTag) -> Vec<Field> {
    let Some(read) = old.and_then(|old| exif::Reader::new().read_raw(old.to_vec()).ok()) else {
        return Vec::new();
    };
    let replaced = |field: &&Field| {
        let dated = tag.time.is_some_and(|time| time.source != TimeSource::SinceBoot);
        let time = [
            Tag::DateTime,
            Tag::DateTimeOriginal,
            Tag::DateTimeDigitized,
            Tag::OffsetTime,
            Tag::OffsetTimeOriginal,
            Tag::OffsetTimeDigitized,
            Tag::SubSecTime,
            Tag::SubSecTimeOriginal,
            Tag::SubSecTimeDigitized,
        ];
        let layout = [Tag::MakerNote, Tag::JPEGInterchangeFormat, Tag::JPEGInterchangeFormatLength];
        field.ifd_num != In::PRIMARY
            || field.tag.context() == Context::Gps
            || layout.contains(&field.tag)
            || (dated && time.contains(&field.tag))
            || (tag.camera.is_some() && field.tag == Tag::Model)
    };
    read.fields()
        .filter(|field| !replaced(field) && !matches!(field.value, Value::Unknown(..)))
        .cloned()
        .collect()
}

/// The fields as an APP1 segment; nothing of no fields.
fn segment(fields: &[Field]) -> Result<Vec<u8>, ExifError> {
    if fields.is_empty() {
        return Ok(Vec::new());
    }
    let mut writer = Writer::new();
    fields.iter().for_each(|field| writer.push_field(field));
    let mut tiff = Cursor::new(Vec::new());
    writer.write(&mut tiff, false).map_err(|error| ExifError::Data(error.to_string()))?;
    let tiff = tiff.into_inner();
    let length = u16::try_from(2 + EXIF.len() + tiff.len())
        .map_err(|_| ExifError::Data(format!("{} bytes do not fit into a segment of 64 KiB", tiff.len())))?;
    Ok([&[0xff, APP1], &length.to_be_bytes()[..], EXIF, &tiff].concat())
}

fn field(tag: Tag, value: Value) -> Field {
    Field { tag, ifd_num: In::PRIMARY, value }
}

/// ASCII as EXIF wants it; what is not becomes `?`.
fn text(tag: Tag, text: &str) -> Field {
    let ascii = |c: char| if c.is_ascii() && !c.is_ascii_control() { c as u8 } else { b'?' };
    field(tag, Value::Ascii(vec![text.chars().map(ascii).collect()]))
}

fn time_fields(time: Option<Timestamp>) -> Vec<Field> {
    let Some(time) = time.filter(|time| time.source != TimeSource::SinceBoot) else { return Vec::new() };
    // 2026-07-14T12:34:56.789Z
    let iso = time.to_string();
    let (Some(date), Some(clock), Some(millis)) = (iso.get(..10), iso.get(11..19), iso.get(20..23)) else {
        return Vec::new();
    };
    let stamp = format!("{} {clock}", date.replace('-', ":"));
    vec![
        text(Tag::DateTime, &stamp),
        text(Tag::DateTimeOriginal, &stamp),
        text(Tag::OffsetTime, "+00:00"),
        text(Tag::OffsetTimeOriginal, "+00:00"),
        text(Tag::SubSecTimeOriginal, millis),
    ]
}

fn place_fields(place: &Place) -> Vec<Field> {
    let whole = |num: u32| Rational { num, denom: 1 };
    let angle = |degrees: f64| {
        // a ten-thousandth of an arc second is 3 mm
        const SECOND: u32 = 10_000;
        let units = (degrees.abs() * 3600.0 * f64::from(SECOND)).round() as u64;
        let second = Rational { num: (units % u64::from(60 * SECOND)) as u32, denom: SECOND };
        let minutes = units / u64::from(60 * SECOND);
        Value::Rational(vec![whole((minutes / 60) as u32), whole((minutes % 60) as u32), second])
    };
    let (lat, lon) = (place.at.lat(), place.at.lon());
    let mut fields = vec![
        field(Tag::GPSVersionID, Value::Byte(vec![2, 3, 0, 0])),
        text(Tag::GPSLatitudeRef, if lat < 0.0 { "S" } else { "N" }),
        field(Tag::GPSLatitude, angle(lat)),
        text(Tag::GPSLongitudeRef, if lon < 0.0 { "W" } else { "E" }),
        field(Tag::GPSLongitude, angle(lon)),
        text(Tag::GPSMapDatum, "WGS-84"),
    ];
    let uncertainty = place.uncertainty_m.clamp(0.0, 4e7);
    if uncertainty > 0.0 {
        let num = (uncertainty * 10.0).round() as u32;
        fields.push(field(Tag::GPSHPositioningError, Value::Rational(vec![Rational { num, denom: 10 }])));
    }
    fields
}

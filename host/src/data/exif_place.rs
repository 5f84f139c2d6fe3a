//! Place and date of a photograph, from its EXIF data.

use std::{fs::File, io::BufReader, path::Path};

use csp_models::{picture, place::LatLon};
use exif::{Error, Exif, In, Reader, Tag, Value};

use super::{dates, geotiff};

/// What EXIF says about a photograph.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Facts {
    pub(crate) place: Option<LatLon>,
    /// The time it was taken, as EXIF writes it.
    pub(crate) date: Option<String>,
    /// Why there is GPS data and no place.
    pub(crate) bad_place: Option<String>,
    /// Why there is a date and it is not used.
    pub(crate) bad_date: Option<String>,
    /// Why a tile's georeference gives no place.
    pub(crate) bad_georeference: Option<String>,
    /// How many bands a tile has.
    pub(crate) bands: Option<usize>,
    /// Why the block as a whole cannot be read.
    pub(crate) damage: Option<String>,
}

/// Clocks that were never set count from a year before this.
const FIRST_YEAR: i64 = 2001;

/// Reads the EXIF data of a photograph, or the georeference of a tile; a photograph without any has no facts.
pub(crate) fn read(path: &Path) -> Facts {
    if is_tile(path) {
        let (place, bad_georeference) = match geotiff::place(path) {
            Ok(place) => (place, None),
            Err(reason) => (None, Some(reason)),
        };
        return Facts { place, bad_georeference, bands: geotiff::bands(path), ..Facts::default() };
    }
    let (exif, damage) = match open(path) {
        Ok(read) => read,
        Err(Error::NotFound(_) | Error::BlankValue(_)) => return Facts::default(),
        // an unreadable or foreign file is the decoder's to report
        Err(Error::Io(_)) => return Facts::default(),
        Err(error) => return Facts { damage: Some(error.to_string()), ..Facts::default() },
    };
    let mut facts = Facts::default();
    match place(&exif) {
        Ok(place) => facts.place = place,
        Err(reason) => facts.bad_place = Some(reason),
    }
    match date(&exif) {
        Ok(date) => facts.date = date,
        Err(reason) => facts.bad_date = Some(reason),
    }
    // damage elsewhere in the block is no loss to us
    facts.damage = damage.filter(|_| facts.place.is_none());
    facts
}

/// True for the names of TIFF files.
pub(crate) fn is_tile(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("tif") || e.eq_ignore_ascii_case("tiff"))
}

/// The EXIF data, and what of it could not be read.
fn open(path: &Path) -> Result<(Exif, Option<String>), Error> {
    let file = File::open(path)?;
    if file.metadata()?.len() > picture::MAX_FILE {
        return Err(Error::NotFound("beyond the size that is read")); // the decoder says so
    }
    // one damaged entry must not cost the place: what else there is is kept
    let mut reader = Reader::new();
    reader.continue_on_error(true);
    match reader.read_from_container(&mut BufReader::new(file)) {
        Err(Error::PartialResult(partial)) => {
            let (exif, errors) = partial.into_inner();
            Ok((exif, errors.first().map(ToString::to_string)))
        }
        whole => whole.map(|exif| (exif, None)),
    }
}

fn place(exif: &Exif) -> Result<Option<LatLon>, String> {
    let field = |tag| exif.get_field(tag, In::PRIMARY).map(|field| &field.value);
    let (lat, lon) = (field(Tag::GPSLatitude), field(Tag::GPSLongitude));
    if lat.is_none() && lon.is_none() {
        return Ok(None);
    }
    if let Some(b"V") = field(Tag::GPSStatus).and_then(ascii).as_deref() {
        return Err("the receiver marked it void (GPSStatus V)".into());
    }
    let lat = degrees(lat, field(Tag::GPSLatitudeRef), "GPSLatitude", [b'N', b'S'])?;
    let lon = degrees(lon, field(Tag::GPSLongitudeRef), "GPSLongitude", [b'E', b'W'])?;
    LatLon::measured(lat, lon).map(Some).map_err(|error| error.to_string())
}

/// Degrees, minutes and seconds with the hemisphere's sign. Without a reference the sign would be a guess.
fn degrees(
    value: Option<&Value>,
    reference: Option<&Value>,
    tag: &str,
    signs: [u8; 2],
) -> Result<f64, String> {
    let Some(Value::Rational(parts)) = value else { return Err(format!("{tag} is missing or no fraction")) };
    let [d, m, s] = match parts.as_slice() {
        [d, m, s] => [d.to_f64(), m.to_f64(), s.to_f64()],
        [d, m] => [d.to_f64(), m.to_f64(), 0.0],
        [d] => [d.to_f64(), 0.0, 0.0],
        other => return Err(format!("{tag} has {} parts", other.len())),
    };
    if !(d + m + s).is_finite() {
        return Err(format!("{tag} has a zero denominator"));
    }
    if m >= 60.0 || s >= 60.0 {
        return Err(format!("{tag} {d}° {m}' {s}\" has minutes or seconds above 59"));
    }
    let letter = reference.and_then(ascii).and_then(|text| text.first().map(u8::to_ascii_uppercase));
    let magnitude = d + m / 60.0 + s / 3600.0;
    match letter {
        Some(letter) if letter == signs[0] => Ok(magnitude),
        Some(letter) if letter == signs[1] => Ok(-magnitude),
        _ => Err(format!("{tag}Ref is neither {} nor {}", signs[0] as char, signs[1] as char)),
    }
}

fn date(exif: &Exif) -> Result<Option<String>, String> {
    for tag in [Tag::DateTimeOriginal, Tag::DateTimeDigitized] {
        let Some(text) = exif.get_field(tag, In::PRIMARY).and_then(|field| ascii(&field.value)) else {
            continue;
        };
        let text = String::from_utf8_lossy(&text).into_owned();
        // blanks and zeros are EXIF's way to say "unknown"
        if text.bytes().all(|byte| matches!(byte, b' ' | b':' | b'0')) {
            continue;
        }
        return match dates::parse(&text, dates::Order::Unknown) {
            Some(day) if day.year < FIRST_YEAR => Err(format!("{text}: a clock that was never set")),
            _ => Ok(Some(text)),
        };
    }
    Ok(None)
}

fn ascii(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::Ascii(lines) => Some(lines.first()?.trim_ascii().to_vec()),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use exif::{Field, Rational, experimental::Writer};
    use std::{fs, io::Cursor};

    /// A small JPEG with those EXIF fields.
    pub(crate) fn jpeg_with(fields: &[Field]) -> Vec<u8> {
        let mut jpeg = Cursor::new(Vec::new());
        image::RgbImage::from_fn(16, 16, |x, y| image::Rgb([x as u8 * 9, y as u8 * 7, 40]))
            .write_to(&mut jpeg, image::ImageFormat::Jpeg)
            .unwrap();
        let jpeg = jpeg.into_inner();
        if fields.is_empty() {
            return jpeg;
        }
        let mut writer = Writer::new();
        fields.iter().for_each(|field| writer.push_field(field));
        let mut tiff = Cursor::new(Vec::new());
        writer.write(&mut tiff, true).unwrap();
        let tiff = tiff.into_inner();
        let mut bytes = jpeg[..2].to_vec();
        bytes.extend_from_slice(&[0xff, 0xe1]);
        bytes.extend_from_slice(&((2 + 6 + tiff.len()) as u16).to_be_bytes());
        bytes.extend_from_slice(b"Exif\0\0");
        bytes.extend_from_slice(&tiff);
        bytes.extend_from_slice(&jpeg[2..]);
        bytes
    }

    pub(crate) fn field(tag: Tag, value: Value) -> Field {
        Field { tag, ifd_num: In::PRIMARY, value }
    }

    pub(crate) fn text(tag: Tag, value: &str) -> Field {
        field(tag, Value::Ascii(vec![value.as_bytes().to_vec()]))
    }

    pub(crate) fn dms(tag: Tag, parts: [(u32, u32); 3]) -> Field {
        field(tag, Value::Rational(parts.iter().map(|&(num, denom)| Rational { num, denom }).collect()))
    }

    fn facts(fields: &[Field]) -> Facts {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jpg");
        fs::write(&path, jpeg_with(fields)).unwrap();
        read(&path)
    }

    #[test]
    fn hemispheres_and_date() {
        // Sydney: 33° 52' 7.68" S, 151° 12' 33.48" E
        let fields = [
            dms(Tag::GPSLatitude, [(33, 1), (52, 1), (768, 100)]),
            text(Tag::GPSLatitudeRef, "S"),
            dms(Tag::GPSLongitude, [(151, 1), (12, 1), (3348, 100)]),
            text(Tag::GPSLongitudeRef, "E"),
            text(Tag::DateTimeOriginal, "2024:03:01 05:06:07"),
        ];
        let found = facts(&fields);
        let place = found.place.unwrap();
        assert!((place.lat() + 33.8688).abs() < 1e-9 && (place.lon() - 151.2093).abs() < 1e-9, "{place}");
        assert_eq!(found.date.as_deref(), Some("2024:03:01 05:06:07"));
        assert_eq!((found.bad_place, found.damage), (None, None));
    }

    #[test]
    fn gps_data_that_is_no_place_says_why() {
        let lat = |parts| dms(Tag::GPSLatitude, parts);
        let lon = |parts| dms(Tag::GPSLongitude, parts);
        let (n, e) = (text(Tag::GPSLatitudeRef, "N"), text(Tag::GPSLongitudeRef, "E"));
        let (ten, zero, void) = ([(10, 1), (0, 1), (0, 1)], [(0, 1); 3], [(0, 0); 3]);
        for (fields, says) in [
            (vec![lat(void), n.clone(), lon(void), e.clone()], "zero denominator"),
            (vec![lat(zero), n.clone(), lon(zero), e.clone()], "null island"),
            (vec![lat(ten), lon(ten), e.clone()], "GPSLatitudeRef"),
            (vec![lat(ten), n.clone(), lon(ten)], "GPSLongitudeRef"),
            (vec![lat(ten), n.clone(), lon(ten), text(Tag::GPSLongitudeRef, "X")], "GPSLongitudeRef"),
            (vec![lat(ten), n.clone()], "GPSLongitude is missing"),
            (vec![lat([(95, 1), (0, 1), (0, 1)]), n.clone(), lon(ten), e.clone()], "95"),
            (vec![lat([(9, 1), (75, 1), (0, 1)]), n.clone(), lon(ten), e.clone()], "above 59"),
            (vec![lat(ten), n.clone(), lon(ten), e.clone(), text(Tag::GPSStatus, "V")], "void"),
        ] {
            let found = facts(&fields);
            assert_eq!(found.place, None, "{says}");
            assert!(found.bad_place.as_deref().unwrap_or_default().contains(says), "{found:?} {says}");
        }
    }

    #[test]
    fn unset_clocks_are_no_dates() {
        assert!(facts(&[text(Tag::DateTimeOriginal, "1970:01:01 00:00:05")]).bad_date.is_some());
        let blank = facts(&[text(Tag::DateTimeOriginal, "0000:00:00 00:00:00")]);
        assert_eq!(blank, Facts::default());
    }

    #[test]
    fn damage_is_reported_and_absence_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jpg");
        let mut bytes = jpeg_with(&[text(Tag::DateTimeOriginal, "2024:03:01 05:06:07")]);
        let tiff = bytes.windows(6).position(|w| w == b"Exif\0\0").unwrap() + 6;
        bytes[tiff + 4..tiff + 8].fill(0xff); // an IFD far outside
        fs::write(&path, &bytes).unwrap();
        assert!(read(&path).damage.is_some());
        fs::write(&path, b"not a photograph").unwrap();
        assert!(read(&path).place.is_none());
        assert_eq!(read(Path::new("/nonexistent.jpg")), Facts::default());
    }
}

//! The place of a GeoTIFF tile: its middle, from the georeference.

use std::{fs::File, io::BufReader, path::Path};

use csp_models::place::LatLon;
use tiff::{
    TiffError,
    decoder::{Decoder, Limits},
    tags::Tag,
};

use super::projection::Projection;

/// Keys of the GeoKeyDirectory (OGC GeoTIFF 1.1, 7.2).
mod key {
    pub(super) const MODEL_TYPE: u16 = 1024;
    pub(super) const RASTER_TYPE: u16 = 1025;
    pub(super) const GEOGRAPHIC_CRS: u16 = 2048;
    pub(super) const ANGULAR_UNITS: u16 = 2054;
    pub(super) const PROJECTED_CRS: u16 = 3072;
    pub(super) const LINEAR_UNITS: u16 = 3076;
}

/// The middle of a tile; `None` for a TIFF without a georeference.
///
/// # Errors
/// Damaged, or georeferenced in a way or system that is not read: names the EPSG code.
pub(crate) fn place(path: &Path) -> Result<Option<LatLon>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let limits = Limits::default();
    let say = |error: TiffError| match error {
        TiffError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the file is cut short".to_string()
        }
        other => other.to_string(),
    };
    let mut tiff = Decoder::new(BufReader::new(file)).map_err(say)?.with_limits(limits);
    let (width, height) = tiff.dimensions().map_err(say)?;
    let mut numbers = |tag: Tag| match tiff.find_tag(tag) {
        Ok(Some(value)) => value.into_f64_vec().map(Some).map_err(say),
        Ok(None) => Ok(None),
        Err(error) => Err(say(error)),
    };
    let scale = numbers(Tag::ModelPixelScaleTag)?;
    let tie = numbers(Tag::ModelTiepointTag)?;
    let matrix = numbers(Tag::ModelTransformationTag)?;
    if tie.is_none() && matrix.is_none() {
        return Ok(None);
    }
    let keys = match tiff.find_tag(Tag::GeoKeyDirectoryTag).map_err(say)? {
        Some(value) => value.into_u16_vec().map_err(say)?,
        None => return Err("a georeference without GeoKeyDirectory: its coordinate system is unknown".into()),
    };
    let projection = projection(&keys)?;
    // where the first pixel's corner is (0, 0) the middle is half the size; where its centre is, half a pixel less
    let inset = if value_of(&keys, key::RASTER_TYPE) == Some(2) { 1.0 } else { 0.0 };
    let (column, row) = ((f64::from(width) - inset) / 2.0, (f64::from(height) - inset) / 2.0);
    let (x, y) = match (matrix.as_deref(), tie.as_deref(), scale.as_deref()) {
        (Some([a, b, _, c, d, e, _, f, ..]), ..) => (a * column + b * row + c, d * column + e * row + f),
        (None, Some([i, j, _, x, y, _]), Some([sx, sy, ..])) => (x + (column - i) * sx, y - (row - j) * sy),
        (None, Some(points), None) if points.len() > 6 => {
            return Err(format!(
                "{} ground control points and no transformation; warp it first (gdalwarp)",
                points.len() / 6
            ));
        }
        _ => {
            return Err(
                "a georeference that is neither one tie point with a pixel scale nor a transformation".into(),
            );
        }
    };
    match projection.place(x, y) {
        Some(place) => Ok(Some(place)),
        None => Err(format!("its middle, {x} east and {y} north, lies outside of its coordinate system")),
    }
}

/// How many bands a tile has; `None` for what is no TIFF, which the decoder reports.
pub(crate) fn bands(path: &Path) -> Option<usize> {
    let tiff = Decoder::new(BufReader::new(File::open(path).ok()?)).ok()?;
    let colours = tiff.with_limits(Limits::default()).colortype().ok()?;
    Some(usize::from(colours.num_samples()))
}

/// A short value of the key directory.
fn value_of(keys: &[u16], wanted: u16) -> Option<u16> {
    keys.get(4..)?.chunks_exact(4).find(|entry| entry[0] == wanted && entry[1] == 0).map(|entry| entry[3])
}

fn projection(keys: &[u16]) -> Result<Projection, String> {
    let of = |key| value_of(keys, key);
    // some writers leave the type out: a code of a projected system says it
    let model = of(key::MODEL_TYPE).or_else(|| of(key::PROJECTED_CRS).map(|_| 1));
    let (crs, units) = match model {
        Some(1) => (of(key::PROJECTED_CRS), of(key::LINEAR_UNITS).filter(|unit| *unit != 9001)),
        Some(2) => (of(key::GEOGRAPHIC_CRS), of(key::ANGULAR_UNITS).filter(|unit| *unit != 9102)),
        other => {
            return Err(format!(
                "a coordinate system of type {other:?}: neither projected (1) nor geographic (2)"
            ));
        }
    };
    const FIX: &str = "warp it to WGS84 or UTM (gdalwarp -t_srs EPSG:4326), or give the places in a table";
    if let Some(unit) = units {
        return Err(format!("units EPSG:{unit}, neither metres nor degrees; {FIX}"));
    }
    match crs {
        None | Some(32767) => Err(format!("a coordinate system of its own, without EPSG code; {FIX}")),
        Some(code) => Projection::of_epsg(u32::from(code)).ok_or_else(|| {
            format!("EPSG:{code} is not read, only 4326, 4258, 4269, UTM (326xx, 327xx, 258xx, 269xx) and 3857; {FIX}")
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use csp_models::picture;
    use proptest::prelude::*;
    use std::fs;

    /// Written by tools/geotiff_fixtures.py with tifffile.
    fn fixture(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/geotiff").join(name)
    }

    const FIXTURES: [&str; 3] =
        ["rgb8_deflate_4326.tif", "u16_5band_planar_32733.tif", "u16_rgb_32633_big_endian.tif"];

    #[test]
    fn the_middle_of_a_tile() {
        for (name, lat, lon) in [
            (FIXTURES[0], 46.996, 11.004),
            // pyproj on (333040, 6247960)
            (FIXTURES[1], -33.89552922816648, 13.194374334473526),
            (FIXTURES[2], 56.34683439783561, 12.298350718892292),
        ] {
            let place = place(&fixture(name)).unwrap().unwrap();
            assert!((place.lat() - lat).abs() < 1e-9 && (place.lon() - lon).abs() < 1e-9, "{name}: {place}");
        }
    }

    #[test]
    fn the_pixels_of_a_tile() {
        let decode = |name| picture::decode(&fixture(name), &fs::read(fixture(name)).unwrap()).unwrap();
        let rgb = decode(FIXTURES[0]);
        assert_eq!((rgb.dimensions(), rgb.get_pixel(3, 5).0), ((8, 8), [90, 150, 7]));
        // 12-bit-like values are divided by 16, brighter ones white: 500·3/16, 500·5/16, 160/16
        assert_eq!(decode(FIXTURES[1]).get_pixel(3, 5).0, [93, 156, 10]);
        // 16 times as bright uses the full range: /257
        assert_eq!(decode(FIXTURES[2]).get_pixel(3, 5).0, [93, 155, 9]);
    }

    #[test]
    fn other_systems_are_refused_by_name() {
        let of = |keys: &[u16]| {
            projection(keys).map_err(|reason| reason.split(';').next().unwrap_or_default().to_string())
        };
        assert_eq!(
            of(&[1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32631]),
            Ok(Projection::Utm { zone: 31, south: false })
        );
        // without its type
        assert_eq!(of(&[1, 1, 0, 1, 3072, 0, 1, 32631]), Ok(Projection::Utm { zone: 31, south: false }));
        for (keys, says) in [
            (&[1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 3035][..], "EPSG:3035"),
            (&[1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32767], "without EPSG"),
            (&[1, 1, 0, 3, 1024, 0, 1, 1, 3072, 0, 1, 32631, 3076, 0, 1, 9003], "EPSG:9003"),
            (&[1, 1, 0, 1, 1024, 0, 1, 3], "type Some(3)"),
            (&[1, 1], "type None"),
        ] {
            assert!(of(keys).unwrap_err().contains(says), "{says}");
        }
    }

    #[test]
    fn damage_never_panics() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.tif");
        let whole = FIXTURES.map(|name| fs::read(fixture(name)).unwrap());
        proptest!(|(which in 0usize..3, cut in 0.0f64..=1.0, cuts: bool, at in 0.0f64..1.0, byte: u8)| {
            let whole = &whole[which];
            let mut bytes = whole[..if cuts { (cut * whole.len() as f64) as usize } else { whole.len() }].to_vec();
            let at = (at * bytes.len() as f64) as usize;
            if let Some(there) = bytes.get_mut(at) {
                *there = byte;
            }
            fs::write(&path, &bytes).unwrap();
            let _ = place(&path);
            let _ = picture::decode(&path, &bytes);
            let _ = picture::dimensions(&path);
        });
    }
}

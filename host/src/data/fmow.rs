//! Functional Map of the World as it is distributed: for every image `NAME_rgb.jpg` a `NAME_rgb.json`
//! with the footprint as WKT in `raw_location` and the objects in `bounding_boxes`.
//!
//! A row is an image; its class is that of its objects, its place the middle of the first object's
//! footprint, or of the image's. All images of one site share a folder, which counts as the camera.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use rayon::prelude::*;
use serde::Deserialize;

use super::{
    DataError, Split, coordinates,
    json::{self, Value},
    problem::{Kind, Problems, quoted},
    rows::Draft,
    walk,
};

/// Folders inside folders that are entered.
const MAX_DEPTH: usize = 8;
/// Largest JSON of one image, bytes.
const MAX_JSON: u64 = 4 << 20;
/// The ending of the files that are read; the multispectral ones end in `_msrgb.json`.
const ENDING: &str = "_rgb.json";
/// The category of boxes that hold none of the others.
const NOTHING: &str = "false_detection";

#[derive(Deserialize)]
struct Image {
    #[serde(default)]
    img_filename: Value,
    #[serde(default)]
    timestamp: Value,
    #[serde(default)]
    raw_location: Value,
    bounding_boxes: Boxes,
}

/// A list in the training part, a single object in some of the others.
#[derive(Deserialize)]
#[serde(untagged)]
enum Boxes {
    Many(Vec<Object>),
    One(Box<Object>),
}

impl Image {
    fn objects(&self) -> &[Object] {
        match &self.bounding_boxes {
            Boxes::Many(objects) => objects,
            Boxes::One(object) => std::slice::from_ref(&**object),
        }
    }

    /// The first object's, or the image's own.
    fn footprint(&self) -> Option<String> {
        let all = self.objects().iter().map(|object| &object.raw_location).chain([&self.raw_location]);
        all.filter_map(Value::text).next()
    }
}

#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    category: Value,
    #[serde(default)]
    raw_location: Value,
}

/// True for a folder that holds such JSONs: any within the first few folders of each level.
pub(crate) fn is_one(folder: &Path) -> bool {
    fn look(folder: &Path, depth: usize) -> bool {
        let Ok(entries) = fs::read_dir(folder) else { return false };
        let mut paths: Vec<PathBuf> = entries.take(4096).filter_map(|e| Some(e.ok()?.path())).collect();
        paths.sort();
        let named = |path: &PathBuf| path.as_os_str().as_encoded_bytes().ends_with(ENDING.as_bytes());
        paths.iter().any(named)
            || depth > 0
                && paths.iter().filter(|path| path.is_dir()).take(3).any(|path| look(path, depth - 1))
    }
    look(folder, 4)
}

/// Reads the tree. Folders named after a split at the top give the split.
///
/// # Errors
/// A folder that cannot be listed, or no such JSON in it.
pub(crate) fn read(
    path: &Path,
    notes: &mut Vec<String>,
    problems: &mut Problems,
) -> Result<Vec<Draft>, DataError> {
    let mut files = Vec::new();
    walk::files(path, MAX_DEPTH, &mut |file| {
        if file.as_os_str().as_encoded_bytes().ends_with(ENDING.as_bytes()) {
            files.push(file);
        }
    })?;
    if files.is_empty() {
        return Err(DataError::outline(path, format!("no …{ENDING} in it")));
    }
    notes.push(
        "place = middle of the footprint, class = category of the objects, camera = folder of the site"
            .into(),
    );
    let read: Vec<Result<Image, String>> = files
        .par_iter()
        .map(|file| {
            let mut unused = Vec::new();
            json::read_within(file, "an fMoW JSON", MAX_JSON, &mut unused).map_err(|error| error.to_string())
        })
        .collect();
    let mut drafts = Vec::with_capacity(files.len());
    let mut without = 0;
    for (file, image) in files.iter().zip(read) {
        match image {
            Ok(image) => {
                without += usize::from(image.footprint().is_none());
                drafts.push(draft(path, file, &image, problems));
            }
            Err(reason) => problems.add(Kind::BrokenReference, || reason),
        }
    }
    if without == drafts.len() && without > 0 {
        let reason = format!(
            "none of its {without} images has a footprint (raw_location): without places there is nothing to \
             learn from; take the JSONs of the full distribution, not a stripped copy"
        );
        return Err(DataError::outline(path, reason));
    }
    Ok(drafts)
}

fn draft(root: &Path, file: &Path, image: &Image, problems: &mut Problems) -> Draft {
    let objects = image.objects();
    let relative = file.strip_prefix(root).unwrap_or(file);
    let at = relative.to_string_lossy().into_owned();
    let stem = relative.with_extension("");
    // the name inside the JSON may be of another distribution: the one beside the JSON counts
    let picture = ["jpg", "jpeg", "png", "tif"].map(|extension| file.with_extension(extension));
    let picture = picture.into_iter().find(|path| path.is_file()).unwrap_or_else(|| {
        image.img_filename.text().map_or_else(|| file.with_extension("jpg"), |name| file.with_file_name(name))
    });
    let mut classes: BTreeSet<String> = objects.iter().filter_map(|object| object.category.text()).collect();
    // what a detector took for something: beside a real category it says nothing
    if classes.len() > 1 {
        classes.remove(NOTHING);
    }
    let class = match classes.len() {
        0 | 1 => classes.first().cloned(),
        _ => {
            problems.add(Kind::SeveralClasses, || {
                format!("{at}: {}", classes.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", "))
            });
            None
        }
    };
    let footprint = image.footprint();
    if footprint.is_none() {
        problems.add(Kind::NoFootprint, || at.clone());
    }
    let place = footprint.and_then(|wkt| match middle(&wkt) {
        Ok((lat, lon)) => coordinates::place(&at, lat, lon, problems),
        Err(reason) => {
            problems.add(Kind::BadFootprint, || format!("{at}: {}: {reason}", quoted(&wkt)));
            None
        }
    });
    let first = relative.components().next().and_then(|part| part.as_os_str().to_str());
    Draft {
        name: format!("{}.{}", stem.display(), picture.extension().unwrap_or_default().to_string_lossy())
            .into(),
        image: Some(picture),
        place,
        date: image.timestamp.text().map(Into::into),
        class: class.map(Into::into),
        split: first.and_then(Split::from_word),
        camera: relative
            .parent()
            .map(|site| site.to_string_lossy())
            .filter(|s| !s.is_empty())
            .map(Into::into),
        at: at.into(),
        ..Draft::default()
    }
}

/// The middle (lat, lon) of the box around a WKT `POLYGON ((lon lat, …))`. A footprint is so small
/// that this is its centroid to a few metres; one across the antimeridian is wider than half the Earth
/// and is turned round.
fn middle(wkt: &str) -> Result<(f64, f64), String> {
    let (kind, rest) = wkt.split_once('(').ok_or("no parenthesis")?;
    let kind = kind.trim().to_ascii_uppercase();
    if !matches!(kind.as_str(), "POLYGON" | "MULTIPOLYGON" | "POINT" | "POLYGON Z") {
        return Err(format!("{} is no POLYGON", quoted(&kind)));
    }
    let mut lons = Vec::new();
    let mut lats = Vec::new();
    for pair in rest.split(',') {
        let pair = pair.trim().trim_matches(['(', ')']).trim();
        let mut numbers = pair.split_ascii_whitespace().map(str::parse::<f64>);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(lon)), Some(Ok(lat))) if lon.is_finite() && lat.is_finite() => {
                lons.push(lon);
                lats.push(lat);
            }
            _ => return Err(format!("{} is not `longitude latitude`", quoted(pair))),
        }
    }
    let range = |values: &[f64]| {
        values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(*v), high.max(*v)))
    };
    let (mut west, mut east) = range(&lons);
    if east - west > 180.0 {
        let turned: Vec<f64> = lons.iter().map(|lon| if *lon < 0.0 { lon + 360.0 } else { *lon }).collect();
        (west, east) = range(&turned);
    }
    let lon = (west + east) / 2.0;
    let (south, north) = range(&lats);
    Ok(((south + north) / 2.0, if lon > 180.0 { lon - 360.0 } else { lon }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_is_a_footprint_or_refused(wkt in "(POLYGON ?\\()?[-0-9. ,()a-zé]{0,60}") {
            let _ = middle(&wkt);
        }
    }

    #[test]
    fn the_middle_of_a_footprint() {
        let square = "POLYGON ((10 40, 10.5 40, 10.5 41, 10 41, 10 40))";
        assert_eq!(middle(square), Ok((40.5, 10.25)));
        assert_eq!(middle(&square.to_lowercase().replace(", ", ",")), Ok((40.5, 10.25)));
        let dateline = "POLYGON ((179.9 -17, -179.7 -17, -179.7 -16, 179.9 -16, 179.9 -17))";
        let (lat, lon) = middle(dateline).unwrap();
        assert!((lat + 16.5).abs() < 1e-9 && (lon + 179.9).abs() < 1e-9, "{lat} {lon}");
        for bad in
            ["", "POLYGON", "LINESTRING (1 2, 3 4)", "POLYGON ((1))", "POLYGON ((a b))", "POLYGON ((NaN 1))"]
        {
            assert!(middle(bad).is_err(), "{bad}");
        }
    }
}

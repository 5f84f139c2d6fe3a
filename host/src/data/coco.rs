//! COCO Camera Traps JSON: images, annotations and categories, places by location.
//!
//! Images that carry their own latitude and longitude, as iNaturalist's JSON does, need no location table.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use csp_models::place::LatLon;
use serde::{Deserialize, Deserializer, de::Visitor};

use super::{
    DataError, MAX_INDEX_FILE, Split, coordinates,
    locations::{self, Locations},
    problem::{Kind, Problems, quoted},
    rows::Draft,
    table::resolve,
};

#[derive(Deserialize)]
struct Coco {
    images: Vec<Image>,
    #[serde(default)]
    annotations: Vec<Annotation>,
    #[serde(default)]
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct Image {
    id: Id,
    file_name: String,
    #[serde(default)]
    location: Option<Id>,
    #[serde(default, alias = "date", alias = "date_captured")]
    datetime: Option<String>,
    #[serde(default, alias = "lat")]
    latitude: Option<f64>,
    #[serde(default, alias = "lon", alias = "lng")]
    longitude: Option<f64>,
    #[serde(default)]
    split: Option<String>,
    #[serde(default)]
    corrupt: bool,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: Id,
    category_id: Id,
}

#[derive(Deserialize)]
struct Category {
    id: Id,
    name: String,
}

/// An id that some write as a number and some as text.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Id(String);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Id;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an id (a number or text)")
            }
            fn visit_str<E>(self, value: &str) -> Result<Id, E> {
                Ok(Id(value.into()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Id, E> {
                Ok(Id(value.to_string()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Id, E> {
                Ok(Id(value.to_string()))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Reads a JSON and the location table given or beside it.
///
/// # Errors
/// Unreadable, no such JSON, or a location table without the columns it needs.
pub(crate) fn read(
    path: &Path,
    location_table: Option<&Path>,
    notes: &mut Vec<String>,
    problems: &mut Problems,
) -> Result<Vec<Draft>, DataError> {
    let coco = parse(path)?;
    let own_places = coco.images.iter().any(|image| image.latitude.is_some() || image.longitude.is_some());
    let beside = location_table.map(Path::to_path_buf).or_else(|| locations::beside(path));
    let places = match &beside {
        Some(table) => {
            notes.push(format!("places of locations from {}", table.display()));
            locations::read(table, problems)?
        }
        None => {
            if !own_places {
                notes.push(format!(
                    "no places: `location` is only a name, and there is no {}_locations.csv (location,lat,lon) or --locations FILE",
                    path.file_stem().unwrap_or_default().to_string_lossy()
                ));
            }
            Locations::new()
        }
    };
    let classes = classes(&coco, problems);
    let base = image_folder(path, &coco.images);
    notes.push(format!("photographs in {}", base.display()));
    let mut ids = HashSet::new();
    let mut drafts = Vec::with_capacity(coco.images.len());
    for image in &coco.images {
        let at = format!("image {}", quoted(&image.id.0));
        if !ids.insert(&image.id) {
            problems.add(Kind::BrokenReference, || format!("{at}: the id is used twice"));
            continue;
        }
        if image.corrupt {
            problems.add(Kind::MarkedCorrupt, || format!("{at}: {}", quoted(&image.file_name)));
            continue;
        }
        let split = image.split.as_deref().filter(|word| !word.trim().is_empty()).and_then(|word| {
            let split = Split::from_word(word);
            if split.is_none() {
                problems.add(Kind::UnknownSplit, || format!("{at}: split {}", quoted(word)));
            }
            split
        });
        drafts.push(Draft {
            place: place(image, &at, &places, beside.is_some(), problems),
            name: image.file_name.clone(),
            image: Some(resolve(&base, &image.file_name)),
            date: image.datetime.clone().filter(|text| !coordinates::is_empty_cell(text)),
            class: class(image, &at, &classes, problems),
            split,
            camera: image.location.as_ref().map(|id| id.0.clone()),
            at,
            ..Draft::default()
        });
    }
    Ok(drafts)
}

fn parse(path: &Path) -> Result<Coco, DataError> {
    let io = |source| DataError::io(path, source);
    let file = File::open(path).map_err(io)?;
    if file.metadata().map_err(io)?.len() > MAX_INDEX_FILE {
        return Err(DataError::outline(path, "larger than 4 GiB; split the JSON"));
    }
    let mut reader = BufReader::new(file);
    // a byte-order mark is not JSON, and common
    if std::io::BufRead::fill_buf(&mut reader).map_err(io)?.starts_with(b"\xef\xbb\xbf") {
        std::io::BufRead::consume(&mut reader, 3);
    }
    serde_json::from_reader(reader)
        .map_err(|error| DataError::outline(path, format!("not a COCO Camera Traps JSON: {error}")))
}

/// The classes of each image, sorted, each once.
fn classes<'a>(coco: &'a Coco, problems: &mut Problems) -> HashMap<&'a Id, Vec<&'a str>> {
    let mut names: HashMap<&Id, &str> = HashMap::new();
    for category in &coco.categories {
        if names.insert(&category.id, category.name.trim()).is_some_and(|name| name != category.name.trim()) {
            problems.add(Kind::BrokenReference, || {
                format!("category {}: the id is used twice", quoted(&category.id.0))
            });
        }
    }
    let images: HashSet<&Id> = coco.images.iter().map(|image| &image.id).collect();
    let mut classes: HashMap<&Id, Vec<&str>> = HashMap::new();
    for (i, annotation) in coco.annotations.iter().enumerate() {
        let Some(name) = names.get(&annotation.category_id) else {
            problems.add(Kind::BrokenReference, || {
                format!("annotations[{i}]: no category {}", quoted(&annotation.category_id.0))
            });
            continue;
        };
        if !images.contains(&annotation.image_id) {
            problems.add(Kind::BrokenReference, || {
                format!("annotations[{i}]: no image {}", quoted(&annotation.image_id.0))
            });
            continue;
        }
        let names = classes.entry(&annotation.image_id).or_default();
        if let Err(at) = names.binary_search(name) {
            names.insert(at, name);
        }
    }
    classes
}

fn class(
    image: &Image,
    at: &str,
    classes: &HashMap<&Id, Vec<&str>>,
    problems: &mut Problems,
) -> Option<String> {
    match classes.get(&image.id).map(Vec::as_slice) {
        None | Some([] | [""]) => None,
        Some([name]) => Some((*name).into()),
        Some(names) => {
            problems.add(Kind::SeveralClasses, || {
                format!("{at}: {}", names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", "))
            });
            None
        }
    }
}

fn place(
    image: &Image,
    at: &str,
    locations: &Locations,
    expected: bool,
    problems: &mut Problems,
) -> Option<LatLon> {
    match (image.latitude, image.longitude) {
        (Some(lat), Some(lon)) => return coordinates::place(at, lat, lon, problems),
        (None, None) => {}
        (lat, _) => {
            let (given, absent) =
                if lat.is_some() { ("latitude", "longitude") } else { ("longitude", "latitude") };
            problems.add(Kind::HalfPlace, || format!("{at}: {given} without {absent}"));
            return None;
        }
    }
    // some tables are keyed by the image itself
    let by_location = image.location.as_ref().and_then(|id| locations.get(&id.0));
    let place = by_location.or_else(|| locations.get(&image.id.0)).copied();
    if place.is_none() && expected {
        problems.add(Kind::UnknownLocation, || {
            let name = image.location.as_ref().map_or("none".into(), |id| quoted(&id.0));
            format!("{at}: location {name}")
        });
    }
    place
}

/// Photographs lie beside the JSON or in a folder `images` or named like it: the first that holds any of the first few.
fn image_folder(json: &Path, images: &[Image]) -> PathBuf {
    let beside = json.parent().unwrap_or(Path::new(""));
    let named = json.file_stem().unwrap_or_default();
    let candidates = [beside.to_path_buf(), beside.join("images"), beside.join(named)];
    let holds =
        |folder: &&PathBuf| images.iter().take(20).any(|image| resolve(folder, &image.file_name).is_file());
    candidates.iter().find(holds).unwrap_or(&candidates[0]).clone()
}

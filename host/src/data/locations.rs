//! The coordinates of camera locations, from a CSV or JSON beside a COCO Camera Traps file.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufReader, Read},
    path::{Path, PathBuf},
};

use csp_models::place::LatLon;
use serde_json::Value;

use super::{
    DataError, MAX_INDEX_FILE,
    columns::{self, Role},
    coordinates::{self, PlaceReader, is_empty_cell},
    problem::{Kind, Problems, quoted},
    recognise,
    table::Table,
};

/// Where each location is, by its name in the images.
pub(crate) type Locations = HashMap<String, LatLon>;

/// The location table that belongs to a JSON by its name: `<stem>_locations.*`, `locations.*`, `gps_locations.json`.
pub(crate) fn beside(json: &Path) -> Option<PathBuf> {
    let stem = json.file_stem()?.to_string_lossy();
    let names = [format!("{stem}_locations"), "locations".into(), "gps_locations".into()];
    names
        .iter()
        .flat_map(|name| ["csv", "tsv", "json"].map(|extension| format!("{name}.{extension}")))
        .map(|name| json.with_file_name(name))
        .find(|path| path.is_file() && path != json)
}

/// Reads a location table.
///
/// # Errors
/// Unreadable, or without the columns or fields a location needs.
pub(crate) fn read(path: &Path, problems: &mut Problems) -> Result<Locations, DataError> {
    match first_byte(path)? {
        Some(b'{' | b'[') => from_json(path, problems),
        _ => {
            recognise::format(path)?; // a workbook or a photograph is named as such
            from_table(path, problems)
        }
    }
}

fn first_byte(path: &Path) -> Result<Option<u8>, DataError> {
    let file = File::open(path).map_err(|source| DataError::io(path, source))?;
    for byte in BufReader::new(file).bytes().take(4096) {
        let byte = byte.map_err(|source| DataError::io(path, source))?;
        if !byte.is_ascii_whitespace() && ![0xef, 0xbb, 0xbf].contains(&byte) {
            return Ok(Some(byte));
        }
    }
    Ok(None)
}

fn from_table(path: &Path, problems: &mut Problems) -> Result<Locations, DataError> {
    let mut table = Table::open(path)?;
    let header = table.header.clone();
    let outline = |reason| DataError::outline(path, reason);
    let need = |role| {
        let found = columns::find(&header, role).map_err(outline)?;
        found.ok_or_else(|| {
            let names = header.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
            outline(format!("a location table needs the columns location, lat and lon; it has {names}"))
        })
    };
    let (lat, lon) = (need(Role::Lat)?, need(Role::Lon)?);
    let id = match need(Role::Camera) {
        Ok(column) => column,
        // `id,lat,lon` says the same
        Err(error) => {
            let index = header.iter().position(|name| name.eq_ignore_ascii_case("id")).ok_or(error)?;
            columns::Column { index, name: header[index].clone() }
        }
    };
    let file = file_name(path);
    let mut places = PlaceReader::new(&lat.name, &lon.name, table.decimal_comma);
    let mut locations = Locations::new();
    table.each(problems, |at, fields, problems| {
        let at = format!("{file}: {at}");
        let place = places.read(&at, fields[lat.index], fields[lon.index], problems);
        if let Some(place) = place
            && !is_empty_cell(fields[id.index])
        {
            insert(&mut locations, &at, fields[id.index], place, problems);
        }
    })?;
    places.finish(problems);
    Ok(locations)
}

/// `{"loc1": {"lat": …, "lon": …}, …}` or `[{"location": "loc1", "lat": …, "lon": …}, …]`.
fn from_json(path: &Path, problems: &mut Problems) -> Result<Locations, DataError> {
    let file = File::open(path).map_err(|source| DataError::io(path, source))?;
    let value: Value = serde_json::from_reader(BufReader::new(file.take(MAX_INDEX_FILE)))
        .map_err(|error| DataError::outline(path, format!("not JSON: {error}")))?;
    let mut locations = Locations::new();
    let name = file_name(path);
    let mut add = |id: &str, entry: &Value, problems: &mut Problems| {
        let at = format!("{name}: location {}", quoted(id));
        let degrees = |keys: &[&str]| keys.iter().find_map(|key| entry.get(key)).and_then(Value::as_f64);
        let lat = degrees(&["lat", "latitude", "decimalLatitude"]);
        let lon = degrees(&["lon", "lng", "longitude", "decimalLongitude"]);
        match (lat, lon) {
            (Some(lat), Some(lon)) => {
                if let Some(place) = coordinates::place(&at, lat, lon, problems) {
                    insert(&mut locations, &at, id, place, problems);
                }
            }
            _ => problems.add(Kind::NotANumber, || format!("{at}: no numbers `lat` and `lon` in it")),
        }
    };
    match &value {
        Value::Object(entries) => entries.iter().for_each(|(id, entry)| add(id, entry, problems)),
        Value::Array(entries) => {
            for (i, entry) in entries.iter().enumerate() {
                let id = ["location", "location_id", "id", "name"].iter().find_map(|key| entry.get(key));
                match id {
                    Some(Value::String(id)) => add(id, entry, problems),
                    Some(Value::Number(id)) => add(&id.to_string(), entry, problems),
                    _ => problems
                        .add(Kind::BrokenReference, || format!("{name}: entry {i} names no `location`")),
                }
            }
        }
        _ => return Err(DataError::outline(path, "a location JSON is an object or a list")),
    }
    Ok(locations)
}

fn insert(locations: &mut Locations, at: &str, id: &str, place: LatLon, problems: &mut Problems) {
    let first = *locations.entry(id.to_string()).or_insert(place);
    if first != place {
        problems.add(Kind::ConflictingPlaces, || {
            format!("{at}: location {} is at {first} and {place}", quoted(id))
        });
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

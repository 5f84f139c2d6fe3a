//! The coordinates of camera locations, from a CSV or JSON beside a COCO Camera Traps file.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use csp_models::place::LatLon;
use serde::Deserialize;

use super::{
    DataError,
    columns::{self, Role},
    coordinates::{self, PlaceReader, is_empty_cell, is_nothing, uncertainty_cell},
    json::{self, Id, Value},
    problem::{Kind, Problems, quoted},
    recognise,
    rows::Shared,
    table::Table,
};

/// What a second file says about a location or an image.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fact {
    pub(crate) place: Option<LatLon>,
    pub(crate) uncertainty_m: Option<f64>,
    pub(crate) date: Option<String>,
    /// The share of the year, where the file gives that.
    pub(crate) season: Option<f64>,
    pub(crate) user: Option<Arc<str>>,
}

/// By the name of a location in the images, or the id of an image.
pub(crate) type Locations = HashMap<Id, Fact>;

/// The location table that belongs to a JSON by its name: `<stem>_locations.*`, `<stem>_location.json`,
/// `locations.*`, `gps_locations.json`.
pub(crate) fn beside(json: &Path) -> Option<PathBuf> {
    let stem = json.file_stem()?.to_string_lossy();
    let names =
        [format!("{stem}_locations"), format!("{stem}_location"), "locations".into(), "gps_locations".into()];
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
pub(crate) fn read(
    path: &Path,
    users: &mut Shared,
    notes: &mut Vec<String>,
    problems: &mut Problems,
) -> Result<Locations, DataError> {
    match recognise::first_byte(path)? {
        Some(b'{' | b'[') => from_json(path, users, notes, problems),
        _ => {
            recognise::format(path)?; // a workbook or a photograph is named as such
            from_table(path, notes, problems)
        }
    }
}

fn from_table(path: &Path, notes: &mut Vec<String>, problems: &mut Problems) -> Result<Locations, DataError> {
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
    let uncertainty = columns::find(&header, Role::Uncertainty).map_err(outline)?;
    if let Some(column) = &uncertainty {
        notes.push(format!("uncertainty_m ← {}", quoted(&column.name)));
    }
    let file = file_name(path);
    let mut places = PlaceReader::new(&lat.name, &lon.name, table.decimal_comma);
    let mut locations = Locations::new();
    table.each(problems, |at, fields, problems| {
        let at = format!("{file}: {at}");
        let place = places.read(&at, fields[lat.index], fields[lon.index], problems);
        if let Some(place) = place
            && !is_empty_cell(fields[id.index])
        {
            let uncertainty_m = uncertainty.as_ref().and_then(|column| {
                let text = Some(fields[column.index]).filter(|text| !is_nothing(text));
                uncertainty_cell(&at, &column.name, text, places.writes_commas(), problems)
            });
            let fact = Fact { place: Some(place), uncertainty_m, ..Fact::default() };
            insert(&mut locations, &at, Id::of(fields[id.index]), fact, problems);
        }
    })?;
    places.finish(problems);
    Ok(locations)
}

/// An entry of a location JSON: a camera's location, or an image of iNaturalist 2017 and 2018.
#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    location: Value,
    #[serde(default)]
    location_id: Value,
    #[serde(default)]
    id: Value,
    #[serde(default)]
    name: Value,
    #[serde(default, alias = "latitude", alias = "decimalLatitude")]
    lat: Value,
    #[serde(default, alias = "lng", alias = "longitude", alias = "decimalLongitude")]
    lon: Value,
    #[serde(default, alias = "location_uncertainty", alias = "coordinateUncertainty")]
    loc_uncert: Value,
    #[serde(default)]
    date: Value,
    #[serde(default)]
    date_c: Value,
    #[serde(default)]
    user_id: Value,
}

impl Entry {
    fn fact(&self, at: &str, users: &mut Shared, problems: &mut Problems) -> Fact {
        Fact {
            place: coordinates::of_values(&at, &self.lat, &self.lon, problems),
            uncertainty_m: coordinates::uncertainty_of_value(&at, &self.loc_uncert, problems),
            date: self.date.text(),
            season: season(&at, &self.date_c, problems),
            user: self.user_id.text().map(|name| users.of(&name)),
        }
    }
}

/// A share of the year as a file gives it, 0 to 1.
pub(crate) fn season(at: &dyn std::fmt::Display, share: &Value, problems: &mut Problems) -> Option<f64> {
    match share.number() {
        Ok(None) => None,
        // the last day of the year of some conventions is the first of ours
        Ok(Some(share)) if (0.0..=1.0).contains(&share) => Some(share % 1.0),
        Ok(Some(share)) => {
            problems.add(Kind::BadDate, || format!("{at}: {share} is no share of a year, 0 to 1"));
            None
        }
        Err(text) => {
            problems.add(Kind::BadDate, || format!("{at}: {} is no share of a year", quoted(text)));
            None
        }
    }
}

/// `{"loc1": {"lat": …, "lon": …}, …}` or `[{"location": "loc1", "lat": …, "lon": …}, …]`.
fn from_json(
    path: &Path,
    users: &mut Shared,
    notes: &mut Vec<String>,
    problems: &mut Problems,
) -> Result<Locations, DataError> {
    let mut locations = Locations::new();
    let name = file_name(path);
    let what = "a location JSON";
    if recognise::first_byte(path)? == Some(b'{') {
        let entries: HashMap<String, Entry> = json::read(path, what, notes)?;
        for (id, entry) in entries {
            let at = format!("{name}: location {}", quoted(&id));
            let fact = entry.fact(&at, users, problems);
            insert(&mut locations, &at, Id::of(&id), fact, problems);
        }
        return Ok(locations);
    }
    let entries: Vec<Entry> = json::read(path, what, notes)?;
    for (i, entry) in entries.iter().enumerate() {
        let ids = [&entry.location, &entry.location_id, &entry.id, &entry.name];
        match ids.into_iter().find_map(Value::text) {
            Some(id) => {
                let at = format!("{name}: location {}", quoted(&id));
                let fact = entry.fact(&at, users, problems);
                insert(&mut locations, &at, Id::of(&id), fact, problems);
            }
            None => {
                problems.add(Kind::BrokenReference, || format!("{name}: entry {i} names no `location`"));
            }
        }
    }
    Ok(locations)
}

fn insert(locations: &mut Locations, at: &str, id: Id, fact: Fact, problems: &mut Problems) {
    let place = fact.place;
    let name = quoted(&id.to_string());
    let first = locations.entry(id).or_insert(fact).place;
    if first != place {
        problems.add(Kind::ConflictingPlaces, || {
            let say = |place: Option<LatLon>| place.map_or("no place".into(), |place| place.to_string());
            format!("{at}: location {name} is at {} and {}", say(first), say(place))
        });
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

//! JSONs of geo_prior's release: `birdsnap_with_loc_2019.json` and `nabirds_with_loc_2019.json`, which
//! hold lists `train`, `val`, `test` and the classes' names; and lists of locations with classes and
//! no photographs (`…_large.json`).

use std::{collections::HashMap, path::Path, sync::Arc};

use serde::Deserialize;

use super::{
    DataError, Split, class_names, coordinates, image_folder,
    json::{self, Id, Value},
    locations::season,
    problem::{Kind, Problems, quoted},
    recognise,
    rows::{Draft, Shared},
};

#[derive(Deserialize)]
struct Release {
    #[serde(default)]
    train: Vec<Item>,
    #[serde(default)]
    val: Vec<Item>,
    #[serde(default)]
    test: Vec<Item>,
    #[serde(default)]
    classes: Names,
}

/// Names in the order of the classes, or by their number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Names {
    List(Vec<Value>),
    Table(HashMap<String, Value>),
}

impl Default for Names {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl Names {
    fn of(&self, class: &Id) -> Option<String> {
        match (self, class) {
            (Self::List(names), Id::Number(i)) => names.get(usize::try_from(*i).ok()?)?.text(),
            (Self::Table(names), id) => names.get(&id.to_string())?.text(),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct Item {
    class_id: Id,
    im_path: String,
    #[serde(default)]
    orig_date: Value,
    #[serde(default)]
    valid_image: Value,
    #[serde(default)]
    orig_meta: Option<Meta>,
    #[serde(default)]
    ebird_meta: Option<Meta>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(default)]
    lon: Value,
    #[serde(default)]
    lat: Value,
    /// Share of the year.
    #[serde(default)]
    date: Value,
    #[serde(default)]
    user_id: Value,
}

impl Meta {
    fn is_placed(&self) -> bool {
        self.lat != Value::Missing && self.lon != Value::Missing
    }
}

/// A location with a class, as in `…_large.json`.
#[derive(Deserialize)]
struct Location {
    #[serde(alias = "class_id")]
    class: Id,
    lon: Value,
    lat: Value,
    #[serde(default)]
    date_c: Value,
    #[serde(default)]
    user_id: Value,
}

/// Reads either kind, told by its first byte. Places are the photographs' own where any has one, unless
/// those of `ebird` are asked for.
///
/// # Errors
/// Unreadable, or neither kind.
pub(crate) fn read(
    path: &Path,
    ebird: bool,
    images: Option<&Path>,
    notes: &mut Vec<String>,
    problems: &mut Problems,
) -> Result<Vec<Draft>, DataError> {
    if recognise::first_byte(path)? == Some(b'[') {
        return read_locations(path, notes, problems);
    }
    let release: Release = json::read(path, "a geo_prior JSON", notes)?;
    let parts = [(Split::Train, &release.train), (Split::Val, &release.val), (Split::Test, &release.test)];
    let items = || parts.iter().flat_map(|(_, items)| items.iter());
    let original = !ebird && items().any(|item| item.orig_meta.as_ref().is_some_and(Meta::is_placed));
    notes.push(match original {
        true => "place, date and photographer of each photograph's own record (orig_meta)".into(),
        false => "place, date and photographer from ebird_meta: drawn from checklists of the same species, not where the photograph was taken".to_string(),
    });
    let base = image_folder::of(path, images, items().map(|item| &*item.im_path), notes);
    notes.push(format!("photographs in {}", base.display()));
    let (mut users, mut classes) = (Shared::default(), Shared::default());
    let mut drafts = Vec::new();
    for (split, items) in parts {
        for (i, item) in items.iter().enumerate() {
            let at = format!("{split}[{i}]");
            if matches!(item.valid_image.text().as_deref(), Some("false" | "0")) {
                problems.add(Kind::MarkedCorrupt, || format!("{at}: {}", quoted(&item.im_path)));
                continue;
            }
            let meta = if original { &item.orig_meta } else { &item.ebird_meta };
            let meta = meta.as_ref();
            drafts.push(Draft {
                name: item.im_path.clone().into(),
                image: Some(image_folder::resolve(&base, &item.im_path)),
                place: meta.and_then(|meta| coordinates::of_values(&at, &meta.lat, &meta.lon, problems)),
                season: meta.and_then(|meta| season(&at, &meta.date, problems)),
                // its own date is that of the photograph, whatever the place is of
                date: item.orig_date.text().filter(|_| original).map(Into::into),
                user: meta.and_then(|meta| meta.user_id.text()).map(|name| users.of(&name)),
                class: Some(name(&release.classes, &item.class_id, &at, &mut classes, problems)),
                split: Some(split),
                at: at.into(),
                ..Draft::default()
            });
        }
    }
    Ok(drafts)
}

fn read_locations(
    path: &Path,
    notes: &mut Vec<String>,
    problems: &mut Problems,
) -> Result<Vec<Draft>, DataError> {
    let what = "a list of locations with `lat`, `lon` and `class`";
    let list: Vec<Location> = json::read(path, what, notes)?;
    let names = class_names::beside_json(path, std::iter::empty(), notes)?;
    let names = Names::Table(
        names.into_iter().map(|(id, name)| (id.to_string(), Value::Id(Id::of(&name)))).collect(),
    );
    let (mut users, mut classes) = (Shared::default(), Shared::default());
    let drafts = list.into_iter().enumerate().map(|(i, location)| {
        let at = format!("[{i}]");
        Draft {
            name: at.clone().into(),
            place: coordinates::of_values(&at, &location.lat, &location.lon, problems),
            season: season(&at, &location.date_c, problems),
            user: location.user_id.text().map(|name| users.of(&name)),
            class: Some(name(&names, &location.class, &at, &mut classes, problems)),
            at: at.into(),
            ..Draft::default()
        }
    });
    Ok(drafts.collect())
}

fn name(names: &Names, class: &Id, at: &str, known: &mut Shared, problems: &mut Problems) -> Arc<str> {
    let found = names.of(class);
    let nameless = match names {
        Names::List(names) => names.is_empty(),
        Names::Table(names) => names.is_empty(),
    };
    if found.is_none() && !nameless {
        problems.add(Kind::UnnamedClass, || format!("{at}: {}", quoted(&class.to_string())));
    }
    known.of(&found.unwrap_or_else(|| class.to_string()))
}

//! COCO-like JSON: images, annotations and categories. COCO Camera Traps has the places by location,
//! in a second file; iNaturalist 2017 and 2018, and fMoW as CSP's authors converted it, by image in a
//! second file; iNaturalist 2021 in the images themselves.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
};

use serde::Deserialize;

use super::{
    DataError, Split, class_names, coordinates, image_folder,
    json::{self, Id, Value},
    lineage::{self, Lineages},
    locations::{self, Fact, Locations},
    problem::{Kind, Problems, quoted},
    rows::{At, Draft, Shared},
};

#[derive(Deserialize)]
struct Coco {
    images: Vec<Image>,
    #[serde(default)]
    annotations: Vec<Annotation>,
    #[serde(default)]
    categories: Vec<Category>,
}

/// An image as it is kept while reading: millions of them.
#[derive(Deserialize)]
#[serde(from = "RawImage")]
struct Image {
    id: Id,
    file_name: Box<str>,
    location: Option<Id>,
    split: Option<Box<str>>,
    date: Option<Box<str>>,
    user: Option<Box<str>>,
    rights_holder: Option<Box<str>>,
    lat: Value,
    lon: Value,
    uncertainty: Value,
    corrupt: bool,
}

/// An image as files have it.
#[derive(Deserialize)]
struct RawImage {
    id: Id,
    file_name: String,
    #[serde(default)]
    location: Value,
    #[serde(default)]
    datetime: Value,
    #[serde(default)]
    date: Value,
    #[serde(default)]
    date_captured: Value,
    #[serde(default, alias = "lat")]
    latitude: Value,
    #[serde(default, alias = "lon", alias = "lng")]
    longitude: Value,
    #[serde(default, alias = "loc_uncert")]
    location_uncertainty: Value,
    #[serde(default)]
    user_id: Value,
    #[serde(default)]
    rights_holder: Value,
    #[serde(default)]
    split: Value,
    #[serde(default)]
    corrupt: Value,
}

impl From<RawImage> for Image {
    fn from(raw: RawImage) -> Self {
        let boxed = |value: &Value| value.text().map(String::into_boxed_str);
        Self {
            id: raw.id,
            file_name: raw.file_name.into(),
            location: match raw.location {
                Value::Id(id) => Some(id),
                other => other.text().map(|text| Id::of(&text)),
            },
            split: boxed(&raw.split),
            date: boxed(&raw.datetime).or_else(|| boxed(&raw.date)).or_else(|| boxed(&raw.date_captured)),
            user: boxed(&raw.user_id),
            rights_holder: boxed(&raw.rights_holder),
            lat: raw.latitude,
            lon: raw.longitude,
            uncertainty: raw.location_uncertainty,
            corrupt: matches!(raw.corrupt.text().as_deref(), Some("true" | "1")),
        }
    }
}

#[derive(Deserialize)]
struct Annotation {
    image_id: Id,
    category_id: Id,
}

#[derive(Deserialize)]
struct Category {
    id: Id,
    name: Value,
    #[serde(flatten)]
    groups: HashMap<String, serde_json::Value>,
}

/// Reads a JSON and the location table given or beside it; its photographs are in `images`, if that is given.
///
/// # Errors
/// Unreadable, no such JSON, or a location table without the columns it needs.
pub(crate) fn read(
    path: &Path,
    location_table: Option<&Path>,
    images: Option<&Path>,
    lineages: &mut Lineages,
    notes: &mut Vec<String>,
    problems: &mut Problems,
) -> Result<Vec<Draft>, DataError> {
    let coco: Coco = json::read(
        path,
        "a COCO Camera Traps or iNaturalist JSON (other JSON that is read: geo_prior's release, Camtrap DP's \
         datapackage.json, a folder of Functional Map of the World)",
        notes,
    )?;
    let (mut users, mut cameras) = (Shared::default(), Shared::default());
    let own_places = coco.images.iter().any(|image| image.lat != Value::Missing);
    let beside = location_table.map(Path::to_path_buf).or_else(|| locations::beside(path));
    let facts = match &beside {
        Some(table) => {
            notes.push(format!("places from {}", table.display()));
            locations::read(table, &mut users, notes, problems)?
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
    let mut classes = Classes::of(&coco, path, lineages, notes, problems)?;
    let base = image_folder::of(path, images, coco.images.iter().map(|image| &*image.file_name), notes);
    // cameras and images are numbered alike: a table is of the one or of the other
    let of_cameras = coco.images.iter().any(|image| image.location.is_some());
    notes.push(format!("photographs in {}", base.display()));
    let mut drafts = Vec::with_capacity(coco.images.len());
    for (i, image) in coco.images.into_iter().enumerate() {
        let at = At::Image(image.id.clone());
        if classes.is_repeated(i) {
            problems.add(Kind::BrokenReference, || format!("{at}: the id is used twice"));
            continue;
        }
        if image.corrupt {
            problems.add(Kind::MarkedCorrupt, || format!("{at}: {}", quoted(&image.file_name)));
            continue;
        }
        let split = image.split.as_deref().and_then(|word| {
            let split = Split::from_word(word);
            if split.is_none() {
                problems.add(Kind::UnknownSplit, || format!("{at}: split {}", quoted(word)));
            }
            split
        });
        let fact = if of_cameras { image.location.as_ref() } else { Some(&image.id) };
        let fact = fact.and_then(|id| facts.get(id));
        let own = coordinates::of_values(&at, &image.lat, &image.lon, problems);
        let own_uncertainty = coordinates::uncertainty_of_value(&at, &image.uncertainty, problems);
        if own.is_none() && image.lat == Value::Missing && fact.is_none() && beside.is_some() {
            problems.add(Kind::UnknownLocation, || {
                let name = image.location.as_ref().map_or("none".into(), |id| quoted(&id.to_string()));
                format!("{at}: location {name}")
            });
        }
        let none = Fact::default();
        let fact = fact.unwrap_or(&none);
        drafts.push(Draft {
            place: own.or(fact.place),
            uncertainty_m: if own.is_some() { own_uncertainty } else { fact.uncertainty_m },
            image: Some(image_folder::resolve(&base, &image.file_name)),
            name: image.file_name.into(),
            date: image.date.or_else(|| fact.date.clone().map(Into::into)),
            season: fact.season,
            class: classes.of_image(i, &at, problems),
            split,
            camera: image.location.as_ref().map(|id| cameras.of(&id.to_string())),
            // who holds the rights can be an institution: last
            user: image
                .user
                .map(|name| users.of(&name))
                .or_else(|| fact.user.clone())
                .or_else(|| image.rights_holder.map(|name| users.of(&name))),
            at,
        });
    }
    Ok(drafts)
}

/// Which classes each image has.
struct Classes {
    names: Vec<Arc<str>>,
    of_images: Vec<Found>,
}

#[derive(Clone)]
enum Found {
    None,
    /// The same id as an earlier image.
    Repeated,
    One(u32),
    Several(Vec<u32>),
}

impl Classes {
    fn of(
        coco: &Coco,
        path: &Path,
        lineages: &mut Lineages,
        notes: &mut Vec<String>,
        problems: &mut Problems,
    ) -> Result<Self, DataError> {
        let mut this = Self { names: Vec::new(), of_images: vec![Found::None; coco.images.len()] };
        let by_category = this.categories(coco, path, lineages, notes, problems)?;
        let mut images: HashMap<&Id, usize> = HashMap::with_capacity(coco.images.len());
        for (i, image) in coco.images.iter().enumerate() {
            if *images.entry(&image.id).or_insert(i) != i {
                this.of_images[i] = Found::Repeated;
            }
        }
        for (i, annotation) in coco.annotations.iter().enumerate() {
            let Some(&class) = by_category.get(&annotation.category_id) else {
                problems.add(Kind::BrokenReference, || {
                    format!("annotations[{i}]: no category {}", quoted(&annotation.category_id.to_string()))
                });
                continue;
            };
            let Some(&image) = images.get(&annotation.image_id) else {
                problems.add(Kind::BrokenReference, || {
                    format!("annotations[{i}]: no image {}", quoted(&annotation.image_id.to_string()))
                });
                continue;
            };
            let found = &mut this.of_images[image];
            match found {
                Found::None | Found::Repeated => *found = Found::One(class),
                Found::One(other) if *other != class => *found = Found::Several(vec![*other, class]),
                Found::Several(others) if !others.contains(&class) => others.push(class),
                _ => {}
            }
        }
        Ok(this)
    }

    /// The class of each category; one class for categories of one name.
    fn categories(
        &mut self,
        coco: &Coco,
        path: &Path,
        lineages: &mut Lineages,
        notes: &mut Vec<String>,
        problems: &mut Problems,
    ) -> Result<HashMap<Id, u32>, DataError> {
        let mut by_category = HashMap::new();
        let mut by_name: HashMap<String, (u32, Id)> = HashMap::new();
        let real = class_names::beside_json(path, coco.categories.iter().map(|c| &c.name), notes)?;
        let plain = |category: &Category| category.name.text().unwrap_or_default().trim().to_string();
        let listed: HashSet<&Id> = coco.categories.iter().map(|category| &category.id).collect();
        // a file without categories, as fMoW's: all of them are in the file beside
        let extra = real.iter().filter(|(id, _)| coco.categories.is_empty() && !listed.contains(id));
        let extra = extra.map(|(id, name)| (id.clone(), name.clone(), Vec::new()));
        let own = coco.categories.iter().map(|category| {
            let name = real.get(&category.id).cloned().unwrap_or_else(|| plain(category));
            let groups = category.groups.iter().filter_map(|(rank, name)| Some((&**rank, name.as_str()?)));
            let lineage = lineage::of(&name, groups);
            (category.id.clone(), name, lineage)
        });
        for (id, name, groups) in own.chain(extra) {
            let next = self.names.len() as u32;
            let (class, first) = by_name.entry(name.clone()).or_insert((next, id.clone()));
            if *class == next {
                self.names.push(name.as_str().into());
            } else if *first != id && !name.is_empty() {
                problems.add(Kind::SharedName, || format!("categories {first} and {id}: {}", quoted(&name)));
            }
            if by_category.insert(id.clone(), *class).is_some_and(|earlier| earlier != *class) {
                problems.add(Kind::BrokenReference, || {
                    format!("category {}: the id is used twice", quoted(&id.to_string()))
                });
            }
            if !groups.is_empty() {
                lineages.entry(name).or_insert(groups);
            }
        }
        Ok(by_category)
    }

    fn is_repeated(&self, image: usize) -> bool {
        matches!(self.of_images[image], Found::Repeated)
    }

    fn of_image(&mut self, image: usize, at: &At, problems: &mut Problems) -> Option<Arc<str>> {
        match &self.of_images[image] {
            Found::None | Found::Repeated => None,
            Found::One(class) => Some(&self.names[*class as usize]).filter(|name| !name.is_empty()).cloned(),
            Found::Several(classes) => {
                problems.add(Kind::SeveralClasses, || {
                    let mut names: Vec<String> =
                        classes.iter().map(|&class| quoted(&self.names[class as usize])).collect();
                    names.sort();
                    format!("{at}: {}", names.join(", "))
                });
                None
            }
        }
    }
}

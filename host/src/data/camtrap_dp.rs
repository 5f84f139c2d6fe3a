//! Camtrap DP packages: `datapackage.json` with the tables deployments, media and observations.
//!
//! A row is a medium. Its place is that of its deployment; its class that of its own observations,
//! else of the event it falls into: the species of animals, and `blank`, `human`, `vehicle`. In packages
//! of before version 1.0 the sequence stands for the event. Its camera is the location, so that deployments at one spot stay together.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    io::Read,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use csp_models::place::LatLon;
use serde::Deserialize;

use super::{
    DataError,
    coordinates::{PlaceReader, is_nothing, uncertainty_cell},
    dates, image_folder, json,
    lineage::{self, Lineages},
    problem::{Kind, Problems, quoted},
    recognise,
    rows::{Draft, Shared},
    table::Table,
};

/// Largest `datapackage.json`, bytes.
const MAX_DESCRIPTOR: u64 = 64 << 20;
/// What is said of a package whose tables are those of an earlier version and cannot be joined.
const BEFORE_1: &str = " (a Camtrap DP before 1.0? export it again as 1.0 or later)";

#[derive(Deserialize)]
struct Descriptor {
    resources: Vec<Resource>,
    #[serde(default)]
    taxonomic: Vec<HashMap<String, serde_json::Value>>,
}

#[derive(Deserialize)]
struct Resource {
    name: String,
    #[serde(default)]
    path: Option<serde_json::Value>,
}

impl Descriptor {
    /// The file of a table. Paths that leave the package are refused, as the standard asks.
    fn table(&self, descriptor: &Path, name: &str) -> Result<PathBuf, DataError> {
        let refuse = |reason: String| Err(DataError::outline(descriptor, reason));
        let Some(resource) = self.resources.iter().find(|resource| resource.name == name) else {
            return refuse(format!(
                "no resource {}: a Camtrap DP has deployments, media and observations",
                quoted(name)
            ));
        };
        let path = match &resource.path {
            Some(serde_json::Value::String(path)) => path.as_str(),
            Some(serde_json::Value::Array(paths)) if paths.len() == 1 => {
                paths[0].as_str().unwrap_or_default()
            }
            _ => {
                return refuse(format!(
                    "resource {}: give one `path`; data inside the JSON and tables in parts are not read",
                    quoted(name)
                ));
            }
        };
        if path.contains("://") {
            return refuse(format!(
                "resource {}: {} is an address: download the package",
                quoted(name),
                quoted(path)
            ));
        }
        if path.ends_with(".gz") || path.ends_with(".zip") {
            return refuse(format!(
                "resource {}: {} is compressed: unpack it and mend the path",
                quoted(name),
                quoted(path)
            ));
        }
        let inside =
            Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if path.is_empty() || !inside {
            return refuse(format!(
                "resource {}: the path {} leaves the package",
                quoted(name),
                quoted(path)
            ));
        }
        Ok(descriptor.with_file_name(path))
    }
}

/// A deployment, as far as its media need it.
struct Deployment {
    place: Option<LatLon>,
    uncertainty_m: Option<f64>,
    camera: Arc<str>,
}

/// What is observed in a span of time of a deployment, without naming media.
struct Event {
    start: i64,
    end: i64,
    class: Arc<str>,
}

#[derive(Default)]
struct Observations {
    of_media: HashMap<String, BTreeSet<Arc<str>>>,
    /// Media observed and found to be none of the classes. Not those still unclassified: what their event
    /// shows counts for them.
    unknown: BTreeSet<String>,
    of_events: HashMap<String, Vec<Event>>,
    of_sequences: HashMap<String, BTreeSet<Arc<str>>>,
}

/// Reads a package by its folder or its `datapackage.json`; its media are in `images`, if that is given.
///
/// # Errors
/// Unreadable, or without one of the tables or the columns they need.
pub(crate) fn read(
    path: &Path,
    images: Option<&Path>,
    lineages: &mut Lineages,
    notes: &mut Vec<String>,
    problems: &mut Problems,
) -> Result<Vec<Draft>, DataError> {
    let descriptor = if path.is_dir() { path.join("datapackage.json") } else { path.to_path_buf() };
    let package: Descriptor =
        json::read_within(&descriptor, "a Camtrap DP descriptor", MAX_DESCRIPTOR, notes)?;
    for taxon in &package.taxonomic {
        let text = |key: &str| taxon.get(key).and_then(serde_json::Value::as_str);
        let Some(name) = text("scientificName") else { continue };
        let groups = lineage::RANKS.iter().filter_map(|rank| Some((*rank, text(rank)?)));
        let groups = lineage::of(name, groups);
        if !groups.is_empty() {
            lineages.insert(name.into(), groups);
        }
    }
    let deployments = deployments(&package.table(&descriptor, "deployments")?, problems)?;
    let observations = observations(&package.table(&descriptor, "observations")?, problems)?;
    let base = images.or(descriptor.parent()).unwrap_or(Path::new(""));
    let (drafts, counts) =
        media(&package.table(&descriptor, "media")?, base, &deployments, &observations, problems)?;
    let say = |n: usize, what: &str| (n > 0).then(|| format!("{n} {what}"));
    let parts = [
        say(counts.own, "by their own observations"),
        say(counts.event, "by the event they fall into"),
        say(counts.sequence, "by the sequence they belong to"),
        say(counts.several, "of several classes"),
        say(counts.unknown, "observed as unknown"),
        say(counts.unseen, "not observed"),
    ];
    notes.push(format!(
        "{} deployments, {} media: {}",
        deployments.len(),
        drafts.len(),
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    ));
    Ok(drafts)
}

/// A table whose columns are found by their exact names in the standard.
struct Named {
    table: Table,
    columns: BTreeMap<String, usize>,
    file: String,
}

impl Named {
    fn open(path: &Path, needed: &[&str]) -> Result<Self, DataError> {
        recognise::format(path)?; // a Parquet file or a workbook is named as such
        let table = Table::open(path)?;
        let columns: BTreeMap<String, usize> =
            table.header.iter().enumerate().map(|(i, name)| (name.clone(), i)).collect();
        if let Some(absent) = needed.iter().find(|name| !columns.contains_key(**name)) {
            let found = table.header.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
            return Err(DataError::outline(path, format!("no column {} among {found}", quoted(absent))));
        }
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { table, columns, file })
    }

    fn has(&self, column: &str) -> bool {
        self.columns.contains_key(column)
    }

    /// Calls `each` with where a row stands and a way to get at its cells, `None` for an empty one.
    fn each(
        &mut self,
        problems: &mut Problems,
        mut each: impl FnMut(&str, &dyn Fn(&str) -> Option<String>, &mut Problems),
    ) -> Result<(), DataError> {
        let Self { table, columns, file } = self;
        table.each(problems, |at, fields, problems| {
            let cell = |name: &str| {
                let text = fields[*columns.get(name)?];
                (!is_nothing(text)).then(|| text.to_string())
            };
            each(&format!("{file}: {at}"), &cell, problems);
        })
    }
}

fn deployments(path: &Path, problems: &mut Problems) -> Result<HashMap<String, Deployment>, DataError> {
    let mut table = Named::open(path, &["deploymentID", "latitude", "longitude"])?;
    let mut found = HashMap::new();
    let mut places = PlaceReader::new("latitude", "longitude", false);
    table.each(problems, |at, cell, problems| {
        let Some(id) = cell("deploymentID") else {
            problems.add(Kind::BrokenReference, || format!("{at}: no deploymentID"));
            return;
        };
        let (lat, lon) = (cell("latitude").unwrap_or_default(), cell("longitude").unwrap_or_default());
        let deployment = Deployment {
            place: places.read(&at, &lat, &lon, problems),
            uncertainty_m: uncertainty_cell(
                &at,
                "coordinateUncertainty",
                cell("coordinateUncertainty").as_deref(),
                false,
                problems,
            ),
            camera: cell("locationID").or_else(|| cell("locationName")).unwrap_or_else(|| id.clone()).into(),
        };
        if found.insert(id.clone(), deployment).is_some() {
            problems
                .add(Kind::BrokenReference, || format!("{at}: deploymentID {} is used twice", quoted(&id)));
        }
    })?;
    places.finish(problems);
    Ok(found)
}

fn observations(path: &Path, problems: &mut Problems) -> Result<Observations, DataError> {
    let mut table = Named::open(path, &["deploymentID", "observationType"])?;
    let mut found = Observations::default();
    let mut names = Shared::default();
    let of_events = table.has("eventStart");
    let hint = if of_events { "" } else { BEFORE_1 };
    table.each(problems, |at, cell, problems| {
        let kind = cell("observationType");
        let class = match kind.as_deref() {
            Some("animal") => cell("scientificName"),
            Some(fixed @ ("blank" | "human" | "vehicle")) => Some(fixed.to_string()),
            Some("unknown" | "unclassified") => None,
            other => {
                let value = quoted(other.unwrap_or_default());
                problems
                    .add(Kind::UnknownObservation, || format!("{at}, column \"observationType\": {value}"));
                None
            }
        };
        let class = class.map(|name| names.of(&name));
        if let Some(media) = cell("mediaID") {
            match class {
                Some(class) => drop(found.of_media.entry(media).or_default().insert(class)),
                None if kind.as_deref() == Some("unclassified") => {}
                None => drop(found.unknown.insert(media)),
            }
            return;
        }
        let Some(class) = class else { return };
        // before 1.0; later such a column is somebody's own
        if let Some(sequence) = cell("sequenceID").filter(|_| !of_events) {
            found.of_sequences.entry(sequence).or_default().insert(class);
            return;
        }
        let times = (cell("eventStart"), cell("eventEnd"), cell("deploymentID"));
        let (Some(start), Some(end), Some(deployment)) = times else {
            problems.add(Kind::BrokenReference, || {
                format!("{at}: neither a mediaID nor deploymentID, eventStart and eventEnd{hint}")
            });
            return;
        };
        match (dates::moment(&start), dates::moment(&end)) {
            (Some(start), Some(end)) => {
                found.of_events.entry(deployment).or_default().push(Event { start, end, class });
            }
            _ => problems
                .add(Kind::BadDate, || format!("{at}: event from {} to {}", quoted(&start), quoted(&end))),
        }
    })?;
    Ok(found)
}

/// How the media came to their classes.
#[derive(Default)]
struct Counts {
    own: usize,
    event: usize,
    sequence: usize,
    several: usize,
    unknown: usize,
    unseen: usize,
}

fn media(
    path: &Path,
    base: &Path,
    deployments: &HashMap<String, Deployment>,
    observations: &Observations,
    problems: &mut Problems,
) -> Result<(Vec<Draft>, Counts), DataError> {
    let mut table = Named::open(path, &["mediaID", "deploymentID", "timestamp", "filePath"])?;
    if !observations.of_sequences.is_empty() && !table.has("sequenceID") {
        return Err(DataError::outline(
            path,
            format!("its observations are of sequences, and it has no column \"sequenceID\"{BEFORE_1}"),
        ));
    }
    let mut drafts = Vec::new();
    let mut counts = Counts::default();
    let mut ids: HashMap<String, String> = HashMap::new();
    table.each(problems, |at, cell, problems| {
        let id = cell("mediaID").unwrap_or_default();
        if let Some(first) = ids.insert(id.clone(), at.into()) {
            problems.add(Kind::BrokenReference, || {
                format!("{at}: mediaID {} is that of {first} too", quoted(&id))
            });
            return;
        }
        let deployment = cell("deploymentID").unwrap_or_default();
        let found = deployments.get(&deployment);
        if found.is_none() {
            problems.add(Kind::BrokenReference, || format!("{at}: no deployment {}", quoted(&deployment)));
        }
        let timestamp = cell("timestamp");
        let during = || -> BTreeSet<Arc<str>> {
            let Some(moment) = timestamp.as_deref().and_then(dates::moment) else { return BTreeSet::new() };
            let events = observations.of_events.get(&deployment).map_or(&[][..], Vec::as_slice);
            let events = events.iter().filter(|event| (event.start..=event.end).contains(&moment));
            events.map(|event| Arc::clone(&event.class)).collect()
        };
        let sequence = cell("sequenceID").and_then(|sequence| observations.of_sequences.get(&sequence));
        let unknown = observations.unknown.contains(&id);
        let (classes, count) = match observations.of_media.get(&id) {
            Some(classes) => (classes.clone(), &mut counts.own),
            None if unknown => (BTreeSet::new(), &mut counts.unknown),
            None => match (during(), sequence) {
                (classes, Some(sequence)) if classes.is_empty() => (sequence.clone(), &mut counts.sequence),
                (classes, _) if classes.is_empty() => (classes, &mut counts.unseen),
                (classes, _) => (classes, &mut counts.event),
            },
        };
        if classes.len() > 1 {
            counts.several += 1;
            problems.add(Kind::SeveralClasses, || {
                format!("{at}: {}", classes.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", "))
            });
        } else {
            *count += 1;
        }
        let file = cell("filePath").unwrap_or_default();
        drafts.push(Draft {
            image: picture(at, &file, cell("fileMediatype").as_deref(), base, problems),
            name: if file.is_empty() { id } else { file }.into(),
            place: found.and_then(|deployment| deployment.place),
            uncertainty_m: found.and_then(|deployment| deployment.uncertainty_m),
            date: timestamp.map(Into::into),
            class: classes.first().filter(|_| classes.len() == 1).cloned(),
            camera: found.map(|deployment| Arc::clone(&deployment.camera)),
            at: at.into(),
            ..Draft::default()
        });
    })?;
    Ok((drafts, counts))
}

/// The photograph of a medium, if it is one and on this disk; files are relative to `base`.
fn picture(
    at: &str,
    file: &str,
    mediatype: Option<&str>,
    base: &Path,
    problems: &mut Problems,
) -> Option<PathBuf> {
    let kind = match mediatype {
        _ if file.contains("://") => Kind::RemoteImage,
        Some(kind) if !kind.to_lowercase().starts_with("image/") => Kind::NotAPicture,
        _ => {
            let path = image_folder::resolve(base, file);
            let is_there = !file.is_empty() && path.is_file();
            match mediatype {
                _ if !is_there => Kind::AbsentMedia,
                None | Some("image/jpeg" | "image/png") => return Some(path),
                // written in many ways, image/jpg and image/JPG among them: the file itself tells
                Some(_) if is_jpeg_or_png(&path) => return Some(path),
                Some(_) => Kind::NotAPicture,
            }
        }
    };
    problems.add(kind, || format!("{at}: {}", quoted(file)));
    None
}

fn is_jpeg_or_png(path: &Path) -> bool {
    let mut head = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && matches!(head, [0xff, 0xd8, 0xff, _] | [0x89, b'P', b'N', b'G'])
}

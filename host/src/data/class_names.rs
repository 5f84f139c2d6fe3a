//! Names of classes that a data set only numbers, from a file beside it.

use std::{collections::HashMap, path::Path};

use serde::Deserialize;

use super::{
    DataError,
    coordinates::is_nothing,
    json::{self, Id, Value},
    problem::quoted,
};

/// A class name as it counts: without the white space around it, as every format's names are taken.
///
/// # Errors
/// A name with nothing in it, or with a control character such as a line break.
pub(crate) fn plain(name: &str) -> Result<&str, String> {
    let name = name.trim();
    if is_nothing(name) {
        return Err(format!("{name:?} is no name for a class"));
    }
    match name.chars().find(|c| c.is_control()) {
        Some(c) => Err(format!("{name:?} has the control character {c:?} in it; write it without")),
        None => Ok(name),
    }
}

/// Names by class number or id.
pub(crate) type Names = HashMap<Id, String>;

/// Largest list of names, bytes.
const LIMIT: u64 = 64 << 20;

/// `{"id": 3, "name": "…"}`; geo_prior writes `our_id`, `our_name`; SINR `taxon_id`, `latin_name`.
#[derive(Deserialize)]
struct Entry {
    #[serde(alias = "our_id", alias = "taxon_id")]
    id: Id,
    #[serde(alias = "our_name", alias = "latin_name")]
    name: Value,
}

/// The names that belong to an annotation JSON without real ones: `categories.json` (iNaturalist
/// 2018, whose own names are numbers), `category.json` (fMoW, name → number). Empty when its own
/// names will do.
///
/// # Errors
/// A list of names that is there and cannot be read.
pub(crate) fn beside_json<'a>(
    json: &Path,
    own: impl Iterator<Item = &'a Value>,
    notes: &mut Vec<String>,
) -> Result<Names, DataError> {
    let mut own = own.peekable();
    let nameless = own.peek().is_none() || own.all(|name| matches!(name, Value::Id(Id::Number(_))));
    if !nameless {
        return Ok(Names::new());
    }
    first_of(
        json,
        &["categories.json", "categories2018.json", "categories2018_detailed.json", "category.json"],
        notes,
    )
}

/// The names that belong to a table whose classes are numbers: `class_names.csv` (YFCC) and
/// `STEM_meta.json` (SINR). Empty without them.
///
/// # Errors
/// A list of names that is there and cannot be read.
pub(crate) fn beside_table(table: &Path, notes: &mut Vec<String>) -> Result<Names, DataError> {
    let stem = table.file_stem().unwrap_or_default().to_string_lossy();
    first_of(table, &["class_names.csv", &format!("{stem}_meta.json")], notes)
}

fn first_of(beside: &Path, names: &[&str], notes: &mut Vec<String>) -> Result<Names, DataError> {
    let Some(path) = names.iter().map(|name| beside.with_file_name(name)).find(|path| path.is_file()) else {
        return Ok(Names::new());
    };
    let names = if path.extension().is_some_and(|e| e == "csv") {
        from_csv(&path)?
    } else {
        from_json(&path, notes)?
    };
    notes.push(format!("{} class names from {}", names.len(), path.display()));
    Ok(names)
}

fn from_json(path: &Path, notes: &mut Vec<String>) -> Result<Names, DataError> {
    let what = "a list of classes with `id` and `name`";
    if super::recognise::first_byte(path)? == Some(b'{') {
        let ids: HashMap<String, Id> =
            json::read_within(path, "a table of classes, name → id", LIMIT, notes)?;
        return Ok(ids.into_iter().map(|(name, id)| (id, name)).collect());
    }
    let entries: Vec<Entry> = json::read_within(path, what, LIMIT, notes)?;
    Ok(entries.into_iter().filter_map(|entry| Some((entry.id, entry.name.text()?))).collect())
}

fn from_csv(path: &Path) -> Result<Names, DataError> {
    let refuse = |reason: String| DataError::outline(path, reason);
    let mut reader = csv::Reader::from_path(path).map_err(|error| refuse(error.to_string()))?;
    let header = reader.headers().map_err(|error| refuse(error.to_string()))?.clone();
    let column = |name: &str| {
        header
            .iter()
            .position(|column| column.trim_start_matches('\u{feff}').trim().eq_ignore_ascii_case(name))
    };
    let (Some(id), Some(name)) = (column("id"), column("name")) else {
        return Err(refuse("a list of class names needs the columns id and name".into()));
    };
    let mut names = Names::new();
    for record in reader.records() {
        let record = record.map_err(|error| refuse(error.to_string()))?;
        if let (Some(id), Some(name)) = (record.get(id), record.get(name)) {
            if [id, name].iter().any(|cell| cell.trim().contains(['\n', '\r'])) {
                return Err(refuse(format!(
                    "a line break in {}: close the quote that was left open",
                    quoted(name)
                )));
            }
            names.insert(Id::of(id.trim()), name.trim().into());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn names_are_trimmed_and_have_something_to_read_in_them() {
        assert_eq!(plain(" Lynx lynx\t\n"), Ok("Lynx lynx"));
        for bad in ["", "NA", " \u{a0}", "a\nb", "a\u{1b}[2Jb", "a\u{7f}"] {
            assert!(plain(bad).is_err(), "{bad:?}");
        }
    }
}

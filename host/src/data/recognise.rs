//! Which format a path is, by what it holds rather than what it is called.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use super::{
    DataError, Format, coco_folder,
    columns::{self, Role},
    fmow, locations,
    table::Table,
};

/// Bytes of a file that tell what it is: the first objects of a JSON, its licences before them.
const HEAD: usize = 1 << 16;

/// The format of a file or folder.
///
/// # Errors
/// Missing, unreadable, or a known other thing: the message says what to give instead.
pub(crate) fn format(path: &Path) -> Result<Format, DataError> {
    let io = |source| DataError::io(path, source);
    if fs::metadata(path).map_err(io)?.is_dir() {
        return Ok(match () {
            () if path.join("datapackage.json").exists() => Format::CamtrapDp,
            () if coco_folder::is_one(path) => Format::INaturalist,
            () if fmow::is_one(path) => Format::Fmow,
            () => {
                not_its_index(path)?;
                Format::Folder
            }
        });
    }
    let head = head_of(path).map_err(io)?;
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&head);
    let not = |reason: &str| Err(DataError::outline(path, reason));
    let first = head.iter().copied().find(|byte| !byte.is_ascii_whitespace());
    match (head, first) {
        (_, None) => not("the file is empty"),
        ([0xff, 0xd8, ..] | [0x89, b'P', b'N', b'G', ..], _) => {
            not("one photograph; give the folder it is in, or a table")
        }
        ([b'I', b'I', b'*', 0, ..] | [b'M', b'M', 0, b'*', ..], _) => {
            not("one GeoTIFF tile; give the folder it is in")
        }
        ([b'P', b'K', 3, 4, ..], _) if names_package(path, head) => {
            not("a zip of a Camtrap DP package; unpack it and give the folder")
        }
        ([b'P', b'K', 3, 4, ..], _) => {
            not("a zip or an Excel workbook; unpack it, or save the sheet as CSV UTF-8")
        }
        ([b'P', b'A', b'R', b'1', ..], _) => not("a Parquet file; write it as CSV"),
        ([0xff, 0xfe, ..] | [0xfe, 0xff, ..], _) => not("UTF-16 text; save it as CSV UTF-8"),
        (_, Some(b'{')) => Ok(object(path, head)),
        (_, Some(b'[')) => Ok(Format::GeoPrior),
        _ if head.iter().take(512).any(|byte| *byte == 0) => {
            not("binary data; give a CSV, a folder of photographs or an annotation JSON")
        }
        _ => Ok(Format::Table),
    }
}

/// True for a zip with a `datapackage.json`, whose name stands before its content and in the list at the end.
fn names_package(path: &Path, head: &[u8]) -> bool {
    const NAME: &[u8] = b"datapackage.json";
    let names = |bytes: &[u8]| bytes.windows(NAME.len()).any(|part| part == NAME);
    let tail = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(HEAD as u64)))?;
        let mut tail = Vec::new();
        file.take(HEAD as u64).read_to_end(&mut tail)?;
        Ok(tail)
    };
    names(head) || tail().is_ok_and(|tail| names(&tail))
}

fn head_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// Refuses a folder that has a table or JSON of its pictures: that is meant, and knows the places that
/// the pictures alone would not.
fn not_its_index(folder: &Path) -> Result<(), DataError> {
    /// Entries that are looked at: a folder of photographs can hold millions.
    const ENTRIES: usize = 4096;
    let entries = fs::read_dir(folder).map_err(|source| DataError::io(folder, source))?;
    let paths = entries.take(ENTRIES).filter_map(|entry| Some(entry.ok()?.path()));
    let mut found: Vec<String> = paths
        .filter(|path| path.is_file() && is_index(path))
        .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .collect();
    found.sort();
    let give = match &found[..] {
        [] => return Ok(()),
        [one] => folder.join(one).display().to_string(),
        _ => "one of them".into(),
    };
    Err(DataError::outline(
        folder,
        format!(
            "it holds {}: give {give}, or --format folder to take class and place from the folders and pictures alone",
            found.join(", ")
        ),
    ))
}

/// True for a table of pictures with places, and for an annotation JSON.
fn is_index(path: &Path) -> bool {
    let is = |wanted: &str| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(wanted));
    if is("csv") || is("tsv") {
        let has = |header: &[String], role| !matches!(columns::find(header, role), Ok(None));
        return Table::open(path).is_ok_and(|table| {
            let named = |part: &str| table.header.iter().any(|name| name.to_lowercase().contains(part));
            // boxes have an x and a y, and answers of `eval --predictions` tell no more than the pictures' own
            named("lat")
                && !named("predicted")
                && [Role::Image, Role::Lat, Role::Lon].iter().all(|role| has(&table.header, *role))
        });
    }
    is("json") && annotations(path).is_some()
}

/// Which kind of annotation JSON a file is; `None` for any other file.
pub(crate) fn annotations(path: &Path) -> Option<Format> {
    let head = head_of(path).ok()?;
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&head);
    if head.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return None;
    }
    let keys = keys(head);
    let outer = |wanted: &[&str]| keys.iter().any(|(at, key)| *at == 1 && wanted.contains(&key.as_str()));
    let format = object(path, head);
    match format {
        Format::GeoPrior => keys.iter().any(|(at, key)| *at == 3 && key == "im_path").then_some(format),
        Format::CamtrapDp => None,
        // what a detector found in pictures
        _ if outer(&["detection_categories"]) => None,
        _ => outer(&["images", "annotations", "categories"]).then_some(format),
    }
}

/// Which JSON object this is, by the keys of its beginning and the files beside it.
fn object(path: &Path, head: &[u8]) -> Format {
    let keys = keys(head);
    let has = |key: &str, depth: usize| keys.iter().any(|(at, name)| *at == depth && name == key);
    let named = |name: &str| path.file_name().is_some_and(|file| file == name);
    match () {
        () if named("datapackage.json") || (has("resources", 1) && !has("images", 1)) => Format::CamtrapDp,
        () if !has("images", 1)
            && !has("annotations", 1)
            && (has("train", 1) || has("test", 1) || has("im_path", 3)) =>
        {
            Format::GeoPrior
        }
        () if has("rights_holder", 3) || has("latitude", 3) => Format::INaturalist,
        () if locations::beside(path).is_some_and(|beside| matches!(first_byte(&beside), Ok(Some(b'['))))
            && !has("location", 3) =>
        {
            Format::INaturalist
        }
        () => Format::CocoCameraTraps,
    }
}

/// The keys of a JSON's beginning with the depth of the braces and brackets around them.
fn keys(head: &[u8]) -> Vec<(usize, String)> {
    let (mut keys, mut depth, mut at) = (Vec::new(), 0usize, 0);
    while let Some(&byte) = head.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                let start = at;
                while head.get(at).is_some_and(|byte| *byte != b'"') {
                    at += if head[at] == b'\\' { 2 } else { 1 };
                }
                let end = at.min(head.len());
                at += 1;
                let next =
                    head.get(at..).and_then(|rest| rest.iter().find(|byte| !byte.is_ascii_whitespace()));
                if next == Some(&b':') {
                    keys.push((depth, String::from_utf8_lossy(&head[start..end]).into_owned()));
                }
            }
            _ => {}
        }
    }
    keys
}

/// The first byte of a file that is neither blank nor a byte-order mark.
///
/// # Errors
/// Missing or unreadable.
pub(crate) fn first_byte(path: &Path) -> Result<Option<u8>, DataError> {
    let io = |source| DataError::io(path, source);
    let mut head = Vec::new();
    File::open(path).map_err(io)?.take(4096).read_to_end(&mut head).map_err(io)?;
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&head);
    Ok(head.iter().copied().find(|byte| !byte.is_ascii_whitespace()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_decides() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.txt");
        let of = |bytes: &[u8]| {
            fs::write(&file, bytes).unwrap();
            format(&file)
        };
        assert_eq!(of(b"image_path,lat,lon\n").unwrap(), Format::Table);
        assert_eq!(of(b"\xef\xbb\xbf  {\"images\": []}").unwrap(), Format::CocoCameraTraps);
        for (bytes, says) in [
            (&b"\xff\xd8\xff\xe0"[..], "folder"),
            (b"PK\x03\x04", "CSV"),
            (b"PK\x03\x04..datapackage.json..", "unpack it and give the folder"),
            (b"PAR1....", "write it as CSV"),
            (b"\xff\xfei\0m\0", "UTF-16"),
            (b" \n", "empty"),
            (b"abc\0def", "binary"),
        ] {
            let error = of(bytes).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        assert_eq!(format(dir.path()).unwrap(), Format::Folder);
        assert!(matches!(format(Path::new("/nonexistent")), Err(DataError::Io { .. })));
        // what names places or classes alone is no index of the pictures, what names the pictures is
        for (name, content) in [
            ("locations.csv", "location,lat,lon\na,1.5,2.5\n"),
            ("label_map.csv", "Filename,Label,ClassName\na.jpg,0,x\n"),
            ("label_map.json", r#"{"Forest": 0, "River": 1}"#),
            ("camera_locations.json", r#"[{"location": 1, "lat": 1.5, "lon": 2.5}]"#),
        ] {
            fs::write(dir.path().join(name), content).unwrap();
            assert_eq!(format(dir.path()).unwrap(), Format::Folder, "{name}");
        }
        for (name, content) in [
            ("photos.csv", "image_path,lat,lon\na.jpg,1.5,2.5\n"),
            ("caltech_images.json", r#"{"info": {}, "images": []}"#),
            ("birdsnap.json", r#"{"train": [{"im_path": "a"}]}"#),
        ] {
            let index = dir.path().join(name);
            fs::write(&index, content).unwrap();
            let error = format(dir.path()).unwrap_err().to_string();
            assert!(error.contains(&format!("it holds {name}: give")), "{error}");
            assert!(error.contains("--format folder"), "{error}");
            fs::remove_file(index).unwrap();
        }
        fs::write(dir.path().join("datapackage.json"), "{}").unwrap();
        assert_eq!(format(dir.path()).unwrap(), Format::CamtrapDp);
        for (content, expected) in [
            (r#"{"info": {"latitude": 1}, "images": [{"id": 1, "location": "a"}]}"#, Format::CocoCameraTraps),
            (r#"{"images": [{"id": 1, "latitude": null}]}"#, Format::INaturalist),
            (r#"{"licenses": [{"name": "a:\\\"{"}], "images": [{"rights_holder": 1}]}"#, Format::INaturalist),
            (r#"{"train": [{"im_path": "a"}], "classes": []}"#, Format::GeoPrior),
            (r#"[{"lat": 1}]"#, Format::GeoPrior),
            (r#"{"profile": "x", "resources": []}"#, Format::CamtrapDp),
        ] {
            assert_eq!(of(content.as_bytes()).unwrap(), expected, "{content}");
        }
    }
}

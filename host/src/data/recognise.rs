//! Which format a path is, by what it holds rather than what it is called.

use std::{
    fs::{self, File},
    io::Read,
    path::Path,
};

use super::{DataError, Format, coco, fmow, locations};

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
            () if !coco::of_folder(path).is_empty() => Format::INaturalist,
            () if fmow::is_one(path) => Format::Fmow,
            () => Format::Folder,
        });
    }
    let mut head = vec![0; HEAD];
    let mut file = File::open(path).map_err(io)?;
    let mut length = 0;
    while length < head.len() {
        match file.read(&mut head[length..]).map_err(io)? {
            0 => break,
            n => length += n,
        }
    }
    let head = head[..length].strip_prefix(b"\xef\xbb\xbf").unwrap_or(&head[..length]);
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
        ([b'P', b'K', 3, 4, ..], _) => not("a zip or an Excel workbook; save the sheet as CSV UTF-8"),
        ([b'P', b'A', b'R', b'1', ..], _) => not("a Parquet file; save it as CSV"),
        ([0xff, 0xfe, ..] | [0xfe, 0xff, ..], _) => not("UTF-16 text; save it as CSV UTF-8"),
        (_, Some(b'{')) => Ok(object(path, head)),
        (_, Some(b'[')) => Ok(Format::GeoPrior),
        _ if head.iter().take(512).any(|byte| *byte == 0) => {
            not("binary data; give a CSV, a folder of photographs or an annotation JSON")
        }
        _ => Ok(Format::Table),
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
            (b"\xff\xfei\0m\0", "UTF-16"),
            (b" \n", "empty"),
            (b"abc\0def", "binary"),
        ] {
            let error = of(bytes).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        assert_eq!(format(dir.path()).unwrap(), Format::Folder);
        assert!(matches!(format(Path::new("/nonexistent")), Err(DataError::Io { .. })));
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

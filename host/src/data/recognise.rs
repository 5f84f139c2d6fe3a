//! Which format a path is, by what it holds rather than what it is called.

use std::{
    fs::{self, File},
    io::Read,
    path::Path,
};

use super::{DataError, Format};

/// The format of a file or folder.
///
/// # Errors
/// Missing, unreadable, or a known other thing: the message says what to give instead.
pub(crate) fn format(path: &Path) -> Result<Format, DataError> {
    let io = |source| DataError::io(path, source);
    if fs::metadata(path).map_err(io)?.is_dir() {
        if path.join("datapackage.json").exists() {
            return Err(DataError::outline(
                path,
                "a Camtrap DP package; these are not read yet: give a table of its media instead",
            ));
        }
        return Ok(Format::Folder);
    }
    let mut head = [0; 512];
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
        ([b'P', b'K', 3, 4, ..], _) => not("a zip or an Excel workbook; save the sheet as CSV UTF-8"),
        ([b'P', b'A', b'R', b'1', ..], _) => not("a Parquet file; save it as CSV"),
        ([0xff, 0xfe, ..] | [0xfe, 0xff, ..], _) => not("UTF-16 text; save it as CSV UTF-8"),
        (_, Some(b'{')) => Ok(Format::CocoCameraTraps),
        (_, Some(b'[')) => {
            not("a JSON list; a COCO Camera Traps JSON is an object with `images` and `annotations`")
        }
        _ if head.contains(&0) => {
            not("binary data; give a CSV, a folder of photographs or a COCO Camera Traps JSON")
        }
        _ => Ok(Format::Table),
    }
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
            (b"[1]", "object"),
            (b"abc\0def", "binary"),
        ] {
            let error = of(bytes).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        assert_eq!(format(dir.path()).unwrap(), Format::Folder);
        assert!(matches!(format(Path::new("/nonexistent")), Err(DataError::Io { .. })));
        fs::write(dir.path().join("datapackage.json"), "{}").unwrap();
        assert!(format(dir.path()).unwrap_err().to_string().contains("Camtrap DP"));
    }
}

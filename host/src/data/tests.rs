//! The formats end to end: small data sets in temporary folders, good ones and damaged ones.

use std::{fs, path::PathBuf};

use exif::{Field, Tag};
use tempfile::TempDir;

use super::{
    check::{Report, check},
    exif_place::tests::{dms, jpeg_with, text},
    problem::{Kind, Severity},
    *,
};

/// A folder with photographs `a.jpg` to `f.jpg`, all different.
pub(super) fn photographs() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c", "d", "e", "f"] {
        let fields = [text(Tag::ImageDescription, name)];
        fs::write(dir.path().join(format!("{name}.jpg")), jpeg_with(&fields)).unwrap();
    }
    dir
}

pub(super) fn write(dir: &TempDir, name: &str, content: &str) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, content).unwrap();
    path
}

pub(super) fn found(path: &Path) -> (Dataset, Vec<(Kind, usize)>) {
    let opened = inspect(path, &Options::default()).unwrap();
    let problems = opened.problems.iter().map(|p| (p.kind, p.count)).collect();
    assert_eq!(open(path, None).is_err(), opened.problems.total(Severity::Error) > 0);
    (opened.dataset, problems)
}

fn report(path: &Path) -> Report {
    check(path, &Options::default(), true, |_| || ())
}

#[test]
fn a_table_in_every_dialect_is_the_same_data() {
    let dir = photographs();
    let rows = [
        ["image_path", "lat", "lon", "date", "label", "split"],
        ["a.jpg", "-33.5", "151.25", "2023-01-01", "lynx", "train"],
        ["b.jpg", "", "", "", "fox, red", "val"],
        ["c.jpg", "10.125", "-5.5", "2024-12-31", "", "test"],
    ];
    let dialects = [(",", "csv", ""), ("\t", "tsv", ""), (";", "csv", "\u{feff}"), ("|", "txt", "\u{feff}")];
    let mut digests = Vec::new();
    for (i, (delimiter, extension, mark)) in dialects.into_iter().enumerate() {
        let quoted = |cell: &&str| if cell.contains(',') { format!("\"{cell}\"") } else { cell.to_string() };
        let lines: Vec<String> =
            rows.iter().map(|row| row.iter().map(quoted).collect::<Vec<_>>().join(delimiter)).collect();
        let end = if i % 2 == 0 { "\r\n" } else { "\n" };
        let path = write(&dir, &format!("{i}.{extension}"), &format!("{mark}{}", lines.join(end)));
        let (set, problems) = found(&path);
        assert_eq!(problems, [(Kind::UntrainedClass, 1)], "{delimiter}");
        assert_eq!(set.rows[0].place, LatLon::new(-33.5, 151.25).ok());
        assert_eq!(set.rows[0].season, Some(0.0));
        assert_eq!((set.rows[1].place, set.rows[1].split), (None, Some(Split::Val)));
        assert_eq!((set.rows[2].class, set.rows[2].season), (None, Some(365.0 / 366.0)));
        assert_eq!(set.labels.name(ClassId(0)), "fox, red");
        digests.push(set.sha256);
    }
    assert!(digests.iter().all(|digest| *digest == digests[0]));
    // decimal commas where they cannot be delimiters
    let path = write(&dir, "comma.csv", "image;lat;lon\na.jpg;-33,5;151,25\n");
    assert_eq!(found(&path).0.rows[0].place, LatLon::new(-33.5, 151.25).ok());
}

#[test]
fn people_and_uncertainties() {
    let dir = photographs();
    let table = "image_path,lat,lon,observer,coordinateUncertaintyInMeters\n\
        a.jpg,1.5,1,ann,30\nb.jpg,2,2,,-80\nc.jpg,3,3,ann,\n";
    let (set, problems) = found(&write(&dir, "t.csv", table));
    assert_eq!(problems, [(Kind::BadUncertainty, 1)]);
    let users: Vec<_> = set.rows.iter().map(|row| row.user.as_deref()).collect();
    assert_eq!(users, [Some("ann"), None, Some("ann")]);
    assert!(std::ptr::eq(users[0].unwrap(), users[2].unwrap()), "the name is kept once");
    assert_eq!(set.rows.iter().map(|row| row.uncertainty_m).collect::<Vec<_>>(), [Some(30.0), None, None]);
}

#[test]
fn uncertainties_with_the_commas_of_their_places() {
    let dir = photographs();
    let table = "image;lat;lon;uncertainty_m\na.jpg;-33,5;151,25;12,5\nb.jpg;-33,5;151,5;30\n";
    let (set, problems) = found(&write(&dir, "t.csv", table));
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!((set.rows[0].uncertainty_m, set.rows[1].uncertainty_m), (Some(12.5), Some(30.0)));
    // a comma beside decimal points is one of thousands, or a mistake
    let table = "image\tlat\tlon\tuncertainty_m\na.jpg\t-33.5\t151.25\t1,234\n";
    let (set, problems) = found(&write(&dir, "t.tsv", table));
    assert_eq!((set.rows[0].uncertainty_m, problems), (None, vec![(Kind::BadUncertainty, 1)]));
    // and those of locations
    let json = write(&dir, "set.json", COCO);
    write(
        &dir,
        "set_locations.csv",
        "location;lat;lon;coordinateUncertaintyInMeters\n7;-33,5;151,25;12,5\neast;10;20;\n",
    );
    let set = found(&json).0;
    assert_eq!((set.rows[0].uncertainty_m, set.rows[1].uncertainty_m), (Some(12.5), None));
}

#[test]
fn dates_in_three_columns() {
    let dir = photographs();
    let table = "image,lat,lon,year,month,day\na.jpg,1.5,2,2023,1,1\nb.jpg,1.5,3,2024.0,12.0,31.0\n\
        c.jpg,1.5,4,2024,,\nd.jpg,1.5,5,2024,13,1\n";
    let (set, problems) = found(&write(&dir, "t.csv", table));
    assert_eq!(problems, [(Kind::BadDate, 1)]);
    let seasons: Vec<_> = set.rows.iter().map(|row| row.season).collect();
    assert_eq!(seasons, [Some(0.0), Some(365.0 / 366.0), None, None]);
}

#[test]
fn every_defect_is_counted_with_its_line() {
    let dir = photographs();
    let table = "image_path,lat,lon,date,label,split\n\
        a.jpg,north,5,2024-01-01,x,train\n\
        b.jpg,NaN,5,2024-01-01,x,train\n\
        c.jpg,-118.25,34.05,2024-01-01,x,train\n\
        d.jpg,95,200,2024-01-01,x,train\n\
        e.jpg,0,0,2024-01-01,x,train\n\
        f.jpg,5,,someday,NA,holdout\n\
        gone.jpg,5.5,5,2024-01-01,x,train\n\
        ./a.jpg,5.5,5,2024-01-01,y,val\n\
        b.jpg,5\n";
    let path = write(&dir, "t.csv", table);
    let (set, problems) = found(&path);
    let one_each = [
        Kind::RaggedRow,
        Kind::NotANumber,
        Kind::NotFinite,
        Kind::Swapped,
        Kind::OutOfRange,
        Kind::NullIsland,
        Kind::HalfPlace,
        Kind::UnknownSplit,
        Kind::MissingImage,
        Kind::ConflictingLabels,
        Kind::ConflictingPlaces,
        Kind::SplitLeak,
        Kind::EmptyWord,
        Kind::PartialSplit,
        Kind::BadDate,
    ];
    assert_eq!(problems, one_each.map(|kind| (kind, 1)));
    assert_eq!(set.rows.len(), 7);
    let error = open(&path, None).unwrap_err().to_string();
    for part in [
        "t.csv: refused",
        "line 2, column \"lat\": \"north\"",
        "line 4: lat -118.25, lon 34.05",
        "line 7: column \"lat\" is \"5\" and column \"lon\" is empty",
        "line 7, column \"split\": \"holdout\"",
        "gone.jpg",
        "line 2 and line 9",
        "line 10: 2 fields, the header has 6",
    ] {
        assert!(error.contains(part), "{part} in {error}");
    }
}

#[test]
fn an_open_quote_cannot_swallow_rows() {
    let dir = photographs();
    let path =
        write(&dir, "t.csv", "image_path,lat,lon,label\na.jpg,1.5,1,\"lynx\nb.jpg,2,2,fox\nc.jpg,3,3,fox\n");
    assert!(found(&path).1.contains(&(Kind::BrokenCell, 1)));
    fs::write(&path, b"image_path,lat,lon,label\na.jpg,1.5,1,l\xe9opard\n").unwrap();
    assert_eq!(found(&path).1[0], (Kind::NotUtf8, 1));
}

#[test]
fn two_stray_quotes_cannot_run_rows_together() {
    let dir = photographs();
    // the class of the first row would get the place of the third: as many cells as the header
    let rows = "species\tlocality_note\tlat\tlon\n\
        fox\t\"North ridge\t1.5\t2.5\n\
        cat\tmid\t2.5\t3.5\n\
        dog\t\"South ridge\t40.5\t50.5\n\
        owl\tx\t5.5\t6.5\n";
    for (delimiter, name) in [("\t", "t.tsv"), (",", "t.csv"), (";", "s.csv")] {
        let path = write(&dir, name, &rows.replace('\t', delimiter));
        assert_eq!(found(&path).1, [(Kind::BrokenCell, 1)], "{name}");
        let error = open(&path, None).unwrap_err().to_string();
        assert!(error.contains("line 2, column \"locality_note\""), "{error}");
    }
    // cells of several lines that are closed are text, also beside one of a single line with quotes in it
    let path = write(
        &dir,
        "t.csv",
        "species,description,lat,lon\n\
         fox,\"two lines,\nthe second \"\"so\"\" it says\",1.5,2.5\r\n\
         dog,\"North\" ridge,40.5,50.5\n\
         owl,\"\n\n\",41.5,51.5\n",
    );
    let (set, problems) = found(&path);
    assert_eq!((set.rows.len(), problems), (3, vec![]));
    // the header is held to the same
    let path = write(&dir, "t.csv", "species,lat,lon,\"note\nfox,1.5,2.5,x\ndog,2.5,3.5,\"y\"\n");
    let error = open(&path, None).unwrap_err().to_string();
    assert!(error.contains("line 1") && error.contains("header"), "{error}");
    // and the tables beside
    let json = write(&dir, "set.json", COCO);
    write(&dir, "set_locations.csv", "location,note,lat,lon\n7,\"a,1.5,2\neast,\"b,10,20\n");
    assert!(found(&json).1.contains(&(Kind::BrokenCell, 1)));
}

#[test]
fn what_spreadsheets_put_above_the_header() {
    let dir = photographs();
    for above in ["sep=;\n", "\u{feff}\"sep=;\"\r\n", "\n  \nSEP=;\n"] {
        let path = write(&dir, "t.csv", &format!("{above}image;lat;lon\na.jpg;-33,5;x\n"));
        let error = open(&path, None).unwrap_err().to_string();
        let line = above.matches('\n').count() + 2;
        assert!(error.contains(&format!("line {line}, column \"lon\": \"x\"")), "{error}");
        write(&dir, "t.csv", &format!("{above}image;lat;lon\na.jpg;-33,5;151,25\n"));
        assert_eq!(found(&path).0.rows[0].place, LatLon::new(-33.5, 151.25).ok());
    }
}

#[test]
fn lines_are_those_an_editor_shows() {
    let dir = photographs();
    let path = write(&dir, "t.csv", "lat,lon,note\r\n\r\n1,2,\"two\r\nlines\"\r\n\r\nx,1,\r\n1,y,");
    let error = open(&path, None).unwrap_err().to_string();
    assert!(error.contains("line 6, column \"lat\": \"x\"") && error.contains("line 7"), "{error}");
}

#[test]
fn outlines_that_no_table_has() {
    let dir = photographs();
    for (content, says) in [
        ("image_path,lat,label\na.jpg,1,x\n", "no longitude column among \"image_path\", \"lat\", \"label\""),
        ("image_path,label\na.jpg,x\n", "no latitude column"),
        ("lat,lon,class,species\n1,1,a,b\n", "\"class\" and \"species\""),
        ("\n \n", "empty"),
        ("one word\n", "no latitude column"),
    ] {
        let error = open(&write(&dir, "t.csv", content), None).unwrap_err();
        assert!(matches!(error, DataError::Outline { .. }), "{error}");
        assert!(error.to_string().contains(says) && error.to_string().contains("t.csv"), "{error}");
    }
    assert_eq!(found(&write(&dir, "t.csv", "lat,lon\n")).1, [(Kind::NoRows, 1)]);
    assert!(matches!(open(&dir.path().join("none.csv"), None), Err(DataError::Io { .. })));
}

#[test]
fn noise_never_panics() {
    use proptest::prelude::*;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("noise");
    let start =
        proptest::sample::select(vec!["", "lat,lon\n", "{\"images\":[", "image;lat;lon;date\n", "[{"]);
    let bytes = proptest::collection::vec(
        proptest::sample::select(b"0159-.,;\t\n\"{}[]:aNlton\xff\x00 ".to_vec()),
        0..200,
    );
    proptest!(|(start in start, bytes in bytes)| {
        fs::write(&path, [start.as_bytes(), &bytes].concat()).unwrap();
        let formats = [Format::Table, Format::CocoCameraTraps, Format::GeoPrior, Format::CamtrapDp, Format::Fmow];
        for format in formats.map(Some).into_iter().chain([None]) {
            let _ = inspect(&path, &Options { format, locations: Some(path.clone()), ..Options::default() });
        }
    });
}

fn gps(ns: &str, ew: &str, date: &str) -> Vec<Field> {
    vec![
        dms(Tag::GPSLatitude, [(33, 1), (30, 1), (0, 1)]),
        text(Tag::GPSLatitudeRef, ns),
        dms(Tag::GPSLongitude, [(151, 1), (15, 1), (0, 1)]),
        text(Tag::GPSLongitudeRef, ew),
        text(Tag::DateTimeOriginal, date),
    ]
}

#[test]
fn a_folder_of_photographs() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, fields: &[Field]| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, jpeg_with(fields)).unwrap();
    };
    put("lynx/cam1/z.JPG", &gps("S", "E", "2023:01:01 10:00:00"));
    put("fox/b.jpg", &gps("N", "W", "2024:02:01 10:00:00"));
    put("fox/a.jpeg", &[]);
    put("fox/c.jpg", &gps("", "W", "1999:01:01 00:00:00"));
    put("loose.jpg", &[]);
    put("fox/.hidden.jpg", &[]);
    put("fox/raw.heic", &[]);
    fs::write(dir.path().join("fox/notes.txt"), "x").unwrap();
    let (set, problems) = found(dir.path());
    assert_eq!(problems, [(Kind::BadDate, 1), (Kind::BadExifPlace, 1), (Kind::ForeignImage, 1)]);
    let names: Vec<String> = set.rows.iter().map(|row| row.name.to_string()).collect();
    assert_eq!(names, ["fox/a.jpeg", "fox/b.jpg", "fox/c.jpg", "loose.jpg", "lynx/cam1/z.JPG"]);
    let class = |i: usize| set.rows[i].class.map(|class| set.labels.name(class));
    assert_eq!([class(0), class(3), class(4)], [Some("fox"), None, Some("lynx")]);
    assert_eq!(set.rows[4].place, LatLon::new(-33.5, 151.25).ok());
    assert_eq!(set.rows[1].place, LatLon::new(33.5, -151.25).ok());
    assert_eq!((set.rows[2].place, set.rows[2].season), (None, None));
    assert_eq!(set.rows[4].season, Some(0.0));
    assert_eq!(set.rows[4].camera.as_deref(), Some("cam1"));
}

#[test]
fn a_folder_by_split() {
    let dir = tempfile::tempdir().unwrap();
    for (i, name) in ["train/fox", "train/lynx", "Validation/fox"].iter().enumerate() {
        fs::create_dir_all(dir.path().join(name)).unwrap();
        let jpeg = jpeg_with(&[text(Tag::ImageDescription, &i.to_string())]);
        fs::write(dir.path().join(name).join("a.jpg"), jpeg).unwrap();
    }
    let (set, problems) = found(dir.path());
    assert!(problems.is_empty());
    assert_eq!(set.labels.len(), 2);
    assert_eq!(set.rows.iter().filter(|row| row.split == Some(Split::Val)).count(), 1);
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(found(empty.path()).1, [(Kind::NoRows, 1)]);
}

const COCO: &str = r#"{"info": {"version": "1"}, "extra": [[[1]]],
  "images": [
    {"id": "i1", "file_name": "a.jpg", "location": 7, "datetime": "2023-01-01 10:00:00", "width": 16},
    {"id": "i2", "file_name": "b.jpg", "location": "east", "split": "val"},
    {"id": "i3", "file_name": "c.jpg", "location": "nowhere"},
    {"id": 4, "file_name": "d.jpg", "location": 7},
    {"id": "i5", "file_name": "e.jpg", "location": 7, "corrupt": true}],
  "annotations": [
    {"id": 1, "image_id": "i1", "category_id": 1, "bbox": [1, 2, 3, 4]},
    {"id": 2, "image_id": "i1", "category_id": 1},
    {"id": 3, "image_id": "i2", "category_id": 0},
    {"id": 4, "image_id": "i3", "category_id": 1},
    {"id": 5, "image_id": "i3", "category_id": 2}],
  "categories": [{"id": 0, "name": "empty"}, {"id": 1, "name": "lynx"}, {"id": 2, "name": "fox"}]}"#;

#[test]
fn coco_camera_traps_with_locations() {
    let dir = photographs();
    let json = write(&dir, "set.json", COCO);
    let opened = open(&json, None).unwrap();
    assert!(opened.notes[0].contains("set_locations.csv"), "{:?}", opened.notes);
    assert!(opened.dataset.rows.iter().all(|row| row.place.is_none()));
    for (name, content) in [
        ("set_locations.csv", "location,latitude,longitude\n7,-33.5,151.25\neast,10,20\n7,-33.5,151.25\n"),
        ("locations.tsv", "id\tlat\tlng\n7\t-33.5\t151.25\neast\t10\t20\n"),
        (
            "gps_locations.json",
            r#"{"7": {"latitude": -33.5, "longitude": 151.25}, "east": {"lat": 10, "lon": 20}}"#,
        ),
        (
            "locations.json",
            r#"[{"id": 7, "lat": -33.5, "lon": 151.25}, {"location": "east", "lat": 10, "lon": 20}]"#,
        ),
    ] {
        let table = write(&dir, name, content);
        let (set, problems) = found(&json);
        let expected = [
            (Kind::PartialSplit, 3),
            (Kind::UnknownLocation, 1),
            (Kind::SeveralClasses, 1),
            (Kind::MarkedCorrupt, 1),
        ];
        assert_eq!(problems, expected, "{name}");
        assert_eq!(set.rows.len(), 4);
        assert_eq!(set.rows[0].place, LatLon::new(-33.5, 151.25).ok());
        assert_eq!(set.rows[3].place, set.rows[0].place);
        assert_eq!(set.rows[1].place, LatLon::new(10.0, 20.0).ok());
        let class = |i: usize| set.rows[i].class.map(|class| set.labels.name(class));
        assert_eq!([class(0), class(1), class(2), class(3)], [Some("lynx"), Some("empty"), None, None]);
        assert_eq!(set.rows[0].camera.as_deref(), Some("7"));
        fs::remove_file(table).unwrap();
    }
    let table = write(&dir, "elsewhere.txt", "site;lat;lon\n7;151,25;-33,5\neast;10;20\neast;11;20\n");
    let options = Options { locations: Some(table), ..Options::default() };
    let error = open_with(&json, &options).unwrap_err().to_string();
    assert!(error.contains("elsewhere.txt: line 2") && error.contains("swapped"), "{error}");
    assert!(error.contains("location \"east\" is at"), "{error}");
}

#[test]
fn coco_that_is_broken() {
    let dir = photographs();
    for (from, to, kind) in [
        ("\"category_id\": 0", "\"category_id\": 9", Kind::BrokenReference),
        ("\"image_id\": \"i2\"", "\"image_id\": \"i9\"", Kind::BrokenReference),
        ("\"id\": 4, \"file", "\"id\": \"i1\", \"file", Kind::BrokenReference),
        ("d.jpg", "gone.jpg", Kind::MissingImage),
        ("\"width\": 16", "\"lat\": 34.0", Kind::HalfPlace),
        ("\"width\": 16", "\"latitude\": 0, \"longitude\": 0.0", Kind::NullIsland),
    ] {
        let json = write(&dir, "set.json", &COCO.replacen(from, to, 1));
        assert!(found(&json).1.contains(&(kind, 1)), "{to}");
    }
    for content in [&COCO[..COCO.len() / 2], "{}", r#"{"images": 3}"#, &"{\"images\":".repeat(100_000)] {
        let error = open(&write(&dir, "set.json", content), None).unwrap_err();
        assert!(error.to_string().contains("JSON"), "{error}");
    }
}

#[test]
fn the_report_finds_what_only_pixels_tell() {
    let dir = photographs();
    let bytes = fs::read(dir.path().join("a.jpg")).unwrap();
    fs::write(dir.path().join("b.jpg"), &bytes).unwrap();
    fs::write(dir.path().join("c.jpg"), &bytes[..bytes.len() - 9]).unwrap();
    fs::write(dir.path().join("d.jpg"), b"<html>404</html>").unwrap();
    let table = "image_path,lat,lon,label,split\na.jpg,1.5,1,x,train\nb.jpg,1.5,2,y,val\nc.jpg,2,2,x,train\nd.jpg,2,2,x,train\n";
    let path = write(&dir, "t.csv", table);
    assert!(open(&path, None).is_ok(), "opening does not decode");
    let report = report(&path);
    let images = report.images.as_ref().unwrap();
    assert_eq!((images.photographs, images.unreadable, images.identical), (4, 2, 1));
    assert_eq!((images.identical_other_class, images.identical_other_split), (1, 1));
    assert_eq!((report.errors, report.warnings), (2, 2));
    let text = report.to_string();
    for part in ["c.jpg: not a readable", "truncated", "\"a.jpg\" (\"x\", train) = \"b.jpg\" (\"y\", val)"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["problems"][0]["kind"], "unreadable_image");
    assert_eq!(json["splits"]["train"], 3);
    assert_eq!(json["format"], "table");
}

#[test]
fn the_report_of_what_cannot_be_read() {
    let dir = photographs();
    let report = report(&write(&dir, "t.csv", "a,b\n1,2\n"));
    assert_eq!((report.errors, report.format), (1, None));
    assert!(report.to_string().contains("no latitude column"), "{report}");
}

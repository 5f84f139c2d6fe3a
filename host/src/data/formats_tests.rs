//! Data sets as they are distributed: small synthetic ones with exactly the fields of the real files,
//! good ones, damaged ones, cut ones.

use std::{fs, path::PathBuf};

use csp_models::labels::Taxon;
use proptest::prelude::*;
use tempfile::TempDir;

use super::{
    camtrap_dp_tests::camtrap_dp,
    problem::Kind,
    tests::{found, photographs, write},
    *,
};

fn put(dir: &TempDir, name: &str, content: &str) -> PathBuf {
    let path = dir.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    path
}

pub(super) fn place(lat: f64, lon: f64) -> Option<LatLon> {
    LatLon::new(lat, lon).ok()
}

pub(super) fn class(set: &Dataset, row: usize) -> Option<&str> {
    set.rows[row].class.map(|class| set.labels.name(class))
}

pub(super) fn opened(path: &Path) -> Opened {
    inspect(path, &Options::default()).unwrap()
}

/// iNaturalist 2018: names are numbers, places by image in a second file.
const INAT_2018: &str = r#"{"info": {"year": 2018, "version": "1", "description": "d", "contributor": "c", "url": "u", "date_created": "2018"},
 "images": [
  {"id": 1, "width": 16, "height": 16, "file_name": "a.jpg", "license": 3, "rights_holder": "Ann"},
  {"id": 2, "width": 16, "height": 16, "file_name": "b.jpg", "license": 3, "rights_holder": "Bob"},
  {"id": 3, "width": 16, "height": 16, "file_name": "c.jpg", "license": 3, "rights_holder": "Ann"}],
 "licenses": [{"id": 3, "name": "CC", "url": "u"}],
 "annotations": [{"id": 1, "image_id": 1, "category_id": 0}, {"id": 2, "image_id": 2, "category_id": 1}, {"id": 3, "image_id": 3, "category_id": 0}],
 "categories": [
  {"id": 0, "name": "0", "supercategory": "Aves", "kingdom": "Animalia", "phylum": "Chordata", "class": "Aves", "order": "1", "family": "12", "genus": "77"},
  {"id": 1, "name": "1", "supercategory": "Plantae", "kingdom": "Plantae", "phylum": "Tracheophyta", "class": "Magnoliopsida", "order": "2", "family": "13", "genus": "78"}]}"#;
const INAT_2018_LOCATIONS: &str = r#"[
  {"id": 3, "lat": null, "lon": null, "loc_uncert": null, "date": null, "date_c": null, "user_id": 5, "valid": false},
  {"id": 1, "lat": -33.5, "lon": 151.25, "loc_uncert": 30.0, "date": "2017-05-01 10:00:00+00:00", "date_c": 0.25, "user_id": 5, "valid": true},
  {"id": 2, "lat": 10.5, "lon": NaN, "loc_uncert": -80, "date": "2017-05-01 10:00:00+00:00", "date_c": 1.0, "user_id": null, "valid": true}]"#;

#[test]
fn inat_2018_with_places_and_names_beside() {
    let dir = photographs();
    let train = write(&dir, "train2018.json", INAT_2018);
    write(
        &dir,
        "train2018_locations.json",
        &INAT_2018_LOCATIONS.replace("10.5, \"lon\": NaN", "null, \"lon\": NaN"),
    );
    write(
        &dir,
        "categories.json",
        r#"[{"id": 0, "name": "Cygnus atratus", "supercategory": "Aves"}, {"id": 1, "name": "Acacia dealbata"}]"#,
    );
    let Opened { dataset: set, format, notes, problems } = opened(&train);
    assert_eq!(format, Format::INaturalist);
    assert!(notes.iter().any(|note| note.contains("1 values NaN")), "{notes:?}");
    let kinds: Vec<_> = problems.iter().map(|p| (p.kind, p.count)).collect();
    assert_eq!(kinds, [(Kind::BadUncertainty, 1)]);
    assert_eq!(set.rows.iter().map(|row| row.place).collect::<Vec<_>>(), [place(-33.5, 151.25), None, None]);
    assert_eq!((class(&set, 0), class(&set, 1)), (Some("Cygnus atratus"), Some("Acacia dealbata")));
    // the year's share as delivered; the last day of one convention is the first of ours
    assert_eq!((set.rows[0].season, set.rows[1].season, set.rows[2].season), (Some(0.25), Some(0.0), None));
    assert_eq!((set.rows[0].uncertainty_m, set.rows[1].uncertainty_m), (Some(30.0), None));
    assert_eq!((set.rows[0].user.as_deref(), set.rows[1].user.as_deref()), (Some("5"), Some("Bob")));
    let swan = set.labels.find("Cygnus atratus").unwrap();
    let lineage: Vec<&str> =
        set.labels.0[swan.index()].lineage.iter().map(|taxon| taxon.rank.as_str()).collect();
    assert_eq!(lineage, ["kingdom", "phylum", "class", "order", "family", "genus"]);
    // half a place is a mistake, not a missing one
    write(&dir, "train2018_locations.json", INAT_2018_LOCATIONS);
    assert!(found(&train).1.contains(&(Kind::HalfPlace, 1)));
}

#[test]
fn inat_2017_has_supercategories_only_and_days() {
    let dir = photographs();
    let json = INAT_2018
        .replace("\"name\": \"0\"", "\"name\": \"Cygnus atratus\"")
        .replace("\"name\": \"1\"", "\"name\": \"Acacia\"");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let mut json = json;
    for category in json["categories"].as_array_mut().unwrap() {
        let fields = category.as_object_mut().unwrap();
        fields.retain(|key, _| matches!(key.as_str(), "id" | "name" | "supercategory"));
    }
    let val = write(&dir, "val2017.json", &json.to_string());
    let locations =
        r#"[{"id": 1, "lat": 1.5, "lon": 2, "loc_uncert": 5, "date": "2017-01-01", "user_id": 1}]"#;
    write(&dir, "val2017_locations.json", locations);
    let (set, problems) = found(&val);
    assert_eq!(problems, [(Kind::UnknownLocation, 2)]);
    assert_eq!((set.rows[0].season, set.rows[0].place), (Some(0.0), place(1.5, 2.0)));
    let taxon = Taxon { rank: "supercategory".into(), name: "Plantae".into() };
    assert_eq!(set.labels.0[0].lineage, [taxon]);
}

#[test]
fn cameras_and_images_of_one_number_are_not_mixed_up() {
    let dir = photographs();
    let json = r#"{"images": [
        {"id": 1, "file_name": "a.jpg", "location": 3},
        {"id": 2, "file_name": "b.jpg", "location": null},
        {"id": 3, "file_name": "c.jpg", "location": 99}],
      "annotations": [], "categories": []}"#;
    let json = write(&dir, "set.json", json);
    write(&dir, "set_locations.csv", "location,lat,lon\n1,10,10\n2,20,20\n3,30,30\n");
    let (set, problems) = found(&json);
    let places: Vec<_> = set.rows.iter().map(|row| row.place).collect();
    assert_eq!(places, [place(30.0, 30.0), None, None]);
    assert_eq!(problems, [(Kind::UnknownLocation, 2)]);
}

const INAT_2021: &str = r#"{"info": {"year": 2021},
 "images": [
  {"id": 0, "width": 16, "height": 16, "file_name": "a.jpg", "license": 0, "rights_holder": "Ann", "date": "2020-01-01 00:00:00+00:00", "latitude": 43.83486, "longitude": -71.22231, "location_uncertainty": 77},
  {"id": 1, "width": 16, "height": 16, "file_name": "b.jpg", "license": 0, "rights_holder": "Ann", "date": null, "latitude": null, "longitude": null, "location_uncertainty": null},
  {"id": 2, "width": 16, "height": 16, "file_name": "c.jpg", "license": 0, "rights_holder": "Cid", "date": "someday", "latitude": 43.1, "longitude": -4, "location_uncertainty": 106807033}],
 "categories": [{"id": 0, "name": "Lumbricus terrestris", "common_name": "Common Earthworm", "supercategory": "Animalia", "kingdom": "Animalia", "phylum": "Annelida", "class": "Clitellata", "order": "Haplotaxida", "family": "Lumbricidae", "genus": "Lumbricus", "specific_epithet": "terrestris", "image_dir_name": "00000_Animalia"}],
 "annotations": [{"id": 0, "image_id": 0, "category_id": 0}, {"id": 1, "image_id": 1, "category_id": 0}, {"id": 2, "image_id": 2, "category_id": 0}],
 "licenses": []}"#;

#[test]
fn inat_2021_has_places_in_the_images() {
    let dir = photographs();
    let json = write(&dir, "train_mini.json", INAT_2021);
    let Opened { dataset: set, format, problems, .. } = opened(&json);
    assert_eq!(format, Format::INaturalist);
    let kinds: Vec<_> = problems.iter().map(|p| (p.kind, p.count)).collect();
    assert_eq!(kinds, [(Kind::BadDate, 1), (Kind::BadUncertainty, 1)]);
    assert_eq!((set.rows[0].place, set.rows[0].uncertainty_m), (place(43.83486, -71.22231), Some(77.0)));
    assert_eq!((set.rows[0].season, set.rows[2].season), (Some(0.0), None));
    let lineage = &set.labels.0[0].lineage;
    assert_eq!((lineage.len(), lineage[5].name.as_str()), (6, "Lumbricus"));
    // text where a number belongs is named with its image, not only with its line
    let json = write(
        &dir,
        "train_mini.json",
        &INAT_2021.replace("43.83486", "\"north\"").replace("-71.22231", "\"-71.2\""),
    );
    let error = open(&json, None).unwrap_err().to_string();
    assert!(error.contains("image \"0\", latitude: \"north\""), "{error}");
}

#[test]
fn a_folder_with_one_json_a_split() {
    let dir = photographs();
    write(&dir, "train2018.json", INAT_2018);
    write(
        &dir,
        "val2018.json",
        &INAT_2018.replace("a.jpg", "d.jpg").replace("b.jpg", "e.jpg").replace("c.jpg", "f.jpg"),
    );
    write(&dir, "train2018_locations.json", INAT_2018_LOCATIONS);
    write(&dir, "test2018.json", r#"{"images": []}"#);
    write(&dir, "train_2018_bboxes.json", INAT_2018);
    let Opened { dataset: set, format, notes, .. } = opened(dir.path());
    let left = "left out: train_2018_bboxes.json (boxes), test2018.json (no annotations)";
    assert_eq!(notes.last().map(String::as_str), Some(left));
    assert_eq!((format, set.rows.len()), (Format::INaturalist, 6));
    let splits: Vec<_> = set.rows.iter().map(|row| row.split.unwrap()).collect();
    assert_eq!(splits[2..4], [Split::Train, Split::Val]);
    write(&dir, "train_mini.json", INAT_2021);
    let error = inspect(dir.path(), &Options::default()).unwrap_err().to_string();
    assert!(error.contains("train2018.json and train_mini.json"), "{error}");
    assert!(error.contains("move train_mini.json away"), "{error}");
}

#[test]
fn a_folder_of_camera_traps_with_a_json_a_split() {
    let dir = photographs();
    let json = |name: &str| {
        format!(
            r#"{{"info": {{}}, "images": [{{"id": "{name}", "file_name": "{name}.jpg", "location": 7}}],
            "annotations": [{{"id": 1, "image_id": "{name}", "category_id": 1}}],
            "categories": [{{"id": 1, "name": "lynx"}}]}}"#
        )
    };
    for (name, picture) in [
        ("train_annotations.json", "a"),
        ("cis_val_annotations.json", "b"),
        ("trans_val_annotations.json", "c"),
        ("cis_test_annotations.json", "d"),
    ] {
        write(&dir, name, &json(picture));
    }
    write(&dir, "md_v5.json", r#"{"detection_categories": {}}"#);
    let places = write(&dir, "places.csv", "location,lat,lon\n7,-33.5,151.25\n");
    let options = Options { locations: Some(places), ..Options::default() };
    let Opened { dataset: set, format, notes, .. } = inspect(dir.path(), &options).unwrap();
    assert_eq!(format, Format::INaturalist);
    let rows: Vec<_> = set.rows.iter().map(|row| (row.name.to_string(), row.split.unwrap())).collect();
    let expected =
        [("a.jpg", Split::Train), ("b.jpg", Split::Val), ("c.jpg", Split::Val), ("d.jpg", Split::Test)];
    assert_eq!(rows, expected.map(|(name, split)| (name.to_string(), split)));
    assert!(set.rows.iter().all(|row| row.place == place(-33.5, 151.25)), "the table given counts for all");
    assert!(notes.contains(&"val: trans_val_annotations.json".to_string()), "{notes:?}");
    assert_eq!(notes.last().unwrap(), "left out: md_v5.json (its name tells no split)");
    // also where the format is given
    let options = Options { format: Some(Format::CocoCameraTraps), ..options };
    assert_eq!(inspect(dir.path(), &options).unwrap().dataset.rows.len(), 4);
}

#[test]
fn fmow_as_csp_converted_it() {
    let dir = photographs();
    let json = r#"{"images": [{"id": 0, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}], "annotations": [{"id": 0, "image_id": 0, "category_id": 1}, {"id": 1, "image_id": 1, "category_id": 0}]}"#;
    let val = write(&dir, "val.json", json);
    write(
        &dir,
        "val_location.json",
        r#"[{"id": 0, "lat": 1.5, "lon": 2.5, "loc_uncert": null, "date": null, "date_c": 0.5, "user_id": 1, "valid": true}, {"id": 1, "lat": 3.5, "lon": 4.5}]"#,
    );
    write(&dir, "category.json", r#"{"airport": 0, "zoo": 1}"#);
    let Opened { dataset: set, problems, .. } = opened(&val);
    assert_eq!(problems.iter().count(), 0);
    assert_eq!((class(&set, 0), class(&set, 1)), (Some("zoo"), Some("airport")));
    assert_eq!((set.rows[0].place, set.rows[0].season), (place(1.5, 2.5), Some(0.5)));
}

const FMOW: &str = r#"{"gsd": 2.1, "img_width": 16, "img_height": 16, "mean_pixel_height": 1.0, "utm": "21J", "country_code": "BRA", "cloud_cover": 3, "timestamp": "2016-01-01T14:00:00Z", "scan_direction": "Forward", "pan_resolution_dbl": 0.5, "off_nadir_angle_dbl": 9.1, "img_filename": "airport_0_0_rgb.jpg",
 "raw_location": "POLYGON ((-50.0 -20.0, -49.9 -20.0, -49.9 -20.1, -50.0 -20.1, -50.0 -20.0))",
 "bounding_boxes": [{"ID": 0, "box": [1, 2, 8, 8], "category": "airport", "raw_location": "POLYGON ((-49.98 -20.02, -49.96 -20.02, -49.96 -20.04, -49.98 -20.04, -49.98 -20.02))"}]}"#;

#[test]
fn fmow_as_distributed() {
    let dir = photographs();
    let jpeg = fs::read(dir.path().join("a.jpg")).unwrap();
    let root = tempfile::tempdir().unwrap();
    // the objects of one image are a list, those of another a single object; boxes with and without footprint
    let one = FMOW.replace("\"bounding_boxes\": [{", "\"bounding_boxes\": {").replace("}]}", "}}");
    let bare = FMOW.replace(", \"raw_location\": \"POLYGON ((-49.98 -20.02, -49.96 -20.02, -49.96 -20.04, -49.98 -20.04, -49.98 -20.02))\"", "");
    for (name, json) in [
        ("train/airport/airport_0/airport_0_0_rgb", FMOW.to_string()),
        ("train/airport/airport_0/airport_0_1_rgb", one),
        ("val/zoo/zoo_3/zoo_3_0_rgb", bare.replace("\"airport\"", "\"zoo\"")),
        ("val/zoo/zoo_3/zoo_3_0_msrgb", "not read".into()),
        ("val/zoo/zoo_4/zoo_4_0_rgb", bare.replace("POLYGON ((-50.0", "POLYGON ((west")),
    ] {
        put(&root, &format!("{name}.json"), &json);
        fs::write(root.path().join(format!("{name}.jpg")), &jpeg).unwrap();
    }
    let Opened { dataset: set, format, problems, .. } = opened(root.path());
    assert_eq!((format, set.rows.len()), (Format::Fmow, 4));
    assert_eq!(
        problems.iter().map(|p| (p.kind, p.count)).collect::<Vec<_>>(),
        [(Kind::BadFootprint, 1), (Kind::UntrainedClass, 1)]
    );
    let near = |row: usize, lat: f64, lon: f64| {
        set.rows[row].place.unwrap().distance_m(place(lat, lon).unwrap()) < 0.01
    };
    assert!(near(0, -20.03, -49.97) && near(1, -20.03, -49.97) && near(2, -20.05, -49.95));
    assert_eq!((class(&set, 1), class(&set, 2)), (Some("airport"), Some("zoo")));
    assert_eq!((set.rows[1].split, set.rows[2].split), (Some(Split::Train), Some(Split::Val)));
    // all images of a site are one camera: they stay on one side of a split by camera
    assert_eq!(set.rows[0].camera, set.rows[1].camera);
    assert_eq!(
        (set.rows[0].season, &*set.rows[0].name.to_string()),
        (Some(0.0), "train/airport/airport_0/airport_0_0_rgb.jpg")
    );
}

#[test]
fn a_false_detection_beside_a_category_is_none() {
    let root = tempfile::tempdir().unwrap();
    let json: serde_json::Value = serde_json::from_str(FMOW).unwrap();
    for (i, more) in [&["false_detection"][..], &["false_detection", "zoo"], &[]].iter().enumerate() {
        let mut json = json.clone();
        let first = json["bounding_boxes"][0].clone();
        let boxes = json["bounding_boxes"].as_array_mut().unwrap();
        for category in *more {
            let mut one = first.clone();
            one["category"] = (*category).into();
            boxes.push(one);
        }
        put(&root, &format!("train/site_{i}/site_{i}_0_rgb.json"), &json.to_string());
    }
    let alone = FMOW.replace("\"airport\"", "\"false_detection\"");
    put(&root, "train/site_3/site_3_0_rgb.json", &alone);
    let set = opened(root.path()).dataset;
    let classes: Vec<_> = (0..4).map(|row| class(&set, row)).collect();
    assert_eq!(classes, [Some("airport"), None, Some("airport"), Some("false_detection")]);
}

#[test]
fn fmow_without_footprints_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let mut json: serde_json::Value = serde_json::from_str(FMOW).unwrap();
    json.as_object_mut().unwrap().remove("raw_location");
    json["bounding_boxes"][0].as_object_mut().unwrap().remove("raw_location");
    put(&root, "train/zoo/zoo_1/zoo_1_0_rgb.json", &json.to_string());
    let error = inspect(root.path(), &Options::default()).unwrap_err().to_string();
    assert!(error.contains("raw_location") && error.contains("full distribution"), "{error}");
    // one among others is counted and keeps its picture
    put(&root, "train/zoo/zoo_2/zoo_2_0_rgb.json", FMOW);
    let opened = opened(root.path());
    let counted = opened.problems.iter().find(|problem| problem.kind == Kind::NoFootprint);
    assert_eq!(counted.map(|problem| problem.count), Some(1));
    assert_eq!(opened.dataset.rows.iter().filter(|row| row.place.is_some()).count(), 1);
}

#[test]
fn nothing_is_nobodys_name() {
    let dir = photographs();
    let table = "image_path,lat,lon,label,user,camera,date\n\
        a.jpg,1,2,x,NaN,nan,NaT\nb.jpg,1,3,y,7,c1,2020-01-02\nc.jpg,1,4,x,nan,NaN,\n";
    let table = write(&dir, "t.csv", table);
    let Opened { dataset: set, problems, .. } = opened(&table);
    let named: Vec<_> = set.rows.iter().map(|row| (row.user.as_deref(), row.camera.as_deref())).collect();
    assert_eq!(named, [(None, None), (Some("7"), Some("c1")), (None, None)]);
    assert_eq!(problems.iter().count(), 0, "no date is no bad date");
    // of a coordinate it is an error as before: a number was meant
    let table = write(&dir, "t.csv", "image_path,lat,lon\na.jpg,NaN,2\n");
    assert!(open(&table, None).is_err());
}

#[test]
fn a_word_needs_no_name_beside_it() {
    let dir = photographs();
    write(&dir, "class_names.csv", "id,name\n0,lynx\n1,hare\n");
    let table = write(&dir, "t.csv", "image_path,lat,lon,label\na.jpg,1,2,fox\nb.jpg,1,3,1\nc.jpg,1,4,8\n");
    let (set, problems) = found(&table);
    assert_eq!((class(&set, 0), class(&set, 1), class(&set, 2)), (Some("fox"), Some("hare"), Some("8")));
    assert_eq!(problems, [(Kind::UnnamedClass, 1)]);
}

const BIRDS: &str = r#"{"info": {"a": 1}, "classes": ["Acadian Flycatcher", "Wren"], "classes_sci": ["Empidonax virescens", "T"],
 "train": [
  {"class_id": 0, "im_path": "a.jpg", "orig_path": "x", "orig_date": "2013-02-01", "valid_image": true, "orig_meta": {"lon": -80.5, "lat": 40.5, "date": 0.5, "user_id": 12}, "ebird_meta": {"lon": -1.0, "lat": 2.0, "date": 0.1, "user_id": 3}},
  {"class_id": 1, "im_path": "b.jpg", "orig_path": "x", "orig_date": null, "valid_image": true, "orig_meta": {"lon": NaN, "lat": NaN, "date": NaN, "user_id": null}, "ebird_meta": {"lon": -1.0, "lat": 2.0, "date": 0.1, "user_id": 3}}],
 "val": [{"class_id": 1, "im_path": "c.jpg", "valid_image": false, "orig_meta": {"lon": 1, "lat": 1, "date": 0, "user_id": 0}}],
 "test": [{"class_id": 7, "im_path": "d.jpg", "valid_image": true, "orig_meta": {"lon": 1.5, "lat": 1.5, "date": 1.5, "user_id": 0}}]}"#;

#[test]
fn birdsnap_and_nabirds() {
    let dir = photographs();
    let json = write(&dir, "birdsnap_with_loc_2019.json", BIRDS);
    let Opened { dataset: set, format, notes, problems } = opened(&json);
    assert_eq!((format, set.rows.len()), (Format::GeoPrior, 3));
    let kinds: Vec<_> = problems.iter().map(|p| (p.kind, p.count)).collect();
    let expected =
        [(Kind::UntrainedClass, 1), (Kind::UnnamedClass, 1), (Kind::BadDate, 1), (Kind::MarkedCorrupt, 1)];
    assert_eq!(kinds, expected);
    assert_eq!((set.rows[0].place, set.rows[0].season), (place(40.5, -80.5), Some(0.5)));
    assert_eq!((set.rows[0].user.as_deref(), class(&set, 0)), (Some("12"), Some("Acadian Flycatcher")));
    assert_eq!((set.rows[1].place, class(&set, 2), set.rows[2].split), (None, Some("7"), Some(Split::Test)));
    assert!(notes[1].contains("orig_meta"), "{notes:?}");
    // or those of the published results, where they are asked for
    let options = Options { format: Some(Format::GeoPriorEbird), ..Options::default() };
    let ebird = inspect(&json, &options).unwrap().dataset;
    assert_eq!((ebird.rows[0].place, ebird.rows[0].user.as_deref()), (place(2.0, -1.0), Some("3")));
    // NABirds has eBird's alone, which is drawn by species: said
    let json = write(&dir, "nabirds_with_loc_2019.json", &BIRDS.replace("orig_meta", "unused"));
    let Opened { dataset: set, notes, .. } = opened(&json);
    assert_eq!(set.rows[0].place, place(2.0, -1.0));
    assert!(notes.iter().any(|note| note.contains("checklists of the same species")), "{notes:?}");
}

#[test]
fn places_without_photographs() {
    let dir = tempfile::tempdir().unwrap();
    // geo_prior's large list
    let list = r#"[{"lon": 10.5, "lat": 50.25, "date_c": 0.1, "class": 4, "user_id": 3}, {"lon": NaN, "lat": NaN, "date_c": NaN, "class": 5, "user_id": null}]"#;
    let (set, _) = found(&put(&dir, "inat2018_large.json", list));
    assert_eq!((set.rows[0].place, set.rows[1].place, class(&set, 1)), (place(50.25, 10.5), None, Some("5")));
    // SINR's occurrences, with names beside
    let table = put(
        &dir,
        "geo_prior_train.csv",
        "taxon_id,longitude,latitude,observed_on,positional_accuracy,observer_id,observation_uuid\n4209,-85.4,12.5,2016-01-01,30,77,a-b\n13851,151.2,-33.9,2016-12-31,,78,c-d\n99,1.5,1.5,,,,\n",
    );
    put(
        &dir,
        "geo_prior_train_meta.json",
        r#"[{"taxon_id": 4209, "latin_name": "Grus americana"}, {"taxon_id": 13851, "latin_name": "Manorina"}]"#,
    );
    let (set, problems) = found(&table);
    assert_eq!(problems, [(Kind::UnnamedClass, 1)]);
    assert_eq!((class(&set, 0), class(&set, 2)), (Some("Grus americana"), Some("99")));
    assert_eq!((set.rows[0].season, set.rows[0].uncertainty_m), (Some(0.0), Some(30.0)));
    assert_eq!((set.rows[1].user.as_deref(), &set.rows[1].image), (Some("78"), &None));
    // NCEAS: degrees beside projected metres
    let table = put(
        &dir,
        "NZ_train_po.csv",
        "region,spid,group,siteid,x,y,lat,lon\nNZ,nz01,plant,5006,2690400,6457900.0,-37.06,175.02\n",
    );
    let (set, problems) = found(&table);
    assert_eq!((problems.len(), class(&set, 0), set.rows[0].place), (0, Some("nz01"), place(-37.06, 175.02)));
    // fg_geo's YFCC: the photographs are addresses in a column of their own
    let table = put(
        &dir,
        "yfcc.csv",
        "yfcc100m ID,yfcc100m line number,label,latitude,longitude,Flickr URL,mmcommons URL\n1,2,Felis catus,1.5,2.5,http://f,http://m\n",
    );
    assert_eq!(found(&table).0.rows[0].image, None);
}

#[test]
fn yfcc_with_numbered_classes() {
    let dir = photographs();
    let table = write(
        &dir,
        "train_test_split.csv",
        "path,lat,lon,split,class\na.jpg,1.5,2.5,train,0\nb.jpg,1.5,3.5,val,1\nc.jpg,2.5,3.5,train,1\n",
    );
    write(&dir, "class_names.csv", "id,name\n0,autumn\n1,beach\n");
    let (set, problems) = found(&table);
    assert!(problems.is_empty());
    assert_eq!(
        (class(&set, 0), class(&set, 1), set.rows[1].split),
        (Some("autumn"), Some("beach"), Some(Split::Val))
    );
    write(&dir, "class_names.csv", "number,word\n");
    assert!(open(&table, None).unwrap_err().to_string().contains("the columns id and name"));
}

#[test]
fn places_only_asks_for_no_photograph() {
    let dir = tempfile::tempdir().unwrap();
    let json = put(&dir, "train_mini.json", INAT_2021);
    assert!(open(&json, None).unwrap_err().to_string().contains("photographs that do not exist"));
    let options = Options { places_only: true, ..Options::default() };
    let set = open_with(&json, &options).unwrap().dataset;
    assert!(set.rows.iter().all(|row| row.image.is_none()) && set.options.places_only);
}

#[test]
fn photographs_are_found_where_data_sets_have_them() {
    let pictures = photographs();
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("set/train")).unwrap();
    for name in ["a.jpg", "b.jpg", "c.jpg"] {
        fs::copy(pictures.path().join(name), root.path().join("set/train").join(name)).unwrap();
    }
    let json = put(&root, "set/metadata/x_train_annotations.json", INAT_2021);
    let table = put(&root, "set/metadata/t.csv", "image_path,lat,lon\na.jpg,1.5,2.5\n,1.5,3.5\n");
    for index in [&json, &table] {
        let Opened { dataset: set, notes, .. } = opened(index);
        assert_eq!(open(index, None).err().map(|error| error.to_string()), None);
        let image = set.rows[0].image.as_deref().unwrap();
        assert!(image.ends_with("set/train/a.jpg") && image.is_file(), "{}", image.display());
        assert!(notes.iter().any(|note| note.starts_with("photographs in")), "{notes:?}");
        assert_eq!(set.options.images, None);
    }
    assert_eq!(opened(&table).dataset.rows[1].image, None);
    // or where one says they are
    let elsewhere = put(&root, "lone/deep/t.csv", "image_path,lat,lon\na.jpg,1.5,2.5\n");
    assert!(open(&elsewhere, None).unwrap_err().to_string().contains("--images DIR"));
    let options = Options { images: Some(root.path().join("set/train")), ..Options::default() };
    let set = open_with(&elsewhere, &options).unwrap().dataset;
    assert!(set.rows[0].image.as_deref().is_some_and(Path::is_file));
    assert_eq!(open_with(&elsewhere, &set.options).unwrap().dataset.sha256, set.sha256);
    let options = Options { images: Some(elsewhere.clone()), ..options };
    assert!(open_with(&elsewhere, &options).unwrap_err().to_string().contains("not a folder"));
    let options = Options { images: Some(root.path().into()), ..options };
    assert!(open_with(pictures.path(), &options).unwrap_err().to_string().contains("--images"));
}

#[test]
fn a_plan_takes_the_place_of_given_splits() {
    let dir = photographs();
    let rows: String = "abcdef"
        .chars()
        .enumerate()
        .map(|(i, name)| format!("{name}.jpg,{i}.5,2,x,{}\n", ["val", "train", "test"][i % 3]))
        .collect();
    let table = write(&dir, "t.csv", &format!("image_path,lat,lon,label,split\n{rows}"));
    let given = open(&table, None).unwrap().dataset;
    let split = Some(SplitPlan { by: SplitBy::Random, val: 0.5, seed: 3 });
    let Opened { dataset, notes, .. } =
        open_with(&table, &Options { split: split.clone(), ..Options::default() }).unwrap();
    assert!(
        notes.iter().any(|note| note.contains("2 train, 2 val") && note.contains("2 test rows stay")),
        "{notes:?}"
    );
    assert_eq!(dataset.rows[2].split, Some(Split::Test));
    assert_ne!(dataset.sha256, given.sha256, "the digest tells the splits apart");
    assert_eq!(dataset.options.split, split, "and the options how to get them again");
}

#[test]
fn a_folder_of_tiles() {
    let dir = tempfile::tempdir().unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/geotiff");
    for (name, file) in
        [("forest/a.tif", "rgb8_deflate_4326.tif"), ("river/b.TIFF", "u16_rgb_32633_big_endian.tif")]
    {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(fixtures.join(file), path).unwrap();
    }
    let Opened { dataset: set, notes, problems, .. } = opened(dir.path());
    assert_eq!(problems.iter().count(), 0);
    assert!(notes.iter().any(|note| note.contains("2 TIFF tiles")), "{notes:?}");
    assert_eq!((class(&set, 1), set.rows[1].place.map(|p| p.lat().floor())), (Some("river"), Some(56.0)));
    let report = check::check(dir.path(), &Options::default(), true, |_| || ());
    assert_eq!(report.images.as_ref().map(|images| (images.photographs, images.unreadable)), Some((2, 0)));
    assert!(notes.iter().any(|note| note.contains("2 tiles of 3 bands: bands 1, 2 and 3")), "{notes:?}");
    // of many bands nobody knows the order: said
    fs::copy(fixtures.join("u16_5band_planar_32733.tif"), dir.path().join("river/many.tif")).unwrap();
    let (_, problems) = found(dir.path());
    assert_eq!(problems, [(Kind::SomeBands, 1)]);
    fs::remove_file(dir.path().join("river/many.tif")).unwrap();
    // another system is refused with its code
    let mut bytes = fs::read(fixtures.join("rgb8_deflate_4326.tif")).unwrap();
    let at = bytes.windows(2).position(|pair| pair == 4326u16.to_le_bytes()).unwrap();
    bytes[at..at + 2].copy_from_slice(&4267u16.to_le_bytes());
    fs::write(dir.path().join("forest/c.tif"), bytes).unwrap();
    let error = open(dir.path(), None).unwrap_err().to_string();
    assert!(error.contains("forest/c.tif") && error.contains("EPSG:4267"), "{error}");
}

/// Every format cut anywhere or with bytes changed is read or refused, and never panics.
#[test]
fn damage_never_panics() {
    let dir = photographs();
    let files: Vec<(&str, Format, &str)> = vec![
        ("train2018.json", Format::INaturalist, INAT_2018),
        ("train_mini.json", Format::INaturalist, INAT_2021),
        ("birds.json", Format::GeoPrior, BIRDS),
        ("x_rgb.json", Format::Fmow, FMOW),
        ("train2018_locations.json", Format::GeoPrior, INAT_2018_LOCATIONS),
    ];
    let package = camtrap_dp();
    let tables = ["datapackage.json", "deployments.csv", "media.csv", "observations.csv"];
    let whole = tables.map(|name| fs::read_to_string(package.path().join(name)).unwrap());
    let damage = |text: &str, cut: f64, at: f64, byte: u8| {
        let mut bytes = text.as_bytes()[..(cut * text.len() as f64) as usize].to_vec();
        let at = (at * bytes.len() as f64) as usize;
        if let Some(there) = bytes.get_mut(at) {
            *there = byte;
        }
        bytes
    };
    let cases = ProptestConfig { cases: 200, ..ProptestConfig::default() };
    proptest!(cases, |(which in 0usize..9, cut in 0.0f64..=1.0, cuts: bool, at in 0.0f64..1.0, byte: u8)| {
        let cut = if cuts { cut } else { 1.0 };
        if let Some((name, format, text)) = files.get(which) {
            let folder = dir.path().join("damaged");
            fs::create_dir_all(&folder).unwrap();
            let path = folder.join(name);
            fs::write(&path, damage(text, cut, at, byte)).unwrap();
            for format in [None, Some(*format)] {
                let path = if *name == "x_rgb.json" { &folder } else { &path };
                let locations = Some(folder.join("train2018_locations.json")).filter(|path| path.exists());
                let _ = inspect(path, &Options { format, locations, ..Options::default() });
            }
        } else {
            let i = which - files.len();
            fs::write(package.path().join(tables[i]), damage(&whole[i], cut, at, byte)).unwrap();
            let _ = inspect(package.path(), &Options::default());
            fs::write(package.path().join(tables[i]), &whole[i]).unwrap();
        }
    });
}

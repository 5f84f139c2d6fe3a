//! Camtrap DP packages: a synthetic one as the standard's example is laid out, and broken ones.

use std::fs;

use tempfile::TempDir;

use super::{
    formats_tests::{class, opened, place},
    problem::Kind,
    tests::{found, photographs, write},
    *,
};

/// A package as the standard's example has it, two cameras at one location.
pub(super) fn camtrap_dp() -> TempDir {
    let dir = photographs();
    write(
        &dir,
        "datapackage.json",
        r#"{"resources": [{"name": "deployments", "path": "deployments.csv", "profile": "tabular-data-resource"}, {"name": "media", "path": "media.csv"}, {"name": "observations", "path": "observations.csv"}, {"name": "individuals", "data": [{"id": 1}]}],
      "profile": "https://raw.githubusercontent.com/tdwg/camtrap-dp/1.0.2/camtrap-dp-profile.json", "created": "2023-02-06T11:23:03Z",
      "taxonomic": [{"scientificName": "Vulpes vulpes", "taxonRank": "species", "family": "Canidae", "order": "Carnivora"}]}"#,
    );
    write(
        &dir,
        "deployments.csv",
        "deploymentID,locationID,locationName,latitude,longitude,coordinateUncertainty,deploymentStart,deploymentEnd,cameraID\n\
      d1,l1,\"wood, north\",51.5,4.75,187,2020-05-30T04:00:00+02:00,2020-07-01T11:00:00+02:00,320\n\
      d2,l1,\"wood, north\",51.5,4.75,187,2021-05-30T04:00:00+02:00,2021-07-01T11:00:00+02:00,320\n\
      d3,,marsh,52.5,5.75,,2021-05-30T04:00:00+02:00,2021-07-01T11:00:00+02:00,321\n",
    );
    write(
        &dir,
        "media.csv",
        "mediaID,deploymentID,captureMethod,timestamp,filePath,filePublic,fileName,fileMediatype,exifData,favorite,mediaComments\n\
      m1,d1,activityDetection,2020-06-01T04:57:37+02:00,a.jpg,true,a.jpg,image/jpeg,,,\n\
      m2,d1,activityDetection,2020-06-01T04:57:40+02:00,b.jpg,true,b.jpg,image/jpeg,,,\n\
      m3,d2,activityDetection,2021-06-01T04:57:40+02:00,c.jpg,true,c.jpg,image/jpeg,,,\n\
      m4,d3,activityDetection,2021-06-01T04:57:40+02:00,https://example.org/d/file,true,d.jpg,image/jpeg,,,\n\
      m5,d3,activityDetection,2021-06-02T04:57:40+02:00,gone.jpg,true,gone.jpg,image/jpeg,,,\n\
      m6,d3,activityDetection,2021-06-03T04:57:40+02:00,e.mp4,true,e.mp4,video/mp4,,,\n\
      m7,d3,activityDetection,2021-06-04T04:57:40+02:00,f.jpg,true,f.jpg,image/jpeg,,,\n",
    );
    write(
        &dir,
        "observations.csv",
        "observationID,deploymentID,mediaID,eventID,eventStart,eventEnd,observationLevel,observationType,cameraSetupType,scientificName,count\n\
      o1,d1,m1,e1,2020-06-01T02:57:37Z,2020-06-01T02:57:37Z,media,animal,,Vulpes vulpes,1\n\
      o2,d1,,e1,2020-06-01T02:57:37Z,2020-06-01T02:57:44Z,event,animal,,Vulpes vulpes,1\n\
      o3,d2,m3,e2,2021-06-01T02:57:40Z,2021-06-01T02:57:40Z,media,human,,Homo sapiens,1\n\
      o4,d3,m4,e3,2021-06-01T02:57:40Z,2021-06-01T02:57:40Z,media,blank,,,\n\
      o5,d3,m5,e4,2021-06-02T02:57:40Z,2021-06-02T02:57:40Z,media,unknown,,,\n\
      o6,d3,m7,e5,2021-06-04T02:57:40Z,2021-06-04T02:57:40Z,media,animal,,Vulpes vulpes,1\n\
      o7,d3,m7,e5,2021-06-04T02:57:40Z,2021-06-04T02:57:40Z,media,animal,,Lutra lutra,2\n",
    );
    dir
}

#[test]
fn a_camtrap_dp_package() {
    let dir = camtrap_dp();
    for path in [dir.path().to_path_buf(), dir.path().join("datapackage.json")] {
        let Opened { dataset: set, format, notes, problems } = opened(&path);
        assert_eq!((format, set.rows.len()), (Format::CamtrapDp, 7));
        let kinds: Vec<_> = problems.iter().map(|p| (p.kind, p.count)).collect();
        let expected = [
            (Kind::RemoteImage, 1),
            (Kind::AbsentMedia, 1),
            (Kind::NotAPicture, 1),
            (Kind::SeveralClasses, 1),
        ];
        assert_eq!(kinds, expected);
        let classes: Vec<_> = (0..7).map(|row| class(&set, row)).collect();
        // m2 has no observation of its own and falls into an event
        let expected =
            [Some("Vulpes vulpes"), Some("Vulpes vulpes"), Some("human"), Some("blank"), None, None, None];
        assert_eq!(classes, expected);
        assert!(notes[0].contains("3 by their own observations, 1 by the event"), "{notes:?}");
        assert_eq!((set.rows[0].place, set.rows[0].uncertainty_m), (place(51.5, 4.75), Some(187.0)));
        assert_eq!((set.rows[3].place, &set.rows[3].image), (place(52.5, 5.75), &None));
        let cameras: Vec<_> = set.rows.iter().map(|row| row.camera.as_deref().unwrap()).collect();
        assert_eq!(cameras, ["l1", "l1", "l1", "marsh", "marsh", "marsh", "marsh"]);
        let fox = set.labels.find("Vulpes vulpes").unwrap();
        let lineage: Vec<&str> = set.labels.0[fox.index()].lineage.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(lineage, ["Carnivora", "Canidae"]);
        // location l1 was used twice and stays on one side
        let split = Some(SplitPlan { by: SplitBy::Camera, ..SplitPlan::default() });
        let rows = open_with(&path, &Options { split, ..Options::default() }).unwrap().dataset.rows;
        assert!(rows[..3].iter().all(|row| row.split == rows[0].split) && rows[3].split != rows[0].split);
    }
}

#[test]
fn camtrap_dp_that_is_broken() {
    let dir = camtrap_dp();
    let original = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    for (name, from, to, says) in [
        ("datapackage.json", "\"media\"", "\"pictures\"", "no resource \"media\""),
        ("datapackage.json", "\"media.csv\"", "\"../media.csv\"", "leaves the package"),
        ("datapackage.json", "\"media.csv\"", "\"/etc/passwd\"", "leaves the package"),
        ("datapackage.json", "\"media.csv\"", "\"http://x/media.csv\"", "download"),
        ("datapackage.json", "\"media.csv\"", "\"media.csv.gz\"", "unpack"),
        ("datapackage.json", "\"media.csv\"", "[\"a.csv\", \"b.csv\"]", "one `path`"),
        ("deployments.csv", "latitude", "breadth", "no column \"latitude\""),
        ("deployments.csv", "51.5,4.75", "4.75,151.5", "line 2: lat 4.75"),
        ("deployments.csv", "51.5,4.75", "x,4.75", "deployments.csv: line 2, column \"latitude\": \"x\""),
        ("media.csv", "m1,d1", "m1,d9", "no deployment \"d9\""),
        ("media.csv", "m2,d1", "m1,d1", "mediaID \"m1\""),
    ] {
        let whole = original(name);
        write(&dir, name, &whole.replacen(from, to, 1));
        let error = open(dir.path(), None).map(|_| ()).map_err(|error| error.to_string());
        if says == "line 2: lat 4.75" {
            // not swapped, and far from the other deployment of that location: nothing can tell
            assert_eq!(error, Ok(()));
        } else {
            let error = error.unwrap_err();
            assert!(error.contains(says), "{to}: {error}");
        }
        write(&dir, name, &whole);
    }
    let whole = original("observations.csv");
    write(&dir, "observations.csv", &whole.replace("human", "ghost"));
    assert!(found(dir.path()).1.contains(&(Kind::UnknownObservation, 1)));
}

#[test]
fn what_nobody_looked_at_yet_shows_what_its_event_does() {
    let dir = camtrap_dp();
    let whole = fs::read_to_string(dir.path().join("observations.csv")).unwrap();
    for (kind, expected) in [("unclassified", Some("Vulpes vulpes")), ("unknown", None)] {
        let more = format!("o8,d1,m2,e1,2020-06-01T02:57:40Z,2020-06-01T02:57:40Z,media,{kind},,,\n");
        write(&dir, "observations.csv", &(whole.clone() + &more));
        assert_eq!(class(&opened(dir.path()).dataset, 1), expected, "{kind}");
    }
}

#[test]
fn a_media_type_as_people_write_it() {
    let dir = camtrap_dp();
    let whole = fs::read_to_string(dir.path().join("media.csv")).unwrap();
    for (kind, pictures) in [("image/jpg", 4), ("image/JPEG", 4), ("video/mp4", 0)] {
        write(&dir, "media.csv", &whole.replace("image/jpeg", kind));
        let set = opened(dir.path()).dataset;
        assert_eq!(set.rows.iter().filter(|row| row.image.is_some()).count(), pictures, "{kind}");
    }
    // a file that is none is none, whatever is said of it
    fs::write(dir.path().join("a.jpg"), b"RIFF....WEBP").unwrap();
    write(&dir, "media.csv", &whole.replace("image/jpeg", "image/webp"));
    assert!(found(dir.path()).1.contains(&(Kind::NotAPicture, 2)));
}

#[test]
fn a_package_of_before_1_0_is_joined_by_sequence() {
    let dir = camtrap_dp();
    let media = "mediaID,deploymentID,sequenceID,captureMethod,timestamp,filePath,fileName,fileMediatype\n\
      m1,d1,s1,motionDetection,2020-06-01T04:57:37+02:00,a.jpg,a.jpg,image/jpeg\n\
      m2,d1,s1,motionDetection,2020-06-01T04:57:40+02:00,b.jpg,b.jpg,image/jpeg\n\
      m3,d2,s2,motionDetection,2021-06-01T04:57:40+02:00,c.jpg,c.jpg,image/jpeg\n\
      m4,d2,s3,motionDetection,2021-06-02T04:57:40+02:00,d.jpg,d.jpg,image/jpeg\n";
    let observations = "observationID,deploymentID,sequenceID,mediaID,timestamp,observationType,cameraSetup,taxonID,scientificName,count\n\
      o1,d1,s1,,2020-06-01T04:57:37+02:00,animal,,,Vulpes vulpes,1\n\
      o2,d2,s2,,2021-06-01T04:57:40+02:00,blank,,,,\n\
      o3,d2,s3,,2021-06-02T04:57:40+02:00,unclassified,,,,\n\
      o4,d1,s1,m2,2020-06-01T04:57:40+02:00,human,,,,\n";
    write(&dir, "media.csv", media);
    write(&dir, "observations.csv", observations);
    let Opened { dataset: set, notes, .. } = opened(dir.path());
    let classes: Vec<_> = (0..4).map(|row| class(&set, row)).collect();
    assert_eq!(classes, [Some("Vulpes vulpes"), Some("human"), Some("blank"), None]);
    assert!(notes[0].contains("2 by the sequence they belong to, 1 not observed"), "{notes:?}");
    // without the column that joins them
    write(&dir, "media.csv", &media.replace("sequenceID", "sequence"));
    let error = open(dir.path(), None).unwrap_err().to_string();
    assert!(error.contains("media.csv") && error.contains("Camtrap DP before 1.0"), "{error}");
    write(&dir, "media.csv", media);
    write(&dir, "observations.csv", &observations.replace("sequenceID", "sequence"));
    let error = open(dir.path(), None).unwrap_err().to_string();
    assert!(error.contains("line 2") && error.contains("Camtrap DP before 1.0"), "{error}");
    // a table in another format is named as such
    fs::write(dir.path().join("media.csv"), b"PAR1....").unwrap();
    let error = open(dir.path(), None).unwrap_err().to_string();
    assert!(error.contains("media.csv: a Parquet file; write it as CSV"), "{error}");
}

//! `csp-device run --config` with a `[privacy]` section, on files: what lies on the card afterwards.

use std::{fs, path::Path};

use csp_device::store;
use csp_models::{
    record::{Entry, Event, Picture, PredictionRecord},
    seal::{self, Identity},
};
use sha2::{Digest, Sha256};

use crate::{
    field::{FOLDER, entries, events, run_once, run_until, selftest, trap},
    fixture,
};

fn predictions(dir: &Path) -> Vec<PredictionRecord> {
    let all = entries(dir).into_iter().filter_map(|entry| match entry {
        Entry::Prediction(record) => Some(record),
        _ => None,
    });
    all.collect()
}

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.file_name().unwrap().to_string_lossy().into(), fs::read(&path).unwrap()));
        }
    }
    found
}

#[test]
fn people_leave_a_record_and_no_picture() {
    // the fixture knows no people: its lynx stands for one
    let dir = trap(&format!("{FOLDER}[privacy]\nsuppress = [\"human\"]\nhuman = [\"Lynx\"]\n"));
    run_once(dir.path());
    let records = predictions(dir.path());
    let lynx = |record: &&PredictionRecord| {
        record.candidates.iter().any(|c| c.name == "lynx" && (c.image >= 0.25 || c.fused >= 0.25))
    };
    assert!(records.iter().any(|record| lynx(&record)), "{records:?}");
    for record in &records {
        let stored = dir.path().join("store/pictures").join(&record.image).exists();
        let suppressed = Picture::Suppressed { group: "human".into() };
        assert_eq!(
            (stored, &record.picture),
            if lynx(&record) { (false, &suppressed) } else { (true, &Picture::Kept) }
        );
    }
    let gone: Vec<_> = records.iter().filter(lynx).map(|record| fixture::png_of(&record.image)).collect();
    assert!(files(&dir.path().join("store")).iter().all(|(_, bytes)| !gone.contains(bytes)));
    assert!(events(dir.path()).iter().all(|event| !matches!(event, Event::Note { .. })));
}

#[test]
fn a_model_that_knows_no_people_is_said_to_keep_them() {
    let dir = trap(&format!("{FOLDER}[privacy]\nhuman = [\"rangr\"]\n"));
    run_once(dir.path());
    let notes = format!("{:?}", events(dir.path()));
    assert!(notes.contains("rangr") && notes.contains("no class that is human or vehicle"), "{notes}");
    assert_eq!(predictions(dir.path()).iter().filter(|r| r.picture == Picture::Kept).count(), 2);
    let (_, report) = selftest(dir.path(), &[]);
    assert!(report.to_string().contains("no class that is human or vehicle"), "{report:#}");
}

#[test]
fn who_takes_the_card_reads_neither_places_nor_pictures() {
    let key = Identity::generate().unwrap();
    let more = format!(
        "{FOLDER}[site]\nlat = -1.2921\nlon = 36.8219\n[privacy]\nsuppressed = \"seal\"\nseal_to = \"{}\"\n",
        key.recipient()
    );
    let dir = trap(&more);
    fs::create_dir(dir.path().join("state")).unwrap();
    fs::write(dir.path().join("state/place"), "from before there was a key").unwrap();
    run_once(dir.path());

    let keys = [key];
    let records = predictions(dir.path());
    assert_eq!(records.len(), 2);
    for (index, record) in records.iter().enumerate() {
        assert_eq!((record.place, &record.picture), (None, &Picture::Sealed));
        assert_eq!(record.provenance.as_str(), "image+configured_site");
        let path = dir.path().join("store/pictures").join(store::sealed_name(&record.image));
        let plain = seal::open(&keys, &fs::read(path).unwrap()).unwrap();
        assert_eq!((&plain, record.image_sha256), (&fixture::png(index), Sha256::digest(&plain).into()));
        let mut entry = Entry::Prediction(record.clone());
        assert_eq!(seal::open_entry(&keys, &mut entry), Ok(true));
        let Entry::Prediction(opened) = entry else { unreachable!() };
        assert_eq!(opened.place.unwrap().at.lat(), -1.2921);
    }
    let secrets = [(-1.2921f64).to_le_bytes().to_vec(), fixture::png(0), b"-1.29".to_vec()];
    for (name, bytes) in files(&dir.path().join("store")).into_iter().chain(files(&dir.path().join("state")))
    {
        for secret in &secrets {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret), "{name}");
        }
    }
    assert!(!dir.path().join("state/place").exists());
    assert!(format!("{:?}", events(dir.path())).contains("site.lat"), "what it cannot hide it says");

    // the sealed files are known again at the next start
    run_once(dir.path());
    assert_eq!(predictions(dir.path()).len(), 2);
    let names: Vec<String> = files(&dir.path().join("store/pictures")).into_iter().map(|f| f.0).collect();
    assert!(names.len() == 2 && names.iter().all(|name| name.ends_with(".png.age")), "{names:?}");
}

#[test]
fn a_kept_picture_says_when_and_by_which_trap_it_was_taken() {
    let more = "[camera]\ncommand = [\"cat\", \"DIR/a.jpg\"]\n[model]\npath = \"DIR/m.cspm\"\n\
                [site]\nlat = -1.2921\nlon = 36.8219\n[timelapse]\nevery_minutes = 0.003\n\
                [burst]\nframes = 1\ncool_down_s = 0.0\n[privacy]\nplace_in_pictures = true\nsuppress = []\n";
    let dir = trap(more);
    let picture =
        csp_models::picture::RgbImage::from_fn(64, 48, |x, y| image::Rgb([x as u8 * 3, y as u8, 9]));
    fs::write(dir.path().join("a.jpg"), csp_models::picture::encode_jpeg(&picture, 90).unwrap()).unwrap();
    run_until(dir.path(), |entries| entries.iter().any(|entry| matches!(entry, Entry::Prediction(_))));
    let record = predictions(dir.path()).remove(0);
    let stored = fs::read(dir.path().join("store/pictures").join(&record.image)).unwrap();
    assert_eq!(
        record.image_sha256,
        <[u8; 32]>::from(Sha256::digest(&stored)),
        "of the file as it lies there"
    );
    let data = exif::Reader::new().read_from_container(&mut std::io::Cursor::new(&stored)).unwrap();
    let text = |tag| data.get_field(tag, exif::In::PRIMARY).map(|f| f.display_value().to_string()).unwrap();
    let date = record.time.to_string();
    assert!(text(exif::Tag::DateTimeOriginal).starts_with(&date[..10]), "{date}");
    assert!(text(exif::Tag::Model).contains("t1"));
    assert_eq!(text(exif::Tag::GPSLatitudeRef), "S");
    assert!(
        text(exif::Tag::GPSLatitude).starts_with("1 deg 17 min 31.56"),
        "{}",
        text(exif::Tag::GPSLatitude)
    );
    let reread = csp_models::picture::decode(Path::new("a"), &stored).unwrap();
    let source = fs::read(dir.path().join("a.jpg")).unwrap();
    assert_eq!(reread, csp_models::picture::decode(Path::new("a"), &source).unwrap(), "not a pixel changed");
}

#[test]
fn only_a_trusted_makers_model_is_run() {
    let trusted = "[model]\npath = \"DIR/m.cspm\"\ntrust = [\"RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\"]\n";
    let dir = trap(&format!("[camera]\nkind = \"folder\"\nfolder = \"DIR/desk\"\n{trusted}"));
    run_once(dir.path());
    let failures: Vec<String> = entries(dir.path())
        .into_iter()
        .filter_map(|entry| if let Entry::Failure(record) = entry { Some(record.error) } else { None })
        .collect();
    assert_eq!(failures.len(), 2, "the pictures are recorded nevertheless");
    assert!(failures.iter().all(|error| error.contains("not signed")), "{failures:?}");
    assert!(events(dir.path()).iter().any(|event| matches!(event, Event::ModelFault { .. })));
    let (exit, report) = selftest(dir.path(), &[]);
    assert_eq!(exit, csp_device::cli::Exit::Failed);
    assert!(report.to_string().contains("model sign"), "{report:#}");
}

//! Bad input: a clear error that names file and field, exit code ≠ 0, nothing half-written.

use std::{collections::BTreeMap, fs, path::Path};

use csp_models::{bundle::Bundle, manifest::file};
use csp_tests::{SmallDisk, assert_fails, demo, device, host, json, stdout, text};

fn lines(dir: &Path) -> Vec<String> {
    let table = fs::read_to_string(demo().join("sample/table.csv")).unwrap();
    // absolute picture paths, so that the copy can lie elsewhere
    let sample = demo().join("sample");
    let _ = dir;
    table
        .lines()
        .enumerate()
        .map(|(i, line)| if i == 0 { line.into() } else { format!("{}/{line}", sample.display()) })
        .collect()
}

/// The demo's table with a change, as a file in `dir`.
fn table(dir: &Path, change: impl FnOnce(&mut Vec<String>)) -> String {
    let mut lines = lines(dir);
    change(&mut lines);
    let path = dir.join("changed.csv");
    fs::write(&path, lines.join("\n")).unwrap();
    text(&path).to_string()
}

/// Replaces a field (by its column name) of a row.
fn set(lines: &mut [String], row: usize, column: &str, value: &str) {
    let index = lines[0].split(',').position(|name| name == column).unwrap();
    let mut fields: Vec<&str> = lines[row].split(',').collect();
    fields[index] = value;
    lines[row] = fields.join(",");
}

#[test]
fn tables_that_would_poison_training_are_refused() {
    type Change = fn(&mut Vec<String>);
    let cases: [(&str, Change, &[&str]); 7] = [
        ("no lat", |l| l[0] = l[0].replace("lat,", "height,"), &["changed.csv", "lat"]),
        ("text in lat", |l| set(l, 3, "lat", "north"), &["changed.csv", "north", "lat"]),
        ("lat out of range", |l| set(l, 3, "lat", "95.5"), &["changed.csv", "95.5"]),
        ("NaN", |l| set(l, 3, "lon", "NaN"), &["changed.csv", "NaN"]),
        (
            "null island",
            |l| {
                set(l, 3, "lat", "0");
                set(l, 3, "lon", "0")
            },
            &["changed.csv", "0"],
        ),
        ("missing picture", |l| set(l, 3, "image_path", "nowhere.jpg"), &["nowhere.jpg"]),
        ("half a place", |l| set(l, 3, "lat", ""), &["changed.csv", "lat"]),
    ];
    for (name, change, words) in cases {
        let dir = tempfile::tempdir().unwrap();
        let table = table(dir.path(), change);
        let run = dir.path().join("run");
        let output = host(&["train", "--quiet", "--data", &table, "--out", text(&run)]);
        assert_fails(&output, 1, words);
        assert!(!run.exists(), "{name}: the run directory was made");
        assert_fails(&host(&["data", "check", &table]), 1, &[]);
    }
}

#[test]
fn a_truncated_picture_stops_training_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let jpeg = fs::read_dir(demo().join("trap/desk")).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read(jpeg).unwrap();
    let cut = dir.path().join("cut.jpg");
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let table = table(dir.path(), |l| set(l, 5, "image_path", text(&cut)));
    let output = host(&["train", "--quiet", "--data", &table, "--out", text(&dir.path().join("run"))]);
    assert_fails(&output, 1, &["cut.jpg", "truncated"]);
    let model = demo().join("model.cspm");
    assert_fails(&device(&["classify", text(&model), text(&cut)]), 1, &["cut.jpg", "truncated"]);
    assert_fails(&device(&["classify", text(&model), "nowhere.jpg"]), 1, &["nowhere.jpg"]);
}

#[test]
fn unknown_classes_count_as_wrong_and_none_known_stops_evaluation() {
    let dir = tempfile::tempdir().unwrap();
    let one = table(dir.path(), |l| set(l, 2, "label", "unicorn"));
    for model in ["run", "model.cspm"] {
        let output = host(&["eval", text(&demo().join(model)), "--data", &one]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.contains("count as wrong: unicorn (1)"), "{said}");
        let table = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(table.lines().any(|line| line.starts_with("unicorn")), "{table}");
    }
    let all = table(dir.path(), |l| (1..l.len()).for_each(|row| set(l, row, "label", "unicorn")));
    let output = host(&["eval", text(&demo().join("model.cspm")), "--data", &all]);
    assert_fails(&output, 1, &["unicorn", "rename"]);
}

#[test]
fn swapped_or_half_places_are_usage_errors() {
    let model = demo().join("model.cspm");
    let picture = fs::read_dir(demo().join("trap/desk")).unwrap().next().unwrap().unwrap().path();
    let classify = |place: &[&str]| device(&[&["classify", text(&model), text(&picture)], place].concat());
    assert_fails(&classify(&["--lat", "118.25", "--lon", "34.05"]), 2, &["swapped"]);
    assert_fails(&classify(&["--lat", "34.05"]), 2, &["--lon"]);
    assert_fails(&classify(&["--lat", "NaN", "--lon", "3"]), 2, &[]);
}

/// The demo's bundle as a directory of files, to be broken.
fn unpacked(dir: &Path) -> Bundle {
    let bundle = Bundle::open(&demo().join("model.cspm")).unwrap();
    for name in bundle.manifest.files.keys() {
        fs::write(dir.join(name), bundle.file(name).unwrap()).unwrap();
    }
    fs::write(dir.join(file::MANIFEST), serde_json::to_vec(&bundle.manifest).unwrap()).unwrap();
    bundle
}

#[test]
fn a_bundle_that_does_not_verify_is_refused() {
    let picture = fs::read_dir(demo().join("trap/desk")).unwrap().next().unwrap().unwrap().path();
    let check = |dir: &Path, words: &[&str]| {
        assert_fails(&device(&["classify", text(dir), text(&picture)]), 3, words);
        assert_fails(&host(&["model", "inspect", text(dir)]), 3, words);
    };
    let dir = tempfile::tempdir().unwrap();
    unpacked(dir.path());
    let onnx = dir.path().join(file::IMAGE);
    let mut bytes = fs::read(&onnx).unwrap();
    bytes[1000] ^= 1;
    fs::write(&onnx, bytes).unwrap();
    check(dir.path(), &["image.onnx", "SHA-256"]);
    fs::remove_file(&onnx).unwrap();
    check(dir.path(), &["image.onnx", "missing"]);

    unpacked(dir.path());
    let manifest = dir.path().join(file::MANIFEST);
    let mut newer: serde_json::Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    newer["schema"] = 99.into();
    fs::write(&manifest, newer.to_string()).unwrap();
    check(dir.path(), &["schema", "99"]);
}

#[test]
fn a_corrupt_network_with_good_digests_is_an_error_not_a_panic() {
    let picture = fs::read_dir(demo().join("trap/desk")).unwrap().next().unwrap().unwrap().path();
    let dir = tempfile::tempdir().unwrap();
    let bundle = Bundle::open(&demo().join("model.cspm")).unwrap();
    let original: BTreeMap<String, Vec<u8>> = bundle
        .manifest
        .files
        .keys()
        .map(|name| (name.clone(), bundle.file(name).unwrap().to_vec()))
        .collect();
    for (name, damage) in [
        (file::IMAGE, b"not onnx".to_vec()),
        (file::IMAGE, original[file::IMAGE][..original[file::IMAGE].len() / 2].to_vec()),
        (file::LOCATION, vec![0xff; 4096]),
        (file::LOCATION, original[file::IMAGE].clone()),
    ] {
        let mut files = original.clone();
        files.insert(name.into(), damage);
        let broken = Bundle::assemble(bundle.manifest.clone(), files).unwrap();
        let path = dir.path().join("broken.cspm");
        broken.write(&path).unwrap();
        let output = device(&["classify", text(&path), text(&picture), "--lat", "1", "--lon", "1"]);
        let code = output.status.code().unwrap();
        assert!(code == 1 || code == 3, "exit code {code}");
        assert_fails(&output, code, &[name]);
    }
}

#[test]
fn a_receiver_that_talks_noise_leaves_the_place_unknown_and_fails_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let noise: Vec<u8> = (0..200_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let (nmea, store) = (dir.path().join("noise"), dir.path().join("store"));
    fs::write(&nmea, noise).unwrap();
    let trap = demo().join("trap/desk");
    let model = demo().join("model.cspm");
    let output = device(&[
        "run",
        "--once",
        "--desk",
        text(&trap),
        "--nmea",
        text(&nmea),
        "--model",
        text(&model),
        "--store",
        text(&store),
    ]);
    assert_fails(&output, 1, &["--nmea", "noise", "no NMEA sentence"]);
    let logs = json(host(&["logs", "show", text(&store), "--json"]));
    let records = logs["records"].as_array().unwrap();
    assert_eq!(records.len(), fs::read_dir(demo().join("trap/desk")).unwrap().count());
    for record in records {
        assert!(record["place"].is_null());
        assert_eq!(record["provenance"], "image");
        assert_eq!(record["image_top"], record["fused_top"]);
    }
}

#[test]
fn a_store_cut_anywhere_shows_everything_before_the_cut() {
    let store = demo().join("store");
    let segment = fs::read_dir(&store)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|e| e == "seg"))
        .unwrap();
    let bytes = fs::read(&segment).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for cut in (1..=12).map(|i| bytes.len() * i / 12 - 3) {
        fs::write(dir.path().join("000001.seg"), &bytes[..cut]).unwrap();
        let logs = json(host(&["logs", "show", text(dir.path()), "--json"]));
        let whole = bytes[..cut].iter().filter(|&&byte| byte == 0).count().saturating_sub(1);
        assert_eq!(logs["records"].as_array().unwrap().len(), whole, "cut at {cut}");
        assert!(!logs["damage"].as_array().unwrap().is_empty());
    }
}

#[test]
fn a_full_disk_is_said_and_leaves_nothing_half_written() {
    let Some(disk) = SmallDisk::mount(160) else { return };
    let table = demo().join("sample/table.csv");
    let output = host(&["train", "--quiet", "--data", text(&table), "--out", text(&disk.path().join("run"))]);
    assert_fails(&output, 1, &["No space left"]);

    let Some(disk) = SmallDisk::mount(160) else { return };
    let model = disk.path().join("model.cspm");
    fs::write(disk.path().join("ballast"), vec![1; 100_000]).unwrap();
    let output = host(&[
        "export",
        text(&demo().join("run")),
        "--quantize",
        "int8",
        "--force",
        "-o",
        text(&model),
        "--quiet",
    ]);
    assert_fails(&output, 1, &["No space left"]);
    assert!(!model.exists());
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 1, "only the ballast is left");

    // room for the store's first page: the disk fills while the trap is running
    let Some(disk) = SmallDisk::mount(64) else { return };
    fs::write(disk.path().join("ballast"), vec![1; 15 * 4096]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut triggers = 0;
    for entry in fs::read_dir(demo().join("trap/desk")).unwrap() {
        for copy in 0..4 {
            let path = entry.as_ref().unwrap().path();
            let name = format!("{copy}-{}", path.file_name().unwrap().to_str().unwrap());
            fs::copy(&path, dir.path().join(name)).unwrap();
            triggers += 1;
        }
    }
    let (model, store) = (demo().join("model.cspm"), disk.path().join("store"));
    let run = || {
        device(&[
            "run",
            "--once",
            "--desk",
            text(dir.path()),
            "--model",
            text(&model),
            "--store",
            text(&store),
        ])
    };
    let shown = || json(host(&["logs", "show", text(&store), "--json"]));
    let count = |logs: &serde_json::Value| logs["records"].as_array().unwrap().len();
    assert_fails(&run(), 1, &["disk is full"]);
    let before = shown();
    assert!((1..triggers).contains(&count(&before)), "{before:#}");
    // room again: the same command goes on where it stopped, and nothing acknowledged is lost
    fs::remove_file(disk.path().join("ballast")).unwrap();
    stdout(run());
    let after = shown();
    assert_eq!(count(&after), triggers);
    let prefix = &after["records"].as_array().unwrap()[..count(&before)];
    assert_eq!(prefix, before["records"].as_array().unwrap().as_slice());
}

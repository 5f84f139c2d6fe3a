//! The verbs on files: numbers, exit codes, restarts.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use clap::Parser;
use csp_device::{
    cli::{Exit, bench, classify, run},
    store,
};
use csp_models::{
    manifest::NumberFormat,
    place::PlaceSource,
    record::{Entry, PredictionRecord},
    time::TimeSource,
};
use tempfile::TempDir;

use crate::fixture::{self, CLASSES};

#[derive(Parser)]
struct Classify {
    #[command(flatten)]
    args: classify::ClassifyArgs,
}

#[derive(Parser)]
struct Run {
    #[command(flatten)]
    args: run::RunArgs,
}

/// A folder with a model, three pictures and a recording.
fn desk() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fixture::bundle(NumberFormat::Int8).write(&dir.path().join("m.cspm")).unwrap();
    fs::create_dir(dir.path().join("desk")).unwrap();
    for index in 0..3 {
        fs::write(dir.path().join(format!("desk/{index}.png")), fixture::png(index)).unwrap();
    }
    let nmea = [
        "$GNRMC,120000.00,A,0117.5260,S,03649.3140,E,0.02,,231126,,,A*60\r\n",
        "$GNGGA,120000.00,0117.5260,S,03649.3140,E,1,09,0.92,1795.1,M,-15.3,M,,*6A\r\n",
    ];
    let sum = |line: &str| line[1..].bytes().take_while(|&b| b != b'*').fold(0, |sum, b| sum ^ b);
    let nmea: String = nmea
        .iter()
        .map(|line| format!("{}*{:02X}\r\n", line.split('*').next().unwrap(), sum(line)))
        .collect();
    fs::write(dir.path().join("gps.log"), nmea).unwrap();
    dir
}

fn classify(dir: &Path, more: &[&str]) -> (anyhow::Result<Exit>, serde_json::Value) {
    let mut words = vec!["classify".to_string(), dir.join("m.cspm").display().to_string()];
    words.extend(more.iter().map(ToString::to_string));
    words.push("--json".into());
    let args = Classify::parse_from(words).args;
    let mut out = Vec::new();
    let exit = classify::run(&args, &mut out);
    (exit, serde_json::from_slice(&out).unwrap_or_default())
}

fn pictures(dir: &Path) -> Vec<String> {
    (0..3).map(|index| dir.join(format!("desk/{index}.png")).display().to_string()).collect()
}

#[test]
fn classify_prints_what_onnxruntime_computes() {
    let dir = desk();
    let paths = pictures(dir.path());
    let (exit, report) = classify(dir.path(), &[&paths[0], &paths[1], &paths[2], "--top", "4"]);
    assert_eq!(exit.unwrap(), Exit::Done);
    for index in 0..3 {
        let logits: Vec<f64> = fixture::expected()["int8"][index]
            .as_array()
            .unwrap()
            .iter()
            .map(|logit| (logit.as_f64().unwrap() / 4.0).exp())
            .collect();
        let sum: f64 = logits.iter().sum();
        let answer = &report["results"][index];
        assert_eq!(answer["error"], serde_json::Value::Null);
        assert_eq!(answer["provenance"], "image");
        assert_eq!(answer["top"]["prior"], serde_json::Value::Null);
        let top = answer["top"]["image"].as_array().unwrap();
        assert_eq!(top.len(), 4);
        for ranked in top {
            let class = CLASSES.iter().position(|name| ranked["class"] == *name).unwrap();
            let got = ranked["probability"].as_f64().unwrap();
            assert!((got - logits[class] / sum).abs() < 1e-5, "picture {index}: {got}");
        }
    }
    assert!(report["peak_rss_kib"].as_u64().is_some_and(|peak| peak > 1000));
}

#[test]
fn a_place_in_the_southern_and_western_hemisphere_parses() {
    let dir = desk();
    let path = &pictures(dir.path())[0];
    let (exit, report) =
        classify(dir.path(), &[path, "--lat", "-33.8688", "--lon", "-151.2", "--uncertainty-m", "100"]);
    assert_eq!(exit.unwrap(), Exit::Done);
    let answer = &report["results"][0];
    assert_eq!(answer["provenance"], "image+configured_site");
    assert_eq!(answer["place"]["at"]["lat"], -33.8688);
    assert_eq!(answer["place"]["uncertainty_m"], 100.0);
    assert!(answer["top"]["prior"].is_array());
    let fused: f64 =
        answer["candidates"].as_array().unwrap().iter().map(|c| c["fused"].as_f64().unwrap()).sum();
    assert!(fused <= 1.0 + 1e-9);
    // one without the other, and what is no place
    assert!(Classify::try_parse_from(["x", "m", "i", "--lat", "1"]).is_err());
    assert_eq!(classify(dir.path(), &[path, "--lat", "95", "--lon", "1"]).0.unwrap(), Exit::Usage);
    assert_eq!(classify(dir.path(), &[path, "--lat", "nan", "--lon", "1"]).0.unwrap(), Exit::Usage);
}

#[test]
fn a_bad_picture_fails_alone() {
    let dir = desk();
    let bad = dir.path().join("bad.jpg");
    fs::write(&bad, [0xff, 0xd8, 0xff, 0xe0, 0, 4, 0, 0]).unwrap();
    let good = &pictures(dir.path())[0];
    let (exit, report) = classify(dir.path(), &[bad.to_str().unwrap(), "/nonexistent.jpg", good]);
    assert_eq!(exit.unwrap(), Exit::Failed);
    assert_eq!(report["failed"], 2);
    let errors: Vec<&str> =
        report["results"].as_array().unwrap().iter().filter_map(|answer| answer["error"].as_str()).collect();
    assert!(errors[0].contains("bad.jpg") && errors[0].contains("truncated"), "{errors:?}");
    assert!(errors[1].contains("/nonexistent.jpg"), "{errors:?}");
    assert!(report["results"][2]["decision"].is_object() || report["results"][2]["decision"] == "abstain");
}

#[test]
fn a_bad_bundle_is_refused() {
    let dir = desk();
    let path = dir.path().join("m.cspm");
    let good = &pictures(dir.path())[0];
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let error = classify(dir.path(), &[good]).0.unwrap_err();
    assert_eq!(Exit::of(&error), Exit::Refused, "{error:#}");
    // right digests, wrong network
    let mut files = fixture::files(NumberFormat::F32);
    files.insert("image.onnx".into(), b"junk".to_vec());
    let bundle = csp_models::bundle::Bundle::assemble(fixture::manifest(NumberFormat::F32), files).unwrap();
    bundle.write(&path).unwrap();
    let error = classify(dir.path(), &[good]).0.unwrap_err();
    assert_eq!(Exit::of(&error), Exit::Refused, "{error:#}");
    assert!(format!("{error:#}").contains("image.onnx"), "{error:#}");
    fs::remove_file(&path).unwrap();
    let error = classify(dir.path(), &[good]).0.unwrap_err();
    assert_eq!(Exit::of(&error), Exit::Failed, "{error:#}");
}

fn run_once(dir: &Path, more: &[&str]) -> run::Tally {
    let (exit, tally) = run_to_exit(dir, more);
    assert_eq!(exit, Exit::Done);
    tally
}

fn run_to_exit(dir: &Path, more: &[&str]) -> (Exit, run::Tally) {
    let path = |name: &str| dir.join(name).display().to_string();
    let mut words: Vec<String> =
        ["run", "--once", "--desk", &path("desk"), "--model", &path("m.cspm"), "--store", &path("store")]
            .map(ToString::to_string)
            .to_vec();
    words.extend(more.iter().map(ToString::to_string));
    let args = Run::parse_from(words).args;
    run::run(&args, &AtomicBool::new(false), &mut Vec::new()).unwrap()
}

fn entries(dir: &Path) -> Vec<Entry> {
    store::read(&dir.join("store")).unwrap().into_iter().flat_map(|(_, segment)| segment.entries).collect()
}

fn predictions(dir: &Path) -> Vec<PredictionRecord> {
    let kept = entries(dir).into_iter().filter_map(|entry| match entry {
        Entry::Prediction(record) => Some(record),
        Entry::Failure(_) | Entry::Event(_) => None,
    });
    kept.collect()
}

#[test]
fn the_desk_is_worked_off_once() {
    let dir = desk();
    let nmea = dir.path().join("gps.log").display().to_string();
    fs::write(dir.path().join("desk/broken.jpg"), b"\xff\xd8 nothing").unwrap();
    assert_eq!(run_once(dir.path(), &["--nmea", &nmea]), run::Tally { predictions: 3, failures: 1 });
    // nothing new: nothing done, though one of them failed
    assert_eq!(run_once(dir.path(), &["--nmea", &nmea]), run::Tally::default());
    // a new picture and a replaced one
    fs::write(dir.path().join("desk/3.png"), fixture::png(0)).unwrap();
    fs::write(dir.path().join("desk/broken.jpg"), b"\xff\xd8 something").unwrap();
    assert_eq!(run_once(dir.path(), &["--nmea", &nmea]), run::Tally { predictions: 1, failures: 1 });

    let seqs: Vec<u64> = entries(dir.path()).iter().map(Entry::seq).collect();
    assert_eq!(seqs, (0..6).collect::<Vec<_>>());
    for record in predictions(dir.path()) {
        let place = record.place.unwrap();
        assert_eq!(place.source, PlaceSource::LiveFix);
        assert!((place.at.lat() + 1.292_1).abs() < 1e-4);
        assert_eq!(record.time.source, TimeSource::Gps);
        assert_eq!(record.time.millis / 86_400_000, 20_780, "2026-11-23");
        assert_eq!(record.provenance.as_str(), "image+live_fix");
    }
}

#[test]
fn without_a_receiver_the_site_or_nothing_is_the_place() {
    let dir = desk();
    run_once(dir.path(), &["--site", "-1.29,36.82"]);
    let records = predictions(dir.path());
    assert!(records.iter().all(|record| record.place.unwrap().source == PlaceSource::ConfiguredSite));
    assert!(records.iter().all(|record| record.time.source == TimeSource::Rtc));
    fs::remove_dir_all(dir.path().join("store")).unwrap();
    let noise: Vec<u8> = (0..50_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 23) as u8).collect();
    let path: PathBuf = dir.path().join("noise.log");
    fs::write(&path, noise).unwrap();
    let (exit, _) = run_to_exit(dir.path(), &["--nmea", path.to_str().unwrap()]);
    assert_eq!(exit, Exit::Failed);
    let records = predictions(dir.path());
    assert_eq!(records.len(), 3);
    assert!(records.iter().all(|record| record.place.is_none() && record.provenance.as_str() == "image"));
}

#[derive(Parser)]
struct Bench {
    #[command(flatten)]
    args: bench::BenchArgs,
}

#[test]
fn bench_measures_and_explains() {
    let dir = desk();
    let model = dir.path().join("m.cspm");
    let measure = |more: &[&str]| {
        let first = ["bench", model.to_str().unwrap(), "--runs", "5"];
        bench::bench(&Bench::parse_from(first.iter().chain(more)).args).unwrap()
    };
    let report = measure(&["--engine", "csp", "--explain"]);
    let [engine] = &report.engines[..] else { panic!("{report:?}") };
    assert_eq!((engine.engine.as_str(), engine.format), ("csp", NumberFormat::Int8));
    assert!(engine.kernels.is_some());
    assert!(0.0 < engine.best_ms && engine.best_ms <= engine.median_ms && engine.median_ms <= engine.p90_ms);
    assert!(engine.load_ms > 0.0 && engine.peak_rss_kib.is_some_and(|kib| kib > 0));
    // every node of the int8 network is ours, and every convolution is timed
    assert!(report.nodes.iter().all(|node| node.engine != "tract"), "{:?}", report.nodes);
    let timed = report.steps.iter().filter(|step| step.kind.contains("convolution")).count();
    assert_eq!(timed, report.nodes.iter().filter(|node| node.op == "QLinearConv").count());
    for (which, format) in [("tract", NumberFormat::Int8), ("f32", NumberFormat::F32)] {
        let report = measure(&["--engine", which, "--explain"]);
        assert_eq!((report.engines[0].format, report.engines[0].kernels.as_deref()), (format, None));
        assert!(report.nodes.iter().all(|node| node.engine == "tract" && node.reason.is_some()));
    }
}

//! Small checkpoints with random weights, and what they answer: `tools/location_fixtures.py` writes both,
//! the answers computed by numpy alone.

use std::path::{Path, PathBuf};

use burn::tensor::Device;

use super::{checkpoint, embed::embed, *};
use crate::data::places;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/location").join(name)
}

/// Embedding and scores of each place.
fn expected(name: &str) -> Vec<Vec<f64>> {
    let text = std::fs::read_to_string(fixture(&format!("{name}.csv"))).unwrap();
    text.lines().map(|line| line.split(',').map(|v| v.parse().unwrap()).collect()).collect()
}

fn largest_difference(name: &str, imported: &Imported, precision: Precision) -> f64 {
    let places = places::read(&fixture("places.csv"), false).unwrap();
    let answers = embed(&imported.encoder, &imported.network, &places, precision);
    let expected = expected(name);
    assert_eq!(expected.len(), places.len());
    let rows = answers.embeddings.into_iter().zip(answers.scores);
    let got = rows.map(|(embedding, scores)| [embedding, scores].concat());
    let mut worst = 0f64;
    for (got, want) in got.zip(expected) {
        assert_eq!(got.len(), want.len(), "{name}");
        for (got, want) in got.into_iter().zip(want) {
            // written so that NaN counts
            worst = if (got - want).abs() <= worst { worst } else { (got - want).abs() };
        }
    }
    worst
}

#[test]
fn checkpoints_answer_as_an_independent_evaluation_does() {
    let mut seen = 0;
    for entry in std::fs::read_dir(fixture("")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if path.extension().is_none_or(|e| e != "pth") || name.starts_with("refused") {
            continue;
        }
        let imported = checkpoint::read(&path, &Device::flex()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(imported.classes, 3);
        let off = largest_difference(&name, &imported, Precision::F64);
        // a tile's features become part of a bias, which is f32
        let near = if name == "tile_ffn" { 1e-7 } else { 1e-10 };
        assert!(off < near, "{name} in f64: {off:e}");
        let off = largest_difference(&name, &imported, Precision::F32);
        assert!(off < 1e-5, "{name} in f32: {off:e}");
        seen += 1;
    }
    assert_eq!(seen, 20);
}

/// tools/season_fixture.py: features and network by numpy, the day's place in the year by Python's calendar.
#[test]
fn wrap_with_a_date_answers_as_numpy_does() {
    let imported = checkpoint::read(&fixture("dated/geo_net.pth"), &Device::flex()).unwrap();
    assert!(imported.encoder.season() && imported.encoder.dim() == 6);
    let places = places::read(&fixture("dated/places.csv"), true).unwrap();
    let answers = embed(&imported.encoder, &imported.network, &places, Precision::F64);
    let expected = expected("dated/geo_net");
    assert_eq!((expected.len(), places.len(), places[6].1), (7, 7, None));
    for ((embedding, scores), want) in answers.embeddings.iter().zip(&answers.scores).zip(expected) {
        let got: Vec<f64> = embedding.iter().chain(scores).copied().collect();
        assert_eq!(got.len(), want.len());
        assert!(got.iter().zip(&want).all(|(got, want)| (got - want).abs() < 1e-10), "{got:?} {want:?}");
    }
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    for (name, words) in [
        ("tensor-missing", &["ffn.layers.1.linear.bias is missing"][..]),
        ("tensor-left-over", &["post_linear.weight"]),
        ("other-encoder", &["8 features", "space2vec-theory", "12 features"]),
        ("unknown-encoder", &["voronoi", "gridcell", "geo_net"]),
        ("anchors-elsewhere", &["rbf", "anchors"]),
        ("random-scales", &["freq_init", "random"]),
        ("norm-denied", &["use_layn"]),
        ("activation", &["spa_f_act", "swish", "leakyrelu"]),
        ("no-params", &["spa_enc_type", "params"]),
        ("layer-lost", &["1 linear layers", "settings say 2"]),
        ("block-lost", &["7 linear layers", "settings say 9"]),
        ("not-a-number", &["ffn.layers.1.linear.weight holds NaN at number 15"]),
        ("narrow-classes", &["class_emb.weight has shape [3, 2], not [3, 4]"]),
        ("first-layer-lost", &["ffn.layers.0.linear.weight is missing"]),
        ("tiles", &["embedding.weight has shape [6, 4]", "single tile"]),
        ("namespace", &["params", "vars(args)"]),
        ("numpy-radius", &["min_radius", "numpy"]),
    ] {
        let path = fixture(&format!("refused-{name}.pth"));
        let error = checkpoint::read(&path, &Device::flex()).unwrap_err().to_string();
        for word in words.iter().chain(&[name]) {
            assert!(error.contains(word), "{name}: {word} is not in: {error}");
        }
    }
}

#[test]
fn tables_of_places_are_read_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.csv");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        places::read(&path, true).map_err(|error| error.to_string())
    };
    let rows = read("id,lat,lon,date\na,0,0,2023-07-02\nb,-90,180,\n").unwrap();
    assert_eq!((rows.len(), rows[1].1), (2, None));
    assert!((rows[0].1.unwrap().value() - 182.0 / 365.0).abs() < 1e-12);
    assert_eq!(read("lat,lon,date\n1,2,NA\n").unwrap()[0].1, None);
    for (text, word) in [
        ("lat,lon,date\n1,2,2023-01-05\n3,4,2023-13-01\n", "line 3: \"2023-13-01\" is no date"),
        ("lat,lon,date\n1,2,soon\n", "line 2"),
        ("lat,lon\n1,2\n91,0\n", "line 3"),
        ("lat,lon\n1,x\n", "line 2"),
        ("lat,lon\n1\n", "line 2"),
        ("lat,name\n1,a\n", "lon"),
        ("lat,lon\n", "no rows"),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.contains(word), "{text:?}: {error}");
    }
}

//! The time of the year, from the data's dates to the device; and training from trained encoders.

use std::{fs, path::Path};

use burn::tensor::Device;
use csp_device::cli::classify::{self, ClassifyArgs};
use csp_host::{
    data::{Dataset, Options, Row, Split},
    evaluation::{
        self, EnginePredictor, Evaluation, Predictor, RunPredictor, answers, labelled, presence_map,
        summarise,
    },
    export,
    progress::Voice,
    training::{TrainConfig, TrainError, TrainOptions, TrainedModel, choose_device, train, weights::Weights},
};
use csp_models::{
    labels::{ClassId, Label, Labels},
    manifest::NumberFormat,
    place::LatLon,
    time::YearFraction,
};

/// What the dates say.
#[derive(Clone, Copy, PartialEq)]
enum Dates {
    /// Class 0 from April to September, class 1 in the other half of the year; a tenth unknown.
    True,
    /// The same dates, dealt out to the rows anew.
    Shuffled,
    /// None at all.
    None,
}

/// Two classes at the same places, in pictures that say next to nothing; `pictures` or places alone.
fn dataset(dir: &Path, dates: Dates, pictures: bool) -> Dataset {
    let rows = (0..480u32).map(|i| {
        let class = i % 2;
        let path = dir.join(format!("{i}.png"));
        if pictures && !path.exists() {
            let noise = |x: u32, y: u32, c: u32| ((x * 7 + y * 13 + i * 31 + c * 57) % 160 + 40) as u8;
            let picture =
                image::RgbImage::from_fn(16, 16, |x, y| image::Rgb([0, 1, 2].map(|c| noise(x, y, c))));
            picture.save(&path).unwrap();
        }
        let of = if dates == Dates::Shuffled { i.wrapping_mul(2_654_435_761) >> 16 } else { i };
        let half = f64::from(of / 2 * 37 % 240) / 240.0 * 0.5;
        let season = (0.25 + half + if of % 2 == 0 { 0.0 } else { 0.5 }) % 1.0;
        let cell = i / 2 % 8;
        Row {
            name: format!("{i}.png").into(),
            image: pictures.then_some(path),
            place: LatLon::new(f64::from(cell) + 0.1 * f64::from(i % 7) - 4.0, 20.0).ok(),
            season: Some(season).filter(|_| dates != Dates::None && i % 10 < 9),
            class: Some(ClassId(class as u16)),
            split: Some(if cell >= 6 { Split::Val } else { Split::Train }),
            ..Row::default()
        }
    });
    Dataset {
        source: dir.join("table.csv"),
        rows: rows.collect(),
        labels: Labels(["summer", "winter"].map(Label::new).to_vec()),
        options: Options::default(),
        sha256: format!("season {}", dates as u8),
    }
}

fn config(more: &str) -> TrainConfig {
    let text = format!(
        "
        [backbone]
        width = 4
        batch = 16
        min_samples = 320
        max_samples = 320
        [location]
        hidden = 32
        embedding = 16
        dropout = 0.1
        {more}
        [location.encoder]
        kind = \"wrap\"
        season = true
        [pretrain]
        batch = 32
        min_steps = 20
        max_steps = 20
        [finetune]
        lr = 0.02
        min_steps = 150
        max_steps = 150
        folds = 2
    "
    );
    toml::from_str(&text).unwrap()
}

fn run(data: &Dataset, out: &Path, config: TrainConfig, resume: bool) -> Result<(), TrainError> {
    let device = choose_device("cpu").unwrap();
    let options = TrainOptions {
        out,
        config,
        labels: 1.0,
        seed: 1,
        device,
        resume,
        voice: Voice::Silent,
        cache: None,
        backbone_of: None,
        stop: &|| false,
        stop_after_steps: None,
    };
    train(data, &options).map(drop)
}

fn open(run: &Path) -> RunPredictor {
    let device = Device::flex();
    RunPredictor { model: TrainedModel::load(run, &device).unwrap(), device }
}

fn evaluate(model: &dyn Predictor, data: &Dataset, dated: bool) -> Evaluation {
    let mut data = data.clone();
    data.rows.iter_mut().for_each(|row| row.season = row.season.filter(|_| dated));
    let mut rows = labelled(&data, Some(Split::Val), model.labels()).unwrap();
    // those with a date are what is asked about
    rows.retain(|(row, _)| row.season.is_some() == dated);
    assert_eq!(evaluation::undated(model, &rows), if dated { 0 } else { rows.len() });
    summarise(model, &answers(model, &rows, Voice::Silent).unwrap())
}

#[test]
fn a_class_of_a_season_is_told_by_its_date_alone() {
    let dir = tempfile::tempdir().unwrap();
    let data = dataset(dir.path(), Dates::True, true);
    let out = dir.path().join("run");
    run(&data, &out, config(""), false).unwrap();
    let model = open(&out);
    let seen = evaluate(&model, &data, true);
    let [image, fused] = [seen.image.as_ref().unwrap().top1, seen.fused.top1];
    assert!(fused > 0.9 && fused > image + 0.2, "image {image}, image and place {fused}");
    // nobody knows the date: the mean over the year, of two halves alike
    let blind = evaluate(&model, &data, false);
    assert!(blind.location.unwrap().top1 < 0.75, "without dates");

    // dates that mean nothing teach nothing
    let shuffled = dataset(dir.path(), Dates::Shuffled, true);
    let other = dir.path().join("shuffled");
    run(&shuffled, &other, config(""), false).unwrap();
    let fooled = evaluate(&open(&other), &shuffled, true);
    assert!(fooled.location.unwrap().top1 < 0.7, "shuffled: {:?}", fooled.fused);

    // a map of June is none of December, and the year is between them
    let places = [LatLon::new(0.0, 20.0).unwrap()];
    let on = |date: Option<&str>| {
        let date = date.map(|date| YearFraction::parse(date).unwrap());
        presence_map(&model, ClassId(0), &places, date).unwrap()[0]
    };
    let (june, december, year) = (on(Some("june")), on(Some("2025-12-15")), on(None));
    assert!(june > 0.8 && december < 0.2 && (0.3..0.7).contains(&year), "{june} {december} {year}");

    // and the field sees what training saw
    let options = export::Options { format: NumberFormat::F32, ..export::Options::default() };
    let bundle = export::export(&model.model, &[], &[], &options).unwrap().bundle;
    assert!(bundle.manifest.encoder.as_ref().unwrap().season());
    let path = dir.path().join("season.cspm");
    bundle.write(&path).unwrap();
    let engine = EnginePredictor::new(bundle).unwrap();
    assert!(engine.is_seasonal());
    let places: Vec<_> = data.rows.iter().filter_map(Row::situation).step_by(7).collect();
    assert!(
        places.iter().any(|place| place.date.is_none()) && places.iter().any(|place| place.date.is_some())
    );
    let both = engine.presence(&places).unwrap().into_iter().zip(model.presence(&places).unwrap());
    for (there, here) in both {
        assert!(there.iter().zip(&here).all(|(a, b)| (a - b).abs() < 1e-5), "{there:?} {here:?}");
    }
    assert_eq!(evaluate(&engine, &data, true).location.unwrap().top1, seen.location.unwrap().top1);

    let classify = |date: Option<&str>| -> serde_json::Value {
        let args = ClassifyArgs {
            model: path.clone(),
            trust: Vec::new(),
            images: vec![dir.path().join("0.png")],
            lat: Some(0.0),
            lon: Some(20.0),
            uncertainty_m: 0.0,
            date: date.map(|date| YearFraction::parse(date).unwrap()),
            top: 2,
            prefer_f32: false,
            threads: 1,
            json: true,
        };
        let mut out = Vec::new();
        classify::run(&args, &mut out).unwrap();
        serde_json::from_slice(&out).unwrap()
    };
    for (date, class) in [("2026-06-15", "summer"), ("dec", "winter")] {
        let said = classify(Some(date));
        assert_eq!(said["results"][0]["top"]["prior"][0]["class"], class, "{said:#}");
        assert!(said["season"]["day"].is_number(), "{said:#}");
    }
    assert_eq!(classify(None)["season"], "year_mean");
}

#[test]
fn places_alone_learn_seasons_and_no_date_at_all_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dataset(dir.path(), Dates::True, false);
    let out = dir.path().join("run");
    run(&data, &out, config(""), false).unwrap();
    let seen = evaluate(&open(&out), &data, true);
    assert!(seen.location.unwrap().top1 > 0.9, "{:?}", seen.fused);

    let bare = dataset(dir.path(), Dates::None, false);
    let error = run(&bare, &dir.path().join("none"), config(""), false).unwrap_err().to_string();
    assert!(error.contains("location.encoder.season") && error.contains("`date` column"), "{error}");
    assert!(!dir.path().join("none").exists(), "refused before anything is written");
}

fn tensors(path: &Path, prefix: &str) -> Vec<(String, Vec<f32>)> {
    let (weights, _) = Weights::read(path).unwrap();
    let own = weights
        .0
        .into_iter()
        .filter_map(|(name, array)| Some((name.strip_prefix(prefix)?.to_string(), array.values)));
    own.collect()
}

#[test]
fn training_begins_with_a_trained_encoder() {
    let dir = tempfile::tempdir().unwrap();
    let data = dataset(dir.path(), Dates::True, true);
    let first = dir.path().join("first");
    run(&data, &first, config(""), false).unwrap();
    let trained = first.join("model/location.safetensors");

    // one step of next to no length: what comes out is what went in
    let from = |path: &Path, pretrain: bool| {
        let mut config = config(&format!("weights = {:?}", path.display().to_string()));
        config.pretrain.enabled = pretrain;
        (config.pretrain.min_steps, config.pretrain.max_steps, config.pretrain.lr) = (1, 1, 1e-12);
        (config.finetune.min_steps, config.finetune.max_steps, config.finetune.lr) = (1, 1, 1e-12);
        config.finetune.folds = 0;
        config
    };
    let near = |a: &[(String, Vec<f32>)], b: &[(String, Vec<f32>)]| {
        assert!(!a.is_empty() && a.len() == b.len());
        a.iter().zip(b).all(|((left, a), (right, b))| {
            left == right && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6)
        })
    };
    for path in [&first, &trained] {
        let out = dir.path().join(format!("tuned-{}", path.is_dir()));
        run(&data, &out, from(path, false), false).unwrap();
        let now = tensors(&out.join("model/location.safetensors"), "location.");
        assert!(near(&now, &tensors(&trained, "location.")), "encoder and class matrix");
    }
    let out = dir.path().join("pretrained");
    run(&data, &out, from(&trained, true), false).unwrap();
    let encoder = tensors(&trained, "location.encoder.");
    assert!(near(&tensors(&out.join("checkpoints/pretrain.safetensors"), "pair.encoder."), &encoder));
    let noted = fs::read_to_string(out.join("run.json")).unwrap();
    assert!(noted.contains("location-weights") && noted.contains("location.safetensors"));

    // another architecture, and a file that changed under a run
    let mut wider = from(&first, false);
    wider.location.hidden = 64;
    let error = run(&data, &dir.path().join("wider"), wider, false).unwrap_err().to_string();
    for word in ["location.weights", "of another shape", "[6, 32], not [6, 64]", "hidden = 32"] {
        assert!(error.contains(word), "{word} is not in {error}");
    }
    let copy = dir.path().join("copy.safetensors");
    fs::copy(&trained, &copy).unwrap();
    let out = dir.path().join("held");
    run(&data, &out, from(&copy, false), false).unwrap();
    run(&data, &out, from(&copy, false), true).unwrap();
    fs::copy(dir.path().join("pretrained/model/location.safetensors"), &copy).unwrap();
    let error = run(&data, &out, from(&copy, false), true).unwrap_err().to_string();
    assert!(error.contains("copy.safetensors") && error.contains("SHA-256"), "{error}");
}

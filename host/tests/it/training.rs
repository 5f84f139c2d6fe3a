//! Runs of training on a small synthetic data set: interrupted ones end where whole ones do, hidden
//! labels change nothing, and what is damaged or missing is named.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use burn::tensor::Device;
use csp_host::{
    data::{Dataset, Options, Row, Split},
    evaluation::{self, Predictor, RunPredictor},
    progress::Voice,
    training::{
        RunDir, Summary, TrainConfig, TrainError, TrainOptions, TrainedModel, choose_device,
        config::Architecture, train, weights::Weights,
    },
};
use csp_models::{
    labels::{ClassId, Label, Labels},
    nn::{IMAGENET_MEAN, IMAGENET_STD, Naming},
    place::LatLon,
};
use safetensors::tensor::TensorView;

/// Three classes told apart by colour, and by latitude; 16 × 16 pixels.
fn dataset(dir: &Path, places: bool) -> Dataset {
    let rows = (0..240u32).map(|i| {
        let class = i % 3;
        let path = dir.join(format!("{i}.png"));
        if !path.exists() {
            let colour = [[200, 60, 60], [60, 200, 60], [60, 60, 200]][class as usize];
            let picture = image::RgbImage::from_fn(16, 16, |x, y| {
                let noise = (x * 7 + y * 13 + i * 31) % 80;
                image::Rgb(colour.map(|c: u8| c.saturating_add(noise as u8)))
            });
            picture.save(&path).unwrap();
        }
        let (lat, lon) = (f64::from(class) * 20.0 - 20.0 + f64::from(i % 7), f64::from(i % 11) * 3.0);
        Row {
            name: format!("{i}.png").into(),
            image: Some(path),
            place: places.then(|| LatLon::new(lat, lon).unwrap()),
            season: None,
            class: Some(ClassId(class as u16)),
            split: Some(if i % 6 == 5 { Split::Val } else { Split::Train }),
            ..Row::default()
        }
    });
    Dataset {
        source: dir.join("table.csv"),
        rows: rows.collect(),
        labels: Labels(["red", "green", "blue"].map(Label::new).to_vec()),
        options: Options::default(),
        sha256: format!("places {places}"),
    }
}

/// Small enough for a second, with every stage and term in it.
fn config() -> TrainConfig {
    let text = "
        [backbone]
        width = 4
        batch = 16
        min_samples = 480
        max_samples = 480
        [location]
        hidden = 32
        embedding = 16
        dropout = 0.1
        [location.encoder]
        kind = \"space2vec-grid\"
        frequencies = 4
        r_min = 5.0
        r_max = 360.0
        [pretrain]
        batch = 32
        min_steps = 30
        max_steps = 30
        [finetune]
        lr = 0.02
        min_steps = 60
        max_steps = 60
        [image]
        head = \"probe\"
        [image.probe]
        steps = 20
        [checkpoint]
        every = 7
    ";
    toml::from_str(text).unwrap()
}

/// The small configuration with some of it otherwise.
fn with(text: &str) -> TrainConfig {
    fn merge(into: &mut toml::Table, from: toml::Table) {
        for (key, value) in from {
            match (into.get_mut(&key), value) {
                (Some(toml::Value::Table(into)), toml::Value::Table(from)) => merge(into, from),
                (_, value) => drop(into.insert(key, value)),
            }
        }
    }
    let mut table = toml::Table::try_from(config()).unwrap();
    merge(&mut table, text.parse().unwrap());
    table.try_into().unwrap()
}

fn run(
    data: &Dataset,
    out: &Path,
    labels: f64,
    stop_after_steps: Option<u64>,
) -> Result<Summary, TrainError> {
    run_with(data, out, labels, stop_after_steps, config())
}

fn run_with(
    data: &Dataset,
    out: &Path,
    labels: f64,
    stop_after_steps: Option<u64>,
    config: TrainConfig,
) -> Result<Summary, TrainError> {
    run_taken(data, out, labels, stop_after_steps, config, None)
}

fn run_taken(
    data: &Dataset,
    out: &Path,
    labels: f64,
    stop_after_steps: Option<u64>,
    config: TrainConfig,
    backbone_of: Option<&Path>,
) -> Result<Summary, TrainError> {
    train(
        data,
        &TrainOptions {
            out,
            config,
            labels,
            seed: 7,
            device: choose_device("cpu").unwrap(),
            resume: out.join("run.json").exists(),
            voice: Voice::Silent,
            cache: None,
            backbone_of,
            stop: &|| false,
            stop_after_steps,
        },
    )
}

/// Every weight file of a run.
fn weights(out: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for folder in ["checkpoints", "model"] {
        for entry in fs::read_dir(out.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "safetensors") {
                all.insert(path.strip_prefix(out).unwrap().to_path_buf(), fs::read(&path).unwrap());
            }
        }
    }
    all
}

#[test]
fn an_interrupted_run_ends_where_a_whole_one_does() {
    let dir = tempfile::tempdir().unwrap();
    let data = dataset(dir.path(), true);
    let whole = dir.path().join("whole");
    let summary = run(&data, &whole, 0.5, None).unwrap();
    assert!(summary.holdout["image_top1"] > 0.9, "{summary:?}");
    assert!(summary.holdout["prior_top1"] > 0.5, "{summary:?}");
    let expected = weights(&whole);
    assert_eq!(expected.len(), 4 + 5 + 2, "{:?}", expected.keys());

    // 30 + 20 + 30 + 5·60 + 60 steps: stops on and off checkpoints, in every stage, at its borders
    for stride in [9, 13, 30, 31] {
        let broken = dir.path().join(format!("broken-{stride}"));
        let mut interruptions = 0;
        loop {
            match run(&data, &broken, 0.5, Some(stride)) {
                Ok(_) => break,
                Err(TrainError::Interrupted { .. }) => interruptions += 1,
                Err(other) => panic!("{other}"),
            }
            assert!(interruptions < 100);
        }
        assert!(interruptions >= 2, "{stride}: {interruptions}");
        let got = weights(&broken);
        for (file, bytes) in &expected {
            assert!(got.get(file) == Some(bytes), "stride {stride}: {} differs", file.display());
        }
        let json = |out: &Path| fs::read_to_string(out.join("model/model.json")).unwrap();
        assert_eq!(json(&broken).replace(&format!("broken-{stride}"), "whole"), json(&whole));
        let metrics = fs::read_to_string(broken.join("metrics.jsonl")).unwrap();
        let steps: Vec<(String, u64)> = (metrics.lines())
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .map(|m| (m["stage"].as_str().unwrap().to_string(), m["step"].as_u64().unwrap()))
            .collect();
        let mut once = steps.clone();
        once.dedup();
        assert_eq!(once, steps, "no step is reported twice");
    }
}

/// Every objective with what it remembers from step to step: queue, temperatures, photographers.
#[test]
fn every_objective_resumes_to_the_same_bits_and_learns() {
    let dir = tempfile::tempdir().unwrap();
    let mut data = dataset(dir.path(), true);
    for (i, row) in data.rows.iter_mut().enumerate() {
        row.user = (i % 5 != 0).then(|| format!("user {}", i % 4).into());
    }
    let variants = [
        ("queue", "[pretrain]\nqueue = 40\nparts = 2\nlearned_temperatures = true\nmask_same_class = true\nnegatives = \"land\"
          [pretrain.mc]\nsymmetric = true\naverage = true\n[finetune.loss]\nusers = true"),
        ("nce", "[pretrain]\nobjective = \"nce\"\nqueue = 70\nlearned_temperatures = true\nnegatives = \"uniform\"
          [finetune]\nnegatives = \"sphericalold\"\npseudo_labels = 0.0\n[finetune.loss]\nkind = \"slds\""),
        ("mse", "[pretrain]\nobjective = \"mse\"\n[finetune]\nprototypes = false\n[finetune.loss]\nkind = \"ssdl\"
          [image.probe]\nbatch = 24"),
        ("ce", "[pretrain]\nmask_same_class = true\nnegatives_per_row = 3\nblur_km = 20.0
          [finetune]\nblur_km = 20.0\nbalance = true\npseudo_labels = 0.5\n[finetune.loss]\nkind = \"cross-entropy\""),
    ];
    let backbone = dir.path().join("backbone");
    run_with(&data, &backbone, 0.5, None, with("[finetune]\nfolds = 0")).unwrap();
    for (name, text) in variants {
        let config = || {
            let mut config = with(text);
            config.finetune.folds = 0;
            config
        };
        let go = |out: &Path, stop| run_taken(&data, out, 0.5, stop, config(), Some(&backbone));
        let (whole, broken) = (dir.path().join(name), dir.path().join(format!("{name}-broken")));
        let summary = go(&whole, None).unwrap();
        assert!(summary.holdout["prior_top1"] > 0.5, "{name}: {summary:?}");
        while let Err(error) = go(&broken, Some(11)) {
            assert!(matches!(error, TrainError::Interrupted { .. }), "{name}: {error}");
        }
        let got = weights(&broken);
        for (file, bytes) in weights(&whole) {
            assert!(got.get(&file) == Some(&bytes), "{name}: {} differs", file.display());
        }
    }
}

/// A power cut between two checkpoints: what was not saved is done again.
#[test]
fn a_killed_run_goes_on_from_its_last_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let data = dataset(dir.path(), true);
    let (whole, killed) = (dir.path().join("whole"), dir.path().join("killed"));
    run(&data, &whole, 1.0, None).unwrap();
    run(&data, &killed, 1.0, Some(7)).unwrap_err();
    let checkpoint = killed.join("checkpoints/backbone.step.safetensors");
    let at_seven = fs::read(&checkpoint).unwrap();
    run(&data, &killed, 1.0, Some(4)).unwrap_err();
    // back to the state on disk that a kill between steps 7 and 11 leaves, with a half metrics line
    fs::write(&checkpoint, at_seven).unwrap();
    let metrics = killed.join("metrics.jsonl");
    let torn = fs::read_to_string(&metrics).unwrap() + "{\"stage\":\"backb";
    fs::write(&metrics, torn).unwrap();
    run(&data, &killed, 1.0, None).unwrap();
    assert!(weights(&whole) == weights(&killed));
}

#[test]
fn hidden_labels_leave_every_checkpoint_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let data = dataset(dir.path(), true);
    let first = dir.path().join("first");
    // a pre-training that may look at granted labels looks at no others, and guesses are the network's own
    let masked = || with("[pretrain]\nmask_same_class = true\n[finetune]\npseudo_labels = 0.0");
    let run = |data: &Dataset, out: &Path, labels| run_with(data, out, labels, None, masked());
    run(&data, &first, 0.3).unwrap();
    let roles = RunDir::open(&first).unwrap().rows().unwrap();
    let expected = weights(&first);

    // the labels training was not granted, and those of the other splits: deleted
    let without_hidden_labels = |data: &Dataset| {
        let mut data = data.clone();
        for (row, source) in data.rows.iter_mut().enumerate() {
            if !roles.labelled.contains(&row) && !roles.holdout.contains(&row) {
                source.class = None;
            }
        }
        data
    };
    let second = dir.path().join("second");
    run(&without_hidden_labels(&data), &second, 1.0).unwrap();
    assert_eq!(RunDir::open(&second).unwrap().rows().unwrap(), roles);
    assert!(weights(&second) == expected);

    // and the referee can fail: one granted label changed
    let mut changed = data.clone();
    let class = &mut changed.rows[roles.labelled[0]].class;
    *class = class.map(|class| ClassId((class.0 + 1) % 3));
    let third = dir.path().join("third");
    run(&without_hidden_labels(&changed), &third, 1.0).unwrap();
    assert!(weights(&third) != expected);
}

#[test]
fn without_places_the_model_knows_pictures_only() {
    let dir = tempfile::tempdir().unwrap();
    let data = dataset(dir.path(), false);
    let out = dir.path().join("run");
    let summary = run(&data, &out, 1.0, None).unwrap();
    assert!(summary.holdout["rows"] >= 20.0);
    assert!(!summary.holdout.contains_key("fused_top1"));
    let model = TrainedModel::load(&out, &Device::flex()).unwrap();
    assert!(model.location.is_none() && model.encoder.is_none());
    assert_eq!(model.labels, data.labels);
}

#[test]
fn what_is_missing_or_damaged_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = dataset(dir.path(), true);
    let out = dir.path().join("run");
    let load = |out: &Path| TrainedModel::load(out, &Device::flex()).unwrap_err().to_string();
    assert!(load(&out).contains("run.json"));
    run(&data, &out, 1.0, Some(5)).unwrap_err();
    assert!(load(&out).contains("backbone is missing"), "{}", load(&out));
    run(&data, &out, 1.0, Some(40)).unwrap_err();
    assert!(load(&out).contains("probe is missing"), "{}", load(&out));
    run(&data, &out, 1.0, Some(15)).unwrap_err();
    assert!(load(&out).contains("pretrain is missing"), "{}", load(&out));

    let mut other = data.clone();
    other.sha256 = "another".into();
    assert!(run(&other, &out, 1.0, None).unwrap_err().to_string().contains("the data was"));
    assert!(run(&data, &out, 0.5, None).unwrap_err().to_string().contains("--labels was 1"));

    // a checkpoint cut short is not trained on
    let checkpoint = out.join("checkpoints/pretrain.step.safetensors");
    let bytes = fs::read(&checkpoint).unwrap();
    fs::write(&checkpoint, &bytes[..bytes.len() / 2]).unwrap();
    let error = run(&data, &out, 1.0, None).unwrap_err().to_string();
    assert!(error.contains("pretrain.step.safetensors"), "{error}");
    fs::write(&checkpoint, &bytes).unwrap();
    run(&data, &out, 1.0, None).unwrap();

    let model = out.join("model/location.safetensors");
    let mut bytes = fs::read(&model).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&model, bytes).unwrap();
    assert!(load(&out).contains("location.safetensors") && load(&out).contains("SHA-256"));
}

#[test]
fn a_loss_that_explodes_stops_the_run_and_keeps_what_was_good() {
    let dir = tempfile::tempdir().unwrap();
    let data = dataset(dir.path(), true);
    let out = dir.path().join("run");
    let mut config = config();
    config.pretrain.lr = 1e30;
    let error = run_with(&data, &out, 1.0, None, config).unwrap_err();
    assert!(matches!(error, TrainError::NotFinite { stage: "pretrain", .. }), "{error}");
    assert!(out.join("checkpoints/backbone.safetensors").is_file());
}

#[test]
fn a_picture_that_cannot_be_read_is_named_and_nothing_is_half_written() {
    let dir = tempfile::tempdir().unwrap();
    let data = dataset(dir.path(), true);
    let picture = data.rows[8].image.clone().unwrap();
    let bytes = fs::read(&picture).unwrap();
    fs::write(&picture, &bytes[..40]).unwrap();
    let out = dir.path().join("run");
    let error = run(&data, &out, 1.0, None).unwrap_err().to_string();
    assert!(error.contains("8.png"), "{error}");
    assert_eq!(fs::read_dir(out.join("cache")).unwrap().count(), 0);
    fs::write(&picture, &bytes).unwrap();
    run(&data, &out, 1.0, None).unwrap();
}

#[test]
fn a_run_goes_on_with_the_photographs_it_began_with() {
    let dir = tempfile::tempdir().unwrap();
    let data = dataset(dir.path(), true);
    let out = dir.path().join("run");
    assert!(matches!(run(&data, &out, 0.5, Some(10)), Err(TrainError::Interrupted { .. })));
    // copied anew, the bytes are the same and the time is not
    let photograph = dir.path().join("0.png");
    let bytes = fs::read(&photograph).unwrap();
    fs::write(&photograph, &bytes).unwrap();
    assert!(matches!(run(&data, &out, 0.5, Some(10)), Err(TrainError::Interrupted { .. })));
    image::RgbImage::from_pixel(16, 16, image::Rgb([9, 9, 9])).save(&photograph).unwrap();
    let error = run(&data, &out, 0.5, None).unwrap_err().to_string();
    assert!(error.contains("photographs") && error.contains("run"), "{error}");
    fs::write(&photograph, &bytes).unwrap();
    run(&data, &out, 0.5, None).unwrap();
}

#[test]
fn settings_that_cannot_be_leave_no_directory() {
    let dir = tempfile::tempdir().unwrap();
    let data = dataset(dir.path(), true);
    let out = dir.path().join("run");
    // nobody is named in the data, and 32 pixels are too few for the network
    let large = "[backbone]\nkind = \"inception-v3\"\n[input]\nsize = 32";
    for (config, field) in [
        (with("[finetune.loss]\nusers = true"), "finetune.loss.users"),
        (toml::from_str(large).unwrap(), "input.size"),
    ] {
        match run_with(&data, &out, 0.5, None, config) {
            Err(TrainError::Config { field: named, .. }) => assert_eq!(named, field),
            other => panic!("{other:?}"),
        }
        assert!(!out.exists(), "{field}");
    }
    // a backbone of other settings
    let other = dir.path().join("other");
    run_with(&data, &other, 0.5, None, with("[finetune]\nfolds = 0")).unwrap();
    let taken = run_taken(&data, &out, 0.5, None, with("[backbone]\nbatch = 17"), Some(&other));
    assert!(matches!(taken, Err(TrainError::Differs { .. })), "{taken:?}");
    assert!(!out.exists());
    let taken = run_taken(&data, &out, 0.5, None, config(), Some(&dir.path().join("mistyped")));
    assert!(matches!(taken, Err(TrainError::NotARun { .. })), "{taken:?}");
    assert!(!out.exists());
}

#[test]
fn places_without_pictures_train_the_location_branch_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut data = dataset(dir.path(), true);
    data.rows.iter_mut().for_each(|row| row.image = None);
    let out = dir.path().join("run");
    let summary = run(&data, &out, 1.0, None).unwrap();
    assert!(
        summary.holdout["prior_top1"] > 0.8 && !summary.holdout.contains_key("image_top1"),
        "{summary:?}"
    );
    // interrupted, it ends where the whole run does
    let cut = dir.path().join("cut");
    assert!(matches!(run(&data, &cut, 1.0, Some(5)), Err(TrainError::Interrupted { .. })));
    let error = TrainedModel::load(&cut, &Device::flex()).unwrap_err().to_string();
    assert!(error.contains("finetune is missing"), "{error}");
    let file = |run: &Path| fs::read(run.join("model/location.safetensors")).unwrap();
    run(&data, &cut, 1.0, None).unwrap();
    assert_eq!(file(&out), file(&cut));

    let model = TrainedModel::load(&out, &Device::flex()).unwrap();
    assert!(model.image.is_none() && model.location.is_some());
    let predictor = RunPredictor { model, device: Device::flex() };
    let evaluate = |data: &Dataset| {
        let rows = evaluation::labelled(data, Some(Split::Val), predictor.labels()).unwrap();
        let answers = evaluation::answers(&predictor, &rows, Voice::Silent).unwrap();
        evaluation::summarise(&predictor, &answers)
    };
    let alone = evaluate(&data);
    assert_eq!((alone.n, alone.image), (40, None));
    assert!(alone.location.unwrap().top1 > 0.8, "{alone:?}");
    assert_eq!(alone.location, Some(alone.fused));
    // pictures of which the model knows nothing change nothing
    assert_eq!(evaluate(&dataset(dir.path(), true)).location, alone.location);

    data.rows.iter_mut().for_each(|row| row.place = None);
    let error = run(&data, &dir.path().join("nothing"), 1.0, None).unwrap_err().to_string();
    assert!(error.contains("no training row has a picture"), "{error}");
}

/// Labels on one side of the sea only; on the other the classes live elsewhere, as pictures show.
#[test]
fn pictures_without_labels_teach_their_places() {
    let dir = tempfile::tempdir().unwrap();
    let mut data = dataset(dir.path(), true);
    for (i, row) in data.rows.iter_mut().enumerate() {
        row.split = Some(if i % 5 == 4 { Split::Val } else { Split::Train });
        let over_there = row.split == Some(Split::Val) || i % 4 < 2;
        if over_there {
            let lat = f64::from((i as u32 + 1) % 3) * 20.0 - 20.0 + (i % 7) as f64;
            row.place = Some(LatLon::new(lat, 120.0 + (i % 11) as f64 * 3.0).unwrap());
        }
        if over_there && row.split == Some(Split::Train) {
            row.class = None;
        }
    }
    let place_alone = |name: &str, text: &str| {
        let out = dir.path().join(name);
        run_with(&data, &out, 1.0, None, with(text)).unwrap();
        let model = TrainedModel::load(&out, &Device::flex()).unwrap();
        let predictor = RunPredictor { model, device: Device::flex() };
        let rows = evaluation::labelled(&data, Some(Split::Val), predictor.labels()).unwrap();
        let answers = evaluation::answers(&predictor, &rows, Voice::Silent).unwrap();
        evaluation::summarise(&predictor, &answers).location.unwrap().top1
    };
    // pre-training, which sees those pictures too, is left out: it could know
    let (without, with) = (
        place_alone("without", "[pretrain]\nenabled = false\n[finetune]\nfolds = 0"),
        place_alone("with", "[pretrain]\nenabled = false\n[finetune]\nfolds = 2\npseudo_labels = 0.6"),
    );
    assert!(without < 0.5 && with > 0.9, "{without} {with}");
    let told = RunDir::open(&dir.path().join("with")).unwrap().info().stages["pseudo-labels"].clone();
    let [of, taught] = ["of", "taught"].map(|note| told.notes[note].as_u64().unwrap());
    assert!(of == 96 && taught > 80, "{taught} of {of}");
}

#[test]
fn rows_without_place_or_picture_teach_the_other_branch() {
    let dir = tempfile::tempdir().unwrap();
    let mut data = dataset(dir.path(), true);
    data.rows.iter_mut().step_by(5).for_each(|row| row.place = None);
    data.rows.iter_mut().skip(1).step_by(5).for_each(|row| row.image = None);
    let out = dir.path().join("run");
    let summary = run(&data, &out, 1.0, None).unwrap();
    assert_eq!(summary.rows.iter().sum::<usize>(), 200);
    let model = TrainedModel::load(&out, &Device::flex()).unwrap();
    assert!(model.image.is_some() && model.location.is_some());
    let predictor = RunPredictor { model, device: Device::flex() };
    let rows = evaluation::labelled(&data, Some(Split::Val), predictor.labels()).unwrap();
    let answers = evaluation::answers(&predictor, &rows, Voice::Silent).unwrap();
    let evaluation = evaluation::summarise(&predictor, &answers);
    // of 40 rows a fifth has no picture, another fifth no place
    let counts = [evaluation.image, evaluation.location, evaluation.without_place];
    assert_eq!(counts.map(|accuracy| accuracy.unwrap().n), [32, 24, 8]);
    assert!(evaluation.image.unwrap().top1 > 0.8, "{evaluation:?}");
}

/// Everything the image side can do beyond a head on a trained backbone: crops and colour, SGD, both
/// encoders open with a batch larger than what is held at a time, a head that the place modulates.
#[test]
fn open_encoders_and_a_modulated_head_resume_to_the_same_model() {
    let dir = tempfile::tempdir().unwrap();
    let data = dataset(dir.path(), true);
    let mut config = config();
    config.finetune.folds = 0;
    let more: TrainConfig = toml::from_str(
        "
        [backbone]
        optimizer = \"sgd\"
        lr = 0.05
        [backbone.augment]
        views = \"crop\"
        area = [0.5, 1.0]
        [joint]
        enabled = true
        batch = 40
        micro_batch = 16
        min_steps = 9
        max_steps = 9
        [image.modulation]
        enabled = true
        steps = 25
        ",
    )
    .unwrap();
    config.backbone.optimizer = more.backbone.optimizer;
    config.backbone.lr = more.backbone.lr;
    config.backbone.augment = more.backbone.augment;
    config.joint = more.joint;
    config.image.modulation = more.image.modulation;

    let whole = dir.path().join("whole");
    let summary = run_with(&data, &whole, 1.0, None, config.clone()).unwrap();
    assert!(summary.holdout["modulated_top1"] > 0.9, "{summary:?}");
    let expected = weights(&whole);
    let stages = ["backbone", "joint", "finetune", "probe", "modulate"];
    for stage in stages {
        let file = PathBuf::from(format!("checkpoints/{stage}.safetensors"));
        assert!(expected.contains_key(&file), "{stage}");
    }
    // the backbone has moved, and the model's is the moved one
    let tensors = |file: &str| Weights::read(&whole.join(file)).unwrap().0.0;
    let name = "image.backbone.SmallCnn.down.0.conv.weight";
    let (before, after) = (tensors("checkpoints/backbone.safetensors"), tensors("model/image.safetensors"));
    assert_ne!(before[name], after[name]);
    assert_eq!(after[name], tensors("checkpoints/joint.safetensors")[name]);

    for stride in [5, 34] {
        let broken = dir.path().join(format!("broken-{stride}"));
        while let Err(error) = run_with(&data, &broken, 1.0, Some(stride), config.clone()) {
            assert!(matches!(error, TrainError::Interrupted { .. }), "{error}");
        }
        assert!(weights(&broken) == expected, "stride {stride}");
    }
    assert!(TrainedModel::load(&whole, &Device::flex()).unwrap().modulated.is_some());
}

/// Published names are given to the weights of one run, which another begins with.
#[test]
fn a_published_state_dict_is_begun_with_and_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let data = dataset(dir.path(), false);
    let mut config = config();
    config.backbone.kind = Architecture::MobileNetV2;
    config.backbone.width = Some(0.25);
    (config.backbone.min_samples, config.backbone.max_samples) = (16, 16);
    let first = dir.path().join("first");
    run_with(&data, &first, 1.0, None, config.clone()).unwrap();

    let (weights, _) = Weights::read(&first.join("model/image.safetensors")).unwrap();
    let names = config.backbone.network().published_names(Naming::Timm).unwrap();
    let arrays = names.iter().filter(|name| name.ours.starts_with("backbone.")).map(|name| {
        let array = &weights.0[&format!("image.{}", name.ours)];
        let bytes: Vec<u8> = array.values.iter().flat_map(|v| v.to_le_bytes()).collect();
        (name.theirs.clone(), array.shape.clone(), bytes)
    });
    let arrays: Vec<(String, Vec<usize>, Vec<u8>)> = arrays.collect();
    let views = arrays.iter().map(|(name, shape, bytes)| {
        (name.as_str(), TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap())
    });
    let path = dir.path().join("timm.safetensors");
    fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();

    config.backbone.epochs = 0.0;
    config.backbone.weights = Some(path.clone());
    let second = dir.path().join("second");
    run_with(&data, &second, 1.0, None, config.clone()).unwrap();
    let (taken, _) = Weights::read(&second.join("model/image.safetensors")).unwrap();
    for (name, array) in weights.0.iter().filter(|(name, _)| name.starts_with("image.backbone.")) {
        assert_eq!(&taken.0[name], array, "{name}");
    }
    let info = RunDir::open(&second).unwrap().info().clone();
    let digest = info.stages["weights"].notes["sha256"].as_str().unwrap().to_string();
    assert_eq!(digest, csp_models::bundle::sha256_hex(&fs::read(&path).unwrap()));
    let model = TrainedModel::load(&second, &Device::flex()).unwrap();
    assert_eq!((model.input.mean, model.input.std), (IMAGENET_MEAN, IMAGENET_STD));
    let provenance = model.provenance.backbone;
    assert!(provenance.contains("timm.safetensors") && provenance.contains(&digest), "{provenance}");

    // a run's own weights are taken as they were trained, and a wrong kind is refused with what differs
    config.backbone.weights = Some(second.join("model/image.safetensors"));
    let third = dir.path().join("third");
    run_with(&data, &third, 1.0, None, config.clone()).unwrap();
    assert_eq!(TrainedModel::load(&third, &Device::flex()).unwrap().input.mean, IMAGENET_MEAN);
    config.backbone.weights = Some(path);
    config.backbone.width = Some(1.0);
    let error = run_with(&data, &dir.path().join("fourth"), 1.0, None, config).unwrap_err().to_string();
    assert!(error.contains("not the weights of mobilenet-v2-1") && error.contains("conv_stem"), "{error}");
}

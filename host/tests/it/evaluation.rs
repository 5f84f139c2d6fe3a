//! Sweeps, maps and added classes on a small synthetic data set: results are taken over, refused when
//! stale, and the old run is never touched.

use std::{collections::BTreeMap, fs, path::Path, process::ExitCode};

use clap::Parser as _;
use csp_host::{
    cli::Cli,
    data::{Dataset, Options, Row, Split, SplitBy},
    evaluation::{
        self, RunPredictor, embedding,
        geography::Geography,
        labelled, presence_map, summarise,
        sweep::{self, Method, SweepError, SweepOptions},
    },
    export,
    plots::{self, Bounds, RangeMap},
    progress::Voice,
    training::{
        RunDir, TrainConfig, TrainedModel,
        add_class::{AddClass, add_class},
        added_records::AddedRecords,
        choose_device,
    },
};
use csp_models::{
    labels::{ClassId, Label, Labels},
    place::LatLon,
    situation::Situation,
};

/// Three classes told apart poorly by colour and well by longitude; 16 × 16 pixels, 24 cells.
fn dataset(dir: &Path) -> Dataset {
    let rows = (0..360u32).map(|i| {
        let class = i % 3;
        let path = dir.join(format!("{i}.png"));
        let shown = if i % 5 == 0 { (class + 1) % 3 } else { class };
        let colour = [[190, 90, 90], [90, 190, 90], [90, 90, 190]][shown as usize];
        let picture = image::RgbImage::from_fn(16, 16, |x, y| {
            let noise = (x * 7 + y * 13 + i * 31) % 90;
            image::Rgb(colour.map(|c: u8| c.saturating_add(noise as u8)))
        });
        picture.save(&path).unwrap();
        let cell = i / 3 % 8;
        let (lat, lon) = (f64::from(cell) + 0.1 * f64::from(i % 7) - 4.0, f64::from(class) * 20.0 - 20.5);
        Row {
            name: format!("{i}.png").into(),
            image: Some(path),
            place: LatLon::new(lat, lon).ok(),
            season: None,
            class: Some(ClassId(class as u16)),
            split: Some(if cell >= 6 { Split::Val } else { Split::Train }),
            camera: None,
            user: None,
            uncertainty_m: None,
        }
    });
    Dataset {
        source: dir.join("table.csv"),
        rows: rows.collect(),
        labels: Labels(["red", "green", "blue"].map(Label::new).to_vec()),
        options: Options::default(),
        sha256: "synthetic".into(),
    }
}

fn config() -> TrainConfig {
    let text = "
        [backbone]
        width = 4
        batch = 16
        min_samples = 320
        max_samples = 320
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
        min_steps = 20
        max_steps = 20
        [finetune]
        lr = 0.02
        min_steps = 60
        max_steps = 60
        folds = 2
    ";
    toml::from_str(text).unwrap()
}

fn options<'a>(out: &'a Path, methods: &'a [Method], plans: &'a [SplitBy]) -> SweepOptions<'a> {
    SweepOptions {
        labels: &[0.5],
        seeds: 1,
        split: Split::Val,
        plans,
        methods,
        config: config(),
        device: choose_device("cpu").unwrap(),
        out,
        backbones_of: None,
        runs_of: None,
        voice: Voice::Silent,
    }
}

/// Every file of a folder with its bytes.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.display().to_string(), fs::read(&path).unwrap());
        }
    }
    found
}

#[test]
fn a_sweep_is_resumed_extended_and_refused_when_stale() {
    let dir = tempfile::tempdir().unwrap();
    let data = dataset(dir.path());
    let out = dir.path().join("sweep");
    let first = [Method::Image, Method::Csp];
    let table = sweep::run(&data, &options(&out, &first, &[SplitBy::Given])).unwrap();
    let line = |method: &str, input: &str| -> serde_json::Value {
        let table = serde_json::from_slice(&fs::read(out.join("table.json")).unwrap()).unwrap();
        let serde_json::Value::Array(lines) = table else { panic!("{table}") };
        let found = lines.iter().find(|line| line["method"] == method && line["input"] == input);
        found.unwrap_or_else(|| panic!("{method} {input} in {lines:?}")).clone()
    };
    let top1 = |line: &serde_json::Value| line["top1"]["mean"].as_f64().unwrap();
    // one picture in five shows the wrong colour, and the place knows better
    assert!(top1(&line("csp", "fused")) > top1(&line("image", "image")), "{table}");
    let run = out.join("runs/labels-0.5-seed-0/csp");
    let trained = files(&run);

    // more methods: the finished run is measured as it is
    let more = [Method::Image, Method::Csp, Method::Knn, Method::Histogram];
    sweep::run(&data, &options(&out, &more, &[SplitBy::Given])).unwrap();
    assert!(files(&run) == trained, "measuring changed the run");
    assert!(top1(&line("knn", "place")) > 0.9, "{:?}", line("knn", "place"));
    assert!(top1(&line("knn", "fused")) > top1(&line("image", "image")));

    // another sweep takes the run over and finds the same
    let other = dir.path().join("other");
    let taken = SweepOptions { runs_of: Some(&out), ..options(&other, &first, &[SplitBy::Given]) };
    let again = sweep::run(&data, &taken).unwrap();
    assert_eq!(again.to_string(), table.to_string());
    assert!(!other.join("runs/labels-0.5-seed-0/csp").exists());

    // two machines share a sweep: once their runs lie together, nothing is trained or measured again
    let machine = dir.path().join("machine");
    let labels = [1.0];
    sweep::run(&data, &SweepOptions { labels: &labels, ..options(&machine, &first, &[SplitBy::Given]) })
        .unwrap();
    fs::rename(machine.join("runs/labels-1-seed-0"), out.join("runs/labels-1-seed-0")).unwrap();
    let together = files(&out.join("runs"));
    let labels = [0.5, 1.0];
    let whole = SweepOptions { labels: &labels, ..options(&out, &first, &[SplitBy::Given]) };
    let table = sweep::run(&data, &whole).unwrap().to_string();
    assert!(table.contains("| 50 % |") && table.contains("| 100 % |"), "{table}");
    assert!(files(&out.join("runs")) == together, "something was trained or measured again");

    let mut changed = options(&out, &first, &[SplitBy::Given]);
    changed.config.finetune.lr = 0.01;
    match sweep::run(&data, &changed) {
        Err(SweepError::Stale { reason, .. }) => assert!(reason.contains("settings"), "{reason}"),
        other => panic!("{other:?}"),
    }

    // photographs that changed under their names are another data set, until they are as they were
    let picture =
        data.rows.iter().find(|row| row.split == Some(Split::Train)).unwrap().image.clone().unwrap();
    let before = fs::read(&picture).unwrap();
    image::RgbImage::new(16, 16).save(&picture).unwrap();
    match sweep::run(&data, &options(&out, &first, &[SplitBy::Given])) {
        Err(SweepError::Stale { reason, .. }) => assert!(reason.contains("photographs"), "{reason}"),
        other => panic!("{other:?}"),
    }
    let third = dir.path().join("third");
    let image_only = [Method::Image];
    let taken = SweepOptions { runs_of: Some(&out), ..options(&third, &image_only, &[SplitBy::Given]) };
    sweep::run(&data, &taken).unwrap();
    assert!(third.join("runs/labels-0.5-seed-0/csp/model/model.json").is_file(), "not taken over");
    fs::write(&picture, before).unwrap();
    sweep::run(&data, &options(&out, &first, &[SplitBy::Given])).unwrap();

    // divided at random, it is a data set of its own
    let plans = [SplitBy::Given, SplitBy::Random];
    let table = sweep::run(&data, &options(&out, &first, &plans)).unwrap().to_string();
    assert!(table.contains("| given | 50 % |") && table.contains("| random | 50 % |"), "{table}");
    assert!(out.join("random-accuracy.svg").is_file());
    let run = RunDir::open(&out.join("runs/random/labels-0.5-seed-0/csp")).unwrap();
    let split = run.info().data_options.split.clone().unwrap();
    assert_eq!((split.by, run.info().config.split.by), (SplitBy::Random, SplitBy::Random));
}

#[test]
fn a_sweep_needs_no_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let mut data = dataset(dir.path());
    data.rows.iter_mut().for_each(|row| row.image = None);
    let out = dir.path().join("sweep");
    let methods = [Method::Supervised, Method::Knn];
    let table = sweep::run(&data, &options(&out, &methods, &[SplitBy::Given])).unwrap().to_string();
    assert!(table.contains("nearest neighbours"), "{table}");
    let csp = sweep::run(&data, &options(&out, &[Method::Csp], &[SplitBy::Given])).unwrap_err().to_string();
    assert!(csp.contains("picture") && csp.contains("CSP"), "{csp}");
}

#[test]
fn classes_that_training_never_saw_count_as_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let mut data = dataset(dir.path());
    let dodo = csp_models::labels::ClassId(data.labels.len() as u16);
    data.labels.0.push(csp_models::labels::Label::new("dodo"));
    let val = data.rows.iter_mut().filter(|row| row.split == Some(Split::Val));
    let changed = val.step_by(2).map(|row| row.class = Some(dodo)).count();
    let out = dir.path().join("sweep");
    let methods = [Method::Image, Method::Csp];
    let table = sweep::run(&data, &options(&out, &methods, &[SplitBy::Given])).unwrap();
    let model =
        TrainedModel::load(&out.join("runs/labels-0.5-seed-0/csp"), &burn::tensor::Device::flex()).unwrap();
    assert!(model.labels.find("dodo").is_none(), "no column that nothing has taught");
    let val = data.rows.iter().filter(|row| row.split == Some(Split::Val)).count();
    let most = 1.0 - changed as f64 / val as f64;
    let json = serde_json::to_value(&table).unwrap();
    for line in json.as_array().unwrap() {
        let top1 = line["top1"]["mean"].as_f64().unwrap();
        assert!(top1 <= most + 1e-9, "{line}: at most {most} can be right");
        assert_eq!(line["n"], val, "none is left out");
    }
}

#[test]
fn a_class_from_places_joins_the_prior_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let data = dataset(dir.path());
    let sweep_out = dir.path().join("sweep");
    sweep::run(&data, &options(&sweep_out, &[Method::Supervised], &[SplitBy::Given])).unwrap();
    let run = sweep_out.join("runs/labels-0.5-seed-0/supervised");
    let before = files(&run);
    let out = dir.path().join("more");
    let at = |lat: f64, lon: f64| LatLon::new(lat, lon).unwrap();
    let places: Vec<LatLon> = (0..10).map(|i| at(30.0 + 0.2 * f64::from(i), 60.0)).collect();
    let records: Vec<Situation> = places.iter().copied().map(Situation::undated).collect();
    let others: Vec<(Situation, ClassId)> =
        data.rows.iter().filter_map(|row| Some((row.situation()?, row.class?))).collect();
    let added = AddClass {
        run: &run,
        out: &out,
        name: "violet",
        records: &records,
        others: &others,
        seed: 0,
        voice: Voice::Silent,
    };
    let report = add_class(&added).unwrap();
    assert_eq!((report.records, report.cells, report.cell_deg), (10, 2, 1.0));
    assert!(report.left_out_score.unwrap() > 2.0 * report.others_score, "{report:?}");
    assert!(report.others_top1[1] > report.others_top1[0] - 0.05, "{report:?}");
    assert!(files(&run) == before, "the old run was touched");
    let exists = add_class(&added).unwrap_err().to_string();
    assert!(exists.contains("--out") && !exists.contains("--resume"), "{exists}");
    let nameless = dir.path().join("nameless");
    for (name, said) in [(" red\t", "knows"), (" ", "no name"), ("a\nb", "control character")] {
        let error = add_class(&AddClass { out: &nameless, name, ..added }).unwrap_err().to_string();
        assert!(error.contains("--name") && error.contains(said), "{error}");
    }
    assert!(!nameless.exists());
    let few = AddClass { out: &dir.path().join("few"), records: &records[..2], ..added };
    assert!(add_class(&few).unwrap_err().to_string().contains("3 are needed"));

    // the records stay with the run, for its map and for the classes added after it
    let kept = AddedRecords::read(&RunDir::open(&out).unwrap()).unwrap();
    assert_eq!(kept.classes, [("violet".to_string(), records.clone())]);
    assert_eq!(AddedRecords::read(&RunDir::open(&run).unwrap()).unwrap(), AddedRecords::default());
    let table = dir.path().join("ochre.csv");
    fs::write(&table, "lat,lon,date\n-30,150,2024-07-02\n-31,151,\n-32,152,\n").unwrap();
    let trained_on = dir.path().join("trained-on.csv");
    fs::write(&trained_on, "lat,lon,label,split\n1.5,-20.5,red,train\n").unwrap();
    let csp_host = |args: &[&Path]| {
        let args = ["csp-host", "-q"].map(Path::new).into_iter().chain(args.iter().copied());
        Cli::try_parse_from(args.map(|arg| arg.as_os_str())).unwrap().run() == ExitCode::SUCCESS
    };
    let p = Path::new;
    let both = dir.path().join("both");
    let add: [&Path; 10] = [
        p("add-class"),
        &out,
        p("--records"),
        &table,
        p("--data"),
        &trained_on,
        p("--name"),
        p("ochre"),
        p("--out"),
        &both,
    ];
    assert!(csp_host(&add));
    let kept = AddedRecords::read(&RunDir::open(&both).unwrap()).unwrap();
    assert_eq!((kept.of("violet"), kept.of("ochre").len()), (&records[..], 3));
    assert!(kept.of("ochre")[0].date.is_some() && kept.of("ochre")[1].date.is_none());
    let picture = dir.path().join("ochre.svg");
    assert!(csp_host(&[p("map"), &both, p("--class"), p("ochre"), p("-o"), &picture]));
    let drawn = fs::read_to_string(&picture).unwrap();
    assert!(drawn.contains("3 places of its records") && drawn.contains("151° E"), "{drawn}");

    let device = burn::tensor::Device::flex();
    let model = TrainedModel::load(&out, &device).unwrap();
    assert_eq!((model.labels.len(), model.place_only), (4, 1));
    let embedded = embedding::embeddings(&model, &records, &device).unwrap();
    assert_eq!((embedded.len(), embedded[0].len()), (10, 16));
    let refusal = export::export(&model, &[], &[], &export::Options::default()).unwrap_err().to_string();
    assert!(refusal.contains("violet"), "{refusal}");

    let was = RunPredictor { model: TrainedModel::load(&run, &device).unwrap(), device: device.clone() };
    let is = RunPredictor { model, device };
    let class = is.model.labels.find("violet").unwrap();
    let scores = presence_map(&is, class, &[at(31.0, 60.0), at(-1.0, -20.5)], None).unwrap();
    assert!(scores[0] > 2.0 * scores[1], "{scores:?}");

    // pictures are answered as before, among the classes the image network knows
    let rows = labelled(&data, Some(Split::Val), &is.model.labels).unwrap();
    let answers = [&was, &is].map(|model| evaluation::answers(model, &rows, Voice::Silent).unwrap());
    let [old, new] = [summarise(&was, &answers[0]), summarise(&is, &answers[1])];
    assert_eq!((old.fused, old.image), (new.fused, new.image));
    let geography = Geography::of(&data, &rows, &answers[1], 1.0).unwrap();
    assert_eq!(geography.regions.iter().map(|region| region.n).sum::<usize>(), rows.len());
    // cells 6 and 7 are val's alone, but places lie up to 0.6 of a degree into the next
    let training = geography.training.unwrap();
    assert!(training.apart.1.n > 0);

    for name in ["map.png", "map.svg"] {
        let path = dir.path().join(name);
        let bounds: Bounds = "-30,-10,70,40".parse().unwrap();
        let map = RangeMap { title: "violet", bounds, seen: &places, seen_are: "places seen", grain: 8 };
        plots::range_map(&path, &map, |places| presence_map(&is, class, places, None)).unwrap();
        let bytes = fs::read(&path).unwrap();
        match image::load_from_memory(&bytes) {
            Ok(picture) => assert!(picture.width() > 1000 && name == "map.png"),
            Err(_) => assert!(bytes.starts_with(b"<svg") && name == "map.svg"),
        }
    }
}

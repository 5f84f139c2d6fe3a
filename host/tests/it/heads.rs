//! Every kind of head, on encoders of every family, learns where the classes are: trained by the program,
//! loaded again and asked about places by `csp-host location embed`.

use std::{fs, path::Path, process::Command};

/// Three classes told apart by colour, and by latitude; 16 × 16 pixels.
fn dataset(dir: &Path) {
    let mut table = String::from("image_path,lat,lon,label,split\n");
    for i in 0..180u32 {
        let class = (i % 3) as usize;
        let colour = [[200, 60, 60], [60, 200, 60], [60, 60, 200]][class];
        let picture = image::RgbImage::from_fn(16, 16, |x, y| {
            let noise = (x * 7 + y * 13 + i * 31) % 80;
            image::Rgb(colour.map(|c: u8| c.saturating_add(noise as u8)))
        });
        picture.save(dir.join(format!("{i}.png"))).unwrap();
        let (lat, lon) = (class as f64 * 20.0 - 20.0 + f64::from(i % 7), 1.0 + f64::from(i % 11) * 3.0);
        let label = ["red", "green", "blue"][class];
        table += &format!("{i}.png,{lat},{lon},{label},train\n");
    }
    fs::write(dir.join("table.csv"), table).unwrap();
}

const CONFIG: &str = "
[backbone]
width = 4
batch = 16
min_samples = 480
max_samples = 480
[holdout]
share = 0.1
[pretrain]
batch = 32
min_steps = 20
max_steps = 20
[finetune]
folds = 0
min_steps = 60
max_steps = 60
lr = 0.01
encoder_lr = 1.0
[location]
hidden = 32
embedding = 16
dropout = 0.1
";

const LOCATIONS: [&str; 4] = [
    "activation = \"gelu\"\n[location.encoder]\nkind = \"sphere2vec-m+\"\nfrequencies = 4\nr_min = 0.1\n\
     [location.head]\nnorm = \"before-activation\"\noutput_activation = false\n",
    "[location.encoder]\nkind = \"spherical-harmonics\"\ndegree = 8\n[location.head]\nkind = \"siren\"\nw0_first = 5.0\n",
    "[location.encoder]\nkind = \"wrap\"\n[location.head]\nkind = \"fcnet\"\nblocks = 2\n",
    "[location.encoder]\nkind = \"rff\"\nfrequencies = 64\nsigmas = [8.0]\n",
];

fn csp_host(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_csp-host")).arg("-q").args(args).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "csp-host {}: {stderr}", args.join(" "));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_head_learns_and_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    dataset(dir.path());
    let data = path("table.csv");
    for (i, location) in LOCATIONS.into_iter().enumerate() {
        let (config, run) = (path(&format!("{i}.toml")), path(&format!("run-{i}")));
        fs::write(&config, format!("{CONFIG}{location}")).unwrap();
        let mut args = vec!["train", "--data", &data, "--out", &run, "--config", &config, "--device", "cpu"];
        let first = path("run-0");
        if i > 0 {
            args.extend(["--backbone-of", &first]);
        }
        csp_host(&args);
        let table =
            csp_host(&["location", "embed", &run, "--places", &data, "--scores", "--precision", "f32"]);
        let mut lines = table.lines();
        let header: Vec<&str> = lines.next().unwrap().split(',').collect();
        let classes: Vec<(usize, &str)> = (header.iter().enumerate())
            .filter_map(|(at, name)| Some((at, name.strip_prefix("score_")?)))
            .collect();
        assert_eq!((header.len(), classes.len()), (2 + 16 + 3, 3), "{header:?}");
        let right = lines.filter(|line| {
            let numbers: Vec<f64> = line.split(',').map(|number| number.parse().unwrap()).collect();
            let best = classes.iter().max_by(|a, b| numbers[a.0].total_cmp(&numbers[b.0])).unwrap().1;
            best == if numbers[0] < -10.0 {
                "red"
            } else if numbers[0] < 10.0 {
                "green"
            } else {
                "blue"
            }
        });
        let right = right.count() as f64 / 180.0;
        assert!(right > 0.85, "{location}: {right}");
    }
}

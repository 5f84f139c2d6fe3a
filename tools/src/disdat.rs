//! The benchmark of species distribution models by the NCEAS working group (Elith et al., 2020,
//! "disdat"): learn from presences only, predict at sites where presence and absence are known.
//!
//! Location alone, no climate: how far do the places of the records carry? Ours against what a map of the
//! records gives: nearest record, nearest neighbours, kernel density; and does ours add anything to the
//! last? All settings are chosen by blocks of
//! the presence-only records, by how well held-out records of a species are told from held-out records of
//! the others; the presence/absence tables are opened for the result alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use csp_host::{
    evaluation::{
        auc,
        priors::{Kernel, Neighbours, Prior},
    },
    features::location_logits,
    training::{
        PlaceFit,
        config::LocationConfig,
        losses::presence::{PresenceConfig, PresenceKind},
    },
};
use csp_models::{
    encoder::PositionEncoder, fusion::sigmoid, labels::ClassId, place::LatLon, situation::Situation,
};
use rayon::prelude::*;
use serde::Serialize;

/// AUC per species on disdat's presence/absence tables, from its presence-only tables.
#[derive(Debug, clap::Args)]
pub struct DisdatArgs {
    /// Folder with AWT_train_po.csv, AWTtest_pa_bird.csv and so on.
    dir: PathBuf,
    /// Regions.
    #[arg(long, value_delimiter = ',', default_value = "NSW,NZ,AWT")]
    regions: Vec<String>,
    /// Networks that are averaged for the result.
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Steps of training.
    #[arg(long, default_value_t = 300)]
    steps: u64,
    /// Stop after the choice of settings on held-out records: nothing of the result is looked at.
    #[arg(long)]
    records_only: bool,
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
}

/// One record of a species, or one site with what is there.
struct Record {
    at: LatLon,
    class: ClassId,
}

/// Sites of one group of species: where, and for each species whether it is there.
struct Sites {
    places: Vec<LatLon>,
    present: BTreeMap<ClassId, Vec<bool>>,
}

struct Region {
    name: String,
    species: Vec<String>,
    /// Group of each species; species of a group were recorded by the same people.
    groups: Vec<String>,
    records: Vec<Record>,
    sites: Vec<Sites>,
}

/// What is reported of a region.
#[derive(Serialize)]
struct Report {
    region: String,
    species: usize,
    records: usize,
    sites: usize,
    methods: Vec<Line>,
}

/// One method in one region.
#[derive(Serialize)]
struct Line {
    method: &'static str,
    /// Settings, chosen on the records.
    setting: String,
    /// Mean AUC at held-out records, by which they were chosen.
    records_auc: f64,
    /// Mean AUC at the sites.
    auc: f64,
    /// Standard error of that mean over the species.
    error: f64,
    per_species: BTreeMap<String, f64>,
}

/// Scores `[species]` of each place.
type Scores = Vec<Vec<f64>>;

/// Learns from records, with a seed, and scores places.
type Score = dyn Fn(&Region, &[&Record], &[LatLon], u64) -> Scores + Send + Sync;

/// One method with one setting: how to learn from records and score places.
struct Candidate {
    setting: String,
    /// The methods its scores are read as.
    views: &'static [(&'static str, View)],
    score: Arc<Score>,
}

/// What is made of a score.
#[derive(Clone, Copy, PartialEq)]
enum View {
    /// As it is.
    Plain,
    /// Its share among the species of the same group: what is left when everybody's effort is divided out.
    Share,
}

impl View {
    fn of(self, region: &Region, scores: &Scores) -> Scores {
        match self {
            Self::Plain => scores.clone(),
            Self::Share => among_group(region, scores),
        }
    }
}

/// Runs the verb.
///
/// # Errors
/// A table that is missing or not as it should be.
pub fn run(args: &DisdatArgs) -> Result<()> {
    let mut reports = Vec::new();
    for name in &args.regions {
        let region = read(&args.dir, name)?;
        let chosen = choose(&region, args.steps);
        if !args.records_only {
            reports.push(report(&region, &chosen, args.seeds));
        }
    }
    if args.records_only {
        return Ok(());
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&reports)?);
        return Ok(());
    }
    println!(
        "| region | species | method | AUC ± s.e. | held-out records | chosen there |\n|---|---|---|---|---|---|"
    );
    for report in &reports {
        for line in &report.methods {
            println!(
                "| {} | {} | {} | {:.3} ± {:.3} | {:.3} | {} |",
                report.region,
                report.species,
                line.method,
                line.auc,
                line.error,
                line.records_auc,
                line.setting
            );
        }
    }
    Ok(())
}

/// A method with the setting that did best on held-out records.
struct Choice {
    method: &'static str,
    setting: String,
    view: View,
    score: Arc<Score>,
    /// Mean AUC there.
    records_auc: f64,
}

/// The best setting of each method; then pools of the best network and the best kernel.
fn choose(region: &Region, steps: u64) -> Vec<Choice> {
    let folds = folds(region);
    let mut best: Vec<Choice> = Vec::new();
    try_all(region, candidates(region, steps), &folds, &mut best);
    let share = |method: &str| {
        let choice = best.iter().find(|choice| choice.method == method && choice.view == View::Share)?;
        Some((choice.setting.clone(), choice.score.clone()))
    };
    if let (Some(network), Some(kernel)) = (share(OURS_SHARE), share(KDE_SHARE)) {
        let pools = [0.25, 0.5, 0.75].map(|weight| pool(weight, &network, &kernel));
        try_all(region, pools.into(), &folds, &mut best);
    }
    best
}

/// Tries settings on held-out records and keeps what is better than the best of its method so far.
fn try_all(region: &Region, candidates: Vec<Candidate>, folds: &[BTreeSet<usize>], best: &mut Vec<Choice>) {
    for candidate in candidates {
        let reached = cross_validate(region, &candidate, folds);
        for (&(method, view), records_auc) in candidate.views.iter().zip(reached) {
            eprintln!("{} {method}, {}: {records_auc:.3}", region.name, candidate.setting);
            let (setting, score) = (candidate.setting.clone(), candidate.score.clone());
            let choice = Choice { method, setting, view, score, records_auc };
            match best.iter_mut().find(|choice| choice.method == method) {
                Some(before) if records_auc > before.records_auc => *before = choice,
                Some(_) => {}
                None => best.push(choice),
            }
        }
    }
}

const OURS_SHARE: &str = "ours, share in the group";
const KDE_SHARE: &str = "KDE, share in the group";

/// Shares of network and kernel in the group, averaged as logarithms: a species is likely where both
/// say so.
fn pool(weight: f64, network: &(String, Arc<Score>), kernel: &(String, Arc<Score>)) -> Candidate {
    let (network, kernel) = (network.clone(), kernel.clone());
    Candidate {
        setting: format!("{weight} of [{}] with [{}]", network.0, kernel.0),
        views: &[("ours with KDE, shares", View::Plain)],
        score: Arc::new(move |region, records, places, seed| {
            let of = |score: &Score| among_group(region, &score(region, records, places, seed));
            let (ours, theirs) = (of(network.1.as_ref()), of(kernel.1.as_ref()));
            let row = |(ours, theirs): (&Vec<f64>, &Vec<f64>)| {
                let both = ours.iter().zip(theirs);
                both.map(|(ours, theirs)| weight * ours.ln() + (1.0 - weight) * theirs.ln()).collect()
            };
            ours.iter().zip(&theirs).map(row).collect()
        }),
    }
}

/// What the chosen settings reach at the sites.
fn report(region: &Region, chosen: &[Choice], seeds: u64) -> Report {
    let all: Vec<&Record> = region.records.iter().collect();
    let mut methods: Vec<Line> = chosen
        .iter()
        .map(|&Choice { method, ref setting, view, ref score, records_auc }| {
            let mut per_species = BTreeMap::new();
            let places: Vec<LatLon> = region.sites.iter().flat_map(|sites| sites.places.clone()).collect();
            // only a network depends on its seed; the sum orders as the mean
            let seeds = if method.starts_with("ours") { seeds.max(1) } else { 1 };
            let mut sum: Scores = vec![vec![0.0; region.species.len()]; places.len()];
            for seed in 0..seeds {
                let scores = view.of(region, &score(region, &all, &places, seed));
                for (sum, row) in sum.iter_mut().zip(scores) {
                    sum.iter_mut().zip(row).for_each(|(sum, score)| *sum += score);
                }
            }
            let mut first = 0;
            for sites in &region.sites {
                let scores = &sum[first..first + sites.places.len()];
                first += sites.places.len();
                for (class, present) in &sites.present {
                    let rows = scores.iter().zip(present);
                    let scored: Vec<(f64, bool)> =
                        rows.map(|(row, there)| (row[class.index()], *there)).collect();
                    if let Some(area) = auc(&scored) {
                        per_species.insert(region.species[class.index()].clone(), area);
                    }
                }
            }
            let values: Vec<f64> = per_species.values().copied().collect();
            let n = values.len().max(1) as f64;
            let mean = values.iter().sum::<f64>() / n;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
            Line {
                method,
                setting: setting.clone(),
                records_auc,
                auc: mean,
                error: (variance / n).sqrt(),
                per_species,
            }
        })
        .collect();
    methods.sort_by(|a, b| b.auc.total_cmp(&a.auc));
    Report {
        region: region.name.clone(),
        species: region.species.len(),
        records: region.records.len(),
        sites: region.sites.iter().map(|sites| sites.places.len()).sum(),
        methods,
    }
}

/// Parts of the records, whole cells each: a sixteenth of the region wide, dealt in turn.
fn folds(region: &Region) -> Vec<BTreeSet<usize>> {
    let (low, high) = corners(region);
    let side = ((high.0 - low.0).max(high.1 - low.1) / 16.0).max(1e-3);
    let mut folds = vec![BTreeSet::new(); 3];
    for (i, record) in region.records.iter().enumerate() {
        let cell = |value: f64, low: f64| ((value - low) / side).floor() as usize;
        let (row, column) = (cell(record.at.lat(), low.0), cell(record.at.lon(), low.1));
        folds[(row * 5 + column * 7 + row * column) % 3].insert(i);
    }
    folds
}

/// (latitude, longitude) of the south-western and north-eastern corner of the records.
fn corners(region: &Region) -> ((f64, f64), (f64, f64)) {
    let places = || region.records.iter().map(|record| record.at);
    let low = |f: fn(LatLon) -> f64| places().map(f).fold(f64::INFINITY, f64::min);
    let high = |f: fn(LatLon) -> f64| places().map(f).fold(f64::NEG_INFINITY, f64::max);
    ((low(LatLon::lat), low(LatLon::lon)), (high(LatLon::lat), high(LatLon::lon)))
}

/// For each view, the mean AUC over the species: records of it against records of others of its group,
/// each scored when its block was held out.
fn cross_validate(region: &Region, candidate: &Candidate, folds: &[BTreeSet<usize>]) -> Vec<f64> {
    let mut reached: Vec<BTreeMap<ClassId, Vec<f64>>> = vec![BTreeMap::new(); candidate.views.len()];
    for fold in folds {
        let learned: Vec<&Record> =
            region.records.iter().enumerate().filter(|(i, _)| !fold.contains(i)).map(|(_, r)| r).collect();
        let held: Vec<&Record> = fold.iter().map(|&i| &region.records[i]).collect();
        let places: Vec<LatLon> = held.iter().map(|record| record.at).collect();
        let scores = (candidate.score)(region, &learned, &places, 0);
        for ((_, view), reached) in candidate.views.iter().zip(&mut reached) {
            let scores = view.of(region, &scores);
            for class in (0..region.species.len()).map(|i| ClassId(i as u16)) {
                let group = &region.groups[class.index()];
                let rows = held.iter().zip(&scores);
                let rows = rows.filter(|(record, _)| region.groups[record.class.index()] == *group);
                let rows: Vec<(f64, bool)> =
                    rows.map(|(record, row)| (row[class.index()], record.class == class)).collect();
                if rows.iter().filter(|(_, own)| *own).count() >= FEWEST {
                    reached.entry(class).or_default().extend(auc(&rows));
                }
            }
        }
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let of_species = |reached: &BTreeMap<ClassId, Vec<f64>>| {
        mean(&reached.values().filter(|folds| !folds.is_empty()).map(|folds| mean(folds)).collect::<Vec<_>>())
    };
    reached.iter().map(of_species).collect()
}

/// Held-out records of a species that its AUC needs.
const FEWEST: usize = 3;

/// The tables have no dates.
fn undated(places: &[LatLon]) -> Vec<Situation> {
    places.iter().copied().map(Situation::undated).collect()
}

fn seen(records: &[&Record]) -> Vec<(Situation, ClassId)> {
    records.iter().map(|record| (Situation::undated(record.at), record.class)).collect()
}

/// Scores as shares among the species of the same group.
fn among_group(region: &Region, scores: &Scores) -> Scores {
    let share = |row: &Vec<f64>| {
        let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
        for (score, group) in row.iter().zip(&region.groups) {
            *sums.entry(group).or_default() += score + FLOOR;
        }
        let group = row.iter().zip(&region.groups);
        group.map(|(score, group)| (score + FLOOR) / sums[group.as_str()]).collect()
    };
    scores.iter().map(share).collect()
}

/// Added to each score before shares are taken: where there is nothing, all are alike.
const FLOOR: f64 = 1e-3;

fn candidates(region: &Region, steps: u64) -> Vec<Candidate> {
    let mut all = vec![Candidate {
        setting: "distance to it".into(),
        views: &[("nearest record", View::Plain)],
        score: Arc::new(|region, records, places, _| {
            let one = |at: &LatLon| {
                let mut nearest = vec![f64::INFINITY; region.species.len()];
                for record in records {
                    let slot = &mut nearest[record.class.index()];
                    *slot = slot.min(at.distance_m(record.at));
                }
                nearest.into_iter().map(|metres| -metres.min(1e9)).collect()
            };
            places.iter().map(one).collect()
        }),
    }];
    for k in [5, 10, 20, 40, 80, 160] {
        all.push(Candidate {
            setting: format!("k = {k}, share in the group"),
            views: &[("nearest neighbours", View::Share)],
            score: Arc::new(move |region, records, places, _| {
                let prior = Neighbours::new(&seen(records), region.species.len(), k);
                places.par_iter().map(|&at| prior.shares(Situation::undated(at))).collect()
            }),
        });
    }
    let span = span(region);
    for part in [0.005, 0.01, 0.02, 0.04, 0.08, 0.16] {
        all.push(Candidate {
            setting: format!("bandwidth {:.1} km", part * span / 1e3),
            views: &[("KDE", View::Plain), (KDE_SHARE, View::Share)],
            score: Arc::new(move |region, records, places, _| {
                let kernel = Kernel::new(&seen(records), region.species.len(), part * span, 1.0);
                places.par_iter().map(|&at| kernel.densities(Situation::undated(at))).collect()
            }),
        });
    }
    for r_min in [0.05, 0.15, 0.4] {
        for kind in [PresenceKind::Full, PresenceKind::CrossEntropy] {
            for share in [0.3, 1.0] {
                let steps = (share * steps as f64).round() as u64;
                all.push(Candidate {
                    setting: format!("grid from {r_min}°, {kind:?} loss, {steps} steps"),
                    views: &[("ours", View::Plain), (OURS_SHARE, View::Share)],
                    score: Arc::new(move |region, records, places, seed| {
                        network(region, records, places, seed, (r_min, kind, 0.0, steps))
                    }),
                });
            }
        }
        all.push(Candidate {
            setting: format!("grid from {r_min}°, Full loss with the region as background, {steps} steps"),
            views: &[("ours", View::Plain), (OURS_SHARE, View::Share)],
            score: Arc::new(move |region, records, places, seed| {
                network(region, records, places, seed, (r_min, PresenceKind::Full, 1.0, steps))
            }),
        });
    }
    all
}

/// The longer side of the region, about, metres.
fn span(region: &Region) -> f64 {
    let (low, high) = corners(region);
    (high.0 - low.0).max(high.1 - low.1) * 111_000.0
}

/// Presence scores of a location network trained on the records; shares of all species after the softmax
/// loss.
fn network(
    region: &Region,
    records: &[&Record],
    places: &[LatLon],
    seed: u64,
    (r_min, kind, background, steps): (f64, PresenceKind, f64, u64),
) -> Scores {
    let encoder =
        PositionEncoder::scaled("space2vec-grid", 12, r_min, 40.0).expect("the candidates are valid");
    let location = LocationConfig { encoder, hidden: 256, embedding: 128, ..LocationConfig::default() };
    let loss = PresenceConfig { kind, background_weight: background, ..PresenceConfig::default() };
    let fit = PlaceFit { location, loss, steps, batch: 512, lr: 2e-3, weight_decay: 0.01, seed };
    let device = Device::flex();
    let around = if background > 0.0 { grid(region) } else { Vec::new() };
    let rows: Vec<(Situation, ClassId)> =
        records.iter().map(|record| (Situation::undated(record.at), record.class)).collect();
    let network = fit.fit(&rows, region.species.len(), &around, &device);
    let logits = location_logits(&network, &fit.location.encoder, &undated(places), &device);
    let score = |row: Vec<f32>| -> Vec<f64> {
        if kind == PresenceKind::CrossEntropy {
            let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let odds: Vec<f64> = row.iter().map(|z| f64::from(z - highest).exp()).collect();
            let sum: f64 = odds.iter().sum();
            odds.into_iter().map(|odds| odds / sum).collect()
        } else {
            row.into_iter().map(|z| sigmoid(f64::from(z))).collect()
        }
    };
    logits.into_iter().map(score).collect()
}

/// Places all over the region: a grid of 100 by 100 in the box of the records, kept where a record is
/// within an eighth of it.
fn grid(region: &Region) -> Vec<LatLon> {
    let (low, high) = corners(region);
    let reach = span(region) / 8.0;
    let at = |i: u32| {
        let part = |i: u32| (f64::from(i) + 0.5) / 100.0;
        LatLon::new(low.0 + (high.0 - low.0) * part(i / 100), low.1 + (high.1 - low.1) * part(i % 100)).ok()
    };
    let cells: Vec<LatLon> = (0..10_000).filter_map(at).collect();
    let near = |at: &&LatLon| region.records.iter().any(|record| at.distance_m(record.at) < reach);
    cells.par_iter().filter(near).copied().collect()
}

/// Reads a region. Coordinates are the columns `lat` and `lon`, degrees; `x` and `y` are the projected
/// ones they come from.
fn read(dir: &Path, name: &str) -> Result<Region> {
    let path = dir.join(format!("{name}_train_po.csv"));
    let mut table = csv::Reader::from_path(&path).with_context(|| path.display().to_string())?;
    let mut species: BTreeMap<String, String> = BTreeMap::new();
    let mut raw: Vec<(LatLon, String)> = Vec::new();
    let header = table.headers()?.clone();
    let place = |row: &csv::StringRecord, header: &csv::StringRecord, path: &Path| -> Result<LatLon> {
        let number = |column: &str| -> Result<f64> {
            let text = field(row, header, column, path)?;
            text.parse().with_context(|| format!("{}: {column} {text:?}", path.display()))
        };
        Ok(LatLon::new(number("lat")?, number("lon")?)?)
    };
    for row in table.records() {
        let row = row?;
        let id = field(&row, &header, "spid", &path)?;
        species.insert(id.clone(), field(&row, &header, "group", &path)?);
        raw.push((place(&row, &header, &path)?, id));
    }
    let groups: Vec<String> = species.values().cloned().collect();
    let species: Vec<String> = species.into_keys().collect();
    let number = |id: &str| species.iter().position(|known| known == id).map(|i| ClassId(i as u16));
    let records = raw.iter().filter_map(|(at, id)| Some(Record { at: *at, class: number(id)? })).collect();

    let mut tables: Vec<PathBuf> = fs::read_dir(dir)
        .with_context(|| dir.display().to_string())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            file.starts_with(&format!("{name}test_pa")) && file.ends_with(".csv")
        })
        .collect();
    tables.sort();
    if tables.is_empty() {
        bail!("{}: no {name}test_pa*.csv", dir.display());
    }
    let mut sites = Vec::new();
    for path in tables {
        let mut table = csv::Reader::from_path(&path).with_context(|| path.display().to_string())?;
        let header = table.headers()?.clone();
        let columns: Vec<(usize, ClassId)> =
            header.iter().enumerate().filter_map(|(i, column)| Some((i, number(column)?))).collect();
        let mut group = Sites { places: Vec::new(), present: BTreeMap::new() };
        for row in table.records() {
            let row = row?;
            group.places.push(place(&row, &header, &path)?);
            for (column, class) in &columns {
                group
                    .present
                    .entry(*class)
                    .or_default()
                    .push(row.get(*column).is_some_and(|v| v.trim() == "1"));
            }
        }
        sites.push(group);
    }
    Ok(Region { name: name.into(), species, groups, records, sites })
}

fn field(row: &csv::StringRecord, header: &csv::StringRecord, column: &str, path: &Path) -> Result<String> {
    let at = header.iter().position(|name| name == column);
    let value = at.and_then(|at| row.get(at)).map(str::to_string);
    value.with_context(|| format!("{}: no column {column:?}", path.display()))
}

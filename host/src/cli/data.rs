//! `csp-host data`: what is in a data set, and what is wrong with it.

use std::{
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::bail;
use clap::{Args, Subcommand};

use super::{Context, print_json};
use crate::{
    data::{self, Dataset, Format, Options, Row, Split, SplitBy, SplitPlan, check},
    progress::{Progress, Voice},
    training::RunDir,
};

/// Look at a data set before training on it.
#[derive(Debug, Args)]
pub struct DataArgs {
    #[command(subcommand)]
    command: DataCommand,
}

#[derive(Debug, Subcommand)]
enum DataCommand {
    Check(CheckArgs),
}

/// Report what is in a data set and what is wrong with it
///
/// Counts rows, classes and splits, draws a map, decodes every photograph, and lists every problem by
/// kind with its first lines and the fix. Errors are what training refuses, since it would spoil the
/// model unnoticed: text or NaN as a coordinate, swapped or out-of-range or 0,0 places, missing and
/// truncated photographs, one photograph under two classes or in two splits. Warnings are for you to judge.
///
/// Ends with 0 when there are no errors and with 1 when there are; the report is complete either way.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// A table, a folder of photographs or tiles, an annotation JSON, a Camtrap DP package, …
    ///
    /// Understood as they are distributed: CSV and TSV; a folder with a sub-folder a class (place from
    /// EXIF, or from the georeference of GeoTIFF tiles); COCO Camera Traps JSON with a location table;
    /// iNaturalist 2017, 2018 and 2021 JSON; a folder with such a JSON for each split (train2018.json,
    /// cis_val_annotations.json); fMoW's tree of …_rgb.json; geo_prior's BirdSnap and NABirds JSON; YFCC's
    /// and SINR's CSV; Camtrap DP packages.
    ///
    /// A table names its columns in the first line: `image_path,lat,lon` and, where known, `date`,
    /// `label`, `split`, `camera`, `user`, `uncertainty_m`; common other names (latitude, lng, species, …) are understood.
    path: PathBuf,
    /// Read it as this format instead of recognising it
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Table or JSON `location,lat,lon` with the places of a COCO or iNaturalist JSON
    ///
    /// Found without this option when it is called <name>_locations.csv, <name>_locations.json or
    /// locations.csv beside the JSON.
    #[arg(long, value_name = "FILE")]
    locations: Option<PathBuf>,
    /// Folder that the photographs' names in a table, JSON or package start at
    ///
    /// Unset: beside the file, in a folder `images` or one named like the file, else in the only folder
    /// beside it or around its own that holds them.
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    #[command(flatten)]
    division: Division,
    /// Do not decode the photographs: quicker, and truncated and identical files stay unnoticed
    #[arg(long)]
    no_images: bool,
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
}

/// Runs `csp-host data …`.
///
/// # Errors
/// The data set has errors; the report was printed.
pub fn run(args: &DataArgs, context: &Context) -> anyhow::Result<()> {
    match &args.command {
        DataCommand::Check(args) => check(args, context),
    }
}

fn check(args: &CheckArgs, context: &Context) -> anyhow::Result<()> {
    let mut options = Options {
        format: args.format,
        locations: args.locations.clone(),
        images: args.images.clone(),
        ..Options::default()
    };
    args.division.apply(&mut options, &SplitPlan::default());
    let report = check::check(&args.path, &options, !args.no_images, |photographs| {
        let total = photographs as u64;
        let progress = Mutex::new(Some(Progress::new(context.voice, "decode", 0, total)));
        let done = AtomicU64::new(0);
        // called from every decoding thread
        move || {
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            let Ok(mut progress) = progress.lock() else { return };
            if let Some(progress) = progress.as_mut() {
                progress.at(done, String::new);
            }
            if done == total
                && let Some(progress) = progress.take()
            {
                progress.done(&format!("{total} photographs"));
            }
        }
    });
    if args.json {
        print_json(&report)?;
    } else {
        out!("{report}");
    }
    if report.errors > 0 {
        bail!("{}: {}", args.path.display(), check::plural(report.errors, "error"));
    }
    Ok(())
}

/// Which rows and which part of them.
#[derive(Clone, Debug, Default, Args)]
pub struct Division {
    /// Divide the rows anew: `random`, `block`, `block:KM`, `camera`; `given` keeps the source's splits
    ///
    /// `block` keeps cells of the map together (100 km, or as given), `camera` all photographs of a
    /// camera, site or location: without either, neighbours on both sides make the figures too good.
    /// Rows that the source keeps for test stay there; rows without a place or camera go to train.
    #[arg(long, value_name = "WAY")]
    pub split_by: Option<SplitBy>,
    /// Share of the rows that --split-by puts into val [default: 0.2]
    #[arg(long, value_name = "SHARE", requires = "split_by", value_parser = super::share)]
    pub split_val: Option<f64>,
    /// Seed of --split-by [default: 0]
    #[arg(long, value_name = "N", requires = "split_by")]
    pub split_seed: Option<u64>,
    /// Leave the photographs aside, even where they are not on this disk, and learn from places alone
    #[arg(long)]
    pub places_only: bool,
}

impl Division {
    /// What was asked for here, else `otherwise`.
    fn plan(&self, otherwise: &SplitPlan) -> SplitPlan {
        let Some(by) = self.split_by else { return otherwise.clone() };
        let default = SplitPlan::default();
        SplitPlan {
            by,
            val: self.split_val.unwrap_or(default.val),
            seed: self.split_seed.unwrap_or(default.seed),
        }
    }

    fn apply(&self, options: &mut Options, otherwise: &SplitPlan) {
        options.places_only = self.places_only;
        options.split = Some(self.plan(otherwise)).filter(|plan| !plan.is_given());
    }
}

/// A data set on the command line of a verb that works on one.
#[derive(Clone, Debug, Args)]
pub struct DataSource {
    /// Photographs with places, or places alone: a table, a folder, an annotation JSON, a Camtrap DP
    /// package; `csp-host data check --help` lists the formats.
    #[arg(long, value_name = "TABLE")]
    pub data: PathBuf,
    /// Read it as this format instead of recognising it.
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// Table or JSON with the places of a COCO or iNaturalist JSON.
    #[arg(long, value_name = "FILE")]
    pub locations: Option<PathBuf>,
    /// Folder that the photographs' names in a table, JSON or package start at, where it is not found.
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
    // not a flattened `Division`: clap cannot tell whether an optional group with one inside was given
    /// Divide the rows anew: `random`, `block`, `block:KM`, `camera`, or `given` as the source has it.
    #[arg(long, value_name = "WAY")]
    pub split_by: Option<SplitBy>,
    /// Share of the rows that --split-by puts into val [default: 0.2].
    #[arg(long, value_name = "SHARE", requires = "split_by", value_parser = super::share)]
    pub split_val: Option<f64>,
    /// Seed of --split-by [default: 0].
    #[arg(long, value_name = "N", requires = "split_by")]
    pub split_seed: Option<u64>,
    /// Leave the photographs aside, even where they are not on this disk: learn from places alone.
    #[arg(long)]
    pub places_only: bool,
    /// How a run divided this data, [taken over](Self::as_in) where the flags say nothing.
    #[arg(skip)]
    of_run: Option<(SplitPlan, Option<Split>)>,
}

impl DataSource {
    /// Data as it is, with the source's own splits.
    pub fn plain(data: PathBuf, format: Option<Format>, locations: Option<PathBuf>) -> Self {
        let (split_by, split_val, split_seed) = (None, None, None);
        let (places_only, of_run) = (false, None);
        Self { data, format, locations, images: None, split_by, split_val, split_seed, places_only, of_run }
    }

    /// How the rows are divided: by the flags, else `otherwise`.
    pub fn plan(&self, otherwise: &SplitPlan) -> SplitPlan {
        self.division().plan(otherwise)
    }

    fn division(&self) -> Division {
        let Self { split_by, split_val, split_seed, places_only, .. } = *self;
        Division { split_by, split_val, split_seed, places_only }
    }

    /// Takes over how a run read and divided its data, where it is that data and nothing else is said here:
    /// `eval RUN --data T --split val` is then about the rows the run never saw.
    pub fn as_in(&mut self, run: &std::path::Path) {
        let Ok(run) = RunDir::open(run) else { return };
        let same = std::path::absolute(&self.data).is_ok_and(|path| path == run.info().data);
        let Options { split, held_out, format, locations, images, .. } = &run.info().data_options;
        if same {
            self.format = self.format.or(*format);
            self.locations = self.locations.take().or_else(|| locations.clone());
            self.images = self.images.take().or_else(|| images.clone());
        }
        if let Some(plan) = split.as_ref().filter(|_| same && self.split_by.is_none()) {
            self.of_run = Some((plan.clone(), *held_out));
        }
    }

    /// Opens it; how it was understood and its warnings go to stderr.
    ///
    /// # Errors
    /// Anything that would spoil training or a figure unnoticed.
    pub fn open(&self, voice: Voice) -> anyhow::Result<Dataset> {
        self.opened(&SplitPlan::default(), false, voice)
    }

    /// [`open`](Self::open) to learn from, divided as `plan` says where the flags say nothing.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), and rows that cannot be divided so.
    pub fn open_split(&self, plan: &SplitPlan, voice: Voice) -> anyhow::Result<Dataset> {
        self.opened(plan, true, voice)
    }

    fn opened(&self, plan: &SplitPlan, teach: bool, voice: Voice) -> anyhow::Result<Dataset> {
        let mut options = Options {
            format: self.format,
            locations: self.locations.clone(),
            images: self.images.clone(),
            ..Options::default()
        };
        let (plan, held_out) = self.of_run.as_ref().map_or((plan, None), |(plan, held)| (plan, *held));
        self.division().apply(&mut options, plan);
        options.held_out = held_out;
        let opened = data::open_with(&self.data, &options)?;
        voice.say(&format!("{}: {}, {} rows", self.data.display(), opened.format, opened.dataset.rows.len()));
        if options.split.is_some() {
            opened.notes.iter().filter(|note| note.starts_with("divided")).for_each(|note| voice.say(note));
        }
        opened.notes.iter().filter(|note| note.starts_with("photographs")).for_each(|note| voice.say(note));
        if teach {
            lacking(&opened.dataset.rows).iter().for_each(|line| voice.say(line));
        }
        for problem in opened.problems.iter() {
            voice.say(problem.to_string().trim());
        }
        Ok(opened.dataset)
    }
}

/// What becomes of rows to learn from that lack a place, a photograph or both, each row once.
fn lacking(rows: &[Row]) -> Vec<String> {
    let count = |place: bool, photograph: bool| {
        rows.iter().filter(|row| row.place.is_some() == place && row.image.is_some() == photograph).count()
    };
    [
        (count(false, true), "are without a place: the image branch alone learns from them"),
        (count(true, false), "are without a photograph: the location branch alone learns from them"),
        (count(false, false), "have neither a place nor a photograph: nothing is learned from them"),
    ]
    .into_iter()
    .filter(|(n, _)| *n > 0)
    .map(|(n, what)| format!("{n} of {} rows {what}", rows.len()))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::{RowRoles, TrainConfig, run_dir::RunInfo};
    use clap::Parser;

    /// As `csp-host train` has it, which needs no data set to print its configuration.
    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        source: Option<DataSource>,
    }

    #[test]
    fn a_run_finds_its_rows_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        let rows: String =
            (0..30).map(|i| format!("{}.5,{i}.25,{}\n", i - 15, ["a", "b"][i as usize % 2])).collect();
        std::fs::write(&path, format!("lat,lon,label\n{rows}")).unwrap();
        let plain = data::open(&path, None).unwrap().dataset;
        let plan = SplitPlan { by: SplitBy::Block { km: 50.0 }, val: 0.3, seed: 0 };
        for held in [Split::Val, Split::Test] {
            let divided = plain.divided(&plan, held).unwrap();
            let info = RunInfo::new(&divided, 0, 1.0, "cpu".into(), TrainConfig::default());
            let run = dir.path().join(held.to_string());
            RunDir::create(&run, info, &RowRoles::default()).unwrap();
            let mut source = DataSource::plain(path.clone(), None, None);
            source.as_in(&run);
            let opened = source.open(Voice::Silent).unwrap();
            assert_eq!((&opened.sha256, &opened.rows), (&divided.sha256, &divided.rows));
            let mut given = DataSource { split_by: Some(SplitBy::Given), ..source.clone() };
            given.of_run = None;
            given.as_in(&run);
            assert_eq!(given.open(Voice::Silent).unwrap().sha256, plain.sha256, "the flag has the last word");
        }
    }

    #[test]
    fn what_rows_lack_is_told_once() {
        let place = csp_models::place::LatLon::new(1.0, 2.0).ok();
        let image = Some(PathBuf::from("a.jpg"));
        let row = |place, image: &Option<PathBuf>| Row { place, image: image.clone(), ..Row::default() };
        let rows = [row(place, &image), row(None, &image), row(place, &None), row(None, &None)];
        let said = lacking(&rows);
        assert_eq!(said.len(), 3);
        assert!(said.iter().all(|line| line.starts_with("1 of 4 rows")), "{said:?}");
        assert!(said[2].contains("neither"), "{said:?}");
        assert!(lacking(&rows[..1]).is_empty());
    }

    #[test]
    fn an_optional_source_with_its_split() {
        let parse = |args: &[&str]| Cli::try_parse_from([&["x", "--data", "t.csv"], args].concat());
        let plan = |args: &[&str]| parse(args).unwrap().source.unwrap().plan(&SplitPlan::default());
        assert!(plan(&[]).is_given());
        let blocks = SplitPlan { by: SplitBy::Block { km: 50.0 }, val: 0.3, seed: 4 };
        assert_eq!(plan(&["--split-by", "block:50", "--split-val", "0.3", "--split-seed", "4"]), blocks);
        assert!(parse(&["--split-val", "0.3"]).is_err(), "a share of what");
        let error = parse(&["--split-by", "house"]).unwrap_err().to_string();
        assert!(error.contains("none of given, random, block"), "{error}");
    }
}

//! `csp-host add-class`.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use csp_models::{
    fusion::Fusion,
    labels::{ClassId, Label},
    situation::Situation,
};

use super::{Context, data::DataSource, print_json};
use crate::{
    data::{self, Format, Row},
    training::{
        RunDir, TrainedModel,
        add_class::{AddClass, AddReport, add_class},
        added_records::AddedRecords,
    },
};

/// Add a class to a finished run from a few places it was seen at, without training anew.
///
/// Fits one row of the class matrix on the frozen location encoder: the records are presences, the
/// places of the other classes and random places presumed absences. Reports how well records are found
/// when the cell of the map they lie in is left out, and what the class takes from the others at their
/// places: its share of the prior as the fusion weighs it. The calibration of the fusion (temperature,
/// weight, floor) stays the old run's. That run is not touched; the new one keeps the records, for
/// `csp-host map`.
///
/// Nobody showed the image network a picture of it: the new run knows the class by place only. It has a
/// range map and a place in the prior; answers to pictures stay among the classes the image network
/// knows, and `export` refuses the run. For pictures of it, train again with some.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  csp-host add-class runs/first --records ten.csv --name \"Lynx pardinus\" -o runs/with-lynx
  csp-host map runs/with-lynx --class \"Lynx pardinus\" -o lynx.png")]
pub struct AddClassArgs {
    /// A finished run with a location branch.
    run: PathBuf,
    /// Where the class was seen: a CSV or TSV with lat and lon.
    #[arg(long, value_name = "TABLE")]
    records: PathBuf,
    /// Read --records as this format instead of recognising it.
    #[arg(long, value_enum)]
    records_format: Option<Format>,
    /// Name of the class; unset: the only label in --records.
    #[arg(long)]
    name: Option<String>,
    /// The data the run was trained on, where it has moved.
    #[arg(long, value_name = "TABLE")]
    data: Option<PathBuf>,
    /// Seed of the random places.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Directory of the new run; must not exist yet.
    #[arg(short, long, value_name = "RUN")]
    out: PathBuf,
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
/// A run that cannot be added to, too few records, an output that exists.
pub fn run(args: &AddClassArgs, context: &Context) -> Result<()> {
    let source = DataSource::plain(args.records.clone(), args.records_format, None);
    let records = source.open(context.voice)?;
    let labels = &records.labels.0;
    let name = match (&args.name, &labels[..]) {
        (Some(name), _) => name.clone(),
        (None, [only]) => only.name.clone(),
        (None, []) => bail!("{}: no label column; give --name", args.records.display()),
        (None, many) => bail!(
            "{}: {} labels ({}); keep the rows of one, or give --name to take all rows as one class",
            args.records.display(),
            many.len(),
            listed(many)
        ),
    };
    let places: Vec<Situation> = records.rows.iter().filter_map(Row::situation).collect();
    let without = records.rows.len() - places.len();
    if without > 0 {
        context.voice.say(&format!("{without} records without a place are left out"));
    }
    let (others, seasonal) = others(args, context)?;
    let undated = places.iter().filter(|place| place.date.is_none()).count();
    if seasonal && undated > 0 {
        context.voice.say(&format!(
            "season: {undated} of {} records have no date; they count as the middle of the year's circle",
            places.len()
        ));
    }
    let report = add_class(&AddClass {
        run: &args.run,
        out: &args.out,
        name: &name,
        records: &places,
        others: &others,
        seed: args.seed,
        voice: context.voice,
    })?;
    if args.json {
        return print_json(&report);
    }
    print(&report);
    context.voice.say(&format!("wrote {}", args.out.display()));
    Ok(())
}

/// The first names of some classes.
fn listed(labels: &[Label]) -> String {
    const SHOWN: usize = 8;
    let names: Vec<&str> = labels.iter().take(SHOWN).map(|label| label.name.as_str()).collect();
    names.join(", ") + if labels.len() > SHOWN { ", …" } else { "" }
}

/// Where the run's classes were seen: the placed and labelled rows it learned from; and whether the run
/// knows seasons.
fn others(args: &AddClassArgs, context: &Context) -> Result<(Vec<(Situation, ClassId)>, bool)> {
    let run = RunDir::open(&args.run)?;
    let (path, options) = (args.data.as_deref().unwrap_or(run.data()), &run.info().data_options);
    let data = data::open_with(path, options)
        .with_context(|| {
            format!("the places of the other classes, from {}; --data says where it is now", path.display())
        })?
        .dataset;
    if data.sha256 != run.info().data_sha256 {
        context.voice.say(&format!("warning: {} is not what the run was trained on", path.display()));
    }
    let TrainedModel { labels, encoder, .. } = TrainedModel::load(&args.run, &burn::tensor::Device::flex())?;
    let used = run.rows()?.labelled;
    let rows = used.iter().filter_map(|&row| data.rows.get(row));
    let seen = rows.filter_map(|row| Some((row.situation()?, labels.find(data.labels.name(row.class?))?)));
    // classes that were added before this one are others too
    let added = AddedRecords::read(&run)?;
    let added = added.classes.iter().filter_map(|(name, records)| Some((labels.find(name)?, records)));
    let added = added.flat_map(|(class, records)| records.iter().map(move |record| (*record, class)));
    Ok((seen.chain(added).collect(), encoder.is_some_and(|encoder| encoder.season())))
}

/// Classes printed.
const MOST: usize = 10;

fn print(report: &AddReport) {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let cells = match report.cells {
        1 => format!("one cell of {}°", report.cell_deg),
        cells => format!("{cells} cells of {}°", report.cell_deg),
    };
    outln!("{}: fitted on {} records in {cells}", report.class, report.records);
    let left_out = match report.left_out_score {
        Some(score) => format!("{score:.2} at records whose cell was left out"),
        None => "unknown away from the records, with no second cell to leave out".into(),
    };
    outln!(
        "presence score: {left_out}; {:.2} at {} places of other classes",
        report.others_score,
        report.others
    );
    let [before, after] = report.others_top1;
    outln!(
        "the prior names the other classes first at {} of their places, {} before; it takes at most {} of the prior there",
        percent(after),
        percent(before),
        percent(report.largest_share)
    );
    outln!(
        "\n{:<28} {:>7}  {:>12}  {:>11}  {:>6}",
        "class",
        "places",
        "first before",
        "first after",
        "taken"
    );
    for effect in report.effects.iter().take(MOST) {
        outln!(
            "{:<28} {:>7}  {:>12}  {:>11}  {:>6}",
            effect.class,
            effect.n,
            effect.first_before,
            effect.first_after,
            percent(effect.share_taken)
        );
    }
    let Fusion { temperature, prior_weight, prior_floor, .. } = report.fusion;
    outln!(
        "\ntaken: of the prior as the fusion weighs it. Its calibration (T = {temperature:.2}, w = {prior_weight:.2}, \
         floor = {prior_floor:.3}) is the old run's, fitted without {}.",
        report.class
    );
    outln!("The image network does not know {}: answers to pictures are as before.", report.class);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_stand_for_names_that_are_left_out() {
        let labels: Vec<Label> = ('a'..='i').map(Label::new).collect();
        assert_eq!(listed(&labels[..2]), "a, b");
        assert_eq!(listed(&labels[..8]), "a, b, c, d, e, f, g, h");
        assert_eq!(listed(&labels), "a, b, c, d, e, f, g, h, …");
    }
}

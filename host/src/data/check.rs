//! The report of `csp-host data check`: what is in a data set, and what is wrong with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
};

use csp_models::{encoder::PositionEncoder, place::LatLon};
use serde::Serialize;

use super::{
    DataError, Dataset, Format, Opened, Options, Split, about_seam, check_images, inspect,
    problem::{Kind, Problem, Problems, Severity, quoted},
    text_map,
};
pub use super::{check_images::ImageReport, text_map::Bounds};

/// Classes printed before the rest is summed up.
const CLASSES_SHOWN: usize = 20;

/// Everything about a data set. `Display` is the report for people, serde the one for programs.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What was checked.
    pub source: String,
    /// The format it was read as; `None` when it cannot be read.
    pub format: Option<Format>,
    /// How it was understood.
    pub notes: Vec<String>,
    /// Digest of the rows.
    pub sha256: String,
    /// Rows, repeats left out.
    pub rows: usize,
    /// Rows that name a photograph.
    pub with_photograph: usize,
    /// Rows with a place.
    pub with_place: usize,
    /// Rows with a class.
    pub with_class: usize,
    /// Rows with a season.
    pub with_season: usize,
    /// Different cameras or sites.
    pub cameras: usize,
    /// Different people who took them.
    pub users: usize,
    /// Rows whose place has an uncertainty.
    pub with_uncertainty: usize,
    /// Rows of each split; `none` without one.
    pub splits: BTreeMap<String, usize>,
    /// Rows of each class, most first.
    pub classes: Vec<ClassCount>,
    /// The box around all places.
    pub bounds: Option<Bounds>,
    /// What decoding found; `None` when photographs were not decoded.
    pub images: Option<ImageReport>,
    /// Number of errors.
    pub errors: usize,
    /// Number of warnings.
    pub warnings: usize,
    /// What is wrong, errors first.
    pub problems: Vec<Problem>,
    /// True when every place would also be one with latitude and longitude exchanged: only a look at the map tells.
    pub could_be_swapped: bool,
    /// What the default location encoder makes of places on both sides of ±180°, where there are such.
    pub seam: Option<String>,
    /// The map, drawn.
    #[serde(skip)]
    map: String,
}

/// How often a class occurs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClassCount {
    /// Its name.
    pub name: String,
    /// Rows of all splits.
    pub total: usize,
    /// Rows for training.
    pub train: usize,
    /// Rows for choosing.
    pub val: usize,
    /// Rows for the end.
    pub test: usize,
}

/// Checks a data set of any condition. `images`: decode every photograph too. `start` is told how many
/// there are, and what it returns is called once for each.
pub fn check<P: Fn() + Sync>(
    path: &Path,
    options: &Options,
    images: bool,
    start: impl FnOnce(usize) -> P,
) -> Report {
    match inspect(path, options) {
        Ok(mut opened) => {
            let report = images.then(|| {
                let photographs = opened.dataset.rows.iter().filter(|row| row.image.is_some()).count();
                let done = start(photographs - opened.problems.count(Kind::MissingImage).min(photographs));
                check_images::check(&opened.dataset, &mut opened.problems, &done)
            });
            summarise(opened, report)
        }
        Err(error) => unusable(path, &error),
    }
}

fn summarise(opened: Opened, images: Option<ImageReport>) -> Report {
    let Opened { dataset, format, notes, problems } = opened;
    let rows = &dataset.rows;
    let count = |has: fn(&super::Row) -> bool| rows.iter().filter(|row| has(row)).count();
    let mut splits = BTreeMap::new();
    for row in rows {
        *splits.entry(row.split.map_or("none".to_string(), |s| s.to_string())).or_default() += 1;
    }
    let places: Vec<LatLon> = rows.iter().filter_map(|row| row.place).collect();
    let bounds = Bounds::of(&places);
    let cameras: BTreeSet<&str> = rows.iter().filter_map(|row| row.camera.as_deref()).collect();
    let users: BTreeSet<&str> = rows.iter().filter_map(|row| row.user.as_deref()).collect();
    Report {
        source: dataset.source.display().to_string(),
        format: Some(format),
        notes,
        sha256: dataset.sha256.clone(),
        rows: rows.len(),
        with_photograph: count(|row| row.image.is_some()),
        with_place: places.len(),
        with_class: count(|row| row.class.is_some()),
        with_season: count(|row| row.season.is_some()),
        cameras: cameras.len(),
        users: users.len(),
        with_uncertainty: count(|row| row.uncertainty_m.is_some()),
        splits,
        classes: count_classes(&dataset),
        bounds,
        images,
        errors: problems.total(Severity::Error),
        warnings: problems.total(Severity::Warning),
        problems: problems.iter().cloned().collect(),
        seam: about_seam(rows, &PositionEncoder::default()),
        could_be_swapped: !places.is_empty() && places.iter().all(|place| place.lon().abs() <= 90.0),
        map: bounds.map_or(String::new(), |bounds| text_map::draw(&places, &bounds)),
    }
}

fn unusable(path: &Path, error: &DataError) -> Report {
    let mut problems = Problems::default();
    problems.add(Kind::Unusable, || error.to_string());
    Report {
        source: path.display().to_string(),
        format: None,
        notes: Vec::new(),
        sha256: String::new(),
        rows: 0,
        with_photograph: 0,
        with_place: 0,
        with_class: 0,
        with_season: 0,
        cameras: 0,
        users: 0,
        with_uncertainty: 0,
        splits: BTreeMap::new(),
        classes: Vec::new(),
        bounds: None,
        images: None,
        errors: 1,
        warnings: 0,
        problems: problems.iter().cloned().collect(),
        could_be_swapped: false,
        seam: None,
        map: String::new(),
    }
}

fn count_classes(dataset: &Dataset) -> Vec<ClassCount> {
    let mut classes: Vec<ClassCount> = dataset
        .labels
        .0
        .iter()
        .map(|label| ClassCount { name: label.name.clone(), total: 0, train: 0, val: 0, test: 0 })
        .collect();
    for row in &dataset.rows {
        let Some(class) = row.class.and_then(|class| classes.get_mut(class.index())) else { continue };
        class.total += 1;
        match row.split {
            Some(Split::Train) => class.train += 1,
            Some(Split::Val) => class.val += 1,
            Some(Split::Test) => class.test += 1,
            None => {}
        }
    }
    classes.sort_by(|a, b| b.total.cmp(&a.total).then_with(|| a.name.cmp(&b.name)));
    classes
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "data      {}", self.source)?;
        let Some(format) = self.format else { return self.write_problems(f) };
        writeln!(f, "format    {format}")?;
        for note in &self.notes {
            writeln!(f, "          {note}")?;
        }
        writeln!(f, "sha256    {}", self.sha256)?;
        let splits = self
            .splits
            .iter()
            .filter(|_| self.splits.keys().any(|name| name != "none"))
            .map(|(name, n)| format!("{name} {n}"))
            .collect::<Vec<_>>()
            .join(", ");
        writeln!(
            f,
            "rows      {}{}",
            self.rows,
            if splits.is_empty() { splits } else { format!(" ({splits})") }
        )?;
        let part = |n: usize| if n == self.rows { "all".to_string() } else { n.to_string() };
        writeln!(
            f,
            "          {} with a photograph, {} with a place, {} with a class, {} with a date",
            part(self.with_photograph),
            part(self.with_place),
            part(self.with_class),
            part(self.with_season),
        )?;
        if self.with_uncertainty > 0 {
            writeln!(f, "          {} say how far off the place may be", part(self.with_uncertainty))?;
        }
        if self.cameras > 0 {
            writeln!(f, "cameras   {}", self.cameras)?;
        }
        if self.users > 0 {
            writeln!(f, "people    {}", self.users)?;
        }
        self.write_images(f)?;
        self.write_classes(f)?;
        if let Some(Bounds { south, west, north, east }) = self.bounds {
            let degrees = |value: f64, plus, minus| {
                format!("{:.4}°{}", value.abs(), if value < 0.0 { minus } else { plus })
            };
            writeln!(
                f,
                "places    {} to {}, {} to {}\n",
                degrees(south, 'N', 'S'),
                degrees(north, 'N', 'S'),
                degrees(west, 'E', 'W'),
                degrees(east, 'E', 'W'),
            )?;
            write!(f, "{}", self.map)?;
            if self.could_be_swapped {
                writeln!(
                    f,
                    "          Is this the right part of the world? No longitude exceeds 90, so exchanged columns would not show otherwise."
                )?;
            }
            if let Some(seam) = &self.seam {
                writeln!(f, "          {seam}")?;
            }
        }
        self.write_problems(f)
    }
}

impl Report {
    fn write_images(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(images) = self.images.as_ref().filter(|images| images.photographs > 0) else {
            return Ok(());
        };
        let sizes =
            images.sizes.iter().map(|(size, n)| format!("{size} ({n})")).collect::<Vec<_>>().join(", ");
        writeln!(
            f,
            "images    {} decoded, {} unreadable, {:.1} MB; {sizes}",
            images.photographs - images.unreadable,
            images.unreadable,
            images.bytes as f64 / 1e6,
        )?;
        if images.identical > 0 {
            writeln!(
                f,
                "          {} repeat the bytes of another ({} under another class, {} in another split)",
                images.identical, images.identical_other_class, images.identical_other_split,
            )?;
        }
        Ok(())
    }

    fn write_classes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "classes   {}", self.classes.len())?;
        let most = self.classes.first().map_or(1, |class| class.total.max(1));
        let has_splits = self.classes.iter().any(|class| class.train + class.val + class.test > 0);
        for class in self.classes.iter().take(CLASSES_SHOWN) {
            let bar = "#".repeat((class.total * 20).div_ceil(most));
            let name = quoted(&class.name);
            let name = name.trim_matches('"');
            let parts = if has_splits {
                format!("  train {}, val {}, test {}", class.train, class.val, class.test)
            } else {
                String::new()
            };
            writeln!(f, "  {name:<28} {:>7}  {bar:<20}{parts}", class.total)?;
        }
        if let Some(rest @ [_, ..]) = self.classes.get(CLASSES_SHOWN..) {
            let rows: usize = rest.iter().map(|class| class.total).sum();
            writeln!(f, "  {:<28} {rows:>7}", format!("… {} more classes", rest.len()))?;
        }
        Ok(())
    }

    fn write_problems(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.problems.is_empty() {
            return writeln!(f, "\nno problems found");
        }
        for problem in &self.problems {
            write!(f, "{problem}")?;
        }
        writeln!(f, "\n{}, {}", plural(self.errors, "error"), plural(self.warnings, "warning"))
    }
}

/// `1 error`, `2 errors`.
pub fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

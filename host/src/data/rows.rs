//! From drafts of any format to rows: duplicates settled, classes numbered, photographs looked for, digest taken.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use csp_models::{
    bundle::hex,
    labels::{ClassId, Label, Labels},
    place::LatLon,
};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::{
    Dataset, Name, Options, Row, Split, dates,
    json::Id,
    lineage::Lineages,
    problem::{Kind, Problems, quoted},
    swapped,
};

/// Where a row stands, for messages. An id is written out only where something is wrong.
#[derive(Clone, Debug)]
pub(crate) enum At {
    Named(Name),
    Image(Id),
}

impl Default for At {
    fn default() -> Self {
        Self::Named(Name::default())
    }
}

impl<N: Into<Name>> From<N> for At {
    fn from(name: N) -> Self {
        Self::Named(name.into())
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => name.fmt(f),
            Self::Image(id) => write!(f, "image {}", quoted(&id.to_string())),
        }
    }
}

/// A row as its format gives it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Draft {
    /// Where it stands, for messages: `line 12`, `image "a1"`.
    pub(crate) at: At,
    pub(crate) name: Name,
    pub(crate) image: Option<PathBuf>,
    pub(crate) place: Option<LatLon>,
    pub(crate) date: Option<Box<str>>,
    /// Share of the year where the source gives that, or where the date alone tells; it wins over the date.
    pub(crate) season: Option<f64>,
    pub(crate) class: Option<Arc<str>>,
    pub(crate) split: Option<Split>,
    pub(crate) camera: Option<Arc<str>>,
    /// Whatever names the person; empty is nobody.
    pub(crate) user: Option<Arc<str>>,
    /// As checked by [`uncertainty`](super::coordinates::uncertainty).
    pub(crate) uncertainty_m: Option<f64>,
}

/// Names that many rows share, each kept once: people, classes, cameras.
#[derive(Debug, Default)]
pub(crate) struct Shared(HashSet<Arc<str>>);

impl Shared {
    /// The shared name.
    pub(crate) fn of(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.get(name) {
            return Arc::clone(known);
        }
        let name: Arc<str> = name.into();
        self.0.insert(Arc::clone(&name));
        name
    }
}

/// Makes the data set of drafts [without repeats](without_repeats); whatever is wrong with them goes to `problems`.
pub(crate) fn settle(
    source: &Path,
    mut drafts: Vec<Draft>,
    lineages: &Lineages,
    problems: &mut Problems,
) -> Dataset {
    find_images(&drafts, problems);
    let mut labels = number_classes(&drafts, problems);
    for label in &mut labels.0 {
        label.lineage = lineages.get(&label.name).cloned().unwrap_or_default();
    }
    let ids: HashMap<&str, ClassId> =
        labels.0.iter().enumerate().map(|(i, label)| (label.name.as_str(), ClassId(i as u16))).collect();
    let order = dates::order(drafts.iter().filter_map(|draft| draft.date.as_deref()));
    for draft in &mut drafts {
        draft.season = draft.season.or_else(|| season(draft, order, problems));
    }
    let at: Vec<At> = drafts.iter_mut().map(|draft| std::mem::take(&mut draft.at)).collect();
    // in place: of tens of millions of rows there is no room for two copies
    let mut rows: Vec<Row> = drafts
        .into_iter()
        .map(|draft| Row {
            name: draft.name,
            image: draft.image,
            place: draft.place,
            season: draft.season,
            class: draft.class.as_deref().and_then(|name| ids.get(name).copied()),
            split: draft.split,
            camera: draft.camera,
            user: draft.user,
            uncertainty_m: draft.uncertainty_m,
        })
        .collect();
    rows.shrink_to_fit();
    look_at_splits(&at, &rows, &labels, problems);
    look_at_places(&rows, problems);
    for row in swapped::suspects(&rows) {
        problems.add(Kind::MaybeSwapped, || {
            let place = rows[row].place.map_or(String::new(), |place| place.to_string());
            format!("{}: {place}", at[row])
        });
    }
    let sha256 = digest(&rows, &labels);
    // absolute, so that a run made here can be exported from elsewhere
    let source = std::path::absolute(source).unwrap_or_else(|_| source.into());
    Dataset { source, rows, labels, options: Options::default(), sha256 }
}

/// Each photograph once. The same row again is dropped; a contradiction is an error.
pub(crate) fn without_repeats(mut drafts: Vec<Draft>, problems: &mut Problems) -> Vec<Draft> {
    let mut first: HashMap<u64, usize> = HashMap::new();
    let mut again: Vec<usize> = Vec::new();
    for (i, draft) in drafts.iter().enumerate() {
        let Some(image) = &draft.image else { continue };
        // `./a.jpg` and `a.jpg` are one file
        let mut key = DefaultHasher::new();
        plain(image).for_each(|part| part.hash(&mut key));
        let earlier = *first.entry(key.finish()).or_insert(i);
        // a hash is small where a path is not; two paths of one hash are two files
        let same = |other: &&Draft| other.image.as_deref().is_some_and(|path| plain(path).eq(plain(image)));
        let Some(other) = drafts[..i].get(earlier).filter(same) else { continue };
        again.push(i);
        let where_ =
            |what: String| format!("{} and {}: {}: {what}", other.at, draft.at, quoted(&draft.name.text()));
        let mut contradiction = false;
        if other.class != draft.class {
            contradiction = true;
            problems.add(Kind::ConflictingLabels, || {
                let name = |class: &Option<Arc<str>>| class.as_deref().map_or("no class".into(), quoted);
                where_(format!("{} and {}", name(&other.class), name(&draft.class)))
            });
        }
        if other.place != draft.place {
            contradiction = true;
            problems.add(Kind::ConflictingPlaces, || {
                let name = |place: Option<LatLon>| place.map_or("no place".into(), |p| p.to_string());
                where_(format!("{} and {}", name(other.place), name(draft.place)))
            });
        }
        if other.split != draft.split {
            contradiction = true;
            problems.add(Kind::SplitLeak, || {
                let name = |split: Option<Split>| split.map_or("no split".into(), |s| s.to_string());
                where_(format!("{} and {}", name(other.split), name(draft.split)))
            });
        }
        if !contradiction {
            problems.add(Kind::RepeatedRow, || where_("the same row".into()));
        }
    }
    let (mut at, mut again) = (0, again.into_iter().peekable());
    drafts.retain(|_| {
        at += 1;
        again.next_if_eq(&(at - 1)).is_none()
    });
    drafts
}

fn plain(path: &Path) -> impl Iterator<Item = Component<'_>> {
    path.components().filter(|part| *part != Component::CurDir)
}

fn find_images(drafts: &[Draft], problems: &mut Problems) {
    let absent: Vec<&Draft> = drafts
        .par_iter()
        .filter(|draft| draft.image.as_deref().is_some_and(|path| !path.is_file()))
        .collect();
    for draft in absent {
        problems.add(Kind::MissingImage, || {
            let path = draft.image.as_deref().unwrap_or(Path::new(""));
            let hint = match &draft.name {
                Name::Text(name) if name.contains("://") => " (addresses are not downloaded)",
                _ if path.is_dir() => " (a folder)",
                _ => "",
            };
            format!("{}: {}{hint}", draft.at, quoted(&path.to_string_lossy()))
        });
    }
}

fn number_classes(drafts: &[Draft], problems: &mut Problems) -> Labels {
    let names: HashSet<&str> = drafts.iter().filter_map(|draft| draft.class.as_deref()).collect();
    let names: BTreeSet<&str> = names.into_iter().collect();
    let mut spellings: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for name in &names {
        let plain = name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
        spellings.entry(plain).or_default().push(name);
    }
    for (plain, variants) in spellings {
        if variants.len() > 1 && !plain.is_empty() {
            problems.add(Kind::LabelVariants, || {
                variants.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
            });
        }
    }
    let limit = usize::from(u16::MAX);
    if names.len() > limit {
        problems.add(Kind::TooManyClasses, || format!("{} different classes", names.len()));
    }
    Labels(names.into_iter().take(limit).map(Label::new).collect())
}

fn season(draft: &Draft, order: dates::Order, problems: &mut Problems) -> Option<f64> {
    let text = draft.date.as_deref()?;
    let season = dates::parse(dates::start(text), order).and_then(dates::Day::season);
    if season.is_none() {
        problems.add(Kind::BadDate, || {
            let hint = if dates::parse(text, dates::Order::DayFirst).is_some() {
                " (day or month first? nothing in the file tells)"
            } else {
                ""
            };
            format!("{}: {}{hint}", draft.at, quoted(text))
        });
    }
    season
}

fn look_at_splits(at: &[At], rows: &[Row], labels: &Labels, problems: &mut Problems) {
    if rows.iter().any(|row| row.split.is_some()) {
        for (at, row) in at.iter().zip(rows) {
            if row.split.is_none() {
                problems.add(Kind::PartialSplit, || format!("{at}: {}", quoted(&row.name.text())));
            }
        }
    }
    let mut counts: BTreeMap<ClassId, [usize; 2]> = BTreeMap::new();
    for row in rows {
        if let (Some(class), Some(split)) = (row.class, row.split) {
            counts.entry(class).or_default()[usize::from(split != Split::Train)] += 1;
        }
    }
    if counts.values().all(|[train, _]| *train == 0) {
        return; // no training part at all: a test set for an existing model
    }
    for (class, [train, held]) in counts {
        if train == 0 {
            problems.add(Kind::UntrainedClass, || format!("{} ({held} rows)", quoted(labels.name(class))));
        }
    }
}

/// Patterns over the whole set that a person would notice on a map.
fn look_at_places(rows: &[Row], problems: &mut Problems) {
    /// Fewer places than this show no pattern.
    const ENOUGH: usize = 20;
    let places: Vec<LatLon> = rows.iter().filter_map(|row| row.place).collect();
    if places.len() < ENOUGH {
        return;
    }
    if places.iter().all(|place| *place == places[0]) {
        problems.add(Kind::OnePlace, || format!("{} rows at {}", places.len(), places[0]));
    } else if places.iter().all(|place| place.lat().fract() == 0.0 && place.lon().fract() == 0.0) {
        problems.add(Kind::CoarsePlaces, || format!("{} places, such as {}", places.len(), places[0]));
    }
    let equal = places.iter().filter(|place| place.lat() == place.lon()).count();
    if equal * 2 > places.len() {
        problems.add(Kind::EqualCoordinates, || format!("in {equal} of {} places", places.len()));
    }
}

/// SHA-256 of the rows: every field with its length or presence, so that no two contents run together.
pub(super) fn digest(rows: &[Row], labels: &Labels) -> String {
    let mut hash = Sha256::new();
    let mut field = |bytes: Option<&[u8]>| match bytes {
        None => hash.update([0]),
        Some(bytes) => {
            hash.update([1]);
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        }
    };
    for row in rows {
        field(Some(row.name.text().as_bytes()));
        field(row.place.map(|p| p.lat().to_le_bytes()).as_ref().map(|b| &b[..]));
        field(row.place.map(|p| p.lon().to_le_bytes()).as_ref().map(|b| &b[..]));
        field(row.season.map(f64::to_le_bytes).as_ref().map(|b| &b[..]));
        field(row.class.map(|class| labels.name(class).as_bytes()));
        field(row.split.map(|split| split.to_string()).as_ref().map(|s| s.as_bytes()));
        field(row.camera.as_ref().map(|s| s.as_bytes()));
    }
    // only where there are any: runs of data without them stay resumable
    if rows.iter().any(|row| row.user.is_some() || row.uncertainty_m.is_some()) {
        for row in rows {
            field(row.user.as_ref().map(|s| s.as_bytes()));
            field(row.uncertainty_m.map(f64::to_le_bytes).as_ref().map(|b| &b[..]));
        }
    }
    hex(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(line: usize, image: &str, class: &str) -> Draft {
        Draft {
            at: format!("line {line}").into(),
            name: image.into(),
            image: Some(Path::new("/d").join(image)),
            class: Some(class.into()),
            ..Draft::default()
        }
    }

    fn settle(path: &Path, drafts: Vec<Draft>, problems: &mut Problems) -> Dataset {
        let drafts = without_repeats(drafts, problems);
        super::settle(path, drafts, &Lineages::new(), problems)
    }

    fn kinds(problems: &Problems) -> Vec<(Kind, usize)> {
        problems.iter().map(|p| (p.kind, p.count)).filter(|(k, _)| *k != Kind::MissingImage).collect()
    }

    #[test]
    fn the_same_photograph_twice() {
        let mut problems = Problems::default();
        let set = settle(
            Path::new("t"),
            vec![draft(2, "a.jpg", "lynx"), draft(3, "./a.jpg", "lynx"), draft(4, "a.jpg", "cat")],
            &mut problems,
        );
        assert_eq!(set.rows.len(), 1);
        assert_eq!(kinds(&problems), [(Kind::ConflictingLabels, 1), (Kind::RepeatedRow, 1)]);
        let text = problems.errors_text();
        assert!(text.contains("line 2 and line 4") && text.contains("\"lynx\" and \"cat\""), "{text}");

        let mut problems = Problems::default();
        let place = LatLon::new(1.0, 2.0).ok();
        let rows = vec![
            Draft { split: Some(Split::Train), ..draft(2, "a.jpg", "x") },
            Draft { split: Some(Split::Val), place, ..draft(3, "a.jpg", "x") },
        ];
        settle(Path::new("t"), rows, &mut problems);
        assert_eq!(kinds(&problems), [(Kind::ConflictingPlaces, 1), (Kind::SplitLeak, 1)]);
    }

    #[test]
    fn classes_are_sorted_and_variants_reported() {
        let mut problems = Problems::default();
        let rows = ["red fox", "lynx", "Red_Fox", "lynx"];
        let rows = rows.iter().enumerate().map(|(i, c)| draft(i, &format!("{i}"), c)).collect();
        let set = settle(Path::new("t"), rows, &mut problems);
        let names: Vec<&str> = set.labels.0.iter().map(|l| l.name.as_str()).collect();
        assert_eq!(names, ["Red_Fox", "lynx", "red fox"]);
        assert_eq!(set.rows[1].class, Some(ClassId(1)));
        assert_eq!(kinds(&problems), [(Kind::LabelVariants, 1)]);
    }

    #[test]
    fn patterns_over_the_whole_set() {
        let at = |f: &dyn Fn(f64) -> (f64, f64)| {
            let mut problems = Problems::default();
            let rows = (0..30)
                .map(|i| {
                    let (lat, lon) = f(f64::from(i));
                    Draft { place: LatLon::new(lat, lon).ok(), ..Draft::default() }
                })
                .collect();
            settle(Path::new("t"), rows, &mut problems);
            kinds(&problems).into_iter().map(|(k, _)| k).collect::<Vec<_>>()
        };
        assert_eq!(at(&|_| (1.5, 2.5)), [Kind::OnePlace]);
        assert_eq!(at(&|i| (i, i + 1.0)), [Kind::CoarsePlaces]);
        assert_eq!(at(&|i| (i + 0.5, i + 0.5)), [Kind::EqualCoordinates]);
        assert_eq!(at(&|i| (i + 0.5, i + 1.5)), []);
    }

    #[test]
    fn classes_that_training_never_sees() {
        let mut problems = Problems::default();
        let rows = vec![
            Draft { split: Some(Split::Train), ..draft(2, "a", "lynx") },
            Draft { split: Some(Split::Val), ..draft(3, "b", "lynx") },
            Draft { split: Some(Split::Test), ..draft(4, "c", "cat") },
            draft(5, "d", "lynx"),
        ];
        settle(Path::new("t"), rows, &mut problems);
        assert_eq!(kinds(&problems), [(Kind::UntrainedClass, 1), (Kind::PartialSplit, 1)]);
    }

    /// Occurrence tables have tens of millions of rows, all of which are held.
    #[test]
    fn a_row_is_small() {
        assert!(size_of::<Draft>() <= 208, "{}", size_of::<Draft>());
        assert!(size_of::<Row>() <= 144, "{}", size_of::<Row>());
    }

    #[test]
    fn the_digest_is_of_the_content() {
        let digest = |rows: Vec<Draft>| settle(Path::new("t"), rows, &mut Problems::default()).sha256;
        let base = digest(vec![draft(2, "a", "x"), draft(3, "b", "y")]);
        assert_eq!(base, digest(vec![draft(9, "a", "x"), draft(8, "b", "y")]));
        for other in [
            vec![draft(2, "b", "y"), draft(3, "a", "x")],
            vec![draft(2, "a", "x"), draft(3, "b", "x")],
            vec![draft(2, "a", "x"), Draft { split: Some(Split::Val), ..draft(3, "b", "y") }],
            vec![draft(2, "a", "x"), Draft { place: LatLon::new(1.0, 1.0).ok(), ..draft(3, "b", "y") }],
            vec![draft(2, "a", "x"), Draft { camera: Some("c".into()), ..draft(3, "b", "y") }],
            vec![draft(2, "a", "x"), Draft { user: Some("u".into()), ..draft(3, "b", "y") }],
            vec![draft(2, "a", "x"), Draft { uncertainty_m: Some(5.0), ..draft(3, "b", "y") }],
        ] {
            assert_ne!(base, digest(other));
        }
        // what data without users and uncertainties had before there were any
        assert_eq!(base, "27c60dc9793f0acbcb265bf597228cd5a1282eeefafe46db9e241c96b80139a7");
    }
}

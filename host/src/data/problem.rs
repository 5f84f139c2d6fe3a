//! What is wrong with a data set, counted by kind.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

/// Examples kept of each kind.
const EXAMPLES: usize = 5;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It would spoil training unnoticed: [`super::open`] refuses the data set.
    Error,
    /// Training goes on without what is affected, or the figures deserve a second look.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// Declares [`Kind`] with the severity, title and remedy of each variant in one table.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident $severity:ident $title:literal => $fix:literal,)*) => {
        /// A kind of problem; its snake-case name is the stable code in JSON.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Kind { $($(#[$doc])* $name,)* }

        impl Kind {
            /// Whether it stops training.
            pub fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)* }
            }

            /// What is wrong, in a few words.
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// What to do about it.
            pub fn fix(self) -> &'static str {
                match self { $(Self::$name => $fix,)* }
            }
        }
    };
}

kinds! {
    /// The file cannot be understood at all.
    Unusable Error "the data set cannot be read" => "",
    /// Nothing in it.
    NoRows Error "no rows" => "check that this is the right file or folder",
    /// A row with more or fewer fields than the header.
    RaggedRow Error "rows with more or fewer fields than the header"
        => "quote fields that contain the delimiter",
    /// A line break inside a cell that should hold none: a quote left open, which runs rows together.
    BrokenCell Error "a line break inside a cell"
        => "close the quote that was left open; write a quote that belongs to the text twice, in a quoted cell",
    /// Not UTF-8.
    NotUtf8 Error "text that is not UTF-8" => "save the table as CSV UTF-8",
    /// A coordinate that is not a number.
    NotANumber Error "coordinates that are not numbers"
        => "write decimal degrees with a sign, such as -33.8688; leave both cells empty where the place is unknown",
    /// NaN or infinite.
    NotFinite Error "coordinates that are not finite" => "leave both cells empty where the place is unknown",
    /// Outside ±90 or ±180, and valid when exchanged.
    Swapped Error "latitude and longitude look swapped" => "exchange the two columns",
    /// Outside ±90 or ±180.
    OutOfRange Error "coordinates out of range"
        => "degrees in WGS84 are needed: latitude -90 to 90, longitude -180 to 180",
    /// (0, 0).
    NullIsland Error "places at 0, 0" => "leave both cells empty where the place is unknown",
    /// One coordinate of two.
    HalfPlace Error "one coordinate without the other" => "give both or neither",
    /// `52,5` and `52.5` in one file.
    MixedDecimals Error "decimal commas beside decimal points" => "use one of them in the whole file",
    /// A split word that is none of ours.
    UnknownSplit Error "split names that are not understood" => "use train, val or test, or leave the cell empty",
    /// A photograph that is not there.
    MissingImage Error "photographs that do not exist" => "relative paths start at the folder of the table, or that of --images DIR; --places-only learns from the places without them",
    /// A photograph that cannot be decoded.
    UnreadableImage Error "photographs that cannot be decoded" => "copy them again, or take them out",
    /// One photograph, two classes.
    ConflictingLabels Error "one photograph with different classes" => "decide for one class",
    /// One photograph or location, two places.
    ConflictingPlaces Error "one photograph or location with different places" => "decide for one place",
    /// One photograph in two splits.
    SplitLeak Error "one photograph in different splits" => "keep it in one split: a model is not tested on what it learned",
    /// An annotation or image that refers to nothing, or an id used twice.
    BrokenReference Error "ids that are used twice or point nowhere" => "repair the file",
    /// A georeference that gives no place.
    BadGeoreference Error "tiles whose georeference is not understood"
        => "copy those that are cut short again; warp others to WGS84 or UTM (gdalwarp -t_srs EPSG:4326), or \
            give the places in a table",
    /// A footprint that gives no place.
    BadFootprint Error "footprints that are no polygon of longitude and latitude"
        => "repair or remove the entry",
    /// An image of a tree of footprints that has none.
    NoFootprint Warning "images without a footprint (raw_location); they have no place"
        => "take the JSONs of the full distribution",
    /// More classes than a model can have.
    TooManyClasses Error "more than 65,535 classes" => "check that the class column is not an identifier",

    /// The same row again.
    RepeatedRow Warning "rows given twice; the repeats are left out" => "nothing to do",
    /// Different files with the same bytes.
    IdenticalImages Warning "different photographs with identical bytes"
        => "copies in train and val make the figures too good; copies with different classes teach nothing",
    /// Classes whose names differ by case or spacing.
    LabelVariants Warning "classes that differ only by case or spacing" => "write each class in one way",
    /// `NA` in the class column.
    EmptyWord Warning "words that stand for nothing, read as no class" => "leave the cell empty",
    /// A class training never sees.
    UntrainedClass Warning "classes in val or test that train does not have"
        => "they count as wrong whatever the model says",
    /// Rows without split among rows with one.
    PartialSplit Warning "rows without a split although others have one"
        => "they belong to no part: give them a split",
    /// Two categories of one name.
    SharedName Warning "different categories with one name; they are one class here"
        => "rename one of them if they are not the same thing",
    /// An observation of a type that the standard does not have.
    UnknownObservation Warning "observation types that Camtrap DP does not have; these observations are left out"
        => "use animal, human, vehicle, blank, unknown or unclassified",
    /// A photograph given as an address.
    RemoteImage Warning "media that are addresses, not files; these rows keep their place and have no photograph"
        => "download them and write their paths into media.csv",
    /// A medium of a package that is not on this disk.
    AbsentMedia Warning "media that are not on this disk; these rows keep their place and have no photograph"
        => "copy them into the package, or go on without",
    /// Videos and sounds.
    NotAPicture Warning "media that are no JPEG or PNG; these rows keep their place and have no photograph"
        => "export frames of videos as JPEG",
    /// A class number without a name.
    UnnamedClass Warning "class numbers that the list of names does not have; they keep their number"
        => "complete the list",
    /// A date that cannot be read.
    BadDate Warning "dates that are not understood; they count as none"
        => "write YYYY-MM-DD",
    /// An uncertainty that is no number of metres.
    BadUncertainty Warning "uncertainties that are zero, negative or no metres; read as unknown"
        => "write metres above 0, or leave the cell empty",
    /// A GPS block in a photograph that gives no usable place.
    BadExifPlace Warning "GPS data in photographs that give no place; these have none"
        => "nothing to do, or give the places in a table",
    /// EXIF that does not parse.
    BadExif Warning "photographs whose EXIF cannot be read; these have no place and date" => "nothing to do",
    /// Files that are pictures of a kind we cannot read.
    ForeignImage Warning "files left out: neither JPEG nor PNG nor GeoTIFF" => "convert them to JPEG",
    /// Tiles of more bands than are shown, in an order nobody knows.
    SomeBands Warning "tiles of many bands, of which the first three are shown as red, green and blue"
        => "where others are meant, write those first (gdal_translate -b 4 -b 3 -b 2)",
    /// A location without coordinates.
    UnknownLocation Warning "images whose location has no coordinates; these have no place"
        => "add them to the location table",
    /// Images with animals of several classes.
    SeveralClasses Warning "images with several classes; these count as unlabelled"
        => "nothing to do: one photograph has one class here",
    /// Images marked corrupt by the source.
    MarkedCorrupt Warning "images marked corrupt by the source; these are left out" => "nothing to do",
    /// Places outside the region of the rest that would lie in its midst if exchanged.
    MaybeSwapped Warning "places far from all others, and amid them when latitude and longitude are exchanged"
        => "look at these rows: the columns may be exchanged there",
    /// Every row at one place.
    OnePlace Warning "every row is at the same place" => "place cannot tell classes apart here",
    /// Places without decimals.
    CoarsePlaces Warning "every place is a whole number of degrees" => "places are known to about 100 km only",
    /// Latitude repeated as longitude.
    EqualCoordinates Warning "latitude equals longitude" => "check that the two columns are not the same",
}

/// All problems of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    /// What kind.
    pub kind: Kind,
    /// How bad.
    pub severity: Severity,
    /// [`Kind::title`].
    pub title: &'static str,
    /// [`Kind::fix`].
    pub fix: &'static str,
    /// How often.
    pub count: usize,
    /// The first few: where (line and column) and the value.
    pub examples: Vec<String>,
}

/// The problems found so far; reading goes on after each.
#[derive(Clone, Debug, Default)]
pub struct Problems {
    found: BTreeMap<Kind, Problem>,
}

impl Problems {
    /// Counts a problem. The example is only written out for the first few.
    pub(crate) fn add(&mut self, kind: Kind, example: impl FnOnce() -> String) {
        let problem = self.found.entry(kind).or_insert_with(|| Problem {
            kind,
            severity: kind.severity(),
            title: kind.title(),
            fix: kind.fix(),
            count: 0,
            examples: Vec::new(),
        });
        problem.count += 1;
        if problem.examples.len() < EXAMPLES {
            problem.examples.push(example());
        }
    }

    /// How many of a kind.
    pub fn count(&self, kind: Kind) -> usize {
        self.found.get(&kind).map_or(0, |problem| problem.count)
    }

    /// All of them, errors first.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.found.values()
    }

    /// How many problems of a severity.
    pub fn total(&self, severity: Severity) -> usize {
        self.iter().filter(|p| p.severity == severity).map(|p| p.count).sum()
    }

    /// The errors, as a paragraph for an error message: kind, count, first example, remedy.
    pub(crate) fn errors_text(&self) -> String {
        let mut text = String::new();
        for problem in self.iter().filter(|p| p.severity == Severity::Error) {
            text.push_str(&problem.to_string());
        }
        text
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n  {}: {} ({})", self.severity, self.title, self.count)?;
        for example in &self.examples {
            writeln!(f, "    {example}")?;
        }
        if self.count > self.examples.len() {
            writeln!(f, "    … and {} more", self.count - self.examples.len())?;
        }
        // what cannot be read says in its message what to do
        if self.fix.is_empty() { Ok(()) } else { writeln!(f, "    fix: {}", self.fix) }
    }
}

/// Foreign text made safe to print: control characters escaped, long values cut, in quotes.
pub(crate) fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    let cut = text.char_indices().nth(LONGEST).map_or(text, |(at, _)| &text[..at]);
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("\"{}{more}\"", cut.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_all_and_keeps_the_first_few() {
        let mut problems = Problems::default();
        for line in 0..12 {
            problems.add(Kind::NotANumber, || format!("line {line}"));
        }
        problems.add(Kind::BadDate, || "line 3".into());
        assert_eq!((problems.total(Severity::Error), problems.total(Severity::Warning)), (12, 1));
        let text = problems.errors_text();
        assert!(text.contains("line 4") && !text.contains("line 5") && text.contains("7 more"), "{text}");
        assert!(!text.contains("dates"), "{text}");
    }

    #[test]
    fn foreign_text_cannot_drive_the_terminal() {
        assert_eq!(quoted("a\x1b[2Jb"), "\"a\\u{1b}[2Jb\"");
        assert_eq!(quoted("it's"), "\"it's\"");
        assert!(quoted(&"x".repeat(1000)).chars().count() < 70);
    }
}

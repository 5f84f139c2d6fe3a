//! Tables: CSV and TSV with a header.

use std::{
    borrow::Cow,
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use csv::{ByteRecord, ReaderBuilder};

use super::{
    DataError, MAX_ROWS, Name, Split,
    class_names::{self, Names},
    columns::{self, Column, Columns},
    coordinates::{PlaceReader, is_nothing, uncertainty_cell},
    dates, image_folder,
    json::Id,
    problem::{Kind, Problems, quoted},
    quotes,
    rows::{Draft, Shared},
};

/// The delimiters that are tried, the commonest first.
const DELIMITERS: [(u8, &str); 4] = [(b',', "comma"), (b'\t', "tab"), (b';', "semicolon"), (b'|', "bar")];
/// Largest table, bytes: it is read row by row.
const MAX_TABLE: u64 = 64 << 30;
/// Longest header line, bytes.
const MAX_HEADER: u64 = 1 << 20;

/// A table whose header was read.
pub(crate) struct Table {
    path: PathBuf,
    /// The column names.
    pub(crate) header: Vec<String>,
    /// True where a comma may be a decimal comma.
    pub(crate) decimal_comma: bool,
    /// The delimiter in words.
    pub(crate) delimiter: &'static str,
    delimiter_byte: u8,
    reader: csv::Reader<File>,
    lines: LineCounter,
    /// The same file, to look a record up as it is written, and where its header starts, bytes.
    raw: File,
    start: u64,
}

/// Finds the line a record starts in. The csv reader's own count lags behind after `\r\n` and blank lines.
struct LineCounter {
    reader: BufReader<File>,
    at: u64,
    line: u64,
}

impl LineCounter {
    /// The line of the record that the csv reader places at that byte; bytes only ever grow.
    fn line_of(&mut self, byte: u64) -> io::Result<u64> {
        loop {
            let chunk = self.reader.fill_buf()?;
            let before = (byte.saturating_sub(self.at) as usize).min(chunk.len());
            let newlines = |bytes: &[u8]| bytes.iter().filter(|&&b| b == b'\n').count() as u64;
            let ends = chunk[before..].iter().take_while(|&&b| matches!(b, b'\n' | b'\r')).count();
            let (used, all) = (before + ends, chunk.len());
            self.line += newlines(&chunk[..used]);
            self.reader.consume(used);
            self.at += used as u64;
            if used < all || all == 0 {
                return Ok(self.line);
            }
        }
    }
}

impl Table {
    /// Opens a table and finds out its delimiter: the one whose header names most columns we know.
    ///
    /// # Errors
    /// Missing, too large, not UTF-8, no header.
    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        let io = |source| DataError::io(path, source);
        let file = File::open(path).map_err(io)?;
        if file.metadata().map_err(io)?.len() > MAX_TABLE {
            return Err(DataError::outline(path, "larger than 64 GiB; split the table"));
        }
        let mut first = Vec::new();
        let (mut start, mut line) = (0, 1);
        let mut lines = BufReader::new(file).take(MAX_HEADER);
        loop {
            first.clear();
            let length = lines.read_until(b'\n', &mut first).map_err(io)?;
            if length == 0 {
                return Err(DataError::outline(path, "the table is empty"));
            }
            if !first.iter().all(u8::is_ascii_whitespace) && !names_separator(&first) {
                break;
            }
            (start, line) = (start + length as u64, line + 1);
        }
        if first.starts_with(&[0xff, 0xfe]) || first.starts_with(&[0xfe, 0xff]) {
            return Err(DataError::outline(path, "UTF-16 text; save it as CSV UTF-8"));
        }
        let first = String::from_utf8(first)
            .map_err(|_| DataError::outline(path, "the header is not UTF-8; save the table as CSV UTF-8"))?;
        let headers = DELIMITERS.map(|(byte, name)| (byte, name, split_line(&first, byte)));
        let (byte, delimiter, header) = headers
            .into_iter()
            // the first of equals wins max_by_key's last: compare in reverse
            .rev()
            .max_by_key(|(_, _, header)| (columns::recognised(header), header.len()))
            .ok_or_else(|| DataError::outline(path, "no header"))?;
        if !quotes::are_sound(first.as_bytes(), byte) {
            return Err(DataError::outline(
                path,
                format!(
                    "line {line}: a quote of the header is not closed in its line; name the columns in one line"
                ),
            ));
        }
        let opened = || -> io::Result<File> {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(start))?;
            Ok(file)
        };
        let reader = ReaderBuilder::new()
            .delimiter(byte)
            .flexible(true)
            .has_headers(true)
            .from_reader(opened().map_err(io)?);
        let lines = LineCounter { reader: BufReader::new(opened().map_err(io)?), at: 0, line };
        Ok(Self {
            path: path.into(),
            header,
            decimal_comma: byte != b',',
            delimiter,
            delimiter_byte: byte,
            reader,
            lines,
            raw: opened().map_err(io)?,
            start,
        })
    }

    /// Calls `each` with every row: where it stands, and its fields, as many as the header has. Rows of
    /// other lengths, rows that are not UTF-8 and rows that an open quote runs together are problems.
    ///
    /// # Errors
    /// Only when reading fails.
    pub(crate) fn each(
        &mut self,
        problems: &mut Problems,
        mut each: impl FnMut(&Name, &[&str], &mut Problems),
    ) -> Result<(), DataError> {
        let mut record = ByteRecord::new();
        let mut rows = 0;
        // `headers()` was not called: this reads and skips the header
        while self.reader.read_byte_record(&mut record).map_err(|error| csv_error(&self.path, error))? {
            let byte = record.position().map_or(0, csv::Position::byte);
            let at = Name::Line(self.lines.line_of(byte).map_err(|e| DataError::io(&self.path, e))?);
            rows += 1;
            if rows > MAX_ROWS {
                return Err(DataError::outline(
                    &self.path,
                    format!("more than {MAX_ROWS} rows; split the table"),
                ));
            }
            if record.iter().any(breaks) && !self.is_sound(byte).map_err(|e| DataError::io(&self.path, e))? {
                problems.add(Kind::BrokenCell, || {
                    let broken = record.iter().enumerate().find(|(_, cell)| breaks(cell));
                    let (index, cell) = broken.unwrap_or_default();
                    let column = self.header.get(index).map_or_else(String::new, |name| quoted(name));
                    format!("{at}, column {column}: {}", quoted(&String::from_utf8_lossy(cell)))
                });
                continue;
            }
            if record.len() != self.header.len() {
                problems.add(Kind::RaggedRow, || {
                    format!("{at}: {} fields, the header has {}", record.len(), self.header.len())
                });
                continue;
            }
            let mut fields = Vec::with_capacity(record.len());
            for (field, name) in record.iter().zip(&self.header) {
                match std::str::from_utf8(field) {
                    Ok(text) => fields.push(text.trim()),
                    Err(_) => problems.add(Kind::NotUtf8, || {
                        format!("{at}, column {}: {}", quoted(name), quoted(&String::from_utf8_lossy(field)))
                    }),
                }
            }
            if fields.len() == self.header.len() {
                each(&at, &fields, problems);
            }
        }
        Ok(())
    }

    /// Whether the [quotes](quotes) of the record just read are meant, which starts at `byte`.
    fn is_sound(&self, byte: u64) -> io::Result<bool> {
        let length = self.reader.position().byte().saturating_sub(byte);
        let mut file = &self.raw;
        file.seek(SeekFrom::Start(self.start + byte))?;
        let mut record = Vec::new();
        file.take(length).read_to_end(&mut record)?;
        Ok(quotes::are_sound(&record, self.delimiter_byte))
    }
}

fn breaks(cell: &[u8]) -> bool {
    cell.iter().any(|byte| matches!(byte, b'\n' | b'\r'))
}

/// True for the line `sep=;` that spreadsheets put above the header: the header tells as much.
fn names_separator(line: &[u8]) -> bool {
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line).trim_ascii();
    let line = line.strip_prefix(b"\"").and_then(|line| line.strip_suffix(b"\"")).unwrap_or(line);
    line.split_at_checked(4).is_some_and(|(key, rest)| key.eq_ignore_ascii_case(b"sep=") && rest.len() <= 1)
}

fn split_line(line: &str, delimiter: u8) -> Vec<String> {
    let mut reader =
        ReaderBuilder::new().delimiter(delimiter).has_headers(false).from_reader(line.as_bytes());
    let record = reader.records().next().and_then(Result::ok).unwrap_or_default();
    record.iter().map(|name| name.trim().trim_start_matches('\u{feff}').to_string()).collect()
}

fn csv_error(path: &Path, error: csv::Error) -> DataError {
    let reason = error.to_string();
    match error.into_kind() {
        csv::ErrorKind::Io(source) => DataError::io(path, source),
        _ => DataError::outline(path, reason),
    }
}

/// Reads a table of photographs or observations.
///
/// # Errors
/// Unreadable, or without the columns a place needs.
pub(crate) fn read(
    path: &Path,
    images: Option<&Path>,
    notes: &mut Vec<String>,
    problems: &mut Problems,
) -> Result<Vec<Draft>, DataError> {
    let mut table = Table::open(path)?;
    let columns = Columns::of(&table.header).map_err(|reason| DataError::outline(path, reason))?;
    notes.push(format!("{}-separated; columns: {}", table.delimiter, columns.describe()));
    let unused: Vec<String> = (0..table.header.len())
        .filter(|&index| !columns.uses(index))
        .map(|index| quoted(&table.header[index]))
        .collect();
    if !unused.is_empty() {
        notes.push(format!("columns not used: {}", unused.join(", ")));
    }
    let names = class_names::beside_table(path, notes)?;
    let mut drafts = Vec::new();
    let [mut users, mut classes, mut cameras] = [Shared::default(), Shared::default(), Shared::default()];
    let mut places = PlaceReader::new(&columns.lat.name, &columns.lon.name, table.decimal_comma);
    table.each(problems, |at, fields, problems| {
        let cell = |column: &Option<Column>| {
            column.as_ref().map(|c| fields[c.index]).filter(|text| !is_nothing(text))
        };
        for column in columns.all() {
            if fields[column.index].contains(['\n', '\r']) {
                problems.add(Kind::BrokenCell, || {
                    format!("{at}, column {}: {}", quoted(&column.name), quoted(fields[column.index]))
                });
            }
        }
        let image = cell(&columns.image);
        // most dates need not wait for the others to tell the order of day and month
        let date = match &columns.date_parts {
            Some(parts) => of_parts(parts.each_ref().map(|column| fields[column.index])).map(Cow::Owned),
            None => cell(&columns.date).map(Cow::Borrowed),
        };
        let season = date.as_deref().and_then(|text| dates::parse(dates::start(text), dates::Order::Unknown));
        let season = season.and_then(dates::Day::season);
        drafts.push(Draft {
            at: at.clone().into(),
            name: image.map_or_else(|| at.clone(), Name::from),
            place: places.read(at, fields[columns.lat.index], fields[columns.lon.index], problems),
            date: date.filter(|_| season.is_none()).map(|text| text.into_owned().into()),
            class: class(at, &columns.label, fields, &names, problems).map(|name| classes.of(&name)),
            split: split(at, &columns.split, cell(&columns.split), problems),
            camera: cell(&columns.camera).map(|name| cameras.of(name)),
            user: cell(&columns.user).map(|name| users.of(name)),
            uncertainty_m: columns.uncertainty.as_ref().and_then(|column| {
                let text = cell(&columns.uncertainty);
                uncertainty_cell(at, &column.name, text, places.writes_commas(), problems)
            }),
            season,
            ..Draft::default()
        });
    })?;
    places.finish(problems);
    // a row is called by its photograph
    let names = drafts.iter().filter_map(|draft: &Draft| draft.name.given());
    let base = image_folder::of(path, images, names, notes);
    if columns.image.is_some() && base != path.parent().unwrap_or(Path::new("")) {
        notes.push(format!("photographs in {}", base.display()));
    }
    for draft in &mut drafts {
        draft.image = draft.name.given().map(|name| image_folder::resolve(&base, name));
    }
    Ok(drafts)
}

/// Year, month and day as a date; `None` where any of them is empty.
fn of_parts(parts: [&str; 3]) -> Option<String> {
    // columns with gaps become fractions in some programs
    let [year, month, day] = parts.map(|part| part.strip_suffix(".0").unwrap_or(part));
    let whole = parts.iter().all(|part| !is_nothing(part));
    whole.then(|| format!("{year}-{month}-{day}"))
}

/// A class is any word but those that say "nothing"; `none` stays one, since it can mean an empty picture.
fn class(
    at: &Name,
    column: &Option<Column>,
    fields: &[&str],
    names: &Names,
    problems: &mut Problems,
) -> Option<String> {
    let column = column.as_ref()?;
    let text = fields[column.index];
    if text.is_empty() {
        return None;
    }
    if matches!(text, "NA" | "N/A" | "n/a" | "NaN" | "nan" | "null" | "NULL" | "\\N") {
        problems.add(Kind::EmptyWord, || format!("{at}, column {}: {}", quoted(&column.name), quoted(text)));
        return None;
    }
    match names.get(&Id::of(text)) {
        Some(name) => Some(name.clone()),
        None => {
            // a word is its own name
            if !names.is_empty() && text.parse::<f64>().is_ok() {
                problems.add(Kind::UnnamedClass, || {
                    format!("{at}, column {}: {}", quoted(&column.name), quoted(text))
                });
            }
            Some(text.into())
        }
    }
}

fn split(at: &Name, column: &Option<Column>, cell: Option<&str>, problems: &mut Problems) -> Option<Split> {
    let (column, word) = (column.as_ref()?, cell?);
    let split = Split::from_word(word);
    if split.is_none() {
        problems
            .add(Kind::UnknownSplit, || format!("{at}, column {}: {}", quoted(&column.name), quoted(word)));
    }
    split
}

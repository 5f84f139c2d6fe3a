//! JSON as data sets come in: read as a stream, `NaN` read as missing, ids as numbers or text.

use std::{
    fmt,
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Visitor},
};

use super::{DataError, MAX_INDEX_FILE};

/// Reads a JSON file. `NaN` and `Infinity`, which Python writes and JSON does not have, count as
/// missing, as their sources mean them; how many there were goes to `notes`.
///
/// # Errors
/// Unreadable, larger than [`MAX_INDEX_FILE`], or not such a JSON (`what`), with line and column.
pub(crate) fn read<T: DeserializeOwned>(
    path: &Path,
    what: &str,
    notes: &mut Vec<String>,
) -> Result<T, DataError> {
    read_within(path, what, MAX_INDEX_FILE, notes)
}

/// [`read`] with another limit, bytes.
pub(crate) fn read_within<T: DeserializeOwned>(
    path: &Path,
    what: &str,
    limit: u64,
    notes: &mut Vec<String>,
) -> Result<T, DataError> {
    let io = |source| DataError::io(path, source);
    let file = File::open(path).map_err(io)?;
    if file.metadata().map_err(io)?.len() > limit {
        return Err(DataError::outline(path, format!("larger than {} MiB; split it", limit >> 20)));
    }
    let mut lenient = Lenient::new(file.take(limit));
    let value = serde_json::from_reader(BufReader::with_capacity(1 << 16, &mut lenient));
    let value = value.map_err(|error| DataError::outline(path, format!("not {what}: {error}")))?;
    if lenient.replaced > 0 {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        notes.push(format!("{name}: {} values NaN or Infinity, read as missing", lenient.replaced));
    }
    Ok(value)
}

/// Passes JSON on, without byte-order mark, and with `null` for `NaN`, `Infinity` and `-Infinity`
/// outside of strings.
struct Lenient<R> {
    inner: R,
    chunk: Box<[u8]>,
    out: Vec<u8>,
    given: usize,
    /// A run of letters and signs outside of strings that may still grow.
    word: Vec<u8>,
    in_string: bool,
    escaped: bool,
    started: bool,
    replaced: usize,
}

impl<R: Read> Lenient<R> {
    fn new(inner: R) -> Self {
        Self {
            inner,
            chunk: vec![0; 1 << 16].into(),
            out: Vec::new(),
            given: 0,
            word: Vec::new(),
            in_string: false,
            escaped: false,
            started: false,
            replaced: 0,
        }
    }

    fn end_word(&mut self) {
        if matches!(&self.word[..], b"NaN" | b"-NaN" | b"Infinity" | b"-Infinity" | b"+Infinity") {
            self.out.extend_from_slice(b"null");
            self.replaced += 1;
        } else {
            self.out.extend_from_slice(&self.word);
        }
        self.word.clear();
    }

    fn fill(&mut self) -> io::Result<()> {
        self.out.clear();
        self.given = 0;
        while self.out.is_empty() {
            let length = self.inner.read(&mut self.chunk)?;
            if length == 0 {
                self.end_word();
                return Ok(());
            }
            let mut chunk = std::mem::take(&mut self.chunk);
            let mut bytes = &chunk[..length];
            if !std::mem::replace(&mut self.started, true) {
                bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
            }
            for &byte in bytes {
                if self.in_string {
                    self.out.push(byte);
                    let escaped = self.escaped;
                    self.escaped = byte == b'\\' && !escaped;
                    self.in_string = byte != b'"' || escaped;
                } else if byte.is_ascii_alphabetic() || matches!(byte, b'-' | b'+') {
                    // no word of JSON is longer than 9 bytes: what is, is passed on to be refused
                    if self.word.len() > 16 {
                        self.end_word();
                    }
                    self.word.push(byte);
                } else {
                    self.end_word();
                    self.out.push(byte);
                    self.in_string = byte == b'"';
                }
            }
            std::mem::swap(&mut self.chunk, &mut chunk);
        }
        Ok(())
    }
}

impl<R: Read> Read for Lenient<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.given == self.out.len() {
            self.fill()?;
        }
        let length = (self.out.len() - self.given).min(to.len());
        to[..length].copy_from_slice(&self.out[self.given..self.given + length]);
        self.given += length;
        Ok(length)
    }
}

/// An id that some write as a number and some as text; `7` and `"7"` are one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Id {
    Number(i64),
    Text(Box<str>),
}

impl Id {
    /// The id a text writes.
    pub(crate) fn of(text: &str) -> Self {
        match text.parse::<i64>() {
            Ok(number) if number.to_string() == text => Self::Number(number),
            _ => Self::Text(text.into()),
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// Whatever a field holds, as far as a data set needs it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Value {
    /// `null`, or a list or object where there should be none.
    #[default]
    Missing,
    Number(f64),
    /// Also whole numbers beyond f64's exact ones.
    Id(Id),
}

impl Value {
    /// A number, also one written as text; the text itself where it is none.
    pub(crate) fn number(&self) -> Result<Option<f64>, &str> {
        match self {
            Self::Missing => Ok(None),
            Self::Number(number) => Ok(Some(*number)),
            Self::Id(Id::Number(number)) => Ok(Some(*number as f64)),
            Self::Id(Id::Text(text)) => match text.trim() {
                "" => Ok(None),
                trimmed => trimmed.parse().map(Some).map_err(|_| &**text),
            },
        }
    }

    /// The text of a date or a name; `None` where missing or empty.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Self::Missing => None,
            Self::Number(number) => Some(number.to_string()),
            Self::Id(id) => Some(id.to_string()).filter(|text| !super::coordinates::is_nothing(text)),
        }
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, text or null")
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Id(Id::of(text)))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Id(Id::Text(value.to_string().into())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(i64::try_from(number).map_or(Value::Number(number as f64), |n| Value::Id(Id::Number(n))))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Id(Id::Number(number)))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Number(number))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Missing)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_any(Any)? {
            Value::Id(id) => Ok(id),
            // some writers turn a column with gaps into floats
            Value::Number(number) if number.fract() == 0.0 && number.abs() < 9e15 => {
                Ok(Self::Number(number as i64))
            }
            _ => Err(serde::de::Error::custom("an id is a whole number or text")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lenient(text: &[u8]) -> (Vec<u8>, usize) {
        let mut reader = Lenient::new(text);
        let mut out = Vec::new();
        reader.read_to_end(&mut out).unwrap();
        (out, reader.replaced)
    }

    #[test]
    fn nan_is_missing_and_text_is_left_alone() {
        let text = "\u{feff}{\"NaN\": [NaN, -Infinity, 1e-5, -2, true], \"a\": \"NaN \\\" NaN\", \"b\": \"\\\\\", \"c\": NaN}";
        let (out, replaced) = lenient(text.as_bytes());
        let expected =
            "{\"NaN\": [null, null, 1e-5, -2, true], \"a\": \"NaN \\\" NaN\", \"b\": \"\\\\\", \"c\": null}";
        assert_eq!((String::from_utf8(out).unwrap().as_str(), replaced), (expected, 3));
    }

    #[test]
    fn values_and_ids() {
        let ids: Vec<Id> = serde_json::from_str(r#"[7, "7", "07", 7.0, "a"]"#).unwrap();
        assert!(ids[0] == ids[1] && ids[0] == ids[3] && ids[0] != ids[2]);
        assert_eq!(ids[4].to_string(), "a");
        assert!(serde_json::from_str::<Id>("7.5").is_err() && serde_json::from_str::<Id>("null").is_err());
        let values: Vec<Value> = serde_json::from_str(r#"[1.5, "2.5", "north", null, "", 3]"#).unwrap();
        let numbers: Vec<_> = values.iter().map(Value::number).collect();
        assert_eq!(numbers, [Ok(Some(1.5)), Ok(Some(2.5)), Err("north"), Ok(None), Ok(None), Ok(Some(3.0))]);
    }

    proptest! {
        #[test]
        fn json_passes_unchanged(text in "\\PC{0,40}", n in -1e9f64..1e9) {
            let json = serde_json::to_vec(&serde_json::json!([{ &text: n, "x": [null, text, true] }])).unwrap();
            prop_assert_eq!(lenient(&json), (json, 0));
        }
    }
}

//! What is wrong with a configuration, where, and what to write instead.

use std::{
    io,
    path::{Path, PathBuf},
};

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file does not open.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The text is no configuration.
    #[error("{file}:{line}:{column}: {problem}{fix}", file = .path.as_deref().unwrap_or(Path::new("trap.toml")).display())]
    Text {
        /// The file, where the text came from one.
        path: Option<PathBuf>,
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
        /// What is wrong.
        problem: String,
        /// What to write instead, with its separator; empty where nobody can know.
        fix: String,
    },
}

impl ConfigError {
    /// An error of the TOML reader.
    pub(super) fn of_toml(text: &str, error: &toml::de::Error) -> Self {
        let (line, column) = position(text, error.span().map_or(0, |span| span.start));
        let problem = error.message().to_string();
        let fix = suggestion(&problem).map_or_else(String::new, |key| format!("; did you mean `{key}`?"));
        Self::Text { path: None, line, column, problem, fix }
    }

    /// A value of `section.key` that makes no sense.
    pub(super) fn of_value(text: &str, key: &str, problem: String) -> Self {
        let (line, column) = position(text, find(text, key).unwrap_or(0));
        Self::Text { path: None, line, column, problem: key.into(), fix: format!(": {problem}") }
    }

    /// The same, of a file.
    pub(super) fn in_file(self, file: &Path) -> Self {
        match self {
            Self::Text { line, column, problem, fix, .. } => {
                Self::Text { path: Some(file.into()), line, column, problem, fix }
            }
            other => other,
        }
    }
}

/// Line and column of a byte, from 1.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    (before.matches('\n').count() + 1, column)
}

/// Where `section.key` is set.
fn find(text: &str, key: &str) -> Option<usize> {
    let (section, name) = key.split_once('.')?;
    let (mut at, mut inside) = (0, false);
    for line in text.split_inclusive('\n') {
        let code = line.trim();
        if let Some(header) = code.strip_prefix('[') {
            inside = header.split(']').next().map(str::trim) == Some(section);
        } else if inside && code.split('=').next().map(str::trim) == Some(name) {
            return Some(at + line.len() - line.trim_start().len());
        }
        at += line.len();
    }
    None
}

/// The known name nearest to an unknown one: serde's message lists them in backticks, the unknown first.
fn suggestion(message: &str) -> Option<&str> {
    let mut names = message.split('`').skip(1).step_by(2);
    let unknown = names.next().filter(|_| message.starts_with("unknown"))?;
    let (distance, name) = names.map(|name| (edits(unknown, name), name)).min()?;
    (distance <= unknown.chars().count().div_ceil(3).max(1)).then_some(name)
}

/// Letters to insert, delete or replace to get from one word to the other.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut before = i;
        let mut left = i + 1;
        for (cell, &b) in row.iter_mut().skip(1).zip(&to) {
            let replaced = before + usize::from(a != b);
            before = *cell;
            left = replaced.min(before + 1).min(left + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_between_words() {
        for (a, b, expected) in [
            ("kitten", "sitting", 3),
            ("", "abc", 3),
            ("frames", "frames", 0),
            ("frame", "frames", 1),
            ("lon", "lat", 2),
        ] {
            assert_eq!(edits(a, b), expected, "{a} {b}");
            assert_eq!(edits(b, a), expected, "{b} {a}");
        }
    }
}

//! The firmware's own log: defmt frames from a card, and the program that wrote them, made readable.
//!
//! | step | file |
//! |---|---|
//! | bytes between delimiters → a frame | [`frame`] |
//! | a program's log statements: their texts, and where they stand in the source | [`table`] |
//! | a frame and its text → what was said | [`text`] |
//!
//! Own code and not the `defmt-decoder` crate: that one turns `serde_json`'s `arbitrary_precision` on for
//! every crate of the workspace and brings fourteen more. What we emit is covered; of defmt's types only
//! bit flags and CBOR are shown as plain numbers and bytes.

mod frame;
mod table;
mod text;

use std::{
    fs, io,
    io::Cursor,
    path::{Path, PathBuf},
};

use csp_device::diagnostics::{Header, build_id};
use csp_models::time::{TimeSource, Timestamp};
use serde::Serialize;

use table::Table;

/// The log statements of one program.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    build_id: String,
    table: Table,
}

/// Why a log cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A file or folder cannot be read.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A folder without log files.
    #[error("{path}: no logs (*.defmt) here; is it the diagnostics folder of a trap's store?", path = .path.display())]
    NoLogs {
        /// The folder.
        path: PathBuf,
    },
    /// Not a program, or one without log statements.
    #[error("{path}: {problem}; give the csp-device that ran on the trap, as it was built", path = .path.display())]
    Program {
        /// The program.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Another program wrote the log.
    #[error("{log}: written by build {wrote}, {program} is build {given}: every text would be wrong. Give --elf the program of that build", log = .log.display(), program = .program.display())]
    OtherBuild {
        /// The log.
        log: PathBuf,
        /// Build id of the program that wrote it.
        wrote: String,
        /// The program given.
        program: PathBuf,
        /// Its build id.
        given: String,
    },
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Severity: `error`, `warn`, `info`, `debug`, `trace`.
    pub level: &'static str,
    /// Microseconds since the program started.
    pub uptime_us: Option<u64>,
    /// UTC by the clock of the board, which may not have been set.
    pub utc: Option<String>,
    /// What was said.
    pub message: String,
    /// Source file and line, where the program has its debug information.
    pub at: Option<String>,
}

/// A log file, decoded as far as it goes.
#[derive(Debug)]
pub struct Log {
    /// The file.
    pub path: PathBuf,
    /// Its header; `None` when that is damaged, so that nothing says which program wrote it.
    pub header: Option<Header>,
    /// Its lines, in order.
    pub lines: Vec<Line>,
    /// Frames that could not be read.
    pub damaged: usize,
    /// Bytes after the last whole frame.
    pub torn_tail: usize,
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> LogError {
    move |source| LogError::Io { path: path.into(), source }
}

impl Program {
    /// Reads the log statements of an ELF program.
    ///
    /// # Errors
    /// [`LogError::Program`] for something else, or a stripped program.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        let bytes = fs::read(path).map_err(io_error(path))?;
        let build_id = build_id(&mut Cursor::new(&bytes)).map_err(io_error(path))?.unwrap_or_default();
        let table =
            Table::read(&bytes).map_err(|problem| LogError::Program { path: path.into(), problem })?;
        Ok(Self { path: path.into(), build_id, table })
    }

    /// Decodes a log file of any condition that this program wrote. A file whose header is damaged is taken
    /// for this program's.
    ///
    /// # Errors
    /// [`LogError::OtherBuild`], or the file cannot be read.
    pub fn decode(&self, path: &Path) -> Result<Log, LogError> {
        let bytes = fs::read(path).map_err(io_error(path))?;
        let (header, frames) = match Header::split(&bytes) {
            Some((header, frames)) => (Some(header), frames),
            None => (None, &bytes[..]),
        };
        if let Some(header) = header.as_ref().filter(|header| header.build_id != self.build_id) {
            let named = |id: &str| if id.is_empty() { "(none)".to_string() } else { id.to_string() };
            return Err(LogError::OtherBuild {
                log: path.into(),
                wrote: named(&header.build_id),
                program: self.path.clone(),
                given: named(&self.build_id),
            });
        }
        let mut log = Log { path: path.into(), header, lines: Vec::new(), damaged: 0, torn_tail: 0 };
        for piece in frames.split_inclusive(|&byte| byte == 0) {
            match piece.split_last() {
                Some((0, [])) => {}
                Some((0, encoded)) => match self.line(encoded, log.header.as_ref()) {
                    Some(line) => log.lines.push(line),
                    None => log.damaged += 1,
                },
                _ => log.torn_tail = piece.len(),
            }
        }
        Ok(log)
    }

    fn line(&self, encoded: &[u8], header: Option<&Header>) -> Option<Line> {
        let bytes = frame::decode(encoded)?;
        let said = text::read(&self.table, &bytes)?;
        let utc = header.zip(said.uptime_us).and_then(|(header, uptime)| {
            let since = i64::try_from(uptime.saturating_sub(header.uptime_us) / 1000).ok()?;
            let millis = header.utc_ms.checked_add(since)?;
            Some(Timestamp { millis, source: TimeSource::Rtc }.to_string())
        });
        Some(Line {
            level: said.level,
            uptime_us: said.uptime_us,
            utc,
            message: said.message,
            at: said.at.map(ToString::to_string),
        })
    }
}

/// The log files among `paths`, folders looked into, in the order they were written.
///
/// # Errors
/// A folder that cannot be listed or holds none.
pub fn logs(paths: &[PathBuf]) -> Result<Vec<PathBuf>, LogError> {
    let mut found = Vec::new();
    for path in paths {
        if !path.is_dir() {
            found.push(path.clone());
            continue;
        }
        let mut inside = Vec::new();
        for entry in fs::read_dir(path).map_err(io_error(path))? {
            let file = entry.map_err(io_error(path))?.path();
            if file.extension().is_some_and(|extension| extension == "defmt") {
                inside.push(file);
            }
        }
        if inside.is_empty() {
            return Err(LogError::NoLogs { path: path.clone() });
        }
        inside.sort();
        found.extend(inside);
    }
    Ok(found)
}

#[cfg(test)]
mod tests;

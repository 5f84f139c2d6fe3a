//! Counts the board's starts and notices when they come too often.
//!
//! `starts` in the state folder is four lines of text, replaced atomically: the count, how many starts
//! in a row were short, and whether the last run was asked to stop.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use csp_models::{bundle::write_atomically, record::LastRun};

use super::last_words;

/// A run that lasts so long is no short one, milliseconds.
pub const SETTLED_MS: u64 = 600_000;

/// What is known at a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Count of starts, from 1.
    pub boot: u32,
    /// How the run before ended.
    pub after: LastRun,
    /// What it said last.
    pub words: Option<String>,
    /// Starts in a row before this one that did not last.
    pub short: u32,
}

impl Start {
    /// Why this start should go carefully, when `limit` starts before it did not last.
    pub fn safe_mode(&self, limit: u32) -> Option<String> {
        (self.short >= limit).then(|| format!("{} starts in a row did not last ten minutes", self.short))
    }
}

/// The file, and what this run writes into it.
#[derive(Debug)]
pub struct Starts {
    path: PathBuf,
    words: PathBuf,
    boot: u32,
    settled: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Kept {
    boot: u32,
    short: u32,
    clean: bool,
}

impl Starts {
    /// Counts this start, in folder `state` (made when missing). A damaged file is taken for none.
    ///
    /// # Errors
    /// The count cannot be written: the card is read-only or full. [`Start`] is still right.
    pub fn begin(state: &Path) -> (Start, Self, io::Result<()>) {
        let (path, words) = (state.join("starts"), state.join("last-words"));
        let kept = fs::read_to_string(&path).ok().and_then(|text| parse(&text));
        let said = last_words::read(&words);
        let after = match (&said, kept) {
            (Some(_), _) => LastRun::Panic,
            (None, None) if path.exists() => LastRun::Interrupted,
            (None, None) => LastRun::None,
            (None, Some(Kept { clean: true, .. })) => LastRun::Clean,
            (None, Some(_)) => LastRun::Interrupted,
        };
        let Kept { boot, short, .. } = kept.unwrap_or_default();
        let boot = boot.saturating_add(1);
        let start = Start { boot, after, words: said, short };
        let starts = Self { path, words, boot, settled: false };
        let written = fs::create_dir_all(state)
            .and_then(|()| starts.write(Kept { boot, short: short.saturating_add(1), clean: false }));
        (start, starts, written)
    }

    /// Where a panic's last words belong.
    pub fn words(&self) -> &Path {
        &self.words
    }

    /// Call it now and then: a run that lasts ends the row of short ones.
    ///
    /// # Errors
    /// The system's reason; it is tried again.
    pub fn live(&mut self, since_start_ms: u64) -> io::Result<()> {
        if !self.settled && since_start_ms >= SETTLED_MS {
            self.write(Kept { boot: self.boot, short: 0, clean: false })?;
            self.settled = true;
        }
        Ok(())
    }

    /// The trap was asked to stop.
    ///
    /// # Errors
    /// The system's reason; the next start then takes this one for interrupted.
    pub fn stop(&self) -> io::Result<()> {
        self.write(Kept { boot: self.boot, short: 0, clean: true })
    }

    fn write(&self, kept: Kept) -> io::Result<()> {
        let Kept { boot, short, clean } = kept;
        let text = format!("csp-starts 1\nboot {boot}\nshort {short}\nclean {clean}\n");
        write_atomically(&self.path, |file| io::Write::write_all(file, text.as_bytes()))
    }
}

fn parse(text: &str) -> Option<Kept> {
    let mut lines = text.lines();
    (lines.next()? == "csp-starts 1").then_some(())?;
    let mut value = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
    let (boot, short, clean) = (value("boot")?, value("short")?, value("clean")?);
    Some(Kept { boot: boot.parse().ok()?, short: short.parse().ok()?, clean: clean.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(dir: &Path) -> (Start, Starts) {
        let (start, starts, written) = Starts::begin(dir);
        written.unwrap();
        (start, starts)
    }

    #[test]
    fn runs_are_counted_and_their_ends_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let (start, starts) = begin(&state);
        assert_eq!(start, Start { boot: 1, after: LastRun::None, words: None, short: 0 });
        starts.stop().unwrap();
        let (start, starts) = begin(&state);
        assert_eq!((start.boot, start.after, start.short), (2, LastRun::Clean, 0));
        drop(starts); // the power goes
        let (start, starts) = begin(&state);
        assert_eq!((start.boot, start.after, start.short), (3, LastRun::Interrupted, 1));
        fs::write(starts.words(), "panicked at a.rs:1: boom").unwrap();
        let (start, starts) = begin(&state);
        assert_eq!((start.after, start.words.as_deref()), (LastRun::Panic, Some("panicked at a.rs:1: boom")));
        last_words::forget(starts.words());
        assert_eq!(begin(&state).0.after, LastRun::Interrupted);
    }

    #[test]
    fn a_boot_loop_leads_to_safe_mode_and_a_long_run_out_of_it() {
        let dir = tempfile::tempdir().unwrap();
        for short in 0..3 {
            let (start, _) = begin(dir.path());
            assert_eq!((start.short, start.safe_mode(3)), (short, None));
        }
        let (start, mut starts) = begin(dir.path());
        assert!(start.safe_mode(3).unwrap().contains("3 starts"));
        starts.live(SETTLED_MS - 1).unwrap();
        assert!(begin(dir.path()).0.safe_mode(3).is_some());
        let (_, mut starts) = begin(dir.path());
        starts.live(SETTLED_MS).unwrap();
        drop(starts);
        let (start, _) = begin(dir.path());
        assert_eq!((start.safe_mode(3), start.after), (None, LastRun::Interrupted));
    }

    #[test]
    fn a_damaged_count_is_no_reason_to_stop() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "csp-starts 1\nboot x\n", "csp-starts 1\nboot 5\nshort 1", "\u{0}\u{0}\u{0}"] {
            fs::write(dir.path().join("starts"), text).unwrap();
            let (start, ..) = Starts::begin(dir.path());
            assert_eq!((start.boot, start.after), (1, LastRun::Interrupted), "{text:?}");
        }
        // a folder that cannot be made: the start is known all the same
        let (start, _, written) = Starts::begin(&dir.path().join("starts/state"));
        assert!(written.is_err());
        assert_eq!(start.boot, 1);
    }
}

//! What the user sees of long work: a bar with ETA on a terminal, else a line every few seconds.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// A line on stderr. A terminal that went away must not end hours of work.
pub fn note(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// How much is said on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// Nothing: tests, and callers with their own display.
    Silent,
    /// Lines.
    Lines,
    /// Bars.
    Bars,
}

impl Voice {
    /// Bars on a terminal, else lines.
    pub fn of_stderr() -> Self {
        if std::io::stderr().is_terminal() { Self::Bars } else { Self::Lines }
    }

    /// A remark.
    pub fn say(self, message: &str) {
        if self != Self::Silent {
            note(format_args!("{message}"));
        }
    }
}

/// The progress of one task.
#[derive(Debug)]
pub struct Progress {
    voice: Voice,
    name: String,
    total: u64,
    begun: Instant,
    begun_at: u64,
    said: Instant,
    bar: Option<ProgressBar>,
}

/// Between two plain lines.
const PAUSE: Duration = Duration::from_secs(5);

impl Progress {
    /// Starts at `at` of `total` steps.
    pub fn new(voice: Voice, name: &str, at: u64, total: u64) -> Self {
        let bar = (voice == Voice::Bars).then(|| {
            let style = ProgressStyle::with_template("{prefix:>18} {bar:30} {pos}/{len} {msg} ETA {eta}");
            let bar = ProgressBar::new(total).with_position(at).with_prefix(name.to_string());
            bar.reset_eta();
            style.map_or(bar.clone(), |style| bar.with_style(style))
        });
        let now = Instant::now();
        Self { voice, name: name.into(), total, begun: now, begun_at: at, said: now, bar }
    }

    /// At `step`, with something to say about it.
    pub fn at(&mut self, step: u64, message: impl FnOnce() -> String) {
        if let Some(bar) = &self.bar {
            bar.set_position(step);
            bar.set_message(message());
        } else if self.voice == Voice::Lines && self.said.elapsed() >= PAUSE {
            self.said = Instant::now();
            let done = step.saturating_sub(self.begun_at).max(1) as f64;
            let left = self.begun.elapsed().as_secs_f64() / done * self.total.saturating_sub(step) as f64;
            note(format_args!("{:>18} {step}/{} {} ETA {left:.0} s", self.name, self.total, message()));
        }
    }

    /// The task is done.
    pub fn done(self, message: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let seconds = self.begun.elapsed().as_secs_f64();
        self.voice.say(&format!("{:>18} {message} in {seconds:.1} s", self.name));
    }
}

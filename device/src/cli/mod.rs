//! The verbs of `csp-device`, callable in process as well.
//!
//! Exit codes: 0 done · 1 failed · 2 usage · 3 the bundle is refused.

/// `eprintln!` that survives a terminal that went away: a trap goes on without its onlooker.
macro_rules! note {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($arg)*);
    }};
}

pub mod bench;
pub mod classify;
pub mod config;
mod diary;
mod field;
pub mod run;
pub mod selftest;

use std::{fs, io, path::Path};

use csp_models::{
    bundle::BundleError,
    place::{LatLon, Place, PlaceSource},
    signature::{SignatureError, TrustedKey},
};

use crate::infer::{Engine, EngineOptions, InferError, OpenError};

/// How a verb ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything was done.
    Done,
    /// Something failed; the rest was done.
    Failed,
    /// The command line makes no sense.
    Usage,
    /// The bundle is refused.
    Refused,
}

impl Exit {
    /// The process's exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
        }
    }

    /// The exit for an error of a verb: [`Exit::Refused`] for a bundle that is there and not used.
    pub fn of(error: &anyhow::Error) -> Self {
        let refused = match error.downcast_ref::<BundleError>() {
            // The zip reader reports damage as an error of reading.
            Some(BundleError::Io { source, .. }) => {
                !matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
            }
            Some(_) => true,
            None => {
                error.downcast_ref::<InferError>().is_some()
                    || error.downcast_ref::<SignatureError>().is_some()
            }
        };
        if refused { Self::Refused } else { Self::Failed }
    }
}

/// An error in one line: its contexts and causes, each said once (our errors quote their causes).
pub fn explain(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |said, cause| {
        let cause = cause.to_string();
        match said.is_empty() {
            true => cause,
            false if said.contains(&cause) => said,
            false => format!("{said}: {cause}"),
        }
    })
}

/// Opens, verifies and loads a bundle; returns its digest and the engine, the file's bytes are let go.
///
/// With `trust`, one of those keys has to have signed it.
pub(crate) fn open_model(
    path: &Path,
    options: EngineOptions,
    trust: &[TrustedKey],
) -> anyhow::Result<([u8; 32], Engine)> {
    let refused = || format!("{}: the model is refused", path.display());
    let opened = Engine::open(path, options, trust).map_err(|error| match error {
        OpenError::Bundle(error) => error.into(),
        OpenError::Signature(error) => anyhow::Error::new(error).context(refused()),
        OpenError::Infer(error) => anyhow::Error::new(error).context(refused()),
    })?;
    #[cfg(target_os = "linux")]
    defmt::info!("model {=[u8]:02x} loaded", opened.0.get(..6).unwrap_or_default());
    Ok(opened)
}

/// A place in words: `1.29000°S 36.82000°E ± 10 m (live fix)`.
pub(crate) fn describe(place: Option<&Place>) -> String {
    let Some(place) = place else { return String::from("none") };
    let source = match place.source {
        PlaceSource::LiveFix => String::from("live fix"),
        PlaceSource::LastFix { age_s } => format!("last fix, {age_s} s old"),
        PlaceSource::ConfiguredSite => String::from("as given"),
    };
    format!("{} ± {:.0} m ({source})", place.at, place.uncertainty_m)
}

/// `LAT,LON` in degrees.
pub(crate) fn parse_site(text: &str) -> Result<LatLon, String> {
    let numbers = text
        .split_once(',')
        .and_then(|(lat, lon)| Some((lat.trim().parse().ok()?, lon.trim().parse().ok()?)));
    let (lat, lon) = numbers.ok_or("it must be LAT,LON in degrees, such as -1.2921,36.8219")?;
    LatLon::measured(lat, lon).map_err(|error| format!("{error}"))
}

/// The most memory this process has held, KiB; `None` where the system does not say.
pub(crate) fn peak_rss_kib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// A reader that goes away (`| head`) ends the output, it is no failure.
pub(crate) fn ignore_closed_pipe(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

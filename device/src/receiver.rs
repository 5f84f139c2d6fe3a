//! NMEA from a file, a pipe or a serial port.
//!
//! Anything but a recording is read by its own thread, so a picture in work delays nothing and a
//! silent receiver holds nothing up. A serial port that vanishes is opened again, and one whose speed
//! is not given is tried at each (`port.rs`).

mod port;

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver as Channel, SyncSender, TryRecvError, sync_channel},
    thread,
};

use csp_models::{place::LatLon, time::days_from_civil};

use crate::gps::{Gps, Receiver, sentence};

pub use port::RATES;

/// Chunks a reading thread may be ahead; a chunk is at most 512 bytes.
const CHUNKS: usize = 1024;

/// The date this firmware was made, or earlier: days since 1970-01-01. A live receiver or a board
/// clock that says less is wrong.
pub fn build_day() -> i64 {
    days_from_civil(2026, 1, 1).unwrap_or(0)
}

/// Where NMEA comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file: read to its end before the first picture.
    Recording(PathBuf),
    /// A pipe or a socket file, heard as it comes. `-` is the standard input.
    Stream(PathBuf),
    /// A serial port.
    Serial {
        /// Such as `/dev/ttyUSB0`.
        port: String,
        /// Such as 9600; `None` to find it by listening ([`RATES`]).
        baud: Option<u32>,
    },
}

/// Why a source cannot be heard.
#[derive(Debug, thiserror::Error)]
pub enum ReceiverError {
    /// A file or pipe.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A serial port that does not open.
    #[error("{port}: {reason}{}", if *denied { "; add yourself to the group that owns the port (usually dialout)" } else { "" })]
    Serial {
        /// Which.
        port: String,
        /// The system's reason.
        reason: String,
        /// True when a permission is missing.
        denied: bool,
    },
    /// The source broke while it was heard.
    #[error("the receiver is lost: {0}")]
    Lost(String),
    /// A serial port is not there or went away; it is opened again.
    #[error("{port}: {reason}; trying again, every minute at the latest")]
    Away {
        /// Which.
        port: String,
        /// The system's reason.
        reason: String,
    },
    /// Bytes that are no sentences at this speed; the next one is tried.
    #[error("{port}: no sentence at {baud} baud, trying {next}")]
    Noise {
        /// Which port.
        port: String,
        /// The speed it was heard at.
        baud: u32,
        /// The one that is tried now.
        next: u32,
    },
    /// No thread could be started.
    #[error("cannot start a reader: {0}")]
    Thread(io::Error),
}

impl Source {
    /// From the command line: a file, a pipe, `-`, or a serial port with an optional `:baud`.
    ///
    /// # Errors
    /// No such file or port.
    pub fn find(text: &str) -> Result<Self, ReceiverError> {
        if text == "-" {
            return Ok(Self::Stream(text.into()));
        }
        let with_baud = text.rsplit_once(':').and_then(|(port, baud)| Some((port, baud.parse().ok()?)));
        if let (Some((port, baud)), false) = (with_baud, Path::new(text).exists()) {
            return Ok(Self::Serial { port: port.to_string(), baud: Some(baud) });
        }
        // Windows ports are not files.
        if text.starts_with("COM") && !Path::new(text).exists() {
            return Ok(Self::Serial { port: text.to_string(), baud: None });
        }
        let kind = fs::metadata(text).map_err(|source| ReceiverError::Io { path: text.into(), source })?;
        if kind.is_file() {
            Ok(Self::Recording(text.into()))
        } else if is_terminal_device(&kind) {
            Ok(Self::Serial { port: text.to_string(), baud: None })
        } else if kind.is_dir() {
            let source = io::Error::new(io::ErrorKind::IsADirectory, "a folder, not a receiver");
            Err(ReceiverError::Io { path: text.into(), source })
        } else {
            Ok(Self::Stream(text.into()))
        }
    }

    /// Starts hearing. `rate` replays a recording at that multiple of real time instead of reading
    /// it to its end first.
    ///
    /// # Errors
    /// The source does not open, or a recording does not read.
    pub fn open(&self, site: Option<LatLon>, rate: Option<f64>) -> Result<(Gps, Heard), ReceiverError> {
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |source| ReceiverError::Io { path, source }
        };
        #[cfg(target_os = "linux")]
        defmt::info!("listening to {}", defmt::Display2Format(self));
        match (self, rate) {
            (Self::Recording(path), None) => {
                let mut gps = Gps::recorded(site);
                let mut file = File::open(path).map_err(io(path))?;
                let mut chunk = vec![0; 1 << 16];
                loop {
                    let count = file.read(&mut chunk).map_err(io(path))?;
                    if count == 0 {
                        break;
                    }
                    gps.take(chunk.get(..count).unwrap_or_default(), 0);
                }
                gps.pause(0);
                Ok((gps, Heard::none()))
            }
            (Self::Recording(path), Some(rate)) => {
                let file = File::open(path).map_err(io(path))?;
                let heard = Heard::start(move |out| replay(BufReader::new(file), rate, &out))?;
                Ok((Gps::new(site, None), heard))
            }
            // What comes through a pipe may be an old recording: its dates are trusted.
            (Self::Stream(path), _) if path.as_os_str() == "-" => {
                let heard = Heard::start(|out| pump(io::stdin().lock(), &out))?;
                Ok((Gps::new(site, None), heard))
            }
            (Self::Stream(path), _) => {
                // Opening a pipe waits for its writer: the thread waits, not the trap.
                let path = path.clone();
                let heard = Heard::start(move |out| pump(File::open(path)?, &out))?;
                Ok((Gps::new(site, None), heard))
            }
            (Self::Serial { port, baud }, _) => {
                let line = port::open(port, baud.unwrap_or(RATES[0]))?;
                Self::hear_port(port, *baud, Some(line), site)
            }
        }
    }

    /// Starts hearing a serial port that need not be there yet: it is opened when it appears. Other
    /// sources as [`open`](Self::open) does.
    ///
    /// # Errors
    /// Those of `open` for other sources.
    pub fn open_patiently(&self, site: Option<LatLon>) -> Result<(Gps, Heard), ReceiverError> {
        match self {
            Self::Serial { port, baud } => Self::hear_port(port, *baud, None, site),
            other => other.open(site, None),
        }
    }

    fn hear_port(
        port: &str,
        baud: Option<u32>,
        line: Option<port::Line>,
        site: Option<LatLon>,
    ) -> Result<(Gps, Heard), ReceiverError> {
        let port = port.to_string();
        let heard = Heard::start(move |out| {
            port::hear(&port, baud, line, &out);
            Ok(())
        })?;
        Ok((Gps::new(site, Some(build_day())), heard))
    }
}

/// What a reading thread sends: bytes, or why there are none. It may go on after that.
type Message = Result<Vec<u8>, ReceiverError>;

/// What a reading thread has heard and nobody has taken yet.
#[derive(Debug)]
pub struct Heard {
    channel: Option<Channel<Message>>,
    rest: Vec<u8>,
}

impl Heard {
    /// Nothing, ever.
    pub fn none() -> Self {
        Self { channel: None, rest: Vec::new() }
    }

    /// True while more may come.
    pub fn is_open(&self) -> bool {
        self.channel.is_some()
    }

    fn start(
        read: impl FnOnce(SyncSender<Message>) -> io::Result<()> + Send + 'static,
    ) -> Result<Self, ReceiverError> {
        let (out, channel) = sync_channel(CHUNKS);
        let run = move || {
            let last = out.clone();
            if let Err(error) = read(out) {
                #[cfg(target_os = "linux")]
                defmt::warn!("the receiver is lost: {}", defmt::Display2Format(&error));
                let _ = last.send(Err(ReceiverError::Lost(error.to_string())));
            }
        };
        thread::Builder::new().name("receiver".to_string()).spawn(run).map_err(ReceiverError::Thread)?;
        Ok(Self { channel: Some(channel), rest: Vec::new() })
    }
}

impl Receiver for Heard {
    type Error = ReceiverError;

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ReceiverError> {
        if self.rest.is_empty() {
            let Some(channel) = &self.channel else { return Ok(0) };
            match channel.try_recv() {
                Ok(Ok(bytes)) => self.rest = bytes,
                Ok(Err(error)) => return Err(error),
                Err(TryRecvError::Empty) => return Ok(0),
                Err(TryRecvError::Disconnected) => {
                    self.channel = None;
                    return Ok(0);
                }
            }
        }
        let count = self.rest.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(self.rest.drain(..count)) {
            *to = from;
        }
        Ok(count)
    }
}

/// Passes on what a source gives until it ends or nobody listens.
fn pump(mut source: impl Read, out: &SyncSender<Message>) -> io::Result<()> {
    let mut chunk = [0; 512];
    loop {
        match source.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                if out.send(Ok(chunk.get(..count).unwrap_or_default().to_vec())).is_err() {
                    return Ok(());
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Passes on a recording line by line, as much later as the sentences say.
fn replay(mut source: impl BufRead, rate: f64, out: &SyncSender<Message>) -> io::Result<()> {
    const DAY_MS: u32 = 86_400_000;
    let mut before = None;
    loop {
        let mut line = Vec::new();
        // A line of a binary capture may be long; what is read is bounded.
        if source.by_ref().take(4096).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let text =
            line.iter().rposition(|&byte| byte == b'$').and_then(|at| line.get(at..)).unwrap_or_default();
        let text = String::from_utf8_lossy(text);
        if let Some(time) = sentence::parse(text.trim_end()).ok().and_then(|seen| seen.time_ms) {
            let step = before.map_or(0, |before| (time + DAY_MS - before) % DAY_MS);
            before = Some(time);
            if step < DAY_MS / 2 {
                let seconds = f64::from(step) / 1000.0 / rate;
                thread::sleep(std::time::Duration::from_secs_f64(seconds.min(86_400.0)));
            }
        }
        if out.send(Ok(line)).is_err() {
            return Ok(());
        }
    }
}

#[cfg(unix)]
fn is_terminal_device(kind: &fs::Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_char_device(&kind.file_type())
}

#[cfg(not(unix))]
fn is_terminal_device(_: &fs::Metadata) -> bool {
    false
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&match self {
            Self::Recording(path) => format!("recording {}", path.display()),
            Self::Stream(path) => format!("stream {}", path.display()),
            Self::Serial { port, baud: Some(baud) } => format!("{port} at {baud} baud"),
            Self::Serial { port, baud: None } => format!("{port}, its baud rate to be found"),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::gps::tests::line;

    fn hear(heard: &mut Heard) -> Vec<u8> {
        let (mut all, mut buffer) = (Vec::new(), [0; 7]);
        while heard.is_open() {
            let count = heard.read(&mut buffer).unwrap();
            all.extend_from_slice(&buffer[..count]);
        }
        all
    }

    #[test]
    fn sources_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gps.log");
        fs::write(&path, "x").unwrap();
        let text = path.to_str().unwrap();
        assert_eq!(Source::find(text).unwrap(), Source::Recording(path.clone()));
        assert_eq!(Source::find("-").unwrap(), Source::Stream("-".into()));
        assert_eq!(
            Source::find("/dev/ttyUSB7:4800").unwrap(),
            Source::Serial { port: "/dev/ttyUSB7".to_string(), baud: Some(4800) }
        );
        let error = Source::find("/nonexistent/gps").unwrap_err().to_string();
        assert!(error.contains("/nonexistent/gps"), "{error}");
        assert!(Source::find(dir.path().to_str().unwrap()).is_err());
        assert!(Source::find("/dev/ttyUSB7:4800").unwrap().open(None, None).is_err());
    }

    #[test]
    fn a_recording_is_read_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gps.log");
        let text: String = (0..60)
            .map(|s| line(&format!("GNRMC,1200{s:02},A,0117.5260,S,036{s:02}.3140,E,0.02,,231126,,,A")))
            .collect();
        fs::write(&path, &text).unwrap();
        let (gps, heard) = Source::Recording(path.clone()).open(None, None).unwrap();
        assert!(!heard.is_open());
        assert!((gps.place(0).unwrap().at.lon() - (36.0 + 59.314 / 60.0)).abs() < 1e-9);

        // 59 s of recording at 200 times real time
        let start = Instant::now();
        let (_, mut heard) = Source::Recording(path).open(None, Some(200.0)).unwrap();
        assert_eq!(hear(&mut heard), text.as_bytes());
        assert!(start.elapsed() >= Duration::from_millis(290), "{:?}", start.elapsed());
    }
}

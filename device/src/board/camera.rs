//! A camera behind a program, such as `rpicam-still`, that writes a picture to its standard output.

use std::{
    io::{self, Read},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use sha2::{Digest, Sha256};

use crate::trap::{Camera, PictureFile};

/// Bytes of a picture, at most.
const MOST: u64 = 64 << 20;
/// Bytes of a program's complaint that are kept.
const COMPLAINT: usize = 300;

/// Why a program gave no picture.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It does not start.
    #[error("{program}: {source}; is it installed?")]
    Start {
        /// The program.
        program: String,
        /// The system's reason.
        source: io::Error,
    },
    /// It did not end in time.
    #[error("{program}: no picture within {seconds} s; it was stopped")]
    Slow {
        /// The program.
        program: String,
        /// The limit.
        seconds: f64,
    },
    /// It failed.
    #[error("{program}: {status}: {complaint}")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: String,
        /// What it said, its end.
        complaint: String,
    },
    /// What it wrote is no picture.
    #[error("{program}: {bytes} bytes that are neither JPEG nor PNG, or cut short")]
    NoPicture {
        /// The program.
        program: String,
        /// How many.
        bytes: usize,
    },
    /// The pipe to it broke.
    #[error("{program}: {source}")]
    Pipe {
        /// The program.
        program: String,
        /// The system's reason.
        source: io::Error,
    },
}

/// Runs a program for every picture.
#[derive(Clone, Debug)]
pub struct CommandCamera {
    program: String,
    arguments: Vec<String>,
    timeout: Duration,
}

impl CommandCamera {
    /// A camera that is `command`: program and arguments. A picture that takes longer than `timeout` has failed.
    pub fn new(command: &[String], timeout: Duration) -> Self {
        let (program, arguments) =
            command.split_first().map_or((String::new(), &[][..]), |(p, a)| (p.clone(), a));
        Self { program, arguments: arguments.to_vec(), timeout }
    }

    fn run(&self) -> Result<Vec<u8>, CommandError> {
        let program = || self.program.clone();
        let pipe = |source| CommandError::Pipe { program: program(), source };
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| CommandError::Start { program: program(), source })?;
        let (sender, result) = mpsc::channel();
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let picture = read_aside(out, MOST, sender).map_err(pipe)?;
        let (said, complaint) = mpsc::channel();
        read_aside(err, 64 << 10, said).map_err(pipe)?;
        let bytes = match result.recv_timeout(self.timeout) {
            Ok(bytes) => bytes.map_err(pipe)?,
            Err(RecvTimeoutError::Timeout) => {
                stop(&mut child);
                return Err(CommandError::Slow { program: program(), seconds: self.timeout.as_secs_f64() });
            }
            Err(RecvTimeoutError::Disconnected) => Vec::new(),
        };
        drop(picture);
        // It closed its output: it ends, or is ended.
        let status = match wait(&mut child, Duration::from_secs(2)).map_err(pipe)? {
            Some(status) => status,
            None => {
                stop(&mut child);
                child.wait().map_err(pipe)?
            }
        };
        if !status.success() {
            let said = complaint.recv_timeout(Duration::from_millis(200)).ok().and_then(Result::ok);
            let said = String::from_utf8_lossy(&said.unwrap_or_default()).trim().replace('\n', " ");
            let skip = said.chars().count().saturating_sub(COMPLAINT);
            let complaint = said.chars().skip(skip).collect();
            return Err(CommandError::Failed { program: program(), status: status.to_string(), complaint });
        }
        if is_whole(&bytes) {
            Ok(bytes)
        } else {
            Err(CommandError::NoPicture { program: program(), bytes: bytes.len() })
        }
    }
}

impl Camera for CommandCamera {
    type Error = CommandError;

    fn capture(&mut self, _: u8) -> Result<PictureFile, CommandError> {
        let bytes = self.run()?;
        Ok(PictureFile { sha256: Sha256::digest(&bytes).into(), bytes })
    }
}

/// Reads to the end in a thread of its own: a pipe that nobody empties blocks the program.
fn read_aside(
    source: Option<impl Read + Send + 'static>,
    most: u64,
    to: mpsc::Sender<io::Result<Vec<u8>>>,
) -> io::Result<Option<thread::JoinHandle<()>>> {
    let Some(source) = source else { return Ok(None) };
    let read = move || {
        let mut bytes = Vec::new();
        let result = source.take(most).read_to_end(&mut bytes).map(|_| bytes);
        // Nobody listens any more once it took too long.
        let _ = to.send(result);
    };
    thread::Builder::new().name("camera".into()).spawn(read).map(Some)
}

fn wait(child: &mut Child, most: Duration) -> io::Result<Option<std::process::ExitStatus>> {
    const LOOK: Duration = Duration::from_millis(5);
    let mut waited = Duration::ZERO;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if waited >= most {
            return Ok(None);
        }
        thread::sleep(LOOK);
        waited += LOOK;
    }
}

fn stop(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// A JPEG or PNG with its beginning and its end.
fn is_whole(bytes: &[u8]) -> bool {
    let zeros = bytes.iter().rev().take_while(|&&byte| byte == 0).count();
    let jpeg = bytes.starts_with(&[0xff, 0xd8, 0xff])
        && bytes.get(..bytes.len() - zeros).is_some_and(|b| b.ends_with(&[0xff, 0xd9]));
    let png = bytes.starts_with(b"\x89PNG\r\n\x1a\n")
        && bytes.get(bytes.len().saturating_sub(8)..).is_some_and(|end| end.starts_with(b"IEND"));
    jpeg || png
}

#[cfg(all(test, unix))]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(script: &str) -> Result<PictureFile, CommandError> {
        let command = ["sh", "-c", script].map(String::from);
        CommandCamera::new(&command, Duration::from_millis(600)).capture(0)
    }

    #[test]
    fn a_picture_comes_through_and_everything_else_is_an_error() {
        let file = shell(r"printf '\377\330\377xyz\377\331'").unwrap();
        assert_eq!(file.bytes, b"\xff\xd8\xffxyz\xff\xd9");
        let text = |script: &str| shell(script).unwrap_err().to_string();
        assert!(text(r"printf '\377\330\377xyz'").contains("6 bytes"));
        assert!(text("true").contains("0 bytes"));
        assert!(text("echo 'no cameras available' >&2; exit 255").contains("no cameras available"));
        let start = Instant::now();
        assert!(text("exec sleep 30").contains("0.6 s"));
        assert!(start.elapsed() < Duration::from_secs(10));
        let gone = CommandCamera::new(&["/nonexistent/cam".into()], Duration::from_secs(1)).capture(0);
        assert!(gone.unwrap_err().to_string().contains("installed"));
        assert!(CommandCamera::new(&[], Duration::from_secs(1)).capture(0).is_err());
    }
}

//! A program as the camera: it writes one picture to its standard output.

use std::{
    io::Read,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use csp_models::picture::MAX_FILE;

use super::{CameraError, Still};

/// Longest message of the program that is kept, bytes.
const MAX_MESSAGE: u64 = 4096;
/// Between two looks whether the program has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The program and how long it may take.
#[derive(Clone, Debug)]
pub struct CommandCamera {
    program: String,
    args: Vec<String>,
    limit: Duration,
}

impl CommandCamera {
    /// `command` is the program and its arguments, run as they are, without a shell; `limit` bounds one
    /// picture. `None` without a program.
    pub fn new(command: &[String], limit: Duration) -> Option<Self> {
        let (program, args) = command.split_first()?;
        Some(Self { program: program.clone(), args: args.to_vec(), limit })
    }

    fn fail(&self, problem: String) -> CameraError {
        CameraError::Command { command: self.program.clone(), problem }
    }

    /// Waits for the end of the program, but not beyond `until`.
    fn wait(&self, child: &mut Child, until: Instant) -> Result<bool, CameraError> {
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Ok(status.success()),
                Ok(None) if Instant::now() >= until => {
                    return Err(
                        self.fail(format!("not done after {:.1} s, stopped", self.limit.as_secs_f64()))
                    );
                }
                Ok(None) => thread::sleep(LOOK_EVERY),
                Err(error) => return Err(self.fail(error.to_string())),
            }
        }
    }

    fn read(&self, child: &mut Child) -> Result<Vec<u8>, CameraError> {
        let until = Instant::now() + self.limit;
        let (output, messages) = (child.stdout.take(), child.stderr.take());
        let output = collect(output, MAX_FILE + 1);
        let messages = collect(messages, MAX_MESSAGE);
        // The program may end and leave the pipe open to a child of its own: the limit holds for both.
        let left = || until.saturating_duration_since(Instant::now());
        let bytes = output.recv_timeout(left());
        if bytes.as_ref().is_ok_and(|bytes| bytes.len() as u64 > MAX_FILE) {
            return Err(self.fail("it wrote more than 64 MiB".into()));
        }
        let success = self.wait(child, until)?;
        let said = messages.recv_timeout(Duration::from_millis(100)).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let said = said.trim().lines().next_back().unwrap_or("no message").to_string();
        match bytes {
            Ok(bytes) if success && !bytes.is_empty() => Ok(bytes),
            Ok(_) if success => Err(self.fail(format!("it wrote no picture ({said})"))),
            Ok(_) => Err(self.fail(format!("it failed ({said})"))),
            Err(_) => Err(self.fail("its output did not end".into())),
        }
    }
}

/// Reads a pipe in a thread of its own, at most `limit` bytes.
fn collect(pipe: Option<impl Read + Send + 'static>, limit: u64) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            // a broken pipe leaves what came so far; the picture's decoder judges it
            let _ = pipe.take(limit).read_to_end(&mut bytes);
        }
        let _ = sender.send(bytes);
    });
    receiver
}

impl Still for CommandCamera {
    fn capture(&mut self) -> Result<Vec<u8>, CameraError> {
        let mut child = Command::new(&self.program)
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| self.fail(error.to_string()))?;
        let result = self.read(&mut child);
        // nothing to do for a program that has ended
        let _ = child.kill();
        let _ = child.wait();
        result
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn sh(script: &str, millis: u64) -> Result<Vec<u8>, String> {
        let command = ["sh", "-c", script].map(String::from);
        let mut camera = CommandCamera::new(&command, Duration::from_millis(millis)).unwrap();
        camera.capture().map_err(|error| error.to_string())
    }

    #[test]
    fn its_output_is_the_picture() {
        assert_eq!(sh("printf picture; echo note >&2", 5000).unwrap(), b"picture");
        assert_eq!(sh("head -c 1000000 /dev/zero", 5000).unwrap().len(), 1_000_000);
    }

    #[test]
    fn failures_say_what_happened() {
        assert_eq!(
            sh("printf half; echo no camera >&2; exit 3", 5000).unwrap_err(),
            "sh: it failed (no camera)"
        );
        assert_eq!(sh("true", 5000).unwrap_err(), "sh: it wrote no picture (no message)");
        let mut missing = CommandCamera::new(&["/nonexistent".to_string()], Duration::from_secs(1)).unwrap();
        assert!(missing.capture().is_err());
        assert!(CommandCamera::new(&[], Duration::from_secs(1)).is_none());
    }

    #[test]
    fn it_is_stopped_in_time() {
        let start = Instant::now();
        assert!(sh("exec sleep 30", 200).unwrap_err().contains("stopped"));
        assert!(sh("sleep 30 & printf x", 200).unwrap_err().contains("did not end"));
        // output without end
        assert!(sh("exec cat /dev/zero", 60_000).unwrap_err().contains("64 MiB"));
        assert!(start.elapsed() < Duration::from_secs(20));
    }
}

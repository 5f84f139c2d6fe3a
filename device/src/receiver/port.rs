//! A serial port that may be absent, unplugged, or at a speed nobody has said.

use std::{
    io::{self, Read},
    sync::mpsc::SyncSender,
    thread,
    time::{Duration, Instant},
};

use super::{Message, ReceiverError};
use crate::gps::{framing::Framer, sentence};

/// The speeds that are tried, the likeliest first.
pub const RATES: [u32; 6] = [9600, 4800, 115_200, 38_400, 19_200, 57_600];

/// A speed has this long to show a sentence: receivers speak once a second, some every other.
const TRIAL: Duration = Duration::from_secs(3);
/// Bytes without a sentence after which a speed that was right is wrong now: a receiver that was reset.
const LOST_SYNC: usize = 16 * 1024;
/// Between two attempts to open a port; doubled up to the last.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LAST_WAIT: Duration = Duration::from_secs(60);

/// An open port.
pub type Line = Box<dyn serialport::SerialPort>;

/// Opens a port.
pub fn open(port: &str, baud: u32) -> Result<Line, ReceiverError> {
    let line = serialport::new(port, baud).timeout(Duration::from_millis(250)).open();
    line.map_err(|error| ReceiverError::Serial {
        port: port.to_string(),
        denied: error.kind() == serialport::ErrorKind::Io(io::ErrorKind::PermissionDenied),
        reason: error.to_string(),
    })
}

/// Hears a port until nobody listens. What goes wrong is said once and tried again.
pub fn hear(port: &str, baud: Option<u32>, mut line: Option<Line>, out: &SyncSender<Message>) {
    let mut rate = Rate::new(baud);
    let mut wait = FIRST_WAIT;
    loop {
        let opened = line.take().map_or_else(|| open(port, rate.now()), Ok);
        let reason = match opened {
            Ok(mut line) => match listen(port, &mut line, &mut rate, out) {
                Ok(heard) => {
                    if heard {
                        wait = FIRST_WAIT;
                    }
                    String::from("unplugged")
                }
                Err(NobodyListens) => return,
            },
            Err(ReceiverError::Serial { reason, .. }) => reason,
            Err(error) => error.to_string(),
        };
        // Said when it happens, not at every attempt.
        if wait == FIRST_WAIT {
            let away = ReceiverError::Away { port: port.to_string(), reason };
            if out.send(Err(away)).is_err() {
                return;
            }
        }
        // In short naps, each of which finds out whether anybody still listens.
        let until = Instant::now() + wait;
        while Instant::now() < until {
            if out.send(Ok(Vec::new())).is_err() {
                return;
            }
            thread::sleep(until.saturating_duration_since(Instant::now()).min(FIRST_WAIT));
        }
        wait = (wait * 2).min(LAST_WAIT);
    }
}

struct NobodyListens;

/// Passes on what a port gives until it is gone; true when it gave anything.
fn listen(
    port: &str,
    line: &mut Line,
    rate: &mut Rate,
    out: &SyncSender<Message>,
) -> Result<bool, NobodyListens> {
    let mut chunk = [0; 512];
    let (mut heard, mut empty) = (false, 0);
    rate.restart();
    loop {
        match line.read(&mut chunk) {
            // An end of file now and then is a driver's slip, a row of them is a port without a device.
            Ok(0) => {
                empty += 1;
                if empty > 10 {
                    return Ok(heard);
                }
                thread::sleep(Duration::from_millis(50));
            }
            Ok(count) => {
                (heard, empty) = (true, 0);
                let bytes = chunk.get(..count).unwrap_or_default();
                rate.judge(bytes);
                out.send(Ok(bytes.to_vec())).map_err(|_| NobodyListens)?;
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::Interrupted) => {
                out.send(Ok(Vec::new())).map_err(|_| NobodyListens)?;
            }
            Err(_) => return Ok(heard),
        }
        if let Some((baud, next, noise)) = rate.change() {
            if line.set_baud_rate(next).is_err() {
                return Ok(heard);
            }
            if noise {
                let noise = ReceiverError::Noise { port: port.to_string(), baud, next };
                out.send(Err(noise)).map_err(|_| NobodyListens)?;
            }
        }
    }
}

/// Finds the speed by listening.
struct Rate {
    /// `None` for a speed that was given: it is kept.
    index: Option<usize>,
    given: u32,
    framer: Framer,
    /// Bytes since the last sentence at this speed.
    bytes: usize,
    proven: bool,
    since: Instant,
    /// Speeds left in the round whose failures are said.
    to_say: usize,
}

impl Rate {
    fn new(baud: Option<u32>) -> Self {
        Self {
            index: baud.is_none().then_some(0),
            given: baud.unwrap_or(RATES[0]),
            framer: Framer::default(),
            bytes: 0,
            proven: false,
            since: Instant::now(),
            to_say: RATES.len(),
        }
    }

    fn now(&self) -> u32 {
        self.index.and_then(|index| RATES.get(index).copied()).unwrap_or(self.given)
    }

    fn restart(&mut self) {
        (self.bytes, self.proven, self.since) = (0, false, Instant::now());
        self.framer = Framer::default();
    }

    fn judge(&mut self, bytes: &[u8]) {
        self.bytes = self.bytes.saturating_add(bytes.len());
        for &byte in bytes {
            let Some(text) = self.framer.push(byte) else { continue };
            if sentence::parse(text) != Err(sentence::SentenceError::Checksum) {
                (self.bytes, self.proven, self.to_say) = (0, true, RATES.len());
            }
        }
    }

    /// The next speed, when this one is wrong: (this, next, whether to say so).
    fn change(&mut self) -> Option<(u32, u32, bool)> {
        let wrong = if self.proven { self.bytes > LOST_SYNC } else { self.since.elapsed() >= TRIAL };
        let index = self.index.filter(|_| wrong)?;
        let before = self.now();
        // A receiver that says nothing at all is not noise, and may be switched off.
        let noise = self.bytes > 0 && self.to_say > 0;
        self.to_say = self.to_say.saturating_sub(usize::from(noise));
        self.index = Some((index + 1) % RATES.len());
        self.restart();
        Some((before, self.now(), noise))
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::{
        io::Write,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
            mpsc::sync_channel,
        },
    };

    use serialport::{SerialPort, TTYPort};

    use super::*;
    use crate::gps::tests::line;

    /// A receiver at 4800 baud on a pseudo-terminal: at any other speed its bytes are noise.
    fn receiver(mut end: TTYPort, stop: Arc<AtomicBool>) {
        let rmc = line("GNRMC,120000.00,A,0117.5260,S,03649.3140,E,0.02,,231126,,,A");
        while !stop.load(Ordering::Relaxed) {
            let right = end.baud_rate().is_ok_and(|baud| baud == 4800);
            let bytes: Vec<u8> = if right {
                rmc.clone().into_bytes()
            } else {
                rmc.bytes().map(|byte| byte.rotate_left(3) | 0x80).collect()
            };
            // Without anybody on the other side this fails, as a cable without a computer does.
            let _ = end.write_all(&bytes);
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn message(messages: &std::sync::mpsc::Receiver<Message>) -> Message {
        loop {
            match messages.recv_timeout(Duration::from_secs(20)).expect("the reader stopped") {
                Ok(bytes) if bytes.is_empty() => {}
                other => return other,
            }
        }
    }

    #[test]
    fn the_speed_is_found_and_an_unplugged_receiver_is_heard_again() {
        let dir = tempfile::tempdir().unwrap();
        let port = dir.path().join("gps");
        let name = port.to_str().unwrap().to_string();
        let (out, messages) = sync_channel(1024);
        let reader = thread::spawn({
            let name = name.clone();
            move || hear(&name, None, None, &out)
        });
        // nothing is plugged in yet
        assert!(matches!(message(&messages), Err(ReceiverError::Away { .. })));
        for round in 0..2 {
            let (end, other) = TTYPort::pair().unwrap();
            std::os::unix::fs::symlink(other.name().unwrap(), &port).unwrap();
            drop(other);
            let stop = Arc::new(AtomicBool::new(false));
            let talker = thread::spawn({
                let stop = Arc::clone(&stop);
                move || receiver(end, stop)
            });
            let (mut said, mut framer, mut found) = (Vec::new(), Framer::default(), false);
            while !found {
                match message(&messages) {
                    Ok(bytes) => {
                        found = bytes
                            .iter()
                            .any(|&byte| framer.push(byte).is_some_and(|text| sentence::parse(text).is_ok()));
                    }
                    Err(error) => said.push(error.to_string()),
                }
            }
            // the second time the right speed is the first one tried
            let expected = if round == 0 {
                vec![format!("{name}: no sentence at 9600 baud, trying 4800")]
            } else {
                vec![]
            };
            assert_eq!(said, expected);
            stop.store(true, Ordering::Relaxed);
            talker.join().unwrap();
            std::fs::remove_file(&port).unwrap();
            let away = loop {
                if let Err(error) = message(&messages) {
                    break error.to_string();
                }
            };
            assert_eq!(away, format!("{name}: unplugged; trying again, every minute at the latest"));
        }
        drop(messages);
        reader.join().unwrap();
    }

    #[test]
    fn a_given_speed_is_kept() {
        let mut rate = Rate::new(Some(38_400));
        rate.since = Instant::now() - TRIAL * 2;
        rate.judge(&[0xff; 100_000]);
        assert!(rate.change().is_none() && rate.now() == 38_400);
    }

    #[test]
    fn all_speeds_are_tried_and_said_once() {
        let mut rate = Rate::new(None);
        let mut said = 0;
        for turn in 0..20 {
            assert_eq!(rate.now(), RATES[turn % 6]);
            rate.judge(b"noise");
            rate.since = Instant::now() - TRIAL;
            said += usize::from(rate.change().unwrap().2);
        }
        assert_eq!(said, 6);
        // silence is no noise
        rate.judge(line("GPGSV,1,1,00").as_bytes());
        assert!(rate.change().is_none());
        rate.restart();
        rate.since = Instant::now() - TRIAL;
        assert!(!rate.change().unwrap().2);
    }
}

//! The emulated board: qemu with its serial console, its monitor and its pins.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

/// The data register of the PL061 for some lines: the mask is part of the address.
const PL061: u64 = 0x0903_0000;

/// What a board is made of.
#[derive(Clone, Debug)]
pub(super) struct Hardware {
    pub qemu: PathBuf,
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
    pub card: PathBuf,
    /// Socket of the receiver.
    pub receiver: PathBuf,
    /// Folder for the other sockets.
    pub dir: PathBuf,
}

/// A board that is on; off when dropped, as if the power failed.
#[derive(Debug)]
pub(super) struct Board {
    qemu: Child,
    console: ChildStdin,
    lines: Receiver<String>,
    monitor: Line,
    pins: Line,
    gpio: String,
    /// Everything the console said; written to `log` in the end.
    pub said: Vec<String>,
    log: PathBuf,
}

impl Board {
    /// Switches a board on.
    ///
    /// # Errors
    /// qemu does not start, or has no such device.
    pub fn on(hardware: &Hardware) -> Result<Self> {
        let [monitor, pins] = ["qmp", "qtest"].map(|name| hardware.dir.join(name));
        for socket in [&monitor, &pins] {
            let _ = fs::remove_file(socket);
        }
        let server = |path: &Path| format!("unix:{},server=on,wait=off", path.display());
        let mut qemu = Command::new(&hardware.qemu)
            .args(["-M", "virt", "-cpu", "cortex-a53", "-smp", "2", "-m", "512", "-accel", "tcg"])
            .args(["-nic", "none", "-display", "none", "-no-reboot", "-serial", "stdio"])
            .args(["-append", "console=ttyAMA0 panic=-1 quiet loglevel=3"])
            .arg("-kernel")
            .arg(&hardware.kernel)
            .arg("-initrd")
            .arg(&hardware.initramfs)
            .args(["-qmp", &server(&monitor), "-qtest", &server(&pins), "-qtest-log", "/dev/null"])
            .args(["-drive", &format!("file={},format=raw,if=none,id=card", hardware.card.display())])
            .args(["-device", "virtio-blk-pci,drive=card", "-device", "qemu-xhci"])
            .args(["-chardev", &format!("socket,id=gps,path={}", hardware.receiver.display())])
            .args(["-device", "usb-serial,chardev=gps"])
            .args(["-device", "i6300esb", "-action", "watchdog=reset"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .with_context(|| hardware.qemu.display().to_string())?;
        let (Some(console), Some(output)) = (qemu.stdin.take(), qemu.stdout.take()) else {
            bail!("qemu has no console")
        };
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end().to_string();
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let mut board = Self {
            qemu,
            console,
            lines,
            monitor: Line::connect(&monitor)?,
            pins: Line::connect(&pins)?,
            gpio: String::new(),
            said: Vec::new(),
            log: hardware.dir.join("console.log"),
        };
        board.monitor.line()?;
        board.ask("qmp_capabilities", json!({}))?;
        let parts = board.ask("qom-list", json!({ "path": "/machine/unattached" }))?;
        let parts = parts.as_array().cloned().unwrap_or_default();
        let gpio = parts.iter().find(|part| part["type"].as_str().is_some_and(|kind| kind.contains("pl061")));
        let gpio = gpio.and_then(|part| part["name"].as_str()).context("the board has no PL061")?;
        board.gpio = format!("/machine/unattached/{gpio}");
        Ok(board)
    }

    /// Types a line.
    ///
    /// # Errors
    /// The board is off.
    pub fn type_line(&mut self, line: &str) -> Result<()> {
        writeln!(self.console, "{line}").context("the board's console is closed")
    }

    /// The next line of the console that `wanted` takes.
    ///
    /// # Errors
    /// None within `limit`, or the board went off.
    pub fn wait<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut wanted: impl FnMut(&str) -> Option<T>,
    ) -> Result<T> {
        let end = Instant::now() + limit;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let found = wanted(&line);
                    self.said.push(line);
                    if let Some(found) = found {
                        return Ok(found);
                    }
                }
                Err(error) => {
                    let last = self.said.iter().rev().take(8).rev().map(|line| format!("\n  {line}"));
                    let why = match error {
                        RecvTimeoutError::Timeout => format!("not within {} s", limit.as_secs()),
                        RecvTimeoutError::Disconnected => "the board went off".into(),
                    };
                    bail!("{what}: {why}; the console's last lines:{}", last.collect::<String>());
                }
            }
        }
    }

    /// Drives a line of the board's GPIO from outside.
    ///
    /// # Errors
    /// qemu does not understand.
    pub fn set_pin(&mut self, line: u32, high: bool) -> Result<()> {
        let command = format!("set_irq_in {} unnamed-gpio-in {line} {}", self.gpio, u8::from(high));
        let answer = self.tell_pins(&command)?;
        ensure!(answer.starts_with("OK"), "{command}: {answer}");
        Ok(())
    }

    /// Whether the board drives a line high.
    ///
    /// # Errors
    /// qemu does not understand.
    pub fn is_high(&mut self, line: u32) -> Result<bool> {
        let mask = 1u64 << line;
        let answer = self.tell_pins(&format!("readl {:#x}", PL061 + (mask << 2)))?;
        let value = answer.strip_prefix("OK 0x").and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
        Ok(value.with_context(|| format!("readl: {answer}"))? & mask != 0)
    }

    /// Waits until the board drives a line so.
    ///
    /// # Errors
    /// It does not within `limit`.
    pub fn wait_pin(&mut self, line: u32, high: bool, limit: Duration) -> Result<()> {
        let start = Instant::now();
        while self.is_high(line)? != high {
            ensure!(start.elapsed() < limit, "line {line} does not go {}", if high { "high" } else { "low" });
            thread::sleep(Duration::from_millis(3));
        }
        Ok(())
    }

    /// Waits until the board has gone off by itself; how long that took, and whether its watchdog did it.
    ///
    /// # Errors
    /// It has not within `limit`.
    pub fn wait_off(&mut self, limit: Duration) -> Result<(Duration, bool)> {
        let start = Instant::now();
        while self.qemu.try_wait()?.is_none() {
            ensure!(start.elapsed() < limit, "the board is still on after {} s", limit.as_secs());
            thread::sleep(Duration::from_millis(50));
        }
        let took = start.elapsed();
        self.said.extend(self.lines.try_iter());
        let mut watchdog = false;
        while let Ok(event) = self.monitor.line() {
            watchdog |= event.contains("WATCHDOG");
        }
        Ok((took, watchdog))
    }

    fn ask(&mut self, command: &str, arguments: Value) -> Result<Value> {
        self.monitor.send(&json!({ "execute": command, "arguments": arguments }).to_string())?;
        loop {
            let answer: Value = serde_json::from_str(&self.monitor.line()?)?;
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
            ensure!(answer.get("error").is_none(), "{command}: {answer}");
        }
    }

    fn tell_pins(&mut self, command: &str) -> Result<String> {
        self.pins.send(command)?;
        loop {
            let line = self.pins.line()?;
            // what it says unasked
            if !line.starts_with('[') && !line.starts_with("IRQ") {
                return Ok(line);
            }
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        self.said.extend(self.lines.try_iter());
        let log = fs::OpenOptions::new().create(true).append(true).open(&self.log);
        let text = self.said.iter().map(|line| format!("{line}\n")).collect::<String>() + "--- off\n";
        let _ = log.and_then(|mut log| log.write_all(text.as_bytes()));
    }
}

/// A socket of lines.
#[derive(Debug)]
struct Line(BufReader<UnixStream>);

impl Line {
    /// qemu makes its sockets a moment after it starts.
    fn connect(path: &Path) -> Result<Self> {
        let start = Instant::now();
        loop {
            match UnixStream::connect(path) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
                    return Ok(Self(BufReader::new(stream)));
                }
                Err(error) if start.elapsed() > Duration::from_secs(10) => {
                    return Err(error).with_context(|| path.display().to_string());
                }
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    fn send(&mut self, line: &str) -> Result<()> {
        Ok(writeln!(self.0.get_mut(), "{line}")?)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.0.read_line(&mut line)? > 0, "qemu has gone");
        Ok(line.trim().to_string())
    }
}

//! The watchdog: fed only while the trap gets things done.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
};

/// Restarts the board when it is not fed.
pub trait Watchdog {
    /// Puts the restart off.
    ///
    /// # Errors
    /// The system's reason.
    fn feed(&mut self) -> io::Result<()>;

    /// Switches it off: the trap was asked to stop. Merely dropping it leaves it armed, as a crash does.
    ///
    /// # Errors
    /// The system's reason.
    fn disarm(&mut self) -> io::Result<()>;
}

/// `/dev/watchdog`: armed by opening it, fed by a byte, disarmed by `V` before it is closed (the
/// kernel's magic close; a kernel with `nowayout` restarts all the same).
#[derive(Debug)]
pub struct DeviceWatchdog(File);

impl DeviceWatchdog {
    /// Arms it.
    ///
    /// # Errors
    /// There is none, or another program (such as systemd) holds it.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(OpenOptions::new().write(true).open(path)?))
    }
}

impl Watchdog for DeviceWatchdog {
    fn feed(&mut self) -> io::Result<()> {
        // Any byte but V.
        self.0.write_all(b".")
    }

    fn disarm(&mut self) -> io::Result<()> {
        self.0.write_all(b"V")
    }
}

/// A watchdog is fed that often, milliseconds; kernels restart after 15 to 60 s.
const FEED_MS: u64 = 2_000;

/// Feeds a watchdog while work goes on.
#[derive(Debug)]
pub struct Feeder<W> {
    dog: W,
    deadline_ms: u64,
    progress: u64,
    moved_ms: u64,
    fed_ms: Option<u64>,
}

impl<W: Watchdog> Feeder<W> {
    /// Feeds `dog` as long as something gets done every `deadline_ms`.
    pub fn new(dog: W, deadline_ms: u64, now_ms: u64) -> Self {
        Self { dog, deadline_ms, progress: 0, moved_ms: now_ms, fed_ms: None }
    }

    /// Call it in every turn of the loop: `progress` counts what got done, `idle` says that there is
    /// nothing to do. True when it was fed or need not be yet, false when it is left to bite.
    ///
    /// # Errors
    /// The watchdog cannot be fed.
    pub fn turn(&mut self, now_ms: u64, progress: u64, idle: bool) -> io::Result<bool> {
        if idle || progress != self.progress {
            (self.progress, self.moved_ms) = (progress, now_ms);
        }
        if now_ms.saturating_sub(self.moved_ms) >= self.deadline_ms {
            return Ok(false);
        }
        if self.fed_ms.is_none_or(|fed| now_ms.saturating_sub(fed) >= FEED_MS) {
            self.fed_ms = Some(now_ms);
            self.dog.feed()?;
        }
        Ok(true)
    }

    /// The trap stops because it was asked to.
    ///
    /// # Errors
    /// The system's reason; the board may restart.
    pub fn disarm(mut self) -> io::Result<()> {
        self.dog.disarm()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Bowl(u32);

    impl Watchdog for &mut Bowl {
        fn feed(&mut self) -> io::Result<()> {
            self.0 += 1;
            Ok(())
        }
        fn disarm(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn it_is_fed_while_work_goes_on_or_there_is_none() {
        let mut bowl = Bowl::default();
        let mut feeder = Feeder::new(&mut bowl, 10_000, 0);
        // a minute of idling: every two seconds
        for ms in (0..60_000).step_by(20) {
            assert!(feeder.turn(ms, 0, true).unwrap());
        }
        // work that moves every nine seconds
        for ms in (60_000..150_000).step_by(20) {
            assert!(feeder.turn(ms, ms / 9_000, false).unwrap());
        }
        // and then no more: the last feeding is before the deadline
        let stuck: Vec<u64> =
            (150_000..200_000).step_by(20).filter(|&ms| !feeder.turn(ms, 16, false).unwrap()).collect();
        // progress was 16 from 144 s on
        assert_eq!(stuck.first(), Some(&154_000));
        assert_eq!(stuck.last(), Some(&199_980));
        assert!((75..=82).contains(&bowl.0), "{} feedings", bowl.0);
    }

    #[test]
    fn the_device_hears_food_and_the_magic_close() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("watchdog");
        assert!(DeviceWatchdog::open(&path).is_err());
        std::fs::write(&path, "").unwrap();
        let mut feeder = Feeder::new(DeviceWatchdog::open(&path).unwrap(), 1_000, 0);
        feeder.turn(0, 0, true).unwrap();
        feeder.turn(2_500, 0, true).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"..");
        feeder.disarm().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"..V");
    }
}

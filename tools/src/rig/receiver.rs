//! A receiver under open sky: speaks NMEA once a second to whoever connects to its socket, as qemu's serial
//! adapter does.

use std::{
    io::Write,
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use csp_models::time::civil_from_days;

/// Where it is, degrees.
pub(super) const PLACE: (f64, f64) = (-1.2921, 36.8219);
/// When it starts: 2026-11-23T05:00:00Z, milliseconds since 1970.
const START_MS: i64 = 1_795_410_000_000;

/// The receiver; its thread ends with the program.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sky {
    start: Instant,
}

impl Sky {
    /// Begins to speak on a socket.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn listen(socket: &Path) -> Result<Self> {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).with_context(|| socket.display().to_string())?;
        let sky = Self { start: Instant::now() };
        thread::spawn(move || {
            for line in listener.incoming().flatten() {
                thread::spawn(move || sky.speak(line));
            }
        });
        Ok(sky)
    }

    /// Its UTC now, milliseconds since 1970.
    pub fn utc_ms(&self) -> i64 {
        START_MS + i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX - START_MS)
    }

    fn speak(self, mut line: UnixStream) {
        // until the board is gone
        while line.write_all(epoch(self.utc_ms() / 1000).as_bytes()).is_ok() {
            let into_second = self.start.elapsed().subsec_nanos();
            thread::sleep(Duration::from_nanos(1_000_000_000 - u64::from(into_second)));
        }
    }
}

/// The sentences of one second of UTC.
fn epoch(utc_s: i64) -> String {
    let (year, month, day) = civil_from_days(utc_s.div_euclid(86_400));
    let s = utc_s.rem_euclid(86_400);
    let time = format!("{:02}{:02}{:02}.00", s / 3600, s / 60 % 60, s % 60);
    let date = format!("{day:02}{month:02}{:02}", year.rem_euclid(100));
    let (lat, lon) = PLACE;
    let minutes = |degrees: f64| degrees.abs().fract() * 60.0;
    let at = format!(
        "{:02}{:07.4},{},{:03}{:07.4},{}",
        lat.abs().trunc(),
        minutes(lat),
        if lat < 0.0 { 'S' } else { 'N' },
        lon.abs().trunc(),
        minutes(lon),
        if lon < 0.0 { 'W' } else { 'E' }
    );
    [
        format!("GNRMC,{time},A,{at},0.02,,{date},,,A"),
        format!("GNGGA,{time},{at},1,09,0.92,1795.1,M,-15.3,M,,"),
        "GNGSA,A,3,02,05,12,,,,,,,,,,1.60,0.92,1.31".to_string(),
    ]
    .map(|body| format!("${body}*{:02X}\r\n", body.bytes().fold(0, |sum, byte| sum ^ byte)))
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trap_understands_it() {
        let mut gps = csp_device::gps::Gps::new(None, None);
        for second in 0..20 {
            gps.take(epoch(START_MS / 1000 + second).as_bytes(), 1000 * second as u64);
            gps.pause(1000 * second as u64 + 500);
        }
        let place = gps.place(19_500).unwrap();
        assert!((place.at.lat() - PLACE.0).abs() < 1e-5 && (place.at.lon() - PLACE.1).abs() < 1e-5);
        assert_eq!(gps.utc_millis(19_000).map(|ms| (ms - START_MS - 19_000).abs() < 1000), Some(true));
    }
}

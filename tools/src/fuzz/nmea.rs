//! Damaged receiver streams, through everything behind the receiver's line.

use csp_device::gps::{DutyConfig, Gps, ReceiverPower, Remembered};
use csp_models::place::{LatLon, PlaceSource};

use super::{Random, Target};

/// The build date of the run: 2026-01-01.
const EARLIEST_DAY: i64 = 20_454;
/// Days after it that a date may still lie: what the epoch filter calls its horizon.
const HORIZON_DAYS: i64 = 15 * 365;

/// Takes any bytes as what a receiver sent, in pieces and with pauses that they choose themselves.
///
/// # Panics
/// When something that has to hold for every input does not: that is what a fuzzer looks for.
fn feed(bytes: &[u8]) {
    let site = LatLon::new(52.0, 5.0).ok();
    let seed = bytes.first().copied().unwrap_or_default();
    let mut gps = Gps::new(site, Some(EARLIEST_DAY)).with_duty(DutyConfig::default());
    let mut whole = Gps::new(site, Some(EARLIEST_DAY));
    let (mut now, mut power) = (0u64, ReceiverPower::Off);
    let mut rest = bytes;
    while !rest.is_empty() {
        let (size, wait) = (1 + usize::from(rest[0] ^ seed) % 200, u64::from(rest[rest.len() / 2]));
        let (piece, after) = rest.split_at(size.min(rest.len()));
        rest = after;
        // mostly the pace of a line, now and then hours
        now += if wait == 255 { 7_200_000 } else { wait * 8 };
        let epoch = gps.take(piece, now);
        if wait > 200 {
            gps.pause(now);
        }
        whole.take(piece, 0);
        if let Some(fix) = epoch.and_then(|epoch| epoch.fix.ok()) {
            assert!(fix.uncertainty_m.is_finite() && fix.uncertainty_m >= 10.0, "{fix:?}");
            assert!(fix.at.lat() != 0.0 || fix.at.lon() != 0.0, "null island");
            if let Some(day) = fix.utc_millis.map(|utc| utc.div_euclid(86_400_000)) {
                assert!((EARLIEST_DAY..=EARLIEST_DAY + HORIZON_DAYS).contains(&day), "{fix:?}");
            }
        }
        if let Some(wish) = gps.tick(now) {
            assert_ne!(wish, power, "the supply is switched to what it is");
            power = wish;
        }
        let place = gps.place(now).expect("a configured site is a place");
        assert!(place.uncertainty_m.is_finite() && place.uncertainty_m >= 0.0, "{place:?}");
        assert!(gps.has_fix() || place.source == PlaceSource::ConfiguredSite, "a place out of nothing");
        if let Some(kept) = gps.remember(now) {
            assert_eq!(Remembered::from_bytes(&kept.to_bytes()), Ok(kept));
        }
        gps.utc_millis(now);
        let told: Vec<String> =
            core::iter::from_fn(|| gps.take_event()).map(|event| event.to_string()).collect();
        assert!(told.len() <= 16, "{} events of one step", told.len());
    }
    // One piece reads like many.
    let mut once = Gps::new(site, Some(EARLIEST_DAY));
    once.take(bytes, 0);
    assert_eq!((once.place(0), once.sentences()), (whole.place(0), whole.sentences()));
    if let Ok(kept) = Remembered::from_bytes(bytes) {
        gps.recall(&kept, None, now);
        assert!(gps.place(now).is_some());
    }
}

/// Framing, sentences, epochs, the still estimate, clock, duty.
pub struct Nmea;

impl Target for Nmea {
    fn name(&self) -> &'static str {
        "nmea"
    }

    fn words(&self) -> &'static [&'static [u8]] {
        WORDS
    }

    /// Damage under checksums made right again: without them nothing damaged would get past the first check.
    fn change(&self, input: &[u8], random: &mut Random) -> Option<Vec<u8>> {
        (!random.one_in(3)).then(|| sums_made_right(&random.bytes(input, &[], WORDS)))
    }

    fn run(&self, input: &[u8]) -> String {
        feed(input);
        "read".into()
    }
}

/// What receivers and parsers trip over.
const WORDS: &[&[u8]] = &[
    b"$",
    b"*",
    b",",
    b"\r\n",
    b"nan",
    b"inf",
    b"-",
    b"+",
    b"e9",
    b"99",
    b"00",
    b"60",
    b".",
    b"$GPRMC,",
    b"$GNGNS,",
    b"N",
    b"W",
    b"A",
    b"\xb5\x62",
    b"\xff\xff\xff\xff",
    b"0000.0000,N,00000.0000,E",
    b"\0",
];

/// The same lines, each with the checksum it should have.
fn sums_made_right(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        let dollar = line.iter().rposition(|&byte| byte == b'$');
        let star = line.iter().rposition(|&byte| byte == b'*');
        match (dollar, star) {
            (Some(dollar), Some(star)) if dollar < star => {
                let sum = line[dollar + 1..star].iter().fold(0, |sum, byte| sum ^ byte);
                out.extend_from_slice(&line[..star]);
                out.extend(format!("*{sum:02X}\r\n").bytes());
            }
            _ => out.extend_from_slice(line),
        }
    }
    out
}

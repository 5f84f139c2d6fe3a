//! `csp-tools fuzz-nmea`: damaged receiver streams through everything behind the receiver's line.

use std::{
    fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use csp_device::gps::{DutyConfig, Gps, ReceiverPower, Remembered};
use csp_models::place::{LatLon, PlaceSource};

/// The build date of the run: 2026-01-01.
const EARLIEST_DAY: i64 = 20_454;
/// Days after it that a date may still lie: what the epoch filter calls its horizon.
const HORIZON_DAYS: i64 = 15 * 365;

/// Takes any bytes as what a receiver sent, in pieces and with pauses that they choose themselves.
///
/// # Panics
/// When something that has to hold for every input does not: that is what a fuzzer looks for.
pub fn fuzz_nmea(bytes: &[u8]) {
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
        let told = std::iter::from_fn(|| gps.take_event()).map(|event| event.to_string()).count();
        assert!(told <= 16, "{told} events of one step");
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

/// Fuzz the receiver's side of the trap: framing, sentences, epochs, the still estimate, clock, duty.
#[derive(Debug, clap::Args)]
pub struct FuzzNmeaArgs {
    /// How long, seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Files to start from, and the folders of such: the committed ones when none is given.
    #[arg(long, value_name = "PATH")]
    corpus: Vec<PathBuf>,
    /// Number the damage is drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs the verb.
///
/// # Errors
/// An input that breaks something; it is written to the current folder.
pub fn run(args: &FuzzNmeaArgs) -> Result<()> {
    let committed = [Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/nmea")];
    let from = if args.corpus.is_empty() { &committed[..] } else { &args.corpus };
    let mut corpus = Vec::new();
    for path in from {
        read(path, &mut corpus).with_context(|| path.display().to_string())?;
    }
    ensure!(!corpus.is_empty(), "no files to start from");
    let until = Instant::now() + Duration::from_secs(args.seconds);
    let mut dice = Dice(args.seed | 1);
    let (mut runs, mut bytes) = (0u64, 0u64);
    while Instant::now() < until {
        let input = damage(&corpus, &mut dice);
        (runs, bytes) = (runs + 1, bytes + input.len() as u64);
        if catch_unwind(|| fuzz_nmea(&input)).is_err() {
            let file = format!("fuzz-nmea-{}-{runs}.bin", args.seed);
            fs::write(&file, &input)?;
            bail!("input {runs} breaks it: {file}");
        }
    }
    println!("{runs} inputs, {bytes} bytes, {} to start from, none breaks anything", corpus.len());
    Ok(())
}

fn read(path: &Path, corpus: &mut Vec<Vec<u8>>) -> Result<()> {
    if !path.is_dir() {
        corpus.push(fs::read(path)?);
        return Ok(());
    }
    let mut paths = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.is_file() && path.extension().is_some_and(|extension| extension != "chk"));
    paths.sort();
    paths.iter().try_for_each(|path| Ok(corpus.push(fs::read(path)?)))
}

/// Numbers that are the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % below.max(1)
    }
}

/// What receivers and parsers trip over.
const WORDS: [&[u8]; 22] = [
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

/// A piece of the corpus, damaged. Half of the time the checksums are made right again, or nothing
/// damaged would ever get past them.
fn damage(corpus: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let cut = |dice: &mut Dice| -> Vec<u8> {
        let file = &corpus[dice.roll(corpus.len())];
        let start = dice.roll(file.len());
        let length = 1 + dice.roll(6000);
        file[start.min(file.len())..(start + length).min(file.len())].to_vec()
    };
    let mut bytes = cut(dice);
    for _ in 0..dice.roll(12) {
        let at = dice.roll(bytes.len() + 1);
        let end = (at + 1 + dice.roll(40)).min(bytes.len());
        match dice.roll(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.roll(8),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            3 => drop(bytes.splice(at..at, cut(dice))),
            4 if at < bytes.len() => bytes[at] = b'0' + dice.roll(10) as u8,
            _ => drop(bytes.splice(at..at, WORDS[dice.roll(WORDS.len())].iter().copied())),
        }
    }
    if dice.roll(2) == 0 { sums_made_right(&bytes) } else { bytes }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_corpus_and_its_neighbours_break_nothing() {
        let mut corpus = Vec::new();
        read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/nmea"), &mut corpus).unwrap();
        corpus.iter().for_each(|input| fuzz_nmea(input));
        let mut dice = Dice(7);
        (0..3000).for_each(|_| fuzz_nmea(&damage(&corpus, &mut dice)));
    }
}

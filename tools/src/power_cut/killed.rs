//! A process that writes through the store to a real disk, killed at a random moment.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use csp_device::store::{Limits, Store, files::Disk, simulated::Chance};
use csp_models::{
    bundle::hex,
    record::{Entry, Picture},
};

use super::{
    Toll,
    ledger::{Ledger, Offered, act, fingerprint, identity},
};

/// Kills of one store before a new one is begun.
const LIVES: u32 = 20;
const PICTURE_BYTES: u64 = 20_000;

/// Writes until it is killed; a line on stdout for each record after it was acknowledged.
pub(super) fn child(dir: &Path, seed: u64) -> Result<()> {
    let (mut store, _) = Store::open_with(Disk, dir, identity(), limits())?;
    let mut chance = Chance::new(seed);
    let mut ledger = Ledger::default();
    let mut out = std::io::stdout().lock();
    loop {
        let Some(entry) = act(&mut store, &mut ledger, &mut chance, PICTURE_BYTES)? else { continue };
        let picture = match &entry {
            Entry::Prediction(record) if record.picture == Picture::Kept => {
                format!("{} {}", record.image, hex(&record.image_sha256))
            }
            _ => String::from("- -"),
        };
        writeln!(out, "{} {} {picture}", entry.seq(), hex(&fingerprint(&entry)))?;
        out.flush()?;
    }
}

fn limits() -> Limits {
    Limits { segment_bytes: 64 << 10, reserve_bytes: 64 << 10, min_free_bytes: 0, picture_bytes: None }
}

pub(super) fn run(kills: u32, seed: u64) -> Result<Toll> {
    let mut toll = Toll::default();
    let mut chance = Chance::new(seed);
    while toll.cuts < kills {
        let dir = env::temp_dir().join(format!("csp-power-cut-{}-{}", std::process::id(), toll.cuts));
        let result = one_store((kills - toll.cuts).min(LIVES), &dir, &mut chance);
        let _ = std::fs::remove_dir_all(&dir);
        toll += result?;
    }
    Ok(toll)
}

fn one_store(kills: u32, dir: &Path, chance: &mut Chance) -> Result<Toll> {
    let (mut toll, mut ledger) = (Toll::default(), Ledger::default());
    for _ in 0..kills {
        toll.cuts += 1;
        let mut child = Command::new(env::current_exe()?)
            .args(["power-cut", "--seed", &chance.bits().to_string(), "--child"])
            .arg(dir)
            .stdout(Stdio::piped())
            .spawn()
            .context("start the process to be killed")?;
        let lines = child.stdout.take().context("its output")?;
        let (begin, began) = mpsc::channel();
        let heard = thread::spawn(move || -> Vec<String> {
            let mut said = Vec::new();
            let mut lines = BufReader::new(lines);
            loop {
                let mut line = String::new();
                // a line without its end was not acknowledged
                match lines.read_line(&mut line) {
                    Ok(count) if count > 0 && line.ends_with('\n') => {
                        let _ = begin.send(());
                        said.push(line);
                    }
                    _ => return said,
                }
            }
        });
        // one in four before or while it opens the store, the others up to some hundred records later
        if chance.below(4) > 0 {
            let _ = began.recv_timeout(Duration::from_secs(10));
        }
        thread::sleep(Duration::from_micros(chance.below(60_000)));
        child.kill()?;
        child.wait()?;
        let said = heard.join().map_err(|_| anyhow::anyhow!("its listener failed"))?;
        for line in &said {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [seq, print, image, sha256] = words[..] else { anyhow::bail!("not understood: {line:?}") };
            ledger.records.insert(seq.parse()?, digest(print)?);
            if image != "-" {
                ledger.pictures.push(Offered {
                    name: image.to_string(),
                    sha256: Some(digest(sha256)?),
                    size: 0,
                });
            }
        }
        match Store::open_with(Disk, dir, identity(), limits()) {
            Err(_) => {
                toll.unreadable += 1;
                break;
            }
            Ok((store, _)) => drop(store),
        }
        toll.lost += ledger.count_losses(&Disk, dir, |_| false);
    }
    toll.acknowledged = ledger.records.len() as u64;
    toll.pictures = ledger.acknowledged_pictures();
    ledger.losses.iter().for_each(|loss| eprintln!("{}: {loss}", dir.display()));
    Ok(toll)
}

fn digest(text: &str) -> Result<[u8; 32]> {
    let mut digest = [0; 32];
    for (index, byte) in digest.iter_mut().enumerate() {
        let pair = text.get(2 * index..2 * index + 2).context("a digest of 64 digits")?;
        *byte = u8::from_str_radix(pair, 16)?;
    }
    Ok(digest)
}

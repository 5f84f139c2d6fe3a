//! `csp-tools fuzz`: random damage to what comes from outside, for as long as one likes.
//!
//! | file | holds |
//! |---|---|
//! | `mod` | the verb: starts workers under a memory bound, watches them, keeps what breaks them |
//! | `worker` | the loop: choose, change, run, remember what was new |
//! | `random` | numbers from a seed, changes to bytes |
//! | one file a target | what is fed, and changes that know its format |
//!
//! A new target is a [`Target`] in a file of its own and a line in [`TARGETS`]; its corpus is
//! `tests/corpus/NAME`. There is no coverage to go by: what counts as new is a message not seen before
//! (digits and names apart), and inputs that gave one are changed further.

mod bundle;
mod config;
mod nmea;
mod onnx;
mod picture;
mod random;
mod record;
mod worker;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

pub use random::Random;

/// Everything that can be fed.
const TARGETS: &[&dyn Target] =
    &[&bundle::Archive, &config::Config, &nmea::Nmea, &onnx::Onnx, &picture::Picture, &record::Record];

/// A reader of foreign bytes.
pub trait Target: Sync {
    /// Its name on the command line, and its folder under `tests/corpus`.
    fn name(&self) -> &'static str;

    /// Words its format knows, put into inputs here and there.
    fn words(&self) -> &'static [&'static [u8]] {
        &[]
    }

    /// A change that keeps to the format where bytes at random would hardly get past the first check;
    /// `None`: the bytes are changed.
    fn change(&self, _input: &[u8], _random: &mut Random) -> Option<Vec<u8>> {
        None
    }

    /// Reads an input; says in words how that ended. A panic is a failure, caught or not.
    fn run(&self, input: &[u8]) -> String;
}

/// Feed damaged input to a reader of foreign bytes: a panic, an abort (memory), or a hang is a failure.
///
/// The same seed tries the same inputs. What fails is kept under --out with its message; --replay runs
/// such a file again. Exit code 1 when something failed.
#[derive(Debug, clap::Args)]
pub struct FuzzArgs {
    /// What to feed: bundle, config, nmea, onnx, picture or record.
    target: String,
    /// How long.
    #[arg(long, default_value_t = 60, value_name = "S")]
    seconds: u64,
    /// Where the random numbers begin.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Inputs to start from; tests/corpus/TARGET if not given.
    #[arg(long, value_name = "DIR")]
    corpus: Option<PathBuf>,
    /// Where failures go.
    #[arg(long, default_value = "target/fuzz", value_name = "DIR")]
    out: PathBuf,
    /// Address space of a worker, MiB (ulimit -v).
    #[arg(long, default_value_t = 1024, value_name = "MIB")]
    memory: u64,
    /// One input may take so long.
    #[arg(long, default_value_t = 20, value_name = "S")]
    hang: u64,
    /// Run this input alone and say how it ends.
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
    /// The loop itself, in this process.
    #[arg(long, hide = true)]
    worker: bool,
}

/// Runs the verb.
///
/// # Errors
/// An unknown target, an empty corpus, or a failure found.
pub fn run(args: &FuzzArgs) -> Result<()> {
    let target = TARGETS.iter().find(|target| target.name() == args.target).with_context(|| {
        let names: Vec<_> = TARGETS.iter().map(|target| target.name()).collect();
        format!("`{}`: the targets are {}", args.target, names.join(", "))
    })?;
    if let Some(path) = &args.replay {
        let input = fs::read(path).with_context(|| path.display().to_string())?;
        println!("{}", target.run(&input));
        return Ok(());
    }
    let corpus = args.corpus.clone().unwrap_or_else(|| Path::new("tests/corpus").join(target.name()));
    let out = args.out.join(target.name());
    fs::create_dir_all(&out)?;
    if args.worker {
        let report = worker::work(*target, &corpus, &out, args.seed, Duration::from_secs(args.seconds))?;
        println!("{report}");
        return Ok(());
    }
    let report = watch(args, &corpus, &out)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!(
            "{}: {} inputs in {} s, {} different endings, peak {:.0} MiB, {} failures",
            target.name(),
            report["inputs"],
            args.seconds,
            report["endings"],
            report["peak_rss_kib"].as_f64().unwrap_or(f64::NAN) / 1024.0,
            report["failures"].as_array().map_or(0, Vec::len)
        );
    }
    for failure in report["failures"].as_array().into_iter().flatten() {
        eprintln!("{}", failure.as_str().unwrap_or_default());
    }
    ensure!(report["failures"].as_array().is_some_and(Vec::is_empty), "see {}", out.display());
    Ok(())
}

/// Runs workers until the time is up: one that dies is replaced, and what it was at is kept.
fn watch(args: &FuzzArgs, corpus: &Path, out: &Path) -> Result<Value> {
    let start = Instant::now();
    let (mut inputs, mut endings, mut peak) = (0, 0, 0);
    let mut failures: Vec<String> = Vec::new();
    let current = out.join("current");
    for round in 0.. {
        let left = args.seconds.saturating_sub(start.elapsed().as_secs());
        if left == 0 || failures.len() > 100 {
            break;
        }
        let _ = fs::remove_file(&current);
        let mut child = Command::new("sh")
            .args(["-c", "ulimit -v \"$1\"; shift; exec \"$@\"", "sh", &(args.memory * 1024).to_string()])
            .arg(std::env::current_exe()?)
            .args(["fuzz", &args.target, "--worker", "--seconds", &left.to_string()])
            .args(["--seed", &args.seed.wrapping_add(round).to_string()])
            .arg("--corpus")
            .arg(corpus)
            .arg("--out")
            .arg(&args.out)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("sh")?;
        let hung = wait(&mut child, &current, Duration::from_secs(args.hang))?;
        let ended = child.wait_with_output()?;
        match serde_json::from_slice::<Value>(&ended.stdout) {
            Ok(report) if ended.status.success() => {
                inputs += report["inputs"].as_u64().unwrap_or(0);
                endings = endings.max(report["endings"].as_u64().unwrap_or(0));
                peak = peak.max(report["peak_rss_kib"].as_u64().unwrap_or(0));
                let found = report["failures"].as_array().into_iter().flatten();
                failures.extend(found.filter_map(Value::as_str).map(str::to_string));
            }
            _ => {
                let how = if hung { "hang".to_string() } else { ended.status.to_string() };
                let kept = out.join(format!("died-{}-{round}", args.seed));
                ensure!(fs::rename(&current, &kept).is_ok(), "a worker ends at once: {how}");
                failures.push(format!("{}: {how}", kept.display()));
            }
        }
    }
    let _ = fs::remove_file(&current);
    Ok(json!({
        "target": args.target, "seed": args.seed, "inputs": inputs, "endings": endings,
        "peak_rss_kib": peak, "seconds": start.elapsed().as_secs(), "failures": failures,
    }))
}

/// Waits for a worker's end; kills one that has been at the same input for too long.
fn wait(child: &mut Child, current: &Path, patience: Duration) -> Result<bool> {
    let (mut seen, mut since) = (None, Instant::now());
    loop {
        if child.try_wait()?.is_some() {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(50));
        let written = fs::metadata(current).and_then(|found| found.modified()).ok();
        if written != seen {
            (seen, since) = (written, Instant::now());
        } else if since.elapsed() > patience {
            child.kill()?;
            if seen.is_none() {
                bail!("a worker has not begun after {} s", patience.as_secs());
            }
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The committed inputs of every target and a few hundred of their neighbours.
    #[test]
    fn no_target_breaks_on_its_corpus() {
        for target in TARGETS.iter().filter(|target| target.name() != "onnx") {
            let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus").join(target.name());
            let inputs: Vec<Vec<u8>> = fs::read_dir(&corpus)
                .unwrap()
                .map(|entry| fs::read(entry.unwrap().path()).unwrap())
                .collect();
            assert!(!inputs.is_empty(), "{}", corpus.display());
            let mut random = Random::new(7);
            for input in &inputs {
                target.run(input);
                for _ in 0..100 {
                    let changed = target.change(input, &mut random);
                    target.run(&changed.unwrap_or_else(|| random.bytes(input, input, target.words())));
                }
            }
        }
    }
}

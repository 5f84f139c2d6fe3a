//! What a photograph costs to become a network's input: decoded whole, and at reduced scale.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use csp_models::{
    manifest::ImageInput,
    picture::{self, Part},
};
use serde_json::{Value, json};

/// Time, peak memory and pixels of decoding whole and at reduced scale, each in a process of its own.
#[derive(Debug, clap::Args)]
pub struct DecodeArgs {
    /// JPEG files.
    files: Vec<PathBuf>,
    /// Side of the network's input, pixels.
    #[arg(long, default_value_t = 224)]
    input: u32,
    /// Decodings timed; the shortest counts.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// What the child process does.
    #[arg(long, hide = true, value_parser = ["nothing", "whole", "reduced"])]
    child: Option<String>,
}

/// Runs the verb.
///
/// # Errors
/// A file that is no picture.
pub fn run(args: &DecodeArgs) -> Result<()> {
    let input = ImageInput { width: args.input, height: args.input, mean: [0.0; 3], std: [1.0; 3] };
    if let Some(what) = &args.child {
        let file = args.files.first().context("a file")?;
        println!("{}", child(what, file, &input, args.rounds)?);
        return Ok(());
    }
    for file in &args.files {
        let bytes = fs::read(file)?;
        let whole = picture::fit(&picture::decode(file, &bytes)?, &input);
        let reduced = picture::to_input(file, &bytes, &input, Part::WHOLE)?;
        let (mean, worst, psnr) = compare(&whole, &reduced);
        let [nothing, whole, reduced] = ["nothing", "whole", "reduced"].map(|what| spawn(what, file, args));
        println!(
            "{}",
            json!({
                "file": file, "size": picture::dimensions(file), "bytes": bytes.len(), "input": args.input,
                "mean_difference": mean, "worst_difference": worst, "psnr_db": psnr,
                "nothing": nothing?, "whole": whole?, "reduced": reduced?,
            })
        );
    }
    Ok(())
}

/// Mean and largest difference of the levels, and the peak signal-to-noise ratio in decibels.
fn compare(a: &[u8], b: &[u8]) -> (f64, u8, f64) {
    let differences = || a.iter().zip(b).map(|(a, b)| a.abs_diff(*b));
    let mean =
        |power: i32| differences().map(|d| f64::from(d).powi(power)).sum::<f64>() / a.len().max(1) as f64;
    (mean(1), differences().max().unwrap_or_default(), 10.0 * (255.0f64.powi(2) / mean(2)).log10())
}

fn child(what: &str, file: &Path, input: &ImageInput, rounds: u32) -> Result<Value> {
    let bytes = fs::read(file)?;
    let mut best = f64::INFINITY;
    let before = cpu_ms()?;
    for _ in 0..rounds {
        let start = Instant::now();
        let pixels = match what {
            "whole" => picture::fit(&picture::decode(file, &bytes)?, input),
            "reduced" => picture::to_input(file, &bytes, input, Part::WHOLE)?,
            _ => Vec::new(),
        };
        best = best.min(start.elapsed().as_secs_f64() * 1e3);
        std::hint::black_box(pixels);
    }
    let cpu = (cpu_ms()? - before) / f64::from(rounds.max(1));
    Ok(json!({ "ms": best, "cpu_ms": cpu, "peak_kib": peak_kib()? }))
}

fn spawn(what: &str, file: &Path, args: &DecodeArgs) -> Result<Value> {
    // the verb's own words, whatever it is called under
    let verb: Vec<String> = std::env::args().skip(1).take_while(|word| !word.starts_with('-')).collect();
    let verb = verb.iter().take_while(|word| !Path::new(word).is_file());
    let output = Command::new(std::env::current_exe()?)
        .args(verb)
        .args(["--child", what, "--input", &args.input.to_string(), "--rounds", &args.rounds.to_string()])
        .arg(file)
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Processor time of this process and its threads, milliseconds in steps of 10 (Linux).
fn cpu_ms() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // fields 14 and 15, counted from behind the name, which may hold spaces
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: Vec<f64> = fields.skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    ensure!(ticks.len() == 2, "/proc/self/stat is not understood");
    Ok(10.0 * (ticks[0] + ticks[1]))
}

/// Highest resident memory of this process (Linux).
pub(super) fn peak_kib() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    line.trim().trim_end_matches(" kB").parse().context("VmHWM")
}

//! `csp-tools bench pretrain`: steps of pre-training, ours and PyTorch's.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};
use csp_host::training::{
    choose_device,
    speed::{self, RandomRows},
};
use serde_json::{Value, json};

/// Steps of contrastive pre-training on random rows; with --python also the same step in PyTorch,
/// vectorised and in the structure of the original, one after the other on the same machine.
#[derive(Debug, clap::Args)]
pub struct PretrainArgs {
    /// Rows of the data set; 436000 rows of 2048 features are 3.6 GB.
    #[arg(long, default_value_t = 436_000)]
    rows: usize,
    /// Image features of a row.
    #[arg(long, default_value_t = 2048)]
    features: usize,
    /// Rows of a step; several are measured one after the other.
    #[arg(long, value_delimiter = ',', default_value = "1024,8192")]
    batch: Vec<usize>,
    /// Steps timed with each.
    #[arg(long, default_value_t = 10)]
    steps: u64,
    /// See csp-host train.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// A Python with torch and numpy, to run tools/pretrain_peers.py with.
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
/// No such device, or a peer that fails.
pub fn run(args: &PretrainArgs) -> Result<()> {
    let mut results = Vec::new();
    // the peers first: nothing of ours is in memory beside them
    if let Some(python) = &args.python {
        for mode in ["vectorised", "original"] {
            for batch in &args.batch {
                results.push(peer(python, mode, *batch, args)?);
            }
        }
    }
    let device = choose_device(&args.device)?;
    let rows = RandomRows::draw(args.rows, args.features, &device.device).with_context(|| {
        format!("{}: no room for --rows {} of --features {}", device.description, args.rows, args.features)
    })?;
    for &batch in &args.batch {
        let speed = speed::pretrain(&rows, batch, args.steps, &device.device);
        results.push(json!({
            "who": "csp-host", "device": device.description, "batch": batch, "rows": args.rows,
            "step_s": speed.step_s, "cpu_s": speed.cpu_s, "rows_per_s": speed.rows_per_s, "loss": speed.loss,
            "peak_rss_mib": peak_rss_mib(), "least_gflop": speed.workload.least_flop() / 1e9,
        }));
    }
    let matmul = speed::matmul_flop_per_s(&device.device).map(|flop| flop / 1e9);
    if args.json {
        println!(
            "{}",
            serde_json::to_string_pretty(&json!({ "results": results, "matmul_gflop_per_cpu_s": matmul }))?
        );
        return Ok(());
    }
    println!(
        "{:28} {:>6} {:>10} {:>10} {:>10} {:>9} {:>9}",
        "", "batch", "ms a step", "CPU ms", "rows/s", "peak MiB", "against"
    );
    for result in &results {
        let number = |key: &str| result[key].as_f64().unwrap_or(f64::NAN);
        let ours = results.iter().find(|r| r["who"] == "csp-host" && r["batch"] == result["batch"]);
        let ours = ours.and_then(|ours| ours["step_s"].as_f64()).unwrap_or(f64::NAN);
        println!(
            "{:28} {:>6} {:>10.1} {:>10.1} {:>10.0} {:>9.0} {:>8.2}×",
            result["who"].as_str().unwrap_or_default(),
            number("batch"),
            1000.0 * number("step_s"),
            1000.0 * number("cpu_s"),
            number("rows_per_s"),
            number("peak_rss_mib"),
            number("step_s") / ours,
        );
    }
    for ours in results.iter().filter(|result| result["who"] == "csp-host") {
        let number = |key: &str| ours[key].as_f64().unwrap_or(f64::NAN);
        println!(
            "a step of {} takes {:.1} GFLOP of matrix products at least: {:.0} GFLOP a CPU second; products alone \
             reach {:.0} here",
            number("batch"),
            number("least_gflop"),
            number("least_gflop") / number("cpu_s"),
            matmul.unwrap_or(f64::NAN),
        );
    }
    Ok(())
}

fn peer(python: &PathBuf, mode: &str, batch: usize, args: &PretrainArgs) -> Result<Value> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/pretrain_peers.py");
    let numbers = [("--rows", args.rows), ("--features", args.features), ("--batch", batch)];
    let mut command = Command::new(python);
    command.args([script, "--mode", mode, "--steps", &args.steps.to_string()]);
    for (name, value) in numbers {
        command.args([name, &value.to_string()]);
    }
    let output = command.output().with_context(|| python.display().to_string())?;
    if !output.status.success() {
        bail!("{script}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The most memory this process has held, MiB; `None` where the system does not tell.
fn peak_rss_mib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().split(' ').next()?.parse::<u64>().ok().map(|kib| kib / 1024)
}

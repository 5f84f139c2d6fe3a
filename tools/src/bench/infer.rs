//! `csp-tools bench infer`: our engine beside its peers, in one run.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// Measure image networks on our engine, on stock tract and on onnxruntime, one thread each, every one
/// in a process of its own.
#[derive(Debug, clap::Args)]
pub struct InferArgs {
    /// Bundles to measure (`csp-tools random-bundle` makes some without training).
    #[arg(required = true)]
    bundles: Vec<PathBuf>,
    /// Pictures measured.
    #[arg(long, default_value_t = 30, value_name = "N")]
    runs: u32,
    /// csp-device; the one beside this program if not given.
    #[arg(long, value_name = "FILE")]
    device: Option<PathBuf>,
    /// A Python with numpy, onnx and onnxruntime.
    #[arg(long, default_value = "python3", value_name = "FILE")]
    python: PathBuf,
    /// tools/onnx_peers.py.
    #[arg(long, default_value = "tools/onnx_peers.py", value_name = "FILE")]
    peers: PathBuf,
    /// Count instructions on an emulated Cortex-A53 with this csp-device, built for aarch64.
    #[arg(long, value_name = "FILE")]
    aarch64: Option<PathBuf>,
    /// Fail when a picture takes our engine more than so many million instructions there.
    #[arg(long, requires = "aarch64", value_name = "M")]
    max_instructions: Option<u64>,
    /// One JSON document instead of a table.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
/// A program that is missing or fails.
pub fn run(args: &InferArgs) -> Result<()> {
    let device = match &args.device {
        Some(device) => device.clone(),
        None => env::current_exe()?.with_file_name("csp-device"),
    };
    ensure!(
        device.exists(),
        "{}: not there; build it: cargo build --release -p csp-device",
        device.display()
    );
    let counter = args.aarch64.as_deref().map(|_| plugin()).transpose()?;
    let runs = args.runs.to_string();
    let mut models = Vec::new();
    for bundle in &args.bundles {
        eprintln!("{}", bundle.display());
        let mut report = output(
            Command::new(&device).args(["bench", "--json", "--explain", "--runs", &runs]).arg(bundle),
        )?;
        let peers = output(Command::new(&args.python).arg(&args.peers).arg(bundle).args(["--runs", &runs]));
        match (peers, report["engines"].as_array_mut()) {
            (Ok(Value::Array(peers)), Some(engines)) => engines.extend(peers),
            (Err(error), _) => eprintln!("onnxruntime: not measured: {error:#}"),
            _ => {}
        }
        if let (Some(binary), Some(counter)) = (&args.aarch64, &counter) {
            let engines =
                if args.max_instructions.is_some() { &["csp"][..] } else { &["csp", "tract", "f32"] };
            let engines = engines.iter().map(|engine| -> Result<Value> {
                let (first, third) =
                    (count(counter, binary, bundle, engine, 1)?, count(counter, binary, bundle, engine, 3)?);
                let picture = third.saturating_sub(first) / 2;
                Ok(json!({ "engine": engine, "picture": picture, "start": first.saturating_sub(picture) }))
            });
            report["cortex_a53_instructions"] = engines.collect::<Result<Vec<_>>>()?.into();
        }
        models.push(report);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&models)?);
    } else {
        models.iter().for_each(table);
    }
    for model in &models {
        let spent = model["cortex_a53_instructions"][0]["picture"].as_u64().unwrap_or(0);
        let most = args.max_instructions.unwrap_or(u64::MAX / 1_000_000) * 1_000_000;
        let name = model["model"].as_str().unwrap_or("?");
        ensure!(spent <= most, "{name}: {spent} instructions a picture, allowed are {most}");
    }
    Ok(())
}

/// Instructions executed by one `bench` of `pictures`.
fn count(plugin: &Path, binary: &Path, bundle: &Path, engine: &str, pictures: u32) -> Result<u64> {
    let done = Command::new("qemu-aarch64")
        .args(["-cpu", "cortex-a53", "-plugin"])
        .arg(plugin)
        .arg(binary)
        .args(["bench", "--json", "--warm-up", "0", "--engine", engine, "--runs", &pictures.to_string()])
        .arg(bundle)
        // tract asks the board's device tree for its core, which qemu has not
        .env("TRACT_CPU_AARCH64_KIND", "a53")
        .stdout(Stdio::null())
        .output()
        .context("qemu-aarch64 (Debian: qemu-user)")?;
    let said = String::from_utf8_lossy(&done.stderr);
    let counted = said.lines().find_map(|line| line.strip_prefix("instructions "));
    let counted = counted.filter(|_| done.status.success());
    counted
        .with_context(|| format!("qemu-aarch64: {}", said.trim()))?
        .trim()
        .parse()
        .context(said.into_owned())
}

/// Compiles the counter.
fn plugin() -> Result<PathBuf> {
    let path = env::temp_dir().join("csp-count-instructions.so");
    let done = Command::new("gcc")
        .args(["-shared", "-fPIC", "-O2", "tools/count_instructions.c", "-o"])
        .arg(&path)
        .status()
        .context("gcc")?;
    ensure!(done.success(), "gcc: tools/count_instructions.c does not compile (run this in the repository)");
    Ok(path)
}

/// The JSON a program prints.
fn output(command: &mut Command) -> Result<Value> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = command.stderr(Stdio::inherit()).output().with_context(|| name.clone())?;
    ensure!(done.status.success(), "{name} failed");
    serde_json::from_slice(&done.stdout).with_context(|| name)
}

fn table(report: &Value) {
    println!(
        "\n{}, {} × {}",
        report["model"].as_str().unwrap_or("?"),
        report["input"][0],
        report["input"][1]
    );
    println!(
        "{:<28}{:>9}{:>9}{:>9}{:>9}{:>9}{:>10}",
        "engine", "median", "p90", "best", "cpu", "load", "peak MiB"
    );
    for engine in report["engines"].as_array().into_iter().flatten() {
        let kernels = engine["kernels"].as_str().map_or(String::new(), |kernels| format!(" ({kernels})"));
        let name = format!("{}{kernels}", engine["engine"].as_str().unwrap_or("?"));
        let number = |field: &str| engine[field].as_f64().unwrap_or(f64::NAN);
        println!(
            "{name:<28}{:>9.2}{:>9.2}{:>9.2}{:>9.2}{:>9.1}{:>10.1}",
            number("median_ms"),
            number("p90_ms"),
            number("best_ms"),
            number("cpu_ms"),
            number("load_ms"),
            number("peak_rss_kib") / 1024.0
        );
    }
    for count in report["cortex_a53_instructions"].as_array().into_iter().flatten() {
        let million = |field: &str| count[field].as_f64().unwrap_or(f64::NAN) / 1e6;
        println!(
            "Cortex-A53 {:<6} {:>8.1} M instructions a picture, {:.0} M to start",
            count["engine"].as_str().unwrap_or("?"),
            million("picture"),
            million("start")
        );
    }
}

//! `csp-tools bench infer`: our engine beside its peers, in one run.

use std::{
    env,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{
    emulated::{Core, Emulated},
    models::{self, Entry},
};

/// Measure networks on our engine, on stock tract and on onnxruntime, every one in a process of its own.
///
/// Without bundles: MobileNetV2 0.35 and 1.0 at 96, 160 and 224, ResNet-18, and the location network in
/// f32 and int8, all with random weights. Latency is best read on an idle machine; the processor time
/// and the instructions hold on a busy one too.
#[derive(Debug, clap::Args)]
pub struct InferArgs {
    /// Bundles to measure (`csp-tools random-bundle` makes some without training).
    bundles: Vec<PathBuf>,
    /// Where the standard set is kept.
    #[arg(long, default_value = "target/bench", value_name = "DIR")]
    folder: PathBuf,
    /// Threads of our engine and of onnxruntime; tract has one.
    #[arg(long, default_value_t = 1, value_name = "N")]
    threads: usize,
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
    /// Count instructions on emulated boards with this csp-device, built for aarch64: every engine on a
    /// Cortex-A53, ours on a core with i8mm too.
    #[arg(long, value_name = "FILE")]
    aarch64: Option<PathBuf>,
    /// Count onnxruntime's too, with the ARM Python in this folder; tools/onnxruntime_aarch64.sh fetches it
    /// where it is not there.
    #[arg(long, requires = "aarch64", value_name = "DIR")]
    onnxruntime_aarch64: Option<PathBuf>,
    /// Fail when a picture takes our engine more than so many million instructions there.
    #[arg(long, requires = "aarch64", value_name = "M")]
    max_instructions: Option<u64>,
    /// Fail when our engine takes more than so many million instructions to start there.
    #[arg(long, requires = "aarch64", value_name = "M")]
    max_start: Option<u64>,
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
    let root = args.onnxruntime_aarch64.as_deref();
    let emulated =
        args.aarch64.as_deref().map(|binary| Emulated::new(binary, root, &args.peers)).transpose()?;
    let entries = match args.bundles.is_empty() {
        true => models::standard(&args.folder)?,
        false => {
            args.bundles.iter().map(|bundle| Entry { bundle: bundle.clone(), network: "image" }).collect()
        }
    };
    let mut models = Vec::new();
    for entry in &entries {
        eprintln!("{}, {} network", entry.bundle.display(), entry.network);
        models.push(measure(args, &device, emulated.as_ref(), entry)?);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&models)?);
    } else {
        models.iter().for_each(table);
    }
    for model in &models {
        let name = model["model"].as_str().unwrap_or("?");
        let ours = &model["instructions"][0];
        for (what, most) in [("picture", args.max_instructions), ("start", args.max_start)] {
            let (Some(most), Some(spent)) = (most, ours[what].as_u64()) else { continue };
            ensure!(spent <= most * 1_000_000, "{name}: {spent} instructions a {what}, allowed are {most} M");
        }
    }
    Ok(())
}

/// One network on every engine.
fn measure(
    args: &InferArgs,
    device: &PathBuf,
    emulated: Option<&Emulated<'_>>,
    entry: &Entry,
) -> Result<Value> {
    let (runs, threads) = (args.runs.to_string(), args.threads.to_string());
    let settings = ["--runs", &runs, "--threads", &threads, "--network", entry.network];
    let mut report = output(
        Command::new(device).args(["bench", "--json", "--explain"]).args(settings).arg(&entry.bundle),
    )?;
    let peers = output(Command::new(&args.python).arg(&args.peers).arg(&entry.bundle).args(settings));
    match (peers, report["engines"].as_array_mut()) {
        (Ok(Value::Array(peers)), Some(engines)) => engines.extend(peers),
        (Err(error), _) => report["onnxruntime"] = format!("not measured: {error:#}").into(),
        _ => {}
    }
    let Some(emulated) = emulated else { return Ok(report) };
    let gate = args.max_instructions.or(args.max_start);
    let (engines, forms) = match (gate, entry.network) {
        (Some(_), _) => (&["csp"][..], &[][..]),
        (None, "location") => (&["csp"][..], &["location"][..]),
        _ => (&["csp", "tract", "f32"][..], &["s8", "f32"][..]),
    };
    let mut counts = Vec::new();
    for engine in engines {
        counts.push(match emulated.engine(entry, engine, Core::CortexA53) {
            // a bundle without f32 has no row of it
            Err(error) if *engine == "f32" => uncounted(Core::CortexA53, engine, &error),
            other => other?,
        });
    }
    if gate.is_none() && entry.network == "image" {
        counts.push(emulated.engine(entry, "csp", Core::Max)?);
    }
    for form in forms {
        let counted = emulated.peer(entry, form);
        let engine = format!("onnxruntime {form}");
        counts.push(counted.unwrap_or_else(|error| uncounted(Core::CortexA53, &engine, &error)));
    }
    report["instructions"] = counts.into();
    Ok(report)
}

/// The row of an engine that could not be counted.
fn uncounted(core: Core, engine: &str, error: &anyhow::Error) -> Value {
    json!({ "cpu": core.name(), "engine": engine, "error": format!("{error:#}") })
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
        "\n{} ({}), {} × {}",
        report["model"].as_str().unwrap_or("?"),
        report["network"].as_str().unwrap_or("?"),
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
    if let Some(problem) = report["onnxruntime"].as_str() {
        println!("onnxruntime: {problem}");
    }
    for count in report["instructions"].as_array().into_iter().flatten() {
        let kernels = count["kernels"].as_str().map_or(String::new(), |kernels| format!(" ({kernels})"));
        let name = format!("{}{kernels}", count["engine"].as_str().unwrap_or("?"));
        let cpu = count["cpu"].as_str().unwrap_or("?");
        if let Some(error) = count["error"].as_str() {
            println!("{cpu:<11} {name:<20} not counted: {error}");
            continue;
        }
        let million = |field: &str| count[field].as_f64().unwrap_or(f64::NAN) / 1e6;
        println!(
            "{cpu:<11} {name:<20} {:>8.1} M instructions a run, {:.0} M to start",
            million("picture"),
            million("start")
        );
    }
}

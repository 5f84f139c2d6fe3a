//! `csp-device bench`: what a model costs on this board.

use std::{
    env, fs,
    io::Write,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use csp_models::{manifest::NumberFormat, place::LatLon, situation::Situation};
use serde::{Deserialize, Serialize};

use super::{Exit, ignore_closed_pipe, open_model, peak_rss_kib};
use crate::infer::{Engine, EngineOptions, Line};

/// Measure a model on this machine: latency, processor time, memory, time to load.
///
/// The int8 network runs on our own kernels; the same file and the f32 one on tract's stock operators are
/// measured beside it, each in a process of its own so that the memory is its own. CSP_KERNELS=scalar|avx2|neon|…
/// forces a set of kernels. Exit code 0 done · 1 failed · 3 the model is refused.
#[derive(Clone, Debug, clap::Args)]
pub struct BenchArgs {
    /// The model: a .cspm file or a folder of the same files.
    pub model: PathBuf,

    /// Pictures measured, after the warm-up.
    #[arg(long, default_value_t = 30, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,

    /// What to measure.
    #[arg(long, value_enum, default_value_t = Which::All)]
    pub engine: Which,

    /// Which network of the model.
    #[arg(long, value_enum, default_value_t = Network::Image)]
    pub network: Network,

    /// Pictures before the measurement.
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub warm_up: u32,

    /// Threads that share an int8 network on our kernels; 0: one for each core. tract runs in one.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub threads: usize,

    /// List what runs each node of the image network and why, with the time of each step.
    #[arg(long)]
    pub explain: bool,

    /// One JSON document instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// An engine to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Which {
    /// Every engine that makes sense for the model.
    All,
    /// As `classify` and `run` do it.
    Csp,
    /// The int8 file on tract's stock operators.
    Tract,
    /// The f32 file on tract.
    F32,
}

/// A network to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Network {
    /// Picture → logits.
    Image,
    /// Place → logits, the position features included.
    Location,
}

impl Network {
    fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Location => "location",
        }
    }
}

impl Which {
    fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Csp => "csp",
            Self::Tract => "tract",
            Self::F32 => "f32",
        }
    }
}

/// Everything `bench` has to say.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The manifest's name.
    pub model: String,
    /// `image` or `location`.
    #[serde(default)]
    pub network: String,
    /// Input height and width of the image network, pixels.
    pub input: [u32; 2],
    /// The bundle holds its image network in f32 beside int8.
    #[serde(default)]
    pub fallback: bool,
    /// One for each engine.
    pub engines: Vec<Measured>,
    /// What runs each node of the image network; empty unless asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<Line>,
    /// Time of each step of our kernels, slowest first; empty unless asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepTime>,
}

/// What one engine cost.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// `csp`, `tract` or `f32`.
    pub engine: String,
    /// Number format of the network that ran.
    pub format: NumberFormat,
    /// Integer kernels, if ours ran.
    pub kernels: Option<String>,
    /// Threads that shared the work.
    #[serde(default)]
    pub threads: usize,
    /// Median of the image network's latency, milliseconds.
    pub median_ms: f64,
    /// Its 90th percentile, milliseconds.
    pub p90_ms: f64,
    /// Its best, milliseconds: what it takes when nothing else runs.
    pub best_ms: f64,
    /// Processor time of one picture, all threads together, milliseconds; `None` where the system does not say.
    pub cpu_ms: Option<f64>,
    /// Milliseconds to read and verify the bundle, until its networks are ready.
    pub load_ms: f64,
    /// The most memory the process has held, KiB.
    pub peak_rss_kib: Option<u64>,
}

/// Time of one step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StepTime {
    /// Its node.
    pub node: String,
    /// What it is.
    pub kind: String,
    /// Median, microseconds.
    pub median_us: f64,
}

/// Runs the verb: the report goes to `out`.
///
/// # Errors
/// The model is refused, or nothing can be written.
pub fn run(args: &BenchArgs, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let report = bench(args)?;
    let text =
        if args.json { format!("{}\n", serde_json::to_string_pretty(&report)?) } else { table(&report) };
    ignore_closed_pipe(out.write_all(text.as_bytes()).and_then(|()| out.flush()))?;
    Ok(Exit::Done)
}

/// Measures.
///
/// # Errors
/// The model cannot be opened or is refused, or a network fails.
pub fn bench(args: &BenchArgs) -> anyhow::Result<Report> {
    if args.engine != Which::All {
        return alone(args);
    }
    let mut report = alone(&BenchArgs { engine: Which::Csp, ..args.clone() })?;
    let integer = report.engines.iter().any(|engine| engine.format == NumberFormat::Int8);
    let others: &[Which] = match (args.network, integer) {
        (Network::Location, _) | (_, false) => &[],
        (Network::Image, true) if report.fallback => &[Which::Tract, Which::F32],
        (Network::Image, true) => {
            note!("the bundle holds int8 alone: no f32 to measure beside it");
            &[Which::Tract]
        }
    };
    // Children before this process would hold more than its own peak.
    for &which in others {
        match child(args, which) {
            Ok(measured) => report.engines.push(measured),
            Err(error) => note!("{}: not measured: {error:#}", which.name()),
        }
    }
    Ok(report)
}

/// One engine in a process of its own.
fn child(args: &BenchArgs, which: Which) -> anyhow::Result<Measured> {
    let output = Command::new(env::current_exe()?)
        .args(["bench", "--json", "--engine", which.name(), "--runs", &args.runs.to_string()])
        .args(["--warm-up", &args.warm_up.to_string()])
        .arg(&args.model)
        .output()?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    let report: Report = serde_json::from_slice(&output.stdout)?;
    report.engines.into_iter().next().ok_or_else(|| anyhow::anyhow!("it measured nothing"))
}

/// One engine in this process.
fn alone(args: &BenchArgs) -> anyhow::Result<Report> {
    let options = EngineOptions {
        prefer_f32: args.engine == Which::F32,
        plain: args.engine == Which::Tract,
        threads: args.threads,
        ..EngineOptions::default()
    };
    let start = Instant::now();
    let (_, engine) = open_model(&args.model, options, &[])?;
    let load_ms = millis(start.elapsed());
    let input = engine.manifest().input;
    let pixels = noise(input.width as usize * input.height as usize * 3);
    let site = LatLon::measured(-1.2921, 36.8219)?;
    let once = || match args.network {
        Network::Image => engine.classify(&pixels).map(Some),
        Network::Location => engine.location_logits(Situation::undated(site)),
    };
    if args.network == Network::Location && !engine.has_location() {
        anyhow::bail!("{}: the model has no location network", args.model.display());
    }
    for _ in 0..args.warm_up {
        once()?;
    }
    let mut times = Vec::with_capacity(args.runs as usize);
    let busy = cpu_time();
    for _ in 0..args.runs {
        let start = Instant::now();
        once()?;
        times.push(start.elapsed());
    }
    let spent = cpu_time().zip(busy).map(|(after, before)| millis(after.saturating_sub(before)));
    times.sort_unstable();
    let at = |part: f64| millis(times[((times.len() - 1) as f64 * part).round() as usize]);
    let image = args.network == Network::Image;
    let measured = Measured {
        engine: if args.engine == Which::All { Which::Csp } else { args.engine }.name().to_string(),
        format: if image { engine.format() } else { NumberFormat::F32 },
        kernels: image.then(|| engine.kernels().map(str::to_string)).flatten(),
        threads: if image { engine.threads() } else { 1 },
        median_ms: at(0.5),
        p90_ms: at(0.9),
        best_ms: at(0.0),
        cpu_ms: spent.map(|spent| spent / f64::from(args.runs)),
        load_ms,
        peak_rss_kib: peak_rss_kib(),
    };
    let (nodes, steps) = match args.explain {
        true if args.network == Network::Location => (engine.explain_location().to_vec(), vec![]),
        true => (engine.explain().to_vec(), step_times(&engine, &pixels, args.runs)),
        false => (vec![], vec![]),
    };
    Ok(Report {
        model: engine.manifest().name.clone(),
        network: args.network.name().to_string(),
        input: [input.height, input.width],
        fallback: engine.manifest().has_fallback(),
        engines: vec![measured],
        nodes,
        steps,
    })
}

/// Median time of each step, slowest first.
fn step_times(engine: &Engine, pixels: &[u8], runs: u32) -> Vec<StepTime> {
    let rounds: Vec<_> = (0..runs).filter_map(|_| engine.step_times(pixels)).collect();
    let Some(first) = rounds.first() else { return Vec::new() };
    let mut steps: Vec<StepTime> = (0..first.len())
        .map(|step| {
            let mut times: Vec<Duration> =
                rounds.iter().filter_map(|round| round.get(step)).map(|s| s.2).collect();
            times.sort_unstable();
            let median_us = times[times.len() / 2].as_secs_f64() * 1e6;
            StepTime { node: first[step].0.clone(), kind: first[step].1.to_string(), median_us }
        })
        .collect();
    steps.sort_by(|a, b| b.median_us.total_cmp(&a.median_us));
    steps
}

/// A picture of noise, the same every time.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..count).map(next).collect()
}

/// Time the threads of this process have been on a processor.
fn cpu_time() -> Option<Duration> {
    let spent = |path: PathBuf| -> Option<u64> {
        fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()
    };
    let threads = fs::read_dir("/proc/self/task").ok()?;
    let spent = threads.map(|thread| spent(thread.ok()?.path().join("schedstat")));
    spent.sum::<Option<u64>>().map(Duration::from_nanos)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn table(report: &Report) -> String {
    let [height, width] = report.input;
    let mut text = format!("model  {}, {height} × {width}, {} network\n\n", report.model, report.network);
    text += "engine            median     p90    best     cpu    load  peak memory\n";
    for engine in &report.engines {
        let what = match (engine.engine.as_str(), &engine.kernels) {
            (_, Some(kernels)) if engine.threads > 1 => format!("{kernels} ×{}", engine.threads),
            (_, Some(kernels)) => kernels.clone(),
            ("tract", _) => "tract int8".to_string(),
            _ => "tract f32".to_string(),
        };
        let cpu = engine.cpu_ms.map_or("-".to_string(), |cpu| format!("{cpu:.2}"));
        let peak =
            engine.peak_rss_kib.map_or("-".to_string(), |kib| format!("{:.1} MiB", kib as f64 / 1024.0));
        text += &format!(
            "{what:<16} {:>7.2} {:>7.2} {:>7.2} {cpu:>7} {:>7.1}  {peak}\n",
            engine.median_ms, engine.p90_ms, engine.best_ms, engine.load_ms
        );
    }
    text += "times in milliseconds; one thread unless ×N says how many\n";
    if !report.nodes.is_empty() {
        text += "\nnode · operator · engine\n";
        for line in &report.nodes {
            let reason = line.reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
            text += &format!("  {} · {} · {}{reason}\n", line.node, line.op, line.engine);
        }
    }
    if !report.steps.is_empty() {
        text += "\nstep · µs\n";
        for step in &report.steps {
            text += &format!("  {:8.1}  {} · {}\n", step.median_us, step.kind, step.node);
        }
    }
    text
}

//! Instructions executed on an emulated ARM board: exact, whatever else the machine does.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::models::Entry;

/// A core as qemu names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Core {
    /// NEON alone: Raspberry Pi 3 and Zero 2 W.
    CortexA53,
    /// All that qemu knows, i8mm (smmla) among it: what the newest boards have.
    Max,
}

impl Core {
    /// Its name for `qemu-aarch64 -cpu`.
    pub fn name(self) -> &'static str {
        match self {
            Self::CortexA53 => "cortex-a53",
            Self::Max => "max",
        }
    }
}

/// What counts, and what is counted.
#[derive(Debug)]
pub struct Emulated<'a> {
    plugin: PathBuf,
    /// csp-device for aarch64.
    pub device: &'a Path,
    /// A root with an ARM Python and onnxruntime, see tools/onnxruntime_aarch64.sh.
    onnxruntime: Option<PathBuf>,
    /// tools/onnx_peers.py.
    pub peers: &'a Path,
}

impl<'a> Emulated<'a> {
    /// Compiles the counter; `onnxruntime` is a folder of tools/onnxruntime_aarch64.sh, which fills it if
    /// it is not there.
    ///
    /// # Errors
    /// There is no gcc, this does not run in the repository, or the script fails.
    pub fn new(device: &'a Path, onnxruntime: Option<&'a Path>, peers: &'a Path) -> Result<Self> {
        let plugin = env::temp_dir().join(format!("csp-count-{}.so", std::process::id()));
        let done = Command::new("gcc")
            .args(["-shared", "-fPIC", "-O2", "tools/count_instructions.c", "-o"])
            .arg(&plugin)
            .status()
            .context("gcc")?;
        ensure!(
            done.success(),
            "gcc: tools/count_instructions.c does not compile (run this in the repository)"
        );
        let onnxruntime = onnxruntime.map(root).transpose()?;
        Ok(Self { plugin, device, onnxruntime, peers })
    }

    /// Instructions of one run of `engine` on a core and of its start: program, bundle, loading.
    ///
    /// # Errors
    /// The program is missing or fails.
    pub fn engine(&self, entry: &Entry, engine: &str, core: Core) -> Result<Value> {
        let count = |runs: u32| {
            let mut command = self.qemu(core);
            command
                .arg(self.device)
                .args(["bench", "--json", "--warm-up", "0", "--network", entry.network])
                .args(["--engine", engine, "--runs", &runs.to_string()])
                .arg(&entry.bundle)
                // tract asks the board's device tree for its core, which qemu has not
                .env("TRACT_CPU_AARCH64_KIND", "a53");
            counted(&mut command)
        };
        let ((first, said), (third, _)) = (count(1)?, count(3)?);
        let picture = third.saturating_sub(first) / 2;
        let said: Value = serde_json::from_slice(&said).context("csp-device bench --json")?;
        Ok(json!({
            "cpu": core.name(),
            "engine": engine,
            "kernels": said["engines"][0]["kernels"],
            "picture": picture,
            "start": first.saturating_sub(picture),
        }))
    }

    /// The same of onnxruntime; the start is the session's alone, Python's own is taken off.
    ///
    /// # Errors
    /// There is no root, or it fails there.
    pub fn peer(&self, entry: &Entry, form: &str) -> Result<Value> {
        let root = self.onnxruntime.as_ref().context("--onnxruntime-aarch64 was not given")?;
        let core = Core::CortexA53;
        let count = |arguments: &[&str]| -> Result<u64> {
            let mut command = self.qemu(core);
            command.arg("-L").arg(root).arg(root.join("usr/bin/python3.11")).args(arguments);
            command.env("PYTHONHOME", root.join("usr")).env("PYTHONPATH", root.join("site"));
            Ok(counted(&mut command)?.0)
        };
        let peers = self.peers.to_string_lossy();
        let bundle = entry.bundle.to_string_lossy();
        let run =
            |warm_up: &str| count(&[&peers, &bundle, "--form", form, "--runs", "0", "--warm-up", warm_up]);
        let modules = count(&["-c", "import argparse, json, subprocess, zipfile, numpy, onnxruntime"])?;
        let (none, first, third) = (run("0")?, run("1")?, run("3")?);
        let picture = third.saturating_sub(first) / 2;
        let start = none.saturating_sub(modules);
        let engine = format!("onnxruntime {form}");
        Ok(json!({ "cpu": core.name(), "engine": engine, "picture": picture, "start": start }))
    }

    fn qemu(&self, core: Core) -> Command {
        let mut command = Command::new("qemu-aarch64");
        command.args(["-cpu", core.name(), "-plugin"]).arg(&self.plugin);
        command
    }
}

impl Drop for Emulated<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.plugin);
    }
}

/// The root in a folder of tools/onnxruntime_aarch64.sh.
fn root(folder: &Path) -> Result<PathBuf> {
    let whole = |root: &Path| root.join("usr/bin/python3.11").exists() && root.join("site").exists();
    let inside = folder.join("root");
    match (whole(folder), whole(&inside)) {
        (true, _) => return Ok(folder.into()),
        (_, true) => return Ok(inside),
        _ => eprintln!("{}: fetching an ARM Python with onnxruntime", folder.display()),
    }
    let script = "tools/onnxruntime_aarch64.sh";
    let done = Command::new(script).arg(folder).stdout(Stdio::null()).status().context(script)?;
    ensure!(done.success() && whole(&inside), "{script} {} failed", folder.display());
    Ok(inside)
}

/// Instructions of a program, and what it printed.
fn counted(command: &mut Command) -> Result<(u64, Vec<u8>)> {
    let done = command.output().context("qemu-aarch64 (Debian: qemu-user)")?;
    let said = String::from_utf8_lossy(&done.stderr);
    let counted = said.lines().find_map(|line| line.strip_prefix("instructions "));
    let counted = counted.filter(|_| done.status.success());
    let counted = counted.with_context(|| format!("qemu-aarch64: {}", said.trim()))?;
    Ok((counted.trim().parse().with_context(|| said.to_string())?, done.stdout))
}

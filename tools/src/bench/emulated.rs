//! Instructions executed on an emulated Cortex-A53: exact, whatever else the machine does.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::models::Entry;

/// What counts, and what is counted.
#[derive(Debug)]
pub struct Emulated<'a> {
    plugin: PathBuf,
    /// csp-device for aarch64.
    pub device: &'a Path,
    /// A root with an ARM Python and onnxruntime, see tools/onnxruntime_aarch64.sh.
    pub onnxruntime: Option<&'a Path>,
    /// tools/onnx_peers.py.
    pub peers: &'a Path,
}

impl<'a> Emulated<'a> {
    /// Compiles the counter.
    ///
    /// # Errors
    /// There is no gcc, or this does not run in the repository.
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
        Ok(Self { plugin, device, onnxruntime, peers })
    }

    /// Instructions of one run of `engine` and of its start: program, bundle, loading.
    ///
    /// # Errors
    /// The program is missing or fails.
    pub fn engine(&self, entry: &Entry, engine: &str) -> Result<Value> {
        let count = |runs: u32| {
            let mut command = self.qemu();
            command
                .arg(self.device)
                .args(["bench", "--json", "--warm-up", "0", "--network", entry.network])
                .args(["--engine", engine, "--runs", &runs.to_string()])
                .arg(&entry.bundle)
                // tract asks the board's device tree for its core, which qemu has not
                .env("TRACT_CPU_AARCH64_KIND", "a53");
            counted(&mut command)
        };
        let (first, third) = (count(1)?, count(3)?);
        let picture = third.saturating_sub(first) / 2;
        Ok(json!({ "engine": engine, "picture": picture, "start": first.saturating_sub(picture) }))
    }

    /// The same of onnxruntime; the start is the session's alone, Python's own is taken off.
    ///
    /// # Errors
    /// There is no root, or it fails there.
    pub fn peer(&self, entry: &Entry, form: &str) -> Result<Value> {
        let root =
            self.onnxruntime.context("--onnxruntime-aarch64 was not given (tools/onnxruntime_aarch64.sh)")?;
        let count = |arguments: &[&str]| {
            let mut command = self.qemu();
            command.arg("-L").arg(root).arg(root.join("usr/bin/python3.11")).args(arguments);
            command.env("PYTHONHOME", root.join("usr")).env("PYTHONPATH", root.join("site"));
            counted(&mut command)
        };
        let peers = self.peers.to_string_lossy();
        let bundle = entry.bundle.to_string_lossy();
        let run =
            |warm_up: &str| count(&[&peers, &bundle, "--form", form, "--runs", "0", "--warm-up", warm_up]);
        let modules = count(&["-c", "import argparse, json, subprocess, zipfile, numpy, onnxruntime"])?;
        let (none, first, third) = (run("0")?, run("1")?, run("3")?);
        let picture = third.saturating_sub(first) / 2;
        let start = none.saturating_sub(modules);
        Ok(json!({ "engine": format!("onnxruntime {form}"), "picture": picture, "start": start }))
    }

    fn qemu(&self) -> Command {
        let mut command = Command::new("qemu-aarch64");
        command.args(["-cpu", "cortex-a53", "-plugin"]).arg(&self.plugin);
        command
    }
}

impl Drop for Emulated<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.plugin);
    }
}

fn counted(command: &mut Command) -> Result<u64> {
    let done = command.stdout(Stdio::null()).output().context("qemu-aarch64 (Debian: qemu-user)")?;
    let said = String::from_utf8_lossy(&done.stderr);
    let counted = said.lines().find_map(|line| line.strip_prefix("instructions "));
    let counted = counted.filter(|_| done.status.success());
    counted
        .with_context(|| format!("qemu-aarch64: {}", said.trim()))?
        .trim()
        .parse()
        .with_context(|| said.into_owned())
}

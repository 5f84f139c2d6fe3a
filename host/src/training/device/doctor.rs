//! What there is to train on, and why not more.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{Adapter, REMOTE, adapters, choose};

/// What `csp-host doctor` found.
#[derive(Clone, Debug, Serialize)]
pub struct Findings {
    /// The CPU: model, logical cores, threads in use.
    pub cpu: Cpu,
    /// Each kind of device this program could use.
    pub apis: Vec<Api>,
    /// What `--device auto` takes, and why.
    pub auto: Auto,
}

/// The processor.
#[derive(Clone, Debug, Serialize)]
pub struct Cpu {
    /// Its name, where the system tells.
    pub model: String,
    /// Threads that training uses; `RAYON_NUM_THREADS` sets it.
    pub threads: usize,
    /// Memory of the machine, MiB, where the system tells.
    pub memory_mib: Option<u64>,
}

/// A way to reach processors beside the CPU.
#[derive(Clone, Debug, Serialize)]
pub struct Api {
    /// `vulkan`, `metal`, `cuda`; `remote` for those of other machines.
    pub name: &'static str,
    /// The processors it offers.
    pub adapters: Vec<Adapter>,
    /// Why there is none, or none that computes; each with the way out.
    pub hints: Vec<String>,
}

/// The choice of `--device auto`.
#[derive(Clone, Debug, Serialize)]
pub struct Auto {
    /// The device.
    pub device: String,
    /// Why this one.
    pub reason: String,
}

/// Looks at everything there is.
pub fn examine() -> Findings {
    let apis = ["vulkan", "metal", "cuda", "remote"].map(|name| {
        if name == "remote" {
            return Api { name, adapters: Vec::new(), hints: vec![REMOTE.into()] };
        }
        let (adapters, mut hints) = match adapters::adapters(name) {
            Ok(adapters) => (adapters, Vec::new()),
            Err(_) if name == "cuda" => (Vec::new(), cuda_hints()),
            Err(why) => (Vec::new(), vec![why]),
        };
        if name == "vulkan" && hints.is_empty() {
            hints = vulkan_hints(&adapters);
        }
        let remark = |adapter: &Adapter| Some(format!("{}: {}", adapter.device, adapter.remark()?));
        hints.extend(adapters.iter().filter_map(remark));
        Api { name, adapters, hints }
    });
    let auto = match choose("auto") {
        Ok(chosen) => Auto { device: chosen.description, reason: chosen.reason },
        Err(error) => Auto { device: "none".into(), reason: error.to_string() },
    };
    Findings { cpu: cpu(), apis: apis.into(), auto }
}

fn cpu() -> Cpu {
    let value = |path: &str, key: &str| -> Option<String> {
        let text = fs::read_to_string(path).ok()?;
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_string())
    };
    let memory =
        value("/proc/meminfo", "MemTotal").and_then(|kib| kib.split(' ').next()?.parse::<u64>().ok());
    Cpu {
        model: value("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.into()),
        threads: rayon::current_num_threads(),
        memory_mib: memory.map(|kib| kib / 1024),
    }
}

fn cuda_hints() -> Vec<String> {
    if cfg!(feature = "cuda") {
        return vec!["built in; --device cuda:N is tried when it is asked for".into()];
    }
    let mut hints = vec!["this csp-host was built without CUDA (cargo feature `cuda`)".to_string()];
    if Path::new("/dev/nvidiactl").exists() {
        hints.push("there is an NVIDIA driver: build with --features cuda, or use its Vulkan driver".into());
    }
    hints
}

/// Why Vulkan shows no processor that computes.
fn vulkan_hints(adapters: &[Adapter]) -> Vec<String> {
    if adapters.iter().any(|adapter| adapter.kind != adapters::SOFTWARE) {
        return Vec::new();
    }
    let mut hints = Vec::new();
    if !adapters.is_empty() {
        hints.push("only a software renderer: slower than --device cpu, and not chosen by itself".into());
    }
    if cfg!(target_os = "linux") {
        let loader =
            ["/usr/lib", "/usr/lib64", "/lib", "/usr/local/lib"].iter().any(|dir| has_loader(dir.as_ref()));
        if !loader && adapters.is_empty() {
            hints.push("the Vulkan loader libvulkan.so.1 is missing: apt-get install libvulkan1".into());
        }
        if drivers().is_empty() {
            hints.push(
                "no Vulkan driver is installed: libnvidia-gl-… (NVIDIA), mesa-vulkan-drivers (AMD, Intel)"
                    .into(),
            );
        }
        hints.extend(device_nodes());
    }
    if hints.is_empty() {
        hints.push("drivers are installed, but none found its hardware".into());
    }
    hints
}

/// Whether the loader is in a library folder or its architecture's sub-folder.
fn has_loader(dir: &Path) -> bool {
    let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
    [dir.to_path_buf(), dir.join(triplet)].iter().any(|dir| dir.join("libvulkan.so.1").exists())
}

/// The manifests of installed drivers.
fn drivers() -> Vec<PathBuf> {
    for name in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
        if let Some(files) = std::env::var_os(name) {
            return std::env::split_paths(&files).filter(|path| path.exists()).collect();
        }
    }
    let folders = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d"];
    let files = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    files.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "json")).collect()
}

/// What stands between us and a graphics card that the kernel knows.
fn device_nodes() -> Vec<String> {
    let Ok(nodes) = fs::read_dir("/dev/dri") else {
        return vec![
            "the kernel knows no graphics card: /dev/dri is missing (in a container it has to be passed in)"
                .into(),
        ];
    };
    let cards = nodes.flatten().map(|entry| entry.path());
    let render = cards.filter(|path| path.to_string_lossy().contains("renderD"));
    let locked = render.filter(|path| {
        File::options()
            .read(true)
            .write(true)
            .open(path)
            .is_err_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied)
    });
    locked
        .map(|path| {
            format!("no permission for {}: sudo usermod -aG render $USER, then log in again", path.display())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_is_always_found_and_what_is_missing_has_a_reason() {
        let found = examine();
        assert!(found.cpu.threads >= 1 && !found.cpu.model.is_empty());
        assert!(!found.auto.device.is_empty() && !found.auto.reason.is_empty());
        assert!(found.apis.iter().any(|api| api.name == "remote" && !api.hints.is_empty()));
        for api in &found.apis {
            let computes = api.adapters.iter().any(|adapter| adapter.kind != adapters::SOFTWARE);
            assert!(computes || !api.hints.is_empty(), "{api:?}");
        }
    }
}

//! What the emulated board boots: Debian's arm64 kernel with its modules, and busybox. Fetched once by apt,
//! into a folder, without root and without touching this computer's packages.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

/// Modules the board needs; what they depend on is found in their own headers.
pub(super) const MODULES: [&str; 8] =
    ["virtio_pci", "virtio_blk", "crc32c_generic", "ext4", "xhci_pci", "ftdi_sio", "i6300esb", "vivid"];

/// Something this computer lacks: no failure of the trap's.
#[derive(Debug)]
pub(super) struct Missing(pub String);

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

/// Unpacked packages.
#[derive(Debug)]
pub(super) struct Guest {
    pub kernel: PathBuf,
    pub busybox: PathBuf,
    modules: BTreeMap<String, PathBuf>,
}

impl Guest {
    /// The packages under `folder`, fetched when they are not there yet.
    ///
    /// # Errors
    /// [`Missing`] when they cannot be had.
    pub fn find(folder: &Path) -> Result<Self> {
        let root = folder.join("guest");
        if let Some(guest) = Self::unpacked(&root)? {
            return Ok(guest);
        }
        eprintln!("fetching Debian's arm64 kernel and busybox (60 MB) into {}", folder.display());
        fetch(folder, &root).map_err(|error| Missing(format!("no kernel for the board: {error:#}")))?;
        Self::unpacked(&root)?.with_context(|| format!("{}: no kernel in it", root.display()))
    }

    fn unpacked(root: &Path) -> Result<Option<Self>> {
        let Ok(boot) = fs::read_dir(root.join("boot")) else { return Ok(None) };
        let kernel = boot.flatten().map(|entry| entry.path()).find(|path| named(path, "vmlinuz-"));
        let busybox = [root.join("bin/busybox"), root.join("usr/bin/busybox")];
        let busybox = busybox.into_iter().find(|path| path.exists());
        let (Some(kernel), Some(busybox)) = (kernel, busybox) else { return Ok(None) };
        let mut modules = BTreeMap::new();
        for lib in [root.join("lib/modules"), root.join("usr/lib/modules")] {
            gather(&lib, &mut modules)?;
        }
        Ok(Some(Self { kernel, busybox, modules }))
    }

    /// A module and all it depends on that is not built into the kernel, in the order to load them.
    ///
    /// # Errors
    /// A module that cannot be read.
    pub fn with_dependencies(&self, names: &[&str]) -> Result<Vec<(String, PathBuf)>> {
        let (mut order, mut seen) = (Vec::new(), BTreeSet::new());
        for name in names {
            ensure!(self.modules.contains_key(*name), "the kernel has no module {name}");
            self.load(name, &mut seen, &mut order)?;
        }
        Ok(order)
    }

    fn load(
        &self,
        name: &str,
        seen: &mut BTreeSet<String>,
        order: &mut Vec<(String, PathBuf)>,
    ) -> Result<()> {
        // what has no file is built in
        let Some(path) = self.modules.get(name) else { return Ok(()) };
        if seen.insert(name.to_string()) {
            let bytes = fs::read(path).with_context(|| path.display().to_string())?;
            for needed in depends(&bytes) {
                self.load(&needed, seen, order)?;
            }
            order.push((name.to_string(), path.clone()));
        }
        Ok(())
    }
}

fn named(path: &Path, prefix: &str) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(prefix))
}

/// `NAME.ko` files below a folder, by the name the kernel knows them under.
fn gather(folder: &Path, modules: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            gather(&path, modules)?;
        } else if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
            if let Some(name) = name.strip_suffix(".ko") {
                modules.insert(name.replace('-', "_"), path);
            } else if name.contains(".ko.") {
                bail!("{}: compressed modules are not read here", path.display());
            }
        }
    }
    Ok(())
}

/// The modules that a module says it depends on: `depends=a,b` between zeros in its `.modinfo`.
fn depends(module: &[u8]) -> Vec<String> {
    let key = b"\0depends=";
    let Some(at) = module.windows(key.len()).position(|window| window == key) else { return Vec::new() };
    let list = module.get(at + key.len()..).unwrap_or_default();
    let end = list.iter().position(|&byte| byte == 0).unwrap_or(list.len());
    let list = String::from_utf8_lossy(list.get(..end).unwrap_or_default()).replace('-', "_");
    list.split(',').filter(|name| !name.is_empty()).map(String::from).collect()
}

fn fetch(folder: &Path, root: &Path) -> Result<()> {
    let apt = folder.join("apt");
    for part in ["state/lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(apt.join(part))?;
    }
    let apt = fs::canonicalize(apt)?;
    // An apt of its own for arm64: the computer's sources and keys, none of its state.
    let options = [
        "APT::Architecture=arm64".to_string(),
        "APT::Architectures=arm64".into(),
        "Acquire::Languages=none".into(),
        "APT::Sandbox::User=".into(),
        "Dir::State::status=/dev/null".into(),
        format!("Dir::State={}", apt.join("state").display()),
        format!("Dir::Cache={}", apt.join("cache").display()),
    ];
    let run = |program: &str, words: &[&str]| -> Result<String> {
        let mut command = Command::new(program);
        options.iter().for_each(|option| {
            command.args(["-o", option]);
        });
        let done = command.args(words).current_dir(&apt).output().with_context(|| program.to_string())?;
        let said = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "{program} {}: {}", words.join(" "), said.trim());
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    };
    run("apt-get", &["-qq", "update"])?;
    let depends = run("apt-cache", &["depends", "linux-image-arm64"])?;
    let image = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    let image = format!("linux-image-{}", image.context("linux-image-arm64 is not Debian's")?);
    run("apt-get", &["-qq", "download", "busybox-static", &image])?;
    let parts = root.with_extension("part");
    for entry in fs::read_dir(&apt)?.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            let status = Command::new("dpkg-deb").arg("-x").arg(&path).arg(&parts).status();
            ensure!(status.context("dpkg-deb")?.success(), "{}: dpkg-deb -x fails", path.display());
            fs::remove_file(&path)?;
        }
    }
    // whole or not there
    fs::rename(&parts, root)?;
    Ok(())
}

/// A program of this computer, also where a user's PATH does not look.
///
/// # Errors
/// [`Missing`], with the package that has it.
pub(super) fn program(name: &str, package: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
    Ok(found.ok_or_else(|| Missing(format!("{name} is not installed (apt-get install {package})")))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_from_modules() {
        let dir = env::temp_dir().join(format!("csp-rig-modules-{}", std::process::id()));
        let folder = dir.join("lib/modules/6/kernel");
        fs::create_dir_all(&folder).unwrap();
        fs::create_dir_all(dir.join("boot")).unwrap();
        fs::create_dir_all(dir.join("bin")).unwrap();
        fs::write(dir.join("boot/vmlinuz-6"), "").unwrap();
        fs::write(dir.join("bin/busybox"), "").unwrap();
        for (name, depends) in [("a", "b-c,d"), ("b-c", "d,built_in"), ("d", "")] {
            let text = format!("ELF\0license=GPL\0depends={depends}\0name={name}\0");
            fs::write(folder.join(format!("{name}.ko")), text).unwrap();
        }
        let guest = Guest::unpacked(&dir).unwrap().unwrap();
        let order = guest.with_dependencies(&["a"]).unwrap();
        let names: Vec<&str> = order.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["d", "b_c", "a"]);
        assert!(guest.with_dependencies(&["absent"]).is_err());
        fs::remove_dir_all(dir).unwrap();
    }
}

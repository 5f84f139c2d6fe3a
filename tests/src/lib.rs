//! What the whole-product tests share: the built programs, a small demo run, ways to break things.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

/// A built program of this workspace. `cargo test --workspace` builds them beside the tests.
///
/// # Panics
/// When it has not been built.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let path = test.ancestors().nth(2).expect("target/<profile>/deps/test").join(name);
    assert!(path.is_file(), "{} is not built: run the tests with --workspace", path.display());
    path
}

/// Runs `csp-host`.
///
/// # Panics
/// When it cannot be started.
pub fn host(args: &[&str]) -> Output {
    run(Command::new(program("csp-host")).args(args))
}

/// Runs `csp-device`.
///
/// # Panics
/// When it cannot be started.
pub fn device(args: &[&str]) -> Output {
    run(Command::new(program("csp-device")).args(args))
}

/// Runs a command to its end.
///
/// # Panics
/// When it cannot be started.
pub fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Standard output of a command that has to succeed.
///
/// # Panics
/// When it failed; its messages are shown.
pub fn stdout(output: Output) -> String {
    assert!(output.status.success(), "{}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("output is UTF-8")
}

/// The JSON document a command that has to succeed printed.
///
/// # Panics
/// When it failed, or printed something else.
pub fn json(output: Output) -> serde_json::Value {
    serde_json::from_str(&stdout(output)).expect("stdout is one JSON document")
}

/// Checks that a command failed with a code and a message, and without a panic.
///
/// # Panics
/// When it did not.
pub fn assert_fails(output: &Output, code: i32, words: &[&str]) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{message}");
    assert!(!message.contains("panicked"), "{message}");
    for word in words {
        assert!(message.contains(word), "{word:?} is not in:\n{message}");
    }
}

/// The small demo, made once for all tests of a process.
///
/// # Panics
/// When the demo fails.
pub fn demo() -> &'static Path {
    static DEMO: OnceLock<tempfile::TempDir> = OnceLock::new();
    let dir = DEMO.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        stdout(host(&[
            "demo",
            "--small",
            "--labels",
            "0.5",
            "--quiet",
            "--out",
            text(&dir.path().join("demo")),
        ]));
        dir
    });
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| dir.path().join("demo"))
}

/// A path as an argument.
///
/// # Panics
/// When it is not UTF-8.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are UTF-8")
}

/// Leaves a test out, loudly: on a machine that has everything (`CSP_NO_SKIP` is set, as `.ci/run`
/// does) that is a failure.
///
/// # Panics
/// When `CSP_NO_SKIP` is set.
pub fn skip(why: &str) {
    assert!(std::env::var_os("CSP_NO_SKIP").is_none(), "CSP_NO_SKIP is set, and {why}");
    without_hardware(why);
}

/// Leaves a test out, loudly, for want of hardware that no setting of the machine can bring. Said past
/// the test harness, which would keep it to itself.
pub fn without_hardware(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

/// A small file system of its own, gone when dropped.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// A tmpfs of that many KiB; `None`, said loudly, where mounting is not allowed.
    ///
    /// # Panics
    /// When there is no temporary directory.
    pub fn mount(kib: u32) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let size = format!("size={kib}k");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs", text(dir.path())]).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(dir)),
            _ => {
                skip("mounting a small tmpfs needs root: the full-disk test did not run");
                None
            }
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).output();
    }
}

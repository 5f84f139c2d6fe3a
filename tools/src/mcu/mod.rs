//! `csp-tools mcu`: the no_std core on a Cortex-M4 under QEMU, compared with the same code on this computer.

mod scenario;

use std::{
    env,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};

const TARGET: &str = "thumbv7em-none-eabihf";
const QEMU: &str = "qemu-system-arm";

/// Run GPS parsing, fusion and the trap's state machine on a Cortex-M4 under QEMU; results have to be the host's, bit for bit.
///
/// Prints the flash and memory they need. Skips, and says so, without qemu-system-arm or the Rust target.
#[derive(Debug, clap::Args)]
pub struct McuArgs {
    /// Receiver captures to run after the made-up recording.
    #[arg(long, value_name = "FILE")]
    capture: Vec<PathBuf>,
    /// One JSON document instead of text.
    #[arg(long)]
    json: bool,
}

/// Flash and static memory of a program, bytes.
#[derive(Debug, Clone, Copy)]
struct Size {
    flash: u64,
    ram: u64,
}

/// Runs the verb.
///
/// # Errors
/// It does not build or run, or a result differs.
pub fn run(args: &McuArgs) -> Result<()> {
    if let Some(missing) = missing() {
        eprintln!("SKIPPED: {missing}");
        if args.json {
            println!("{}", serde_json::json!({ "skipped": missing }));
        }
        return Ok(());
    }
    let mut recording = recording();
    for path in &args.capture {
        recording.extend(fs::read(path).with_context(|| path.display().to_string())?);
    }
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("mcu");
    let target = env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| project.join("../../target"), PathBuf::from)
        .join("mcu");
    fs::create_dir_all(&target)?;
    let file = target.join("recording.bin");
    fs::write(&file, &recording).with_context(|| file.display().to_string())?;

    let mut expected = Vec::new();
    scenario::gps(&recording, &mut |line| expected.push(line.to_string()));
    scenario::trap(&recording, &mut |line| expected.push(line.to_string()));

    if let Some(error) = expected.iter().find(|line| line.starts_with("error")) {
        bail!("the scenario does not run on the host either: {error}");
    }

    let receiver = size(&build(&project, &target, &file, false)?)?;
    let program = build(&project, &target, &file, true)?;
    let whole = size(&program)?;
    let start = Instant::now();
    let printed = emulate(&program)?;
    let seconds = start.elapsed().as_secs_f64();
    let (about, lines): (Vec<&str>, Vec<&str>) = printed.lines().partition(|line| line.starts_with('#'));
    let number = |name: &str| -> Result<u64> {
        let mut words = about.iter().flat_map(|line| line.split(' ')).skip_while(|word| *word != name);
        words
            .nth(1)
            .and_then(|word| word.parse().ok())
            .with_context(|| format!("the program did not say {name}"))
    };
    let (heap_static, built_in) = (number("heap_static")?, number("recording")?);
    let first = lines.iter().zip(&expected).position(|(got, want)| got != want);
    let different = first.or((lines.len() != expected.len()).then_some(lines.len().min(expected.len())));
    if let Some(index) = different {
        let line =
            |lines: &[&str]| lines.get(index).map_or(String::from("(nothing)"), |line| line.to_string());
        let host: Vec<&str> = expected.iter().map(String::as_str).collect();
        bail!("line {} differs\n  host {}\n  mcu  {}", index + 1, line(&host), line(&lines));
    }
    let report = serde_json::json!({
        "same": true, "lines": lines.len(), "recording_bytes": recording.len(), "target": TARGET, "seconds": seconds,
        "gps": { "flash": receiver.flash - built_in, "ram_static": receiver.ram - heap_static,
                 "state": number("gps_bytes")?, "heap_peak": number("gps_heap")? },
        "core": { "flash": whole.flash - built_in, "ram_static": whole.ram - heap_static, "heap_peak": number("heap")? },
    });
    if args.json {
        println!("{report}");
        return Ok(());
    }
    println!(
        "{} lines, every one the same on the host and on {TARGET} ({seconds:.1} s under {QEMU})",
        lines.len()
    );
    for (name, part) in [("receiver (GPS)", &report["gps"]), ("receiver, fusion, trap", &report["core"])] {
        println!(
            "{name}: flash {} B, static memory {} B, heap at most {} B",
            part["flash"], part["ram_static"], part["heap_peak"]
        );
    }
    println!(
        "the receiver's whole state is {} B; what it takes from the heap is the remembered place's frame",
        report["gps"]["state"]
    );
    Ok(())
}

fn missing() -> Option<String> {
    let answers = |program: &str, args: &[&str]| {
        Command::new(program)
            .args(args)
            .output()
            .ok()
            .filter(|output| output.status.success())
            .map(|output| output.stdout)
    };
    if answers(QEMU, &["--version"]).is_none() {
        return Some(format!("{QEMU} is not installed (apt-get install {QEMU})"));
    }
    let root = answers("rustc", &["--print", "sysroot"]).and_then(|root| String::from_utf8(root).ok())?;
    let library = Path::new(root.trim()).join("lib/rustlib").join(TARGET);
    (!library.exists()).then(|| format!("the Rust target is not installed (rustup target add {TARGET})"))
}

fn build(project: &Path, target: &Path, recording: &Path, trap: bool) -> Result<PathBuf> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(project).args(["build", "--release", "--locked", "--quiet", "--target", TARGET]);
    if !trap {
        cargo.arg("--no-default-features");
    }
    // What is set for the host's build is not for this one.
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_INCREMENTAL"] {
        cargo.env_remove(name);
    }
    let status = cargo.env("CARGO_TARGET_DIR", target).env("CSP_MCU_RECORDING", recording).status()?;
    ensure!(status.success(), "the program does not build in {}", project.display());
    Ok(target.join(TARGET).join("release/csp-mcu"))
}

fn emulate(program: &Path) -> Result<String> {
    let mut qemu = Command::new("timeout");
    qemu.args(["300", QEMU, "-M", "mps2-an386", "-cpu", "cortex-m4", "-nographic", "-monitor", "none"]);
    qemu.args(["-serial", "null", "-semihosting-config", "enable=on,target=native", "-kernel"]).arg(program);
    let output = qemu.output().context(QEMU)?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let tail = printed.lines().last().unwrap_or_default();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{QEMU} ended with {}: {tail} {errors}", output.status);
    Ok(printed)
}

/// What an ELF program loads into flash and memory: its PT_LOAD headers.
fn size(program: &Path) -> Result<Size> {
    let elf = fs::read(program).with_context(|| program.display().to_string())?;
    let word = |at: usize, width: usize| -> Result<u64> {
        let bytes = elf.get(at..at + width).context("not an ELF file")?;
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    ensure!(elf.starts_with(b"\x7fELF\x01\x01"), "{}: not a 32-bit ELF file", program.display());
    let (table, entry, count) = (word(28, 4)? as usize, word(42, 2)? as usize, word(44, 2)? as usize);
    let mut size = Size { flash: 0, ram: 0 };
    for header in (0..count).map(|index| table + index * entry) {
        const PT_LOAD: u64 = 1;
        const RAM: u64 = 0x2000_0000;
        if word(header, 4)? == PT_LOAD {
            size.flash += word(header + 16, 4)?;
            size.ram += if word(header + 8, 4)? >= RAM { word(header + 20, 4)? } else { 0 };
        }
    }
    Ok(size)
}

/// Twenty minutes of a receiver: noise, no sky, a cold start, a tree, a binary protocol in between, a
/// leap second, dead reckoning, another tree two kilometres off.
fn recording() -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..600u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for second in 0..1200u32 {
        let clock = 23 * 3600 + 49 * 60 + second;
        let time = format!("{:02}{:02}{:02}.00", clock / 3600 % 24, clock / 60 % 60, clock % 60);
        let date = if clock < 86_400 { "311226" } else { "010127" };
        let mut line = |body: &str| {
            let sum = body.bytes().fold(0, |sum, byte| sum ^ byte);
            let mut text = String::new();
            let _ = write!(text, "${body}*{sum:02X}\r\n");
            bytes.extend(text.bytes());
        };
        if second < 60 {
            line(&format!("GNRMC,{time},V,,,,,,,{date},,,N"));
            line(&format!("GNGGA,{time},,,,,0,00,99.99,,,,,,"));
            continue;
        }
        // a wander of a few metres; from the fifteenth minute on 0.01° further north
        let wander = |k: u32| (second.wrapping_mul(2_654_435_761).rotate_left(k) >> 22) as i32 - 512;
        let first = if second < 64 { 4000 } else { 0 };
        let north = 17_526_000 + wander(3) + first + if second < 900 { 0 } else { 600_000 };
        let (south, east) = (16_000_000 - (north - 17_526_000), 49_314_000 + wander(11));
        let at = format!(
            "01{:02}.{:06},S,036{:02}.{:06},E",
            south / 1_000_000,
            south % 1_000_000,
            east / 1_000_000,
            east % 1_000_000
        );
        let mode = if (700..720).contains(&second) { 'E' } else { 'A' };
        line(&format!("GNRMC,{time},A,{at},0.02,,{date},,,{mode}"));
        line(&format!("GNGGA,{time},{at},1,{:02},0.9{},1795.1,M,-15.3,M,,", 7 + second % 5, second % 10));
        line("GNGSA,A,3,01,04,,,,,,,,,,,1.25,0.92,1.06,1");
        if second % 30 == 0 {
            line(&format!("GNGNS,{time},{at},ANNN,07,1.18,111.5,45.6,,,V"));
            bytes.extend([0xb5, 0x62, 0x01, 0x07, 0x04, 0x00, b'$', 0x0a, 0xff, 0x00, 0x3b, 0x9d]);
        }
    }
    bytes
}

//! Links `csp-device` so that its log can be decoded: see `defmt-hosted.x`.
//!
//! Only the program, and only on Linux: tests and other programs that use this library link as ever, and
//! what they log is nobody's to decode.

use std::{env, fs, io, path::PathBuf};

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=defmt-hosted.x");
    println!("cargo:rerun-if-env-changed=DEFMT_LOG");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        // A copy beside what is built: cargo remembers these lines, and another checkout that shares the
        // target directory would look for the script where this one was.
        let out = env::var("OUT_DIR").map_err(io::Error::other)?;
        let script = PathBuf::from(out).join("defmt-hosted.x");
        fs::copy("defmt-hosted.x", &script)?;
        // An index is the low half of an address: the program must lie where it was linked.
        println!("cargo:rustc-link-arg-bins=-no-pie");
        println!("cargo:rustc-link-arg-bins=-Wl,-T,{}", script.display());
        // The log names the program that wrote it.
        println!("cargo:rustc-link-arg-bins=-Wl,--build-id=sha1");
    }
    Ok(())
}

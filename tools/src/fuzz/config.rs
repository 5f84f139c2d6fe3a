//! `trap.toml`, as a person or a worn card writes it.

use csp_device::config::TrapConfig;

use super::Target;

/// The configuration of a trap.
pub struct Config;

impl Target for Config {
    fn name(&self) -> &'static str {
        "config"
    }

    fn words(&self) -> &'static [&'static [u8]] {
        &[
            b"[energy]\n",
            b"[burst]\n",
            b"[timelapse]\n",
            b"= nan",
            b"= -1",
            b"= 1e308",
            b"= 99999999999999999999",
            b"frames = ",
            b"interval_s = ",
            b"\"\"\"",
            b"[[",
            b"{ a = { b = [",
        ]
    }

    fn run(&self, input: &[u8]) -> String {
        let Ok(text) = core::str::from_utf8(input) else { return "not text".into() };
        match TrapConfig::parse(text) {
            Ok(config) => {
                config.settings();
                config.explained().map_or_else(|error| panic!("{error}"), |_| "accepted".into())
            }
            Err(error) => error.to_string(),
        }
    }
}

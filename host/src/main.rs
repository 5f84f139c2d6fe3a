//! `csp-host`: see [`csp_host::cli`].

use clap::Parser;

fn main() -> std::process::ExitCode {
    csp_host::cli::Cli::parse().run()
}

//! `csp-device config`: writes and checks `trap.toml`.

use std::{io::Write, path::PathBuf};

use super::{Exit, ignore_closed_pipe};
use crate::config::{ConfigError, TrapConfig};

/// Write a trap.toml that explains every key, or check one.
///
/// `csp-device config --print > trap.toml` begins a configuration. With --config the file is checked: a mistake is
/// named with its line, column and what to write instead (exit code 2); with both, the file is printed with every
/// default filled in.
#[derive(Clone, Debug, clap::Args)]
pub struct ConfigArgs {
    /// Write the configuration to stdout, every key with its meaning.
    #[arg(long, required_unless_present = "config")]
    pub print: bool,

    /// The configuration to check.
    #[arg(long, value_name = "trap.toml")]
    pub config: Option<PathBuf>,
}

/// Runs the verb.
///
/// # Errors
/// Only when nothing can be written.
pub fn run(args: &ConfigArgs, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let config = match args.config.as_deref().map(TrapConfig::read) {
        None => TrapConfig::default(),
        Some(Ok((config, _))) => config,
        Some(Err(error)) => return Ok(refuse(&error)),
    };
    if args.print {
        ignore_closed_pipe(out.write_all(config.explained()?.as_bytes()))?;
    } else if let Some(path) = &args.config {
        note!("{}: good; `csp-device selftest --config` tries its parts", path.display());
    }
    Ok(Exit::Done)
}

/// Says what is wrong with a configuration.
pub(super) fn refuse(error: &ConfigError) -> Exit {
    note!("error: {error}");
    match error {
        ConfigError::Io { .. } => Exit::Failed,
        ConfigError::Text { .. } => Exit::Usage,
    }
}

//! `csp-host logs open`, and the key that `logs show` takes.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde_json::json;

use super::print_json;
use crate::{
    progress::note,
    review::{Store, open_pictures, read_keys},
};

/// Decrypt the pictures that a trap sealed to your key.
///
/// Every `*.age` in the store is written to DIR under its own name; the store stays as it is. The `age`
/// tool does the same for one file: `age -d -i FILE picture.jpg.age`.
#[derive(Debug, clap::Args)]
pub struct OpenArgs {
    /// The store: the `--store` directory of `csp-device run`, or any folder.
    store: PathBuf,
    /// The secret key's file (`csp-host keys new --age FILE`).
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The folder the pictures go to; it is made when missing.
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
/// No key, a folder that cannot be read or written, or pictures that stay shut.
pub fn run(args: &OpenArgs) -> Result<()> {
    let opened = open_pictures(&args.store, &read_keys(&args.key)?, &args.out)?;
    for (path, reason) in &opened.failed {
        note(format_args!("warning: {}: {reason}", path.display()));
    }
    if args.json {
        let failed: Vec<_> =
            opened.failed.iter().map(|(path, reason)| json!({"file": path, "reason": reason})).collect();
        print_json(&json!({ "written": opened.written, "failed": failed }))?;
    } else {
        outln!("{} pictures opened into {}", opened.written.len(), args.out.display());
    }
    match opened.failed.len() {
        0 => Ok(()),
        shut => bail!("{shut} pictures stay shut"),
    }
}

/// Opens the places of a store with the key of `file`, and says what stays shut.
///
/// # Errors
/// No key in the file.
pub(super) fn open_places(store: &mut Store, file: &Path) -> Result<()> {
    let (_, shut) = store.unseal(&read_keys(file)?);
    if shut > 0 {
        note(format_args!("warning: {shut} records are sealed to another key: their places stay unknown"));
    }
    Ok(())
}

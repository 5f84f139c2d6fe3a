//! `csp-host keys`.

use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use super::{Context, print_json};
use crate::{export::signing, progress::note, review::new_key};

/// Keys of a trap's owner.
#[derive(Debug, clap::Args)]
pub struct KeysArgs {
    #[command(subcommand)]
    verb: KeysVerb,
}

#[derive(Debug, clap::Subcommand)]
enum KeysVerb {
    New(NewArgs),
}

/// What the key is for.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Purpose {
    /// The file for a secret key that opens places and pictures; it must not exist yet.
    #[arg(long, value_name = "FILE")]
    age: Option<PathBuf>,
    /// The file for a secret key that signs models, without a password; it must not exist yet.
    #[arg(long, value_name = "FILE")]
    sign: Option<PathBuf>,
}

/// Make a key of your own: one that opens what traps seal (--age), or one that signs models (--sign).
///
/// The public key is printed; it goes into the trap's configuration: `privacy.seal_to = "age1…"`, or
/// `model.trust = ["RW…"]`. The secret key stays in FILE, readable by you alone. Keep a copy: without it nobody
/// opens anything, and no trap takes another model. The `age` and `minisign` tools read the same files.
#[derive(Debug, clap::Args)]
pub struct NewArgs {
    #[command(flatten)]
    purpose: Purpose,
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
/// The file exists, or cannot be written.
pub fn run(args: &KeysArgs, _context: &Context) -> Result<()> {
    let KeysVerb::New(NewArgs { purpose, json }) = &args.verb;
    let (public, file) = match (&purpose.age, &purpose.sign) {
        (Some(file), _) => (new_key(file)?.to_string(), file),
        (None, Some(file)) => (signing::new_key(file)?, file),
        (None, None) => anyhow::bail!("--age or --sign is needed"),
    };
    if *json {
        return print_json(&json!({ "public": public, "file": file }));
    }
    note(format_args!("secret key: {} (keep a copy; never put it on a trap)", file.display()));
    outln!("{public}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::super::Cli;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
        let parses = |line: &str| Cli::try_parse_from(line.split(' ')).is_ok();
        assert!(parses("csp-host keys new --age owner.key"));
        assert!(parses("csp-host keys new --sign maker.key --json"));
        assert!(!parses("csp-host keys new") && !parses("csp-host keys new --age a --sign b"));
        assert!(parses("csp-host model sign m.cspm --key maker.key"));
        let key = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
        assert!(parses(&format!("csp-host model verify m.cspm --trust {key} --json")));
        assert!(!parses("csp-host model verify m.cspm --trust RWQ"), "no key");
        assert!(parses("csp-host logs show store --key owner.key --json"));
        assert!(parses("csp-host logs open store --key owner.key -o out"));
        assert!(!parses("csp-host logs open store -o out"), "not without a key");
    }
}

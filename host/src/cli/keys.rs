//! `csp-host keys`.

use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use super::{Context, print_json};
use crate::{progress::note, review::new_key};

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

/// Make a key that opens what traps seal: places and pictures.
///
/// The public key is printed: it goes into the trap's configuration, `privacy.seal_to = "age1…"`. The
/// secret key stays in FILE, readable by you alone; without it nobody opens anything, so keep a copy. The
/// `age` and `rage` tools read the same file.
#[derive(Debug, clap::Args)]
pub struct NewArgs {
    /// The file the secret key goes to; it must not exist yet.
    #[arg(long, value_name = "FILE")]
    age: PathBuf,
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
/// The file exists, or cannot be written.
pub fn run(args: &KeysArgs, _context: &Context) -> Result<()> {
    let KeysVerb::New(args) = &args.verb;
    let public = new_key(&args.age)?.to_string();
    if args.json {
        return print_json(&json!({ "public": public, "file": args.age }));
    }
    note(format_args!("secret key: {} (keep a copy; never put it on a trap)", args.age.display()));
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
        assert!(parses("csp-host logs show store --key owner.key --json"));
        assert!(parses("csp-host logs open store --key owner.key -o out"));
        assert!(!parses("csp-host logs open store -o out"), "not without a key");
    }
}

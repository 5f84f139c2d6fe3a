//! The command line: one file a verb.

pub mod data;

use clap::{Parser, Subcommand};

/// What every verb may ask.
#[derive(Debug)]
pub struct Context {
    /// One JSON document on stdout instead of text.
    pub json: bool,
    /// No progress.
    pub quiet: bool,
}

#[derive(Debug, Parser)]
#[command(name = "csp-host", version, about)]
struct Cli {
    /// Print one JSON document on stdout
    #[arg(long, global = true)]
    json: bool,
    /// Say less
    #[arg(short, long, global = true)]
    quiet: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Data(data::DataArgs),
}

/// Parses the arguments and runs the verb.
pub fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let context = Context { json: cli.json, quiet: cli.quiet };
    match cli.verb {
        Verb::Data(args) => data::run(args, &context),
    }
}

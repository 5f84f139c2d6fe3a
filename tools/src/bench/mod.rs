//! `csp-tools bench`: how fast we are, and how fast others are at the same, in one run.

mod decode;
mod emulated;
mod infer;
mod location;
mod models;
mod pretrain;
mod trap;

use anyhow::Result;

/// Measure speed beside named peers.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    verb: BenchVerb,
}

#[derive(Debug, clap::Subcommand)]
enum BenchVerb {
    Decode(decode::DecodeArgs),
    Infer(infer::InferArgs),
    Pretrain(pretrain::PretrainArgs),
    Trap(trap::TrapArgs),
}

/// Runs the verb.
///
/// # Errors
/// A program that is missing or fails.
pub fn run(args: &BenchArgs) -> Result<()> {
    match &args.verb {
        BenchVerb::Decode(args) => decode::run(args),
        BenchVerb::Infer(args) => infer::run(args),
        BenchVerb::Pretrain(args) => pretrain::run(args),
        BenchVerb::Trap(args) => trap::run(args),
    }
}

//! `csp-host`: how a model is made and reviewed.

mod cli;

fn main() -> anyhow::Result<()> {
    cli::main()
}

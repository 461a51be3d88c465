//! `cargo xtask`: checks and builds that need Rust, called by the scripts and by CI.
//!
//! A subcommand is a module with a `clap::Args` struct and a `run`; it knows no other subcommand.

mod contracts;
mod licences;
mod tidy;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Checks and builds that the scripts call")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes the declarable contract class of what scripts/build-contracts compiled.
    Contracts(contracts::Contracts),
    /// Checks the licences of everything that is built in.
    Licences,
    /// Checks the house rules that a program can check.
    Tidy,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Contracts(args) => args.run(),
        Command::Licences => licences::check(),
        Command::Tidy => tidy::tidy(),
    }
}

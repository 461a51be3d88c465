//! The `medsync` program: reads the command line, starts the log, ends with an exit code.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use medsync::commands::Cli;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    // Quiet by default: what a command did is on standard output, the log is on standard error.
    let filter = EnvFilter::try_from_env("MEDSYNC_LOG")
        .unwrap_or_else(|_| EnvFilter::new("warn,medsync=info,sqlx=error"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Whoever searches a file finds `track=0x…` as it stands.
        .with_ansi(std::io::stderr().is_terminal())
        // It would be told on standard error again, and end the program: a full disk.
        .log_internal_errors(false)
        .init();
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("medsync: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(cli.run()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("medsync: {error:#}");
            ExitCode::FAILURE
        }
    }
}

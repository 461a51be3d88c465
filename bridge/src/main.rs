//! The `medsync` program: reads the command line, starts the log, ends with an exit code.

use std::process::ExitCode;

use clap::Parser;
use medsync::commands::Cli;
use medsync::logging;

fn main() -> ExitCode {
    if let Err(error) = logging::start() {
        eprintln!("medsync: {error}");
        return ExitCode::FAILURE;
    }
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

//! `medsync-node`: a real Calimero node in one thin program.
//!
//! Invariants: it listens on loopback only, its API answers nobody without a token, and no log
//! line carries the arguments of a call. It must not know what MedSync stores in it: the node is
//! the embedded stand-in for `merod`, and everything it offers is Calimero's own API.

mod config;
mod credential;
mod home;
mod logging;
mod ready;
mod start;

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::Context;
use camino::Utf8PathBuf;
use clap::{Args, Parser, Subcommand};

use crate::config::{Overrides, Settings};
use crate::home::Home;
use crate::ready::Ready;

/// How long open work may take to end after a signal. What is cut off here is recovered like
/// after a crash: the store is a write-ahead log.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// A Calimero node for MedSync, on this machine only.
///
/// `init` makes a home folder with an identity, a credential and a config file; `run` starts the
/// node and prints one JSON line on stdout once its API answers.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a home: identity, credential (mode 0600) and config file. Never overwrites one.
    Init(Target),
    /// Run the node until SIGINT or SIGTERM. Flags override the home's config file.
    Run {
        #[command(flatten)]
        target: Target,
        /// Stop also when standard input ends, as it does when the program that started this ends.
        #[arg(long)]
        until_input_ends: bool,
    },
}

#[derive(Debug, Args)]
struct Target {
    /// The node's home folder; it holds secrets and belongs to one node.
    #[arg(long, env = "MEDSYNC_NODE_HOME", value_name = "DIR")]
    home: Utf8PathBuf,
    #[command(flatten)]
    overrides: Overrides,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Init(target) => init(target),
        Command::Run {
            target,
            until_input_ends,
        } => run(target, until_input_ends),
    }
}

fn init(target: Target) -> anyhow::Result<()> {
    let settings = Settings::default().with(target.overrides);
    settings.check()?;
    let home = Home::create(&target.home, &settings)?;
    let peer = home.identity()?.public().to_peer_id();
    // Where it will be, unless it picks free ports at each start.
    let has_ports = settings.api_port != 0 && settings.swarm_port != 0;
    let ready = has_ports.then(|| Ready::new(settings.api_port, settings.swarm_port, peer));
    let line = serde_json::json!({
        "home": home.root(),
        "config": home.config(),
        "credential": home.credential(),
        "peer_id": peer.to_string(),
        "api": ready.as_ref().map(Ready::api),
        "swarm": ready.as_ref().map(Ready::swarm),
    });
    print_line(&mut std::io::stdout(), &line)
}

fn run(target: Target, until_input_ends: bool) -> anyhow::Result<()> {
    let home = Home::open(&target.home)?;
    let settings = home.settings()?.with(target.overrides);
    settings.check()?;
    logging::install(&settings.log)?;
    let mut stdout = take_stdout().context("cannot keep stdout for the ready line")?;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let outcome = runtime.block_on(start::run(&home, &settings, until_input_ends, |ready| {
        // Nobody may be waiting for the line any more; the node serves all the same.
        if let Err(error) = print_line(&mut stdout, ready) {
            tracing::warn!("cannot print the ready line: {error:#}");
        }
    }));
    // The node's actors live on blocking threads of this runtime and stop once `start::run` has
    // dropped their channel; waiting for them closes the stores in order.
    runtime.shutdown_timeout(STOP_GRACE);
    Ok(outcome?)
}

/// Keeps stdout for the ready line and sends what anyone else prints there to stderr: Calimero's
/// authentication prints lines of its own, and would panic once the reader has closed the pipe.
fn take_stdout() -> std::io::Result<File> {
    let stdout = std::io::stdout().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdout(std::io::stderr().as_fd())?;
    Ok(File::from(stdout))
}

/// Prints one JSON line and flushes it, because a program that waits for it reads a pipe.
fn print_line(out: &mut impl Write, line: &impl serde::Serialize) -> anyhow::Result<()> {
    writeln!(out, "{}", serde_json::to_string(line)?)?;
    out.flush()?;
    Ok(())
}

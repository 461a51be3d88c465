//! The command line, a file a role. What a command prints is for people; `--json` is for
//! programs.

use std::io::Write;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use medsync_protocol::ids::ContextId;

use crate::party::Party;

pub mod audit;
pub mod backup;
pub mod deploy;
pub mod fsck;
pub mod hospital;
mod init;
pub mod join;
pub mod login;
pub mod patient;
pub mod researcher;
pub mod rewards;
mod running;
pub mod up;
pub mod verify;

/// Patients decide who may use their health data; anyone with a receipt can check it.
#[derive(Debug, Parser)]
#[command(name = "medsync", version, about, long_about = None)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `medsync` does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Declare and deploy the contracts (once for a chain; a second run finds them).
    Deploy(deploy::Deploy),
    /// Run a party until Ctrl-C: its node and its daemon.
    Up(up::Up),
    /// What a hospital does.
    #[command(subcommand)]
    Hospital(hospital::Hospital),
    /// What a patient does.
    #[command(subcommand)]
    Patient(patient::Patient),
    /// What a researcher does.
    #[command(subcommand)]
    Researcher(researcher::Researcher),
    /// Reward pools on the chain: open, fund, claim, pay out, look.
    #[command(subcommand)]
    Rewards(rewards::Rewards),
    /// Read and check the logs of a circle.
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Copy a home into a folder, while its daemon runs.
    Backup(backup::Backup),
    /// Make a home of a backup.
    Restore(backup::Restore),
    /// Compare the store with the circles and the chain.
    Fsck(fsck::Fsck),
    /// Log in to the HTTP API of a party.
    #[command(subcommand)]
    Login(login::Login),
    /// Check a receipt; needs no node and asks no hospital.
    Verify(verify::Verify),
}

/// Where a party lives.
#[derive(Clone, Debug, clap::Args)]
pub struct Home {
    /// The party's folder: configuration, store and keys.
    #[arg(long, env = "MEDSYNC_HOME")]
    pub home: PathBuf,
}

impl Cli {
    /// Does what the command line says; answers the exit code.
    ///
    /// # Errors
    /// Whatever keeps it from being done, in words that say what would be right.
    pub async fn run(self) -> anyhow::Result<u8> {
        match self.command {
            Command::Deploy(deploy) => deploy.run().await?,
            Command::Up(up) => up.run().await?,
            Command::Hospital(hospital) => hospital.run().await?,
            Command::Patient(patient) => patient.run().await?,
            Command::Researcher(researcher) => researcher.run().await?,
            Command::Rewards(rewards) => rewards.run().await?,
            Command::Login(login) => login.run().await?,
            Command::Audit(audit) => return audit.run().await,
            Command::Backup(backup) => backup.run().await?,
            Command::Restore(restore) => restore.run().await?,
            Command::Fsck(fsck) => return fsck.run().await,
            Command::Verify(verify) => return verify.run().await,
        }
        Ok(0)
    }
}

/// Lets a circle go on that an alarm stopped.
pub(crate) async fn resume(home: &Home, circle: ContextId) -> anyhow::Result<()> {
    let party = Party::open(&home.home).await?;
    party.resume(circle).await?;
    print_json(&serde_json::json!({ "circle": circle, "state": "goes on" }))
}

/// Prints a value as JSON on one line, for programs.
pub(crate) fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let line = serde_json::to_string(value)?;
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an example runs, as words.
    fn parsed(words: impl Iterator<Item = String>) -> Command {
        let cli = Cli::try_parse_from(words);
        cli.unwrap_or_else(|error| panic!("{error}")).command
    }

    #[test]
    fn the_examples_run_commands_that_there_are() {
        let service = include_str!("../../../docs/examples/medsync@.service");
        let line = service
            .lines()
            .find_map(|line| line.strip_prefix("ExecStart="));
        let words = line.expect("it runs something").split(' ').map(Into::into);
        assert!(matches!(parsed(words), Command::Up(_)));
        let container = include_str!("../../../docs/examples/Containerfile");
        let line = container
            .lines()
            .find_map(|line| line.strip_prefix("ENTRYPOINT "));
        let words: Vec<String> =
            serde_json::from_str(line.expect("it runs something")).expect("words");
        assert!(matches!(parsed(words.into_iter()), Command::Up(_)));
        assert!(!container.contains("USER root") && container.contains("\nUSER medsync\n"));
    }
}

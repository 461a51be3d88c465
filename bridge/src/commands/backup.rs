//! `medsync backup` and `medsync restore`.

use std::path::PathBuf;

use serde_json::json;

use super::{Home, print_json};
use crate::backup::{backup, restore};
use crate::party::Party;
use crate::seams::{Clock, SystemClock};

/// Copy a home into a folder: store, configuration, keys. It holds every secret of the home, is
/// readable by its owner alone, and belongs where the home's disk is not. The node's folder is not
/// part of it.
#[derive(Debug, clap::Args)]
pub struct Backup {
    #[command(flatten)]
    home: Home,
    /// A folder that is not there, or empty.
    #[arg(long)]
    out: PathBuf,
}

/// Make a home of a backup. What happened since is read again from the circles and the chain.
#[derive(Debug, clap::Args)]
pub struct Restore {
    #[command(flatten)]
    home: Home,
    /// What `medsync backup` wrote.
    #[arg(long)]
    from: PathBuf,
}

impl Backup {
    /// Copies.
    ///
    /// # Errors
    /// A home that is none, or a folder that cannot be written.
    pub async fn run(self) -> anyhow::Result<()> {
        let party = Party::open(&self.home.home).await?;
        let now = party.clock.now();
        let made = backup(&party.home, &party.store, &self.out, now).await?;
        print_json(&json!({ "backup": self.out, "made_at": made.made_at, "files": made.files }))
    }
}

impl Restore {
    /// Restores.
    ///
    /// # Errors
    /// A folder that is no whole backup, or a home that is set up.
    pub async fn run(self) -> anyhow::Result<()> {
        let made = restore(&self.from, &self.home.home, SystemClock.now()).await?;
        print_json(&json!({ "home": self.home.home, "of": made.made_at }))
    }
}

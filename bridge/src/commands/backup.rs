//! `medsync backup` and `medsync restore`.

use std::path::PathBuf;

use anyhow::Context;
use serde_json::json;

use super::{Home, print_json};
use crate::at_rest::HomeSecret;
use crate::backup::{backup, restore};
use crate::party::Party;
use crate::seams::{Clock, SystemClock};

/// Copy a home into a folder: store, configuration, keys, sealed as they are. It opens with the
/// home's secret, which is not part of it: keep both where the home's disk is not, and apart. The
/// node's folder is not part of it either.
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
        let secret = HomeSecret::of(&self.home.home)
            .context("put the secret of the home that was backed up there; no backup holds it")?;
        let now = SystemClock.now();
        let made = restore(&self.from, &self.home.home, &secret, now).await?;
        // A patient's recovery file needs it, for what is granted from now on; and those of before.
        print_json(&json!({
            "home": self.home.home,
            "of": made.manifest.made_at,
            "restored_at": made.restored_at,
        }))
    }
}

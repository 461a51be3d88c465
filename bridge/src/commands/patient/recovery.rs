//! From the recovery file alone: what opens the handles of every consent.

use std::path::PathBuf;

use medsync_protocol::secrets::{ConsentSecrets, Counter, DeviceNumber, Handle};
use serde_json::json;

use super::passphrase;
use crate::commands::print_json;
use crate::keys::open_patient_keys;
use crate::seams::{Clock, SystemClock};
use crate::store::consents::COUNTER_STEP;

/// Print what opens the handles of a patient's consents, one a line. Anyone may send it to the
/// registry's `revoke`; whoever sees it can, and it cannot be taken back.
#[derive(Debug, clap::Args)]
pub struct Openings {
    /// The recovery file, or the key file of a home.
    #[arg(long)]
    recovery: PathBuf,
    /// Of how many grants, from the first on. No more than there were: who sees an opening can
    /// revoke, also what is granted with it later.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    grants: u64,
    /// Of which of the patient's devices, also one that is gone: 0 is the first, its others are 1,
    /// 2 and so on, those of guardians 33554433, 33554434 and so on.
    #[arg(long, default_value_t = 0)]
    device: u32,
    /// Of grants since the home was restored from a backup: when that was, in unix seconds, as
    /// `medsync restore` and `medsync patient show` say. Grants are counted from there on.
    #[arg(long)]
    restored_at: Option<u64>,
    /// Print the opening of this handle alone, which receipts name. With `--restored-at` it may
    /// have been restored at any time since: each day of it takes about a minute.
    #[arg(long)]
    find: Option<Handle>,
}

impl Openings {
    /// Prints the openings.
    ///
    /// # Errors
    /// A file that the passphrase does not open; a handle that none of these grants has.
    pub fn run(self) -> anyhow::Result<()> {
        let passphrase = passphrase("The passphrase of the keys: ")?;
        let keys = open_patient_keys(&self.recovery, &passphrase)?;
        let first = self.restored_at.unwrap_or_default();
        let now = SystemClock.now().0;
        anyhow::ensure!(
            first <= now,
            "--restored-at is a time that has been, in unix seconds"
        );
        let secrets = |grant: u64| {
            let counter = Counter(grant * COUNTER_STEP);
            ConsentSecrets::derive(&keys.seed, DeviceNumber(self.device), counter)
        };
        let Some(handle) = self.find else {
            return (first..first + self.grants)
                .try_for_each(|grant| print_opening(grant - first, &secrets(grant)));
        };
        let last = if first == 0 {
            self.grants
        } else {
            now + self.grants
        };
        let bar = indicatif::ProgressBar::new(last - first);
        bar.set_message("grants are tried");
        for grant in first..last {
            let secrets = secrets(grant);
            if secrets.handle() == handle {
                bar.finish_and_clear();
                return print_opening(grant - first, &secrets);
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        anyhow::bail!("none of these grants has this handle; say more of them, or another device")
    }
}

fn print_opening(grant: u64, secrets: &ConsentSecrets) -> anyhow::Result<()> {
    print_json(&json!({
        "grant": grant,
        "handle": secrets.handle(),
        "secret": secrets.secret.reveal_text(),
        "claim_key": secrets.claim_key.public_key(),
    }))
}

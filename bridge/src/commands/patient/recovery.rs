//! From the recovery file alone: what opens the handles of every consent.

use std::path::PathBuf;

use medsync_protocol::secrets::{ConsentSecrets, Counter, DeviceNumber};
use serde_json::json;

use super::passphrase;
use crate::commands::print_json;
use crate::keys::PatientKeys;
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
}

impl Openings {
    /// Prints the openings.
    ///
    /// # Errors
    /// A file that the passphrase does not open.
    pub fn run(self) -> anyhow::Result<()> {
        let passphrase = passphrase("The passphrase of the keys: ")?;
        let keys = PatientKeys::open(&self.recovery, &passphrase)?;
        for grant in 0..self.grants {
            let counter = Counter(grant * COUNTER_STEP);
            let secrets = ConsentSecrets::derive(&keys.seed, DeviceNumber(self.device), counter);
            print_json(&json!({
                "grant": grant,
                "handle": secrets.handle(),
                "secret": secrets.secret.reveal_text(),
                "claim_key": secrets.claim_key.public_key(),
            }))?;
        }
        Ok(())
    }
}

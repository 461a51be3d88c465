//! `medsync patient`: joining, granting, revoking, looking.
//!
//! The passphrase comes from `MEDSYNC_PASSPHRASE` or is asked for; it is never an argument, since
//! arguments are seen by other programs of the machine.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Subcommand;
use medsync_protocol::audit::Body;
use medsync_protocol::ids::{ContextId, ContractAddress, RecordId};
use zeroize::Zeroizing;

use super::hospital::InitParts;
use super::{Home, print_json, resume};
use crate::audit;
use crate::config::{AccountConfig, BatchConfig, Config, Role};
use crate::files;
use crate::invitation::Invitation;
use crate::keys::PatientKeys;
use crate::party::Party;
use crate::seams::system_random;

mod consents;
mod join;
mod look;
mod recovery;

const KEY_FILE: &str = "patient-keys.json";

/// What a patient does.
#[derive(Debug, Subcommand)]
pub enum Patient {
    /// Set up a patient's home: configuration, keys, recovery file.
    Init(Box<Init>),
    /// Join the circle of an invitation file: pins it, installs the app, joins.
    Join {
        /// Where the party lives.
        #[command(flatten)]
        home: Home,
        /// The invitation file.
        #[arg(long)]
        invitation: PathBuf,
    },
    /// Publish the patient's keys in the circle, signed by the invitation's one-time key.
    Enrol {
        /// Where the party lives.
        #[command(flatten)]
        home: Home,
        /// Somebody else has used the invitation: enrol all the same, so that the circle freezes
        /// and both sides are alerted. There is no way back.
        #[arg(long)]
        freeze: bool,
    },
    /// Grant a consent.
    Grant(consents::Grant),
    /// Revoke a consent; there is no way back.
    Revoke(consents::Revoke),
    /// Show the circle and every consent in it.
    Show {
        /// Where the party lives.
        #[command(flatten)]
        home: Home,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show what a recipient would get now, for a purpose.
    Preview(look::Preview),
    /// List the records, or open one.
    Records(look::Records),
    /// Write the receipt of an anchored consent.
    Receipt(look::WriteReceipt),
    /// Open the handles of consents from the recovery file alone, for whoever sends them to the
    /// chain.
    Openings(recovery::Openings),
    /// Let the circle go on that an alarm stopped, if it is again what it was.
    Resume {
        /// Where the party lives.
        #[command(flatten)]
        home: Home,
        /// The circle.
        #[arg(long)]
        circle: ContextId,
    },
}

/// Set up a patient's home.
#[derive(Debug, clap::Args)]
pub struct Init {
    #[command(flatten)]
    home: Home,
    #[command(flatten)]
    parts: InitParts,
    /// Where to write the recovery file: keep it elsewhere. With it alone every consent can be
    /// revoked (`medsync patient openings`).
    #[arg(long)]
    recovery: PathBuf,
    /// An account to relay revocations with, if the hospital does not.
    #[arg(long, requires = "revoke_key")]
    revoke_account: Option<ContractAddress>,
    /// The file with its private key.
    #[arg(long, requires = "revoke_account")]
    revoke_key: Option<PathBuf>,
    /// How long a revocation is left to the hospital's relay, in seconds.
    #[arg(long, default_value_t = 120)]
    relay_after_s: u64,
}

impl Patient {
    /// Does what was asked.
    ///
    /// # Errors
    /// Whatever keeps it from being done.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Init(init) => init.run(),
            Self::Join { home, invitation } => join::join(&home.home, &invitation).await,
            Self::Enrol { home, freeze } => join::enrol(&home.home, freeze).await,
            Self::Grant(grant) => grant.run().await,
            Self::Revoke(revoke) => revoke.run().await,
            Self::Show { home, json } => look::show(&home.home, json).await,
            Self::Preview(preview) => preview.run().await,
            Self::Records(records) => records.run().await,
            Self::Receipt(receipt) => receipt.run().await,
            Self::Openings(openings) => openings.run(),
            Self::Resume { home, circle } => resume(&home, circle).await,
        }
    }
}

impl Init {
    fn run(self) -> anyhow::Result<()> {
        Config::check_absent(&self.home.home)?;
        let (node, chain) = self.parts.config(None)?;
        let revoke_account = match (self.revoke_account, &self.revoke_key) {
            (Some(address), Some(key)) => {
                let key_file = key.canonicalize()?;
                Some(AccountConfig { address, key_file })
            }
            _ => None,
        };
        let config = Config {
            role: Role::Patient,
            node,
            chain,
            anchor_account: None,
            revoke_account,
            relay_after_s: self.relay_after_s,
            batch: BatchConfig::default(),
        };
        files::private_folder(&self.home.home)?;
        let passphrase = passphrase("A passphrase for the keys, at least 12 characters: ")?;
        let key_file = self.home.home.join(KEY_FILE);
        if !key_file.exists() {
            let sealed = PatientKeys::generate(&mut system_random())
                .seal(&passphrase, &mut system_random())?;
            files::write_new_secret(&key_file, &sealed)?;
        }
        let keys = PatientKeys::open(&key_file, &passphrase)?;
        // Without a configuration the keys are not used, and so not before the recovery file is
        // there: keys that can be lost with one disk are none.
        files::copy_new_secret(&key_file, &self.recovery)?;
        config.save(&self.home.home)?;
        print_json(&serde_json::json!({
            "patient_key": keys.patient.public_key(),
            "recovery": self.recovery,
        }))
    }
}

fn passphrase(prompt: &str) -> anyhow::Result<Zeroizing<String>> {
    if let Ok(passphrase) = std::env::var("MEDSYNC_PASSPHRASE") {
        return Ok(Zeroizing::new(passphrase));
    }
    let passphrase = rpassword::prompt_password(prompt)
        .context("no passphrase: set MEDSYNC_PASSPHRASE or run this in a terminal")?;
    Ok(Zeroizing::new(passphrase))
}

fn open_keys(home: &Path) -> anyhow::Result<PatientKeys> {
    let passphrase = passphrase("The passphrase of the keys: ")?;
    Ok(PatientKeys::open(&home.join(KEY_FILE), &passphrase)?)
}

/// The one circle that a patient's home is in.
async fn own_circle(party: &Party) -> anyhow::Result<(ContextId, Invitation)> {
    match party.store.circles().await?.as_slice() {
        [] => bail!("no circle was joined yet: medsync patient join --invitation FILE"),
        [circle] => {
            let invitation = circle
                .invitation
                .as_deref()
                .context("the circle has no invitation")?;
            Ok((circle.context, serde_json::from_str(invitation)?))
        }
        _ => bail!("this home is in several circles; a patient's home is in one"),
    }
}

/// Writes what the patient did into the log, and brings it into the circle if that answers; else
/// the daemon does.
async fn log_once(
    party: &Party,
    context: ContextId,
    keys: &PatientKeys,
    says: &Body,
) -> anyhow::Result<()> {
    let (store, author, now) = (&party.store, &keys.author, party.clock.now());
    let entered = party.enter(context).await;
    if let Ok(circle) = &entered {
        audit::catch_up(store, &**circle, author, now).await?;
    }
    audit::append_once(store, context, author, says, now, &mut system_random()).await?;
    if let Ok(circle) = entered
        && let Err(error) = audit::publish(store, &*circle, now).await
    {
        tracing::warn!(%error, "the log entry is kept; the daemon brings it into the circle");
    }
    Ok(())
}

/// Reads a record's name.
fn record_id(text: &str) -> Result<RecordId, String> {
    text.parse()
        .map_err(|error: medsync_protocol::ids::BytesError| error.to_string())
}

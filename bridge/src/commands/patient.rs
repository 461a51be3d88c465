//! `medsync patient`: joining, granting, revoking, looking.
//!
//! The passphrase comes from `MEDSYNC_PASSPHRASE` or is asked for; it is never an argument, since
//! arguments are seen by other programs of the machine.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Subcommand;
use medsync_protocol::ids::{ContextId, ContextKind, ContractAddress, RecordId};
use medsync_protocol::keys::PatientKeys;
use medsync_protocol::secrets::DeviceNumber;
use zeroize::Zeroizing;

use super::init::{InitParts, KeepAccountKey, keep_account_key};
use super::join::{self, Bring, enrol, join};
use super::{Home, print_json, resume};
use crate::at_rest::HomeSecret;
use crate::config::{AccountConfig, BatchConfig, Config, REVOKE_KEY_FILE, RetentionConfig, Role};
use crate::files;
use crate::invitation::Invitation;
use crate::keys::open_patient_keys;
use crate::party::Party;
use crate::seams::system_random;
use crate::source::{Consent, ConsentState, all_consents};

mod change_key;
mod consents;
mod devices;
mod export;
mod look;
mod records;
mod recovery;
mod terms;
mod tickets;

const KEY_FILE: &str = "patient-keys.json";

/// What a patient does.
#[derive(Debug, Subcommand)]
pub enum Patient {
    /// Set up a patient's home: configuration, keys, recovery file.
    Init(Box<Init>),
    /// Seal the key of an account into the home anew.
    AccountKey(KeepAccountKey),
    /// Join the circle of an invitation file: pins it, installs the app, joins.
    Join {
        /// Where the party lives.
        #[command(flatten)]
        home: Home,
        /// The invitation file.
        #[arg(long)]
        invitation: PathBuf,
    },
    /// Publish the patient's keys in the circle, signed by the invitation's one-time key; in the
    /// home of an admitted member, the key that signs its log entries.
    Enrol {
        /// Where the party lives.
        #[command(flatten)]
        home: Home,
        /// Somebody else has used the invitation: enrol all the same, so that the circle freezes
        /// and both sides are alerted. There is no way back.
        #[arg(long)]
        freeze: bool,
    },
    /// Print under which member key this home's node will join a circle, for `admit`.
    Member(devices::Member),
    /// Admit a member to the circle, before it joins: a second device, a relative, a guardian.
    Admit(devices::Admit),
    /// Use the patient's keys as another of the patient's homes wrote them.
    UseKeys(devices::UseKeys),
    /// Replace the patient's key by a fresh one, also when it was stolen.
    ChangeKey(change_key::ChangeKey),
    /// Grant a consent.
    Grant(Box<consents::Grant>),
    /// Decline to consent to a recipient for a purpose; that is recorded too.
    Decline(consents::Decline),
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
    Records(records::Records),
    /// List the rewards that the patient was promised, each with its receipt, a line each.
    Tickets {
        /// Where the party lives.
        #[command(flatten)]
        home: Home,
    },
    /// Write everything that the patient may see into a folder: records in every version, consents,
    /// receipts, the log with its places, tickets, key changes, members.
    Export(export::Export),
    /// Write the receipt of an anchored consent.
    Receipt(look::WriteReceipt),
    /// Sign the claim of a reward for whoever sends it to the chain.
    Claim(tickets::ClaimReward),
    /// Open the handles of consents from the recovery file alone, for whoever sends them to the
    /// chain.
    Openings(recovery::Openings),
    /// Leave the circle for good. Consents that are in force go on: revoke them first.
    Leave {
        /// Where the party lives.
        #[command(flatten)]
        home: Home,
        /// Also with consents in force, with something unsaid, and out of a circle that is stopped.
        #[arg(long)]
        anyway: bool,
    },
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
    #[arg(long, required_unless_present = "keys", conflicts_with = "keys")]
    recovery: Option<PathBuf>,
    /// The recovery file of a patient whose keys this home is to use too, as a second device or a
    /// guardian's. The log entries of this home have a key of their own.
    #[arg(long)]
    keys: Option<PathBuf>,
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
            Self::AccountKey(key) => key.run(),
            Self::Join { home, invitation } => {
                let party = Party::open(&home.home).await?;
                join(&party, ContextKind::Circle, &invitation).await
            }
            Self::Enrol { home, freeze } => enrol_patient(&home.home, freeze).await,
            Self::Grant(grant) => grant.run().await,
            Self::Member(member) => member.run().await,
            Self::Admit(admit) => admit.run().await,
            Self::UseKeys(keys) => keys.run(),
            Self::ChangeKey(change) => change.run().await,
            Self::Decline(decline) => decline.run().await,
            Self::Tickets { home } => tickets::list(&home.home).await,
            Self::Claim(claim) => claim.run().await,
            Self::Export(export) => export.run().await,
            Self::Revoke(revoke) => revoke.run().await,
            Self::Show { home, json } => look::show(&home.home, json).await,
            Self::Preview(preview) => preview.run().await,
            Self::Records(records) => records.run().await,
            Self::Receipt(receipt) => receipt.run().await,
            Self::Openings(openings) => openings.run(),
            Self::Leave { home, anyway } => leave(&home.home, anyway).await,
            Self::Resume { home, circle } => resume(&home, circle).await,
        }
    }
}

impl Init {
    fn run(self) -> anyhow::Result<()> {
        Config::check_absent(&self.home.home)?;
        let (node, chain) = self.parts.config(None)?;
        let revoke_account = self.revoke_account;
        let config = Config {
            role: Role::Patient,
            node,
            chain,
            anchor_account: None,
            revoke_account: revoke_account.map(|address| AccountConfig { address }),
            claim_account: None,
            relay_after_s: self.relay_after_s,
            batch: BatchConfig::default(),
            retention: RetentionConfig::default(),
            store: None,
            api: self.parts.run.api()?,
        };
        let home = &self.home.home;
        files::private_folder(home)?;
        let secret = HomeSecret::of_new(home, &mut system_random())?;
        if let Some(key) = &self.revoke_key {
            keep_account_key((home, &secret), REVOKE_KEY_FILE, key)?;
        }
        let passphrase = passphrase("A passphrase for the keys, at least 12 characters: ")?;
        let key_file = home.join(KEY_FILE);
        if !key_file.exists() {
            let fresh = PatientKeys::generate(&mut system_random());
            let keys = match &self.keys {
                None => fresh,
                // Two homes that sign one log would fork it.
                Some(file) => PatientKeys {
                    author: fresh.author,
                    ..open_patient_keys(file, &passphrase)?
                },
            };
            let sealed = keys.seal(&passphrase, &mut system_random())?;
            files::write_new_secret(&key_file, &sealed)?;
        }
        let keys = open_patient_keys(&key_file, &passphrase)?;
        // Without a configuration the keys are not used, and so not before the recovery file is
        // there: keys that can be lost with one disk are none.
        if let Some(recovery) = &self.recovery {
            files::copy_new_secret(&key_file, recovery)?;
        }
        config.save(home)?;
        print_json(&serde_json::json!({
            "patient_key": keys.patient.public_key(),
            "recovery": self.recovery,
        }))
    }
}

async fn enrol_patient(home: &Path, freeze: bool) -> anyhow::Result<()> {
    let party = Party::open(home).await?;
    let (context, invitation) = own_circle(&party).await?;
    let keys = open_keys(home)?;
    if party.store.circle(context).await?.device != DeviceNumber::FIRST {
        return devices::enrol(&party, context, &keys).await;
    }
    let bring = Bring {
        party: keys.patient.public_key(),
        recovery: keys.recovery.public_key(),
        login: keys.login.public_key(),
        author: keys.author.clone(),
        seal: keys.seal.public_key(),
    };
    enrol(&party, (context, &invitation), &bring, freeze).await
}

fn passphrase(prompt: &str) -> anyhow::Result<Zeroizing<String>> {
    if let Ok(passphrase) = std::env::var("MEDSYNC_PASSPHRASE") {
        return Ok(Zeroizing::new(passphrase));
    }
    let passphrase = rpassword::prompt_password(prompt)
        .context("no passphrase: set MEDSYNC_PASSPHRASE or run this in a terminal")?;
    Ok(Zeroizing::new(passphrase))
}

pub(super) fn open_keys(home: &Path) -> anyhow::Result<PatientKeys> {
    let passphrase = passphrase("The passphrase of the keys: ")?;
    Ok(open_patient_keys(&home.join(KEY_FILE), &passphrase)?)
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

/// Leaves for good; what was revoked stays revoked, and the chain is still watched.
async fn leave(home: &Path, anyway: bool) -> anyhow::Result<()> {
    let party = Party::open(home).await?;
    let (context, _) = own_circle(&party).await?;
    let row = party.store.circle(context).await?;
    if !join::is_leaving(&row) && !anyway {
        join::settle(&party, &row).await?;
        let circle = party.enter(context).await?;
        let goes_on = |consent: &Consent| {
            matches!(consent.state, ConsentState::InForce | ConsentState::NotYet)
        };
        let consents = all_consents(&*circle).await?;
        let count = consents.iter().filter(|consent| goes_on(consent)).count();
        if count > 0 {
            bail!(
                "{count} consents are in force and go on after you left: revoke them first, or say \
                 --anyway"
            );
        }
    }
    join::leave(&party, &row).await?;
    print_json(&serde_json::json!({ "left": context }))
}

/// Reads a record's name.
fn record_id(text: &str) -> Result<RecordId, String> {
    text.parse()
        .map_err(|error: medsync_protocol::ids::BytesError| error.to_string())
}

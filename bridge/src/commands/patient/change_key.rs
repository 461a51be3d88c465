//! Changing the patient's key, when others may know it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use medsync_protocol::audit::Body;
use medsync_protocol::ids::{ContextId, MemberId};
use medsync_protocol::keychange::{ChangedBy, KeyChange, KeyHistory};
use medsync_protocol::messages::{RotationNumber, rotate_message};
use medsync_protocol::signature::PublicKey;
use serde_json::json;

use super::devices::kept;
use super::{KEY_FILE, own_circle, passphrase};
use crate::commands::join::log_once;
use crate::commands::{Home, print_json};
use crate::files;
use crate::keys::PatientKeys;
use crate::party::Party;
use crate::seams::{random_key, system_random};
use crate::source::SignedKeyChange;

/// The keys that are about to take the place of the present ones.
const NEXT_FILE: &str = "patient-keys.next.json";

/// Replace the patient's key by a fresh one. Consents under the old key stay verifiable and can be
/// revoked, and permit nothing more: grant anew what is to go on.
#[derive(Debug, clap::Args)]
pub struct ChangeKey {
    #[command(flatten)]
    home: Home,
    /// Where to write the new recovery file; the old one does not have the new key.
    #[arg(long)]
    recovery: PathBuf,
    /// Somebody else may have the key: sign with the recovery key, which overrules whatever a thief
    /// changed with it.
    #[arg(long)]
    stolen: bool,
    /// A member whom the patient admitted and who stays; may be named several times. The recovery
    /// key ends what was admitted before, since a thief may have done so.
    #[arg(long, requires = "stolen")]
    keep: Vec<MemberId>,
}

impl ChangeKey {
    /// Makes the new key, keeps it, publishes the change, says so in the log, and uses it. Every
    /// step may be done again: a change that was cut off is completed by the next run.
    ///
    /// # Errors
    /// A circle that cannot be entered or does not take the change; the old key is then still used.
    pub async fn run(self) -> anyhow::Result<()> {
        let home = &self.home.home;
        let party = Party::open(home).await?;
        let (context, _) = own_circle(&party).await?;
        let passphrase = passphrase("The passphrase of the keys: ")?;
        let keys = PatientKeys::open(&home.join(KEY_FILE), &passphrase)?;
        let next_file = home.join(NEXT_FILE);
        if !next_file.exists() {
            let next = PatientKeys {
                patient: random_key(&mut system_random()),
                ..keys.clone()
            };
            let sealed = next.seal(&passphrase, &mut system_random())?;
            files::write_new_secret(&next_file, &sealed)?;
        }
        let next = PatientKeys::open(&next_file, &passphrase)?;
        files::copy_new_secret(&next_file, &self.recovery)?;
        let change = self.publish(&party, context, &keys, &next).await?;
        let says = Body::KeyChanged {
            old_key: change.old_key,
            new_key: change.new_key,
            seq: change.seq,
        };
        log_once(&party, context, &keys.author, &says).await?;
        use_keys(&next_file, &home.join(KEY_FILE))?;
        print_json(&json!({
            "old_key": change.old_key,
            "new_key": change.new_key,
            "recovery": self.recovery,
        }))
    }

    /// Brings the change into the circle, kept first; one that is there is not made again.
    async fn publish(
        &self,
        party: &Party,
        context: ContextId,
        keys: &PatientKeys,
        next: &PatientKeys,
    ) -> anyhow::Result<KeyChange> {
        // Also where strangers read: who can change the key must not wait for them to go.
        let circle = party.enter_for_revocations(context).await?;
        let state = circle.circle().await?;
        let enrolled = state
            .only()
            .context("nobody is enrolled in this circle, or it is frozen for good")?;
        let (home_key, new_key) = (keys.patient.public_key(), next.patient.public_key());
        let history = party
            .store
            .key_history(context, &enrolled.enrolment)
            .await?;
        let (old_key, seq) = if self.stolen {
            history.to_recover(home_key, new_key)
        } else {
            (home_key, number_of(&history, home_key, new_key)?)
        };
        let change = KeyChange {
            old_key,
            new_key,
            seq,
        };
        let (signer, by) = if self.stolen {
            (&keys.recovery, ChangedBy::Recovery)
        } else {
            (&keys.patient, ChangedBy::Old)
        };
        let message = rotate_message(context, old_key, new_key, RotationNumber(seq));
        let signed = SignedKeyChange {
            change,
            signature: signer
                .sign(message)
                .context("this change cannot be signed (odds 2^-55); remove the next key's file")?,
        };
        // First, so that nobody who stays is out for a moment; it counts with the change.
        for device in kept(&state, &self.keep, &next.patient)? {
            circle.admit(&device).await?;
        }
        let now = party.clock.now();
        let is_kept = party
            .store
            .keep_key_change(context, (&signed, by), false, now)
            .await?;
        if !is_kept {
            bail!("others changed this key more than once: run this again with --stolen");
        }
        circle.change_key(&signed).await?;
        party
            .store
            .keep_key_change(context, (&signed, by), true, now)
            .await?;
        Ok(change)
    }
}

/// The number under which a key is replaced: its place among the keys so far.
fn number_of(history: &KeyHistory, old_key: PublicKey, new_key: PublicKey) -> anyhow::Result<u64> {
    let Some(place) = history.keys.iter().position(|known| *known == old_key) else {
        bail!(
            "the key of this home is not one of the patient's in this circle: run this again with \
             --stolen, which makes the new key the patient's whatever happened before"
        );
    };
    // A run that was cut off may have made this change.
    let follows = history
        .keys
        .get(place + 1)
        .is_none_or(|next| *next == new_key);
    if history.is_frozen || !follows {
        bail!("somebody else changed this key: run this again with --stolen");
    }
    Ok(place as u64)
}

/// From here on the next keys are the present ones.
fn use_keys(next: &Path, present: &Path) -> anyhow::Result<()> {
    fs::rename(next, present).with_context(|| format!("{}", present.display()))?;
    Ok(files::make_durable(present)?)
}

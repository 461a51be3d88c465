//! Changing the patient's key, when others may know it, or when somebody has to go.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use medsync_protocol::audit::Body;
use medsync_protocol::ids::MemberId;
use medsync_protocol::keychange::{ChangedBy, KeyChange, KeyHistory};
use medsync_protocol::keys::PatientKeys;
use medsync_protocol::messages::{RotationNumber, rotate_message};
use medsync_protocol::secrets::DeviceNumber;
use medsync_protocol::signature::PublicKey;
use serde_json::json;

use super::devices::check_patient;
use super::{KEY_FILE, own_circle, passphrase};
use crate::commands::{Home, print_json};
use crate::files;
use crate::keys::open_patient_keys;
use crate::members::{self, NextKey, NotAdmitted, admit_anew, admitted_by};
use crate::party::Party;
use crate::seams::{random_key, system_random};
use crate::source::{CircleState, SignedKeyChange};
use crate::store::circles::CircleRow;

/// The keys that are about to take the place of the present ones.
pub(super) const NEXT_FILE: &str = "patient-keys.next.json";
const NEXT_FILE_BYTES_MAX: u64 = 16 * 1024;

/// Replace the patient's key by a fresh one. Consents under the old key stay verifiable and can be
/// revoked, and permit nothing more: grant anew what is to go on. Whom the patient admitted stays,
/// but for those whom `--drop` names.
#[derive(Debug, clap::Args)]
pub struct ChangeKey {
    #[command(flatten)]
    home: Home,
    /// Where to write the new recovery file; the old one does not have the new key.
    #[arg(long)]
    recovery: PathBuf,
    /// Somebody else may have the key: sign with the recovery key, which overrules whatever a thief
    /// changed with it. Only those stay whom `--keep` names, since a thief may have admitted
    /// others.
    #[arg(long)]
    stolen: bool,
    /// A member whom the patient admitted and who stays; may be named several times.
    #[arg(long, requires = "stolen")]
    keep: Vec<MemberId>,
    /// A member whom the patient admitted and who is out from now on; may be named several times.
    /// The hospital takes it out of the group (`medsync hospital remove`), best before: as long as
    /// it is there, the circle stops with an alarm.
    #[arg(long, conflicts_with = "stolen")]
    drop: Vec<MemberId>,
}

impl ChangeKey {
    /// Makes the new key, keeps it, publishes the change, says so in the log, and uses it. Every
    /// step may be done again: a change that was cut off is completed by the next run, or, if the
    /// key was stolen, followed by another.
    ///
    /// # Errors
    /// A circle that cannot be entered or does not take the change; the old key is then still used.
    /// A member that stays and whose new admission the circle does not take: the key is changed.
    pub async fn run(self) -> anyhow::Result<()> {
        let home = &self.home.home;
        let party = Party::open(home).await?;
        let (context, _) = own_circle(&party).await?;
        let row = party.store.circle(context).await?;
        let passphrase = passphrase("The passphrase of the keys: ")?;
        let keys = open_patient_keys(&home.join(KEY_FILE), &passphrase)?;
        // Also where strangers read: who can change the key must not wait for them to go.
        let circle = party.enter_for_revocations(context).await?;
        let state = circle.circle().await?;
        check_patient(&state, &keys)?;
        let enrolled = state
            .only()
            .context("nobody is enrolled in this circle, or it is frozen for good")?;
        let enrolment = &enrolled.enrolment;
        let history = party.store.key_history(context, enrolment).await?;
        let home_key = keys.patient.public_key();
        let staying = self.staying(&state, &row, home_key)?;
        let next_files = NextFiles {
            home,
            recovery: &self.recovery,
        };
        let under_way = follower(&history, home_key).filter(|_| !self.stolen);
        let next = next_files.keys(&keys, under_way, &passphrase)?;
        let next_key = NextKey {
            admits: admit_anew(&state, &staying, home_key, &next.patient)?,
            ..self.change(&state, &history, &keys, &next)?
        };
        let now = party.clock.now();
        let left = members::change_key(&*circle, &party.store, enrolment, &next_key, now).await?;
        let change = next_key.change.change;
        let says = Body::KeyChanged {
            old_key: change.old_key,
            new_key: change.new_key,
            seq: change.seq,
        };
        party.say_once(context, &keys.author, &says).await?;
        next_files.use_next()?;
        let member_of = |left: &NotAdmitted| left.device.admission.member;
        let out: BTreeSet<MemberId> = left.iter().map(member_of).collect();
        print_json(&json!({
            "old_key": change.old_key,
            "new_key": change.new_key,
            "recovery": self.recovery,
            "stay": staying.difference(&out).collect::<Vec<_>>(),
        }))?;
        if left.is_empty() {
            return Ok(());
        }
        let why = left
            .iter()
            .map(|left| format!("{} ({})", member_of(left), left.why));
        bail!(
            "the key was changed, and these members are out until `medsync patient admit` admits \
             them anew: {}",
            why.collect::<Vec<_>>().join(", ")
        )
    }

    /// Whom the next key admits: everybody whom the old one did, but for those who go; of a stolen
    /// one those alone who are named, and this home itself.
    fn staying(
        &self,
        state: &CircleState,
        row: &CircleRow,
        home_key: PublicKey,
    ) -> anyhow::Result<BTreeSet<MemberId>> {
        let own = (row.device != DeviceNumber::FIRST).then_some(row.member);
        if self.stolen {
            return Ok(self.keep.iter().copied().chain(own).collect());
        }
        let mut staying = admitted_by(state, home_key);
        for member in &self.drop {
            if own == Some(*member) {
                bail!("{member} is this home itself: change the key at another of the patient's");
            }
            if !staying.remove(member) {
                bail!("{member} is not admitted to this circle; nothing was changed");
            }
        }
        Ok(staying)
    }

    /// The change, signed; it admits nobody yet.
    fn change(
        &self,
        state: &CircleState,
        history: &KeyHistory,
        keys: &PatientKeys,
        next: &PatientKeys,
    ) -> anyhow::Result<NextKey> {
        let (home_key, new_key) = (keys.patient.public_key(), next.patient.public_key());
        let (signer, by) = if self.stolen {
            (&keys.recovery, ChangedBy::Recovery)
        } else {
            (&keys.patient, ChangedBy::Old)
        };
        let (old_key, seq) = match by {
            ChangedBy::Recovery => history.to_recover(home_key, new_key),
            ChangedBy::Old => (home_key, number_of(history, home_key, new_key)?),
        };
        let message = rotate_message(state.context, old_key, new_key, RotationNumber(seq));
        let signature = signer
            .sign(message)
            .context("this change cannot be signed (odds 2^-55); remove the next key's file")?;
        let change = KeyChange {
            old_key,
            new_key,
            seq,
        };
        Ok(NextKey {
            change: SignedKeyChange { change, signature },
            by,
            admits: Vec::new(),
        })
    }
}

/// The key that took the place of another, as far as is known here.
fn follower(history: &KeyHistory, key: PublicKey) -> Option<PublicKey> {
    let place = history.keys.iter().position(|known| *known == key)?;
    history.keys.get(place + 1).copied()
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
    let is_ours = follower(history, old_key).is_none_or(|next| next == new_key);
    if history.is_frozen || !is_ours {
        bail!("somebody else changed this key: run this again with --stolen");
    }
    Ok(place as u64)
}

/// Where the next keys lie until they are used, and their copy for the patient.
struct NextFiles<'a> {
    home: &'a Path,
    recovery: &'a Path,
}

impl NextFiles<'_> {
    /// The keys of the change that is `under_way` to a key, if that is theirs: it was cut off and
    /// is gone on with. Else fresh ones, since others may have read or planted what lies there.
    fn keys(
        &self,
        keys: &PatientKeys,
        under_way: Option<PublicKey>,
        passphrase: &str,
    ) -> anyhow::Result<PatientKeys> {
        let file = self.home.join(NEXT_FILE);
        if under_way.is_some() && file.exists() {
            let next = open_patient_keys(&file, passphrase)?;
            if under_way == Some(next.patient.public_key()) {
                files::copy_new_secret(&file, self.recovery)?;
                return Ok(next);
            }
        }
        forget_next(self.home, Some(self.recovery))?;
        let next = PatientKeys {
            patient: random_key(&mut system_random()),
            ..keys.clone()
        };
        let sealed = next.seal(passphrase, &mut system_random())?;
        files::write_new_secret(&file, &sealed)?;
        files::copy_new_secret(&file, self.recovery)?;
        Ok(next)
    }

    /// From here on the next keys are the present ones.
    fn use_next(&self) -> anyhow::Result<()> {
        let present = self.home.join(KEY_FILE);
        fs::rename(self.home.join(NEXT_FILE), &present)
            .with_context(|| format!("{}", present.display()))?;
        Ok(files::make_durable(&present)?)
    }
}

/// Forgets the keys of a change that was cut off, if there are any, and a copy of them that would
/// pass for a recovery file.
pub(super) fn forget_next(home: &Path, copy: Option<&Path>) -> anyhow::Result<()> {
    let file = home.join(NEXT_FILE);
    if !file.exists() {
        return Ok(());
    }
    if let Some(copy) = copy.filter(|copy| copy.exists()) {
        let [stale, there] =
            [file.as_path(), copy].map(|path| files::read_bounded(path, NEXT_FILE_BYTES_MAX));
        // Another file is somebody's, and is not overwritten either.
        if stale? == there? {
            remove(copy)?;
        }
    }
    remove(&file)
}

fn remove(file: &Path) -> anyhow::Result<()> {
    fs::remove_file(file).with_context(|| format!("{}", file.display()))?;
    Ok(files::make_durable(file)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSPHRASE: &str = "a long enough passphrase";

    fn generated() -> PatientKeys {
        PatientKeys::generate(&mut system_random())
    }

    #[test]
    fn hostile_next_keys_that_lie_there_are_used_by_no_change_that_is_not_theirs() {
        let folder = tempfile::tempdir().expect("a folder");
        let recovery = folder.path().join("recovery.json");
        let next_files = NextFiles {
            home: folder.path(),
            recovery: &recovery,
        };
        let keys = generated();
        let key_of = |under_way: Option<PublicKey>| {
            let next = next_files.keys(&keys, under_way, PASSPHRASE).expect("keys");
            assert_eq!(next.seed, keys.seed);
            let copy = open_patient_keys(&recovery, PASSPHRASE).expect("the copy");
            assert_eq!(copy.patient, next.patient);
            next.patient.public_key()
        };
        let first = key_of(None);
        // A change that was kept goes on with its keys; no other does, and no stolen one.
        assert_eq!(key_of(Some(first)), first);
        let second = key_of(None);
        assert_ne!(second, first);
        assert_ne!(key_of(Some(first)), second);
        // Somebody's recovery file is neither overwritten nor removed.
        let sealed = keys.seal(PASSPHRASE, &mut system_random()).expect("sealed");
        files::write_whole(&recovery, &sealed, true).expect("written");
        assert!(next_files.keys(&keys, None, PASSPHRASE).is_err());
        let there = files::read_bounded(&recovery, NEXT_FILE_BYTES_MAX);
        assert_eq!(there.expect("still there"), sealed);
    }

    #[test]
    fn what_is_used_lies_there_no_longer() {
        let folder = tempfile::tempdir().expect("a folder");
        let recovery = folder.path().join("recovery.json");
        let next_files = NextFiles {
            home: folder.path(),
            recovery: &recovery,
        };
        let next = next_files.keys(&generated(), None, PASSPHRASE);
        let next = next.expect("keys");
        next_files.use_next().expect("renamed");
        let present = open_patient_keys(&folder.path().join(KEY_FILE), PASSPHRASE);
        assert_eq!(present.expect("the keys").patient, next.patient);
        assert!(!folder.path().join(NEXT_FILE).exists());
        forget_next(folder.path(), Some(&recovery)).expect("nothing to forget");
        assert!(recovery.exists());
    }
}

//! Other members whom the patient admits: a second device, a relative, a guardian.
//!
//! The new member's node says under which key it will join (`member`), the patient's home signs
//! that and writes it into the circle (`admit`), and only then the new member joins: whoever is in
//! the group without it stops the circle with an alarm.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::ValueEnum;
use medsync_protocol::audit::Body;
use medsync_protocol::device::DeviceRole;
use medsync_protocol::ids::{ContextId, MemberId};
use medsync_protocol::keys::PatientKeys;
use medsync_protocol::secrets::DeviceNumber;
use medsync_protocol::signature::{PublicKey, SecretKey};
use serde_json::json;

use super::change_key::forget_next;
use super::{KEY_FILE, own_circle, passphrase};
use crate::commands::{Home, print_json};
use crate::files;
use crate::guard::ADMISSION_ENDED;
use crate::invitation::Invitation;
use crate::keys::open_patient_keys;
use crate::members::sign;
use crate::party::Party;
use crate::seams::system_random;
use crate::source::{CircleState, Device};

/// What somebody is admitted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    /// The patient's own device, with a copy of the patient's keys.
    Own,
    /// Somebody who reads consents and log, and decides nothing.
    Relative,
    /// Somebody who decides for the patient, with a copy of the patient's keys.
    Guardian,
}

impl From<Role> for DeviceRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Own => Self::Own,
            Role::Relative => Self::Relative,
            Role::Guardian => Self::Guardian,
        }
    }
}

/// Print under which member key this home's node will join the circle of an invitation: the
/// patient admits that key first.
#[derive(Debug, clap::Args)]
pub struct Member {
    #[command(flatten)]
    home: Home,
    /// The invitation file.
    #[arg(long)]
    invitation: PathBuf,
}

impl Member {
    /// Asks the node.
    ///
    /// # Errors
    /// An invitation that does not fit, a node that does not answer.
    pub async fn run(self) -> anyhow::Result<()> {
        let party = Party::open(&self.home.home).await?;
        let says = Invitation::read(&self.invitation, party.clock.now())?.says;
        let chain = &party.config.chain;
        says.fits(chain.registry(), chain.class_hash, party.app_digest()?)?;
        let installed = party.node.install_app(&party.config.node.app).await?;
        let member = party.node.member_of(says.group, &installed).await?;
        print_json(&json!({ "circle": says.context, "member": member }))
    }
}

/// Admit a member to the circle.
#[derive(Debug, clap::Args)]
pub struct Admit {
    #[command(flatten)]
    home: Home,
    /// Under which key it will join (`medsync patient member` there).
    #[arg(long)]
    member: MemberId,
    /// What it is for.
    #[arg(long = "as", value_enum)]
    role: Role,
}

impl Admit {
    /// Signs, writes into the circle, and says so in the log; again is the same.
    ///
    /// # Errors
    /// A home that does not have the patient's key, a circle that does not take the admission.
    pub async fn run(self) -> anyhow::Result<()> {
        let party = Party::open(&self.home.home).await?;
        let (context, _) = own_circle(&party).await?;
        let keys = super::open_keys(&self.home.home)?;
        let circle = party.enter(context).await?;
        let state = circle.circle().await?;
        check_patient(&state, &keys)?;
        if state.party().is_none() || state.keys.last() != Some(&keys.patient.public_key()) {
            bail!("the key of this home is not the patient's present key in this circle");
        }
        let device = admission(&state, self.member, self.role.into(), &keys.patient)?;
        let written = circle.admit(&device).await?;
        let says = Body::Enrolled {
            member: self.member,
            party_key: keys.patient.public_key(),
        };
        party.say_once(context, &keys.author, &says).await?;
        let number = device.admission.device;
        print_json(&json!({
            "member": self.member,
            "device": number,
            "role": number.role(),
            "was_there": written.existing,
        }))
    }
}

/// Signs an admission; a member that was admitted for the same before keeps its number.
fn admission(
    state: &CircleState,
    member: MemberId,
    role: DeviceRole,
    patient: &SecretKey,
) -> anyhow::Result<Device> {
    let now = state.admission_of(member).map(|known| known.device);
    if let Some(other) = now.filter(|now| now.role() != role) {
        bail!(
            "{member} is admitted as {} already: end that first (medsync patient change-key \
             --drop)",
            other.role().name()
        );
    }
    let ever = || state.ever_admitted().map(|device| device.admission);
    let before = ever().find(|known| known.member == member && known.device.role() == role);
    let taken: Vec<DeviceNumber> = ever().map(|known| known.device).collect();
    let device = now
        .or(before.map(|known| known.device))
        .or_else(|| role.next_number(&taken))
        .context("the patient has admitted as many members of this kind as there can be")?;
    Ok(sign(state.context, member, device, patient)?)
}

/// A home that has the patient's keys serves that patient alone: a circle of somebody else's would
/// have it sign for them.
///
/// # Errors
/// A circle in which nobody enrolled, or another patient.
pub(super) fn check_patient(state: &CircleState, keys: &PatientKeys) -> anyhow::Result<()> {
    let enrolled = state
        .only()
        .context("nobody is enrolled in this circle, or it is frozen for good")?;
    if !keys.are_of(&enrolled.enrolment) {
        bail!(
            "the patient of this circle enrolled with other keys than this home has: it is not \
             the circle of this home's patient, and nothing was written"
        );
    }
    Ok(())
}

/// Publishes the key with which an admitted member signs its log entries.
///
/// # Errors
/// A member that is not, or no longer, admitted; a circle of another patient than the one whose
/// keys this home has.
pub(super) async fn enrol(
    party: &Party,
    context: ContextId,
    keys: &PatientKeys,
) -> anyhow::Result<()> {
    let row = party.store.circle(context).await?;
    let circle = party.enter(context).await?;
    let state = circle.circle().await?;
    if row.device.role() != DeviceRole::Relative {
        check_patient(&state, keys)?;
    }
    let own = state.admission_of(row.member).context(ADMISSION_ENDED)?;
    let mut admitted = state.admitted();
    let signed = admitted.find(|device| device.admission == own);
    let device = Device {
        author_key: Some(keys.author.public_key()),
        ..*signed.context(ADMISSION_ENDED)?
    };
    let written = circle.admit(&device).await?;
    let party_key = *state.keys.last().context("nobody is enrolled here")?;
    let says = Body::Enrolled {
        member: row.member,
        party_key,
    };
    party.say_once(context, &keys.author, &says).await?;
    print_json(&json!({
        "party_key": party_key,
        "device": row.device,
        "role": row.device.role(),
        "was_there": written.existing,
    }))
}

/// The keys of a home that decides, and which of the patient's devices it is.
///
/// # Errors
/// A relative's home, a member whose admission ended, a circle of another patient than the one
/// whose keys this home has.
pub(super) async fn deciding(
    party: &Party,
    context: ContextId,
) -> anyhow::Result<(PatientKeys, DeviceNumber)> {
    let row = party.store.circle(context).await?;
    if row.device.role() == DeviceRole::Relative {
        bail!("this home was admitted as a relative: it reads, and only the patient decides");
    }
    let keys = super::open_keys(&party.home)?;
    if row.device != DeviceNumber::FIRST {
        let circle = party.enter(context).await?;
        check_patient(&circle.circle().await?, &keys)?;
    }
    Ok((keys, row.device))
}

/// Use the patient's keys as another home wrote them, after that one changed the patient's key.
#[derive(Debug, clap::Args)]
pub struct UseKeys {
    #[command(flatten)]
    home: Home,
    /// The new recovery file.
    #[arg(long)]
    keys: PathBuf,
}

impl UseKeys {
    /// Takes over the keys; the one that signs this home's log entries stays its own. Those of a
    /// change that was cut off in this home are of no use any more, and are forgotten.
    ///
    /// # Errors
    /// A file that the passphrase does not open, or another patient's.
    pub fn run(self) -> anyhow::Result<()> {
        let passphrase = passphrase("The passphrase of the keys: ")?;
        let patient_key = take_over(&self.home.home, &self.keys, &passphrase)?;
        print_json(&json!({ "patient_key": patient_key }))
    }
}

fn take_over(home: &Path, keys: &Path, passphrase: &str) -> anyhow::Result<PublicKey> {
    let file = home.join(KEY_FILE);
    let own = open_patient_keys(&file, passphrase)?;
    let new = open_patient_keys(keys, passphrase)?;
    if new.seed != own.seed {
        bail!("these are not the same patient's keys; nothing was changed");
    }
    let patient_key = new.patient.public_key();
    let keys = PatientKeys {
        author: own.author,
        ..new
    };
    let sealed = keys.seal(passphrase, &mut system_random())?;
    files::write_whole(&file, &sealed, true)?;
    // Its copy for the patient stays: a change to it that was kept may be published yet.
    forget_next(home, None)?;
    Ok(patient_key)
}

#[cfg(test)]
mod tests {
    use super::super::change_key::NEXT_FILE;
    use super::*;
    use crate::seams::random_key;

    const PASSPHRASE: &str = "a long enough passphrase";

    #[test]
    fn keys_that_are_taken_over_leave_none_behind_that_were_to_come() {
        let folder = tempfile::tempdir().expect("a folder");
        let own = PatientKeys::generate(&mut system_random());
        let new = PatientKeys {
            patient: random_key(&mut system_random()),
            author: random_key(&mut system_random()),
            ..own.clone()
        };
        let others = PatientKeys::generate(&mut system_random());
        let path = |name: &str| folder.path().join(name);
        for (name, keys) in [
            (KEY_FILE, &own),
            (NEXT_FILE, &own),
            ("new", &new),
            ("others", &others),
        ] {
            let sealed = keys.seal(PASSPHRASE, &mut system_random()).expect("sealed");
            files::write_new_secret(&path(name), &sealed).expect("a new file");
        }
        assert!(take_over(folder.path(), &path("others"), PASSPHRASE).is_err());
        assert!(path(NEXT_FILE).exists());
        let taken = take_over(folder.path(), &path("new"), PASSPHRASE).expect("taken over");
        assert_eq!(taken, new.patient.public_key());
        let present = open_patient_keys(&path(KEY_FILE), PASSPHRASE).expect("the keys");
        assert_eq!((present.patient, present.author), (new.patient, own.author));
        assert!(!path(NEXT_FILE).exists());
    }
}

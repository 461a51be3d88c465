//! Other members whom the patient admits: a second device, a relative, a guardian.
//!
//! The new member's node says under which key it will join (`member`), the patient's home signs
//! that and writes it into the circle (`admit`), and only then the new member joins: whoever is in
//! the group without it stops the circle with an alarm.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::ValueEnum;
use medsync_protocol::audit::Body;
use medsync_protocol::device::{Admission, DeviceRole};
use medsync_protocol::ids::{ContextId, MemberId};
use medsync_protocol::messages::device_message;
use medsync_protocol::secrets::DeviceNumber;
use medsync_protocol::signature::SecretKey;
use serde_json::json;

use super::{KEY_FILE, own_circle, passphrase};
use crate::commands::join::log_once;
use crate::commands::{Home, print_json};
use crate::files;
use crate::invitation::Invitation;
use crate::keys::PatientKeys;
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
        if state.party().is_none() || state.keys.last() != Some(&keys.patient.public_key()) {
            bail!("the key of this home is not the patient's present key in this circle");
        }
        let device = admission(&state, self.member, self.role.into(), &keys.patient)?;
        let written = circle.admit(&device).await?;
        let says = Body::Enrolled {
            member: self.member,
            party_key: keys.patient.public_key(),
        };
        log_once(&party, context, &keys.author, &says).await?;
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
    let others = || state.admitted().map(|device| device.admission);
    let before = others().find(|known| known.member == member && known.device.role() == role);
    let taken: Vec<DeviceNumber> = others().map(|known| known.device).collect();
    let device = before
        .map(|known| known.device)
        .or_else(|| role.next_number(&taken))
        .context("the patient has admitted as many members of this kind as there can be")?;
    sign(state.context, member, device, patient)
}

fn sign(
    context: ContextId,
    member: MemberId,
    device: DeviceNumber,
    patient: &SecretKey,
) -> anyhow::Result<Device> {
    Ok(Device {
        admission: Admission {
            member,
            device,
            admitted_by: patient.public_key(),
        },
        author_key: None,
        signature: patient
            .sign(device_message(context, member, device))
            .context("this admission cannot be signed (odds 2^-55); change the patient's key")?,
    })
}

/// What the next key admits anew, so that these members stay when the recovery key ends what was
/// admitted before.
pub(super) fn kept(
    state: &CircleState,
    keep: &[MemberId],
    next: &SecretKey,
) -> anyhow::Result<Vec<Device>> {
    keep.iter()
        .map(|member| {
            let known = state
                .admitted()
                .find(|device| device.admission.member == *member)
                .with_context(|| format!("{member} was never admitted to this circle"))?;
            sign(state.context, *member, known.admission.device, next)
        })
        .collect()
}

/// Publishes the key with which an admitted member signs its log entries.
///
/// # Errors
/// A member that is not, or no longer, admitted.
pub(super) async fn enrol(
    party: &Party,
    context: ContextId,
    keys: &PatientKeys,
) -> anyhow::Result<()> {
    let row = party.store.circle(context).await?;
    let circle = party.enter(context).await?;
    let state = circle.circle().await?;
    let own = |device: &&Device| device.admission.member == row.member;
    let admitted = state.admitted().rev().find(own);
    let admitted = admitted.context("the patient has not admitted this member")?;
    let device = Device {
        author_key: Some(keys.author.public_key()),
        ..*admitted
    };
    let written = circle.admit(&device).await?;
    let party_key = *state.keys.last().context("nobody is enrolled here")?;
    let says = Body::Enrolled {
        member: row.member,
        party_key,
    };
    log_once(party, context, &keys.author, &says).await?;
    print_json(&json!({
        "party_key": party_key,
        "device": row.device,
        "role": row.device.role(),
        "was_there": written.existing,
    }))
}

/// The keys of a home that decides, and which of the patient's devices it is.
pub(super) async fn deciding(
    party: &Party,
    context: ContextId,
) -> anyhow::Result<(PatientKeys, DeviceNumber)> {
    let row = party.store.circle(context).await?;
    if row.device.role() == DeviceRole::Relative {
        bail!("this home was admitted as a relative: it reads, and only the patient decides");
    }
    Ok((super::open_keys(&party.home)?, row.device))
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
    /// Takes over the keys; the one that signs this home's log entries stays its own.
    ///
    /// # Errors
    /// A file that the passphrase does not open, or another patient's.
    pub fn run(self) -> anyhow::Result<()> {
        let passphrase = passphrase("The passphrase of the keys: ")?;
        let file = self.home.home.join(KEY_FILE);
        let own = PatientKeys::open(&file, &passphrase)?;
        let new = PatientKeys::open(&self.keys, &passphrase)?;
        if new.seed != own.seed {
            bail!("these are not the same patient's keys; nothing was changed");
        }
        let patient_key = new.patient.public_key();
        let keys = PatientKeys {
            author: own.author,
            ..new
        };
        let sealed = keys.seal(&passphrase, &mut system_random())?;
        files::write_whole(&file, &sealed, true)?;
        print_json(&json!({ "patient_key": patient_key }))
    }
}

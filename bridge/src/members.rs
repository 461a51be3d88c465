//! Whom the patient admits, and what becomes of them when the patient's key changes.
//!
//! The present key alone admits. So whoever changes the key signs with the next one for everybody
//! who stays, and writes that down ahead of the change: nobody who stays is out for a moment, and
//! whoever is not named is out with the change.

use std::collections::BTreeSet;

use medsync_protocol::device::Admission;
use medsync_protocol::ids::{ContextId, MemberId, UnixSeconds};
use medsync_protocol::keychange::ChangedBy;
use medsync_protocol::messages::{Enrolment, device_message};
use medsync_protocol::secrets::DeviceNumber;
use medsync_protocol::signature::{PublicKey, SecretKey};

use crate::source::{Circle, CircleState, Device, SignedKeyChange, SourceError};
use crate::store::{Store, StoreError};

/// Why a member is not admitted, or a key not changed.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The circle did not answer, or does not take it.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The message is too large to be signed.
    #[error("the admission of {0} cannot be signed (odds 2^-55); change the patient's key")]
    Unsignable(MemberId),
    /// Somebody is to stay who was never there.
    #[error("{0} was never admitted to this circle")]
    NeverAdmitted(MemberId),
    /// Changes of this key contradict each other.
    #[error("others changed this key more than once: run this again with --stolen")]
    Contradicted,
}

/// Signs an admission with a key of the patient's.
///
/// # Errors
/// [`MemberError::Unsignable`].
pub fn sign(
    context: ContextId,
    member: MemberId,
    device: DeviceNumber,
    patient: &SecretKey,
) -> Result<Device, MemberError> {
    let message = device_message(context, member, device);
    Ok(Device {
        admission: Admission {
            member,
            device,
            admitted_by: patient.public_key(),
        },
        author_key: None,
        signature: patient
            .sign(message)
            .map_err(|_| MemberError::Unsignable(member))?,
    })
}

/// Whom a key of the patient's admitted.
#[must_use]
pub fn admitted_by(state: &CircleState, key: PublicKey) -> BTreeSet<MemberId> {
    let devices = state.ever_admitted().map(|device| device.admission);
    devices
        .filter(|admission| admission.admitted_by == key)
        .map(|admission| admission.member)
        .collect()
}

/// What the next key admits: each of these members under the number that it had last from the key
/// of this home, `own_key`, or one before it.
///
/// # Errors
/// [`MemberError::NeverAdmitted`], [`MemberError::Unsignable`].
pub fn admit_anew(
    state: &CircleState,
    members: &BTreeSet<MemberId>,
    own_key: PublicKey,
    next: &SecretKey,
) -> Result<Vec<Device>, MemberError> {
    let anew = |member: &MemberId| {
        let last = state.last_admission_of(*member, own_key);
        let last = last.ok_or(MemberError::NeverAdmitted(*member))?;
        sign(state.context, *member, last.device, next)
    };
    members.iter().map(anew).collect()
}

/// A change of the patient's key that is about to be made.
#[derive(Clone, Debug)]
pub struct NextKey {
    /// The change.
    pub change: SignedKeyChange,
    /// Who signed it.
    pub by: ChangedBy,
    /// What the next key admits.
    pub admits: Vec<Device>,
}

/// An admission that a circle did not take.
#[derive(Debug)]
pub struct NotAdmitted {
    /// The admission.
    pub device: Device,
    /// Why not.
    pub why: SourceError,
}

/// Writes down whom the next key admits, keeps the change, and brings it into the circle. Every
/// step may be done again.
///
/// # Returns
/// Which admissions the circle did not take: the change is made all the same.
///
/// # Errors
/// [`MemberError::Contradicted`]; a store that does not answer; a circle that does not take the
/// change, which is then kept, or that does not answer, before an orderly change is kept.
pub async fn change_key(
    circle: &dyn Circle,
    store: &Store,
    enrolment: &Enrolment,
    next: &NextKey,
    now: UnixSeconds,
) -> Result<Vec<NotAdmitted>, MemberError> {
    let context = circle.context();
    let mut waiting = admit(circle, &next.admits).await;
    let unanswered = waiting.iter().position(|left| left.why.is_retry());
    // An orderly change has time: nobody is put out because a node is down. A thief is, at once.
    if let Some(left) = unanswered.filter(|_| next.by == ChangedBy::Old) {
        return Err(waiting.swap_remove(left).why.into());
    }
    let signed = (&next.change, next.by);
    let is_kept = store.keep_key_change(context, signed, false, now).await?;
    // With those that an earlier run kept and did not come to publish: one needs the one before it.
    let counting = store.counting_key_changes(context, enrolment).await?;
    let counts = |known: &SignedKeyChange| known.change == next.change.change;
    if !is_kept || !counting.iter().any(counts) {
        return Err(MemberError::Contradicted);
    }
    for change in &counting {
        circle.change_key(change, 1).await?;
    }
    store.key_changes_are_published(context, now).await?;
    // The circle takes what is written ahead from the node that enrolled alone; by now it knows
    // the key.
    let devices: Vec<Device> = waiting.iter().map(|left| left.device).collect();
    Ok(admit(circle, &devices).await)
}

/// Writes admissions down, each for itself.
async fn admit(circle: &dyn Circle, devices: &[Device]) -> Vec<NotAdmitted> {
    let mut left = Vec::new();
    for device in devices {
        if let Err(why) = circle.admit(device).await {
            let device = *device;
            left.push(NotAdmitted { device, why });
        }
    }
    left
}

//! The way into a circle: every call goes through here.
//!
//! A group's admin can push other code to a context and add readers to it, and a member's node
//! would follow; and its custodian can write anew what it says of itself there. So before each call
//! the circle is compared with what was pinned when it was entered; a difference stops the circle
//! with an alarm, until a person has looked.

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;
use medsync_protocol::ids::{ContextId, ContextKind, MemberId, UnixSeconds};
use medsync_protocol::keychange::KeyHistory;
use medsync_protocol::secrets::DeviceNumber;

use crate::invitation::Invitation;
use crate::source::{
    CalimeroNode, Circle, CircleState, Device, Enrolled, EntryBody, EntryKind, Pin, SourceError,
    SourceResult, StateHash, all_changes,
};
use crate::store::circles::CircleRow;
use crate::store::{Store, StoreError};

/// Gives circles to whoever has passed the guard; a node, or a test's stand-in for one.
#[async_trait]
pub trait Circles: Send + Sync {
    /// The circle of a context on this party's node.
    fn open(&self, context: ContextId) -> Box<dyn Circle>;

    /// The state of each context on this node, by one question. It says less than the guard asks:
    /// who goes by it alone neither reads nor writes.
    async fn states(&self) -> SourceResult<HashMap<ContextId, StateHash>>;
}

#[async_trait]
impl Circles for CalimeroNode {
    fn open(&self, context: ContextId) -> Box<dyn Circle> {
        Box::new(self.circle(context))
    }

    async fn states(&self) -> SourceResult<HashMap<ContextId, StateHash>> {
        Self::states(self).await
    }
}

/// Why a circle is not entered.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The circle is not what was pinned; nothing is read from or written to it.
    #[error("ALARM in circle {context}: {why}. Nothing is read from it or written to it any more")]
    Alarm {
        /// The circle.
        context: ContextId,
        /// What changed.
        why: String,
    },
    /// Somebody is in the circle whose admission may be on its way; nothing is read from or written
    /// to it until that has come, and without it this becomes an alarm.
    #[error("circle {context}: {why}. It is not entered until the patient's word for that arrives")]
    Suspect {
        /// The circle.
        context: ContextId,
        /// What changed.
        why: String,
    },
    /// The node did not answer.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Opens a circle after comparing it with what was pinned.
///
/// # Errors
/// [`GuardError::Alarm`] if anything differs, now or ever before; [`GuardError::Suspect`] while an
/// admission that is on its way may explain it.
pub async fn enter(
    circles: &dyn Circles,
    store: &Store,
    row: &CircleRow,
    now: UnixSeconds,
) -> Result<Box<dyn Circle>, GuardError> {
    let alarm = |why: String| GuardError::Alarm {
        context: row.context,
        why,
    };
    if let Some(why) = &row.alarm {
        return Err(alarm(why.clone()));
    }
    let circle = circles.open(row.context);
    let Some(difference) = compare(&*circle, store, row).await? else {
        if row.suspected_at.is_none() {
            return Ok(circle);
        }
        // Whoever was in the group has read what is in the circle, gone or not.
        let mut gone = store.suspects(row.context).await?;
        let admitted = whom_the_patient_admitted(&*circle, store, row).await?;
        gone.retain(|member| !admitted.contains(member));
        if gone.is_empty() {
            store.suspect_nobody(row.context).await?;
            return Ok(circle);
        }
        let why = format!(
            "readers came and went whom nobody admitted: {}",
            named(&gone)
        );
        store.raise_alarm(row.context, &why).await?;
        return Err(alarm(why));
    };
    let since = row.suspected_at.unwrap_or(now);
    // A clock that was set back does not make it wait longer.
    let is_young = now >= since && now.0 - since.0 < ADMISSION_WAIT_S;
    if difference.may_be_explained && is_young {
        store
            .suspect(row.context, &difference.strangers, since)
            .await?;
        let (context, why) = (row.context, difference.why);
        return Err(GuardError::Suspect { context, why });
    }
    store.raise_alarm(row.context, &difference.why).await?;
    Err(alarm(difference.why))
}

/// How long an admission may take to arrive after the member that it is for, in seconds; also one
/// that the patient's next key signed anew, after the change of the key.
const ADMISSION_WAIT_S: u64 = 30;
/// Why a member does not enter whom the patient admitted once.
pub const ADMISSION_ENDED: &str =
    "the patient's admission of this member ended: it reads nothing and writes nothing any more";

/// What the app answers where the circle's own entry is not there, and what that says to whoever
/// was invited: a node that is still catching up has a while.
const CIRCLE_BROKEN: &str = "circle_broken";
const UNDESCRIBED: &str = "its custodian took away, or overwrote, what the circle says of itself";

/// What differs between a circle and what was pinned.
struct Difference {
    /// In words for a person.
    why: String,
    /// Whether an admission that is on its way may explain it.
    may_be_explained: bool,
    /// The readers whom nothing explains.
    strangers: BTreeSet<MemberId>,
}

/// Compares a circle with what was pinned. Whom the patient admitted is asked of the circle itself,
/// once its code is known to be the pinned one.
async fn compare(
    circle: &dyn Circle,
    store: &Store,
    row: &CircleRow,
) -> Result<Option<Difference>, GuardError> {
    let pin = circle.pin().await?;
    if replaced(row, &pin).is_none() {
        let (why, may_be_explained) = match described_anew(circle, row).await {
            Err(GuardError::Source(error)) if error.refusal() == Some(CIRCLE_BROKEN) => {
                (Some(UNDESCRIBED.to_owned()), true)
            }
            described => (described?, false),
        };
        if let Some(why) = why {
            return Ok(Some(Difference {
                why,
                may_be_explained,
                strangers: BTreeSet::new(),
            }));
        }
    }
    let found = difference(row, &pin, &BTreeSet::new());
    let was_admitted = row.device != DeviceNumber::FIRST;
    if found.is_none() && !was_admitted {
        return Ok(None);
    }
    if row.kind == ContextKind::Exchange || replaced(row, &pin).is_some() {
        return Ok(found.map(|why| Difference {
            why,
            may_be_explained: false,
            strangers: BTreeSet::new(),
        }));
    }
    let admitted = whom_the_patient_admitted(circle, store, row).await?;
    let left = if was_admitted && !admitted.contains(&row.member) {
        Some(ADMISSION_ENDED.into())
    } else {
        difference(row, &pin, &admitted)
    };
    Ok(left.map(|why| Difference {
        why,
        may_be_explained: true,
        strangers: strangers(row, &pin, &admitted),
    }))
}

/// Whether a circle says other things of itself than the invitation by which it was entered, in
/// words for a person: by these its enrolments, its custodian's log and its anchors count.
async fn described_anew(
    circle: &dyn Circle,
    row: &CircleRow,
) -> Result<Option<String>, GuardError> {
    let is_custodian = row.member == row.custodian_member;
    let Some(invitation) = row.invitation.as_ref().filter(|_| !is_custodian) else {
        return Ok(None);
    };
    let invitation: Result<Invitation, _> = serde_json::from_str(invitation);
    let invitation = invitation.map_err(|_| StoreError::Corrupt {
        what: "an invitation",
        why: "it is none".into(),
    })?;
    let state = circle.circle().await?;
    let differs = !invitation.says.describes(&state);
    Ok(differs.then(|| "its custodian changed what the invitation says of it".into()))
}

/// Whom the patient admitted, as a circle of the pinned code shows it. A change of the patient's
/// key that was not taken in yet is, for the next key admits too.
async fn whom_the_patient_admitted(
    circle: &dyn Circle,
    store: &Store,
    row: &CircleRow,
) -> Result<BTreeSet<MemberId>, GuardError> {
    let state = circle.circle().await?;
    let Some(enrolled) = state.only() else {
        return Ok(BTreeSet::new());
    };
    let known = store.key_history(row.context, &enrolled.enrolment).await?;
    let history = if state.keys.iter().all(|key| known.keys.contains(key)) {
        known
    } else {
        take_key_changes(store, circle, &state)
            .await?
            .unwrap_or(known)
    };
    Ok(admitted(row, &state, &history))
}

/// Takes over which of the patient's keys counts, as the circle shows it: each change proves
/// itself. Nothing if nobody is enrolled.
///
/// # Errors
/// A store or a node that does not answer.
pub async fn take_key_changes(
    store: &Store,
    circle: &dyn Circle,
    state: &CircleState,
) -> Result<Option<KeyHistory>, GuardError> {
    let Some(enrolled) = state.only() else {
        return Ok(None);
    };
    let (context, recovery_key) = (state.context, enrolled.enrolment.recovery_key);
    for change in all_changes(circle).await? {
        if change.kind != EntryKind::KeyChange {
            continue;
        }
        let entry = circle.entry(change.kind, change.key).await?;
        let Some(EntryBody::KeyChange(said)) = entry.body else {
            continue;
        };
        // Changes of keys that are nobody's would fill the store.
        let follows = state.keys.contains(&said.change.old_key);
        let by = said
            .change
            .signed_by(context, recovery_key, &said.signature);
        if let Some(by) = by.filter(|_| follows) {
            let is_published = true;
            store
                .keep_key_change(context, (&said, by), is_published, state.now)
                .await?;
        }
    }
    Ok(Some(store.key_history(context, &enrolled.enrolment).await?))
}

/// Whom the patient let in: members that its present key admitted, each checked here. Whoever is
/// admitted itself knows the patient by that.
#[must_use]
pub fn admitted(row: &CircleRow, state: &CircleState, history: &KeyHistory) -> BTreeSet<MemberId> {
    let counts = |device: &&Device| {
        history.may_admit(device.admission.admitted_by)
            && device.admission.is_signed(row.context, &device.signature)
    };
    // Who was invited to enrol knows who the patient is, and nobody else's word counts for that.
    let is_own = |patient: &Enrolled| patient.enrolment.member == row.member;
    let is_invited = row.device == DeviceNumber::FIRST && row.member != row.custodian_member;
    if is_invited && !state.only().is_some_and(is_own) {
        return BTreeSet::new();
    }
    let devices = state.devices.iter().filter(counts);
    let mut admitted: BTreeSet<MemberId> = devices.map(|device| device.admission.member).collect();
    // Whoever was invited as the patient takes nobody else for the patient.
    if row.device != DeviceNumber::FIRST && admitted.contains(&row.member) {
        admitted.extend(state.only().map(|patient| patient.enrolment.member));
    }
    admitted
}

/// Whether this party is a member whose admission ended. In a frozen circle nobody can say.
#[must_use]
pub fn is_out(row: &CircleRow, state: &CircleState, history: &KeyHistory) -> bool {
    row.device != DeviceNumber::FIRST
        && !state.frozen
        && !history.is_frozen
        && !admitted(row, state, history).contains(&row.member)
}

/// Opens a circle for revocations and key changes alone, also one that is stopped because of its
/// readers: both prove themselves, are no secret, and must not wait for a person. Nothing if it
/// runs other code, or is in another group, than was pinned.
///
/// # Errors
/// A node that does not answer.
pub async fn enter_for_revocations(
    circles: &dyn Circles,
    row: &CircleRow,
) -> Result<Option<Box<dyn Circle>>, GuardError> {
    let circle = circles.open(row.context);
    let pin = circle.pin().await?;
    Ok(replaced(row, &pin).is_none().then_some(circle))
}

/// Looks at a circle that was stopped, when a person asks for it: it goes on if it is again what
/// was pinned.
///
/// # Errors
/// [`GuardError::Alarm`] with what still differs.
pub async fn resume(
    circles: &dyn Circles,
    store: &Store,
    row: &CircleRow,
) -> Result<(), GuardError> {
    let circle = circles.open(row.context);
    match compare(&*circle, store, row).await? {
        None => Ok(store.clear_alarm(row.context).await?),
        Some(Difference { why, .. }) => Err(GuardError::Alarm {
            context: row.context,
            why,
        }),
    }
}

/// Whether the code or the group is another than was pinned, in words for a person.
fn replaced(row: &CircleRow, pin: &Pin) -> Option<String> {
    if pin.application != row.application || pin.bytecode != row.bytecode {
        return Some("its custodian replaced the code that decides over the consents".into());
    }
    if pin.group != Some(row.group) {
        return Some("its context was moved to another group".into());
    }
    None
}

/// What differs between a circle and what was pinned, in words for a person; `admitted` are those
/// whom the patient let in.
#[must_use]
pub fn difference(row: &CircleRow, pin: &Pin, admitted: &BTreeSet<MemberId>) -> Option<String> {
    if let Some(why) = replaced(row, pin) {
        return Some(why);
    }
    let strangers = strangers(row, pin, admitted);
    (!strangers.is_empty()).then(|| {
        format!(
            "{} readers were added whom nobody invited: {}",
            strangers.len(),
            named(&strangers)
        )
    })
}

/// Some members by name, and no more than a person reads.
fn named(members: &BTreeSet<MemberId>) -> String {
    const NAMED_MAX: usize = 8;
    let names = members.iter().take(NAMED_MAX).map(ToString::to_string);
    names.collect::<Vec<_>>().join(", ")
}

/// The readers of a circle whom nothing explains.
fn strangers(row: &CircleRow, pin: &Pin, admitted: &BTreeSet<MemberId>) -> BTreeSet<MemberId> {
    let mut allowed = admitted.clone();
    allowed.extend([row.custodian_member, row.member]);
    let is_custodian = row.member == row.custodian_member;
    // A patient knows its own member key, and nobody who enrolled before it takes its place.
    allowed.extend(row.patient_member.filter(|_| is_custodian));
    if is_custodian && row.patient_member.is_none() {
        // The custodian does not know the patient's member key before the patient enrols.
        let others: Vec<_> = pin.members.difference(&allowed).copied().collect();
        if let [patient] = others.as_slice() {
            allowed.insert(*patient);
        }
    }
    pin.members.difference(&allowed).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{ApplicationId, BlobId, GroupId};

    fn row(member: u8) -> CircleRow {
        CircleRow {
            kind: ContextKind::Circle,
            context: ContextId([1; 32]),
            group: GroupId([2; 32]),
            label: "circle".into(),
            member: MemberId([member; 32]),
            custodian_member: MemberId([3; 32]),
            application: ApplicationId([4; 32]),
            bytecode: BlobId([5; 32]),
            invitation: None,
            patient_member: None,
            recipient_key: None,
            device: DeviceNumber::FIRST,
            entered_at: UnixSeconds(0),
            state_hash: None,
            consents_digest: None,
            alarm: None,
            suspected_at: None,
        }
    }

    fn pin(members: &[u8]) -> Pin {
        Pin {
            application: ApplicationId([4; 32]),
            bytecode: BlobId([5; 32]),
            group: Some(GroupId([2; 32])),
            members: members.iter().map(|m| MemberId([*m; 32])).collect(),
        }
    }

    fn differs(row: &CircleRow, pin: &Pin) -> Option<String> {
        difference(row, pin, &BTreeSet::new())
    }

    #[test]
    fn pushed_code_and_added_readers_are_noticed_by_patient_and_custodian() {
        let (patient, custodian) = (row(9), row(3));
        for good in [pin(&[3]), pin(&[3, 9])] {
            assert_eq!(differs(&patient, &good), None);
            assert_eq!(differs(&custodian, &good), None);
        }
        for row in [&patient, &custodian] {
            assert!(differs(row, &pin(&[3, 9, 7])).is_some_and(|why| why.contains("readers")));
            let pushed = Pin {
                bytecode: BlobId([6; 32]),
                ..pin(&[3, 9])
            };
            assert!(differs(row, &pushed).is_some_and(|why| why.contains("code")));
            let pushed = Pin {
                application: ApplicationId([6; 32]),
                ..pin(&[3, 9])
            };
            assert!(differs(row, &pushed).is_some_and(|why| why.contains("code")));
            for group in [Some(GroupId([6; 32])), None] {
                let moved = Pin {
                    group,
                    ..pin(&[3, 9])
                };
                assert!(differs(row, &moved).is_some_and(|why| why.contains("group")));
            }
        }
        assert!(differs(&patient, &pin(&[3, 7])).is_some());
        // Once the patient enrolled, nobody else takes the one place.
        let enrolled = CircleRow {
            patient_member: Some(MemberId([9; 32])),
            ..row(3)
        };
        assert_eq!(differs(&enrolled, &pin(&[3, 9])), None);
        let victim = CircleRow {
            patient_member: Some(MemberId([7; 32])),
            ..row(9)
        };
        assert!(differs(&victim, &pin(&[3, 9, 7])).is_some());
        assert!(differs(&enrolled, &pin(&[3, 7])).is_some());
        // Whom the patient admits is in, and nobody else is with them.
        let admitted = [MemberId([8; 32])].into();
        assert_eq!(difference(&enrolled, &pin(&[3, 8, 9]), &admitted), None);
        assert_eq!(difference(&patient, &pin(&[3, 8, 9]), &admitted), None);
        for row in [&enrolled, &patient] {
            assert!(difference(row, &pin(&[3, 7, 8, 9]), &admitted).is_some());
            let code = Pin {
                bytecode: BlobId([6; 32]),
                ..pin(&[3, 8, 9])
            };
            assert!(difference(row, &code, &admitted).is_some());
        }
    }
}

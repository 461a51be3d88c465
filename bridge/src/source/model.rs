//! A circle in the protocol's own types.
//!
//! Every value of these types has passed the checks of `convert`: commitments are those of the
//! terms and openings beside them, and paths lead from the consent's leaf to the root.

mod entries;
mod exchange;
mod log;
mod records;
mod tickets;

use std::cmp::Reverse;
use std::collections::BTreeSet;

use medsync_protocol::consent::{Commitment, Opening, Registry};
use medsync_protocol::device::{Admission, DeviceRole};
use medsync_protocol::ids::{
    Anchorer, ContextId, ContextKind, MemberId, SealKey, Sha256Digest, UnixSeconds,
};
use medsync_protocol::keychange::KeyChange;
use medsync_protocol::messages::Enrolment;
use medsync_protocol::receipt::{BlockHash, BlockNumber, Stage, TransactionHash};
use medsync_protocol::secrets::{Handle, RevocationSecret};
use medsync_protocol::signature::{PublicKey, Signature};
use medsync_protocol::terms::Terms;
use medsync_protocol::tree::{Leaf, Proof, Root};

use super::names::{ApplicationId, BlobId, Cursor, EntryKey, GroupId};

pub use entries::{Change, ChangePage, Entry, EntryBody, consents_digest};
pub use exchange::{FullRelease, NewRelease, ReceiptPage, Release, ReleasePage, SharedReceipt};
pub use log::{Head, LogEntry, LogPage};
pub use records::{FullRecord, NewRecord, Record, RecordPage};
pub use tickets::{PlacedTicket, Pool};

/// What a log's author is called whose admission ended.
pub const NO_MEMBER: &str = "no member";
/// What the author of a log is called whose key two members say to be theirs.
pub const DISPUTED: &str = "disputed";

/// Which code a context runs and who can read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The application that the context is bound to; the same for every version of the app.
    pub application: ApplicationId,
    /// The version that the next call runs, by content: a group's admin who pushes other code
    /// shows here before any of it has run.
    pub bytecode: BlobId,
    /// The group of the context, if it is in one.
    pub group: Option<GroupId>,
    /// The members of that group.
    pub members: BTreeSet<MemberId>,
}

/// What the custodian pinned when it opened the circle or exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CustodianPins {
    /// What the context is for.
    pub kind: ContextKind,
    /// The public half of the invitation's one-time key.
    pub invitation_key: PublicKey,
    /// The address under which consents are anchored.
    pub anchorer: Anchorer,
    /// The custodian's key for log entries.
    pub author_key: PublicKey,
    /// The custodian's X25519 key.
    pub seal_key: SealKey,
    /// Chain and contract.
    pub registry: Registry,
}

/// A circle at a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CircleState {
    /// The context.
    pub context: ContextId,
    /// Whoever opened the circle.
    pub custodian_member: MemberId,
    /// What they pinned.
    pub custodian: CustodianPins,
    /// Every enrolment whose signature verifies; more than one freezes the circle.
    pub enrolments: Vec<Enrolled>,
    /// The patient, if exactly one enrolment is valid.
    pub patient: Option<Enrolled>,
    /// That party's keys through time: the enrolled one first, the one that counts now last.
    pub keys: Vec<PublicKey>,
    /// Admissions; [`CircleState::admitted`] says which count.
    pub devices: Vec<Device>,
    /// Whether enrolments or key changes contradict each other: no consent counts.
    pub frozen: bool,
    /// Entries among the enrolments that do not verify.
    pub ignored: u64,
    /// How many entries there are.
    pub counts: Counts,
    /// The [`consents_digest`] of all its entries.
    pub consents_digest: Sha256Digest,
    /// The node's clock.
    pub now: UnixSeconds,
}

/// How many entries of each kind there are, valid or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Enrolments.
    pub enrolments: u64,
    /// Consents.
    pub consents: u64,
    /// Revocations.
    pub revocations: u64,
    /// Positions and news from the chain.
    pub anchors: u64,
    /// Log entries.
    pub log: u64,
    /// Places of logs in batches.
    pub heads: u64,
    /// Versions of records.
    pub records: u64,
    /// Receipts.
    pub receipts: u64,
    /// Released records.
    pub releases: u64,
}

impl CircleState {
    /// Who enrolled: the patient of a circle, the recipient of an exchange; nobody if it is frozen.
    #[must_use]
    pub fn party(&self) -> Option<&Enrolled> {
        self.patient.as_ref().filter(|_| !self.frozen)
    }

    /// The admissions that count, each checked here: those by the patient's present key, as
    /// [`KeyHistory`](medsync_protocol::keychange::KeyHistory) says. None if the circle is frozen.
    pub fn admitted(&self) -> impl Iterator<Item = &Device> {
        let present = self.keys.last().filter(|_| !self.frozen);
        self.ever_admitted()
            .filter(move |device| present == Some(&device.admission.admitted_by))
    }

    /// Whom one of the patient's keys admitted, each admission checked here; also if that ended.
    pub fn ever_admitted(&self) -> impl Iterator<Item = &Device> {
        self.devices
            .iter()
            .filter(|device| self.was_admitted(device))
    }

    fn was_admitted(&self, device: &Device) -> bool {
        let admission = &device.admission;
        self.keys.contains(&admission.admitted_by)
            && admission.is_signed(self.context, &device.signature)
    }

    /// Whether another member says, too, that this key signs its log entries.
    fn is_disputed(&self, author_key: PublicKey, member: MemberId) -> bool {
        let mut devices = self.devices.iter();
        devices.any(|other| {
            other.author_key == Some(author_key)
                && other.admission.member != member
                && self.was_admitted(other)
        })
    }

    /// A member's admission that counts, if one does.
    #[must_use]
    pub fn admission_of(&self, member: MemberId) -> Option<Admission> {
        self.first_of(member, self.admitted())
    }

    /// A member's last admission by a key of the patient's, or by one that was there before it;
    /// also if it ended. What a thief admitted with a key of its own comes after that, and is no
    /// part of it.
    #[must_use]
    pub fn last_admission_of(&self, member: MemberId, by: PublicKey) -> Option<Admission> {
        let place = self.keys.iter().position(|key| *key == by);
        let until = place.map_or(self.keys.len(), |place| place + 1);
        let known = self.keys.get(..until).unwrap_or_default();
        let ever = self.ever_admitted();
        let of_known = ever.filter(|device| known.contains(&device.admission.admitted_by));
        self.first_of(member, of_known)
    }

    /// By the latest key, and of several by one key the one that allows least: nobody can say
    /// which of them came last.
    fn first_of<'a>(
        &self,
        member: MemberId,
        devices: impl Iterator<Item = &'a Device>,
    ) -> Option<Admission> {
        let place = |admission: &Admission| {
            let mut keys = self.keys.iter();
            keys.position(|key| *key == admission.admitted_by)
        };
        devices
            .map(|device| device.admission)
            .filter(|admission| admission.member == member)
            .min_by_key(|admission| {
                let decides = admission.device.role() != DeviceRole::Relative;
                (Reverse(place(admission)), decides, admission.device)
            })
    }

    /// Whose log entries count, by what they are called: the custodian, whoever enrolled, and
    /// members whom one of the patient's keys admitted, each admission checked here. What a member
    /// wrote stays when its admission ends; whoever it is then, it is called no member. Whose a key
    /// is that two say to be theirs nobody can tell.
    pub fn authors(&self) -> impl Iterator<Item = (PublicKey, &'static str)> + '_ {
        let enrolled = self.enrolments.iter();
        // Each signature is checked once.
        let counting: Vec<&Device> = self.admitted().collect();
        let name = move |member: MemberId| {
            let admission = self.first_of(member, counting.iter().copied());
            match admission.map(|found| found.device.role()) {
                Some(DeviceRole::Own) => "patient",
                Some(role) => role.name(),
                None => NO_MEMBER,
            }
        };
        [(self.custodian.author_key, "custodian")]
            .into_iter()
            .chain(enrolled.map(|found| (found.enrolment.author_key, "patient")))
            .chain(self.ever_admitted().filter_map(move |device| {
                let author_key = device.author_key?;
                let member = device.admission.member;
                let is_disputed = self.is_disputed(author_key, member);
                let called = if is_disputed { DISPUTED } else { name(member) };
                Some((author_key, called))
            }))
    }

    /// The one who enrolled, also if key changes that contradict each other froze everything.
    #[must_use]
    pub fn only(&self) -> Option<&Enrolled> {
        match self.enrolments.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }
}

/// A valid enrolment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// The entry.
    pub key: EntryKey,
    /// The patient's keys.
    pub enrolment: Enrolment,
    /// When it was written, by its writer's clock.
    pub recorded_at: UnixSeconds,
}

/// A change of the enrolled party's key, with its signature; whoever keeps it checks that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedKeyChange {
    /// The change.
    pub change: KeyChange,
    /// By the old key or the recovery key.
    pub signature: Signature,
}

/// A member whom the patient admits: a further device, a relative, a guardian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Who is admitted, and by which key.
    pub admission: Admission,
    /// The key that signs the member's log entries, once the member itself said so.
    pub author_key: Option<PublicKey>,
    /// The patient's signature; whoever lets the member in checks it.
    pub signature: Signature,
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The entry.
    pub key: EntryKey,
    /// Whether the same content was there already and nothing was written.
    pub existing: bool,
}

/// What a grant did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The entry.
    pub key: EntryKey,
    /// The consent.
    pub commitment: Commitment,
    /// Whether the same consent was there already and nothing was written.
    pub existing: bool,
}

/// How a consent stands in its circle: the first that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsentState {
    /// A revocation opens its handle.
    Revoked,
    /// The patient's key was changed since: it permits nothing more.
    OldKey,
    /// The circle is frozen.
    Frozen,
    /// Its validity has not begun.
    NotYet,
    /// Its validity is over.
    Expired,
    /// It permits what it says.
    InForce,
}

/// A consent that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consent {
    /// The entry.
    pub key: EntryKey,
    /// Its name, recomputed from terms and opening.
    pub commitment: Commitment,
    /// What it says.
    pub terms: Terms,
    /// The one encoding of what it says.
    pub terms_bytes: Vec<u8>,
    /// What the commitment hides.
    pub opening: Opening,
    /// The patient's signature; [`Consent::is_signed`] checks it.
    pub signature: Signature,
    /// How it stands.
    pub state: ConsentState,
    /// When it was written, by its writer's clock.
    pub recorded_at: UnixSeconds,
    /// When the first revocation was written, by its writer's clock.
    pub revoked_at: Option<UnixSeconds>,
    /// Where it stands in batches, the furthest first.
    pub anchors: Vec<Position>,
}

impl Consent {
    /// The leaf by which it is anchored.
    #[must_use]
    pub fn leaf(&self) -> Leaf {
        self.commitment.leaf(&self.signature)
    }

    /// Whether the patient's key in the opening signed it for this registry. Costs about a
    /// millisecond; a caller that anchors checks it, so that its own node cannot make it anchor
    /// what nobody signed.
    #[must_use]
    pub fn is_signed(&self, registry: Registry) -> bool {
        let message = self.commitment.grant_message(registry);
        self.opening.patient_key.verifies(message, &self.signature)
    }
}

/// A consent's place in a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The entry.
    pub key: EntryKey,
    /// The batch's root, to which the path leads.
    pub root: Root,
    /// The path.
    pub proof: Proof,
    /// Who anchors it.
    pub anchorer: Anchorer,
    /// When the place was written, by its writer's clock.
    pub sealed_at: UnixSeconds,
    /// When a submission was written, if one was.
    pub submitted_at: Option<UnixSeconds>,
    /// What a witness wrote about the batch on chain; a verifier asks the chain itself.
    pub submission: Option<Submission>,
}

impl Position {
    /// How far the batch is.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match &self.submission {
            None => Stage::Sealed,
            Some(Submission { block: None, .. }) => Stage::Submitted,
            Some(Submission { block: Some(_), .. }) => Stage::Anchored,
        }
    }
}

/// A batch on its way to the chain or on it, as somebody saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submission {
    /// The transaction.
    pub transaction: TransactionHash,
    /// The block in which it was accepted.
    pub block: Option<BlockReport>,
}

/// A block with its time, as somebody saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockReport {
    /// Its number.
    pub number: BlockNumber,
    /// Its hash.
    pub hash: BlockHash,
    /// Its time.
    pub time: UnixSeconds,
}

/// How far a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageReport {
    /// The leaf has its place; nothing was sent yet.
    Sealed,
    /// The batch was sent.
    Submitted {
        /// The transaction.
        transaction: TransactionHash,
    },
    /// The batch is on the chain.
    Anchored {
        /// The transaction.
        transaction: TransactionHash,
        /// Where it was accepted.
        block: BlockReport,
    },
}

/// Where a consent stands, to be written into its circle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnchorReport {
    /// The consent.
    pub commitment: Commitment,
    /// Its handle, by which it is found.
    pub handle: Handle,
    /// The batch's root.
    pub root: Root,
    /// The leaf's place and path.
    pub proof: Proof,
    /// Who anchors it.
    pub anchorer: Anchorer,
    /// How far the batch is.
    pub stage: StageReport,
}

/// A page of consents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsentPage {
    /// The consents that count.
    pub consents: Vec<Consent>,
    /// Entries of this page that do not verify, cannot be read, or repeat one that does.
    pub ignored: u64,
    /// Where the next page starts; nothing after the last.
    pub next: Option<Cursor>,
}

/// A revocation: it counts against whatever consent has the handle that it opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The entry.
    pub key: EntryKey,
    /// The handle, recomputed from the two below.
    pub handle: Handle,
    /// What opens it; no longer secret.
    pub secret: RevocationSecret,
    /// The other half of what opens it.
    pub claim_key: PublicKey,
    /// When it was written, by its writer's clock.
    pub recorded_at: UnixSeconds,
}

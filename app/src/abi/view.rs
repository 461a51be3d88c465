//! What callers get.

use serde::Serialize;

use crate::store::Key;

use super::{
    CircleInput, CodeInput, DeviceInput, EnrolmentInput, HeadInput, KeyChangeInput, LogInput,
    OpeningInput, PoolInput, SignatureInput, TicketInput,
};

/// What a write did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Written {
    /// The entry's key.
    pub key: String,
    /// Whether the same content was there already and nothing was written.
    pub existing: bool,
}

impl Written {
    /// An entry that this call wrote.
    #[must_use]
    pub fn new(key: Key) -> Self {
        Self {
            key: key.to_string(),
            existing: false,
        }
    }

    /// An entry that was there already.
    #[must_use]
    pub fn there(key: Key) -> Self {
        Self {
            key: key.to_string(),
            existing: true,
        }
    }
}

/// What a grant did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Granted {
    /// The entry's key.
    pub key: String,
    /// The consent's name.
    pub commitment: String,
    /// Whether the same consent was there already and nothing was written.
    pub existing: bool,
}

/// The circle at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CircleView {
    /// This context.
    pub context: String,
    /// The custodian's member key: whoever called init.
    pub custodian_member: String,
    /// What the custodian pinned.
    pub custodian: CircleInput,
    /// Every valid enrolment; more than one freezes the circle.
    pub enrolments: Vec<EnrolmentView>,
    /// The patient or recipient, if exactly one enrolment is valid.
    pub patient: Option<EnrolmentView>,
    /// That party's keys through time: the enrolled one first, the one that counts now last.
    pub keys: Vec<String>,
    /// Whom that party admitted, also if that ended since, and whoever says so.
    pub devices: Vec<DeviceView>,
    /// Whether enrolments or key changes contradict each other: no consent counts.
    pub frozen: bool,
    /// Entries among the enrolments that do not verify.
    pub ignored: u64,
    /// How many entries there are, valid or not.
    pub counts: Counts,
    /// SHA-256 of the keys and digests of all revocations and consents, in the walk's order: while
    /// it is the same, no consent was granted or revoked.
    pub consents_digest: String,
    /// This node's clock.
    pub now: u64,
}

/// How many entries of each kind there are, valid or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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

/// A valid enrolment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EnrolmentView {
    /// The entry's key.
    pub key: String,
    /// The patient's keys.
    pub enrolment: EnrolmentInput,
    /// When it was written, by its writer's clock.
    pub recorded_at: u64,
}

/// A key change that somebody signed who may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyChangeView {
    /// The entry's key.
    pub key: String,
    /// The change.
    pub change: KeyChangeInput,
    /// `old` or `recovery`: whose signature it is.
    pub by: String,
    /// When it was written, by its writer's clock.
    pub recorded_at: u64,
}

/// A consent that counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConsentView {
    /// The entry's key.
    pub key: String,
    /// The consent's name.
    pub commitment: String,
    /// The terms' borsh, base64.
    pub terms: String,
    /// What the commitment hides.
    pub opening: OpeningInput,
    /// The patient's signature.
    pub signature: SignatureInput,
    /// `revoked`, `frozen`, `old_key`, `not_yet`, `expired` or `in_force`: the first that applies.
    pub state: String,
    /// When it was written, by its writer's clock.
    pub recorded_at: u64,
    /// When the first revocation was written, by its writer's clock.
    pub revoked_at: Option<u64>,
    /// Where it stands in batches, the furthest first.
    pub anchors: Vec<AnchorView>,
}

/// A position whose path leads from the consent's leaf to the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AnchorView {
    /// The entry's key.
    pub key: String,
    /// The batch's root.
    pub root: String,
    /// The leaf's place.
    pub index: u64,
    /// The siblings from the leaf up.
    pub siblings: Vec<String>,
    /// Who anchors it.
    pub anchorer: String,
    /// `sealed`, `submitted` or `anchored`, as custodian or patient last saw it.
    pub stage: String,
    /// When the position was written, by its writer's clock.
    pub sealed_at: u64,
    /// When the submission was written.
    pub submitted_at: Option<u64>,
    /// The transaction.
    pub transaction_hash: Option<String>,
    /// The block's number.
    pub block_number: Option<u64>,
    /// The block's hash.
    pub block_hash: Option<String>,
    /// The block's time.
    pub block_time: Option<u64>,
}

/// A page of consents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConsentPage {
    /// The consents that count.
    pub consents: Vec<ConsentView>,
    /// Entries of this page that do not verify, cannot be read, or repeat one that does.
    pub ignored: u64,
    /// Where the next page starts; nothing after the last.
    pub next: Option<String>,
}

/// A revocation: it counts against whatever consent has the handle that it opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RevocationView {
    /// The entry's key.
    pub key: String,
    /// The handle that it opens.
    pub handle: String,
    /// The secret; no longer one.
    pub secret: String,
    /// The claim key.
    pub claim_key: String,
    /// When it was written, by its writer's clock.
    pub recorded_at: u64,
}

/// A log entry whose author signed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogView {
    /// The entry's key.
    pub key: String,
    /// What was signed.
    pub entry: LogInput,
    /// Its digest.
    pub digest: String,
    /// When it was written here, by its writer's clock.
    pub recorded_at: u64,
}

/// A part of one author's log, by number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogPage {
    /// The entries that count, by number; two with one number prove a fork.
    pub entries: Vec<LogView>,
    /// The number after the last that was looked at; nothing if the next is not here.
    pub next: Option<u64>,
}

/// A place of a log in a batch; the path leads from the head's leaf to the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeadView {
    /// The entry's key.
    pub key: String,
    /// The place.
    pub head: HeadInput,
    /// When it was written, by its writer's clock.
    pub recorded_at: u64,
}

/// A record without its payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordView {
    /// The entry's key.
    pub key: String,
    /// The record.
    pub record: String,
    /// Its version.
    pub version: u32,
    /// The FHIR resource type.
    pub resource_type: String,
    /// Classes as concepts.
    pub classes: Vec<Vec<CodeInput>>,
    /// Clinical codes as concepts.
    pub codes: Vec<Vec<CodeInput>>,
    /// Security labels as concepts.
    pub labels: Vec<Vec<CodeInput>>,
    /// Who made it.
    pub authors: Vec<String>,
    /// The data's own date.
    pub data_date: Option<u64>,
    /// SHA-256 of the encrypted payload.
    pub payload_sha256: String,
    /// Length of the encrypted payload.
    pub payload_bytes: u64,
    /// The record's key sealed to the patient; base64.
    pub key_for_patient: String,
    /// The record's key sealed to the custodian; base64.
    pub key_for_custodian: String,
    /// When it was written, by its writer's clock.
    pub recorded_at: u64,
}

/// A record with its payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FullRecord {
    /// The description.
    pub record: RecordView,
    /// The encrypted payload, base64; nothing if it has not arrived or was altered.
    pub payload: Option<String>,
}

/// A part of a payload that is larger than one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FullPart {
    /// SHA-256 of the part, by which it goes.
    pub digest: String,
    /// The part in base64, if it has arrived.
    pub payload: Option<String>,
}

/// A page of records, each in its latest version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordPage {
    /// The records.
    pub records: Vec<RecordView>,
    /// Entries of this page that are not the custodian's or cannot be read.
    pub ignored: u64,
    /// Where the next page starts; nothing after the last.
    pub next: Option<String>,
}

/// A receipt under the custodian's stamp; whether it is valid, a verifier says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReceiptView {
    /// The entry's key.
    pub key: String,
    /// By which name this exchange knows the patient.
    pub patient: String,
    /// The receipt's JSON, base64.
    pub receipt: String,
    /// When it was written, by its writer's clock.
    pub recorded_at: u64,
}

/// A page of receipts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReceiptPage {
    /// The receipts.
    pub receipts: Vec<ReceiptView>,
    /// Entries of this page that are not the custodian's or cannot be read.
    pub ignored: u64,
    /// Where the next page starts; nothing after the last.
    pub next: Option<String>,
}

/// A released record without its payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReleaseView {
    /// The entry's key.
    pub key: String,
    /// The digest of the custodian's RELEASED entry in this exchange.
    pub entry: String,
    /// The digest of its entry in the circle's log, which the sealed key names.
    pub logged_as: String,
    /// The request that it answers.
    pub request: String,
    /// The circle of the record.
    pub circle: String,
    /// The record.
    pub record: String,
    /// Its version.
    pub version: u32,
    /// The FHIR resource type.
    pub resource_type: String,
    /// SHA-256 of the encrypted payload.
    pub payload_sha256: String,
    /// The record's key sealed to the request's reply key; base64.
    pub sealed_key: String,
    /// When it was written, by its writer's clock.
    pub recorded_at: u64,
}

/// A released record with its payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FullRelease {
    /// The description.
    pub release: ReleaseView,
    /// The encrypted payload, base64; nothing if it has not arrived or was altered.
    pub payload: Option<String>,
}

/// A page of released records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReleasePage {
    /// The records.
    pub releases: Vec<ReleaseView>,
    /// Entries of this page that are not the custodian's, that no log entry covers, or that cannot
    /// be read.
    pub ignored: u64,
    /// Where the next page starts; nothing after the last.
    pub next: Option<String>,
}

/// One entry of the walk over everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// `circle`, `enrolment`, `key_change`, `consent`, `revocation`, `anchor`, `log`, `head`,
    /// `record`, `receipt` or `release`.
    pub kind: String,
    /// The entry's key.
    pub key: String,
    /// Changes if and only if the entry does.
    pub digest: String,
}

/// A page of the walk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChangePage {
    /// The entries, in the walk's order.
    pub entries: Vec<Change>,
    /// Where the next page starts; nothing after the last.
    pub next: Option<String>,
}

/// An admission that the key which it names signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceView {
    /// The entry's key.
    pub key: String,
    /// What was signed; the author key is shown if the member itself wrote it.
    pub device: DeviceInput,
    /// By the key that it names.
    pub signature: SignatureInput,
    /// `own`, `relative` or `guardian`.
    pub role: String,
    /// Whether it counts: signed by a key of the patient, and not ended by the recovery key since.
    pub admitted: bool,
    /// When, by its writer's clock.
    pub recorded_at: u64,
}

/// A reward pool that the custodian makes known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PoolView {
    /// The entry's key.
    pub key: String,
    /// What it is; its name on chain follows from that.
    pub pool: PoolInput,
    /// When, by its writer's clock.
    pub recorded_at: u64,
}

/// A ticket with its place in a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TicketView {
    /// The entry's key.
    pub key: String,
    /// The ticket and its place.
    pub ticket: TicketInput,
    /// When, by its writer's clock.
    pub recorded_at: u64,
}

/// One entry, as its kind shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EntryView {
    /// Its kind.
    pub kind: String,
    /// Its key.
    pub key: String,
    /// The member who wrote it.
    pub owner: Option<String>,
    /// Whether it counts; else all that follows but this is absent.
    pub valid: bool,
    /// Of a consent that is written down more than once: which it is, where another copy is shown.
    pub copy_of: Option<String>,
    /// Of an enrolment.
    pub enrolment: Option<EnrolmentView>,
    /// Of a key change.
    pub key_change: Option<KeyChangeView>,
    /// Of an admission.
    pub device: Option<DeviceView>,
    /// Of a consent, with its present state.
    pub consent: Option<ConsentView>,
    /// Of a revocation.
    pub revocation: Option<RevocationView>,
    /// Of an anchor entry: the consent that it is about.
    pub anchored: Option<ConsentView>,
    /// Of a log entry.
    pub log: Option<LogView>,
    /// Of a log's place in a batch.
    pub head: Option<HeadView>,
    /// Of a record.
    pub record: Option<RecordView>,
    /// Of a reward pool.
    pub pool: Option<PoolView>,
    /// Of a ticket.
    pub ticket: Option<TicketView>,
    /// Of a receipt.
    pub receipt: Option<ReceiptView>,
    /// Of a released record.
    pub release: Option<ReleaseView>,
}

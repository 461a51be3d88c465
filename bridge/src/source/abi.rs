//! The app's interface, as it stands in JSON.
//!
//! The app's own types live in the app, which runs inside a node; these mirror them. The texts of
//! the interface are the protocol's own spellings, so that reading one of these parses every
//! value strictly; an unknown or missing field is an error too, because a pinned app has neither.
//! A test holds every method and type here to the description that the app's build writes.

use medsync_protocol::audit::{EntryDigest, Pseudonym, Seq};
use medsync_protocol::codes::Code;
use medsync_protocol::consent::{Commitment, Opening};
use medsync_protocol::ids::{
    Anchorer, AuthorId, ChainId, ContextId, ContractAddress, MemberId, RecordId, Salt, SealKey,
    Sha256Digest, UnixSeconds,
};
use medsync_protocol::messages::Enrolment;
use medsync_protocol::receipt::{BlockHash, BlockNumber, TransactionHash};
use medsync_protocol::secrets::Handle;
use medsync_protocol::signature::{PublicKey, Signature};
use medsync_protocol::ticket::{PoolId, PoolNonce};
use medsync_protocol::tree::{Root, Sibling};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::names::{ChangeDigest, Cursor, EntryKey, EntryKind, PageLimit};

pub(super) use call::Call;

mod call;

/// The arguments of `init`.
pub(super) fn init(circle: &CircleInput) -> Value {
    json!({ "circle": circle })
}

/// Makes types that read and write exactly the fields of the interface's type of the same name.
macro_rules! mirror {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, Serialize, Deserialize)]
            #[serde(deny_unknown_fields)]
            pub(super) struct $name {
                $(pub(super) $field: $type,)*
            }
        )*
    };
}

/// Concepts: each a list of codings of one meaning.
pub(super) type Concepts = Vec<Vec<Code>>;

mirror! {
    /// What the custodian pins when it opens a circle.
    CircleInput {
        kind: String,
        invitation_key: PublicKey,
        custodian_address: Anchorer,
        author_key: PublicKey,
        seal_key: SealKey,
        chain_id: ChainId,
        registry: ContractAddress,
    }
    /// A version of a record, as the custodian writes it; payload and keys in base64.
    RecordInput {
        record: RecordId,
        version: u32,
        resource_type: String,
        classes: Concepts,
        codes: Concepts,
        labels: Concepts,
        authors: Vec<AuthorId>,
        data_date: Option<UnixSeconds>,
        payload: String,
        key_for_patient: String,
        key_for_custodian: String,
    }
    /// Where a consent stands in a batch, as somebody writes it down.
    AnchorInput {
        commitment: Commitment,
        handle: Handle,
        root: Root,
        index: u64,
        siblings: Vec<Sibling>,
        anchorer: Anchorer,
        stage: String,
        transaction_hash: Option<TransactionHash>,
        block_number: Option<BlockNumber>,
        block_hash: Option<BlockHash>,
        block_time: Option<UnixSeconds>,
    }
    /// A signed log entry; the body in base64.
    LogInput {
        author_key: PublicKey,
        seq: Seq,
        prev: EntryDigest,
        kind: String,
        body: String,
        at: UnixSeconds,
        salt: Salt,
        signature: Signature,
    }
    /// Up to which entry a log is in a batch, and where.
    HeadInput {
        author_key: PublicKey,
        seq: Seq,
        digest: EntryDigest,
        salt: Salt,
        root: Root,
        index: u64,
        siblings: Vec<Sibling>,
    }
    /// A receipt in base64, and whose.
    ReceiptInput {
        patient: Pseudonym,
        receipt: String,
    }
    /// A record of a release; payload and key in base64.
    ReleaseInput {
        entry_seq: Seq,
        entry: EntryDigest,
        circle: ContextId,
        record: RecordId,
        version: u32,
        resource_type: String,
        payload: String,
        sealed_key: String,
    }
    /// A change of the enrolled party's key.
    KeyChangeInput {
        old_key: PublicKey,
        new_key: PublicKey,
        seq: u64,
        signature: Signature,
    }
    /// A member whom the patient admits.
    DeviceInput {
        member: MemberId,
        device: u32,
        admitted_by: PublicKey,
        author_key: Option<PublicKey>,
    }
    /// A reward pool.
    PoolInput {
        contract: ContractAddress,
        funder: ContractAddress,
        nonce: PoolNonce,
        recipient: PublicKey,
        claim_end: UnixSeconds,
        label: String,
    }
    /// A reward ticket with its place in a batch.
    TicketInput {
        pool_id: PoolId,
        anchorer: Anchorer,
        handle: Handle,
        claim_until: UnixSeconds,
        salt: Salt,
        root: Root,
        index: u64,
        siblings: Vec<Sibling>,
    }
    /// What a write did.
    Written {
        key: EntryKey,
        existing: bool,
    }
    /// What a grant did.
    Granted {
        key: EntryKey,
        commitment: Commitment,
        existing: bool,
    }
    /// The circle at a glance.
    CircleView {
        context: ContextId,
        custodian_member: MemberId,
        custodian: CircleInput,
        enrolments: Vec<EnrolmentView>,
        patient: Option<EnrolmentView>,
        keys: Vec<PublicKey>,
        devices: Vec<DeviceView>,
        frozen: bool,
        ignored: u64,
        counts: Counts,
        consents_digest: Sha256Digest,
        now: UnixSeconds,
    }
    /// How many entries of each kind there are.
    Counts {
        enrolments: u64,
        consents: u64,
        revocations: u64,
        anchors: u64,
        log: u64,
        heads: u64,
        records: u64,
        receipts: u64,
        releases: u64,
    }
    /// A valid enrolment.
    EnrolmentView {
        key: EntryKey,
        enrolment: Enrolment,
        recorded_at: UnixSeconds,
    }
    /// A key change that somebody signed who may.
    KeyChangeView {
        key: EntryKey,
        change: KeyChangeInput,
        by: String,
        recorded_at: UnixSeconds,
    }
    /// A member whom one of the patient's keys admitted.
    DeviceView {
        key: EntryKey,
        device: DeviceInput,
        signature: Signature,
        role: String,
        admitted: bool,
        recorded_at: UnixSeconds,
    }
    /// A reward pool under the custodian's stamp.
    PoolView {
        key: EntryKey,
        pool: PoolInput,
        recorded_at: UnixSeconds,
    }
    /// A ticket under the custodian's stamp.
    TicketView {
        key: EntryKey,
        ticket: TicketInput,
        recorded_at: UnixSeconds,
    }
    /// A consent that counts; the terms in base64.
    ConsentView {
        key: EntryKey,
        commitment: Commitment,
        terms: String,
        opening: Opening,
        signature: Signature,
        state: String,
        recorded_at: UnixSeconds,
        revoked_at: Option<UnixSeconds>,
        anchors: Vec<AnchorView>,
    }
    /// A position in a batch.
    AnchorView {
        key: EntryKey,
        root: Root,
        index: u64,
        siblings: Vec<Sibling>,
        anchorer: Anchorer,
        stage: String,
        sealed_at: UnixSeconds,
        submitted_at: Option<UnixSeconds>,
        transaction_hash: Option<TransactionHash>,
        block_number: Option<BlockNumber>,
        block_hash: Option<BlockHash>,
        block_time: Option<UnixSeconds>,
    }
    /// A page of consents.
    ConsentPage {
        consents: Vec<ConsentView>,
        ignored: u64,
        next: Option<String>,
    }
    /// A revocation; the secret is none any more.
    RevocationView {
        key: EntryKey,
        handle: Handle,
        secret: String,
        claim_key: PublicKey,
        recorded_at: UnixSeconds,
    }
    /// A log entry whose author signed it.
    LogView {
        key: EntryKey,
        entry: LogInput,
        digest: EntryDigest,
        recorded_at: UnixSeconds,
    }
    /// A part of one author's log.
    LogPage {
        entries: Vec<LogView>,
        next: Option<u64>,
    }
    /// A place of a log in a batch.
    HeadView {
        key: EntryKey,
        head: HeadInput,
        recorded_at: UnixSeconds,
    }
    /// A record without its payload; the keys in base64.
    RecordView {
        key: EntryKey,
        record: RecordId,
        version: u32,
        resource_type: String,
        classes: Concepts,
        codes: Concepts,
        labels: Concepts,
        authors: Vec<AuthorId>,
        data_date: Option<UnixSeconds>,
        payload_sha256: Sha256Digest,
        payload_bytes: u64,
        key_for_patient: String,
        key_for_custodian: String,
        recorded_at: UnixSeconds,
    }
    /// A record with its payload in base64.
    FullRecord {
        record: RecordView,
        payload: Option<String>,
    }
    /// A part of a large payload, in base64.
    FullPart {
        digest: Sha256Digest,
        payload: Option<String>,
    }
    /// A page of records.
    RecordPage {
        records: Vec<RecordView>,
        ignored: u64,
        next: Option<String>,
    }
    /// A receipt under the custodian's stamp, in base64.
    ReceiptView {
        key: EntryKey,
        patient: Pseudonym,
        receipt: String,
        recorded_at: UnixSeconds,
    }
    /// A page of receipts.
    ReceiptPage {
        receipts: Vec<ReceiptView>,
        ignored: u64,
        next: Option<String>,
    }
    /// A released record without its payload; the key in base64.
    ReleaseView {
        key: EntryKey,
        entry: EntryDigest,
        logged_as: EntryDigest,
        request: EntryDigest,
        circle: ContextId,
        record: RecordId,
        version: u32,
        resource_type: String,
        payload_sha256: Sha256Digest,
        sealed_key: String,
        recorded_at: UnixSeconds,
    }
    /// A released record with its payload in base64.
    FullRelease {
        release: ReleaseView,
        payload: Option<String>,
    }
    /// A page of released records.
    ReleasePage {
        releases: Vec<ReleaseView>,
        ignored: u64,
        next: Option<String>,
    }
    /// One entry of the walk.
    Change {
        kind: String,
        key: EntryKey,
        digest: ChangeDigest,
    }
    /// A page of the walk.
    ChangePage {
        entries: Vec<Change>,
        next: Option<String>,
    }
    /// One entry, as its kind shows it.
    EntryView {
        kind: String,
        key: EntryKey,
        owner: Option<MemberId>,
        valid: bool,
        copy_of: Option<Commitment>,
        enrolment: Option<EnrolmentView>,
        key_change: Option<KeyChangeView>,
        device: Option<DeviceView>,
        consent: Option<ConsentView>,
        revocation: Option<RevocationView>,
        anchored: Option<ConsentView>,
        log: Option<LogView>,
        head: Option<HeadView>,
        record: Option<RecordView>,
        pool: Option<PoolView>,
        ticket: Option<TicketView>,
        receipt: Option<ReceiptView>,
        release: Option<ReleaseView>,
    }
}

#[cfg(test)]
mod tests;

//! What callers give.

use serde::Serialize;

use super::object::read_from_object;

/// What the custodian pins when it opens a circle or an exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CircleInput {
    /// `circle` or `exchange`.
    pub kind: String,
    /// The public half of the invitation's one-time Stark key.
    pub invitation_key: String,
    /// The custodian's Starknet address, under which consents are anchored.
    pub custodian_address: String,
    /// The custodian's Stark key for log entries.
    pub author_key: String,
    /// The custodian's X25519 key.
    pub seal_key: String,
    /// The chain, as a felt.
    pub chain_id: String,
    /// The `ConsentRegistry` on it.
    pub registry: String,
}

/// The keys that the patient brings into a circle, or the recipient into an exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EnrolmentInput {
    /// The party's member key in this context.
    pub member: String,
    /// The Stark key that signs grants, or to which they are made.
    pub party_key: String,
    /// The Stark key that replaces it.
    pub recovery_key: String,
    /// The Stark key that signs logins.
    pub login_key: String,
    /// The Stark key that signs log entries.
    pub author_key: String,
    /// The X25519 key to which records are sealed.
    pub seal_key: String,
}

/// A change of the enrolled party's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyChangeInput {
    /// The key that permits nothing more.
    pub old_key: String,
    /// The key that takes its place.
    pub new_key: String,
    /// The number of the change, from 0.
    pub seq: u64,
    /// By the old key or the recovery key.
    pub signature: SignatureInput,
}

/// A Stark-curve signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SignatureInput {
    /// First half, a felt.
    pub r: String,
    /// Second half, a felt.
    pub s: String,
}

/// The opening of a consent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpeningInput {
    /// The patient's key.
    pub patient_key: String,
    /// The recipient's key.
    pub grantee: String,
    /// First second of validity.
    pub not_before: u64,
    /// First second after it, or 0.
    pub not_after: u64,
    /// What a revocation opens.
    pub handle: String,
    /// The commitment's salt.
    pub salt: String,
}

/// One code of one system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CodeInput {
    /// The code system's URI.
    pub system: String,
    /// The code.
    pub code: String,
}

/// A version of a record; only the custodian writes these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordInput {
    /// The record's random 32 bytes, the same for all its versions.
    pub record: String,
    /// 1 for a new record, else the last version and one.
    pub version: u32,
    /// The FHIR resource type, for filters.
    pub resource_type: String,
    /// Classes as concepts: each a list of codings of one meaning.
    pub classes: Vec<Vec<CodeInput>>,
    /// Clinical codes as concepts.
    pub codes: Vec<Vec<CodeInput>>,
    /// Security labels as concepts.
    pub labels: Vec<Vec<CodeInput>>,
    /// Who made it, each the SHA-256 of the FHIR reference.
    pub authors: Vec<String>,
    /// The data's own date.
    pub data_date: Option<u64>,
    /// The resource, encrypted under the record's own key; base64.
    pub payload: String,
    /// The record's key sealed to the patient; base64.
    pub key_for_patient: String,
    /// The record's key sealed to the custodian; base64.
    pub key_for_custodian: String,
}

/// Where a consent stands in a batch and how far that batch is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AnchorInput {
    /// The consent.
    pub commitment: String,
    /// Its handle, by which it is found.
    pub handle: String,
    /// The batch's root.
    pub root: String,
    /// The leaf's place.
    pub index: u64,
    /// The siblings from the leaf up.
    pub siblings: Vec<String>,
    /// Who anchors it.
    pub anchorer: String,
    /// `sealed`, `submitted` or `anchored`.
    pub stage: String,
    /// From `submitted` on.
    pub transaction_hash: Option<String>,
    /// When `anchored`.
    pub block_number: Option<u64>,
    /// When `anchored`.
    pub block_hash: Option<String>,
    /// When `anchored`: the block's time.
    pub block_time: Option<u64>,
}

/// A signed log entry. `body` is base64; the entry's context is this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogInput {
    /// Who says so.
    pub author_key: String,
    /// Its number in the author's log of this context, from 0.
    pub seq: u64,
    /// The digest of the author's previous entry here, or `0x0`.
    pub prev: String,
    /// What happened, as the protocol's short string.
    pub kind: String,
    /// The borsh of the body.
    pub body: String,
    /// When, by the author's clock.
    pub at: u64,
    /// The digest's salt.
    pub salt: String,
    /// The author's signature over the digest.
    pub signature: SignatureInput,
}

/// Up to which entry a log is in a batch, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeadInput {
    /// Whose log.
    pub author_key: String,
    /// The number of the last entry.
    pub seq: u64,
    /// Its digest.
    pub digest: String,
    /// The leaf's salt.
    pub salt: String,
    /// The batch's root.
    pub root: String,
    /// The leaf's place.
    pub index: u64,
    /// The siblings from the leaf up.
    pub siblings: Vec<String>,
}

/// A receipt of a consent to an exchange's recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReceiptInput {
    /// By which name this exchange knows the patient: random 32 bytes.
    pub patient: String,
    /// The receipt's JSON, base64.
    pub receipt: String,
}

/// One record of a release; only the custodian writes these, and only what it logged before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReleaseInput {
    /// The number of the custodian's RELEASED entry in this exchange's log.
    pub entry_seq: u64,
    /// Its digest.
    pub entry: String,
    /// The circle of the record.
    pub circle: String,
    /// The record.
    pub record: String,
    /// Its version.
    pub version: u32,
    /// The FHIR resource type.
    pub resource_type: String,
    /// The resource, encrypted under the record's own key; base64.
    pub payload: String,
    /// The record's key sealed to the request's reply key; base64.
    pub sealed_key: String,
}

/// A member whom the patient admits: a further device, a relative, a guardian.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceInput {
    /// The member's key in this context.
    pub member: String,
    /// Its number, which says what it is for.
    pub device: u32,
    /// The patient's key that signs this.
    pub admitted_by: String,
    /// The Stark key that signs the member's log entries; only the member itself says it.
    pub author_key: Option<String>,
}

/// A reward pool; only the custodian makes these known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PoolInput {
    /// The contract that holds it.
    pub contract: String,
    /// Who funds it.
    pub funder: String,
    /// The funder's number for it.
    pub nonce: String,
    /// To which recipient a consent is rewarded.
    pub recipient: String,
    /// The first second at which nothing is claimed any more.
    pub claim_end: u64,
    /// What the custodian calls it.
    pub label: String,
}

/// A reward ticket with its place in a batch; only the custodian writes these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TicketInput {
    /// The pool that pays.
    pub pool_id: String,
    /// The custodian that promises it.
    pub anchorer: String,
    /// The consent's handle, which a claim uses up.
    pub handle: String,
    /// The first second at which the claim comes too late.
    pub claim_until: u64,
    /// The leaf's salt.
    pub salt: String,
    /// The batch's root.
    pub root: String,
    /// The leaf's place.
    pub index: u64,
    /// The siblings from the leaf up.
    pub siblings: Vec<String>,
}

read_from_object! {
    CircleInput {
        kind, invitation_key, custodian_address, author_key, seal_key, chain_id, registry,
    }
    EnrolmentInput { member, party_key, recovery_key, login_key, author_key, seal_key }
    KeyChangeInput { old_key, new_key, seq, signature }
    SignatureInput { r, s }
    OpeningInput { patient_key, grantee, not_before, not_after, handle, salt }
    CodeInput { system, code }
    RecordInput {
        record, version, resource_type, classes, codes, labels, authors, data_date, payload,
        key_for_patient, key_for_custodian,
    }
    AnchorInput {
        commitment, handle, root, index, siblings, anchorer, stage, transaction_hash, block_number,
        block_hash, block_time,
    }
    LogInput { author_key, seq, prev, kind, body, at, salt, signature }
    HeadInput { author_key, seq, digest, salt, root, index, siblings }
    ReceiptInput { patient, receipt }
    ReleaseInput { entry_seq, entry, circle, record, version, resource_type, payload, sealed_key }
    DeviceInput { member, device, admitted_by, author_key }
    PoolInput { contract, funder, nonce, recipient, claim_end, label }
    TicketInput { pool_id, anchorer, handle, claim_until, salt, root, index, siblings }
}

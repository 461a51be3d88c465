//! The private circles: everything that MedSync knows about Calimero.
//!
//! [`Circle`] is the seam: one context on one node, in the protocol's own types. The daemon and
//! the commands speak to it alone, and tests put a fake in its place. [`CalimeroNode`] is the real
//! one, over the HTTP API of a party's own node.
//!
//! A node's answers are not trusted. They are bounded in size and time, parsed strictly, and
//! whatever can be recomputed from content (a commitment, a path) is. What no parser can tell,
//! which code a context runs and who its members are, stands in [`Pin`]; callers compare it with
//! what the invitation said before each call.
//!
//! A node also offers a stream of events. It buffers nothing, drops events to a slow reader and
//! forgets them on a restart, so that it could only ever be a hint; the daemon asks for
//! [`Circle::state_hash`] every second or so instead, which costs one small request and misses
//! nothing.
//!
//! This module must not know the chain, the store, or any secret but the node's credential.

mod abi;
mod answer;
mod calls;
mod convert;
mod error;
mod http;
mod look;
mod model;
mod names;
mod node;
mod package;
#[cfg(test)]
pub(crate) mod sample;
mod silence;
mod walk;

use async_trait::async_trait;
use medsync_protocol::audit::{Pseudonym, Seq};
use medsync_protocol::consent::Opening;
use medsync_protocol::ids::{ContextId, MemberId, RecordId, Sha256Digest};
use medsync_protocol::messages::Enrolment;
use medsync_protocol::seal::RecordVersion;
use medsync_protocol::secrets::RevocationSecret;
use medsync_protocol::signature::{PublicKey, Signature};

pub use answer::Answer;
pub use calls::NodeCircle;
pub use error::SourceError;
pub use look::NodeContext;
pub use model::{
    AnchorReport, BlockReport, Change, ChangePage, CircleState, Consent, ConsentPage, ConsentState,
    Counts, CustodianPins, DISPUTED, Device, Enrolled, Entry, EntryBody, FullRecord, FullRelease,
    Granted, Head, LogEntry, LogPage, NO_MEMBER, NewRecord, NewRelease, Pin, PlacedTicket, Pool,
    Position, ReceiptPage, Record, RecordPage, Release, ReleasePage, Revocation, SharedReceipt,
    SignedKeyChange, StageReport, Submission, Written, consents_digest,
};
pub use names::{
    ApplicationId, BlobId, ChangeDigest, Cursor, EntryKey, EntryKind, GroupId, NamespaceId,
    PageLimit, StateHash,
};
pub use node::{CalimeroNode, Groups, Installed, OpenedCircle};
pub use silence::Silence;
pub use walk::{
    ChangeWalk, all_changes, all_consents, all_log, all_receipts, all_records, all_releases,
};

/// What every call of this module answers with.
pub type SourceResult<T> = Result<T, SourceError>;

/// One circle or exchange on one party's node.
///
/// Writes are idempotent: what is there already is answered with `existing`, so that a caller
/// that does not know whether a call arrived makes it again. Every method fails with the errors
/// of [`SourceError`]; [`SourceError::Refused`] carries the app's own reason.
#[async_trait]
pub trait Circle: Send + Sync {
    /// Which context this is.
    fn context(&self) -> ContextId;

    /// The hash of the whole state on this node: equal to the last one means that nothing
    /// changed, at the price of one small request.
    async fn state_hash(&self) -> SourceResult<StateHash>;

    /// Which code the context runs and who can read it, for comparison with what was pinned.
    async fn pin(&self) -> SourceResult<Pin>;

    /// The circle at a glance.
    async fn circle(&self) -> SourceResult<CircleState>;

    /// Adds a member to the circle's group, as its admin, before that member joins; again is the
    /// same. Whichever node lets the member in, all others then know it.
    async fn add_member(&self, member: MemberId) -> SourceResult<()>;

    /// Publishes the patient's keys, signed by the invitation's one-time key.
    async fn enrol(&self, enrolment: &Enrolment, signature: &Signature) -> SourceResult<Written>;

    /// Writes down that the enrolled party's key was changed. Of `copies`, at most 4, more than the
    /// first have to be this member's own.
    async fn change_key(&self, change: &SignedKeyChange, copies: u32) -> SourceResult<Written>;

    /// Writes down whom the patient admits.
    async fn admit(&self, device: &Device) -> SourceResult<Written>;

    /// Grants a consent; `terms` is the borsh of the terms. Of `copies`, at most 8, more than the
    /// first have to be this member's own.
    async fn grant(
        &self,
        terms: &[u8],
        opening: &Opening,
        signature: &Signature,
        copies: u32,
    ) -> SourceResult<Granted>;

    /// Revokes whatever goes by the handle that these two open, known here or not. Of `copies`, at
    /// most 8, more than the first have to be this member's own.
    async fn revoke(
        &self,
        secret: &RevocationSecret,
        claim_key: PublicKey,
        copies: u32,
    ) -> SourceResult<Written>;

    /// The consents that count, in the order of the walk.
    async fn consents(
        &self,
        cursor: Option<&Cursor>,
        limit: PageLimit,
    ) -> SourceResult<ConsentPage>;

    /// Writes a version of a sealed record; the custodian's alone.
    async fn put_record(&self, record: &NewRecord) -> SourceResult<Written>;

    /// The records' descriptions, each in its latest version; of one FHIR type if it is named.
    async fn records(
        &self,
        cursor: Option<&Cursor>,
        limit: PageLimit,
        resource_type: Option<&str>,
    ) -> SourceResult<RecordPage>;

    /// One record with its sealed payload, in its latest version or a named one.
    async fn record(
        &self,
        record: RecordId,
        version: Option<RecordVersion>,
    ) -> SourceResult<FullRecord>;

    /// Writes a sealed part of a large payload, before the record or release that names it; the
    /// custodian's alone.
    async fn put_part(&self, part: &[u8]) -> SourceResult<Written>;

    /// A sealed part of a large payload by its digest, if it has arrived.
    async fn part(&self, digest: Sha256Digest) -> SourceResult<Option<Vec<u8>>>;

    /// Writes where a consent stands in a batch, and how far that batch is.
    async fn record_anchor(&self, report: &AnchorReport) -> SourceResult<Written>;

    /// Writes down an entry that its author signed and that continues the author's log.
    async fn append_log(&self, entry: &LogEntry) -> SourceResult<Written>;

    /// One author's log from a number on.
    async fn log(
        &self,
        author_key: PublicKey,
        from: Seq,
        limit: PageLimit,
    ) -> SourceResult<LogPage>;

    /// Writes up to which entry a log is in a batch, and where.
    async fn record_head(&self, head: &Head) -> SourceResult<Written>;

    /// Makes a reward pool known; the custodian's alone.
    async fn put_pool(&self, pool: &Pool) -> SourceResult<Written>;

    /// Writes where a reward ticket stands in a batch; the custodian's alone.
    async fn put_ticket(&self, ticket: &PlacedTicket) -> SourceResult<Written>;

    /// Gives the recipient a receipt, in an exchange; the custodian's alone.
    async fn put_receipt(&self, patient: Pseudonym, receipt: &[u8]) -> SourceResult<Written>;

    /// The receipts of an exchange.
    async fn receipts(
        &self,
        cursor: Option<&Cursor>,
        limit: PageLimit,
    ) -> SourceResult<ReceiptPage>;

    /// Releases a record that the custodian's log here names, in an exchange.
    async fn put_release(&self, release: &NewRelease) -> SourceResult<Written>;

    /// The released records' descriptions.
    async fn releases(
        &self,
        cursor: Option<&Cursor>,
        limit: PageLimit,
    ) -> SourceResult<ReleasePage>;

    /// One released record with its sealed payload.
    async fn release(&self, key: EntryKey) -> SourceResult<FullRelease>;

    /// All entries by kind, key and digest, in an order that never changes.
    async fn changes(&self, cursor: Option<&Cursor>, limit: PageLimit) -> SourceResult<ChangePage>;

    /// One entry, and whether it counts.
    async fn entry(&self, kind: EntryKind, key: EntryKey) -> SourceResult<Entry>;
}

//! What an exchange holds besides its log: receipts, and released records.

use medsync_protocol::audit::{EntryDigest, Pseudonym, RecordRef, Seq};
use medsync_protocol::ids::{ContextId, Sha256Digest};

use crate::source::names::{Cursor, EntryKey};

/// A receipt that the custodian gave to the recipient; a verifier says whether it is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedReceipt {
    /// The entry.
    pub key: EntryKey,
    /// By which name this exchange knows the patient.
    pub patient: Pseudonym,
    /// The receipt's JSON.
    pub receipt: Vec<u8>,
}

/// A page of receipts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptPage {
    /// The receipts.
    pub receipts: Vec<SharedReceipt>,
    /// Entries of this page that are not the custodian's or cannot be read.
    pub ignored: u64,
    /// Where the next page starts; nothing after the last.
    pub next: Option<Cursor>,
}

/// A record as the custodian releases it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRelease {
    /// The number of the custodian's RELEASED entry in the exchange.
    pub entry_seq: Seq,
    /// Its digest.
    pub entry: EntryDigest,
    /// The circle of the record.
    pub circle: ContextId,
    /// The record and its version.
    pub what: RecordRef,
    /// The FHIR resource type.
    pub resource_type: String,
    /// The resource, encrypted under the record's own key.
    pub payload: Vec<u8>,
    /// That key, sealed to the request's reply key.
    pub sealed_key: Vec<u8>,
}

/// A released record without its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The entry.
    pub key: EntryKey,
    /// The custodian's RELEASED entry in the exchange.
    pub entry: EntryDigest,
    /// Its name in the circle's log, which the sealed key is bound to.
    pub logged_as: EntryDigest,
    /// The request that it answers.
    pub request: EntryDigest,
    /// The circle of the record.
    pub circle: ContextId,
    /// The record and its version.
    pub what: RecordRef,
    /// The FHIR resource type.
    pub resource_type: String,
    /// SHA-256 of the encrypted payload.
    pub payload_sha256: Sha256Digest,
    /// The record's key, sealed to the request's reply key.
    pub sealed_key: Vec<u8>,
}

/// A released record with its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullRelease {
    /// The description.
    pub release: Release,
    /// The encrypted payload, if it has arrived.
    pub payload: Option<Vec<u8>>,
}

/// A page of released records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleasePage {
    /// The records.
    pub releases: Vec<Release>,
    /// Entries of this page that no log entry covers, or that cannot be read.
    pub ignored: u64,
    /// Where the next page starts; nothing after the last.
    pub next: Option<Cursor>,
}

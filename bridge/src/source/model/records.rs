//! Sealed records.

use medsync_protocol::decide::Attributes;
use medsync_protocol::ids::{RecordId, Sha256Digest, UnixSeconds};
use medsync_protocol::seal::RecordVersion;

use super::super::names::{Cursor, EntryKey};

/// A sealed record to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRecord {
    /// The record, the same for all its versions.
    pub record: RecordId,
    /// 1 for a new record, else the last version and one.
    pub version: RecordVersion,
    /// The FHIR resource type.
    pub resource_type: String,
    /// What `decide` may know of it; `record` in here is not written.
    pub attributes: Attributes,
    /// The resource, encrypted under the record's own key.
    pub payload: Vec<u8>,
    /// That key, sealed to the patient.
    pub key_for_patient: Vec<u8>,
    /// That key, sealed to the custodian.
    pub key_for_custodian: Vec<u8>,
}

/// A record without its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The entry.
    pub key: EntryKey,
    /// The record.
    pub record: RecordId,
    /// Its version.
    pub version: RecordVersion,
    /// The FHIR resource type.
    pub resource_type: String,
    /// What `decide` may know of it, with the record's own id.
    pub attributes: Attributes,
    /// SHA-256 of the encrypted payload.
    pub payload_sha256: Sha256Digest,
    /// Length of the encrypted payload.
    pub payload_bytes: u64,
    /// The record's key sealed to the patient.
    pub key_for_patient: Vec<u8>,
    /// The record's key sealed to the custodian.
    pub key_for_custodian: Vec<u8>,
    /// When it was written, by its writer's clock.
    pub recorded_at: UnixSeconds,
}

/// A record with its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullRecord {
    /// The description.
    pub record: Record,
    /// The encrypted payload, which has the described digest; nothing while it has not arrived.
    pub payload: Option<Vec<u8>>,
}

/// A page of records, each in its latest version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordPage {
    /// The records.
    pub records: Vec<Record>,
    /// Entries of this page that are not the custodian's or cannot be read.
    pub ignored: u64,
    /// Where the next page starts; nothing after the last.
    pub next: Option<Cursor>,
}

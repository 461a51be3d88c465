//! Records as they are described, and what would be released of them.

use medsync_protocol::codes::{Code, CodeSet};
use medsync_protocol::decide::{Concept, Decision};
use medsync_protocol::ids::{RecordId, UnixSeconds};
use medsync_protocol::signature::PublicKey;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A sealed record, as its custodian describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Record {
    /// Its name, the same for all its versions.
    #[schema(value_type = String)]
    pub record: RecordId,
    /// Its latest version.
    pub version: u32,
    /// The FHIR resource type.
    #[serde(rename = "type")]
    pub resource_type: String,
    /// Its clinical codes.
    #[schema(value_type = Vec<Vec<Object>>)]
    pub codes: Vec<Concept>,
    /// Its security labels.
    #[schema(value_type = Vec<Vec<Object>>)]
    pub labels: Vec<Concept>,
    /// Of when its data is.
    #[schema(value_type = Option<u64>)]
    pub data_date: Option<UnixSeconds>,
    /// The length of the sealed payload, in bytes.
    pub sealed_bytes: u64,
}

/// Records of a circle, each in its latest version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecordPage {
    /// The records.
    pub records: Vec<Record>,
    /// What the next page comes after; nothing on the last.
    pub next: Option<String>,
}

/// A sealed record with its payload: whoever holds the patient's key opens it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SealedRecord {
    /// What is said of it.
    pub record: Record,
    /// The encrypted resource, or the encrypted list of its parts, in base64; nothing while it has
    /// not arrived.
    pub payload: Option<String>,
    /// The record's key, sealed to the patient, in base64.
    pub key_for_patient: String,
}

/// A sealed part of a large payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SealedPart {
    /// The part in base64.
    pub part: String,
}

/// What somebody would ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PreviewQuestion {
    /// The recipient's key.
    #[schema(value_type = String)]
    pub to: PublicKey,
    /// For what; at least one.
    #[schema(value_type = Vec<Object>)]
    pub purposes: CodeSet,
    /// Which classes of records; all if none is named.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    pub classes: CodeSet,
    /// The obligations that the recipient will keep; whatever the consents oblige it to, if this is
    /// not there.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Object>>)]
    pub understood: Option<Vec<Code>>,
}

/// Why a record is not released though consents may permit it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Withheld {
    /// The custodian destroyed its keys to it.
    Erased,
    /// A later version was there, or was to be written, and is not there; it does not bring this
    /// one back.
    LaterVersionGone,
    /// This custodian has no key to it: its home was restored from a backup of before.
    NoKey,
    /// Its payload is not on this node: nothing is handed over before it arrives.
    NotHere,
}

/// What would become of one record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Decided {
    /// The record.
    #[schema(value_type = String)]
    pub record: RecordId,
    /// Its latest version in the circle.
    pub version: u32,
    /// Its FHIR resource type.
    pub resource_type: String,
    /// What is decided, and why; nothing if it cannot be asked about, which is a denial.
    #[schema(value_type = Option<Object>)]
    pub decision: Option<Decision>,
    /// What keeps it back whatever is decided.
    pub withheld: Option<Withheld>,
    /// Whether the recipient would get it.
    pub is_released: bool,
}

/// What a recipient would get now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PreviewPage {
    /// Each record that is asked for.
    pub records: Vec<Decided>,
}

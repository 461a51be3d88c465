//! What an exchange holds: requests with their answers, releases, receipts.

use medsync_protocol::audit::{Body, EntryDigest, EntryKind, Pseudonym};
use medsync_protocol::codes::{Code, CodeSet};
use medsync_protocol::consent::Commitment;
use medsync_protocol::ids::{ContextId, RecordId, UnixSeconds};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A request, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Asked {
    /// Its entry in the exchange.
    #[schema(value_type = String)]
    pub request: EntryDigest,
    /// When, by the recipient's clock.
    #[schema(value_type = u64)]
    pub at: UnixSeconds,
    /// By which name the exchange knows the patient.
    #[schema(value_type = String)]
    pub patient: Pseudonym,
    /// For what.
    #[schema(value_type = Vec<Object>)]
    pub purposes: CodeSet,
    /// The kind of its last answer, or `asked`.
    pub state: String,
    /// The custodian's answers, in their order.
    pub answers: Vec<Answer>,
}

/// What a recipient asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRequest {
    /// By which name the exchange knows the patient.
    #[schema(value_type = String)]
    pub patient: Pseudonym,
    /// For what; at least one, but of who breaks the glass.
    #[schema(value_type = Vec<Object>)]
    pub purposes: Vec<Code>,
    /// Which classes of records; all if none is named.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    pub classes: Vec<Code>,
    /// The obligations that the recipient will keep.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    pub understood: Vec<Code>,
    /// Why, in words for the patient.
    #[serde(default)]
    pub reason: String,
    /// An emergency: the purpose is BTG, and the reason is said.
    #[serde(default)]
    pub break_glass: bool,
}

/// A request that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AskedFor {
    /// Its entry in the exchange.
    #[schema(value_type = String)]
    pub request: EntryDigest,
}

/// An answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Answer {
    /// Permitted, denied or released.
    #[schema(value_type = String)]
    pub kind: EntryKind,
    /// What it says.
    #[schema(value_type = Object)]
    pub says: Body,
}

/// Requests of an exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RequestPage {
    /// The latest first.
    pub requests: Vec<Asked>,
    /// What the next page comes after; nothing on the last.
    pub next: Option<String>,
}

/// A released record; its payload is sealed to the request's reply key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Release {
    /// Its entry in the exchange, by which it is read.
    pub entry: String,
    /// The request that it answers.
    #[schema(value_type = String)]
    pub request: EntryDigest,
    /// Its name in the circle's log.
    #[schema(value_type = String)]
    pub logged_as: EntryDigest,
    /// The record.
    #[schema(value_type = String)]
    pub record: RecordId,
    /// Its version.
    pub version: u32,
    /// The FHIR resource type.
    pub resource_type: String,
}

/// A released record with its payload: whoever holds the request's reply key opens it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SealedRelease {
    /// What is said of it.
    pub release: Release,
    /// The context of the record's circle, to which the key is bound.
    #[schema(value_type = String)]
    pub circle: ContextId,
    /// The encrypted resource, or the encrypted list of its parts, in base64; nothing while it has
    /// not arrived.
    pub payload: Option<String>,
    /// The record's key, sealed to the reply key, in base64.
    pub sealed_key: String,
}

/// Released records of an exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReleasePage {
    /// The records.
    pub releases: Vec<Release>,
    /// What the next page comes after; nothing on the last.
    pub next: Option<String>,
}

/// A receipt that the custodian gave to the recipient; a verifier says whether it is valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SharedReceipt {
    /// By which name the exchange knows the patient.
    #[schema(value_type = String)]
    pub patient: Pseudonym,
    /// The consent.
    #[schema(value_type = String)]
    pub consent: Commitment,
    /// The receipt, as its published schema says.
    #[schema(value_type = Object)]
    pub receipt: serde_json::Value,
}

/// Receipts of an exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReceiptPage {
    /// Those that are receipts.
    pub receipts: Vec<SharedReceipt>,
    /// What the next page comes after; nothing on the last.
    pub next: Option<String>,
}

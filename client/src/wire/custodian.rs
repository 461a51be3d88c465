//! What a custodian's people do: circles and invitations, imports, erasures, pools.

use std::fmt;

use medsync_protocol::ids::{ContextId, ContextKind, ContractAddress, RecordId, UnixSeconds};
use medsync_protocol::signature::PublicKey;
use medsync_protocol::ticket::{PoolId, PoolNonce};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A circle or exchange that is to be opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCircle {
    /// What the custodian calls it, 1 to 128 bytes; not a person's name.
    #[schema(min_length = 1, max_length = 128)]
    pub label: String,
    /// How many hours its invitation holds: 1 to 720.
    #[schema(minimum = 1, maximum = 720)]
    pub hours: u64,
    /// Of an exchange: the key to which patients grant, as its recipient says it. Without it, it is
    /// a circle.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub recipient: Option<PublicKey>,
}

/// An invitation is to be written anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewInvitation {
    /// How many hours a new one holds: 1 to 720. One that nobody used is the same as before.
    #[schema(minimum = 1, maximum = 720)]
    pub hours: u64,
}

/// An invitation into a circle or exchange: whoever has it can enrol.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Invited {
    /// The context.
    #[schema(value_type = String)]
    pub context: ContextId,
    /// `circle` or `exchange`.
    #[schema(value_type = String)]
    pub kind: ContextKind,
    /// The first second at which it is over.
    #[schema(value_type = u64)]
    pub expires_at: UnixSeconds,
    /// The invitation file, as JSON: to be handed over like a key.
    #[schema(value_type = Object)]
    pub invitation: serde_json::Value,
}

impl fmt::Debug for Invited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invited")
            .field("context", &self.context)
            .field("kind", &self.kind)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// For which key an exchange is from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpectedRecipient {
    /// The key, as the recipient itself says it.
    #[schema(value_type = String)]
    pub key: PublicKey,
}

/// What of a circle's records a custodian destroys its keys to. There is no way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewErasure {
    /// The record; every record of the circle if there is none, and `all` is said.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub record: Option<RecordId>,
    /// Every record of the circle.
    #[serde(default)]
    pub all: bool,
}

/// What was erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Erased {
    /// How many keys were destroyed now.
    pub keys_destroyed: u64,
    /// Of how many versions of records the custodian's log says so since.
    pub logged: u64,
}

/// A pool on the chain from which tickets are to be issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPool {
    /// The contract that holds it.
    #[schema(value_type = String)]
    pub contract: ContractAddress,
    /// Who funds it.
    #[schema(value_type = String)]
    pub funder: ContractAddress,
    /// The funder's number for it.
    #[schema(value_type = String)]
    pub nonce: PoolNonce,
    /// To which recipient a consent is rewarded.
    #[schema(value_type = String)]
    pub recipient: PublicKey,
    /// How many tickets may be out, 1 to 2^32; everything that the pool promised if it is not said.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 4_294_967_296_i64)]
    pub quota: Option<u64>,
    /// The text by which people know the pool, which its funder chose: 1 to 128 bytes.
    #[schema(min_length = 1, max_length = 128)]
    pub label: String,
}

/// A pool from which tickets are issued from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AddedPool {
    /// Its name.
    #[schema(value_type = String)]
    pub pool: PoolId,
    /// How many tickets may be out.
    pub quota: u64,
    /// What it pays in.
    #[schema(value_type = String)]
    pub token: ContractAddress,
    /// What a claim pays to the patient, in the token's smallest unit, decimal.
    pub reward: String,
    /// What it pays to the custodian besides.
    pub custodian_share: String,
}

/// What became of one resource of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Imported {
    /// A record, or a new version of one, was written.
    Written,
    /// The circle has it already.
    Unchanged,
    /// It cannot be a record; why.
    Refused(String),
}

/// The report on one resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportLine {
    /// Its FHIR type.
    pub resource_type: String,
    /// What the bundle calls it.
    pub reference: String,
    /// What became of it.
    pub outcome: Imported,
}

/// How far an import is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImportState {
    /// It waits for another, or goes on.
    Running,
    /// Every resource was looked at.
    Done,
    /// It ended before that: the same bundle again goes on from there.
    Failed,
}

/// An import, with some of its report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Import {
    /// Its name, as long as this process remembers it: the last four.
    pub import: String,
    /// The circle.
    #[schema(value_type = String)]
    pub circle: ContextId,
    /// How far it is.
    pub state: ImportState,
    /// Why it failed, if it did.
    pub why: Option<String>,
    /// How many resources were looked at.
    pub done: u64,
    /// Of how many.
    pub total: u64,
    /// The report, in the order in which they were looked at.
    pub lines: Vec<ImportLine>,
    /// What the next page comes after; nothing on the last.
    pub next: Option<String>,
}

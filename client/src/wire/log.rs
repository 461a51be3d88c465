//! Logs: entries with what proves them.

use medsync_protocol::audit::{Body, EntryDigest, EntryKind, Seq};
use medsync_protocol::ids::{ContextId, Salt, UnixSeconds};
use medsync_protocol::signature::{PublicKey, Signature};
use medsync_protocol::tree::{Proof, Root};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An entry of somebody's log. With the context these are all that its digest is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// When, by its author's clock.
    #[schema(value_type = u64)]
    pub at: UnixSeconds,
    /// What its author is called in the circle; `unknown` where that does not say.
    pub by: String,
    /// Its number in its author's log.
    #[schema(value_type = u64)]
    pub seq: Seq,
    /// What kind of entry it is.
    #[schema(value_type = String)]
    pub kind: EntryKind,
    /// What it says; the entry's subject is the SHA-256 of its borsh.
    #[schema(value_type = Object)]
    pub says: Body,
    /// Its digest.
    #[schema(value_type = String)]
    pub digest: EntryDigest,
    /// Whose log it is in.
    #[schema(value_type = String)]
    pub author_key: PublicKey,
    /// The digest of the entry before it, or zero.
    #[schema(value_type = String)]
    pub prev: EntryDigest,
    /// What hides it.
    #[schema(value_type = String)]
    pub salt: Salt,
    /// The author's, over the digest.
    #[schema(value_type = Object)]
    pub signature: Signature,
}

/// Entries of a circle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogPage {
    /// Every entry that was ever seen, the latest first.
    pub entries: Vec<LogLine>,
    /// What the next page comes after; nothing on the last.
    pub next: Option<String>,
}

/// Up to which entry a log is in a batch, and where. Since when the batch is on chain, and by whom,
/// the chain says under its root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogHead {
    /// Whose log.
    #[schema(value_type = String)]
    pub author_key: PublicKey,
    /// The number of the last entry.
    #[schema(value_type = u64)]
    pub seq: Seq,
    /// Its digest.
    #[schema(value_type = String)]
    pub digest: EntryDigest,
    /// What hides it.
    #[schema(value_type = String)]
    pub salt: Salt,
    /// The batch's root.
    #[schema(value_type = String)]
    pub root: Root,
    /// The path from the head's leaf to the root.
    #[schema(value_type = Object)]
    pub proof: Proof,
}

/// Places of the logs of a circle or exchange in batches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogHeadPage {
    /// In the order of their leaves.
    pub heads: Vec<LogHead>,
    /// What the next page comes after; nothing on the last.
    pub next: Option<String>,
}

/// What came of checking every log of a circle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogCheck {
    /// The circle.
    #[schema(value_type = String)]
    pub circle: ContextId,
    /// Whether the circle was read and no log is broken.
    pub sound: bool,
    /// Whether the circle could be read; else this is about what was kept here.
    pub circle_was_read: bool,
    /// What was found before the circle could be read no more.
    pub found_before: Option<String>,
    /// How many batches the chain was not asked about.
    pub unasked: usize,
    /// Each log that was ever seen.
    pub logs: Vec<CheckedLog>,
}

/// What came of checking one log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckedLog {
    /// What its author is called.
    pub by: String,
    /// The rest of it: `author_key`, how many entries are `sound`, up to which and since when it is
    /// `anchored`, and its `faults`.
    #[schema(value_type = Object)]
    pub log: serde_json::Value,
}

//! How a party does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Whether the process answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Live {
    /// It does.
    pub live: bool,
}

/// Whether the daemon does its rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ready {
    /// How long ago its last round was, in seconds.
    pub round_age_s: u64,
}

/// What is under way, and what hinders it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// When the daemon last completed a round, in unix seconds; nothing if it never did.
    pub last_round_at: Option<u64>,
    /// Consents, batches, revocations and claims, by how far they are.
    pub counts: BTreeMap<String, u64>,
    /// Requests and releases, by how far they are.
    pub access: BTreeMap<String, u64>,
    /// Since when the oldest of what is under way waits, in unix seconds: consents without a batch,
    /// batches, revocations and claims that are not on chain. Nothing of what is not there.
    pub oldest: BTreeMap<String, u64>,
    /// What hinders the daemon, by the lane that it hinders; nothing of those that are well.
    pub hindrances: BTreeMap<String, String>,
}

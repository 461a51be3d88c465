//! Consents, with how far each is.

use medsync_protocol::consent::Commitment;
use medsync_protocol::ids::{ContractAddress, Salt, UnixSeconds};
use medsync_protocol::receipt::{Stage, StageTime};
use medsync_protocol::secrets::Handle;
use medsync_protocol::signature::PublicKey;
use medsync_protocol::terms::Provision;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A consent, how it stands, and how far it is on its way to the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Consent {
    /// Its commitment.
    #[schema(value_type = String)]
    pub consent: Commitment,
    /// What a revocation opens.
    #[schema(value_type = String)]
    pub handle: Handle,
    /// From which, and their seed, the patient finds what opens it.
    #[schema(value_type = String)]
    pub salt: Salt,
    /// How it stands.
    pub state: ConsentState,
    /// How far it is.
    pub stage: ConsentStage,
    /// What comes next.
    pub next: Option<Next>,
    /// To whom.
    #[schema(value_type = String)]
    pub to: PublicKey,
    /// From when, in unix seconds.
    #[schema(value_type = u64)]
    pub not_before: UnixSeconds,
    /// Until when, in unix seconds; 0 for an open end.
    #[schema(value_type = u64)]
    pub not_after: UnixSeconds,
    /// What it permits or denies.
    #[schema(value_type = Object)]
    pub provision: Provision,
    /// What of that is otherwise.
    #[schema(value_type = Vec<Object>)]
    pub exceptions: Vec<Provision>,
    /// Since when it is denied here, if it is.
    #[schema(value_type = Option<u64>)]
    pub denied_since: Option<UnixSeconds>,
    /// The stages that it reached, with their times.
    #[schema(value_type = Vec<Object>)]
    pub stages: Vec<StageTime>,
    /// Why the chain does not prove that it is anchored, though its circle says so.
    pub unproven: Option<String>,
    /// What anyone can send to bring its revocation on chain.
    pub anyone_can_send: Option<Sendable>,
}

/// How a consent stands: the first that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConsentState {
    /// It was revoked, here or on chain.
    Revoked,
    /// The patient's key was changed since: it permits nothing more.
    OldKey,
    /// The circle is frozen.
    Frozen,
    /// Its validity has not begun.
    NotYet,
    /// Its validity is over.
    Expired,
    /// It permits what it says.
    InForce,
}

/// How far a consent, or its revocation, is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConsentStage {
    /// It is in the circle.
    Recorded,
    /// It is in a batch.
    Sealed,
    /// The batch was sent to Starknet.
    Submitted,
    /// Starknet accepted the batch.
    Anchored,
    /// Its revocation is on chain.
    Revoked,
    /// It is revoked, and the chain does not know yet.
    #[serde(rename = "denied here, not yet on chain")]
    DeniedHere,
}

impl From<Stage> for ConsentStage {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Recorded => Self::Recorded,
            Stage::Sealed => Self::Sealed,
            Stage::Submitted => Self::Submitted,
            Stage::Anchored => Self::Anchored,
            Stage::Revoked => Self::Revoked,
        }
    }
}

/// The stage that is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Next {
    /// Which one.
    #[schema(value_type = String)]
    pub stage: Stage,
    /// Since when, in unix seconds.
    #[schema(value_type = u64)]
    pub since: UnixSeconds,
    /// How long it usually takes, in seconds.
    pub usually_s: u64,
}

/// What brings a revocation on chain, whoever sends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Sendable {
    /// The contract.
    #[schema(value_type = String)]
    pub registry: ContractAddress,
    /// Its function.
    pub function: String,
    /// What opens the handle; no longer secret.
    pub secret: String,
    /// The other half of what opens it.
    #[schema(value_type = String)]
    pub claim_key: PublicKey,
}

/// Consents of a circle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConsentPage {
    /// Those that count.
    pub consents: Vec<Consent>,
    /// What the next page comes after; nothing on the last.
    pub next: Option<String>,
}

//! What a patient signed or opened, for whoever brings it into the circle.

use medsync_protocol::consent::{Commitment, Opening};
use medsync_protocol::secrets::Handle;
use medsync_protocol::signature::{PublicKey, Signature};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Sendable;

/// A consent that its patient signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewConsent {
    /// The terms: base64 of their borsh.
    pub terms: String,
    /// What the commitment hides besides them.
    #[schema(value_type = Object)]
    pub opening: Opening,
    /// By the patient's key, over the grant message.
    #[schema(value_type = Object)]
    pub signature: Signature,
}

/// A consent that is in its circle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Recorded {
    /// Its commitment.
    #[schema(value_type = String)]
    pub consent: Commitment,
    /// Whether it was there before.
    pub was_there: bool,
}

/// What opens the handle of a consent: whoever has it can revoke.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRevocation {
    /// The revocation secret.
    pub secret: String,
    /// The other half.
    #[schema(value_type = String)]
    pub claim_key: PublicKey,
}

/// A revocation that is kept: it is in force here from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Revoked {
    /// What it opened.
    #[schema(value_type = String)]
    pub handle: Handle,
    /// Why it is not in its circle yet, if it is not, and what becomes of that.
    pub hindrance: Option<String>,
    /// What anyone can send to bring it on chain, if nobody does.
    pub anyone_can_send: Sendable,
}

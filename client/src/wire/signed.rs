//! What somebody signed elsewhere, for whoever brings it into its circle or exchange. Each proves
//! itself, whoever brings it, and is the same when brought again.

use medsync_protocol::audit::{Body, Entry};
use medsync_protocol::device::Admission;
use medsync_protocol::keychange::KeyChange;
use medsync_protocol::messages::Enrolment;
use medsync_protocol::signature::{PublicKey, Signature};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An entry of its author's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewLogEntry {
    /// The entry: the next of its author's log in this context.
    #[schema(value_type = Object)]
    pub entry: Entry,
    /// What it says; the entry's subject is the SHA-256 of its borsh.
    #[schema(value_type = Object)]
    pub says: Body,
    /// The author's, over the entry's digest.
    #[schema(value_type = Object)]
    pub signature: Signature,
}

/// A member whom the patient admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAdmission {
    /// Who, as what, and by which key of the patient's.
    #[schema(value_type = Object)]
    pub admission: Admission,
    /// By that key, over the device message.
    #[schema(value_type = Object)]
    pub signature: Signature,
    /// The key of the member's own log, which the member alone says.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub author_key: Option<PublicKey>,
}

/// A change of an enrolled party's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKeyChange {
    /// The change.
    #[schema(value_type = Object)]
    pub change: KeyChange,
    /// By the old key or the recovery key, over the key-change message.
    #[schema(value_type = Object)]
    pub signature: Signature,
}

/// The keys of whoever was invited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewEnrolment {
    /// The keys; the member is the one of the `medsync` to which this is sent.
    #[schema(value_type = Object)]
    pub enrolment: Enrolment,
    /// By the invitation's one-time key, over the enrolment message.
    #[schema(value_type = Object)]
    pub signature: Signature,
}

/// It is in its circle or exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Brought {
    /// Whether it was there before.
    pub was_there: bool,
}

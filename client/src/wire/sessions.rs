//! Logging in.

use std::fmt;

use medsync_protocol::ids::{ContextId, UnixSeconds};
use medsync_protocol::messages::LoginNonce;
use medsync_protocol::signature::Signature;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a login signs, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Challenge {
    /// A number that was never used.
    #[schema(value_type = String)]
    pub nonce: LoginNonce,
    /// Until when it can be used, in unix seconds.
    #[schema(value_type = u64)]
    pub expires: UnixSeconds,
}

/// As whom somebody logs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "who", rename_all = "snake_case", deny_unknown_fields)]
pub enum LoginAs {
    /// As whoever enrolled in this circle or exchange: its patient, or its recipient.
    PartyOf {
        /// Its context.
        #[schema(value_type = String)]
        context: ContextId,
    },
    /// As the member of the staff whom the configuration calls so.
    Staff {
        /// The name there.
        name: String,
    },
}

impl LoginAs {
    /// As the patient or recipient of this context.
    #[must_use]
    pub const fn party_of(context: ContextId) -> Self {
        Self::PartyOf { context }
    }

    /// As a member of the staff.
    #[must_use]
    pub fn staff(name: &str) -> Self {
        Self::Staff { name: name.into() }
    }
}

/// A challenge that was signed by a login key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// As whom.
    #[serde(rename = "as")]
    pub login_as: LoginAs,
    /// The origin that was signed: of the page that asks, or of the API itself.
    pub origin: String,
    /// The challenge's number.
    #[schema(value_type = String)]
    pub nonce: LoginNonce,
    /// The challenge's end, in unix seconds.
    #[schema(value_type = u64)]
    pub expires: UnixSeconds,
    /// By the login key, over the origin, the number and the end.
    #[schema(value_type = Object)]
    pub signature: Signature,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum Caller {
    /// Whoever can read the home's token.
    Operator,
    /// A member of the staff.
    Staff {
        /// What the configuration calls them.
        name: String,
    },
    /// The patient of a circle.
    Patient {
        /// The circle.
        #[schema(value_type = String)]
        circle: ContextId,
    },
    /// The recipient of an exchange.
    Recipient {
        /// The exchange.
        #[schema(value_type = String)]
        exchange: ContextId,
    },
}

/// What a login opened.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// What each request shows: `Authorization: Bearer` and this.
    pub token: String,
    /// Who it is.
    pub caller: Caller,
    /// When it ends, in unix seconds.
    #[schema(value_type = u64)]
    pub expires_at: UnixSeconds,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("caller", &self.caller)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

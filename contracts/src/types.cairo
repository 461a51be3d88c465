//! The values that cross the registry's interface, with the names of protocol v1.

/// What a patient reveals of a consent to a verifier, beside the hash of its terms.
#[derive(Copy, Drop, Serde, PartialEq, Debug)]
pub struct Opening {
    /// The key that signed the consent: the x-coordinate of a point of the Stark curve.
    pub patient_key: felt252,
    /// The recipient's Stark public key, never 0.
    pub grantee: felt252,
    /// The first second at which the consent is in force.
    pub not_before: u64,
    /// The first second at which it is in force no more; 0 is open-ended.
    pub not_after: u64,
    /// What the patient opens to revoke.
    pub handle: felt252,
    /// The blinding of the commitment.
    pub salt: felt252,
}

/// A Stark-curve ECDSA signature.
#[derive(Copy, Drop, Serde, PartialEq, Debug)]
pub struct Signature {
    pub r: felt252,
    pub s: felt252,
}

/// The way from a leaf to the root of its batch.
#[derive(Copy, Drop, Serde, Debug)]
pub struct Proof {
    /// The place of the leaf, below 2^depth. Bit i is 1 where the node is a right child at level i.
    pub index: u64,
    /// One sibling a level, from the leaf up; their number is the depth.
    pub siblings: Span<felt252>,
}

/// What opens a handle, and so revokes the consent behind it.
#[derive(Copy, Drop, Serde, PartialEq, Debug)]
pub struct Revocation {
    pub secret: felt252,
    pub claim_key: felt252,
}

/// What the chain knows of one receipt, all of it read at one block. Unix seconds, 0 is never.
#[derive(Copy, Drop, Serde, PartialEq, Debug)]
pub struct ReceiptTimes {
    /// When the anchorer anchored the root.
    pub anchored_at: u64,
    /// When the handle was opened for the first time.
    pub revoked_at: u64,
    /// The time of the block that was read: the latest time a verdict may be asked for.
    pub block_time: u64,
}

/// The deployment to which grants are bound, so that none can be replayed at another.
#[derive(Copy, Drop, PartialEq, Debug)]
pub struct Deployment {
    pub chain_id: felt252,
    pub registry: felt252,
}

/// The answer about a receipt at a time T: the first that applies, in this order.
///
/// The order is part of the protocol and of the ABI. The variant that a zeroed answer would
/// decode to is a refusal.
#[derive(Copy, Drop, Serde, PartialEq, Debug)]
pub enum Verdict {
    /// The patient's key did not sign this consent for this registry.
    BadSignature,
    /// The custodian had not anchored this root at T.
    UnknownAnchor,
    /// The signed consent is not a leaf under the root.
    NotIncluded,
    /// The patient had revoked at T.
    Revoked,
    /// T lies before the consent's first second.
    NotYetValid,
    /// T lies at or after the consent's end.
    Expired,
    /// The consent stands at T. Whether it permits anything is for the terms to say.
    Valid,
}

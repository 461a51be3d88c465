//! The values that cross the pool's interface, with the names of protocol v1.

use starknet::ContractAddress;
use crate::types::{Proof, Signature};

/// How many claims one anchorer's tickets may have in a pool.
#[derive(Copy, Drop, Serde, PartialEq, Debug)]
pub struct Quota {
    /// The custodian, by the address under which it anchors.
    pub anchorer: ContractAddress,
    pub claims: u64,
}

/// What became of an anchorer's quota.
#[derive(Copy, Drop, Serde, PartialEq, Debug, starknet::Store)]
pub struct QuotaUse {
    /// Claims that the funder paid for.
    pub promised: u64,
    /// Claims that were made.
    pub claimed: u64,
}

/// A quota with the anchorer that it is for.
#[derive(Copy, Drop, Serde, PartialEq, Debug)]
pub struct AnchorerQuota {
    pub anchorer: ContractAddress,
    pub promised: u64,
    pub claimed: u64,
}

/// What a funder promises; nothing of it ever changes.
#[derive(Copy, Drop, Serde, PartialEq, Debug, starknet::Store)]
pub struct Promise {
    /// The ERC-20 that pays.
    pub token: ContractAddress,
    /// What a claim accrues to the address that the patient names, in the token's smallest unit.
    pub reward: u128,
    /// What it accrues to the anchorer of the ticket beside that.
    pub custodian_share: u128,
    /// The first second, in unix time, at which no claim is taken any more.
    pub claim_end: u64,
    /// The first second at which what is left goes back to the funder; not before `claim_end`.
    pub refund_time: u64,
    /// SHA-256 of the text by which the pool is known to people; the text itself is private.
    pub label_sha256: u256,
}

/// A pool as it stands.
#[derive(Copy, Drop, Serde, PartialEq, Debug, starknet::Store)]
pub struct Pool {
    /// Who opened it and gets back what is left; zero for a pool that does not exist.
    pub funder: ContractAddress,
    pub promise: Promise,
    /// Claims that are promised, over all anchorers, and were not made.
    pub claims_left: u64,
    /// What is held for it: never less than `claims_left` times reward and share.
    pub escrow: u256,
    /// When what was left went back, in unix seconds; 0 while it stands.
    pub ended_at: u64,
}

/// What spends a ticket.
#[derive(Copy, Drop, Serde, Debug)]
pub struct Claim {
    pub pool_id: felt252,
    /// The custodian that promised.
    pub anchorer: ContractAddress,
    /// With `claim_key` it makes the consent's handle; the secret itself would revoke.
    pub secret_hash: felt252,
    pub claim_key: felt252,
    /// The first second at which the ticket is worth nothing.
    pub claim_until: u64,
    pub salt: felt252,
    /// From the ticket's leaf to a root that the custodian anchored.
    pub proof: Proof,
    /// Where the reward goes.
    pub pay_to: ContractAddress,
    /// The claim key's, over pool, handle and `pay_to`.
    pub signature: Signature,
}

/// What one party ever moved in one token. What it earned by claims is what it has and had, less
/// what was its own: `accrued + withdrawn - refunded`.
#[derive(Copy, Drop, Serde, PartialEq, Debug, starknet::Store)]
pub struct Totals {
    /// What its pools received from it.
    pub deposited: u256,
    /// What its pools gave back to it.
    pub refunded: u256,
    /// What was paid out to it.
    pub withdrawn: u256,
}

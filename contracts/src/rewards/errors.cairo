//! The reasons for which `RewardPool` reverts, or passes over a claim. Clients match on these very
//! strings.

// Opening and topping up.

/// A pool belongs to somebody.
pub const CALLER_ZERO: felt252 = 'CALLER_ZERO';
/// The zero address is no token.
pub const TOKEN_ZERO: felt252 = 'TOKEN_ZERO';
/// The pool names the registry by which it judges once, for good.
pub const REGISTRY_ZERO: felt252 = 'REGISTRY_ZERO';
/// A pool that pays nothing rewards nobody.
pub const REWARD_ZERO: felt252 = 'REWARD_ZERO';
/// Claiming has to be possible at all.
pub const CLAIM_END_PAST: felt252 = 'CLAIM_END_PAST';
/// What is promised until the claim end must not go back before it.
pub const REFUND_BEFORE_CLAIM_END: felt252 = 'REFUND_BEFORE_CLAIM_END';
/// A deposit is not kept for longer than `MAX_DURATION`; times are in seconds.
pub const REFUND_TOO_LATE: felt252 = 'REFUND_TOO_LATE';
/// A promise to nobody is a mistake of its sender.
pub const QUOTAS_EMPTY: felt252 = 'QUOTAS_EMPTY';
/// More quotas than `MAX_QUOTAS` might not fit into one transaction; `top_up` adds more.
pub const QUOTAS_TOO_MANY: felt252 = 'QUOTAS_TOO_MANY';
/// A quota of nothing is a mistake of its sender.
pub const QUOTA_ZERO: felt252 = 'QUOTA_ZERO';
/// Nobody anchors under the zero address.
pub const ANCHORER_ZERO: felt252 = 'ANCHORER_ZERO';
/// The funder has used this nonce, or the transaction landed already.
pub const POOL_EXISTS: felt252 = 'POOL_EXISTS';
/// What was received, with what the pool had to spare, does not pay for every promised claim.
pub const NOT_FUNDED: felt252 = 'NOT_FUNDED';
/// Only who opened a pool promises in it.
pub const NOT_THE_FUNDER: felt252 = 'NOT_THE_FUNDER';

// Claiming.

/// No pool has this id.
pub const POOL_UNKNOWN: felt252 = 'POOL_UNKNOWN';
/// What was left of the pool went back to its funder.
pub const POOL_ENDED: felt252 = 'POOL_ENDED';
/// The pool takes no claims any more.
pub const CLAIM_END_REACHED: felt252 = 'CLAIM_END_REACHED';
/// The ticket is worth nothing any more.
pub const TICKET_EXPIRED: felt252 = 'TICKET_EXPIRED';
/// A reward for the zero address would be lost.
pub const PAY_TO_ZERO: felt252 = 'PAY_TO_ZERO';
/// The pool pays others; what it owed to itself nobody could have.
pub const PAY_TO_POOL: felt252 = 'PAY_TO_POOL';
/// The anchorer's tickets were paid as often as the funder promised; zero if it never did.
pub const QUOTA_EXHAUSTED: felt252 = 'QUOTA_EXHAUSTED';
/// The handle was paid in this pool.
pub const ALREADY_CLAIMED: felt252 = 'ALREADY_CLAIMED';
/// The proof leads to no root.
pub const NOT_INCLUDED: felt252 = 'NOT_INCLUDED';
/// The anchorer anchored no such root.
pub const UNKNOWN_ANCHOR: felt252 = 'UNKNOWN_ANCHOR';
/// The consent was revoked.
pub const REVOKED: felt252 = 'REVOKED';
/// The claim key did not sign this claim to this address.
pub const BAD_SIGNATURE: felt252 = 'BAD_SIGNATURE';
/// A time of zero means "never" in storage, so nothing may be recorded at it.
pub const BLOCK_TIME_ZERO: felt252 = 'BLOCK_TIME_ZERO';
/// A call that claims nothing is a mistake of its sender.
pub const CLAIMS_EMPTY: felt252 = 'CLAIMS_EMPTY';
/// More claims than `MAX_CLAIMS` might not fit into one transaction.
pub const CLAIMS_TOO_MANY: felt252 = 'CLAIMS_TOO_MANY';

// Paying out.

/// Nothing accrued, or it was paid out already.
pub const NOTHING_ACCRUED: felt252 = 'NOTHING_ACCRUED';
/// What was promised until then stays.
pub const REFUND_TOO_EARLY: felt252 = 'REFUND_TOO_EARLY';
/// Promised claims are left: `refund` is the way, when its time has come.
pub const CLAIMS_LEFT: felt252 = 'CLAIMS_LEFT';

// Tokens.

/// Another contract called back while it was being called.
pub const REENTERED: felt252 = 'REENTERED';
/// The token said that it did not transfer.
pub const TOKEN_REFUSED: felt252 = 'TOKEN_REFUSED';
/// The token's answer is none that an ERC-20 gives.
pub const TOKEN_ANSWER: felt252 = 'TOKEN_ANSWER';
/// The token took more from the pool than it was told to pay, or less.
pub const TOKEN_PAID_OTHERWISE: felt252 = 'TOKEN_PAID_OTHERWISE';
/// A balance that a deposit has made smaller is none.
pub const TOKEN_LOST_BALANCE: felt252 = 'TOKEN_LOST_BALANCE';

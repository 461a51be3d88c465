//! The reasons for which `ConsentRegistry` reverts. Clients match on these very strings.

/// Heads are kept an address, and the zero address stands for nobody.
pub const CALLER_ZERO: felt252 = 'CALLER_ZERO';
/// The caller's head moved since the transaction was built, or the transaction landed already.
pub const HEAD_MISMATCH: felt252 = 'HEAD_MISMATCH';
/// Zero is the padding of the batch tree and never the root of leaves.
pub const ROOT_ZERO: felt252 = 'ROOT_ZERO';
/// A batch holds at least one leaf.
pub const LEAF_COUNT_ZERO: felt252 = 'LEAF_COUNT_ZERO';
/// Anchoring a root again would move the time at which its consents became known.
pub const ROOT_ALREADY_ANCHORED: felt252 = 'ROOT_ALREADY_ANCHORED';
/// A time of zero means "never" in storage, so nothing may be recorded at it.
pub const BLOCK_TIME_ZERO: felt252 = 'BLOCK_TIME_ZERO';
/// A call that revokes nothing is a mistake of its sender.
pub const REVOCATIONS_EMPTY: felt252 = 'REVOCATIONS_EMPTY';
/// More revocations than `MAX_REVOCATIONS` might not fit into one transaction.
pub const REVOCATIONS_TOO_MANY: felt252 = 'REVOCATIONS_TOO_MANY';
/// Nobody knows yet what will be revoked by a time that the block has not reached.
pub const TIME_AHEAD_OF_BLOCK: felt252 = 'TIME_AHEAD_OF_BLOCK';

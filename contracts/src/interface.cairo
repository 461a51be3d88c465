//! The interface of `ConsentRegistry`.

use starknet::ContractAddress;
use crate::types::{Opening, Proof, ReceiptTimes, Revocation, Signature, Verdict};

/// Anchors of consents and revocations. Permissionless: nobody owns the registry, nobody can
/// upgrade or pause it, and what one address anchors says nothing about another's.
#[starknet::interface]
pub trait IConsentRegistry<TState> {
    /// Anchors a batch under the caller's address and moves the caller's head.
    ///
    /// `expected_head` is a compare-and-swap: a transaction that is sent twice, or built on a
    /// head that has moved, lands at most once. `leaf_count` includes the padding; it enters the
    /// head and the event, and the cost does not depend on it.
    ///
    /// Requirements:
    ///
    /// - the caller is not the zero address (`CALLER_ZERO`).
    /// - `root` is not zero (`ROOT_ZERO`).
    /// - `leaf_count` is not zero (`LEAF_COUNT_ZERO`).
    /// - the block's time is not zero (`BLOCK_TIME_ZERO`).
    /// - `expected_head` is the caller's head, 0 before the first batch (`HEAD_MISMATCH`).
    /// - the caller has not anchored `root` before (`ROOT_ALREADY_ANCHORED`).
    ///
    /// Emits a `BatchAnchored` event.
    fn anchor(ref self: TState, expected_head: felt252, root: felt252, leaf_count: u64);

    /// Revokes the consent whose handle `secret` and `claim_key` open.
    ///
    /// Anyone may relay an opening, and the caller is not looked at. Opening a handle again
    /// changes nothing: the first time stands, and there is no un-revoke. No value of the two is
    /// refused, zero included: to revoke must never be harder than to grant. An opening of a
    /// handle that no consent uses is recorded and harms nobody.
    ///
    /// Requirements:
    ///
    /// - the block's time is not zero (`BLOCK_TIME_ZERO`).
    ///
    /// Emits a `ConsentRevoked` event, the first time only.
    fn revoke(ref self: TState, secret: felt252, claim_key: felt252);

    /// Revokes several consents as `revoke` does each. Handles that are revoked already, or that
    /// come twice, are passed over, so that one of them cannot hold up the rest.
    ///
    /// Requirements:
    ///
    /// - `revocations` is not empty (`REVOCATIONS_EMPTY`).
    /// - `revocations` has at most `MAX_REVOCATIONS` entries (`REVOCATIONS_TOO_MANY`).
    /// - the block's time is not zero (`BLOCK_TIME_ZERO`).
    ///
    /// Emits a `ConsentRevoked` event for each handle, the first time only.
    fn revoke_many(ref self: TState, revocations: Span<Revocation>);

    /// Returns the head of the chain of `anchorer`'s batches, 0 before the first.
    fn head_of(self: @TState, anchorer: ContractAddress) -> felt252;

    /// Returns the block time, in unix seconds, at which `anchorer` anchored `root`, or 0.
    fn anchored_at(self: @TState, anchorer: ContractAddress, root: felt252) -> u64;

    /// Returns the block time, in unix seconds, at which `handle` was first opened, or 0.
    fn revoked_at(self: @TState, handle: felt252) -> u64;

    /// Returns everything that a receipt is checked against, read at one block, with that
    /// block's time: two calls could fall on two blocks, with a revocation between them.
    fn receipt_times(
        self: @TState, anchorer: ContractAddress, root: felt252, handle: felt252,
    ) -> ReceiptTimes;

    /// Returns the verdict about a receipt at the time `at`, in unix seconds: the first that
    /// applies, in the order of `Verdict`.
    ///
    /// A free read for those who have no other verifier, never to be sent in a transaction: that
    /// would publish the opening. It answers for any custodian and any terms; which custodians
    /// are accepted, and what the terms permit, is for the verifier to decide. A malformed
    /// signature is `BadSignature`, as is a zero grantee. A proof of more than 32 levels or with
    /// an index at or above 2^depth is `NotIncluded`.
    ///
    /// Requirements:
    ///
    /// - `at` is not beyond the block's time (`TIME_AHEAD_OF_BLOCK`).
    fn verify_consent(
        self: @TState,
        anchorer: ContractAddress,
        root: felt252,
        terms_hi: u128,
        terms_lo: u128,
        opening: Opening,
        signature: Signature,
        proof: Proof,
        at: u64,
    ) -> Verdict;
}

//! The interface of `RewardPool`.

use starknet::ContractAddress;
use super::types::{AnchorerQuota, Claim, Pool, Promise, Quota, QuotaUse, Totals};

/// Pools of an ERC-20 that pay for consents. Permissionless: nobody owns the contract, nobody can
/// upgrade or pause it, and a pool's token, rewards and times never change.
///
/// Always, for a token that keeps its own books: its balance here is at least `owed(token)`, which
/// is what all pools hold for promised claims and what accrued and was not paid out.
#[starknet::interface]
pub trait IRewardPool<TState> {
    /// Opens the caller's pool number `nonce` and returns its id. Takes `deposit` of the token, to
    /// which the caller has allowed this contract before; what arrives counts, so that the deposit
    /// of a token with a fee is more than what is promised. What is to spare goes back at the end.
    ///
    /// Anchorers that come twice in `quotas` get the sum.
    ///
    /// Requirements:
    ///
    /// - the caller and the token are not zero (`CALLER_ZERO`, `TOKEN_ZERO`).
    /// - the reward is not zero (`REWARD_ZERO`).
    /// - the claim end is ahead (`CLAIM_END_PAST`), the refund time not before it
    ///   (`REFUND_BEFORE_CLAIM_END`) and at most `MAX_DURATION` ahead (`REFUND_TOO_LATE`).
    /// - one to `MAX_QUOTAS` quotas (`QUOTAS_EMPTY`, `QUOTAS_TOO_MANY`), each of some claims
    ///   (`QUOTA_ZERO`) for somebody (`ANCHORER_ZERO`).
    /// - the caller has no pool of this nonce (`POOL_EXISTS`).
    /// - what was received pays for every promised claim (`NOT_FUNDED`).
    /// - the token transfers, as `withdraw_for` says.
    ///
    /// Emits a `PoolOpened` event, and a `QuotaPromised` event a quota.
    fn open(
        ref self: TState, nonce: felt252, promise: Promise, quotas: Span<Quota>, deposit: u256,
    ) -> felt252;

    /// Promises more claims in a pool, and takes `deposit` for them, as `open` does.
    ///
    /// Requirements:
    ///
    /// - the pool exists (`POOL_UNKNOWN`), stands (`POOL_ENDED`) and takes claims
    ///   (`CLAIM_END_REACHED`).
    /// - the caller opened it (`NOT_THE_FUNDER`).
    /// - the quotas and the deposit are as `open` says.
    ///
    /// Emits a `ToppedUp` event, and a `QuotaPromised` event a quota.
    fn top_up(ref self: TState, pool_id: felt252, quotas: Span<Quota>, deposit: u256);

    /// Spends a ticket: the reward accrues to `pay_to`, the custodian's share to the anchorer.
    /// Nothing is transferred. Anyone may relay a claim, and the caller is not looked at.
    ///
    /// Requirements, in this order:
    ///
    /// - the block's time is not zero (`BLOCK_TIME_ZERO`).
    /// - the pool exists (`POOL_UNKNOWN`), stands (`POOL_ENDED`) and takes claims
    ///   (`CLAIM_END_REACHED`).
    /// - `claim_until` is ahead (`TICKET_EXPIRED`).
    /// - `pay_to` is not zero (`PAY_TO_ZERO`) and not this contract (`PAY_TO_POOL`).
    /// - the anchorer has a quota left (`QUOTA_EXHAUSTED`).
    /// - the handle was not paid in this pool (`ALREADY_CLAIMED`).
    /// - the proof leads to a root (`NOT_INCLUDED`) that the anchorer anchored (`UNKNOWN_ANCHOR`).
    /// - the handle is not revoked (`REVOKED`).
    /// - the claim key signed (`BAD_SIGNATURE`).
    ///
    /// Emits a `Claimed` event.
    fn claim(ref self: TState, claim: Claim);

    /// Spends several tickets as `claim` does each, and returns how many. One that cannot be spent
    /// is passed over, so that it costs the others nothing; but for one that is no claim by its
    /// form (an address or a time beyond its type), at which the call ends before it begins.
    ///
    /// Requirements:
    ///
    /// - one to `MAX_CLAIMS` claims (`CLAIMS_EMPTY`, `CLAIMS_TOO_MANY`).
    /// - the block's time is not zero (`BLOCK_TIME_ZERO`).
    ///
    /// Emits a `Claimed` or a `ClaimSkipped` event a claim.
    fn claim_many(ref self: TState, claims: Span<Claim>) -> u32;

    /// Pays everything that accrued to `owner` in one token, to the owner. Anyone may ask for it.
    ///
    /// Requirements:
    ///
    /// - something accrued (`NOTHING_ACCRUED`).
    /// - the token transfers: it does not revert, answers true or nothing (`TOKEN_REFUSED`,
    ///   `TOKEN_ANSWER`), takes just the amount from this contract (`TOKEN_PAID_OTHERWISE`), and
    ///   does not call back (`REENTERED`). Else it stays accrued.
    ///
    /// Emits a `Withdrawn` event.
    fn withdraw_for(ref self: TState, owner: ContractAddress, token: ContractAddress) -> u256;

    /// Ends a pool when its refund time has come: what is left accrues to the funder. Anyone may
    /// ask for it.
    ///
    /// Requirements:
    ///
    /// - the pool exists (`POOL_UNKNOWN`) and stands (`POOL_ENDED`).
    /// - its refund time has come (`REFUND_TOO_EARLY`).
    ///
    /// Emits a `PoolEnded` event.
    fn refund(ref self: TState, pool_id: felt252);

    /// Ends a pool before its refund time, when every promised claim was made: what is to spare
    /// accrues to the funder.
    ///
    /// Requirements:
    ///
    /// - the pool exists (`POOL_UNKNOWN`) and stands (`POOL_ENDED`).
    /// - the caller opened it (`NOT_THE_FUNDER`): another would keep it from being topped up.
    /// - no promised claim is left (`CLAIMS_LEFT`).
    ///
    /// Emits a `PoolEnded` event.
    fn close(ref self: TState, pool_id: felt252);

    /// Returns the registry by whose roots and revocations claims are judged.
    fn registry(self: @TState) -> ContractAddress;

    /// Returns a pool; its funder is zero if there is none.
    fn pool(self: @TState, pool_id: felt252) -> Pool;

    /// Returns how many pools there are.
    fn pool_count(self: @TState) -> u64;

    /// Returns the ids of at most `count` pools in the order of their opening, from number `start`
    /// on; `count` above `MAX_PAGE` is `MAX_PAGE`. The same holds for each list here.
    fn pool_ids(self: @TState, start: u64, count: u64) -> Span<felt252>;

    /// Returns how many pools `funder` opened.
    fn pool_count_of(self: @TState, funder: ContractAddress) -> u64;

    /// Returns the ids of `funder`'s pools.
    fn pool_ids_of(
        self: @TState, funder: ContractAddress, start: u64, count: u64,
    ) -> Span<felt252>;

    /// Returns what became of one anchorer's quota.
    fn quota(self: @TState, pool_id: felt252, anchorer: ContractAddress) -> QuotaUse;

    /// Returns how many anchorers have a quota in a pool.
    fn quota_count(self: @TState, pool_id: felt252) -> u64;

    /// Returns a pool's quotas in the order in which they were first promised.
    fn quotas(self: @TState, pool_id: felt252, start: u64, count: u64) -> Span<AnchorerQuota>;

    /// Returns the block time, in unix seconds, at which `handle` was paid in a pool, or 0.
    fn claimed_at(self: @TState, pool_id: felt252, handle: felt252) -> u64;

    /// Returns what accrued to `owner` in a token and was not paid out.
    fn accrued(self: @TState, owner: ContractAddress, token: ContractAddress) -> u256;

    /// Returns what `party` ever moved in a token.
    fn totals(self: @TState, party: ContractAddress, token: ContractAddress) -> Totals;

    /// Returns what is held of a token for promised claims and accrued to anybody.
    fn owed(self: @TState, token: ContractAddress) -> u256;
}

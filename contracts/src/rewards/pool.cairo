//! `RewardPool`: funded promises, and claims that accrue.
//!
//! What accrues moves from a pool's escrow to an owner's account and nowhere else; only
//! `withdraw_for` transfers out, after the books say so. Each token has books of its own, so that
//! one that lies harms nobody who does not hold it.

/// The most quotas in one call.
pub const MAX_QUOTAS: u32 = 64;
/// The most claims in one `claim_many`, far inside what one transaction may cost.
pub const MAX_CLAIMS: u32 = 64;
/// The most seconds from a pool's opening to its refund time: ten years. A time that is counted in
/// anything smaller than seconds would keep a deposit for ever.
pub const MAX_DURATION: u64 = 315_360_000;
/// The most entries of one page.
pub const MAX_PAGE: u64 = 100;

#[starknet::contract]
pub mod RewardPool {
    use core::num::traits::Zero;
    use starknet::storage::{
        Map, StorageMapReadAccess, StorageMapWriteAccess, StoragePathEntry,
        StoragePointerReadAccess, StoragePointerWriteAccess,
    };
    use starknet::{
        ContractAddress, get_block_timestamp, get_caller_address, get_contract_address,
        get_execution_info,
    };
    use crate::hashes;
    use crate::interface::{IConsentRegistryDispatcher, IConsentRegistryDispatcherTrait};
    use crate::rewards::interface::IRewardPool;
    use crate::rewards::types::{
        AnchorerQuota, Claim, Pool, Promise, Quota, QuotaUse, Totals,
    };
    use crate::rewards::{errors, token};
    use crate::signature::is_valid_signature;
    use crate::tree::root_of;
    use super::{MAX_CLAIMS, MAX_DURATION, MAX_PAGE, MAX_QUOTAS};

    #[storage]
    struct Storage {
        registry: ContractAddress,
        pools: Map<felt252, Pool>,
        pool_count: u64,
        pool_ids: Map<u64, felt252>,
        funder_pool_count: Map<ContractAddress, u64>,
        funder_pool_ids: Map<(ContractAddress, u64), felt252>,
        quotas: Map<(felt252, ContractAddress), QuotaUse>,
        quota_count: Map<felt252, u64>,
        quota_anchorers: Map<(felt252, u64), ContractAddress>,
        /// When a handle was paid in a pool, 0 if never.
        claimed: Map<(felt252, felt252), u64>,
        accrued: Map<(ContractAddress, ContractAddress), u256>,
        totals: Map<(ContractAddress, ContractAddress), Totals>,
        /// All escrow and accrued balances of a token.
        owed: Map<ContractAddress, u256>,
        /// Whether another contract is being called: nothing here changes meanwhile.
        is_busy: bool,
    }

    #[event]
    #[derive(Drop, PartialEq, Debug, starknet::Event)]
    pub enum Event {
        PoolOpened: PoolOpened,
        QuotaPromised: QuotaPromised,
        ToppedUp: ToppedUp,
        Claimed: Claimed,
        ClaimSkipped: ClaimSkipped,
        Withdrawn: Withdrawn,
        PoolEnded: PoolEnded,
    }

    /// Emitted when a pool is opened.
    #[derive(Drop, PartialEq, Debug, starknet::Event)]
    pub struct PoolOpened {
        #[key]
        pub pool_id: felt252,
        #[key]
        pub funder: ContractAddress,
        pub nonce: felt252,
        pub promise: Promise,
        /// What arrived of the deposit.
        pub received: u256,
    }

    /// Emitted when an anchorer may promise more.
    #[derive(Drop, PartialEq, Debug, starknet::Event)]
    pub struct QuotaPromised {
        #[key]
        pub pool_id: felt252,
        #[key]
        pub anchorer: ContractAddress,
        /// By how many claims.
        pub claims: u64,
    }

    /// Emitted when a pool receives more after its opening.
    #[derive(Drop, PartialEq, Debug, starknet::Event)]
    pub struct ToppedUp {
        #[key]
        pub pool_id: felt252,
        #[key]
        pub funder: ContractAddress,
        /// What arrived of the deposit.
        pub received: u256,
    }

    /// Emitted when a ticket is spent. A patient's client filters by the handle, a custodian by
    /// its address.
    #[derive(Drop, PartialEq, Debug, starknet::Event)]
    pub struct Claimed {
        #[key]
        pub pool_id: felt252,
        #[key]
        pub anchorer: ContractAddress,
        #[key]
        pub handle: felt252,
        pub pay_to: ContractAddress,
        /// The block's time, as `claimed_at` returns it from now on.
        pub claimed_at: u64,
    }

    /// Emitted when `claim_many` passes over a claim.
    #[derive(Drop, PartialEq, Debug, starknet::Event)]
    pub struct ClaimSkipped {
        #[key]
        pub pool_id: felt252,
        #[key]
        pub handle: felt252,
        /// As `claim` would have reverted.
        pub reason: felt252,
    }

    /// Emitted when an owner is paid out.
    #[derive(Drop, PartialEq, Debug, starknet::Event)]
    pub struct Withdrawn {
        #[key]
        pub owner: ContractAddress,
        #[key]
        pub token: ContractAddress,
        pub amount: u256,
    }

    /// Emitted when what is left of a pool accrues to its funder.
    #[derive(Drop, PartialEq, Debug, starknet::Event)]
    pub struct PoolEnded {
        #[key]
        pub pool_id: felt252,
        #[key]
        pub funder: ContractAddress,
        pub amount: u256,
        /// Promised claims that nobody made.
        pub claims_left: u64,
    }

    #[constructor]
    fn constructor(ref self: ContractState, registry: ContractAddress) {
        assert(Zero::is_non_zero(@registry), errors::REGISTRY_ZERO);
        // One that does not answer would refuse every claim, and deposits would wait for their end.
        let asked = IConsentRegistryDispatcher { contract_address: registry };
        let _ = asked.receipt_times(registry, 0, 0);
        self.registry.write(registry);
    }

    #[abi(embed_v0)]
    impl RewardPoolImpl of IRewardPool<ContractState> {
        fn open(
            ref self: ContractState,
            nonce: felt252,
            promise: Promise,
            quotas: Span<Quota>,
            deposit: u256,
        ) -> felt252 {
            let funder = get_caller_address();
            assert(Zero::is_non_zero(@funder), errors::CALLER_ZERO);
            assert(Zero::is_non_zero(@promise.token), errors::TOKEN_ZERO);
            assert(promise.reward != 0, errors::REWARD_ZERO);
            assert(promise.claim_end > get_block_timestamp(), errors::CLAIM_END_PAST);
            assert(
                promise.refund_time >= promise.claim_end, errors::REFUND_BEFORE_CLAIM_END,
            );
            let lasts = promise.refund_time - get_block_timestamp();
            assert(lasts <= MAX_DURATION, errors::REFUND_TOO_LATE);
            let pool_id = this_pool_id(funder, nonce);
            let opened_by: ContractAddress = self.pools.entry(pool_id).funder.read();
            assert(Zero::is_zero(@opened_by), errors::POOL_EXISTS);

            let received = self.take(promise.token, funder, deposit);
            let pool = Pool { funder, promise, claims_left: 0, escrow: received, ended_at: 0 };
            self.pools.write(pool_id, pool);
            self.list(pool_id, funder);
            self.emit(PoolOpened { pool_id, funder, nonce, promise, received });
            self.promise_claims(pool_id, pool, quotas);
            pool_id
        }

        fn top_up(
            ref self: ContractState, pool_id: felt252, quotas: Span<Quota>, deposit: u256,
        ) {
            let mut pool = self.standing(pool_id);
            let funder = get_caller_address();
            assert(funder == pool.funder, errors::NOT_THE_FUNDER);
            let now = get_block_timestamp();
            assert(now < pool.promise.claim_end, errors::CLAIM_END_REACHED);

            let received = self.take(pool.promise.token, funder, deposit);
            // A claim cannot have come in between: it is refused while a token is called.
            pool.escrow += received;
            self.pools.entry(pool_id).escrow.write(pool.escrow);
            self.emit(ToppedUp { pool_id, funder, received });
            self.promise_claims(pool_id, pool, quotas);
        }

        fn claim(ref self: ContractState, claim: Claim) {
            let now = self.begin_claims();
            match self.spend(claim, handle_of(claim), now) {
                Result::Ok(()) => self.is_busy.write(false),
                Result::Err(reason) => core::panic_with_felt252(reason),
            }
        }

        fn claim_many(ref self: ContractState, claims: Span<Claim>) -> u32 {
            assert(!claims.is_empty(), errors::CLAIMS_EMPTY);
            assert(claims.len() <= MAX_CLAIMS, errors::CLAIMS_TOO_MANY);
            let now = self.begin_claims();
            let mut spent = 0;
            for claim in claims {
                let handle = handle_of(*claim);
                match self.spend(*claim, handle, now) {
                    Result::Ok(()) => spent += 1,
                    Result::Err(reason) => {
                        self.emit(ClaimSkipped { pool_id: *claim.pool_id, handle, reason });
                    },
                }
            };
            self.is_busy.write(false);
            spent
        }

        fn withdraw_for(
            ref self: ContractState, owner: ContractAddress, token: ContractAddress,
        ) -> u256 {
            let amount = self.accrued.read((owner, token));
            assert(amount != 0, errors::NOTHING_ACCRUED);
            self.accrued.write((owner, token), 0);
            let mut totals = self.totals.read((owner, token));
            totals.withdrawn += amount;
            self.totals.write((owner, token), totals);
            self.owed.write(token, self.owed.read(token) - amount);
            self.emit(Withdrawn { owner, token, amount });
            self.pay(token, owner, amount);
            amount
        }

        fn refund(ref self: ContractState, pool_id: felt252) {
            let pool = self.standing(pool_id);
            let now = get_block_timestamp();
            assert(now >= pool.promise.refund_time, errors::REFUND_TOO_EARLY);
            self.end(pool_id, pool);
        }

        fn close(ref self: ContractState, pool_id: felt252) {
            let pool = self.standing(pool_id);
            assert(get_caller_address() == pool.funder, errors::NOT_THE_FUNDER);
            assert(pool.claims_left == 0, errors::CLAIMS_LEFT);
            self.end(pool_id, pool);
        }

        fn registry(self: @ContractState) -> ContractAddress {
            self.registry.read()
        }

        fn pool(self: @ContractState, pool_id: felt252) -> Pool {
            self.pools.read(pool_id)
        }

        fn pool_count(self: @ContractState) -> u64 {
            self.pool_count.read()
        }

        fn pool_ids(self: @ContractState, start: u64, count: u64) -> Span<felt252> {
            let mut ids = array![];
            for number in page(start, count, self.pool_count.read()) {
                ids.append(self.pool_ids.read(number));
            };
            ids.span()
        }

        fn pool_count_of(self: @ContractState, funder: ContractAddress) -> u64 {
            self.funder_pool_count.read(funder)
        }

        fn pool_ids_of(
            self: @ContractState, funder: ContractAddress, start: u64, count: u64,
        ) -> Span<felt252> {
            let mut ids = array![];
            for number in page(start, count, self.funder_pool_count.read(funder)) {
                ids.append(self.funder_pool_ids.read((funder, number)));
            };
            ids.span()
        }

        fn quota(
            self: @ContractState, pool_id: felt252, anchorer: ContractAddress,
        ) -> QuotaUse {
            self.quotas.read((pool_id, anchorer))
        }

        fn quota_count(self: @ContractState, pool_id: felt252) -> u64 {
            self.quota_count.read(pool_id)
        }

        fn quotas(
            self: @ContractState, pool_id: felt252, start: u64, count: u64,
        ) -> Span<AnchorerQuota> {
            let mut quotas = array![];
            for number in page(start, count, self.quota_count.read(pool_id)) {
                let anchorer = self.quota_anchorers.read((pool_id, number));
                let QuotaUse { promised, claimed } = self.quotas.read((pool_id, anchorer));
                quotas.append(AnchorerQuota { anchorer, promised, claimed });
            };
            quotas.span()
        }

        fn claimed_at(self: @ContractState, pool_id: felt252, handle: felt252) -> u64 {
            self.claimed.read((pool_id, handle))
        }

        fn accrued(
            self: @ContractState, owner: ContractAddress, token: ContractAddress,
        ) -> u256 {
            self.accrued.read((owner, token))
        }

        fn totals(
            self: @ContractState, party: ContractAddress, token: ContractAddress,
        ) -> Totals {
            self.totals.read((party, token))
        }

        fn owed(self: @ContractState, token: ContractAddress) -> u256 {
            self.owed.read(token)
        }
    }

    #[generate_trait]
    impl Promises of PromisesTrait {
        /// A pool that exists and was not ended.
        fn standing(self: @ContractState, pool_id: felt252) -> Pool {
            let pool = self.pools.read(pool_id);
            match refusal_of(pool) {
                Option::None => pool,
                Option::Some(reason) => core::panic_with_felt252(reason),
            }
        }

        fn list(ref self: ContractState, pool_id: felt252, funder: ContractAddress) {
            let number = self.pool_count.read();
            self.pool_ids.write(number, pool_id);
            self.pool_count.write(number + 1);
            let number = self.funder_pool_count.read(funder);
            self.funder_pool_ids.write((funder, number), pool_id);
            self.funder_pool_count.write(funder, number + 1);
        }

        /// Adds quotas to a pool whose escrow has to pay for all that is promised in it then.
        fn promise_claims(
            ref self: ContractState, pool_id: felt252, pool: Pool, quotas: Span<Quota>,
        ) {
            assert(!quotas.is_empty(), errors::QUOTAS_EMPTY);
            assert(quotas.len() <= MAX_QUOTAS, errors::QUOTAS_TOO_MANY);
            let mut claims_left = pool.claims_left;
            for quota in quotas {
                let Quota { anchorer, claims } = *quota;
                assert(Zero::is_non_zero(@anchorer), errors::ANCHORER_ZERO);
                assert(claims != 0, errors::QUOTA_ZERO);
                let mut used = self.quotas.read((pool_id, anchorer));
                if used.promised == 0 {
                    let number = self.quota_count.read(pool_id);
                    self.quota_anchorers.write((pool_id, number), anchorer);
                    self.quota_count.write(pool_id, number + 1);
                }
                used.promised += claims;
                self.quotas.write((pool_id, anchorer), used);
                claims_left += claims;
                self.emit(QuotaPromised { pool_id, anchorer, claims });
            };
            // Below 2^193: neither sum nor product overflows.
            let promised: u256 = claims_left.into() * price(pool.promise);
            assert(pool.escrow >= promised, errors::NOT_FUNDED);
            self.pools.entry(pool_id).claims_left.write(claims_left);
        }

        /// Ends a pool: what is left accrues to the funder.
        fn end(ref self: ContractState, pool_id: felt252, pool: Pool) {
            let now = recordable_time();
            // The books of a token must not move while it is asked for a balance.
            assert(!self.is_busy.read(), errors::REENTERED);
            let Pool { funder, promise, claims_left, escrow: amount, .. } = pool;
            let entry = self.pools.entry(pool_id);
            entry.ended_at.write(now);
            entry.claims_left.write(0);
            entry.escrow.write(0);
            self.accrue(funder, promise.token, amount);
            let mut totals = self.totals.read((funder, promise.token));
            totals.refunded += amount;
            self.totals.write((funder, promise.token), totals);
            self.emit(PoolEnded { pool_id, funder, amount, claims_left });
        }
    }

    #[generate_trait]
    impl Claims of ClaimsTrait {
        /// No registry is let in again while it is asked, whatever its code is.
        fn begin_claims(ref self: ContractState) -> u64 {
            self.enter();
            recordable_time()
        }

        /// Spends a ticket, or says why not and changes nothing.
        fn spend(
            ref self: ContractState, claim: Claim, handle: felt252, now: u64,
        ) -> Result<(), felt252> {
            let Claim { pool_id, anchorer, pay_to, .. } = claim;
            let pool = self.pools.read(pool_id);
            let mut quota = self.quotas.read((pool_id, anchorer));
            if let Option::Some(reason) = refusal_of(pool) {
                return Result::Err(reason);
            }
            if now >= pool.promise.claim_end {
                return Result::Err(errors::CLAIM_END_REACHED);
            }
            if now >= claim.claim_until {
                return Result::Err(errors::TICKET_EXPIRED);
            }
            if Zero::is_zero(@pay_to) {
                return Result::Err(errors::PAY_TO_ZERO);
            }
            if pay_to == get_contract_address() {
                return Result::Err(errors::PAY_TO_POOL);
            }
            if quota.claimed == quota.promised {
                return Result::Err(errors::QUOTA_EXHAUSTED);
            }
            if self.claimed.read((pool_id, handle)) != 0 {
                return Result::Err(errors::ALREADY_CLAIMED);
            }
            self.check_ticket(claim, handle)?;
            check_signature(claim, handle)?;

            self.claimed.write((pool_id, handle), now);
            quota.claimed += 1;
            self.quotas.write((pool_id, anchorer), quota);
            let entry = self.pools.entry(pool_id);
            entry.claims_left.write(pool.claims_left - 1);
            entry.escrow.write(pool.escrow - price(pool.promise));
            let Promise { token, reward, custodian_share, .. } = pool.promise;
            self.accrue(pay_to, token, reward.into());
            self.accrue(anchorer, token, custodian_share.into());
            self.emit(Claimed { pool_id, anchorer, handle, pay_to, claimed_at: now });
            Result::Ok(())
        }

        /// Whether the anchorer anchored this ticket and its consent lives.
        fn check_ticket(
            self: @ContractState, claim: Claim, handle: felt252,
        ) -> Result<(), felt252> {
            let Claim { pool_id, anchorer, claim_until, salt, proof, .. } = claim;
            let leaf = hashes::ticket_leaf(pool_id, anchorer.into(), handle, claim_until, salt);
            let root = root_of(leaf, proof).ok_or(errors::NOT_INCLUDED)?;
            let registry = IConsentRegistryDispatcher { contract_address: self.registry.read() };
            let times = registry.receipt_times(anchorer, root, handle);
            if times.anchored_at == 0 {
                return Result::Err(errors::UNKNOWN_ANCHOR);
            }
            if times.revoked_at != 0 {
                return Result::Err(errors::REVOKED);
            }
            Result::Ok(())
        }
    }

    #[generate_trait]
    impl Books of BooksTrait {
        fn accrue(
            ref self: ContractState,
            owner: ContractAddress,
            token: ContractAddress,
            amount: u256,
        ) {
            if amount != 0 {
                self.accrued.write((owner, token), self.accrued.read((owner, token)) + amount);
            }
        }

        /// Takes a deposit and returns what arrived of it.
        fn take(
            ref self: ContractState,
            token: ContractAddress,
            funder: ContractAddress,
            deposit: u256,
        ) -> u256 {
            let this = get_contract_address();
            self.enter();
            let before = token::balance_of(token, this);
            token::transfer_from(token, funder, this, deposit);
            let after = token::balance_of(token, this);
            self.is_busy.write(false);
            assert(after >= before, errors::TOKEN_LOST_BALANCE);
            let received = after - before;
            self.owed.write(token, self.owed.read(token) + received);
            let mut totals = self.totals.read((funder, token));
            totals.deposited += received;
            self.totals.write((funder, token), totals);
            received
        }

        /// Pays what the books no longer have.
        fn pay(
            ref self: ContractState,
            token: ContractAddress,
            owner: ContractAddress,
            amount: u256,
        ) {
            let this = get_contract_address();
            self.enter();
            let before = token::balance_of(token, this);
            token::transfer(token, owner, amount);
            let after = token::balance_of(token, this);
            self.is_busy.write(false);
            // More would be paid by other owners of the token; and who was paid less than the books
            // say now would have lost it: whoever asks for it then, it stays accrued.
            assert(before >= after && before - after == amount, errors::TOKEN_PAID_OTHERWISE);
        }

        /// Notes that another contract is called.
        fn enter(ref self: ContractState) {
            assert(!self.is_busy.read(), errors::REENTERED);
            self.is_busy.write(true);
        }
    }

    /// What one claim takes out of a pool's escrow.
    fn price(promise: Promise) -> u256 {
        promise.reward.into() + promise.custodian_share.into()
    }

    fn refusal_of(pool: Pool) -> Option<felt252> {
        if Zero::is_zero(@pool.funder) {
            return Option::Some(errors::POOL_UNKNOWN);
        }
        if pool.ended_at != 0 {
            return Option::Some(errors::POOL_ENDED);
        }
        Option::None
    }

    fn handle_of(claim: Claim) -> felt252 {
        hashes::revocation_handle(claim.secret_hash, claim.claim_key)
    }

    fn check_signature(claim: Claim, handle: felt252) -> Result<(), felt252> {
        let (chain_id, this) = deployment();
        let message = hashes::claim_message(
            chain_id, this, claim.pool_id, handle, claim.pay_to.into(),
        );
        if is_valid_signature(message, claim.claim_key, claim.signature) {
            Result::Ok(())
        } else {
            Result::Err(errors::BAD_SIGNATURE)
        }
    }

    fn this_pool_id(funder: ContractAddress, nonce: felt252) -> felt252 {
        let (chain_id, this) = deployment();
        hashes::pool_id(chain_id, this, funder.into(), nonce)
    }

    /// The chain's id and this contract's address, to which pools and claims are bound.
    fn deployment() -> (felt252, felt252) {
        let execution = get_execution_info().unbox();
        (execution.tx_info.unbox().chain_id, execution.contract_address.into())
    }

    /// The block's time, refused where storing it would read as "never".
    fn recordable_time() -> u64 {
        let now = get_block_timestamp();
        assert(now != 0, errors::BLOCK_TIME_ZERO);
        now
    }

    /// The numbers of a page of a list with `len` entries.
    fn page(start: u64, count: u64, len: u64) -> core::ops::Range<u64> {
        let start = core::cmp::min(start, len);
        let count = core::cmp::min(core::cmp::min(count, MAX_PAGE), len - start);
        start..start + count
    }
}

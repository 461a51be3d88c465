//! A chain in memory with the registry's rules, and faults on demand.

mod account;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use medsync::chain::{
    BlockAt, Chain, ChainError, Facts, Fri, Opened, Prepared, RevertReason, TicketTimes,
    TransactionStatus,
};
use medsync_protocol::anchor::{AnchorHead, LeafCount};
use medsync_protocol::claim::Claim;
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{Anchorer, ChainId, ClassHash, ContractAddress, UnixSeconds};
use medsync_protocol::receipt::{BlockHash, BlockNumber, ChainFacts, TransactionHash};
use medsync_protocol::secrets::{ConsentSecrets, Handle, RevocationSecret};
use medsync_protocol::signature::PublicKey;
use medsync_protocol::ticket::PoolId;
use medsync_protocol::tree::Root;
use serde::{Deserialize, Serialize};

use super::faults::Faults;

/// What a transaction costs.
pub const FEE: Fri = Fri(1_500_000_000_000_000);

/// What a transaction does, as its payload says.
#[derive(Serialize, Deserialize)]
enum Payload {
    Anchor {
        expected: AnchorHead,
        root: Root,
        leaf_count: LeafCount,
    },
    Revoke {
        openings: Vec<(String, PublicKey)>,
    },
    /// One reverts if it cannot be; of several, those are passed over.
    Claim(Vec<Claim>),
}

#[derive(Clone, Default)]
struct State {
    head: Option<AnchorHead>,
    anchored: HashMap<Root, UnixSeconds>,
    revoked: HashMap<Handle, UnixSeconds>,
    /// What opened them, as far as transactions say.
    openings: HashMap<Handle, Opened>,
    claimed: HashMap<(PoolId, Handle), UnixSeconds>,
    /// Where what was claimed goes.
    paid: BTreeMap<(PoolId, Handle), ContractAddress>,
    nonces: HashMap<ContractAddress, u64>,
    transactions: HashMap<TransactionHash, TransactionStatus>,
    height: u64,
    /// Since when it says that it has any batch that it is asked about.
    claims_all: Option<UnixSeconds>,
    /// Whether it says that whatever was sent is in a block of a time to come.
    claims_later: bool,
    /// What it says that everything cost.
    says_fee: Option<Fri>,
    /// Whether it says that no pool takes anything.
    refuses_all: bool,
    /// Whether it does not have the contract.
    is_empty: bool,
    /// Whether what is sent comes into no block for now.
    is_stuck: bool,
    /// Whether nobody pays more than before.
    is_capped: bool,
    /// What is known and in no block, the oldest first.
    pool: Vec<(ContractAddress, Prepared)>,
}

/// The chain; all accounts share it.
#[derive(Clone)]
pub struct FakeChain {
    state: Arc<Mutex<State>>,
    faults: Faults,
}

/// An account on it.
pub struct FakeAccount {
    pub chain: FakeChain,
    pub address: ContractAddress,
}

fn broken() -> ChainError {
    ChainError::Unreachable("a fault of the test".into())
}

impl FakeChain {
    pub fn new(faults: Faults) -> Self {
        Self {
            state: Arc::default(),
            faults,
        }
    }

    /// The roots that are anchored.
    pub fn anchored(&self) -> Vec<Root> {
        self.state
            .lock()
            .expect("one test")
            .anchored
            .keys()
            .copied()
            .collect()
    }

    pub fn revoked(&self) -> Vec<Handle> {
        self.state
            .lock()
            .expect("one test")
            .revoked
            .keys()
            .copied()
            .collect()
    }

    /// Somebody who holds the opening sends it from an account of their own.
    pub fn revoke_past_everybody(&self, handle: Handle, at: UnixSeconds) {
        let mut state = self.state.lock().expect("one test");
        state.revoked.insert(handle, at);
    }

    /// The same, by a transaction that says what opened it.
    pub fn open_past_everybody(&self, secrets: &ConsentSecrets, at: UnixSeconds) {
        let handle = secrets.handle();
        self.revoke_past_everybody(handle, at);
        let opened = (secrets.secret.clone(), secrets.claim_key.public_key());
        let mut state = self.state.lock().expect("one test");
        state.openings.insert(handle, opened);
    }

    /// The blocks since are dropped, and a revocation with them.
    pub fn forget_revocation(&self, handle: Handle) {
        let mut state = self.state.lock().expect("one test");
        state.revoked.remove(&handle);
    }

    /// Somebody claims a reward.
    pub fn claim(&self, pool: PoolId, handle: Handle) {
        let mut state = self.state.lock().expect("one test");
        let time = Self::tip(&state).time;
        state.claimed.insert((pool, handle), time);
    }

    /// The rewards that were claimed, and where they go.
    pub fn claimed(&self) -> Vec<(PoolId, Handle, ContractAddress)> {
        let state = self.state.lock().expect("one test");
        let paid = state.paid.iter();
        paid.map(|((pool, handle), to)| (*pool, *handle, *to))
            .collect()
    }

    /// Why a pool would refuse a claim, as the contract's order of reasons is.
    fn refuses(state: &State, claim: &Claim) -> Option<&'static str> {
        let handle = claim.handle();
        if state.claimed.contains_key(&(claim.pool, handle)) {
            return Some("ALREADY_CLAIMED");
        }
        if state.revoked.contains_key(&handle) {
            return Some("REVOKED");
        }
        let root = claim.proof.root_of(claim.ticket().leaf());
        match root.is_ok_and(|root| state.anchored.contains_key(&root)) {
            true => None,
            false => Some("UNKNOWN_ANCHOR"),
        }
    }

    /// The same chain by an endpoint that fails in its own way.
    pub fn with_faults(&self, faults: Faults) -> Self {
        Self {
            faults,
            ..self.clone()
        }
    }

    /// Another endpoint, which knows what this one knows now.
    pub fn fork(&self) -> Self {
        Self {
            state: Arc::new(Mutex::new(self.state.lock().expect("one test").clone())),
            faults: Faults::planned(Vec::new()),
        }
    }

    /// The chain, or what an endpoint says of it, turns out not to have any of it.
    pub fn forget_everything(&self) {
        let mut state = self.state.lock().expect("one test");
        state.head = None;
        state.anchored.clear();
        state.revoked.clear();
        state.transactions.clear();
        state.nonces.clear();
        state.height += 1_000;
    }

    /// The blocks since it was as in `before` are dropped, and others without a transaction are
    /// made.
    pub fn go_back_to(&self, before: &Self) {
        let before = before.state.lock().expect("one test").clone();
        let mut state = self.state.lock().expect("one test");
        let height = state.height + 1_000;
        *state = State { height, ..before };
    }

    /// From now on it says that it has any batch, since then.
    pub fn claim_every_batch(&self, since: UnixSeconds) {
        self.state.lock().expect("one test").claims_all = Some(since);
    }

    /// From now on it says that whatever was sent is in a block of a time to come.
    pub fn claim_that_all_is_in_a_block_to_come(&self) {
        self.state.lock().expect("one test").claims_later = true;
    }

    /// From now on it says that everything cost so much.
    pub fn say_fee(&self, fee: Fri) {
        self.state.lock().expect("one test").says_fee = Some(fee);
    }

    /// From now on it says that no pool takes anything.
    pub fn refuse_all_claims(&self) {
        self.state.lock().expect("one test").refuses_all = true;
    }

    /// From now on it does not have the contract.
    pub fn lack_the_contract(&self) {
        self.state.lock().expect("one test").is_empty = true;
    }

    /// From now on what is sent stays out of all blocks.
    pub fn get_stuck(&self) {
        self.state.lock().expect("one test").is_stuck = true;
    }

    /// From now on no account pays more for a transaction than it did.
    pub fn cap_fees(&self) {
        self.state.lock().expect("one test").is_capped = true;
    }

    /// What is in no block is not known any more.
    pub fn drop_pool(&self) {
        let mut state = self.state.lock().expect("one test");
        for (_, transaction) in std::mem::take(&mut state.pool) {
            state.transactions.remove(&transaction.hash);
        }
    }

    /// What is known and in no block.
    pub fn pool(&self) -> usize {
        self.state.lock().expect("one test").pool.len()
    }

    /// Blocks are made again, first of the oldest that was sent or first of the newest; what then
    /// has another nonce than the next is dropped.
    pub fn go_on(&self, is_oldest_first: bool) {
        let mut state = self.state.lock().expect("one test");
        state.is_stuck = false;
        let mut pool = std::mem::take(&mut state.pool);
        if !is_oldest_first {
            pool.reverse();
        }
        for (address, transaction) in pool {
            state.transactions.remove(&transaction.hash);
            if Self::next_nonce(&state, address) == transaction.nonce.0 {
                Self::include(&mut state, address, &transaction);
            }
        }
    }

    fn next_nonce(state: &State, address: ContractAddress) -> u64 {
        state.nonces.get(&address).copied().unwrap_or_default()
    }

    /// A block with just this transaction.
    fn include(state: &mut State, address: ContractAddress, transaction: &Prepared) {
        state.nonces.insert(address, transaction.nonce.0 + 1);
        state.height += 1;
        let payload = serde_json::from_str(&transaction.payload).expect("what was prepared");
        let applied = Self::apply(state, payload);
        let block = Self::tip(state);
        let status = match applied {
            Ok(()) => TransactionStatus::Accepted { block },
            Err(why) => TransactionStatus::Reverted {
                reason: RevertReason::new(why),
                block,
            },
        };
        state.transactions.insert(transaction.hash, status);
    }

    /// Closes empty blocks.
    pub fn grow(&self, blocks: u64) {
        self.state.lock().expect("one test").height += blocks;
    }

    /// The time of the newest block.
    pub fn time(&self) -> UnixSeconds {
        Self::tip(&self.state.lock().expect("one test")).time
    }

    fn tip(state: &State) -> BlockAt {
        BlockAt {
            number: BlockNumber(state.height),
            hash: BlockHash::from_felt(Felt::from(state.height)),
            time: UnixSeconds(1_000 + state.height),
        }
    }

    fn apply(state: &mut State, payload: Payload) -> Result<(), &'static str> {
        let time = Self::tip(state).time;
        match payload {
            Payload::Anchor {
                expected,
                root,
                leaf_count,
            } => {
                if leaf_count == LeafCount(0) {
                    return Err("LEAF_COUNT_ZERO");
                }
                let head = state.head.unwrap_or(AnchorHead::START);
                if head != expected {
                    return Err("HEAD_MISMATCH");
                }
                if state.anchored.contains_key(&root) {
                    return Err("ROOT_ALREADY_ANCHORED");
                }
                state.head = Some(head.next(root, leaf_count));
                state.anchored.insert(root, time);
            }
            Payload::Revoke { openings } => {
                for (secret, claim_key) in openings {
                    let secret = RevocationSecret::parse(&secret).expect("ours");
                    state
                        .revoked
                        .entry(Handle::of(secret.hash(), claim_key))
                        .or_insert(time);
                }
            }
            Payload::Claim(claims) => {
                let is_alone = claims.len() == 1;
                for claim in claims {
                    match Self::refuses(state, &claim) {
                        Some(reason) if is_alone => return Err(reason),
                        Some(_) => {}
                        None => {
                            let name = (claim.pool, claim.handle());
                            state.claimed.insert(name, time);
                            state.paid.insert(name, claim.pay_to);
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Chain for FakeChain {
    async fn chain_id(&self) -> Result<ChainId, ChainError> {
        Ok(ChainId::from_felt(Felt::ONE))
    }

    async fn block_at(&self, number: BlockNumber) -> Result<Option<BlockAt>, ChainError> {
        let state = self.state.lock().expect("one test");
        let (BlockNumber(height), tip) = (number, Self::tip(&state));
        Ok((height <= state.height).then(|| BlockAt {
            number,
            hash: BlockHash::from_felt(Felt::from(height)),
            time: UnixSeconds(tip.time.0 - (state.height - height)),
        }))
    }

    async fn tip(&self) -> Result<BlockAt, ChainError> {
        self.faults.before("tip").map_err(|()| broken())?;
        Ok(Self::tip(&self.state.lock().expect("one test")))
    }

    async fn class_hash_at(&self, _: ContractAddress) -> Result<Option<ClassHash>, ChainError> {
        let is_empty = self.state.lock().expect("one test").is_empty;
        Ok((!is_empty).then(|| ClassHash::from_felt(Felt::ONE)))
    }

    async fn head_of(&self, _: ContractAddress, _: Anchorer) -> Result<AnchorHead, ChainError> {
        self.faults.before("head_of").map_err(|()| broken())?;
        Ok(self
            .state
            .lock()
            .expect("one test")
            .head
            .unwrap_or(AnchorHead::START))
    }

    async fn anchored_at(
        &self,
        _: ContractAddress,
        _: Anchorer,
        root: Root,
    ) -> Result<Option<UnixSeconds>, ChainError> {
        self.faults.before("anchored_at").map_err(|()| broken())?;
        let state = self.state.lock().expect("one test");
        Ok(state.anchored.get(&root).copied().or(state.claims_all))
    }

    async fn anchored_roots(
        &self,
        _: ContractAddress,
        _: Anchorer,
        _: BlockNumber,
    ) -> Result<Option<BTreeSet<Root>>, ChainError> {
        self.faults
            .before("anchored_roots")
            .map_err(|()| broken())?;
        Ok(Some(self.anchored().into_iter().collect()))
    }

    async fn opening_of(
        &self,
        _: ContractAddress,
        handle: Handle,
    ) -> Result<Option<Opened>, ChainError> {
        self.faults.before("opening_of").map_err(|()| broken())?;
        let state = self.state.lock().expect("one test");
        Ok(state.openings.get(&handle).cloned())
    }

    async fn facts(
        &self,
        registry: ContractAddress,
        anchorer: Anchorer,
        root: Root,
        handle: Handle,
    ) -> Result<Facts, ChainError> {
        let anchored_at = self.anchored_at(registry, anchorer, root).await?;
        let (revoked, block) = self.revoked_at(registry, &[handle]).await?;
        let chain = ChainFacts {
            anchored_at,
            revoked_at: revoked[0],
            block_time: block.time,
        };
        Ok(Facts {
            class_hash: ClassHash::from_felt(Felt::ONE),
            chain,
            block,
        })
    }

    async fn revoked_at(
        &self,
        _: ContractAddress,
        handles: &[Handle],
    ) -> Result<(Vec<Option<UnixSeconds>>, BlockAt), ChainError> {
        self.faults.before("revoked_at").map_err(|()| broken())?;
        let state = self.state.lock().expect("one test");
        let times = handles
            .iter()
            .map(|handle| state.revoked.get(handle).copied())
            .collect();
        Ok((times, Self::tip(&state)))
    }

    async fn ticket_times(
        &self,
        _: ContractAddress,
        _: ContractAddress,
        pool: PoolId,
        handle: Handle,
    ) -> Result<(TicketTimes, BlockAt), ChainError> {
        self.faults.before("ticket_times").map_err(|()| broken())?;
        let state = self.state.lock().expect("one test");
        let times = TicketTimes {
            revoked_at: state.revoked.get(&handle).copied(),
            claimed_at: state.claimed.get(&(pool, handle)).copied(),
        };
        Ok((times, Self::tip(&state)))
    }

    async fn refuses_claim(
        &self,
        _: ContractAddress,
        claim: &Claim,
    ) -> Result<Option<RevertReason>, ChainError> {
        self.faults.before("refuses_claim").map_err(|()| broken())?;
        let state = self.state.lock().expect("one test");
        if state.refuses_all {
            return Ok(Some(RevertReason::new("POOL_UNKNOWN")));
        }
        Ok(FakeChain::refuses(&state, claim).map(RevertReason::new))
    }

    async fn fee_of(&self, transaction: TransactionHash) -> Result<Option<Fri>, ChainError> {
        self.faults.before("fee_of").map_err(|()| broken())?;
        let state = self.state.lock().expect("one test");
        let status = state.transactions.get(&transaction);
        let is_out = status.is_none_or(|status| *status == TransactionStatus::Received);
        Ok((!is_out).then_some(state.says_fee.unwrap_or(FEE)))
    }

    async fn status(&self, transaction: TransactionHash) -> Result<TransactionStatus, ChainError> {
        self.faults.before("status").map_err(|()| broken())?;
        let state = self.state.lock().expect("one test");
        if state.claims_later {
            let block = BlockAt {
                time: UnixSeconds(1 << 40),
                ..Self::tip(&state)
            };
            return Ok(TransactionStatus::Accepted { block });
        }
        Ok(state
            .transactions
            .get(&transaction)
            .cloned()
            .unwrap_or(TransactionStatus::Unknown))
    }
}

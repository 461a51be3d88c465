//! A chain in memory with the registry's rules, and faults on demand.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use medsync::chain::{
    Account, AccountNonce, BlockAt, Call, Chain, ChainError, Facts, FeeBounds, Prepared,
    RevertReason, Sent, TicketTimes, TransactionStatus,
};
use medsync_protocol::anchor::{AnchorHead, LeafCount};
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{Anchorer, ChainId, ClassHash, ContractAddress, UnixSeconds};
use medsync_protocol::receipt::{BlockHash, BlockNumber, ChainFacts, TransactionHash};
use medsync_protocol::secrets::{Handle, RevocationSecret};
use medsync_protocol::signature::PublicKey;
use medsync_protocol::ticket::PoolId;
use medsync_protocol::tree::Root;
use serde::{Deserialize, Serialize};

use super::faults::{Fault, Faults};

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
}

#[derive(Clone, Default)]
struct State {
    head: Option<AnchorHead>,
    anchored: HashMap<Root, UnixSeconds>,
    revoked: HashMap<Handle, UnixSeconds>,
    claimed: HashMap<(PoolId, Handle), UnixSeconds>,
    nonces: HashMap<ContractAddress, u64>,
    transactions: HashMap<TransactionHash, TransactionStatus>,
    height: u64,
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
        }
        Ok(())
    }
}

#[async_trait]
impl Chain for FakeChain {
    async fn chain_id(&self) -> Result<ChainId, ChainError> {
        Ok(ChainId::from_felt(Felt::ONE))
    }

    async fn tip(&self) -> Result<BlockAt, ChainError> {
        Ok(Self::tip(&self.state.lock().expect("one test")))
    }

    async fn class_hash_at(&self, _: ContractAddress) -> Result<Option<ClassHash>, ChainError> {
        Ok(None)
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
        Ok(self
            .state
            .lock()
            .expect("one test")
            .anchored
            .get(&root)
            .copied())
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

    async fn status(&self, transaction: TransactionHash) -> Result<TransactionStatus, ChainError> {
        self.faults.before("status").map_err(|()| broken())?;
        let state = self.state.lock().expect("one test");
        Ok(state
            .transactions
            .get(&transaction)
            .cloned()
            .unwrap_or(TransactionStatus::Unknown))
    }
}

#[async_trait]
impl Account for FakeAccount {
    fn address(&self) -> ContractAddress {
        self.address
    }

    async fn nonce(&self) -> Result<AccountNonce, ChainError> {
        self.chain.faults.before("nonce").map_err(|()| broken())?;
        let state = self.chain.state.lock().expect("one test");
        Ok(AccountNonce(
            state.nonces.get(&self.address).copied().unwrap_or_default(),
        ))
    }

    async fn prepare(&self, call: &Call, nonce: AccountNonce) -> Result<Prepared, ChainError> {
        self.chain.faults.before("prepare").map_err(|()| broken())?;
        let (payload, what) = match call {
            Call::Anchor {
                expected_head,
                root,
                leaf_count,
                ..
            } => {
                let (expected, root, leaf_count) = (*expected_head, *root, *leaf_count);
                (
                    Payload::Anchor {
                        expected,
                        root,
                        leaf_count,
                    },
                    root.felt(),
                )
            }
            Call::Revoke { openings, .. } => {
                let openings: Vec<_> = openings
                    .iter()
                    .map(|(secret, key)| (secret.reveal_text(), *key))
                    .collect();
                let first = openings[0].1.felt();
                (Payload::Revoke { openings }, first)
            }
            Call::Pool { .. } => panic!("no lane calls a pool"),
        };
        // As on the real chain, the hash follows from account, nonce and call.
        let hash = what + self.address.felt() * Felt::from(1_000_003) + Felt::from(nonce.0);
        Ok(Prepared {
            hash: TransactionHash::from_felt(hash),
            nonce,
            fees: FeeBounds::default(),
            payload: serde_json::to_string(&payload).expect("JSON"),
        })
    }

    async fn send(&self, transaction: &Prepared) -> Result<Sent, ChainError> {
        let fault = self.chain.faults.take("send");
        if fault == Some(Fault::Failed) {
            return Err(broken());
        }
        let mut state = self.chain.state.lock().expect("one test");
        if state.transactions.contains_key(&transaction.hash) {
            return Ok(Sent::AlreadyThere);
        }
        let next = state.nonces.get(&self.address).copied().unwrap_or_default();
        if transaction.nonce.0 != next {
            let (account, nonce) = (self.address, transaction.nonce);
            return Err(ChainError::NonceTaken { account, nonce });
        }
        state.nonces.insert(self.address, next + 1);
        state.height += 1;
        let payload = serde_json::from_str(&transaction.payload).expect("what was prepared");
        let applied = FakeChain::apply(&mut state, payload);
        let block = FakeChain::tip(&state);
        let status = match applied {
            Ok(()) => TransactionStatus::Accepted { block },
            Err(why) => TransactionStatus::Reverted {
                reason: RevertReason::new(why),
                block,
            },
        };
        state.transactions.insert(transaction.hash, status);
        if fault.is_some() {
            Err(broken())
        } else {
            Ok(Sent::Accepted)
        }
    }
}

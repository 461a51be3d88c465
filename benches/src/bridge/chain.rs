//! A chain in memory that anchors: each transaction is a block, and the head moves as in the
//! registry.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use medsync::chain::{
    Account, AccountNonce, BlockAt, Call, Chain, ChainError, Facts, FeeBounds, Prepared,
    RevertReason, Sent, TicketTimes, TransactionStatus,
};
use medsync::seams::{Clock, SystemClock};
use medsync_protocol::anchor::{AnchorHead, LeafCount};
use medsync_protocol::claim::Claim;
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{Anchorer, ChainId, ClassHash, ContractAddress, UnixSeconds};
use medsync_protocol::receipt::{BlockHash, BlockNumber, TransactionHash};
use medsync_protocol::secrets::Handle;
use medsync_protocol::ticket::PoolId;
use medsync_protocol::tree::Root;
use medsync_tests::circle::{anchorer, registry};

#[derive(Default)]
struct State {
    head: Option<AnchorHead>,
    anchored: HashMap<Root, UnixSeconds>,
    landed: HashMap<TransactionHash, BlockAt>,
    prepared: HashMap<TransactionHash, (Root, LeafCount)>,
}

/// The chain, and the one account on it.
#[derive(Clone, Default)]
pub struct MemoryChain(Arc<Mutex<State>>);

/// The class that its contract is of.
pub fn class_hash() -> ClassHash {
    ClassHash::from_felt(Felt::ONE)
}

fn unused<T>() -> Result<T, ChainError> {
    let why = "no lane that is measured asks this";
    Err(ChainError::Unreachable(why.into()))
}

impl MemoryChain {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many transactions landed.
    pub fn transactions(&self) -> usize {
        self.state().landed.len()
    }
}

fn tip(state: &State) -> BlockAt {
    let height = state.landed.len() as u64;
    BlockAt {
        number: BlockNumber(height),
        hash: BlockHash::from_felt(Felt::from(height)),
        time: SystemClock.now(),
    }
}

#[async_trait]
impl Chain for MemoryChain {
    async fn chain_id(&self) -> Result<ChainId, ChainError> {
        Ok(registry().chain_id)
    }

    async fn tip(&self) -> Result<BlockAt, ChainError> {
        Ok(tip(&self.state()))
    }

    async fn class_hash_at(&self, _: ContractAddress) -> Result<Option<ClassHash>, ChainError> {
        Ok(Some(class_hash()))
    }

    async fn head_of(&self, _: ContractAddress, _: Anchorer) -> Result<AnchorHead, ChainError> {
        Ok(self.state().head.unwrap_or(AnchorHead::START))
    }

    async fn anchored_at(
        &self,
        _: ContractAddress,
        _: Anchorer,
        root: Root,
    ) -> Result<Option<UnixSeconds>, ChainError> {
        Ok(self.state().anchored.get(&root).copied())
    }

    async fn anchored_roots(
        &self,
        _: ContractAddress,
        _: Anchorer,
        _: BlockNumber,
    ) -> Result<Option<BTreeSet<Root>>, ChainError> {
        unused()
    }

    async fn facts(
        &self,
        _: ContractAddress,
        _: Anchorer,
        _: Root,
        _: Handle,
    ) -> Result<Facts, ChainError> {
        unused()
    }

    async fn revoked_at(
        &self,
        _: ContractAddress,
        handles: &[Handle],
    ) -> Result<(Vec<Option<UnixSeconds>>, BlockAt), ChainError> {
        Ok((vec![None; handles.len()], tip(&self.state())))
    }

    async fn ticket_times(
        &self,
        _: ContractAddress,
        _: ContractAddress,
        _: PoolId,
        _: Handle,
    ) -> Result<(TicketTimes, BlockAt), ChainError> {
        unused()
    }

    async fn refuses_claim(
        &self,
        _: ContractAddress,
        _: &Claim,
    ) -> Result<Option<RevertReason>, ChainError> {
        unused()
    }

    async fn status(&self, transaction: TransactionHash) -> Result<TransactionStatus, ChainError> {
        let landed = self.state().landed.get(&transaction).copied();
        Ok(landed.map_or(TransactionStatus::Unknown, |block| {
            TransactionStatus::Accepted { block }
        }))
    }
}

#[async_trait]
impl Account for MemoryChain {
    fn address(&self) -> ContractAddress {
        ContractAddress::from_felt(anchorer().felt())
    }

    async fn nonce(&self) -> Result<AccountNonce, ChainError> {
        Ok(AccountNonce(self.state().landed.len() as u64))
    }

    async fn prepare(&self, call: &Call, nonce: AccountNonce) -> Result<Prepared, ChainError> {
        let Call::Anchor {
            root, leaf_count, ..
        } = call
        else {
            return unused();
        };
        let hash = TransactionHash::from_felt(root.felt());
        self.state().prepared.insert(hash, (*root, *leaf_count));
        Ok(Prepared {
            hash,
            nonce,
            fees: FeeBounds::default(),
            payload: String::new(),
        })
    }

    async fn replace(&self, _: &Call, _: &Prepared) -> Result<Prepared, ChainError> {
        unused()
    }

    async fn send(&self, transaction: &Prepared) -> Result<Sent, ChainError> {
        let mut state = self.state();
        let Some((root, leaf_count)) = state.prepared.remove(&transaction.hash) else {
            return Ok(Sent::AlreadyThere);
        };
        let head = state.head.unwrap_or(AnchorHead::START);
        state.head = Some(head.next(root, leaf_count));
        let block = tip(&state);
        state.anchored.insert(root, block.time);
        state.landed.insert(transaction.hash, block);
        Ok(Sent::Accepted)
    }
}

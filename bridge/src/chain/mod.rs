//! Starknet, and nothing else of MedSync: the only module that knows its RPC and its transactions.
//!
//! The rest of the program sees two traits. [`Chain`] reads; what it returns is checked for form
//! and for the right chain, but a node can still lie or lag, so that every answer that matters
//! names its block, by whose time the caller can tell that it is old. [`Account`] writes:
//! a transaction is prepared (signed and priced) apart from being sent, so that the caller can
//! make it durable in between, and sending the same one again is recognized.
//!
//! This module keeps no state on disk, knows no batch and no context, and decides on no retry.

use std::collections::BTreeSet;

use async_trait::async_trait;
use medsync_protocol::anchor::{AnchorHead, LeafCount};
use medsync_protocol::claim::Claim;
use medsync_protocol::ids::{Anchorer, ChainId, ClassHash, ContractAddress, UnixSeconds};
pub use medsync_protocol::receipt::BlockAt;
use medsync_protocol::receipt::{BlockNumber, ChainFacts, TransactionHash};
use medsync_protocol::secrets::{Handle, RevocationSecret};
use medsync_protocol::signature::PublicKey;
use medsync_protocol::ticket::PoolId;
use medsync_protocol::tree::Root;
use serde::{Deserialize, Serialize};

mod account;
mod deploy;
mod error;
#[cfg(test)]
mod fake;
mod history;
mod intent;
mod land;
mod pool;
mod rpc;
mod several;

pub use account::{AccountKey, FeePolicy, RpcAccount};
pub use deploy::{Artifact, Contract, Deployment, deploy};
pub use error::{ChainError, Class, PoolRevert, RegistryRevert};
pub use history::{PoolEvent, PoolHistory, PoolSaid, Seen};
pub use land::Landed;
pub use pool::{
    CLAIMS_MAX, PAGE_MAX, PoolCall, PoolState, Promise, QUOTAS_MAX, Quota, QuotaUse, Totals,
};
pub use rpc::{RpcChain, RpcLimits};
pub use several::{Health, SeveralAccounts, SeveralChains};

/// The most openings in one [`Call::Revoke`]; the registry refuses more.
pub const REVOCATIONS_MAX: usize = 64;

/// Everything that a receipt is checked against, all of it read at one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The class of the registry.
    pub class_hash: ClassHash,
    /// When the root was anchored, when the handle was opened, and the block's time.
    pub chain: ChainFacts,
    /// The block that was read.
    pub block: BlockAt,
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransactionStatus {
    /// The chain does not know it (any more).
    Unknown,
    /// It is known, but not in a closed block yet.
    Received,
    /// It took effect in this block.
    Accepted {
        /// The block.
        block: BlockAt,
    },
    /// It is in this block, used up its nonce and had no other effect.
    Reverted {
        /// Why, in the words of the contract or the sequencer.
        reason: RevertReason,
        /// The block.
        block: BlockAt,
    },
}

/// Why a transaction reverted: the start of what the chain says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevertReason(String);

impl RevertReason {
    /// How much of the chain's text is kept.
    const BYTES_MAX: usize = 2048;

    /// The words themselves.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Takes the chain's words, printable and cut to a length that a log can bear.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
        let mut kept = String::new();
        for c in printable {
            if kept.len() + c.len_utf8() > Self::BYTES_MAX {
                break;
            }
            kept.push(c);
        }
        Self(kept)
    }

    /// Whether it is a reason of one of the contracts.
    fn is_known(&self) -> bool {
        self.registry().is_some() || self.pool().is_some()
    }

    /// The pool contract's own reason, if it was one.
    #[must_use]
    pub fn pool(&self) -> Option<PoolRevert> {
        PoolRevert::find(&self.0)
    }

    /// The registry's own reason, if it was one.
    #[must_use]
    pub fn registry(&self) -> Option<RegistryRevert> {
        RegistryRevert::find(&self.0)
    }
}

impl std::fmt::Display for RevertReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.registry(), self.pool()) {
            (Some(known), _) => write!(f, "{known}"),
            (None, Some(known)) => write!(f, "{known}"),
            (None, None) => f.write_str(&self.0),
        }
    }
}

/// What the chain knows of one ticket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TicketTimes {
    /// When its handle was first opened, if it was.
    pub revoked_at: Option<UnixSeconds>,
    /// When its reward was claimed, if it was.
    pub claimed_at: Option<UnixSeconds>,
}

/// What opens a handle: whoever has it can revoke.
pub type Opened = (RevocationSecret, PublicKey);

/// Reads Starknet.
#[async_trait]
pub trait Chain: Send + Sync {
    /// The chain that answers now.
    ///
    /// # Errors
    /// [`ChainError`], as every method here.
    async fn chain_id(&self) -> Result<ChainId, ChainError>;

    /// Whether it is this chain, and the contract of this class is there; of several endpoints the
    /// first for which that is so goes on.
    ///
    /// # Errors
    /// [`ChainError::OtherChain`], [`ChainError::NoContract`], [`ChainError::OtherClass`].
    async fn check(
        &self,
        expected: ChainId,
        contract: ContractAddress,
        class_hash: ClassHash,
    ) -> Result<(), ChainError> {
        let found = self.chain_id().await?;
        if found != expected {
            return Err(ChainError::OtherChain { expected, found });
        }
        self.check_class(contract, class_hash).await
    }

    /// Refuses a contract that is not of this class: it could answer whatever it likes.
    ///
    /// # Errors
    /// [`ChainError::NoContract`] and [`ChainError::OtherClass`].
    async fn check_class(
        &self,
        contract: ContractAddress,
        expected: ClassHash,
    ) -> Result<(), ChainError> {
        match self.class_hash_at(contract).await? {
            Some(found) if found == expected => Ok(()),
            Some(found) => Err(ChainError::OtherClass {
                contract,
                expected,
                found,
            }),
            None => Err(ChainError::NoContract(contract)),
        }
    }

    /// The block of a number; nothing if it is not there, or nobody can say.
    async fn block_at(&self, _: BlockNumber) -> Result<Option<BlockAt>, ChainError> {
        Ok(None)
    }

    /// The newest closed block.
    async fn tip(&self) -> Result<BlockAt, ChainError>;

    /// The same; of several endpoints that of the one that says the earliest time, so that none
    /// alone can call a clock wrong.
    async fn tip_by_all(&self) -> Result<BlockAt, ChainError> {
        self.tip().await
    }

    /// The class of a contract at the tip, or nothing where there is no contract.
    async fn class_hash_at(
        &self,
        contract: ContractAddress,
    ) -> Result<Option<ClassHash>, ChainError>;

    /// The head of an anchorer's chain of batches, zero before the first, at the tip.
    async fn head_of(
        &self,
        registry: ContractAddress,
        anchorer: Anchorer,
    ) -> Result<AnchorHead, ChainError>;

    /// Every head that somebody says, at least one; of several endpoints first what most of them
    /// say.
    async fn heads_of(
        &self,
        registry: ContractAddress,
        anchorer: Anchorer,
    ) -> Result<Vec<AnchorHead>, ChainError> {
        Ok(vec![self.head_of(registry, anchorer).await?])
    }

    /// When an anchorer anchored a root, if it did, at the tip.
    async fn anchored_at(
        &self,
        registry: ContractAddress,
        anchorer: Anchorer,
        root: Root,
    ) -> Result<Option<UnixSeconds>, ChainError>;

    /// The same, where what follows from a root that is not there is not undone: of several
    /// endpoints one that has it is believed, and that it is nowhere each has to say.
    async fn anchored_at_by_any(
        &self,
        registry: ContractAddress,
        anchorer: Anchorer,
        root: Root,
    ) -> Result<Option<UnixSeconds>, ChainError> {
        self.anchored_at(registry, anchorer, root).await
    }

    /// The same, where what follows from a root that is there is that nobody sends it: of several
    /// endpoints that answer most have to have it, but for those that are not so far yet.
    async fn anchored_at_by_most(
        &self,
        registry: ContractAddress,
        anchorer: Anchorer,
        root: Root,
    ) -> Result<Option<UnixSeconds>, ChainError> {
        self.anchored_at(registry, anchorer, root).await
    }

    /// Every root that an anchorer anchored since a block; nothing if they are too many to read. Of
    /// several endpoints each has to answer, and what one of them has is there.
    async fn anchored_roots(
        &self,
        registry: ContractAddress,
        anchorer: Anchorer,
        from: BlockNumber,
    ) -> Result<Option<BTreeSet<Root>>, ChainError>;

    /// Everything that a receipt is checked against, read at one block by its hash. The block's
    /// time bounds the times that a verdict may be asked for.
    ///
    /// # Errors
    /// [`ChainError::NoContract`] where there is no contract.
    async fn facts(
        &self,
        registry: ContractAddress,
        anchorer: Anchorer,
        root: Root,
        handle: Handle,
    ) -> Result<Facts, ChainError>;

    /// What opened a handle, as the transaction says that did; nothing if that cannot be told from
    /// it. It is checked against the handle, so that of several endpoints any is believed.
    async fn opening_of(
        &self,
        _: ContractAddress,
        _: Handle,
    ) -> Result<Option<Opened>, ChainError> {
        Ok(None)
    }

    /// When each handle was first opened, if it was, all read at one block. The RPC learns the
    /// handles that it is asked for.
    async fn revoked_at(
        &self,
        registry: ContractAddress,
        handles: &[Handle],
    ) -> Result<(Vec<Option<UnixSeconds>>, BlockAt), ChainError>;

    /// The same as everybody who is asked agrees: of several endpoints that each has it.
    async fn revoked_at_by_all(
        &self,
        registry: ContractAddress,
        handles: &[Handle],
    ) -> Result<(Vec<Option<UnixSeconds>>, BlockAt), ChainError> {
        self.revoked_at(registry, handles).await
    }

    /// When a ticket's handle was revoked and its reward claimed, both read at one block.
    async fn ticket_times(
        &self,
        registry: ContractAddress,
        pool_contract: ContractAddress,
        pool: PoolId,
        handle: Handle,
    ) -> Result<(TicketTimes, BlockAt), ChainError>;

    /// The same as everybody who is asked agrees: of several endpoints two have to say that it was.
    async fn ticket_times_by_all(
        &self,
        registry: ContractAddress,
        pool_contract: ContractAddress,
        pool: PoolId,
        handle: Handle,
    ) -> Result<(TicketTimes, BlockAt), ChainError> {
        self.ticket_times(registry, pool_contract, pool, handle)
            .await
    }

    /// Why a pool contract would refuse a claim at the newest block, if it would. Nobody pays for
    /// the question.
    async fn refuses_claim(
        &self,
        contract: ContractAddress,
        claim: &Claim,
    ) -> Result<Option<RevertReason>, ChainError>;

    /// What became of a transaction.
    async fn status(&self, transaction: TransactionHash) -> Result<TransactionStatus, ChainError>;

    /// What a transaction cost, with or without an effect; nothing if it is in no closed block, or
    /// nobody can say.
    async fn fee_of(&self, _: TransactionHash) -> Result<Option<Fri>, ChainError> {
        Ok(None)
    }

    /// What is wrong with endpoints, for people to see.
    fn complaints(&self) -> Vec<String> {
        Vec::new()
    }

    /// Which of its endpoints are well, in their order; nothing if it is one that is not watched.
    fn are_well(&self) -> Vec<bool> {
        Vec::new()
    }
}

/// How many transactions an account has made; the next one carries this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccountNonce(pub u64);

impl AccountNonce {
    /// The nonce of the transaction after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// An amount of one of Starknet's three gases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Gas(pub u64);

/// An amount of fri, 10^-18 STRK.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fri(pub u128);

/// What a transaction may use of one gas, and pay for each unit of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GasBound {
    /// The most units.
    pub amount: Gas,
    /// The most fri a unit.
    pub price: Fri,
}

/// What a transaction may cost at most, as it is signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeeBounds {
    /// Execution.
    pub l2_gas: GasBound,
    /// State that is published on Ethereum as data.
    pub l1_data_gas: GasBound,
    /// Messages to Ethereum; we send none.
    pub l1_gas: GasBound,
}

/// What a transaction does.
#[derive(Clone, Debug)]
pub enum Call {
    /// Anchors a batch, if the account's head is still the expected one.
    Anchor {
        /// The registry.
        registry: ContractAddress,
        /// The account's head before.
        expected_head: AnchorHead,
        /// The batch.
        root: Root,
        /// Its leaves, padding included.
        leaf_count: LeafCount,
    },
    /// Opens handles; one to [`REVOCATIONS_MAX`] of them.
    Revoke {
        /// The registry.
        registry: ContractAddress,
        /// What opens each handle. Sending publishes the secrets.
        openings: Vec<(RevocationSecret, PublicKey)>,
    },
    /// Calls a pool contract.
    Pool {
        /// The contract.
        contract: ContractAddress,
        /// What it is told.
        call: PoolCall,
    },
}

/// A transaction that is signed and priced, and may or may not have been sent.
///
/// Whoever wants to survive a crash stores its [`to_intent`](Prepared::to_intent) before sending
/// it: the same hash comes back however often it is sent, and [`Chain::status`] answers by it.
/// The payload of a revocation contains its secrets, so that `Debug` leaves the payload out.
#[derive(Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The hash under which the chain will know it.
    pub hash: TransactionHash,
    /// The nonce that it uses.
    pub nonce: AccountNonce,
    /// What it may cost.
    pub fees: FeeBounds,
    /// The signed transaction as JSON, exactly what is sent.
    pub payload: String,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared")
            .field("hash", &self.hash)
            .field("nonce", &self.nonce)
            .field("fees", &self.fees)
            .finish_non_exhaustive()
    }
}

/// What sending came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The chain took the transaction; whether it takes effect is for [`Chain::status`] to say.
    Accepted,
    /// The chain had it already.
    AlreadyThere,
}

/// Writes to Starknet, under one address.
#[async_trait]
pub trait Account: Send + Sync {
    /// The address. Batches are anchored under it.
    fn address(&self) -> ContractAddress;

    /// The next nonce, transactions included that are not in a closed block yet.
    ///
    /// # Errors
    /// [`ChainError`], as every method here.
    async fn nonce(&self) -> Result<AccountNonce, ChainError>;

    /// The same, for what did not land under the nonce that was said before; of several endpoints
    /// that disagree the one in the middle, or the smaller of two.
    async fn lowest_nonce(&self) -> Result<AccountNonce, ChainError> {
        self.nonce().await
    }

    /// Estimates the fee, adds a margin under a cap, and signs. Sends nothing.
    ///
    /// # Errors
    /// [`ChainError::WouldRevert`] for a call that the registry would refuse now, and
    /// [`ChainError::FeeAboveCap`].
    async fn prepare(&self, call: &Call, nonce: AccountNonce) -> Result<Prepared, ChainError>;

    /// Prepares a transaction in the place of one that does not land: under its nonce, so that at
    /// most one of both takes effect, for a quarter more of each price at least.
    ///
    /// # Errors
    /// As [`Account::prepare`].
    async fn replace(&self, call: &Call, stuck: &Prepared) -> Result<Prepared, ChainError>;

    /// Sends a prepared transaction, unchanged.
    ///
    /// # Errors
    /// [`ChainError::NonceTaken`] if another transaction used the nonce: this one never lands.
    async fn send(&self, transaction: &Prepared) -> Result<Sent, ChainError>;
}

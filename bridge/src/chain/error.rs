//! What can go wrong with Starknet, and what the caller should make of it.
//!
//! No text here carries a secret, an address of an RPC endpoint (it may contain an access key) or
//! an unbounded answer of one.

use std::time::Duration;

use medsync_protocol::ids::{ChainId, ClassHash, ContractAddress};
use medsync_protocol::receipt::TransactionHash;

use super::{AccountNonce, Fri, RevertReason};

/// What to do after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Try again later: nothing is known to be wrong with what was asked.
    Retry,
    /// This transaction will never do; make a new one from what the chain says now.
    FailBatch,
    /// A person has to change something first.
    Fatal,
}

/// The reasons for which the registry itself reverts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryRevert {
    /// The account's head is another by now.
    #[error("HEAD_MISMATCH: the account's head has moved; read head_of and prepare again")]
    HeadMismatch,
    /// The batch is anchored already.
    #[error("ROOT_ALREADY_ANCHORED: this account has anchored this root before")]
    RootAlreadyAnchored,
    /// The root is zero.
    #[error("ROOT_ZERO: a batch's root is never zero")]
    RootZero,
    /// The batch has no leaves.
    #[error("LEAF_COUNT_ZERO: a batch holds at least one leaf")]
    LeafCountZero,
    /// The caller is the zero address.
    #[error("CALLER_ZERO: the zero address cannot anchor")]
    CallerZero,
    /// The block has no time.
    #[error("BLOCK_TIME_ZERO: nothing can be recorded in a block without a time")]
    BlockTimeZero,
    /// Nothing is revoked.
    #[error("REVOCATIONS_EMPTY: a call revokes at least one handle")]
    RevocationsEmpty,
    /// Too much is revoked at once.
    #[error("REVOCATIONS_TOO_MANY: a call revokes at most 64 handles")]
    RevocationsTooMany,
    /// The question lies beyond the block.
    #[error("TIME_AHEAD_OF_BLOCK: the chain knows nothing yet about that time")]
    TimeAheadOfBlock,
}

impl RegistryRevert {
    const NAMES: [(&'static str, Self); 9] = [
        ("HEAD_MISMATCH", Self::HeadMismatch),
        ("ROOT_ALREADY_ANCHORED", Self::RootAlreadyAnchored),
        ("ROOT_ZERO", Self::RootZero),
        ("LEAF_COUNT_ZERO", Self::LeafCountZero),
        ("CALLER_ZERO", Self::CallerZero),
        ("BLOCK_TIME_ZERO", Self::BlockTimeZero),
        ("REVOCATIONS_EMPTY", Self::RevocationsEmpty),
        ("REVOCATIONS_TOO_MANY", Self::RevocationsTooMany),
        ("TIME_AHEAD_OF_BLOCK", Self::TimeAheadOfBlock),
    ];

    /// The reason that a text of the chain names, as a word or as the felt that spells it.
    pub(super) fn find(text: &str) -> Option<Self> {
        let names = Self::NAMES.iter();
        names
            .filter(|(name, _)| text.contains(name) || text.contains(&hex::encode(name)))
            .map(|(_, revert)| *revert)
            .next()
    }
}

/// A reason for which the pool contract reverts, or passes over a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {advice}")]
pub struct PoolRevert {
    /// As the contract spells it.
    pub name: &'static str,
    /// What it means, for people.
    pub advice: &'static str,
}

const fn pool(name: &'static str, advice: &'static str) -> PoolRevert {
    PoolRevert { name, advice }
}

impl PoolRevert {
    /// Every reason.
    pub const ALL: [Self; 37] = [
        pool("CALLER_ZERO", "a pool belongs to somebody"),
        pool("TOKEN_ZERO", "the zero address is no token"),
        pool("REGISTRY_ZERO", "the pool contract needs a registry"),
        pool("REWARD_ZERO", "a pool pays something for a claim"),
        pool("CLAIM_END_PAST", "claiming has to end in the future"),
        pool(
            "REFUND_BEFORE_CLAIM_END",
            "the refund time is not before the claim end",
        ),
        pool(
            "REFUND_TOO_LATE",
            "the refund time is at most ten years ahead, in seconds",
        ),
        pool("QUOTAS_EMPTY", "a promise names at least one custodian"),
        pool(
            "QUOTAS_TOO_MANY",
            "a call promises to at most 64 custodians; top up for more",
        ),
        pool("QUOTA_ZERO", "a quota is of at least one claim"),
        pool("ANCHORER_ZERO", "nobody anchors under the zero address"),
        pool("POOL_EXISTS", "this account has a pool of this nonce"),
        pool(
            "NOT_FUNDED",
            "the deposit does not pay for every promised claim",
        ),
        pool("NOT_THE_FUNDER", "only who opened the pool may do this"),
        pool(
            "POOL_UNKNOWN",
            "there is no such pool; it may be of another contract",
        ),
        pool("POOL_ENDED", "the pool has ended"),
        pool("CLAIM_END_REACHED", "claiming has ended"),
        pool("TICKET_EXPIRED", "the ticket came too late"),
        pool("PAY_TO_ZERO", "nothing is paid to the zero address"),
        pool("PAY_TO_POOL", "nothing is paid to the pool contract itself"),
        pool(
            "QUOTA_EXHAUSTED",
            "every claim that was promised through this custodian is made",
        ),
        pool("ALREADY_CLAIMED", "this ticket was spent"),
        pool("NOT_INCLUDED", "the proof is none"),
        pool("UNKNOWN_ANCHOR", "the custodian anchored no such ticket"),
        pool("REVOKED", "the consent is revoked"),
        pool("BAD_SIGNATURE", "the claim key did not sign this claim"),
        pool(
            "BLOCK_TIME_ZERO",
            "nothing can be recorded in a block without a time",
        ),
        pool("CLAIMS_EMPTY", "a call spends at least one ticket"),
        pool("CLAIMS_TOO_MANY", "a call spends at most 64 tickets"),
        pool("NOTHING_ACCRUED", "nothing accrued, or it was paid out"),
        pool("REFUND_TOO_EARLY", "the refund time has not come"),
        pool(
            "CLAIMS_LEFT",
            "promised claims are left; the refund time frees them",
        ),
        pool("REENTERED", "the token called back"),
        pool("TOKEN_REFUSED", "the token did not transfer"),
        pool(
            "TOKEN_ANSWER",
            "the token does not answer as an ERC-20 does",
        ),
        pool(
            "TOKEN_PAID_OTHERWISE",
            "the token did not take just the amount from the pool",
        ),
        pool(
            "TOKEN_LOST_BALANCE",
            "the token's deposit made the pool's balance smaller",
        ),
    ];

    /// The reason that a text of the chain names, as [`RegistryRevert::find`].
    pub(super) fn find(text: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|one| text.contains(one.name) || text.contains(&hex::encode(one.name)))
    }
}

/// Why Starknet could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// Nobody answers.
    #[error("the Starknet RPC cannot be reached ({0}); check that it runs and its address")]
    Unreachable(String),
    /// The answer takes too long.
    #[error("the Starknet RPC gave no answer within {} s", .0.as_secs_f32())]
    Slow(Duration),
    /// The answer is an HTTP error.
    #[error("the Starknet RPC answered with HTTP status {0}")]
    Status(u16),
    /// The endpoint wants fewer requests.
    #[error("the Starknet RPC limits the rate of requests; ask less often or use another")]
    RateLimited,
    /// The answer is longer than any that we ask for.
    #[error("the Starknet RPC answered with more than {0} bytes")]
    TooLong(usize),
    /// The answer is no JSON-RPC answer to the question.
    #[error("the Starknet RPC answered {method} with something that is not its result: {detail}")]
    Malformed {
        /// What was asked.
        method: &'static str,
        /// What was wrong with the answer.
        detail: String,
    },
    /// The endpoint refuses the question.
    #[error("the Starknet RPC refused {method}: {detail}")]
    Refused {
        /// What was asked.
        method: &'static str,
        /// What the endpoint said.
        detail: String,
    },
    /// The endpoint serves another chain.
    #[error("the Starknet RPC serves chain {found}, not {expected}; use an endpoint of that chain")]
    OtherChain {
        /// The configured chain.
        expected: ChainId,
        /// The chain that answered.
        found: ChainId,
    },
    /// The endpoint contradicts itself within one answer.
    #[error("the Starknet RPC contradicts itself: {0}")]
    Contradiction(String),
    /// There is no contract at the address.
    #[error("there is no contract at {0} on this chain; check its address")]
    NoContract(ContractAddress),
    /// The contract at the address is something else.
    #[error("the contract at {0} has no function {1}; check its address")]
    OtherContract(ContractAddress, &'static str),
    /// There is no account at the address.
    #[error("there is no account at {0} on this chain; deploy and fund it first")]
    NoAccount(ContractAddress),
    /// The registry is of another class than the one that is trusted.
    #[error("the contract at {contract} is of class {found}, not {expected}")]
    OtherClass {
        /// The contract.
        contract: ContractAddress,
        /// The class that is trusted.
        expected: ClassHash,
        /// The class that was found.
        found: ClassHash,
    },
    /// A pool contract judges by another registry than the one that is trusted.
    #[error("{contract} judges by registry {found}, not by {expected}")]
    OtherRegistry {
        /// The pool contract.
        contract: ContractAddress,
        /// The registry that is trusted.
        expected: ContractAddress,
        /// The registry that it names.
        found: ContractAddress,
    },
    /// The call would revert if it were sent now.
    #[error("the call would revert: {0}")]
    WouldRevert(RevertReason),
    /// A transaction that had to take effect did not.
    #[error("transaction {hash} reverted: {reason}")]
    Reverted {
        /// The transaction.
        hash: TransactionHash,
        /// Why.
        reason: RevertReason,
    },
    /// The transaction would cost more than it may.
    #[error("the transaction may cost {} fri, above the cap of {}", needed.0, cap.0)]
    FeeAboveCap {
        /// What it may cost, margin included.
        needed: Fri,
        /// The configured cap.
        cap: Fri,
    },
    /// The account cannot pay.
    #[error("account {0} has too little STRK for this transaction; fund it")]
    NoFunds(ContractAddress),
    /// The signed fee no longer buys a place in a block.
    #[error("the signed fee of transaction {0} is too low by now; prepare it again")]
    FeeTooLow(TransactionHash),
    /// Another transaction used the nonce.
    #[error("nonce {} of account {account} was used by another transaction", nonce.0)]
    NonceTaken {
        /// The account.
        account: ContractAddress,
        /// The nonce.
        nonce: AccountNonce,
    },
    /// An earlier transaction of the account has not landed yet.
    #[error("nonce {} of account {account} is ahead of its next, {}", nonce.0, next.0)]
    NonceAhead {
        /// The account.
        account: ContractAddress,
        /// The nonce.
        nonce: AccountNonce,
        /// The nonce that the chain takes next.
        next: AccountNonce,
    },
    /// The account refuses the transaction.
    #[error("account {account} refuses the transaction; is the key this account's? ({detail})")]
    AccountRefuses {
        /// The account.
        account: ContractAddress,
        /// What the chain said.
        detail: String,
    },
    /// Something was sent and has not taken effect for a long time.
    #[error("{0} has not taken effect for ten minutes; run this again to go on waiting")]
    StillWaiting(&'static str),
    /// What the fee comes to cannot be computed.
    #[error("the estimated fee is out of any range: {0}")]
    FeeOutOfRange(&'static str),
    /// A stored transaction is not what was prepared.
    #[error("the stored transaction is not what was prepared: {0}")]
    Payload(String),
    /// A call that cannot be made.
    #[error("{call} takes 1 to {max} {of}, this has {count}")]
    Count {
        /// The call.
        call: &'static str,
        /// What it takes.
        of: &'static str,
        /// How many it has.
        count: usize,
        /// How many fit.
        max: usize,
    },
    /// The account key cannot be read.
    #[error("the account key cannot be used: {0}")]
    Key(String),
    /// The compiled contracts are not what they should be.
    #[error("a file about the contracts cannot be used: {0}")]
    Artifacts(String),
    /// The RPC's address is not one.
    #[error("the RPC's address cannot be used: {0}")]
    Address(String),
}

impl ChainError {
    /// What to do after this error.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Unreachable(_)
            | Self::Slow(_)
            | Self::Status(_)
            | Self::RateLimited
            | Self::TooLong(_)
            | Self::Malformed { .. }
            | Self::Refused { .. }
            | Self::Contradiction(_)
            // Fees fall again, and an account can be funded while the daemon runs.
            | Self::FeeAboveCap { .. }
            | Self::FeeOutOfRange(_)
            | Self::StillWaiting(_)
            | Self::NonceAhead { .. }
            | Self::NoFunds(_) => Class::Retry,
            Self::WouldRevert(_)
            | Self::Reverted { .. }
            | Self::FeeTooLow(_)
            | Self::NonceTaken { .. }
            | Self::Payload(_)
            | Self::Count { .. } => Class::FailBatch,
            Self::OtherChain { .. }
            | Self::NoContract(_)
            | Self::OtherContract(..)
            | Self::NoAccount(_)
            | Self::OtherClass { .. }
            | Self::OtherRegistry { .. }
            | Self::AccountRefuses { .. }
            | Self::Key(_)
            | Self::Artifacts(_)
            | Self::Address(_) => Class::Fatal,
        }
    }

    /// Whether the same may be tried again later.
    #[must_use]
    pub fn is_retry(&self) -> bool {
        self.class() == Class::Retry
    }
}

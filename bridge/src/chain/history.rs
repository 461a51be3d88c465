//! What the contracts' events tell: what happened in reward pools, and which roots were anchored.

use std::collections::BTreeSet;

use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{Anchorer, ContractAddress, UnixSeconds};
use medsync_protocol::receipt::{BlockNumber, TransactionHash};
use medsync_protocol::secrets::{Handle, RevocationSecret};
use medsync_protocol::signature::PublicKey;
use medsync_protocol::ticket::PoolId;
use medsync_protocol::tree::Root;
use serde::{Serialize, Serializer};
use starknet::core::types::{
    AddressFilter, BlockId, EmittedEvent, EventFilter, InvokeTransaction, Transaction,
};
use starknet::core::utils::starknet_keccak;
use starknet::providers::Provider;

use super::pool::{amount, malformed, narrow};
use super::rpc::time;
use super::{ChainError, Opened, RpcChain};

/// How many events are asked for at once, and in all.
const PAGE: u64 = 100;
const EVENTS_MAX: usize = 10_000;
/// How many neighbours in a transaction's calldata are tried, two hashes each.
const PAIRS_MAX: usize = 10_000;
/// How many pages are asked for: an endpoint may give fewer events at once, or none of many blocks.
const PAGES_MAX: usize = 1_000;

/// What an event says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum PoolSaid {
    /// A pool was opened.
    Opened {
        /// The pool.
        pool: PoolId,
        /// By whom.
        funder: ContractAddress,
        /// What arrived of the deposit.
        #[serde(serialize_with = "as_text")]
        received: u128,
    },
    /// A custodian may promise more.
    Promised {
        /// The pool.
        pool: PoolId,
        /// The custodian.
        anchorer: Anchorer,
        /// By how many claims.
        claims: u64,
    },
    /// A pool received more.
    ToppedUp {
        /// The pool.
        pool: PoolId,
        /// From whom.
        funder: ContractAddress,
        /// What arrived of the deposit.
        #[serde(serialize_with = "as_text")]
        received: u128,
    },
    /// A ticket was spent.
    Claimed {
        /// The pool.
        pool: PoolId,
        /// The custodian that promised.
        anchorer: Anchorer,
        /// The handle that was used up.
        handle: Handle,
        /// Where the reward goes.
        pay_to: ContractAddress,
        /// When.
        at: UnixSeconds,
    },
    /// A claim among many was passed over.
    Skipped {
        /// The pool.
        pool: PoolId,
        /// The handle of the claim.
        handle: Handle,
        /// Why, by the contract's name of the reason.
        reason: String,
    },
    /// Somebody was paid out.
    Withdrawn {
        /// Who.
        owner: ContractAddress,
        /// In which token.
        token: ContractAddress,
        /// How much.
        #[serde(serialize_with = "as_text")]
        amount: u128,
    },
    /// What was left of a pool went back.
    Ended {
        /// The pool.
        pool: PoolId,
        /// To whom.
        funder: ContractAddress,
        /// How much.
        #[serde(serialize_with = "as_text")]
        amount: u128,
        /// Promised claims that nobody made.
        claims_left: u64,
    },
}

/// An event with its place on the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PoolEvent {
    /// What it says.
    #[serde(flatten)]
    pub says: PoolSaid,
    /// The block.
    pub block: BlockNumber,
    /// The transaction.
    pub transaction: TransactionHash,
}

/// What happened, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolHistory {
    /// The oldest events.
    pub events: Vec<PoolEvent>,
    /// Whether there may be more, from the last one's block on.
    pub is_cut: bool,
}

/// Whose history is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Everything in a pool but for claims that were passed over.
    Pool(PoolId),
    /// Claims in a pool that were passed over. They are apart, since anybody can make as many.
    PassedOver(PoolId),
    /// What one handle was paid.
    Handle(Handle),
    /// What a custodian's tickets were paid.
    Custodian(Anchorer),
    /// What was paid out to somebody.
    Owner(ContractAddress),
}

/// What a pool itself is told by.
const OF_POOLS: [&str; 5] = [
    "PoolOpened",
    "QuotaPromised",
    "ToppedUp",
    "Claimed",
    "PoolEnded",
];

impl Seen {
    /// The keys of an event by their places: nothing stands for anything.
    fn keys(self) -> Vec<Vec<Felt>> {
        let named = |name: &str| vec![starknet_keccak(name.as_bytes())];
        let any = Vec::new;
        match self {
            Self::Pool(pool) => vec![
                OF_POOLS
                    .map(|name| starknet_keccak(name.as_bytes()))
                    .to_vec(),
                vec![pool.felt()],
            ],
            Self::PassedOver(pool) => vec![named("ClaimSkipped"), vec![pool.felt()]],
            Self::Custodian(anchorer) => vec![named("Claimed"), any(), vec![anchorer.felt()]],
            Self::Handle(handle) => {
                vec![named("Claimed"), any(), any(), vec![handle.felt()]]
            }
            Self::Owner(owner) => vec![named("Withdrawn"), vec![owner.felt()]],
        }
    }
}

impl RpcChain {
    /// What happened at a pool contract since a block, up to the tip; the oldest 10,000 events at
    /// most.
    ///
    /// # Errors
    /// [`ChainError`]; [`ChainError::Malformed`] from an endpoint whose pages have no end.
    pub async fn pool_history(
        &self,
        contract: ContractAddress,
        from: BlockNumber,
        of: Seen,
    ) -> Result<PoolHistory, ChainError> {
        let mut events = Vec::new();
        let is_cut = self
            .events(contract, from, of.keys(), |event| {
                // A pool's identifier may stand where another event has an owner, and a hostile
                // token's amount may be beyond any that is read: neither hides the others.
                events.extend(read(event).ok().flatten());
                events.len()
            })
            .await?;
        events.truncate(EVENTS_MAX);
        Ok(PoolHistory { events, is_cut })
    }

    /// The roots that an anchorer anchored since a block, up to the tip; nothing if there are more
    /// than 10,000.
    pub(super) async fn roots_since(
        &self,
        registry: ContractAddress,
        anchorer: Anchorer,
        from: BlockNumber,
    ) -> Result<Option<BTreeSet<Root>>, ChainError> {
        let keys = vec![
            vec![starknet_keccak(b"BatchAnchored")],
            vec![anchorer.felt()],
        ];
        let mut roots = BTreeSet::new();
        let is_cut = self
            .events(registry, from, keys, |event| {
                if let [_, _, root] = event.keys[..] {
                    roots.insert(Root::from_felt(root));
                }
                roots.len()
            })
            .await?;
        Ok((!is_cut).then_some(roots))
    }

    /// What opens a handle, out of the calldata of the transaction that did: the two felts that
    /// lead to it, wherever an account or a contract in between puts them.
    pub(super) async fn opening_in_calldata(
        &self,
        registry: ContractAddress,
        handle: Handle,
    ) -> Result<Option<Opened>, ChainError> {
        let keys = vec![
            vec![starknet_keccak(b"ConsentRevoked")],
            vec![handle.felt()],
        ];
        let mut transaction = None;
        self.events(registry, BlockNumber(0), keys, |event| {
            transaction.get_or_insert(event.transaction_hash);
            EVENTS_MAX
        })
        .await?;
        let Some(transaction) = transaction else {
            return Ok(None);
        };
        let answer = self
            .client()
            .get_transaction_by_hash(transaction, None)
            .await;
        let answer =
            answer.map_err(|error| self.failure("starknet_getTransactionByHash", error))?;
        let calldata = match &answer {
            Transaction::Invoke(InvokeTransaction::V0(invoke)) => &invoke.calldata,
            Transaction::Invoke(InvokeTransaction::V1(invoke)) => &invoke.calldata,
            Transaction::Invoke(InvokeTransaction::V3(invoke)) => &invoke.calldata,
            Transaction::L1Handler(message) => &message.calldata,
            _ => return Ok(None),
        };
        let pairs = calldata.windows(2).take(PAIRS_MAX);
        Ok(pairs
            .filter_map(|pair| opens(handle, pair[0], pair[1]))
            .next())
    }

    /// Takes a contract's events since a block, oldest first, up to the tip or until so many are
    /// kept as may be. Answers whether there may be more.
    async fn events(
        &self,
        contract: ContractAddress,
        from: BlockNumber,
        keys: Vec<Vec<Felt>>,
        mut keep: impl FnMut(&EmittedEvent) -> usize + Send,
    ) -> Result<bool, ChainError> {
        let tip = super::Chain::tip(self).await?;
        let filter = EventFilter {
            from_block: Some(BlockId::Number(from.0)),
            to_block: Some(BlockId::Number(tip.number.0)),
            address: Some(AddressFilter::Single(contract.felt())),
            keys: Some(keys),
        };
        let mut next: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let page = self.client().get_events(filter.clone(), next.take(), PAGE);
            let page = page.await;
            let page = page.map_err(|error| self.failure("starknet_getEvents", error))?;
            let mut kept = 0;
            for event in page.events {
                kept = keep(&event);
            }
            next = page.continuation_token;
            if next.is_none() || kept >= EVENTS_MAX {
                return Ok(next.is_some() || kept > EVENTS_MAX);
            }
        }
        Err(ChainError::Malformed {
            method: "starknet_getEvents",
            detail: format!("no end after {PAGES_MAX} pages; ask from a later block"),
        })
    }
}

fn opens(handle: Handle, secret: Felt, claim_key: Felt) -> Option<Opened> {
    let secret = RevocationSecret::from_bytes(&secret.to_bytes_be()).ok()?;
    let claim_key = PublicKey::from_felt(claim_key);
    (Handle::of(secret.hash(), claim_key) == handle).then_some((secret, claim_key))
}

/// An event of the contract's; nothing if it is none that is known.
fn read(event: &EmittedEvent) -> Result<Option<PoolEvent>, ChainError> {
    let wrong = || malformed("an event of the pool contract has another form".into());
    let (selector, keys) = event.keys.split_first().ok_or_else(wrong)?;
    let is_named = |name: &str| *selector == starknet_keccak(name.as_bytes());
    let address = ContractAddress::from_felt;
    let says = match (keys, event.data.as_slice()) {
        (&[pool, funder], &[.., low, high]) if is_named("PoolOpened") => PoolSaid::Opened {
            pool: PoolId::from_felt(pool),
            funder: address(funder),
            received: amount(low, high)?,
        },
        (&[pool, anchorer], &[claims]) if is_named("QuotaPromised") => PoolSaid::Promised {
            pool: PoolId::from_felt(pool),
            anchorer: Anchorer::from_felt(anchorer),
            claims: narrow(claims)?,
        },
        (&[pool, funder], &[low, high]) if is_named("ToppedUp") => PoolSaid::ToppedUp {
            pool: PoolId::from_felt(pool),
            funder: address(funder),
            received: amount(low, high)?,
        },
        (&[pool, anchorer, handle], &[pay_to, at]) if is_named("Claimed") => PoolSaid::Claimed {
            pool: PoolId::from_felt(pool),
            anchorer: Anchorer::from_felt(anchorer),
            handle: Handle::from_felt(handle),
            pay_to: address(pay_to),
            at: time(at)?,
        },
        (&[pool, handle], &[reason]) if is_named("ClaimSkipped") => PoolSaid::Skipped {
            pool: PoolId::from_felt(pool),
            handle: Handle::from_felt(handle),
            reason: short_string(reason),
        },
        (&[owner, token], &[low, high]) if is_named("Withdrawn") => PoolSaid::Withdrawn {
            owner: address(owner),
            token: address(token),
            amount: amount(low, high)?,
        },
        (&[pool, funder], &[low, high, claims_left]) if is_named("PoolEnded") => PoolSaid::Ended {
            pool: PoolId::from_felt(pool),
            funder: address(funder),
            amount: amount(low, high)?,
            claims_left: narrow(claims_left)?,
        },
        _ => return Ok(None),
    };
    Ok(event.block_number.map(|number| PoolEvent {
        says,
        block: BlockNumber(number),
        transaction: TransactionHash::from_felt(event.transaction_hash),
    }))
}

/// Amounts are beyond what many readers of JSON take for a number.
fn as_text<S: Serializer>(amount: &u128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(amount)
}

/// A reason as the contract spells it; in hex if it is no text.
fn short_string(felt: Felt) -> String {
    let bytes = felt.to_bytes_be();
    let text: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
    match String::from_utf8(text) {
        Ok(text) if text.chars().all(|c| c.is_ascii_graphic()) => text,
        _ => format!("{felt:#x}"),
    }
}

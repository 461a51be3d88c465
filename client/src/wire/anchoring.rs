//! Batches on their way to the chain, reward pools, and tickets.

use medsync_protocol::claim::SignedClaim;
use medsync_protocol::ids::{Anchorer, ContractAddress, Salt, UnixSeconds};
use medsync_protocol::receipt::{Block, TransactionHash};
use medsync_protocol::secrets::Handle;
use medsync_protocol::signature::PublicKey;
use medsync_protocol::ticket::PoolId;
use medsync_protocol::tree::{Proof, Root};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A batch: what is anchored in one transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Batch {
    /// Its number here.
    pub batch: i64,
    /// Its root.
    #[schema(value_type = String)]
    pub root: Root,
    /// How many leaves it has, padding included; 0 of one that was taken over from its circles.
    pub leaf_count: u64,
    /// `sealed`, `placed` in its circles, `submitted` or `anchored`.
    pub state: String,
    /// When it was sealed.
    #[schema(value_type = u64)]
    pub sealed_at: UnixSeconds,
    /// When its transaction was first sent.
    #[schema(value_type = Option<u64>)]
    pub submitted_at: Option<UnixSeconds>,
    /// Its transaction.
    #[schema(value_type = Option<String>)]
    pub transaction: Option<TransactionHash>,
    /// The block that has it, by number and hash.
    #[schema(value_type = Option<Object>)]
    pub block: Option<Block>,
    /// That block's time.
    #[schema(value_type = Option<u64>)]
    pub anchored_at: Option<UnixSeconds>,
    /// Since when the chain says that it does not have it any more.
    #[schema(value_type = Option<u64>)]
    pub missing_since: Option<UnixSeconds>,
    /// What last went wrong.
    pub hindrance: Option<String>,
}

/// Batches of a custodian.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchPage {
    /// The latest first.
    pub batches: Vec<Batch>,
    /// What the next page comes after; nothing on the last.
    pub next: Option<String>,
}

/// A reward pool from which a custodian issues tickets, or did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pool {
    /// Its name.
    #[schema(value_type = String)]
    pub pool: PoolId,
    /// The contract that holds it.
    #[schema(value_type = String)]
    pub contract: ContractAddress,
    /// The text by which people know it.
    pub label: String,
    /// To which recipient a consent is rewarded.
    #[schema(value_type = String)]
    pub recipient: PublicKey,
    /// Until when it pays claims.
    #[schema(value_type = u64)]
    pub claim_end: UnixSeconds,
    /// How many tickets may be out; nothing where none is issued.
    pub quota: Option<u64>,
    /// How many are.
    pub tickets_out: u64,
    /// Since when no more are issued.
    #[schema(value_type = Option<u64>)]
    pub closed_at: Option<UnixSeconds>,
}

/// The reward pools of a party.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pools {
    /// All of them.
    pub pools: Vec<Pool>,
}

/// A promised reward, with what a claim needs besides the patient's keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ticket {
    /// The pool that pays.
    #[schema(value_type = String)]
    pub pool: PoolId,
    /// What the circle says of the pool, if it does.
    pub known_as: Option<KnownAs>,
    /// The handle of the consent that is rewarded.
    #[schema(value_type = String)]
    pub handle: Handle,
    /// Until when it can be claimed.
    #[schema(value_type = u64)]
    pub claim_until: UnixSeconds,
    /// Whether that is over.
    pub is_over: bool,
    /// Since when it is paid, if it is.
    #[schema(value_type = Option<u64>)]
    pub paid_since: Option<UnixSeconds>,
    /// `sealed`, `anchored`, `revoked`, or `unknown` if the chain does not answer.
    pub stage: String,
    /// Since when.
    #[schema(value_type = Option<u64>)]
    pub since: Option<UnixSeconds>,
    /// Why something of this is not known.
    pub hindrance: Option<String>,
    /// The claim that was brought, if one was.
    pub claim: Option<KeptClaim>,
    /// What proves the promise.
    pub receipt: TicketReceipt,
}

/// A claim that is kept, to be sent to the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeptClaim {
    /// Where the reward goes.
    #[schema(value_type = String)]
    pub pay_to: ContractAddress,
    /// When it was brought.
    #[schema(value_type = u64)]
    pub brought_at: UnixSeconds,
    /// The transaction that carries it, if one is on its way.
    #[schema(value_type = Option<String>)]
    pub transaction: Option<TransactionHash>,
    /// Why it was not taken when that was last tried.
    pub hindrance: Option<String>,
}

/// A claim as `medsync patient claim` signs and writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = Object)]
pub struct NewClaim(pub SignedClaim);

/// A claim that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BroughtClaim {
    /// The pool that pays.
    #[schema(value_type = String)]
    pub pool: PoolId,
    /// The handle of the ticket that it spends.
    #[schema(value_type = String)]
    pub handle: Handle,
    /// Where the reward goes.
    #[schema(value_type = String)]
    pub pay_to: ContractAddress,
    /// Until when it is tried.
    #[schema(value_type = u64)]
    pub claim_until: UnixSeconds,
}

/// What a circle says of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KnownAs {
    /// The text by which people know it.
    pub label: String,
    /// The contract that holds it.
    #[schema(value_type = String)]
    pub contract: ContractAddress,
}

/// What proves that a ticket was anchored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TicketReceipt {
    /// Who anchored it.
    #[schema(value_type = String)]
    pub anchorer: Anchorer,
    /// What hides it.
    #[schema(value_type = String)]
    pub salt: Salt,
    /// The batch's root.
    #[schema(value_type = String)]
    pub root: Root,
    /// The path to it.
    #[schema(value_type = Object)]
    pub proof: Proof,
}

/// The tickets of a circle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tickets {
    /// One for each pool and consent.
    pub tickets: Vec<Ticket>,
}

//! Reward pools and tickets: what the custodian promises a patient, and where that stands in a
//! batch.
//!
//! Both are the custodian's word and count under its stamp alone; a ticket also needs a path that
//! leads from its leaf to the root. Whether the root is anchored, the pool funded and the ticket
//! unclaimed is for the chain to say.

use borsh::{BorshDeserialize, BorshSerialize};
use medsync_protocol::ids::{ContextId, ContextKind, ContractAddress, Salt, UnixSeconds};
use medsync_protocol::secrets::Handle;
use medsync_protocol::signature::PublicKey;
use medsync_protocol::ticket::{PoolId, PoolNonce, Ticket};
use medsync_protocol::tree::{Proof, Root, Sibling, DEPTH_MAX};

use crate::abi::{PoolInput, PoolView, TicketInput, TicketView, Written};
use crate::circle::Circle;
use crate::host;
use crate::layout::{Kind, Shard};
use crate::limits::POOL_LABEL_BYTES_MAX;
use crate::records::bounded;
use crate::refusal::Refusal;
use crate::store::{self, Key};
use crate::text::read;

const ONLY_SHARD: Shard = Shard(0);

#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
struct PoolBody {
    context: ContextId,
    contract: ContractAddress,
    funder: ContractAddress,
    nonce: PoolNonce,
    recipient: PublicKey,
    claim_end: u64,
    label: String,
    recorded_at: u64,
}

impl PoolBody {
    fn is_same(&self, other: &Self) -> bool {
        let recorded_at = self.recorded_at;
        *self
            == Self {
                recorded_at,
                ..other.clone()
            }
    }
}

/// One pool, if it is there and the custodian's word.
fn load_pool(circle: &Circle, key: Key) -> Option<PoolBody> {
    let stored = store::load(key)?;
    let body: PoolBody = stored.decode()?;
    let counts = body.context == circle.context
        && body.label.len() <= POOL_LABEL_BYTES_MAX
        && stored.owner() == Some(circle.custodian_member);
    counts.then_some(body)
}

/// One pool, as the interface shows it.
pub fn pool_view(circle: &Circle, key: Key) -> Option<PoolView> {
    let body = load_pool(circle, key)?;
    Some(PoolView {
        key: key.to_string(),
        pool: PoolInput {
            contract: body.contract.to_string(),
            funder: body.funder.to_string(),
            nonce: body.nonce.to_string(),
            recipient: body.recipient.to_string(),
            claim_end: body.claim_end,
            label: body.label,
        },
        recorded_at: body.recorded_at,
    })
}

/// Makes a pool known.
pub fn put_pool(input: &PoolInput) -> Result<Written, Refusal> {
    let circle = Circle::load_as(ContextKind::Circle)?;
    circle.check_custodian()?;
    bounded("label bytes", input.label.len(), POOL_LABEL_BYTES_MAX)?;
    let body = PoolBody {
        context: circle.context,
        contract: read("contract", &input.contract)?,
        funder: read("funder", &input.funder)?,
        nonce: read("nonce", &input.nonce)?,
        recipient: read("recipient", &input.recipient)?,
        claim_end: input.claim_end,
        label: input.label.clone(),
        recorded_at: host::now().0,
    };
    let known = store::keys(Kind::Pools, ONLY_SHARD).into_iter();
    let same = known
        .map(|(key, _)| key)
        .find(|key| load_pool(&circle, *key).is_some_and(|known| known.is_same(&body)));
    write_once(same, || store::insert(Kind::Pools, ONLY_SHARD, &body))
}

#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
struct TicketBody {
    context: ContextId,
    pool_id: PoolId,
    handle: Handle,
    claim_until: u64,
    salt: Salt,
    root: Root,
    index: u64,
    siblings: Vec<Sibling>,
    recorded_at: u64,
}

impl TicketBody {
    fn read(circle: &Circle, input: &TicketInput) -> Result<Self, Refusal> {
        bounded("siblings", input.siblings.len(), DEPTH_MAX)?;
        circle.check_anchorer(&input.anchorer)?;
        let siblings: Result<Vec<Sibling>, Refusal> = input
            .siblings
            .iter()
            .map(|sibling| read("siblings", sibling))
            .collect();
        Ok(Self {
            context: circle.context,
            pool_id: read("pool_id", &input.pool_id)?,
            handle: read("handle", &input.handle)?,
            claim_until: input.claim_until,
            salt: read("salt", &input.salt)?,
            root: read("root", &input.root)?,
            index: input.index,
            siblings: siblings?,
            recorded_at: host::now().0,
        })
    }

    fn proof(&self) -> Proof {
        Proof {
            index: self.index,
            siblings: self.siblings.clone(),
        }
    }

    fn is_included(&self, circle: &Circle) -> bool {
        let leaf = Ticket {
            pool_id: self.pool_id,
            anchorer: circle.anchorer,
            handle: self.handle,
            claim_until: UnixSeconds(self.claim_until),
            salt: self.salt,
        }
        .leaf();
        // Bounded before anything is hashed.
        self.siblings.len() <= DEPTH_MAX && self.proof().includes(leaf, self.root)
    }

    fn shard(&self) -> Shard {
        Kind::Tickets.shard_of(&self.handle.to_bytes())
    }

    fn is_same(&self, other: &Self) -> bool {
        let recorded_at = self.recorded_at;
        *self
            == Self {
                recorded_at,
                ..other.clone()
            }
    }
}

fn load(circle: &Circle, shard: Shard, key: Key) -> Option<TicketBody> {
    let stored = store::load(key)?;
    let body: TicketBody = stored.decode()?;
    let counts = body.context == circle.context
        && body.shard() == shard
        && stored.owner() == Some(circle.custodian_member)
        && body.is_included(circle);
    counts.then_some(body)
}

/// One ticket, as the interface shows it.
pub fn view(circle: &Circle, shard: Shard, key: Key) -> Option<TicketView> {
    let body = load(circle, shard, key)?;
    Some(TicketView {
        key: key.to_string(),
        ticket: TicketInput {
            pool_id: body.pool_id.to_string(),
            anchorer: circle.anchorer.to_string(),
            handle: body.handle.to_string(),
            claim_until: body.claim_until,
            salt: body.salt.to_string(),
            root: body.root.to_string(),
            index: body.index,
            siblings: body.siblings.iter().map(ToString::to_string).collect(),
        },
        recorded_at: body.recorded_at,
    })
}

/// Writes where a ticket stands in a batch.
pub fn put(input: &TicketInput) -> Result<Written, Refusal> {
    let circle = Circle::load_as(ContextKind::Circle)?;
    circle.check_custodian()?;
    let body = TicketBody::read(&circle, input)?;
    body.proof().check()?;
    if !body.is_included(&circle) {
        return Err(Refusal::NotIncluded);
    }
    let shard = body.shard();
    let known = store::keys(Kind::Tickets, shard).into_iter();
    let same = known
        .map(|(key, _)| key)
        .find(|key| load(&circle, shard, *key).is_some_and(|known| known.is_same(&body)));
    write_once(same, || store::insert(Kind::Tickets, shard, &body))
}

fn write_once(
    same: Option<Key>,
    write: impl FnOnce() -> Result<Key, Refusal>,
) -> Result<Written, Refusal> {
    match same {
        Some(key) => Ok(Written::there(key)),
        None => write().map(Written::new),
    }
}

//! Pools and tickets: bounded, and paths are recomputed.

use medsync_protocol::ticket::Ticket;
use medsync_protocol::tree::Proof;

use super::{Converted, bounded, same};
use crate::source::abi;
use crate::source::model::{PlacedTicket, Pool};

/// The longest name of a pool, in bytes.
const POOL_LABEL_BYTES_MAX: usize = 128;

pub(in crate::source) fn pool_to_abi(pool: &Pool) -> abi::PoolInput {
    abi::PoolInput {
        contract: pool.contract,
        funder: pool.funder,
        nonce: pool.nonce,
        recipient: pool.recipient,
        claim_end: pool.claim_end,
        label: pool.label.clone(),
    }
}

pub(super) fn pool(view: &abi::PoolView) -> Converted<Pool> {
    let said = &view.pool;
    bounded("a pool's label", said.label.len(), POOL_LABEL_BYTES_MAX)?;
    Ok(Pool {
        contract: said.contract,
        funder: said.funder,
        nonce: said.nonce,
        recipient: said.recipient,
        claim_end: said.claim_end,
        label: said.label.clone(),
    })
}

pub(in crate::source) fn ticket_to_abi(placed: &PlacedTicket) -> abi::TicketInput {
    abi::TicketInput {
        pool_id: placed.ticket.pool_id,
        anchorer: placed.ticket.anchorer,
        handle: placed.ticket.handle,
        claim_until: placed.ticket.claim_until,
        salt: placed.ticket.salt,
        root: placed.root,
        index: placed.proof.index,
        siblings: placed.proof.siblings.clone(),
    }
}

pub(super) fn ticket(view: &abi::TicketView) -> Converted<PlacedTicket> {
    let said = &view.ticket;
    let placed = PlacedTicket {
        ticket: Ticket {
            pool_id: said.pool_id,
            anchorer: said.anchorer,
            handle: said.handle,
            claim_until: said.claim_until,
            salt: said.salt,
        },
        root: said.root,
        proof: Proof {
            index: said.index,
            siblings: said.siblings.clone(),
        },
    };
    same("the root of a path", &placed.is_included(), &true)?;
    Ok(placed)
}

//! Batches, pools and tickets as people see them.

use std::collections::BTreeMap;

use medsync_client::wire::{Batch, KeptClaim, KnownAs, Pool, Ticket, TicketReceipt};
use medsync_protocol::ids::{Anchorer, ContextId};
use medsync_protocol::ticket::PoolId;

use crate::pipeline::tickets::{TicketStage, promised};
use crate::pipeline::{Pipeline, PipelineError};
use crate::store::batches::BatchRow;
use crate::store::tickets::PoolRow;

/// A batch, without its leaves.
#[must_use]
pub fn batch(row: BatchRow) -> Batch {
    Batch {
        batch: row.id.0,
        root: row.root,
        leaf_count: row.leaf_count,
        state: row.state.name().to_owned(),
        sealed_at: row.sealed_at,
        submitted_at: row.submitted_at,
        transaction: row.transaction,
        block: row.block.map(|(block, _)| block),
        anchored_at: row.block.map(|(_, time)| time),
        missing_since: row.missing_since,
        hindrance: row.last_error,
    }
}

/// A reward pool.
#[must_use]
pub fn pool(row: PoolRow) -> Pool {
    Pool {
        pool: row.id,
        contract: row.pool.contract,
        label: row.pool.label,
        recipient: row.pool.recipient,
        claim_end: row.pool.claim_end,
        quota: row.quota,
        tickets_out: row.live,
        closed_at: row.closed_at,
    }
}

/// The tickets of a circle that its custodian issued, with what the chain says of each. If that
/// does not answer, each says what is not known.
///
/// # Errors
/// A store that does not answer.
pub async fn tickets(
    pipeline: &Pipeline,
    context: ContextId,
    custodian: Anchorer,
) -> Result<Vec<Ticket>, PipelineError> {
    let rows = pipeline.store.pools().await?.into_iter();
    let pools: BTreeMap<PoolId, KnownAs> = rows
        .map(|row| {
            let (label, contract) = (row.pool.label, row.pool.contract);
            (row.id, KnownAs { label, contract })
        })
        .collect();
    let (registry, now) = (pipeline.registry.registry, pipeline.now());
    let mut tickets = Vec::new();
    for (placed, stage) in promised(pipeline, context, custodian).await? {
        let ticket = placed.ticket;
        let (stage, since, mut hindrance) = match stage {
            TicketStage::Sealed => ("sealed", None, None),
            TicketStage::Unknown(why) => ("unknown", None, Some(why)),
            TicketStage::Anchored(at) => ("anchored", Some(at), None),
            TicketStage::Revoked(at) => ("revoked", Some(at), None),
        };
        let name = (ticket.pool_id, ticket.handle);
        let kept = pipeline.store.claim_of(name).await;
        let (kept, unreadable) = match kept {
            Err(error) if error.is_of_a_row() => (None, Some(format!("the claim: {error}"))),
            kept => (kept?, None),
        };
        let known_as = pools.get(&ticket.pool_id).cloned();
        let mut paid_since = None;
        // Only what was anchored can be paid; and a chain that is silent is not asked once more.
        if let (Some(pool), Some(_)) = (&known_as, since) {
            let (chain, id) = (&pipeline.chain, ticket.pool_id);
            let times = chain.ticket_times(registry, pool.contract, id, ticket.handle);
            match times.await {
                Ok((times, _)) => paid_since = times.claimed_at,
                Err(error) => hindrance = Some(format!("whether it is paid: {error}")),
            }
        }
        tickets.push(Ticket {
            pool: ticket.pool_id,
            known_as,
            handle: ticket.handle,
            claim_until: ticket.claim_until,
            is_over: ticket.claim_until <= now,
            paid_since,
            stage: stage.to_owned(),
            since,
            hindrance: hindrance.or(unreadable),
            claim: kept.map(|kept| KeptClaim {
                pay_to: kept.claim.pay_to,
                brought_at: kept.brought_at,
                transaction: kept.out.map(|out| out.transaction),
                hindrance: kept.refused,
            }),
            receipt: TicketReceipt {
                anchorer: ticket.anchorer,
                salt: ticket.salt,
                root: placed.root,
                proof: placed.proof,
            },
        });
    }
    Ok(tickets)
}

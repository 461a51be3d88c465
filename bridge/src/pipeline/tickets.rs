//! Tickets: who is promised a reward.
//!
//! A custodian makes its pools known to every circle, and issues a ticket to each patient with a
//! consent in force to a pool's recipient: one for a pool and patient, within the quota that the
//! pool has funded for this custodian. A ticket whose consent is revoked makes room for another one
//! only once the chain says, of one block long after, that it is revoked and was not claimed: a
//! claim comes before the revocation or never. Nothing is issued to a circle that was not read
//! whole since this process started, nor to a key that such a circle has, and each of them keeps a
//! ticket's room free: a store that was restored first takes over what it issued.
//! What a circle loses of its tickets comes back.
//!
//! The patient's side is [`promised`]: how far each ticket is, also when the chain does not answer.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use medsync_protocol::ids::{Anchorer, ContextId, UnixSeconds};
use medsync_protocol::secrets::Handle;
use medsync_protocol::ticket::{PoolId, Ticket, claim_until};

use super::place::put_ticket;
use super::{Pipeline, PipelineError};
use crate::guard;
use crate::seams::random_salt;
use crate::source::PlacedTicket;
use crate::store::tickets::RevokedTicket;

/// How many circles hear of a pool, tickets are issued or brought back, and revoked ones looked at
/// in one round.
const PER_ROUND: u32 = 64;
/// After how long a circle that did not take a pool or a ticket is told again, in seconds.
const TOLD_AGAIN_S: u64 = 10 * 60;

/// How old a revocation is before what comes with it is believed, as a block that old is not
/// dropped; and how long a ticket rests after it was asked about. In seconds.
const SETTLED_S: u64 = 10 * 60;

/// Makes pools known, and issues what is due.
///
/// # Errors
/// A store that does not answer. A circle or a chain that does not is tried again later.
pub async fn issue_due(pipeline: &Pipeline) -> Result<(), PipelineError> {
    make_pools_known(pipeline).await?;
    make_room(pipeline).await?;
    let (store, now) = (&pipeline.store, pipeline.now());
    let mut unread = BTreeMap::new();
    for due in store.due_tickets(PER_ROUND, now).await? {
        let Some(anchorer) = pipeline.anchorer() else {
            return Ok(());
        };
        if !pipeline.readings.was_read(due.context) {
            continue;
        }
        // A store that was restored may not know what other circles have of this pool.
        let unread = match unread.entry(due.pool_id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(first) => {
                let mut circles = store.circles_without_ticket(due.pool_id).await?;
                circles.retain(|circle| !pipeline.readings.was_read(circle.context));
                first.insert(circles)
            }
        };
        if unread
            .iter()
            .any(|circle| circle.may_be_of(due.patient_key))
        {
            continue;
        }
        let ticket = Ticket {
            pool_id: due.pool_id,
            anchorer,
            handle: due.handle,
            claim_until: claim_until(due.not_after, due.claim_end),
            salt: random_salt(&mut *pipeline.random.lock().await),
        };
        let kept_free = unread.len() as u64;
        if store.keep_issued(&due, &ticket, kept_free, now).await? {
            tracing::info!(context = %due.context, pool = %due.pool_id, "ticket issued");
        }
    }
    Ok(())
}

async fn make_pools_known(pipeline: &Pipeline) -> Result<(), PipelineError> {
    let (store, now) = (&pipeline.store, pipeline.now());
    for (context, row) in store.untold_pools(PER_ROUND, now).await? {
        let told = async {
            let circle_row = store.circle(context).await?;
            let circle = guard::enter(&*pipeline.circles, store, &circle_row, now).await?;
            circle.put_pool(&row.pool).await?;
            Ok::<_, PipelineError>(())
        };
        let until = told_again(context, told.await, now)?;
        store.pool_told(context, row.id, now, until).await?;
    }
    Ok(())
}

/// When a circle is told again, if it was not told this time.
fn told_again(
    context: ContextId,
    told: Result<(), PipelineError>,
    now: UnixSeconds,
) -> Result<Option<UnixSeconds>, PipelineError> {
    match told {
        Ok(()) => Ok(None),
        Err(error) if error.is_of_the_store() => Err(error),
        Err(error) => {
            tracing::warn!(%context, %error, "a circle did not take a pool or a ticket");
            Ok(Some(UnixSeconds(now.0 + TOLD_AGAIN_S)))
        }
    }
}

/// Brings tickets back into circles that lost them. A circle that does not take one is tried again
/// later with all of its tickets, and keeps no other waiting.
///
/// # Errors
/// A store that does not answer.
pub async fn bring_back(pipeline: &Pipeline) -> Result<(), PipelineError> {
    let (store, now) = (&pipeline.store, pipeline.now());
    let mut silent = BTreeSet::new();
    for (context, lost) in store.lost_tickets(PER_ROUND, now).await? {
        if silent.contains(&context) {
            continue;
        }
        match told_again(context, put_ticket(pipeline, context, &lost).await, now)? {
            Some(until) => {
                silent.insert(context);
                store.tickets_wait(context, until).await?;
            }
            None => {
                let pool = lost.ticket.pool_id;
                tracing::warn!(%context, %pool, "a lost ticket was put again");
                store.ticket_is_back(&lost).await?;
            }
        }
    }
    Ok(())
}

/// Tickets that were revoked unclaimed make room.
async fn make_room(pipeline: &Pipeline) -> Result<(), PipelineError> {
    let (store, now) = (&pipeline.store, pipeline.now());
    let registry = pipeline.registry.registry;
    let not_since = UnixSeconds(now.0.saturating_sub(SETTLED_S));
    for revoked in store.revoked_tickets(PER_ROUND, not_since).await? {
        let RevokedTicket {
            pool_id,
            contract,
            handle,
        } = revoked;
        let asked = pipeline
            .chain
            .ticket_times(registry, contract, pool_id, handle)
            .await;
        let claimed_at = match asked {
            Ok((times, block)) => {
                let is_settled = times
                    .revoked_at
                    .is_some_and(|at| at.0.saturating_add(SETTLED_S) <= block.time.0);
                if is_settled && times.claimed_at.is_none() {
                    store.replace_ticket(pool_id, handle, now).await?;
                    tracing::info!(pool = %pool_id, "a ticket was revoked unclaimed");
                }
                times.claimed_at
            }
            Err(error) => {
                tracing::warn!(
                    pool = %pool_id, %error,
                    "whether a revoked ticket was claimed is not known; it keeps its room",
                );
                None
            }
        };
        store
            .ticket_checked((pool_id, handle), claimed_at, now)
            .await?;
    }
    Ok(())
}

/// How far a ticket is; what is greater says more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TicketStage {
    /// It is in a batch that the chain does not have.
    Sealed,
    /// Whether the chain has its batch is not known, and why.
    Unknown(String),
    /// The chain has its batch, since this time.
    Anchored(UnixSeconds),
    /// Its consent is revoked, since this time.
    Revoked(UnixSeconds),
}

/// The tickets of a circle by its custodian, each once, with the place that counts and how far it
/// is. Others' tickets are no promise that this circle's pools pay.
///
/// # Errors
/// A store that does not answer. Of a chain that does not, the stages say so.
pub async fn promised(
    pipeline: &Pipeline,
    context: ContextId,
    custodian: Anchorer,
) -> Result<Vec<(PlacedTicket, TicketStage)>, PipelineError> {
    let store = &pipeline.store;
    let mut tickets: BTreeMap<(PoolId, Handle), (PlacedTicket, TicketStage)> = BTreeMap::new();
    let mut silence: Option<String> = None;
    for placed in store.placed_tickets(context).await? {
        let ticket = placed.ticket;
        if ticket.anchorer != custodian {
            continue;
        }
        let revoked = store.revocation(ticket.handle).await?;
        let stage = if let Some(revoked) = revoked {
            let landed = revoked.landed.map(|landed| landed.revoked_at);
            TicketStage::Revoked(landed.unwrap_or(revoked.seen_at))
        } else if let Some(why) = &silence {
            // A chain that is silent is not asked about each ticket anew.
            TicketStage::Unknown(why.clone())
        } else {
            match anchored_at(pipeline, &placed).await {
                Ok(Some(at)) => TicketStage::Anchored(at),
                Ok(None) => TicketStage::Sealed,
                Err(error) => {
                    let why = error.to_string();
                    silence = Some(why.clone());
                    TicketStage::Unknown(why)
                }
            }
        };
        // A ticket may be in several batches, of which some were taken apart, the earlier ones.
        let name = (ticket.pool_id, ticket.handle);
        if tickets.get(&name).is_none_or(|(_, known)| *known <= stage) {
            tickets.insert(name, (placed, stage));
        }
    }
    Ok(tickets.into_values().collect())
}

async fn anchored_at(
    pipeline: &Pipeline,
    placed: &PlacedTicket,
) -> Result<Option<UnixSeconds>, PipelineError> {
    pipeline.check_chain().await?;
    let registry = pipeline.registry.registry;
    let anchored = pipeline
        .chain
        .anchored_at(registry, placed.ticket.anchorer, placed.root);
    Ok(anchored.await?)
}

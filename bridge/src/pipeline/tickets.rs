//! Tickets: who is promised a reward.
//!
//! A custodian makes its pools known to every circle, and issues a ticket to each patient with a
//! consent in force to a pool's recipient: one for a pool and patient, within the quota that the
//! pool has funded for this custodian. A ticket whose consent is revoked makes room for another one
//! only once the chain says, of one block long after, that it is revoked and was not claimed: a
//! claim comes before the revocation or never. Nothing is issued to a circle that was not read
//! whole since this process started: a store that was restored first takes over what it issued.

use medsync_protocol::ids::UnixSeconds;
use medsync_protocol::ticket::{Ticket, claim_until};

use super::{Pipeline, PipelineError};
use crate::guard;
use crate::seams::random_salt;
use crate::store::tickets::RevokedTicket;

/// How many circles hear of a pool, tickets are issued, and revoked ones looked at in one round.
const PER_ROUND: u32 = 64;
/// After how long a circle that did not take a pool is told again, in seconds.
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
    for due in store.due_tickets(PER_ROUND, now).await? {
        let Some(anchorer) = pipeline.anchorer() else {
            return Ok(());
        };
        if !pipeline.readings.was_read(due.context) {
            continue;
        }
        let ticket = Ticket {
            pool_id: due.pool_id,
            anchorer,
            handle: due.handle,
            claim_until: claim_until(due.not_after, due.claim_end),
            salt: random_salt(&mut *pipeline.random.lock().await),
        };
        if store.keep_issued(&due, &ticket, now).await? {
            tracing::info!(context = %due.context, pool = %due.pool_id, "ticket issued");
        }
    }
    Ok(())
}

async fn make_pools_known(pipeline: &Pipeline) -> Result<(), PipelineError> {
    let (store, now) = (&pipeline.store, pipeline.now());
    for (context, row) in store.untold_pools(PER_ROUND, now).await? {
        let circle_row = store.circle(context).await?;
        let told = async {
            let circle = guard::enter(&*pipeline.circles, store, &circle_row, now).await?;
            circle.put_pool(&row.pool).await?;
            Ok::<_, PipelineError>(())
        };
        let until = match told.await {
            Ok(()) => None,
            Err(PipelineError::Store(error)) => return Err(error.into()),
            Err(error) => {
                tracing::warn!(%context, %error, "a circle was not told of a pool");
                Some(UnixSeconds(now.0 + TOLD_AGAIN_S))
            }
        };
        store.pool_told(context, row.id, now, until).await?;
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

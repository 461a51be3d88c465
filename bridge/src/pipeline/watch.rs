//! Watch: what the chain says of what was believed to be settled.
//!
//! Whoever holds a revocation's opening may send it past everybody here: a second device, a
//! person the patient trusts, anyone after it was published. So the chain is asked about every
//! consent. That it says so once is enough to release nothing more. Before anything is undone for
//! good, erased at its recipient or held against a custodian, it has to say so again long after;
//! if it says then that it has no such revocation, the consent counts again.
//!
//! And what an endpoint said once is not for ever true: it may have lied, or the chain may have
//! dropped a block. So revocations and batches that landed are asked about too, and go out again
//! if the chain does not have them.
//!
//! Each round asks about a few and goes on from there in the next, so that the watch costs the same
//! however much there is.

use medsync_protocol::ids::UnixSeconds;
use medsync_protocol::secrets::Handle;

use super::{Pipeline, PipelineError};
use crate::chain::REVOCATIONS_MAX;
use crate::store::batches::BatchId;

/// How many handles of which the chain said something once are asked about first: they do not wait
/// until the others had their turn.
const UNSETTLED_PER_ROUND: usize = 16;
/// How many batches one round asks about.
const BATCHES_PER_ROUND: u32 = 4;
/// How old a batch's block is before it is asked about, and what the chain said before it settles,
/// in seconds: an endpoint may answer two questions from two backends of which one is behind.
const SETTLED_S: u64 = 10 * 60;
const HANDLES_CURSOR: &str = "watch_handles";
const BATCHES_CURSOR: &str = "watch_batches";

/// Asks about the next handles and batches.
///
/// # Errors
/// A chain or store that does not answer; the next round asks again.
pub async fn watch_round(pipeline: &Pipeline) -> Result<(), PipelineError> {
    watch_handles(pipeline).await?;
    watch_batches(pipeline).await
}

async fn watch_handles(pipeline: &Pipeline) -> Result<(), PipelineError> {
    let store = &pipeline.store;
    let cursor = store.fact(HANDLES_CURSOR).await?.unwrap_or_default();
    let settled_at = UnixSeconds(pipeline.now().0.saturating_sub(SETTLED_S));
    let mut handles = store
        .unsettled_handles(settled_at, UNSETTLED_PER_ROUND)
        .await?;
    let room = REVOCATIONS_MAX - handles.len();
    let watched = store.watched_handles(&cursor, room).await?;
    handles.extend(&watched);
    if !handles.is_empty() {
        let registry = pipeline.registry.registry;
        let (times, block) = pipeline.chain.revoked_at(registry, &handles).await?;
        for (handle, time) in handles.iter().zip(times) {
            compare(pipeline, *handle, time, block.time).await?;
        }
    }
    let is_last = watched.len() < room;
    let next = watched.last().filter(|_| !is_last);
    let next = next.map(ToString::to_string).unwrap_or_default();
    Ok(store.state_fact(HANDLES_CURSOR, &next).await?)
}

/// Compares what the chain says of a handle with what is known here.
async fn compare(
    pipeline: &Pipeline,
    handle: Handle,
    on_chain: Option<UnixSeconds>,
    block: UnixSeconds,
) -> Result<(), PipelineError> {
    let store = &pipeline.store;
    let landed = store.revocation(handle).await?.map(|row| row.revoked_at);
    match (on_chain, landed) {
        // An endpoint that is behind says nothing about what came later.
        (None, Some(Some(at))) if at <= block => {
            store.revocation_lost(handle).await?;
            tracing::error!(%handle, "the chain no longer has a revocation; it goes out again");
        }
        (_, None) => compare_elsewhere(pipeline, handle, on_chain, block).await?,
        _ => {}
    }
    Ok(())
}

/// The same of a handle of which no revocation is known here.
async fn compare_elsewhere(
    pipeline: &Pipeline,
    handle: Handle,
    on_chain: Option<UnixSeconds>,
    block: UnixSeconds,
) -> Result<(), PipelineError> {
    let (store, now) = (&pipeline.store, pipeline.now());
    match (on_chain, store.revoked_elsewhere(handle).await?) {
        (Some(at), None) => {
            store.keep_revoked_elsewhere(handle, at, now).await?;
            tracing::warn!(%handle, at = at.0, "revoked on chain, not in its circle");
        }
        (said, Some(before)) if !before.is_settled => {
            // A block that is older than what it denies says nothing.
            let is_later = before.said_at.max(before.revoked_at) <= block;
            if before.said_at.0 + SETTLED_S <= now.0 && is_later {
                store
                    .settle_revoked_elsewhere(handle, said.is_some())
                    .await?;
                if said.is_none() {
                    tracing::error!(%handle, "the chain has no revocation that it once had");
                }
            }
        }
        _ => {}
    }
    Ok(())
}

async fn watch_batches(pipeline: &Pipeline) -> Result<(), PipelineError> {
    let Some(anchorer) = pipeline.anchorer() else {
        return Ok(());
    };
    let store = &pipeline.store;
    let cursor = store.fact(BATCHES_CURSOR).await?;
    let cursor = BatchId(cursor.and_then(|id| id.parse().ok()).unwrap_or_default());
    let batches = store.anchored_batches(cursor, BATCHES_PER_ROUND).await?;
    if !batches.is_empty() {
        let tip = pipeline.chain.tip().await?;
        for batch in &batches {
            let registry = pipeline.registry.registry;
            let root = batch.root;
            let on_chain = pipeline.chain.anchored_at(registry, anchorer, root).await?;
            let is_covered = batch
                .block
                .is_some_and(|(_, at)| at.0 + SETTLED_S <= tip.time.0);
            if on_chain.is_none() && is_covered {
                store.batch_lost(batch.id).await?;
                tracing::error!(
                    batch = batch.id.0,
                    "the chain no longer has a batch; it goes out again"
                );
            }
        }
    }
    let next = batches.last().map_or(0, |batch| batch.id.0);
    Ok(store.state_fact(BATCHES_CURSOR, &next.to_string()).await?)
}

//! Watch: what the chain says of what was believed to be settled.
//!
//! Whoever holds a revocation's opening may send it past everybody here: a second device, a
//! person the patient trusts, anyone after it was published. So the chain is asked about every
//! consent; what it says is kept for people to see, and stays.
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
use crate::store::{Store, StoreError};

/// How many batches one round asks about.
const BATCHES_PER_ROUND: u32 = 4;
/// How old a batch's block is before it is asked about, in seconds: an endpoint may answer two
/// questions from two backends of which one is behind.
const BATCH_SETTLED_S: u64 = 10 * 60;
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
    let handles = store.watched_handles(&cursor, REVOCATIONS_MAX).await?;
    if !handles.is_empty() {
        let registry = pipeline.registry.registry;
        let (times, block) = pipeline.chain.revoked_at(registry, &handles).await?;
        for (handle, time) in handles.iter().zip(times) {
            compare(store, *handle, time, block.time).await?;
        }
    }
    let is_last = handles.len() < REVOCATIONS_MAX;
    let next = handles.last().filter(|_| !is_last);
    let next = next.map(ToString::to_string).unwrap_or_default();
    Ok(store.state_fact(HANDLES_CURSOR, &next).await?)
}

/// Compares what the chain says of a handle with what is known here.
async fn compare(
    store: &Store,
    handle: Handle,
    on_chain: Option<UnixSeconds>,
    block: UnixSeconds,
) -> Result<(), PipelineError> {
    let landed = store.revocation(handle).await?.map(|row| row.revoked_at);
    match (on_chain, landed) {
        // An endpoint that is behind says nothing about what came later.
        (None, Some(Some(at))) if at <= block => {
            store.revocation_lost(handle).await?;
            tracing::error!(%handle, "the chain no longer has a revocation; it goes out again");
        }
        (Some(at), None) if revoked_by_others(store, handle).await?.is_none() => {
            store.state_fact(&fact(handle), &at.to_string()).await?;
            tracing::warn!(%handle, at = at.0, "revoked on chain, not in its circle");
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
                .is_some_and(|(_, at)| at.0 + BATCH_SETTLED_S <= tip.time.0);
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

/// When the chain had a revocation that did not come through this party, if it was seen.
///
/// # Errors
/// A store that does not answer.
pub async fn revoked_by_others(
    store: &Store,
    handle: Handle,
) -> Result<Option<UnixSeconds>, StoreError> {
    let seen = store.fact(&fact(handle)).await?;
    Ok(seen.and_then(|at| at.parse().ok()).map(UnixSeconds))
}

fn fact(handle: Handle) -> String {
    format!("revoked_on_chain:{handle}")
}

//! Watch: what the chain says of what was believed to be settled.
//!
//! Whoever holds a revocation's opening may send it past everybody here: a second device, a
//! person the patient trusts, anyone after it was published. So the chain is asked about every
//! consent. That it says so once is enough to release nothing more. Before anything is undone for
//! good, erased at its recipient or held against a custodian, it has to say so again long after;
//! if it says then that it has no such revocation, the consent counts again. What it said in times
//! to come it said to a clock that was wrong: that is asked anew, and ten minutes later again.
//!
//! And what an endpoint said once is not for ever true: it may have lied, or the chain may have
//! dropped a block. So revocations and batches that landed are asked about too, and go out again
//! if the chain does not have them; of the batches first the newest, which a chain drops first.
//!
//! What a transaction opened past everybody here is read out of it and brought into its circle, so
//! that it denies there and in the exchanges, too.
//!
//! It compares this machine's clock with the newest block, too.
//!
//! Each round asks about a few and goes on from there in the next, so that the watch costs the same
//! however much there is.

use medsync_protocol::ids::{Anchorer, UnixSeconds};
use medsync_protocol::secrets::Handle;

use super::{Pipeline, PipelineError};
use crate::chain::REVOCATIONS_MAX;
use crate::store::batches::{Afterwards, BatchId, BatchRow};
use crate::store::held::LeftOut;
use crate::store::revocations::{Origin, RevokedOnChain};

/// How many handles of which the chain said something once are asked about first: they do not wait
/// until the others had their turn.
const UNSETTLED_PER_ROUND: usize = 16;
/// How many batches one round asks about in their turn.
const BATCHES_PER_ROUND: u32 = 4;
/// How many of the newest one round finds to be gone at most.
const DROPPED_PER_ROUND: u32 = 64;
/// How old a batch's block is before it is asked about, and what the chain said before it settles,
/// in seconds: an endpoint may answer two questions from two backends of which one is behind.
pub(super) const SETTLED_S: u64 = 10 * 60;
/// How many openings one round reads out of transactions, and after how long one that could not be
/// read is tried again, in seconds.
const OPENINGS_PER_ROUND: u32 = 4;
const OPENING_TRIED_AGAIN_S: u64 = 60 * 60;
const HANDLES_CURSOR: &str = "watch_handles";
const BATCHES_CURSOR: &str = "watch_batches";

/// Looks at the newest block, and asks about the next handles and batches.
///
/// # Errors
/// A chain or store that does not answer; the next round asks again.
pub async fn watch_round(pipeline: &Pipeline) -> Result<(), PipelineError> {
    pipeline.note_block(pipeline.chain.tip_by_all().await?);
    watch_handles(pipeline).await?;
    watch_batches(pipeline).await?;
    take_openings(pipeline).await
}

/// Takes in what opened handles past everybody here; it is brought into its circle like what was
/// revoked here. One that cannot be read keeps no other waiting.
async fn take_openings(pipeline: &Pipeline) -> Result<(), PipelineError> {
    let (store, now) = (&pipeline.store, pipeline.now());
    let since = UnixSeconds(now.0.saturating_sub(OPENING_TRIED_AGAIN_S));
    let unopened = store.unopened_handles((since, now), OPENINGS_PER_ROUND);
    for (handle, context) in unopened.await? {
        let registry = pipeline.registry.registry;
        match pipeline.chain.opening_of(registry, handle).await {
            Ok(Some((secret, claim_key))) => {
                let opening = (&secret, claim_key);
                store
                    .keep_revocation(handle, context, opening, Origin::Here, now)
                    .await?;
                tracing::info!(%handle, "a revocation that came past its circle was taken in");
            }
            Ok(None) => tracing::warn!(%handle, "no transaction says what opened it"),
            Err(error) => tracing::warn!(%handle, %error, "what opened it cannot be read yet"),
        }
    }
    Ok(())
}

async fn watch_handles(pipeline: &Pipeline) -> Result<(), PipelineError> {
    let store = &pipeline.store;
    let cursor = store.fact(HANDLES_CURSOR).await?.unwrap_or_default();
    let now = pipeline.now();
    let settled_at = UnixSeconds(now.0.saturating_sub(SETTLED_S));
    let ahead_at = UnixSeconds(now.0.saturating_add(pipeline.clock_behind_s_max));
    let mut handles = store
        .unsettled_handles((settled_at, ahead_at), UNSETTLED_PER_ROUND)
        .await?;
    let room = REVOCATIONS_MAX - handles.len();
    let watched = store.watched_handles(&cursor, room).await?;
    handles.extend(&watched);
    let (mut landed, mut others) = (Vec::new(), Vec::new());
    for handle in handles {
        match store.landing(handle).await? {
            Some(Some(said)) => landed.push((handle, said)),
            // It is on its way: the relay looks.
            Some(None) => {}
            None => others.push(handle),
        }
    }
    compare_landed(pipeline, &landed).await?;
    compare_elsewhere(pipeline, &others).await?;
    let is_last = watched.len() < room;
    let next = watched.last().filter(|_| !is_last);
    let next = next.map(ToString::to_string).unwrap_or_default();
    Ok(store.state_fact(HANDLES_CURSOR, &next).await?)
}

/// Compares revocations that landed with what the chain says of them now. It has to be there by
/// everybody who is asked.
async fn compare_landed(
    pipeline: &Pipeline,
    landed: &[(Handle, RevokedOnChain)],
) -> Result<(), PipelineError> {
    let (store, now) = (&pipeline.store, pipeline.now());
    let handles: Vec<Handle> = landed.iter().map(|(handle, _)| *handle).collect();
    if let Some((times, block, some)) = ask(pipeline, &handles, By::All).await? {
        for (handle, time) in some.iter().zip(times) {
            let known = landed.iter().find(|(known, _)| known == handle);
            let Some((handle, before)) = known else {
                continue;
            };
            match time {
                // An endpoint that is behind says nothing about what came later.
                None if before.revoked_at <= block => {
                    store.revocation_lost(*handle).await?;
                    tracing::error!(%handle, "the chain lost a revocation; it goes out again");
                }
                Some(at) if at.min(now) != before.revoked_at => {
                    store.revocation_landed(*handle, at, now).await?;
                    tracing::warn!(%handle, at = at.0, "the chain says another time than before");
                }
                Some(at) if is_of_times_to_come(pipeline, before) => {
                    store.revocation_landed(*handle, at, now).await?;
                }
                Some(_) if is_due(before, block, now) => store.settle_revocation(*handle).await?,
                _ => {}
            }
        }
    }
    Ok(())
}

/// Whether what was said once settles with an answer of this block.
fn is_due(before: &RevokedOnChain, block: UnixSeconds, now: UnixSeconds) -> bool {
    !before.is_settled && before.said_at.0 + SETTLED_S <= now.0 && before.said_at <= block
}

/// Whether what was said once was said to a clock that was ahead, and is said for the first time
/// now: when it was said nobody knows, so that this word is not the second.
fn is_of_times_to_come(pipeline: &Pipeline, before: &RevokedOnChain) -> bool {
    !before.is_settled && pipeline.check_not_ahead(before.said_at).is_err()
}

/// The same of handles of which no revocation is known here. That anybody says so counts.
async fn compare_elsewhere(pipeline: &Pipeline, handles: &[Handle]) -> Result<(), PipelineError> {
    let (store, now) = (&pipeline.store, pipeline.now());
    if let Some((times, block, some)) = ask(pipeline, handles, By::Any).await? {
        for (handle, time) in some.iter().zip(times) {
            match (time, store.revoked_elsewhere(*handle).await?) {
                (Some(at), None) => {
                    store.keep_revoked_elsewhere(*handle, at, now).await?;
                    tracing::warn!(%handle, at = at.0, "revoked on chain, not in its circle");
                }
                (said, Some(before)) if is_of_times_to_come(pipeline, &before) => {
                    // That nobody says so any more takes nothing back yet.
                    let at = said.unwrap_or(before.revoked_at);
                    store.keep_revoked_elsewhere(*handle, at, now).await?;
                }
                (said, Some(before)) if is_due(&before, block, now) => {
                    store
                        .settle_revoked_elsewhere(*handle, said.is_some())
                        .await?;
                    if said.is_none() {
                        tracing::error!(%handle, "the chain has no revocation that it once had");
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Who has to say that a handle is open.
#[derive(Clone, Copy)]
enum By {
    All,
    Any,
}

type Said<'a> = (Vec<Option<UnixSeconds>>, UnixSeconds, &'a [Handle]);

/// What the chain says of handles, if there are any, with the time of its block.
async fn ask<'a>(
    pipeline: &Pipeline,
    handles: &'a [Handle],
    by: By,
) -> Result<Option<Said<'a>>, PipelineError> {
    if handles.is_empty() {
        return Ok(None);
    }
    let (chain, registry) = (&pipeline.chain, pipeline.registry.registry);
    let (times, block) = match by {
        By::All => chain.revoked_at_by_all(registry, handles).await?,
        By::Any => chain.revoked_at(registry, handles).await?,
    };
    Ok(Some((times, block.time, handles)))
}

async fn watch_batches(pipeline: &Pipeline) -> Result<(), PipelineError> {
    let Some(anchorer) = pipeline.anchorer() else {
        return Ok(());
    };
    let (store, tip) = (&pipeline.store, pipeline.chain.tip().await?);
    let covered = UnixSeconds(tip.time.0.saturating_sub(SETTLED_S));
    // Each follows on the head that the one before made: where one is there, all before it are.
    for _ in 0..DROPPED_PER_ROUND {
        match store.newest_anchored(covered).await? {
            Some(newest) if !is_still_there(pipeline, anchorer, &newest).await? => {}
            _ => break,
        }
    }
    // An endpoint that lied said so of any.
    let cursor = store.fact(BATCHES_CURSOR).await?;
    let cursor = BatchId(cursor.and_then(|id| id.parse().ok()).unwrap_or_default());
    let batches = store.anchored_batches(cursor, BATCHES_PER_ROUND).await?;
    for batch in &batches {
        if batch.block.is_some_and(|(_, at)| at <= covered) {
            is_still_there(pipeline, anchorer, batch).await?;
        }
    }
    let next = batches.last().map_or(0, |batch| batch.id.0);
    Ok(store.state_fact(BATCHES_CURSOR, &next.to_string()).await?)
}

/// Whether the chain still has a batch; one that it has not goes out again. One of which not all is
/// known here cannot: it is taken apart, but only if every endpoint says so, and again long after.
async fn is_still_there(
    pipeline: &Pipeline,
    anchorer: Anchorer,
    batch: &BatchRow,
) -> Result<bool, PipelineError> {
    let (store, registry) = (&pipeline.store, pipeline.registry.registry);
    let on_chain = pipeline.chain.anchored_at(registry, anchorer, batch.root);
    let mut is_there = on_chain.await?.is_some();
    if !is_there {
        // One that lacks it has no batch sent again that another has.
        let by_any = pipeline
            .chain
            .anchored_at_by_any(registry, anchorer, batch.root);
        is_there = by_any.await?.is_some();
    }
    let (id, now) = (batch.id, pipeline.now());
    match (is_there, batch.missing_since) {
        (true, None) => {}
        (true, Some(_)) => store.batch_is_missing(id, None).await?,
        (false, _) if !batch.leaves.is_empty() => {
            store.batch_lost(id).await?;
            tracing::error!(
                batch = id.0,
                "the chain no longer has a batch; it goes out again"
            );
        }
        (false, None) => {
            store.batch_is_missing(id, Some(now)).await?;
            tracing::error!(
                batch = id.0,
                "the chain no longer has a batch; it is asked again"
            );
        }
        (false, Some(since)) if pipeline.check_not_ahead(since).is_err() => {
            // A clock that was ahead missed it: that is not the first of two times.
            store.batch_is_missing(id, Some(now)).await?;
        }
        (false, Some(since)) if since.0 + SETTLED_S <= now.0 => {
            let afterwards = Afterwards::LookedUp;
            let left_out = LeftOut::default();
            store.dissolve_batch(id, afterwards, &left_out, now).await?;
            tracing::error!(
                batch = id.0,
                "the chain no longer has a batch; it is sealed anew"
            );
        }
        (false, Some(_)) => {}
    }
    Ok(is_there)
}

//! Submit: the next placed batch goes out, one at a time.
//!
//! The head that a batch expects is the chain's own, and the contract compares it: two batches
//! cannot both follow one head, and a transaction that arrives twice lands once. The intent is
//! durable before anything is sent. A crash before it sends nothing; a crash after it is found by
//! [`confirm`](super::confirm), which asks the chain and sends the same transaction again.

use medsync_protocol::anchor::{AnchorHead, LeafCount};
use medsync_protocol::ids::{Anchorer, UnixSeconds};

use super::confirm::STUCK_AFTER_S;
use super::{Pipeline, PipelineError, place};
use crate::chain::{Account, Call, ChainError, Class, Prepared, RegistryRevert, RevertReason};
use crate::source::StageReport;
use crate::store::batches::{BatchRow, BatchState};

/// How long a batch rests that was sent and did not land, in seconds: whoever says each time that
/// it failed, and lies, costs a fee a minute at most.
const RESEND_REST_S: u64 = 60;

/// Prepares and sends the first placed batch that can be sent, unless another is on its way.
///
/// # Errors
/// A chain or store that does not answer; the batch stays placed, or its intent is kept.
pub async fn submit_next(
    pipeline: &Pipeline,
    account: &dyn Account,
    anchorer: Anchorer,
) -> Result<(), PipelineError> {
    let open = pipeline.store.open_batches().await?;
    if open
        .iter()
        .any(|batch| batch.state == BatchState::Submitted)
    {
        return Ok(());
    }
    // One that cannot be sent now keeps no other waiting.
    let mut outcome = Ok(());
    for batch in open
        .iter()
        .filter(|batch| batch.state == BatchState::Placed && !rests(batch, pipeline.now()))
    {
        match submit(pipeline, account, anchorer, batch).await {
            Err(PipelineError::Chain(error)) if error.class() == Class::FailBatch => {
                if let ChainError::WouldRevert(reason) = &error
                    && is_refused_as_there(pipeline, anchorer, batch, reason).await
                {
                    continue;
                }
                let store = &pipeline.store;
                let why = error.to_string();
                store.place_batch(batch.id, Some(&why)).await?;
                outcome = outcome.and(Err(error.into()));
            }
            sent => return sent,
        }
    }
    outcome
}

/// Whether a batch was sent a moment ago and came back.
fn rests(batch: &BatchRow, now: UnixSeconds) -> bool {
    let sent_at = batch.submitted_at;
    batch.last_error.is_some() && sent_at.is_some_and(|at| now.0.abs_diff(at.0) < RESEND_REST_S)
}

async fn submit(
    pipeline: &Pipeline,
    account: &dyn Account,
    anchorer: Anchorer,
    batch: &BatchRow,
) -> Result<(), PipelineError> {
    // A batch that comes back here after a failure may have landed all the same.
    if is_there(pipeline, anchorer, batch).await? {
        return Ok(());
    }
    let call = call_for(pipeline, anchorer, batch).await?;
    let prepared = account.prepare(&call, account.nonce().await?).await?;
    intend_and_send(pipeline, account, batch, &prepared).await?;
    tracing::info!(batch = batch.id.0, transaction = %prepared.hash, "batch submitted");
    if batch.transaction.is_some() {
        // Circles have heard once that it is on its way: more would fill them.
        return Ok(());
    }
    let stage = StageReport::Submitted {
        transaction: prepared.hash,
    };
    let consents = pipeline.store.consents_in(batch.id).await?;
    // News for people; that it is anchored is what is told until it is heard.
    place::report(pipeline, batch, &consents, anchorer, stage).await;
    Ok(())
}

/// Whether the chain has a batch, by whatever transaction; it is then anchored here too.
///
/// # Errors
/// A chain or a store that does not answer.
pub(super) async fn is_there(
    pipeline: &Pipeline,
    anchorer: Anchorer,
    batch: &BatchRow,
) -> Result<bool, PipelineError> {
    let (chain, registry) = (&pipeline.chain, pipeline.registry.registry);
    let anchored = chain.anchored_at_by_most(registry, anchorer, batch.root);
    let anchored = anchored.await?;
    landed_at(pipeline, batch, anchored).await
}

/// Whether the contract refuses a batch because it has it, and an endpoint says so too; it is then
/// anchored here. Where that cannot be asked or written down now, it is found with the next round.
pub(super) async fn is_refused_as_there(
    pipeline: &Pipeline,
    anchorer: Anchorer,
    batch: &BatchRow,
    reason: &RevertReason,
) -> bool {
    if reason.registry() != Some(RegistryRevert::RootAlreadyAnchored) {
        return false;
    }
    let (chain, registry) = (&pipeline.chain, pipeline.registry.registry);
    let anchored = chain.anchored_at_by_any(registry, anchorer, batch.root);
    match anchored.await {
        Ok(anchored) => matches!(landed_at(pipeline, batch, anchored).await, Ok(true)),
        Err(_) => false,
    }
}

/// Notes that a batch landed, if it did; a time to come is none.
async fn landed_at(
    pipeline: &Pipeline,
    batch: &BatchRow,
    anchored: Option<UnixSeconds>,
) -> Result<bool, PipelineError> {
    let Some(time) = anchored.filter(|time| pipeline.check_not_ahead(*time).is_ok()) else {
        return Ok(false);
    };
    let block = pipeline.chain.tip().await?.block();
    pipeline.store.batch_landed(batch.id, block, time).await?;
    Ok(true)
}

/// What anchors a batch now. Its leaves, which may not be readable any more, are not needed.
pub(super) async fn call_for(
    pipeline: &Pipeline,
    anchorer: Anchorer,
    batch: &BatchRow,
) -> Result<Call, PipelineError> {
    let registry = pipeline.registry.registry;
    let heads = pipeline.chain.heads_of(registry, anchorer).await?;
    // Where endpoints differ, and it failed before or did not land, each is believed in turn.
    let waits_s = pipeline.now().0.abs_diff(batch.sealed_at.0);
    let turn = match (&batch.last_error, batch.transaction) {
        (Some(_), _) => waits_s / RESEND_REST_S,
        (None, Some(_)) => waits_s / STUCK_AFTER_S,
        (None, None) => 0,
    };
    let head = heads.get(turn as usize % heads.len().max(1));
    Ok(Call::Anchor {
        registry,
        expected_head: head.copied().unwrap_or(AnchorHead::START),
        root: batch.root,
        leaf_count: LeafCount(batch.leaf_count),
    })
}

/// Makes an intent durable, then sends its transaction.
pub(super) async fn intend_and_send(
    pipeline: &Pipeline,
    account: &dyn Account,
    batch: &BatchRow,
    prepared: &Prepared,
) -> Result<(), PipelineError> {
    let intent = prepared.to_intent();
    pipeline
        .store
        .intend_batch(batch.id, &intent, prepared.hash, pipeline.now())
        .await?;
    account.send(prepared).await?;
    Ok(())
}

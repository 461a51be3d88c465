//! Confirm: what became of the batch that is on its way.
//!
//! The chain is asked before anything is sent again. A transaction that the chain does not know is
//! sent unchanged: it has the same hash and nonce, so that it can take effect only once. One that
//! can no longer land, or whose predecessor the chain dropped, sends the batch back to `placed`.
//! One that is out for long without landing is replaced under its nonce, for more: at most one of
//! both lands, and if that is the first, the chain says so. Where that would cost too much, the
//! first goes on: it is sent again where it is not known.

use medsync_protocol::ids::{Anchorer, UnixSeconds};

use super::{Pipeline, PipelineError, submit};
use crate::chain::{Account, Call, ChainError, Class, Prepared, TransactionStatus};
use crate::store::batches::{BatchRow, BatchState};

/// After how long a transaction that is out and in no block is replaced, in seconds.
pub(super) const STUCK_AFTER_S: u64 = 10 * 60;

/// Looks after every batch that was submitted.
///
/// # Errors
/// A chain, node or store that does not answer, after all were looked after.
pub async fn confirm_submitted(
    pipeline: &Pipeline,
    account: &dyn Account,
    anchorer: Anchorer,
) -> Result<(), PipelineError> {
    let mut outcome = Ok(());
    for batch in pipeline.store.open_batches().await? {
        outcome = outcome.and(look_after(pipeline, account, anchorer, &batch).await);
    }
    outcome
}

async fn look_after(
    pipeline: &Pipeline,
    account: &dyn Account,
    anchorer: Anchorer,
    batch: &BatchRow,
) -> Result<(), PipelineError> {
    let (BatchState::Submitted, Some(transaction)) = (batch.state, batch.transaction) else {
        return Ok(());
    };
    let is_stuck = is_stuck(batch.submitted_at, pipeline.now());
    let status = match pipeline.chain.status(transaction).await? {
        // A block of a time to come is none.
        TransactionStatus::Accepted { block } if pipeline.check_not_ahead(block.time).is_err() => {
            TransactionStatus::Received
        }
        status => status,
    };
    match status {
        TransactionStatus::Accepted { block } => {
            let registry = pipeline.registry.registry;
            let asked = pipeline
                .chain
                .anchored_at_by_most(registry, anchorer, batch.root);
            let asked = asked.await?;
            if asked.is_none_or(|time| pipeline.check_not_ahead(time).is_err()) {
                // The others are waited for, and then given it once more.
                let why = "an endpoint says that the batch is on chain, and others have not got it";
                return match is_stuck {
                    true => Ok(pipeline.store.place_batch(batch.id, Some(why)).await?),
                    false => Ok(()),
                };
            }
            pipeline
                .store
                .batch_landed(batch.id, block.block(), block.time)
                .await?;
            tracing::info!(batch = batch.id.0, block = block.number.0, "batch anchored");
            Ok(())
        }
        TransactionStatus::Received if !is_stuck => Ok(()),
        // Who is asked first may not know of it.
        TransactionStatus::Received | TransactionStatus::Unknown
            if submit::is_there(pipeline, anchorer, batch).await? =>
        {
            Ok(())
        }
        TransactionStatus::Received | TransactionStatus::Unknown if is_stuck => {
            replace(pipeline, account, anchorer, batch).await
        }
        TransactionStatus::Received | TransactionStatus::Unknown => {
            send_again(pipeline, account, batch).await
        }
        TransactionStatus::Reverted { reason, .. }
            if submit::is_refused_as_there(pipeline, anchorer, batch, &reason).await =>
        {
            Ok(())
        }
        TransactionStatus::Reverted { reason, .. } => {
            tracing::warn!(batch = batch.id.0, %reason, "the batch's transaction reverted");
            Ok(pipeline
                .store
                .place_batch(batch.id, Some(&reason.to_string()))
                .await?)
        }
    }
}

async fn send_again(
    pipeline: &Pipeline,
    account: &dyn Account,
    batch: &BatchRow,
) -> Result<(), PipelineError> {
    let intent = batch.intent.as_deref().and_then(Prepared::from_intent);
    let Some(prepared) = intent else {
        return Ok(pipeline
            .store
            .place_batch(batch.id, Some("its intent was lost"))
            .await?);
    };
    match account.send(&prepared).await {
        Ok(_) => Ok(()),
        Err(error) if is_dead(&error) => Ok(pipeline
            .store
            .place_batch(batch.id, Some(&error.to_string()))
            .await?),
        Err(error) => Err(error.into()),
    }
}

/// Sends another transaction in the place of one that does not land.
async fn replace(
    pipeline: &Pipeline,
    account: &dyn Account,
    anchorer: Anchorer,
    batch: &BatchRow,
) -> Result<(), PipelineError> {
    let Some(stuck) = batch.intent.as_deref().and_then(Prepared::from_intent) else {
        return send_again(pipeline, account, batch).await;
    };
    let call = submit::call_for(pipeline, anchorer, batch).await?;
    let waits_s = pipeline.now().0.abs_diff(batch.sealed_at.0);
    let replaced = async {
        let prepared = instead_of(account, &call, &stuck, waits_s).await?;
        submit::intend_and_send(pipeline, account, batch, &prepared).await?;
        tracing::warn!(
            batch = batch.id.0, transaction = %prepared.hash, stuck = %stuck.hash,
            "a transaction that did not land was replaced",
        );
        Ok(())
    };
    match replaced.await {
        Err(PipelineError::Chain(ChainError::FeeAboveCap { .. })) => {
            send_again(pipeline, account, batch).await
        }
        Err(PipelineError::Chain(error)) if is_dead(&error) => Ok(pipeline
            .store
            .place_batch(batch.id, Some(&error.to_string()))
            .await?),
        replaced => replaced,
    }
}

/// A transaction in the place of one that does not land, under the next nonce: for more, if that is
/// its own. Where endpoints differ, one of them lies or is behind, and each nonce has its turn.
pub(super) async fn instead_of(
    account: &dyn Account,
    call: &Call,
    stuck: &Prepared,
    waits_s: u64,
) -> Result<Prepared, ChainError> {
    let is_lowests_turn = (waits_s / STUCK_AFTER_S).is_multiple_of(2);
    let next = match is_lowests_turn {
        true => account.lowest_nonce().await?,
        false => account.nonce().await?,
    };
    if next == stuck.nonce {
        return account.replace(call, stuck).await;
    }
    account.prepare(call, next).await
}

/// Whether a transaction is out for so long that another has to take its place.
pub(super) fn is_stuck(sent_at: Option<UnixSeconds>, now: UnixSeconds) -> bool {
    sent_at.is_some_and(|at| now.0.saturating_sub(at.0) >= STUCK_AFTER_S)
}

/// Whether a transaction that was sent before cannot land, so that a new one has to be made. An
/// account that refuses it has another key by now; the new one has the same nonce, so that at most
/// one of both takes effect. Of one whose nonce is ahead the chain dropped the predecessor, which
/// landed before and is sent by nobody until the watch misses it; should both land after all, the
/// contract takes only the first.
pub(super) fn is_dead(error: &ChainError) -> bool {
    let of_the_account = matches!(
        error,
        ChainError::AccountRefuses { .. } | ChainError::NonceAhead { .. }
    );
    of_the_account || error.class() == Class::FailBatch
}

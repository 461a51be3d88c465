//! Confirm: what became of the batch that is on its way.
//!
//! The chain is asked before anything is sent again. A transaction that the chain does not know is
//! sent unchanged: it has the same hash and nonce, so that it can take effect only once. One that
//! can no longer land sends the batch back to `placed`.

use super::{Pipeline, PipelineError};
use crate::chain::{Account, ChainError, Class, Prepared, TransactionStatus};
use crate::store::batches::{BatchRow, BatchState};

/// Looks after every batch that was submitted.
///
/// # Errors
/// A chain, node or store that does not answer, after all were looked after.
pub async fn confirm_submitted(
    pipeline: &Pipeline,
    account: &dyn Account,
) -> Result<(), PipelineError> {
    let mut outcome = Ok(());
    for batch in pipeline.store.open_batches().await? {
        outcome = outcome.and(look_after(pipeline, account, &batch).await);
    }
    outcome
}

async fn look_after(
    pipeline: &Pipeline,
    account: &dyn Account,
    batch: &BatchRow,
) -> Result<(), PipelineError> {
    let (BatchState::Submitted, Some(transaction)) = (batch.state, batch.transaction) else {
        return Ok(());
    };
    match pipeline.chain.status(transaction).await? {
        TransactionStatus::Accepted { block } => {
            pipeline
                .store
                .batch_landed(batch.id, block.block(), block.time)
                .await?;
            tracing::info!(batch = batch.id.0, block = block.number.0, "batch anchored");
            Ok(())
        }
        TransactionStatus::Received => Ok(()),
        TransactionStatus::Unknown => send_again(pipeline, account, batch).await,
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

/// Whether a transaction that was sent before can never land, so that a new one has to be made. An
/// account that refuses it has another key by now; the new one has the same nonce, so that at most
/// one of both takes effect.
pub(super) fn is_dead(error: &ChainError) -> bool {
    error.class() == Class::FailBatch || matches!(error, ChainError::AccountRefuses { .. })
}

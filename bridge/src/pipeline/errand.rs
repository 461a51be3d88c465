//! Errands: one transaction at a time, from an account that sends nothing else, which does
//! something for several rows of the store.
//!
//! Its intent is durable before it is sent. A crash before that sends nothing; after it, the chain
//! is asked what became of it, and the same transaction is sent again, which lands once.

use async_trait::async_trait;
use medsync_protocol::ids::UnixSeconds;
use medsync_protocol::receipt::TransactionHash;
use medsync_protocol::secrets::Handle;

use super::confirm::{instead_of, is_dead, is_stuck};
use super::{Pipeline, PipelineError};
use crate::chain::{Account, BlockAt, Call, ChainError, Prepared, TransactionStatus};
use crate::store::{Out, StoreError};

/// What one transaction is to do, and for which rows.
#[async_trait]
pub(super) trait Errand: Sync {
    /// What it is called in the log.
    const NAME: &'static str;

    /// The consents' handles of its rows.
    fn handles(&self) -> Vec<Handle>;

    /// Since when the first of them waits.
    fn waits_since(&self) -> UnixSeconds;

    /// What does it.
    fn call(&self) -> Call;

    /// Keeps the intent to send a transaction for them, before it is sent; with nothing, forgets
    /// one that cannot land. Answers whether it is kept: they may have been replaced meanwhile.
    async fn intend(
        &self,
        pipeline: &Pipeline,
        intent: Option<(&str, TransactionHash)>,
    ) -> Result<bool, StoreError>;

    /// Its transaction is in a block, and the chain was not found to have what it was to do.
    async fn accepted(
        &self,
        pipeline: &Pipeline,
        block: BlockAt,
        is_stuck: bool,
    ) -> Result<(), PipelineError>;
}

/// Sends one transaction for an errand.
pub(super) async fn send<E: Errand>(
    pipeline: &Pipeline,
    account: &dyn Account,
    errand: &E,
) -> Result<(), PipelineError> {
    intend_and_send(pipeline, account, errand, None).await
}

/// Asks what became of the transaction that is out for an errand.
pub(super) async fn look_after<E: Errand>(
    pipeline: &Pipeline,
    account: &dyn Account,
    out: &Out,
    errand: &E,
) -> Result<(), PipelineError> {
    let transaction = out.transaction;
    let is_stuck = is_stuck(Some(out.sent_at), pipeline.now());
    match pipeline.chain.status(transaction).await? {
        TransactionStatus::Accepted { block } => errand.accepted(pipeline, block, is_stuck).await,
        TransactionStatus::Received | TransactionStatus::Unknown if is_stuck => {
            replace(pipeline, account, out, errand).await
        }
        TransactionStatus::Received => Ok(()),
        TransactionStatus::Reverted { reason, .. } => {
            tracing::warn!(%transaction, %reason, "a {}'s transaction reverted", E::NAME);
            forget(pipeline, errand).await
        }
        TransactionStatus::Unknown => send_again(pipeline, account, out, errand).await,
    }
}

/// Sends another transaction in the place of one that does not land. Where that would cost too
/// much, the first goes on.
async fn replace<E: Errand>(
    pipeline: &Pipeline,
    account: &dyn Account,
    out: &Out,
    errand: &E,
) -> Result<(), PipelineError> {
    let stuck = Prepared::from_intent(&out.intent);
    match intend_and_send(pipeline, account, errand, stuck.as_ref()).await {
        Err(PipelineError::Chain(ChainError::FeeAboveCap { .. })) => {
            send_again(pipeline, account, out, errand).await
        }
        Err(PipelineError::Chain(error)) if is_dead(&error) => forget(pipeline, errand).await,
        replaced => replaced,
    }
}

/// Sends the same transaction again: the chain may have lost it, and it lands once.
async fn send_again<E: Errand>(
    pipeline: &Pipeline,
    account: &dyn Account,
    out: &Out,
    errand: &E,
) -> Result<(), PipelineError> {
    let Some(prepared) = Prepared::from_intent(&out.intent) else {
        return forget(pipeline, errand).await;
    };
    match account.send(&prepared).await {
        Ok(_) => Ok(()),
        Err(error) if is_dead(&error) => forget(pipeline, errand).await,
        Err(error) => Err(error.into()),
    }
}

/// Forgets a transaction that cannot land: what it carried is sent by another.
async fn forget<E: Errand>(pipeline: &Pipeline, errand: &E) -> Result<(), PipelineError> {
    errand.intend(pipeline, None).await?;
    Ok(())
}

/// Sends one transaction, after its intent is durable; in the place of one that does not land, if
/// there is one.
async fn intend_and_send<E: Errand>(
    pipeline: &Pipeline,
    account: &dyn Account,
    errand: &E,
    stuck: Option<&Prepared>,
) -> Result<(), PipelineError> {
    let waits_s = pipeline.now().0.abs_diff(errand.waits_since().0);
    let call = errand.call();
    let prepared = match stuck {
        Some(stuck) => instead_of(account, &call, stuck, waits_s).await?,
        None => account.prepare(&call, account.nonce().await?).await?,
    };
    let intent = prepared.to_intent();
    let is_kept = errand.intend(pipeline, Some((&intent, prepared.hash)));
    if !is_kept.await? {
        return Ok(());
    }
    account.send(&prepared).await?;
    for track in errand.handles() {
        tracing::info!(%track, transaction = %prepared.hash, "{} submitted", E::NAME);
    }
    Ok(())
}

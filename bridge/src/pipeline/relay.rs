//! Relay: revocations go to the chain, first and alone.
//!
//! They have an account of their own, so that no stuck batch delays them, and are at most one
//! transaction deep. Each is idempotent on chain and the first time counts, so that sending twice
//! harms nobody; the chain is asked first all the same, since somebody else may have relayed.

use medsync_protocol::secrets::Handle;

use super::confirm::{instead_of, is_dead, is_stuck};
use super::{Pipeline, PipelineError};
use crate::chain::{Account, Call, ChainError, Prepared, REVOCATIONS_MAX, TransactionStatus};
use crate::store::revocations::RevocationRow;

/// One round: notes what has landed, looks after what is out, sends what waits. Answers whether
/// anything is still on its way.
///
/// # Errors
/// A chain or store that does not answer; the next round does it again.
pub async fn relay_round(pipeline: &Pipeline) -> Result<bool, PipelineError> {
    let open = pipeline
        .store
        .open_revocations(REVOCATIONS_MAX as u32)
        .await?;
    if open.is_empty() {
        return Ok(false);
    }
    let handles: Vec<Handle> = open.iter().map(|revocation| revocation.handle).collect();
    let (times, _) = pipeline
        .chain
        .revoked_at_by_all(pipeline.registry.registry, &handles)
        .await?;
    let mut waiting = Vec::new();
    for (revocation, time) in open.into_iter().zip(times) {
        match time {
            Some(time) => {
                pipeline
                    .store
                    .revocation_landed(revocation.handle, time, pipeline.now())
                    .await?;
                tracing::info!(track = %revocation.handle, at = time.0, "revoked on chain");
            }
            None => waiting.push(revocation),
        }
    }
    if waiting.is_empty() {
        return Ok(false);
    }
    if let Some(account) = pipeline.revoke_account.clone() {
        match waiting
            .iter()
            .find(|revocation| revocation.transaction.is_some())
        {
            Some(out) => look_after(pipeline, &*account, out, &waiting).await?,
            None => send(pipeline, &*account, &waiting).await?,
        }
    }
    Ok(true)
}

/// Asks what became of the transaction that is out.
async fn look_after(
    pipeline: &Pipeline,
    account: &dyn Account,
    out: &RevocationRow,
    waiting: &[RevocationRow],
) -> Result<(), PipelineError> {
    let Some(transaction) = out.transaction else {
        return Ok(());
    };
    let together: Vec<&RevocationRow> = waiting
        .iter()
        .filter(|revocation| revocation.transaction == Some(transaction))
        .collect();
    let is_stuck = is_stuck(out.sent_at, pipeline.now());
    match pipeline.chain.status(transaction).await? {
        // One of several endpoints does not have it, for long: the watch says whether that is so.
        TransactionStatus::Accepted { block } if is_stuck => {
            let (store, now) = (&pipeline.store, pipeline.now());
            for revocation in together {
                let (handle, at) = (revocation.handle, block.time);
                store.revocation_landed(handle, at, now).await?;
            }
            Ok(())
        }
        // Accepted, but not seen in the block that was read: the next round sees it.
        TransactionStatus::Accepted { .. } => Ok(()),
        TransactionStatus::Received | TransactionStatus::Unknown if is_stuck => {
            replace(pipeline, account, out, &together).await
        }
        TransactionStatus::Received => Ok(()),
        TransactionStatus::Reverted { reason, .. } => {
            tracing::warn!(%transaction, %reason, "a revocation's transaction reverted");
            prepare_anew(pipeline, &together).await
        }
        TransactionStatus::Unknown => send_again(pipeline, account, out, &together).await,
    }
}

/// Sends another transaction in the place of one that does not land. Where that would cost too
/// much, the first goes on.
async fn replace(
    pipeline: &Pipeline,
    account: &dyn Account,
    out: &RevocationRow,
    together: &[&RevocationRow],
) -> Result<(), PipelineError> {
    let stuck = out.intent.as_deref().and_then(Prepared::from_intent);
    match intend_and_send(pipeline, account, together, stuck.as_ref()).await {
        Err(PipelineError::Chain(ChainError::FeeAboveCap { .. })) => {
            send_again(pipeline, account, out, together).await
        }
        Err(PipelineError::Chain(error)) if is_dead(&error) => {
            prepare_anew(pipeline, together).await
        }
        replaced => replaced,
    }
}

/// Sends the same transaction again: the chain may have lost it, and it lands once.
async fn send_again(
    pipeline: &Pipeline,
    account: &dyn Account,
    out: &RevocationRow,
    together: &[&RevocationRow],
) -> Result<(), PipelineError> {
    let Some(prepared) = out.intent.as_deref().and_then(Prepared::from_intent) else {
        return prepare_anew(pipeline, together).await;
    };
    match account.send(&prepared).await {
        Ok(_) => Ok(()),
        Err(error) if is_dead(&error) => prepare_anew(pipeline, together).await,
        Err(error) => Err(error.into()),
    }
}

/// Forgets a transaction that cannot land: what it carried is sent by another.
async fn prepare_anew(
    pipeline: &Pipeline,
    together: &[&RevocationRow],
) -> Result<(), PipelineError> {
    let handles: Vec<Handle> = together.iter().map(|row| row.handle).collect();
    let (store, now) = (&pipeline.store, pipeline.now());
    Ok(store.intend_revocations(&handles, None, now).await?)
}

/// Sends what has waited long enough, in one transaction.
async fn send(
    pipeline: &Pipeline,
    account: &dyn Account,
    waiting: &[RevocationRow],
) -> Result<(), PipelineError> {
    let now = pipeline.now().0;
    let due: Vec<&RevocationRow> = waiting
        .iter()
        .filter(|r| now.abs_diff(r.seen_at.0) >= pipeline.relay_after_s)
        .collect();
    if due.is_empty() {
        return Ok(());
    }
    intend_and_send(pipeline, account, &due, None).await
}

/// Sends one transaction for several revocations, after its intent is durable; in the place of one
/// that does not land, if there is one.
async fn intend_and_send(
    pipeline: &Pipeline,
    account: &dyn Account,
    revocations: &[&RevocationRow],
    stuck: Option<&Prepared>,
) -> Result<(), PipelineError> {
    let first = revocations.iter().map(|r| r.seen_at.0).min();
    let waits_s = pipeline.now().0.abs_diff(first.unwrap_or_default());
    let openings = revocations.iter();
    let call = Call::Revoke {
        registry: pipeline.registry.registry,
        openings: openings.map(|r| (r.secret.clone(), r.claim_key)).collect(),
    };
    let prepared = match stuck {
        Some(stuck) => instead_of(account, &call, stuck, waits_s).await?,
        None => account.prepare(&call, account.nonce().await?).await?,
    };
    let handles: Vec<Handle> = revocations.iter().map(|r| r.handle).collect();
    let intent = prepared.to_intent();
    pipeline
        .store
        .intend_revocations(&handles, Some((&intent, prepared.hash)), pipeline.now())
        .await?;
    account.send(&prepared).await?;
    for track in &handles {
        tracing::info!(%track, transaction = %prepared.hash, "revocation submitted");
    }
    Ok(())
}

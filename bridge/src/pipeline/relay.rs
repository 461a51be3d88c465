//! Relay: revocations go to the chain, first and alone.
//!
//! They have an account of their own, so that no stuck batch delays them, and are at most one
//! transaction deep. Each is idempotent on chain and the first time counts, so that sending twice
//! harms nobody; the chain is asked first all the same, since somebody else may have relayed.

use medsync_protocol::secrets::Handle;

use super::confirm::is_dead;
use super::{Pipeline, PipelineError};
use crate::chain::{Account, Call, Prepared, REVOCATIONS_MAX, TransactionStatus};
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
        .revoked_at(pipeline.registry.registry, &handles)
        .await?;
    let mut waiting = Vec::new();
    for (revocation, time) in open.into_iter().zip(times) {
        match time {
            Some(time) => {
                pipeline
                    .store
                    .revocation_landed(revocation.handle, time)
                    .await?;
                tracing::info!(handle = %revocation.handle, at = time.0, "revoked on chain");
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
    let together: Vec<Handle> = waiting
        .iter()
        .filter(|revocation| revocation.transaction == Some(transaction))
        .map(|revocation| revocation.handle)
        .collect();
    match pipeline.chain.status(transaction).await? {
        // Accepted, but not seen in the block that was read: the next round sees it.
        TransactionStatus::Received | TransactionStatus::Accepted { .. } => Ok(()),
        TransactionStatus::Reverted { reason, .. } => {
            tracing::warn!(%transaction, %reason, "a revocation's transaction reverted");
            Ok(pipeline.store.intend_revocations(&together, None).await?)
        }
        TransactionStatus::Unknown => {
            let prepared = out.intent.as_deref().and_then(Prepared::from_intent);
            let sent = match &prepared {
                Some(prepared) => account.send(prepared).await,
                None => return Ok(pipeline.store.intend_revocations(&together, None).await?),
            };
            match sent {
                Ok(_) => Ok(()),
                Err(error) if is_dead(&error) => {
                    Ok(pipeline.store.intend_revocations(&together, None).await?)
                }
                Err(error) => Err(error.into()),
            }
        }
    }
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
        .filter(|r| now.saturating_sub(r.seen_at.0) >= pipeline.relay_after_s)
        .collect();
    if due.is_empty() {
        return Ok(());
    }
    let call = Call::Revoke {
        registry: pipeline.registry.registry,
        openings: due
            .iter()
            .map(|r| (r.secret.clone(), r.claim_key))
            .collect(),
    };
    let prepared = account.prepare(&call, account.nonce().await?).await?;
    let handles: Vec<Handle> = due.iter().map(|revocation| revocation.handle).collect();
    let intent = prepared.to_intent();
    pipeline
        .store
        .intend_revocations(&handles, Some((&intent, prepared.hash)))
        .await?;
    account.send(&prepared).await?;
    tracing::info!(transaction = %prepared.hash, count = handles.len(), "revocations submitted");
    Ok(())
}

//! Relay: revocations go to the chain, first and alone.
//!
//! They have an account of their own, so that no stuck batch delays them, and are at most one
//! transaction deep. Each is idempotent on chain and the first time counts, so that sending twice
//! harms nobody; the chain is asked first all the same, since somebody else may have relayed.

use async_trait::async_trait;
use medsync_protocol::consent::Registry;
use medsync_protocol::ids::UnixSeconds;
use medsync_protocol::receipt::TransactionHash;
use medsync_protocol::secrets::Handle;

use super::errand::{Errand, look_after, send};
use super::{Pipeline, PipelineError};
use crate::chain::{BlockAt, Call, REVOCATIONS_MAX};
use crate::store::StoreError;
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
        match waiting.iter().find_map(|revocation| revocation.out.clone()) {
            Some(out) => {
                let together = |row: &RevocationRow| {
                    row.out.as_ref().map(|row| row.transaction) == Some(out.transaction)
                };
                waiting.retain(together);
                look_after(
                    pipeline,
                    &*account,
                    &out,
                    &Revocations(pipeline.registry, waiting),
                )
                .await?;
            }
            None => {
                let now = pipeline.now().0;
                waiting.retain(|row| now.abs_diff(row.seen_at.0) >= pipeline.relay_after_s);
                if !waiting.is_empty() {
                    let due = Revocations(pipeline.registry, waiting);
                    send(pipeline, &*account, &due).await?;
                }
            }
        }
    }
    Ok(true)
}

/// Revocations that one transaction carries, to this registry.
struct Revocations(Registry, Vec<RevocationRow>);

#[async_trait]
impl Errand for Revocations {
    const NAME: &'static str = "revocation";

    fn handles(&self) -> Vec<Handle> {
        self.1.iter().map(|row| row.handle).collect()
    }

    fn waits_since(&self) -> UnixSeconds {
        let seen = self.1.iter().map(|row| row.seen_at);
        seen.min().unwrap_or(UnixSeconds(0))
    }

    fn call(&self) -> Call {
        let rows = self.1.iter();
        Call::Revoke {
            registry: self.0.registry,
            openings: rows
                .map(|row| (row.secret.clone(), row.claim_key))
                .collect(),
        }
    }

    async fn intend(
        &self,
        pipeline: &Pipeline,
        intent: Option<(&str, TransactionHash)>,
    ) -> Result<bool, StoreError> {
        let (store, now) = (&pipeline.store, pipeline.now());
        store
            .intend_revocations(&self.handles(), intent, now)
            .await?;
        Ok(true)
    }

    async fn accepted(
        &self,
        pipeline: &Pipeline,
        block: BlockAt,
        is_stuck: bool,
    ) -> Result<(), PipelineError> {
        if !is_stuck {
            // It was not seen in the block that was read: the next round sees it.
            return Ok(());
        }
        // One of several endpoints does not have it, for long: the watch says whether that is so.
        let (store, now) = (&pipeline.store, pipeline.now());
        for handle in self.handles() {
            store.revocation_landed(handle, block.time, now).await?;
        }
        Ok(())
    }
}

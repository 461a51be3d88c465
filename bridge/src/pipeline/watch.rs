//! Watch: revocations that the chain has and the circle does not say.
//!
//! Whoever holds a revocation's opening may send it past everybody here: a second device, a
//! person the patient trusts, anyone after it was published. So the chain is asked about every
//! consent that is not revoked here; what it says is kept for people to see, and stays.

use medsync_protocol::ids::UnixSeconds;
use medsync_protocol::secrets::Handle;

use super::{Pipeline, PipelineError};
use crate::chain::REVOCATIONS_MAX;
use crate::store::{Store, StoreError};

/// Asks about every consent without a revocation here.
///
/// # Errors
/// A chain or store that does not answer; the next round asks again.
pub async fn watch_round(pipeline: &Pipeline) -> Result<(), PipelineError> {
    let handles = pipeline.store.unrevoked_handles().await?;
    for page in handles.chunks(REVOCATIONS_MAX) {
        let registry = pipeline.registry.registry;
        let (times, _) = pipeline.chain.revoked_at(registry, page).await?;
        for (handle, time) in page.iter().zip(times) {
            let Some(time) = time else { continue };
            if revoked_by_others(&pipeline.store, *handle).await?.is_none() {
                let (name, value) = (fact(*handle), time.to_string());
                pipeline.store.state_fact(&name, &value).await?;
                tracing::warn!(%handle, at = time.0, "revoked on chain, not in its circle");
            }
        }
    }
    Ok(())
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

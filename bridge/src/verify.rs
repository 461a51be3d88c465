//! Verification: asks every endpoint that a verifier names for the two values of a receipt.
//!
//! What is believed, accepted and concluded is the protocol's matter
//! ([`medsync_protocol::verifier`]); only the asking is done here. The hospital is asked for
//! nothing.

use medsync_protocol::ids::UnixSeconds;
use medsync_protocol::receipt::Receipt;
use medsync_protocol::verifier::{Hearing, NoVerdict, Offline, Report, Seen};

use crate::chain::{Chain, ChainError};
use crate::config::VerifierConfig;

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The chain did not answer.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// What it answered comes to no verdict.
    #[error(transparent)]
    NoVerdict(#[from] NoVerdict),
}

/// Verifies an accepted receipt at a time, by default that of each endpoint's newest block, which
/// must then not be old by the verifier's own clock.
///
/// # Errors
/// See [`VerifyError`]; none of them is a verdict.
pub async fn verify(
    config: &VerifierConfig,
    chains: &[&dyn Chain],
    receipt: &Receipt,
    at: Option<UnixSeconds>,
    now: UnixSeconds,
) -> Result<Report, VerifyError> {
    let beliefs = config.beliefs();
    let offline = Offline::of(receipt.clone()).map_err(NoVerdict::from)?;
    let mut hearing = Hearing::open(&beliefs, &offline, at, now);
    for chain in chains {
        let chain_id = chain.chain_id().await?;
        beliefs.check_chain(chain_id)?;
        let (anchorer, root) = (receipt.anchorer, receipt.root);
        let facts = chain
            .facts(config.registry, anchorer, root, receipt.opening.handle)
            .await?;
        hearing.hear(&Seen {
            chain_id,
            class_hash: facts.class_hash,
            anchored_at: facts.chain.anchored_at,
            revoked_at: facts.chain.revoked_at,
            block: facts.block,
        })?;
    }
    Ok(hearing.close()?)
}

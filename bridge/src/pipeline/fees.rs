//! Fees: what the transactions that were sent have cost, for who pays them.

use super::{Pipeline, PipelineError};
use crate::chain::Fri;

/// How many transactions one round asks about.
const PER_ROUND: u32 = 32;
/// After how long one that is in no block is not waited for any more, in seconds: another took its
/// place.
const FORGOTTEN_AFTER_S: u64 = 24 * 60 * 60;
const FRI_IN_GFRI: u128 = 1_000_000_000;

/// One round: asks what was paid for the oldest transactions of which that is not known.
///
/// # Errors
/// A chain or store that does not answer; the next round asks again.
pub async fn fee_round(pipeline: &Pipeline) -> Result<(), PipelineError> {
    let now = pipeline.now();
    for (hash, sent_at) in pipeline.store.unpaid_for(PER_ROUND).await? {
        let paid = pipeline.chain.fee_of(hash).await?;
        if paid.is_some() || now.0.saturating_sub(sent_at.0) > FORGOTTEN_AFTER_S {
            pipeline.store.paid_for(hash, paid.map(gfri)).await?;
        }
    }
    Ok(())
}

/// Rounded up, so that nothing is free.
fn gfri(fee: Fri) -> u64 {
    u64::try_from(fee.0.div_ceil(FRI_IN_GFRI)).unwrap_or(u64::MAX)
}

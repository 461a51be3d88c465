//! Fees: what the transactions that were sent have cost, for who pays them.

use super::Pipeline;
use crate::chain::Fri;
use crate::store::StoreError;

/// How many transactions one round asks about.
const PER_ROUND: u32 = 32;
/// After how long one that is in no block is not waited for any more, in seconds: another took its
/// place.
const FORGOTTEN_AFTER_S: u64 = 24 * 60 * 60;
const FRI_IN_GFRI: u128 = 1_000_000_000;
/// More than any transaction of ours is signed for, in 10^9 fri: a thousand STRK. An endpoint that
/// says more lies.
const GFRI_MAX: u128 = 1_000_000_000_000;

/// One round: asks what was paid for some transactions of which that is not known. What the chain
/// does not say now is asked for later.
///
/// # Errors
/// A store that does not answer.
pub async fn fee_round(pipeline: &Pipeline) -> Result<(), StoreError> {
    let (store, now) = (&pipeline.store, pipeline.now());
    for (hash, sent_at) in store.unpaid_for(PER_ROUND).await? {
        let (paid, goes_on) = match pipeline.chain.fee_of(hash).await {
            Ok(fee) => (fee.and_then(gfri), true),
            Err(error) => {
                tracing::debug!(transaction = %hash, %error, "what it cost is not known yet");
                (None, false)
            }
        };
        if paid.is_some() || now.0.saturating_sub(sent_at.0) > FORGOTTEN_AFTER_S {
            store.paid_for(hash, paid).await?;
        } else {
            store.asked_in_vain(hash, now).await?;
        }
        if !goes_on {
            // Who does not answer is not asked on.
            break;
        }
    }
    Ok(())
}

/// Rounded up, so that nothing is free; nothing of what nobody paid.
fn gfri(fee: Fri) -> Option<u64> {
    let gfri = fee.0.div_ceil(FRI_IN_GFRI);
    u64::try_from(gfri).ok().filter(|_| gfri <= GFRI_MAX)
}

//! Retention: what the store needs no more is given up.

use medsync_protocol::ids::UnixSeconds;

use super::{Pipeline, PipelineError};

/// How many batches are given up in one round: each is read whole.
const BATCHES_AT_ONCE: u32 = 16;

/// Gives up what is older than the pipeline keeps it.
///
/// # Errors
/// A store that does not answer, or a batch that does not fit together.
pub async fn retention_round(pipeline: &Pipeline) -> Result<(), PipelineError> {
    let now = pipeline.now().0;
    let before = UnixSeconds(now.saturating_sub(pipeline.retention_s));
    pipeline.store.forget_answered(before).await?;
    for _ in 0..BATCHES_AT_ONCE {
        if !pipeline.store.compact_batch(before).await? {
            break;
        }
    }
    Ok(())
}

//! Place: every leaf's position goes into its circle before the batch is submitted.
//!
//! From then on a receipt can be made from the circle alone, whatever happens to this store. The
//! writes are idempotent: after a crash they are made again.
//!
//! No circle can keep the others of its batch waiting: one that is stopped by an alarm or refuses
//! is left out, and one that does not answer is waited for a while and hears the rest when the
//! batch is anchored.

use medsync_protocol::ids::{Anchorer, ContextId};
use medsync_protocol::tree::Tree;

use super::{Pipeline, PipelineError};
use crate::guard::{self, GuardError};
use crate::source::{AnchorReport, SourceError, StageReport};
use crate::store::batches::{BatchRow, BatchState};

/// How long a sealed batch waits for circles that do not answer, in seconds.
const CIRCLES_WAIT_S: u64 = 10 * 60;

/// Places every sealed batch.
///
/// # Errors
/// The first position that could not be written, after all batches were tried.
pub async fn place_sealed(pipeline: &Pipeline, anchorer: Anchorer) -> Result<(), PipelineError> {
    let mut outcome = Ok(());
    for batch in pipeline.store.open_batches().await? {
        if batch.state != BatchState::Sealed {
            continue;
        }
        let waited = pipeline.now().0.saturating_sub(batch.sealed_at.0);
        match report(pipeline, &batch, anchorer, StageReport::Sealed).await {
            Err(error) if waited < CIRCLES_WAIT_S => outcome = outcome.and(Err(error)),
            done => {
                if let Err(error) = done {
                    tracing::warn!(batch = batch.id.0, %error, "goes on without all its positions");
                }
                pipeline.store.place_batch(batch.id, None).await?;
                tracing::info!(batch = batch.id.0, "positions are in the circles");
            }
        }
    }
    outcome
}

/// Writes how far a batch is into the circles of all its consents, but those that are stopped by
/// an alarm or refuse.
///
/// # Errors
/// The first write that failed and may succeed later, after all were tried.
pub async fn report(
    pipeline: &Pipeline,
    batch: &BatchRow,
    anchorer: Anchorer,
    stage: StageReport,
) -> Result<(), PipelineError> {
    let broken = |what: &str| PipelineError::Broken(format!("batch {}: {what}", batch.id.0));
    let tree = Tree::build(&batch.leaves).map_err(|error| broken(&error.to_string()))?;
    if tree.root() != batch.root {
        return Err(broken(
            "its leaves do not lead to its root; restore the store's backup",
        ));
    }
    let mut outcome = Ok(());
    for consent in pipeline.store.consents_in(batch.id).await? {
        let proof = consent
            .position
            .and_then(|position| tree.proof(position))
            .ok_or_else(|| broken("a consent stands outside of it"))?;
        let position = AnchorReport {
            commitment: consent.commitment,
            handle: consent.handle,
            root: batch.root,
            proof,
            anchorer,
            stage,
        };
        if let Err(error) = record(pipeline, consent.context, &position).await {
            let commitment = position.commitment;
            tracing::warn!(%commitment, %error, "a position could not be written");
            if !lasts(&error) {
                outcome = outcome.and(Err(error));
            }
        }
    }
    outcome
}

async fn record(
    pipeline: &Pipeline,
    context: ContextId,
    position: &AnchorReport,
) -> Result<(), PipelineError> {
    let row = pipeline.store.circle(context).await?;
    let circle = guard::enter(&*pipeline.circles, &pipeline.store, &row).await?;
    circle.record_anchor(position).await?;
    Ok(())
}

/// Whether trying again is of no use: the circle is stopped, or its app refuses.
const fn lasts(error: &PipelineError) -> bool {
    matches!(
        error,
        PipelineError::Guard(GuardError::Alarm { .. })
            | PipelineError::Source(SourceError::Refused { .. })
    )
}

//! Place: every leaf's position goes into its circle before the batch is submitted.
//!
//! From then on a receipt can be made from the circle alone, whatever happens to this store. The
//! writes are idempotent: after a crash they are made again.

use medsync_protocol::ids::Anchorer;
use medsync_protocol::tree::Tree;

use super::{Pipeline, PipelineError};
use crate::guard;
use crate::source::{AnchorReport, StageReport};
use crate::store::batches::{BatchRow, BatchState};

/// Places every sealed batch.
///
/// # Errors
/// The first position that could not be written.
pub async fn place_sealed(pipeline: &Pipeline, anchorer: Anchorer) -> Result<(), PipelineError> {
    for batch in pipeline.store.open_batches().await? {
        if batch.state == BatchState::Sealed {
            report(pipeline, &batch, anchorer, StageReport::Sealed).await?;
            pipeline.store.place_batch(batch.id, None).await?;
            tracing::info!(batch = batch.id.0, "positions are in the circles");
        }
    }
    Ok(())
}

/// Writes how far a batch is into the circles of all its consents.
///
/// # Errors
/// The first write that failed.
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
    for consent in pipeline.store.consents_in(batch.id).await? {
        let proof = consent
            .position
            .and_then(|position| tree.proof(position))
            .ok_or_else(|| broken("a consent stands outside of it"))?;
        let row = pipeline.store.circle(consent.context).await?;
        let circle = guard::enter(&*pipeline.circles, &pipeline.store, &row).await?;
        circle
            .record_anchor(&AnchorReport {
                commitment: consent.commitment,
                handle: consent.handle,
                root: batch.root,
                proof,
                anchorer,
                stage,
            })
            .await?;
    }
    Ok(())
}

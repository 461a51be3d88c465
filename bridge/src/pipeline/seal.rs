//! Seal: waiting consents become a batch.
//!
//! The batch is padded with uniform random leaves to a power of two, at least
//! [`LEAVES_MIN`], and shuffled, so that neither its size nor its order says anything. Leaves and
//! order are stored with the marks on the consents in one transaction: after a crash a consent is
//! in no batch or in exactly one.

use medsync_protocol::tree::{Leaf, Tree};
use rand::seq::SliceRandom;
use rand_core::CryptoRng;

use super::{Pipeline, PipelineError};
use crate::seams::random_felt;
use crate::store::consents::ConsentRow;

/// The smallest batch, padding included.
pub const LEAVES_MIN: usize = 16;

/// Seals a batch if one is due by size or age.
///
/// # Errors
/// A store that does not answer; nothing is then sealed.
pub async fn seal_due(pipeline: &Pipeline) -> Result<(), PipelineError> {
    let bounds = pipeline.batch;
    let (waiting, since) = pipeline
        .store
        .waiting_consents(bounds.consents_max, pipeline.now())
        .await?;
    let Some(since) = since else { return Ok(()) };
    let is_full = waiting.len() >= bounds.consents_max as usize;
    let is_old = pipeline.now().0.saturating_sub(since.0) >= bounds.age_s_max;
    if !is_full && !is_old {
        return Ok(());
    }
    let count = waiting.len();
    let (leaves, members) = arrange(waiting, &mut *pipeline.random.lock().await);
    let tree = Tree::build(&leaves).map_err(|error| PipelineError::Broken(error.to_string()))?;
    let batch = pipeline
        .store
        .keep_batch(tree.root(), &leaves, &members, pipeline.now())
        .await?;
    tracing::info!(batch = batch.0, root = %tree.root(), consents = count, "batch sealed");
    Ok(())
}

/// The leaves of a batch in their final order, and where each consent stands.
fn arrange(
    consents: Vec<ConsentRow>,
    random: &mut (impl CryptoRng + ?Sized),
) -> (Vec<Leaf>, Vec<(ConsentRow, u64)>) {
    let size = consents.len().next_power_of_two().max(LEAVES_MIN);
    let mut slots: Vec<Option<ConsentRow>> = consents.into_iter().map(Some).collect();
    slots.resize_with(size, || None);
    slots.shuffle(random);
    let mut leaves = Vec::with_capacity(size);
    let mut members = Vec::new();
    for (position, slot) in (0u64..).zip(slots) {
        match slot {
            Some(consent) => {
                leaves.push(consent.leaf);
                members.push((consent, position));
            }
            None => leaves.push(Leaf::from_felt(random_felt(random))),
        }
    }
    (leaves, members)
}

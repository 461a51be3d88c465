//! Take over: consents that may stand in a batch of which this store does not know keep their
//! place.
//!
//! A store that was restored from a backup does not know what was anchored since. None of the
//! consents in question is sealed before the circle was asked where it stands, and the chain
//! whether it has that batch.

use medsync_protocol::ids::{Anchorer, ContextId};
use medsync_protocol::receipt::Block;

use super::{Pipeline, PipelineError, place};
use crate::guard;
use crate::source::{Consent, Position, all_consents};
use crate::store::restored::Place;

/// Looks up where consents stand. A circle that does not answer keeps its own waiting, and one that
/// is stopped is not asked.
///
/// # Errors
/// A store or a node that does not answer.
pub async fn take_over_places(
    pipeline: &Pipeline,
    anchorer: Anchorer,
) -> Result<(), PipelineError> {
    for context in pipeline.store.contexts_with_unsure_places().await? {
        match look_up(pipeline, anchorer, context).await {
            Err(error) if place::is_node_down(&error) => return Err(error),
            Err(error) => tracing::warn!(%context, %error, "places are looked up later"),
            Ok(()) => {}
        }
    }
    Ok(())
}

async fn look_up(
    pipeline: &Pipeline,
    anchorer: Anchorer,
    context: ContextId,
) -> Result<(), PipelineError> {
    let store = &pipeline.store;
    let row = store.circle(context).await?;
    let circle = guard::enter(&*pipeline.circles, store, &row, pipeline.now()).await?;
    let shown = all_consents(&*circle).await?;
    for kept in store.unsure_consents(context).await? {
        let commitment = kept.commitment;
        let place = match shown.iter().find(|shown| shown.commitment == commitment) {
            Some(consent) => place_of(pipeline, anchorer, consent).await?,
            None => None,
        };
        if let Some(place) = &place {
            tracing::warn!(consent = %commitment, root = %place.root, "it was anchored before");
        }
        let now = pipeline.now();
        store.place_is(commitment, place.as_ref(), now).await?;
    }
    Ok(())
}

/// Where a consent stands on chain, if it does.
async fn place_of(
    pipeline: &Pipeline,
    anchorer: Anchorer,
    consent: &Consent,
) -> Result<Option<Place>, PipelineError> {
    let (leaf, registry) = (consent.leaf(), pipeline.registry.registry);
    for position in &consent.anchors {
        let (root, proof) = (position.root, &position.proof);
        if position.anchorer != anchorer || !proof.includes(leaf, root) {
            continue;
        }
        let anchored = pipeline.chain.anchored_at(registry, anchorer, root).await?;
        let Some(anchored_at) = anchored else {
            continue;
        };
        pipeline.check_not_ahead(anchored_at)?;
        let told = block_of(pipeline, position).await;
        let block = match told {
            Some(block) => block,
            None => pipeline.chain.tip().await?.block(),
        };
        return Ok(Some(Place {
            root,
            proof: proof.clone(),
            block,
            anchored_at,
            is_told: told.is_some(),
        }));
    }
    Ok(None)
}

/// The block that a circle names, if the chain has it: whoever is in the circle may name one.
async fn block_of(pipeline: &Pipeline, position: &Position) -> Option<Block> {
    let told = position
        .submission
        .and_then(|submission| submission.block)?;
    // A block that nobody can say anything about is none: the number is anybody's.
    let found = pipeline.chain.block_at(told.number).await.ok().flatten();
    let found = found.filter(|found| (found.hash, found.time) == (told.hash, told.time));
    found.map(|found| found.block())
}

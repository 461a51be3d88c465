//! Take over: consents that may stand in a batch of which this store does not know keep their
//! place.
//!
//! A store that was restored from a backup does not know what was anchored since. None of the
//! consents in question is sealed before the circle was asked where it stands, and the chain
//! whether it has that batch. That one stands nowhere has to be found twice, since its batch may
//! just be on its way; and as long as the chain has batches that no circle on this node shows, the
//! node may not have heard yet of the one that it is in.
//!
//! Of a batch that is known and whose leaves do not read here, the paths are taken over alone.

use std::collections::BTreeSet;
use std::time::Duration;

use medsync_protocol::ids::{Anchorer, ContextId, UnixSeconds};
use medsync_protocol::receipt::Block;
use medsync_protocol::tree::Root;

use super::watch::SETTLED_S;
use super::{Pipeline, PipelineError, place};
use crate::guard;
use crate::source::{Consent, Position, all_consents};
use crate::store::batches::BatchRow;
use crate::store::consents::ConsentLeaf;
use crate::store::restored::Place;

/// How long a consent is held back for a batch that no circle here shows, in seconds: whoever knew
/// of it may be gone for good.
const UNHEARD_S: u64 = 7 * 24 * 60 * 60;

/// How long a circle is asked about its consents at most; this lane is everybody's.
const LOOK_UP_MAX: Duration = Duration::from_secs(60);
/// After how long it is asked again at most, in seconds.
const LOOKED_UP_AGAIN_S_MAX: u64 = 60 * 60;

/// Looks up where consents stand. A circle that does not answer keeps its own waiting, and is asked
/// ever more seldom; one that is stopped is not asked.
///
/// # Errors
/// A store or a node that does not answer.
pub async fn take_over_places(
    pipeline: &Pipeline,
    anchorer: Anchorer,
) -> Result<(), PipelineError> {
    let now = pipeline.now();
    for context in pipeline.store.contexts_with_unsure_places(now).await? {
        let look_up = tokio::time::timeout(LOOK_UP_MAX, look_up(pipeline, anchorer, context));
        let looked_up = look_up.await.unwrap_or_else(|_| {
            let why = format!("it took longer than {} s", LOOK_UP_MAX.as_secs());
            Err(PipelineError::Broken(why))
        });
        match looked_up {
            Err(error @ PipelineError::Chain(_)) => return Err(error),
            Err(error) if place::is_node_down(&error) || error.is_of_the_store() => {
                return Err(error);
            }
            Err(error) => {
                tracing::warn!(%context, %error, "places are looked up later");
                look_up_later(pipeline, context).await?;
            }
            Ok(()) => {}
        }
    }
    Ok(())
}

/// A circle that does not say where its consents stand is asked again ever more seldom, and at
/// least each hour.
async fn look_up_later(pipeline: &Pipeline, context: ContextId) -> Result<(), PipelineError> {
    let (store, now) = (&pipeline.store, pipeline.now());
    for unsure in store.unsure_consents(context, now).await? {
        let age_s = now.0.saturating_sub(unsure.seen_at.0);
        let wait_s = (age_s / 2).clamp(SETTLED_S, LOOKED_UP_AGAIN_S_MAX);
        let again = UnixSeconds(now.0 + wait_s);
        store
            .stands_nowhere(unsure.commitment, unsure.nowhere_since, again)
            .await?;
    }
    Ok(())
}

async fn look_up(
    pipeline: &Pipeline,
    anchorer: Anchorer,
    context: ContextId,
) -> Result<(), PipelineError> {
    let (store, now) = (&pipeline.store, pipeline.now());
    let row = store.circle(context).await?;
    let circle = guard::enter(&*pipeline.circles, store, &row, now).await?;
    let shown = all_consents(&*circle).await?;
    let mut nowhere = Vec::new();
    for unsure in store.unsure_consents(context, now).await? {
        let commitment = unsure.commitment;
        // A clock that was ahead found it nowhere: that is not the first of two times.
        let since = unsure.nowhere_since;
        let since = since.filter(|since| pipeline.check_not_ahead(*since).is_ok());
        let place = match shown.iter().find(|shown| shown.commitment == commitment) {
            Some(consent) => place_of(pipeline, anchorer, consent).await?,
            None => None,
        };
        match place {
            Some(place) => {
                tracing::warn!(consent = %commitment, root = %place.root, "it was anchored before");
                store.place_is(commitment, Some(&place), now).await?;
            }
            None => nowhere.push((commitment, since)),
        }
    }
    let is_second = nowhere.iter().any(|(_, since)| since.is_some());
    let are_all_known = is_second && are_all_known(pipeline, anchorer).await?;
    let again = UnixSeconds(now.0 + SETTLED_S);
    for (commitment, since) in nowhere {
        let is_sure = |since: UnixSeconds| are_all_known || since.0 + UNHEARD_S <= now.0;
        if since.is_some_and(is_sure) {
            store.place_is(commitment, None, now).await?;
        } else {
            let since = since.unwrap_or(now);
            store.stands_nowhere(commitment, Some(since), again).await?;
        }
    }
    Ok(())
}

/// These consents of a batch with their paths: those that its leaves do not lead to are taken from
/// their circles, this time. One that its circle does not show stays without.
///
/// # Errors
/// A store or a node that does not answer.
pub(super) async fn with_paths(
    pipeline: &Pipeline,
    anchorer: Anchorer,
    batch: &BatchRow,
    consents: &[ConsentLeaf],
) -> Result<Vec<ConsentLeaf>, PipelineError> {
    let mut consents = consents.to_vec();
    let has_paths = consents.iter().all(|consent| consent.proof.is_some());
    if has_paths || place::tree_of(pipeline, batch).is_ok() {
        return Ok(consents);
    }
    let lacking = consents.iter().filter(|consent| consent.proof.is_none());
    let contexts: BTreeSet<ContextId> = lacking.map(|consent| consent.context).collect();
    for context in contexts {
        let of_it = consents.iter_mut().filter(|one| one.context == context);
        match find_paths(pipeline, (anchorer, batch.root), context, of_it).await {
            Err(error) if place::is_node_down(&error) => return Err(error),
            Err(error) => tracing::warn!(%context, %error, "paths are looked up later"),
            Ok(()) => {}
        }
    }
    Ok(consents)
}

/// Looks up in a circle the paths to a root that its consents lack.
async fn find_paths(
    pipeline: &Pipeline,
    (anchorer, root): (Anchorer, Root),
    context: ContextId,
    consents: impl Iterator<Item = &mut ConsentLeaf>,
) -> Result<(), PipelineError> {
    let (store, now) = (&pipeline.store, pipeline.now());
    let row = store.circle(context).await?;
    let circle = guard::enter(&*pipeline.circles, store, &row, now).await?;
    let shown = all_consents(&*circle).await?;
    for consent in consents.filter(|consent| consent.proof.is_none()) {
        let own = shown
            .iter()
            .filter(|shown| shown.commitment == consent.commitment);
        let mut positions = own.flat_map(|shown| &shown.anchors);
        let found = positions.find(|position| {
            (position.anchorer, position.root) == (anchorer, root)
                && position.proof.includes(consent.leaf, root)
        });
        if let Some(position) = found {
            consent.proof = Some(position.proof.clone());
        }
    }
    Ok(())
}

/// Whether every batch on chain is known here.
async fn are_all_known(pipeline: &Pipeline, anchorer: Anchorer) -> Result<bool, PipelineError> {
    let (store, registry) = (&pipeline.store, pipeline.registry.registry);
    let first = store.first_anchored_block().await?;
    let anchored = pipeline.chain.anchored_roots(registry, anchorer, first);
    let Some(anchored) = anchored.await? else {
        tracing::warn!("the chain has more batches than are read");
        return Ok(false);
    };
    let unknown = anchored.difference(&store.known_roots().await?).count();
    if unknown > 0 {
        tracing::warn!(unknown, "the chain has batches that no circle here shows");
    }
    Ok(unknown == 0)
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
        let anchored = pipeline.chain.anchored_at_by_any(registry, anchorer, root);
        let Some(anchored_at) = anchored.await? else {
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

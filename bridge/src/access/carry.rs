//! Carry: an exchange is given the receipts of the consents to its recipient, and their
//! revocations.
//!
//! Only anchored consents are carried: a receipt proves itself without the custodian. The patient
//! goes by a pseudonym that is drawn for this exchange and kept before it is used.

use std::collections::BTreeSet;

use medsync_protocol::audit::Pseudonym;
use medsync_protocol::consent::Commitment;
use medsync_protocol::ids::{Anchorer, ContextId, UnixSeconds};
use medsync_protocol::receipt::{Receipt, Stage, StageTime};
use medsync_protocol::secrets::Handle;
use medsync_protocol::terms::Terms;

use super::release::is_no_place;
use super::{Desk, only_store};
use crate::pipeline::place::tree_of;
use crate::pipeline::{Pipeline, PipelineError};
use crate::seams::random_bytes;
use crate::store::batches::BatchRow;
use crate::store::consents::ConsentRow;

/// How many receipts and revocations one round carries.
const CARRIED_PER_ROUND: u32 = 64;

/// How long rests what an exchange could not be given.
const CARRIED_AGAIN_AFTER_S: u64 = 60;

/// Carries what is due, of each circle and exchange in turns. What an exchange refuses rests, and
/// keeps nothing else waiting; one that does not answer waits as a whole.
///
/// # Errors
/// A store that does not answer.
pub async fn carry_all(desk: &Desk) -> Result<(), PipelineError> {
    let (store, now) = (&desk.pipeline.store, desk.pipeline.now());
    let mut hindered = BTreeSet::new();
    for (exchange, consent) in store.uncarried_consents(now, CARRIED_PER_ROUND).await? {
        if hindered.contains(&exchange) {
            continue;
        }
        let carried = carry(desk, exchange, consent).await;
        if carried.as_ref().is_err_and(hinders_all) {
            hindered.insert(exchange);
        }
        rests_if_hindered(desk, (exchange, consent), carried).await?;
    }
    let revoked = store.uncarried_revocations(now, CARRIED_PER_ROUND).await?;
    for (exchange, consent, handle) in revoked {
        if hindered.contains(&exchange) {
            continue;
        }
        let carried = carry_revocation(desk, exchange, (consent, handle)).await;
        if carried.as_ref().is_err_and(hinders_all) {
            hindered.insert(exchange);
        }
        rests_if_hindered(desk, (exchange, consent), carried).await?;
    }
    Ok(())
}

/// Whether an error is of the exchange as a whole, and not of what it was given.
fn hinders_all(error: &PipelineError) -> bool {
    let refused = matches!(error, PipelineError::Source(error) if error.refusal().is_some());
    let is_of_a_row = matches!(error, PipelineError::Store(error) if error.is_of_a_row());
    !refused && !is_of_a_row && !matches!(error, PipelineError::Broken(_))
}

async fn rests_if_hindered(
    desk: &Desk,
    (exchange, consent): (ContextId, Commitment),
    carried: Result<(), PipelineError>,
) -> Result<(), PipelineError> {
    if carried.is_err() {
        let not_before = UnixSeconds(desk.pipeline.now().0 + CARRIED_AGAIN_AFTER_S);
        let store = &desk.pipeline.store;
        store.carry_later(exchange, consent, not_before).await?;
    }
    only_store(carried, "carrying a receipt or a revocation")
}

async fn carry_revocation(
    desk: &Desk,
    exchange: ContextId,
    (consent, handle): (Commitment, Handle),
) -> Result<(), PipelineError> {
    let store = &desk.pipeline.store;
    let Some(revocation) = store.revocation(handle).await? else {
        return Ok(());
    };
    let circle = desk.enter(exchange).await?;
    circle
        .revoke(&revocation.secret, revocation.claim_key, 1)
        .await?;
    Ok(store.carried(exchange, consent, true).await?)
}

async fn carry(desk: &Desk, exchange: ContextId, consent: Commitment) -> Result<(), PipelineError> {
    let store = &desk.pipeline.store;
    let Some(consent) = &store.consent(consent).await? else {
        return Ok(());
    };
    let broken = |why: &str| PipelineError::Broken(format!("{}: {why}", consent.leaf.commitment));
    let (Some(batch), Some(anchorer)) = (consent.leaf.batch, desk.pipeline.anchorer()) else {
        return Err(broken("only what a custodian anchored has a receipt"));
    };
    let batch = store.batch(batch).await?;
    let receipt = receipt(&desk.pipeline, anchorer, consent, &batch)
        .ok_or_else(|| broken("its batch does not lead to a receipt"))?;
    let json = receipt
        .to_json()
        .map_err(|error| broken(&error.to_string()))?;
    let fresh = Pseudonym(random_bytes(&mut *desk.pipeline.random.lock().await));
    let patient = store
        .pseudonym(exchange, consent.leaf.context, fresh)
        .await?;
    let circle = desk.enter(exchange).await?;
    match circle.put_receipt(patient, json.as_bytes()).await {
        // The patient can still hand it over.
        Err(error) if is_no_place(&error) => {
            tracing::error!(%exchange, %error, "the exchange has no place for a receipt");
        }
        put => {
            put?;
            tracing::info!(%exchange, consent = %consent.leaf.commitment, "receipt carried");
        }
    }
    Ok(store
        .carried(exchange, consent.leaf.commitment, false)
        .await?)
}

/// The receipt of an anchored consent, from the store alone.
fn receipt(
    pipeline: &Pipeline,
    anchorer: Anchorer,
    consent: &ConsentRow,
    batch: &BatchRow,
) -> Option<Receipt> {
    let proof = match &consent.leaf.proof {
        Some(proof) => proof.clone(),
        None => tree_of(pipeline, batch)
            .ok()?
            .proof(consent.leaf.position?)?,
    };
    let (block, time) = batch.block?;
    let reached = [
        (Stage::Recorded, Some(consent.recorded_at)),
        (Stage::Sealed, Some(batch.sealed_at)),
        (Stage::Submitted, batch.submitted_at),
        (Stage::Anchored, Some(time)),
    ];
    Some(Receipt {
        registry: pipeline.registry,
        anchorer,
        terms: Terms::decode(&consent.terms).ok()?,
        opening: consent.opening,
        signature: consent.signature,
        proof,
        root: batch.root,
        block,
        stages: reached
            .into_iter()
            .filter_map(|(stage, at)| Some(StageTime { stage, at: at? }))
            .collect(),
    })
}

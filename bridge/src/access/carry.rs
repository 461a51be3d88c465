//! Carry: an exchange is given the receipts of the consents to its recipient, and their
//! revocations.
//!
//! Only anchored consents are carried: a receipt proves itself without the custodian. The patient
//! goes by a pseudonym that is drawn for this exchange and kept before it is used.

use medsync_protocol::audit::Pseudonym;
use medsync_protocol::consent::Registry;
use medsync_protocol::ids::{Anchorer, ContextId};
use medsync_protocol::receipt::{Receipt, Stage, StageTime};
use medsync_protocol::terms::Terms;
use medsync_protocol::tree::Tree;

use super::{Desk, only_store};
use crate::pipeline::PipelineError;
use crate::seams::random_bytes;
use crate::store::batches::BatchRow;
use crate::store::consents::ConsentRow;

/// How many receipts and revocations one round carries.
const CARRIED_PER_ROUND: u32 = 64;

/// Carries what is due.
///
/// # Errors
/// A store that does not answer.
pub async fn carry_all(desk: &Desk) -> Result<(), PipelineError> {
    let store = &desk.pipeline.store;
    for (exchange, consent) in store.uncarried_consents(CARRIED_PER_ROUND).await? {
        only_store(carry(desk, exchange, &consent).await, "carrying a receipt")?;
    }
    for (exchange, consent, handle) in store.uncarried_revocations(CARRIED_PER_ROUND).await? {
        let Some(revocation) = store.revocation(handle).await? else {
            continue;
        };
        let carried = async {
            let circle = desk.enter(exchange).await?;
            circle
                .revoke(&revocation.secret, revocation.claim_key)
                .await?;
            Ok(store.carried(exchange, consent, true).await?)
        };
        only_store(carried.await, "carrying a revocation")?;
    }
    Ok(())
}

async fn carry(
    desk: &Desk,
    exchange: ContextId,
    consent: &ConsentRow,
) -> Result<(), PipelineError> {
    let store = &desk.pipeline.store;
    let broken = |why: &str| PipelineError::Broken(format!("{}: {why}", consent.commitment));
    let (Some(batch), Some(anchorer)) = (consent.batch, desk.pipeline.anchorer()) else {
        return Err(broken("only what a custodian anchored has a receipt"));
    };
    let batch = store.batch(batch).await?;
    let receipt = receipt(desk.pipeline.registry, anchorer, consent, &batch)
        .ok_or_else(|| broken("its batch does not lead to a receipt"))?;
    let json = receipt
        .to_json()
        .map_err(|error| broken(&error.to_string()))?;
    let fresh = Pseudonym(random_bytes(&mut *desk.pipeline.random.lock().await));
    let patient = store.pseudonym(exchange, consent.context, fresh).await?;
    let circle = desk.enter(exchange).await?;
    circle.put_receipt(patient, json.as_bytes()).await?;
    store.carried(exchange, consent.commitment, false).await?;
    tracing::info!(%exchange, consent = %consent.commitment, "receipt carried");
    Ok(())
}

/// The receipt of an anchored consent, from the store alone.
fn receipt(
    registry: Registry,
    anchorer: Anchorer,
    consent: &ConsentRow,
    batch: &BatchRow,
) -> Option<Receipt> {
    let tree = Tree::build(&batch.leaves).ok()?;
    let (block, time) = batch.block?;
    let reached = [
        (Stage::Recorded, Some(consent.recorded_at)),
        (Stage::Sealed, Some(batch.sealed_at)),
        (Stage::Submitted, batch.submitted_at),
        (Stage::Anchored, Some(time)),
    ];
    Some(Receipt {
        registry,
        anchorer,
        terms: Terms::decode(&consent.terms).ok()?,
        opening: consent.opening,
        signature: consent.signature,
        proof: tree.proof(consent.position?)?,
        root: batch.root,
        block,
        stages: reached
            .into_iter()
            .filter_map(|(stage, at)| Some(StageTime { stage, at: at? }))
            .collect(),
    })
}

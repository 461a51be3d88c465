//! Ingest: what is new in a circle comes into the store.
//!
//! A circle whose state did not change costs one small request. Else the whole walk is read and
//! compared with everything that was ever seen: new entries are taken in, revocations first, and
//! entries that vanished stay in force here and raise a warning.
//!
//! Nothing is noted as seen before it was taken in, so that a crash in between reads it again.

use medsync_protocol::ids::{AddressBytes, ContextId};
use medsync_protocol::signature::PublicKey;

use super::{Pipeline, PipelineError};
use crate::guard;
use crate::source::{Change, Circle, Consent, EntryBody, EntryKind, all_changes};
use crate::store::circles::CircleRow;
use crate::store::consents::ConsentRow;

/// Reads all circles of this party; one that fails does not keep the others waiting.
///
/// # Errors
/// The first circle's error, after all were tried.
pub async fn ingest_all(pipeline: &Pipeline) -> Result<(), PipelineError> {
    let mut first_error = None;
    for row in pipeline.store.circles().await? {
        if let Err(error) = ingest(pipeline, &row).await {
            tracing::warn!(context = %row.context, %error, "a circle could not be read");
            first_error.get_or_insert(error);
        }
    }
    first_error.map_or(Ok(()), Err)
}

async fn ingest(pipeline: &Pipeline, row: &CircleRow) -> Result<(), PipelineError> {
    let circle = guard::enter(&*pipeline.circles, &pipeline.store, row).await?;
    // Read before the walk: what changes during it changes the hash, and is walked again.
    let state = circle.state_hash().await?;
    if row.state_hash == Some(state) {
        return Ok(());
    }
    let walk = all_changes(&*circle).await?.entries;
    let mut unseen = pipeline.store.unseen(row.context, &walk).await?;
    unseen.sort_by_key(|change| change.kind != EntryKind::Revocation);
    if !unseen.is_empty() {
        let patient = patient_of(pipeline, row, &*circle).await?;
        for change in unseen {
            if take_in(pipeline, row, &*circle, patient, &change).await? {
                pipeline
                    .store
                    .note_seen(row.context, &change, pipeline.now())
                    .await?;
            }
        }
    }
    let vanished = pipeline
        .store
        .finish_walk(row.context, &walk, state, pipeline.now())
        .await?;
    for entry in vanished {
        tracing::error!(
            context = %row.context, kind = %entry.kind, key = %entry.key,
            "ALARM: an entry vanished from a circle; it stays in force here",
        );
    }
    Ok(())
}

/// The enrolled patient's key. A circle with two different enrolments has none, and says so once.
async fn patient_of(
    pipeline: &Pipeline,
    row: &CircleRow,
    circle: &dyn Circle,
) -> Result<Option<PublicKey>, PipelineError> {
    let state = circle.circle().await?;
    let fact = frozen_fact(row.context);
    if state.frozen && pipeline.store.fact(&fact).await?.is_none() {
        let since = pipeline.now().to_string();
        pipeline.store.state_fact(&fact, &since).await?;
        tracing::error!(
            context = %row.context,
            "ALARM: somebody enrolled again with other keys; no consent of the circle counts",
        );
    }
    let patient = state.patient.filter(|_| !state.frozen);
    Ok(patient.map(|patient| patient.enrolment.party_key))
}

/// Under which name it is kept that a circle is frozen, and since when.
#[must_use]
pub fn frozen_fact(context: ContextId) -> String {
    format!("frozen:{context}")
}

/// Takes an entry in; answers whether that is settled, so that it need not be read again.
async fn take_in(
    pipeline: &Pipeline,
    row: &CircleRow,
    circle: &dyn Circle,
    patient: Option<PublicKey>,
    change: &Change,
) -> Result<bool, PipelineError> {
    // Records and positions are read from the circle when somebody asks for them.
    if !matches!(change.kind, EntryKind::Consent | EntryKind::Revocation) {
        return Ok(true);
    }
    match circle.entry(change.kind, change.key).await?.body {
        Some(EntryBody::Revocation(revocation)) => {
            let (secret, key) = (&revocation.secret, revocation.claim_key);
            pipeline
                .store
                .keep_revocation(revocation.handle, row.context, secret, key, pipeline.now())
                .await?;
            tracing::info!(context = %row.context, handle = %revocation.handle, "revocation seen");
        }
        Some(EntryBody::Consent(consent)) => {
            take_in_consent(pipeline, row, patient, &consent).await?;
        }
        // It may have come before the enrolment that it counts by.
        _ if change.kind == EntryKind::Consent => return Ok(patient.is_some()),
        _ => {}
    }
    Ok(true)
}

/// Only what can become a valid receipt of this custodian is kept: the node's word that an entry
/// counts is not enough to anchor it.
async fn take_in_consent(
    pipeline: &Pipeline,
    row: &CircleRow,
    patient: Option<PublicKey>,
    consent: &Consent,
) -> Result<(), PipelineError> {
    let foreign_anchorer = pipeline
        .anchorer()
        .is_some_and(|own| consent.terms.custodian_address != AddressBytes::of(own));
    if consent.terms.context != row.context
        || foreign_anchorer
        || patient != Some(consent.opening.patient_key)
        || !consent.is_signed(pipeline.registry)
    {
        tracing::warn!(
            context = %row.context, commitment = %consent.commitment,
            "a consent that is not this circle's is left out",
        );
        return Ok(());
    }
    let kept = ConsentRow {
        commitment: consent.commitment,
        context: row.context,
        handle: consent.opening.handle,
        leaf: consent.leaf(),
        terms: consent.terms_bytes.clone(),
        opening: consent.opening,
        signature: consent.signature,
        recorded_at: consent.recorded_at,
        batch: None,
        position: None,
    };
    pipeline.store.keep_consent(&kept, pipeline.now()).await?;
    tracing::info!(context = %row.context, commitment = %consent.commitment, "consent seen");
    Ok(())
}

//! What one entry of a circle becomes in the store.

use medsync_protocol::audit::{RecordRef, Requested};
use medsync_protocol::device::DEVICES_MAX;
use medsync_protocol::keychange::KEY_CHANGES_MAX;

use super::*;
use crate::store::consents::ConsentLeaf;

/// What came of an entry.
pub(super) enum Taken {
    /// It need not be read again. What it says, if that comes back under another key.
    Settled(Option<String>),
    /// It is looked at again with the next walk.
    Unsettled,
    /// A consent that counts; it is settled once it is kept.
    Consent(Box<ConsentRow>),
    /// A consent of which another copy is shown; it is settled once that is kept.
    Copy(Commitment),
}

/// What an entry says, of what is brought back under another key should it vanish.
fn content_of(people: &People, body: Option<&EntryBody>) -> Option<String> {
    match body? {
        EntryBody::Revocation(revocation) => Some(revocation.handle.to_string()),
        EntryBody::Ticket(placed) => Some(placed.ticket.leaf().to_string()),
        EntryBody::Log(entry) => {
            let is_carried = people.carried.contains(&entry.entry.author_key);
            is_carried.then(|| entry.digest().to_string())
        }
        _ => None,
    }
}

/// Takes an entry in, but for what is kept of a consent.
pub(super) async fn take_in(
    pipeline: &Pipeline,
    row: &CircleRow,
    circle: &dyn Circle,
    people: &People,
    change: &Change,
) -> Result<Taken, PipelineError> {
    if !is_taken_in(row, change) {
        return Ok(Taken::Settled(None));
    }
    let body = circle.entry(change.kind, change.key).await?.body;
    if let Some(EntryBody::Consent(consent)) = &body {
        return verify_consent(pipeline, row, people, consent).await;
    }
    if let Some(EntryBody::Copy(consent)) = body {
        return Ok(Taken::Copy(consent));
    }
    let content = content_of(people, body.as_ref());
    let is_settled = take_in_other(pipeline, row, circle, (people, change), body).await?;
    Ok(match is_settled {
        true => Taken::Settled(content),
        false => Taken::Unsettled,
    })
}

/// Takes in what is no consent; answers whether that is settled.
async fn take_in_other(
    pipeline: &Pipeline,
    row: &CircleRow,
    circle: &dyn Circle,
    (people, change): (&People, &Change),
    body: Option<EntryBody>,
) -> Result<bool, PipelineError> {
    match body {
        Some(EntryBody::Revocation(revocation)) => {
            pipeline.note_peer(revocation.recorded_at);
            let (handle, opening) = (
                revocation.handle,
                (&revocation.secret, revocation.claim_key),
            );
            pipeline
                .store
                .keep_revocation(
                    handle,
                    row.context,
                    opening,
                    Origin::Entry(*change),
                    pipeline.now(),
                )
                .await?;
            tracing::info!(track = %handle, context = %row.context, "revocation seen");
        }
        Some(EntryBody::KeyChange(change)) => {
            return take_in_key_change(pipeline, row, circle, &change).await;
        }
        Some(EntryBody::Log(entry)) => return take_in_log(pipeline, row, people, &entry).await,
        Some(EntryBody::Head(head)) => {
            if !people.authors.contains(&head.author_key) {
                return Ok(false);
            }
            pipeline
                .store
                .keep_head(row.context, &head, pipeline.now())
                .await?;
        }
        Some(EntryBody::Device(device)) => {
            return take_in_device(pipeline, row, circle, people, &device).await;
        }
        Some(EntryBody::Pool(pool)) => {
            let chain_id = pipeline.registry.chain_id;
            pipeline.store.keep_pool(chain_id, &pool).await?;
        }
        Some(EntryBody::Record(record)) => take_in_record(pipeline, row, &record).await?,
        Some(EntryBody::Ticket(placed)) => {
            let now = pipeline.now();
            pipeline
                .store
                .keep_ticket(row.context, &placed, now)
                .await?;
        }
        // It may have come before the enrolment that it counts by.
        _ if change.kind == EntryKind::Consent => return Ok(!people.patient.is_empty()),
        // What a node does not show now it may show with the next walk.
        _ if matches!(
            change.kind,
            EntryKind::Revocation
                | EntryKind::Log
                | EntryKind::Head
                | EntryKind::KeyChange
                | EntryKind::Device
                | EntryKind::Record
                | EntryKind::Pool
                | EntryKind::Ticket
        ) =>
        {
            return Ok(false);
        }
        _ => {}
    }
    Ok(true)
}

/// Takes a revocation in if its consent is known; all others are left out.
pub(super) async fn take_in_known_revocation(
    pipeline: &Pipeline,
    row: &CircleRow,
    circle: &dyn Circle,
    change: &Change,
) -> Result<Taken, PipelineError> {
    let store = &pipeline.store;
    let body = circle.entry(change.kind, change.key).await?.body;
    if let Some(EntryBody::Revocation(revocation)) = body
        && store.has_consent_of(revocation.handle).await?
    {
        let opening = (&revocation.secret, revocation.claim_key);
        let (handle, now) = (revocation.handle, pipeline.now());
        store
            .keep_revocation(handle, row.context, opening, Origin::Circle, now)
            .await?;
    }
    Ok(Taken::Unsettled)
}

/// Which versions of a record there are is kept by whoever did not write them: one that is gone
/// later is known to have been there. A second description of one would be shown in the place of
/// the first, and make what was released before look covered.
async fn take_in_record(
    pipeline: &Pipeline,
    row: &CircleRow,
    record: &Record,
) -> Result<(), PipelineError> {
    let store = &pipeline.store;
    let what = RecordRef {
        record: record.record,
        version: record.version.0,
    };
    let first = store.keep_version(row.context, what, record.key).await?;
    if first != record.key {
        let why = format!(
            "the custodian described version {} of record {} twice",
            what.version, what.record
        );
        tracing::error!(context = %row.context, why, "ALARM: a record was described anew");
        store.state_fact(&rewritten_fact(row.context), &why).await?;
    }
    Ok(())
}

/// Under which name it is kept that a custodian described a record anew, and which.
#[must_use]
pub fn rewritten_fact(context: ContextId) -> String {
    format!("rewritten:{context}")
}

/// The custodian's node lets in whom the patient admits, so that every node knows the member when
/// it joins. An admission by nobody's key may become the patient's by a change that is on its way.
/// Each admission lets in once, however often it is written down: whom the custodian removed stays
/// out until the patient admits anew.
async fn take_in_device(
    pipeline: &Pipeline,
    row: &CircleRow,
    circle: &dyn Circle,
    people: &People,
    device: &Device,
) -> Result<bool, PipelineError> {
    let admission = &device.admission;
    if !people.patient.contains(&admission.admitted_by)
        || !admission.is_signed(row.context, &device.signature)
    {
        return Ok(false);
    }
    if people.patient.last() != Some(&admission.admitted_by) {
        // It ended with the key, and a key that was replaced does not come back.
        return Ok(true);
    }
    let store = &pipeline.store;
    if row.member == row.custodian_member && !store.was_let_in(row.context, admission).await? {
        if store.let_in_by(row.context, admission.admitted_by).await? >= LET_IN_MAX {
            tracing::error!(context = %row.context, "its patient admits without end; not let in");
            return Ok(true);
        }
        circle.add_member(admission.member).await?;
        // A crash in between lets the same member in once more.
        let now = pipeline.now();
        store.note_let_in(row.context, admission, now).await?;
    }
    tracing::warn!(
        context = %row.context, member = %admission.member,
        role = admission.device.role().name(), "the patient admitted a member",
    );
    Ok(true)
}

/// How often a custodian lets somebody in by one key of a patient's.
const LET_IN_MAX: u64 = 4 * DEVICES_MAX as u64;

/// A key that was changed stays changed: who changes it is checked here too.
async fn take_in_key_change(
    pipeline: &Pipeline,
    row: &CircleRow,
    circle: &dyn Circle,
    signed: &SignedKeyChange,
) -> Result<bool, PipelineError> {
    let state = circle.circle().await?;
    let Some(enrolled) = state.only() else {
        return Ok(false);
    };
    let recovery = enrolled.enrolment.recovery_key;
    let by = signed
        .change
        .signed_by(row.context, recovery, &signed.signature);
    let Some(by) = by else {
        return Ok(true);
    };
    if signed.change.seq >= KEY_CHANGES_MAX as u64 {
        return Ok(true);
    }
    let store = &pipeline.store;
    let history = store.key_history(row.context, &enrolled.enrolment).await?;
    let place = history.keys.get(signed.change.seq as usize);
    if place != Some(&signed.change.old_key) {
        // Nobody's key here yet: whose it is may be said by a change that comes later.
        return Ok(false);
    }
    let now = pipeline.now();
    let is_kept = pipeline
        .store
        .keep_key_change(row.context, (signed, by), true, now)
        .await?;
    if !is_kept {
        return Ok(true);
    }
    tracing::warn!(
        context = %row.context, seq = signed.change.seq, by = by.name(), "a key was changed",
    );
    Ok(true)
}

/// Every entry that its author signed is kept for ever. One that does not fit to what was kept
/// before is evidence against its author, and is said at once.
async fn take_in_log(
    pipeline: &Pipeline,
    row: &CircleRow,
    people: &People,
    entry: &LogEntry,
) -> Result<bool, PipelineError> {
    let said = entry.entry;
    if said.context != row.context
        || !people.authors.contains(&said.author_key)
        || !entry.is_signed()
    {
        tracing::warn!(context = %row.context, "a log entry of nobody here is left out");
        return Ok(false);
    }
    audit::keep(&pipeline.store, entry, pipeline.now()).await?;
    if row.member == row.custodian_member
        && people.custodian == Some(said.author_key)
        && !take_over_release(pipeline, row, entry).await?
    {
        return Ok(false);
    }
    if let Body::Erased {
        order: None,
        records,
        ..
    } = &entry.body
        && row.member == row.custodian_member
        && people.custodian == Some(said.author_key)
    {
        // Said by this party before its store was restored: what it erased stays erased.
        let now = pipeline.now();
        pipeline
            .store
            .stay_erased(row.context, records, now)
            .await?;
    }
    if matches!(entry.body, Body::BreakGlass { .. })
        && people.custodian == Some(said.author_key)
        && row.member != row.custodian_member
    {
        tracing::error!(
            context = %row.context, seq = said.seq.0,
            "ALERT: somebody broke the glass; `medsync patient show` says who and why",
        );
    }
    tracing::info!(
        context = %row.context, kind = said.kind.name(), seq = said.seq.0, "log entry seen",
    );
    Ok(true)
}

/// A release that a log of this custodian names and this store does not know: it died before it
/// noted it, or was restored from an older backup. It ends with its consents as every other does.
/// Answers whether that is settled.
async fn take_over_release(
    pipeline: &Pipeline,
    row: &CircleRow,
    entry: &LogEntry,
) -> Result<bool, PipelineError> {
    let store = &pipeline.store;
    let Body::Released {
        request, logged_as, ..
    } = entry.body
    else {
        return Ok(true);
    };
    let (circle, exchange, request) = match logged_as {
        // In an exchange: its entry in the patient's circle may be read later than this.
        Some(logged_as) => {
            let Some(logged) = store.entry(logged_as).await? else {
                return Ok(false);
            };
            (logged.entry.context, row.context, request)
        }
        // In a circle: the copy of the request names the recipient's own.
        None => {
            let copy = store.entry(request).await?.map(|copy| copy.body);
            let Some(Body::Requested(Requested {
                asked_by: Some(asked_by),
                ..
            })) = copy
            else {
                return Ok(true);
            };
            let Some(asked) = store.entry(asked_by).await? else {
                return Ok(false);
            };
            (row.context, asked.entry.context, asked_by)
        }
    };
    let release = ReleaseRow {
        logged_as: logged_as.unwrap_or_else(|| entry.digest()),
        request,
        exchange,
        circle,
        state: ReleaseState::Logged,
        orders: None,
    };
    store.keep_release(&release).await?;
    Ok(true)
}

/// Only what can become a valid receipt of this custodian is kept: the node's word that an entry
/// counts is not enough to anchor it.
async fn verify_consent(
    pipeline: &Pipeline,
    row: &CircleRow,
    people: &People,
    consent: &Consent,
) -> Result<Taken, PipelineError> {
    let foreign_anchorer = pipeline
        .anchorer()
        .is_some_and(|own| consent.terms.custodian_address != AddressBytes::of(own));
    if consent.terms.context != row.context
        || foreign_anchorer
        || !people.patient.contains(&consent.opening.patient_key)
        || !consent.is_signed(pipeline.registry)
    {
        tracing::warn!(
            context = %row.context, commitment = %consent.commitment,
            "a consent that is not this circle's is left out",
        );
        // The enrolment may be on its way, and a configuration can be put right: it is looked at
        // again with the next walk.
        return Ok(Taken::Unsettled);
    }
    pipeline.note_peer(consent.recorded_at);
    let key = consent.opening.patient_key;
    let is_old = people.patient.last() != Some(&key);
    // What forbids goes on forbidding, but for a thief's word.
    let only_forbids = !consent.terms.permits() && !people.stolen.contains(&key);
    if is_old && !only_forbids && !pipeline.store.knows_consent(consent.commitment).await? {
        // It permits nothing; and whoever stole the key gets no receipt for it.
        tracing::warn!(
            context = %row.context, commitment = %consent.commitment,
            "a consent under a key that was changed before is left out",
        );
        // But for a thief's, what it makes exceptions of it forbids: whoever decides reads it.
        let is_nothing = people.stolen.contains(&key);
        return Ok(Taken::Settled(
            is_nothing.then(|| consent.commitment.to_string()),
        ));
    }
    let kept = ConsentRow {
        leaf: ConsentLeaf {
            commitment: consent.commitment,
            context: row.context,
            handle: consent.opening.handle,
            leaf: consent.leaf(),
            batch: None,
            position: None,
            proof: None,
        },
        terms: consent.terms_bytes.clone(),
        opening: consent.opening,
        signature: consent.signature,
        recorded_at: consent.recorded_at,
        // This custodian anchored it before its store was restored, or somebody says so; or it may
        // have, and its node has not heard of it yet.
        place_is_unsure: people.restored_at >= Some(consent.recorded_at)
            || consent.anchors.iter().any(|position| {
                pipeline.anchorer() == Some(position.anchorer)
                    && position.proof.includes(consent.leaf(), position.root)
            }),
    };
    tracing::info!(track = %consent.commitment, context = %row.context, "consent seen");
    Ok(Taken::Consent(Box::new(kept)))
}

//! Erase: what is no longer permitted is ordered to be erased, and the answer is kept.
//!
//! An order stands in both logs. The recipient's `medsync` destroys the reply key and what was
//! opened with it, and says so in a signed entry, which is copied into the circle.

use medsync_protocol::audit::{Body, EntryDigest, ErasureReason, RECORDS_LEN_MAX, RecordRef};
use medsync_protocol::ids::{ContextId, UnixSeconds};

use super::{Desk, LOOKED_AT_PER_ROUND, only_store};
use crate::pipeline::PipelineError;
use crate::store::StoreError;

use crate::store::releases::{End, ReleaseRow, ReleaseState};

/// What a recipient says in its exchange once it has erased what an order there names.
pub(super) fn answer_to(order: EntryDigest) -> Body {
    Body::Erased {
        order: Some(order),
        said_by: None,
        records: Vec::new(),
    }
}

/// The next releases in a state, a part of them.
async fn next_in(desk: &Desk, state: ReleaseState) -> Result<Vec<ReleaseRow>, StoreError> {
    let (store, list) = (&desk.pipeline.store, state.name());
    let after = desk.turns.after(list);
    let rows = store
        .releases_in(
            state,
            after,
            desk.pipeline.now(),
            LOOKED_AT_PER_ROUND as u32,
        )
        .await?;
    let names = rows.iter().map(|row| row.logged_as);
    desk.turns.looked_at(list.to_owned(), names);
    Ok(rows)
}

/// Says in the logs of circles what was erased there and is not said yet: whoever erased it died,
/// or the circle did not answer.
///
/// # Errors
/// A store that does not answer.
pub async fn say_all(desk: &Desk) -> Result<(), PipelineError> {
    let store = &desk.pipeline.store;
    for context in store.circles_with_unlogged_erasures().await? {
        if store.circle(context).await?.alarm.is_some() {
            continue;
        }
        only_store(say_in(desk, context).await, "the word of an erasure")?;
    }
    Ok(())
}

async fn say_in(desk: &Desk, context: ContextId) -> Result<(), PipelineError> {
    let (store, circle) = (&desk.pipeline.store, desk.enter(context).await?);
    let unsaid: Vec<RecordRef> = store
        .erased_records(context, true)
        .await?
        .into_iter()
        .collect();
    for records in unsaid.chunks(RECORDS_LEN_MAX) {
        desk.log(&*circle, &said_erased(records)).await?;
        let now = desk.pipeline.now();
        store.erasure_logged(context, records, now).await?;
    }
    Ok(())
}

/// What a custodian says of records whose keys it destroyed.
#[must_use]
pub fn said_erased(records: &[RecordRef]) -> Body {
    Body::Erased {
        order: None,
        said_by: None,
        records: records.to_vec(),
    }
}

/// Orders the erasure of releases whose consents are revoked or over; each round looks at a part of
/// them.
///
/// # Errors
/// A store that does not answer.
pub async fn order_all(desk: &Desk) -> Result<(), PipelineError> {
    let mut rows = next_in(desk, ReleaseState::Published).await?;
    // One that could not be handed over whole may be out in part.
    rows.extend(next_in(desk, ReleaseState::Logged).await?);
    for row in rows {
        // What an endpoint said once may be taken back; an erasure is not.
        if let Some((reason, Certainty::Settled)) = ended(desk, &row).await? {
            let ordered = order(desk, &row, reason).await;
            rests_if_hindered(desk, &row, ordered, "an order to erase").await?;
        }
    }
    Ok(())
}

/// What could not be said now is tried again later: an exchange may be stopped for good.
async fn rests_if_hindered(
    desk: &Desk,
    row: &ReleaseRow,
    said: Result<(), PipelineError>,
    what: &str,
) -> Result<(), PipelineError> {
    if said.is_err() {
        let (store, now) = (&desk.pipeline.store, desk.pipeline.now());
        store.release_rests(row.logged_as, now).await?;
    }
    only_store(said, what)
}

/// How far it is certain that a consent has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Certainty {
    /// The chain said so once: nothing more is handed over.
    Said,
    /// It is known here, or the chain said so again long after.
    Settled,
}

/// Whether a consent that a release rests on has ended, by what is known here. A release ends with
/// the first of them; whoever still has a consent asks again.
pub(super) async fn ended(
    desk: &Desk,
    row: &ReleaseRow,
) -> Result<Option<(ErasureReason, Certainty)>, PipelineError> {
    let mut said = None;
    let (store, now) = (&desk.pipeline.store, desk.pipeline.now());
    let Some(Body::Released { based_on, .. }) = store.entry(row.logged_as).await?.map(|e| e.body)
    else {
        return Ok(None);
    };
    for consent in based_on {
        let Some(End {
            handle,
            not_after,
            overruled_at,
        }) = store.end_of_consent(consent).await?
        else {
            continue;
        };
        let elsewhere = store.revoked_elsewhere(handle).await?;
        let is_settled = elsewhere.is_some_and(|elsewhere| elsewhere.is_settled);
        if is_settled || store.has_revocation(handle).await? {
            return Ok(Some((ErasureReason::Revoked, Certainty::Settled)));
        }
        // What a thief granted nobody but the thief can revoke.
        if overruled_at.is_some() {
            return Ok(Some((ErasureReason::Overruled, Certainty::Settled)));
        }
        if not_after != UnixSeconds(0) && now >= not_after {
            return Ok(Some((ErasureReason::Expired, Certainty::Settled)));
        }
        said = said.or(elsewhere.map(|_| (ErasureReason::Revoked, Certainty::Said)));
    }
    Ok(said)
}

async fn order(desk: &Desk, row: &ReleaseRow, reason: ErasureReason) -> Result<(), PipelineError> {
    let says = Body::EraseOrdered {
        release: row.logged_as,
        reason,
    };
    // Neither keeps the order from the other: a circle that is stopped, an exchange that takes
    // nothing more.
    let in_exchange = say(desk, row.exchange, &says).await;
    let in_circle = say(desk, row.circle, &says).await?;
    let orders = Some((in_circle, in_exchange?));
    desk.pipeline
        .store
        .release_is(row.logged_as, ReleaseState::Ordered, orders)
        .await?;
    tracing::info!(release = %row.logged_as, ?reason, "erasure ordered");
    Ok(())
}

async fn say(desk: &Desk, context: ContextId, says: &Body) -> Result<EntryDigest, PipelineError> {
    let circle = desk.enter(context).await?;
    Ok(desk.log(&*circle, says).await?.digest())
}

/// Copies acknowledgements into the circles; each round looks at a part of what was ordered.
///
/// # Errors
/// A store that does not answer.
pub async fn acknowledge_all(desk: &Desk) -> Result<(), PipelineError> {
    let store = &desk.pipeline.store;
    for row in next_in(desk, ReleaseState::Ordered).await? {
        let Some((in_circle, in_exchange)) = row.orders else {
            continue;
        };
        let copied = async {
            if let Some(said_by) = acknowledgement(desk, &row, in_exchange).await? {
                let circle = desk.enter(row.circle).await?;
                let says = Body::Erased {
                    order: Some(in_circle),
                    said_by: Some(said_by),
                    records: Vec::new(),
                };
                desk.log(&*circle, &says).await?;
                let state = ReleaseState::Erased;
                store.release_is(row.logged_as, state, None).await?;
            }
            Ok(())
        };
        rests_if_hindered(desk, &row, copied.await, "an acknowledgement").await?;
    }
    Ok(())
}

/// The recipient's entry that answers an order, also in an exchange that was stopped since: the
/// recipient's own word, and nobody else's who got into it.
async fn acknowledgement(
    desk: &Desk,
    row: &ReleaseRow,
    order: EntryDigest,
) -> Result<Option<EntryDigest>, PipelineError> {
    let (store, says) = (&desk.pipeline.store, answer_to(order));
    let Some(recipient) = store.pinned_author(row.exchange).await? else {
        return Ok(None);
    };
    let answer = store.entry_saying(row.exchange, recipient, &says).await?;
    Ok(answer.map(|answer| answer.digest()))
}

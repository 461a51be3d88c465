//! Release: no key and no byte of a record leaves before its log entry is durable.
//!
//! Decided again with what the chain says, appended to the circle's log, read back from it, kept
//! here; then the same in the exchange; then, by calls that name those entries, records sealed to
//! the reply key. A crash anywhere leaves entries without keys, never keys without entries.
//!
//! A large record takes long to carry: of each release a round carries some parts, and the next
//! goes on, so that no release waits for another's. Right before its key leaves it is asked again
//! whether a consent has ended, or the key was destroyed. A record that cannot be handed over keeps
//! no other.

use std::collections::BTreeSet;

use medsync_protocol::audit::{Body, DenialReason, EntryDigest, RecordRef, Requested};
use medsync_protocol::ids::{SealKey, UnixSeconds};
use medsync_protocol::seal::{RecordKey, RecordVersion, SealError, SealedFor};

use super::answer::Asked;
use super::erase::Certainty;
use super::{Desk, erase, only_store};
use crate::parts::{self, OpenError};
use crate::pipeline::PipelineError;
use crate::source::{Circle, LogEntry, NewRelease, SourceError};
use crate::store::access::RequestState;
use crate::store::releases::{ReleaseRow, ReleaseState};

/// How many releases one round hands over.
const PUBLISHED_PER_ROUND: u32 = 16;
/// How many parts of large records one round carries for each of them: half a megabyte.
const PARTS_PER_ROUND: usize = 16;
/// How long one that was hindered rests.
const TRIED_AGAIN_AFTER_S: u64 = 10;
/// How long a release waits for a record that is not permitted any more, and of which it is not
/// settled that a consent ended: what an endpoint says once may be taken back.
const WAITS_S: u64 = 60 * 60;

/// Logs the release of everything that is permitted now and not released on this request yet.
pub(super) async fn release(asked: &Asked<'_>) -> Result<RequestState, PipelineError> {
    let (desk, store) = (asked.desk, &asked.desk.pipeline.store);
    let decided = desk.decide(asked.circle, &asked.requested).await?;
    let mut done: BTreeSet<RecordRef> = BTreeSet::new();
    let before = store.releases_for(asked.request).await?;
    for row in &before {
        done.extend(records_of(desk, row.logged_as).await?);
    }
    let due: Vec<RecordRef> = decided
        .records
        .keys()
        .filter(|record| !done.contains(record))
        .copied()
        .collect();
    if due.is_empty() && before.is_empty() {
        asked
            .deny(DenialReason::Withdrawn, &decided.denial.1)
            .await?;
        return Ok(RequestState::Denied);
    }
    for (records, based_on) in decided.shares(due) {
        let says = Body::Released {
            request: asked.asked_as,
            logged_as: None,
            records,
            based_on: based_on.into_iter().collect(),
        };
        let entry = desk.log(asked.circle, &says).await?;
        let row = ReleaseRow {
            logged_as: entry.digest(),
            request: asked.request,
            exchange: asked.exchange.context(),
            circle: asked.circle.context(),
            state: ReleaseState::Logged,
            orders: None,
        };
        store.keep_release(&row).await?;
    }
    Ok(RequestState::Answered)
}

/// The records of a RELEASED entry.
async fn records_of(desk: &Desk, entry: EntryDigest) -> Result<Vec<RecordRef>, PipelineError> {
    match desk.pipeline.store.entry(entry).await?.map(|e| e.body) {
        Some(Body::Released { records, .. }) => Ok(records),
        _ => Err(PipelineError::Broken(format!(
            "the store has no release {entry}; restore its backup"
        ))),
    }
}

/// Hands over whatever is logged and not handed over yet.
///
/// # Errors
/// A store that does not answer.
pub async fn publish_all(desk: &Desk) -> Result<(), PipelineError> {
    let store = &desk.pipeline.store;
    let due = desk.pipeline.now().0.saturating_sub(TRIED_AGAIN_AFTER_S);
    let due = UnixSeconds(due);
    for row in store.releases_due(due, PUBLISHED_PER_ROUND).await? {
        let now = desk.pipeline.now();
        store.release_tried(row.logged_as, now).await?;
        let published = match publish(desk, &row).await {
            // It goes on with the next round, behind those that were due before.
            Ok(Published::InPart) => store
                .release_tried(row.logged_as, due)
                .await
                .map_err(PipelineError::from),
            other => other.map(|_| ()),
        };
        only_store(published, "a release")?;
    }
    Ok(())
}

/// How much of a release was handed over.
enum Published {
    /// All of it.
    Whole,
    /// What there was room for in this round.
    InPart,
}

async fn publish(desk: &Desk, row: &ReleaseRow) -> Result<Published, PipelineError> {
    let store = &desk.pipeline.store;
    let requested = desk.requested(row.request).await?;
    let (exchange, circle) = (
        desk.enter(row.exchange).await?,
        desk.enter(row.circle).await?,
    );
    let logged = store
        .entry(row.logged_as)
        .await?
        .ok_or_else(|| PipelineError::Broken("a release without its entry".into()))?;
    crate::audit::read_back(&*circle, &logged).await?;
    let Body::Released {
        records, based_on, ..
    } = logged.body
    else {
        return Err(PipelineError::Broken("a release without its entry".into()));
    };
    let says = Body::Released {
        request: row.request,
        logged_as: Some(row.logged_as),
        records: records.clone(),
        based_on: based_on.clone(),
    };
    let entry = desk.log(&*exchange, &says).await?;
    // A daemon that was down for a while must not hand over what was revoked meanwhile.
    let decided = desk.decide(&*circle, &requested).await?;
    let handover = Handover {
        desk,
        circle: &*circle,
        exchange: &*exchange,
        requested: &requested,
        row,
        entry: &entry,
    };
    let done = store.handed_over(row.logged_as).await?;
    // By a consent that the entry names: it is what an end is looked for of.
    let is_permitted = |what: &RecordRef| {
        let permits = decided.records.get(what).into_iter().flatten();
        permits
            .into_iter()
            .any(|consent| based_on.contains(consent))
    };
    let are_denied = records
        .iter()
        .any(|what| !done.contains(what) && !is_permitted(what));
    let is_due = |what: &RecordRef| is_permitted(what) && !done.contains(what);
    let under_way = store.carried_parts(row.logged_as).await?;
    let (mut room, mut is_whole, mut hindered) = (PARTS_PER_ROUND, true, Ok(()));
    for what in records.into_iter().filter(is_due) {
        let carried = under_way.get(&what).copied();
        if room == 0 && carried.is_some() {
            is_whole = false;
            continue;
        }
        match handover.hand_over(what, carried, &mut room).await {
            Ok(HandedOver::Done) => store.keep_handed_over(row.logged_as, what).await?,
            Ok(HandedOver::UpTo(parts)) => {
                is_whole = false;
                store.keep_carried_parts(row.logged_as, what, parts).await?;
            }
            Err(PipelineError::Store(error)) => return Err(error.into()),
            Err(error) => hindered = hindered.and(Err(error)),
        }
    }
    if !are_denied {
        forget_denied(desk, row).await?;
    }
    hindered?;
    if are_denied && waits_for_denied(desk, row).await? {
        let why = "records of it are not permitted for now; it waits for them for an hour";
        return Err(PipelineError::Broken(why.into()));
    }
    if is_whole {
        store
            .release_is(row.logged_as, ReleaseState::Published, None)
            .await?;
        tracing::info!(track = %row.request, release = %row.logged_as, "released");
        Ok(Published::Whole)
    } else {
        Ok(Published::InPart)
    }
}

/// Under which name it is kept since when records of a release are not permitted.
fn denied_fact(row: &ReleaseRow) -> String {
    format!("denied:{}", row.logged_as)
}

async fn forget_denied(desk: &Desk, row: &ReleaseRow) -> Result<(), PipelineError> {
    let (store, fact) = (&desk.pipeline.store, denied_fact(row));
    if store
        .fact(&fact)
        .await?
        .is_some_and(|since| !since.is_empty())
    {
        store.state_fact(&fact, "").await?;
    }
    Ok(())
}

/// Whether a release waits for records that are not permitted for now; since when, it notes.
async fn waits_for_denied(desk: &Desk, row: &ReleaseRow) -> Result<bool, PipelineError> {
    if matches!(
        erase::ended(desk, row).await?,
        Some((_, Certainty::Settled))
    ) {
        return Ok(false);
    }
    let (store, now, fact) = (&desk.pipeline.store, desk.pipeline.now(), denied_fact(row));
    let since = store.fact(&fact).await?;
    let Some(since) = since.and_then(|since| since.parse().ok()) else {
        store.state_fact(&fact, &now.to_string()).await?;
        return Ok(true);
    };
    Ok(now.0.abs_diff(since) < WAITS_S)
}

/// What became of one record.
enum HandedOver {
    /// The exchange has it, or it is left out for good.
    Done,
    /// The exchange has so many of its parts.
    UpTo(usize),
}

/// What is handed over on one log entry.
struct Handover<'a> {
    desk: &'a Desk,
    circle: &'a dyn Circle,
    exchange: &'a dyn Circle,
    requested: &'a Requested,
    row: &'a ReleaseRow,
    entry: &'a LogEntry,
}

impl Handover<'_> {
    /// Seals one record to the reply key and brings it into the exchange, once all its parts are
    /// there; of those it brings as many as there is `room` for. One whose key was destroyed or
    /// does not open it is left out: there is nothing to release.
    ///
    /// # Errors
    /// Also if the payload has not arrived here: it is then done again.
    async fn hand_over(
        &self,
        what: RecordRef,
        carried: Option<usize>,
        room: &mut usize,
    ) -> Result<HandedOver, PipelineError> {
        let context = self.circle.context();
        let version = RecordVersion(what.version);
        let record = async { Ok(self.circle.record(what.record, Some(version)).await?) };
        let full = self.desk.step(context, record).await?;
        let store = &self.desk.pipeline.store;
        let Some(secret) = store.record_secret(context, what).await? else {
            tracing::warn!(record = %what.record, "a record has no key and is left out");
            return Ok(HandedOver::Done);
        };
        let Some(payload) = full.payload else {
            let why = format!("the payload of record {} is not here yet", what.record);
            return Err(PipelineError::Broken(why));
        };
        let place = |reader: SealKey, log| SealedFor {
            context,
            record: what.record,
            version,
            reader,
            log,
        };
        let broken = |error: SealError| PipelineError::Broken(format!("{}: {error}", what.record));
        let own = place(secret.public_key(), None);
        let key = match RecordKey::open(&secret, &own, &full.record.key_for_custodian) {
            Ok(key) => key,
            Err(error) => {
                tracing::error!(record = %what.record, %error, "a record is left out");
                return Ok(HandedOver::Done);
            }
        };
        // Its parts are read from the circle and written to the exchange: it is taken for the
        // circle's time, where most members are.
        let carry = self.carry(&key, &own, &payload, (carried, room));
        let outcome = self.desk.step(context, carry).await?;
        if let Some(outcome) = outcome {
            return Ok(outcome);
        }
        if erase::ended(self.desk, self.row).await?.is_some()
            || store.record_secret(context, what).await?.is_none()
        {
            let why = "a consent ended, or the key was destroyed, while it was carried";
            return Err(PipelineError::Broken(format!("{}: {why}", what.record)));
        }
        let reader = place(self.requested.reply_key, Some(self.row.logged_as));
        let mut random = self.desk.pipeline.random.lock().await;
        let sealed_key = key.seal(&reader, &mut &mut *random).map_err(broken)?;
        drop(random);
        let release = NewRelease {
            entry_seq: self.entry.entry.seq,
            entry: self.entry.digest(),
            circle: context,
            what,
            resource_type: full.record.resource_type,
            payload,
            sealed_key,
        };
        let put = async {
            match self.exchange.put_release(&release).await {
                Err(error) if is_no_place(&error) => {
                    let record = what.record;
                    tracing::error!(%record, %error, "the exchange has no place for it");
                    Ok(HandedOver::Done)
                }
                put => Ok(put.map(|_| HandedOver::Done)?),
            }
        };
        self.desk.step(self.exchange.context(), put).await
    }

    /// Brings parts of a record into the exchange; answers what becomes of the record in this
    /// round, or nothing if all its parts are there.
    async fn carry(
        &self,
        key: &RecordKey,
        place: &SealedFor,
        payload: &[u8],
        (carried, room): (Option<usize>, &mut usize),
    ) -> Result<Option<HandedOver>, PipelineError> {
        let (places, done) = ((self.circle, self.exchange), carried.unwrap_or_default());
        let record = place.record;
        match parts::carry(places, key, place, payload, (done, *room)).await {
            Ok(carried) => {
                *room = room.saturating_sub(carried.parts.saturating_sub(done));
                Ok((!carried.is_whole).then_some(HandedOver::UpTo(carried.parts)))
            }
            Err(OpenError::Source(error)) if is_no_place(&error) => {
                tracing::error!(%record, %error, "the exchange has no place for it");
                Ok(Some(HandedOver::Done))
            }
            Err(OpenError::Source(error)) => Err(error.into()),
            Err(error @ OpenError::NotHere(_)) => {
                Err(PipelineError::Broken(format!("{record}: {error}")))
            }
            Err(error) => {
                tracing::error!(%record, %error, "a record is left out");
                Ok(Some(HandedOver::Done))
            }
        }
    }
}

/// Whether an exchange will never take this: it is full, or somebody else's entry stands there.
pub(super) fn is_no_place(error: &SourceError) -> bool {
    matches!(error.refusal(), Some("full" | "taken"))
}

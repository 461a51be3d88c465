//! Ingest: what is new in a circle comes into the store.
//!
//! A circle whose state did not change costs a handful of small requests when its turn comes, and
//! nothing before (`quiet`). Else the whole walk is
//! read and compared with everything that was ever seen: new entries are taken in, revocations
//! first, and entries that vanished or were replaced stay in force here and raise an alarm. Once
//! in a while the walk is read whatever the state's hash says, because a hostile member can take
//! parts of the tree out of that hash.
//!
//! Nothing is noted as seen before it was taken in, so that a crash in between reads it again. A
//! round does a bounded part of a circle's work and leaves the rest to the next, a circle that is
//! slow rests for as long as the others had to wait for it, and one that fails rests longer each
//! time: nobody's circle keeps another's revocations waiting. Of a circle with more entries than a
//! party keeps, only revocations of consents that are known are taken in.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use medsync_protocol::audit::Body;
use medsync_protocol::consent::Commitment;
use medsync_protocol::ids::{AddressBytes, ContextId, ContextKind, UnixSeconds};
use medsync_protocol::signature::PublicKey;

mod keys;
mod quiet;
mod reading;
mod take;

use self::keys::{check_recipient, overrule};
use self::quiet::Quiet;
pub use self::reading::Readings;
use self::reading::{REST_S_MAX, Reading, Walk};
pub use self::take::rewritten_fact;
use self::take::{Taken, take_in, take_in_known_revocation};
use super::{Pipeline, PipelineError};
use crate::audit;
use crate::guard::{self, GuardError};
use crate::source::{
    Change, ChangeWalk, Circle, CircleState, Consent, Device, EntryBody, EntryKind, LogEntry,
    Record, SignedKeyChange, SourceError,
};
use crate::store::circles::{CircleRow, UnreadableCircle};
use crate::store::consents::ConsentRow;
use crate::store::releases::{ReleaseRow, ReleaseState};
use crate::store::revocations::Origin;
use crate::store::seen::Walked;

/// How many pages of a circle's walk one round reads.
const PAGES_PER_ROUND: usize = 50;
/// How long one round takes in entries of a circle, in seconds.
const CIRCLE_ROUND_S: u64 = 5;
/// How many entries of a circle one round takes in.
const ENTRIES_PER_ROUND: usize = 500;
/// How long a circle rests after it failed; doubles up to the other. In seconds.
const FAILED_REST_S: u64 = 1;
const FAILED_REST_S_MAX: u64 = 15;
/// How many times as long as it took a slow circle rests at most.
const SLOW_REST_TIMES_MAX: u64 = 4;
/// How many entries of one circle a party keeps: more than honest members write. Whoever deletes
/// and writes anew, again and again, stops the circle with it, and fills no store.
pub const SEEN_MAX: usize = 1 << 20;

/// How often a walk tries again what cannot be read for now.
const RETRIES_MAX: u32 = 32;

/// What came of a round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// How many circles have more to be read.
    pub unfinished: usize,
    /// How many circles could not be read.
    pub failed: usize,
}

/// Reads all circles of this party; one that fails does not keep the others waiting, nor does one
/// of which a row of the store does not open.
///
/// # Errors
/// A store that does not answer.
pub async fn ingest_all(pipeline: &Pipeline) -> Result<Round, PipelineError> {
    pipeline.store.mind_the_clock(pipeline.now()).await?;
    let mut readings = pipeline.readings.open.lock().await;
    let mut outcome = Round::default();
    let (rows, unreadable) = pipeline.store.readable_circles().await?;
    for UnreadableCircle { name, why } in unreadable {
        let why = why.to_string();
        if note_hindrance(pipeline, &name, Some(&why)).await? {
            tracing::error!(
                context = name,
                why,
                "a circle is left out: restore the backup"
            );
        }
        outcome.failed += 1;
    }
    let others = (rows.len() as u64).saturating_sub(1);
    let round = pipeline.readings.rounds.fetch_add(1, Ordering::Relaxed);
    let quiet = Quiet::look(pipeline, &rows, round).await;
    for (place, row) in rows.into_iter().enumerate() {
        let reading = readings.entry(row.context).or_default();
        let began = pipeline.now();
        if quiet.is_left((place, &row), reading, began) {
            continue;
        }
        if reading.rests_at(began) {
            if reading.failures == 0 {
                outcome.unfinished += 1;
            } else {
                outcome.failed += 1;
            }
            continue;
        }
        let ingested = ingest(pipeline, &row, reading).await;
        let now = pipeline.now();
        // Whoever is slow rests as long as the others waited, also if it fails in the end.
        let mut rest_s = match now.0.saturating_sub(began.0) {
            took_s if took_s < CIRCLE_ROUND_S => 0,
            took_s => took_s.saturating_mul(others.min(SLOW_REST_TIMES_MAX)),
        };
        let error = match ingested {
            Ok(is_finished) => {
                reading.failures = 0;
                outcome.unfinished += usize::from(!is_finished);
                None
            }
            Err(error) if error.is_of_the_store() => return Err(error),
            Err(error) => {
                tracing::warn!(context = %row.context, %error, "a circle could not be read");
                let failed_s = (FAILED_REST_S << reading.failures.min(16)).min(FAILED_REST_S_MAX);
                rest_s = rest_s.max(failed_s);
                reading.failures += 1;
                // A walk that makes no sense begins anew; any other goes on where it is.
                if matches!(error, PipelineError::Source(SourceError::Malformed { .. })) {
                    reading.walk = None;
                }
                outcome.failed += 1;
                Some(error.to_string())
            }
        };
        reading.rests_until = UnixSeconds(now.0.saturating_add(rest_s.min(REST_S_MAX)));
        note_hindrance(pipeline, &row.context.to_string(), error.as_deref()).await?;
    }
    Ok(outcome)
}

/// Keeps why a circle cannot be read, for people to see, until it can. Answers whether that is
/// news.
async fn note_hindrance(
    pipeline: &Pipeline,
    context: &str,
    why: Option<&str>,
) -> Result<bool, PipelineError> {
    let (name, why) = (unreadable_fact(context), why.unwrap_or_default());
    let known = pipeline.store.fact(&name).await?.unwrap_or_default();
    if known != why {
        pipeline.store.state_fact(&name, why).await?;
    }
    Ok(known != why)
}

/// Under which name it is kept why a circle cannot be read, empty if it can.
#[must_use]
pub fn unreadable_fact(context: &str) -> String {
    format!("unreadable:{context}")
}

/// Reads a circle, a part of it at most; answers whether that was all.
async fn ingest(
    pipeline: &Pipeline,
    row: &CircleRow,
    reading: &mut Reading,
) -> Result<bool, PipelineError> {
    let (circles, store) = (&*pipeline.circles, &pipeline.store);
    let (circle, is_stopped) = match guard::enter(circles, store, row, pipeline.now()).await {
        Ok(circle) => (circle, false),
        Err(GuardError::Alarm { why, .. } | GuardError::Suspect { why, .. }) => {
            if store.circle(row.context).await?.alarm.is_none() {
                tracing::warn!(context = %row.context, why, "a circle is not entered for now");
            } else if row.alarm.is_none() {
                tracing::error!(context = %row.context, why, "ALARM: a circle is stopped");
            }
            match guard::enter_for_revocations(circles, row).await? {
                Some(circle) => (circle, true),
                None => return Ok(true),
            }
        }
        Err(error) => return Err(error.into()),
    };
    if reading.walk.is_none() {
        // Read before the walk: what changes during it changes the hash, and is walked again.
        let state = circle.state_hash().await?;
        let is_recent = reading.was_walked_lately(pipeline.now());
        let known = if is_stopped {
            reading.read_while_stopped
        } else {
            row.state_hash
        };
        if known == Some(state) && is_recent {
            return Ok(true);
        }
        reading.walk = Some(Walk {
            state,
            is_thorough: !is_recent,
            changes: ChangeWalk::default(),
            unsettled: HashSet::new(),
            retries: 0,
            keys_changed: false,
        });
    }
    let Some(walk) = &mut reading.walk else {
        return Ok(true);
    };
    let began = pipeline.now();
    for _ in 0..PAGES_PER_ROUND {
        walk.changes.read(&*circle, 1).await?;
        if pipeline.now().0.saturating_sub(began.0) >= CIRCLE_ROUND_S {
            break;
        }
    }
    // Revocations first: nothing else is looked at before the whole walk is known.
    let which = match (walk.changes.is_complete(), is_stopped) {
        (false, _) => Which::Revocations,
        (true, true) => Which::WhatProvesItself,
        (true, false) => Which::All,
    };
    let mut took_all = take_in_new(pipeline, row, &*circle, walk, which).await?;
    while std::mem::take(&mut walk.keys_changed) {
        // What did not count by the keys of before is looked at again.
        let counts_by_keys = |kind| matches!(kind, EntryKind::KeyChange | EntryKind::Consent);
        walk.unsettled.retain(|entry| !counts_by_keys(entry.kind));
        took_all &= take_in_new(pipeline, row, &*circle, walk, which).await?;
    }
    if !walk.changes.is_complete() || !took_all {
        return Ok(false);
    }
    let mut carried = Vec::new();
    if !is_stopped {
        // By what the whole walk said of keys: they are pinned, and alarmed about.
        let people = people_of(pipeline, row, &*circle).await?;
        check_recipient(pipeline, row, &people).await?;
        carried = people.carried;
    }
    overrule(pipeline, row, &*circle).await?;
    let vanished = pipeline
        .store
        .finish_walk(
            row.context,
            Walked {
                entries: &walk.changes.entries,
                taken_in: (!is_stopped).then_some(walk.state),
                is_thorough: walk.is_thorough,
                carried: &carried,
            },
            pipeline.now(),
        )
        .await?;
    for entry in &vanished {
        tracing::error!(
            context = %row.context, kind = %entry.kind, key = %entry.key,
            "ALARM: an entry vanished from a circle; it stays in force here",
        );
    }
    let mut unsettled = walk.unsettled.iter();
    if !is_stopped
        && unsettled.all(|entry| entry.kind != EntryKind::Ticket)
        && let Ok(mut read) = pipeline.readings.read.lock()
    {
        read.insert(row.context);
    }
    reading.read_while_stopped = is_stopped.then_some(walk.state);
    reading.walk = None;
    reading.walked_at = Some(pipeline.now());
    Ok(true)
}

/// Whose logs this party brings back when entries vanish: its own, and those of custodian and
/// patient. Whoever else is in the circle has as many author keys as it likes, and would fill up
/// the shards of those who carry its entries by deleting them.
fn carried_logs(row: &CircleRow, state: &CircleState) -> Vec<PublicKey> {
    let enrolled = state.enrolments.iter();
    let own = state.ever_admitted();
    let own = own.filter(|device| device.admission.member == row.member);
    [state.custodian.author_key]
        .into_iter()
        .chain(enrolled.map(|found| found.enrolment.author_key))
        .chain(own.filter_map(|device| device.author_key))
        .collect()
}

/// Which entries of a walk are taken in.
#[derive(Clone, Copy)]
enum Which {
    /// While the walk is not known whole.
    Revocations,
    /// Of a circle that is stopped: revocations and key changes.
    WhatProvesItself,
    /// Everything.
    All,
}

/// Takes in what a walk shows and was not seen, revocations first; answers whether that was all.
async fn take_in_new(
    pipeline: &Pipeline,
    row: &CircleRow,
    circle: &dyn Circle,
    walk: &mut Walk,
    which: Which,
) -> Result<bool, PipelineError> {
    let walked = &walk.changes.entries;
    let mut unseen = pipeline.store.unseen(row.context, walked).await?;
    let is_full = unseen.known + unseen.new.len() > pipeline.seen_max;
    if is_full && matches!(which, Which::All) {
        let why = "somebody wrote more entries than are kept of one circle".to_owned();
        pipeline.store.raise_alarm(row.context, &why).await?;
        let context = row.context;
        return Err(GuardError::Alarm { context, why }.into());
    }
    for entry in &unseen.replaced {
        tracing::error!(
            context = %row.context, kind = %entry.kind, key = %entry.key,
            "ALARM: an entry was replaced; what it said stays in force here",
        );
    }
    let mut entries = unseen.replaced;
    entries.append(&mut unseen.new);
    entries.retain(|entry| {
        !walk.unsettled.contains(entry)
            && match which {
                Which::Revocations => entry.kind == EntryKind::Revocation,
                Which::WhatProvesItself => {
                    entry.kind == EntryKind::Revocation
                        || (entry.kind == EntryKind::KeyChange && !is_full)
                }
                Which::All => true,
            }
    });
    if entries.is_empty() {
        return Ok(true);
    }
    entries.sort_by_key(|entry| entry.kind != EntryKind::Revocation);
    let mut found = Found::default();
    let reading = (&mut *walk, is_full);
    let took_all = take_in_each(pipeline, row, circle, reading, entries, &mut found).await;
    // What was verified before something went wrong need not be verified again.
    keep_verified(pipeline, &mut found.verified).await?;
    for (entry, consent) in found.copies {
        let (store, said) = (&pipeline.store, consent.to_string());
        if store.is_kept(consent).await? {
            let seen = (&entry, Some(said.as_str()));
            store
                .note_seen(row.context, seen, &[], pipeline.now())
                .await?;
        } else {
            // The copy that is shown has yet to be read.
            walk.unsettled.insert(entry);
        }
    }
    took_all
}

/// What was found in entries and is not kept yet.
#[derive(Default)]
struct Found {
    /// Consents that were verified, with their entries.
    verified: Vec<(ConsentRow, Change)>,
    /// Entries with other copies of consents.
    copies: Vec<(Change, Commitment)>,
}

/// Takes in entries one after the other; answers whether that was all. The consents among them are
/// kept together: what else is taken in finds those before it kept.
async fn take_in_each(
    pipeline: &Pipeline,
    row: &CircleRow,
    circle: &dyn Circle,
    (walk, is_full): (&mut Walk, bool),
    entries: Vec<Change>,
    found: &mut Found,
) -> Result<bool, PipelineError> {
    let began = pipeline.now();
    let (mut people, nobody) = (None, People::default());
    let (mut read, mut took_all) = (0, true);
    for entry in entries {
        let has_taken_s = pipeline.now().0.saturating_sub(began.0);
        if read == ENTRIES_PER_ROUND || has_taken_s >= CIRCLE_ROUND_S {
            return Ok(false);
        }
        read += usize::from(is_taken_in(row, &entry));
        if entry.kind != EntryKind::Consent {
            keep_verified(pipeline, &mut found.verified).await?;
        }
        if entry.kind != EntryKind::Revocation && people.is_none() {
            people = Some(people_of(pipeline, row, circle).await?);
        }
        // Revocations count by their content alone.
        let counting = people.as_ref().unwrap_or(&nobody);
        let taken_in = match is_full {
            true => take_in_known_revocation(pipeline, row, circle, &entry).await,
            false => take_in(pipeline, row, circle, counting, &entry).await,
        };
        let taken = match taken_in {
            // The node will say more later; a while of it does not keep the walk from its end.
            Err(PipelineError::Source(error))
                if error.is_retry() && !is_node_down(&error) && walk.retries < RETRIES_MAX =>
            {
                tracing::warn!(context = %row.context, key = %entry.key, %error, "tried again");
                walk.retries += 1;
                took_all = false;
                continue;
            }
            // What one entry is must not keep the others out.
            Err(PipelineError::Source(error)) if !is_node_down(&error) => {
                tracing::warn!(context = %row.context, key = %entry.key, %error, "left out");
                Taken::Unsettled
            }
            other => other?,
        };
        let kind = entry.kind;
        let is_settled = matches!(taken, Taken::Settled(_));
        match taken {
            Taken::Consent(consent) => found.verified.push((*consent, entry)),
            Taken::Copy(consent) => found.copies.push((entry, consent)),
            Taken::Settled(content) if !is_full => {
                let (seen, carried) = ((&entry, content.as_deref()), &counting.carried);
                pipeline
                    .store
                    .note_seen(row.context, seen, carried, pipeline.now())
                    .await?;
            }
            Taken::Settled(_) | Taken::Unsettled => drop(walk.unsettled.insert(entry)),
        }
        if matches!(kind, EntryKind::KeyChange | EntryKind::Device) {
            // Whose key counts is asked anew.
            people = None;
        }
        walk.keys_changed |= is_settled && kind == EntryKind::KeyChange;
    }
    Ok(took_all)
}

async fn keep_verified(
    pipeline: &Pipeline,
    verified: &mut Vec<(ConsentRow, Change)>,
) -> Result<(), PipelineError> {
    if verified.is_empty() {
        return Ok(());
    }
    let (store, now) = (&pipeline.store, pipeline.now());
    store.keep_consents(&std::mem::take(verified), now).await?;
    Ok(())
}

/// Whose word counts in a circle.
#[derive(Default)]
struct People {
    /// The enrolled patient's keys through time.
    patient: Vec<PublicKey>,
    /// Those of them that the recovery key replaced.
    stolen: Vec<PublicKey>,
    /// The keys that sign log entries.
    authors: Vec<PublicKey>,
    /// The custodian's among them.
    custodian: Option<PublicKey>,
    /// Those whose logs this party brings back.
    carried: Vec<PublicKey>,
    /// When this store was restored from a backup, if it was.
    restored_at: Option<UnixSeconds>,
}

/// Who custodian and patient are. A circle with two different enrolments has no patient any more,
/// and says so once; one whose key changes contradict each other has none until the recovery key
/// ends that.
async fn people_of(
    pipeline: &Pipeline,
    row: &CircleRow,
    circle: &dyn Circle,
) -> Result<People, PipelineError> {
    let state = circle.circle().await?;
    let fact = frozen_fact(row.context);
    let has_two_enrolments = state.enrolments.len() > 1;
    if has_two_enrolments && pipeline.store.fact(&fact).await?.is_none() {
        let since = pipeline.now().to_string();
        pipeline.store.state_fact(&fact, &since).await?;
        tracing::error!(
            context = %row.context,
            "ALARM: somebody enrolled again with other keys; no consent of the circle counts",
        );
    }
    let authors = state.authors().map(|(key, _)| key).collect();
    let custodian = Some(state.custodian.author_key);
    let carried = carried_logs(row, &state);
    let nobody = |authors, carried| People {
        patient: Vec::new(),
        stolen: Vec::new(),
        authors,
        custodian,
        carried,
        restored_at: None,
    };
    let Some(party) = state.party() else {
        return Ok(nobody(authors, carried));
    };
    let enrolled = &party.enrolment;
    let history = pipeline.store.key_history(row.context, enrolled).await?;
    if history.is_frozen {
        return Ok(nobody(authors, carried));
    }
    pipeline
        .store
        .pin_party(row.context, enrolled, history.current())
        .await?;
    let stolen = history.keys.iter().copied();
    Ok(People {
        stolen: stolen
            .filter(|key| history.was_recovered_from(*key))
            .collect(),
        patient: history.keys,
        authors,
        custodian,
        carried,
        restored_at: pipeline.store.restored_at().await?.into_iter().max(),
    })
}

/// Under which name it is kept that a circle is frozen for good, and since when.
#[must_use]
pub fn frozen_fact(context: ContextId) -> String {
    format!("frozen:{context}")
}

/// Whether it is nothing about the entry: none can be read.
fn is_node_down(error: &SourceError) -> bool {
    matches!(
        error,
        SourceError::Unreachable { .. } | SourceError::Unauthorized
    )
}

/// Positions, and records by whoever wrote them, are read from the circle when somebody asks for
/// them.
fn is_taken_in(row: &CircleRow, entry: &Change) -> bool {
    let is_own_record = entry.kind == EntryKind::Record && row.member == row.custodian_member;
    !is_own_record
        && matches!(
            entry.kind,
            EntryKind::KeyChange
                | EntryKind::Record
                | EntryKind::Device
                | EntryKind::Pool
                | EntryKind::Ticket
                | EntryKind::Consent
                | EntryKind::Revocation
                | EntryKind::Log
                | EntryKind::Head
        )
}

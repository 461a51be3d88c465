//! Whether the patient's consents carry what the custodian answered.
//!
//! A custodian with other software can log, and release, what nothing permits. Whoever has the
//! circle's consents decides each answer in its log again, at the answer's own time. What a
//! custodian hands out past its log nobody in the circle sees.
//!
//! A consent may end here before the custodian can have heard of it: whoever is cut off revokes
//! all the same, and another member may keep a revocation from the custodian's node. So each end
//! has three times: as it was known here, since when the custodian was in reach, and since when
//! the chain or its own word shows that it has heard. An answer before the last accuses nobody;
//! one after the second is an alarm all the same, which says that it may be another's doing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use medsync_protocol::audit::{Body, RecordRef};
use medsync_protocol::consent::Commitment;
use medsync_protocol::decide::{Attributes, Candidate};
use medsync_protocol::ids::{ContextId, ContextKind, UnixSeconds};
use medsync_protocol::messages::Enrolment;
use medsync_protocol::seal::RecordVersion;
use medsync_protocol::signature::PublicKey;
use medsync_protocol::terms::Terms;
use medsync_protocol::tree::Root;

mod judge;
mod late;

use self::judge::{Consented, End, Judge, Reach, answer_in};
use super::verify::{Look, look};
use super::{AuditError, Fault};
use crate::guard;
use crate::pipeline::ingest::frozen_fact;
use crate::pipeline::{Pipeline, PipelineError};
use crate::source::{Circle, CircleState, LogEntry, StateHash, all_consents, all_records};
use crate::store::Store;
use crate::store::circles::CircleRow;

/// How long a circle rests after it was judged, in seconds: whoever writes into it all the time
/// keeps nobody busy.
const JUDGED_REST_S: u64 = 10;
/// After how long a circle is judged again though nothing in it changed, in seconds: what the chain
/// says of a consent is no part of it.
const JUDGED_AGAIN_S: u64 = 60 * 60;

/// Under which name it is kept that a custodian answered what no consent carries.
#[must_use]
pub fn answers_fact(context: ContextId) -> String {
    format!("answers:{context}")
}

/// Under which name it is kept that a log of a circle is broken.
#[must_use]
pub fn logs_fact(context: ContextId) -> String {
    format!("logs:{context}")
}

/// Under which name it is kept that a circle describes a record otherwise than it reads.
#[must_use]
pub fn described_fact(context: ContextId) -> String {
    format!("described:{context}")
}

/// How long a log may look broken while entries are on their way, in seconds.
const ON_THE_WAY_S: u64 = 60;

/// In which state each circle was judged, and when. A start without it judges each once.
#[derive(Debug, Default)]
pub struct Judged(Mutex<HashMap<ContextId, Judgement>>);

#[derive(Clone, Copy, Debug)]
struct Judgement {
    state: StateHash,
    at: UnixSeconds,
    logs: Logs,
}

impl Judged {
    fn of(&self, context: ContextId) -> Option<Judgement> {
        let judged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        judged.get(&context).copied()
    }

    fn note(&self, context: ContextId, judgement: Judgement) {
        let mut judged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        judged.insert(context, judgement);
    }
}

impl Judgement {
    fn is_due(&self, state: StateHash, now: UnixSeconds) -> bool {
        let rests_s = match (self.logs.is_settled, self.state == state) {
            (_, false) => JUDGED_REST_S,
            (false, true) => ON_THE_WAY_S,
            (true, true) => JUDGED_AGAIN_S,
        };
        now.0.abs_diff(self.at.0) >= rests_s
    }
}

/// Judges the custodian's answers in each circle of a patient that was read through since it was
/// judged last, and keeps what it finds for people to see.
///
/// # Errors
/// A store that does not answer. A circle that does not is judged later, and keeps no other.
pub async fn judge_all(pipeline: &Pipeline, judged: &Judged) -> Result<(), PipelineError> {
    let now = pipeline.now();
    // What is left out says the lane that reads it.
    let (rows, _) = pipeline.store.readable_circles().await?;
    for row in rows {
        let is_patients = row.kind == ContextKind::Circle && row.member != row.custodian_member;
        // What is not read to its end is not judged.
        let Some(state) = row
            .state_hash
            .filter(|_| is_patients && row.alarm.is_none())
        else {
            continue;
        };
        let before = judged.of(row.context);
        if before.is_some_and(|before| !before.is_due(state, now)) {
            continue;
        }
        // Who slept meanwhile has yet to hear of what is on its way.
        let awake = before.filter(|before| now.0.abs_diff(before.at.0) <= 2 * ON_THE_WAY_S);
        let logs = awake.map(|before| before.logs).unwrap_or_default();
        match judge(pipeline, &row, logs).await {
            Ok(logs) => judged.note(
                row.context,
                Judgement {
                    state,
                    at: now,
                    logs,
                },
            ),
            Err(error) if error.is_of_the_store() => return Err(error),
            Err(error) => {
                tracing::warn!(context = %row.context, %error, "answers are judged later")
            }
        }
    }
    Ok(())
}

/// What came of judging logs.
#[derive(Clone, Copy, Debug, Default)]
struct Logs {
    /// Since when they look broken, at each look.
    broken_since: Option<UnixSeconds>,
    /// Behind which root the next look goes on.
    behind: Option<Root>,
    /// Whether all was looked at, and what is broken is said; else it is looked at again soon.
    is_settled: bool,
}

/// Judges the logs by themselves. That one looks broken is said after a while: entries may be on
/// their way.
async fn judge_logs(
    pipeline: &Pipeline,
    row: &CircleRow,
    circle: &dyn Circle,
    before: Logs,
) -> Result<Logs, PipelineError> {
    let (store, now) = (&pipeline.store, pipeline.now());
    let unsettled = Logs {
        is_settled: false,
        ..before
    };
    if row.state_hash != Some(circle.state_hash().await?) {
        // What is there now is yet to be read.
        return Ok(unsettled);
    }
    let fact = logs_fact(row.context);
    let known = store.fact(&fact).await?.unwrap_or_default();
    match look(pipeline, row, &circle.circle().await?, before.behind).await? {
        Look::SoFar(root) => Ok(Logs {
            broken_since: None,
            behind: Some(root),
            is_settled: false,
        }),
        Look::Whole => {
            // A look that does not begin at the first root goes on where one was whole.
            if !known.is_empty() {
                store.state_fact(&fact, "").await?;
            }
            Ok(Logs {
                is_settled: true,
                ..Logs::default()
            })
        }
        // The next look is at the same roots.
        Look::Broken(why) => {
            let since = before.broken_since.unwrap_or(now);
            let is_settled = now.0.abs_diff(since.0) >= ON_THE_WAY_S;
            if is_settled && known != why {
                tracing::error!(context = %row.context, why, "ALARM: a log is broken");
                store.state_fact(&fact, &why).await?;
            }
            Ok(Logs {
                broken_since: Some(since),
                is_settled,
                ..before
            })
        }
    }
}

/// Judges a circle.
async fn judge(pipeline: &Pipeline, row: &CircleRow, before: Logs) -> Result<Logs, PipelineError> {
    let circle = guard::enter(&*pipeline.circles, &pipeline.store, row, pipeline.now()).await?;
    judge_answers(pipeline, row, &*circle).await?;
    // It may ask the chain, which keeps nobody from seeing what was released.
    match judge_logs(pipeline, row, &*circle, before).await {
        Err(error) if !error.is_of_the_store() => {
            tracing::warn!(context = %row.context, %error, "logs are judged later");
            Ok(Logs {
                is_settled: false,
                ..before
            })
        }
        logs => logs,
    }
}

async fn judge_answers(
    pipeline: &Pipeline,
    row: &CircleRow,
    circle: &dyn Circle,
) -> Result<(), PipelineError> {
    let store = &pipeline.store;
    let faults = check_answers(pipeline, circle).await?;
    let certain = faults.iter().filter(|fault| fault.is_certain()).count();
    let is_unproven = |fault: &&Fault| matches!(fault, Fault::Unproven { .. });
    let unproven = faults.iter().filter(is_unproven).count();
    let why = match (certain, unproven) {
        (0, 0) => String::new(),
        (0, some) => format!(
            "{some} answers of the custodian on consents that had ended, of which it shows no sign \
             of having heard: it keeps still, dates them before, or another member keeps it from \
             hearing: see \
             `medsync audit verify`"
        ),
        (some, _) => format!(
            "{some} answers of the custodian that no consent carries: see `medsync audit verify`"
        ),
    };
    if why.is_empty() && circle.circle().await?.party().is_none() {
        // Whoever froze the circle does not take back what was found before.
        return Ok(());
    }
    let fact = answers_fact(row.context);
    if store.fact(&fact).await?.unwrap_or_default() != why {
        store.state_fact(&fact, &why).await?;
        if !why.is_empty() {
            tracing::error!(context = %row.context, why, "ALARM: released, and not consented to");
        }
    }
    Ok(())
}

/// Checks every answer in the custodian's log that was ever seen here. In a circle that is frozen
/// there is no consent to what comes after that, and what came before is judged by the consents of
/// whoever was known here as the patient. One in which nobody enrolled is not judged.
///
/// # Errors
/// A store or a node that does not answer.
pub async fn check_answers(
    pipeline: &Pipeline,
    circle: &dyn Circle,
) -> Result<Vec<Fault>, AuditError> {
    let store = &pipeline.store;
    let state = circle.circle().await?;
    let (context, custodian) = (circle.context(), state.custodian.author_key);
    let log = store.log_as_seen(context, custodian).await?;
    let named: BTreeSet<RecordRef> = log
        .iter()
        .filter_map(|(entry, _)| answer_in(&entry.body))
        .flat_map(|(_, records, _)| records.iter().copied())
        .collect();
    if named.is_empty() || state.enrolments.is_empty() {
        return Ok(Vec::new());
    }
    let reach = Reach::of(&log);
    let frozen_at = store.fact(&frozen_fact(context)).await?;
    let frozen_at = frozen_at.and_then(|at| at.parse().ok()).map(UnixSeconds);
    let recipients: BTreeSet<PublicKey> = log
        .iter()
        .filter_map(|(entry, _)| recipient_of(entry))
        .collect();
    let consents = match known_party(store, &state).await? {
        Some(patient) => {
            Some(consents_of(pipeline, circle, (&patient, &recipients, &reach)).await?)
        }
        None => None,
    };
    let records = attributes_of(circle, named).await?;
    let judge = Judge {
        consents,
        records,
        frozen: reach.unproven(frozen_at),
    };
    let mut faults = judge.faults(&log);
    let made_by = late::made_by(pipeline, &state, &log, &judge).await?;
    for (seq, records) in judge.late(&log, |seq| made_by.of(seq)) {
        if made_by.is_known(seq) {
            faults.push(Fault::Unproven { seq, records });
        }
    }
    Ok(faults)
}

/// Who enrolled; of several, the one who was known here before the others came.
async fn known_party(store: &Store, state: &CircleState) -> Result<Option<Enrolment>, AuditError> {
    if let Some(party) = state.party() {
        return Ok(Some(party.enrolment));
    }
    let Some((member, key)) = store.pinned_party(state.context).await? else {
        return Ok(None);
    };
    for found in &state.enrolments {
        let enrolment = found.enrolment;
        let history = store.key_history(state.context, &enrolment).await?;
        if enrolment.member == member && history.keys.contains(&key) {
            return Ok(Some(enrolment));
        }
    }
    Ok(None)
}

fn recipient_of(entry: &LogEntry) -> Option<PublicKey> {
    match &entry.body {
        Body::Requested(requested) => Some(requested.recipient),
        _ => None,
    }
}

/// The consents to these recipients: those of the circle, and those that vanished from it.
async fn consents_of(
    pipeline: &Pipeline,
    circle: &dyn Circle,
    (patient, recipients, reach): (&Enrolment, &BTreeSet<PublicKey>, &Reach),
) -> Result<Vec<Consented>, AuditError> {
    let (context, store) = (circle.context(), &pipeline.store);
    let history = store.key_history(context, patient).await?;
    let key_ends = store.key_ends(context, patient).await?;
    let mut known: BTreeMap<Commitment, Candidate> = BTreeMap::new();
    for consent in all_consents(circle).await? {
        let counts = history.keys.contains(&consent.opening.patient_key)
            && recipients.contains(&consent.opening.grantee)
            && consent.is_signed(pipeline.registry);
        if counts {
            let candidate = Candidate {
                commitment: consent.commitment,
                terms: consent.terms,
                opening: consent.opening,
                revoked_at: consent.revoked_at,
                is_current: true,
            };
            known.insert(consent.commitment, candidate);
        }
    }
    for recipient in recipients {
        for kept in store.consents_to(context, *recipient).await? {
            let Ok(terms) = Terms::decode(&kept.terms) else {
                continue;
            };
            known.entry(kept.leaf.commitment).or_insert(Candidate {
                commitment: kept.leaf.commitment,
                terms,
                opening: kept.opening,
                revoked_at: None,
                is_current: true,
            });
        }
    }
    let mut consents = Vec::new();
    for candidate in known.into_values() {
        let of_key = |(key, _): &&(PublicKey, _)| *key == candidate.opening.patient_key;
        let key_ended = key_ends.iter().find(of_key).map(|(_, at)| *at);
        let end = store.end_of_consent(candidate.commitment).await?;
        let overruled = end.and_then(|end| end.overruled_at);
        consents.push(Consented {
            revoked: revoked(pipeline, &candidate, reach).await?,
            key_changed: reach.unproven(key_ended),
            overruled: reach.unproven(overruled),
            candidate,
        });
    }
    Ok(consents)
}

/// When a consent was revoked. The chain tells a custodian too, which may believe a block that is
/// as old as one may be here.
async fn revoked(
    pipeline: &Pipeline,
    candidate: &Candidate,
    reach: &Reach,
) -> Result<End, AuditError> {
    let (store, handle) = (&pipeline.store, candidate.opening.handle);
    let kept = store.revocation(handle).await?;
    let elsewhere = store.revoked_elsewhere(handle).await?;
    let landed = kept.as_ref().and_then(|kept| kept.landed);
    let on_chain = [landed, elsewhere].into_iter().flatten();
    // What an endpoint said once accuses nobody.
    let settled = on_chain.filter(|said| said.is_settled);
    let on_chain = settled.map(|said| said.revoked_at).min();
    let in_circle = kept.map(|kept| kept.seen_at);
    let by_block = |at: UnixSeconds| UnixSeconds(at.0.saturating_add(pipeline.block_age_s_max));
    // A time that is written in the circle is that of whoever wrote it down, and the secret is
    // everybody's by then: it would accuse of what was right.
    let known = [on_chain, in_circle].into_iter().flatten().min();
    let here = known.or(candidate.revoked_at);
    let ordered = here.and_then(|at| reach.ordered(candidate.commitment, at));
    Ok(End {
        here,
        reached: in_circle.and_then(|at| reach.reached(at)),
        heard: [on_chain.map(by_block), ordered]
            .into_iter()
            .flatten()
            .min(),
    })
}

/// What the records that were named are; none that is not in the circle.
async fn attributes_of(
    circle: &dyn Circle,
    mut named: BTreeSet<RecordRef>,
) -> Result<BTreeMap<RecordRef, Attributes>, AuditError> {
    let mut records = BTreeMap::new();
    for record in all_records(circle, None).await? {
        let name = RecordRef {
            record: record.record,
            version: record.version.0,
        };
        if named.remove(&name) {
            records.insert(name, record.attributes);
        }
    }
    // Earlier versions, of which only the last is listed.
    for name in named {
        let version = RecordVersion(name.version);
        match circle.record(name.record, Some(version)).await {
            Ok(full) => {
                records.insert(name, full.record.attributes);
            }
            Err(error) if error.refusal() == Some("unknown_record") => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(records)
}

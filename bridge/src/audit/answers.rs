//! Whether the patient's consents carry what the custodian answered.
//!
//! A custodian with other software can log, and release, what nothing permits. Whoever has the
//! circle's consents decides each answer in its log again, at the answer's own time. What a
//! custodian hands out past its log nobody in the circle sees.

use std::collections::{BTreeMap, BTreeSet};

use medsync_protocol::audit::{Body, EntryDigest, RecordRef, Requested};
use medsync_protocol::consent::{Commitment, Registry};
use medsync_protocol::decide::{Attributes, Candidate, Outcome, decide};
use medsync_protocol::ids::{ContextId, UnixSeconds};
use medsync_protocol::messages::Enrolment;
use medsync_protocol::seal::RecordVersion;
use medsync_protocol::signature::PublicKey;
use medsync_protocol::terms::Terms;

use super::{AuditError, Fault};
use crate::access::break_glass_code;
use crate::pipeline::ingest::frozen_fact;
use crate::preview::Question;
use crate::source::{Circle, CircleState, LogEntry, all_consents, all_records};
use crate::store::Store;

/// How long what a patient decides may be on its way to the custodian, and how far two clocks may
/// be apart, in seconds: an answer is carried if it was right now or this long before.
const ON_ITS_WAY_S: u64 = 10 * 60;
/// How long after the end of a consent its releases have to be ordered erased, in seconds of what
/// the custodian says: it may be down for a while, and whoever judges may have heard nothing since.
const ORDERED_WITHIN_S: u64 = 24 * 60 * 60;

/// A consent with what became of it.
struct Consented {
    candidate: Candidate,
    /// When its key was changed, if it was.
    key_changed_at: Option<UnixSeconds>,
}

/// Under which name it is kept that a custodian answered what no consent carries.
#[must_use]
pub fn answers_fact(context: ContextId) -> String {
    format!("answers:{context}")
}

/// Checks every answer in the custodian's log that was ever seen here. In a circle that is frozen
/// there is no consent to what comes after that, and what came before is judged by the consents of
/// whoever was known here as the patient. One in which nobody enrolled is not judged.
///
/// # Errors
/// A store or a node that does not answer.
pub async fn check_answers(
    store: &Store,
    circle: &dyn Circle,
    registry: Registry,
) -> Result<Vec<Fault>, AuditError> {
    let state = circle.circle().await?;
    let (context, custodian) = (circle.context(), state.custodian.author_key);
    let log = store.log_as_seen(context, custodian).await?;
    let frozen_at = store.fact(&frozen_fact(context)).await?;
    let frozen_at = frozen_at.and_then(|at| at.parse().ok()).map(UnixSeconds);
    let no_consent_since = frozen_at.map(|at| at.0.saturating_add(ON_ITS_WAY_S));
    let named: BTreeSet<RecordRef> = log
        .iter()
        .flat_map(|(entry, _)| records_of(&entry.body))
        .collect();
    if named.is_empty() || state.enrolments.is_empty() {
        return Ok(Vec::new());
    }
    let recipients: BTreeSet<PublicKey> = log
        .iter()
        .filter_map(|(entry, _)| recipient_of(entry))
        .collect();
    let consents = match known_party(store, &state).await? {
        Some(patient) => {
            let of = (&patient, registry, &recipients);
            Some(consents_of(store, circle, of).await?)
        }
        None => None,
    };
    let records = attributes_of(circle, named).await?;
    let judge = Judge {
        consents,
        records,
        no_consent_since,
    };
    Ok(judge.faults(&log))
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

/// What an answer names.
fn records_of(body: &Body) -> Vec<RecordRef> {
    match body {
        Body::Permitted { records, .. } | Body::Released { records, .. } => records.clone(),
        _ => Vec::new(),
    }
}

fn recipient_of(entry: &LogEntry) -> Option<PublicKey> {
    match &entry.body {
        Body::Requested(requested) => Some(requested.recipient),
        _ => None,
    }
}

/// The consents to these recipients: those of the circle, and those that vanished from it.
async fn consents_of(
    store: &Store,
    circle: &dyn Circle,
    (patient, registry, recipients): (&Enrolment, Registry, &BTreeSet<PublicKey>),
) -> Result<Vec<Consented>, AuditError> {
    let context = circle.context();
    let history = store.key_history(context, patient).await?;
    let key_ends = store.key_ends(context, patient).await?;
    let mut known: BTreeMap<Commitment, Candidate> = BTreeMap::new();
    for consent in all_consents(circle).await? {
        let counts = history.keys.contains(&consent.opening.patient_key)
            && recipients.contains(&consent.opening.grantee)
            && consent.is_signed(registry);
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
            known.entry(kept.commitment).or_insert(Candidate {
                commitment: kept.commitment,
                terms,
                opening: kept.opening,
                revoked_at: None,
                is_current: true,
            });
        }
    }
    let mut consents = Vec::new();
    for mut candidate in known.into_values() {
        let handle = candidate.opening.handle;
        let kept = store.revocation(handle).await?;
        // What an endpoint said once accuses nobody.
        let elsewhere = store.revoked_elsewhere(handle).await?;
        let elsewhere = elsewhere.filter(|elsewhere| elsewhere.is_settled);
        let times = [
            kept.as_ref().and_then(|kept| kept.revoked_at),
            kept.as_ref().map(|kept| kept.seen_at),
            elsewhere.map(|elsewhere| elsewhere.revoked_at),
        ];
        // A time that is written in the circle is that of whoever wrote it down, and the secret is
        // everybody's by then: it would accuse of what was right.
        let known = times.into_iter().flatten().min();
        candidate.revoked_at = known.or(candidate.revoked_at);
        let of_key = |(key, _): &&(PublicKey, _)| *key == candidate.opening.patient_key;
        let ended = key_ends.iter().find(of_key).map(|(_, at)| *at);
        consents.push(Consented {
            candidate,
            key_changed_at: ended,
        });
    }
    Ok(consents)
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

/// What answers are judged by.
struct Judge {
    /// The consents of the patient; nothing if nobody can say who that is.
    consents: Option<Vec<Consented>>,
    records: BTreeMap<RecordRef, Attributes>,
    /// There is no consent to what was seen after this, in unix seconds.
    no_consent_since: Option<u64>,
}

impl Judge {
    /// What is wrong with the answers of a log, whose entries come with the time at which they were
    /// first seen here.
    fn faults(&self, log: &[(LogEntry, UnixSeconds)]) -> Vec<Fault> {
        let mut requests: BTreeMap<EntryDigest, &Requested> = BTreeMap::new();
        let mut permitted: BTreeSet<EntryDigest> = BTreeSet::new();
        let mut erased: BTreeMap<RecordRef, UnixSeconds> = BTreeMap::new();
        let mut glass: BTreeSet<EntryDigest> = BTreeSet::new();
        let ordered: BTreeSet<EntryDigest> = log
            .iter()
            .filter_map(|(entry, _)| order_in(entry))
            .collect();
        let heard_until = log.iter().map(|(entry, _)| entry.entry.at).max();
        let heard_until = heard_until.unwrap_or(UnixSeconds(0));
        let mut faults = Vec::new();
        for (entry, seen_at) in log {
            let (seq, at) = (entry.entry.seq, entry.entry.at);
            match &entry.body {
                // With an order it is a recipient's, and of what was released.
                Body::Erased {
                    order: None,
                    records,
                    ..
                } => erased.extend(records.iter().map(|record| (*record, at))),
                Body::Requested(requested) => {
                    requests.insert(entry.digest(), requested);
                }
                Body::Denied { request, .. } => {
                    permitted.remove(request);
                }
                Body::BreakGlass { request, .. } => {
                    glass.insert(*request);
                }
                Body::Permitted {
                    request,
                    records,
                    based_on,
                    ..
                }
                | Body::Released {
                    request,
                    records,
                    based_on,
                    ..
                } => {
                    if matches!(entry.body, Body::Permitted { .. }) {
                        permitted.insert(*request);
                    } else if !ordered.contains(&entry.digest())
                        && self.is_over(based_on, heard_until)
                    {
                        faults.push(Fault::NotOrdered { seq });
                    }
                    let Some(requested) = requests.get(request) else {
                        faults.push(Fault::NotAsked { seq });
                        continue;
                    };
                    if !permitted.contains(request) {
                        faults.push(Fault::NotPermitted { seq });
                    }
                    if requested.purposes.contains(&break_glass_code()) && !glass.contains(request)
                    {
                        faults.push(Fault::SilentGlass { seq });
                    }
                    if at.0 > seen_at.0.saturating_add(ON_ITS_WAY_S) {
                        faults.push(Fault::Postdated { seq });
                    }
                    // One that was on its way at the erasure is left out when keys leave.
                    let was_erased = |name: &&RecordRef| {
                        let since = erased.get(*name);
                        since.is_some_and(|since| since.0.saturating_add(ON_ITS_WAY_S) <= at.0)
                    };
                    let gone: Vec<RecordRef> = records.iter().filter(was_erased).copied().collect();
                    if !gone.is_empty() {
                        faults.push(Fault::AfterErasure { seq, records: gone });
                    }
                    let answer = Answer {
                        requested,
                        based_on,
                        at,
                        seen_at: *seen_at,
                    };
                    let uncovered = self.uncovered(&answer, records);
                    if !uncovered.is_empty() {
                        faults.push(Fault::NotCovered {
                            seq,
                            records: uncovered,
                        });
                    }
                }
                _ => {}
            }
        }
        faults
    }

    /// The records that no consent which an answer names covers, at its time or when the custodian
    /// last can have heard of it. Of nobody's consents it is not said that they do not.
    fn uncovered(&self, answer: &Answer<'_>, records: &[RecordRef]) -> Vec<RecordRef> {
        let is_past = |since: u64| answer.seen_at.0 > since;
        if self.no_consent_since.is_some_and(is_past) {
            return records.to_vec();
        }
        let Some(consents) = &self.consents else {
            return Vec::new();
        };
        let question = Question::from(answer.requested);
        let earlier = UnixSeconds(answer.at.0.saturating_sub(ON_ITS_WAY_S));
        let standing = [answer.at, earlier].map(|at| {
            let stands = |consent: &Consented| Candidate {
                is_current: consent.key_changed_at.is_none_or(|changed| at < changed),
                ..consent.candidate.clone()
            };
            let candidates: Vec<Candidate> = consents.iter().map(stands).collect();
            (question.request(at), candidates)
        });
        let is_covered = |attributes: &Attributes| {
            question.asks_for(attributes)
                && standing.iter().any(|(request, candidates)| {
                    decide(request, attributes, candidates).is_ok_and(|decision| {
                        let mut rests_on = decision.based_on.iter();
                        decision.outcome == Outcome::Permit
                            && rests_on.any(|consent| answer.based_on.contains(consent))
                    })
                })
        };
        let is_uncovered = |name: &&RecordRef| !self.records.get(name).is_some_and(is_covered);
        records.iter().filter(is_uncovered).copied().collect()
    }

    /// Whether one of these consents ended so long ago that what was released on it should have
    /// been ordered erased.
    fn is_over(&self, based_on: &[Commitment], heard_until: UnixSeconds) -> bool {
        let due = UnixSeconds(heard_until.0.saturating_sub(ORDERED_WITHIN_S));
        let known = self.consents.iter().flatten();
        let mut known = known.map(|consent| &consent.candidate);
        known.any(|consent| {
            based_on.contains(&consent.commitment)
                && (consent.opening.is_over(due)
                    || consent.revoked_at.is_some_and(|revoked| revoked <= due))
        })
    }
}

/// What one answer says.
struct Answer<'a> {
    requested: &'a Requested,
    based_on: &'a [Commitment],
    at: UnixSeconds,
    seen_at: UnixSeconds,
}

/// Which release an order to erase is about.
fn order_in(entry: &LogEntry) -> Option<EntryDigest> {
    match entry.body {
        Body::EraseOrdered { release, .. } => Some(release),
        _ => None,
    }
}

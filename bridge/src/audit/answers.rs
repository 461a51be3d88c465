//! Whether the patient's consents carry what the custodian answered.
//!
//! A custodian with other software can release what nothing permits. It cannot do so unseen: no key
//! opens without its entry in the circle's log. Whoever has the circle's consents decides each
//! answer again, at its own time.

use std::collections::{BTreeMap, BTreeSet};

use medsync_protocol::audit::{Body, EntryDigest, RecordRef, Requested};
use medsync_protocol::consent::{Commitment, Registry};
use medsync_protocol::decide::{Attributes, Candidate, Outcome, decide};
use medsync_protocol::ids::{ContextId, UnixSeconds};
use medsync_protocol::seal::RecordVersion;
use medsync_protocol::signature::PublicKey;
use medsync_protocol::terms::Terms;

use super::{AuditError, Fault};
use crate::access::break_glass_code;
use crate::pipeline::ingest::frozen_fact;
use crate::pipeline::watch::revoked_by_others;
use crate::preview::Question;
use crate::source::{Circle, CircleState, LogEntry, all_consents, all_records};
use crate::store::Store;

/// How long what a patient decides may be on its way to the custodian, and how far two clocks may
/// be apart, in seconds: an answer is carried if it was right now or this long before.
const ON_ITS_WAY_S: u64 = 10 * 60;

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

/// Checks every answer in the custodian's log that was ever seen here. Of a circle that is frozen
/// only what came after that is judged, for which there is no consent; one in which nobody enrolled
/// is not judged.
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
    let mut log = store.log_as_seen(context, custodian).await?;
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
    if state.party().is_none() {
        // What each answer before that rested on can no longer be told.
        let is_judged = |entry: &LogEntry, seen_at: UnixSeconds| {
            records_of(&entry.body).is_empty() || no_consent_since.is_some_and(|at| seen_at.0 > at)
        };
        log.retain(|(entry, seen_at)| is_judged(entry, *seen_at));
    }
    let recipients: BTreeSet<PublicKey> = log
        .iter()
        .filter_map(|(entry, _)| recipient_of(entry))
        .collect();
    let consents = consents_of(store, circle, &state, registry, &recipients).await?;
    let records = attributes_of(circle, named).await?;
    Ok(faults(&log, &consents, &records, no_consent_since))
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
    state: &CircleState,
    registry: Registry,
    recipients: &BTreeSet<PublicKey>,
) -> Result<Vec<Consented>, AuditError> {
    let Some(patient) = state.party() else {
        return Ok(Vec::new());
    };
    let context = circle.context();
    let history = store.key_history(context, &patient.enrolment).await?;
    let key_ends = store.key_ends(context, &patient.enrolment).await?;
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
        let times = [
            kept.as_ref().and_then(|kept| kept.revoked_at),
            kept.as_ref().map(|kept| kept.seen_at),
            revoked_by_others(store, handle).await?,
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

/// What is wrong with the answers of a log, whose entries come with the time at which they were
/// first seen here; there is no consent to what was seen after `no_consent_since`, in unix seconds.
fn faults(
    log: &[(LogEntry, UnixSeconds)],
    consents: &[Consented],
    records: &BTreeMap<RecordRef, Attributes>,
    no_consent_since: Option<u64>,
) -> Vec<Fault> {
    let mut requests: BTreeMap<EntryDigest, &Requested> = BTreeMap::new();
    let mut permitted: BTreeSet<EntryDigest> = BTreeSet::new();
    let mut erased: BTreeMap<RecordRef, UnixSeconds> = BTreeMap::new();
    let mut glass: BTreeSet<EntryDigest> = BTreeSet::new();
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
            Body::Permitted { request, .. } | Body::Released { request, .. } => {
                if matches!(entry.body, Body::Permitted { .. }) {
                    permitted.insert(*request);
                }
                let Some(requested) = requests.get(request) else {
                    faults.push(Fault::NotAsked { seq });
                    continue;
                };
                if !permitted.contains(request) {
                    faults.push(Fault::NotPermitted { seq });
                }
                if requested.purposes.contains(&break_glass_code()) && !glass.contains(request) {
                    faults.push(Fault::SilentGlass { seq });
                }
                if at.0 > seen_at.0.saturating_add(ON_ITS_WAY_S) {
                    faults.push(Fault::Postdated { seq });
                }
                let is_past = no_consent_since.is_some_and(|since| seen_at.0 > since);
                let mut named = records_of(&entry.body);
                // One that was on its way at the erasure is left out when keys leave.
                let was_erased = |name: &&RecordRef| {
                    let since = erased.get(*name);
                    since.is_some_and(|since| since.0.saturating_add(ON_ITS_WAY_S) <= at.0)
                };
                let gone: Vec<RecordRef> = named.iter().filter(was_erased).copied().collect();
                if !gone.is_empty() {
                    faults.push(Fault::AfterErasure { seq, records: gone });
                }
                named.retain(|name| {
                    let attributes = records.get(name);
                    is_past || !attributes.is_some_and(|it| is_carried(requested, it, consents, at))
                });
                if !named.is_empty() {
                    faults.push(Fault::NotCovered {
                        seq,
                        records: named,
                    });
                }
            }
            _ => {}
        }
    }
    faults
}

/// Whether the consents permit a record now, or did when the custodian last can have heard of them.
fn is_carried(
    requested: &Requested,
    attributes: &Attributes,
    consents: &[Consented],
    at: UnixSeconds,
) -> bool {
    let earlier = UnixSeconds(at.0.saturating_sub(ON_ITS_WAY_S));
    [at, earlier].into_iter().any(|at| {
        let candidates: Vec<Candidate> = consents
            .iter()
            .map(|consent| Candidate {
                is_current: consent.key_changed_at.is_none_or(|changed| at < changed),
                ..consent.candidate.clone()
            })
            .collect();
        let request = Question::from(requested).request(at);
        decide(&request, attributes, &candidates)
            .is_ok_and(|decision| decision.outcome == Outcome::Permit)
    })
}

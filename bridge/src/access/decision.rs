//! What is decided now: over everything that was ever seen, with what the chain says.
//!
//! A consent that vanished from its circle stays in force here, also one that denies. What the
//! chain does not answer is not permitted: the question is asked again later.

use std::collections::{BTreeMap, BTreeSet};

use medsync_protocol::audit::{
    CONSENTS_LEN_MAX, DenialReason, RECORDS_LEN_MAX, RecordRef, Requested,
};
use medsync_protocol::codes::{Code, CodeSet};
use medsync_protocol::consent::Commitment;
use medsync_protocol::decide::{Candidate, Concept, Outcome, Request, decide};
use medsync_protocol::secrets::Handle;
use medsync_protocol::terms::Terms;

use super::Desk;
use crate::pipeline::PipelineError;
use crate::pipeline::watch::revoked_by_others;
use crate::source::{Circle, Record, all_consents, all_records};

/// What may be released.
pub(super) struct Decided {
    /// The records, by name, and the consents that each rests on.
    pub records: BTreeMap<RecordRef, Vec<Commitment>>,
    /// What the recipient must keep.
    pub obligations: CodeSet,
    /// Where nothing may be released: why, and what the denials rest on.
    pub denial: (DenialReason, BTreeSet<Commitment>),
}

/// What one log entry has room for: records, and the consents they rest on.
pub(super) type Share = (Vec<RecordRef>, BTreeSet<Commitment>);

impl Decided {
    /// What all the permits rest on.
    pub(super) fn all_consents(&self) -> BTreeSet<Commitment> {
        self.records.values().flatten().copied().collect()
    }

    /// These records in as many entries as they need.
    pub(super) fn shares(&self, records: impl IntoIterator<Item = RecordRef>) -> Vec<Share> {
        let mut shares: Vec<Share> = Vec::new();
        for record in records {
            let consents = self.records.get(&record).into_iter().flatten();
            let rests_on: BTreeSet<Commitment> = consents.copied().collect();
            match shares.last_mut() {
                Some((some, based_on))
                    if some.len() < RECORDS_LEN_MAX
                        && based_on.union(&rests_on).count() <= CONSENTS_LEN_MAX =>
                {
                    some.push(record);
                    based_on.extend(rests_on);
                }
                _ => shares.push((vec![record], rests_on)),
            }
        }
        shares
    }
}

impl Desk {
    /// Decides every record that a request asks for, at this moment.
    ///
    /// # Errors
    /// A store, node or chain that does not answer: nothing is then permitted.
    pub(super) async fn decide(
        &self,
        circle: &dyn Circle,
        requested: &Requested,
    ) -> Result<Decided, PipelineError> {
        let candidates = self.candidates(circle, requested).await?;
        let request = Request {
            recipient: requested.recipient,
            purposes: requested
                .purposes
                .as_slice()
                .iter()
                .map(|code| Concept(vec![code.clone()]))
                .collect(),
            understood: requested.understood.clone(),
            at: self.pipeline.now(),
        };
        let mut decided = Decided {
            records: BTreeMap::new(),
            obligations: CodeSet::default(),
            denial: (DenialReason::NoConsent, BTreeSet::new()),
        };
        let mut obligations: BTreeSet<Code> = BTreeSet::new();
        let erased = self
            .pipeline
            .store
            .erased_records(circle.context(), false)
            .await?;
        let latest = self
            .pipeline
            .store
            .latest_versions(circle.context())
            .await?;
        for record in all_records(circle, None).await? {
            if !is_asked_for(requested, &record) || erased.contains(&name_of(&record)) {
                continue;
            }
            // A circle that lost a version does not bring the one before it back.
            if latest
                .get(&record.record)
                .is_some_and(|version| record.version.0 < *version)
            {
                continue;
            }
            // A record that cannot be asked about is not released.
            let Ok(decision) = decide(&request, &record.attributes, &candidates) else {
                continue;
            };
            match decision.outcome {
                Outcome::Permit => {
                    obligations.extend(decision.obligations);
                    let mut based_on = decision.based_on;
                    based_on.sort_unstable();
                    // Each of them covers the record alone.
                    based_on.truncate(CONSENTS_LEN_MAX);
                    decided.records.insert(name_of(&record), based_on);
                }
                Outcome::Deny => {
                    decided.denial.0 = DenialReason::Denied;
                    decided.denial.1.extend(decision.based_on);
                }
                Outcome::NoConsent => {}
            }
        }
        decided.obligations = CodeSet::collect(obligations)
            .map_err(|error| PipelineError::Broken(format!("obligations: {error}")))?;
        Ok(decided)
    }

    /// Every consent to the recipient that counts, those that vanished too.
    async fn candidates(
        &self,
        circle: &dyn Circle,
        requested: &Requested,
    ) -> Result<Vec<Candidate>, PipelineError> {
        let (store, registry) = (&self.pipeline.store, self.pipeline.registry);
        let state = circle.circle().await?;
        let Some(patient) = state.party() else {
            return Ok(Vec::new());
        };
        let context = circle.context();
        let history = store.key_history(context, &patient.enrolment).await?;
        if history.is_frozen {
            return Ok(Vec::new());
        }
        if state.keys.iter().any(|key| !history.keys.contains(key)) {
            return Err(PipelineError::Broken(
                "a key change of the patient was not taken in yet; nothing is permitted".into(),
            ));
        }
        let mut known: BTreeMap<Commitment, Candidate> = BTreeMap::new();
        for consent in all_consents(circle).await? {
            let key = consent.opening.patient_key;
            let counts = consent.opening.grantee == requested.recipient
                && history.keys.contains(&key)
                && consent.is_signed(registry);
            // Under a key that was changed only what was seen before the change: whoever stole
            // the key would deny everything for ever.
            if counts
                && (key == history.current()
                    || store.opening_of(consent.commitment).await?.is_some())
            {
                known.insert(
                    consent.commitment,
                    Candidate {
                        commitment: consent.commitment,
                        terms: consent.terms,
                        opening: consent.opening,
                        revoked_at: consent.revoked_at,
                        is_current: false,
                    },
                );
            }
        }
        for kept in store.consents_to(context, requested.recipient).await? {
            let terms = Terms::decode(&kept.terms)
                .map_err(|error| PipelineError::Broken(error.to_string()))?;
            known.entry(kept.commitment).or_insert(Candidate {
                commitment: kept.commitment,
                terms,
                opening: kept.opening,
                revoked_at: None,
                is_current: false,
            });
        }
        let handles: Vec<Handle> = known.values().map(|known| known.opening.handle).collect();
        let on_chain = self.revoked_on_chain(&handles).await?;
        let now = self.pipeline.now();
        for candidate in known.values_mut() {
            let handle = candidate.opening.handle;
            let is_revoked = candidate.revoked_at.is_some()
                || on_chain.contains(&handle)
                || store.revocation(handle).await?.is_some()
                || revoked_by_others(store, handle).await?.is_some();
            // Revoked is revoked, whatever the time says: clocks differ.
            candidate.revoked_at = is_revoked.then_some(now);
            candidate.is_current = candidate.opening.patient_key == history.current();
        }
        Ok(known.into_values().collect())
    }

    async fn revoked_on_chain(
        &self,
        handles: &[Handle],
    ) -> Result<BTreeSet<Handle>, PipelineError> {
        /// How many handles the chain is asked for at once.
        const HANDLES_AT_ONCE: usize = 64;
        let mut revoked = BTreeSet::new();
        for some in handles.chunks(HANDLES_AT_ONCE) {
            let registry = self.pipeline.registry.registry;
            let (times, _) = self.pipeline.chain.revoked_at(registry, some).await?;
            let opened = some.iter().zip(times).filter(|(_, at)| at.is_some());
            revoked.extend(opened.map(|(handle, _)| *handle));
        }
        Ok(revoked)
    }
}

/// The name of a record's version.
pub(super) fn name_of(record: &Record) -> RecordRef {
    RecordRef {
        record: record.record,
        version: record.version.0,
    }
}

/// Whether a record is of a class that the request names, if it names any.
fn is_asked_for(requested: &Requested, record: &Record) -> bool {
    let classes = &record.attributes.classes;
    requested.classes.is_empty()
        || classes.iter().any(|concept| {
            let mut codings = concept.0.iter();
            codings.any(|code| requested.classes.contains(code))
        })
}

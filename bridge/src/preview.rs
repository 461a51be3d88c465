//! What a recipient would get now, record by record: one answer for releases and for previews.
//!
//! It is decided over everything that was ever seen here, with what the chain says. A consent that
//! vanished from its circle stays in force, also one that denies; and a record that was erased, or
//! of which a later version is gone, is not released whatever the consents say. A revocation counts
//! because it exists, whatever its time says: clocks differ. What the chain does not answer is not
//! permitted: the question is asked again later.
//!
//! A consent permits nothing before it was taken in here: what is released on it could not be
//! ordered erased.
//!
//! A patient's side knows what the circle says. Two things a custodian alone knows, and leaves a
//! record out for: that it lost a key without erasing it, and that a part of a large payload is not
//! on its node.

use std::collections::{BTreeMap, BTreeSet};

use medsync_protocol::audit::{RecordRef, Requested};
use medsync_protocol::codes::{Code, CodeSet, SET_LEN_MAX};
use medsync_protocol::consent::Commitment;
use medsync_protocol::decide::{
    Attributes, Candidate, Concept, Decision, Outcome, Request, decide,
};
use medsync_protocol::ids::{RecordId, UnixSeconds};
use medsync_protocol::seal::RecordVersion;
use medsync_protocol::secrets::Handle;
use medsync_protocol::signature::PublicKey;
use medsync_protocol::terms::Terms;

use tokio::task::yield_now;

pub use medsync_client::wire::Withheld;

use crate::audit;
use crate::pipeline::ingest::frozen_fact;
use crate::pipeline::{Pipeline, PipelineError};
use crate::source::{
    Circle, CircleState, Consent, Record, SourceResult, all_consents, all_records,
};
use crate::store::{Store, StoreError};

/// Who asks for which records, and for what.
#[derive(Clone, Debug)]
pub struct Question {
    /// The recipient's key, as in a consent's `grantee`.
    pub recipient: PublicKey,
    /// For what.
    pub purposes: CodeSet,
    /// Which classes of records; all if none is named.
    pub classes: CodeSet,
    /// The obligations that the recipient understands and will keep.
    pub understood: CodeSet,
}

impl From<&Requested> for Question {
    fn from(requested: &Requested) -> Self {
        Self {
            recipient: requested.recipient,
            purposes: requested.purposes.clone(),
            classes: requested.classes.clone(),
            understood: requested.understood.clone(),
        }
    }
}

impl Question {
    /// The same for `decide`, at a time.
    #[must_use]
    pub fn request(&self, at: UnixSeconds) -> Request {
        let purposes = self.purposes.as_slice().iter();
        Request {
            recipient: self.recipient,
            purposes: purposes.map(|code| Concept(vec![code.clone()])).collect(),
            understood: self.understood.clone(),
            at,
        }
    }

    /// Whether a record is of a class that is named, if any is.
    #[must_use]
    pub fn asks_for(&self, record: &Attributes) -> bool {
        self.classes.is_empty()
            || record.classes.iter().any(|concept| {
                let mut codings = concept.0.iter();
                codings.any(|code| self.classes.contains(code))
            })
    }
}

/// What would become of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The record.
    pub record: RecordId,
    /// Its latest version in the circle.
    pub version: u32,
    /// Its FHIR resource type.
    pub resource_type: String,
    /// What is decided, and why; nothing if it cannot be asked about, which is a denial.
    pub decision: Option<Decision>,
    /// What keeps it back whatever is decided.
    pub withheld: Option<Withheld>,
}

impl Line {
    /// Whether the recipient would get it.
    #[must_use]
    pub fn is_released(&self) -> bool {
        let decision = self.decision.as_ref();
        self.withheld.is_none()
            && decision.is_some_and(|decision| decision.outcome == Outcome::Permit)
    }

    /// The name of the record's version.
    #[must_use]
    pub fn what(&self) -> RecordRef {
        RecordRef {
            record: self.record,
            version: self.version,
        }
    }
}

/// What would become of each record that is asked for, as the patient's side can tell: what the
/// custodian said last is read first, and a payload that is not here is looked for.
///
/// # Errors
/// A store, node or chain that does not answer: nothing is then known.
pub async fn preview(
    pipeline: &Pipeline,
    circle: &dyn Circle,
    question: &Question,
) -> Result<Vec<Line>, PipelineError> {
    let custodian = circle.circle().await?.custodian.author_key;
    audit::catch_up_with(&pipeline.store, circle, custodian, pipeline.now()).await?;
    let mut lines = judge(pipeline, circle, question).await?;
    for line in &mut lines {
        if line.is_released() && !is_here(circle, line.what()).await? {
            line.withheld = Some(Withheld::NotHere);
        }
    }
    Ok(lines)
}

async fn is_here(circle: &dyn Circle, what: RecordRef) -> SourceResult<bool> {
    let version = RecordVersion(what.version);
    match circle.record(what.record, Some(version)).await {
        Ok(full) => Ok(full.payload.is_some()),
        Err(error) if error.refusal() == Some("unknown_record") => Ok(false),
        Err(error) => Err(error),
    }
}

/// Every obligation that the consents to a recipient name, those that vanished too, as far as a
/// request can say that they are understood.
///
/// # Errors
/// A store or a node that does not answer.
pub async fn obligations_on(
    store: &Store,
    circle: &dyn Circle,
    recipient: PublicKey,
) -> Result<CodeSet, PipelineError> {
    let state = circle.circle().await?;
    let mut terms: Vec<Terms> = not_taken_in(store, circle, &state)
        .await?
        .into_iter()
        .filter(|consent| consent.opening.grantee == recipient)
        .map(|consent| consent.terms)
        .collect();
    for kept in store.consents_to(circle.context(), recipient).await? {
        terms.extend(Terms::decode(&kept.terms));
    }
    let named: BTreeSet<Code> = terms
        .iter()
        .flat_map(Terms::rules)
        .flat_map(|rule| rule.obligations.as_slice())
        .cloned()
        .collect();
    CodeSet::collect(named.into_iter().take(SET_LEN_MAX))
        .map_err(|error| PipelineError::Broken(format!("obligations: {error}")))
}

/// What becomes of each record that is asked for, at this moment.
///
/// # Errors
/// A store, node or chain that does not answer: nothing is then permitted.
pub async fn judge(
    pipeline: &Pipeline,
    circle: &dyn Circle,
    question: &Question,
) -> Result<Vec<Line>, PipelineError> {
    let state = circle.circle().await?;
    let candidates = candidates(pipeline, circle, &state, question.recipient).await?;
    let kept = Kept::read(&pipeline.store, &state).await?;
    let records = all_records(circle, None).await?;
    let request = question.request(pipeline.now());
    let mut all = Vec::new();
    for some in records.chunks(DECIDED_AT_ONCE) {
        all.extend(lines(question, &request, &candidates, &kept, some));
        yield_now().await;
    }
    Ok(all)
}

/// How many records are decided before others have their turn.
const DECIDED_AT_ONCE: usize = 16;

fn lines(
    question: &Question,
    request: &Request,
    candidates: &[Candidate],
    kept: &Kept,
    records: &[Record],
) -> Vec<Line> {
    let line = |record: &Record| {
        let RecordVersion(version) = record.version;
        let what = RecordRef {
            record: record.record,
            version,
        };
        Line {
            record: record.record,
            version,
            resource_type: record.resource_type.clone(),
            decision: decide(request, &record.attributes, candidates).ok(),
            withheld: kept.withholds(what),
        }
    };
    let asked_for = |record: &&Record| question.asks_for(&record.attributes);
    records.iter().filter(asked_for).map(line).collect()
}

/// What is known here of a circle's records beyond what the circle shows.
#[derive(Default)]
struct Kept {
    erased: BTreeSet<RecordRef>,
    latest: BTreeMap<RecordId, u32>,
    /// At the custodian's: what it has keys to, and whether that is of its resource's name of now.
    keyed: Option<BTreeMap<RecordRef, bool>>,
}

impl Kept {
    async fn read(store: &Store, state: &CircleState) -> Result<Self, StoreError> {
        let context = state.context;
        let mut erased = store.erased_records(context, false).await?;
        erased.extend(audit::erased_by(store, context, state.custodian.author_key).await?);
        let mut latest = store.latest_versions(context).await?;
        for (record, version) in store.seen_versions(context).await? {
            let known = latest.entry(record).or_default();
            *known = version.max(*known);
        }
        let row = store.circle(context).await?;
        let keyed = match row.member == row.custodian_member {
            true => Some(store.keyed_records(context).await?),
            false => None,
        };
        Ok(Self {
            erased,
            latest,
            keyed,
        })
    }

    fn withholds(&self, what: RecordRef) -> Option<Withheld> {
        let latest = self.latest.get(&what.record);
        let keyed = self.keyed.as_ref().map(|keyed| keyed.get(&what));
        if self.erased.contains(&what) {
            Some(Withheld::Erased)
        } else if latest.is_some_and(|latest| what.version < *latest) || keyed == Some(Some(&false))
        {
            Some(Withheld::LaterVersionGone)
        } else if keyed == Some(None) {
            Some(Withheld::NoKey)
        } else {
            None
        }
    }
}

/// Every consent to a recipient that counts, those that vanished too.
async fn candidates(
    pipeline: &Pipeline,
    circle: &dyn Circle,
    state: &CircleState,
    recipient: PublicKey,
) -> Result<Vec<Candidate>, PipelineError> {
    let (store, context) = (&pipeline.store, circle.context());
    let Some(patient) = state.party() else {
        return Ok(Vec::new());
    };
    let history = store.key_history(context, &patient.enrolment).await?;
    // A circle that was frozen once stays so, also if the second enrolment vanishes.
    if history.is_frozen || store.fact(&frozen_fact(context)).await?.is_some() {
        return Ok(Vec::new());
    }
    if state.keys.iter().any(|key| !history.keys.contains(key)) {
        return Err(PipelineError::Broken(
            "a key change of the patient was not taken in yet; nothing is permitted".into(),
        ));
    }
    let mut known: BTreeMap<Commitment, Candidate> = BTreeMap::new();
    for consent in not_taken_in(store, circle, state).await? {
        // A signature costs about a millisecond; others have their turn between them.
        yield_now().await;
        let key = consent.opening.patient_key;
        let counts = consent.opening.grantee == recipient
            && history.keys.contains(&key)
            && consent.is_signed(pipeline.registry);
        // Under a key that may have been stolen only what was seen before the change: the thief
        // would deny everything for ever. What another earlier key signed forbids what it forbade.
        if counts
            && (!history.was_recovered_from(key) || store.knows_consent(consent.commitment).await?)
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
    for kept in store.consents_to(context, recipient).await? {
        let terms =
            Terms::decode(&kept.terms).map_err(|error| PipelineError::Broken(error.to_string()))?;
        known.entry(kept.leaf.commitment).or_insert(Candidate {
            commitment: kept.leaf.commitment,
            terms,
            opening: kept.opening,
            revoked_at: None,
            is_current: false,
        });
    }
    let handles: Vec<Handle> = known.values().map(|known| known.opening.handle).collect();
    let on_chain = revoked_on_chain(pipeline, &handles).await?;
    for candidate in known.values_mut() {
        let handle = candidate.opening.handle;
        let is_revoked = candidate.revoked_at.is_some()
            || on_chain.contains(&handle)
            || store.has_revocation(handle).await?
            || store.revoked_elsewhere(handle).await?.is_some();
        // Before any time that a request may be decided at: clocks are set back, too.
        candidate.revoked_at = is_revoked.then_some(UnixSeconds(0));
        candidate.is_current = candidate.opening.patient_key == history.current()
            && store.knows_consent(candidate.commitment).await?;
    }
    Ok(known.into_values().collect())
}

/// The consents that a circle shows, if there may be one, or a revocation, that was not taken in
/// yet. All others are in the store, verified: a circle with thousands of consents costs no more to
/// decide about than one with a few.
async fn not_taken_in(
    store: &Store,
    circle: &dyn Circle,
    state: &CircleState,
) -> Result<Vec<Consent>, PipelineError> {
    let taken_in = store.circle(circle.context()).await?.consents_digest;
    if taken_in == Some(state.consents_digest) {
        return Ok(Vec::new());
    }
    Ok(all_consents(circle).await?)
}

async fn revoked_on_chain(
    pipeline: &Pipeline,
    handles: &[Handle],
) -> Result<BTreeSet<Handle>, PipelineError> {
    /// How many handles the chain is asked for at once.
    const HANDLES_AT_ONCE: usize = 64;
    let mut revoked = BTreeSet::new();
    for some in handles.chunks(HANDLES_AT_ONCE) {
        let registry = pipeline.registry.registry;
        let (times, block) = pipeline.chain.revoked_at(registry, some).await?;
        pipeline.check_recent(block)?;
        let opened = some.iter().zip(times).filter(|(_, at)| at.is_some());
        revoked.extend(opened.map(|(handle, _)| *handle));
    }
    Ok(revoked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::EntryKey;
    use medsync_protocol::consent::Opening;
    use medsync_protocol::felt::Felt;
    use medsync_protocol::ids::{AddressBytes, ContextId, MemberId, Nonce, Salt, Sha256Digest};
    use medsync_protocol::terms::{Provision, ProvisionKind, TERMS_VERSION};

    const NOW: UnixSeconds = UnixSeconds(100);

    fn concept(code: &str) -> Concept {
        Concept(vec![Code::new("system", code)])
    }

    fn record(number: u8, codes: Vec<Concept>) -> Record {
        let record = RecordId([number; 32]);
        Record {
            key: EntryKey([number; 32]),
            record,
            version: RecordVersion(1),
            resource_type: "Observation".into(),
            attributes: Attributes {
                classes: vec![concept("Observation")],
                codes,
                record: Some(record),
                ..Attributes::default()
            },
            payload_sha256: Sha256Digest([0; 32]),
            payload_bytes: 0,
            key_for_patient: Vec::new(),
            key_for_custodian: Vec::new(),
            recorded_at: UnixSeconds(0),
        }
    }

    fn candidate(revoked_at: Option<UnixSeconds>) -> Candidate {
        let codes = CodeSet::collect([Code::new("system", "heart")]).expect("short");
        Candidate {
            commitment: Commitment::from_felt(Felt::ONE),
            terms: Terms {
                version: TERMS_VERSION,
                nonce: Nonce([0; 32]),
                context: ContextId([0; 32]),
                custodian_member: MemberId([0; 32]),
                custodian_address: AddressBytes([0; 32]),
                policy_uri: String::new(),
                policy_sha256: Sha256Digest([0; 32]),
                provision: Provision {
                    codes,
                    ..Provision::everything(ProvisionKind::Permit)
                },
                exceptions: Vec::new(),
            },
            opening: Opening {
                patient_key: PublicKey::from_felt(Felt::ONE),
                grantee: PublicKey::from_felt(Felt::TWO),
                not_before: UnixSeconds(0),
                not_after: UnixSeconds(0),
                handle: Handle::from_felt(Felt::ONE),
                salt: Salt::from_felt(Felt::ONE),
            },
            revoked_at,
            is_current: true,
        }
    }

    fn question() -> Question {
        Question {
            recipient: PublicKey::from_felt(Felt::TWO),
            purposes: CodeSet::collect([Code::new("system", "research")]).expect("short"),
            classes: CodeSet::default(),
            understood: CodeSet::default(),
        }
    }

    fn released(
        question: &Question,
        candidates: &[Candidate],
        kept: &Kept,
        records: &[Record],
    ) -> Vec<RecordId> {
        lines(question, &question.request(NOW), candidates, kept, records)
            .iter()
            .filter(|line| line.is_released())
            .map(|line| line.record)
            .collect()
    }

    #[test]
    fn exactly_what_is_covered_would_be_released() {
        let records = [
            record(1, vec![concept("heart")]),
            record(2, vec![concept("lung")]),
            record(3, Vec::new()),
            record(4, vec![Concept(Vec::new())]),
        ];
        let released = |candidates: &[Candidate], question: &Question| {
            released(question, candidates, &Kept::default(), &records)
        };
        let all = [candidate(None)];
        assert_eq!(released(&all, &question()), [RecordId([1; 32])]);
        assert!(released(&[], &question()).is_empty());
        assert!(released(&[candidate(Some(NOW))], &question()).is_empty());
        let other = Question {
            recipient: PublicKey::from_felt(Felt::THREE),
            ..question()
        };
        assert!(released(&all, &other).is_empty());
        let other_class = Question {
            classes: CodeSet::collect([Code::new("system", "Condition")]).expect("short"),
            ..question()
        };
        assert!(released(&all, &other_class).is_empty());
    }

    #[test]
    fn what_was_erased_or_lost_its_later_version_is_withheld() {
        let records: Vec<Record> = (1..=3)
            .map(|at| record(at, vec![concept("heart")]))
            .collect();
        let [first, second, third] = [1, 2, 3].map(|at| RecordId([at; 32]));
        let what = |record, version| RecordRef { record, version };
        let kept = Kept {
            // Of the third, another version.
            erased: [what(first, 1), what(third, 2)].into(),
            latest: [(second, 2), (third, 1)].into(),
            keyed: None,
        };
        let all = [candidate(None)];
        assert_eq!(released(&question(), &all, &kept, &records), [third]);
        let said = lines(&question(), &question().request(NOW), &all, &kept, &records);
        let withheld: Vec<_> = said.iter().map(|line| line.withheld).collect();
        let expected = [
            Some(Withheld::Erased),
            Some(Withheld::LaterVersionGone),
            None,
        ];
        assert_eq!(withheld, expected);
    }
}

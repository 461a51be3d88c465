//! What a release holds: what its preview said, whatever the circumstances, and what is covered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use medsync::access::recipient::Opened;
use medsync::audit;
use medsync::pipeline::ingest;
use medsync::pipeline::{Pipeline, PipelineError};
use medsync::preview::{Question, Withheld, obligations_on, preview};
use medsync::seams::system_random;
use medsync::source::{Circle, Consent, EntryKind};
use medsync_protocol::audit::{Body, EntryDigest, RecordRef, Requested};
use medsync_protocol::codes::{Code, CodeSet, SortedSet};
use medsync_protocol::consent::SignedGrant;
use medsync_protocol::decide::{Attributes, Candidate, Outcome, decide};
use medsync_protocol::ids::{RecordId, UnixSeconds};
use medsync_protocol::signature::SecretKey;
use medsync_protocol::terms::{Provision, ProvisionKind, Terms};

use super::super::chain::FakeChain;
use super::super::circle::{CONTEXT, Refuses, custodian_author, recovery};
use super::super::faults::{Fault, Faults, Plan};
use super::super::keys::change;
use super::super::{START, anchorer, consent_to, patient, revocation_of, sign_between, sign_terms};
use super::records::{add_described, concept, first_version, observation, resource};
use super::{Study, exchange_row_of_recipient, researcher};

/// Later than any round of these tests.
const MUCH_LATER: UnixSeconds = UnixSeconds(START + 1_000_000);
/// The record to which something happens; there are three, from 0.
pub(super) const ODD: u8 = 1;

fn codes(system: &str, code: &str) -> CodeSet {
    CodeSet::collect([Code::new(system, code)]).expect("one short code")
}

fn other_key() -> SecretKey {
    SecretKey::from_scalar(&[4; 32]).expect("a scalar")
}

pub(super) fn just_the_odd_one() -> SortedSet<RecordId> {
    SortedSet::collect([RecordId([ODD; 32])]).expect("one")
}

/// A consent to the researcher with other terms than everything.
pub(super) fn consent_with(number: u64, change: impl FnOnce(&mut Terms)) -> (Consent, SignedGrant) {
    let recipient = researcher().public_key();
    let (mut consent, _) = consent_to(recipient, &patient(), number, CONTEXT, anchorer());
    change(&mut consent.terms);
    sign_terms(recipient, &patient(), number, consent.terms)
}

/// Everything is permitted but one record.
fn but_for_the_odd_one(terms: &mut Terms) {
    terms.exceptions.push(Provision {
        records: just_the_odd_one(),
        ..Provision::everything(ProvisionKind::Deny)
    });
}

/// What the researcher asks: everything for research; it understands these obligations.
pub(super) fn question(understood: CodeSet) -> Question {
    Question {
        recipient: researcher().public_key(),
        purposes: codes("act", "HRESCH"),
        classes: codes("types", "Observation"),
        understood,
    }
}

/// What is different from a consent to everything.
#[derive(Clone, Copy, Debug)]
enum Case {
    Nothing,
    NoConsent,
    ExceptionDenies,
    ExceptionPermits,
    AnotherConsentDenies,
    SeveralConsents,
    Expired,
    NotYet,
    Revoked,
    RevokedOnChainAlone,
    KeyChanged,
    DeniedBeforeTheKeyChanged,
    ExceptedBeforeTheKeyChanged,
    DeniedByAStolenKey,
    Erased,
    LaterVersionGone,
    PayloadMissing,
    ObligationNotUnderstood,
    ObligationUnderstood,
    ObligationVanished,
    DenialVanished,
    Frozen,
}

/// Each with the records that are released.
const CASES: [(Case, &[u8]); 22] = [
    (Case::Nothing, &[0, 1, 2]),
    (Case::NoConsent, &[]),
    (Case::ExceptionDenies, &[0, 2]),
    (Case::ExceptionPermits, &[1]),
    (Case::AnotherConsentDenies, &[0, 2]),
    (Case::SeveralConsents, &[0, 1, 2]),
    (Case::Expired, &[]),
    (Case::NotYet, &[]),
    (Case::Revoked, &[]),
    (Case::RevokedOnChainAlone, &[]),
    (Case::KeyChanged, &[]),
    (Case::DeniedBeforeTheKeyChanged, &[0, 2]),
    (Case::ExceptedBeforeTheKeyChanged, &[0, 2]),
    (Case::DeniedByAStolenKey, &[0, 1, 2]),
    (Case::Erased, &[0, 2]),
    (Case::LaterVersionGone, &[0, 2]),
    (Case::PayloadMissing, &[0, 2]),
    (Case::ObligationNotUnderstood, &[]),
    (Case::ObligationUnderstood, &[0, 1, 2]),
    (Case::ObligationVanished, &[0, 1, 2]),
    (Case::DenialVanished, &[0, 2]),
    (Case::Frozen, &[]),
];

/// A study with the patient's own side of it.
struct Sides {
    study: Study,
    patients: Pipeline,
    _home: tempfile::TempDir,
}

impl Sides {
    /// A consent that covers nothing brings the recipient the patient's pseudonym.
    async fn begin() -> Self {
        let nothing = consent_with(1, |terms| {
            terms.provision.classes = codes("types", "Nothing");
        });
        let mut study = Study::begin_with(Vec::new(), nothing).await;
        study.settle().await;
        let (patients, home) = study.patients().await;
        Self {
            study,
            patients,
            _home: home,
        }
    }

    /// Both sides take in what the circle shows.
    async fn settle(&mut self) {
        self.study.settle().await;
        ingest::ingest_all(&self.patients).await.expect("read");
    }

    fn grant(&self, number: u64, change: impl FnOnce(&mut Terms)) -> SignedGrant {
        let (consent, signed) = consent_with(number, change);
        self.study.world.circle.add_consent(consent);
        signed
    }

    fn grant_between(&self, times: (UnixSeconds, UnixSeconds)) {
        let recipient = researcher().public_key();
        let (all, _) = consent_with(2, |_| ());
        let (consent, _) = sign_between(times, recipient, &patient(), 2, all.terms);
        self.study.world.circle.add_consent(consent);
    }

    /// A denial of one record, by a consent of its own.
    fn deny_the_odd_one(&self) {
        self.grant(3, |terms| {
            terms.provision.kind = ProvisionKind::Deny;
            terms.provision.records = just_the_odd_one();
        });
    }

    async fn arrange(&mut self, case: Case) {
        match case {
            Case::NoConsent => {}
            Case::ExceptionDenies => {
                self.grant(2, but_for_the_odd_one);
            }
            Case::ExceptionPermits => {
                self.grant(2, |terms| {
                    terms.provision.kind = ProvisionKind::Deny;
                    let odd = Provision {
                        kind: ProvisionKind::Permit,
                        records: just_the_odd_one(),
                        ..terms.provision.clone()
                    };
                    terms.exceptions.push(odd);
                });
            }
            Case::Expired => {
                self.grant_between((UnixSeconds(0), MUCH_LATER));
                self.settle().await;
                let clock = &self.study.world.clock;
                clock.0.store(MUCH_LATER.0, Ordering::SeqCst);
            }
            Case::NotYet => self.grant_between((MUCH_LATER, UnixSeconds(0))),
            Case::ObligationNotUnderstood
            | Case::ObligationUnderstood
            | Case::ObligationVanished => {
                self.grant(2, |terms| terms.provision.obligations = codes("s", "duty"));
                if matches!(case, Case::ObligationVanished) {
                    self.settle().await;
                    self.study.world.circle.forget(EntryKind::Consent);
                }
            }
            _ => {
                let signed = self.grant(2, |_| ());
                self.change(case, &signed).await;
            }
        }
        self.settle().await;
    }

    /// What comes after, or beside, a consent to everything.
    async fn change(&mut self, case: Case, signed: &SignedGrant) {
        let circle = self.study.world.circle.clone();
        match case {
            Case::AnotherConsentDenies => self.deny_the_odd_one(),
            Case::SeveralConsents => {
                self.grant(3, |terms| terms.provision.records = just_the_odd_one());
            }
            Case::Revoked => circle.add_revocation(revocation_of(signed)),
            Case::RevokedOnChainAlone => {
                let handle = signed.secrets.handle();
                let chain = &self.study.world.chain;
                chain.revoke_past_everybody(handle, UnixSeconds(START));
            }
            Case::KeyChanged => {
                self.settle().await;
                let change = change(&patient(), &other_key(), 0, &patient());
                circle.change_key(&change, 1).await.expect("taken");
            }
            // In one walk, which shows changes of keys before consents.
            Case::DeniedBeforeTheKeyChanged
            | Case::ExceptedBeforeTheKeyChanged
            | Case::DeniedByAStolenKey => {
                self.settle().await;
                let signer = match case {
                    Case::DeniedByAStolenKey => recovery(),
                    _ => patient(),
                };
                let change = change(&patient(), &other_key(), 0, &signer);
                circle.change_key(&change, 1).await.expect("taken");
                match case {
                    Case::ExceptedBeforeTheKeyChanged => drop(self.grant(3, but_for_the_odd_one)),
                    _ => self.deny_the_odd_one(),
                }
                let (recipient, anew) = (researcher().public_key(), consent_with(4, |_| ()).0);
                let (anew, _) = sign_terms(recipient, &other_key(), 4, anew.terms);
                circle.add_consent(anew);
            }
            Case::Erased => self.erase_the_odd_one().await,
            Case::LaterVersionGone => {
                let later = RecordRef {
                    version: 2,
                    ..first_version(ODD)
                };
                let payload = resource(ODD);
                let world = &self.study.world;
                add_described(world, later, observation(), payload.as_bytes()).await;
                self.settle().await;
                circle.lose_record(later);
            }
            Case::PayloadMissing => circle.lose_payload(RecordId([ODD; 32])),
            Case::DenialVanished => {
                self.deny_the_odd_one();
                self.settle().await;
                circle.forget(EntryKind::Consent);
            }
            Case::Frozen => {
                self.settle().await;
                circle.enrol_again(other_key().public_key());
            }
            _ => {}
        }
    }

    /// As `medsync hospital erase`.
    async fn erase_the_odd_one(&self) {
        let (store, now) = (&self.study.world.pipeline.store, UnixSeconds(START));
        let erased = Some(RecordId([ODD; 32]));
        store
            .erase_records(CONTEXT, erased, now)
            .await
            .expect("erased");
        let says = Body::Erased {
            order: None,
            said_by: None,
            records: vec![first_version(ODD)],
        };
        let (author, mut random) = (custodian_author(), system_random());
        audit::append(store, CONTEXT, &author, &says, now, &mut random)
            .await
            .expect("kept");
    }

    /// What the recipient says that it will keep.
    async fn understood(&self, case: Case) -> CodeSet {
        if !matches!(case, Case::ObligationUnderstood | Case::ObligationVanished) {
            return CodeSet::default();
        }
        let (store, circle) = (&self.patients.store, &self.study.world.circle);
        let all = obligations_on(store, circle, researcher().public_key()).await;
        let all = all.expect("read");
        assert_eq!(all, codes("s", "duty"));
        all
    }

    /// What the patient's side says of each record.
    async fn previewed(&self, understood: CodeSet) -> BTreeMap<RecordRef, Option<Withheld>> {
        let (circle, question) = (&self.study.world.circle, question(understood));
        let lines = preview(&self.patients, circle, &question).await;
        let lines = lines.expect("an answer");
        let kept_back = lines.iter().filter(|line| line.withheld.is_some());
        let given = lines.iter().filter(|line| line.is_released());
        given
            .chain(kept_back)
            .map(|line| (line.what(), line.withheld))
            .collect()
    }
}

impl Study {
    /// What the recipient opens of what was released on a request.
    async fn opened(&self, request: EntryDigest) -> BTreeMap<RecordRef, Vec<u8>> {
        let row = exchange_row_of_recipient();
        let opened = self.recipient.open(&row, request).await.expect("read");
        opened
            .into_iter()
            .filter_map(|(release, opened)| match opened {
                Opened::File(file) => Some((release.what, std::fs::read(file).expect("there"))),
                Opened::Not(_) => None,
            })
            .collect()
    }
}

#[tokio::test]
async fn a_preview_says_what_is_released_then_in_all_circumstances() {
    for (case, expected) in CASES {
        let mut sides = Sides::begin().await;
        sides.arrange(case).await;
        let understood = sides.understood(case).await;
        let previewed = sides.previewed(understood.clone()).await;
        let withheld: Vec<Withheld> = previewed.values().flatten().copied().collect();
        let why = match case {
            Case::Erased => vec![Withheld::Erased],
            Case::LaterVersionGone => vec![Withheld::LaterVersionGone],
            Case::PayloadMissing => vec![Withheld::NotHere],
            _ => Vec::new(),
        };
        assert_eq!(withheld, why, "{case:?}");
        let given: BTreeSet<RecordRef> = previewed
            .into_iter()
            .filter_map(|(what, withheld)| withheld.is_none().then_some(what))
            .collect();
        let expected = expected.iter().copied().map(first_version);
        let expected: BTreeSet<RecordRef> = expected.collect();
        assert_eq!(given, expected, "{case:?}");
        let keeps = |requested: &mut Requested| requested.understood = understood;
        let request = sides.study.ask("HRESCH", keeps).await;
        sides.study.settle().await;
        let opened = sides.study.opened(request).await;
        let released: BTreeSet<RecordRef> = opened.into_keys().collect();
        assert_eq!(released, given, "{case:?}: not what was previewed");
    }
}

#[tokio::test]
async fn hostile_endpoint_does_not_answer_and_a_preview_says_nothing() {
    let mut sides = Sides::begin().await;
    sides.arrange(Case::Nothing).await;
    assert_eq!(sides.previewed(CodeSet::default()).await.len(), 3);
    let silent = Plan {
        operation: "revoked_at",
        call: 1,
        fault: Fault::Failed,
    };
    let faults = Faults::planned(vec![silent]);
    sides.patients.chain = Arc::new(FakeChain::new(faults));
    let question = question(CodeSet::default());
    let answer = preview(&sides.patients, &sides.study.world.circle, &question).await;
    assert!(matches!(answer, Err(PipelineError::Chain(_))), "{answer:?}");
}

const DAY: UnixSeconds = UnixSeconds(150);

/// Every mix of class, codes, label and date, from number 10 on.
fn mixed_records() -> Vec<(u8, Attributes)> {
    let (heart, lung) = (concept("codes", "heart"), concept("codes", "lung"));
    let of_code = [
        vec![],
        vec![heart.clone()],
        vec![lung.clone()],
        vec![heart, lung.clone()],
        vec![lung, concept("codes", "liver")],
    ];
    let of_label = [vec![], vec!["N"], vec!["R"], vec!["N", "R"]];
    let of_date = [None, Some(DAY), Some(UnixSeconds(DAY.0 + 1_000))];
    let mut records = Vec::new();
    for class in ["Observation", "Condition"] {
        for codes in &of_code {
            for labels in &of_label {
                for data_date in of_date {
                    let number = 10 + records.len() as u8;
                    let labels = labels.iter().map(|label| concept("labels", label));
                    let attributes = Attributes {
                        classes: vec![concept("types", class)],
                        codes: codes.clone(),
                        labels: labels.collect(),
                        record: Some(RecordId([number; 32])),
                        data_date,
                        ..Attributes::default()
                    };
                    records.push((number, attributes));
                }
            }
        }
    }
    records
}

#[tokio::test]
async fn a_request_for_a_class_gets_the_set_that_decide_permits_and_each_as_it_was() {
    let by_kind = consent_with(1, |terms| {
        let both = [Code::new("codes", "heart"), Code::new("codes", "lung")];
        terms.provision.codes = CodeSet::collect(both).expect("two");
        terms.provision.data_period = Some((100, 200));
        terms.exceptions.push(Provision {
            labels: codes("labels", "R"),
            ..Provision::everything(ProvisionKind::Deny)
        });
    });
    let records = mixed_records();
    let plain = |attributes: &Attributes| {
        attributes.codes.is_empty() && attributes.labels == [concept("labels", "N")]
    };
    let named: Vec<RecordId> = records
        .iter()
        .filter(|(_, attributes)| plain(attributes))
        .filter_map(|(_, attributes)| attributes.record)
        .collect();
    let by_name = consent_with(2, |terms| {
        terms.provision.records = SortedSet::collect(named).expect("some");
    });
    let candidates: Vec<Candidate> = [&by_kind.0, &by_name.0]
        .into_iter()
        .map(|consent| Candidate {
            commitment: consent.commitment,
            terms: consent.terms.clone(),
            opening: consent.opening,
            revoked_at: None,
            is_current: true,
        })
        .collect();
    let mut study = Study::begin_with(Vec::new(), by_kind).await;
    study.world.circle.add_consent(by_name.0);
    for (number, attributes) in &records {
        let what = first_version(*number);
        let payload = resource(*number);
        add_described(&study.world, what, attributes.clone(), payload.as_bytes()).await;
    }
    study.settle().await;
    let observations = codes("types", "Observation");
    let asked = question(CodeSet::default()).request(UnixSeconds(START));
    let is_permitted = |attributes: &Attributes| {
        let decision = decide(&asked, attributes, &candidates).expect("a question");
        decision.outcome == Outcome::Permit
    };
    let permitted = records.iter().filter(|(_, it)| is_permitted(it));
    let (expected, other_class): (Vec<_>, Vec<_>) =
        permitted.partition(|(_, it)| it.classes == [concept("types", "Observation")]);
    // By code heart, lung or both, within the period and labelled N alone; and by name.
    assert_eq!(expected.len(), 3 + 3);
    assert_eq!(other_class.len(), 3 + 3, "permitted, and not asked for");
    let request = study
        .ask("HRESCH", |requested| requested.classes = observations)
        .await;
    study.settle().await;
    let expected: BTreeMap<RecordRef, Vec<u8>> = expected
        .into_iter()
        .map(|(number, _)| (first_version(*number), resource(*number).into_bytes()))
        .collect();
    assert_eq!(study.opened(request).await, expected);
    let out: BTreeSet<RecordRef> = study.exchange.released().iter().map(|r| r.what).collect();
    let expected: BTreeSet<RecordRef> = expected.into_keys().collect();
    assert_eq!(out, expected, "no other key is out");
}

/// Of a circle whose consents were all taken in none is read again; one that was not yet taken in
/// is.
#[tokio::test]
async fn hostile_denial_that_was_not_taken_in_yet_counts_all_the_same() {
    let mut sides = Sides::begin().await;
    sides.arrange(Case::Nothing).await;
    let (pipeline, circle) = (sides.patients.clone(), sides.study.world.circle.clone());
    let permitted = async || {
        let question = question(CodeSet::default());
        let lines = preview(&pipeline, &circle, &question).await?;
        Ok::<_, PipelineError>(lines.iter().filter(|line| line.is_released()).count())
    };
    circle.refuse(Refuses::Consents);
    assert_eq!(permitted().await.expect("from the store"), 3);
    sides.deny_the_odd_one();
    assert!(permitted().await.is_err(), "the circle is not asked");
    circle.refuse(Refuses::Nothing);
    assert_eq!(permitted().await.expect("an answer"), 2);
    sides.settle().await;
    circle.refuse(Refuses::Consents);
    assert_eq!(permitted().await.expect("from the store"), 2);
}

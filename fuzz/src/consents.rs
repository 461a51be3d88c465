//! Receipts, terms, and what `decide` meets.

use std::sync::LazyLock;

use medsync_protocol::codes::{Code, CodeSet};
use medsync_protocol::consent::{Commitment, Opening};
use medsync_protocol::decide::{Attributes, Candidate, Concept, Outcome, Request, decide};
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{Salt, UnixSeconds};
use medsync_protocol::receipt::{ChainFacts, RECEIPT_BYTES_MAX, Receipt};
use medsync_protocol::secrets::Handle;
use medsync_protocol::signature::PublicKey;
use medsync_protocol::terms::{Provision, ProvisionKind, Terms};
use medsync_protocol::verdict::Verdict;
use serde::Deserialize;

/// A receipt that a patient signed and whose leaf is in its batch.
static GENUINE: LazyLock<Receipt> = LazyLock::new(|| {
    let json = include_bytes!("../corpus/receipt/genuine.json");
    Receipt::parse(json).expect("the example is a receipt")
});
/// A chain on which the genuine receipt is valid.
const CHAIN: ChainFacts = ChainFacts {
    anchored_at: Some(UnixSeconds(900)),
    revoked_at: None,
    block_time: UnixSeconds(u64::MAX),
};
const NOW: UnixSeconds = UnixSeconds(1_000);

/// A receipt. Nothing but the genuine one counts as signed and included under its root.
///
/// # Panics
/// If something does not hold that must.
#[must_use]
pub fn receipt(bytes: &[u8]) -> bool {
    let Ok(read) = Receipt::parse(bytes) else {
        return false;
    };
    // What people read may be longer than what was read, and is then refused; never cut.
    if let Ok(json) = read.to_json() {
        assert!(json.len() <= RECEIPT_BYTES_MAX);
        assert_eq!(Receipt::parse(json.as_bytes()).as_ref(), Ok(&read));
    }
    let facts = read.facts(&CHAIN).expect("terms that were read");
    let judged = read.judge(&CHAIN, NOW).expect("a time before the block");
    if judged == Verdict::Valid {
        assert!(facts.is_signed && facts.is_included && read.opening.is_current(NOW));
    }
    let genuine = &*GENUINE;
    if facts.is_included && (read.root, read.anchorer) == (genuine.root, genuine.anchorer) {
        assert_eq!(read.terms, genuine.terms);
        assert_eq!(read.opening, genuine.opening);
        assert_eq!(read.signature, genuine.signature);
        assert_eq!(read.proof, genuine.proof);
        assert!(!facts.is_signed || read.registry == genuine.registry);
    }
    true
}

/// The borsh of terms, which has one spelling, and what these terms decide.
///
/// # Panics
/// If something does not hold that must.
#[must_use]
pub fn terms(bytes: &[u8]) -> bool {
    let Ok(read) = Terms::decode(bytes) else {
        return false;
    };
    assert_eq!(read.encode().as_deref(), Ok(bytes));
    let json = serde_json::to_vec(&read).expect("terms are JSON");
    let again: Terms = serde_json::from_slice(&json).expect("terms in JSON");
    assert_eq!(again, read);
    // Whoever asks for just what a rule names is answered by that rule, unless another one speaks.
    let (request, resource) = asked_for(&read.provision);
    let outcome = decided(&read, &request, &resource);
    if read.exceptions.is_empty() {
        let expected = match read.provision.kind {
            ProvisionKind::Permit => Outcome::Permit,
            ProvisionKind::Deny => Outcome::Deny,
        };
        assert!(outcome.is_none_or(|outcome| outcome == expected));
    }
    for exception in &read.exceptions {
        let (request, resource) = asked_for(exception);
        let outcome = decided(&read, &request, &resource);
        if exception.kind == ProvisionKind::Deny {
            assert!(outcome.is_none_or(|outcome| outcome == Outcome::Deny));
        }
    }
    true
}

/// A request for a resource under terms, all of it JSON.
#[derive(Deserialize)]
struct Question {
    terms: Terms,
    purposes: Vec<Concept>,
    understood: CodeSet,
    resource: Attributes,
}

/// What may stand in a resource, under any terms.
///
/// # Panics
/// If something does not hold that must.
#[must_use]
pub fn decide_any(bytes: &[u8]) -> bool {
    let Ok(question) = serde_json::from_slice::<Question>(bytes) else {
        return false;
    };
    let request = Request {
        recipient: grantee(),
        purposes: question.purposes,
        understood: question.understood,
        at: NOW,
    };
    decided(&question.terms, &request, &question.resource).is_some()
}

fn grantee() -> PublicKey {
    PublicKey::from_felt(Felt::TWO)
}

fn concepts(codes: &CodeSet) -> Vec<Concept> {
    let one = |code: &Code| Concept(vec![code.clone()]);
    codes.as_slice().iter().map(one).collect()
}

/// The request and the resource that a rule names, and no more.
fn asked_for(rule: &Provision) -> (Request, Attributes) {
    let any = || vec![Concept(vec![Code::new("s", "c")])];
    let or_any = |codes: &CodeSet| match concepts(codes) {
        none if none.is_empty() => any(),
        some => some,
    };
    let request = Request {
        recipient: grantee(),
        purposes: or_any(&rule.purposes),
        understood: rule.obligations.clone(),
        at: NOW,
    };
    let resource = Attributes {
        classes: or_any(&rule.classes),
        codes: concepts(&rule.codes),
        labels: concepts(&rule.labels),
        authors: rule.authors.as_slice().to_vec(),
        record: rule.records.as_slice().first().copied(),
        data_date: rule.data_period.map(|(from, _)| UnixSeconds(from)),
    };
    (request, resource)
}

/// What a consent with these terms decides; nothing of a question that is none.
fn decided(terms: &Terms, request: &Request, resource: &Attributes) -> Option<Outcome> {
    let opening = Opening {
        grantee: grantee(),
        handle: Handle::from_felt(Felt::THREE),
        not_before: UnixSeconds(0),
        not_after: UnixSeconds(0),
        patient_key: PublicKey::from_felt(Felt::ONE),
        salt: Salt::from_felt(Felt::ONE),
    };
    let consent = |terms: &Terms, number: u64| Candidate {
        commitment: Commitment::from_felt(Felt::from(number)),
        terms: terms.clone(),
        opening,
        revoked_at: None,
        is_current: true,
    };
    let given = consent(terms, 1);
    let decision = decide(request, resource, std::slice::from_ref(&given)).ok()?;
    let is_permitted = decision.outcome == Outcome::Permit;
    assert!(terms.permits() || !is_permitted);
    assert_eq!(
        decision.based_on.is_empty(),
        decision.outcome == Outcome::NoConsent
    );
    assert!(
        decision
            .obligations
            .iter()
            .all(|duty| request.understood.contains(duty))
    );
    let outcome_of = |consents: &[Candidate]| {
        decide(request, resource, consents)
            .expect("the same question")
            .outcome
    };
    // What is revoked, or to somebody else, is as if it were not there.
    let revoked = Candidate {
        revoked_at: Some(request.at),
        ..given.clone()
    };
    assert_eq!(outcome_of(&[revoked]), Outcome::NoConsent);
    // Under a key that was changed it permits nothing, and forbids what it forbade.
    let old = Candidate {
        is_current: false,
        ..given.clone()
    };
    assert_ne!(outcome_of(&[old]), Outcome::Permit);
    // Whatever else there is, a consent that forbids everything does.
    let mut forbids = terms.clone();
    forbids.provision = Provision::everything(ProvisionKind::Deny);
    forbids.exceptions.clear();
    assert_eq!(outcome_of(&[given, consent(&forbids, 2)]), Outcome::Deny);
    Some(decision.outcome)
}

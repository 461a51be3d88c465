use super::*;
use crate::consent::tests::grant;
use crate::felt::Felt;
use crate::ids::{Anchorer, Sha256Digest};
use crate::terms::tests::sample;
use alloc::vec;
use proptest::prelude::*;

fn code(name: &str) -> Code {
    Code::new("s", name)
}

fn concept(names: &[&str]) -> Concept {
    Concept(names.iter().map(|name| code(name)).collect())
}

fn set(names: &[&str]) -> CodeSet {
    CodeSet::collect(names.iter().map(|name| code(name))).expect("short codes")
}

fn candidate(provision: Provision, exceptions: Vec<Provision>) -> Candidate {
    let granted = grant(Sha256Digest([1; 32]), Anchorer::from_felt(Felt::ONE));
    Candidate {
        commitment: granted.commitment,
        terms: Terms {
            provision,
            exceptions,
            ..sample()
        },
        opening: granted.opening,
        revoked_at: None,
        is_current: true,
    }
}

fn request(purposes: &[&str]) -> Request {
    Request {
        recipient: candidate(permit(), vec![]).opening.grantee,
        purposes: purposes.iter().map(|p| concept(&[p])).collect(),
        understood: CodeSet::default(),
        at: UnixSeconds(1_500),
    }
}

fn resource(classes: &[&str]) -> Attributes {
    Attributes {
        classes: classes.iter().map(|c| concept(&[c])).collect(),
        ..Default::default()
    }
}

fn permit() -> Provision {
    Provision::everything(ProvisionKind::Permit)
}

fn deny() -> Provision {
    Provision::everything(ProvisionKind::Deny)
}

fn outcome(request: &Request, resource: &Attributes, consents: &[Candidate]) -> Outcome {
    decide(request, resource, consents)
        .expect("a sound question")
        .outcome
}

#[test]
fn a_question_without_purpose_or_class_is_refused() {
    let none = decide(&request(&[]), &resource(&["Observation"]), &[]);
    assert_eq!(none, Err(RequestError::NoPurpose));
    let none = decide(&request(&["HRESCH"]), &resource(&[]), &[]);
    assert_eq!(none, Err(RequestError::NoClass));
    let many = vec!["x"; VALUES_LEN_MAX + 1];
    let none = decide(&request(&many), &resource(&["Observation"]), &[]);
    assert_eq!(none, Err(RequestError::TooManyValues));
}

#[test]
fn hostile_value_without_a_coding_slips_past_no_denial() {
    let sound = request(&["HRESCH"]);
    let mut thing = resource(&["Observation"]);
    thing.codes = vec![concept(&[])];
    let none = decide(&sound, &thing, &[]);
    assert_eq!(none, Err(RequestError::NoCoding));
    thing.codes = vec![concept(&["x"; VALUES_LEN_MAX + 1])];
    let none = decide(&sound, &thing, &[]);
    assert_eq!(none, Err(RequestError::TooManyValues));
    let mut hollow = sound;
    hollow.purposes = vec![concept(&[])];
    let none = decide(&hollow, &resource(&["Observation"]), &[]);
    assert_eq!(none, Err(RequestError::NoCoding));
}

#[test]
fn a_permit_needs_all_values_and_a_deny_any() {
    let allow = |p: &[&str]| Provision {
        purposes: set(p),
        ..permit()
    };
    let forbid = |p: &[&str]| Provision {
        purposes: set(p),
        ..deny()
    };
    let both = request(&["a", "b"]);
    let thing = resource(&["Observation"]);
    assert_eq!(
        outcome(&both, &thing, &[candidate(allow(&["a"]), vec![])]),
        Outcome::NoConsent
    );
    assert_eq!(
        outcome(&both, &thing, &[candidate(allow(&["a", "b"]), vec![])]),
        Outcome::Permit
    );
    assert_eq!(
        outcome(&both, &thing, &[candidate(forbid(&["a"]), vec![])]),
        Outcome::Deny
    );
    assert_eq!(
        outcome(&both, &thing, &[candidate(forbid(&["c"]), vec![])]),
        Outcome::NoConsent
    );
}

#[test]
fn an_absent_value_is_not_permitted_and_is_denied() {
    let asked = request(&["a"]);
    let thing = resource(&["Observation"]);
    let labelled = |base: Provision| Provision {
        labels: set(&["R"]),
        ..base
    };
    assert_eq!(
        outcome(&asked, &thing, &[candidate(labelled(permit()), vec![])]),
        Outcome::NoConsent
    );
    assert_eq!(
        outcome(&asked, &thing, &[candidate(labelled(deny()), vec![])]),
        Outcome::Deny
    );
    let dated = |base: Provision| Provision {
        data_period: Some((10, 20)),
        ..base
    };
    assert_eq!(
        outcome(&asked, &thing, &[candidate(dated(deny()), vec![])]),
        Outcome::Deny
    );
    let at = |date| Attributes {
        data_date: Some(UnixSeconds(date)),
        ..thing.clone()
    };
    let permits = |date| outcome(&asked, &at(date), &[candidate(dated(permit()), vec![])]);
    assert_eq!(
        [9, 10, 19, 20].map(permits),
        [
            Outcome::NoConsent,
            Outcome::Permit,
            Outcome::Permit,
            Outcome::NoConsent
        ]
    );
}

#[test]
fn one_coding_of_a_concept_is_enough() {
    let rule = Provision {
        codes: set(&["loinc"]),
        ..permit()
    };
    let mut thing = resource(&["Observation"]);
    thing.codes = vec![concept(&["local", "loinc"])];
    assert_eq!(
        outcome(&request(&["a"]), &thing, &[candidate(rule, vec![])]),
        Outcome::Permit
    );
}

#[test]
fn exceptions_override_the_root_and_deny_beats_permit() {
    let asked = request(&["a"]);
    let mut thing = resource(&["Observation"]);
    thing.labels = vec![concept(&["R"])];
    let denied = Provision {
        labels: set(&["R"]),
        ..deny()
    };
    let allowed = Provision {
        classes: set(&["Observation"]),
        ..permit()
    };
    let of = |root: Provision, exceptions| outcome(&asked, &thing, &[candidate(root, exceptions)]);
    assert_eq!(of(permit(), vec![denied.clone()]), Outcome::Deny);
    assert_eq!(of(deny(), vec![allowed.clone()]), Outcome::Permit);
    assert_eq!(of(deny(), vec![allowed, denied]), Outcome::Deny);
}

#[test]
fn obligations_are_understood_or_deny() {
    let duty = Provision {
        obligations: set(&["NORELINK"]),
        ..permit()
    };
    let thing = resource(&["Observation"]);
    let consents = [candidate(duty, vec![])];
    let mut asked = request(&["a"]);
    let refused = decide(&asked, &thing, &consents).expect("a sound question");
    assert_eq!(refused.outcome, Outcome::Deny);
    assert!(matches!(
        refused.reasons[0],
        Reason::ObligationNotUnderstood(..)
    ));
    asked.understood = set(&["NORELINK"]);
    let allowed = decide(&asked, &thing, &consents).expect("a sound question");
    assert_eq!(
        (allowed.outcome, allowed.obligations),
        (Outcome::Permit, vec![code("NORELINK")])
    );
    assert_eq!(allowed.based_on, [consents[0].commitment]);
}

#[test]
fn consents_that_are_not_in_force_say_nothing() {
    let thing = resource(&["Observation"]);
    let consent = candidate(permit(), vec![]);
    let reason = |consent: &Candidate, at| {
        let asked = Request {
            at: UnixSeconds(at),
            ..request(&["a"])
        };
        decide(&asked, &thing, core::slice::from_ref(consent))
            .expect("sound")
            .reasons[0]
            .clone()
    };
    let id = consent.commitment;
    assert_eq!(reason(&consent, 999), Reason::NotYetValid(id));
    assert_eq!(reason(&consent, 1_000), Reason::Permitted(id, Rule::Root));
    assert_eq!(reason(&consent, 2_000), Reason::Expired(id));
    let revoked = Candidate {
        revoked_at: Some(UnixSeconds(1_200)),
        ..consent.clone()
    };
    assert_eq!(reason(&revoked, 1_199), Reason::Permitted(id, Rule::Root));
    assert_eq!(reason(&revoked, 1_200), Reason::Revoked(id));
    let changed = Candidate {
        is_current: false,
        ..consent.clone()
    };
    assert_eq!(reason(&changed, 1_500), Reason::KeyChanged(id));
    let mut forbids = changed;
    forbids.terms.provision = deny();
    assert_eq!(reason(&forbids, 1_500), Reason::Denied(id, Rule::Root));
    let mut other = consent;
    other.opening.grantee = other.opening.patient_key;
    assert_eq!(reason(&other, 1_500), Reason::OtherRecipient(id));
}

// The same rules once more, written as plainly as they read, over small numbers instead of codes.

#[derive(Clone, Debug)]
struct Small {
    permit: bool,
    purposes: Vec<u8>,
    labels: Vec<u8>,
    duty: bool,
}

fn naive_covers(rule: &Small, purposes: &[u8], labels: &[u8]) -> bool {
    let dimension = |allowed: &[u8], values: &[u8]| {
        let count = values.iter().filter(|v| allowed.contains(v)).count();
        allowed.is_empty()
            || (rule.permit && !values.is_empty() && count == values.len())
            || (!rule.permit && (values.is_empty() || count > 0))
    };
    dimension(&rule.purposes, purposes) && dimension(&rule.labels, labels)
}

fn naive(consents: &[(Small, Vec<Small>)], purposes: &[u8], labels: &[u8]) -> Outcome {
    let mut answer = Outcome::NoConsent;
    for (root, exceptions) in consents {
        let mut spoken: Vec<&Small> = exceptions
            .iter()
            .filter(|e| naive_covers(e, purposes, labels))
            .collect();
        if spoken.is_empty() && naive_covers(root, purposes, labels) {
            spoken.push(root);
        }
        for rule in spoken {
            if !rule.permit || rule.duty {
                return Outcome::Deny;
            }
            answer = Outcome::Permit;
        }
    }
    answer
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

fn names(values: &[u8]) -> Vec<&'static str> {
    values.iter().map(|v| NAMES[usize::from(*v)]).collect()
}

fn provision(small: &Small) -> Provision {
    Provision {
        purposes: set(&names(&small.purposes)),
        labels: set(&names(&small.labels)),
        obligations: if small.duty && small.permit {
            set(&["duty"])
        } else {
            set(&[])
        },
        ..if small.permit { permit() } else { deny() }
    }
}

fn smalls() -> impl Strategy<Value = Small> {
    let values = || proptest::collection::vec(0u8..4, 0..3);
    (
        any::<bool>(),
        values(),
        values(),
        proptest::bool::weighted(0.2),
    )
        .prop_map(|(permit, purposes, labels, duty)| Small {
            permit,
            purposes,
            labels,
            duty,
        })
}

proptest! {
    #[test]
    fn the_rules_agree_with_their_naive_reading(
        consents in proptest::collection::vec(
            (smalls(), proptest::collection::vec(smalls(), 0..4)), 0..3),
        purposes in proptest::collection::vec(0u8..4, 1..3),
        labels in proptest::collection::vec(0u8..4, 0..3),
    ) {
        let candidates: Vec<Candidate> = consents
            .iter()
            .map(|(root, rest)| candidate(provision(root), rest.iter().map(provision).collect()))
            .collect();
        let asked = request(&names(&purposes));
        let mut thing = resource(&["Observation"]);
        thing.labels = names(&labels).iter().map(|l| concept(&[l])).collect();
        prop_assert_eq!(
            outcome(&asked, &thing, &candidates),
            naive(&consents, &purposes, &labels)
        );
    }
}

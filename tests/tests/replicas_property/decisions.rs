//! Decisions over every dimension at once, with several values and several codings of each: no
//! replica takes part, so that many more cases are tried.
//!
//! The rules stand here once more, as plainly as they read, over small numbers instead of codes.

use medsync_protocol::codes::{Code, CodeSet, SortedSet};
use medsync_protocol::consent::{Commitment, Opening};
use medsync_protocol::decide::{Attributes, Candidate, Concept, Outcome, Request, decide};
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{AuthorId, MemberId, RecordId, Salt, UnixSeconds};
use medsync_protocol::secrets::Handle;
use medsync_protocol::signature::PublicKey;
use medsync_protocol::terms::{Provision, ProvisionKind, Terms};
use medsync_tests::circle::{CONTEXT, terms};
use proptest::prelude::*;

/// A set of a rule; empty, it restricts nothing.
type Set = Vec<u8>;
/// Values of one kind, each with its codings.
type Values = Vec<Vec<u8>>;

#[derive(Clone, Debug)]
struct Rule {
    permits: bool,
    purposes: Set,
    classes: Set,
    codes: Set,
    labels: Set,
    authors: Set,
    records: Set,
    period: Option<(u64, u64)>,
    duties: Set,
}

#[derive(Clone, Debug)]
struct Given {
    root: Rule,
    exceptions: Vec<Rule>,
    is_to_us: bool,
    not_before: u64,
    not_after: u64,
    revoked_at: Option<u64>,
    is_current: bool,
}

#[derive(Clone, Debug)]
struct Asked {
    purposes: Values,
    classes: Values,
    codes: Values,
    labels: Values,
    authors: Set,
    record: Option<u8>,
    date: Option<u64>,
    understood: Set,
    at: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Nothing,
    Allows,
    Forbids,
}

fn covers(rule: &Rule, asked: &Asked) -> bool {
    let single = |values: &[u8]| -> Values { values.iter().map(|value| vec![*value]).collect() };
    let dimensions = [
        (&rule.purposes, asked.purposes.clone()),
        (&rule.classes, asked.classes.clone()),
        (&rule.codes, asked.codes.clone()),
        (&rule.labels, asked.labels.clone()),
        (&rule.authors, single(&asked.authors)),
        (&rule.records, single(asked.record.as_slice())),
    ];
    let in_period = match (rule.period, asked.date) {
        (None, _) => true,
        // A date that is not known may be in any period.
        (Some(_), None) => !rule.permits,
        (Some((from, to)), Some(date)) => from <= date && date < to,
    };
    in_period
        && dimensions.iter().all(|(set, values)| {
            let is_held = |codings: &&Vec<u8>| codings.iter().any(|code| set.contains(code));
            let held = values.iter().filter(is_held).count();
            match (set.is_empty(), rule.permits) {
                (true, _) => true,
                (false, true) => held > 0 && held == values.len(),
                (false, false) => held > 0 || values.is_empty(),
            }
        })
}

fn is_in_force(given: &Given, at: u64) -> bool {
    let is_over = given.not_after != 0 && at >= given.not_after;
    let is_revoked = given.revoked_at.is_some_and(|revoked| revoked <= at);
    given.is_to_us && at >= given.not_before && !is_over && !is_revoked
}

fn says(given: &Given, asked: &Asked) -> Says {
    if !is_in_force(given, asked.at) {
        return Says::Nothing;
    }
    let exceptions = given.exceptions.iter();
    let mut speaking: Vec<&Rule> = exceptions.filter(|rule| covers(rule, asked)).collect();
    if speaking.is_empty() && covers(&given.root, asked) {
        speaking.push(&given.root);
    }
    let mut duties = speaking.iter().flat_map(|rule| &rule.duties);
    if speaking.is_empty() {
        Says::Nothing
    } else if speaking.iter().any(|rule| !rule.permits) {
        Says::Forbids
    } else if !given.is_current {
        Says::Nothing
    } else if duties.any(|duty| !asked.understood.contains(duty)) {
        Says::Forbids
    } else {
        Says::Allows
    }
}

/// What the rules decide, and by which consents.
fn naive(consents: &[Given], asked: &Asked) -> (Outcome, Vec<Commitment>) {
    let saying = |wanted: Says| -> Vec<Commitment> {
        let numbered = consents.iter().enumerate();
        let saying = numbered.filter(|(_, given)| says(given, asked) == wanted);
        saying.map(|(number, _)| name(number)).collect()
    };
    let (forbid, allow) = (saying(Says::Forbids), saying(Says::Allows));
    match (forbid.is_empty(), allow.is_empty()) {
        (false, _) => (Outcome::Deny, forbid),
        (true, false) => (Outcome::Permit, allow),
        (true, true) => (Outcome::NoConsent, allow),
    }
}

fn name(number: usize) -> Commitment {
    Commitment::from_felt(Felt::from(number as u64 + 1))
}

fn code(value: u8) -> Code {
    Code::new("s", value.to_string())
}

fn code_set(set: &[u8]) -> CodeSet {
    CodeSet::collect(set.iter().map(|value| code(*value))).expect("a few codes")
}

fn concepts(values: &[Vec<u8>]) -> Vec<Concept> {
    let concept = |codings: &Vec<u8>| Concept(codings.iter().map(|value| code(*value)).collect());
    values.iter().map(concept).collect()
}

fn provision(rule: &Rule) -> Provision {
    let kind = if rule.permits {
        ProvisionKind::Permit
    } else {
        ProvisionKind::Deny
    };
    let authors = rule.authors.iter().map(|by| AuthorId([*by; 32]));
    let records = rule.records.iter().map(|record| RecordId([*record; 32]));
    Provision {
        kind,
        purposes: code_set(&rule.purposes),
        classes: code_set(&rule.classes),
        codes: code_set(&rule.codes),
        labels: code_set(&rule.labels),
        authors: SortedSet::collect(authors).expect("a few authors"),
        records: SortedSet::collect(records).expect("a few records"),
        data_period: rule.period,
        obligations: code_set(&rule.duties),
    }
}

/// A recipient's key by a number; `decide` compares keys and no more.
fn key(number: u8) -> PublicKey {
    PublicKey::from_felt(Felt::from(number))
}

fn candidate((number, given): (usize, &Given)) -> Candidate {
    Candidate {
        commitment: name(number),
        terms: Terms {
            provision: provision(&given.root),
            exceptions: given.exceptions.iter().map(provision).collect(),
            ..terms(MemberId([1; 32]), CONTEXT, 1)
        },
        opening: Opening {
            patient_key: key(1),
            grantee: key(if given.is_to_us { 2 } else { 3 }),
            not_before: UnixSeconds(given.not_before),
            not_after: UnixSeconds(given.not_after),
            handle: Handle::from_felt(Felt::ONE),
            salt: Salt::from_felt(Felt::ONE),
        },
        revoked_at: given.revoked_at.map(UnixSeconds),
        is_current: given.is_current,
    }
}

fn decided(consents: &[Given], asked: &Asked) -> (Outcome, Vec<Commitment>) {
    let candidates: Vec<Candidate> = consents.iter().enumerate().map(candidate).collect();
    let request = Request {
        recipient: key(2),
        purposes: concepts(&asked.purposes),
        understood: code_set(&asked.understood),
        at: UnixSeconds(asked.at),
    };
    let resource = Attributes {
        classes: concepts(&asked.classes),
        codes: concepts(&asked.codes),
        labels: concepts(&asked.labels),
        authors: asked.authors.iter().map(|by| AuthorId([*by; 32])).collect(),
        record: asked.record.map(|record| RecordId([record; 32])),
        data_date: asked.date.map(UnixSeconds),
    };
    let decision = decide(&request, &resource, &candidates).expect("a sound question");
    (decision.outcome, decision.based_on)
}

/// A rule's set; most restrict nothing, so that rules cover now and then.
fn set() -> impl Strategy<Value = Set> {
    prop_oneof![
        3 => Just(Set::new()),
        2 => prop::collection::vec(0..4u8, 1..4),
    ]
}

fn values(least: usize) -> impl Strategy<Value = Values> {
    prop::collection::vec(prop::collection::vec(0..4u8, 1..3), least..4)
}

prop_compose! {
    fn rule()(
        permits in prop::bool::weighted(0.7),
        (purposes, classes) in (set(), set()),
        (codes, labels) in (set(), set()),
        (authors, records) in (set(), set()),
        period in prop::option::weighted(0.2, (0..6u64, 1..6u64)),
        duties in prop_oneof![4 => Just(Set::new()), 1 => set()],
    ) -> Rule {
        Rule {
            permits,
            purposes,
            classes,
            codes,
            labels,
            authors,
            records,
            period: period.map(|(from, len)| (from, from + len)),
            duties,
        }
    }
}

prop_compose! {
    fn given()(
        root in rule(),
        exceptions in prop::collection::vec(rule(), 0..3),
        is_to_us in prop::bool::weighted(0.9),
        not_before in 0..4u64,
        not_after in prop_oneof![2 => Just(0u64), 1 => 4..12u64],
        revoked_at in prop::option::weighted(0.2, 0..12u64),
        is_current in prop::bool::weighted(0.9),
    ) -> Given {
        Given { root, exceptions, is_to_us, not_before, not_after, revoked_at, is_current }
    }
}

prop_compose! {
    fn asked()(
        (purposes, classes) in (values(1), values(1)),
        (codes, labels) in (values(0), values(0)),
        authors in prop::collection::vec(0..4u8, 0..3),
        record in prop::option::of(0..4u8),
        date in prop::option::of(0..10u64),
        understood in set(),
        at in 0..12u64,
    ) -> Asked {
        Asked { purposes, classes, codes, labels, authors, record, date, understood, at }
    }
}

/// A consent to us, from ever and for ever, with one rule: a denial of everything.
fn denial() -> Given {
    Given {
        root: Rule {
            permits: false,
            purposes: Set::new(),
            classes: Set::new(),
            codes: Set::new(),
            labels: Set::new(),
            authors: Set::new(),
            records: Set::new(),
            period: None,
            duties: Set::new(),
        },
        exceptions: Vec::new(),
        is_to_us: true,
        not_before: 0,
        not_after: 0,
        revoked_at: None,
        is_current: true,
    }
}

proptest! {
    #![proptest_config(crate::config(1))]

    #[test]
    fn decisions_over_many_values_are_those_of_the_naive_rules(
        consents in prop::collection::vec(given(), 0..4),
        asked in asked(),
    ) {
        prop_assert_eq!(decided(&consents, &asked), naive(&consents, &asked));
    }

    /// Whatever else is said, and wherever among the values and codings the denied one stands.
    #[test]
    fn a_deny_that_touches_any_value_denies(
        consents in prop::collection::vec(given(), 0..4),
        asked in asked(),
        (dimension, at) in (0..5usize, any::<prop::sample::Index>()),
        is_current in any::<bool>(),
    ) {
        const DENIED: u8 = 9;
        let (mut consents, mut asked) = (consents, asked);
        let mut given = Given { is_current, ..denial() };
        let deny = &mut given.root;
        let touch = |set: &mut Set, values: &mut Values| {
            set.push(DENIED);
            values.insert(at.index(values.len() + 1), vec![0, DENIED]);
        };
        match dimension {
            0 => touch(&mut deny.purposes, &mut asked.purposes),
            1 => touch(&mut deny.classes, &mut asked.classes),
            2 => touch(&mut deny.codes, &mut asked.codes),
            3 => touch(&mut deny.labels, &mut asked.labels),
            _ => {
                deny.authors.push(DENIED);
                asked.authors.insert(at.index(asked.authors.len() + 1), DENIED);
            }
        }
        consents.push(given);
        let (outcome, named) = decided(&consents, &asked);
        prop_assert_eq!(outcome, Outcome::Deny);
        prop_assert!(named.contains(&name(consents.len() - 1)));
    }

    /// What is over, revoked, yet to come or to somebody else changes no decision.
    #[test]
    fn a_consent_that_is_not_in_force_is_as_good_as_none(
        consents in prop::collection::vec(given(), 1..5),
        asked in asked(),
    ) {
        let (outcome, named) = decided(&consents, &asked);
        let in_force: Vec<Given> = consents
            .iter()
            .filter(|given| is_in_force(given, asked.at))
            .cloned()
            .collect();
        prop_assert_eq!(decided(&in_force, &asked).0, outcome);
        for (number, given) in consents.iter().enumerate() {
            prop_assert!(is_in_force(given, asked.at) || !named.contains(&name(number)));
        }
    }
}

//! Grants, revocations and enrolments converge, in whatever order and however often they arrive.
//!
//! Random operations of three members against a naive model: a set of what each has heard. After
//! everything was delivered everywhere, all replicas have one root hash, and the model's states.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::collections::{BTreeMap, BTreeSet};

use medsync_tests::circle::{
    CONTEXT, Consent, HOSPITAL, INVITATION, PATIENT, enrol_arguments, enrolment, open,
};
use medsync_tests::replica::{Delta, Replica};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Custodian, patient, delegate.
const MEMBERS: usize = 3;
/// How many consents there are to grant and revoke.
const CONSENTS: u8 = 4;

#[derive(Clone, Debug)]
enum Step {
    /// A member tries to grant a consent that the patient signed.
    Grant { by: usize, number: u8 },
    /// A member who knows the secret tries to revoke.
    Revoke { by: usize, number: u8 },
    /// The patient enrols.
    Enrol,
    /// A thief of the invitation enrols on the delegate's node.
    Steal,
    /// Some delta of the past reaches a member, again or for the first time.
    Deliver { to: usize, which: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let member = 0..MEMBERS;
    let number = 1..=CONSENTS;
    prop_oneof![
        4 => (member.clone(), number.clone()).prop_map(|(by, number)| Step::Grant { by, number }),
        3 => (member.clone(), number).prop_map(|(by, number)| Step::Revoke { by, number }),
        2 => Just(Step::Enrol),
        1 => Just(Step::Steal),
        8 => (member, 0..64usize).prop_map(|(to, which)| Step::Deliver { to, which }),
    ]
}

/// What happened, as the model sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fact {
    Enrolled(u8),
    Granted(u8),
    Revoked(u8),
}

type Heard = BTreeSet<Fact>;

/// Whether a grant is refused, exists already, or is made.
fn granted(heard: &Heard, number: u8) -> Result<bool, &'static str> {
    match heard
        .iter()
        .filter(|fact| matches!(fact, Fact::Enrolled(_)))
        .count()
    {
        0 => return Err("not_enrolled"),
        1 if !heard.contains(&Fact::Enrolled(PATIENT)) => return Err("foreign_key"),
        1 => {}
        _ => return Err("frozen"),
    }
    if heard.contains(&Fact::Granted(number)) {
        return Ok(true);
    }
    if heard.contains(&Fact::Revoked(number)) {
        Err("handle_revoked")
    } else {
        Ok(false)
    }
}

/// The consents that count and their states.
fn expected(heard: &Heard, names: &BTreeMap<u8, String>) -> BTreeMap<String, &'static str> {
    let keys: Vec<u8> = heard
        .iter()
        .filter_map(|fact| {
            if let Fact::Enrolled(key) = fact {
                Some(*key)
            } else {
                None
            }
        })
        .collect();
    let mut states = BTreeMap::new();
    for number in heard.iter().filter_map(|f| {
        if let Fact::Granted(n) = f {
            Some(*n)
        } else {
            None
        }
    }) {
        let state = match (heard.contains(&Fact::Revoked(number)), keys.len()) {
            (true, _) => "revoked",
            (false, 2..) => "frozen",
            (false, _) => "in_force",
        };
        if keys.contains(&PATIENT) {
            states.insert(names[&number].clone(), state);
        }
    }
    states
}

struct World {
    replicas: Vec<Replica>,
    heard: Vec<Heard>,
    sent: Vec<(Delta, Fact)>,
    consents: BTreeMap<u8, Consent>,
}

impl World {
    fn new() -> Self {
        let custodian = open(CONTEXT);
        let replicas = vec![
            custodian.join(101),
            custodian.join(102),
            custodian.join(103),
        ];
        let consents = (1..=CONSENTS)
            .map(|n| (n, Consent::sound(&custodian, n)))
            .collect();
        Self {
            replicas,
            heard: vec![Heard::new(); MEMBERS],
            sent: Vec::new(),
            consents,
        }
    }

    fn names(&self) -> BTreeMap<u8, String> {
        self.consents
            .iter()
            .map(|(number, consent)| (*number, consent.name()))
            .collect()
    }

    /// Does what a call should do by the model, and compares.
    fn call(
        &mut self,
        by: usize,
        (method, arguments): (&str, &Value),
        fact: Fact,
        expected: Result<bool, &'static str>,
    ) {
        match (self.replicas[by].call(method, arguments), expected) {
            (Ok((answer, delta)), Ok(existing)) => {
                assert_eq!(answer["existing"], existing, "{method} {fact:?} by {by}");
                self.heard[by].insert(fact);
                if !existing {
                    self.sent.push((delta, fact));
                }
            }
            (Err(refused), Err(error)) => assert_eq!(refused.error, error, "{method} by {by}"),
            (got, expected) => panic!("{method} {fact:?} by {by}: {got:?}, not {expected:?}"),
        }
    }

    fn enrol(&mut self, by: usize, key: u8) {
        let arguments = enrol_arguments(
            &enrolment(self.replicas[by].member(), key),
            CONTEXT,
            INVITATION,
        );
        let fact = Fact::Enrolled(key);
        let heard = &self.heard[by];
        let enrolments = heard.iter().filter(|f| matches!(f, Fact::Enrolled(_)));
        let expected = match (heard.contains(&fact), enrolments.count()) {
            (true, _) => Ok(true),
            (false, 2..) => Err("frozen"),
            (false, _) => Ok(false),
        };
        self.call(by, ("enrol", &arguments), fact, expected);
    }

    fn deliver(&mut self, to: usize, which: usize) {
        let (delta, fact) = self.sent[which].clone();
        self.replicas[to].apply(&delta);
        self.heard[to].insert(fact);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Grant { by, number } => {
                let arguments = self.consents[&number].grant_arguments();
                let expected = granted(&self.heard[by], number);
                self.call(by, ("grant", &arguments), Fact::Granted(number), expected);
            }
            Step::Revoke { by, number } => {
                let arguments = self.consents[&number].revoke_arguments();
                let fact = Fact::Revoked(number);
                let expected = Ok(self.heard[by].contains(&fact));
                self.call(by, ("revoke", &arguments), fact, expected);
            }
            Step::Enrol => self.enrol(1, PATIENT),
            Step::Steal => self.enrol(2, HOSPITAL),
            Step::Deliver { to, which } if !self.sent.is_empty() => {
                self.deliver(to, which % self.sent.len());
            }
            Step::Deliver { .. } => {}
        }
    }

    fn check(&self, which: usize) {
        let page = self.replicas[which]
            .view("consents", &json!({}))
            .expect("a page");
        let states: BTreeMap<String, String> = page["consents"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|c| (text(&c["commitment"]), text(&c["state"])))
            .collect();
        let expected: BTreeMap<String, String> = expected(&self.heard[which], &self.names())
            .into_iter()
            .map(|(name, state)| (name, state.to_owned()))
            .collect();
        assert_eq!(
            states, expected,
            "replica {which} heard {:?}",
            self.heard[which]
        );
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

proptest! {
    // A case here costs as much as many elsewhere.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 8))]

    #[test]
    fn replicas_converge_on_the_models_states(
        steps in prop::collection::vec(step(), 1..40),
        order in any::<u64>(),
    ) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        for which in 0..MEMBERS {
            world.check(which);
        }
        // In the end everything reaches everybody, each in another order and some of it twice.
        for to in 0..MEMBERS {
            let count = world.sent.len();
            for turn in 0..count {
                let which = (turn * 7 + usize::try_from(order % 97).unwrap() * (to + 1)) % count;
                world.deliver(to, if count.is_multiple_of(7) { turn } else { which });
            }
            for which in (0..count).rev() {
                world.deliver(to, which);
            }
            world.check(to);
        }
        let hashes: BTreeSet<_> = world.replicas.iter().map(|r| r.root_hash).collect();
        if !world.sent.is_empty() {
            prop_assert_eq!(hashes.len(), 1);
        }
    }
}

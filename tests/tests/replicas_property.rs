//! Whatever four members do, in whatever order and however often it arrives: replicas that heard
//! the same agree, logs have no gaps, and every decision is the one of a naive model.
//!
//! The model is a set of facts that each replica has heard. After everything was delivered
//! everywhere, all replicas have one root hash.

use std::collections::{BTreeMap, BTreeSet};

use medsync_protocol::codes::{Code, CodeSet};
use medsync_protocol::decide::{Attributes, Candidate, Concept, Outcome, Request, decide};
use medsync_protocol::ids::{UnixSeconds, to_base64};
use medsync_protocol::terms::{Provision, ProvisionKind, Terms};
use medsync_tests::circle::{
    CONTEXT, Consent, HOSPITAL, INVITATION, Logged, PATIENT, PATIENT_AUTHOR, Plan, RECOVERY,
    RESEARCHER, change_key_arguments, enrol_arguments, enrolment, open, public_key, terms,
};
use medsync_tests::replica::{Delta, Replica};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Custodian, patient, the patient's second device, and whoever stole something.
const MEMBERS: usize = 4;
const PATIENTS_NODE: usize = 1;
const THIEFS_NODE: usize = 3;
/// The key that the patient changes to, and the one that a thief does.
const NEXT: u8 = 30;
const THIEF: u8 = 31;
/// Times that no test reaches: a consent ends at one and another begins at the next.
const END: u64 = 1 << 39;
const FAR: u64 = 1 << 40;
/// When is asked: before either, twice between them, and after both.
const TIMES: [u64; 4] = [1_000_000, END, FAR - 1, FAR];

const RESEARCH: &str = "HRESCH";
const TREATMENT: &str = "TREAT";

/// What a consent says, who signed it, from when on and until when, if not for ever.
struct Says {
    signer: u8,
    not_before: u64,
    not_after: u64,
    provision: Provision,
    exceptions: Vec<Provision>,
    /// The same in plain Rust.
    model: fn(&Resource, &str) -> Option<bool>,
}

type Text = &'static str;

/// One resource: its type, clinical code and security label.
struct Resource {
    class: Text,
    code: Option<Text>,
    label: Option<Text>,
}

const fn resource(class: Text, code: Option<Text>, label: Option<Text>) -> Resource {
    Resource { class, code, label }
}

const RESOURCES: [Resource; 5] = [
    resource("Observation", Some("heart"), Some("N")),
    resource("Observation", Some("mind"), Some("PSY")),
    resource("Condition", Some("mind"), Some("N")),
    resource("Observation", Some("heart"), None),
    resource("Condition", None, Some("N")),
];

fn codes(code: &str) -> CodeSet {
    CodeSet::collect([Code::new("s", code)]).expect("one code")
}

fn concepts(code: Option<&str>) -> Vec<Concept> {
    let concept = |code| Concept(vec![Code::new("s", code)]);
    code.into_iter().map(concept).collect()
}

fn permit(purpose: &str, class: Option<&str>) -> Provision {
    Provision {
        purposes: codes(purpose),
        classes: class.map(codes).unwrap_or_default(),
        ..Provision::everything(ProvisionKind::Permit)
    }
}

fn deny() -> Provision {
    Provision::everything(ProvisionKind::Deny)
}

/// The consents that there are, by number from 1.
fn consents() -> Vec<Says> {
    let plain = |signer, purpose, class, model| Says {
        signer,
        not_before: 1,
        not_after: 0,
        provision: permit(purpose, class),
        exceptions: Vec::new(),
        model,
    };
    let observations = |resource: &Resource, purpose: &str| {
        (resource.class == "Observation" && purpose == RESEARCH).then_some(true)
    };
    let treatment = |_: &Resource, purpose: &str| (purpose == TREATMENT).then_some(true);
    let not_the_mind = Provision {
        labels: codes("PSY"),
        ..deny()
    };
    vec![
        plain(PATIENT, RESEARCH, Some("Observation"), observations),
        Says {
            exceptions: vec![not_the_mind],
            // A label that is not known may be this one.
            ..plain(PATIENT, RESEARCH, None, |resource, purpose| {
                match (resource.label, purpose) {
                    (None | Some("PSY"), _) => Some(false),
                    (_, RESEARCH) => Some(true),
                    _ => None,
                }
            })
        },
        Says {
            provision: Provision {
                codes: codes("mind"),
                ..deny()
            },
            ..plain(PATIENT, RESEARCH, None, |resource, _| match resource.code {
                None | Some("mind") => Some(false),
                Some(_) => None,
            })
        },
        plain(PATIENT, TREATMENT, None, treatment),
        Says {
            not_before: FAR,
            ..plain(PATIENT, RESEARCH, Some("Observation"), observations)
        },
        Says {
            not_after: END,
            ..plain(PATIENT, TREATMENT, None, treatment)
        },
        plain(NEXT, RESEARCH, Some("Observation"), observations),
        plain(THIEF, TREATMENT, None, treatment),
        plain(HOSPITAL, TREATMENT, None, treatment),
    ]
}

fn consent_count() -> usize {
    consents().len()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum By {
    Old,
    Recovery,
}

#[derive(Clone, Debug)]
enum Step {
    /// A member tries to grant a consent.
    Grant { by: usize, number: usize },
    /// A member who knows the secret tries to revoke.
    Revoke { by: usize, number: usize },
    /// The patient enrols.
    Enrol,
    /// A thief of the invitation enrols.
    Steal,
    /// The patient's key is changed, by the patient or by a thief.
    ChangeKey { at: usize, by: By, to: u8 },
    /// The custodian or the patient writes its next log entry.
    Log { by: usize },
    /// Some delta of the past reaches a member, again or for the first time.
    Deliver { to: usize, which: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let member = 0..MEMBERS;
    let number = 0..consent_count();
    let change = (
        prop_oneof![Just(PATIENTS_NODE), Just(THIEFS_NODE)],
        prop_oneof![2 => Just(By::Old), 1 => Just(By::Recovery)],
        prop_oneof![2 => Just(NEXT), 1 => Just(THIEF)],
    );
    prop_oneof![
        6 => (member.clone(), number.clone()).prop_map(|(by, number)| Step::Grant { by, number }),
        3 => (member.clone(), number).prop_map(|(by, number)| Step::Revoke { by, number }),
        3 => Just(Step::Enrol),
        1 => Just(Step::Steal),
        2 => change.prop_map(|(at, by, to)| Step::ChangeKey { at, by, to }),
        2 => (0..2usize).prop_map(|by| Step::Log { by }),
        12 => (member, 0..64usize).prop_map(|(to, which)| Step::Deliver { to, which }),
    ]
}

/// What happened, as the model sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fact {
    Enrolled(u8),
    Changed(By, u8),
    Granted(usize),
    Revoked(usize),
    Logged(u8, u64),
}

type Heard = BTreeSet<Fact>;

fn all_of<T>(heard: &Heard, pick: impl Fn(&Fact) -> Option<T>) -> Vec<T> {
    heard.iter().filter_map(pick).collect()
}

fn enrolled(heard: &Heard) -> Vec<u8> {
    all_of(heard, |fact| match fact {
        Fact::Enrolled(key) => Some(*key),
        _ => None,
    })
}

/// The one party's keys through time, and whether changes contradict each other.
fn keys(heard: &Heard) -> (Vec<u8>, bool) {
    let only = enrolled(heard);
    if only != [PATIENT] {
        return (if only.len() == 1 { only } else { Vec::new() }, false);
    }
    let changed = |wanted: By| {
        all_of(heard, |fact| match fact {
            Fact::Changed(by, to) if *by == wanted => Some(*to),
            _ => None,
        })
    };
    let counting = match changed(By::Recovery) {
        none if none.is_empty() => changed(By::Old),
        some => some,
    };
    match counting.as_slice() {
        [] => (only, false),
        [next] => (vec![PATIENT, *next], false),
        _ => (only, true),
    }
}

fn is_frozen(heard: &Heard) -> bool {
    enrolled(heard).len() > 1 || keys(heard).1
}

/// Whether a grant is refused, exists already, or is made.
fn granted(heard: &Heard, number: usize) -> Result<bool, &'static str> {
    if is_frozen(heard) {
        return Err("frozen");
    }
    let (keys, _) = keys(heard);
    let signer = consents()[number].signer;
    match keys.last() {
        None => return Err("not_enrolled"),
        Some(current) if *current == signer => {}
        Some(_) if keys.contains(&signer) => return Err("old_key"),
        Some(_) => return Err("foreign_key"),
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

/// Whether a key change is refused, exists already, or is made.
fn changed(heard: &Heard, by: By, to: u8) -> Result<bool, &'static str> {
    match enrolled(heard).as_slice() {
        [] => return Err("not_enrolled"),
        [_, _, ..] => return Err("frozen"),
        [_] if heard.contains(&Fact::Changed(by, to)) => return Ok(true),
        [key] if *key != PATIENT => return Err("key_change_order"),
        [_] => {}
    }
    let said_before = |fact: &Fact| matches!(fact, Fact::Changed(By::Recovery, _));
    if by == By::Recovery && heard.iter().any(said_before) {
        return Err("key_change_order");
    }
    if by == By::Old && keys(heard).0.len() > 1 {
        return Err("key_change_order");
    }
    Ok(false)
}

/// The consents that are shown, and their states.
fn states(heard: &Heard) -> BTreeMap<usize, &'static str> {
    let (keys, _) = keys(heard);
    let shown = |signer: u8| keys.contains(&signer) || enrolled(heard).contains(&signer);
    let state = |number: usize, says: &Says| {
        if heard.contains(&Fact::Revoked(number)) {
            "revoked"
        } else if is_frozen(heard) {
            "frozen"
        } else if keys.last() != Some(&says.signer) {
            "old_key"
        } else if says.not_before == FAR {
            "not_yet"
        } else {
            "in_force"
        }
    };
    consents()
        .iter()
        .enumerate()
        .filter(|(number, says)| heard.contains(&Fact::Granted(*number)) && shown(says.signer))
        .map(|(number, says)| (number, state(number, says)))
        .collect()
}

/// For what is asked, and when.
type Asked = (&'static str, u64);

/// What one consent says, if it is in its time and says anything.
fn spoken(number: usize, resource: &Resource, (purpose, at): Asked) -> Option<bool> {
    let says = &consents()[number];
    let is_in_time = says.not_before <= at && (says.not_after == 0 || at < says.not_after);
    is_in_time.then(|| (says.model)(resource, purpose))?
}

/// What the model decides on one resource, and by which consents: a denial of any that speaks, else
/// a permit by those under the present key.
fn decision(heard: &Heard, resource: &Resource, asked: Asked) -> (Outcome, BTreeSet<usize>) {
    let (mut denying, mut permitting) = (BTreeSet::new(), BTreeSet::new());
    for (number, state) in states(heard) {
        let said = match (state, spoken(number, resource, asked)) {
            ("in_force" | "not_yet" | "old_key", Some(false)) => &mut denying,
            ("in_force" | "not_yet", Some(true)) => &mut permitting,
            _ => continue,
        };
        said.insert(number);
    }
    match (denying.is_empty(), permitting.is_empty()) {
        (false, _) => (Outcome::Deny, denying),
        (true, false) => (Outcome::Permit, permitting),
        (true, true) => (Outcome::NoConsent, denying),
    }
}

struct World {
    replicas: Vec<Replica>,
    heard: Vec<Heard>,
    sent: Vec<(Delta, Fact)>,
    consents: Vec<Consent>,
    /// What the custodian and the patient wrote.
    logs: [Vec<Logged>; 2],
}

impl World {
    fn new() -> Self {
        let custodian = open(CONTEXT);
        let replicas = [101, 102, 103, 104].map(|seed| custodian.join(seed)).into();
        let sign = |(says, number): (Says, u8)| {
            let terms = Terms {
                provision: says.provision,
                exceptions: says.exceptions,
                ..terms(custodian.member(), CONTEXT, number)
            };
            let plan = Plan {
                signer: says.signer,
                not_before: says.not_before,
                not_after: says.not_after,
                number,
            };
            plan.sign(&terms)
        };
        Self {
            replicas,
            heard: vec![Heard::new(); MEMBERS],
            sent: Vec::new(),
            consents: consents().into_iter().zip(1..).map(sign).collect(),
            logs: [Vec::new(), Vec::new()],
        }
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
            (Err(refused), Err(error)) => {
                assert_eq!(refused.error, error, "{method} {fact:?} by {by}");
            }
            (got, expected) => panic!("{method} {fact:?} by {by}: {got:?}, not {expected:?}"),
        }
    }

    fn enrol(&mut self, by: usize, key: u8) {
        let enrolment = enrolment(self.replicas[by].member(), key);
        let arguments = enrol_arguments(&enrolment, CONTEXT, INVITATION);
        let fact = Fact::Enrolled(key);
        let heard = &self.heard[by];
        let expected = match (heard.contains(&fact), enrolled(heard).len()) {
            (true, _) => Ok(true),
            (false, 2..) => Err("frozen"),
            (false, _) => Ok(false),
        };
        self.call(by, ("enrol", &arguments), fact, expected);
    }

    fn log(&mut self, by: usize) {
        let author = [HOSPITAL, PATIENT_AUTHOR][by];
        let entry = Logged::after(self.logs[by].last(), CONTEXT, author, 1);
        let is_author = by == 0 || !enrolled(&self.heard[by]).is_empty();
        let expected = is_author.then_some(false).ok_or("not_an_author");
        let fact = Fact::Logged(author, entry.entry.seq.0);
        self.call(by, ("append_log", &entry.arguments()), fact, expected);
        if is_author {
            self.logs[by].push(entry);
        }
    }

    fn deliver(&mut self, to: usize, which: usize) {
        let (delta, fact) = self.sent[which].clone();
        self.replicas[to].apply(&delta);
        self.heard[to].insert(fact);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Grant { by, number } => {
                let arguments = self.consents[number].grant_arguments();
                let expected = granted(&self.heard[by], number);
                self.call(by, ("grant", &arguments), Fact::Granted(number), expected);
            }
            Step::Revoke { by, number } => {
                let arguments = self.consents[number].revoke_arguments();
                let fact = Fact::Revoked(number);
                let expected = Ok(self.heard[by].contains(&fact));
                self.call(by, ("revoke", &arguments), fact, expected);
            }
            Step::Enrol => self.enrol(PATIENTS_NODE, PATIENT),
            Step::Steal => self.enrol(THIEFS_NODE, HOSPITAL),
            Step::ChangeKey { at, by, to } => {
                let signer = if by == By::Old { PATIENT } else { RECOVERY };
                let arguments = change_key_arguments(CONTEXT, [PATIENT, to], 0, signer);
                let expected = changed(&self.heard[at], by, to);
                let fact = Fact::Changed(by, to);
                self.call(at, ("change_key", &arguments), fact, expected);
            }
            Step::Log { by } => self.log(by),
            Step::Deliver { to, which } if !self.sent.is_empty() => {
                self.deliver(to, which % self.sent.len());
            }
            Step::Deliver { .. } => {}
        }
    }

    fn check(&self, which: usize) {
        let (replica, heard) = (&self.replicas[which], &self.heard[which]);
        let page = replica.view("consents", &json!({})).expect("a page");
        let shown = page["consents"].as_array().expect("a list");
        let found: BTreeMap<String, String> = shown
            .iter()
            .map(|c| (text(&c["commitment"]), text(&c["state"])))
            .collect();
        let expected: BTreeMap<String, String> = states(heard)
            .into_iter()
            .map(|(number, state)| (self.consents[number].name(), state.to_owned()))
            .collect();
        assert_eq!(found, expected, "replica {which} heard {heard:?}");
        let candidates: Vec<Candidate> = shown
            .iter()
            .filter(|consent| consent["state"] != "frozen")
            .map(|consent| self.candidate(consent))
            .collect();
        for resource in &RESOURCES {
            let both = |at| [(RESEARCH, at), (TREATMENT, at)];
            for asked in TIMES.into_iter().flat_map(both) {
                self.check_decision(which, &candidates, resource, asked);
            }
        }
        for (author, log) in [HOSPITAL, PATIENT_AUTHOR].into_iter().zip(&self.logs) {
            self.check_log(which, author, log);
        }
    }

    /// The decision and the consents that it names are the model's.
    fn check_decision(&self, by: usize, candidates: &[Candidate], of: &Resource, asked: Asked) {
        let (heard, class) = (&self.heard[by], of.class);
        let (outcome, numbers) = decision(heard, of, asked);
        let name = |number: usize| self.consents[number].name();
        let names: BTreeSet<String> = numbers.into_iter().map(name).collect();
        let found = decided(candidates, RESEARCHER, of, asked);
        let case = format!("{class} {asked:?}, replica {by} heard {heard:?}");
        assert_eq!(found, (outcome, names), "{case}");
        let (other, _) = decided(candidates, HOSPITAL, of, asked);
        assert_eq!(other, Outcome::NoConsent);
    }

    /// A replica shows a log up to the first entry that it has not heard of, and nothing else.
    fn check_log(&self, which: usize, author: u8, log: &[Logged]) {
        let arguments = json!({ "author_key": public_key(author), "from": 0, "limit": 100 });
        let page = self.replicas[which].view("log_page", &arguments);
        let shown: Vec<String> = page.expect("a page")["entries"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|entry| text(&entry["digest"]))
            .collect();
        let heard = &self.heard[which];
        let is_author = author == HOSPITAL || !enrolled(heard).is_empty();
        let expected: Vec<String> = log
            .iter()
            .take_while(|entry| {
                is_author && heard.contains(&Fact::Logged(author, entry.entry.seq.0))
            })
            .map(|entry| entry.entry.digest().to_string())
            .collect();
        assert_eq!(shown, expected, "replica {which} heard {heard:?}");
    }

    /// A consent as `decide` takes it, from what a replica shows of it.
    fn candidate(&self, shown: &Value) -> Candidate {
        let name = text(&shown["commitment"]);
        let consent = self.consents.iter().find(|consent| consent.name() == name);
        let Consent { terms, signed } = consent.expect("one of ours");
        assert_eq!(shown["terms"], to_base64(terms));
        Candidate {
            commitment: name.parse().expect("a commitment"),
            terms: Terms::decode(terms).expect("terms"),
            opening: signed.opening,
            revoked_at: (shown["state"] == "revoked").then_some(UnixSeconds(0)),
            is_current: shown["state"] != "old_key",
        }
    }
}

fn decided(
    candidates: &[Candidate],
    recipient: u8,
    resource: &Resource,
    (purpose, at): Asked,
) -> (Outcome, BTreeSet<String>) {
    let request = Request {
        recipient: public_key(recipient),
        purposes: concepts(Some(purpose)),
        understood: CodeSet::default(),
        at: UnixSeconds(at),
    };
    let attributes = Attributes {
        classes: concepts(Some(resource.class)),
        codes: concepts(resource.code),
        labels: concepts(resource.label),
        ..Attributes::default()
    };
    let decision = decide(&request, &attributes, candidates).expect("a sound request");
    let named = decision.based_on.iter().map(ToString::to_string);
    (decision.outcome, named.collect())
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

proptest! {
    // A case here costs as much as many elsewhere.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 16))]

    #[test]
    fn replicas_converge_on_the_models_states_decisions_and_logs(
        steps in prop::collection::vec(step(), 1..48),
        order in 0..97usize,
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
                let which = (turn * 7 + order * (to + 1)) % count;
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

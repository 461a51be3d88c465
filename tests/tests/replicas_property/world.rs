//! The members of a circle with their replicas, and what each of them heard: every step is done on
//! a replica and in the model, and the two are compared.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use medsync_protocol::audit::{Body, DenialReason, EntryDigest, RecordRef};
use medsync_protocol::codes::CodeSet;
use medsync_protocol::consent::Commitment;
use medsync_protocol::decide::{Attributes, Candidate, Outcome, Request, decide};
use medsync_protocol::ids::{MemberId, UnixSeconds, to_base64};
use medsync_protocol::signature::PublicKey;
use medsync_protocol::terms::Terms;
use medsync_tests::circle::{
    CONTEXT, Consent, HOSPITAL, INVITATION, Logged, PATIENT, PATIENT_AUTHOR, Plan, RECOVERY,
    RESEARCHER, admission_arguments, change_key_arguments, enrol_arguments, enrolment, open,
    public_key, terms,
};
use medsync_tests::replica::{Delta, Replica};
use serde_json::{Value, json};

use crate::consents::{CONSENTS, NOW, RESEARCH, Says, TIMES, TREATMENT};
use crate::exchange::{Exchange, requested};
use crate::model::{
    Asked, By, CUSTODIANS_NODE, DEVICE_NUMBERS, Expected, Fact, Heard, MEMBERS, PATIENTS_NODE,
    PHONE, PHONE_AUTHOR, PHONES_NODE, THIEFS_NODE, admissions, admitted, changed, decision, enrols,
    granted, is_author, is_covered, is_frozen, keys, put, records, states,
};
use crate::resources::{CONTENTS, Resource, Text, concept, record_id};
use crate::shown::{check_log, list, text};
use crate::steps::Step;

/// Who signs the log entries of the first three members.
const AUTHORS: [u8; 3] = [HOSPITAL, PATIENT_AUTHOR, PHONE_AUTHOR];

/// Everybody, and everything that was ever sent.
pub struct World {
    replicas: Vec<Replica>,
    heard: Vec<Heard>,
    sent: Vec<(Delta, Fact)>,
    consents: Vec<Consent>,
    /// Who may be admitted.
    devices: [MemberId; 3],
    /// What the custodian, the patient and the second device wrote.
    logs: [Vec<Logged>; 3],
    /// The recipient of every consent, and somebody who is none.
    recipients: [PublicKey; 2],
    /// What was permitted and is yet to be released.
    permits: VecDeque<Permit>,
    /// The same custodian's exchange with the recipient.
    pub exchange: Exchange,
}

/// A request, as its two contexts know it, with what was permitted.
struct Permit {
    in_exchange: EntryDigest,
    in_circle: EntryDigest,
    purpose: Text,
    records: BTreeSet<RecordRef>,
}

/// What a request comes to now.
struct Answer {
    records: BTreeSet<RecordRef>,
    permitted_by: BTreeSet<Commitment>,
    denied_by: BTreeSet<Commitment>,
}

/// Does these steps, and lets everything reach everybody.
pub fn play(steps: Vec<Step>, order: usize) -> World {
    let mut world = World::new();
    for step in steps {
        world.step(step);
    }
    for which in 0..MEMBERS {
        world.check(which);
    }
    world.exchange.check();
    world.settle(order);
    world
}

impl World {
    fn new() -> Self {
        let custodian = open(CONTEXT);
        let replicas: Vec<Replica> = [101, 102, 103, 104].map(|seed| custodian.join(seed)).into();
        let sign = |(says, number): (&Says, u8)| {
            let terms = Terms {
                provision: says.provision.clone(),
                exceptions: says.exceptions.clone(),
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
        let mut consents: Vec<Consent> = CONSENTS.iter().zip(1..).map(sign).collect();
        let others = consents[0].signed.signature;
        for (consent, says) in consents.iter_mut().zip(CONSENTS.iter()) {
            if !says.is_signed {
                consent.signed.signature = others;
            }
        }
        let [phone, stranger] = [PHONES_NODE, THIEFS_NODE].map(|place| replicas[place].member());
        Self {
            replicas,
            heard: vec![Heard::new(); MEMBERS],
            sent: Vec::new(),
            consents,
            devices: [phone, stranger, MemberId([0x50; 32])],
            logs: [Vec::new(), Vec::new(), Vec::new()],
            recipients: [RESEARCHER, HOSPITAL].map(public_key),
            permits: VecDeque::new(),
            exchange: Exchange::new(),
        }
    }

    /// Does what a call should do by the model, and compares.
    fn call(
        &mut self,
        by: usize,
        (method, arguments): (&str, &Value),
        fact: Fact,
        expected: Expected,
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
            Step::Admit { by, whom, key } => self.admit(by, (whom, key, false)),
            Step::Introduce { key } => self.admit(PHONES_NODE, (PHONE, key, true)),
            Step::Log { by } => {
                let entry = Logged::after(self.logs[by].last(), CONTEXT, AUTHORS[by], 1);
                self.append(by, entry);
            }
            Step::Put {
                by,
                record,
                version,
                content,
            } => {
                let arguments = CONTENTS[content].record_arguments(record, version);
                let expected = put(&self.heard[by], by, (record, version, content));
                let fact = Fact::Put(record, version, content);
                self.call(by, ("put_record", &arguments), fact, expected);
            }
            Step::Deliver { to, which } if !self.sent.is_empty() => {
                self.deliver(to, which % self.sent.len());
            }
            Step::Deliver { .. } => {}
            Step::Ask { purpose } => self.exchange.ask(purpose),
            Step::Answer => self.answer(),
            Step::Release => self.release(),
            Step::HandOver { entry, record } => self.exchange.hand_over(entry, record),
            Step::Carry { to, which } => self.exchange.carry(to, which),
        }
    }

    fn enrol(&mut self, by: usize, key: u8) {
        let enrolment = enrolment(self.replicas[by].member(), key);
        let arguments = enrol_arguments(&enrolment, CONTEXT, INVITATION);
        let expected = enrols(&self.heard[by], key);
        self.call(by, ("enrol", &arguments), Fact::Enrolled(key), expected);
    }

    fn admit(&mut self, by: usize, admission: (usize, u8, bool)) {
        let (whom, key, speaks) = admission;
        let author = speaks.then_some(PHONE_AUTHOR);
        let (member, number) = (self.devices[whom], DEVICE_NUMBERS[whom]);
        let arguments = admission_arguments(CONTEXT, member, number, key, author);
        let expected = admitted(&self.heard[by], by, admission);
        let fact = Fact::Admitted(whom, key, speaks);
        self.call(by, ("admit", &arguments), fact, expected);
    }

    fn append(&mut self, by: usize, entry: Logged) {
        let author = AUTHORS[by];
        let is_author = is_author(&self.heard[by], author);
        let expected = is_author.then_some(false).ok_or("not_an_author");
        let fact = Fact::Logged(author, entry.entry.seq.0);
        self.call(by, ("append_log", &entry.arguments()), fact, expected);
        if is_author {
            self.logs[by].push(entry);
        }
    }

    /// The custodian writes an entry of its log.
    fn say(&mut self, body: Body) -> EntryDigest {
        let before = self.logs[CUSTODIANS_NODE].last();
        let entry = Logged::saying(before, CONTEXT, HOSPITAL, body);
        let digest = entry.entry.digest();
        self.append(CUSTODIANS_NODE, entry);
        digest
    }

    fn deliver(&mut self, to: usize, which: usize) {
        let (delta, fact) = &self.sent[which];
        self.replicas[to].apply(delta);
        self.heard[to].insert(*fact);
    }

    fn answer(&mut self) {
        let Some((in_exchange, purpose)) = self.exchange.take_request() else {
            return;
        };
        let answer = self.decide_now(purpose, |_| true);
        let in_circle = self.say(requested(purpose, Some(in_exchange)));
        if answer.records.is_empty() {
            let reason = if answer.denied_by.is_empty() {
                DenialReason::NoConsent
            } else {
                DenialReason::Denied
            };
            self.say(Body::Denied {
                request: in_circle,
                reason,
                based_on: answer.denied_by.into_iter().collect(),
            });
            self.exchange.deny(in_exchange, reason);
            return;
        }
        self.say(Body::Permitted {
            request: in_circle,
            records: answer.records.iter().copied().collect(),
            based_on: answer.permitted_by.into_iter().collect(),
            obligations: CodeSet::default(),
        });
        self.permits.push_back(Permit {
            in_exchange,
            in_circle,
            purpose,
            records: answer.records,
        });
    }

    /// What was permitted is decided once more: a version that is no longer the newest, and what
    /// was revoked since, is not released.
    fn release(&mut self) {
        let Some(permit) = self.permits.pop_front() else {
            return;
        };
        let answer = self.decide_now(permit.purpose, |what| permit.records.contains(what));
        if answer.records.is_empty() {
            let reason = DenialReason::Withdrawn;
            self.say(Body::Denied {
                request: permit.in_circle,
                reason,
                based_on: answer.denied_by.into_iter().collect(),
            });
            self.exchange.deny(permit.in_exchange, reason);
            return;
        }
        let records: Vec<RecordRef> = answer.records.into_iter().collect();
        let logged_as = self.say(Body::Released {
            request: permit.in_circle,
            logged_as: None,
            records: records.clone(),
            based_on: answer.permitted_by.into_iter().collect(),
        });
        self.exchange
            .announce(permit.in_exchange, logged_as, records);
    }

    /// Decides over what the custodian's replica shows of the wanted records.
    fn decide_now(&self, purpose: Text, is_wanted: impl Fn(&RecordRef) -> bool) -> Answer {
        let candidates = self.candidates(CUSTODIANS_NODE);
        let mut answer = Answer {
            records: BTreeSet::new(),
            permitted_by: BTreeSet::new(),
            denied_by: BTreeSet::new(),
        };
        for (what, resource, attributes) in self.records(CUSTODIANS_NODE) {
            if !is_wanted(&what) {
                continue;
            }
            let of = (&resource, &attributes);
            let asked = (purpose, NOW);
            let (outcome, named) = self.check_decision(CUSTODIANS_NODE, &candidates, of, asked);
            match outcome {
                Outcome::Permit => {
                    answer.records.insert(what);
                    answer.permitted_by.extend(named);
                }
                Outcome::Deny => answer.denied_by.extend(named),
                Outcome::NoConsent => {}
            }
        }
        answer
    }

    fn check(&self, which: usize) {
        let candidates = self.candidates(which);
        let records = self.records(which).into_iter();
        let records = records.map(|(_, resource, attributes)| (resource, attributes));
        let contents = CONTENTS.map(|content| (content, content.attributes()));
        for (resource, attributes) in contents.into_iter().chain(records) {
            let of = (&resource, &attributes);
            let both = |at| [(RESEARCH, at), (TREATMENT, at)];
            for asked in TIMES.into_iter().flat_map(both) {
                self.check_decision(which, &candidates, of, asked);
            }
        }
        let heard = &self.heard[which];
        for (author, log) in AUTHORS.into_iter().zip(&self.logs) {
            check_log(&self.replicas[which], author, log, |entry| {
                let fact = Fact::Logged(author, entry.entry.seq.0);
                is_author(heard, author) && heard.contains(&fact)
            });
        }
        self.check_members(which);
    }

    /// The patient's keys and whom they admitted are the model's.
    fn check_members(&self, which: usize) {
        let heard = &self.heard[which];
        let circle = self.replicas[which].view("circle", &json!({}));
        let circle = circle.expect("an answer");
        let expected: Vec<PublicKey> = keys(heard).0.into_iter().map(public_key).collect();
        let found = (&circle["keys"], &circle["frozen"]);
        let expected = (&json!(expected), &json!(is_frozen(heard)));
        assert_eq!(found, expected, "{which} heard {heard:?}");
        let shown: BTreeSet<(String, String, bool, bool)> = circle["devices"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|shown| {
                let device = &shown["device"];
                let (member, key) = (text(&device["member"]), text(&device["admitted_by"]));
                let speaks = !device["author_key"].is_null();
                (member, key, speaks, shown["admitted"] == true)
            })
            .collect();
        let expected: BTreeSet<(String, String, bool, bool)> = admissions(heard)
            .into_iter()
            .map(|(whom, key, speaks, counts)| {
                let (member, key) = (self.devices[whom].to_string(), public_key(key).to_string());
                (member, key, speaks, counts)
            })
            .collect();
        assert_eq!(shown, expected, "{which} heard {heard:?}");
    }

    /// The decision and the consents that it names are the model's, and a permit is covered.
    fn check_decision(
        &self,
        by: usize,
        candidates: &[Candidate],
        (resource, attributes): (&Resource, &Attributes),
        asked: Asked,
    ) -> (Outcome, BTreeSet<Commitment>) {
        let heard = &self.heard[by];
        let [recipient, other] = self.recipients;
        let (outcome, numbers) = decision(heard, resource, asked);
        let name = |number: &usize| self.consents[*number].signed.commitment;
        let named: BTreeSet<Commitment> = numbers.iter().map(name).collect();
        let found = decided(candidates, recipient, attributes, asked);
        let case = || format!("{resource:?} {asked:?}, replica {by} heard {heard:?}");
        assert_eq!(found, (outcome, named), "{}", case());
        if outcome == Outcome::Permit {
            assert!(is_covered(heard, resource, asked, &numbers), "{}", case());
        }
        let (others, _) = decided(candidates, other, attributes, asked);
        assert_eq!(others, Outcome::NoConsent);
        found
    }

    /// The consents that a replica shows, which are the model's, as `decide` takes them.
    fn candidates(&self, by: usize) -> Vec<Candidate> {
        let heard = &self.heard[by];
        let shown = list(&self.replicas[by], "consents");
        let found: BTreeMap<String, String> = shown
            .iter()
            .map(|consent| (text(&consent["commitment"]), text(&consent["state"])))
            .collect();
        let expected: BTreeMap<String, String> = states(heard)
            .into_iter()
            .map(|(number, state)| (self.consents[number].name(), state.to_owned()))
            .collect();
        assert_eq!(found, expected, "replica {by} heard {heard:?}");
        let counting = shown.iter().filter(|consent| consent["state"] != "frozen");
        counting.map(|consent| self.candidate(consent)).collect()
    }

    /// A consent as `decide` takes it, from what a replica shows of it.
    fn candidate(&self, shown: &Value) -> Candidate {
        let name = text(&shown["commitment"]);
        let consent = self.consents.iter().find(|consent| consent.name() == name);
        let Consent { terms, signed } = consent.expect("one of ours");
        assert_eq!(shown["terms"], to_base64(terms));
        Candidate {
            commitment: signed.commitment,
            terms: Terms::decode(terms).expect("terms"),
            opening: signed.opening,
            revoked_at: (shown["state"] == "revoked").then_some(UnixSeconds(0)),
            is_current: shown["state"] != "old_key",
        }
    }

    /// The newest versions that a replica shows, which are the model's, with what it says of them.
    fn records(&self, by: usize) -> Vec<(RecordRef, Resource, Attributes)> {
        let heard = &self.heard[by];
        let mut shown: BTreeMap<RecordRef, Attributes> = list(&self.replicas[by], "records")
            .iter()
            .map(described)
            .collect();
        let described: Vec<(RecordRef, Resource, Attributes)> = records(heard)
            .into_iter()
            .map(|(record, (version, content))| {
                let what = RecordRef {
                    record: record_id(record),
                    version,
                };
                let resource = Resource {
                    record: Some(record),
                    ..CONTENTS[content]
                };
                let found = shown.remove(&what);
                assert_eq!(found, Some(resource.attributes()), "{what:?}, {heard:?}");
                (what, resource, resource.attributes())
            })
            .collect();
        assert!(shown.is_empty(), "{shown:?}, replica {by} heard {heard:?}");
        described
    }

    /// In the end everything reaches everybody, each in another order and some of it twice. Then
    /// all states are one, and one replica speaks for all.
    fn settle(&mut self, order: usize) {
        let count = self.sent.len();
        for to in 0..MEMBERS {
            for turn in 0..count {
                let which = (turn * 7 + order * (to + 1)) % count;
                self.deliver(to, if count.is_multiple_of(7) { turn } else { which });
            }
            for which in (0..count).rev().step_by(2) {
                self.deliver(to, which);
            }
            assert_eq!(self.heard[to], self.heard[0]);
        }
        let hashes: BTreeSet<_> = self.replicas.iter().map(|r| r.root_hash).collect();
        if count > 0 {
            assert_eq!(hashes.len(), 1, "{hashes:?}");
        }
        self.check(order % MEMBERS);
        self.exchange.settle();
    }
}

/// What a replica shows of a record, as `decide` takes it.
fn described(shown: &Value) -> (RecordRef, Attributes) {
    let version = shown["version"].as_u64().expect("a number");
    let what = RecordRef {
        record: text(&shown["record"]).parse().expect("a record"),
        version: version.try_into().expect("a version"),
    };
    let attributes = json!({
        "classes": shown["classes"],
        "codes": shown["codes"],
        "labels": shown["labels"],
        "authors": shown["authors"],
        "record": shown["record"],
        "data_date": shown["data_date"],
    });
    let attributes = serde_json::from_value(attributes).expect("attributes");
    (what, attributes)
}

fn decided(
    candidates: &[Candidate],
    recipient: PublicKey,
    attributes: &Attributes,
    (purpose, at): Asked,
) -> (Outcome, BTreeSet<Commitment>) {
    let request = Request {
        recipient,
        purposes: vec![concept(&[purpose])],
        understood: CodeSet::default(),
        at: UnixSeconds(at),
    };
    let decision = decide(&request, attributes, candidates).expect("a sound request");
    (decision.outcome, decision.based_on.into_iter().collect())
}

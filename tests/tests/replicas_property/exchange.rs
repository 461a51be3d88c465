//! The exchange between the custodian and one recipient, with what each of its two replicas heard:
//! requests come, answers and releases go, and a record is handed over only under an entry that
//! names it.

use std::collections::BTreeSet;

use medsync_protocol::audit::{Body, DenialReason, EntryDigest, Pseudonym, RecordRef, Requested};
use medsync_protocol::codes::CodeSet;
use medsync_protocol::ids::{ContextId, SealKey};
use medsync_tests::circle::{
    CONTEXT, HOSPITAL, Logged, PATIENT_AUTHOR, RESEARCHER, exchange, public_key, release_arguments,
};
use medsync_tests::replica::{Delta, Replica};

use crate::consents::codes;
use crate::resources::{Text, record_id};
use crate::shown::{check_log, list, text};

/// Another context than the circle.
const EXCHANGE: ContextId = ContextId([8; 32]);
const CUSTODIAN: usize = 0;
const RECIPIENT: usize = 1;
/// Who signs each side's log entries; the recipient enrolled as a patient does.
const AUTHORS: [u8; 2] = [HOSPITAL, PATIENT_AUTHOR];

/// What was said in the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Said {
    /// A side wrote the log entry of this number.
    Entry(usize, u64),
    /// A record was handed over under the custodian's entry of this number.
    Release(u64, RecordRef),
}

/// Both sides.
pub struct Exchange {
    replicas: [Replica; 2],
    heard: [BTreeSet<Said>; 2],
    sent: Vec<(Delta, Said)>,
    logs: [Vec<Logged>; 2],
    /// For what each of the recipient's entries asks.
    asked: Vec<Text>,
    answered: usize,
}

/// What somebody asks for, or the circle's copy of it.
pub fn requested(purpose: Text, asked_by: Option<EntryDigest>) -> Body {
    Body::Requested(Requested {
        asked_by,
        recipient: public_key(RESEARCHER),
        patient: Pseudonym([8; 32]),
        purposes: codes(purpose),
        classes: CodeSet::default(),
        understood: CodeSet::default(),
        reason: String::new(),
        break_glass: false,
        reply_key: SealKey([9; 32]),
    })
}

impl Exchange {
    /// An exchange whose recipient enrolled.
    pub fn new() -> Self {
        let (custodian, recipient) = exchange(EXCHANGE);
        Self {
            replicas: [custodian, recipient],
            heard: [BTreeSet::new(), BTreeSet::new()],
            sent: Vec::new(),
            logs: [Vec::new(), Vec::new()],
            asked: Vec::new(),
            answered: 0,
        }
    }

    fn say(&mut self, side: usize, body: Body) {
        let entry = Logged::saying(self.logs[side].last(), EXCHANGE, AUTHORS[side], body);
        let (answer, delta) = self.replicas[side]
            .call("append_log", &entry.arguments())
            .expect("the entry follows");
        assert_eq!(answer["existing"], false);
        let said = Said::Entry(side, entry.entry.seq.0);
        self.heard[side].insert(said);
        self.sent.push((delta, said));
        self.logs[side].push(entry);
    }

    /// The recipient asks.
    pub fn ask(&mut self, purpose: Text) {
        self.say(RECIPIENT, requested(purpose, None));
        self.asked.push(purpose);
    }

    /// The next request that the custodian has heard of; it is answered by whoever takes it.
    pub fn take_request(&mut self) -> Option<(EntryDigest, Text)> {
        let entry = self.logs[RECIPIENT].get(self.answered)?;
        let said = Said::Entry(RECIPIENT, entry.entry.seq.0);
        if !self.heard[CUSTODIAN].contains(&said) {
            return None;
        }
        let purpose = self.asked[self.answered];
        self.answered += 1;
        Some((entry.entry.digest(), purpose))
    }

    /// The custodian denies a request.
    pub fn deny(&mut self, request: EntryDigest, reason: DenialReason) {
        let body = Body::Denied {
            request,
            reason,
            based_on: Vec::new(),
        };
        self.say(CUSTODIAN, body);
    }

    /// The custodian announces records, by the name of the entry in the circle.
    pub fn announce(
        &mut self,
        request: EntryDigest,
        logged_as: EntryDigest,
        records: Vec<RecordRef>,
    ) {
        let body = Body::Released {
            request,
            logged_as: Some(logged_as),
            records,
            based_on: Vec::new(),
        };
        self.say(CUSTODIAN, body);
    }

    /// The custodian tries to hand over one of an entry's records, or one that it does not name.
    pub fn hand_over(&mut self, entry: usize, record: usize) {
        let log = &self.logs[CUSTODIAN];
        if log.is_empty() {
            return;
        }
        let entry = log[entry % log.len()].clone();
        let named = match &entry.body {
            Body::Released { records, .. } => records.as_slice(),
            _ => &[],
        };
        let what = named.get(record).copied().unwrap_or(RecordRef {
            record: record_id(record),
            version: u32::MAX,
        });
        let arguments = release_arguments(&entry, CONTEXT, what);
        let answer = self.replicas[CUSTODIAN].call("put_release", &arguments);
        match (answer, named.contains(&what)) {
            (Ok((answer, delta)), true) => {
                let said = Said::Release(entry.entry.seq.0, what);
                let is_new = self.heard[CUSTODIAN].insert(said);
                assert_eq!(answer["existing"], !is_new);
                if is_new {
                    self.sent.push((delta, said));
                }
            }
            (Err(refused), false) => assert_eq!(refused.error, "not_logged"),
            (answer, _) => panic!("{what:?} under {entry:?}: {answer:?}"),
        }
    }

    /// Some delta of the past reaches a side.
    pub fn carry(&mut self, to: usize, which: usize) {
        if self.sent.is_empty() {
            return;
        }
        let (delta, said) = &self.sent[which % self.sent.len()];
        self.replicas[to].apply(delta);
        self.heard[to].insert(*said);
    }

    /// How many records were handed over.
    pub fn handed_over(&self) -> usize {
        let said = self.heard[CUSTODIAN].iter();
        said.filter(|said| matches!(said, Said::Release(..)))
            .count()
    }

    /// Both sides show what they heard, and a release only if they heard its entry.
    pub fn check(&self) {
        for side in [CUSTODIAN, RECIPIENT] {
            self.check_side(side);
        }
    }

    fn check_side(&self, side: usize) {
        let (replica, heard) = (&self.replicas[side], &self.heard[side]);
        for (author, log) in self.logs.iter().enumerate() {
            check_log(replica, AUTHORS[author], log, |entry| {
                heard.contains(&Said::Entry(author, entry.entry.seq.0))
            });
        }
        let shown: BTreeSet<(String, String, Option<u64>)> = list(replica, "releases")
            .iter()
            .map(|release| {
                let version = release["version"].as_u64();
                (text(&release["entry"]), text(&release["record"]), version)
            })
            .collect();
        let covered: BTreeSet<(String, String, Option<u64>)> = heard
            .iter()
            .filter_map(|said| match said {
                Said::Release(seq, what) if heard.contains(&Said::Entry(CUSTODIAN, *seq)) => {
                    let mut log = self.logs[CUSTODIAN].iter();
                    let entry = log.find(|entry| entry.entry.seq.0 == *seq)?;
                    let digest = entry.entry.digest().to_string();
                    Some((digest, what.record.to_string(), Some(what.version.into())))
                }
                _ => None,
            })
            .collect();
        assert_eq!(shown, covered, "side {side} heard {heard:?}");
    }

    /// In the end everything reaches both sides, once in its order and once against it.
    pub fn settle(&mut self) {
        for which in (0..self.sent.len()).chain((0..self.sent.len()).rev()) {
            self.carry(RECIPIENT, which);
            self.carry(CUSTODIAN, which);
        }
        self.check_side(RECIPIENT);
        let [custodian, recipient] = &self.replicas;
        assert_eq!(custodian.root_hash, recipient.root_hash);
    }
}

//! What the members can do, and how often they do it.

use medsync_tests::circle::PATIENT;
use proptest::prelude::*;

use crate::consents::{CONSENTS, NEXT, RESEARCH, THIEF, TREATMENT};
use crate::model::{By, CUSTODIANS_NODE, DEVICE_NUMBERS, MEMBERS, PATIENTS_NODE, THIEFS_NODE};
use crate::resources::{CONTENTS, Text};

/// One thing that somebody does or tries. Members go by their place, deltas by when they were sent.
#[derive(Clone, Debug)]
pub enum Step {
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
    /// A member admits somebody with a key of the patient's.
    Admit { by: usize, whom: usize, key: u8 },
    /// The second device says by which key it signs its log.
    Introduce { key: u8 },
    /// The custodian, the patient or the second device writes its next log entry.
    Log { by: usize },
    /// A member tries to write a version of a record.
    Put {
        by: usize,
        record: usize,
        version: u32,
        content: usize,
    },
    /// Some delta of the past reaches a member, again or for the first time.
    Deliver { to: usize, which: usize },
    /// The recipient asks in the exchange.
    Ask { purpose: Text },
    /// The custodian decides the next request that it has heard of.
    Answer,
    /// The custodian decides what it permitted once more, and releases what is left of it.
    Release,
    /// The custodian tries to hand over a record under an entry of its log in the exchange.
    HandOver { entry: usize, record: usize },
    /// Some delta of the exchange reaches one of its two members.
    Carry { to: usize, which: usize },
}

/// How many records there are.
const RECORDS: usize = 3;

/// Any step.
pub fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        40 => in_the_circle(),
        24 => (0..MEMBERS, 0..64usize).prop_map(|(to, which)| Step::Deliver { to, which }),
        16 => in_the_exchange(),
    ]
}

fn in_the_circle() -> impl Strategy<Value = Step> {
    let number = 0..CONSENTS.len();
    let key = prop_oneof![3 => Just(PATIENT), 1 => Just(NEXT)];
    let change = (
        prop_oneof![Just(PATIENTS_NODE), Just(THIEFS_NODE)],
        prop_oneof![2 => Just(By::Old), 1 => Just(By::Recovery)],
        prop_oneof![2 => Just(NEXT), 1 => Just(THIEF)],
    );
    let put = (
        prop_oneof![7 => Just(CUSTODIANS_NODE), 1 => 0..MEMBERS],
        0..RECORDS,
        1..3u32,
        0..CONTENTS.len(),
    );
    let admission = (0..MEMBERS, 0..DEVICE_NUMBERS.len(), key.clone());
    prop_oneof![
        10 => (0..MEMBERS, number.clone()).prop_map(|(by, number)| Step::Grant { by, number }),
        5 => (0..MEMBERS, number).prop_map(|(by, number)| Step::Revoke { by, number }),
        5 => Just(Step::Enrol),
        1 => Just(Step::Steal),
        3 => change.prop_map(|(at, by, to)| Step::ChangeKey { at, by, to }),
        3 => admission.prop_map(|(by, whom, key)| Step::Admit { by, whom, key }),
        3 => key.prop_map(|key| Step::Introduce { key }),
        4 => (0..3usize).prop_map(|by| Step::Log { by }),
        6 => put.prop_map(|(by, record, version, content)| Step::Put {
            by,
            record,
            version,
            content,
        }),
    ]
}

fn in_the_exchange() -> impl Strategy<Value = Step> {
    let purpose = prop_oneof![2 => Just(RESEARCH), 1 => Just(TREATMENT)];
    prop_oneof![
        2 => purpose.prop_map(|purpose| Step::Ask { purpose }),
        3 => Just(Step::Answer),
        3 => Just(Step::Release),
        4 => (0..8usize, 0..RECORDS)
            .prop_map(|(entry, record)| Step::HandOver { entry, record }),
        5 => (0..2usize, 0..32usize).prop_map(|(to, which)| Step::Carry { to, which }),
    ]
}

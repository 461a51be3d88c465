//! Cases that are kept by name, each once round as steps: what the random ones come across rarely,
//! and whatever they find.
//!
//! A random failure is printed with its seed, shrinks to the steps that matter, and its seed goes
//! into `failures.txt` beside this file, which is tried first the next time. A seed means something
//! else as soon as there is another kind of step: the steps themselves belong here.

use medsync_tests::circle::PATIENT;

use crate::consents::{
    HOSPITALS, NEXT, OBSERVATIONS, RESEARCH, THIEF, THIEFS, TREATMENT, UNSIGNED,
};
use crate::model::{By, CUSTODIANS_NODE, PATIENTS_NODE, PHONE, PHONES_NODE, STRANGER, THIEFS_NODE};
use crate::steps::Step;
use crate::world::play;

const RECORD: usize = 0;

fn deliver(to: usize, which: usize) -> Step {
    Step::Deliver { to, which }
}

fn put(version: u32, content: usize) -> Step {
    Step::Put {
        by: CUSTODIANS_NODE,
        record: RECORD,
        version,
        content,
    }
}

/// The custodian has a consent of the patient's (the deltas 0 and 1) and a record that it covers
/// (the delta 2), and permitted what the recipient asked for.
fn permitted() -> Vec<Step> {
    vec![
        Step::Enrol,
        deliver(CUSTODIANS_NODE, 0),
        Step::Grant {
            by: PATIENTS_NODE,
            number: OBSERVATIONS,
        },
        deliver(CUSTODIANS_NODE, 1),
        put(1, 0),
        Step::Ask { purpose: RESEARCH },
        Step::Carry { to: 0, which: 0 },
        Step::Answer,
    ]
}

/// The first record under the custodian's first entry in the exchange.
const HAND_OVER: Step = Step::HandOver {
    entry: 0,
    record: 0,
};

#[test]
fn a_revocation_that_was_on_its_way_withdraws_what_was_permitted() {
    let mut steps = permitted();
    // The answer took two entries of the custodian's log: 3 and 4.
    steps.extend([
        Step::Revoke {
            by: PHONES_NODE,
            number: OBSERVATIONS,
        },
        deliver(CUSTODIANS_NODE, 5),
        Step::Release,
        HAND_OVER,
    ]);
    assert_eq!(play(steps, 1).exchange.handed_over(), 0);
}

#[test]
fn a_version_that_was_replaced_since_is_not_released() {
    let mut steps = permitted();
    steps.extend([put(2, 3), Step::Release, HAND_OVER]);
    assert_eq!(play(steps, 2).exchange.handed_over(), 0);
}

#[test]
fn a_record_that_arrives_before_the_entry_that_names_it_waits_for_it() {
    let mut steps = permitted();
    steps.extend([
        Step::Release,
        HAND_OVER,
        HAND_OVER,
        Step::Carry { to: 1, which: 2 },
    ]);
    assert_eq!(play(steps, 3).exchange.handed_over(), 1);
}

#[test]
fn a_version_that_arrives_before_the_one_it_replaces_is_the_newest_all_the_same() {
    let others = Step::Put {
        by: THIEFS_NODE,
        record: RECORD,
        version: 3,
        content: 0,
    };
    let steps = vec![
        put(1, 0),
        put(2, 5),
        deliver(PATIENTS_NODE, 1),
        deliver(THIEFS_NODE, 1),
        others,
        put(2, 1),
        put(2, 5),
    ];
    play(steps, 4);
}

#[test]
fn hostile_stranger_under_the_number_of_a_device_is_shown_and_ends_with_the_recovery_key() {
    let admit = |by, whom| Step::Admit {
        by,
        whom,
        key: PATIENT,
    };
    let steps = vec![
        Step::Enrol,
        deliver(PHONES_NODE, 0),
        deliver(THIEFS_NODE, 0),
        admit(PHONES_NODE, PHONE),
        admit(THIEFS_NODE, STRANGER),
        deliver(PATIENTS_NODE, 1),
        deliver(PATIENTS_NODE, 2),
        Step::Introduce { key: PATIENT },
        Step::Log { by: PHONES_NODE },
        Step::ChangeKey {
            at: PATIENTS_NODE,
            by: By::Recovery,
            to: NEXT,
        },
        deliver(PHONES_NODE, 5),
        // What it wrote stays, and so does its log.
        Step::Log { by: PHONES_NODE },
    ];
    play(steps, 5);
}

#[test]
fn hostile_second_change_of_a_key_silences_a_device_until_the_recovery_key_speaks() {
    let change = |at, by, to| Step::ChangeKey { at, by, to };
    let steps = vec![
        Step::Enrol,
        deliver(PHONES_NODE, 0),
        deliver(THIEFS_NODE, 0),
        change(PATIENTS_NODE, By::Old, NEXT),
        deliver(PHONES_NODE, 1),
        Step::Introduce { key: NEXT },
        Step::Log { by: PHONES_NODE },
        change(THIEFS_NODE, By::Old, THIEF),
        deliver(PHONES_NODE, 4),
        Step::Log { by: PHONES_NODE },
        deliver(PATIENTS_NODE, 4),
        change(PATIENTS_NODE, By::Recovery, NEXT),
        deliver(PHONES_NODE, 5),
        Step::Log { by: PHONES_NODE },
    ];
    play(steps, 6);
}

#[test]
fn hostile_consents_that_the_patient_did_not_sign_permit_nothing() {
    let mut steps = vec![Step::Enrol, deliver(CUSTODIANS_NODE, 0), put(1, 0)];
    let forged = [UNSIGNED, HOSPITALS, THIEFS].map(|number| Step::Grant {
        by: CUSTODIANS_NODE,
        number,
    });
    steps.extend(forged);
    steps.extend([
        Step::Ask { purpose: TREATMENT },
        Step::Carry { to: 0, which: 0 },
        Step::Answer,
        Step::Release,
        HAND_OVER,
    ]);
    assert_eq!(play(steps, 7).exchange.handed_over(), 0);
}

//! Key changes on replicas: what comes of the old key, and of whoever stole it.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use medsync_protocol::ids::ContextId;
use medsync_tests::circle::{
    CONTEXT, Consent, INVITATION, PATIENT, Plan, RECOVERY, RESEARCHER, change_key_arguments,
    enrol_arguments, enrolled, enrolment, open, public_key, terms,
};
use medsync_tests::replica::{Replica, refused};
use serde_json::{Value, json};

/// The patient's next key.
const NEXT: u8 = 30;
/// The key of whoever stole the patient's.
const THIEF: u8 = 31;

fn circle(replica: &Replica) -> Value {
    replica
        .view("circle", &json!({}))
        .expect("the circle is whole")
}

fn keys(replica: &Replica) -> Value {
    circle(replica)["keys"].clone()
}

fn states(replica: &Replica) -> Vec<String> {
    let page = replica.view("consents", &json!({})).expect("a page");
    let consents = page["consents"].as_array().unwrap();
    let state = |consent: &Value| consent["state"].as_str().unwrap().to_owned();
    let mut states: Vec<String> = consents.iter().map(state).collect();
    states.sort();
    states
}

fn consent(replica: &Replica, number: u8, signer: u8) -> Consent {
    let custodian = circle(replica)["custodian_member"].clone();
    let custodian = serde_json::from_value(custodian).unwrap();
    let plan = Plan {
        signer,
        ..Plan::sound(number)
    };
    plan.sign(&terms(custodian, replica.context(), number))
}

fn change(keys: [u8; 2], seq: u64, signer: u8) -> Value {
    change_key_arguments(CONTEXT, keys, seq, signer)
}

#[test]
fn a_changed_key_permits_nothing_more_and_its_consents_can_be_revoked() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    let (before, late) = (consent(&patient, 1, PATIENT), consent(&patient, 2, PATIENT));
    let after = consent(&patient, 3, NEXT);
    refused(
        patient.call("grant", &after.grant_arguments()),
        "foreign_key",
    );
    let (_, granted) = patient.call("grant", &before.grant_arguments()).unwrap();
    let arguments = change([PATIENT, NEXT], 0, PATIENT);
    let (written, changed) = patient.call("change_key", &arguments).unwrap();
    assert_eq!(written["existing"], false);
    let (again, _) = patient.call("change_key", &arguments).unwrap();
    assert_eq!(again["existing"], true);
    refused(patient.call("grant", &late.grant_arguments()), "old_key");
    let (_, anew) = patient.call("grant", &after.grant_arguments()).unwrap();
    for delta in [&anew, &changed, &granted] {
        custodian.apply(delta);
    }
    assert_eq!(custodian.root_hash, patient.root_hash);
    for replica in [&custodian, &patient] {
        assert_eq!(
            keys(replica),
            json!([public_key(PATIENT), public_key(NEXT)])
        );
        assert_eq!(states(replica), ["in_force", "old_key"]);
    }
    patient.call("revoke", &before.revoke_arguments()).unwrap();
    assert_eq!(states(&patient), ["in_force", "revoked"]);
}

#[test]
fn hostile_thief_of_the_key_is_overruled_by_the_recovery_key() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    // Whoever has the key and a node changes it twice, and grants.
    let mut thief = custodian.join(103);
    let first = thief.call("change_key", &change([PATIENT, THIEF], 0, PATIENT));
    let second = thief.call("change_key", &change([THIEF, 33], 1, THIEF));
    let stolen = consent(&thief, 1, 33);
    let granted = thief.call("grant", &stolen.grant_arguments());
    for delta in [&granted, &second, &first].map(|done| &done.as_ref().unwrap().1) {
        custodian.apply(delta);
        patient.apply(delta);
    }
    assert_eq!(states(&custodian), ["in_force"]);
    // The old key's word comes too late; the recovery key's does not.
    let too_late = patient.call("change_key", &change([PATIENT, NEXT], 0, PATIENT));
    refused(too_late, "key_change_order");
    let arguments = change([PATIENT, NEXT], 0, RECOVERY);
    let (_, recovered) = patient.call("change_key", &arguments).unwrap();
    custodian.apply(&recovered);
    for replica in [&custodian, &patient] {
        assert_eq!(
            keys(replica),
            json!([public_key(PATIENT), public_key(NEXT)])
        );
        assert_eq!(circle(replica)["frozen"], false);
        assert!(states(replica).is_empty());
    }
}

#[test]
fn hostile_contradicting_changes_freeze_until_the_recovery_key_speaks() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    let mut thief = custodian.join(103);
    let granted = consent(&patient, 1, PATIENT);
    let (_, granted) = patient.call("grant", &granted.grant_arguments()).unwrap();
    let (_, mine) = patient
        .call("change_key", &change([PATIENT, NEXT], 0, PATIENT))
        .unwrap();
    let (_, theirs) = thief
        .call("change_key", &change([PATIENT, THIEF], 0, PATIENT))
        .unwrap();
    for delta in [&theirs, &mine, &granted] {
        custodian.apply(delta);
    }
    patient.apply(&theirs);
    assert_eq!(custodian.root_hash, patient.root_hash);
    for replica in [&mut custodian, &mut patient] {
        assert_eq!(circle(replica)["frozen"], true);
        assert_eq!(states(replica), ["frozen"]);
        let anew = consent(replica, 2, NEXT).grant_arguments();
        refused(replica.call("grant", &anew), "frozen");
    }
    let arguments = change([PATIENT, NEXT], 0, RECOVERY);
    patient.call("change_key", &arguments).unwrap();
    assert_eq!(circle(&patient)["frozen"], false);
    assert_eq!(states(&patient), ["old_key"]);
}

#[test]
fn hostile_thief_floods_a_place_and_the_recovery_key_is_heard() {
    let (custodian, mut patient) = enrolled(CONTEXT);
    let mut reader = custodian.join(104);
    for key in 100..112 {
        // One member, who forgets each time what it signed before.
        let mut thief = custodian.join(103);
        let arguments = change([PATIENT, key], 0, PATIENT);
        let (_, signed) = thief.call("change_key", &arguments).unwrap();
        for replica in [&mut reader, &mut patient] {
            replica.apply(&signed);
        }
    }
    assert_eq!(circle(&reader)["frozen"], true);
    let arguments = change([PATIENT, NEXT], 0, RECOVERY);
    let (_, recovered) = patient.call("change_key", &arguments).unwrap();
    reader.apply(&recovered);
    for replica in [&reader, &patient] {
        let expected = [PATIENT, NEXT].map(public_key);
        assert_eq!(keys(replica), json!(expected));
        assert_eq!(circle(replica)["frozen"], false);
    }
}

#[test]
fn hostile_changes_of_keys_that_are_nobodys_hide_nothing() {
    const FIRST: u8 = 100;
    const CHANGES: u8 = 32;
    let mut custodian = open(CONTEXT);
    let (mut forger, mut patient) = (custodian.join(66), custodian.join(102));
    let enrol = |member, key| enrol_arguments(&enrolment(member, key), CONTEXT, INVITATION);
    let arguments = enrol(patient.member(), PATIENT);
    let (_, delta) = patient.call("enrol", &arguments).unwrap();
    custodian.apply(&delta);
    // On its own node a member enrols itself, and changes a key that is the patient's nowhere else.
    let arguments = enrol(forger.member(), FIRST);
    forger.call("enrol", &arguments).unwrap();
    for seq in 0..CHANGES {
        let key = FIRST + seq;
        let arguments = change([key, key + 1], u64::from(seq), key);
        let (_, junk) = forger.call("change_key", &arguments).unwrap();
        custodian.apply(&junk);
        patient.apply(&junk);
    }
    assert_eq!(keys(&forger).as_array().map(Vec::len), Some(33));
    assert_eq!(keys(&custodian), json!([public_key(PATIENT)]));
    let arguments = change([PATIENT, NEXT], 0, PATIENT);
    let (_, changed) = patient.call("change_key", &arguments).unwrap();
    custodian.apply(&changed);
    let expected = [PATIENT, NEXT].map(public_key);
    assert_eq!(keys(&custodian), json!(expected));
}

#[test]
fn hostile_key_changes_are_refused_by_name() {
    let (mut custodian, _) = enrolled(CONTEXT);
    for (arguments, name) in [
        (
            change([PATIENT, NEXT], 0, RESEARCHER),
            "key_change_signature",
        ),
        (change([PATIENT, NEXT], 0, NEXT), "key_change_signature"),
        (
            change([RESEARCHER, NEXT], 0, RESEARCHER),
            "key_change_order",
        ),
        (change([RESEARCHER, NEXT], 0, RECOVERY), "key_change_order"),
        (change([PATIENT, NEXT], 1, PATIENT), "key_change_order"),
        (change([PATIENT, PATIENT], 0, PATIENT), "key_not_new"),
        (
            change_key_arguments(ContextId([8; 32]), [PATIENT, NEXT], 0, PATIENT),
            "key_change_signature",
        ),
    ] {
        refused(custodian.call("change_key", &arguments), name);
    }
    custodian
        .call("change_key", &change([PATIENT, NEXT], 0, PATIENT))
        .unwrap();
    let back = change([NEXT, PATIENT], 1, NEXT);
    refused(custodian.call("change_key", &back), "key_not_new");
    assert_eq!(
        keys(&custodian),
        json!([public_key(PATIENT), public_key(NEXT)])
    );
}
